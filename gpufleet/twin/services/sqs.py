"""SQS, standard queues: strict where a worker or a program gets it wrong.

Knobs on `SqsModel`: `counter_lag_s` (Approximate* counts are up to that old), `duplicate_probability` (a message that
was just received is delivered once more), `reappear_probability` (a deleted message comes back), `batch_failure_
probability` (an entry of a batch fails on the server's side), `orphan_probability` (a message is handed to a long poll
whose client died). `observers` hears every send, delete, expiry and dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from ..errors import AwsError, NotModelledError
from ..iam import Caller, resource_policy
from .model import Answer, operation, refuse_unknown
from .sqs_admin import QueueAdmin, QueueEntry, sqs_error
from .sqs_attributes import (
    attributes_md5,
    check_message,
    md5,
    message_size,
)
from .sqs_queue import IN_FLIGHT_LIMIT, MAX_VISIBILITY_S, Message, read_handle, receipt_handle

if TYPE_CHECKING:
    from ..cloud import Cloud

BATCH_LIMIT = 1_048_576  # bytes of all messages of a SendMessageBatch together
_SEND = ("MessageBody", "DelaySeconds", "MessageAttributes", "MessageGroupId", "MessageDeduplicationId",
         "MessageSystemAttributes")  # fmt: skip


class SqsModel(QueueAdmin):
    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.duplicate_probability = 0.0
        self.reappear_probability = 0.0
        self.batch_failure_probability = 0.0
        self.orphan_probability = 0.0

    # -- sending ----------------------------------------------------------------------------------------------

    @operation("QueueUrl", *_SEND)
    def send_message(self, params: dict[str, Any], principal: str) -> Answer:
        return self._send(self.entry_of(params, principal, "SendMessage"), params)

    @operation("QueueUrl", "Entries")
    def send_message_batch(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "SendMessage")
        self._check_batch(params["Entries"])
        total = sum(message_size(e["MessageBody"], e.get("MessageAttributes") or {}) for e in params["Entries"])
        if total > BATCH_LIMIT:
            raise sqs_error(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {BATCH_LIMIT} bytes. You have sent {total} bytes.",
            )
        for each in params["Entries"]:
            refuse_unknown("sqs:SendMessageBatch", each, {"Id", *_SEND})
        return self._batch(params["Entries"], lambda each: self._send(entry, each))

    def send_as_service(self, service: str, source_arn: str, queue_arn: str, body: str) -> None:
        """A delivery by another AWS service (SNS, EventBridge): the queue's policy must allow it.

        Raises `AwsError` AccessDenied, or QueueDoesNotExist.
        """
        entry = self.named(queue_arn.rsplit(":", 1)[-1])
        caller = Caller.of_service(service, source_arn, self.cloud.account_id)
        if resource_policy(entry.attributes.get("Policy"), caller, "sqs:SendMessage", entry.arn) != "Allow":
            raise AwsError("AccessDenied", f"{service} ({source_arn}) may not send to {queue_arn}", 403)
        if "KmsMasterKeyId" in entry.attributes:
            raise NotModelledError("the twin does not judge the key policy of an encrypted queue: use SSE-SQS")
        self._send(entry, {"MessageBody": body})

    def _send(self, entry: QueueEntry, message: Mapping[str, Any]) -> Answer:
        check_message(message, entry.number("MaximumMessageSize"))
        attributes = dict(message.get("MessageAttributes") or {})
        system = {"MessageGroupId": message["MessageGroupId"]} if "MessageGroupId" in message else {}
        delay = message.get("DelaySeconds", entry.number("DelaySeconds"))
        sent = entry.queue.add(message["MessageBody"], attributes, system, delay, self.new_id())
        answer = {"MessageId": sent.id, "MD5OfMessageBody": md5(sent.body.encode())}
        return {**answer, "MD5OfMessageAttributes": attributes_md5(attributes)} if attributes else answer

    # -- receiving --------------------------------------------------------------------------------------------

    @operation(
        "QueueUrl", "AttributeNames", "MessageSystemAttributeNames", "MessageAttributeNames", "MaxNumberOfMessages",
        "VisibilityTimeout", "WaitTimeSeconds",
    )  # fmt: skip
    def receive_message(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "ReceiveMessage")
        most = _in_range(params, "MaxNumberOfMessages", 1, 10, 1)
        hidden = _in_range(params, "VisibilityTimeout", 0, 43_200, entry.number("VisibilityTimeout"))
        wait = _in_range(params, "WaitTimeSeconds", 0, 20, entry.number("ReceiveMessageWaitTimeSeconds"))
        try:
            taken = self._poll(entry, most, hidden, self.clock.now() + wait)
        except GreenletExit:  # the client died in its long poll: SQS may still hand messages to it
            if self.random.random() < self.orphan_probability:
                self.clock.spawn(
                    f"{entry.queue.name} orphan poll", self._poll, entry, most, hidden, self.clock.now() + wait
                )
            raise
        wanted = {*(params.get("AttributeNames") or []), *(params.get("MessageSystemAttributeNames") or [])}
        names = params.get("MessageAttributeNames") or []
        return {"Messages": [self._shown(entry, m, wanted, names) for m in taken]} if taken else {}

    def _poll(self, entry: QueueEntry, most: int, hidden: float, deadline: float) -> list[Message]:
        short = deadline <= self.clock.now()
        while True:
            if entry.queue.counts()[1] >= IN_FLIGHT_LIMIT:  # short poll: error; long poll: silence
                if short:
                    raise sqs_error("OverLimit", "Too many messages in flight", "OverLimit")
                taken = []
            else:
                taken = entry.queue.take(most, hidden)
            if taken or self.clock.now() >= deadline or not self.clock.in_process():
                break
            entry.queue.wait(deadline)
        for message in taken:
            if self.random.random() < self.duplicate_probability:
                entry.queue.show(message)
        return taken

    def _shown(self, entry: QueueEntry, message: Message, wanted: set[str], names: list[str]) -> Answer:
        system = {
            "SenderId": "AIDATWIN",
            "SentTimestamp": str(int(message.sent_at * 1000)),
            "ApproximateReceiveCount": str(message.receives),
            "ApproximateFirstReceiveTimestamp": str(int((message.first_received_at or 0) * 1000)),
            **message.system,
        }
        shown: Answer = {
            "MessageId": message.id,
            "ReceiptHandle": receipt_handle(entry.queue, message),
            "MD5OfBody": md5(message.body.encode()),
            "Body": message.body,
        }
        chosen = {k: v for k, v in system.items() if "All" in wanted or k in wanted}
        if chosen:
            shown["Attributes"] = chosen
        attributes = {k: v for k, v in message.attributes.items() if _asked(k, names)}
        if attributes:
            shown |= {"MessageAttributes": attributes, "MD5OfMessageAttributes": attributes_md5(attributes)}
        return shown

    # -- holding and deleting ---------------------------------------------------------------------------------

    @operation("QueueUrl", "ReceiptHandle")
    def delete_message(self, params: dict[str, Any], principal: str) -> Answer:
        self._delete(self.entry_of(params, principal, "DeleteMessage"), params)
        return {}

    @operation("QueueUrl", "Entries")
    def delete_message_batch(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "DeleteMessage")
        self._check_batch(params["Entries"])
        return self._batch(params["Entries"], lambda each: self._delete(entry, each))

    def _delete(self, entry: QueueEntry, params: Mapping[str, Any]) -> Answer:
        """A stale handle answers 200 and deletes nothing (API reference of DeleteMessage)."""
        entry.queue.settle()
        message, current = read_handle(entry.queue, params["ReceiptHandle"])
        if message is not None and current:
            entry.queue.delete(message)
            if self.random.random() < self.reappear_probability:
                entry.queue.revive(message, self.random.uniform(1, 30))
        return {}

    @operation("QueueUrl", "ReceiptHandle", "VisibilityTimeout")
    def change_message_visibility(self, params: dict[str, Any], principal: str) -> Answer:
        self._change_visibility(self.entry_of(params, principal, "ChangeMessageVisibility"), params)
        return {}

    @operation("QueueUrl", "Entries")
    def change_message_visibility_batch(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "ChangeMessageVisibility")
        self._check_batch(params["Entries"])
        return self._batch(params["Entries"], lambda each: self._change_visibility(entry, each))

    def _change_visibility(self, entry: QueueEntry, params: Mapping[str, Any]) -> Answer:
        seconds = _in_range(params, "VisibilityTimeout", 0, 43_200, 0)
        entry.queue.settle()
        message, current = read_handle(entry.queue, params["ReceiptHandle"])
        why = f"Value {params['ReceiptHandle']} for parameter ReceiptHandle is invalid. Reason: "
        if message is None:
            text = why + "Message does not exist or is not available for visibility timeout change."
            raise AwsError("InvalidParameterValue", text)
        if not current or message.state != "inflight":  # API reference of ChangeMessageVisibility
            raise sqs_error("MessageNotInflight", why + "The message referred to isn't in flight.")
        if self.clock.now() + seconds > message.delivered_at + MAX_VISIBILITY_S:
            raise AwsError(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the "
                f"message is beyond the limit [{MAX_VISIBILITY_S} seconds]",
            )
        entry.queue.hide(message, seconds)
        return {}

    # -- inside -----------------------------------------------------------------------------------------------

    def _check_batch(self, entries: list[Mapping[str, Any]]) -> None:
        ids = [entry["Id"] for entry in entries]
        if not ids:
            raise sqs_error(
                "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request."
            )
        if len(ids) > 10:
            raise sqs_error(
                "TooManyEntriesInBatchRequest",
                f"Maximum number of entries per request are 10. You have sent {len(ids)}.",
            )
        if len(set(ids)) != len(ids):
            raise sqs_error("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
        if not all(re.fullmatch(r"[\w-]{1,80}", each, re.ASCII) for each in ids):
            raise sqs_error(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores.",
            )

    def _batch(self, entries: list[Mapping[str, Any]], act: Callable[[Mapping[str, Any]], Answer]) -> Answer:
        """HTTP 200 with what failed in `Failed`: callers that do not look lose work."""
        done: list[Answer] = []
        failed: list[Answer] = []
        for each in entries:
            try:
                if self.random.random() < self.batch_failure_probability:
                    raise AwsError("InternalError", "The request could not be processed.", 500)
                done.append({"Id": each["Id"], **act(each)})
            except AwsError as error:
                failed.append({
                    "Id": each["Id"], "SenderFault": error.status < 500, "Code": error.modelled or error.code,
                    "Message": error.message,
                })  # fmt: skip
        return {"Successful": done, "Failed": failed} if failed else {"Successful": done}


def _asked(name: str, names: list[str]) -> bool:
    return any(n in ("All", ".*", name) or (n.endswith(".*") and name.startswith(n[:-2])) for n in names)


def _in_range(params: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = params.get(name, default)
    if not low <= value <= high:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: Must be >= {low} and <= {high}, if provided.",
        )
    return value
