"""Who may use the model now. A job that failed before runs alone: if it kills the engine again, no neighbour dies."""

from __future__ import annotations

from collections.abc import Callable

from .runtime import Runtime
from .signals import Signal


class Turns:
    """Any number of jobs at once, or one suspect alone."""

    def __init__(self, runtime: Runtime, changed: Signal) -> None:
        self._changed = changed
        self._lock = runtime.lock()
        self._running = 0
        self._alone = False
        self._suspects = 0

    def suspects(self) -> int:
        """Suspects that run or wait for their turn; nothing new may be pulled meanwhile."""
        return self._suspects

    def enter(self, *, suspect: bool, wanted: Callable[[], bool]) -> bool:
        """Wait for a turn; False if it is no longer `wanted`. Each True must be followed by `leave`."""
        with self._lock:
            self._suspects += suspect
        while True:
            change = self._changed.next()
            with self._lock:
                if not wanted():
                    self._suspects -= suspect
                    return False
                if not self._alone and not (suspect and self._running):
                    self._running += 1
                    self._alone = suspect
                    return True
            change.wait(60)

    def leave(self, *, suspect: bool) -> None:
        with self._lock:
            self._running -= 1
            self._suspects -= suspect
            if suspect:
                self._alone = False
        self._changed.notify()
