"""Schedules cut where their fleets are in the same state, and the best pieces joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .replay import Replay, Schedule

LEAD = 0.25  # of its slots: so many more jobs the first of two joined schedules has started, unless nothing waits
PRICES = np.geomspace(0.02, 5000.0, 12)  # instance-seconds a late job may cost


class Splice:
    """The replays of one workload with the same borders, ready to be joined.

    `arrived`: jobs that have arrived before each border. `slots`: of an instance. From one replay to another at a
    border: all instances of both are ready, they are as many, and the first is ahead of the second.
    """

    def __init__(
        self, replays: Sequence[Replay], borders: np.ndarray, arrived: np.ndarray, slots: int, wait_s: float
    ) -> None:
        self._replays, self._borders = tuple(replays), borders
        spent = np.stack([np.append(one.spent, one.instance_s) for one in replays])
        late = [np.append(0, np.cumsum(one.waits > wait_s)) for one in replays]
        started = np.stack([np.append(one.started, len(one.waits)) for one in replays])
        lates = np.stack([one[count] for one, count in zip(late, started, strict=True)])
        fleets = np.stack([one.fleet for one in replays])
        self._cuts: list[int] = []
        self._same: list[np.ndarray] = []
        for k in range(len(borders)):
            fleet, count = fleets[:, k], started[:, k]
            # Who follows a replay that has started as many jobs may still be late: the jobs in its slots are others.
            lead = np.where(count < arrived[k], LEAD * slots * fleet, 0)
            same = (fleet[:, None] == fleet) & (fleet >= 0) & (count[:, None] >= count + lead)
            np.fill_diagonal(same, True)
            if np.count_nonzero(same) > len(fleet):
                self._cuts.append(k)
                self._same.append(same)
        ends = [*self._cuts, len(borders)]
        self._cost = np.diff(spent[:, ends], prepend=0.0)
        self._late = np.diff(lates[:, ends], prepend=0)

    def best(self, late: float) -> Schedule:
        """The cheapest found with at most so many late jobs; if none has so few, the one with the fewest.

        Only nearly: a joint costs a little time that shows when the schedule is carried out.
        """
        prices = PRICES
        for _ in range(2):
            choices, cost, lates = self._cheapest(prices)
            fitting = np.flatnonzero(lates <= late)
            if not len(fitting):
                at = int(np.argmin(lates))
                return self._joined(choices[:, at])
            at = int(fitting[np.argmin(cost[fitting])])
            prices = np.geomspace(prices[max(0, at - 1)], prices[at], 12)
        return self._joined(choices[:, at])

    def _cheapest(self, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each price the replay chosen for each piece, and the cost and late jobs they add up to."""
        rows, runs = np.arange(len(self._replays))[:, None], np.arange(len(prices))
        value = self._cost[:, :1] + self._late[:, :1] * prices
        came = np.empty((len(self._cuts), *value.shape), np.int16)
        for k, same in enumerate(self._same):
            reached = np.where(same[:, :, None], value[:, None, :], np.inf)
            best = reached.min(axis=0)
            came[k] = np.where(best < value - 1e-9, reached.argmin(axis=0), rows)
            value = best + self._cost[:, k + 1, None] + self._late[:, k + 1, None] * prices
        chosen = np.empty((len(self._cuts) + 1, len(prices)), np.int16)
        chosen[-1] = value.argmin(axis=0)
        for k in range(len(self._cuts) - 1, -1, -1):
            chosen[k] = came[k][chosen[k + 1], runs]
        pieces = np.arange(len(chosen))[:, None]
        return chosen, self._cost[chosen, pieces].sum(axis=0), self._late[chosen, pieces].sum(axis=0)

    def _joined(self, chosen: np.ndarray) -> Schedule:
        """One schedule of the pieces."""
        first = np.flatnonzero(np.r_[True, np.diff(chosen) != 0])  # pieces at which another replay begins
        begins = [0, *[self._cuts[piece - 1] for piece in first[1:]], len(self._borders)]
        launched: list[float] = []
        drained: list[float] = []
        for piece, (a, b) in zip(first, pairwise(begins), strict=True):
            one = self._replays[chosen[piece]]
            after = self._borders[a] if a else -math.inf
            until = self._borders[b] if b < len(self._borders) else math.inf
            launched += [at for at in one.schedule.launched if after < at <= until]
            drained += [at for at in one.schedule.drained if after < at <= until]
        return Schedule(tuple(sorted(launched)), tuple(sorted(drained)))
