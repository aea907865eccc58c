"""Step scaling policies: what AWS accepts, and what an alarm that names one does. Other kinds are refused by name.

Sources: API reference of PutScalingPolicy and StepAdjustment (bounds relative to the alarm's threshold, lower bound
inclusive, no gap, no overlap, the outermost open); user guide, "Step and simple scaling policies" (percentages are
rounded).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import NotModelledError
from ..model import Answer, operation
from . import answers, rules
from .base import Base
from .model import Group

ADJUSTMENTS = ("ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity")
AGGREGATIONS = ("Minimum", "Maximum", "Average")
_FIELDS = (
    "AutoScalingGroupName", "PolicyName", "PolicyType", "AdjustmentType", "MinAdjustmentMagnitude", "StepAdjustments",
    "MetricAggregationType", "EstimatedInstanceWarmup", "Enabled",
)  # fmt: skip


@dataclass
class ScalingPolicy:
    """A policy as it was put; `steps`: (lower, upper, adjustment), ascending, None for an open end."""

    arn: str
    settings: dict[str, Any]
    steps: list[tuple[float | None, float | None, int]] = field(default_factory=list)


def steps_of(given: Sequence[Mapping[str, Any]]) -> list[tuple[float | None, float | None, int]]:
    """The steps in order. Raises `AwsError` for a gap, an overlap or a missing open end."""
    steps = sorted(
        (
            (step.get("MetricIntervalLowerBound"), step.get("MetricIntervalUpperBound"), step["ScalingAdjustment"])
            for step in given
        ),
        key=lambda step: -math.inf if step[0] is None else step[0],
    )
    if not steps:
        raise rules.invalid("At least one StepAdjustment must be specified for StepScaling policies.")
    for lower, upper, _ in steps:
        if (
            lower is None and upper is None
        ):  # StepAdjustment: "The upper and lower bound can't be null in the same step"
            raise rules.invalid("A StepAdjustment must not have both bounds unspecified.")
        if lower is not None and upper is not None and lower >= upper:
            raise rules.invalid(f"StepAdjustment bounds are the wrong way round: {lower} to {upper}.")
    for (_, upper, _), (lower, _, _) in itertools.pairwise(steps):
        if upper is None or lower is None or upper != lower:
            raise rules.invalid(f"StepAdjustments must not overlap or leave a gap: {upper} is followed by {lower}.")
    first, last = steps[0][0], steps[-1][1]
    if last is not None and last > 0:
        raise rules.invalid("At least one StepAdjustment must have an unspecified upper bound.")
    if first is not None and first < 0:
        raise rules.invalid("At least one StepAdjustment must have an unspecified lower bound.")
    return steps


def adjusted(present: int, kind: str, adjustment: int, magnitude: int = 0) -> int:
    """The capacity that an adjustment asks for. Percentages round towards zero, but to one at least."""
    if kind == "ExactCapacity":
        return adjustment
    if kind == "ChangeInCapacity":
        return present + adjustment
    exact = present * adjustment / 100
    change = math.trunc(exact) if abs(exact) > 1 else math.copysign(1, exact) if exact else 0
    return present + int(math.copysign(max(abs(change), magnitude), adjustment) if change or magnitude else 0)


class PolicyCalls(Base):
    """Policies of groups, and the alarms that run them."""

    @operation(*_FIELDS)
    def put_scaling_policy(self, params: dict[str, Any], principal: str) -> Answer:
        group, name = self._group(params), params["PolicyName"]
        if params.get("PolicyType", "SimpleScaling") != "StepScaling":
            raise NotModelledError(
                f"the twin models StepScaling policies, not {params.get('PolicyType', 'simple ones')}"
            )
        if params.get("AdjustmentType") not in ADJUSTMENTS:
            raise rules.invalid(f"AdjustmentType must be one of {', '.join(ADJUSTMENTS)}.")
        if params.get("MinAdjustmentMagnitude") and params["AdjustmentType"] != "PercentChangeInCapacity":
            raise rules.invalid("MinAdjustmentMagnitude is only for PercentChangeInCapacity.")
        if params.get("EstimatedInstanceWarmup"):
            raise NotModelledError("the twin does not model EstimatedInstanceWarmup: nothing warms up in it")
        steps = steps_of(params.get("StepAdjustments") or [])
        if params["AdjustmentType"] == "ExactCapacity" and any(adjustment < 0 for _, _, adjustment in steps):
            # StepAdjustment, ScalingAdjustment: "For exact capacity, you must specify a non-negative value."
            raise rules.invalid("ScalingAdjustment must not be negative for ExactCapacity.")
        if params.get("MetricAggregationType", "Average") not in AGGREGATIONS:
            raise rules.invalid(f"MetricAggregationType must be one of {', '.join(AGGREGATIONS)}.")
        known = group.policies.get(name)
        arn = known.arn if known else self.arn(
            f"scalingPolicy:{self.new_id()}:autoScalingGroupName/{group.name}:policyName/{name}"
        )  # fmt: skip
        group.policies[name] = ScalingPolicy(
            arn, {"Enabled": True, "MetricAggregationType": "Average", **params}, steps
        )
        return {"PolicyARN": arn, "Alarms": []}

    @operation("AutoScalingGroupName", "PolicyNames", "PolicyTypes", "MaxRecords", "NextToken")
    def describe_policies(self, params: dict[str, Any], principal: str) -> Answer:
        groups = [self._group(params)] if params.get("AutoScalingGroupName") else list(self.groups.values())
        wanted = params.get("PolicyNames")
        rows = [
            {**policy.settings, "PolicyARN": policy.arn, "Alarms": []}
            for group in groups
            for name, policy in group.policies.items()
            if not wanted or name in wanted or policy.arn in wanted
        ]
        return answers.page("ScalingPolicies", rows, params, 100)

    @operation("AutoScalingGroupName", "PolicyName")
    def delete_policy(self, params: dict[str, Any], principal: str) -> Answer:
        group, policy = self._policy(params["PolicyName"], params.get("AutoScalingGroupName"))
        del group.policies[policy.settings["PolicyName"]]
        return {}

    @operation("AutoScalingGroupName", "PolicyName", "MetricValue", "BreachThreshold")
    def execute_policy(self, params: dict[str, Any], principal: str) -> Answer:
        group, policy = self._policy(params["PolicyName"], params.get("AutoScalingGroupName"))
        if "MetricValue" not in params or "BreachThreshold" not in params:
            raise rules.invalid("MetricValue and BreachThreshold are required for StepScaling policies.")
        self._run(group, policy, params["MetricValue"] - params["BreachThreshold"])
        return {}

    def breached(self, policy_arn: str, beyond: float) -> None:
        """An alarm that names the policy is in ALARM, its metric `beyond` the threshold (negative: below)."""
        group, policy = self._policy(policy_arn, None)
        if "AlarmNotification" not in group.suspended:
            self._run(group, policy, beyond)

    def _run(self, group: Group, policy: ScalingPolicy, beyond: float) -> None:
        if not policy.settings["Enabled"]:
            return
        for lower, upper, adjustment in policy.steps:
            if (lower is None or beyond >= lower) and (upper is None or beyond < upper):
                magnitude = policy.settings.get("MinAdjustmentMagnitude", 0)
                wanted = adjusted(group.desired, policy.settings["AdjustmentType"], adjustment, magnitude)
                wanted = min(group.max_size, max(group.min_size, wanted))  # a policy never leaves the bounds
                self._desire(group, wanted, f"a monitor alarm triggered policy {policy.settings['PolicyName']}")
                return

    def _policy(self, name: str, group_name: str | None) -> tuple[Group, ScalingPolicy]:
        for group in [self._named(group_name)] if group_name else list(self.groups.values()):
            for policy in group.policies.values():
                if name in (policy.arn, policy.settings["PolicyName"]):
                    return group, policy
        raise rules.invalid(f"No scaling policy found with name {name}")
