"""The controller: fired every minute, it takes the lease and looks every 10 s until a newer run takes over.

A look reads the queue, the control rows, the groups and the heartbeats; the laws decide; the decision is carried out. A
look that fails is logged and the next one goes on; it never asks for more capacity. At rest (no message, no instance,
none asked for) the later looks of a run read the queue and the control rows only. A stopped fleet is looked at once a
run.

What the run knows is stored before anything is changed, when a boot has failed or succeeded, and once a minute: at the
look before the next run is due, so that it goes on from there. A run that is cut loses a minute of looks, two at most:
the jobs that arrived meanwhile then count as arrived when the next run looks. No count is lost: they are all running
totals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..scaling_law import Decision, State, decide
from . import runtime, store
from .act import Hands, Outcome, apply, lift_aws_own, resume
from .config import ControllerConfig, controller
from .members import Memory
from .metrics import put
from .observe import Sighting, look, read_queue

LOOK_S = 10.0
RUN_S = 120.0  # the next run starts within a minute, give or take; two minutes bridge one that was dropped
KEPT_LOOKS = 6  # what is known is stored at every sixth look
BLIND_LOOKS = 3  # a run that ends with so many failed looks in a row ends as an error, which raises the alarm
RESERVE_S = 15.0  # a look is not begun with less time than this before the function's timeout
# A guard's run that began before a resume may still suspend what it noted: Lambda ends it after a minute, and the
# clock that the resume was written by may differ. What is resumed, and its note removed, after that stays resumed.
LAST_STOP_S = 75.0
STALE_S = 20.0  # what was seen longer ago (calls hung and were repeated) is not acted on


class BlindError(RuntimeError):
    """The run could not see or act for its last looks; nothing was raised meanwhile."""


class StaleError(RuntimeError):
    """So much time has passed since the look began that it may no longer be acted on."""


class SupersededError(RuntimeError):
    """A newer run holds the lease; what was not done yet is its business."""


@dataclass
class Run:
    """One run of the function: its lease and what it has learned so far. ``fence``: 0 as long as it has no lease."""

    config: ControllerConfig
    fence: int = 0
    state: State = field(default_factory=State)
    memory: Memory = field(default_factory=Memory)
    boots: str = ""
    waiting: int = 0
    acted_at: float = 0.0  # when this run or the one before it last changed something
    free_at: float = 0.0  # from when on this run may change something
    at: float = 0.0  # of the present look
    claimed: bool = False  # at the present look
    outcome: Outcome = field(default_factory=Outcome)  # of the present look
    reason: str = ""
    logged: str = ""
    at_rest: bool = False
    reported: bool = False
    superseded: bool = False
    stored: tuple[store.Record, float] | None = None
    unsure: bool = False  # the last attempt to store failed, and may have come through all the same
    failed: int = 0  # looks in a row that failed

    def load(self, row: Mapping[str, Any]) -> None:
        """Goes on from what is stored."""
        self.state, self.memory = State.from_json(row.get("state")), Memory.from_json(row.get("seen"))
        self.unsure = False

    def save(self) -> bool:
        """Stores what the run knows, unless it just did; False if a newer run holds the lease."""
        seen = self.memory.to_json()
        record = store.Record(self.state.to_json(), seen, self.boots, self.waiting, self.state.completed, self.acted_at)
        if self.stored == (record, self.at):
            return True
        self.unsure = True
        kept = store.save(self.config.control_table, self.config.fleet, self.fence, record, self.at)
        self.unsure, self.stored = False, (record, self.at)
        return kept

    def claim(self) -> None:
        """Shows that the run may act: stores what it knows, once a look. Raises SupersededError or StaleError."""
        if runtime.now() - self.at > STALE_S:
            raise StaleError(f"seen {runtime.now() - self.at:.0f} s ago, limit {STALE_S:.0f} s: not acted on")
        if self.claimed:
            return
        self.acted_at = self.at
        if not self.save():
            raise SupersededError("a newer run took over before this one acted")
        self.claimed = True


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Entry point; answers the last reason. Raises BlindError when the last looks all failed."""
    run = Run(controller(runtime.environ))
    for service in ("autoscaling", "cloudwatch", "dynamodb", "sqs"):  # seconds, in a new environment: the run before
        runtime.client(service)  # goes on looking until the lease is taken
    began = runtime.now()
    looks, goes_on = 0, True
    while goes_on:
        goes_on = _look_safely(run)
        looks += 1
        pause = began + looks * LOOK_S - runtime.now()
        left = context.get_remaining_time_in_millis() / 1000 if context else RUN_S
        goes_on = goes_on and looks * LOOK_S < RUN_S and left >= max(0.0, pause) + RESERVE_S
        if looks % KEPT_LOOKS == 0 or not goes_on:
            _keep(run)
        if goes_on:
            runtime.sleep(max(0.0, pause))
    if run.failed >= BLIND_LOOKS:
        raise BlindError(f"{run.failed} looks in a row failed; {run.reason}")
    return {"statusCode": 200, "body": run.reason}


