"""What the fleet has cost, what it still costs to stop it, and when to stop. Pure: no clock, no I/O, no randomness.

The law in a page
-----------------
*Meter.* Every tick charges each instance its running seconds since it was last
charged, at the price of its type (spot at its spot price when known, else on-demand; an unknown type at the dearest
price known), with its disk, at least 60 s per instance, and an estimate per boot. Reserved capacity is charged at the
on-demand price all the time, whether anything runs in it or not; an instance inside it adds its disk and its boot
alone. What is stored per instance is the moment up to which it is paid, so ticks may come late, twice, or not at all:
nothing is charged twice and no running second is lost. An instance that has vanished without a known end is charged up
to now. Fixed monthly costs accrue evenly, from the first tick of the stack. Time is split at midnight UTC of the first
of the month; each month has a ledger of its own. Other sources (AWS Budgets) can only raise the ledger.

*Committed.* If everything were stopped now, each running instance would still cost its drain, the rest of the allowance
its node may run on without hearing from the guard, and the time it takes to leave, at the on-demand price even for
spot; so would each instance that was asked for and is still owed. The fixed costs and the reserved capacity of the rest
of the month cannot be stopped.

*Trip* when spent + committed >= budget: then the month ends at or under the budget. A launch is admitted only while
the worst it can cost (boot and one job, then all of the above) fits under what is left. When jobs wait, nothing runs
and no launch fits any more, the fleet is *exhausted*: it is latched as well, so that people are told and the wait is
explained.

*Latch.* A trip stays until somebody resumes, or a new month begins (unless that is switched off); a manual stop is
never lifted by the law. Every change counts the generation up, so that a late run cannot undo a newer decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .spend_ledger import Ledger, Paid, month_bounds, month_of, opened

MINIMUM_S = 60.0  # EC2 bills at least one minute per instance
ALLOWANCE_S = 600.0  # nodes may run this long without hearing from the guard
# A node without a guard looks every 30 s whether it may stay, and its worker is stopped 120 s late at most.
LEAVING_S = 150.0
BOOT_AND_JOB_S = 600.0  # a launch is worth it only if it can boot (240 s by default) and serve a job of some minutes
FORGET_S = 7200.0  # an ended instance is remembered for longer than EC2 lists it (about an hour): never charged again

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
    "committed_usd",
    "headroom_usd",
    "inside",
    "instance_committed_usd",
    "judge",
    "launch_usd",
    "meter",
    "month_of",
    "must_warn",
    "raise_to",
]


@dataclass(frozen=True)
class Running:
    """An instance as the cloud reports it. ``ended_at``: when it left the running state, None while it has not.

    ``spot``: bought as spot, in ``zone``. ``disk_usd_per_hour``: its volumes. ``drain_s``: how long it may drain.
    ``reservation``: id of the Capacity Reservation it runs in, "" for none or if nobody says.
    """

    id: str
    type: str
    zone: str
    spot: bool
    launched_at: float
    ended_at: float | None = None
    disk_usd_per_hour: float = 0.0
    drain_s: float = 300.0
    reservation: str = ""


@dataclass(frozen=True)
class Reservation:
    """Capacity that is paid at the on-demand price, used or not: ``instances`` of ``type`` in reservation ``id``."""

    id: str
    type: str
    instances: int


@dataclass(frozen=True)
class Prices:
    """Dollars: per hour on-demand by type, ``dearest`` for any unknown type, spot by (type, zone); per boot; per
    month. ``reserved``: what is paid for all the time.
    """

    on_demand: Mapping[str, float]
    dearest: float
    spot: Mapping[tuple[str, str], float] = field(default_factory=dict)
    per_boot: float = 0.0
    fixed_per_month: float = 0.0
    reserved: tuple[Reservation, ...] = ()

    @property
    def reserved_per_hour(self) -> float:
        """Price per hour of all reserved capacity, used or not."""
        return sum(one.instances * self.on_demand.get(one.type, self.dearest) for one in self.reserved)

    def stopping(self, one: Running) -> float:
        """Price per hour that money is committed at: on-demand even for spot, disk included."""
        return self.on_demand.get(one.type, self.dearest) + one.disk_usd_per_hour

    def running(self, one: Running) -> float:
        """Price per hour that a running second is charged at, without disk."""
        known = self.on_demand.get(one.type)
        if known is None:
            return self.dearest
        return min(known, self.spot.get((one.type, one.zone), known)) if one.spot else known

    @property
    def launching(self) -> float:
        """Price per hour of the next launch, not knowing its type yet: the dearest that the groups may launch."""
        return max(self.on_demand.values(), default=self.dearest)


def inside(instances: Iterable[Running], prices: Prices) -> frozenset[str]:
    """Ids of the instances whose seconds a reservation pays for already: those that the cloud shows in it.

    Never more at once than it was said to hold, the oldest first and ended ones last: whatever is left over, of another
    type or not shown in it is charged in full.
    """
    room: Counter[tuple[str, str]] = Counter()
    for held in prices.reserved:
        room[held.id, held.type] += held.instances
    found: set[str] = set()
    for one in sorted(instances, key=lambda one: (one.ended_at is not None, one.launched_at, one.id)):
        if room[one.reservation, one.type] > 0:
            room[one.reservation, one.type] -= 1
            found.add(one.id)
    return frozenset(found)


def meter(ledger: Ledger, instances: Iterable[Running], prices: Prices, at: float) -> tuple[Ledger, ...]:
    """The ledger charged up to ``at`` (unix seconds); when a month ended in between, one ledger per month, oldest
    first.

    ``instances``: every instance the cloud still lists, ended ones included. A tick at or before the last one charges
    nothing but instances it sees for the first time.
    """
    listed = {one.id: one for one in instances}
    months: list[Ledger] = []
    while month_of(at) > ledger.month:
        end = month_bounds(ledger.month)[1]
        months.append(_charge(ledger, listed, prices, end, at))
        ledger = _next_month(months[-1])
    return (*months, _charge(ledger, listed, prices, at, at))


def _next_month(ledger: Ledger) -> Ledger:
    start = month_bounds(ledger.month)[1]
    kept = {name: replace(paid, until=max(paid.until, start)) for name, paid in ledger.instances.items()}
    return replace(opened(start), instances=kept)


def _charge(ledger: Ledger, listed: Mapping[str, Running], prices: Prices, at: float, now: float) -> Ledger:
    """Charges one ledger up to ``at``, which lies within its month (its end included), as seen at ``now``."""
    start, end = month_bounds(ledger.month)
    paid = dict(ledger.instances)
    reserved = inside(listed.values(), prices)
    instance_usd, disk_usd, boot_usd = ledger.instance_usd, ledger.disk_usd, ledger.boot_usd
    for name in sorted({*paid, *listed}):
        one, before = listed.get(name), paid.get(name)
        if before is None and one is not None:
            if one.launched_at >= at or (one.ended_at is not None and max(one.ended_at, one.launched_at + 60) < start):
                continue  # not begun, or over before this month: nothing of it belongs here
            before = Paid(one.launched_at, max(one.launched_at, start), 0.0, one.disk_usd_per_hour)
            boot_usd += prices.per_boot if one.launched_at >= start else 0.0
        if before is None:
            continue
        current = before.usd_per_hour
        if one is not None:
            current = 0.0 if name in reserved else prices.running(one)
        rate = max(before.usd_per_hour, current)
        last = now if one is None or one.ended_at is None else min(one.ended_at, now)
        if before.ended and (one is None or one.ended_at is not None):
            last = before.until  # its end was charged when it was first seen
        until = max(before.until, min(max(min(last, at), before.launched_at + MINIMUM_S), end))
        hours = (until - before.until) / 3600
        instance_usd += hours * rate
        disk_usd += hours * before.disk_usd_per_hour
        over = one is None or one.ended_at is not None
        ended = over if now <= at and at >= ledger.metered_at else before.ended  # a late tick knows no better
        paid[name] = Paid(before.launched_at, until, current, before.disk_usd_per_hour, ended)
        if one is None and at - until > FORGET_S:
            del paid[name]
    metered_at = max(ledger.metered_at, at)
    since_s = metered_at - ledger.metered_at
    fixed_usd = prices.fixed_per_month * since_s / (end - start) + prices.reserved_per_hour * since_s / 3600
    return replace(
        ledger,
        metered_at=metered_at,
        instance_usd=instance_usd,
        disk_usd=disk_usd,
        boot_usd=boot_usd,
        fixed_usd=ledger.fixed_usd + fixed_usd,
        instances=paid,
    )


def raise_to(ledger: Ledger, figure_usd: float, month: str) -> Ledger:
    """The ledger raised to another source's figure for the same month; never lowered, other months ignored."""
    missing = figure_usd - ledger.spent_usd
    if month != ledger.month or not missing > 0:
        return ledger
    return replace(ledger, raised_usd=ledger.raised_usd + missing)


