# ruff: noqa: N803 - the fakes take the arguments that AWS takes
"""A small AWS for the functions' tests: moto's DynamoDB, and strict fakes where moto is lenient or empty.

Strict means: what AWS refuses is refused, everything is recorded, and nothing happens that AWS would not do (a group
with Launch suspended launches nothing; protected instances outlive a lowered desired count; hooks hold an instance).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
    forgotten: bool = False  # EC2 lists an ended instance for about an hour


@dataclass
class FakeGroup:
    name: str
    max: int = 4
    desired: int = 0
    suspended: set[str] = field(default_factory=set)
    by_aws: set[str] = field(default_factory=set)
    created: float | None = None
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
        self.budget_filter = "user:gpu-inference-stack$dev"
        self.gpu_counts: dict[str, int] = {}
        self.nat: dict[str, list[tuple[float, float]]] = {}  # by gateway: when it passed how many GB
        self.daily_usd: list[float] = []
        self.spot_history: list[dict[str, Any]] = []  # oldest first
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

    def answers(self) -> Any:
        """What answers the calls, those to DynamoDB apart."""
        return Calls(self)

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

    def reason(self, group: FakeGroup, process: str) -> str:
        """As AWS words it; what AWS writes when it suspends by itself is not documented, only that it is not this."""
        return "Administratively suspended" if process in group.by_aws else "User suspended at 2026-11-22T12:00:00Z"

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
    """One service's client: every call is looked up by name on ``Calls``."""

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
            target = self.world.db if self.service == "dynamodb" else self.world.answers()
            answer = getattr(target, operation)(**request)
            if verdict == "after":
                raise ReadTimeoutError(endpoint_url=operation)
            return answer

        return call


