"""What an operator is shown of a stack before deciding: what runs, what it has cost, what waits. Everything only reads.

What cannot be told is None, never a guess: a queue that may not be read must not keep anybody from a stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import latch as latches
from .latch import Row, State, month_of

AGE_WINDOW_S = 900.0  # CloudWatch has SQS's metrics some minutes late: the newest of a quarter of an hour
MINUTE_S = 60
MONTHS = 24  # so far back a stop's cost is added up


@dataclass(frozen=True)
class Waiting:
    """The queue by SQS's own counters, which lag by up to a minute. `oldest_s`: age of its oldest message."""

    jobs: int
    in_flight: int
    oldest_s: float | None


def waiting(sqs: Any, cloudwatch: Any, queue: str, at: float) -> Waiting:
    """What waits in the queue named `queue` (sqs:GetQueueUrl and GetQueueAttributes; cloudwatch:GetMetricStatistics for
    the age). Raises botocore's errors if the counters cannot be read; without the age it does."""
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "Delayed", "NotVisible")]
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    visible, delayed, in_flight = (int(counts.get(name, 0)) for name in names)
    jobs = visible + delayed
    return Waiting(jobs, in_flight, _oldest_s(cloudwatch, queue, at) if jobs else None)


def _oldest_s(cloudwatch: Any, queue: str, at: float) -> float | None:
    try:
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue}],
            StartTime=datetime.fromtimestamp(at - AGE_WINDOW_S, UTC),
            EndTime=datetime.fromtimestamp(at, UTC),
            Period=MINUTE_S,
            Statistics=["Maximum"],
        )["Datapoints"]
    except (ClientError, BotoCoreError):
        return None
    newest = max(points, key=lambda point: point["Timestamp"], default=None)
    if newest is None:
        return None
    return newest["Maximum"] + max(0.0, at - MINUTE_S - newest["Timestamp"].timestamp())  # it has aged since its minute


@dataclass(frozen=True)
class Accounts:
    """From the guard's ledgers. `running`: ids of the instances that it charges; None if it cannot be told.
    `since_stop_usd`: what the stack has cost since it was stopped; None if that is not known."""

    running: tuple[str, ...] | None
    since_stop_usd: float | None


def accounts(dynamodb: Any, control_table: str, state: State) -> Accounts:
    """What runs, and what a stop has cost so far, in one call (dynamodb:BatchGetItem)."""
    if state.figures is None:
        return Accounts(None, None)
    current = state.known.month
    began = month_of(state.latch.at) if state.latch.latched else current
    months = list(_months(began, current))[-MONTHS:]
    audit = f"audit#{state.latch.generation}"
    rows = latches.get(dynamodb, control_table, [audit, *(f"ledger#{month}" for month in months)])
    ledgers = [rows.get(f"ledger#{month}", {}) for month in months]
    since = _since_stop_usd(rows.get(audit, {}), ledgers, state) if months[0] == began else None
    return Accounts(_running(ledgers[-1]), since)


def _months(first: str, last: str) -> Iterator[str]:
    """From `first` to `last`, both included; `last` alone if it is not later."""
    year, month = map(int, min(first, last).split("-"))
    while (name := f"{year}-{month:02d}") < last:
        yield name
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    yield last


def _since_stop_usd(audit: Row, ledgers: list[Row], state: State) -> float | None:
    """The months' ledgers from the stop on, less what was spent at the stop; the guard's newest figure for this one."""
    at_stop = audit.get("spent_usd")
    earlier = [ledger["spent_usd"] for ledger in ledgers[:-1] if "spent_usd" in ledger]
    if not state.latch.latched or at_stop is None or len(earlier) < len(ledgers) - 1:
        return None
    return max(0.0, sum(earlier) + state.known.spent_usd - at_stop)


def _running(ledger: Row) -> tuple[str, ...] | None:
    """The ledger's record has a list per instance, whose last entry says whether it has ended."""
    try:
        return tuple(sorted(name for name, paid in json.loads(ledger["record"])["instances"].items() if not paid[-1]))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return None
