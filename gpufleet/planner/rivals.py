"""The scaling policies that the law is measured against, modelled from their own documentation.

Every model gives its original the benefit of the doubt: metrics are instantaneous (no delay of publication, no
averaging over the minute), an instance counts as in service exactly when it can serve, and what leaves gracefully
leaves in the cheapest order. Each keeps the number of instances it wants, as its original does, so a lost instance is
replaced at the next look.
"""

from __future__ import annotations

import math
from collections import deque

from fleet_control.scaling_law import BOOTING, DRAINING, READY, Instance, Observation

from .simulator import Orders

ALARM_PERIOD_S = 60.0
OUT_PERIODS, IN_PERIODS = 3, 15  # target tracking's own alarms: so many minutes above the target, or below 90 % of it
KEDA_SYNC_S = 15.0  # --horizontal-pod-autoscaler-sync-period
KEDA_SYNCS_PER_POLL = 2  # pollingInterval: 30
KEDA_COOLDOWN_S = 300.0  # cooldownPeriod
HPA_STABLE_S = 300.0  # behavior.scaleDown.stabilizationWindowSeconds
HPA_TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance


class Static:
    """So many instances, always: the fleet of whoever buys for the peak. Start it with `initial=n`."""

    tick_s = 10.0

    def __init__(self, instances: int) -> None:
        self._instances = instances

    def look(self, seen: Observation) -> Orders:
        return Orders(self._instances)


class RawDepthTracking:
    """An Auto Scaling group that tracks the queue's depth, as tutorials have it: 10 visible messages, never below 1.

    EC2 Auto Scaling user guide, as-scaling-target-tracking, names this metric among those that do not work. Scale-in
    ends the newest instance busy or not: no hook protects its jobs.
    """

    tick_s = ALARM_PERIOD_S

    def __init__(self, cap: int, target: float = 10.0, least: int = 1) -> None:
        self._group = _TargetTracking(target, least, cap)

    def look(self, seen: Observation) -> Orders:
        needed = math.ceil(len(_in(seen, READY)) * seen.visible / self._group.target)
        wanted = self._group.move(seen, seen.visible, needed)
        return Orders(wanted, kill=max(0, len(_live(seen)) - wanted))


class BacklogTracking:
    """An Auto Scaling group that tracks the backlog per instance, as AWS advises.

    Source: EC2 Auto Scaling user guide, as-using-sqs-queue: the target is the acceptable latency over the time per
    message (here times the slots of an instance), the metric is visible messages over instances in service. Nothing in
    service gives no metric, so a step policy adds the first instance when one message waits. Instances finish their
    jobs before they leave (lifecycle hook), least busy first.
    """

    tick_s = ALARM_PERIOD_S

    def __init__(self, cap: int, slots: int, wait_target_s: float, service_s: float) -> None:
        self._group = _TargetTracking(wait_target_s / service_s * slots, 0, cap)

    def look(self, seen: Observation) -> Orders:
        in_service = len(_in(seen, READY))
        metric = seen.visible / in_service if in_service else None
        wanted = self._group.move(seen, metric, math.ceil(seen.visible / self._group.target))
        if not wanted and seen.visible >= 1:
            wanted = self._group.wanted = min(1, self._group.cap)
        return Orders(wanted, _leaving(seen, wanted))


