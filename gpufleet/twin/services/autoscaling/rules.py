"""What AWS refuses in a request, in its own words where they are known. Nothing here changes anything.

Sources: Auto Scaling API reference (botocore's service model), the user guide's pages on launch templates, mixed
instances, lifecycle hooks and suspended processes, and error reports of users; each rule names its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import AwsError, NotModelledError
from ...prices import on_demand
from ..model import refuse_unknown
from .model import LAUNCHING, METRICS, PROCESSES, TERMINATING, Hook, Member

RESERVATIONS = "reservations-then-balanced"
DISTRIBUTIONS = ("balanced-best-effort", "balanced-only", RESERVATIONS)
PREFERENCES = ("default", "none", "capacity-reservations-first", "capacity-reservations-only")


def invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)


def check_sizes(min_size: int, max_size: int, desired: int) -> None:
    # CreateAutoScalingGroup: "desired capacity must be greater than or equal to the minimum size of the group and
    # less than or equal to the maximum size".
    if min_size < 0 or max_size < 0:
        raise invalid("Min and max size must be at least 0.")
    if min_size > max_size:
        raise invalid(f"Max bound, {max_size}, must be greater than or equal to min bound, {min_size}")
    if not min_size <= desired <= max_size:
        raise invalid(
            f"Desired capacity:{desired} must be between the specified min size:{min_size} and max size:{max_size}"
        )


def check_desired(desired: int, min_size: int, max_size: int) -> None:
    """SetDesiredCapacity outside the bounds (AWS refuses, moto accepts)."""
    if desired > max_size:
        raise invalid(f"New SetDesiredCapacity value {desired} is above max value {max_size} for the AutoScalingGroup.")
    if desired < min_size:
        raise invalid(f"New SetDesiredCapacity value {desired} is below min value {min_size} for the AutoScalingGroup.")


def check_source(params: Mapping[str, Any]) -> None:
    """Exactly one of launch template and mixed instances policy (the other two sources are not modelled)."""
    if sum(bool(params.get(key)) for key in ("LaunchTemplate", "MixedInstancesPolicy")) != 1:
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter."
        )


def check_reservations(settings: Mapping[str, Any]) -> None:
    """CapacityReservationSpecification and AvailabilityZoneDistribution together (API reference and the user guide's
    "Availability Zone distribution")."""
    given = settings.get("CapacityReservationSpecification") or {}
    preference, target = given.get("CapacityReservationPreference", "default"), given.get("CapacityReservationTarget")
    distribution = settings["AvailabilityZoneDistribution"].get("CapacityDistributionStrategy")
    if preference not in PREFERENCES:
        raise invalid(f"Invalid CapacityReservationPreference: {preference}")
    if distribution not in DISTRIBUTIONS:
        raise invalid(f"Invalid CapacityDistributionStrategy: {distribution}")
    if target and preference == "none":
        raise invalid("A CapacityReservationTarget cannot be specified with the CapacityReservationPreference none.")
    if distribution == RESERVATIONS and not target:
        raise invalid(f"{RESERVATIONS} needs Capacity Reservations to prioritize: specify a CapacityReservationTarget.")
    if preference == "capacity-reservations-only" or (target and preference == "default"):
        raise NotModelledError(f"the twin does not model the CapacityReservationPreference {preference} with a target")
    if target:
        refuse_unknown("CapacityReservationTarget", target, {"CapacityReservationIds"})
    if distribution == "balanced-only":
        raise NotModelledError(f"the twin does not model the zone distribution {distribution}")


def check_health_type(kind: str) -> None:
    # Target groups and load balancers are not modelled, so no group has one: an ELB check would never hear of anyone.
    if kind != "EC2":
        raise invalid(f"Health check type {kind} needs a load balancer or target group, and the group has none.")


def check_mixed(policy: Mapping[str, Any]) -> None:
    """A MixedInstancesPolicy (API reference: MixedInstancesPolicy, InstancesDistribution, LaunchTemplateOverrides)."""
    refuse_unknown("MixedInstancesPolicy", policy, {"LaunchTemplate", "InstancesDistribution"})
    template = policy.get("LaunchTemplate") or {}
    if not template.get("LaunchTemplateSpecification"):
        raise invalid("The mixed instances policy must contain a launch template specification.")
    refuse_unknown("MixedInstancesPolicy.LaunchTemplate", template, {"LaunchTemplateSpecification", "Overrides"})
    _check_overrides(template.get("Overrides") or [])
    _check_distribution(policy.get("InstancesDistribution") or {})


def _check_overrides(overrides: list[Mapping[str, Any]]) -> None:
    if len(overrides) > 40:
        raise invalid(f"You can specify up to 40 instance types in the overrides; {len(overrides)} were given.")
    types = [override.get("InstanceType") for override in overrides]
    for override in overrides:
        refuse_unknown("MixedInstancesPolicy overrides", override, {"InstanceType", "WeightedCapacity"})
        if not override.get("InstanceType"):
            raise invalid("Each override must name an instance type.")
        on_demand(override["InstanceType"])
    if len(set(types)) != len(types):
        raise invalid(f"The overrides name an instance type twice: {', '.join(map(str, types))}.")
    weights = [override.get("WeightedCapacity") for override in overrides]
    if any(weights) and not all(weights):
        # User guide, "Configure an Auto Scaling group to use instance weights": one weight needs all weights.
        raise invalid("Instance weights must be specified for all instance types or for none.")
    if any(weight not in (None, "1") for weight in weights):
        raise NotModelledError("the twin does not model WeightedCapacity other than 1: sizes would be units, not GPUs")


def _check_distribution(distribution: Mapping[str, Any]) -> None:
    refuse_unknown(
        "InstancesDistribution",
        distribution,
        {
            "OnDemandAllocationStrategy", "OnDemandBaseCapacity", "OnDemandPercentageAboveBaseCapacity",
            "SpotAllocationStrategy", "SpotInstancePools", "SpotMaxPrice",
        },
    )  # fmt: skip
    percentage = distribution.get("OnDemandPercentageAboveBaseCapacity", 100)
    if not 0 <= percentage <= 100:
        raise invalid(f"OnDemandPercentageAboveBaseCapacity must be between 0 and 100; {percentage} was given.")
    if distribution.get("OnDemandBaseCapacity", 0) < 0:
        raise invalid("OnDemandBaseCapacity must not be negative.")
    spot = distribution.get("SpotAllocationStrategy", "lowest-price")
    if spot not in ("lowest-price", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized"):
        raise invalid(f"Invalid SpotAllocationStrategy: {spot}")
    if distribution.get("OnDemandAllocationStrategy", "prioritized") not in ("prioritized", "lowest-price"):
        raise invalid(f"Invalid OnDemandAllocationStrategy: {distribution['OnDemandAllocationStrategy']}")
    if distribution.get("SpotInstancePools") and spot != "lowest-price":
        raise invalid("SpotInstancePools can be used only with the lowest-price allocation strategy.")
    if distribution.get("SpotMaxPrice"):
        raise NotModelledError("the twin does not model SpotMaxPrice: instances never end because of their price")


def check_template(data: Mapping[str, Any], *, mixed: bool, has_overrides: bool) -> None:
    """The launch template's content against its use."""
    if mixed and data.get("InstanceMarketOptions"):
        # User guide, "Create a launch template": "Incompatible launch template" (moto accepts it).
        raise invalid(
            "Incompatible launch template: InstanceMarketOptions cannot be used in a launch template of a mixed "
            "instances policy. Set the purchase options in the policy."
        )
    if not data.get("ImageId"):
        raise invalid(
            "You must use a valid fully-formed launch template. The launch template must contain an image ID."
        )
    if not data.get("InstanceType") and not has_overrides:
        raise invalid(
            "You must use a valid fully-formed launch template. The launch template must contain an instance type."
        )
    if data.get("InstanceType"):
        on_demand(data["InstanceType"])


