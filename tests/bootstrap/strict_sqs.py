"""SQS as strict as AWS: what moto lets pass, this refuses or quietly does not do.

A new handle at each receive; a delete with an older handle answers 200 and deletes nothing; a change of visibility
needs a message in flight under that very handle; twelve hours in flight at most; batches need distinct ids and fail
entry by entry; the receive after the last allowed one moves the message to the dead letters; duplicates and messages
that reappear after a delete happen on request.
"""

# ruff: noqa: N803 - the arguments are named as SQS names them
from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError
from worker_clock import VirtualClock

IN_FLIGHT_S = 12 * 3600


def refused(operation: str, code: str, message: str = "", status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


@dataclass
class Stored:
    id: str
    body: str
    attributes: dict[str, Any]
    visible_at: float
    receives: int = 0
    handle: str | None = None
    received_at: float = 0.0
    deleted: bool = False
    hidden: bool = False  # in flight under `handle`


@dataclass
class StrictQueue:
    clock: VirtualClock
    queue_url: str
    dead_letter_url: str
    max_receive_count: int
    before_delete: Callable[[Stored], None] = lambda stored: None
    duplicate: Callable[[Stored], bool] = lambda stored: False
    reappear: Callable[[Stored], bool] = lambda stored: False
    fail_entry: Callable[[str], str | None] = lambda operation: None
    stored: list[Stored] = field(default_factory=list)
    dead: list[Stored] = field(default_factory=list)
    ids: Any = field(default_factory=lambda: itertools.count(1))

    def live(self) -> list[Stored]:
        return [each for each in self.stored if not each.deleted]

    def send_message(
        self, QueueUrl: str, MessageBody: str, DelaySeconds: int = 0, MessageAttributes: Any = None
    ) -> Any:
        if not 0 <= DelaySeconds <= 900:
            raise refused("SendMessage", "InvalidParameterValue")
        if any(not value.get("StringValue") for value in (MessageAttributes or {}).values()):
            raise refused("SendMessage", "InvalidParameterValue", "empty attribute")
        number = next(self.ids)
        fresh = Stored(f"m-{number}", MessageBody, dict(MessageAttributes or {}), self.clock.now + DelaySeconds)
        {self.queue_url: self.stored, self.dead_letter_url: self.dead}[QueueUrl].append(fresh)
        return {"MessageId": fresh.id}

    def receive_message(
        self,
        QueueUrl: str,
        MaxNumberOfMessages: int,
        WaitTimeSeconds: int,
        VisibilityTimeout: int,
        MessageSystemAttributeNames: list[str],
        MessageAttributeNames: list[str],
    ) -> Any:
        assert QueueUrl == self.queue_url
        assert 1 <= MaxNumberOfMessages <= 10
        assert 0 <= WaitTimeSeconds <= 20
        assert "ApproximateReceiveCount" in MessageSystemAttributeNames
        end = self.clock.now + WaitTimeSeconds
        while True:
            found = self._deliver(MaxNumberOfMessages, VisibilityTimeout)
            if found or self.clock.now >= end:
                return {"Messages": found} if found else {}
            self.clock.pause(min(1.0, end - self.clock.now))

    def _deliver(self, most: int, timeout: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in list(self.stored):
            if each.deleted or each.visible_at > self.clock.now or len(found) == most:
                continue
            if each.receives >= self.max_receive_count:
                each.deleted = True
                self.dead.append(Stored(each.id, each.body, dict(each.attributes), self.clock.now, each.receives))
                continue
            each.receives += 1
            each.handle, each.received_at, each.hidden = f"{each.id}/{next(self.ids)}", self.clock.now, True
            # A duplicate: another server of the queue did not see this receive and hands the message out again.
            each.visible_at = self.clock.now + (0 if self.duplicate(each) else timeout)
            found.append(
                {
                    "MessageId": each.id,
                    "ReceiptHandle": each.handle,
                    "Body": each.body,
                    "Attributes": {"ApproximateReceiveCount": str(each.receives)},
                    "MessageAttributes": dict(each.attributes),
                }
            )
        return found

    def _find(self, handle: str) -> Stored | None:
        return next((each for each in self.stored if each.id == handle.split("/", maxsplit=1)[0]), None)

    def delete_message(self, QueueUrl: str, ReceiptHandle: str) -> Any:
        each = self._find(ReceiptHandle)
        if each is None:
            raise refused("DeleteMessage", "ReceiptHandleIsInvalid")
        if each.handle == ReceiptHandle and not each.deleted:
            self.before_delete(each)
            if not self.reappear(each):
                each.deleted = True
        return {}

    def _change(self, handle: str, seconds: int) -> str | None:
        each = self._find(handle)
        if each is None or each.deleted:
            return "ReceiptHandleIsInvalid"
        if each.handle != handle or each.visible_at <= self.clock.now:
            return "MessageNotInflight"
        if self.clock.now + seconds > each.received_at + IN_FLIGHT_S:
            return "InvalidParameterValue"
        each.visible_at = self.clock.now + seconds
        return None

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> Any:
        assert isinstance(VisibilityTimeout, int)
        code = self._change(ReceiptHandle, VisibilityTimeout)
        if code:
            raise refused("ChangeMessageVisibility", code)
        return {}

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        if not 1 <= len(Entries) <= 10:
            raise refused("ChangeMessageVisibilityBatch", "TooManyEntriesInBatchRequest")
        if len({entry["Id"] for entry in Entries}) < len(Entries):
            raise refused("ChangeMessageVisibilityBatch", "BatchEntryIdsNotDistinct")
        failed = []
        for entry in Entries:
            code = self.fail_entry("extend") or self._change(entry["ReceiptHandle"], entry["VisibilityTimeout"])
            if code:
                failed.append({"Id": entry["Id"], "Code": code, "SenderFault": code != "InternalError"})
        return {"Failed": failed} if failed else {}
