"""Asynchronous invocation: Lambda's own queue, its retries, and where an event goes that could not be handled.

Source: Lambda developer guide, "Error handling for asynchronous invocations" (two retries, one and two minutes after
the failure; throttles are retried with back-off up to the maximum age) and "Retaining records of asynchronous
invocations" (shape of the record; the function's role sends it).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .function_host import Invocation
from .model import iso

if TYPE_CHECKING:
    from ..cloud import Cloud
    from .lambda_ import Function, LambdaModel

RETRY_AFTER_S = (60.0, 120.0)
MAX_AGE_S = 21_600  # 6 hours, the default and the most


@dataclass
class QueuedEvent:
    function: str
    request_id: str
    event: Any
    accepted: float
    attempts: int = 0  # invocations so far
    throttles: int = 0


class AsyncEvents:
    """The queue between `Invoke` with type Event and the function. `lost` lists what reached no destination."""

    def __init__(self, cloud: Cloud, model: LambdaModel) -> None:
        self.cloud = cloud
        self.model = model
        self.lost: list[dict[str, Any]] = []

    def accept(self, function: Function, event: Any, request_id: str) -> None:
        self._attempt(QueuedEvent(function.name, request_id, event, self.cloud.clock.now()))

    def _attempt(self, queued: QueuedEvent) -> None:
        function = self.model.functions.get(queued.function)
        if function is None:  # deleted meanwhile
            return
        if self.model.throttled(function):
            self.model.metric("Throttles", function.name)
            delay = min(300.0, 2.0**queued.throttles)  # "increases exponentially from 1 second to 5 minutes"
            queued.throttles += 1
            self._again(queued, function, delay, None)
            return
        queued.attempts += 1
        function.host.start(queued.request_id, queued.event, self._ended(queued))

    def _ended(self, queued: QueuedEvent) -> Callable[[Invocation], None]:
        def ended(invocation: Invocation) -> None:
            function = self.model.functions.get(queued.function)
            if invocation.error is None or function is None:
                return
            if queued.attempts > function.invoke_config.get("MaximumRetryAttempts", 2):
                self._give_up(queued, function, "RetriesExhausted", invocation.error)
            else:
                self._again(queued, function, RETRY_AFTER_S[queued.attempts - 1], invocation.error)

        return ended

    def _again(self, queued: QueuedEvent, function: Function, delay: float, error: dict[str, Any] | None) -> None:
        oldest = queued.accepted + function.invoke_config.get("MaximumEventAgeInSeconds", MAX_AGE_S)
        if self.cloud.clock.now() + delay > oldest:
            self._give_up(queued, function, "EventAgeExceeded", error)
        else:
            self.cloud.clock.after(delay, self._attempt, queued)

    def _give_up(self, queued: QueuedEvent, function: Function, why: str, error: dict[str, Any] | None) -> None:
        self.model.metric("AsyncEventsDropped", function.name)
        destination = function.invoke_config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        letters = function.settings.get("DeadLetterConfig", {}).get("TargetArn")
        delivered = False
        if destination:
            record = self._record(queued, function, why, error)
            delivered = self._deliver(function, destination, record, "DestinationDeliveryFailures")
        if letters:
            delivered = self._deliver(function, letters, json.dumps(queued.event), "DeadLetterErrors") or delivered
        if not delivered:
            self.lost.append({
                "at": self.cloud.clock.now(), "function": function.name, "request_id": queued.request_id,
                "event": queued.event, "condition": why, "error": error,
            })  # fmt: skip

    def _deliver(self, function: Function, arn: str, body: str, failure_metric: str) -> bool:
        try:
            if ":sqs:" in arn:
                url = self.cloud.service("sqs").url(arn.rsplit(":", 1)[-1])
                self.cloud.client("sqs", function.role).send_message(QueueUrl=url, MessageBody=body)
            else:
                self.cloud.client("sns", function.role).publish(TopicArn=arn, Message=body)
        except ClientError:
            self.model.metric(failure_metric, function.name)
            return False
        return True

    def _record(self, queued: QueuedEvent, function: Function, why: str, error: dict[str, Any] | None) -> str:
        record = {
            "version": "1.0",
            "timestamp": iso(self.cloud.clock.now()),
            "requestContext": {
                "requestId": queued.request_id,
                "functionArn": f"{function.arn}:$LATEST",
                "condition": why,
                "approximateInvokeCount": queued.attempts,
            },
            "requestPayload": queued.event,
        }
        if error is not None:
            record["responseContext"] = {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            }
            record["responsePayload"] = error
        return json.dumps(record)
