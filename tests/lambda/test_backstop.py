"""The guard's word that nobody attends a fleet: when it is said, and above all when it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, JOBS, ON_DEMAND_GROUP, SPOT_GROUP, World
from fleet_control.aws.backstop import SILENT_S, unattended
from fleet_control.aws.config import GuardedFleet
from fleet_control.aws.scale_to_zero import GuardError
from fleet_control.spend_ledger import Ledger
from fleet_functions import Functions
from hypothesis import given
from hypothesis import strategies as st


def heard(world: World, ago: float) -> None:
    """The controller stored its state ``ago`` seconds before now."""
    world.put(CONTROL, pk=f"scaler#{FLEET}", fence=3, waiting=2, at=world.at - ago)


def words(world: World) -> list[tuple[float, list[dict[str, str]]]]:
    """Each time the guard said that a fleet is unattended: the value and the metric's dimensions."""
    return [(one["Value"], one["Dimensions"]) for one in world.metrics if one["MetricName"] == "Unattended"]


def spend(world: World, usd: float) -> None:
    ledger = Ledger(month="2026-11", metered_at=world.at, on_demand_usd=usd, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())


def test_a_fleet_at_zero_without_its_controller_is_unattended_and_a_launch_is_kept_free(
    world: World, functions: Functions
) -> None:
    heard(world, SILENT_S + 1)
    functions.guard()
    assert words(world) == [(1.0, [{"Name": "Fleet", "Value": FLEET}])]
    row = world.row(CONTROL, "budget")
    left = 150 - row["spent_usd"] - row["committed_usd"]
    assert row["headroom_usd"] == pytest.approx(left - row["launch_usd"], abs=1e-5), "no other fleet may reserve it"
    assert f"{FLEET} is unattended: its controller was last heard 601 s ago" in world.logs[-1]["acts"]
    assert world.changed("suspend", "desired", "terminate") == []


def asked_for(world: World) -> None:
    world.delivers = False
    world.groups[ON_DEMAND_GROUP].desired = 1


def stray(world: World) -> None:
    world.add("detached", launched=world.at - 60)


def leaving(world: World) -> None:
    world.add(SPOT_GROUP, state="Terminating:Wait", launched=world.at - 900)


def deaf(process: str) -> Callable[[World], None]:
    return lambda world: world.groups[SPOT_GROUP].suspended.add(process)


@pytest.mark.parametrize(
    "happens",
    [
        lambda world: heard(world, SILENT_S - 1),
        lambda world: world.db.delete_item(TableName=CONTROL, Key={"pk": {"S": f"scaler#{FLEET}"}}),
        lambda world: world.put(CONTROL, pk=f"scaler#{FLEET}", fence=1),
        lambda world: world.serving(),
        lambda world: world.serving(ON_DEMAND_GROUP),
        asked_for,
        stray,
        leaving,
        lambda world: world.groups.pop(SPOT_GROUP),
        deaf("Launch"),
        deaf("AlarmNotification"),
        lambda world: spend(world, 139.5),  # $0.30 left, a launch is $0.52; and nobody says that jobs wait: no latch
        lambda world: world.put(CONTROL, pk="budget", reserved_usd=149, reserved_at=world.at - 30, headroom_usd=0),
    ],
    ids=[
        "the controller lives", "it never ran", "it began its first run", "spot runs", "on-demand runs", "asked for",
        "an instance in no group", "one still drains", "a group is gone", "no launches", "no alarm actions",
        "too little money", "another fleet reserved it",
    ],
)  # fmt: skip
def test_it_is_not_said(world: World, functions: Functions, happens: Callable[[World], Any]) -> None:
    heard(world, SILENT_S + 1)
    happens(world)
    functions.guard()
    assert words(world) == []
    assert world.metrics[-2]["MetricName"] == "GuardTick", "the tick itself was complete"


def test_a_stopped_fleet_is_never_unattended(world: World, functions: Functions) -> None:
    heard(world, SILENT_S + 1)
    spend(world, 151.0)
    for _ in range(3):
        functions.guard()
        world.at += 60
    assert world.row(CONTROL, "latch")["latched"] is True
    assert words(world) == []


@pytest.mark.parametrize("call", ["describe_instances", "describe_auto_scaling_groups"])
def test_what_cannot_be_read_says_nothing(world: World, functions: Functions, call: str) -> None:
    heard(world, SILENT_S + 1)
    world.failing = {call: "Throttling"}
    with pytest.raises(GuardError, match="Throttling"):
        functions.guard()
    assert world.metrics == []


def test_the_nodes_are_told_when_the_controller_was_heard(world: World, functions: Functions) -> None:
    functions.guard()
    assert "controller_at" not in world.row(JOBS, f"fleet#{FLEET}", "allowance"), "it was never heard"
    heard(world, 700)
    functions.guard()
    row = world.row(JOBS, f"fleet#{FLEET}", "allowance")
    assert (row["controller_at"], row["at"], row["until"]) == (world.at - 700, world.at, world.at + 600)
    world.at += 60
    functions.controller()
    functions.guard()
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance")["controller_at"] == world.at


def test_both_functions_agree_on_who_lives(world: World, functions: Functions) -> None:
    """A controller that runs each minute is never taken for dead, whatever it decides."""
    for minute in range(40):
        world.queue[""] = 5 if 10 < minute < 20 else 0
        functions.controller()
        world.at = (world.at // 60 + 1) * 60
        functions.guard()
    assert words(world) == []


@given(st.lists(st.sampled_from("abc"), unique=True), st.floats(0, 10), st.floats(0.01, 10))
def test_launches_of_all_backstops_together_fit_the_budget(silent: list[str], room: float, launch: float) -> None:
    fleets = [GuardedFleet(name, None, None, None, None, None, 1, 300.0, 0.01, None) for name in "abc"]
    found = unattended(fleets, dict.fromkeys(silent, 0.0), {}, (), room, launch, SILENT_S + 1)
    assert set(found) <= set(silent)
    assert len(found) * launch <= room + 1e-9
    assert len(found) == len(silent) or room - len(found) * launch < launch + 1e-9
