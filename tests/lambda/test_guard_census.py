"""Nobody runs unpaid: what EC2's events, its list and the groups' history tell together, whatever is lost of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, JOBS, ON_DEMAND_GROUP, SPOT_GROUP, FakeInstance, World
from fleet_control.aws import history
from fleet_control.aws.scale_to_zero import GuardError
from fleet_control.spend_ledger import Ledger
from fleet_functions import Functions

HOUR, DAY = 3600.0, 86_400.0


def told(world: World, one: FakeInstance, state: str, at: float | None = None) -> dict[str, Any]:
    """The event that EC2 sends when an instance changes its state."""
    when = datetime.fromtimestamp(world.at if at is None else at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    detail = {"instance-id": one.id, "state": state}
    return {
        "source": "aws.ec2",
        "detail-type": "EC2 Instance State-change Notification",
        "time": when,
        "detail": detail,
    }


def ledger(world: World) -> Ledger:
    return Ledger.from_json(world.row(CONTROL, f"ledger#{datetime.fromtimestamp(world.at, UTC):%Y-%m}")["record"])


def minutes(world: World, functions: Functions, number: int) -> None:
    for _ in range(number):
        world.at += 60
        functions.guard()


def ends(world: World, one: FakeInstance, at: float) -> None:
    """The instance is terminated: its group's history says so, EC2 for about an hour."""
    one.state, one.ec2, one.ended = "Terminated", "terminated", at
    world.groups[one.group].activities.insert(
        0,
        {
            "Description": f"Terminating EC2 instance: {one.id}",
            "StatusCode": "Successful",
            "StartTime": datetime.fromtimestamp(at - 30, UTC),
            "EndTime": datetime.fromtimestamp(at, UTC),
        },
    )


def launched(world: World, one: FakeInstance) -> None:
    world.groups[one.group].activities.insert(
        0,
        {
            "Description": f"Launching a new EC2 instance: {one.id}",
            "StatusCode": "Successful",
            "StartTime": datetime.fromtimestamp(one.launched, UTC),
            "EndTime": datetime.fromtimestamp(one.launched + 200, UTC),
        },
    )


def test_an_event_is_noted_and_is_no_tick(world: World, functions: Functions) -> None:
    one = world.serving(ON_DEMAND_GROUP, launched=world.at)
    world.at += 30
    assert functions.guard(told(world, one, "running")) == f"{one.id} of {FLEET} runs"
    assert world.row(CONTROL, "budget") == {}
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}
    assert world.row(CONTROL, "instances")[one.id]["running_at"] == world.at


def test_pending_costs_nothing_and_the_charge_begins_with_running(world: World, functions: Functions) -> None:
    functions.guard()
    one = world.serving(ON_DEMAND_GROUP, launched=world.at, ec2="pending")
    world.at += 25
    functions.guard()
    assert ledger(world).instance_usd == 0
    assert world.row(CONTROL, "budget")["committed_usd"] > 1.006 * 1050 / 3600, "but it is committed"
    world.at += 10
    one.ec2 = "running"
    functions.guard(told(world, one, "running"))
    began = world.at
    minutes(world, functions, 60)
    assert ledger(world).on_demand_usd == pytest.approx(1.006 * (world.at - began) / HOUR)


def test_without_the_event_it_is_charged_from_its_launch(world: World, functions: Functions) -> None:
    functions.guard()
    one = world.serving(ON_DEMAND_GROUP, launched=world.at, ec2="pending")
    world.at += 35
    one.ec2 = "running"
    minutes(world, functions, 10)
    assert ledger(world).on_demand_usd == pytest.approx(1.006 * 635 / HOUR)


def test_an_event_that_comes_hours_late_shortens_no_charge(world: World, functions: Functions) -> None:
    one = world.serving(ON_DEMAND_GROUP, launched=world.at - 2 * HOUR)
    functions.guard(told(world, one, "running"))
    functions.guard()
    assert ledger(world).on_demand_usd == pytest.approx(2 * 1.006)


