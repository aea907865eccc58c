"""The calls on instances in groups, and on lifecycle hooks."""

from __future__ import annotations

from typing import Any

from ..model import Answer, operation
from . import answers, rules
from .base import Base
from .model import HOOK_FIELDS, LAUNCHING, stamp


class InstanceCalls(Base):
    """Instances one by one, hooks, and the answers to hooks."""

    @operation("InstanceId", "ShouldDecrementDesiredCapacity")
    def terminate_instance_in_auto_scaling_group(self, params: dict[str, Any], principal: str) -> Answer:
        group, member = self._member(params["InstanceId"])
        rules.check_may_terminate(member)
        decrement, size = params["ShouldDecrementDesiredCapacity"], len(group.capacity())
        if decrement:
            rules.check_decrement(group.desired, group.min_size)
            group.desired -= 1
        now = stamp(self.clock.now())
        cause = f"At {now} instance {member.instance.id} was taken out of service in response to a user request"
        cause += f", shrinking the capacity from {size} to {size - 1}." if decrement else "."
        return {"Activity": answers.activity(self.lifecycle.terminate(group, member, cause))}

    @operation("InstanceIds", "AutoScalingGroupName", "ProtectedFromScaleIn")
    def set_instance_protection(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        if len(params["InstanceIds"]) > 50:  # SetInstanceProtection: "You can specify up to 50 instances"
            raise rules.invalid("SetInstanceProtection accepts at most 50 instances.")
        members = [group.members.get(i) for i in params["InstanceIds"]]
        for instance_id, member in zip(params["InstanceIds"], members, strict=True):
            if member is None:
                raise rules.invalid(f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
            if member.state != "InService":
                raise rules.invalid(f"The instance {instance_id} is not in InService or EnteringStandby or Standby.")
            member.protected = params["ProtectedFromScaleIn"]
        self.lifecycle.wake(group)
        return {}

    @operation("InstanceId", "HealthStatus", "ShouldRespectGracePeriod")
    def set_instance_health(self, params: dict[str, Any], principal: str) -> Answer:
        group, member = self._member(params["InstanceId"])
        status = params["HealthStatus"]
        if status not in ("Healthy", "Unhealthy"):
            raise rules.invalid(f"HealthStatus must be Healthy or Unhealthy; {status} was given.")
        grace_ends = (member.in_service_at or self.clock.now()) + group.grace_s
        if status == "Unhealthy" and params.get("ShouldRespectGracePeriod", True) and self.clock.now() < grace_ends:
            return {}  # "If the Auto Scaling group ... has a HealthCheckGracePeriod ..., the call respects the period"
        member.health = status
        self.lifecycle.wake(group)
        return {}

    @operation("InstanceIds", "MaxRecords", "NextToken")
    def describe_auto_scaling_instances(self, params: dict[str, Any], principal: str) -> Answer:
        wanted = params.get("InstanceIds")
        rows = [
            answers.instance(member, group.name)
            for group in self.groups.values()
            for member in group.members.values()
            if not wanted or member.instance.id in wanted
        ]
        return answers.page("AutoScalingInstances", rows, params, 50)

    @operation(*HOOK_FIELDS)
    def put_lifecycle_hook(self, params: dict[str, Any], principal: str) -> Answer:
        group, name = self._group(params), params["LifecycleHookName"]
        group.hooks[name] = rules.hook(params, group.hooks.get(name))
        return {}

    @operation("AutoScalingGroupName", "LifecycleHookNames")
    def describe_lifecycle_hooks(self, params: dict[str, Any], principal: str) -> Answer:
        group, names = self._group(params), params.get("LifecycleHookNames")
        found = [hook for hook in group.hooks.values() if not names or hook.name in names]
        return {"LifecycleHooks": [answers.hook(hook, group.name) for hook in found]}

    @operation("AutoScalingGroupName", "LifecycleHookName")
    def delete_lifecycle_hook(self, params: dict[str, Any], principal: str) -> Answer:
        group = self._group(params)
        hook = group.hooks.pop(params["LifecycleHookName"], None)
        if hook is None:
            raise rules.invalid(f"No Lifecycle Hook found with name {params['LifecycleHookName']}")
        # "If there are any outstanding lifecycle actions, they are completed first (ABANDON for launching instances,
        # CONTINUE for terminating instances)." (DeleteLifecycleHook)
        result = "ABANDON" if hook.transition == LAUNCHING else "CONTINUE"
        for member in list(group.members.values()):
            if hook.name in member.waits:
                self.lifecycle.complete(group, member, hook.name, result)
        return {}

    @operation(
        "AutoScalingGroupName", "LifecycleHookName", "LifecycleActionResult", "LifecycleActionToken", "InstanceId"
    )
    def complete_lifecycle_action(self, params: dict[str, Any], principal: str) -> Answer:
        rules.check_result(params["LifecycleActionResult"])
        group, member = self._waiting(params)
        self.lifecycle.complete(group, member, params["LifecycleHookName"], params["LifecycleActionResult"])
        return {}

    @operation("AutoScalingGroupName", "LifecycleHookName", "LifecycleActionToken", "InstanceId")
    def record_lifecycle_action_heartbeat(self, params: dict[str, Any], principal: str) -> Answer:
        group, member = self._waiting(params)
        self.lifecycle.heartbeat(group, member, params["LifecycleHookName"])
        return {}
