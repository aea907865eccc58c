"""The output `fleetState`: what the groups themselves say at the time of a run, and never an obstacle to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from harness import ROOT

from components.aws import fleet_state
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine
from gpufleet.twin.handlers.properties import UNKNOWN
from gpufleet.twin.world import World

SPOT, ON_DEMAND = "inference-asg-dev", "inference-asg-dev-on-demand"
STOPPED = f"stopped: Launch is suspended in {SPOT}, {ON_DEMAND}; why: gpufleet audit --stack dev"


@pytest.mark.parametrize(
    ("suspended", "words"),
    [
        ({"a": [], "b": []}, "may run"),
        ({"a": ["AZRebalance", "AlarmNotification"]}, "may run"),
        ({"a": ["Launch"]}, "stopped: Launch is suspended in a; why: gpufleet audit --stack dev"),
        ({"a": [], "b": ["AZRebalance", "Launch"]}, "stopped in part: Launch is suspended in b; why: gpufleet audit"),
    ],
)
def test_a_fleet_is_stopped_as_far_as_its_groups_cannot_launch(suspended: Mapping[str, list[str]], words: str) -> None:
    assert fleet_state.in_words("dev", suspended).startswith(words)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud)  # the services, connected as in AWS
        yield Engine(cloud)


def test_each_run_says_what_is_so_at_that_time(engine: Engine) -> None:
    groups = engine.cloud.client("autoscaling", "operator")
    first = engine.preview(ROOT, "dev")
    assert first.outputs.get("fleetState", UNKNOWN) == UNKNOWN, "there is no group yet"
    assert engine.up(ROOT, "dev").outputs["fleetState"] == "may run"

    for name in (SPOT, ON_DEMAND):
        groups.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    assert engine.preview(ROOT, "dev").outputs["fleetState"] == STOPPED
    again = engine.up(ROOT, "dev", {"maxGpuInstances": 2})
    assert again.outputs["fleetState"] == STOPPED
    assert {step.name for step in again.changes} >= {"inference-asg-spot", "inference-asg-on-demand"}

    for name in (SPOT, ON_DEMAND):
        groups.resume_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    done = engine.up(ROOT, "dev", {"maxGpuInstances": 2})
    assert (done.outputs["fleetState"], done.changes) == ("may run", ())


def test_a_group_that_cannot_be_read_fails_no_run(engine: Engine) -> None:
    """Somebody deleted it: the next refresh and `up` make it anew, and this one says so."""
    engine.up(ROOT, "dev")
    engine.cloud.client("autoscaling", "operator").delete_auto_scaling_group(
        AutoScalingGroupName=SPOT, ForceDelete=True
    )
    told = engine.up(ROOT, "dev").outputs["fleetState"]
    assert told.startswith(f"unknown: {SPOT} cannot be read: ")
    assert "couldn't find resource" in told
    engine.refresh()
    assert engine.up(ROOT, "dev").outputs["fleetState"] == "may run"
