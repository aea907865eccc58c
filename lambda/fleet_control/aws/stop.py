"""The stop, level-triggered: every tick while latched, each step looks first and does only what is left to do.

Suspend Launch, AlarmNotification, ScheduledActions and AZRebalance of every group (noting beforehand which of them are
ours to resume). Then, per group: terminate each instance in service by name, through its drain -> abandon what still
boots -> desired 0. Then, past the drain deadline: complete the terminate hook and terminate at EC2. Capacity is only
ever set to 0, and only after Launch reads back as suspended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_law import Latch
from . import runtime
from .config import GuardConfig, GuardedFleet
from .groups import Group, describe, drain
from .ledger import read_latch, record_suspended
from .meter import Node

STOP_PROCESSES = ("Launch", "AlarmNotification", "ScheduledActions", "AZRebalance")
# Beyond the drain time, for what is being stored and for the node's own terminate call to arrive. Less than a tick, so
# that a node that does not answer any more is gone three minutes after its drain at the latest: one tick until the
# crossing is seen, this, and one until it is looked at again.
GRACE_S = 55.0


class SupersededError(RuntimeError):
    """The latch has changed since this run read it: a newer decision stands."""


@dataclass
class Stopping:
    """One stop run: what it stands on, what it did, what went wrong (each fault leaves the other steps to go on).
    ``noted``: what the latch row says was suspended, by group, when the stop was begun."""

    config: GuardConfig
    latch: Latch
    at: float
    noted: Mapping[str, list[str]] = field(default_factory=dict)
    acts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def stop(stopping: Stopping, groups: Mapping[str, Group]) -> None:
    """Stops every group of every fleet. Raises SupersededError if the latch no longer stands."""
    current, stopping.noted = read_latch(stopping.config.control_table)
    if not current.latched or current.generation != stopping.latch.generation:
        raise SupersededError(f"latch generation {stopping.latch.generation} -> {current.generation}")
    suspended: list[tuple[GuardedFleet, Group]] = []
    for fleet, name in ((one, name) for one in stopping.config.fleets for name in one.groups):
        if name not in groups:
            stopping.errors.append(f"group {name} not found")
            continue
        try:
            suspended.append((fleet, _suspend(stopping, groups[name])))
        except (ClientError, BotoCoreError) as error:
            stopping.errors.append(f"{name}: {error}")
    for fleet, group in suspended:
        try:
            _empty(stopping, fleet, group)
        except (ClientError, BotoCoreError) as error:
            stopping.errors.append(f"{group.name}: {error}")


def _empty(stopping: Stopping, fleet: GuardedFleet, group: Group) -> None:
    if "Launch" not in group.suspended:
        stopping.errors.append(f"{group.name}: Launch does not read back as suspended; its capacity is left as it is")
        return
    client = runtime.client("autoscaling")
    for member in [one for one in group.members if one.state == "InService"]:
        try:
            group = drain(client, group, member.id)
            stopping.acts.append(f"drain {member.id}")
        except ClientError as error:
            stopping.errors.append(f"{group.name} {member.id}: {error}")
    for member in [one for one in group.members if one.state == "Pending:Wait" and fleet.launch_hook]:
        try:
            _complete(client, group, str(fleet.launch_hook), member.id, "ABANDON")
            stopping.acts.append(f"abandon {member.id}")
        except ClientError as error:
            stopping.errors.append(f"{group.name} {member.id}: {error}")
    if group.desired > 0:
        client.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0, HonorCooldown=False)
        stopping.acts.append(f"{group.name} desired {group.desired} -> 0")


def _suspend(stopping: Stopping, group: Group) -> Group:
    """Suspends what is not suspended yet, noted in the latch row first; answers the group as it reads back."""
    missing = [one for one in STOP_PROCESSES if one not in group.suspended]
    before = stopping.noted.get(group.name)
    if not missing and before is not None:
        return group
    table, noted = stopping.config.control_table, sorted({*(before or ()), *missing})
    if not record_suspended(table, stopping.latch, group.name, noted):
        raise SupersededError(f"latch generation {stopping.latch.generation} no longer stands")
    if not missing:
        return group
    client = runtime.client("autoscaling")
    client.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=missing)
    stopping.acts.append(f"suspend {group.name}: {', '.join(missing)}")
    current, _ = read_latch(table)
    if not current.latched:  # resumed in this very moment: leave the note from which the controller resumes the group
        record_suspended(table, current, group.name, noted)
        raise SupersededError(f"resumed meanwhile (generation {current.generation})")
    return describe(client, [group.name]).get(group.name, replace(group, suspended=frozenset()))


def _complete(client: Any, group: Group, hook: str, instance_id: str, result: str) -> None:
    client.complete_lifecycle_action(
        AutoScalingGroupName=group.name,
        LifecycleHookName=hook,
        InstanceId=instance_id,
        LifecycleActionResult=result,
    )


def end_overdue(
    stopping: Stopping, groups: Mapping[str, Group], nodes: list[Node], draining: Mapping[str, float]
) -> None:
    """Ends what is still there past its drain deadline: hook completed, then terminated at EC2.

    ``draining``: since when an instance drains in this stop. One without that (its terminate call keeps failing, or it
    is in no group) has until the drain time after the stop, or after its launch.
    """
    waiting = {
        member.id: group for group in groups.values() for member in group.members if member.state == "Terminating:Wait"
    }
    overdue = []
    for node in nodes:
        one = node.running
        since = draining.get(one.id, max(stopping.latch.at, one.launched_at))
        if node.state in ("pending", "running", "stopped", "stopping") and stopping.at - since > one.drain_s + GRACE_S:
            overdue.append(one.id)
            if one.id in waiting and node.fleet.terminate_hook:
                try:
                    client = runtime.client("autoscaling")
                    _complete(client, waiting[one.id], node.fleet.terminate_hook, one.id, "CONTINUE")
                except (ClientError, BotoCoreError) as error:
                    stopping.errors.append(f"{one.id}: {error}")
    if overdue:
        try:
            runtime.client("ec2").terminate_instances(InstanceIds=overdue)
            stopping.acts.append(f"terminate past the drain deadline: {', '.join(overdue)}")
        except (ClientError, BotoCoreError) as error:
            stopping.errors.append(f"terminate {', '.join(overdue)}: {error}")


def trim(fleet: GuardedFleet, groups: Mapping[str, Group], nodes: list[Node]) -> list[str]:
    """Drains, newest first, the instances beyond the fleet's cap; answers what was done. One that still boots has its
    turn when it is in service: until then no serving one goes in its place.
    """
    mine = [groups[name] for name in fleet.groups if name in groups]
    excess = sum(group.present for group in mine) - fleet.cap
    if excess <= 0:
        return []
    launched = {node.running.id: node.running.launched_at for node in nodes}
    present = [
        (one.state != "InService", launched.get(one.id, 0.0), one.id, at)
        for at, group in enumerate(mine)
        for one in group.members
        if not one.leaving
    ]
    acts = []
    for booting, _, instance_id, index in sorted(present, reverse=True)[:excess]:
        if not booting:
            mine[index] = drain(runtime.client("autoscaling"), mine[index], instance_id)
            acts.append(f"drain {instance_id}: {fleet.fleet} over cap {fleet.cap}")
    return acts