def test_an_instance_that_came_and_went_while_no_tick_worked_is_paid(world: World, functions: Functions) -> None:
    functions.guard()
    world.failing = {"describe_auto_scaling_groups": "RequestLimitExceeded"}
    one = world.add(SPOT_GROUP, launched=world.at)
    functions.guard(told(world, one, "running"))
    world.at += 1800
    ends(world, one, world.at)
    assert functions.guard(told(world, one, "shutting-down")) == f"{one.id} ended"
    functions.guard(told(world, one, "terminated", at=world.at + 20))
    one.forgotten = True
    world.failing = {}
    world.at += 300
    functions.guard()
    assert ledger(world).spot_usd == pytest.approx(1.006 / 2), "no quote for spot: the on-demand price"
    functions.guard()
    assert one.id not in world.row(CONTROL, "instances"), "the note has served its turn"
    minutes(world, functions, 3)
    assert ledger(world).spot_usd == pytest.approx(1.006 / 2)


def test_a_note_whose_end_no_event_told_goes_with_its_instance(world: World, functions: Functions) -> None:
    functions.guard()
    one = world.serving(ON_DEMAND_GROUP, launched=world.at)
    functions.guard(told(world, one, "running"))
    minutes(world, functions, 10)
    assert one.id in world.row(CONTROL, "instances")
    ends(world, one, world.at)
    minutes(world, functions, 1)
    assert one.id not in world.row(CONTROL, "instances")
    assert ledger(world).on_demand_usd == pytest.approx(1.006 * 600 / HOUR)


def test_a_note_that_could_not_be_removed_charges_nothing_once_the_ledger_has_forgotten(
    world: World, functions: Functions
) -> None:
    functions.guard()
    one = world.serving(ON_DEMAND_GROUP, launched=world.at)
    functions.guard(told(world, one, "running"))
    minutes(world, functions, 10)
    note = world.row(CONTROL, "instances")
    ends(world, one, world.at)
    for _ in range(130):  # the ledger forgets after two hours
        minutes(world, functions, 1)
        world.put(CONTROL, **note)
        one.forgotten = True
    assert one.id not in ledger(world).instances
    assert ledger(world).on_demand_usd == pytest.approx(1.006 * 600 / HOUR)


def test_somebody_else_s_instances_are_not_noted(world: World, functions: Functions) -> None:
    stranger = world.add("another-asg", fleet="another-fleet")
    assert functions.guard(told(world, stranger, "running")) == f"{stranger.id} is not of these fleets"
    gone = FakeInstance("i-0123", "another-asg", world.at)
    assert functions.guard(told(world, gone, "running")) == "i-0123 is not of these fleets"
    assert functions.guard(told(world, stranger, "terminated")).startswith(f"{stranger.id} is not of these fleets")
    assert functions.guard({**told(world, stranger, "running"), "detail": None}) == "nothing to note: no instance"
    assert world.row(CONTROL, "instances") == {}


def test_a_guard_that_was_dead_for_three_days_pays_what_ran_and_no_more(world: World, functions: Functions) -> None:
    """EC2 has forgotten: one that ran when it died, and one that came and went meanwhile. The groups remember."""
    functions.guard()
    began = world.at
    known = world.serving(ON_DEMAND_GROUP, launched=world.at)
    minutes(world, functions, 5)
    ends(world, known, began + 900)
    unseen = world.add(ON_DEMAND_GROUP, launched=began + 400)
    launched(world, unseen)
    ends(world, unseen, began + 1300)
    known.forgotten = unseen.forgotten = True
    world.at += 3 * DAY
    functions.guard()
    assert ledger(world).on_demand_usd == pytest.approx(1.006 * (900 + 900) / HOUR)
    spent = ledger(world).spent_usd
    functions.guard()
    assert ledger(world).spent_usd == spent


