"""`inference_worker ready`: tells the group that the model answers, or that it never will."""

from __future__ import annotations

from . import hooks
from .aws.autoscaling import GroupMember
from .aws.dynamodb import FleetTable
from .aws.metadata import InstanceMetadata
from .config import NodeConfig
from .model import Model
from .ports import FleetStore, Heartbeat, Lifecycle, UnavailableError
from .runtime import Runtime
from .work import patiently

LOOK_S = 5


def run(config: NodeConfig, runtime: Runtime) -> int:
    """Wait for the model's health and one answer, record the cold start, complete the launch hook. Returns 0; or 1,
    with the launch ABANDONed, if the boot deadline (counted from the boot) passes first."""
    instance_id = patiently(runtime, InstanceMetadata(runtime).instance_id)
    lifecycle = GroupMember(runtime.client("autoscaling"), config.groups, instance_id)
    model = Model(runtime, config.model.port, config.job_timeout_s)
    booted_at = runtime.booted_at()
    while not (model.healthy() and model.canary()):
        if runtime.now() - booted_at >= config.boot_deadline_s:
            _give_up(config, runtime, lifecycle)
            return 1
        runtime.sleep(LOOK_S)
    fleet = FleetTable(runtime.client("dynamodb"), config.jobs_table, config.fleet, instance_id)
    _record(config, runtime, fleet, booted_at)
    hooks.complete(runtime, lifecycle, config.launch_hook, "CONTINUE")
    return 0


def _record(config: NodeConfig, runtime: Runtime, fleet: FleetStore, booted_at: float) -> None:
    now = runtime.now()
    heartbeat = Heartbeat(
        at=now,
        state="ready",
        slots=config.model.slots,
        busy=0,
        completed=0,
        worked_s=0.0,
        cold_start_s=round(now - booted_at, 3),
        launched_at=round(booted_at, 3),
    )
    try:
        fleet.ready(heartbeat)
        runtime.log({"event": "ready", "cold_start_s": heartbeat.cold_start_s})
    except UnavailableError as problem:
        runtime.log({"event": "cold-start-not-recorded", "problem": str(problem)})


def _give_up(config: NodeConfig, runtime: Runtime, lifecycle: Lifecycle) -> None:
    """A box that cannot serve must not go on costing money: the group replaces it and counts the failed launch."""
    runtime.log({"event": "boot-deadline-passed", "seconds": config.boot_deadline_s})
    if hooks.complete(runtime, lifecycle, config.launch_hook, "ABANDON"):
        return
    try:
        lifecycle.terminate()
    except UnavailableError as problem:
        runtime.log({"event": "not-terminated", "problem": str(problem)})
        runtime.run(["systemctl", "poweroff"], 60)
