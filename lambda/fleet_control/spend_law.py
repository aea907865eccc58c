"""What the fleet has cost, what it still costs to stop it, and when to stop. Pure: no clock, no I/O, no randomness.

The law in a page
-----------------
*Meter.* Every tick charges each instance its running seconds since it was last charged, at the price of its type
(`spend_prices`: spot at its spot price when known, else on-demand; an unknown type at the dearest price), with its
disk, at least 60 s per instance, and an estimate per boot and per completed job. The estimates of boots give way to
what the NAT gateway has counted. Reserved capacity is charged at the
on-demand price all the time, whether anything runs in it or not; an instance inside it adds its disk and its boot
alone. What is stored per instance is the moment up to which it is paid, so ticks may come late, twice, or not at all:
nothing is charged twice and no running second is lost. An instance that has vanished is charged up to its end if
anybody remembers it, else up to now. What is paid whatever runs accrues by the hour. Time is split at midnight UTC of
the first of the month; each month has a ledger of its own. While EC2 does not say what spot costs, what runs as spot
waits to be paid, and counts as spent at the on-demand price. Other sources (AWS Budgets, Cost Explorer) can only raise
the ledger.

*Committed.* If everything were stopped now, each running instance would still cost its drain, the rest of the allowance
its node may run on without hearing from the guard, and the time it takes to leave, at the on-demand price even for
spot; and a boot, for until the stop its group replaces what is taken from it, unasked. So would each instance that was
asked for and is still owed. The fixed costs and the reserved capacity of the rest
of the month cannot be stopped.

*Trip* when spent + committed >= budget: then the month ends at or under the budget. A launch is admitted only while
the worst it can cost (boot and one job, then all of the above) fits under what is left. When jobs wait, nothing runs
and no launch fits any more, the fleet is *exhausted*: it is latched as well, so that people are told and the wait is
explained.

*Latch.* A trip stays until somebody resumes, or a new month begins (unless that is switched off); a manual stop is
never lifted by the law. Whoever resumes may allow dollars on top of the month's budget. Every change counts the
generation up, so that a late run cannot undo a newer decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .spend_ledger import Ledger, Paid, day_of, month_bounds, month_of, opened
from .spend_prices import Prices, Reservation, Running, inside

MINIMUM_S = 60.0  # EC2 bills at least one minute per instance
ALLOWANCE_S = 600.0  # nodes may run this long without hearing from the guard
# From the end of a drain to the end of the instance: systemd stops a worker 110 s late at most, then the node's
# terminate call, its hook and EC2 take their time.
LEAVING_S = 150.0
BOOT_AND_JOB_S = 600.0  # a launch is worth it only if it can boot (240 s by default) and serve a job of some minutes
BOOT_BYTES_S = 900.0  # a boot's bytes have passed the gateway by then: the default deadline of a boot
BOOTS_KEPT_S = 172_800.0  # estimates older than two days stand: nobody will count their bytes any more
FORGET_S = 7200.0  # an ended instance is remembered for longer than EC2 lists it (about an hour): never charged again
SETTLED_DAYS = 2  # Cost Explorer's figures of a day are complete a day later at the latest; the day after that counts

__all__ = [
    "ALLOWANCE_S",
    "BOOT_AND_JOB_S",
    "Latch",
    "Ledger",
    "Paid",
    "Prices",
    "Reservation",
    "Running",
    "Situation",
    "budget_usd",
    "committed_usd",
    "counted",
    "headroom_usd",
    "inside",
    "instance_committed_usd",
    "judge",
    "launch_usd",
    "meter",
    "month_of",
    "must_warn",
    "raise_to",
    "reconciled",
    "unpaid_usd",
]


def meter(
    ledger: Ledger,
    instances: Iterable[Running],
    prices: Prices,
    at: float,
    ends: Mapping[str, float] | None = None,
    jobs: Mapping[str, float] | None = None,
) -> tuple[Ledger, ...]:
    """The ledger charged up to ``at`` (unix seconds); when a month ended in between, one ledger per month, oldest
    first.

    ``instances``: every instance the cloud still lists, ended ones included. ``ends``: when instances left that it
    lists no more, as far as anybody remembers. ``jobs``: running counts of completed jobs by fleet. A tick at or before
    the last one charges nothing but instances it sees for the first time.
    """
    listed = {one.id: one for one in instances}
    months: list[Ledger] = []
    while month_of(at) > ledger.month:
        end = month_bounds(ledger.month)[1]
        months.append(_charge(ledger, listed, ends or {}, prices, end, at))
        ledger = _next_month(months[-1])
    newest = _count(_charge(ledger, listed, ends or {}, prices, at, at), jobs or {}, prices)
    today = day_of(at)[-2:]
    if at >= newest.metered_at and today not in newest.days:
        newest = replace(newest, days={**newest.days, today: newest.metered_usd})
    return (*months, newest)


def _next_month(ledger: Ledger) -> Ledger:
    start = month_bounds(ledger.month)[1]
    kept = {name: replace(paid, until=max(paid.until, start)) for name, paid in ledger.instances.items()}
    nat_to = max(ledger.nat_to, start) if ledger.nat_to else 0.0
    return replace(opened(start), instances=kept, jobs=ledger.jobs, checked=ledger.checked, nat_to=nat_to)


def _count(ledger: Ledger, jobs: Mapping[str, float], prices: Prices) -> Ledger:
    """The ledger with the jobs that were completed since they were last counted. A count that fell (rows of departed
    workers expire) is taken as it is: those jobs were counted before."""
    new = sum(max(0.0, count - ledger.jobs.get(fleet, 0.0)) for fleet, count in jobs.items())
    return replace(ledger, job_usd=ledger.job_usd + new * prices.per_job, jobs={**ledger.jobs, **jobs})


def _charge(
    ledger: Ledger, listed: Mapping[str, Running], ends: Mapping[str, float], prices: Prices, at: float, now: float
) -> Ledger:
    """Charges one ledger up to ``at``, which lies within its month (its end included), as seen at ``now``."""
    start, end = month_bounds(ledger.month)
    paid, reserved = dict(ledger.instances), inside(listed.values(), prices)
    by_pool, disk_usd = {True: ledger.spot_usd, False: ledger.on_demand_usd}, ledger.disk_usd
    boots = [boot for boot in ledger.boots if at - boot[0] <= BOOTS_KEPT_S]
    new_boots: list[tuple[float, float]] = []
    late = at < ledger.metered_at
    for name in sorted({*paid, *listed}):
        one, before = listed.get(name), paid.get(name)
        if before is None and one is not None:
            if one.launched_at >= at or (one.ended_at is not None and max(one.ended_at, one.launched_at + 60) < start):
                continue  # not begun, or over before this month: nothing of it belongs here
            before = Paid(one.launched_at, max(one.launched_at, start), 0.0, one.disk_usd_per_hour, one.spot)
            disk_usd += one.disk_usd_per_hour * one.disk_only_s / 3600
            if one.launched_at >= start and prices.per_boot:
                new_boots.append((one.launched_at, prices.per_boot))
        if before is None:
            continue
        waits = one is not None and name not in reserved and prices.waits_for_a_quote(one)
        if one is not None and waits and now <= at and not before.ended:
            paid[name] = replace(before, usd_per_hour=prices.list_price(one.type), unpriced=True)
            continue
        current = before.usd_per_hour
        if one is not None:
            current = 0.0 if name in reserved else prices.running(one)
        rate = current if before.unpriced and one is not None else max(before.usd_per_hour, current)
        gone_at = ends.get(name) if one is None else one.ended_at
        over = one is None or gone_at is not None
        last = now if gone_at is None else min(gone_at, now)
        if before.ended and over:
            last = before.until  # its end was charged when it was first seen
        until = max(before.until, min(max(min(last, at), before.launched_at + MINIMUM_S), end))
        hours = (until - before.until) / 3600
        by_pool[before.spot] += hours * rate
        disk_usd += hours * before.disk_usd_per_hour
        ended = over if now <= at and not late else before.ended  # a late tick knows no better
        paid[name] = replace(before, until=until, usd_per_hour=current, unpriced=False, ended=ended)
        if one is None and at - until > FORGET_S:
            del paid[name]
    hours = max(0.0, at - ledger.metered_at) / 3600
    return replace(
        ledger,
        metered_at=max(ledger.metered_at, at),
        spot_usd=by_pool[True],
        on_demand_usd=by_pool[False],
        disk_usd=disk_usd,
        boot_usd=ledger.boot_usd + sum(usd for _, usd in new_boots),
        fixed_usd=ledger.fixed_usd + hours * prices.fixed_per_hour,
        reserved_usd=ledger.reserved_usd + hours * prices.reserved_per_hour,
        boots=(*boots, *new_boots),
        instances=paid,
    )


def counted(ledger: Ledger, usd: float, to: float) -> Ledger:
    """The ledger with ``usd`` for the bytes that the NAT gateway has counted since it was last asked, up to ``to``. The
    estimates of boots whose bytes are all among them are taken back."""
    over = [boot for boot in ledger.boots if boot[0] <= to - BOOT_BYTES_S]
    return replace(
        ledger,
        nat_usd=ledger.nat_usd + max(0.0, usd),
        nat_to=to,
        boot_usd=max(0.0, ledger.boot_usd - sum(estimate for _, estimate in over)),
        boots=tuple(boot for boot in ledger.boots if boot[0] > to - BOOT_BYTES_S),
    )


def unpaid_usd(ledger: Ledger, at: float) -> float:
    """The most that is still to be paid for what waits for a spot price, up to ``at``."""
    waiting = [paid for paid in ledger.instances.values() if paid.unpriced]
    return sum((one.usd_per_hour + one.disk_usd_per_hour) * max(0.0, at - one.until) / 3600 for one in waiting)


def raise_to(ledger: Ledger, figure_usd: float, month: str) -> Ledger:
    """The ledger raised to another source's figure for the same month; never lowered, other months ignored."""
    missing = figure_usd - ledger.spent_usd
    if month != ledger.month or not missing > 0:
        return ledger
    return replace(ledger, raised_usd=ledger.raised_usd + missing)


