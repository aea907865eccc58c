"""Virtual time for worker tests: every thread is a greenlet, exactly one runs, nothing really sleeps.

Things due at the same moment run in an order drawn from the seed, so that many seeds try many interleavings.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

START = 1_790_000_000.0


class Killed(BaseException):
    """Power loss: raised wherever the node's code happens to wait."""


class Entry:
    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.live = True


class VirtualClock:
    def __init__(self, seed: int = 0) -> None:
        self.now = START
        self.rng = random.Random(seed)
        self.hub = getcurrent()
        self._heap: list[tuple[float, float, int, Entry]] = []
        self._count = 0

    def at(self, when: float, act: Callable[[], object]) -> Entry:
        self._count += 1
        entry = Entry(act)
        heapq.heappush(self._heap, (max(when, self.now), self.rng.random(), self._count, entry))
        return entry

    def spawn(self, body: Callable[[], object]) -> greenlet:
        task = greenlet(body, parent=self.hub)
        self.at(self.now, task.switch)
        return task

    def pause(self, seconds: float) -> bool:
        """Suspend the running greenlet; whoever switches to it says what `pause` returns (None: the time is up)."""
        task = getcurrent()
        assert task is not self.hub, "only spawned code may wait"
        entry = self.at(self.now + max(0.0, seconds), task.switch)
        try:
            return bool(self.hub.switch())
        finally:
            entry.live = False

    def run(self, until: Callable[[], bool] | None = None, most_s: float = 86_400) -> bool:
        """Run until `until()` holds; False if it did not within `most_s` virtual seconds."""
        self.hub = getcurrent()
        end = self.now + most_s
        while not (until and until()):
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return False
            when, _, _, entry = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if entry.live:
                entry.act()
        return True


class VirtualEvent:
    def __init__(self, clock: VirtualClock, check: Callable[[], None]) -> None:
        self._clock = clock
        self._check = check
        self._flag = False
        self._waiters: list[greenlet] = []

    def set(self) -> None:
        self._flag = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._clock.at(self._clock.now, lambda waiter=waiter: None if waiter.dead else waiter.switch(True))

    def is_set(self) -> bool:
        return self._flag

    def wait(self, timeout_s: float, /) -> bool:
        self._check()
        if self._flag:
            return True
        task: Any = getcurrent()
        self._waiters.append(task)
        try:
            self._clock.pause(timeout_s)
        finally:
            if task in self._waiters:
                self._waiters.remove(task)
        self._check()
        return self._flag
