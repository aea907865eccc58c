"""Template versions that do not boot: proof, hold, probes, and what does not count as a failed boot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, ON_DEMAND_GROUP, SPOT_GROUP, FakeInstance, World
from fleet_control.aws import controller
from fleet_control.scaling_law import Observation
from fleet_functions import Functions
from tables import Tables

HOLD_S = 600


@pytest.fixture
def dynamodb() -> Tables:
    return Tables()


@pytest.fixture
def busy(world: World, functions: Functions) -> World:
    """A queue that wants the whole cap of ten, and a guard that pays for it."""
    functions.controller_config["policy"]["cap"] = 10
    for group in world.groups.values():
        group.max = 10
    world.queue[""] = 5000
    world.admit()
    world.on_sleep = world.admit
    return world


def booting(world: World) -> list[FakeInstance]:
    return [one for group in world.groups for one in world.listed(group) if one.state == "Pending:Wait"]


def run(world: World, functions: Functions) -> str:
    """One look, ten seconds after the last."""
    world.at += 10
    world.admit()
    return functions.controller()


def fail(world: World, functions: Functions) -> None:
    """All that boots fails, fifteen minutes later; who serves is heard meanwhile."""
    world.at += 880
    for one in world.instances.values():
        if one.state == "InService":
            world.beat(one)
    run(world, functions)
    for one in booting(world):
        world.fails_to_boot(one)
    run(world, functions)


def held(world: World, functions: Functions) -> None:
    run(world, functions)
    world.settle()
    run(world, functions)
    fail(world, functions)


def test_until_a_version_has_served_three_boot_and_then_the_rest(busy: World, functions: Functions) -> None:
    why = run(busy, functions)
    assert why.endswith("only 3 of 10 launches: template version 1 has not served yet (0 booting, 0 failed)")
    busy.settle()
    assert run(busy, functions).endswith("no launch: template version 1 has not served yet (3 booting, 0 failed)")
    first = booting(busy)[0]
    first.state = "InService"
    busy.beat(first)
    run(busy, functions)
    assert busy.changed("desired") == [("desired", SPOT_GROUP, 3, "active"), ("desired", SPOT_GROUP, 10, "active")]


def test_both_pools_share_the_three(busy: World, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = controller.decide

    def both(*given: Any) -> Any:
        decision, state = decide(*given)
        return replace(decision, desired=8, spot=2, on_demand=6), state

    monkeypatch.setattr(controller, "decide", both)
    run(busy, functions)
    assert busy.changed("desired") == [("desired", SPOT_GROUP, 2, "active"), ("desired", ON_DEMAND_GROUP, 1, "active")]


def test_three_failed_boots_hold_the_version_and_cancel_what_the_group_would_replace(
    busy: World, functions: Functions
) -> None:
    held(busy, functions)
    assert busy.groups[SPOT_GROUP].desired == 0, "or the group would launch three more by itself"
    assert "no launch: 3 boots of template version 1 failed in a row, next probe in 600 s" in busy.logs[-1]["reason"]
    assert (busy.logs[-1]["failed_boots"], busy.metrics[-1]["MetricName"], busy.metrics[-1]["Value"]) == (
        3,
        "FailedBoots",
        3.0,
    )
    before = len(busy.calls)
    busy.at += HOLD_S - 20
    assert "next probe in 10 s" in run(busy, functions)
    assert [call for call in busy.calls[before:] if call[0] == "desired"] == []


def test_one_probe_at_a_time_each_after_a_longer_pause(busy: World, functions: Functions) -> None:
    held(busy, functions)
    for pause in (600, 3000, 15_000):
        busy.at += pause - 20
        assert "next probe in 10 s" in run(busy, functions)
        run(busy, functions)
        assert busy.groups[SPOT_GROUP].desired == 1
        busy.settle()
        assert "1 still booting" in run(busy, functions)
        fail(busy, functions)
        assert busy.groups[SPOT_GROUP].desired == 0
    assert sum(busy.present(group) for group in busy.groups) == 0
    assert len(busy.instances) == 6


def test_a_probe_that_serves_ends_the_hold(busy: World, functions: Functions) -> None:
    held(busy, functions)
    busy.at += HOLD_S
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    (probe,) = booting(busy)
    probe.state = "InService"
    busy.beat(probe)
    run(busy, functions)
    assert busy.groups[SPOT_GROUP].desired == 10
    assert busy.logs[-1]["failed_boots"] == 0


def test_a_new_version_ends_the_hold_and_proves_itself_anew(busy: World, functions: Functions) -> None:
    held(busy, functions)
    for group in busy.groups.values():
        group.template = "2"
    run(busy, functions)
    assert busy.groups[SPOT_GROUP].desired == 3


def test_who_has_served_for_long_does_not_vouch_for_boots_that_fail(busy: World, functions: Functions) -> None:
    """The weights are gone: what serves goes on, what boots fails."""
    old = busy.serving()
    busy.beat(old)
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    fail(busy, functions)
    for _ in range(5):
        busy.beat(old)
        assert "9 boots of template version 1 failed in a row" in run(busy, functions)
    assert busy.groups[SPOT_GROUP].desired == 1


def test_boots_of_the_version_before_do_not_count_against_the_new_one(busy: World, functions: Functions) -> None:
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    for group in busy.groups.values():
        group.template = "2"
    fail(busy, functions)
    assert busy.logs[-1]["failed_boots"] == 0


def test_removing_the_facts_by_hand_ends_the_hold(busy: World, functions: Functions) -> None:
    held(busy, functions)
    busy.db.update_item(
        TableName=CONTROL,
        Key={"pk": {"S": f"scaler#{FLEET}"}},
        UpdateExpression="SET boots = :none",
        ExpressionAttributeValues={":none": {"S": ""}},
    )
    run(busy, functions)
    assert busy.groups[SPOT_GROUP].desired == 3


def test_what_the_group_replaced_before_the_controller_looked_is_ended(busy: World, functions: Functions) -> None:
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    busy.at += 900
    for one in booting(busy):
        busy.fails_to_boot(one)
    busy.settle()  # the group was quicker
    replacements = booting(busy)
    assert len(replacements) == 3
    run(busy, functions)
    assert [call for call in busy.calls if call[0] == "terminate"] == [
        ("terminate", one.id, True) for one in replacements
    ]
    assert busy.groups[SPOT_GROUP].desired == 0
    assert any("launched by its group while the version is held" in act for act in busy.logs[-1]["acts"])


def test_the_hold_is_the_fleets_not_a_pools(busy: World, functions: Functions) -> None:
    """Spot fails to deliver while the version is held: on-demand does not take over."""
    held(busy, functions)
    busy.delivers = False
    for _ in range(30):
        run(busy, functions)
    assert [call for call in busy.changed("desired") if call[1] == ON_DEMAND_GROUP] == []


def test_a_version_that_does_not_boot_replaces_nothing(
    busy: World, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a version is held the law is told of none that others should be replaced with."""
    told: list[Observation] = []
    decide = controller.decide
    monkeypatch.setattr(controller, "decide", lambda seen, *rest: (told.append(seen), decide(seen, *rest))[1])
    held(busy, functions)
    assert {pool.template for seen in told[:-1] for pool in seen.pools} == {"1"}
    assert {pool.template for pool in told[-1].pools} == {None}


