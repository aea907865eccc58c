"""What became of the jobs: the account that is held against the promise "nothing lost, nothing billed twice"."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends

from .cloud import Cloud
from .services.sqs import SqsModel
from .services.sqs_queue import Message, Queue

ENDED = ("completed", "failed", "expired")


@dataclass(frozen=True)
class JobAccount:
    """Jobs of one queue, as sets of job ids. `waits`: seconds from sending to the first start, by job id.

    `lost`: sent, but neither ended in the job table nor on the queue or among the dead letters. `without_result`:
    completed, but no result is stored. `billed_twice`: more than one bill was written. `begun_again`: more than one
    worker began it.
    """

    sent: frozenset[str]
    completed: frozenset[str]
    failed: frozenset[str]
    expired: frozenset[str]
    waiting: frozenset[str]
    dead: frozenset[str]
    lost: frozenset[str]
    without_result: frozenset[str]
    billed_twice: frozenset[str]
    begun_again: frozenset[str]
    waits: Mapping[str, float]

    @property
    def in_order(self) -> bool:
        """Nothing lost, nothing billed twice, every completed job has its result."""
        return not (self.lost or self.billed_twice or self.without_result)


class Ledger:
    """Hears of every message that is sent, and reads table and bucket as the operator when asked."""

    def __init__(self, cloud: Cloud, sqs: SqsModel) -> None:
        self._cloud = cloud
        self._sqs = sqs
        self._sent: dict[str, dict[str, float]] = {}  # queue name -> job id -> when it was first sent
        sqs.observers.on_send.append(self._heard)

    def _heard(self, queue: str, message: Message) -> None:
        self._sent.setdefault(queue, {}).setdefault(job_id(message), message.sent_at)

    def sent(self, queue_url: str) -> dict[str, float]:
        """When each job was first sent, unix seconds."""
        return dict(self._sent.get(_name(queue_url), {}))

    def account(
        self, queue_url: str, jobs_table: str, bucket: str, bills: Iterable[tuple[str, str, float]]
    ) -> JobAccount:
        """Hold what was sent against the job table, the results, the queues and the `bills` (job, instance, when)."""
        sent, rows, results = self.sent(queue_url), self._rows(jobs_table), self._results(bucket)
        ended = {
            status: frozenset(job for job, row in rows.items() if row["status"]["S"] == status) for status in ENDED
        }
        queue = self._sqs.named(_name(queue_url)).queue
        waiting = _present(queue)
        dead = _present(queue.redrive[0]) if queue.redrive else frozenset()
        counted = Counter(job for job, _, _ in bills)
        known = waiting | dead | frozenset().union(*ended.values())
        return JobAccount(
            sent=frozenset(sent),
            completed=ended["completed"],
            failed=ended["failed"],
            expired=ended["expired"],
            waiting=waiting,
            dead=dead,
            lost=frozenset(sent) - known,
            without_result=frozenset(
                job
                for job in ended["completed"]
                if rows[job].get("result", {}).get("S", f"results/{job}.json") not in results
            ),
            billed_twice=frozenset(job for job, times in counted.items() if times > 1),
            begun_again=frozenset(job for job, row in rows.items() if int(row.get("attempts", {}).get("N", 1)) > 1),
            waits={
                job: float(row["started_at"]["N"]) - sent[job]
                for job, row in rows.items()
                if job in sent and "started_at" in row
            },
        )

    # Both stores are read where moto keeps them: a scan and a listing over HTTP take seconds for a thousand jobs.

    def _rows(self, table: str) -> dict[str, dict[str, Any]]:
        stored = dynamodb_backends[self._cloud.account_id][self._cloud.region].tables[table]
        rows = (item.to_json()["Attributes"] for item in stored.all_items())
        return {row["pk"]["S"].removeprefix("job#"): row for row in rows if row["pk"]["S"].startswith("job#")}

    def _results(self, bucket: str) -> set[str]:
        return {
            key for key in s3_backends[self._cloud.account_id]["aws"].buckets[bucket].keys if key.startswith("results/")
        }


def job_id(message: Message) -> str:
    """The id a worker gives the job: in the body, else in the message's attributes, else the message's own."""
    try:
        body = json.loads(message.body)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("job_id"):
        return str(body["job_id"])
    return message.attributes.get("job_id", {}).get("StringValue") or message.id


def _present(queue: Queue) -> frozenset[str]:
    queue.settle()
    return frozenset(job_id(message) for message in queue.messages.values() if message.state != "gone")


def _name(queue_url: str) -> str:
    return queue_url.rsplit("/", 1)[-1]
