"""Stop: set the latch by hand. The guard carries it out at its next tick, and keeps the fleets at zero.

Only the latch changes here, as for a resume: whoever may write the control table may stop, and a stop that is cut in
the middle leaves nothing half done. The guard need not have run before: it finds the latch whenever it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from . import latch as latches
from .latch import FRESH_S, State, month_of

BY_HAND = "stopped by hand"
# While the guard lives: at its next tick (60 s) it drains, a drain that is not over in time is ended at most two ticks
# after its deadline (docs/budget.md, "The arithmetic").
TICKS_S = 180.0
# Without a guard a node leaves when its allowance ends, 600 s after the guard's last tick, drains, and has left 150 s
# after that (ALLOWANCE_S and LEAVING_S of the spend law).
WITHOUT_GUARD_S = 750.0


@dataclass(frozen=True)
class Stopped:
    """What a stop found. `already`: the fleet was stopped by hand before, and nothing was changed."""

    before: State
    already: bool


def stop(dynamodb: Any, control_table: str, by: str, at: float, why: str = "", waiting: int | None = None) -> Stopped:
    """Latch the stack as `manual`, which no new month lifts, and record who did it, when and why.

    A stop of the guard's own becomes a manual one. `dynamodb` a boto3 client, `at` unix seconds, `waiting` the jobs
    that wait, for the record. Raises `LatchError` if somebody else changed the latch meanwhile; nothing is changed
    then. Safe to repeat.
    """
    before = latches.read(dynamodb, control_table)
    was = before.latch
    if was.latched and was.reason == "manual":
        return Stopped(before, already=True)
    note = " ".join(why.split()) or BY_HAND
    moment = before.moment(at)
    after = replace(
        was,
        latched=True,
        reason="manual",
        generation=was.generation + 1,
        at=moment,
        by=by,
        month=month_of(moment),
        note=f"{note}; was {was.reason}: {was.note}" if was.latched else note,
    )
    latches.change(dynamodb, control_table, before, after, before.budget_usd if before.figures else None, waiting)
    return Stopped(before, already=False)


def gone_after_s(before: State, drain_s: float, at: float) -> float:
    """Seconds from `at` until nothing runs any more, at most; counted without the guard if it has fallen silent."""
    silent_s = before.silent_s(at)
    if silent_s <= FRESH_S:
        return drain_s + TICKS_S
    return max(0.0, WITHOUT_GUARD_S + drain_s - silent_s)
