"""A fleet of both pools under the real program on the twin, and what became of its instances: how many there were at
once, what was launched and what drained, and whether the jobs are all there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpufleet.demo.stage import Stage
from gpufleet.twin.cloud import Call
from gpufleet.twin.errors import AwsError
from gpufleet.twin.services.machines import Instance

ROOT = Path(__file__).parents[2]
MINUTE, HOUR = 60.0, 3600.0
LOOK_S = 10.0  # the controller looks so often
BOOT_S = 200.0  # launch to a loaded model, where a test compares two days
SLOTS, SERVICE_S = 2, 40.0
CONTROLLER = "inference-controller-dev"  # the function, and its role
DRAIN = "TerminateInstanceInAutoScalingGroup"
SICK = ": it"  # as in "drain i-1: its worker has been silent", "drain i-1: it has completed nothing"
EDITS = {
    "monthlyBudgetUsd": 4000,  # never the reason for anything here
    "model.slots": SLOTS,
    "advanced.expectedServiceSeconds": int(SERVICE_S),
}


@dataclass(frozen=True)
class Move:
    """An instance was launched (`step` 1), or drained by name (-1)."""

    at: float
    step: int


class Pools(Stage):
    """A provisioned stack whose guard and controller have run for five minutes. `peak`: the most instances at once that
    were not terminated. `began`: when the five minutes were over."""

    def __init__(self, cap: int = 4, *, even: bool = False, edits: Mapping[str, Any] | None = None) -> None:
        super().__init__(ROOT, "dev", {**EDITS, "maxGpuInstances": cap, **(edits or {})}, "us-east-1", seed=1)
        self.cap, self.peak = cap, 0
        self.world.machines.on_change.append(self._count)
        if even:  # every boot takes as long as the other: what two days differ in is not their luck
            self.world.machines.boot_seconds = lambda: 30.0
            self.world.behaviour.cold_start_s = lambda: BOOT_S
        self.up()
        self.watch()
        self.world.run_for(5 * MINUTE)
        self.began = self.now()

    def __enter__(self) -> Pools:
        return self

    def _count(self, _: Instance) -> None:
        self.peak = max(self.peak, self.running())

    # -- jobs -----------------------------------------------------------------------------------------------------

    def send(self, count: int, service_s: float = SERVICE_S) -> list[str]:
        return self.world.traffic.send(self.outputs["queueUrl"], count, service_s=service_s)

    def steady(self, per_minute: float, seconds: float, service_s: float = SERVICE_S) -> None:
        """Jobs at even distances from now on."""
        gap = MINUTE / per_minute
        times = [(self.now() + number * gap, service_s) for number in range(round(seconds / gap))]
        self.world.traffic.schedule(self.outputs["queueUrl"], times)

    def served(self) -> bool:
        account = self.world.account()
        return len(account.completed) == len(account.sent)

    def home(self) -> bool:
        """Every job is done, nothing runs and nothing is wanted."""
        return self.at_zero() and self.served()

    def attempts(self) -> dict[str, int]:
        """How often each job was begun."""
        rows = self.world.ledger._rows(self.outputs["jobsTable"])
        return {job: int(row["attempts"]["N"]) for job, row in rows.items()}

    # -- instances ------------------------------------------------------------------------------------------------

    def of_pool(self, *, spot: bool) -> list[Instance]:
        """The pool's instances that are not terminated."""
        return [one for one in self.world.instances() if one.spot is spot]

    def in_service(self) -> list[Instance]:
        return [one for one in self.world.instances() if self.world.state_of(one) == "InService"]

    def launched(self, since: float = 0.0) -> list[Instance]:
        return [one for one in self.world.machines.instances.values() if one.launched_at >= since]

    def asked(self, operation: str, since: float = 0.0) -> list[Call]:
        """The controller's calls of this kind that were answered."""
        calls = self.cloud.calls_of(CONTROLLER)
        return [one for one in calls if one.operation == operation and one.at >= since and one.error is None]

    def replaced(self) -> dict[str, float]:
        """Instances that were drained because they looked dead or hung, by the records of the runs that have ended."""
        acts = [(act, one["at"]) for one in self.records(CONTROLLER, 0.0) for act in one.get("acts", ())]
        return {act.split()[1].rstrip(":"): at for act, at in acts if SICK in act}

    def acting(self) -> list[int]:
        """The fence of the run behind each look that changed something, in order."""
        looks = [
            (one["at"], one["fence"]) for one in self.records(CONTROLLER, 0.0) if one.get("acts") and "fence" in one
        ]
        return [fence for _, fence in sorted(looks)]

    def drained(self) -> set[str]:
        """Instances that were drained by name."""
        return {one.params["InstanceId"] for one in self.asked(DRAIN)}

    def moves(self, since: float = 0.0) -> list[Move]:
        """Every launch, and every drain by name of an instance that was not sick, in order."""
        sick = self.replaced()
        drains = [Move(one.at, -1) for one in self.asked(DRAIN, since) if one.params["InstanceId"] not in sick]
        return sorted([*(Move(one.launched_at, 1) for one in self.launched(since)), *drains], key=lambda move: move.at)

    def reversals(self, since: float = 0.0, within_s: float = BOOT_S) -> int:
        """How often launches followed drains or drains launches within one cold start, where that was most often."""
        turns = [second.at for first, second in pairwise(self.moves(since)) if first.step != second.step]
        return max((sum(at <= other < at + within_s for other in turns) for at in turns), default=0)

    def check(self) -> None:
        """What must hold on every day."""
        account = self.world.account()
        assert account.in_order
        assert not account.dead
        assert account.completed == account.sent
        assert self.world.work_killed_s == 0
        assert self.peak <= self.cap


class Refusal:
    """While it is `on`, the calls of roles that `hits` are refused. `count` of them were."""

    def __init__(self, stage: Stage, hits: Callable[[Call], bool]) -> None:
        self.on, self.count, self._hits = True, 0, hits
        stage.cloud.faults.append(self._hear)

    def _hear(self, call: Call) -> None:
        if self.on and self._hits(call):
            self.count += 1
            raise AwsError("ThrottlingException", "Rate exceeded")


class Frozen:
    """While it is `on`, the controller reads the same counters of the queue (`queue`), the same heartbeats (`rows`)
    again and again. `count` of its readings were old ones."""

    def __init__(self, stage: Stage, *, queue: bool = False, rows: bool = False) -> None:
        self.on, self.count, self._stage = True, 0, stage
        self._kept: dict[str, dict[str, Any]] = {}
        if queue:
            self._put_before("sqs", "GetQueueAttributes", "get_queue_attributes")
        if rows:
            self._put_before("dynamodb", "Query", "query")

    def _put_before(self, service: str, operation: str, method: str) -> None:
        model = self._stage.cloud.service(service)
        answer = model.call

        def call(asked: str, params: dict[str, Any], principal: str) -> dict[str, Any] | None:
            if not (self.on and principal == CONTROLLER and asked == operation):
                return answer(asked, params, principal)
            self.count += 1
            if operation not in self._kept:
                self._kept[operation] = getattr(self._stage.client(service), method)(**params)
            return dict(self._kept[operation])

        model.call = call
