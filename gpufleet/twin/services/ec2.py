"""The API over EC2 instances. Networks and launch templates are moto's.

Ours: DescribeInstances, TerminateInstances, DescribeSpotPriceHistory, the check that DeleteSubnet needs, template
versions made from another version, capacity reservations (`reservations.py`), DescribeInstanceTypes. Every other
operation on instances is refused by name, as moto would answer it from instances that it does not have.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from ..cloud import Cloud
from ..errors import AwsError, NotModelledError
from ..iam_resources import tagged_instances
from .instance_type_calls import InstanceTypeCalls
from .machines import Instance, Machines
from .model import Answer, operation, tag_list, unix
from .reservations import ReservationCalls
from .spot_market import HISTORY_S

STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
_REASONS = {
    "request": ("User initiated", "Client.UserInitiatedShutdown", "User initiated shutdown"),
    "group": ("User initiated", "Client.UserInitiatedShutdown", "User initiated shutdown"),
    "spot": ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination", "Spot instance termination"),
    "host": ("Instance initiated", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"),
    "failure": ("Server.InternalError", "Server.InternalError", "Internal error on launch"),
}
_REFUSED = frozenset(
    {
        "RunInstances", "StartInstances", "StopInstances", "RebootInstances", "RequestSpotInstances",
        "RequestSpotFleet", "CreateFleet", "ModifyFleet", "ModifyInstanceAttribute", "DescribeInstanceStatus",
        "DescribeInstanceAttribute", "CancelSpotInstanceRequests", "DescribeSpotInstanceRequests", "ImportInstance",
        "ModifyInstanceMetadataOptions", "MonitorInstances", "UnmonitorInstances", "GetConsoleOutput",
    }
)  # fmt: skip


class Ec2(ReservationCalls, InstanceTypeCalls):
    """The instances of the account are `machines`, their spot market `machines.market`."""

    service = "ec2"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.machines = Machines(cloud)
        self.reservations = self.machines.reservations
        self.on_network_change: list[Callable[[], object]] = []  # a NAT gateway was made or deleted
        self._zones: list[str] = []
        cloud.authorizer.rules[("ec2", "TerminateInstances")] = tagged_instances(
            "ec2:TerminateInstances", self._tags_of
        )

    def handles(self, operation: str) -> bool:
        if operation in ("CreateNatGateway", "DeleteNatGateway"):  # moto's; heard of once moto has answered
            self.clock.at(self.clock.now(), self._network_changed)
        return operation in _REFUSED or operation in self._operations

    def _network_changed(self) -> None:
        for listener in self.on_network_change:
            listener()

    def _tags_of(self, instance_id: str) -> dict[str, str]:
        instance = self.machines.instances.get(instance_id)
        return instance.tags if instance else {}

    @operation("InstanceIds", "Filters", "MaxResults", "NextToken")
    def describe_instances(self, params: dict[str, Any], principal: str) -> Answer:
        ids, limit = params.get("InstanceIds") or [], params.get("MaxResults")
        if ids and limit is not None:
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        if limit is not None and not 5 <= limit <= 1000:
            raise AwsError("InvalidParameterValue", f"Value ( {limit} ) for parameter maxResults is invalid.")
        found = self._by_ids(ids) if ids else self.machines.visible()
        for condition in params.get("Filters", []):
            found = [i for i in found if _passes(i, condition["Name"], condition["Values"])]
        start = _page_start(params.get("NextToken"))
        page = found[start : start + limit] if limit else found[start:]
        answer: dict[str, Any] = {"Reservations": [self._reservation(i) for i in page]}
        if start + len(page) < len(found):
            answer["NextToken"] = f"page-{start + len(page)}"
        return answer

    @operation("InstanceIds")
    def terminate_instances(self, params: dict[str, Any], principal: str) -> Answer:
        changes = []
        for instance in self._by_ids(params["InstanceIds"]):  # AWS checks every id before it ends anything
            before = _state(instance)
            self.machines.end(instance, "request")
            changes.append({"InstanceId": instance.id, "PreviousState": before, "CurrentState": _state(instance)})
        return {"TerminatingInstances": changes}

    @operation(
        "StartTime", "EndTime", "InstanceTypes", "ProductDescriptions", "AvailabilityZone", "MaxResults", "NextToken"
    )
    def describe_spot_price_history(self, params: dict[str, Any], principal: str) -> Answer:
        now = self.clock.now()
        end = min(now, unix(params.get("EndTime", now)))
        start = max(now - HISTORY_S, min(end, unix(params.get("StartTime", now - HISTORY_S))))
        types = params.get("InstanceTypes")
        if not types:
            raise NotModelledError("the twin answers DescribeSpotPriceHistory only for named InstanceTypes")
        rows: list[tuple[float, dict[str, Any]]] = []
        if "Linux/UNIX" in params.get("ProductDescriptions", ["Linux/UNIX"]):
            zones = [params["AvailabilityZone"]] if params.get("AvailabilityZone") else self._all_zones()
            for instance_type in types:
                for zone in zones:
                    # One piece further than asked, so that the price in force at `end` itself is part of the answer.
                    for at, price in self.machines.market.changes(instance_type, zone, start, end + 1):
                        if at <= end:
                            rows.append((at, _price_row(instance_type, zone, at, price)))
        rows.sort(key=lambda row: -row[0])
        first = _page_start(params.get("NextToken"))
        page = rows[first : first + (params.get("MaxResults") or 1000)]
        more = first + len(page) < len(rows)
        return {"SpotPriceHistory": [row for _, row in page], "NextToken": f"page-{first + len(page)}" if more else ""}

    @operation("SubnetId")
    def delete_subnet(self, params: dict[str, Any], principal: str) -> Answer:
        """AWS refuses while an instance has its network interface there; moto knows no instance and does the rest."""
        if any(i.alive and i.subnet_id == params["SubnetId"] for i in self.machines.instances.values()):
            raise AwsError(
                "DependencyViolation",
                f"The subnet '{params['SubnetId']}' has dependencies and cannot be deleted.",
            )
        return None  # pyright: ignore[reportReturnType] - None hands the call on to moto

    @operation("LaunchTemplateId", "LaunchTemplateName", "LaunchTemplateData", "VersionDescription", "SourceVersion",
               "ClientToken", "DryRun")  # fmt: skip
    def create_launch_template_version(self, params: dict[str, Any], principal: str) -> Answer:
        """moto's, but for `SourceVersion`: what the new version does not say is as in that one."""
        wanted = dict(params)
        source = wanted.pop("SourceVersion", None)
        if source is None:
            return None  # pyright: ignore[reportReturnType] - None hands the call on to moto
        client = self.cloud.client("ec2")
        which = {key: wanted[key] for key in ("LaunchTemplateId", "LaunchTemplateName") if key in wanted}
        found = client.describe_launch_template_versions(**which, Versions=[source])["LaunchTemplateVersions"]
        if not found:
            raise AwsError(
                "InvalidLaunchTemplateId.VersionNotFound", f"Could not find launch template version {source}"
            )
        wanted["LaunchTemplateData"] = {**found[0]["LaunchTemplateData"], **wanted.get("LaunchTemplateData", {})}
        return client.create_launch_template_version(**wanted)

    def _by_ids(self, ids: Iterable[str]) -> list[Instance]:
        shown = {i.id: i for i in self.machines.visible()}
        missing = [i for i in ids if i not in shown]
        if missing:
            raise AwsError(
                "InvalidInstanceID.NotFound",
                f"The instance ID{'s' if len(missing) > 1 else ''} '{', '.join(missing)}' do"
                f"{'' if len(missing) > 1 else 'es'} not exist",
            )
        return [shown[i] for i in ids]

    def _all_zones(self) -> list[str]:
        if not self._zones:
            answer = self.cloud.client("ec2").describe_availability_zones()
            self._zones = [zone["ZoneName"] for zone in answer["AvailabilityZones"]]
        return self._zones

    def _reservation(self, instance: Instance) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "InstanceId": instance.id,
            "ImageId": instance.spec.image_id,
            "InstanceType": instance.type,
            "LaunchTime": moment(instance.launched_at),
            "Placement": {"AvailabilityZone": instance.zone, "Tenancy": "default"},
            "State": _state(instance),
            "SubnetId": instance.subnet_id,
            "Tags": tag_list(instance.tags),
            "StateTransitionReason": "",
        }
        if instance.spot:
            shown["InstanceLifecycle"] = "spot"
        if instance.reservation and self.reservations.all[instance.reservation].ended is None:
            shown["CapacityReservationId"] = instance.reservation
        if instance.ended_by:
            transition, code, message = _REASONS[instance.ended_by]
            ended = moment(instance.ended_at or 0.0)
            shown["StateTransitionReason"] = f"{transition} ({ended:%Y-%m-%d %H:%M:%S} GMT)"
            shown["StateReason"] = {"Code": code, "Message": f"{code}: {message}"}
        number = f"r-{instance.id[2:]}"
        return {"ReservationId": number, "OwnerId": self.cloud.account_id, "Groups": [], "Instances": [shown]}


