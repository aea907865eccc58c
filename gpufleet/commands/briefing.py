"""What a stack looks like, in a line each, for whoever has to decide: stopped or not, money, what runs, what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import duration_text, time_text
from .target import Target

if TYPE_CHECKING:
    from gpufleet.operations.latch import State
    from gpufleet.operations.sight import Accounts

SHOWN = 4  # ids that fit into a line; a count says the rest


def state_line(state: State, at: float) -> str:
    """Whether it is stopped: why, since when, by whom."""
    latch = state.latch
    if not latch.generation and not latch.latched:
        return "not stopped, and never was"
    since = f"since {time_text(latch.at)} ({duration_text(max(0.0, at - latch.at))} ago), by {latch.by or 'nobody'}"
    if latch.latched:
        return f"stopped ({latch.reason}) {since}: {latch.note}"
    return f"not stopped {since}: {latch.note}"


def money_line(state: State, accounts: Accounts, at: float) -> str:
    """The month by the guard's figures, and what the stop has cost so far."""
    if state.figures is None:
        return "cost: not known, the guard has not written any figures yet"
    since = ""
    if state.latch.latched:
        known = accounts.since_stop_usd
        since = "; since the stop: not known" if known is None else f"; since the stop: ${known:.2f}"
    old = f" (figures {duration_text(state.silent_s(at))} old)"
    return f"cost of {state.figures.month}: {state.sums}{since}{old}"


def runs_line(accounts: Accounts) -> str:
    """What the guard charged at its last tick."""
    ids = accounts.running
    if ids is None:
        return "runs: not known, the guard has charged nothing yet"
    if not ids:
        return "runs: nothing"
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"runs: {_count(len(ids), 'instance')}, {', '.join(ids[:SHOWN])}{more}"


def waits_line(found: Target, at: float) -> tuple[str, int | None]:
    """What waits in the queue, and the number of jobs; None if the queue cannot be read."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loads when a command runs

    from gpufleet.operations import sight  # noqa: PLC0415

    try:
        seen = sight.waiting(found.impatient("sqs"), found.impatient("cloudwatch"), found.names.queue, at)
    except (ClientError, BotoCoreError) as error:
        return f"waits: not known, the queue {found.names.queue} cannot be read ({error})", None
    age = "" if seen.oldest_s is None else f", the oldest for {duration_text(seen.oldest_s)}"
    held = f"; {seen.in_flight} more in flight" if seen.in_flight else ""
    return f"waits: {_count(seen.jobs, 'job')}{age}{held}", seen.jobs


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
