"""Jobs sent to a queue: at once, or over time as a schedule says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from typing import Any

from .clock import Process
from .cloud import Cloud
from .model_server import TOKENS_PER_S

BATCH = 10  # SendMessageBatch takes no more


class Traffic:
    """Sends jobs as the operator. Job ids are `job-000001`, ... in the order of sending."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._numbers = count(1)

    def send(self, queue_url: str, jobs: int = 1, *, service_s: float | None = None, **body: Any) -> list[str]:
        """Send `jobs` jobs now and return their ids. `service_s`: how long the stub model takes for each (default: it
        decides); `body` goes into each message (`prompt`, `request`, `expires_at`, ...)."""
        messages = [self._message(service_s, body) for _ in range(jobs)]
        self._deliver(queue_url, messages)
        return [message["job_id"] for message in messages]

    def schedule(
        self, queue_url: str, arrivals: Iterable[float | tuple[float, float]], name: str = "traffic"
    ) -> Process:
        """Send one job at each of `arrivals`: unix seconds, or (unix seconds, service seconds). Ascending."""
        plan = [(item, None) if isinstance(item, (int, float)) else item for item in arrivals]

        def run() -> None:
            for at, service_s in plan:
                wait = at - self._cloud.clock.now()
                if wait > 0:
                    self._cloud.clock.sleep(wait)
                self.send(queue_url, service_s=service_s)

        return self._cloud.clock.spawn("traffic", run)

    def _message(self, service_s: float | None, body: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"job_id": f"job-{number:06d}", **body}
        if "request" not in message:
            message.setdefault("prompt", f"question {number}")
        if service_s is not None:
            tokens = max(2, round(service_s * TOKENS_PER_S))  # one token would be a canary
            message.get("request", message)["max_tokens"] = tokens
        return message

    def _deliver(self, queue_url: str, messages: list[dict[str, Any]]) -> None:
        waiting = {str(number): json.dumps(message) for number, message in enumerate(messages)}
        sqs = self._cloud.client("sqs")
        while waiting:  # a batch may fail in part
            batch = list(waiting)[:BATCH]
            answer = sqs.send_message_batch(
                QueueUrl=queue_url, Entries=[{"Id": key, "MessageBody": waiting[key]} for key in batch]
            )
            for sent in answer.get("Successful", []):
                del waiting[sent["Id"]]
