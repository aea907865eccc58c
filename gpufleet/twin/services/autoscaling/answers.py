"""Groups, instances and activities in the shapes that boto3 answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..ec2 import moment
from ..model import unix
from .model import Activity, Group, Hook, Member
from .rules import invalid


def group(found: Group) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AutoScalingGroupName": found.name,
        "AutoScalingGroupARN": found.arn,
        "MinSize": found.min_size,
        "MaxSize": found.max_size,
        "DesiredCapacity": found.desired,
        "AvailabilityZones": sorted(set(found.subnets.values())),
        "VPCZoneIdentifier": ",".join(found.subnets),
        "LoadBalancerNames": [],
        "TargetGroupARNs": [],
        "TrafficSources": [],
        "HealthCheckGracePeriod": int(found.grace_s),
        "NewInstancesProtectedFromScaleIn": found.protect_new,
        "CreatedTime": moment(found.created),
        "Instances": [member(m) for m in found.members.values()],
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": reason} for name, reason in sorted(found.suspended.items())
        ],
        "EnabledMetrics": [{"Metric": name, "Granularity": "1Minute"} for name in sorted(found.metrics)],
        "Tags": tags(found),
        **found.settings,
    }
    if found.mixed is not None:
        shown["MixedInstancesPolicy"] = found.mixed
    if found.launch_template is not None:
        shown["LaunchTemplate"] = found.launch_template
    return shown


def tags(found: Group) -> list[dict[str, Any]]:
    return [
        {
            "ResourceId": found.name,
            "ResourceType": "auto-scaling-group",
            "Key": key,
            "Value": value,
            "PropagateAtLaunch": propagate,
        }
        for key, (value, propagate) in sorted(found.tags.items())
    ]


def member(found: Member) -> dict[str, Any]:
    return {
        "InstanceId": found.instance.id,
        "InstanceType": found.instance.type,
        "AvailabilityZone": found.instance.zone,
        "LifecycleState": found.state,
        "HealthStatus": found.health,
        "ProtectedFromScaleIn": found.protected,
        "LaunchTemplate": found.template,
    }


def instance(found: Member, group_name: str) -> dict[str, Any]:
    """As DescribeAutoScalingInstances shows it (health in capitals there, "HEALTHY")."""
    return {**member(found), "AutoScalingGroupName": group_name, "HealthStatus": found.health.upper()}


def hook(found: Hook, group_name: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LifecycleHookName": found.name,
        "AutoScalingGroupName": group_name,
        "LifecycleTransition": found.transition,
        "HeartbeatTimeout": found.heartbeat_s,
        "GlobalTimeout": int(found.longest_s),
        "DefaultResult": found.default_result,
    }
    if found.metadata:
        shown["NotificationMetadata"] = found.metadata
    return shown


def activity(found: Activity) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "ActivityId": found.id,
        "AutoScalingGroupName": found.group,
        "AutoScalingGroupARN": found.group_arn,
        "Description": found.description,
        "Cause": found.cause,
        "StartTime": moment(found.started),
        "StatusCode": found.status,
        "Progress": found.progress,
        "Details": found.details,
    }
    if found.ended is not None:
        shown["EndTime"] = moment(found.ended)
    if found.message:
        shown["StatusMessage"] = found.message
    return shown


def filter_groups(groups: Iterable[Group], conditions: Iterable[Mapping[str, Any]]) -> list[Group]:
    """The filters of DescribeAutoScalingGroups: tag-key, tag-value, tag:KEY."""
    found = list(groups)
    for condition in conditions:
        name, values = condition["Name"], condition["Values"]
        if name == "tag-key":
            found = [g for g in found if any(key in values for key in g.tags)]
        elif name == "tag-value":
            found = [g for g in found if any(value in values for value, _ in g.tags.values())]
        elif name.startswith("tag:"):
            key = name.removeprefix("tag:")
            found = [g for g in found if key in g.tags and g.tags[key][0] in values]
        else:
            raise invalid(f"Filter name {name} is not valid.")
    return found


def filter_activities(activities: Iterable[Activity], conditions: Iterable[Mapping[str, Any]]) -> list[Activity]:
    """The filters of DescribeScalingActivities: StartTimeLowerBound, StartTimeUpperBound, Status."""
    found = list(activities)
    for condition in conditions:
        name, values = condition["Name"], condition["Values"]
        if name == "StartTimeLowerBound":
            found = [a for a in found if a.started >= unix(values[0])]
        elif name == "StartTimeUpperBound":
            found = [a for a in found if a.started <= unix(values[0])]
        elif name == "Status":
            found = [a for a in found if a.status in values]
        else:
            raise invalid(f"Filter name {name} is not valid.")
    return found


def page(key: str, rows: list[Any], params: Mapping[str, Any], most: int) -> dict[str, Any]:
    """One page of `rows` under `key`, with NextToken if there are more; `most` is the API's page size."""
    token = params.get("NextToken") or "page-0"
    if not token.startswith("page-"):
        raise invalid("The NextToken value is not valid.")
    start, size = int(token.removeprefix("page-")), min(most, params.get("MaxRecords") or most)
    answer: dict[str, Any] = {key: rows[start : start + size]}
    if start + size < len(rows):
        answer["NextToken"] = f"page-{start + size}"
    return answer