def reconciled(ledger: Ledger, daily_usd: Mapping[str, float]) -> tuple[float, float | None]:
    """Another source's dollars by day ("05") held against the meter: the least that the month has cost so far by it,
    and what the meter had charged too much (negative: too little) up to the newest day that is complete; None if there
    is none.

    Both days' ends must be known: the meter's mark of a day is what it had charged when that day began.
    """
    today = int(day_of(ledger.metered_at)[-2:])
    least, error, sum_usd = 0.0, None, 0.0
    for day in range(1, today):
        if f"{day:02d}" not in daily_usd:
            break
        sum_usd += daily_usd[f"{day:02d}"]
        mark = ledger.days.get(f"{day + 1:02d}")
        if mark is not None:
            least = max(least, sum_usd + ledger.metered_usd - mark)
            error = mark - sum_usd if day <= today - SETTLED_DAYS else error
    return least, error


def instance_committed_usd(usd_per_hour: float, drain_s: float, per_boot: float) -> float:
    """What one instance still costs from the decision to stop it: drain, rest of the allowance, leaving; and the boot
    of another, by which its group may have replaced it meanwhile."""
    return usd_per_hour * (drain_s + ALLOWANCE_S + LEAVING_S) / 3600 + per_boot


def committed_usd(
    instances: Iterable[Running], owed: Iterable[tuple[int, float, float]], prices: Prices, at: float
) -> float:
    """Dollars that stopping everything at ``at`` still costs. ``owed``: (instances, drain seconds, disk $/h) per
    fleet.
    """
    _, end = month_bounds(month_of(at))
    live = [one for one in instances if one.ended_at is None]
    reserved = inside(live, prices)
    hourly = {one.id: one.disk_usd_per_hour if one.id in reserved else prices.stopping(one) for one in live}
    running = sum(instance_committed_usd(hourly[one.id], one.drain_s, prices.per_boot) for one in live)
    coming = sum(
        max(0, number) * (instance_committed_usd(prices.launching + disk, drain_s, prices.per_boot) + prices.per_boot)
        for number, drain_s, disk in owed
    )
    rest_of_month = (prices.fixed_per_hour + prices.reserved_per_hour) * (end - at) / 3600
    return running + coming + rest_of_month


def launch_usd(prices: Prices, drain_s: float, disk_usd_per_hour: float) -> float:
    """The worst one more launch can cost: boot and one job at the dearest price, then what stopping it costs."""
    usd_per_hour = prices.launching + disk_usd_per_hour
    stop_usd = instance_committed_usd(usd_per_hour, drain_s, prices.per_boot)
    return prices.per_boot + usd_per_hour * BOOT_AND_JOB_S / 3600 + stop_usd


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
