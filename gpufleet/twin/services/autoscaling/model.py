"""The data of Auto Scaling: groups, their instances, hooks, waits and activities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ...clock import Timer
from ..machines import Instance

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
PROCESSES = (
    "Launch", "Terminate", "AddToLoadBalancer", "AlarmNotification", "AZRebalance", "HealthCheck",
    "InstanceRefresh", "ReplaceUnhealthy", "ScheduledActions",
)  # fmt: skip
METRICS = (
    "GroupMinSize", "GroupMaxSize", "GroupDesiredCapacity", "GroupInServiceInstances", "GroupPendingInstances",
    "GroupStandbyInstances", "GroupTerminatingInstances", "GroupTotalInstances", "GroupInServiceCapacity",
    "GroupPendingCapacity", "GroupStandbyCapacity", "GroupTerminatingCapacity", "GroupTotalCapacity",
)  # fmt: skip

HOOK_FIELDS = (
    "LifecycleHookName", "AutoScalingGroupName", "LifecycleTransition", "HeartbeatTimeout", "DefaultResult",
    "NotificationMetadata",
)  # fmt: skip


@dataclass(frozen=True)
class Hook:
    """A lifecycle hook; `heartbeat_s` seconds until `default_result` if nobody answers."""

    name: str
    transition: str
    heartbeat_s: int = 3600
    default_result: str = "ABANDON"
    metadata: str | None = None

    @property
    def longest_s(self) -> float:
        """However often the heartbeat is recorded: 48 h or 100 timeouts, whichever is less (PutLifecycleHook)."""
        return min(48 * 3600.0, 100.0 * self.heartbeat_s)


@dataclass
class Wait:
    """An instance waits at a hook since `started`; `timer` ends the wait."""

    hook: Hook
    token: str
    started: float
    timer: Timer


@dataclass
class Activity:
    """One line of DescribeScalingActivities."""

    id: str
    group: str
    group_arn: str
    description: str
    cause: str
    started: float
    details: str
    status: str = "InProgress"
    message: str | None = None
    ended: float | None = None
    progress: int = 0


@dataclass
class Member:
    """An instance in its group. `template`: id, name and version it was launched from. `surplus`: launched ahead of a
    rebalancing, not counted until it is in service."""

    instance: Instance
    template: dict[str, str]
    activity: Activity
    state: str = "Pending"
    health: str = "Healthy"
    protected: bool = False
    surplus: bool = False
    in_service_at: float | None = None
    waits: dict[str, Wait] = field(default_factory=dict)

    @property
    def coming(self) -> bool:
        return self.state.startswith("Pending")

    @property
    def leaving(self) -> bool:
        return self.state.startswith("Terminating")

    @property
    def target(self) -> str:
        """What the instance metadata says under autoscaling/target-lifecycle-state."""
        return "Terminated" if self.leaving else "InService"


@dataclass
class Group:
    """An Auto Scaling group. `launch_template` or `mixed` as boto3 spells them; `settings` are only shown again."""

    name: str
    arn: str
    created: float
    min_size: int
    max_size: int
    desired: int
    launch_template: dict[str, Any] | None
    mixed: dict[str, Any] | None
    subnets: dict[str, str]  # id -> zone
    protect_new: bool = False
    grace_s: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, tuple[str, bool]] = field(default_factory=dict)  # key -> (value, propagate at launch)
    hooks: dict[str, Hook] = field(default_factory=dict)
    suspended: dict[str, str] = field(default_factory=dict)  # process -> reason
    metrics: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)
    activities: list[Activity] = field(default_factory=list)
    policies: dict[str, Any] = field(default_factory=dict)  # name -> policy_calls.ScalingPolicy
    cause: str = ""  # why desired is what it is, for the next activity
    failures: int = 0  # launches that failed or were abandoned since the last one that came into service
    retry_at: float = 0.0
    failing_since: float | None = None  # it has wanted instances since then, and every launch failed
    timer: Timer | None = None
    deleted: bool = False

    def capacity(self) -> list[Member]:
        """What counts against desired: in service or on its way there."""
        return [m for m in self.members.values() if not m.leaving and not (m.surplus and m.coming)]

    def hooks_for(self, transition: str) -> list[Hook]:
        return [hook for hook in self.hooks.values() if hook.transition == transition]

    def template_spec(self) -> Mapping[str, Any]:
        """The launch template specification, wherever it stands."""
        return self.mixed["LaunchTemplate"]["LaunchTemplateSpecification"] if self.mixed else self.launch_template or {}


def stamp(at: float) -> str:
    """A time as the causes of activities spell it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