class Keda:
    """KEDA 2.21 with its aws-sqs-queue trigger in front of a HorizontalPodAutoscaler, one pod an instance.

    Source: keda.sh, ScaledObject specification and AWS SQS scaler (pollingInterval 30, cooldownPeriod 300 and only to
    zero, queueLength 5, visible and in-flight messages counted, maxReplicaCount 100); kubernetes.io, Horizontal Pod
    Autoscaling (sync 15 s, tolerance 0.1, scale-up by the larger of 100 % and 4 pods per 15 s, down to the highest
    recommendation of the last 300 s). `queue_length` is the one number a user tunes. Pods finish their jobs before
    they leave, and those that boot or hold least leave first.
    """

    tick_s = KEDA_SYNC_S

    def __init__(self, queue_length: float = 5.0, cap: int = 100) -> None:
        self._queue_length, self._cap = queue_length, cap
        self._replicas = 0
        self._began_at: float | None = None
        self._active_at = -math.inf
        self._recommended: deque[tuple[float, int]] = deque()

    def look(self, seen: Observation) -> Orders:
        messages = seen.visible + seen.in_flight
        if self._began_at is None:
            self._began_at = seen.at
        polls = round((seen.at - self._began_at) / KEDA_SYNC_S) % KEDA_SYNCS_PER_POLL == 0
        if polls and messages > 0:
            self._active_at = seen.at
        if not self._replicas:
            self._replicas = min(self._cap, int(polls and messages > 0))
        elif seen.at - self._active_at >= KEDA_COOLDOWN_S:  # a whole number of polls: true at a poll first
            self._replicas = 0
        else:
            self._replicas = self._autoscaled(messages, seen.at)
        return Orders(self._replicas, _leaving(seen, self._replicas))

    def _autoscaled(self, messages: float, at: float) -> int:
        """What the HorizontalPodAutoscaler makes of the metric: between 1 and the cap."""
        current = self._replicas
        recommended = math.ceil(messages / self._queue_length)
        if abs(messages / (self._queue_length * current) - 1) <= HPA_TOLERANCE:
            recommended = current
        self._recommended.append((at, recommended))
        while self._recommended[0][0] < at - HPA_STABLE_S:
            self._recommended.popleft()
        if recommended > current:
            wanted = min(recommended, max(2 * current, current + 4))
        else:
            wanted = min(current, max(count for _, count in self._recommended))
        return max(1, min(wanted, self._cap))


class _TargetTracking:
    """One target tracking policy of an Auto Scaling group: its two alarms, and the group's desired capacity `wanted`.

    Source: EC2 Auto Scaling user guide, as-scaling-target-tracking. Scale-out is proportional, every minute while its
    alarm lasts, and does not count instances that still warm up. Scale-in removes no more than the target allows,
    cannot start while a scale-out is on its way, and is "more gradual": taken as one instance per five minutes (all at
    once, the backlog policy cost 35 % more and kept the wait of fewer jobs on a daily wave).
    """

    scale_in_pause_s = 300.0

    def __init__(self, target: float, least: int, cap: int) -> None:
        self.target, self.least, self.cap = target, least, cap
        self.wanted = least
        self._above, self._below, self._shrunk_at = 0, 0, -math.inf

    def move(self, seen: Observation, metric: float | None, needed: int) -> int:
        """The new desired capacity. `needed` instances would bring the metric to its target; no metric, no move."""
        self._above = self._above + 1 if metric is not None and metric > self.target else 0
        self._below = self._below + 1 if metric is not None and metric < 0.9 * self.target else 0
        if self._above >= OUT_PERIODS:
            self.wanted = min(self.cap, max(self.wanted, needed))
            return self.wanted
        may_shrink = seen.at >= self._shrunk_at + self.scale_in_pause_s and not _in(seen, BOOTING)
        if self._below >= IN_PERIODS and may_shrink and self.wanted > max(needed, self.least):
            self.wanted, self._shrunk_at = self.wanted - 1, seen.at
        return self.wanted


def _in(seen: Observation, state: str) -> list[Instance]:
    return [one for one in seen.instances if one.state == state]


def _live(seen: Observation) -> list[Instance]:
    return [one for one in seen.instances if one.state != DRAINING]


def _leaving(seen: Observation, wanted: int) -> tuple[str, ...]:
    """The live instances beyond `wanted`: booting ones first, then the least busy; of equals the newest."""
    live = _live(seen)
    order = sorted(live, key=lambda one: (one.state == READY, one.busy or 0, -one.launched_at))
    return tuple(one.id for one in order[: max(0, len(live) - wanted)])
