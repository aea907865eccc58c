"""Schedules that are written beforehand, carried out job by job in the simulated fleet."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .simulated_fleet import READY, FleetModel, SimulatedFleet, Workload

RETRY_S = 2.0  # between looks of an order that could not be carried out yet

Pace = tuple[np.ndarray, np.ndarray]  # seconds, and jobs that a plan has started by then


@dataclass(frozen=True)
class Schedule:
    """What to do when, in seconds from the start of the workload.

    `launched`: one instance is launched. `drained`: the least busy of the ready instances takes no new job, finishes
    what it holds and ends.
    """

    launched: tuple[float, ...]
    drained: tuple[float, ...]

    def moved(self, launched_s: float, drained_s: float) -> Schedule:
        """All of the one and all of the other later by so many seconds, not before second 0."""
        return Schedule(
            launched=tuple([max(0.0, at + launched_s) for at in self.launched]),
            drained=tuple([max(0.0, at + drained_s) for at in self.drained]),
        )

    def neighbours(self, index: int, by_s: float) -> Iterator[Schedule]:
        """One launch or the end of the same rank later or earlier, and one instance less."""
        for way in (by_s, -by_s):
            yield Schedule(_replaced(self.launched, index, way), self.drained)
            yield Schedule(self.launched, _replaced(self.drained, index, way))
        launched = self.launched[:index] + self.launched[index + 1 :]
        end = next((rank for rank, at in enumerate(self.drained) if at > self.launched[index]), index)
        yield Schedule(launched, self.drained[:end] + self.drained[end + 1 :])


def _replaced(times: tuple[float, ...], index: int, way_s: float) -> tuple[float, ...]:
    return tuple(sorted((*times[:index], max(0.0, times[index] + way_s), *times[index + 1 :])))


@dataclass(frozen=True)
class Replay:
    """How a schedule went.

    `waits`: seconds that each job waited. `instance_s`: billed. `boots`: launches. `schedule`: as it was carried out.
    At each border in time: `spent` instance-seconds so far; `started` jobs so far; `fleet`, instances if all of them
    are ready, -1 while any boots or finishes.
    """

    waits: np.ndarray
    instance_s: float
    boots: int
    schedule: Schedule
    spent: np.ndarray
    started: np.ndarray
    fleet: np.ndarray

    def late(self, wait_s: float) -> int:
        """Jobs that waited longer."""
        return int(np.count_nonzero(self.waits > wait_s))


def calm(fleet: FleetModel) -> FleetModel:
    """The same fleet without chance: boots take what they take, none fails, nothing is lost."""
    return replace(fleet, boot_cv=0.0, failed_boots=0.0, losses_per_h=0.0)


def replay(
    work: Workload,
    fleet: FleetModel,
    schedule: Schedule,
    borders: np.ndarray,
    pace: Pace | None = None,
) -> Replay:
    """Carries the schedule out on the fleet without chance, and takes notes at the borders (seconds).

    A launch over the cap waits for room. While fewer jobs have started than at the plan's `pace` no instance is
    drained. After the schedule's end the last instance stays, or one comes, until no job waits.
    """
    run = _Run(work, calm(fleet), borders, pace)
    orders = sorted([(at, 0) for at in schedule.launched] + [(at, 1) for at in schedule.drained])
    orders.append((math.inf, 0))
    place, retry = 0, math.inf
    while True:
        now = min(orders[place][0], run.next_border, retry)
        if now == math.inf:
            break
        run.state.pass_until(now)
        while orders[place][0] <= now:
            run.order(orders[place][1])
            place += 1
        retry = now + RETRY_S if run.obey(now, last=orders[place][0] == math.inf) else math.inf
        if run.next_border <= now:
            run.note(now)
    return run.finished()


class _Run:
    """A replay at one moment."""

    def __init__(self, work: Workload, fleet: FleetModel, borders: np.ndarray, pace: Pace | None) -> None:
        self.state = SimulatedFleet(work, fleet, random.Random(0))  # noqa: S311 - nothing is drawn from it
        self._fleet, self._borders = fleet, [*borders.tolist(), math.inf]
        self._pace = pace
        self._launched: list[float] = []
        self._drained: list[float] = []
        self._wanted, self._spare = 0, 0  # launches and drains ordered and not yet carried out
        self._spent: list[float] = []
        self._started: list[int] = []
        self._ready: list[int] = []
        self._now = 0.0

    @property
    def next_border(self) -> float:
        return self._borders[len(self._spent)]

    def order(self, drain: int) -> None:
        """One more to drain or, with 0, to launch."""
        if drain:
            self._spare += 1
        elif self._spare:
            self._spare -= 1  # the one that should have gone long ago does what the new one would
        else:
            self._wanted += 1

    def obey(self, now: float, *, last: bool) -> bool:
        """Carries out what it can; whether anything is left to do."""
        self._now = now
        while self._wanted and len(self.state.existing) < self._fleet.cap:
            self._launch(now)
            self._wanted -= 1
        while self._spare and not self._behind(now):
            if last and len(self.state.live) == 1 and self.state.waiting(now):
                break
            ready = [
                (one.busy, -number)
                for number, one in zip(self.state.existing, self.state.instances(), strict=True)
                if one.state == READY
            ]
            if not ready:
                break
            self.state.drain(-min(ready)[1], now)
            self._drained.append(now)
            self._spare -= 1
        return bool(self._wanted or (self._spare and self.state.live))

    def _launch(self, now: float) -> None:
        self.state.launch(now)
        self._launched.append(now)

    def _behind(self, now: float) -> bool:
        if self._pace is None or not self.state.waiting(now):
            return False
        return bool(self.state.completed + self.state.in_flight < np.interp(now, *self._pace))

    def note(self, now: float) -> None:
        """The state at a border."""
        state = self.state
        self._spent.append(state.billed_s + sum([now - self._launched[number] for number in state.existing]))
        self._started.append(state.completed + state.in_flight)
        booted = len(self._launched)
        while booted and self._launched[booted - 1] + self._fleet.cold_start_s > now:
            booted -= 1
        ready = booted - len(self._drained)
        self._ready.append(ready if ready == len(state.existing) else -1)

    def finished(self) -> Replay:
        """What remains to be done after the schedule's end, and how all of it went."""
        state, now = self.state, self._now
        while state.waiting(now) or state.next_arrival < math.inf:
            if not state.live:
                self._launch(now)
            now += RETRY_S
            state.pass_until(now)
        self._drained += [now] * len(state.live)
        for number in tuple(state.existing):
            state.drain(number, now)
        while not state.done:
            now += 1000.0
            state.pass_until(now)
        return Replay(
            waits=np.array(state.waits),
            instance_s=state.billed_s,
            boots=state.boots,
            schedule=Schedule(tuple(self._launched), tuple(self._drained)),
            spent=np.array(self._spent),
            started=np.array(self._started),
            fleet=np.array(self._ready),
        )