def test_spot_that_vanished_in_a_gap_is_paid_at_the_price_of_that_time(world: World, functions: Functions) -> None:
    functions.guard()
    zone = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a"}
    began = world.at
    rose = datetime.fromtimestamp(began + 300, UTC)
    world.spot_history = [{**zone, "SpotPrice": "0.4", "Timestamp": datetime.fromtimestamp(began - 9000, UTC)}]
    one = world.serving(launched=world.at)
    functions.guard(told(world, one, "running"))
    minutes(world, functions, 5)
    world.spot_history.append({**zone, "SpotPrice": "0.9", "Timestamp": rose})
    ends(world, one, began + 900)
    one.forgotten = True
    world.at += 2 * HOUR
    functions.guard()
    assert ledger(world).spot_usd == pytest.approx((0.4 * 300 + 0.9 * 600) / HOUR)
    minutes(world, functions, 3)
    assert ledger(world).spot_usd == pytest.approx((0.4 * 300 + 0.9 * 600) / HOUR)


def test_a_gap_that_nobody_can_explain_meters_nothing(world: World, functions: Functions) -> None:
    functions.guard()
    world.at += 2 * HOUR
    before = ledger(world)
    world.failing = {"describe_scaling_activities": "Throttling"}
    with pytest.raises(GuardError, match="meter: ClientError"):
        functions.guard()
    assert ledger(world) == before
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance")["until"] < world.at, "and extends nothing"
    world.failing = {}
    functions.guard()
    assert ledger(world).metered_at == world.at


def test_a_history_too_long_to_read_meters_nothing(world: World, functions: Functions) -> None:
    functions.guard()
    world.at += 2 * HOUR
    for _ in range(100 * history.PAGES + 1):
        world.told(SPOT_GROUP, "Launching a new EC2 instance.  Status Reason: no capacity", "Failed")
    with pytest.raises(GuardError, match="TooLongError"):
        functions.guard()


def test_a_lost_ledger_is_made_anew_from_the_groups_history(world: World, functions: Functions) -> None:
    for group in world.groups.values():
        group.created = world.at - 30 * DAY
    month_began = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    early = world.add(ON_DEMAND_GROUP, launched=month_began - HOUR)
    launched(world, early)
    ends(world, early, month_began + 2 * HOUR)
    one = world.add(SPOT_GROUP, launched=month_began + DAY)
    launched(world, one)
    ends(world, one, month_began + DAY + 4 * HOUR)
    early.forgotten = one.forgotten = True
    here = world.serving(ON_DEMAND_GROUP, launched=world.at - HOUR)
    launched(world, here)
    world.budget = ("3.5", datetime(2026, 11, 20, tzinfo=UTC))
    functions.guard()
    made = ledger(world)
    assert made.instance_usd == pytest.approx(1.006 * (2 + 4 + 1)), "each at the dearest price it may have had"
    assert made.fixed_usd == pytest.approx(37.2 / 744 * (world.at - month_began) / HOUR)
    assert made.raised_usd == 0, "AWS Budgets was asked, and knows of less"
    assert any("made anew" in act for act in world.logs[-1]["acts"])


def test_a_lost_ledger_believes_aws_budgets_if_that_knows_more(world: World, functions: Functions) -> None:
    world.groups[SPOT_GROUP].created = world.at - 30 * DAY
    world.budget = ("149.5", datetime(2026, 11, 20, tzinfo=UTC))
    assert functions.guard() == f"Scaled {SPOT_GROUP} to zero"
    assert ledger(world).spent_usd == pytest.approx(149.5)


def test_a_new_stack_is_charged_from_its_groups_creation(world: World, functions: Functions) -> None:
    world.groups[SPOT_GROUP].created = world.at - 120
    functions.guard()
    assert ledger(world).fixed_usd == pytest.approx(37.2 / 744 * 120 / HOUR)
    assert not any("made anew" in act for act in world.logs[-1]["acts"])
