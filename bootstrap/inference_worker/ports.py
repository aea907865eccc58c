"""What the worker needs from a cloud: five small protocols and the data that crosses them. No cloud is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class UnavailableError(Exception):
    """A queue, store or service did not do what was asked; asked again later it may. Says what and why."""


@dataclass(frozen=True)
class Message:
    """One delivery of a message. `handle` names this delivery, `id` the message; `receive_count` starts at 1."""

    id: str
    handle: str
    body: str
    receive_count: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None

    @property
    def job_id(self) -> str | None:
        """The job id that a copy of a message carries as an attribute."""
        return self.attributes.get("job_id", {}).get("StringValue")


@dataclass(frozen=True)
class Extension:
    """What became of a round of extensions: handles whose lease is gone for good, and handles to be tried again."""

    lost: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


class Queue(Protocol):
    """At-least-once delivery with leases. Every method may raise UnavailableError."""

    def receive(self, most: int, wait_s: int) -> list[Message]: ...

    def extend(self, messages: Sequence[Message], seconds: int) -> Extension:
        """Keep `messages` hidden for `seconds` from now."""
        ...

    def acknowledge(self, message: Message) -> None:
        """Delete the message."""
        ...

    def release(self, message: Message, delay_s: int) -> None:
        """Give the message back; it is delivered again after `delay_s` seconds."""
        ...


class Outbox(Protocol):
    """Where copies of messages go. Both methods may raise UnavailableError, and may have sent although they raised."""

    def resend(self, message: Message, job_id: str, delay_s: int) -> None:
        """Send a copy, counted from receive 1, to the queue the message came from."""
        ...

    def bury(self, message: Message, job_id: str, reason: str) -> None:
        """Send a copy with the reason of its failure to the dead letters."""
        ...


Status = Literal["running", "completed", "failed", "expired"]


@dataclass(frozen=True)
class JobRow:
    """A job as the table knows it. `attempts` counts claims, and so names the present one."""

    status: Status
    attempts: int
    failures: int
    lease_until: float


@dataclass(frozen=True)
class Bill:
    """What a job is billed for: tokens, and the seconds it held a slot."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The end of a job: `result` is the key of its result if it completed, `reason` why not otherwise."""

    status: Status
    at: float
    bill: Bill = Bill()
    result: str | None = None
    reason: str | None = None
    failures: int = 0


class JobStore(Protocol):
    """One row for each job, written under conditions. Every method may raise UnavailableError."""

    def claim(self, job_id: str, now: float, lease_until: float) -> tuple[bool, JobRow]:
        """Begin an attempt unless the job has ended or another attempt's lease lives: (claimed, the row as it is)."""
        ...

    def look(self, job_id: str) -> JobRow | None: ...

    def keep(self, job_id: str, attempt: int, lease_until: float) -> bool:
        """Extend this attempt's lease; False if the job ended or a later attempt began."""
        ...

    def let_go(self, job_id: str, attempt: int, failures: int) -> None:
        """End this attempt's lease and store the failure count; nothing if the attempt is no longer the present one."""
        ...

    def settle(self, job_id: str, outcome: Outcome, attempt: int | None) -> tuple[bool, Status]:
        """Write the one terminal status and bill, if the job has none and, given `attempt`, it is the present one.

        Returns whether it was written, and the status that stands: an earlier terminal one if the job had ended,
        `running` if a later attempt owns it.
        """
        ...


class ResultStore(Protocol):
    """Results, written once. Both methods may raise UnavailableError."""

    def key(self, job_id: str) -> str: ...

    def put(self, job_id: str, document: Mapping[str, Any]) -> bool:
        """Store a result; False if the job has one already."""
        ...

    def get(self, job_id: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Heartbeat:
    """What a worker tells the fleet's controller. `completed` and `worked_s` only grow, restarts included."""

    at: float
    state: Literal["ready", "draining"]
    slots: int
    busy: int
    completed: int
    worked_s: float
    cold_start_s: float
    launched_at: float


@dataclass(frozen=True)
class Allowance:
    """What the guard last said, at `at`: nodes may run until `until`, and the fleet's controller was last heard at
    `controller_at` (None: never). Unix seconds."""

    until: float
    at: float = 0.0
    controller_at: float | None = None


class FleetStore(Protocol):
    """The rows of one fleet. Every method may raise UnavailableError."""

    def beat(self, heartbeat: Heartbeat) -> None: ...

    def ready(self, heartbeat: Heartbeat) -> None:
        """Write the first heartbeat, unless the worker was quicker."""
        ...

    def last(self) -> Heartbeat | None:
        """This instance's last heartbeat: a worker that was restarted goes on counting from it."""
        ...

    def allowance(self) -> Allowance | None:
        """The allowance; None if there never was one."""
        ...


class Lifecycle(Protocol):
    """This instance in its group. Every method may raise UnavailableError."""

    def complete(self, hook: str, result: Literal["CONTINUE", "ABANDON"]) -> bool:
        """End the wait at `hook`; False if the instance does not wait there."""
        ...

    def extend(self, hook: str) -> bool:
        """Restart the hook's clock; False if the instance does not wait there."""
        ...

    def terminate(self) -> None:
        """Terminate this instance and lower the group's desired count by one."""
        ...


class Notices(Protocol):
    """What the cloud announces to this instance. Both methods may raise UnavailableError; silence is not a notice."""

    def reclaim_at(self) -> float | None:
        """When the instance is taken away (spot), unix seconds; None if that was not announced."""
        ...

    def leaving(self) -> bool:
        """Whether the group is terminating this instance."""
        ...
