"""The yardstick: what a fleet costs when everything that will arrive is known in advance.

A fluid program (`fluid_program`) proposes schedules at several prices of a late job, each is carried out job by job
(`replay`), the best pieces of all are joined, and the result is nudged: launches and ends a little earlier or later,
again joined. The cheapest schedule that was really carried out and started enough jobs in time is the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .fluid_program import FluidPath, FluidProgram
from .replay import Pace, Replay, Schedule, calm, replay
from .simulated_fleet import FleetModel, Workload
from .splice import Splice

STAGES = 20_000  # a grid with fewer stages is made finer
LEAST_STEP_S = 2.0
PRICES = np.geomspace(0.1, 1000.0, 9)  # instance-seconds a late job may cost, to begin with
SPREAD = (0.7, 1.4, 2.8, 5.6)  # prices of the first proposals, over the one at which the lower bound is highest
NARROW = (0.35, 0.6, 1.0, 1.7)  # and later, over the lowest at which enough jobs were started in time
POLISHED_JOBS = 100_000  # jobs carried out, all tries together, while one change at a time is tried
BORDERS = 20_000  # of a replay, about, but not closer than
BORDER_S = 30.0


@dataclass(frozen=True)
class Plan:
    """The cheapest schedule found: `cost_s` instance-seconds, `share` of the jobs started in time, `boots` launches.

    `lower_bound_s`: see `lower_bound`.
    """

    cost_s: float
    lower_bound_s: float
    share: float
    schedule: Schedule
    boots: int


def clairvoyant(work: Workload, fleet: FleetModel, wait_target_s: float, share: float = 0.99) -> Plan:
    """The cheapest schedule found, with perfect knowledge, that starts `share` of the jobs within `wait_target_s`.

    Chance in the fleet (spread of boots, failures, losses) is left out: it would be known as well. The fleet starts
    empty, so nothing serves before the first cold start is over. If no schedule tried starts enough jobs in time, the
    plan is the one that starts most; its `share` tells. Deterministic. About 10 s to a minute for a week or two.
    """
    if not work.arrivals:
        return Plan(0.0, 0.0, 1.0, Schedule((), ()), 0)
    search = _Search(work, calm(fleet), wait_target_s, share)
    bound_s, price = search.bound()
    search.propose(price)
    search.join()
    for part in (0.7, 0.25, 0.1):
        search.nudge(part * search.step_s)
        search.join()
    search.polish()
    best = search.best()
    if not search.fits(best):
        bound_s, _ = search.bound(best.late(wait_target_s))
    return Plan(
        cost_s=best.instance_s,
        lower_bound_s=bound_s,
        share=1 - best.late(wait_target_s) / len(best.waits),
        schedule=best.schedule,
        boots=best.boots,
    )


def lower_bound(work: Workload, fleet: FleetModel, wait_target_s: float, share: float = 0.99) -> float:
    """Instance-seconds that no schedule can go below, or nearly none.

    The fluid program with every rounding in the schedule's favour; its least of cost plus price times (late jobs less
    those allowed) is a bound at any price, and the highest over the prices tried is returned.

    Proven for jobs of equal length: an instance that is ready in any part of a step works through all of it, work
    counts when its step is over, arrivals are rounded down, and a job counts as started as long as all that is not
    done but the work of one job in each slot is later than it. Three things are not proven. A launch is charged one
    step less than its cold start, which makes up for the parts of steps at both ends of an instance's life on average
    over where the grid of steps may lie, not for this grid. A group of jobs with less work than a quantum counts as a
    quantum. And no more instances are allowed than start every job in time, plus one. For jobs of unequal length the
    work is exact, but what has begun and is not done is taken as one mean job a slot.
    """
    return _Search(work, calm(fleet), wait_target_s, share).bound()[0] if work.arrivals else 0.0


class _Search:
    """What was tried so far for one workload, fleet and target."""

    def __init__(self, work: Workload, fleet: FleetModel, wait_s: float, share: float) -> None:
        self._work, self._fleet, self._wait_s = work, fleet, wait_s
        self._allowed = (1 - share) * len(work.arrivals) + 1e-9
        self._most = _most(work, fleet, wait_s)
        self.step_s = max(LEAST_STEP_S, min(30.0, wait_s / 4))
        while self.step_s >= 2 * LEAST_STEP_S and len(self._program(0.0).borders) < STAGES:
            self.step_s /= 2
        self._borders = _spaced(self._program(0.0).borders)
        self._arrived = np.searchsorted(np.asarray(work.arrivals), self._borders, side="left")
        self._tried: list[Replay] = []

    def _program(self, spare_s: float, *, favourable: bool = False) -> FluidProgram:
        """The program that starts jobs so many seconds before their target, `favourable` for the bound."""
        return FluidProgram(
            self._work,
            self._fleet,
            self._wait_s - spare_s,
            step_s=self.step_s,
            most=self._most,
            favourable=favourable,
        )

    def bound(self, late: float | None = None) -> tuple[float, float]:
        """The lower bound for so many late jobs (default: those allowed), and the price at which it is highest."""
        allowed = self._allowed if late is None else late
        program = self._program(0.0, favourable=True)
        prices = PRICES
        bounds = program.values(prices) - prices * allowed
        for _ in range(2):  # the bound is concave in the price
            at = int(np.argmax(bounds))
            low, high = prices[max(0, at - 1)], prices[min(len(prices) - 1, at + 1)]
            prices = np.geomspace(low, high, 6)[1:-1]
            bounds = program.values(prices) - prices * allowed
        at = int(np.argmax(bounds))
        work_s = math.fsum(self._work.services) / self._fleet.slots
        return max(work_s, float(bounds[at])), float(prices[at])

    def propose(self, price: float) -> None:
        """Schedules of the fluid program, for prices around the one at which enough jobs start in time.

        A fluid knows neither whole jobs nor slots that stand empty: its schedules start some jobs later than it says.
        How many seconds to keep in reserve is found by trying.
        """
        spare_s, prices, useful = self.step_s / 2, price * np.array(SPREAD), 0
        for _ in range(5):
            tried = [self._carry_out(path) for path in self._program(spare_s).paths(prices)]
            fitting = [price for price, one in zip(prices, tried, strict=True) if self.fits(one)]
            useful += bool(fitting)
            if useful == 2:
                return
            if fitting:
                spare_s, prices = 0.67 * spare_s, fitting[0] * np.array(NARROW)
            else:
                spare_s, prices = min(2.5 * spare_s, 0.8 * self._wait_s), 3 * prices

    def _carry_out(self, path: FluidPath) -> Replay:
        change = np.diff(np.r_[0, path.counts.astype(int), 0])
        ready, drained = (np.repeat(path.borders, np.maximum(0, sign * change)) for sign in (1, -1))
        launched = np.maximum(0.0, ready - self._fleet.cold_start_s)
        pace = path.borders, path.started
        return self._try(Schedule(tuple(launched.tolist()), tuple(drained.tolist())), pace)

    def _try(self, schedule: Schedule, pace: Pace | None = None) -> Replay:
        self._tried.append(replay(self._work, self._fleet, schedule, self._borders, pace))
        return self._tried[-1]

    def join(self) -> None:
        """The best pieces of all that was tried. Joints cost a little time, so what to aim at is found by trying."""
        splice = Splice(self._tried, self._borders, self._arrived, self._fleet.slots, self._wait_s)
        aim, least, most = self._allowed, -1.0, math.inf
        known: set[Schedule] = set()
        for _ in range(3):
            schedule = splice.best(aim)
            if schedule in known:
                return
            known.add(schedule)
            late = self._try(schedule).late(self._wait_s)
            if late <= self._allowed:
                least = aim
            else:
                most = aim
            aim = (least + most) / 2 if most < math.inf and least >= 0 else aim + 1.1 * (self._allowed - late)
            if aim < 0:
                return

    def nudge(self, by_s: float) -> None:
        """The best so far, with all launches or all ends or both a little earlier or later."""
        best = self.best().schedule
        for launched, drained in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)):
            self._try(best.moved(launched * by_s, drained * by_s))

    def polish(self) -> None:
        """Small workloads only: launches and ends one at a time, as long as that makes it cheaper."""
        left = POLISHED_JOBS // len(self._work.arrivals)
        best = self.best()
        for by_s in self.step_s * np.array([16.0, 4.0, 1.0, 0.25]):
            index = 0
            while index < len(best.schedule.launched):
                for schedule in best.schedule.neighbours(index, float(by_s)):
                    if left <= 0:
                        return
                    left -= 1
                    self._try(schedule)
                best, index = self.best(), index + 1

    def best(self) -> Replay:
        """The cheapest that starts enough jobs in time; if none does, the one that starts most."""
        return min(self._tried, key=lambda one: (max(self._allowed, one.late(self._wait_s)), one.instance_s))

    def fits(self, one: Replay) -> bool:
        return one.late(self._wait_s) <= self._allowed


def _most(work: Workload, fleet: FleetModel, wait_s: float) -> int:
    """Instances that are enough to start every job in time, if the fleet is ready, and one more; at most the cap."""
    arrivals = np.asarray(work.arrivals)
    before = np.r_[0.0, np.cumsum(work.services)] / fleet.slots
    need = 0.0
    for window in (0.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0):
        until = np.searchsorted(arrivals, arrivals + window, side="right")
        need = max(need, float(((before[until] - before[:-1]) / (window + wait_s)).max()))
    return min(fleet.cap, math.ceil(need) + 1)


def _spaced(borders: np.ndarray) -> np.ndarray:
    """Borders of which no two are close together, the first among them."""
    least = max(BORDER_S, float(borders[-1]) / BORDERS)
    kept = [0]
    for k, border in enumerate(borders):
        if border - borders[kept[-1]] >= least:
            kept.append(k)
    return borders[kept]
