"""The controller: fired every minute, it takes the lease and looks every 10 s until a newer run takes over.

A look reads the queue, the control rows, the groups and the heartbeats; the scaling law decides; the decision is
carried out. A look that fails is logged and the next one goes on; it never asks for more capacity. At rest (no message,
no instance, none asked for) the later looks of a run read the queue and the control rows only. A stopped fleet is
looked at once a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..scaling_law import Decision, decide
from ..scaling_types import State
from . import runtime, store
from .act import Outcome, apply, resume
from .config import ControllerConfig, controller
from .metrics import put
from .observe import Sighting, look, read_queue

LOOK_S = 10.0
RUN_S = 120.0  # the next run starts within a minute, give or take; two minutes bridge one that was dropped
BLIND_LOOKS = 3  # a run that ends with so many failed looks in a row ends as an error, which raises the alarm
RESERVE_S = 15.0  # a look is not begun with less time than this before the function's timeout


class BlindError(RuntimeError):
    """The run could not see or act for its last looks; nothing was raised meanwhile."""


@dataclass
class Run:
    """One run of the function: its lease and what it has learned so far."""

    config: ControllerConfig
    fence: int
    state: State
    seen: dict[str, Any]
    saved: str = ""
    reason: str = ""
    logged: str = ""
    at_rest: bool = False
    reported: bool = False
    failed: int = 0  # looks in a row that failed


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Entry point; answers the last reason. Raises BlindError when the last looks all failed."""
    config = controller(runtime.environ)
    lease = store.take_lease(config.control_table, config.fleet)
    run = Run(config, lease.fence, State.from_json(lease.state), dict(lease.seen))
    began = runtime.now()
    looks = 0
    while _look_safely(run):
        looks += 1
        pause = began + looks * LOOK_S - runtime.now()
        left = context.get_remaining_time_in_millis() / 1000 if context else RUN_S
        if looks * LOOK_S >= RUN_S or left < max(0.0, pause) + RESERVE_S:
            break
        runtime.sleep(max(0.0, pause))
    if run.failed >= BLIND_LOOKS:
        raise BlindError(f"{run.failed} looks in a row failed; {run.reason}")
    return {"statusCode": 200, "body": run.reason}


def _look_safely(run: Run) -> bool:
    """One look; False when the run is over. Whatever goes wrong is logged, and the next look goes on."""
    try:
        goes_on = _look(run)
        run.failed = 0
        return goes_on
    except Exception as error:
        run.failed += 1
        run.reason = f"look failed: {type(error).__name__}: {error}"
        runtime.log({"event": "look-failed", "fleet": run.config.fleet, "at": runtime.now(), "reason": run.reason})
        return True


def _look(run: Run) -> bool:
    config, at = run.config, runtime.now()
    rows = store.read_rows(config.control_table, config.fleet)
    if rows.fence != run.fence:
        run.reason = f"a newer run took over (fence {rows.fence} > {run.fence})"
        return False
    queue = read_queue(config.queue_url)
    if (
        run.at_rest
        and not queue.waiting
        and not queue.in_flight
        and not rows.latched
        and not rows.latch.get("suspended")
    ):
        return True
    if not rows.latched and rows.suspended(config.groups.values()):
        run.reason = f"latch cleared: {'; '.join(resume(config, rows))}"
        _log(run, at, {"generation": rows.generation})
        return True
    sighting = look(config, queue, run.seen, at)
    decision, run.state = decide(sighting.observation, run.state, config.policy)
    run.seen = dict(sighting.seen)
    run.at_rest = sighting.empty and decision.desired == 0
    if not _save(run, decision, at):
        run.reason = "a newer run took over before this one acted"
        return False
    outcome = Outcome() if rows.latched else apply(config, decision, sighting, rows)
    run.reason = _reason(decision, rows, outcome)
    _log(run, at, _numbers(decision, sighting, outcome), acted=bool(outcome.acts))
    _report(run, decision, at)
    return not rows.latched


def _save(run: Run, decision: Decision, at: float) -> bool:
    """Stores the state before it is acted on; True while this run holds the lease. At rest it is stored once a run."""
    text = run.state.to_json()
    if run.at_rest and run.saved == "rest":
        return True
    run.saved = "rest" if run.at_rest else text
    config = run.config
    return store.save(config.control_table, config.fleet, run.fence, text, run.seen, decision.waiting, at)


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
        "acts": outcome.acts,
        "refusals": outcome.refusals,
    }


def _log(run: Run, at: float, numbers: dict[str, Any], acted: bool = True) -> None:
    """One line per decision; of looks that change nothing only the first of a run and each new kind of reason."""
    kind = re.sub(r"[\d.]+", "#", run.reason)
    if not acted and kind == run.logged:
        return
    run.logged = kind
    head = {"event": "decision", "fleet": run.config.fleet, "at": at, "reason": run.reason, "fence": run.fence}
    runtime.log({**head, **numbers, "dry_run": run.config.dry_run})


def _report(run: Run, decision: Decision, at: float) -> None:
    """The six metrics, once a run. ``StalledSeconds``: how long jobs have waited beside ready instances without any
    being served."""
    if run.reported:
        return
    run.reported = True
    stalled = decision.waiting and decision.ready and run.state.progress_at is not None
    values = {
        "Waiting": decision.waiting,
        "Busy": decision.busy,
        "Ready": decision.ready,
        "Booting": decision.booting,
        "Desired": decision.desired,
        "StalledSeconds": at - run.state.progress_at if stalled and run.state.progress_at is not None else 0.0,
    }
    try:
        put(run.config.metric_namespace, "Fleet", run.config.fleet, values)
    except (ClientError, BotoCoreError) as error:  # what was decided stands; only its picture has a gap
        runtime.log({"event": "metrics-failed", "fleet": run.config.fleet, "at": at, "reason": str(error)})
