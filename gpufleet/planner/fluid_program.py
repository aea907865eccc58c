"""The cheapest numbers of instances over time for work that is known in advance: a dynamic program on a grid of time.

Work is a fluid: arrivals are rounded to quanta of work, `n` ready instances do a fixed number of quanta a step. The
state is (instances, quanta not yet done); a stage is a step of time, or a long silence. An instance that comes up costs
its cold start, one that is up costs its time, one that goes costs nothing. Jobs start in the order of their arrival, so
what is not done tells which jobs have not started; a job that has not when its wait target passes is late and costs a
price. A high price gives few late jobs at a high cost, a low one the reverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .simulated_fleet import FleetModel, Workload

QUANTA = 2  # of work that an instance does in a step, at least
FEW_JOBS = 2000  # so few are told apart: the mean job is PARTS quanta and each is rounded up alone
PARTS, MOST_QUANTA = 16, 60
HELD_S = 600.0  # instance-seconds of late work that can be put off; what is more is done elsewhere, at what it costs
CHECKPOINT = 200  # stages between states kept on the way back
NEVER = np.float32(1e9)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FluidPath:
    """What the program would do: `counts[k]` instances serve between `borders[k]` and `borders[k + 1]` (seconds).

    `started[k]`: jobs of which the work has begun by `borders[k]`. `cost_s`: instance-seconds, with those of work that
    was done elsewhere. `late`: jobs.
    """

    borders: np.ndarray
    counts: np.ndarray
    started: np.ndarray
    cost_s: float
    late: float


class FluidProgram:
    """The program for one workload, fleet and wait target.

    `wait_s`: jobs that wait longer are late. `step_s`: seconds of a step. `most`: most instances. `favourable`: every
    rounding in the schedule's favour (see `lower_bound` in `clairvoyant`), else against it or even.
    """

    def __init__(
        self,
        work: Workload,
        fleet: FleetModel,
        wait_s: float,
        *,
        step_s: float,
        most: int,
        favourable: bool = False,
    ) -> None:
        arrivals, works = np.asarray(work.arrivals, float), np.asarray(work.services, float) / fleet.slots
        few = len(arrivals) <= FEW_JOBS and not favourable
        self._quanta = min(max(QUANTA, math.ceil(PARTS * step_s / works.mean())), MOST_QUANTA) if few else QUANTA
        self._step_s, self._quantum_s, self._most = step_s, step_s / self._quanta, most
        self._launch_s = fleet.cold_start_s - (step_s if favourable else 0.0)
        self._ahead = math.ceil(fleet.slots * works.mean() / self._quantum_s) if favourable else 0
        starts, marks = _positions(arrivals, works / self._quantum_s, -1.0 if few else wait_s, favourable)
        self._started = np.searchsorted(starts, np.arange(marks[-1] + 1), side="left")  # jobs, by quanta done
        self._hold = max(1, round(HELD_S / self._quantum_s))
        steps = math.ceil((max(arrivals[-1] + wait_s, fleet.cold_start_s) + 2 * step_s) / step_s)
        borders = np.arange(steps + 1) * step_s
        arrived = np.searchsorted(arrivals, borders, side="left")
        due = np.searchsorted(arrivals, borders - wait_s, side="right")
        stage = self._stages(arrived, due)
        self.borders, self._steps = borders[stage], np.diff(stage)
        self._due, self._arrived = due[stage], marks[arrived[stage]]  # jobs; quanta
        self._arriving = np.diff(self._arrived)
        self._widths = self._arrived - np.minimum(self._arrived, marks[self._due]) + self._hold + 1
        # The first stage in which an instance that is launched at second 0 can serve.
        late_s = fleet.cold_start_s - (step_s if favourable else 0.0)
        self._first = int(np.searchsorted(self.borders, late_s, side="right" if favourable else "left"))
        self._column = np.arange(most + 1, dtype=np.float32)[:, None, None]

    def _stages(self, arrived: np.ndarray, due: np.ndarray) -> np.ndarray:
        """The borders that are kept: one instance has the time to do all that was put off at the begin of a silence,
        and again in the one stage that is the rest of it.
        """
        silent = np.r_[False, (arrived[1:] == arrived[:-1]) & (due[:-1] == arrived[:-1]), False]
        begins, ends = np.flatnonzero(~silent[:-1] & silent[1:]), np.flatnonzero(silent[:-1] & ~silent[1:])
        enough = math.ceil(self._hold / self._quanta)
        kept = np.ones(len(arrived), bool)
        for begin, end in zip(begins, ends, strict=True):
            if end - begin > 2 * enough:
                kept[begin + enough + 1 : end] = False
        return np.flatnonzero(kept)

    def values(self, prices: ArrayLike) -> np.ndarray:
        """The least of cost (instance-seconds) plus price times late jobs, for each price."""
        return self._backward(np.asarray(prices, np.float32))[0]

    def paths(self, prices: ArrayLike) -> list[FluidPath]:
        """For each price what the program would do."""
        price = np.asarray(prices, np.float32)
        _, kept = self._backward(price)
        stages, runs = len(self._steps), np.arange(len(price))
        counts = np.zeros((len(price), stages), np.uint16)
        left = np.zeros((len(price), stages + 1), np.int64)
        cost, late = np.zeros(len(price)), np.zeros(len(price))
        up, now, behind = np.arange(self._most + 1)[:, None], np.zeros(len(price), int), np.zeros(len(price), int)
        for first in range(0, stages, CHECKPOINT):
            last = min(first + CHECKPOINT, stages)
            ahead, value = [], kept[last]
            for k in range(last - 1, first - 1, -1):
                ahead.append(self._serving(k, value, price))
                value = self._choosing(ahead[-1])
            for k in range(first, last):
                total = ahead[last - 1 - k][:, runs, behind] + self._launch_s * np.maximum(0, up - now)
                then = np.argmin(total, axis=0)
                cost += self._launch_s * np.maximum(0, then - now) + then * self._step_s * self._steps[k]
                behind = np.maximum(0, behind + self._arriving[k] - then * self._quanta * self._steps[k])
                over = np.maximum(0, behind - self._widths[k + 1] + 1)
                cost += over * self._quantum_s
                behind = behind - over
                lateness = self._late(k)
                if lateness is not None:
                    late += lateness[np.maximum(0, behind - self._ahead * then)]
                now, counts[:, k], left[:, k + 1] = then, then, behind
        cost += behind * self._quantum_s + self._launch_s * ((behind > 0) & (now == 0))
        started = self._started[np.maximum(0, self._arrived - left)]
        return [FluidPath(self.borders, counts[i], started[i], float(cost[i]), float(late[i])) for i in runs]

    def _backward(self, price: Floats) -> tuple[np.ndarray, dict[int, Floats]]:
        """The values, and the costs from every so many stages on, each less a number of its own."""
        value = np.zeros((self._most + 1, len(price), int(self._widths[-1])), np.float32)
        value += np.arange(self._widths[-1], dtype=np.float32) * np.float32(self._quantum_s)
        value[0, :, 1:] += np.float32(self._launch_s)
        kept, total = {len(self._steps): value}, np.zeros(len(price))
        for k in range(len(self._steps) - 1, -1, -1):
            value = self._choosing(self._serving(k, value, price))
            least = value[0, :, 0].copy()  # float32 holds differences between states well, sums over weeks badly
            value -= least[None, :, None]
            total += least
            if k % CHECKPOINT == 0:
                kept[k] = value
        return total, kept

    def _late(self, k: int) -> Floats | None:
        """Jobs whose wait target passes in stage `k` before they start, by quanta left at its end; None if none."""
        before, after = self._due[k], self._due[k + 1]
        if before == after:
            return None
        done = np.maximum(0, self._arrived[k + 1] - np.arange(self._widths[k + 1]))
        return np.maximum(0, after - np.maximum(before, self._started[done])).astype(np.float32)

    def _serving(self, k: int, value: Floats, price: Floats) -> Floats:
        """Cost from stage `k` on by (instances that serve in it, price, quanta left at its begin), launches apart."""
        width, after, arriving = int(self._widths[k]), value.shape[2], int(self._arriving[k])
        spent = self._column * np.float32(self._step_s * self._steps[k])
        if self._steps[k] > 1:  # one instance does all there is
            cost = np.repeat(value[:, :, :1], width, axis=2) + spent
            cost[0] = value[0][:, np.minimum(np.arange(width), after - 1)]
        else:
            # Row n of the costs is row n of the values moved by n instances' quanta: a view of one padded array.
            pad, over = self._most * self._quanta, max(0, width + arriving - after)
            padded = np.empty((*value.shape[:2], pad + after + over), np.float32)
            middle = padded[:, :, pad : pad + after]
            middle[...] = value
            lateness = self._late(k)
            if lateness is not None:
                middle += self._by_count(lateness)[:, None, :] * price[:, None]
            padded[:, :, :pad] = middle[:, :, :1]
            if over:
                extra = np.arange(1, over + 1, dtype=np.float32) * np.float32(self._quantum_s)
                padded[:, :, pad + after :] = middle[:, :, -1:] + extra
            row, run, item = padded.strides
            strides, offset = (row - self._quanta * item, run, item), (pad + arriving) * item
            cost = np.ndarray((*value.shape[:2], width), np.float32, padded, offset, strides) + spent
        if k < self._first:
            cost[1:] = NEVER
        return cost

    def _by_count(self, lateness: Floats) -> Floats:
        """The late jobs by (instances, quanta left): what instances have begun and not done is not late."""
        pad = self._ahead * self._most
        padded = np.concatenate([np.full(pad, lateness[0]), lateness])
        item = padded.itemsize
        shape, strides = (self._most + 1, len(lateness)), (-self._ahead * item, item)
        return np.ndarray(shape, np.float32, padded, pad * item, strides)

    def _choosing(self, serving: Floats) -> Floats:
        """Cost by instances before the stage: any may go for nothing, each that comes costs its launch."""
        best, launch = serving.copy(), np.float32(self._launch_s)
        for n in range(1, len(best)):
            np.minimum(best[n], best[n - 1], out=best[n])
        for n in range(len(best) - 2, -1, -1):
            np.minimum(best[n], best[n + 1] + launch, out=best[n])
        return best


def _positions(
    arrivals: np.ndarray, quanta: np.ndarray, gap_s: float, favourable: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Where the work of each job begins on the line of all work, and how many quanta have arrived before each job.

    After more than `gap_s` without arrivals the next group of jobs begins at a whole quantum, so that a job alone is
    never a remainder of an earlier group. Inside a group work arrives rounded up, or down if `favourable`, and the
    first job brings one quantum at least. The second array has one more entry than there are jobs.
    """
    first = np.flatnonzero(np.r_[True, np.diff(arrivals) > gap_s])
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(arrivals)]))
    ends = np.cumsum(quanta)
    ends -= np.r_[0.0, ends[first[1:] - 1]][group]
    whole = np.clip((np.floor if favourable else np.ceil)(ends), 1, None).astype(np.int64)
    begin = np.r_[0, np.cumsum(whole[np.r_[first[1:] - 1, -1]])[:-1]]
    starts = begin[group] + np.r_[0.0, ends[:-1]]
    starts[first] = begin
    marks = begin[group] + whole
    return np.minimum(starts, marks - 0.5), np.r_[0, marks]  # what has been rounded away has begun with what has not
