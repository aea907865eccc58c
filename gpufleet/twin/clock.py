"""Virtual time.

Everything in the twin runs on one `Clock`. Code that waits (a cloud function between two looks, a worker in a long
poll, a booting instance) runs as a *process*: a greenlet that may call `clock.sleep()` or `event.wait()` as if it
had a thread of its own. Nothing ever really sleeps, and two runs with the same inputs take the same steps: exactly
one process runs at a time, and it is only ever suspended where it waits.

A clock belongs to the thread that runs it (greenlets cannot move between threads).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet


class Timer:
    """A call that is due at `when` (unix seconds); `cancel()` makes it never happen."""

    __slots__ = ("args", "cancelled", "fn", "when")

    def __init__(self, when: float, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self.fn = fn
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Process:
    """A greenlet under the clock. `alive` until its function returned, raised or was killed; `done` is set then."""

    def __init__(self, clock: Clock, name: str, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.clock = clock
        self.name = name
        self.alive = True
        self.done = Event(clock)
        self.context: dict[str, Any] = {}  # whatever the owner wants to keep with it (principal, instance, ...)
        self.calls = 0  # AWS calls made in it
        self._killed = False
        self._waiting: Timer | None = None
        self._greenlet = greenlet(lambda _: self._body(fn, args), parent=clock.hub)

    def kill(self) -> None:
        """End the process where it waits, as a power cut does: `GreenletExit` is raised inside it."""
        if not self.alive:
            return
        self._killed = True
        if self._waiting is not None:
            self._waiting.cancel()
        if getcurrent() is self._greenlet:
            raise GreenletExit
        self.clock.at(self.clock.now(), self._resume, None)

    def _body(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            if not self._killed:
                fn(*args)
        except GreenletExit:
            pass
        finally:
            self.alive = False
            self.clock._processes.pop(self._greenlet, None)  # noqa: SLF001 - Clock and Process are one mechanism
            self.done.set()

    def _resume(self, value: object) -> None:
        if self._greenlet.dead:
            return
        self._greenlet.parent = self.clock.hub  # whoever runs the clock now gets the control back
        if self._killed and self._greenlet:  # a started greenlet is truthy
            self._greenlet.throw(GreenletExit)
        else:
            self._greenlet.switch(value)


class Event:
    """A flag that processes can wait for; the shape of `threading.Event`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flag = False
        self._waiters: list[Process] = []

    def is_set(self) -> bool:
        return self._flag

    def set(self) -> None:
        self._flag = True
        waiters, self._waiters = self._waiters, []
        for process in waiters:
            if process._waiting is not None:  # noqa: SLF001 - Event and Process are one mechanism
                process._waiting.cancel()  # noqa: SLF001
            self._clock.at(self._clock.now(), process._resume, True)  # noqa: SLF001

    def clear(self) -> None:
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Suspend the calling process until the flag is set or `timeout` seconds passed; answers the flag."""
        if self._flag:
            return True
        process = self._clock.current()
        self._waiters.append(process)
        if timeout is not None:
            process._waiting = self._clock.after(timeout, process._resume, False)  # noqa: SLF001
        else:
            process._waiting = None  # noqa: SLF001
        self._clock.suspend()
        if process in self._waiters:
            self._waiters.remove(process)
        return self._flag


class Clock:
    """Unix seconds that only move when `run_until` or `run_for` is called.

    Errors: waiting outside a process raises `RuntimeError`; an exception that leaves a process or a timer's function
    comes out of `run_until` (whoever spawns a process that may fail wraps it).
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._queue: list[tuple[float, int, Timer]] = []
        self._sequence = 0  # equal times run in the order in which they were asked for
        self.hub = getcurrent()
        self._processes: dict[greenlet, Process] = {}

    def now(self) -> float:
        return self._now

    def at(self, when: float, fn: Callable[..., object], *args: object) -> Timer:
        """Call `fn(*args)` at `when` (the past means now). Such a call must not wait: `spawn` a process for that."""
        timer = Timer(max(when, self._now), fn, args)
        self._sequence += 1
        heapq.heappush(self._queue, (timer.when, self._sequence, timer))
        return timer

    def after(self, delay: float, fn: Callable[..., object], *args: object) -> Timer:
        return self.at(self._now + delay, fn, *args)

    def spawn(self, name: str, fn: Callable[..., object], *args: object) -> Process:
        """Start `fn(*args)` as a process at the present moment (it first runs when the clock next runs)."""
        process = Process(self, name, fn, args)
        self._processes[process._greenlet] = process  # noqa: SLF001
        self.at(self._now, process._resume, None)  # noqa: SLF001
        return process

    def event(self) -> Event:
        return Event(self)

    def in_process(self) -> bool:
        return getcurrent() in self._processes

    def process(self) -> Process | None:
        """The process that is running now, None outside of one."""
        return self._processes.get(getcurrent())

    def current(self) -> Process:
        """The process that is running now."""
        process = self._processes.get(getcurrent())
        if process is None:
            raise RuntimeError("only a process may wait: spawn one with clock.spawn(...)")
        return process

    def sleep(self, seconds: float) -> None:
        """Suspend the calling process for `seconds` of virtual time."""
        process = self.current()
        process._waiting = self.after(max(0.0, seconds), process._resume, None)  # noqa: SLF001
        self.suspend()

    def suspend(self) -> None:
        self.hub.switch()

    def run_until(self, when: float) -> None:
        """Let everything happen that is due up to and including `when`; afterwards it is `when`."""
        self.hub = getcurrent()
        while self._queue and self._queue[0][0] <= when:
            due, _, timer = heapq.heappop(self._queue)
            if timer.cancelled:
                continue
            self._now = max(self._now, due)
            timer.fn(*timer.args)
        self._now = max(self._now, when)

    def run_for(self, seconds: float) -> None:
        self.run_until(self._now + seconds)

    def run_until_done(self, event: Event, limit: float) -> bool:
        """Let things happen until `event` is set, or until the time `limit`; answers whether it is set."""
        while not event.is_set() and self._queue and self._queue[0][0] <= limit:
            self.run_until(max(self._now, self._queue[0][0]))
        if not event.is_set():
            self.run_until(limit)
        return event.is_set()