def _look_safely(run: Run) -> bool:
    """One look; False when the run is over. Whatever goes wrong is logged, and the next look goes on."""
    run.at, run.claimed, run.outcome = runtime.now(), False, Outcome()
    try:
        goes_on = _look(run)
        run.failed = 0
        return goes_on
    except SupersededError as error:
        run.superseded, run.reason = True, str(error)
        return False
    except Exception as error:
        run.failed += 1
        run.reason = f"look failed: {type(error).__name__}: {error}"
        what = {"reason": run.reason, "acts": run.outcome.acts, "refusals": run.outcome.refusals}
        runtime.log({"event": "look-failed", "fleet": run.config.fleet, "at": run.at, **what})
        return True


def _keep(run: Run) -> None:
    """Stores what the run knows, unless its last look failed: then its row must not look fresh."""
    if run.superseded or run.failed:
        return
    try:
        run.superseded = not run.save()
    except (ClientError, BotoCoreError) as error:
        runtime.log({"event": "not-stored", "fleet": run.config.fleet, "at": run.at, "reason": str(error)})


def _rows(run: Run) -> store.Rows:
    """The control rows of this look, the lease taken before the first one. Raises SupersededError."""
    table, fleet = run.config.control_table, run.config.fleet
    if not run.fence:
        lease = store.take_lease(table, fleet)
        run.load(lease.row)
        run.fence, run.acted_at = lease.fence, float(lease.row.get("acted_at", 0))
        # The run before may be in the middle of what it stored just now: this one looks on meanwhile.
        run.free_at = run.acted_at + LOOK_S if run.acted_at <= run.at else run.at
    rows = store.read_rows(table, fleet)
    if rows.fence != run.fence:
        raise SupersededError(f"a newer run took over (fence {rows.fence} > {run.fence})")
    if run.unsure:  # stored or not: what is there is what happened, so that nothing is overlooked or counted twice
        run.load(rows.own)
    run.boots = rows.boots
    return rows


