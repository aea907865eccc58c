"""The messages this worker holds, and the one loop that keeps all of them hidden from others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .ports import JobStore, Message, Queue, UnavailableError
from .runtime import Event, Runtime
from .signals import Signal, spread

# The row's lease ends a little before the message comes back, so that who receives it next may claim at once.
ROW_MARGIN_S = 5
END_WAIT_S = 60  # longer than any call to the queue may take (see runtime.py): a round in flight is over by then


class Held(Enum):
    """Who disposes of a message: nobody yet, the thread of its job, the drain; or that is done."""

    WORKING = 1
    ENDING = 2
    TAKEN = 3
    ENDED = 4


@dataclass(eq=False)
class Lease:
    """One message in our hands. `deadline`: when it comes back unless extended, unix seconds; `lost`: others may have
    it, so it must never be released; `job_id`, `attempt` and `failures` once the job is claimed."""

    message: Message
    deadline: float
    state: Held = Held.WORKING
    lost: bool = False
    job_id: str | None = None
    attempt: int | None = None
    failures: int = 0


class Leases:
    """All leases of a worker. `lease_s`: how long the queue hides a message, seconds."""

    def __init__(self, runtime: Runtime, queue: Queue, jobs: JobStore, lease_s: int, changed: Signal) -> None:
        self._runtime = runtime
        self._queue = queue
        self._jobs = jobs
        self._lease_s = lease_s
        self._changed = changed
        self._lock = runtime.lock()
        self._leases: list[Lease] = []
        self._round: Event | None = None

    def add(self, message: Message) -> Lease:
        lease = Lease(message, self._runtime.now() + self._lease_s)
        with self._lock:
            self._leases.append(lease)
        return lease

    def held(self) -> list[Lease]:
        with self._lock:
            return list(self._leases)

    def row_until(self, lease: Lease) -> float:
        return lease.deadline - ROW_MARGIN_S

    def begin_end(self, lease: Lease) -> bool:
        """The job's thread decides what becomes of the message from here; False if the drain took it away."""
        with self._lock:
            if lease.state is Held.WORKING:
                lease.state = Held.ENDING
            return lease.state is Held.ENDING

    def take(self, lease: Lease) -> bool:
        """The drain takes the message away from its job's thread; False if that has begun to end it."""
        with self._lock:
            if lease.state is not Held.WORKING:
                return False
            lease.state = Held.TAKEN
            return True

    def end(self, lease: Lease) -> None:
        """Stop extending. Returns when no extension is under way any more: one that arrives after the message was
        released would hide it again."""
        with self._lock:
            lease.state = Held.ENDED
            known = lease in self._leases
            if known:
                self._leases.remove(lease)
            under_way = self._round
        if under_way is not None:
            under_way.wait(END_WAIT_S)
        if self._runtime.now() >= lease.deadline:
            lease.lost = True
        if known:
            self._changed.notify()

    def run(self, stopped: Event) -> None:
        """Extend every lease three times before it ends; after a failure, every twelfth of a lease."""
        failed = False
        beats = 0
        while True:
            beats += 1
            pause = self._lease_s / 12 if failed else self._lease_s / 3 * min(1.0, spread(str(beats)))
            if stopped.wait(max(1.0, pause)):
                return
            failed = not self.beat()

    def beat(self) -> bool:
        """One round: extend every lease; False if some must be tried again soon."""
        over = self._runtime.event()
        with self._lock:
            leases = [lease for lease in self._leases if not lease.lost]
            self._round = over
        try:
            return self._extend(leases) if leases else True
        finally:
            with self._lock:
                self._round = None
            over.set()

    def _extend(self, leases: list[Lease]) -> bool:
        started = self._runtime.now()
        try:
            extension = self._queue.extend([lease.message for lease in leases], self._lease_s)
            lost, failed = extension.lost, extension.failed
        except UnavailableError as problem:
            self._runtime.log({"event": "lease-extension-failed", "leases": len(leases), "problem": str(problem)})
            lost, failed = frozenset(), frozenset(lease.message.handle for lease in leases)
        complete = True
        for lease in leases:
            if lease.message.handle in lost:
                self._lose(lease, "the queue no longer knows this delivery")
            elif lease.message.handle in failed:
                complete = False
                # Two thirds of the lease without success: whether the next try comes in time is luck.
                if self._runtime.now() >= lease.deadline - self._lease_s / 3:
                    self._lose(lease, "not extended in time")
            else:
                lease.deadline = started + self._lease_s
                self._keep_row(lease)
        return complete

    def _keep_row(self, lease: Lease) -> None:
        if lease.job_id is None or lease.attempt is None or lease.state is Held.ENDED:
            return
        try:
            kept = self._jobs.keep(lease.job_id, lease.attempt, self.row_until(lease))
        except UnavailableError as problem:
            # The message stays hidden, which is what keeps others away; the row is the second line.
            self._runtime.log({"event": "row-extension-failed", "job": lease.job_id, "problem": str(problem)})
            return
        if not kept and lease.state is Held.WORKING:
            self._lose(lease, "another worker has this job")

    def _lose(self, lease: Lease, why: str) -> None:
        lease.lost = True
        self._runtime.log({"event": "lease-lost", "job": lease.job_id, "message": lease.message.id, "why": why})
