"""Waiting without polling: a signal that is raised again and again, and the request to drain."""

from __future__ import annotations

import zlib

from .runtime import Event, Runtime


class Signal:
    """Wakes everyone who waits at the moment. Take `next()` first, then look at the state, then wait on it: a change
    between the look and the wait is not missed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = runtime.lock()
        self._event = runtime.event()

    def next(self) -> Event:
        return self._event

    def notify(self) -> None:
        with self._lock:
            event, self._event = self._event, self._runtime.event()
        event.set()


class Drain:
    """The request to stop pulling, finish or hand back, and go. Asked again it can only come sooner.

    `deadline`: unix seconds by which work is handed back; `hook`: the group waits for us to say that we are done.
    """

    def __init__(self, runtime: Runtime, changed: Signal) -> None:
        self.requested = runtime.event()
        self.deadline = float("inf")
        self.hook = False
        self._runtime = runtime
        self._changed = changed
        self._lock = runtime.lock()

    def ask(self, reason: str, deadline: float, *, hook: bool = False) -> None:
        with self._lock:
            news = deadline < self.deadline or (hook and not self.hook)
            self.deadline = min(self.deadline, deadline)
            self.hook = self.hook or hook
        self.requested.set()
        if news:
            now = self._runtime.now()
            self._runtime.log({"event": "drain", "reason": reason, "seconds_left": round(self.deadline - now, 1)})
            self._changed.notify()

    def over(self) -> bool:
        """Whether the time to finish work is up."""
        return self._runtime.now() >= self.deadline


def spread(text: str) -> float:
    """A number from 0.75 to 1.25 that depends on `text` alone: retries of many jobs spread out, and repeat exactly."""
    return 0.75 + (zlib.crc32(text.encode()) % 1000) / 2000