def _look(run: Run) -> bool:
    config, at = run.config, run.at
    rows = _rows(run)
    queue = read_queue(config.queue_url)
    resumable = rows.suspended(config.groups.values())
    if run.at_rest and not (queue.waiting or queue.in_flight or rows.latched or resumable):
        return True
    hands = Hands(config, run.claim, run.outcome)
    stopping_s = _stopping_s(rows, at) if resumable else 0.0
    if resumable and not rows.latched and at >= run.free_at and not stopping_s:
        resume(hands, rows)
        run.reason = f"latch cleared: {'; '.join([*run.outcome.acts, *run.outcome.refusals])}"
        _log(run, {"generation": rows.generation})
        return True
    sighting = look(config, queue, run.memory, rows, at)
    decision, run.state = decide(sighting.observation, run.state, config.policy)
    run.memory, run.waiting = sighting.memory, decision.waiting
    run.at_rest = sighting.empty and decision.desired == 0
    if sighting.boots.to_json() != run.boots:
        run.boots = sighting.boots.to_json()
        if not run.save():
            raise SupersededError("a newer run took over before this one acted")
    if at < run.free_at:
        run.outcome.refusals.append(f"nothing changed: the run before acted {at - run.acted_at:.0f} s ago")
    elif stopping_s:
        run.outcome.refusals.append(f"nothing changed: a stop may still be under way for {stopping_s:.0f} s")
    elif not rows.latched and any(group.by_aws for group in sighting.groups.values()):
        lift_aws_own(hands, sighting.groups.values())
    elif not rows.latched:
        if sighting.replace:  # noted before it is done: a run that takes over in between must not take the next one
            run.memory = replace(run.memory, replaced_at=at, replaced=sighting.replace)
        apply(hands, decision, sighting, rows)
    run.reason = _reason(decision, rows, run.outcome)
    _log(run, _numbers(decision, sighting, run.outcome), acted=bool(run.outcome.acts))
    _report(run, decision, sighting)
    return not rows.latched


def _stopping_s(rows: store.Rows, at: float) -> float:
    """For how long a stop that began before the latch was cleared may still go on; 0 if it is over, or is wanted."""
    left = rows.latch_at + LAST_STOP_S - at
    return left if not rows.latched and 0 < left <= 2 * LAST_STOP_S else 0.0  # more: written by a clock that is wrong


def _reason(decision: Decision, rows: store.Rows, outcome: Outcome) -> str:
    if rows.latched:
        return f"stopped ({rows.latch.get('reason')}): {decision.waiting} waiting, latch generation {rows.generation}"
    return "; ".join([decision.reason, *outcome.refusals])


def _numbers(decision: Decision, sighting: Sighting, outcome: Outcome) -> dict[str, Any]:
    desired = {pool: group.desired for pool, group in sighting.groups.items()}
    return {
        "waiting": decision.waiting,
        "in_flight": sighting.queue.in_flight,
        "busy": decision.busy,
        "ready": decision.ready,
        "booting": decision.booting,
        "draining": decision.draining,
        "desired": decision.desired,
        "desired_spot": decision.spot,
        "desired_on_demand": decision.on_demand,
        "group_desired_spot": desired.get("spot"),
        "group_desired_on_demand": desired.get("on-demand"),
        "floor": decision.floor,
        "service_s": decision.service_s,
        "cold_start_s": decision.cold_start_s,
        "drain": list(decision.drain),
        "sick": dict(sighting.sick),
        "failed_boots": sighting.boots.failures,
        "acts": outcome.acts,
        "refusals": outcome.refusals,
    }


def _log(run: Run, numbers: dict[str, Any], acted: bool = True) -> None:
    """One line per decision; of looks that change nothing only the first of a run and each new kind of reason."""
    kind = re.sub(r"[\d.]+", "#", run.reason)
    if not acted and kind == run.logged:
        return
    run.logged = kind
    head = {"event": "decision", "fleet": run.config.fleet, "at": run.at, "reason": run.reason, "fence": run.fence}
    runtime.log({**head, **numbers, "dry_run": run.config.dry_run})


def _report(run: Run, decision: Decision, sighting: Sighting) -> None:
    """The metrics, once a run. ``StalledSeconds``: how long jobs have waited beside ready instances without any being
    served."""
    if run.reported:
        return
    run.reported = True
    stalled = decision.waiting and decision.ready and run.state.progress_at is not None
    values = {
        "Waiting": decision.waiting,
        "StalledSeconds": run.at - run.state.progress_at if stalled and run.state.progress_at is not None else 0.0,
        "FailedBoots": sighting.boots.failures,
    }
    try:
        put(run.config.metric_namespace, "Fleet", run.config.fleet, values)
    except (ClientError, BotoCoreError) as error:  # what was decided stands; only its picture has a gap
        runtime.log({"event": "metrics-failed", "fleet": run.config.fleet, "at": run.at, "reason": str(error)})
