"""A fleet of GPU instances that pull jobs from one queue, moved on event by event. It is told what to launch and end.

Times are seconds from the start of the workload. What makes it fast: jobs start in the order in which they arrived, so
the queue is a place in the list of arrivals; a job is one tuple in a heap of completions; and the instances that can
take a job are bits of one whole number per load, so that "the fullest, the oldest of them" is two operations.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace

from fleet_control.scaling_law import BOOTING, DRAINING, READY, SPOT, Instance

SEEN_BOOTS = 20  # boots that an observation shows
BOOTED, GIVEN_UP, LOST, KILLED = range(4)  # what happens to an instance at a time known in advance


@dataclass(frozen=True)
class Workload:
    """Jobs in arrival order.

    `arrivals`: seconds from the start, ascending. `services`: seconds of work of each job in one slot. `start_at`: unix
    time of second 0, for whatever follows a calendar. Raises ValueError if the lists do not belong together.
    """

    arrivals: Sequence[float]
    services: Sequence[float]
    start_at: float = 0.0

    def __post_init__(self) -> None:
        if len(self.arrivals) != len(self.services):
            raise ValueError(f"{len(self.arrivals)} arrivals, {len(self.services)} services: one service per arrival")
        if list(self.arrivals) != sorted(self.arrivals):
            raise ValueError("arrivals must ascend")


@dataclass(frozen=True)
class FleetModel:
    """What the cloud and the workers do. Seconds unless said otherwise.

    `slots`: jobs at once on an instance. `cap`: most instances, draining ones counted. `cold_start_s`: mean from launch
    to ready, with lognormal spread of coefficient of variation `boot_cv`. `failed_boots`: share of the boots that never
    serve; they are billed until `boot_deadline_s`, then gone. `losses_per_h`: rate at which the cloud takes an instance
    back, from its launch on; with `notice_s` it is seen as draining for so long and then killed, without it is killed
    at once. The jobs of a killed instance return to the front of the queue and start anew. `dispatch`: a job goes to
    the fullest instance with a free slot (`packed`) or to the emptiest (`spread`); of equals to the oldest.
    `counter_noise`: waiting and in-flight counts are each multiplied by uniform(1 - x, 1 + x) and rounded.
    `counter_lag_s`: age of all the counters; `completed_lag_s`: age of completions and seconds worked if it differs.
    Ages are rounded up to whole looks. `minimum_bill_s`: least an instance is billed. Raises ValueError.
    """

    slots: int
    cap: int
    cold_start_s: float
    boot_cv: float = 0.0
    failed_boots: float = 0.0
    boot_deadline_s: float = 900.0
    losses_per_h: float = 0.0
    notice_s: float = 0.0
    dispatch: str = "packed"
    counter_noise: float = 0.0
    counter_lag_s: float = 0.0
    completed_lag_s: float | None = None
    minimum_bill_s: float = 60.0

    def __post_init__(self) -> None:
        if self.slots < 1 or self.cap < 0:
            raise ValueError(f"slots = {self.slots}, cap = {self.cap}: at least one slot, a cap of 0 or more")
        if self.dispatch not in ("packed", "spread"):
            raise ValueError(f"dispatch = {self.dispatch!r}: packed or spread")


class SimulatedFleet:
    """The queue and the instances at one moment; `pass_until` moves it on, the other methods are the cloud's calls."""

    def __init__(self, work: Workload, model: FleetModel, rng: random.Random) -> None:
        self.model, self._rng, self._start_at = model, rng, work.start_at
        self._arrivals = [*work.arrivals, math.inf]
        self._services = work.services
        self.waits = array("d", bytes(8 * len(work.services)))  # of the latest start of each job
        self._head = 0  # next job that was never started
        self._returned: list[int] = []  # heap: jobs of killed instances, ahead of all others
        self._running: list[tuple[float, int, int]] = []  # heap: completion time, job, instance
        self.completed, self.worked_s, self.lost_s = 0, 0.0, 0.0
        self._events: list[tuple[float, int, int]] = []  # heap: time, instance, what happens
        # Per instance ever launched, by number in launch order.
        self._launched: list[float] = []
        self._state: list[str] = []
        self._busy: list[int] = []
        self._shown: list[dict[int, Instance]] = []  # by busy slots, in its present state
        self.existing: dict[int, None] = {}  # not terminated, in launch order
        self._leaving: set[int] = set()
        # Bit k of _loads[b]: instance k is ready and has b busy slots. _free: slots that can take a job.
        self._loads = [0] * (model.slots + 1)
        self._free = 0
        levels = range(model.slots)
        self._levels = tuple(reversed(levels) if model.dispatch == "packed" else levels)
        self.billed_s, self.boots, self.peak = 0.0, 0, 0
        self.cold_starts: tuple[float, ...] = ()

    # What can be seen.

    def waiting(self, now: float) -> int:
        return bisect_right(self._arrivals, now, lo=self._head) - self._head + len(self._returned)

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def done(self) -> bool:
        """Every job of the workload is completed."""
        return self.completed == len(self.waits)

    @property
    def next_arrival(self) -> float:
        """Arrival of the next job that was never started; infinite after the last."""
        return self._arrivals[self._head]

    @property
    def live(self) -> list[int]:
        """Instances that are booting or ready, oldest first."""
        return [number for number in self.existing if number not in self._leaving]

    def instances(self) -> tuple[Instance, ...]:
        """As an observation shows them, oldest first. Unchanged ones are the same objects as before."""
        return tuple([self._instance(number) for number in self.existing])

    def _instance(self, number: int) -> Instance:
        state, busy = self._state[number], self._busy[number]
        shown = self._shown[number]
        if busy not in shown:
            launched_at = self._start_at + self._launched[number]
            reported = None if state == BOOTING else busy
            shown[busy] = Instance(instance_id(number), SPOT, state, launched_at, reported)
        return shown[busy]

    # The passing of time.

    def pass_until(self, until: float) -> None:
        """Everything that happens up to and including `until`."""
        while self._events and self._events[0][0] <= until:
            now, number, what = heappop(self._events)
            self._advance(now)
            if number in self.existing:
                self._happen(now, number, what)
        self._advance(until)

    def _advance(self, until: float) -> None:
        """Starts and completes jobs up to and including `until`. Nothing else may be due before."""
        arrivals, services, waits, running = self._arrivals, self._services, self.waits, self._running
        loads, busy, levels, leaving, returned = self._loads, self._busy, self._levels, self._leaving, self._returned
        head, free, completed, worked_s = self._head, self._free, self.completed, self.worked_s
        arrival = arrivals[head]
        while True:
            end, job, number = running[0] if running else (math.inf, 0, 0)
            if free and arrival < end:
                if arrival > until:
                    break
                for load in levels:
                    if loads[load]:
                        break
                bit = loads[load] & -loads[load]  # the lowest bit: the oldest instance of this load
                loads[load] ^= bit
                loads[load + 1] |= bit
                number = bit.bit_length() - 1
                busy[number] = load + 1
                free -= 1
                heappush(running, (arrival + services[head], head, number))
                head += 1
                arrival = arrivals[head]
                continue
            if end > until:
                break
            completed += 1
            worked_s += services[job]
            if number in leaving:
                heappop(running)
                busy[number] -= 1
                if not busy[number]:
                    self._end(number, end)
            elif returned:
                job = heappop(returned)
                waits[job] = end - arrivals[job]
                heapreplace(running, (end + services[job], job, number))
            elif arrival <= end and not free:
                waits[head] = end - arrival
                heapreplace(running, (end + services[head], head, number))
                head += 1
                arrival = arrivals[head]
            else:
                heappop(running)
                load = busy[number]
                loads[load] ^= 1 << number
                loads[load - 1] |= 1 << number
                busy[number] = load - 1
                free += 1
        self._head, self._free, self.completed, self.worked_s = head, free, completed, worked_s

    def _happen(self, now: float, number: int, what: int) -> None:
        if what == BOOTED and self._state[number] == BOOTING:
            self.cold_starts = (*self.cold_starts, now - self._launched[number])[-SEEN_BOOTS:]
            self._join(number, now)
        elif what == GIVEN_UP:
            self._end(number, now)
        elif what == LOST and self.model.notice_s > 0:
            self.drain(number, now)
            heappush(self._events, (now + self.model.notice_s, number, KILLED))
        elif what in (LOST, KILLED):
            self.kill(number, now)

    # The cloud's calls.

    def launch(self, now: float, *, ready: bool = False) -> None:
        """One more instance; it boots unless it is `ready`. The caller minds the cap."""
        model, number = self.model, len(self._launched)
        self._launched.append(now)
        self._state.append(BOOTING)
        self._busy.append(0)
        self._shown.append({})
        self.existing[number] = None
        self.peak = max(self.peak, len(self.existing))
        if model.losses_per_h > 0:
            lost_at = now + self._rng.expovariate(model.losses_per_h / 3600)
            heappush(self._events, (lost_at, number, LOST))
        if ready:
            self._join(number, now)
            return
        self.boots += 1
        if self._rng.random() < model.failed_boots:
            heappush(self._events, (now + model.boot_deadline_s, number, GIVEN_UP))
            return
        sigma_2 = math.log(1 + model.boot_cv**2)
        spread = math.exp(self._rng.gauss(-sigma_2 / 2, math.sqrt(sigma_2))) if sigma_2 else 1.0
        heappush(self._events, (now + model.cold_start_s * spread, number, BOOTED))

    def drain(self, number: int, now: float) -> None:
        """The instance takes no new job, finishes what it holds and ends; one that boots ends at once."""
        if number in self._leaving:
            return
        if not self._busy[number]:
            self._end(number, now)
            return
        self._stop_pulling(number)
        self._leaving.add(number)
        self._enter(number, DRAINING)

    def kill(self, number: int, now: float) -> None:
        """The instance ends at once; its jobs return to the front of the queue and their work is lost."""
        for end, job, _ in [run for run in self._running if run[2] == number]:
            self.lost_s += now - (end - self._services[job])
            heappush(self._returned, job)
        self._running[:] = [run for run in self._running if run[2] != number]
        heapify(self._running)
        self._end(number, now)
        self._fill(now)

    def _join(self, number: int, now: float) -> None:
        self._enter(number, READY)
        self._loads[0] |= 1 << number
        self._free += self.model.slots
        self._fill(now)

    def _fill(self, now: float) -> None:
        """Starts jobs that wait while there are free slots."""
        while self._free and (self._returned or self._arrivals[self._head] <= now):
            if self._returned:
                job = heappop(self._returned)
            else:
                job, self._head = self._head, self._head + 1
            load = next(level for level in self._levels if self._loads[level])
            bit = self._loads[load] & -self._loads[load]
            self._loads[load] ^= bit
            self._loads[load + 1] |= bit
            number = bit.bit_length() - 1
            self._busy[number] = load + 1
            self._free -= 1
            self.waits[job] = now - self._arrivals[job]
            heappush(self._running, (now + self._services[job], job, number))

    def _enter(self, number: int, state: str) -> None:
        self._state[number], self._shown[number] = state, {}

    def _stop_pulling(self, number: int) -> None:
        if self._state[number] == READY:
            self._loads[self._busy[number]] ^= 1 << number
            self._free -= self.model.slots - self._busy[number]

    def _end(self, number: int, now: float) -> None:
        self._stop_pulling(number)
        self._enter(number, "")
        del self.existing[number]
        self._leaving.discard(number)
        self.billed_s += max(now - self._launched[number], self.model.minimum_bill_s)


def instance_id(number: int) -> str:
    return f"i-{number:05d}"
