"""`inference_worker watchdog`: a node without a valid allowance drains and terminates itself.

This is what stops the fleet when the guard is dead: nobody has to reach the node for it to go.
"""

from __future__ import annotations

from . import hooks
from .aws.autoscaling import GroupMember
from .aws.dynamodb import FleetTable
from .aws.metadata import InstanceMetadata
from .config import NodeConfig
from .ports import FleetStore, UnavailableError
from .runtime import Runtime

LOOK_S = 30
# An allowance lasts ten minutes: one that could not be read for that long may have been withdrawn, so it has.
UNREADABLE_S = 600
STOP_MARGIN_S = 120  # what systemd may take beyond the drain itself (see the worker's TimeoutStopSec)
POWEROFF_AFTER = 10  # refused terminations, about eight minutes: then the machine at least stops costing


def run(config: NodeConfig, runtime: Runtime) -> int:
    """Look at the allowance every 30 s until it is over; then drain the worker and terminate this instance. Returns 0
    once that is done, or at once if the fleet has no allowance."""
    if not config.allowance:
        return 0
    fleet = _fleet(config, runtime)
    over_at = runtime.now() + UNREADABLE_S
    while True:
        until = _until(runtime, fleet)
        if until is not None:
            over_at = min(until, runtime.now() + UNREADABLE_S)
        if runtime.now() >= over_at:
            break
        runtime.sleep(LOOK_S)
    runtime.log({"event": "allowance-over", "read": until is not None})
    _leave(config, runtime)
    return 0


def admit(config: NodeConfig, runtime: Runtime) -> int:
    """One look before anything else starts: without a valid allowance the node leaves before it downloads weights. A
    row that cannot be read does not hold the boot up: `run` looks again."""
    if not config.allowance:
        return 0
    until = _until(runtime, _fleet(config, runtime))
    return run(config, runtime) if until is not None and runtime.now() >= until else 0


def _fleet(config: NodeConfig, runtime: Runtime) -> FleetTable:
    """The fleet's rows; not one of this instance's own: who it is may be as unreadable as anything else."""
    return FleetTable(runtime.client("dynamodb"), config.jobs_table, config.fleet, instance_id="")


def _until(runtime: Runtime, fleet: FleetStore) -> float | None:
    """Until when the allowance holds (0: it was never granted); None if it cannot be read."""
    try:
        return fleet.allowance() or 0.0
    except UnavailableError as problem:
        runtime.log({"event": "allowance-unreadable", "problem": str(problem)})
        return None


def _leave(config: NodeConfig, runtime: Runtime) -> None:
    # The worker drains when systemd stops it; this returns when it has, or when its time is up.
    runtime.run(["systemctl", "stop", "worker.service"], config.drain_s + STOP_MARGIN_S)
    pause, refused = 5.0, 0
    while True:
        try:
            instance_id = InstanceMetadata(runtime).instance_id()
            member = GroupMember(runtime.client("autoscaling"), config.groups, instance_id)
            member.terminate()
            break
        except UnavailableError as problem:
            refused += 1
            runtime.log({"event": "not-terminated", "times": refused, "problem": str(problem)})
        if refused == POWEROFF_AFTER:
            runtime.run(["systemctl", "poweroff"], 60)
        runtime.sleep(pause)
        pause = min(60.0, pause * 2)
    # The worker is gone, so nobody else tells the group that there is nothing left to wait for.
    hooks.complete(runtime, member, config.terminate_hook, "CONTINUE")
