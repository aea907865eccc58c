# ruff: noqa: N803 - the fakes take the arguments that AWS takes
"""A small AWS for the functions' tests: moto's DynamoDB, and strict fakes where moto is lenient or empty.

Strict means: what AWS refuses is refused, everything is recorded, and nothing happens that AWS would not do (a group
with Launch suspended launches nothing; protected instances outlive a lowered desired count; hooks hold an instance).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from fleet_control.aws.items import read, write

QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/inference-queue-dev"
CONTROL, JOBS = "inference-control-dev", "inference-jobs-dev"
SPOT_GROUP, ON_DEMAND_GROUP = "inference-asg-dev", "inference-asg-dev-on-demand"
FLEET = "inference-dev"
LAUNCH_HOOK, TERMINATE_HOOK = "inference-launch-hook", "inference-terminate-hook"


def fault(operation: str, code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message or code}}, operation)


@dataclass
class FakeInstance:
    id: str
    group: str
    launched: float
    state: str = "InService"
    ec2: str = "running"
    spot: bool = False
    type: str = "g5.xlarge"
    template: str = "1"
    ended: float | None = None
    fleet: str = FLEET


@dataclass
class FakeGroup:
    name: str
    max: int = 4
    desired: int = 0
    suspended: set[str] = field(default_factory=set)
    template: str = "1"
    activities: list[dict[str, Any]] = field(default_factory=list)


class World:
    """Everything outside the functions. ``calls`` records every call to Auto Scaling and EC2 that changes something,
    in order; ``asked`` every call. ``on_call`` hears each call and may refuse it ("before"), lose its answer ("after"),
    or raise."""

    def __init__(self, dynamodb: Any) -> None:
        self.db = dynamodb
        self.at = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
        self.queue = {"": 0, "Delayed": 0, "NotVisible": 0}
        self.groups = {name: FakeGroup(name) for name in (SPOT_GROUP, ON_DEMAND_GROUP)}
        self.instances: dict[str, FakeInstance] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.logs: list[dict[str, Any]] = []
        self.published: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.failing: dict[str, str] = {}
        self.budget: tuple[str, datetime] | None = None
        self.spot_history: list[dict[str, Any]] = []
        self.delivers = True
        self.suspends = True
        self.on_sleep: Callable[[], None] = lambda: None
        self.before: dict[str, Callable[[], None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.on_call: Callable[[str, str], str | None] = lambda service, operation: None
        self._tables()

    def _tables(self) -> None:
        for name in self.db.list_tables()["TableNames"]:
            self.db.delete_table(TableName=name)
        for name, keys in ((CONTROL, ["pk"]), (JOBS, ["pk", "sk"])):
            self.db.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[{"AttributeName": k, "KeyType": t} for k, t in zip(keys, ["HASH", "RANGE"], strict=False)],
            )

    # --- the runtime that the functions see -------------------------------------------------------------------------
    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.settle()
        self.on_sleep()

    def client(self, service: str) -> Any:
        return _Client(self, service)

    def log(self, record: dict[str, Any]) -> None:
        json.dumps(record)
        self.logs.append({**record})

    # --- what happens by itself -------------------------------------------------------------------------------------
    def settle(self) -> None:
        """Groups launch what they owe, unless Launch is suspended or there is no capacity."""
        for group in self.groups.values():
            while self.delivers and "Launch" not in group.suspended and self.present(group.name) < group.desired:
                self.add(group.name, state="Pending:Wait")

    def add(self, group: str, **more: Any) -> FakeInstance:
        name = f"i-{len(self.instances):017x}"
        spot = group == SPOT_GROUP
        one = FakeInstance(name, group, more.pop("launched", self.at), spot=spot, **more)
        one.template = more.get("template", self.groups[group].template) if group in self.groups else "1"
        self.instances[name] = one
        return one

    def serving(self, group: str = SPOT_GROUP, **more: Any) -> FakeInstance:
        """An instance in service that its group asked for."""
        self.groups[group].desired += 1
        return self.add(group, launched=more.pop("launched", self.at - 900), **more)

    def fails_to_boot(self, one: FakeInstance) -> None:
        """The node gives its launch up; the group tells why and will replace it."""
        why = "Lifecycle Action with token 1 was abandoned: Lifecycle Action Completed with ABANDON Result"
        message = f"Instance failed to complete user's Lifecycle Action: {why}"
        self.leaves(one, f"Launching a new EC2 instance: {one.id}.  Status Reason: {message}", "")

    def leaves(self, one: FakeInstance, description: str, cause: str) -> None:
        """The instance ends, and its group's activities say so in these words."""
        one.state, one.ec2, one.ended = "Terminated", "terminated", self.at
        self.told(one.group, description, "Cancelled", cause)

    def told(self, group: str, description: str, status: str, cause: str = "") -> None:
        """An activity of the group, the newest."""
        told = {"Description": description, "Cause": cause, "StatusCode": status}
        self.groups[group].activities.insert(0, {**told, "StartTime": datetime.fromtimestamp(self.at, UTC)})

    def listed(self, group: str) -> list[FakeInstance]:
        return [one for one in self.instances.values() if one.group == group and one.ec2 in ("pending", "running")]

    def present(self, group: str) -> int:
        return sum(1 for one in self.listed(group) if not one.state.startswith("Terminating"))

    # --- rows -------------------------------------------------------------------------------------------------------
    def put(self, table: str, **row: Any) -> None:
        self.db.put_item(TableName=table, Item=write(row))

    def row(self, table: str, pk: str, sk: str | None = None) -> dict[str, Any]:
        key = {"pk": pk} if sk is None else {"pk": pk, "sk": sk}
        return read(self.db.get_item(TableName=table, Key=write(key)).get("Item"))

    def admit(self, headroom: float = 100.0, launch: float = 0.9, age: float = 0.0) -> None:
        """What a guard that ticked ``age`` seconds ago left: a budget row and an allowance."""
        self.put(CONTROL, pk="budget", at=self.at - age, headroom_usd=headroom, launch_usd=launch, reserved_usd=0)
        self.put(JOBS, pk=f"fleet#{FLEET}", sk="allowance", until=self.at - age + 600, at=self.at - age)

    def beat(self, one: FakeInstance, busy: int = 0, age: float = 0.0, **more: Any) -> None:
        row = {"at": self.at - age, "state": "ready", "slots": 8, "busy": busy, "completed": 0, "worked_s": 0}
        self.put(JOBS, pk=f"fleet#{FLEET}", sk=f"instance#{one.id}", launched_at=one.launched, **{**row, **more})

    def changed(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if not names or call[0] in names]


