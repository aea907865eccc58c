"""A scaling policy in front of a simulated fleet: how long every job waited, and what the fleet cost.

The policy under test sees what the deployed controller sees, an `Observation` per look, and `LawScaler` is the deployed
law itself, imported, not written again. Deterministic for a seed. Costs 1.2 us a job beside the policy's own time.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fleet_control.scaling_law import Observation, Policy, State, decide

from .simulated_fleet import FleetModel, SimulatedFleet, Workload, instance_id

REST_LOOK_S = 60.0  # between looks while there is nothing to see
LAST_HOUR_S = 3600.0  # a fleet that is still there so long after the last job is ended
STUCK_S = 86_400.0  # jobs that wait so long, with none arriving and none running, wait for ever

__all__ = ["FleetModel", "LawScaler", "Orders", "Result", "Scaler", "Workload", "simulate"]


@dataclass(frozen=True)
class Orders:
    """What a policy asks for at a look.

    `drain`: ids of instances that take no new job and end when they are empty. `kill`: so many of the instances that
    are not draining end at once, busy or not, newest first. `desired`: instances wanted of those that then remain; what
    is missing is launched, what is too much stays.
    """

    desired: int
    drain: tuple[str, ...] = ()
    kill: int = 0


class Scaler(Protocol):
    """A policy: asked every `tick_s` seconds."""

    tick_s: float

    def look(self, seen: Observation) -> Orders: ...


class LawScaler:
    """The deployed law, `fleet_control.scaling_law.decide`, with its state kept from look to look.

    `seconds` and `decisions` add up what its own thinking took by `timer`.
    """

    def __init__(self, policy: Policy, timer: Callable[[], float] = time.perf_counter) -> None:
        self.tick_s, self.policy, self.state = policy.tick_s, policy, State()
        self.seconds, self.decisions, self._timer = 0.0, 0, timer

    def look(self, seen: Observation) -> Orders:
        began = self._timer()
        decision, self.state = decide(seen, self.state, self.policy)
        self.seconds += self._timer() - began
        self.decisions += 1
        return Orders(decision.desired, decision.drain)


@dataclass
class Result:
    """What a run did. Seconds unless said otherwise.

    `waits`: per job, from its arrival to the start of the run that completed it. `instance_s`: billed, from launch to
    end of every instance. `busy_s`: worked in slots, `lost_s` (work thrown away) included. `boots`: launches, without
    the initial fleet. `peak`: most instances at a time, draining ones counted. `reversals`: looks that launched within
    a cold start of an earlier look that drained or killed. `span_s`: until the look that found nothing left.
    """

    waits: array[float]
    instance_s: float
    busy_s: float
    lost_s: float
    boots: int
    peak: int
    reversals: int
    looks: int
    span_s: float
    slots: int

    def share_within(self, wait_s: float) -> float:
        """Share of the jobs that were started within `wait_s`; 1 without jobs."""
        return sum(1 for wait in self.waits if wait <= wait_s) / len(self.waits) if self.waits else 1.0

    @property
    def mean_wait(self) -> float:
        return math.fsum(self.waits) / len(self.waits) if self.waits else 0.0

    @property
    def worst_wait(self) -> float:
        return max(self.waits, default=0.0)

    @property
    def idle_share(self) -> float:
        """Share of the billed slot time in which no job ran; 0 if nothing was billed."""
        return 1 - self.busy_s / (self.instance_s * self.slots) if self.instance_s else 0.0

    @property
    def boots_per_day(self) -> float:
        return self.boots * 86_400 / self.span_s if self.span_s else 0.0


def simulate(work: Workload, fleet: FleetModel, scaler: Scaler, *, seed: int = 0, initial: int = 0) -> Result:
    """Runs the workload on the fleet under the policy.

    `initial` instances are ready and billed from second 0. Looks are at multiples of the policy's tick, the first at 0;
    while nothing waits, runs or is asked for one a minute is made, and the first arrival is seen at the next tick.
    After the last job the fleet has an hour to leave; what stays is ended and billed until then. Raises RuntimeError
    if jobs wait that the policy will never serve.
    """
    state = SimulatedFleet(work, fleet, random.Random(f"{seed} fleet"))  # noqa: S311 - reproducible, no secret
    counters = _Counters(state, work.start_at, random.Random(f"{seed} counters"))  # noqa: S311
    for _ in range(min(initial, fleet.cap)):
        state.launch(0.0, ready=True)
    look, looks, reversals = 0, 0, 0
    now, drained_at = 0.0, -math.inf
    worked_at = work.arrivals[-1] if work.arrivals else 0.0  # when a job last ran, or the last one came
    while True:
        completed = state.completed
        now = look * scaler.tick_s
        state.pass_until(now)
        if state.completed != completed or state.in_flight:
            worked_at = max(now, worked_at)
        if state.done and (not state.existing or now >= worked_at + LAST_HOUR_S):
            break
        if now > worked_at + STUCK_S:
            raise RuntimeError(f"{state.waiting(now)} jobs wait and the policy launches nothing that serves them")
        seen = counters.look(now)
        orders = scaler.look(seen)
        looks += 1
        launched, ended = _obey(orders, state, now)
        reversals += bool(launched and now <= drained_at + fleet.cold_start_s)
        drained_at = now if ended else drained_at
        at_rest = not state.existing and orders.desired <= 0 and not state.waiting(now) and counters.settled(seen)
        look = _next_look(look, scaler.tick_s, state.next_arrival) if at_rest else look + 1
    for number in tuple(state.existing):
        state.drain(number, now)
    return Result(
        waits=state.waits,
        instance_s=state.billed_s,
        busy_s=state.worked_s + state.lost_s,
        lost_s=state.lost_s,
        boots=state.boots,
        peak=state.peak,
        reversals=reversals,
        looks=looks,
        span_s=now,
        slots=fleet.slots,
    )


def _next_look(look: int, tick_s: float, arrival: float) -> int:
    """The number of the look after one at rest."""
    rest = look + max(1, int(REST_LOOK_S // tick_s))
    return rest if arrival == math.inf else max(look + 1, min(rest, math.ceil(arrival / tick_s)))


def _obey(orders: Orders, state: SimulatedFleet, now: float) -> tuple[int, int]:
    """Carries the orders out; how many instances were launched, and how many told to end."""
    ended = 0
    if orders.kill > 0:
        for number in state.live[-orders.kill :]:
            state.kill(number, now)
            ended += 1
    if orders.drain:
        named = {instance_id(number): number for number in state.live}
        for number in {named[one] for one in orders.drain if one in named}:
            state.drain(number, now)
            ended += 1
    missing = min(orders.desired - len(state.live), state.model.cap - len(state.existing))
    for _ in range(missing):
        state.launch(now)
    return max(0, missing), ended


class _Counters:
    """Makes observations: the fleet as it is, the counters as late and as noisy as the model says."""

    def __init__(self, state: SimulatedFleet, start_at: float, rng: random.Random) -> None:
        model = state.model
        self._state, self._start_at, self._rng, self._noise = state, start_at, rng, model.counter_noise
        self._lag_s = model.counter_lag_s
        self._completed_lag_s = model.counter_lag_s if model.completed_lag_s is None else model.completed_lag_s
        # One reading a look: time, waiting, in flight, completed, seconds worked. The first is from before the start.
        self._readings: list[tuple[float, int, int, int, float]] = [(-math.inf, 0, 0, 0, 0.0)]

    def look(self, now: float) -> Observation:
        state, readings = self._state, self._readings
        readings.append((now, state.waiting(now), state.in_flight, state.completed, state.worked_s))
        while len(readings) > 1 and readings[1][0] <= now - max(self._lag_s, self._completed_lag_s):
            del readings[0]
        _, waiting, in_flight, _, _ = self._as_of(now - self._lag_s)
        _, _, _, completed, worked_s = self._as_of(now - self._completed_lag_s)
        return Observation(
            at=self._start_at + now,
            visible=self._noisy(waiting),
            delayed=0,
            in_flight=self._noisy(in_flight),
            completed=completed,
            instances=state.instances(),
            worked_s=worked_s,
            cold_starts=state.cold_starts,
        )

    def settled(self, seen: Observation) -> bool:
        """Whether the late counters have caught up with a queue at rest."""
        return not seen.visible and not seen.in_flight and seen.completed == self._state.completed

    def _as_of(self, moment: float) -> tuple[float, int, int, int, float]:
        return next(reading for reading in reversed(self._readings) if reading[0] <= moment)

    def _noisy(self, count: int) -> int:
        if not self._noise or not count:
            return count
        return round(count * self._rng.uniform(1 - self._noise, 1 + self._noise))
