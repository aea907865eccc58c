"""Auto Scaling groups as the functions see them, and the one way an instance is removed: by name, through its drain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from .items import error_code

# A group is busy with another change; the next look tries again.
BUSY_ERRORS = frozenset({"ScalingActivityInProgress", "ResourceContention", "ScalingActivityInProgressFault"})
BY_A_CALL = "User suspended"
LEAVING = ("Terminating", "Terminated", "Detaching", "Detached", "EnteringStandby", "Standby")


@dataclass(frozen=True)
class Member:
    """One instance of a group. ``state``: its lifecycle state; ``template``: version of the launch template."""

    id: str
    state: str
    template: str

    @property
    def leaving(self) -> bool:
        """On its way out, or set aside by hand: the group's desired count no longer includes it."""
        return self.state.startswith(LEAVING)


@dataclass(frozen=True)
class Group:
    """One Auto Scaling group. ``template``: version it launches now, of launch template ``template_id``.
    ``suspended``: processes, by whomever; ``by_aws``: those that AWS itself suspended, because launches have failed for
    a day. ``created_at``: unix seconds."""

    name: str
    desired: int
    members: tuple[Member, ...]
    suspended: frozenset[str]
    template_id: str
    template: str
    by_aws: frozenset[str] = frozenset()
    created_at: float = 0.0

    @property
    def present(self) -> int:
        """Instances that the desired count is held against."""
        return sum(1 for one in self.members if not one.leaving)

    def owed(self, listed: Collection[str]) -> int:
        """Instances that are to come beside those that EC2 has ``listed``: its listing lags behind the group's."""
        here = sum(1 for one in self.members if not one.leaving and one.id in listed)
        return max(self.desired, self.present) - here


def describe(client: Any, names: Iterable[str]) -> dict[str, Group]:
    """Groups by name, all in one call (twenty names fit; pages are followed). Missing groups are left out."""
    request: dict[str, Any] = {"AutoScalingGroupNames": sorted(names), "MaxRecords": 100}
    found: dict[str, Group] = {}
    while True:
        answer = client.describe_auto_scaling_groups(**request)
        for row in answer["AutoScalingGroups"]:
            found[row["AutoScalingGroupName"]] = _group(row)
        if not answer.get("NextToken"):
            return found
        request["NextToken"] = answer["NextToken"]


def _group(row: dict[str, Any]) -> Group:
    mixed = row.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("LaunchTemplateSpecification", {})
    template = row.get("LaunchTemplate") or mixed
    return Group(
        name=row["AutoScalingGroupName"],
        desired=row["DesiredCapacity"],
        members=tuple(
            Member(one["InstanceId"], one["LifecycleState"], str(one.get("LaunchTemplate", {}).get("Version", "")))
            for one in row.get("Instances", ())
        ),
        suspended=frozenset(one["ProcessName"] for one in row.get("SuspendedProcesses", ())),
        by_aws=frozenset(one["ProcessName"] for one in row.get("SuspendedProcesses", ()) if _by_aws(one)),
        created_at=row["CreatedTime"].timestamp() if "CreatedTime" in row else 0.0,
        template_id=template.get("LaunchTemplateId", ""),
        template=str(template.get("Version", "")),
    )


def _by_aws(suspended: Mapping[str, Any]) -> bool:
    """What anybody suspends by a call carries "User suspended at ..." (Auto Scaling API reference, SuspendedProcess);
    without any reason it is not known to be AWS's doing."""
    reason = str(suspended.get("SuspensionReason") or BY_A_CALL)
    return not reason.startswith(BY_A_CALL)


def drain(client: Any, group: Group, instance_id: str) -> Group:
    """Terminates one instance by name through its terminate hook; answers the group as it is afterwards.

    The desired count goes down with it, so that nothing is launched in its place. Where desired is already below what
    is present (a lowered cap leaves it so), it stays: another decrement would ask for one instance too few.
    """
    shrink = group.desired >= group.present
    client.terminate_instance_in_auto_scaling_group(InstanceId=instance_id, ShouldDecrementDesiredCapacity=shrink)
    members = tuple(replace(one, state="Terminating") if one.id == instance_id else one for one in group.members)
    return replace(group, members=members, desired=group.desired - 1 if shrink else group.desired)


def busy_with_another_change(error: ClientError) -> bool:
    """Whether a group refused because another change of it is under way."""
    return error_code(error) in BUSY_ERRORS
