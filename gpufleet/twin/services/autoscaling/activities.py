"""What a group tells about itself: activities, EventBridge events, group metrics."""

from __future__ import annotations

import json
import uuid
from typing import Any

from ...cloud import Cloud
from ..machines import optional_service
from .model import Activity, Group, Member, stamp

KEPT_S = 6 * 7 * 86_400.0  # DescribeScalingActivities reaches back six weeks
SOURCE = "aws.autoscaling"


class Reporter:
    """Writes the history of groups."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def began(self, group: Group, description: str, cause: str, place: dict[str, str]) -> Activity:
        activity = Activity(
            id=str(uuid.UUID(int=self._cloud.random.getrandbits(128), version=4)),
            group=group.name,
            group_arn=group.arn,
            description=description,
            cause=cause,
            started=self._cloud.clock.now(),
            details=json.dumps(place),
        )
        group.activities.append(activity)
        while group.activities[0].started < activity.started - KEPT_S:
            del group.activities[0]
        return activity

    def ended(self, activity: Activity, status: str = "Successful", message: str | None = None) -> None:
        """Close an activity; a message also shows in its description, as on AWS."""
        if activity.ended is not None:
            return
        activity.status, activity.progress, activity.ended = status, 100, self._cloud.clock.now()
        if message:
            activity.message = message
            activity.description += f".  Status Reason: {message}"

    def emit(self, detail_type: str, group: Group, member: Member | None, detail: dict[str, Any]) -> None:
        """An event on the default bus (EventBridge reference, "Auto Scaling events"), if there is one."""
        events = optional_service(self._cloud, "events")
        if events is None:
            return
        arns, body = [group.arn], {"AutoScalingGroupName": group.name, **detail}
        if member is not None:
            region, account = self._cloud.region, self._cloud.account_id
            arns.append(f"arn:aws:ec2:{region}:{account}:instance/{member.instance.id}")
            body["EC2InstanceId"] = member.instance.id
        events.emit(SOURCE, detail_type, body, arns)

    def outcome(self, detail_type: str, group: Group, member: Member | None, activity: Activity) -> None:
        """One of "EC2 Instance Launch Successful", "... Unsuccessful", "EC2 Instance Terminate Successful"."""
        detail = {
            "ActivityId": activity.id,
            "StatusCode": "InProgress" if activity.status == "Successful" else activity.status,
            "StatusMessage": activity.message or "",
            "Cause": activity.cause,
            "Description": activity.description,
            "StartTime": stamp(activity.started),
            "EndTime": stamp(activity.ended or self._cloud.clock.now()),
        }
        self.emit(detail_type, group, member, detail)

    def publish(self, group: Group) -> None:
        """The group metrics that are enabled, once a minute (user guide, "CloudWatch metrics")."""
        cloudwatch = optional_service(self._cloud, "cloudwatch")
        if cloudwatch is None or not group.metrics:
            return
        states = [member.state for member in group.members.values()]
        in_service = states.count("InService")
        pending = sum(state.startswith("Pending") for state in states)
        terminating = sum(state.startswith("Terminating") for state in states)
        values = {
            "GroupMinSize": group.min_size,
            "GroupMaxSize": group.max_size,
            "GroupDesiredCapacity": group.desired,
            "GroupInServiceInstances": in_service,
            "GroupPendingInstances": pending,
            "GroupStandbyInstances": 0,
            "GroupTerminatingInstances": terminating,
            "GroupTotalInstances": len(states),
            "GroupInServiceCapacity": in_service,
            "GroupPendingCapacity": pending,
            "GroupStandbyCapacity": 0,
            "GroupTerminatingCapacity": terminating,
            "GroupTotalCapacity": len(states),
        }
        for name in sorted(group.metrics):
            cloudwatch.publish("AWS/AutoScaling", name, {"AutoScalingGroupName": group.name}, float(values[name]))
