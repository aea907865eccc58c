"""`inference_worker ready`: tells the group that the model answers, or that it never will."""

from __future__ import annotations

from . import hooks
from .aws.autoscaling import GroupMember
from .aws.dynamodb import FleetTable
from .aws.metadata import InstanceMetadata
from .config import NodeConfig
from .model import Model
from .ports import FleetStore, Heartbeat, Lifecycle, Notices, UnavailableError
from .runtime import Runtime
from .work import patiently

LOOK_S = 5


def run(config: NodeConfig, runtime: Runtime) -> int:
    """Wait for the model's health and one answer, record the cold start, complete the launch hook. Returns 0; or 1,
    with the launch ABANDONed, if the boot deadline (counted from the boot) passes first, or if the group terminates
    this instance meanwhile: nobody else is there yet to tell it that there is nothing to wait for."""
    metadata = InstanceMetadata(runtime)
    instance_id = patiently(runtime, metadata.instance_id)
    lifecycle = GroupMember(runtime.client("autoscaling"), config.groups, instance_id)
    fleet = FleetTable(runtime.client("dynamodb"), config.jobs_table, config.fleet, instance_id)
    model = Model(runtime, config.model.port, config.job_timeout_s)
    booted_at = runtime.booted_at()
    told = False
    while not (model.healthy() and model.canary()):
        if runtime.now() - booted_at >= config.boot_deadline_s:
            _give_up(config, runtime, lifecycle)
            return 1
        if _leaving(metadata):
            hooks.complete(runtime, lifecycle, config.terminate_hook, "CONTINUE")
            return 1
        told = told or (_noticed(metadata) and _record(config, runtime, fleet, booted_at, noticed=True))
        runtime.sleep(LOOK_S)
    _record(config, runtime, fleet, booted_at)
    hooks.complete(runtime, lifecycle, config.launch_hook, "CONTINUE")
    return 0


def _noticed(notices: Notices) -> bool:
    """Whether the machine will be taken away (spot). The controller then does not count this boot as a failed one, and
    launches another at once."""
    try:
        return notices.reclaim_at() is not None
    except UnavailableError:
        return False


def _leaving(notices: Notices) -> bool:
    try:
        return notices.leaving()
    except UnavailableError:
        return False


def _record(
    config: NodeConfig, runtime: Runtime, fleet: FleetStore, booted_at: float, *, noticed: bool = False
) -> bool:
    """Writes the first heartbeat: ready after a cold start of so long, or leaving before it ever served."""
    now = runtime.now()
    heartbeat = Heartbeat(
        at=now,
        state="draining" if noticed else "ready",
        slots=config.model.slots,
        busy=0,
        completed=0,
        worked_s=0.0,
        cold_start_s=0.0 if noticed else round(now - booted_at, 3),
        launched_at=round(booted_at, 3),
    )
    try:
        fleet.ready(heartbeat)
    except UnavailableError as problem:
        runtime.log({"event": "first-heartbeat-not-written", "problem": str(problem)})
        return False
    runtime.log({"event": "spot-notice"} if noticed else {"event": "ready", "cold_start_s": heartbeat.cold_start_s})
    return True


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