def _page_start(token: str | None) -> int:
    if not token:
        return 0
    if not token.startswith("page-"):
        raise AwsError("InvalidNextToken", f"The token '{token}' is invalid")
    return int(token.removeprefix("page-"))


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _state(instance: Instance) -> dict[str, Any]:
    return {"Code": STATE_CODES[instance.state], "Name": instance.state}


def _price_row(instance_type: str, zone: str, at: float, price: float) -> dict[str, Any]:
    return {
        "AvailabilityZone": zone,
        "InstanceType": instance_type,
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": f"{price:.6f}",
        "Timestamp": moment(at),
    }


def _passes(instance: Instance, name: str, values: Collection[str]) -> bool:
    """One filter of DescribeInstances; values may hold `*` and `?` (EC2 user guide, "List and filter")."""
    actual: Iterable[str]
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        actual = [instance.tags[key]] if key in instance.tags else []
    elif name == "tag-key":
        actual = instance.tags
    elif name in ("instance-state-name", "instance-id", "instance-type", "availability-zone", "subnet-id"):
        shown = {
            "instance-state-name": instance.state,
            "instance-id": instance.id,
            "instance-type": instance.type,
            "availability-zone": instance.zone,
            "subnet-id": instance.subnet_id,
        }
        actual = [shown[name]]
    elif name == "instance-lifecycle":
        actual = ["spot"] if instance.spot else []
    else:
        raise NotModelledError(f"the twin does not model the filter {name} of ec2:DescribeInstances")
    return any(fnmatch.fnmatchcase(found, wanted) for found in actual for wanted in values)