SPOT_TERMINATION = (
    "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: "
    "Server.SpotInstanceTermination: Spot instance termination"
)
SCALE_IN = (
    "taken out of service in response to a difference between desired and actual capacity, shrinking the capacity "
    "from 2 to 1."
)
EC2_CHECK = "an instance was taken out of service in response to an EC2 health check indicating it has been terminated"


@pytest.mark.parametrize(
    ("description", "cause", "noticed", "failures"),
    [
        ("Terminating EC2 instance: {}", f"At 12:00 {EC2_CHECK} or stopped.", False, 1),
        ("Terminating EC2 instance: {}", f"At 12:00 {EC2_CHECK} or stopped.", True, 0),
        (f"Launching a new EC2 instance: {{}}.  Status Reason: {SPOT_TERMINATION}", "", False, 0),
        (
            "Terminating EC2 instance: {}",
            "At 12:00 instance {} was taken out of service in response to a user request, shrinking the capacity.",
            False,
            0,
        ),
        (
            "Terminating EC2 instance: {}",
            f"At 12:00 an instance was {SCALE_IN}  At 12:00 instance {{}} was selected for termination.",
            False,
            0,
        ),
        ("Launching a new EC2 instance: {}.  Status Reason: Client.InternalError", "", False, 1),
        ("Terminating EC2 instance: i-another", "in response to a user request", False, 1),
    ],
    ids=["powered off", "spot notice", "spot, pending", "by name", "scale-in", "launch error", "unexplained"],
)
def test_what_counts_as_a_failed_boot(
    busy: World, functions: Functions, description: str, cause: str, noticed: bool, failures: int
) -> None:
    busy.queue[""] = 0
    one = busy.add(SPOT_GROUP, state="Pending:Wait")
    busy.groups[SPOT_GROUP].desired = 1
    run(busy, functions)
    if noticed:
        busy.beat(one, state="draining", cold_start_s=0)
        run(busy, functions)
        assert busy.logs[-1]["draining"] == 1, "and it is no capacity any more"
    busy.leaves(one, description.format(one.id), cause.format(one.id))
    busy.groups[SPOT_GROUP].desired = 0
    run(busy, functions)
    assert busy.logs[-1]["failed_boots"] == failures


