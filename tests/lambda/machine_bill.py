"""What the machine's fleet really costs, and what it was promised to cost at most. Knows nothing of the guard's ledger.

The bill is made from the instances' own history: from running to their end, 60 s at least, at the on-demand price or
the spot price that was in effect, with the disk, an estimate per boot and per job, and the fixed costs by the clock
since the first tick, less while the fleet is stopped. Of what still runs only the seconds so far are in it.

The promise of a month, exactly: its bill is at most the highest budget (with what was allowed on top) that was in force
in it, where

- a budget that is lowered holds from the first complete tick that knows it; if stopping everything at that moment
  already costs more than is left, then that (nothing can undo what is spent);
- a month that begins with instances running may cost its fixed costs and stopping these, whatever its budget;
- a machine that hangs obeys nobody but the guard and its group: what it costs while no guard has ticked for longer
  than a stop may take is not promised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NoReturn

ON_DEMAND = {"g5.xlarge": 1.006, "g6.4xlarge": 1.3232}
DEAREST = max(ON_DEMAND.values())
DISK = 0.01  # dollars an hour
FIXED, STOPPED = 36.0, 20.0  # dollars in 31 days
PER_JOB = 0.0001
DRAIN_S, ALLOWANCE_S, LEAVING_S = 300.0, 600.0, 150.0  # docs/budget.md, "The arithmetic"
STOP_S = DRAIN_S + ALLOWANCE_S + LEAVING_S
MINIMUM_S = 60.0


def month_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def bounds(month: str) -> tuple[float, float]:
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.timestamp(), end.timestamp()


def fixed(seconds: float, usd: float = FIXED) -> float:
    return usd * seconds / (744 * 3600)


@dataclass
class Span:
    """An instance as it is billed. ``began``: when it ran, None while it is pending."""

    kind: str
    spot: bool
    began: float | None = None
    ended: float | None = None


@dataclass
class Steps:
    """A value that changes at moments, oldest first."""

    of: list[tuple[float, float]]

    def at(self, moment: float) -> float:
        return next((value for began, value in reversed(self.of) if began <= moment), self.of[0][1])

    def set(self, moment: float, value: float) -> None:
        self.of.append((moment, value))

    def integral(self, begin: float, end: float) -> float:
        """Value times seconds."""
        ends = [(-1e12, self.of[0][1]), *self.of[1:], (1e12, 0.0)]
        parts = ((max(begin, since), min(end, until), value) for (since, value), (until, _) in pairwise(ends))
        return sum(value * (last - first) for first, last, value in parts if last > first)


@dataclass
class Bill:
    """``past``: what the first month had cost before ``since``, the first tick. ``spot``: the spot price as a share of
    the on-demand price. ``fixed``: the fixed costs, dollars in 31 days; ``stopped``: what they are while the fleet is
    stopped. ``jobs``: completed, by month."""

    since: float
    past: float
    per_boot: float
    stopped: float = STOPPED
    spans: list[Span] = field(default_factory=list)
    spot: Steps = field(default_factory=lambda: Steps([(0.0, 0.4)]))
    fixed: Steps = field(default_factory=lambda: Steps([(0.0, FIXED)]))
    jobs: dict[str, float] = field(default_factory=dict)

    def of(self, month: str, at: float, whole: bool = False) -> float:
        """Dollars of a month up to ``at``, jobs apart; ``whole``: with the first minute of what runs, and all of
        what has ended since."""
        start, end = bounds(month)
        until, begin = min(at, end), max(start, self.since)
        usd = self.fixed.integral(begin, until) / (744 * 3600) + (self.past if month == month_of(self.since) else 0.0)
        for one in self.spans:
            if one.began is not None and one.began < until:
                usd += self.per_boot if one.began >= start else 0.0
                over = one.ended is not None and one.ended <= at
                seen = at if one.ended is None else one.ended if whole else min(one.ended, at)
                last = max(seen, one.began + MINIMUM_S if over or whole else 0.0)
                usd += self.running(one, max(start, one.began), min(end, last))
        return usd

    def running(self, one: Span, begin: float, end: float) -> float:
        """Dollars of an instance and its disk for a part of its life."""
        if end <= begin:
            return 0.0
        share_s = self.spot.integral(begin, end) if one.spot else end - begin
        return (ON_DEMAND[one.kind] * share_s + DISK * (end - begin)) / 3600

    def at_least(self, month: str, at: float) -> float:
        """What the month costs whatever is done from ``at`` on: its rest has its fixed costs, the lower ones."""
        rest = fixed(max(0.0, bounds(month)[1] - at), self.stopped)
        return self.of(month, at) + PER_JOB * self.jobs.get(month, 0.0) + rest

    def at_most(self, month: str, at: float, owed: int) -> float:
        """What the month costs if everything that runs or is owed is stopped now, as the documentation has it."""
        launched = (DEAREST + DISK) * STOP_S / 3600 + self.per_boot
        live = [(ON_DEMAND[one.kind] + DISK) * STOP_S / 3600 + launched for one in self.spans if one.ended is None]
        rest = fixed(bounds(month)[1] - at, FIXED - self.stopped)
        return self.at_least(month, at) + rest + sum(live) + owed * 2 * launched


class PromiseError(AssertionError):
    """A promise is broken; the message says which, with numbers."""


@dataclass
class Promise:
    """The bound of every month. ``lowered``: the budget was lowered, and no complete tick knows it yet; ``before``: the
    one that was in force. ``extra``: what was allowed on top, by month."""

    bill: Bill
    budget: float
    bound: dict[str, float] = field(default_factory=dict)
    excused: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    lowered: bool = False
    before: float = 0.0
    broken: PromiseError | None = None

    def breaks(self, how: str) -> NoReturn:
        """It is broken, and stays so, whoever catches the exception."""
        self.broken = PromiseError(how)
        raise self.broken

    def in_force(self, month: str) -> float:
        return max(self.budget, self.before if self.lowered else 0.0) + self.extra.get(month, 0.0)

    def up(self, budget: float, at: float) -> None:
        """The stack's budget is changed."""
        if budget < self.budget:
            self.before, self.lowered = max(self.budget, self.before if self.lowered else 0.0), True
        self.budget = budget
        self.bound[month_of(at)] = max(self.bound[month_of(at)], self.in_force(month_of(at)))

    def allow(self, usd: float, at: float) -> None:
        """Somebody allows dollars on top of this month's budget."""
        month = month_of(at)
        self.extra[month] = self.extra.get(month, 0.0) + usd
        self.bound[month] = max(self.bound[month], self.in_force(month))

    def begin(self, month: str, at: float, owed: int) -> None:
        """A month begins."""
        self.bound[month] = max(self.in_force(month), self.bill.at_most(month, at, owed))

    def known(self, at: float, owed: int, reserved: float) -> None:
        """A complete tick knew the present budget."""
        if self.lowered:
            month, self.lowered = month_of(at), False
            most = self.bill.at_most(month, at, owed) + reserved
            self.bound[month] = max(self.in_force(month), most - self.excused.get(month, 0.0))

    def excuse(self, one: Span, begin: float, end: float) -> None:
        usd = self.bill.running(one, begin, end)
        self.excused[month_of(begin)] = self.excused.get(month_of(begin), 0.0) + usd

    def check(self, at: float, month: str | None = None) -> None:
        """What the month costs whatever is done from now on is within its bound."""
        month = month or month_of(at)
        usd, excused = self.bill.at_least(month, at), self.excused.get(month, 0.0)
        if usd - excused > self.bound[month] + 1e-6:
            self.breaks(
                f"{month} costs ${usd:.4f} (${excused:.4f} of it excused), bound ${self.bound[month]:.4f}: "
                f"${usd - excused - self.bound[month]:.4f} over; budget ${self.budget:.4f}"
            )
