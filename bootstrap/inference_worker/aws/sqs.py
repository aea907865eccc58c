"""The queue on SQS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..ports import Extension, Message
from .errors import asking

BATCH = 10  # entries of one SQS batch call, and messages of one receive
# Codes that say this delivery is over, whatever is tried: another delivery exists, it was deleted, or the 12 h are up.
GONE = frozenset(
    {
        "ReceiptHandleIsInvalid",
        "MessageNotInflight",
        "InvalidParameterValue",
        "InvalidAddress",
        "AWS.SimpleQueueService.MessageNotInflight",
    }
)
REASON_LENGTH = 500
NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]+")  # SQS refuses most control characters in attributes


class SqsQueue:
    """Queue and Outbox. `lease_s`: how long a received message stays hidden unless extended, seconds."""

    def __init__(self, client: Any, queue_url: str, dead_letter_url: str, lease_s: int) -> None:
        self._sqs = client
        self._url = queue_url
        self._dead_letter_url = dead_letter_url
        self._lease_s = lease_s

    def receive(self, most: int, wait_s: int) -> list[Message]:
        with asking("receive"):
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(most, BATCH),
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=self._lease_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
                MessageAttributeNames=["All"],
            )
        return [_message(entry) for entry in answer.get("Messages", [])]

    def extend(self, messages: Sequence[Message], seconds: int) -> Extension:
        lost: set[str] = set()
        failed: set[str] = set()
        for start in range(0, len(messages), BATCH):
            # The id of an entry is its place: two deliveries of one message in a batch must not share an id.
            chunk = dict(enumerate(messages[start : start + BATCH]))
            entries = [
                {"Id": str(place), "ReceiptHandle": message.handle, "VisibilityTimeout": seconds}
                for place, message in chunk.items()
            ]
            with asking("extend"):
                answer = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
            for failure in answer.get("Failed", []):
                handle = chunk[int(failure["Id"])].handle
                (lost if failure.get("Code") in GONE else failed).add(handle)
        return Extension(frozenset(lost), frozenset(failed))

    def acknowledge(self, message: Message) -> None:
        with asking("delete"):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message.handle)

    def release(self, message: Message, delay_s: int) -> None:
        with asking("release"):
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=message.handle, VisibilityTimeout=delay_s
            )

    def resend(self, message: Message, job_id: str, delay_s: int) -> None:
        group = {"MessageGroupId": message.group} if message.group else {}
        with asking("resend"):
            self._sqs.send_message(
                QueueUrl=self._url,
                MessageBody=message.body,
                DelaySeconds=min(delay_s, 900),  # SQS delays a message by 15 minutes at most
                MessageAttributes={**_sendable(message), **_text_attribute("job_id", job_id)},
                **group,
            )

    def bury(self, message: Message, job_id: str, reason: str) -> None:
        printable = NOT_PRINTABLE.sub(" ", reason)[:REASON_LENGTH] or "unknown"
        with asking("bury"):
            self._sqs.send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=message.body,
                MessageAttributes={
                    **_sendable(message),
                    **_text_attribute("job_id", job_id),
                    **_text_attribute("reason", printable),
                },
            )


def _message(entry: dict[str, Any]) -> Message:
    system = entry.get("Attributes", {})
    return Message(
        id=entry["MessageId"],
        handle=entry["ReceiptHandle"],
        body=entry["Body"],
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        attributes=entry.get("MessageAttributes", {}),
        group=system.get("MessageGroupId"),
    )


def _sendable(message: Message) -> dict[str, Any]:
    """The attributes a copy keeps; SQS allows ten, and two are ours."""
    kept = [name for name in message.attributes if name not in ("job_id", "reason")][:8]
    return {name: message.attributes[name] for name in kept}


def _text_attribute(name: str, value: str) -> dict[str, Any]:
    return {name: {"DataType": "String", "StringValue": value}}
