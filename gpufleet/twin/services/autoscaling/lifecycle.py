"""What happens to groups over time: launches, hooks, health, scale-in, rebalancing.

Sources: user guide, "Lifecycle hooks", "Instance scale-in protection", "Suspend and resume processes",
"Termination policies", "Health checks". Numbers that AWS does not publish are named constants below.

Assumptions that only a real account can prove, each on the side that costs more money or shows more faults:
an instance terminated by name before it is in service still runs the terminating hook; an abandoned launch does not;
scale-in may also take instances that are still on their way (not protected yet), see `Lifecycle.takes_pending`.
"""

from __future__ import annotations

import uuid
from collections import Counter

from ...cloud import Cloud
from ...errors import AwsError
from ..machines import CapacityError, Instance, Machines
from . import launching, suspension
from .activities import Reporter
from .model import LAUNCHING, TERMINATING, Activity, Group, Hook, Member, Wait, stamp

REACTION_S = (2.0, 6.0)  # from a change to the first launch: "a few seconds"
BATCH = 20  # launches in one go
HEALTH_S = (30.0, 90.0)  # EC2 status checks are looked at about once a minute
RETRY_S = (60.0, 300.0)  # between failed launches: first and longest; AWS backs off without giving numbers
REBALANCE_EVERY_S = 300.0


