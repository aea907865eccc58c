"""Processes that AWS itself suspends, and how their reason differs from a user's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twin_account import LAUNCH, Account, refused

from gpufleet.twin.cloud import Cloud

START = 1_793_534_400.0  # 2026-11-01T12:00:00Z
HOUR = 3600.0


@pytest.fixture
def account() -> Iterator[Account]:
    with Cloud(START, seed=1) as cloud:
        yield Account(cloud)


def reasons(account: Account, group: str = "fleet") -> dict[str, str]:
    return {one["ProcessName"]: one["SuspensionReason"] for one in account.group(group)["SuspendedProcesses"]}


def no_capacity(account: Account) -> None:
    account.machines.market.on_demand_available = lambda *_: False


def test_a_user_s_suspension_says_when(account: Account) -> None:
    account.make_group()
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["AZRebalance"])
    assert reasons(account) == {"AZRebalance": "User suspended at 2026-11-01T12:00:00Z"}


def test_the_knob_suspends_with_another_reason_and_leaves_a_user_s_alone(account: Account) -> None:
    account.make_group()
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["AZRebalance"])
    account.scaling.suspend_administratively("fleet", ["Launch", "AZRebalance"])
    found = reasons(account)
    assert found.keys() == {"Launch", "AZRebalance"}
    assert found["AZRebalance"].startswith("User suspended at ")
    assert not found["Launch"].startswith("User suspended")
    account.desire(1)
    account.clock.run_for(600)
    assert account.running() == []
    account.aws.resume_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Launch"])
    account.clock.run_for(60)
    assert len(account.running()) == 1


def test_the_knob_knows_groups_and_processes(account: Account) -> None:
    account.make_group()
    account.scaling.suspend_administratively("fleet")
    assert "Launch" in reasons(account)
    assert "Terminate" not in reasons(account)
    with pytest.raises(Exception, match="not found"):
        account.scaling.suspend_administratively("none")
    with pytest.raises(Exception, match="Invalid process type"):
        account.scaling.suspend_administratively("fleet", ["Nonsense"])


def impatient(account: Account) -> None:
    """No capacity, and a group is given up after two hours."""
    no_capacity(account)
    account.scaling.lifecycle.patience_s = 2 * HOUR


def test_a_day_of_failed_launches_suspends_the_group(account: Account) -> None:
    assert account.scaling.lifecycle.patience_s == 24 * HOUR
    impatient(account)
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(1.8 * HOUR)
    assert reasons(account) == {}
    account.clock.run_for(0.5 * HOUR)
    assert "Launch" in reasons(account)
    assert not any(reason.startswith("User") for reason in reasons(account).values())
    tried = len(account.activities())
    account.machines.market.on_demand_available = lambda *_: True
    account.clock.run_for(HOUR)
    assert account.running() == []
    assert len(account.activities()) == tried


def test_resumed_it_has_as_long_again(account: Account) -> None:
    impatient(account)
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(2.5 * HOUR)
    account.aws.resume_processes(AutoScalingGroupName="fleet")
    account.clock.run_for(1.5 * HOUR)
    assert reasons(account) == {}
    account.clock.run_for(HOUR)
    assert "Launch" in reasons(account)


def one_succeeds(account: Account) -> None:
    account.machines.market.on_demand_available = lambda *_: True
    account.clock.run_for(600)
    assert account.states() == ["InService"]
    no_capacity(account)
    account.desire(2)


def it_wants_nothing_for_a_while(account: Account) -> None:
    account.desire(0)
    account.clock.run_for(60)
    account.desire(1)


@pytest.mark.parametrize("between", [one_succeeds, it_wants_nothing_for_a_while])
def test_the_count_begins_anew_after_a_success_or_a_pause(account: Account, between: Any) -> None:
    impatient(account)
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(1.5 * HOUR)
    between(account)
    account.clock.run_for(1.5 * HOUR)
    assert reasons(account) == {}
    account.clock.run_for(HOUR)
    assert "Launch" in reasons(account)


def test_launches_that_the_hook_abandons_are_failed_ones(account: Account) -> None:
    account.scaling.lifecycle.patience_s = 2 * HOUR
    account.make_group()
    account.hook("fleet", LAUNCH, heartbeat_s=600)
    account.desire(1)
    account.clock.run_for(3 * HOUR)
    assert "Launch" in reasons(account)


def test_a_suspended_group_still_refuses_what_it_refuses(account: Account) -> None:
    account.make_group()
    account.scaling.suspend_administratively("fleet")
    with refused("ValidationError", "above max value"):
        account.desire(11)