def hook(given: Mapping[str, Any], previous: Hook | None) -> Hook:
    """The hook that PutLifecycleHook leaves; fields that an update does not name keep their value."""
    name = given["LifecycleHookName"]
    transition = given.get("LifecycleTransition") or (previous.transition if previous else None)
    if transition not in (LAUNCHING, TERMINATING):
        raise invalid(f"Invalid lifecycle transition {transition} for hook {name}: use {LAUNCHING} or {TERMINATING}.")
    heartbeat = given.get("HeartbeatTimeout") or (previous.heartbeat_s if previous else 3600)
    if not 30 <= heartbeat <= 7200:  # PutLifecycleHook: "The range is from 30 to 7200 seconds"
        raise invalid(f"Heartbeat timeout must be between 30 and 7200 seconds; {heartbeat} was given for hook {name}.")
    result = given.get("DefaultResult") or (previous.default_result if previous else "ABANDON")
    check_result(result, "DefaultResult")
    metadata = given.get("NotificationMetadata") or (previous.metadata if previous else None)
    return Hook(name, transition, heartbeat, result, metadata)


def check_result(result: str, what: str = "LifecycleActionResult") -> None:
    if result not in ("CONTINUE", "ABANDON"):
        raise invalid(f"{what} must be CONTINUE or ABANDON; {result} was given.")


def processes(names: Iterable[str] | None) -> list[str]:
    """SuspendProcesses and ResumeProcesses: without names they mean every process."""
    wanted = list(names or PROCESSES)
    unknown = [name for name in wanted if name not in PROCESSES]
    if unknown:
        raise invalid(f"Invalid process type: {', '.join(unknown)}. Valid types: {', '.join(PROCESSES)}.")
    return wanted


def metrics(names: Iterable[str] | None) -> set[str]:
    wanted = set(names or METRICS)
    unknown = sorted(wanted - set(METRICS))
    if unknown:
        raise invalid(f"Invalid metric type: {', '.join(unknown)}.")
    return wanted


def check_decrement(desired: int, min_size: int) -> None:
    """Terminate with decrement at the minimum (reported in buildkite/elastic-ci-stack-for-aws#1261)."""
    if desired <= min_size:
        raise invalid(
            f"Currently, desiredSize equals minSize ({min_size}). Terminating instance without replacement will "
            "violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower "
            "group's min size."
        )


def check_may_terminate(member: Member) -> None:
    # TerminateInstanceInAutoScalingGroup lists ScalingActivityInProgress; an instance goes only once.
    if member.leaving:
        raise AwsError(
            "ScalingActivityInProgress",
            f"The instance {member.instance.id} is already being terminated (state {member.state}).",
        )