def instance_committed_usd(usd_per_hour: float, drain_s: float) -> float:
    """What one instance still costs from the decision to stop it: drain, rest of the allowance, leaving."""
    return usd_per_hour * (drain_s + ALLOWANCE_S + LEAVING_S) / 3600


def committed_usd(
    instances: Iterable[Running], owed: Iterable[tuple[int, float, float]], prices: Prices, at: float
) -> float:
    """Dollars that stopping everything at ``at`` still costs. ``owed``: (instances, drain seconds, disk $/h) per
    fleet.
    """
    start, end = month_bounds(month_of(at))
    live = [one for one in instances if one.ended_at is None]
    reserved = inside(live, prices)
    hourly = {one.id: one.disk_usd_per_hour if one.id in reserved else prices.stopping(one) for one in live}
    running = sum(instance_committed_usd(hourly[one.id], one.drain_s) for one in live)
    coming = sum(
        max(0, number) * (instance_committed_usd(prices.launching + disk, drain_s) + prices.per_boot)
        for number, drain_s, disk in owed
    )
    rest_of_month = prices.fixed_per_month * (end - at) / (end - start) + prices.reserved_per_hour * (end - at) / 3600
    return running + coming + rest_of_month


def launch_usd(prices: Prices, drain_s: float, disk_usd_per_hour: float) -> float:
    """The worst one more launch can cost: boot and one job at the dearest price, then what stopping it costs."""
    usd_per_hour = prices.launching + disk_usd_per_hour
    return prices.per_boot + usd_per_hour * BOOT_AND_JOB_S / 3600 + instance_committed_usd(usd_per_hour, drain_s)


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
    """The stored fact that the fleet is stopped. ``reason``: budget, exhausted or manual; ``month``: of the trip."""

    latched: bool = False
    reason: str = ""
    generation: int = 0
    at: float = 0.0
    by: str = ""
    month: str = ""
    note: str = ""


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
