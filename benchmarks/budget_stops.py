"""How long each stop took, from what the guard wrote down and from the machines' own history. Pure arithmetic.

*Crossing* is when the law's sum, spent + committed, reaches the budget. While the guard lives it is seen once a minute:
the moment is taken on the straight line between the last tick that was under the budget and the tick that tripped. If
the guard was dead or blind meanwhile (no complete tick for longer than `LIVING_S`), the crossing may have come right
after its last complete tick, so that tick counts as the crossing: no true crossing leaves more time than that. A budget
that an edit lowered below the sum is crossed at the edit.

*Nothing running* is when the last instance is terminated: later than the end of its bill, which is the beginning of its
shutting down. Unix seconds, durations in seconds, dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LIVING_S = 125.0  # two ticks a minute apart, and their jitter: one tick may be dropped
ALLOWANCE_S = 600.0  # the promise's own number: nodes may run so long without hearing from the guard
TICKS_S = 180.0  # the promise for a living guard: the drain and three minutes
SUSPENDED_S = 30.0  # the run that trips suspends the launches within seconds; what was launched until then must go, too


@dataclass(frozen=True)
class Tick:
    """One run of the guard. `sum_usd`: spent + committed, None if it could not see (then it is no complete tick)."""

    at: float
    sum_usd: float | None
    latched: bool
    reason: str = ""


@dataclass(frozen=True)
class Life:
    """One instance: from launch until it was terminated (None: not yet)."""

    launched_at: float
    gone_at: float | None


@dataclass(frozen=True)
class Stop:
    """One stop. `seconds`: crossing to nothing running, infinite if something never went; `limit_s`: as promised.
    `latched`: False if nodes left by themselves under a dead guard. `launched`: instances launched while it held."""

    crossing_at: float
    tripped_at: float
    living: bool
    latched: bool
    instances: int
    seconds: float
    limit_s: float
    until: float
    launched: int
    reason: str = ""


def stops(
    ticks: Sequence[Tick], lives: Sequence[Life], budgets: Sequence[tuple[float, float]], drain_s: float
) -> list[Stop]:
    """Every stop in the ticks, in order: each time the latch was set, and each silence of the guard that outlasts the
    allowance. `budgets`: (since, dollars), ascending."""
    ordered = sorted(ticks, key=lambda tick: tick.at)
    found = [_trip(before, after, ordered, lives, budgets, drain_s) for before, after in _trips(ordered)]
    trips = {stop.tripped_at for stop in found}
    complete = [tick for tick in ordered if tick.sum_usd is not None]
    for before, after in pairwise(complete):
        if after.at - before.at >= ALLOWANCE_S and not before.latched and after.at not in trips:
            stop = _stop(before.at, after.at, lives, drain_s, after.at, latched=False, living=False)
            found += [stop] if stop.instances else []
    return sorted(found, key=lambda stop: stop.crossing_at)


def _trips(ticks: Sequence[Tick]) -> list[tuple[Tick, Tick]]:
    """(last complete tick before, tick that set the latch) of each trip."""
    found, before = [], None
    for earlier, tick in pairwise(ticks):
        before = earlier if earlier.sum_usd is not None and not earlier.latched else before
        if tick.latched and not earlier.latched and before is not None:
            found.append((before, tick))
    return found


def _trip(
    before: Tick,
    after: Tick,
    ticks: Sequence[Tick],
    lives: Sequence[Life],
    budgets: Sequence[tuple[float, float]],
    drain_s: float,
) -> Stop:
    living = after.at - before.at <= LIVING_S
    crossing = _crossing(before, after, budgets) if living else before.at
    until = next((tick.at for tick in ticks if tick.at > after.at and not tick.latched), math.inf)
    return _stop(crossing, after.at, lives, drain_s, until, latched=True, living=living, reason=after.reason)


def _crossing(before: Tick, after: Tick, budgets: Sequence[tuple[float, float]]) -> float:
    since, budget = [entry for entry in budgets if entry[0] <= after.at][-1]
    low, high = before.sum_usd or 0.0, after.sum_usd
    if high is None or high < budget:  # exhausted, or blind: only the tick itself is known
        return after.at
    if low >= budget or high <= low:
        return max(before.at, since)
    return max(since, before.at + (budget - low) / (high - low) * (after.at - before.at))


def _stop(
    crossing: float,
    tripped: float,
    lives: Sequence[Life],
    drain_s: float,
    until: float,
    *,
    latched: bool,
    living: bool,
    reason: str = "",
) -> Stop:
    """`until`: when the stop was over, by resume or by the guard's return."""
    held = tripped if latched else crossing + ALLOWANCE_S
    last = tripped + SUSPENDED_S if latched else crossing
    mine = [one for one in lives if one.launched_at <= last and (one.gone_at is None or one.gone_at > crossing)]
    gone = [math.inf if one.gone_at is None else one.gone_at for one in mine]
    return Stop(
        crossing_at=crossing,
        tripped_at=tripped,
        living=living,
        latched=latched,
        instances=len(mine),
        seconds=max(gone, default=crossing) - crossing,
        limit_s=drain_s + (TICKS_S if living else ALLOWANCE_S),
        until=until,
        launched=sum(held + SUSPENDED_S < one.launched_at < until for one in lives),
        reason=reason,
    )
