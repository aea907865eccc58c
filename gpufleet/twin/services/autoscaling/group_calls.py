"""The calls on groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from ...errors import AwsError, NotModelledError
from ..model import Answer, operation, refuse_unknown
from . import answers, rules, suspension
from .base import Base
from .launching import check_group_template
from .model import HOOK_FIELDS, Group, stamp

_SHOWN = {
    "DefaultCooldown": 300,
    "HealthCheckType": "EC2",
    "TerminationPolicies": ["Default"],
    "DefaultInstanceWarmup": None,
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "CapacityReservationSpecification": None,
    "ServiceLinkedRoleARN": None,
}
_CREATE = (
    "AutoScalingGroupName", "MinSize", "MaxSize", "DesiredCapacity", "LaunchTemplate", "MixedInstancesPolicy",
    "VPCZoneIdentifier", "HealthCheckGracePeriod", "NewInstancesProtectedFromScaleIn", "LifecycleHookSpecificationList",
    "Tags", "CapacityRebalance", "MaxInstanceLifetime", *_SHOWN,
)  # fmt: skip
_UPDATE = tuple(name for name in _CREATE if name not in ("Tags", "LifecycleHookSpecificationList"))


class GroupCalls(Base):
    """Groups, their tags, their size, their processes, their history."""

    @operation(*_CREATE)
    def create_auto_scaling_group(self, params: dict[str, Any], principal: str) -> Answer:
        name = params["AutoScalingGroupName"]
        if name in self.groups:
            raise AwsError(
                "AlreadyExists",
                f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            )
        self._check_unmodelled(params)
        rules.check_source(params)
        desired = params.get("DesiredCapacity", params["MinSize"])
        rules.check_sizes(params["MinSize"], params["MaxSize"], desired)
        rules.check_health_type(params.get("HealthCheckType", "EC2"))
        subnets = self._subnets(params.get("VPCZoneIdentifier"))
        template, mixed = self._source(params)
        now = self.clock.now()
        group = Group(
            name=name,
            arn=self.arn(f"autoScalingGroup:{self.new_id()}:autoScalingGroupName/{name}"),
            created=now,
            min_size=params["MinSize"],
            max_size=params["MaxSize"],
            desired=desired,
            launch_template=template,
            mixed=mixed,
            subnets=subnets,
            protect_new=params.get("NewInstancesProtectedFromScaleIn", False),
            grace_s=float(params.get("HealthCheckGracePeriod", 0)),
            settings=self._settings(params, dict(_SHOWN)),
            cause=f"At {stamp(now)} a user request created an AutoScalingGroup changing the desired capacity from 0 to "
            f"{desired}.",
        )
        for given in params.get("LifecycleHookSpecificationList", []):
            refuse_unknown("LifecycleHookSpecificationList", given, set(HOOK_FIELDS))
            group.hooks[given["LifecycleHookName"]] = rules.hook(given, None)
        self._tag(group, params.get("Tags", []))
        self.groups[name] = group
        self.lifecycle.wake(group)
        return {}

    @operation(*_UPDATE)
    def update_auto_scaling_group(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        self._check_unmodelled(params)
        low, high = params.get("MinSize", group.min_size), params.get("MaxSize", group.max_size)
        # A bound that moves past desired takes it along unless desired is given too (UpdateAutoScalingGroup).
        desired = params.get("DesiredCapacity", min(max(group.desired, low), high) if low <= high else group.desired)
        rules.check_sizes(low, high, desired)
        rules.check_health_type(params.get("HealthCheckType", "EC2"))
        subnets = self._subnets(params["VPCZoneIdentifier"]) if "VPCZoneIdentifier" in params else group.subnets
        if params.get("LaunchTemplate") or params.get("MixedInstancesPolicy"):
            rules.check_source(params)
            group.launch_template, group.mixed = self._source(params)
        settings = self._settings(params, group.settings)
        group.min_size, group.max_size, group.subnets = low, high, subnets
        group.protect_new = params.get("NewInstancesProtectedFromScaleIn", group.protect_new)
        group.grace_s = float(params.get("HealthCheckGracePeriod", group.grace_s))
        group.settings = settings
        why = f"a user request update of AutoScalingGroup constraints to min: {low}, max: {high}, desired: {desired}"
        self._desire(group, desired, why)
        return {}

    @operation("AutoScalingGroupName", "ForceDelete")
    def delete_auto_scaling_group(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        if group.members and not params.get("ForceDelete"):
            if any(m.coming or m.leaving for m in group.members.values()):
                raise AwsError(
                    "ScalingActivityInProgress",
                    "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that "
                    "group.",
                )
            raise AwsError(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
                "still in the group.",
            )
        self.lifecycle.forget(group)
        del self.groups[group.name]
        return {}

    @operation("AutoScalingGroupNames", "Filters", "MaxRecords", "NextToken", "IncludeInstances")
    def describe_auto_scaling_groups(self, params: dict[str, Any], principal: str) -> Answer:
        names = params.get("AutoScalingGroupNames")
        found = [g for g in self.groups.values() if not names or g.name in names]
        found = answers.filter_groups(found, params.get("Filters", []))
        return answers.page("AutoScalingGroups", [answers.group(g) for g in found], params, 100)

    @operation("Tags")
    def create_or_update_tags(self, params: dict[str, Any], principal: str) -> Answer:
        for tag in params["Tags"]:
            self._tag(self._named(tag.get("ResourceId")), [tag])
        return {}

    @operation("Tags")
    def delete_tags(self, params: dict[str, Any], principal: str) -> Answer:
        for tag in params["Tags"]:
            self._named(tag.get("ResourceId")).tags.pop(tag["Key"], None)
        return {}

    @operation("Filters", "MaxRecords", "NextToken")
    def describe_tags(self, params: dict[str, Any], principal: str) -> Answer:
        rows = [tag for group in self.groups.values() for tag in answers.tags(group)]
        fields = {"auto-scaling-group": "ResourceId", "key": "Key", "value": "Value"}
        for condition in params.get("Filters", []):
            if condition["Name"] not in fields:
                raise rules.invalid(f"Filter name {condition['Name']} is not valid.")
            rows = [row for row in rows if row[fields[condition["Name"]]] in condition["Values"]]
        return answers.page("Tags", rows, params, 100)

    @operation("AutoScalingGroupName", "DesiredCapacity", "HonorCooldown")
    def set_desired_capacity(self, params: dict[str, Any], principal: str) -> Answer:
        group, desired = self._group(params), params["DesiredCapacity"]
        if params.get("HonorCooldown"):
            raise NotModelledError("the twin does not model HonorCooldown: no group of it cools down")
        rules.check_desired(desired, group.min_size, group.max_size)
        self._desire(group, desired, "a user request explicitly set group desired capacity")
        return {}

    @operation("AutoScalingGroupName", "ScalingProcesses")
    def suspend_processes(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        for process in rules.processes(params.get("ScalingProcesses")):
            group.suspended.setdefault(process, suspension.user_reason(self.clock.now()))
        return {}

    def suspend_administratively(self, group: str, processes: Iterable[str] = suspension.SUSPENDED) -> None:
        """A knob: AWS itself suspends the group's processes, as after a day of failed launches."""
        suspension.suspend(self._named(group), rules.processes(processes), self.clock.now())

    @operation("AutoScalingGroupName", "ScalingProcesses")
    def resume_processes(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        for process in rules.processes(params.get("ScalingProcesses")):
            group.suspended.pop(process, None)
        if "Launch" not in group.suspended:
            group.failing_since = None
        self.lifecycle.wake(group)
        return {}

    @operation("AutoScalingGroupName", "Granularity", "Metrics")
    def enable_metrics_collection(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        if params["Granularity"] != "1Minute":
            raise rules.invalid(f"Invalid granularity: {params['Granularity']}. The only valid value is 1Minute.")
        group.metrics |= rules.metrics(params.get("Metrics"))
        return {}

    @operation("AutoScalingGroupName", "Metrics")
    def disable_metrics_collection(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        group.metrics -= rules.metrics(params.get("Metrics"))
        return {}

    @operation("AutoScalingGroupName", "ActivityIds", "MaxRecords", "NextToken", "Filters")
    def describe_scaling_activities(self, params: dict[str, Any], principal: str) -> Answer:
        named = params.get("AutoScalingGroupName")
        groups = [self._named(named)] if named else list(self.groups.values())
        found = [a for group in groups for a in group.activities]
        if params.get("ActivityIds"):
            found = [a for a in found if a.id in params["ActivityIds"]]
        found = answers.filter_activities(found, params.get("Filters", []))
        found.sort(key=lambda a: a.started)
        found.reverse()  # newest first, also among those of one moment
        return answers.page("Activities", [answers.activity(a) for a in found], params, 100)

    def _check_unmodelled(self, params: Mapping[str, Any]) -> None:
        if params.get("CapacityRebalance"):
            raise NotModelledError("the twin does not model CapacityRebalance")
        if params.get("MaxInstanceLifetime"):
            raise NotModelledError("the twin does not model MaxInstanceLifetime")
        if params.get("TerminationPolicies", ["Default"]) != ["Default"]:
            raise NotModelledError(f"the twin does not model the termination policies {params['TerminationPolicies']}")

    def _settings(self, params: Mapping[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        changed = {key: params[key] for key in _SHOWN if key in params}
        settings = {key: value for key, value in {**before, **changed}.items() if value not in (None, -1)}
        rules.check_reservations(settings)
        return settings

    def _source(self, params: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        mixed = params.get("MixedInstancesPolicy")
        if mixed:
            rules.check_mixed(mixed)
        given = mixed["LaunchTemplate"]["LaunchTemplateSpecification"] if mixed else params["LaunchTemplate"]
        check_group_template(self.cloud, given, mixed)
        return (None, mixed) if mixed else (given, None)

    def _subnets(self, identifier: str | None) -> dict[str, str]:
        ids = [part.strip() for part in (identifier or "").split(",") if part.strip()]
        if not ids:
            raise rules.invalid("At least one Availability Zone or VPC Subnet is required.")
        try:
            found = self.cloud.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"]
        except ClientError as error:
            message = error.response["Error"]["Message"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
            raise rules.invalid(message) from error
        zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}
        return {subnet_id: zones[subnet_id] for subnet_id in ids}

    def _tag(self, group: Group, tags: Iterable[Mapping[str, Any]]) -> None:
        for tag in tags:
            if tag["Key"].startswith("aws:"):
                raise rules.invalid("The tag key prefix aws: is reserved.")
            group.tags[tag["Key"]] = (tag.get("Value", ""), bool(tag.get("PropagateAtLaunch", False)))
