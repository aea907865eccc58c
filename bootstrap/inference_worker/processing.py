"""One job, from the message to its deletion.

The order never changes: claim, work, result, terminal status and bill, end of the lease, delete. A crash between any
two of these leaves a job that runs again or is found finished.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .leases import Held, Lease, Leases
from .message import Job, PoisonError, parse
from .model import Answer, AwayError, FailedError, Model, RefusedError
from .ports import Bill, JobStore, Message, Outbox, Outcome, Queue, ResultStore, UnavailableError
from .runtime import Runtime
from .signals import Drain, spread
from .turns import Turns

MOST_FAILURES = 3  # the third breakdown of the model under one job ends the job
# How long a finished answer is offered to stores that refuse it (about two minutes) before it is thrown away.
INSIST_S = (2, 5, 10, 20, 30, 30, 30)
LONGEST_DELAY_S = 900
T = TypeVar("T")


class Tally:
    """Running counts of a worker: jobs it completed, seconds its slots worked, stores' refusals in a row."""

    def __init__(self, runtime: Runtime) -> None:
        self._lock = runtime.lock()
        self.completed = 0
        self.worked_s = 0.0
        self.trouble = 0

    def add(self, *, completed: int = 0, worked_s: float = 0.0) -> None:
        with self._lock:
            self.completed += completed
            self.worked_s += worked_s


