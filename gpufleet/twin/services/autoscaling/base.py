"""What the calls of Auto Scaling have in common: finding groups and members, and changing what is desired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...cloud import Cloud
from ...errors import NotModelledError
from ...iam_resources import Need, Params, Rule, group_of_instance
from ..machines import Machines
from ..model import Model
from . import rules
from .lifecycle import Lifecycle
from .model import Group, Member, stamp


class Base(Model):
    """Groups by name are `groups`; what moves them is `lifecycle`."""

    service = "autoscaling"

    def __init__(self, cloud: Cloud, machines: Machines) -> None:
        super().__init__(cloud)
        self.groups: dict[str, Group] = {}
        self.lifecycle = Lifecycle(cloud, machines, self.groups)
        for name in ("TerminateInstanceInAutoScalingGroup", "SetInstanceHealth"):
            cloud.authorizer.rules[(self.service, name)] = self._by_instance(f"autoscaling:{name}")

    def find_member(self, instance_id: str) -> tuple[Group, Member] | None:
        """The group an instance is in, and its entry there."""
        for group in self.groups.values():
            if instance_id in group.members:
                return group, group.members[instance_id]
        return None

    def _by_instance(self, action: str) -> Rule:
        def group_of(instance_id: str) -> str | None:
            found = self.find_member(instance_id)
            return found[0].name if found else None

        known = group_of_instance(action, group_of)

        def rule(params: Params, account: str, region: str) -> list[Need]:
            if "InstanceId" not in params:
                raise NotModelledError("the twin does not model InstanceIds of TerminateInstanceInAutoScalingGroup")
            # An instance that is in no group has no resource to be judged by: the call itself then fails.
            return known(params, account, region) if group_of(params["InstanceId"]) else []

        return rule

    def _group(self, params: Mapping[str, Any]) -> Group:
        return self._named(params["AutoScalingGroupName"])

    def _named(self, name: str | None) -> Group:
        if name not in self.groups:
            raise rules.invalid(f"AutoScalingGroup name not found - AutoScalingGroup: {name} not found")
        return self.groups[name]

    def _member(self, instance_id: str) -> tuple[Group, Member]:
        found = self.find_member(instance_id)
        if found is None:
            raise rules.invalid(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
        return found

    def _waiting(self, params: Mapping[str, Any]) -> tuple[Group, Member]:
        group, hook = self._group(params), params["LifecycleHookName"]
        token, instance_id = params.get("LifecycleActionToken"), params.get("InstanceId")
        if token is None and instance_id is None:
            raise rules.invalid("Either a LifecycleActionToken or an InstanceId must be given.")
        for member in group.members.values():
            wait = member.waits.get(hook)
            if wait and token in (None, wait.token) and instance_id in (None, member.instance.id):
                return group, member
        what = f"instance ID {instance_id}" if instance_id else f"token {token}"
        raise rules.invalid(f"No active Lifecycle Action found with {what}")

    def _desire(self, group: Group, desired: int, why: str) -> None:
        if desired != group.desired:
            group.cause = (
                f"At {stamp(self.clock.now())} {why} changing the desired capacity from {group.desired} to {desired}."
            )
        group.desired = desired
        self.lifecycle.wake(group)
