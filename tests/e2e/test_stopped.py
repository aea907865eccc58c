"""A stop by hand, with the commands that an operator types, outlives every deployment; the stack's output says so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from running import HOUR, REFRESH, STACK, configure, deployed, groups, in_service, served

pytestmark = pytest.mark.engine

MINUTE = 60.0
CAP = 1
GROUPS = f"inference-asg-{STACK}, inference-asg-{STACK}-on-demand"
STOPPED = f"stopped: Launch is suspended in {GROUPS}; why: gpufleet audit --stack {STACK}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The commands read this machine's clock, so the cloud's begins there."""
    with Desk(tmp_path, start=time.time()) as desk:
        yield desk


def test_a_stop_by_hand_outlives_every_deployment(desk: Desk, subtests: pytest.Subtests) -> None:
    outputs = deployed(desk, {"maxGpuInstances": CAP, "monthlyBudgetUsd": 150})
    with subtests.test("a fleet that nobody stopped may run"):
        assert outputs["fleetState"] == "may run"
        at_work(desk, outputs)
        assert desk.up(STACK).changes == {}, "an output that is read anew is no change"
        assert state(desk) == "may run"
    with subtests.test("deployed between the latch and the guard's next tick"):
        desk.gpufleet("stop", "--stack", STACK, "--reason", "the model answers nonsense")
        assert desk.up(STACK).changes == {}
        assert desk.world.run_until(lambda: not desk.world.instances(), limit_s=HOUR)
    with subtests.test("a stopped fleet stays stopped, and preview and output say so"):
        deployments_of_a_stopped_fleet(desk, outputs)
    with subtests.test("the way that the output names tells why"):
        assert "the model answers nonsense" in desk.gpufleet("audit", "--stack", STACK).out
    with subtests.test("after the resume it may run, and serves what waited"):
        resumed(desk, outputs)


def test_a_group_that_somebody_deleted_is_told_and_hinders_nobody(desk: Desk) -> None:
    deployed(desk, {})
    name = f"inference-asg-{STACK}"
    desk.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    desk.up(STACK)
    assert state(desk).startswith(f"unknown: {name} cannot be read: ")
    mended = desk.up(STACK, "--refresh").changes
    assert mended["Group inference-asg-spot"][0] == "create"
    assert state(desk) == "may run"


def state(desk: Desk) -> str:
    return desk.outputs(STACK)["fleetState"]


def at_work(desk: Desk, outputs: Mapping[str, Any]) -> None:
    desk.world.run_for(2 * MINUTE)
    desk.world.traffic.send(outputs["queueUrl"], 30, service_s=100)
    assert desk.world.run_until(lambda: len(in_service(desk)) == CAP, limit_s=HOUR)


def still(desk: Desk, outputs: Mapping[str, Any]) -> None:
    """Ten minutes in which nothing launches, though jobs wait."""
    world, launched = desk.world, len(desk.world.machines.instances)
    for _ in range(10):
        world.run_for(MINUTE)
        for group in groups(desk, outputs):
            assert "Launch" in {one["ProcessName"] for one in group["SuspendedProcesses"]}
            assert (group["DesiredCapacity"], group["Instances"]) == (0, [])
    assert len(world.machines.instances) == launched
    assert world.snapshot().backlog


def deployments_of_a_stopped_fleet(desk: Desk, outputs: Mapping[str, Any]) -> None:
    """A plain `up`, one that takes the live values into the state, and one with a higher cap."""
    plan = desk.pulumi("preview", "--stack", STACK).out
    assert STOPPED in plan, "what was 'may run' shows as changed before anything is done"
    assert desk.up(STACK).changes == {}
    assert state(desk) == STOPPED
    still(desk, outputs)
    assert desk.up(STACK, "--refresh").changes == {}
    assert state(desk) == STOPPED
    still(desk, outputs)
    configure(desk, {"maxGpuInstances": CAP + 1})
    edit = desk.up(STACK).changes
    assert edit["Group inference-asg-spot"] == edit["Group inference-asg-on-demand"] == ("update", ("maxSize",))
    assert state(desk) == STOPPED
    still(desk, outputs)
    desk.pulumi(*REFRESH)


def resumed(desk: Desk, outputs: Mapping[str, Any]) -> None:
    desk.gpufleet("resume", "--stack", STACK)
    assert desk.world.run_until(lambda: served(desk), limit_s=2 * HOUR, step_s=30)
    assert desk.up(STACK).changes == {}
    assert state(desk) == "may run"
    account = desk.world.account()
    assert account.in_order
    assert account.completed == account.sent
    assert desk.world.services.functions.failures == []
