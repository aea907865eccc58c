"""The worker: pulls for free slots, serves, and drains when told to. Knows no cloud."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from . import hooks
from .leases import Leases
from .model import Model
from .ports import FleetStore, Heartbeat, Lifecycle, Notices, Queue, UnavailableError
from .processing import Processor, Tally
from .runtime import Runtime
from .signals import Drain, Signal
from .turns import Turns

HEARTBEAT_S = 10  # the controller takes a row for stale after several of these
NOTICE_S = 5  # AWS advises to look for a spot notice every 5 s
RECLAIM_MARGIN_S = 20  # handing everything back takes seconds; the notice's time is when the machine stops
POLL_S, IDLE_POLL_S, IDLE_AFTER_S = 10, 20, 300  # a drain must wait for the poll under way, so busy nodes poll shorter
HEALTH_S = 5  # how soon a model that does not serve is asked again
HOOK_S = 30  # how often the group is told that the drain still runs: the shortest hook waits 90 s, and calls fail
FINISH_S = 20  # what is being stored when the drain's time is up may take this much longer


@dataclass
class Worker:
    """One worker process. `run` returns 0 once it is drained, 1 if one of its threads died."""

    runtime: Runtime
    queue: Queue
    model: Model
    fleet: FleetStore
    lifecycle: Lifecycle
    notices: Notices
    processor: Processor
    leases: Leases
    turns: Turns
    tally: Tally
    drain: Drain
    changed: Signal
    slots: int
    drain_s: int  # how long a stop lets running jobs finish
    leave_s: int  # how long running jobs may go on when the group takes the instance away
    terminate_hook: str | None
    cold_start_s: float | None = None  # of an earlier process on this instance, if there was one

    def __post_init__(self) -> None:
        self._stopped = self.runtime.event()
        self._idle_poller = self.runtime.event()
        self._broken = False
        self._trouble_seen = 0

    def stop(self) -> None:
        """Drain; asked a second time, hand everything back at once."""
        now = self.runtime.now()
        self.drain.ask("stop", now if self.drain.requested.is_set() else now + self.drain_s)

    def run(self) -> int:
        for name, work in (
            ("poller", self._pull),
            ("leases", lambda: self.leases.run(self._stopped)),
            ("notices", self._watch_notices),
            ("heartbeat", self._report),
        ):
            self.runtime.spawn(name, self._guarded(name, work))
        while not self.drain.requested.wait(600):
            pass
        self._beat()
        self._finish_or_hand_back()
        self._stopped.set()
        self._beat()
        if self.drain.hook:
            hooks.complete(self.runtime, self.lifecycle, self.terminate_hook, "CONTINUE")
        self.runtime.log({"event": "drained", "completed": self.tally.completed, "held": len(self.leases.held())})
        return int(self._broken)

    # -- pulling ------------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        idle_since = self.runtime.now()
        refusals = 0
        try:
            while not self.drain.requested.is_set():
                change = self.changed.next()
                free = self.slots - len(self.leases.held())
                if free <= 0 or self.turns.suspects():
                    change.wait(60)
                    continue
                pause = self._pause_s()
                if pause:
                    self.drain.requested.wait(pause)
                    continue
                started = self.runtime.now()
                try:
                    wait_s = IDLE_POLL_S if started - idle_since > IDLE_AFTER_S else POLL_S
                    received = self._receive(free, wait_s)
                    refusals = 0
                except UnavailableError as problem:
                    refusals += 1
                    self.runtime.log({"event": "receive-failed", "times": refusals, "problem": str(problem)})
                    self.drain.requested.wait(min(60, 2**refusals))
                    continue
                if received or self.leases.held():
                    idle_since = self.runtime.now()
                if not received and self.runtime.now() - started < 1:
                    self.drain.requested.wait(1)  # an empty answer at once: never ask in a tight loop
        finally:
            self._idle_poller.set()
            self.changed.notify()

    def _receive(self, free: int, wait_s: int) -> int:
        messages = self.queue.receive(free, wait_s)
        held = [self.leases.add(message) for message in messages]
        for lease in held:
            if self.drain.requested.is_set():
                self.processor.hand_back(lease)  # handed to us after we stopped asking
            else:
                self.runtime.spawn("job", lambda lease=lease: self.processor.handle(lease))
        return len(held)

    def _pause_s(self) -> float:
        """How long not to pull: the model must answer, and stores that refuse are given time."""
        trouble, seen = self.tally.trouble, self._trouble_seen
        self._trouble_seen = trouble
        if trouble > seen:
            return min(60, 5 * 2 ** min(trouble, 4))
        if not self.model.serves():
            return HEALTH_S
        if self.cold_start_s is None:
            self.cold_start_s = self.runtime.now() - self.runtime.booted_at()
        return 0

    # -- telling and being told ---------------------------------------------------------------------------------------

    def _report(self) -> None:
        """A heartbeat every 10 s while the model answers: a node that cannot serve must not look like capacity."""
        while not self._stopped.is_set():
            if self.model.proven or self.leases.held():
                self._beat()
            self._stopped.wait(HEARTBEAT_S if self.cold_start_s is not None else HEALTH_S)

    def _beat(self) -> None:
        if self.cold_start_s is None:
            return
        heartbeat = Heartbeat(
            at=self.runtime.now(),
            state="draining" if self.drain.requested.is_set() else "ready",
            slots=self.slots,
            busy=min(self.slots, len(self.leases.held())),
            completed=self.tally.completed,
            worked_s=round(self.tally.worked_s, 3),
            cold_start_s=round(self.cold_start_s, 3),
            launched_at=round(self.runtime.booted_at(), 3),
        )
        try:
            self.fleet.beat(heartbeat)
        except UnavailableError as problem:
            self.runtime.log({"event": "heartbeat-failed", "problem": str(problem)})

    def _watch_notices(self) -> None:
        """Being told is a convenience: without any notice the leases run out and every job runs elsewhere."""
        quiet = False
        while not self._stopped.is_set():
            try:
                reclaim_at = self.notices.reclaim_at()
                if reclaim_at is not None:
                    self.drain.ask("spot notice", reclaim_at - RECLAIM_MARGIN_S)
                if not self.drain.hook and self.notices.leaving():
                    self.drain.ask("terminating", self.runtime.now() + self.leave_s, hook=True)
                quiet = False
            except UnavailableError as problem:
                if not quiet:
                    self.runtime.log({"event": "no-metadata", "problem": str(problem)})
                quiet = True
            self._stopped.wait(NOTICE_S)

    # -- draining -----------------------------------------------------------------------------------------------------

    def _finish_or_hand_back(self) -> None:
        told_at = self.runtime.now()
        while not self._empty() and not self.drain.over():
            change = self.changed.next()
            if self._empty():
                break
            now = self.runtime.now()
            change.wait(max(1.0, min(told_at + HOOK_S, self.drain.deadline) - now))
            if self.runtime.now() - told_at >= HOOK_S:
                told_at = self.runtime.now()
                self._prolong_hook()
        for lease in self.leases.held():
            self.processor.hand_back(lease)
        # What is being stored, and the poll under way, end by themselves; neither is waited for without end.
        give_up_at = self.runtime.now() + FINISH_S + IDLE_POLL_S
        while not self._empty() and self.runtime.now() < give_up_at:
            change = self.changed.next()
            if not self._empty():
                change.wait(max(1.0, give_up_at - self.runtime.now()))

    def _empty(self) -> bool:
        return self._idle_poller.is_set() and not self.leases.held()

    def _prolong_hook(self) -> None:
        if not (self.drain.hook and self.terminate_hook):
            return
        try:
            self.lifecycle.extend(self.terminate_hook)
        except UnavailableError as problem:
            self.runtime.log({"event": "hook-not-prolonged", "problem": str(problem)})

    def _guarded(self, name: str, work: Callable[[], object]) -> Callable[[], None]:
        def body() -> None:
            try:
                work()
            except Exception as bug:  # without one of its threads a worker hands over and restarts
                problem = f"{bug!r}: {traceback.format_exc(limit=-3)}"
                self.runtime.log({"event": "thread-died", "thread": name, "problem": problem})
                self._broken = True
                self.drain.ask(f"{name} died", self.runtime.now() + self.drain_s)

        return body
