"""One edit of the cap, from 5 to 1, while five instances are at work: what `pulumi up` changes, and what becomes of the
jobs. The real program, functions and workers, on the embedded cloud."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpufleet.demo.stage import START, Stage
from gpufleet.twin.engine import UpResult
from gpufleet.twin.ledger import JobAccount

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).parents[2]
JOBS, HOUR = 40, 3600.0


@dataclass(frozen=True)
class Cut:
    """The day of the cut: jobs at work at the edit, what the edit changed, instances in service every ten seconds from
    the edit on, and the account once every job was served."""

    at_work: int
    edit: UpResult
    in_service: list[int]
    account: JobAccount
    attempts: list[int]
    killed_s: float
    drained: list[str]
    max_sizes: set[int]


def cut() -> Cut:
    with Stage(ROOT, "dev", {"maxGpuInstances": 5, "model.slots": 2}, "us-east-1", seed=1) as stage:
        stage.up()
        stage.watch()
        world = stage.world
        world.run_for(60)
        world.traffic.send(stage.outputs["queueUrl"], JOBS, service_s=100)
        assert world.run_until(lambda: in_service(stage) == 5, limit_s=HOUR)
        world.run_for(20)
        at_work = stage.at_work()
        edit, counts = stage.up(maxGpuInstances=1), []
        while len(world.account().completed) < JOBS and world.now() < START + 2 * HOUR:
            world.run_for(10)
            counts.append(in_service(stage))
        return Cut(
            at_work=at_work,
            edit=edit,
            in_service=counts,
            account=world.account(),
            attempts=attempts(stage),
            killed_s=world.work_killed_s,
            drained=[act for one in stage.records(stage.outputs["scaleToZeroFunction"], 0) for act in one["acts"]],
            max_sizes={group["MaxSize"] for group in stage.groups()},
        )


def in_service(stage: Stage) -> int:
    return sum(stage.world.state_of(instance) == "InService" for instance in stage.world.instances())


def attempts(stage: Stage) -> list[int]:
    """How often each job was begun."""
    rows = stage.client("dynamodb").scan(
        TableName=stage.outputs["jobsTable"],
        FilterExpression="begins_with(pk, :job)",
        ExpressionAttributeValues={":job": {"S": "job#"}},
    )["Items"]
    return [int(row["attempts"]["N"]) for row in rows]


def differences(old: Any, new: Any, path: str = "") -> set[str]:
    """Paths of the leaves that differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        return {each for key in old for each in differences(old[key], new[key], f"{path}.{key}".strip("."))}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return {
            each for at, pair in enumerate(zip(old, new, strict=True)) for each in differences(*pair, f"{path}[{at}]")
        }
    return set() if old == new else {path}


def changed_paths(edit: UpResult) -> dict[str, set[str]]:
    """By resource of AWS: the paths of its properties that the edit changed, inside a function's configuration too."""
    found: dict[str, set[str]] = {}
    for step in edit.changes:
        for change in step.diff:
            paths = found.setdefault(f"{step.op} {step.name}", set())
            if change.path == "environment.variables":
                old, new = (json.loads(side["FLEET_CONTROL_CONFIG"]) for side in (change.old, change.new))
                paths |= differences(old, new)
            else:
                paths.add(change.path)
    return found


def test_cap_5_to_1_while_five_are_busy(subtests: pytest.Subtests) -> None:
    day = cut()
    with subtests.test("no job is interrupted"):
        assert day.at_work == 10
        assert (day.killed_s, day.attempts) == (0, [1] * JOBS)
        assert day.account.in_order
        assert len(day.account.completed) == JOBS
    with subtests.test("the fleet shrinks to the cap by drains, and works on"):
        assert day.max_sizes == {1}
        assert day.in_service == sorted(day.in_service, reverse=True)
        assert set(day.in_service[7:]) == {1}, "the guard looks every minute, and a drained instance is out at once"
        assert len(day.drained) == 4
        assert all(act.startswith("drain i-") and act.endswith("over cap 1") for act in day.drained)
    with subtests.test("the edit changes the cap and what is derived from it, and nothing else"):
        assert changed_paths(day.edit) == {
            "update inference-asg-spot": {"maxSize"},
            "update inference-asg-on-demand": {"maxSize"},
            "update inference-controller": {"policy.cap"},
            "update inference-scale-to-zero": {"fleets[0].cap"},
        }
        summaries = {step.type for step in day.edit.changes if not step.diff}
        assert summaries == {"gpu-inference:aws:GpuFleet", "gpu-inference:aws:QueueDepthScaler"}
        assert day.edit.outputs["maxInstances"] == 1