class _Client:
    """One service's client: every call is looked up by name on ``_Calls``."""

    def __init__(self, world: World, service: str) -> None:
        self.world, self.service = world, service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.world.before.pop(operation, lambda: None)()
            if operation in self.world.failing:
                raise fault(operation, self.world.failing[operation])
            self.world.asked.append((self.service, operation))
            verdict = self.world.on_call(self.service, operation)
            if verdict == "before":
                raise fault(operation, "Throttling", "Rate exceeded")
            target = self.world.db if self.service == "dynamodb" else _Calls(self.world)
            answer = getattr(target, operation)(**request)
            if verdict == "after":
                raise ReadTimeoutError(endpoint_url=operation)
            return answer

        return call


class _Calls:
    def __init__(self, world: World) -> None:
        self.world = world

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        assert QueueUrl == QUEUE
        every = {f"ApproximateNumberOfMessages{name}": str(value) for name, value in self.world.queue.items()}
        return {"Attributes": {name: every[name] for name in AttributeNames}}

    def describe_auto_scaling_groups(self, AutoScalingGroupNames: list[str], MaxRecords: int) -> dict[str, Any]:
        world = self.world
        rows = []
        for group in (world.groups[name] for name in AutoScalingGroupNames if name in world.groups):
            template = {"LaunchTemplateId": "lt-1", "Version": group.template}
            rows.append(
                {
                    "AutoScalingGroupName": group.name,
                    "DesiredCapacity": group.desired,
                    "MixedInstancesPolicy": {"LaunchTemplate": {"LaunchTemplateSpecification": template}},
                    "Instances": [
                        {
                            "InstanceId": one.id,
                            "LifecycleState": one.state,
                            "LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": one.template},
                        }
                        for one in world.listed(group.name)
                    ],
                    "SuspendedProcesses": [{"ProcessName": name} for name in sorted(group.suspended)],
                }
            )
        return {"AutoScalingGroups": rows}

    def describe_scaling_activities(self, AutoScalingGroupName: str, MaxRecords: int) -> dict[str, Any]:
        self.world.calls.append(("activities", AutoScalingGroupName))
        return {"Activities": self.world.groups[AutoScalingGroupName].activities[:MaxRecords]}

    def set_desired_capacity(self, AutoScalingGroupName: str, DesiredCapacity: int, HonorCooldown: bool) -> None:
        group = self.world.groups[AutoScalingGroupName]
        assert HonorCooldown is False, "a cooldown would refuse the call"
        if not 0 <= DesiredCapacity <= group.max:
            raise fault("SetDesiredCapacity", "ValidationError", f"desired {DesiredCapacity} outside 0..{group.max}")
        launch = "suspended" if "Launch" in group.suspended else "active"
        self.world.calls.append(("desired", group.name, DesiredCapacity, launch))
        group.desired = DesiredCapacity

    def terminate_instance_in_auto_scaling_group(self, InstanceId: str, ShouldDecrementDesiredCapacity: bool) -> None:
        one = self.world.instances.get(InstanceId)
        if one is None or one.ec2 != "running":
            raise fault("TerminateInstance", "ValidationError", f"Instance Id not found - {InstanceId}")
        if one.state.startswith("Terminating"):
            raise fault("TerminateInstance", "ScalingActivityInProgress", "already being terminated")
        group = self.world.groups[one.group]
        if ShouldDecrementDesiredCapacity and group.desired == 0:
            raise fault("TerminateInstance", "ValidationError", "desiredSize equals minSize")
        self.world.calls.append(("terminate", InstanceId, ShouldDecrementDesiredCapacity))
        group.desired -= ShouldDecrementDesiredCapacity
        one.state = "Terminating:Wait"
        cause = f"At 12:00 instance {InstanceId} was taken out of service in response to a user request."
        self.world.told(one.group, f"Terminating EC2 instance: {InstanceId}", "InProgress", cause)

    def suspend_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        self.world.calls.append(("suspend", AutoScalingGroupName, tuple(ScalingProcesses)))
        if self.world.suspends:
            self.world.groups[AutoScalingGroupName].suspended |= set(ScalingProcesses)

    def resume_processes(self, AutoScalingGroupName: str, ScalingProcesses: list[str]) -> None:
        assert ScalingProcesses, "an empty list resumes everything"
        self.world.calls.append(("resume", AutoScalingGroupName, tuple(ScalingProcesses)))
        self.world.groups[AutoScalingGroupName].suspended -= set(ScalingProcesses)

    def complete_lifecycle_action(
        self, AutoScalingGroupName: str, LifecycleHookName: str, InstanceId: str, LifecycleActionResult: str
    ) -> None:
        one = self.world.instances[InstanceId]
        hook = {"Pending:Wait": LAUNCH_HOOK, "Terminating:Wait": TERMINATE_HOOK}.get(one.state)
        if hook != LifecycleHookName or one.group != AutoScalingGroupName:
            raise fault("CompleteLifecycleAction", "ValidationError", f"No active Lifecycle Action for {InstanceId}")
        self.world.calls.append(("complete", InstanceId, LifecycleHookName, LifecycleActionResult))
        one.state, one.ec2, one.ended = "Terminating:Proceed", "shutting-down", self.world.at

    def describe_instances(self, Filters: list[dict[str, Any]], MaxResults: int) -> dict[str, Any]:
        wanted = {one["Name"]: one["Values"] for one in Filters}
        rows = []
        for one in self.world.instances.values():
            if one.fleet not in wanted["tag:gpu-inference-fleet"] or one.ec2 not in wanted["instance-state-name"]:
                continue
            row: dict[str, Any] = {
                "InstanceId": one.id,
                "InstanceType": one.type,
                "Placement": {"AvailabilityZone": "us-east-1a"},
                "LaunchTime": datetime.fromtimestamp(one.launched, UTC),
                "State": {"Name": one.ec2},
                "Tags": [{"Key": "gpu-inference-fleet", "Value": one.fleet}],
            }
            if one.spot:
                row["InstanceLifecycle"] = "spot"
            if one.ended is not None:
                when = datetime.fromtimestamp(one.ended, UTC).strftime("%Y-%m-%d %H:%M:%S")
                row["StateTransitionReason"] = f"User initiated ({when} GMT)"
            rows.append(row)
        return {"Reservations": [{"Instances": [row]} for row in rows]}

    def describe_spot_price_history(self, **request: Any) -> dict[str, Any]:
        self.world.calls.append(("spot-prices", tuple(request["InstanceTypes"])))
        return {"SpotPriceHistory": self.world.spot_history}

    def terminate_instances(self, InstanceIds: list[str]) -> None:
        self.world.calls.append(("ec2-terminate", tuple(InstanceIds)))
        for name in InstanceIds:
            one = self.world.instances[name]
            one.ec2, one.ended = "terminated", self.world.at

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        assert Namespace == "GpuInference"
        self.world.metrics += MetricData

    def publish(self, **request: Any) -> None:
        self.world.published.append(request)

    def describe_budget(self, AccountId: str, BudgetName: str) -> dict[str, Any]:
        assert (AccountId, BudgetName) == ("123456789012", "inference-budget-dev")
        assert self.world.budget is not None
        amount, updated = self.world.budget
        spend = {"ActualSpend": {"Amount": amount, "Unit": "USD"}}
        return {"Budget": {"BudgetName": BudgetName, "LastUpdatedTime": updated, "CalculatedSpend": spend}}
