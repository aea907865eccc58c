"""The small AWS as the machine needs it: instances live by the machine's clock, what is done is shown before it counts,
and what an AWS of many weeks shows and forgets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from aws_world import Calls, FakeInstance, World
from machine_bill import ON_DEMAND, Bill, bounds, month_of
from tables import Tables

LISTED_S = 3600.0  # EC2 lists what has ended for about an hour


@dataclass
class Frame:
    """A run of a function that is under way. ``tick``: of the guard, and no mere event. ``script``: what happens at its
    calls, by number. ``read``: whether Launch of a group read back as suspended; ``owes``: the instances it asked for
    and did not have, when it was last read."""

    actor: str
    began: float
    limit_s: float
    budget: float
    script: dict[int, list[str]] = field(default_factory=dict)
    tick: bool = True
    calls: int = 0
    read: dict[str, bool] = field(default_factory=dict)
    owes: dict[str, int] = field(default_factory=dict)
    looked: float = 0.0


class Machine(Protocol):
    """What the world asks of the machine it lives in."""

    bill: Bill
    lag_s: float
    pending_s: float
    kind: str

    @property
    def frame(self) -> Frame | None: ...
    def judge(self, call: tuple[Any, ...]) -> None: ...
    def row_changes(self, key: tuple[str, ...], before: dict[str, Any], after: dict[str, Any]) -> None: ...
    def pass_time(self, seconds: float) -> None: ...
    def report(self) -> None: ...
    def launched(self, one: FakeInstance) -> None: ...


class _Rows(Tables):
    """Tables that show every change of a row before it counts."""

    def __init__(self, watch: Callable[[tuple[str, ...], dict[str, Any], dict[str, Any]], None]) -> None:
        super().__init__()
        self.watch = watch

    def _write(self, table: str, key: tuple[str, ...], item: dict[str, Any]) -> None:
        self.watch(key, self.rows[table].get(key, {}), item)
        super()._write(table, key, item)


class _Recorder(list[tuple[Any, ...]]):
    """The calls that change something; each is shown before it counts."""

    def __init__(self, watch: Callable[[tuple[Any, ...]], None]) -> None:
        super().__init__()
        self.watch = watch

    def append(self, call: tuple[Any, ...]) -> None:
        self.watch(call)
        super().append(call)


class MachineCalls(Calls):
    """The calls, as a machine of many weeks answers them."""

    world: MachineWorld

    def describe_auto_scaling_groups(self, **request: Any) -> dict[str, Any]:
        answer = super().describe_auto_scaling_groups(**request)
        frame = self.world.life.frame
        for row in answer["AutoScalingGroups"]:
            suspended = {one["ProcessName"] for one in row["SuspendedProcesses"]}
            states = [one["LifecycleState"] for one in row["Instances"]]
            if frame is not None:
                name, here = row["AutoScalingGroupName"], sum(not one.startswith("Terminating") for one in states)
                frame.read[name], frame.owes[name] = "Launch" in suspended, row["DesiredCapacity"] - here
        return answer

    def describe_instances(self, **request: Any) -> dict[str, Any]:
        """The newest are not listed yet, and what ended an hour ago is not any more."""
        answer, world, shown = super().describe_instances(**request), self.world, []
        for reservation in answer["Reservations"]:
            one = world.instances[reservation["Instances"][0]["InstanceId"]]
            forgotten = one.ended is not None and world.at - one.ended > LISTED_S
            if not forgotten and world.at - one.launched >= world.life.lag_s:
                shown.append(reservation)
        return {"Reservations": shown}

    def describe_spot_price_history(self, **request: Any) -> dict[str, Any]:
        spot, types = self.world.life.bill.spot.of, request["InstanceTypes"]
        self.world.spot_history = [
            {
                "InstanceType": kind,
                "AvailabilityZone": "us-east-1a",
                "SpotPrice": f"{ON_DEMAND[kind] * share:.6f}",
                "Timestamp": datetime.fromtimestamp(began, UTC),
            }
            for kind in types
            for began, share in spot
        ]
        return super().describe_spot_price_history(**request)

    def get_cost_and_usage(self, **request: Any) -> dict[str, Any]:
        world, bill = self.world, self.world.life.bill
        start, _ = bounds(month_of(world.at))
        moments = [start + 86_400 * day for day in range(int((world.at - start) // 86_400) + 1)]
        sums = [0.0, *(bill.of(month_of(world.at), at) for at in moments[1:])]
        world.daily_usd = [after - before for before, after in itertools.pairwise(sums)]
        return super().get_cost_and_usage(**request)


class MachineWorld(World):
    """The world; ``life`` is the machine it belongs to."""

    def __init__(self, life: Machine) -> None:
        self.life = life
        super().__init__(_Rows(life.row_changes))
        self.calls = _Recorder(life.judge)

    def answers(self) -> Any:
        return MachineCalls(self)

    def sleep(self, seconds: float) -> None:
        self.life.pass_time(seconds)
        self.life.report()
        if self.life.frame is not None:
            self.life.frame.looked = self.at

    def add(self, group: str, **more: Any) -> FakeInstance:
        one = super().add(group, type=self.life.kind, **more)
        one.ec2 = "pending" if self.life.pending_s else "running"
        self.told(group, f"Launching a new EC2 instance: {one.id}", "InProgress", "a difference")
        self.life.launched(one)
        return one

    def ended(self, one: FakeInstance) -> None:
        """The group's history tells of the end, when that is complete."""
        words = f"Terminating EC2 instance: {one.id}"
        activities = self.groups[one.group].activities
        if not any(each["Description"] == words for each in activities):
            self.told(one.group, words, "InProgress", "an EC2 health check")
        for each in activities:
            if each["Description"] == words:
                each["EndTime"] = datetime.fromtimestamp(one.ended or self.at, UTC)
