"""The keeper: once a day it sends old messages anew, so that a job outlives the queue's retention while the fleet is
stopped.

Every waiting message is received once. One older than ``resend_after_s`` is copied with the job id it had, then
deleted; a run cut in between leaves two messages with one job id, which the workers settle. Younger ones are hidden
until the end of the pass, so that each is received once only, and then released. A pass costs a message one of its
receives, so one near the limit is copied as well: waiting must never make it a dead letter. The copy starts anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import runtime
from .config import KeeperConfig, keeper

HIDDEN_S = 300  # as long as a run may take at most
PASS_S = 180.0  # then releasing begins, which takes a third of the time receiving took
RESERVE_S = 60.0  # of the function's time, for releasing
HELD_AT_MOST = 50_000  # SQS allows 120,000 messages in flight; most of that belongs to the workers
EMPTY_ANSWERS = 3  # a receive asks a part of the queue's servers only: one empty answer proves nothing
BATCH_BYTES = 900_000  # SQS takes 1 MiB per batch, attributes included


@dataclass
class Pass:
    """One pass over the queue."""

    url: str
    held: list[str] = field(default_factory=list)
    resent: int = 0
    faults: list[str] = field(default_factory=list)


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Entry point; answers what was done. Raises RuntimeError at the end if any message could not be handled."""
    config, began = keeper(runtime.environ), runtime.now()
    left = context.get_remaining_time_in_millis() / 1000 if context else PASS_S + RESERVE_S
    until = began + min(PASS_S, left - RESERVE_S)
    run = Pass(config.queue_url)
    try:
        _receive_all(run, until, config)
    finally:
        _release(run)
    body = f"{run.resent} sent anew, {len(run.held)} released"
    runtime.log({"event": "keeper", "stack": config.stack, "at": began, "reason": body, "faults": run.faults})
    if run.faults:
        raise RuntimeError(f"{body}; {len(run.faults)} faults, the first: {run.faults[0]}")
    return {"statusCode": 200, "body": body}


def _receive_all(run: Pass, until: float, config: KeeperConfig) -> None:
    empty = 0
    while empty < EMPTY_ANSWERS and runtime.now() < until and len(run.held) < HELD_AT_MOST:
        answer = runtime.client("sqs").receive_message(
            QueueUrl=run.url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=HIDDEN_S,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"],
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        empty = 0 if messages else empty + 1
        now = runtime.now()
        old = [one for one in messages if _must_go_anew(one["Attributes"], now, config)]
        known = {one["MessageId"] for one in old}
        run.held += [one["ReceiptHandle"] for one in messages if one["MessageId"] not in known]
        for batch in _batches(old):
            _resend(run, batch)


def _must_go_anew(attributes: dict[str, str], now: float, config: KeeperConfig) -> bool:
    """Whether a message would soon be dropped for its age, or taken for a dead letter at one of its next receives."""
    old = now - int(attributes["SentTimestamp"]) / 1000 >= config.resend_after_s
    return old or int(attributes["ApproximateReceiveCount"]) >= config.max_receive_count - 1


def _batches(messages: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Messages in groups that one SendMessageBatch takes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for one in messages:
        bytes_ = len(one["Body"].encode()) + len(repr(one.get("MessageAttributes", {})))
        if batch and size + bytes_ > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += bytes_
    if batch:
        yield batch


def _resend(run: Pass, messages: list[dict[str, Any]]) -> None:
    """Sends the copies, then deletes the originals whose copy was accepted. What fails is released and stays."""
    client = runtime.client("sqs")
    entries = [{"Id": str(index), **_copy(one)} for index, one in enumerate(messages)]
    sent = client.send_message_batch(QueueUrl=run.url, Entries=entries)
    _note(run, "send", sent, messages)
    run.held += [messages[int(one["Id"])]["ReceiptHandle"] for one in sent.get("Failed", ())]
    accepted = [int(one["Id"]) for one in sent.get("Successful", ())]
    if not accepted:
        return
    handles = [{"Id": str(index), "ReceiptHandle": messages[index]["ReceiptHandle"]} for index in accepted]
    _note(run, "delete", client.delete_message_batch(QueueUrl=run.url, Entries=handles), messages)
    run.resent += len(accepted)


def _copy(message: dict[str, Any]) -> dict[str, Any]:
    """The message to send: same body, attributes and group, and the job id that the original stands for."""
    attributes = {
        name: {key: value[key] for key in ("DataType", "StringValue", "BinaryValue") if key in value}
        for name, value in message.get("MessageAttributes", {}).items()
    }
    own = _own_job_id(message["Body"])
    if own is None and "job_id" not in attributes:
        attributes["job_id"] = {"DataType": "String", "StringValue": message["MessageId"]}
    elif own is not None and len(attributes) < 10:  # SQS takes ten; the body itself says the id already
        attributes["job_id"] = {"DataType": "String", "StringValue": own}
    copy: dict[str, Any] = {"MessageBody": message["Body"], "MessageAttributes": attributes}
    group = message["Attributes"].get("MessageGroupId")
    return {**copy, "MessageGroupId": group} if group else copy


def _own_job_id(body: str) -> str | None:
    try:
        data = json.loads(body)
    except ValueError:
        return None
    own = data.get("job_id") if isinstance(data, dict) else None
    return own if isinstance(own, str) and own else None


def _release(run: Pass) -> None:
    """Makes the held messages visible again."""
    client = runtime.client("sqs")
    for first in range(0, len(run.held), 10):
        handles = run.held[first : first + 10]
        entries = [
            {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0} for index, handle in enumerate(handles)
        ]
        answer = client.change_message_visibility_batch(QueueUrl=run.url, Entries=entries)
        for one in answer.get("Failed", ()):  # it becomes visible by itself within five minutes
            runtime.log({"event": "keeper-release-failed", "reason": one.get("Message") or one["Code"]})


def _note(run: Pass, step: str, answer: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    for one in answer.get("Failed", ()):
        run.faults.append(f"{step} {messages[int(one['Id'])]['MessageId']}: {one.get('Message') or one['Code']}")