@dataclass
class Processor:
    """Ends what a lease began. Every path takes the message out of our hands exactly once."""

    runtime: Runtime
    queue: Queue
    outbox: Outbox
    jobs: JobStore
    results: ResultStore
    model: Model
    leases: Leases
    turns: Turns
    drain: Drain
    tally: Tally
    max_receive_count: int

    def handle(self, lease: Lease) -> None:
        """Serve the job in `lease`. Raises nothing: what goes wrong is counted, logged and given back."""
        try:
            self._serve(lease)
        except UnavailableError as problem:
            self.tally.trouble += 1
            self._note(lease, "unavailable", str(problem))
            self._give_back(lease, self._store_delay(lease.message))
        except Exception as bug:  # one job must not take the worker with it
            self._note(lease, "worker-error", f"{bug!r}: {traceback.format_exc(limit=-3)}")
            self._give_back(lease, self._store_delay(lease.message))
        finally:
            if lease.state in (Held.WORKING, Held.ENDING):
                self.leases.end(lease)

    def hand_back(self, lease: Lease) -> None:
        """Take the job away from its thread and give it to another worker at once; an interruption, not a failure."""
        if self.leases.take(lease):
            self._dispose(lease, 0)

    def _serve(self, lease: Lease) -> None:
        try:
            job = parse(lease.message)
        except PoisonError as poison:
            lease.job_id = poison.job_id
            if self.leases.begin_end(lease):
                self._fail_for_good(lease, poison.reason)
            return
        lease.job_id = job.id
        if self._near_limit(lease.message) and self._renew(lease, job):
            return
        now = self.runtime.now()
        claimed, row = self.jobs.claim(job.id, now, self.leases.row_until(lease))
        self.tally.trouble = 0
        if not claimed:
            if row.status == "running":
                self._note(lease, "owned", f"until {row.lease_until:.0f}")
                self._give_back(lease, _seconds_until(row.lease_until, now))
            elif self.leases.begin_end(lease):
                self._already_ended(lease, row.status)
            return
        lease.failures, lease.attempt = row.failures, row.attempts
        if lease.state is not Held.WORKING:  # taken away while the claim was under way
            self.jobs.let_go(job.id, row.attempts, row.failures)
            return
        self._work(lease, job)

    def _work(self, lease: Lease, job: Job) -> None:
        if self._ended_without_work(lease, job):
            return
        if not self.turns.enter(suspect=lease.failures > 0, wanted=lambda: lease.state is Held.WORKING):
            return
        try:
            answer, worked = self._ask_model(job, suspect=lease.failures > 0)
        except RefusedError as refusal:
            if self.leases.begin_end(lease):
                self._fail_for_good(lease, str(refusal))
        except AwayError as problem:
            self._note(lease, "model-away", str(problem))
            self._give_back(lease, self._failure_delay(lease, lease.failures))
        except FailedError as problem:
            if self.leases.begin_end(lease):
                self._count_failure(lease, str(problem))
        else:
            if self.leases.begin_end(lease):
                self._complete(lease, job, self._store(job, answer, worked))

    def _ended_without_work(self, lease: Lease, job: Job) -> bool:
        # Only an earlier attempt can have left a result; the write itself guards against every other.
        earlier = self.results.get(job.id) if lease.attempt and lease.attempt > 1 else None
        if earlier is None and (job.expires_at is None or self.runtime.now() < job.expires_at):
            return False
        if not self.leases.begin_end(lease):
            return True
        if earlier is not None:
            self._complete(lease, job, earlier)
        else:
            self._expire(lease, job)
        return True

    def _ask_model(self, job: Job, *, suspect: bool) -> tuple[Answer, float]:
        """The answer and the seconds it took. The turn ends here, whatever came of it."""
        started = self.runtime.now()
        worked = 0.0
        try:
            answer = self.model.answer(job.path, job.payload)
        finally:
            worked = max(0.0, self.runtime.now() - started)
            self.tally.add(worked_s=worked)
            self.turns.leave(suspect=suspect)
        return answer, worked

    def _store(self, job: Job, answer: Answer, worked: float) -> dict[str, Any]:
        """Store the answer and return the result that counts: this one, or one that was there before."""
        document = {
            "job_id": job.id,
            "response": answer.response,
            "bill": {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "seconds": round(worked, 3),
            },
        }
        if self._insist(lambda: self.results.put(job.id, document)):
            return document
        earlier = self._insist(lambda: self.results.get(job.id))
        if earlier is None:
            raise UnavailableError(f"the result of {job.id} exists but cannot be read")
        return earlier

    def _complete(self, lease: Lease, job: Job, document: dict[str, Any]) -> None:
        outcome = Outcome("completed", self.runtime.now(), _bill(document), result=self.results.key(job.id))
        # Whoever has the result may settle, also after losing the lease: the first writer wins, and all write the same.
        written, _ = self._insist(lambda: self.jobs.settle(job.id, outcome, None))
        self.tally.add(completed=int(written))
        self._note(lease, "completed", f"{outcome.bill.completion_tokens} tokens in {outcome.bill.seconds} s")
        self._delete(lease)

    def _expire(self, lease: Lease, job: Job) -> None:
        outcome = Outcome("expired", self.runtime.now(), reason=f"not served before {job.expires_at:.0f}")
        if self._insist(lambda: self.jobs.settle(job.id, outcome, lease.attempt))[1] != "running":
            self._note(lease, "expired", str(outcome.reason))
            self._delete(lease)

    def _count_failure(self, lease: Lease, reason: str) -> None:
        if lease.failures + 1 >= MOST_FAILURES:
            self._fail_for_good(lease, f"failed {MOST_FAILURES} times, at last: {reason}")
            return
        lease.failures += 1
        self._note(lease, "model-failed", reason)
        self._dispose(lease, self._failure_delay(lease, lease.failures))

    def _fail_for_good(self, lease: Lease, reason: str) -> None:
        """Terminal status first, then the dead letter, then the deletion: none is lost by a crash in between."""
        job_id = lease.job_id or lease.message.id
        outcome = Outcome("failed", self.runtime.now(), reason=reason, failures=lease.failures + 1)
        _, status = self._insist(lambda: self.jobs.settle(job_id, outcome, lease.attempt))
        self._note(lease, "failed", reason)
        self._already_ended(lease, status, reason)

    def _already_ended(self, lease: Lease, status: str, reason: str = "failed before") -> None:
        """The job has its terminal status: only the message is left. A failed one is buried (again, if a crash came
        between the two: two dead letters are better than none)."""
        if status == "running":
            return  # a later attempt owns the job and the message
        if status == "failed":
            self.outbox.bury(lease.message, lease.job_id or lease.message.id, reason)
        self._delete(lease)

    def _renew(self, lease: Lease, job: Job) -> bool:
        """Replace a message that was received almost too often by a copy that counts from one: the queue would
        dead-letter it for interruptions. False if the job has ended and only the message is left."""
        row = self.jobs.look(job.id)
        if row is not None and row.status != "running":
            return False
        if not self.leases.begin_end(lease):
            return True
        self._dispose(lease, _seconds_until(row.lease_until, self.runtime.now()) if row else 0)
        return True

    def _give_back(self, lease: Lease, delay_s: int) -> None:
        """End the lease without an end of the job, unless the drain does so already."""
        if self.leases.begin_end(lease):
            self._dispose(lease, delay_s)

    def _dispose(self, lease: Lease, delay_s: int) -> None:
        message, job_id = lease.message, lease.job_id or lease.message.id
        self.leases.end(lease)
        if lease.attempt is not None:
            try:
                self.jobs.let_go(job_id, lease.attempt, lease.failures)
            except UnavailableError as problem:
                self._note(lease, "row-not-released", str(problem))  # it ends by itself with its lease
        if lease.lost:
            return  # another worker may hold it: releasing would take it away from that one
        try:
            if self._near_limit(message):
                self.outbox.resend(message, job_id, delay_s)
                self.queue.acknowledge(message)
            else:
                self.queue.release(message, delay_s)
        except UnavailableError as problem:
            self._note(lease, "not-released", str(problem))  # it comes back by itself with the end of its lease

    def _delete(self, lease: Lease) -> None:
        self.leases.end(lease)
        try:
            self._insist(lambda: self.queue.acknowledge(lease.message), INSIST_S[:2])
        except UnavailableError as problem:
            # It comes back, is found finished, and is deleted then.
            self._note(lease, "not-deleted", str(problem))

    def _insist(self, ask: Callable[[], T], pauses: tuple[int, ...] = INSIST_S) -> T:
        for pause in pauses:
            try:
                return ask()
            except UnavailableError as problem:
                if self.drain.over():
                    raise
                self.runtime.log({"event": "again", "in_s": pause, "problem": str(problem)})
                self.runtime.sleep(pause)
        return ask()

    def _near_limit(self, message: Message) -> bool:
        return message.receive_count >= self.max_receive_count - 1

    def _store_delay(self, message: Message) -> int:
        growing = 30 * 2 ** min(message.receive_count - 1, 6)
        return min(LONGEST_DELAY_S, int(growing * spread(message.handle)))

    def _failure_delay(self, lease: Lease, failures: int) -> int:
        return max(1, int(10 * 2**failures * spread(lease.message.id)))

    def _note(self, lease: Lease, event: str, detail: str) -> None:
        self.runtime.log(
            {
                "event": event,
                "job": lease.job_id,
                "message": lease.message.id,
                "receive_count": lease.message.receive_count,
                "attempt": lease.attempt,
                "detail": detail,
            }
        )


def _seconds_until(when: float, now: float) -> int:
    return max(0, min(LONGEST_DELAY_S, int(when - now) + 1))


def _bill(document: dict[str, Any]) -> Bill:
    """The bill in a stored result; a result of unknown make bills nothing rather than never settling."""
    bill = document.get("bill")
    bill = bill if isinstance(bill, dict) else {}
    return Bill(*(bill.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "seconds")))
