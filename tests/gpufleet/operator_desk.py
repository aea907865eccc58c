"""An operator's desk: a control table in an embedded cloud, and the commands run against it as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from fleet_control.aws import items
from fleet_control.spend_ledger import Ledger, Paid
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.services import standard

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_793_600_000.0  # 2026-11-02 06:13:20 UTC
MONTH = "2026-11"
TABLE, QUEUE = "inference-control-dev", "inference-queue-dev"


class Desk:
    """`region`: that the last command made its session for; `user`: what says who runs it. Rows have plain values
    here."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cloud, self.monkeypatch, self.region = cloud, monkeypatch, ""
        self.user: Callable[[], str] = lambda: "ana"
        monkeypatch.delenv("GPUFLEET_TWIN_URL", raising=False)  # of a shell that talks to another embedded cloud
        standard.install(cloud)
        self.dynamodb = cloud.client("dynamodb")
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    # -- the table ---------------------------------------------------------------------------------------------

    def put(self, key: str, **values: Any) -> None:
        self.dynamodb.put_item(TableName=TABLE, Item=items.write({"pk": key, **values}))

    def row(self, key: str) -> dict[str, Any]:
        return items.read(self.dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": key}}).get("Item"))

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["pk"]: row for row in map(items.read, self.dynamodb.scan(TableName=TABLE)["Items"])}

    def figures(self, **figures: Any) -> None:
        """What the guard wrote last."""
        known = {"at": NOW - 30, "month": MONTH, "spent_usd": 60, "committed_usd": 50, "launch_usd": 1}
        self.put("budget", **{**known, "monthly_usd": 150, "headroom_usd": 0, **figures})

    def latch(self, **values: Any) -> None:
        """The row of a stop by the guard, with `values` in the place of its own."""
        known = {"latched": True, "reason": "budget", "generation": 4, "at": NOW - 7500, "by": "guard"}
        self.put("latch", **{**known, "month": MONTH, "note": "trip: why", "suspended": {"g": []}, **values})

    def stopped(self, **figures: Any) -> None:
        self.figures(**figures)
        self.latch()

    def ledger(self, month: str, spent_usd: float, running: tuple[str, ...] = (), gone: tuple[str, ...] = ()) -> None:
        """A ledger row as the guard's own code makes its record."""
        paid = {name: Paid(NOW - 900, NOW, 1.006, ended=name in gone) for name in running + gone}
        record = Ledger(month=month, metered_at=NOW, raised_usd=spent_usd, instances=paid).to_json()
        assert json.loads(record)["instances"].keys() == paid.keys()
        self.put(f"ledger#{month}", version=1, month=month, spent_usd=spent_usd, record=record)

    def between(self, act: Callable[[], None]) -> Any:
        """The table's client for somebody who is slow: `act` happens between what is read and what is written."""
        return Between(self.dynamodb, act)

    # -- the queue and the shell -------------------------------------------------------------------------------

    def send(self, jobs: int, wait_s: float = 60.0) -> None:
        """So many jobs, sent `wait_s` ago: the queue's counters lag by a minute, its metrics by up to 15."""
        sqs = self.cloud.client("sqs")
        url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        for _ in range(jobs):
            sqs.send_message(QueueUrl=url, MessageBody="{}")
        self.cloud.clock.run_for(wait_s)

    def client(self, service: str, config: Any = None) -> Any:
        return self.cloud.client(service)

    def run(self, *words: str, folder: Path = ROOT) -> Result:
        """`gpufleet <words>` in `folder`, at the cloud's time."""

        def session(region_name: str) -> Desk:
            self.region = region_name
            return self

        self.monkeypatch.setattr(boto3, "Session", session)
        self.monkeypatch.setattr("gpufleet.commands.target.time.time", self.cloud.now)
        self.monkeypatch.setattr("gpufleet.commands.target.getpass.getuser", self.user)
        self.monkeypatch.chdir(folder)
        return CliRunner().invoke(app, list(words))


class Between:
    """A client that lets `act` happen once, just before a transaction."""

    def __init__(self, client: Any, act: Callable[[], None]) -> None:
        self._client, self._act = client, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **call: Any) -> Any:
        self._act()
        return self._client.transact_write_items(**call)
