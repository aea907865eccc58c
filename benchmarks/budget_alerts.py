"""The messages of AWS Budgets on their way to the guard: doubled, delayed, lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpufleet.demo.stage import Stage

SERVICE = "budgets.amazonaws.com"


class Alerts:
    """Stands between AWS Budgets and its topic. `delays`: of each copy that is delivered, in seconds; none: the message
    is lost. `held_until`: no copy arrives before (unix seconds). `spoken`, `delivered`: when AWS Budgets sent a message
    of its own, and when one arrived."""

    def __init__(self, stage: Stage) -> None:
        self.delays: Sequence[float] = (0.0,)
        self.held_until = 0.0
        self.spoken: list[float] = []
        self.delivered: list[float] = []
        self._stage = stage
        topics = stage.world.services.sns
        self._publish, topics.publish_as_service = topics.publish_as_service, self._hear

    def _hear(self, service: str, source_arn: str, topic_arn: str, subject: str, message: str) -> str:
        call = (service, source_arn, topic_arn, subject, message)
        if service != SERVICE:
            return self._publish(*call)
        self.spoken.append(self._stage.now())
        for delay in self.delays:
            if delay or self.held_until > self._stage.now():
                self._stage.cloud.clock.at(max(self._stage.now() + delay, self.held_until), self._deliver, call)
            else:
                self._deliver(call)
        return f"twin-{len(self.spoken)}"

    def _deliver(self, call: tuple[Any, ...]) -> None:
        self.delivered.append(self._stage.now())
        self._publish(*call)

    def send(self, text: str) -> None:
        """A message that AWS Budgets never meant: an old one again, or one that nobody can read."""
        stage = self._stage
        budget = f"arn:aws:budgets::{stage.cloud.account_id}:budget/inference-budget-{stage.stack}"
        self._publish(SERVICE, budget, stage.outputs["budgetTopicArn"], "AWS Budgets", text)
