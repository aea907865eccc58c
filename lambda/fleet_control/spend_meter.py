"""What was spent: the ledger charged up to now, by what runs and by what other sources know. Pure (see `spend_law`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .spend_ledger import Ledger, Paid, day_of, month_bounds, month_of, opened
from .spend_prices import Prices, Running, inside

MINIMUM_S = 60.0  # EC2 bills at least one minute per instance
BOOT_BYTES_S = 900.0  # a boot's bytes have passed the gateway by then: the default deadline of a boot
BOOTS_KEPT_S = 172_800.0  # estimates older than two days stand: nobody will count their bytes any more
FORGET_S = 7200.0  # an ended instance is remembered for longer than EC2 lists it (about an hour): never charged again
SETTLED_DAYS = 2  # Cost Explorer's figures of a day are complete a day later at the latest; the day after that counts


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
        if before is None and one is not None and _belongs(one, start, at):
            before = Paid(one.launched_at, max(one.launched_at, start), 0.0, one.disk_usd_per_hour, one.spot)
            disk_usd += one.disk_usd_per_hour * one.disk_only_s / 3600
            if one.launched_at >= start and prices.per_boot:
                new_boots.append((one.launched_at, prices.per_boot))
        if before is None:
            continue
        rate = before.most_usd_per_hour  # if nobody says any more what it cost
        if one is not None:
            free = name in reserved
            current, most = (0.0, 0.0) if free else (prices.running(one), prices.list_price(one.type))
            if not free and prices.waits_for_a_quote(one) and now <= at and not before.ended:
                paid[name] = replace(before, most_usd_per_hour=most, unpriced=True)
                continue
            rate = current if before.unpriced else max(before.usd_per_hour, current)
            before = replace(before, usd_per_hour=current, most_usd_per_hour=most, unpriced=False)
        gone_at = ends.get(name) if one is None else one.ended_at
        # A late tick does not end what it misses; what was ended stays so unless it is there again.
        over = gone_at is not None or (one is None and (before.ended or not late))
        until = _payable(before, over, at if gone_at is None else gone_at, end)
        hours = (until - before.until) / 3600
        by_pool[before.spot] += hours * rate
        disk_usd += hours * before.disk_usd_per_hour
        # What ended after the month, though its last tick began before, is the next month's to end.
        final = now <= at and not late and (gone_at is None or gone_at <= end)
        ended = over if final else before.ended
        paid[name] = replace(before, until=until, unpriced=False, ended=ended)
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


def _belongs(one: Running, start: float, at: float) -> bool:
    """Whether anything of an instance lies between the month's ``start`` and ``at``."""
    over = one.ended_at is not None and max(one.ended_at, one.launched_at + MINIMUM_S) < start
    return one.launched_at < at and not over


def _payable(before: Paid, over: bool, last: float, end: float) -> float:
    """Up to when an instance is to be paid that was seen until ``last``, within the month. One that is over costs a
    minute at least, unless it was paid as such."""
    if before.ended and over:
        return before.until
    least = before.launched_at + MINIMUM_S if over else 0.0
    return max(before.until, min(max(last, least), end))


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
    """The most that is still to be paid for what waits for a spot price, up to ``at``; a minute at least."""
    waiting = [paid for paid in ledger.instances.values() if paid.unpriced]
    return sum(
        (one.most_usd_per_hour + one.disk_usd_per_hour)
        * max(0.0, max(at, one.launched_at + MINIMUM_S) - one.until)
        / 3600
        for one in waiting
    )


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