class Lifecycle:
    """Keeps every group at its desired size. Knobs: `takes_pending` (scale-in may take instances not in service yet),
    `patience_s` (how long a group may fail to launch before AWS suspends it)."""

    def __init__(self, cloud: Cloud, machines: Machines, groups: dict[str, Group]) -> None:
        self._cloud = cloud
        self._clock = cloud.clock
        self._random = cloud.random
        self._machines = machines
        self._groups = groups
        self.report = Reporter(cloud)
        self.takes_pending = True
        self.patience_s = suspension.FAILING_S
        machines.on_change.append(self._machine_changed)
        self._clock.after(60, self._each_minute)

    # -- towards desired --------------------------------------------------------------------------------------

    def wake(self, group: Group, delay: float | None = None) -> None:
        """Look at the group soon, or `delay` seconds from now; an earlier look that is due already will do."""
        due = self._clock.now() + (self._random.uniform(*REACTION_S) if delay is None else delay)
        if group.timer is not None and not group.timer.cancelled:
            if group.timer.when <= due:
                return
            group.timer.cancel()
        group.timer = self._clock.at(due, self._reconcile, group)

    def _reconcile(self, group: Group) -> None:
        group.timer = None
        if group.deleted:
            return
        self._replace_unhealthy(group)
        missing = group.desired - len(group.capacity())
        if missing <= 0 and not any(member.coming for member in group.members.values()):
            group.failing_since = None  # it has what it wants: nothing is being tried
        if missing > 0:
            self._grow(group, missing)
        elif missing < 0:
            self._shrink(group, -missing)

    def _grow(self, group: Group, missing: int) -> None:
        if "Launch" in group.suspended:
            return
        if self._clock.now() < group.retry_at:
            self.wake(group, group.retry_at - self._clock.now())
            return
        for _ in range(min(missing, BATCH)):
            size = len(group.capacity())
            cause = (
                f"{group.cause}  At {self._stamp()} an instance was started in response to a difference between "
                f"desired and actual capacity, increasing the capacity from {size} to {size + 1}."
            )
            if self._launch(group, cause) is None:
                return
        if missing > BATCH:
            self.wake(group)

    def _launch(self, group: Group, cause: str, only_zone: str | None = None) -> Member | None:
        try:
            instance, template = launching.launch(self._cloud, self._machines, group, only_zone)
        except (CapacityError, AwsError) as error:
            message = error.message if isinstance(error, AwsError) else str(error)
            activity = self.report.began(group, "Launching a new EC2 instance", cause, {})
            self.report.ended(activity, "Failed", message)
            self.report.outcome("EC2 Instance Launch Unsuccessful", group, None, activity)
            self._back_off(group)
            return None
        place = {"Subnet ID": instance.subnet_id, "Availability Zone": instance.zone}
        activity = self.report.began(group, f"Launching a new EC2 instance: {instance.id}", cause, place)
        activity.status, activity.progress = "PreInService", 30
        member = group.members[instance.id] = Member(instance, template, activity)
        return member

    def _back_off(self, group: Group) -> None:
        group.failures += 1
        suspension.failed(group, self._clock.now(), self.patience_s)
        first, longest = RETRY_S
        delay = min(longest, first * 2 ** (group.failures - 1))
        group.retry_at = self._clock.now() + delay
        self.wake(group, delay)

    def _shrink(self, group: Group, surplus: int) -> None:
        """AWS chooses who goes: from the fullest zone, then the oldest template version; else nobody can tell."""
        if "Terminate" in group.suspended:
            return
        for _ in range(surplus):
            candidates = [m for m in group.capacity() if self._may_take(m)]
            if not candidates:
                return
            crowd = Counter(m.instance.zone for m in group.capacity())
            victim = min(
                candidates,
                key=lambda m: (-crowd[m.instance.zone], int(m.template["Version"]), self._random.random()),
            )
            size = len(group.capacity())
            self.terminate(
                group,
                victim,
                f"{group.cause}  At {self._stamp()} an instance was taken out of service in response to a difference "
                f"between desired and actual capacity, shrinking the capacity from {size} to {size - 1}.  At "
                f"{self._stamp()} instance {victim.instance.id} was selected for termination.",
            )

    def _may_take(self, member: Member) -> bool:
        return not member.protected and (member.state == "InService" or self.takes_pending)

    # -- an instance's way in -----------------------------------------------------------------------------------

    def _machine_changed(self, instance: Instance) -> None:
        group = self._groups.get(instance.tags.get("aws:autoscaling:groupName", ""))
        member = group.members.get(instance.id) if group else None
        if group is None or member is None:
            return
        if instance.state == "running":
            if member.state == "Pending":
                self._arrived(group, member)
        elif instance.state == "terminated" and member.leaving:
            self._left(group, member)
        elif instance.state == "shutting-down" and not member.leaving:
            if member.state == "Pending":
                self._clock.after(5, self._never_arrived, group, member)
            else:
                self._clock.after(self._random.uniform(*HEALTH_S), self._found_dead, group, member)

    def _arrived(self, group: Group, member: Member) -> None:
        hooks = group.hooks_for(LAUNCHING)
        if not hooks:
            self._in_service(group, member)
            return
        member.state, member.activity.status = "Pending:Wait", "MidLifecycleAction"
        for hook in hooks:
            self._wait(group, member, hook, "EC2 Instance-launch Lifecycle Action")

    def _in_service(self, group: Group, member: Member) -> None:
        member.state, member.in_service_at = "InService", self._clock.now()
        member.protected = group.protect_new  # protection begins here, not before
        group.failures, group.retry_at, group.failing_since, member.surplus = 0, 0.0, None, False
        self.report.ended(member.activity)
        self.report.outcome("EC2 Instance Launch Successful", group, member, member.activity)
        self.wake(group)

    def _never_arrived(self, group: Group, member: Member) -> None:
        if member.state != "Pending":
            return
        self.report.ended(
            member.activity,
            "Failed",
            f"Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: "
            f"{member.instance.ended_by or 'unknown'}: Server.InternalError: Internal error on launch",
        )
        self.report.outcome("EC2 Instance Launch Unsuccessful", group, member, member.activity)
        group.members.pop(member.instance.id, None)
        self._back_off(group)

    # -- an instance's way out ----------------------------------------------------------------------------------

    def terminate(self, group: Group, member: Member, cause: str, *, with_hooks: bool = True) -> Activity:
        """Begin to take an instance out; the terminating hooks run if there are any and the instance still lives."""
        self._stop_waiting(member)
        self.report.ended(member.activity, "Cancelled", f"Instance {member.instance.id} was taken out of service.")
        place = {"Subnet ID": member.instance.subnet_id, "Availability Zone": member.instance.zone}
        description = f"Terminating EC2 instance: {member.instance.id}"
        member.activity = self.report.began(group, description, cause, place)
        member.state, member.protected = "Terminating", False
        hooks = group.hooks_for(TERMINATING) if with_hooks and member.instance.alive else []
        if hooks:
            member.state, member.activity.status, member.activity.progress = (
                "Terminating:Wait",
                "MidLifecycleAction",
                60,
            )
        for hook in hooks:
            self._wait(group, member, hook, "EC2 Instance-terminate Lifecycle Action")
        if not hooks:
            self._proceed(group, member)
        self.wake(group)  # a replacement, if desired still wants one
        return member.activity

    def _proceed(self, group: Group, member: Member) -> None:
        member.state = "Terminating:Proceed"
        if member.instance.state == "terminated":
            self._left(group, member)
        else:
            self._machines.end(member.instance, "group")

    def _left(self, group: Group, member: Member) -> None:
        self._stop_waiting(member)
        group.members.pop(member.instance.id, None)
        self.report.ended(member.activity)
        self.report.outcome("EC2 Instance Terminate Successful", group, member, member.activity)

    def forget(self, group: Group) -> None:
        """Delete by force: no hooks, no waiting (user guide, "Lifecycle hooks": not for force-delete)."""
        group.deleted = True
        for member in list(group.members.values()):
            self._stop_waiting(member)
            self._machines.end(member.instance, "group")

    # -- hooks --------------------------------------------------------------------------------------------------

    def _wait(self, group: Group, member: Member, hook: Hook, event: str) -> None:
        now = self._clock.now()
        token = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        timer = self._clock.at(now + hook.heartbeat_s, self._timed_out, group, member, hook.name)
        member.waits[hook.name] = Wait(hook, token, now, timer)
        detail = {
            "LifecycleActionToken": token,
            "LifecycleHookName": hook.name,
            "LifecycleTransition": hook.transition,
            "NotificationMetadata": hook.metadata or "",
            "Origin": "EC2" if hook.transition == LAUNCHING else "AutoScalingGroup",
            "Destination": "AutoScalingGroup" if hook.transition == LAUNCHING else "EC2",
        }
        self.report.emit(event, group, member, detail)

    def heartbeat(self, group: Group, member: Member, hook_name: str) -> None:
        wait = member.waits[hook_name]
        wait.timer.cancel()
        due = min(self._clock.now() + wait.hook.heartbeat_s, wait.started + wait.hook.longest_s)
        wait.timer = self._clock.at(due, self._timed_out, group, member, hook_name)

    def _timed_out(self, group: Group, member: Member, hook_name: str) -> None:
        wait = member.waits.get(hook_name)
        if wait is not None:
            self.complete(group, member, hook_name, wait.hook.default_result, "Heartbeat Timeout")

    def complete(self, group: Group, member: Member, hook_name: str, result: str, why: str | None = None) -> None:
        """Answer a hook. CONTINUE lets other hooks finish first; ABANDON ends them, and a launch with them."""
        wait = member.waits.pop(hook_name)
        wait.timer.cancel()
        if result == "ABANDON":
            self._stop_waiting(member)
        if member.waits:
            return
        if member.leaving:
            self._proceed(group, member)
        elif result == "CONTINUE":
            self._in_service(group, member)
        else:
            self._abandoned(group, member, wait, why or "Lifecycle Action Completed with ABANDON Result")

    def _abandoned(self, group: Group, member: Member, wait: Wait, why: str) -> None:
        self.report.ended(
            member.activity,
            "Cancelled",
            "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token "
            f"{wait.token} was abandoned: {why}",
        )
        self.report.outcome("EC2 Instance Launch Unsuccessful", group, member, member.activity)
        self._back_off(group)
        cause = (
            f"At {self._stamp()} an instance was taken out of service in response to an instance failing to complete "
            "its lifecycle action."
        )
        self.terminate(group, member, cause, with_hooks=False)

    def _stop_waiting(self, member: Member) -> None:
        for wait in member.waits.values():
            wait.timer.cancel()
        member.waits.clear()

    # -- health and balance ---------------------------------------------------------------------------------------

    def _found_dead(self, group: Group, member: Member) -> None:
        if member.leaving or group.deleted:
            return
        if "HealthCheck" in group.suspended:
            self._clock.after(60, self._found_dead, group, member)
            return
        member.health = "Unhealthy"
        self.wake(group, 0)

    def _replace_unhealthy(self, group: Group) -> None:
        if {"ReplaceUnhealthy", "Terminate"} & set(group.suspended):
            return
        for member in list(group.members.values()):
            if member.health == "Healthy" or member.leaving:
                continue
            why = (
                "a user health-check."
                if member.instance.alive
                else "an EC2 health check indicating it has been terminated or stopped."
            )
            cause = f"At {self._stamp()} an instance was taken out of service in response to {why}"
            self.terminate(group, member, cause)

    def _each_minute(self) -> None:
        self._clock.after(60, self._each_minute)
        rebalance = self._clock.now() % REBALANCE_EVERY_S < 60
        for group in self._groups.values():
            self.report.publish(group)
            if len(group.capacity()) != group.desired or any(m.health != "Healthy" for m in group.members.values()):
                self.wake(group)
            elif rebalance:
                self._rebalance(group)

    def _rebalance(self, group: Group) -> None:
        """AZRebalance: launch in the emptiest zone first; once that is in service, scale-in takes from the fullest."""
        members = list(group.members.values())
        if {"AZRebalance", "Launch", "Terminate"} & set(group.suspended) or any(m.surplus for m in members):
            return
        crowd = Counter(dict.fromkeys(group.subnets.values(), 0))
        crowd.update(m.instance.zone for m in group.capacity())
        fullest, emptiest = max(crowd, key=lambda z: crowd[z]), min(crowd, key=lambda z: crowd[z])
        takeable = any(m.instance.zone == fullest and self._may_take(m) for m in group.capacity())
        if crowd[fullest] - crowd[emptiest] < 2 or not takeable:
            return
        cause = (
            f"At {self._stamp()} instances were launched to balance instances in zones {emptiest} with other zones "
            "resulting in more than desired number of instances in the group."
        )
        member = self._launch(group, cause, emptiest)
        if member is not None:
            member.surplus = True

    def _stamp(self) -> str:
        return stamp(self._clock.now())
