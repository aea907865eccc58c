"""What the fleet has cost, what it still costs to stop it, and when to stop. Pure: no clock, no I/O, no randomness.

The law in a page
-----------------
*Meter* (`spend_meter`). Every tick charges each instance its running seconds since it was last charged, at the price of
its type (`spend_prices`: spot at its spot price when known, else on-demand; an unknown type at the dearest price), with
its disk, at least 60 s per instance, and an estimate per boot and per completed job. The estimates of boots give way to
what the NAT gateway has counted. Reserved capacity is charged at the on-demand price all the time, whether anything
runs in it or not; an instance inside it adds its disk and its boot alone. What is stored per instance is the moment up
to which it is paid, so ticks may come late, twice, or not at all: nothing is charged twice and no running second is
lost. An instance that has vanished is charged up to its end if anybody remembers it, else up to now. What is paid
whatever runs accrues by the hour. Time is split at midnight UTC of the first of the month; each month has a ledger of
its own. While EC2 does not say what spot costs, what runs as spot waits to be paid, and counts as spent at the
on-demand price. Other sources (AWS Budgets, Cost Explorer) can only raise the ledger.

*Committed.* If everything were stopped now, each running instance would still cost its drain, the rest of the allowance
its node may run on without hearing from the guard, and the time it takes to leave, at the on-demand price even for
spot. Until the stop its group replaces what fails or is taken from it, unasked, while the other may still drain, and
nobody knows by which type: so as much again at the dearest price, and a boot. An instance that was asked for and is
still owed costs as much, and its own boot. The fixed costs and the reserved capacity of the rest of the month cannot be
stopped.

*Trip* when spent + committed >= budget: then the month ends at or under the budget. A launch is admitted only while
the worst it can cost (boot and one job, then all of the above) fits under what is left. When jobs wait, nothing runs
and no launch fits any more, the fleet is *exhausted*: it is latched as well, so that people are told and the wait is
explained.

*Latch.* A trip stays until somebody resumes, or a new month begins (unless that is switched off); a manual stop is
never lifted by the law. Whoever resumes may allow dollars on top of the month's budget. Every change counts the
generation up, so that a late run cannot undo a newer decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .spend_ledger import Ledger, month_bounds, month_of
from .spend_prices import Prices, Running, inside

ALLOWANCE_S = 600.0  # nodes may run this long without hearing from the guard
# From the end of a drain to the end of the instance: systemd stops a worker 110 s late at most, then the node's
# terminate call, its hook and EC2 take their time.
LEAVING_S = 150.0
BOOT_AND_JOB_S = 600.0  # a launch is worth it only if it can boot (240 s by default) and serve a job of some minutes


def stop_s(drain_s: float) -> float:
    """Seconds from the decision to stop an instance to its end, at most: drain, rest of the allowance, leaving."""
    return drain_s + ALLOWANCE_S + LEAVING_S


def committed_usd(
    instances: Iterable[Running], owed: Iterable[tuple[int, float, float]], prices: Prices, at: float
) -> float:
    """Dollars that stopping everything at ``at`` still costs. ``owed``: (instances, drain seconds, disk $/h) per
    fleet.
    """
    _, end = month_bounds(month_of(at))
    live = [one for one in instances if one.ended_at is None]
    reserved = inside(live, prices)
    running = 0.0
    for one in live:
        own = one.disk_usd_per_hour if one.id in reserved else prices.stopping(one)
        successor = max(prices.stopping(one), prices.launching + one.disk_usd_per_hour)
        running += (own + successor) * stop_s(one.drain_s) / 3600 + prices.per_boot
    coming = sum(max(0, number) * 2 * _launched_usd(prices, drain_s, disk) for number, drain_s, disk in owed)
    rest_of_month = (prices.fixed_per_hour + prices.reserved_per_hour) * (end - at) / 3600
    return running + coming + rest_of_month


def _launched_usd(prices: Prices, drain_s: float, disk_usd_per_hour: float) -> float:
    """What an instance costs that is launched now and stopped at once: it may be of the dearest type."""
    return prices.per_boot + (prices.launching + disk_usd_per_hour) * stop_s(drain_s) / 3600


def launch_usd(prices: Prices, drain_s: float, disk_usd_per_hour: float) -> float:
    """The worst one more launch can cost: boot and one job at the dearest price, then what stopping it costs."""
    boot_and_job = (prices.launching + disk_usd_per_hour) * BOOT_AND_JOB_S / 3600
    return boot_and_job + 2 * _launched_usd(prices, drain_s, disk_usd_per_hour)


def headroom_usd(spent: float, committed: float, budget: float) -> float:
    """What is left for launches; 0 when spent + committed reach the budget. Anything that is no number counts as
    over.
    """
    left = budget - spent - committed
    return left if left > 0 else 0.0


def must_warn(ledger: Ledger, budget: float, percent: float) -> bool:
    """Whether the warning of this month is due: spent has reached ``percent`` of the budget and nobody was told yet."""
    return not ledger.warned and ledger.spent_usd >= budget * percent / 100


@dataclass(frozen=True)
class Latch:
    """The stored fact that the fleet is stopped. ``reason``: budget, exhausted or manual; ``month``: of the trip.

    ``extra_usd``: dollars that somebody allowed on top of the budget of ``extra_month`` when resuming.
    """

    latched: bool = False
    reason: str = ""
    generation: int = 0
    at: float = 0.0
    by: str = ""
    month: str = ""
    note: str = ""
    extra_usd: float = 0.0
    extra_month: str = ""


def budget_usd(monthly_usd: float, latch: Latch, at: float) -> float:
    """The budget of the month of ``at``: the stack's, and what was allowed on top for this very month."""
    return monthly_usd + (latch.extra_usd if latch.extra_month == month_of(at) else 0.0)


@dataclass(frozen=True)
class Situation:
    """What the latch is judged on. ``waiting``: jobs that wait (None: not known). ``instances``: running or owed."""

    at: float
    spent: float
    committed: float
    budget: float
    launch: float
    waiting: int | None
    instances: int
    resume_on_new_month: bool


def judge(latch: Latch, now: Situation) -> tuple[Latch, str]:
    """The latch after this tick, and why, with numbers. A changed latch has the next generation."""
    sums = f"${now.spent:.2f} spent + ${now.committed:.2f} committed"
    over = not now.spent + now.committed < now.budget
    month = month_of(now.at)
    if latch.latched:
        if latch.reason == "manual" or not now.resume_on_new_month or month == latch.month or over:
            return latch, f"stopped ({latch.reason}): {sums}, budget ${now.budget:.2f}"
        why = f"resume: new month {month}, {sums} < ${now.budget:.2f}"
        return _next(latch, now.at, latched=False, reason="", by="new month", month=month, note=why), why
    if over:
        why = f"trip: {sums} >= ${now.budget:.2f}"
        return _next(latch, now.at, latched=True, reason="budget", by="guard", month=month, note=why), why
    headroom = headroom_usd(now.spent, now.committed, now.budget)
    if now.waiting and not now.instances and now.launch > headroom:
        why = (
            f"exhausted: {now.waiting} waiting, nothing runs, a launch may cost ${now.launch:.2f} > "
            f"${headroom:.2f} left ({sums}, budget ${now.budget:.2f})"
        )
        return _next(latch, now.at, latched=True, reason="exhausted", by="guard", month=month, note=why), why
    return latch, f"within budget: {sums} < ${now.budget:.2f}"


def _next(latch: Latch, at: float, **change: object) -> Latch:
    return replace(latch, generation=latch.generation + 1, at=at, **change)  # type: ignore[arg-type]
