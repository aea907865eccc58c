"""The stage of a walk: a cloud, its world, the engine, and the questions an operator would ask of them.

What is shown comes from where an operator would look: the functions' logs, the groups, the queue, the job table, the
bill. Nothing here decides anything.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpufleet.demo.timeline import Sample, Timeline
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine, UpResult
from gpufleet.twin.plugin.cli import PulumiCli
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import Snapshot, World

# The second of a month: nearly all of its fixed costs are still to come, and committed; and AWS Budgets, whose figures
# are up to a day old, speaks of this month, not of the last one.
START = datetime(2026, 11, 2, tzinfo=UTC).timestamp()
STATES = {"Pending": "booting", "Pending:Wait": "booting", "Pending:Proceed": "booting", "InService": "in service"}


@dataclass(frozen=True)
class Event:
    """Something to tell: unix seconds, words."""

    at: float
    text: str


class Stage:
    """One stack in one embedded cloud. Close it when done (it is a context manager).

    `cli`: the Pulumi CLI that does each `up`, over the wire; without one the built-in engine does, in this process.
    `start`: unix seconds at which the account begins.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        edits: Mapping[str, Any],
        region: str,
        seed: int,
        cli: Path | None = None,
        start: float = START,
    ) -> None:
        self.project = project
        self.stack = stack
        self.edits = dict(edits)
        self._seed, self._ups = seed, 0
        with contextlib.ExitStack() as opened:
            self.cloud = opened.enter_context(Cloud(start, region=region, seed=seed))
            self.world = World(self.cloud)
            self.engine: Engine | PulumiCli = Engine(self.cloud)
            if cli is not None:
                endpoint = opened.enter_context(Endpoint(self.world))
                folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="gpufleet-")))

                def attend(process: subprocess.Popen[str]) -> None:
                    endpoint.serve(until=lambda: process.poll() is not None)

                self.engine = PulumiCli(folder, endpoint.url, region, attend, cli)
            self._opened = opened.pop_all()
        self.outputs: Mapping[str, Any] = {}
        self.timeline = Timeline()
        self.budgets: list[tuple[float, float]] = []  # (since, dollars): config edits change it
        self.latches: list[tuple[float, bool]] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    # -- doing ------------------------------------------------------------------------------------------------

    def up(self, **edits: Any) -> UpResult:
        """`pulumi up` after the config edits `edits` (None takes a key back to the stack file's value)."""
        self.edits.update(edits)
        result = self.engine.up(
            self.project, self.stack, {key: value for key, value in self.edits.items() if value is not None}
        )
        self.outputs = result.outputs
        # What happens from here on must not depend on how many ids and names an engine had made up on its way.
        self._ups += 1
        self.cloud.random.seed(f"{self._seed} after up {self._ups}")
        return result

    def client(self, service: str) -> Any:
        return self.cloud.client(service)

    def now(self) -> float:
        return self.cloud.clock.now()

    # -- looking ----------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """The fleet's Auto Scaling groups as AWS shows them: spot first."""
        names = [self.outputs[key] for key in ("spotGroup", "onDemandGroup") if self.outputs.get(key)]
        answer = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=names)
        return sorted(answer["AutoScalingGroups"], key=lambda group: names.index(group["AutoScalingGroupName"]))

    def running(self) -> int:
        """Instances that are not terminated."""
        return len(self.world.instances())

    def at_work(self) -> int:
        """Requests that model servers are working on. (A message in flight may be in the keeper's hands.)"""
        return sum(len(node.model.in_flight) for node in self.world.nodes.nodes.values())

    def at_zero(self) -> bool:
        """Nothing waits, nothing is in flight, nothing runs and nothing is wanted."""
        now = self.world.snapshot()
        return not (now.backlog or now.in_flight or now.running or any(now.desired.values()))

    def backlog(self) -> int:
        return self.world.snapshot().backlog

    def _control_row(self, key: str) -> dict[str, Any]:
        return self.client("dynamodb").get_item(
            TableName=self.outputs["controlTable"], Key={"pk": {"S": key}}, ConsistentRead=True
        )

    def latch(self) -> dict[str, Any]:
        """The latch row, read as the README's walk reads it."""
        row = self._control_row("latch")
        return {key: next(iter(value.values())) for key, value in row.get("Item", {}).items()}

    def figures(self) -> dict[str, float]:
        """The guard's newest figures in dollars: spent_usd, committed_usd, headroom_usd, launch_usd, monthly_usd."""
        row = self._control_row("budget")
        return {key: float(value["N"]) for key, value in row.get("Item", {}).items() if "N" in value}

    def ledger(self) -> dict[str, Any]:
        """The guard's meter: this month's newest record (see `fleet_control.spend_ledger`), empty if there is none."""
        month = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m")
        row = self._control_row(f"ledger#{month}")
        return json.loads(row["Item"]["record"]["S"]) if "Item" in row else {}

    def reports(self) -> dict[str, int]:
        """Jobs completed by each worker, as its heartbeat row says: by instance id, workers that are gone included."""
        rows = self.client("dynamodb").scan(
            TableName=self.outputs["jobsTable"],
            FilterExpression="begins_with(sk, :instance)",
            ExpressionAttributeValues={":instance": {"S": "instance#"}},
        )["Items"]
        return {row["sk"]["S"].removeprefix("instance#"): int(row["completed"]["N"]) for row in rows}

    def records(self, function: str, since: float) -> list[dict[str, Any]]:
        """What a function logged from `since` on, oldest first."""
        logged = self.world.services.functions.records
        return [one["record"] for one in logged if one["function"] == function and one["at"] >= since]

    def failures(self) -> list[dict[str, Any]]:
        """Function invocations that ended in an error."""
        return list(self.world.services.functions.failures)

    def events(self, since: float) -> list[Event]:
        """Decisions that changed something (the law's own reason), and instances coming into service, since `since`."""
        found = [
            Event(record["at"], record["reason"])
            for record in self.records(self.outputs["controllerFunction"], since)
            if record.get("event") == "decision" and record.get("acts")
        ]
        for group in self.groups():
            answer = self.client("autoscaling").describe_scaling_activities(
                AutoScalingGroupName=group["AutoScalingGroupName"]
            )
            found += [
                Event(activity["EndTime"].timestamp(), f"{activity['Description'].rsplit(' ', 1)[-1]} in service")
                for activity in answer["Activities"]
                if activity["StatusCode"] == "Successful"
                and activity["Description"].startswith("Launching")
                and activity["EndTime"].timestamp() >= since
            ]
        return sorted(found, key=lambda event: event.at)

    # -- the picture --------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Start sampling for the timeline and counting jobs."""
        self.world.follow(self.outputs["queueUrl"], self.outputs["jobsTable"], self.outputs["resultsBucket"])

    def note_budget(self, dollars: float) -> None:
        self.budgets.append((self.now(), dollars))

    def note_latch(self, latched: bool) -> None:
        self.latches.append((self.now(), latched))

    def drawn(self) -> Timeline:
        """The timeline so far."""
        held = [
            (record["at"], record["spent_usd"] + record["committed_usd"])
            for record in self.records(self.outputs["scaleToZeroFunction"], 0)
            if "committed_usd" in record
        ]
        self.timeline.samples = [self._sample(snapshot, held) for snapshot in self.world.timeline]
        return self.timeline

    def _sample(self, snapshot: Snapshot, held: list[tuple[float, float]]) -> Sample:
        instances: dict[tuple[str, str], int] = {}
        for (pool, state), count in snapshot.instances.items():
            key = (pool, STATES.get(state, "booting" if state == "pending" else "draining"))
            instances[key] = instances.get(key, 0) + count
        return Sample(
            at=snapshot.at,
            backlog=snapshot.backlog,
            in_flight=snapshot.in_flight,
            instances=instances,
            spent_usd=snapshot.spent,
            held_usd=_as_of(held, snapshot.at, 0.0),
            budget_usd=_as_of(self.budgets, snapshot.at, 0.0),
            latched=_as_of(self.latches, snapshot.at, False),
        )


def _as_of(changes: list[tuple[float, Any]], at: float, default: Any) -> Any:
    known = bisect.bisect_right(changes, at, key=lambda change: change[0])
    return changes[known - 1][1] if known else default
