"""One standard queue: its messages, their visibility, and what SQS promises and does not promise about them.

Sources: SQS developer guide ("Visibility timeout", "Standard queues", "Dead-letter queues", "Available CloudWatch
metrics"), API reference of `ReceiveMessage`, `DeleteMessage` and `ChangeMessageVisibility`.
All structures are heaps with lazy removal: every operation costs O(log n).
"""

from __future__ import annotations

import base64
import binascii
import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from ..clock import Clock, Event, Timer
from ..errors import AwsError

MAX_VISIBILITY_S = 12 * 3600  # "The maximum is 12 hours from when the message was received"
IN_FLIGHT_LIMIT = 120_000  # standard queues, "Visibility timeout: in flight messages"
ORDER_SPREAD = 8  # standard queues are "best-effort ordering": a message may overtake about this many
SAMPLE_S = 0.5  # how finely the past counts are kept from which a lagging reading is served

Counts = tuple[int, int, int]  # visible, in flight, delayed


@dataclass(eq=False, slots=True)
class Message:
    """A message and where it stands. `state`: visible, inflight, delayed or gone."""

    id: str
    body: str
    attributes: dict[str, Any]
    system: dict[str, str]
    sent_at: float
    serial: int
    state: str = "new"
    visible_at: float = 0.0
    receives: int = 0
    first_received_at: float | None = None
    delivered_at: float = 0.0  # start of the present delivery
    delivery: int = 0  # number of the present delivery: a receipt handle of an older one is stale
    moves: int = 0  # counts changes of visibility, so that outdated heap entries can be told


@dataclass
class Flow:
    """What happened to the queue since the last minute's metrics."""

    sent: int = 0
    received: int = 0
    deleted: int = 0
    empty_receives: int = 0


@dataclass
class Observers:
    """Callables that hear what happens: `(queue name, message)`. For ledgers and tests."""

    on_send: list[Callable[[str, Message], object]] = field(default_factory=list)
    on_delete: list[Callable[[str, Message], object]] = field(default_factory=list)
    on_expire: list[Callable[[str, Message], object]] = field(default_factory=list)
    on_dead_letter: list[Callable[[str, Message], object]] = field(default_factory=list)


