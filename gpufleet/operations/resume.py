"""Resume: clear the latch of a stopped stack, if the spend law would not trip again at once.

Only the latch changes here. The controller then lifts what the guard suspended, and launches for what waits; so a
resume by somebody without rights on the groups, or one that is cut in the middle, leaves nothing half done.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from . import latch as latches
from .latch import FRESH_S, LatchError, State, month_of

__all__ = ["FRESH_S", "ResumeError", "check", "clear", "resume"]


class ResumeError(LatchError):
    """The fleet stays stopped: why, and what to do about it."""


def resume(
    dynamodb: Any, control_table: str, by: str, at: float, extra_usd: float = 0.0, waiting: int | None = None
) -> State:
    """Read the latch and clear it (see `clear`). Answers what was stored before."""
    before = latches.read(dynamodb, control_table)
    clear(dynamodb, control_table, before, by=by, at=at, extra_usd=extra_usd, waiting=waiting)
    return before


def clear(
    dynamodb: Any,
    control_table: str,
    before: State,
    *,
    by: str,
    at: float,
    extra_usd: float = 0.0,
    waiting: int | None = None,
) -> float:
    """Clear the latch that was read as `before`, and record who did it and when. Answers the month's budget, with what
    is allowed on top.

    `dynamodb` a boto3 client, `at` unix seconds, `waiting` the jobs that wait, for the record. `extra_usd`: dollars
    allowed on top of the budget of this month, beside what was allowed before. Raises `ResumeError` when the law
    forbids it or when somebody else changed the latch meanwhile; nothing is changed then. Safe to repeat: what is not
    stopped is refused, so dollars are never allowed twice.
    """
    budget_usd = check(before, at, extra_usd)
    month, was = before.known.month, before.latch
    extra_month = month if extra_usd else was.extra_month
    total = was.allowed_usd(month) + extra_usd if extra_usd else was.extra_usd
    allowed = f"; ${extra_usd:.2f} more allowed in {month}, ${total:.2f} in all" if extra_usd else ""
    after = replace(
        was,
        latched=False,
        reason="",
        generation=was.generation + 1,
        at=before.moment(at),
        by=by,
        month=month,
        note=f"resumed by {by}; was {was.reason}: {was.note}{allowed}",
        extra_usd=total,
        extra_month=extra_month,
    )
    try:
        latches.change(dynamodb, control_table, before, after, budget_usd, waiting)
    except LatchError as error:
        raise ResumeError(str(error)) from None
    return budget_usd


def check(before: State, at: float, extra_usd: float = 0.0) -> float:
    """The month's budget in dollars, `extra_usd` on top of it included.

    Raises `ResumeError` unless the fleet is stopped and, by the guard's fresh figures, may run again on that budget.
    """
    if not before.latch.latched:
        raise ResumeError("nothing to resume: the fleet is not stopped")
    try:
        figures = before.known
    except LatchError as error:
        raise ResumeError(str(error)) from None
    if before.silent_s(at) > FRESH_S:
        raise ResumeError(
            f"the guard's figures are {before.silent_s(at):.0f} s old: without a living guard nothing may launch; "
            "look at its log group and its alarm first"
        )
    if figures.month != month_of(before.moment(at)):
        raise ResumeError(
            f"the guard's figures are still those of {figures.month}: a new month has just begun; look again in a "
            "minute"
        )
    _check_extra(before, extra_usd)
    budget_usd = before.budget_usd + extra_usd
    sums = f"{before.sums} + ${extra_usd:.2f} more" if extra_usd else before.sums
    stopping_usd = figures.spent_usd + figures.committed_usd
    if stopping_usd >= budget_usd:
        raise ResumeError(f"it would trip again at once: {sums}. {_way_out(before)}")
    if stopping_usd + figures.launch_usd > budget_usd:
        raise ResumeError(
            f"no launch fits any more: {sums}, and one launch may cost ${figures.launch_usd:.2f}. {_way_out(before)}"
        )
    return budget_usd


def _check_extra(before: State, extra_usd: float) -> None:
    if extra_usd < 0 or not math.isfinite(extra_usd):
        raise ResumeError(f"${extra_usd} cannot be allowed: say how many dollars, for example 20")
    month, monthly_usd = before.known.month, before.known.monthly_usd
    room = _room(before)
    if extra_usd > room:
        raise ResumeError(
            f"${extra_usd:.2f} is too much: what is allowed on top may at most double the budget of "
            f"${monthly_usd:.2f}, so ${room:.2f} can still be allowed in {month}. For more raise monthlyBudgetUsd in "
            "the stack file"
        )


def _room(before: State) -> float:
    """What may still be allowed this month. More than the budget itself is no exception but another budget: that
    belongs into the stack file, where it is reviewed."""
    return max(0.0, before.known.monthly_usd - before.latch.allowed_usd(before.known.month))


def _way_out(before: State) -> str:
    figures = before.known
    needed = figures.spent_usd + figures.committed_usd + figures.launch_usd - before.budget_usd
    least = math.floor(needed * 100 + 1) / 100  # whole cents, and one for the guard's rounding
    extra = (
        f"Allow ${least:.2f} or more on top for {figures.month} with --allow-extra-usd, or raise"
        if least <= _room(before)
        else "Raise"
    )
    return (
        f"{extra} monthlyBudgetUsd in the stack file, `pulumi up`, wait a minute for the guard, then resume; or wait "
        "for the new month"
    )