class Calls:
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
                    "SuspendedProcesses": [
                        {"ProcessName": name, "SuspensionReason": world.reason(group, name)}
                        for name in sorted(group.suspended)
                    ],
                    **({"CreatedTime": datetime.fromtimestamp(group.created, UTC)} if group.created else {}),
                }
            )
        return {"AutoScalingGroups": rows}

    def describe_scaling_activities(
        self,
        AutoScalingGroupName: str,
        MaxRecords: int,
        Filters: list[dict[str, Any]] | None = None,
        NextToken: str | None = None,
    ) -> dict[str, Any]:
        self.world.calls.append(("activities", AutoScalingGroupName))
        found = self.world.groups[AutoScalingGroupName].activities
        for one in Filters or []:
            assert one["Name"] == "StartTimeLowerBound"
            since = datetime.fromisoformat(one["Values"][0])
            found = [activity for activity in found if activity["StartTime"] >= since]
        start = int(NextToken or 0)
        more = {"NextToken": str(start + MaxRecords)} if start + MaxRecords < len(found) else {}
        return {"Activities": found[start : start + MaxRecords], **more}

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
        self.world.groups[AutoScalingGroupName].by_aws -= set(ScalingProcesses)

    def complete_lifecycle_action(
        self, AutoScalingGroupName: str, LifecycleHookName: str, InstanceId: str, LifecycleActionResult: str
    ) -> None:
        one = self.world.instances[InstanceId]
        hook = {"Pending:Wait": LAUNCH_HOOK, "Terminating:Wait": TERMINATE_HOOK}.get(one.state)
        if hook != LifecycleHookName or one.group != AutoScalingGroupName:
            raise fault("CompleteLifecycleAction", "ValidationError", f"No active Lifecycle Action for {InstanceId}")
        self.world.calls.append(("complete", InstanceId, LifecycleHookName, LifecycleActionResult))
        one.state, one.ec2, one.ended = "Terminating:Proceed", "shutting-down", self.world.at

    def describe_instances(
        self, Filters: list[dict[str, Any]] | None = None, MaxResults: int = 0, InstanceIds: list[str] | None = None
    ) -> dict[str, Any]:
        if InstanceIds is not None:
            if any(name not in self.world.instances for name in InstanceIds):
                raise fault("DescribeInstances", "InvalidInstanceID.NotFound")
            states, fleets = (
                {"running", "pending", "shutting-down", "terminated"},
                {one.fleet for one in self.world.instances.values()},
            )
            wanted: dict[str, Any] = {"tag:gpu-inference-fleet": fleets, "instance-state-name": states}
        else:
            wanted = {one["Name"]: one["Values"] for one in Filters or []}
        rows = []
        for one in self.world.instances.values():
            if InstanceIds is not None and one.id not in InstanceIds:
                continue
            if (
                one.forgotten
                or one.fleet not in wanted["tag:gpu-inference-fleet"]
                or one.ec2 not in wanted["instance-state-name"]
            ):
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
        start, rows = datetime.fromtimestamp(request["StartTime"], UTC), self.world.spot_history
        before = [row for row in rows if row["Timestamp"] <= start]
        in_effect = {(row["InstanceType"], row["AvailabilityZone"]): row for row in before}
        return {"SpotPriceHistory": [*in_effect.values(), *(row for row in rows if row["Timestamp"] > start)]}

    def terminate_instances(self, InstanceIds: list[str]) -> None:
        self.world.calls.append(("ec2-terminate", tuple(InstanceIds)))
        for name in InstanceIds:
            one = self.world.instances[name]
            one.ec2, one.ended = "terminated", self.world.at

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        assert Namespace == "GpuInference"
        self.world.metrics += MetricData

    def get_metric_data(self, MetricDataQueries: list[dict[str, Any]], StartTime: Any, EndTime: Any) -> dict[str, Any]:
        """Sums per five minutes of what the gateways passed; one that the world does not know tells nothing."""
        self.world.calls.append(("nat", StartTime.timestamp(), EndTime.timestamp()))
        rows = []
        for query in MetricDataQueries:
            stat = query["MetricStat"]
            assert (stat["Metric"]["Namespace"], stat["Period"], stat["Stat"]) == ("AWS/NATGateway", 300, "Sum")
            (dimension,) = stat["Metric"]["Dimensions"]
            passed = self.world.nat.get(dimension["Value"])
            inward = stat["Metric"]["MetricName"] == "BytesInFromDestination"
            values = [] if passed is None else [0.0] * int((EndTime - StartTime).total_seconds() // 300)
            for at, gigabytes in passed or []:
                if inward and StartTime.timestamp() <= at < EndTime.timestamp():
                    values[int((at - StartTime.timestamp()) // 300)] += gigabytes * 1e9
            rows.append({"Id": query["Id"], "Values": values})
        return {"MetricDataResults": rows}

    def publish(self, **request: Any) -> None:
        self.world.published.append(request)

    def describe_budget(self, AccountId: str, BudgetName: str) -> dict[str, Any]:
        assert (AccountId, BudgetName) == ("123456789012", "inference-budget-dev")
        assert self.world.budget is not None
        amount, updated = self.world.budget
        spend = {"ActualSpend": {"Amount": amount, "Unit": "USD"}}
        filters = {"CostFilters": {"TagKeyValue": [self.world.budget_filter]}} if self.world.budget_filter else {}
        return {"Budget": {**filters, "BudgetName": BudgetName, "LastUpdatedTime": updated, "CalculatedSpend": spend}}

    def describe_instance_types(self, InstanceTypes: list[str]) -> dict[str, Any]:
        self.world.calls.append(("gpu-counts", tuple(InstanceTypes)))
        counts = self.world.gpu_counts
        if any(kind not in counts for kind in InstanceTypes):
            raise fault("DescribeInstanceTypes", "InvalidInstanceType")
        rows = [{"InstanceType": kind, "GpuInfo": {"Gpus": [{"Count": counts[kind]}]}} for kind in InstanceTypes]
        return {"InstanceTypes": rows}

    def get_cost_and_usage(
        self, TimePeriod: dict[str, str], Granularity: str, Metrics: list[str], Filter: dict[str, Any]
    ) -> dict[str, Any]:
        """Each day of the period costs what the world says; days it does not know cost nothing."""
        self.world.calls.append(("cost-explorer", TimePeriod["Start"], TimePeriod["End"], json.dumps(Filter)))
        assert (Granularity, Metrics) == ("DAILY", ["UnblendedCost"])
        start, end = (datetime.fromisoformat(TimePeriod[name]) for name in ("Start", "End"))
        if not start < end:
            raise fault("GetCostAndUsage", "ValidationException", "Start date (and hour) should be before end date")
        rows = []
        for day in range((end - start).days):
            usd = self.world.daily_usd[day] if day < len(self.world.daily_usd) else 0.0
            when = (start + timedelta(days=day)).date().isoformat()
            total = {"UnblendedCost": {"Amount": f"{usd:.10f}", "Unit": "USD"}}
            rows.append({"TimePeriod": {"Start": when}, "Total": total, "Estimated": True})
        return {"ResultsByTime": rows}
