"""AWS/SQS metrics: published each minute, but only for active queues.

Source: SQS developer guide, "Monitoring queues using CloudWatch": a queue is active for up to six hours after it held a
message or any API action touched it; waking up takes up to 15 minutes; NotVisible is reported if there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cloudwatch import CloudWatchModel
from .sqs_queue import Flow

if TYPE_CHECKING:
    from .sqs import SqsModel
    from .sqs_admin import QueueEntry

ACTIVE_S = 6 * 3600
WAKE_S = 15 * 60


@dataclass
class Activity:
    busy_at: float  # last minute in which the queue held a message or was touched
    visible_from: float  # metrics are published from here on
    asleep: bool = False


class QueueMetrics:
    """A collector for `CloudWatchModel.collectors`. Knob: `wake_s`, the longest delay after a queue was inactive."""

    def __init__(self, sqs: SqsModel, cloudwatch: CloudWatchModel) -> None:
        self.sqs = sqs
        self.cloudwatch = cloudwatch
        self.wake_s = float(WAKE_S)
        self._activity: dict[str, Activity] = {}

    def __call__(self, minute: float) -> None:
        for name, entry in self.sqs.queues.items():
            counts = entry.queue.counts()
            flow, entry.queue.flow = entry.queue.flow, Flow()
            if self._active(name, entry, any(counts)):
                self._publish(name, entry, counts, flow, minute)

    def _active(self, name: str, entry: QueueEntry, holds: bool) -> bool:
        now = self.sqs.clock.now()
        activity = self._activity.setdefault(name, Activity(entry.created, self._awake(entry.created)))
        touched = now if holds else entry.touched_at
        if activity.asleep and touched > activity.busy_at:
            activity.asleep, activity.visible_from = False, self._awake(now)
        activity.busy_at = max(activity.busy_at, touched)
        activity.asleep = now - activity.busy_at > ACTIVE_S
        return not activity.asleep and now >= activity.visible_from

    def _awake(self, at: float) -> float:
        return at + self.sqs.random.uniform(0, self.wake_s)

    def _publish(self, name: str, entry: QueueEntry, counts: tuple[int, int, int], flow: Flow, minute: float) -> None:
        visible, in_flight, delayed = counts
        values = {
            "ApproximateNumberOfMessagesVisible": visible,
            "ApproximateNumberOfMessagesDelayed": delayed,
            "ApproximateAgeOfOldestMessage": entry.queue.oldest_age(),
            "NumberOfMessagesSent": flow.sent,
            "NumberOfMessagesReceived": flow.received,
            "NumberOfMessagesDeleted": flow.deleted,
            "NumberOfEmptyReceives": flow.empty_receives,
        }
        if in_flight:
            values["ApproximateNumberOfMessagesNotVisible"] = in_flight
        for metric, value in values.items():
            self.cloudwatch.publish("AWS/SQS", metric, {"QueueName": name}, float(value), at=minute)
