"""What the proofs of scaling on the embedded cloud share: a stack that runs, and what it did."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpufleet.demo.scene import MACHINES
from gpufleet.demo.stage import Stage

ROOT = Path(__file__).parents[2]
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@contextlib.contextmanager
def provisioned(**edits: Any) -> Iterator[Stage]:
    """A stack whose guard and controller have run for five minutes, with a budget that stops nothing."""
    with Stage(ROOT, "dev", {"monthlyBudgetUsd": 5000, **edits}, "us-east-1", 1) as stage:
        stage.up()
        stage.watch()
        stage.world.run_for(5 * MINUTE)
        yield stage


def send(stage: Stage, jobs: int, service_s: float = 20.0) -> None:
    stage.world.traffic.send(stage.outputs["queueUrl"], jobs, service_s=service_s)


def launch_decided(stage: Stage, since: float) -> float | None:
    """When a role of the stack first asked a group for instances from `since` on; None if it did not."""
    first = None
    for call in reversed(stage.cloud.calls):
        if call.at < since:
            break
        if call.operation == "SetDesiredCapacity" and call.error is None and call.params["DesiredCapacity"] > 0:
            first = call.at
    return first


def served(stage: Stage) -> bool:
    """Whether every job that was sent is completed."""
    account = stage.world.account()
    return account.completed == account.sent


def machine_usd(stage: Stage) -> float:
    """What instances and their disks cost so far this month, by the embedded cloud's own bill."""
    bill = stage.world.bill.by_kind()
    return sum(bill.get(kind, 0.0) for kind in MACHINES)
