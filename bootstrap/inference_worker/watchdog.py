"""`inference_worker watchdog`: a node that may not stay, or that nobody attends, drains and terminates itself.

It may not stay without a valid allowance: this is what stops the fleet when the guard is dead, for nobody has to reach
the node. And it does not stay idle when nobody would send it home: when the guard says that the controller is silent.
"""

from __future__ import annotations

from . import hooks
from .aws.autoscaling import GroupMember
from .aws.dynamodb import FleetTable
from .aws.metadata import InstanceMetadata
from .config import NodeConfig
from .ports import Allowance, FleetStore, Heartbeat, UnavailableError
from .runtime import Runtime

LOOK_S = 30
# An allowance lasts ten minutes: one that could not be read for that long may have been withdrawn, so it has.
UNREADABLE_S = 600
SILENT_S = 600  # a controller that lives is heard every three minutes at the least
IDLE_S = 600  # a controller that was away for a while finds the node still there
FRESH_S = 180  # the guard writes its row every minute, the worker its heartbeat every ten seconds
# Before the end of the allowance: so that a drain, begun up to a look late, and the terminate call after it are over
# within the drain time beyond that end (fleet_control.aws.scale_to_zero cuts an allowance with it in mind).
LEAVE_EARLY_S = 75
STOP_MARGIN_S = 120  # what systemd may take beyond the drain itself (see the worker's TimeoutStopSec)
POWEROFF_AFTER = 10  # refused terminations, about eight minutes: then the machine at least stops costing


def run(config: NodeConfig, runtime: Runtime) -> int:
    """Look at the allowance every 30 s until it is over, or until this node is idle and unattended; then drain the
    worker and terminate this instance. Returns 0 once that is done, or at once if the fleet has no allowance."""
    if not config.allowance:
        return 0
    fleet, idle = _fleet(config, runtime), Idleness(config, runtime)
    over_at = runtime.now() + UNREADABLE_S
    while True:
        row = _allowance(runtime, fleet)
        if row is not None:
            over_at = min(row.until - LEAVE_EARLY_S, runtime.now() + UNREADABLE_S)
        if runtime.now() >= over_at:
            runtime.log({"event": "allowance-over", "read": row is not None})
            break
        if idle.too_long(row):
            runtime.log({"event": "unattended", "idle_s": IDLE_S})
            break
        runtime.sleep(LOOK_S)
    _leave(config, runtime)
    return 0


def admit(config: NodeConfig, runtime: Runtime) -> int:
    """One look before anything else starts: without a valid allowance the node leaves before it downloads weights. A
    row that cannot be read does not hold the boot up: `run` looks again."""
    if not config.allowance:
        return 0
    row = _allowance(runtime, _fleet(config, runtime))
    return run(config, runtime) if row is not None and runtime.now() >= row.until - LEAVE_EARLY_S else 0


class Idleness:
    """How long this node has had no job while its controller was silent, as far as rows say so: one that could not be
    read, or is old, or is not there, begins the count anew."""

    def __init__(self, config: NodeConfig, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._since: float | None = None
        self._completed = 0

    def too_long(self, row: Allowance | None) -> bool:
        """Whether that has been so for ten minutes. `row`: the allowance as it was just read."""
        now = self._runtime.now()
        beat = self._heartbeat() if row is not None and _silent(row, now) else None
        if beat is None or beat.busy or now - beat.at > FRESH_S:
            self._since = None
            return False
        if self._since is None or beat.completed != self._completed:
            self._since, self._completed = now, beat.completed
        return now - self._since >= IDLE_S

    def _heartbeat(self) -> Heartbeat | None:
        runtime, config = self._runtime, self._config
        try:
            instance_id = InstanceMetadata(runtime).instance_id()
            return FleetTable(runtime.client("dynamodb"), config.jobs_table, config.fleet, instance_id).last()
        except UnavailableError as problem:
            runtime.log({"event": "heartbeat-unreadable", "problem": str(problem)})
            return None


def _silent(row: Allowance, now: float) -> bool:
    """Whether a guard that speaks has not heard the controller. One that was never heard is not missed."""
    return row.controller_at is not None and now - row.at <= FRESH_S and row.at - row.controller_at > SILENT_S


def _fleet(config: NodeConfig, runtime: Runtime) -> FleetTable:
    """The fleet's rows; not one of this instance's own: who it is may be as unreadable as anything else."""
    return FleetTable(runtime.client("dynamodb"), config.jobs_table, config.fleet, instance_id="")


def _allowance(runtime: Runtime, fleet: FleetStore) -> Allowance | None:
    """The allowance (over since ever if it was never granted); None if it cannot be read."""
    try:
        return fleet.allowance() or Allowance(until=0.0)
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