def test_a_failed_boot_counts_once_however_long_it_takes_to_go(busy: World, functions: Functions) -> None:
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    one = booting(busy)[0]
    busy.fails_to_boot(one)
    one.state, one.ec2 = "Terminating", "running"
    for _ in range(3):
        run(busy, functions)
        assert busy.logs[-1]["failed_boots"] == 1
    one.ec2 = "terminated"
    run(busy, functions)
    assert busy.logs[-1]["failed_boots"] == 1


@pytest.mark.parametrize("looks_while_stopped", [True, False])
def test_what_a_stop_abandons_did_not_fail(busy: World, functions: Functions, looks_while_stopped: bool) -> None:
    """The guard abandons what boots in the same words as a node that gives up."""
    run(busy, functions)
    busy.settle()
    run(busy, functions)
    stop: dict[str, Any] = {"reason": "manual", "at": busy.at + 5}
    busy.put(CONTROL, pk="latch", latched=True, generation=1, **stop)
    for one in booting(busy):
        busy.fails_to_boot(one)
    if looks_while_stopped:
        run(busy, functions)
    busy.put(CONTROL, pk="latch", latched=False, generation=2, **stop)
    run(busy, functions)
    assert busy.logs[-1]["failed_boots"] == 0


def test_what_appears_in_a_stopped_fleet_and_is_abandoned_did_not_fail(busy: World, functions: Functions) -> None:
    run(busy, functions)
    busy.put(CONTROL, pk="latch", latched=True, generation=1, reason="manual", at=busy.at)
    busy.settle()  # launched a moment before Launch was suspended
    run(busy, functions)
    for one in booting(busy):
        busy.fails_to_boot(one)
    run(busy, functions)
    busy.put(CONTROL, pk="latch", latched=False, generation=2, reason="", at=busy.at)
    run(busy, functions)
    assert busy.logs[-1]["failed_boots"] == 0


def test_activities_are_asked_only_when_a_boot_ended_or_a_launch_is_owed(busy: World, functions: Functions) -> None:
    run(busy, functions)
    busy.settle()
    for _ in range(5):
        run(busy, functions)
    assert busy.changed("activities") == []
    busy.fails_to_boot(booting(busy)[0])
    run(busy, functions)
    assert busy.changed("activities") != []
