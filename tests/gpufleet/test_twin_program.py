"""The repository's own program on the built-in engine, every stack: up, again, an edit, drift, destroy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine, ProgramError, UpError, UpResult
from gpufleet.twin.world import World

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud)
        yield Engine(cloud)


def edited(result: UpResult) -> dict[str, set[str]]:
    """Changed properties by resource name; components have none of their own."""
    return {step.name: {change.top for change in step.diff} for step in result.changes if step.diff}


@pytest.mark.parametrize("stack", ["staging", "prod"])
def test_up_again_and_what_protects_a_stack_that_matters(engine: Engine, stack: str) -> None:
    first = engine.up(ROOT, stack)
    assert first.outputs["queueUrl"].endswith(f"/inference-queue-{stack}")
    assert engine.refresh() == []
    assert engine.up(ROOT, stack).changes == ()
    kept = {r.name for r in engine.state.resources.values() if r.protect}
    assert kept == {"inference-queue", "inference-dlq", "inference-jobs", "inference-control", "inference-results"}
    with pytest.raises(UpError, match="protected"):
        engine.destroy()
    assert len(engine.state.resources) == len(first.steps)
    engine.unprotect()
    with pytest.raises(UpError, match=r"DeletionProtection|deletion protection"):
        engine.destroy()  # DynamoDB keeps its tables by itself


def test_a_cap_edit_changes_what_depends_on_it_and_destroy_leaves_nothing(engine: Engine) -> None:
    engine.up(ROOT, "dev")
    edit = engine.up(ROOT, "dev", {"maxGpuInstances": "3"})
    assert edited(edit) == {
        "inference-asg-spot": {"maxSize"},
        "inference-asg-on-demand": {"maxSize"},
        "inference-controller": {"environment"},
        "inference-scale-to-zero": {"environment"},
    }
    engine.destroy()
    cloud = engine.cloud
    assert engine.state.resources == {}
    assert cloud.client("sqs").list_queues().get("QueueUrls", []) == []
    assert cloud.client("s3").list_buckets()["Buckets"] == []
    assert cloud.client("dynamodb").list_tables()["TableNames"] == []
    assert cloud.client("lambda").list_functions()["Functions"] == []
    assert cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert cloud.client("iam").list_roles()["Roles"] == []


def test_the_plan_names_what_up_then_makes(engine: Engine) -> None:
    plan = engine.preview(ROOT, "dev")
    assert set(plan.counts) == {"create"}
    assert {step.urn for step in plan.steps} == {step.urn for step in engine.up(ROOT, "dev").steps}
    assert engine.preview(ROOT, "dev").changes == ()


def test_edits_reach_what_they_name_and_the_laws_own_is_no_drift(engine: Engine) -> None:
    engine.up(ROOT, "dev")
    groups = engine.cloud.client("autoscaling")
    groups.suspend_processes(AutoScalingGroupName="inference-asg-dev", ScalingProcesses=["Launch"])
    assert engine.refresh() == []
    assert engine.up(ROOT, "dev").changes == ()
    groups.update_auto_scaling_group(AutoScalingGroupName="inference-asg-dev", MaxSize=9)
    assert [(d.path, d.state, d.live) for d in engine.refresh()] == [("maxSize", 1, 9)]
    assert edited(engine.up(ROOT, "dev")) == {"inference-asg-spot": {"maxSize"}}

    edit = engine.up(ROOT, "dev", {"drainSeconds": "600"})
    assert not [step for step in edit.steps if step.op in ("replace", "delete", "create")]
    assert {name for name, tops in edited(edit).items() if "heartbeatTimeout" in tops} == {
        "inference-terminate-hook-spot",
        "inference-terminate-hook-on-demand",
    }
    assert edited(edit)["inference-node"] == {"userData"}
    assert json.loads(engine.state.to_json())["outputs"]["maxInstances"] == 1


def test_a_wrong_setting_is_the_program_s_message(engine: Engine) -> None:
    with pytest.raises(ProgramError, match="maxGpuInstances") as told:
        engine.up(ROOT, "dev", {"maxGpuInstances": "many"})
    assert "Traceback" not in str(told.value)
    assert engine.state.resources == {}