class Queue:
    """The messages of one queue. `retention_s` and `redrive` are set by the owner from the queue's attributes."""

    def __init__(self, name: str, clock: Clock, random: Random, observers: Observers) -> None:
        self.name = name
        self.clock = clock
        self.random = random
        self.observers = observers
        self.retention_s = 345_600.0
        self.redrive: tuple[Queue, int] | None = None  # dead-letter queue and maxReceiveCount
        self.messages: dict[str, Message] = {}
        self.flow = Flow()
        self._counts = {"visible": 0, "inflight": 0, "delayed": 0}
        self._ready: list[tuple[float, int, int, Message]] = []  # order, tie-break, moves, message
        self._hidden: list[tuple[float, int, int, Message]] = []  # visible at, tie-break, moves, message
        self._by_age: list[tuple[float, int, Message]] = []  # sent at, tie-break, message
        self._by_age_healthy: list[tuple[float, int, Message]] = []
        self._serial = count()
        self._sent = 0
        self._past: deque[tuple[float, Counts]] = deque()  # counts that held until a moment
        self._waiters: list[Event] = []
        self._wake: Timer | None = None

    # -- in and out -------------------------------------------------------------------------------------------

    def add(
        self, body: str, attributes: dict[str, Any], system: dict[str, str], delay: float, message_id: str
    ) -> Message:
        self.settle()
        now = self.clock.now()
        message = Message(message_id, body, attributes, system, now, self._next_serial())
        self._accept(message, delay)
        self.flow.sent += 1
        for heard in self.observers.on_send:
            heard(self.name, message)
        return message

    def take(self, most: int, visibility: float) -> list[Message]:
        """Receive up to `most` visible messages, hiding them for `visibility` seconds."""
        self.settle()
        taken: list[Message] = []
        seen_again = []  # with visibility 0 a message is visible at once, but not twice in one answer
        while len(taken) < most and self._ready:
            entry = heapq.heappop(self._ready)
            _, _, moves, message = entry
            if message.state != "visible" or message.moves != moves:
                continue
            if message in taken:
                seen_again.append(entry)
                continue
            if self.redrive and message.receives >= self.redrive[1]:
                self._dead_letter(message, self.redrive[0])
                continue
            self._deliver(message, visibility)
            taken.append(message)
        for entry in seen_again:
            heapq.heappush(self._ready, entry)
        self.flow.received += len(taken)
        self.flow.empty_receives += not taken
        return taken

    def delete(self, message: Message) -> None:
        self.settle()
        self._remove(message)
        self.flow.deleted += 1
        for heard in self.observers.on_delete:
            heard(self.name, message)

    def revive(self, message: Message, after: float) -> None:
        """Bring a deleted message back: "on rare occasions [...] you might get a copy of that message again"."""
        self._accept(message, after)

    def purge(self) -> None:
        for message in list(self.messages.values()):
            self._remove(message)

    def hide(self, message: Message, seconds: float) -> None:
        """Make a message that is in flight visible in `seconds` from now (0: at once)."""
        if seconds > 0:
            self._move(message, "inflight", self.clock.now() + seconds)
        else:
            self.show(message)

    # -- readings ---------------------------------------------------------------------------------------------

    def counts(self, lag: float = 0.0) -> Counts:
        """(visible, in flight, delayed) as they were `lag` seconds ago."""
        self.settle()
        moment = self.clock.now() - lag
        if lag > 0:
            for until, counts in self._past:
                if until > moment:
                    return counts
        return self._present()

    def oldest_age(self) -> float:
        """ApproximateAgeOfOldestMessage: messages received three times or more are left out (metrics page of SQS)."""
        self.settle()
        heap = self._by_age_healthy
        while heap and (heap[0][2].state == "gone" or heap[0][2].receives >= 3):
            heapq.heappop(heap)
        return self.clock.now() - heap[0][0] if heap else 0.0

    # -- waiting ----------------------------------------------------------------------------------------------

    def wait(self, deadline: float) -> None:
        """Suspend the calling process until a message may be there or `deadline` passed."""
        event = self.clock.event()
        self._waiters.append(event)
        self._arm()
        try:
            event.wait(max(0.0, deadline - self.clock.now()))
        except BaseException:
            if event.is_set():  # it was called for a message, but its client died: call the next one
                self._call_waiter()
            raise
        finally:
            if event in self._waiters:
                self._waiters.remove(event)

    def settle(self) -> None:
        """Let visibility timeouts, delays and retention take effect up to now."""
        now = self.clock.now()
        while self._hidden and self._hidden[0][0] <= now:
            _, _, moves, message = heapq.heappop(self._hidden)
            if message.moves == moves and message.state in ("inflight", "delayed"):
                self.show(message)
        while self._by_age and (self._by_age[0][2].state == "gone" or self._by_age[0][0] + self.retention_s <= now):
            message = heapq.heappop(self._by_age)[2]
            if message.state != "gone":
                self._remove(message)
                for heard in self.observers.on_expire:
                    heard(self.name, message)

    # -- inside -----------------------------------------------------------------------------------------------

    def _accept(self, message: Message, delay: float) -> None:
        self._remember()
        self.messages[message.id] = message
        heapq.heappush(self._by_age, (message.sent_at, next(self._serial), message))
        heapq.heappush(self._by_age_healthy, (message.sent_at, next(self._serial), message))
        message.state = "new"
        if delay > 0:
            self._move(message, "delayed", self.clock.now() + delay)
        else:
            self.show(message)

    def _deliver(self, message: Message, visibility: float) -> None:
        now = self.clock.now()
        message.receives += 1
        message.delivery += 1
        message.delivered_at = now
        message.first_received_at = message.first_received_at or now
        self._move(message, "inflight", now + visibility)
        if visibility <= 0:
            self.show(message)

    def _dead_letter(self, message: Message, target: Queue) -> None:
        """Standard queues: id, original timestamp and receive count go along ("Dead-letter queues: retention")."""
        self._remove(message)
        moved = Message(
            message.id, message.body, message.attributes, message.system, message.sent_at, target._next_serial(),
            receives=message.receives, first_received_at=message.first_received_at,
        )  # fmt: skip
        target.settle()
        target._accept(moved, 0)
        for heard in self.observers.on_dead_letter:
            heard(self.name, moved)

    def show(self, message: Message) -> None:
        self._count(message, "visible")
        message.moves += 1
        # After three receives a message goes to the back of the queue (metrics page of SQS, poison pills).
        place = message.serial if message.receives < 3 else self._sent
        order = place + self.random.random() * ORDER_SPREAD
        heapq.heappush(self._ready, (order, next(self._serial), message.moves, message))
        self._call_waiter()

    def _move(self, message: Message, state: str, visible_at: float) -> None:
        self._count(message, state)
        message.moves += 1
        message.visible_at = visible_at
        heapq.heappush(self._hidden, (visible_at, next(self._serial), message.moves, message))
        self._arm()

    def _remove(self, message: Message) -> None:
        if self.messages.get(message.id) is message:
            del self.messages[message.id]
            self._count(message, "gone")

    def _count(self, message: Message, state: str) -> None:
        self._remember()
        if message.state in self._counts:
            self._counts[message.state] -= 1
        message.state = state
        if state in self._counts:
            self._counts[state] += 1

    def _present(self) -> Counts:
        return self._counts["visible"], self._counts["inflight"], self._counts["delayed"]

    def _remember(self) -> None:
        now = self.clock.now()
        if not self._past or now - self._past[-1][0] >= SAMPLE_S:
            self._past.append((now, self._present()))
            while now - self._past[0][0] > 60:
                self._past.popleft()

    def _next_serial(self) -> int:
        self._sent += 1
        return self._sent

    def _call_waiter(self) -> None:
        if self._waiters:
            self._waiters.pop(self.random.randrange(len(self._waiters))).set()

    def _arm(self) -> None:
        """While somebody waits, wake at the moment the next hidden message shows."""
        if not self._waiters or not self._hidden:
            return
        due = self._hidden[0][0]
        if self._wake is None or self._wake.cancelled or self._wake.when > due or self._wake.when < self.clock.now():
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self.clock.at(due, self._on_wake)

    def _on_wake(self) -> None:
        self._wake = None
        self.settle()
        self._arm()


def receipt_handle(queue: Queue, message: Message) -> str:
    """A new handle for each delivery, opaque to the receiver."""
    return base64.b64encode(f"{queue.name}\n{message.id}\n{message.delivery}".encode()).decode()


def read_handle(queue: Queue, handle: str) -> tuple[Message | None, bool]:
    """(message or None when it is gone, whether the handle is of its present delivery).

    Raises `AwsError` ReceiptHandleIsInvalid for what is no handle of this queue.
    """
    try:
        name, message_id, delivery = base64.b64decode(handle, validate=True).decode().split("\n")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        name, message_id, delivery = "", "", ""
    if name != queue.name:
        raise AwsError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.')
    message = queue.messages.get(message_id)
    return message, message is not None and str(message.delivery) == delivery
