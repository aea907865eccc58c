"""What a fleet's launch template, groups and hooks look like. Pure: plain values, or wires passed through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from .. import catalog

# Where AWS publishes its deep-learning images for Amazon Linux 2023 (docs.aws.amazon.com/dlami, read 2026-11).
DLAMI_PARAMETER = "/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
ROOT_DEVICE = "/dev/xvda"  # of Amazon Linux 2023
LEAST_DISK_GB = 75  # the deep-learning image alone
HOOK_MAX_S = 7200  # the longest heartbeat timeout of a lifecycle hook
HOOK_MARGIN_S = 60  # between the end of a node's own work and the end of its hook
HEALTH_GRACE_S = 60  # counted from InService, when the model already answers

# AZRebalance kills busy workers to even out zones; it is suspended from the first minute and nobody resumes it.
SUSPENDED_AT_CREATION = ["AZRebalance"]
# Wire names: the guard suspends processes and the controller sets the desired count, Pulumi must undo neither.
OWNED_BY_THE_LAWS = ["suspendedProcesses", "desiredCapacity"]
GROUP_METRICS = [
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupMaxSize",
    "GroupPendingInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
]


def image_parameter(instance_types: Sequence[str]) -> str:
    """The SSM parameter with the newest image for these types' processors; ValueError if they do not share one kind."""
    known = [catalog.GPU_TYPES[one].architecture for one in instance_types if one in catalog.GPU_TYPES]
    kinds = set(known or ["x86_64"])
    if len(kinds) > 1:
        raise ValueError(f"instance types {', '.join(instance_types)} mix {' and '.join(sorted(kinds))}: use one image")
    return DLAMI_PARAMETER.format(kinds.pop())


def launch_hook(boot_deadline_s: int) -> dict[str, Any]:
    """An instance counts once its model answers. At its deadline the node gives up itself; the hook is the backstop."""
    return {
        "lifecycle_transition": "autoscaling:EC2_INSTANCE_LAUNCHING",
        "default_result": "ABANDON",
        "heartbeat_timeout": boot_deadline_s + HOOK_MARGIN_S,
    }


def terminate_hook(drain_s: int) -> dict[str, Any]:
    """An instance gets the time to drain, and goes at the end of it also if it never answers."""
    return {
        "lifecycle_transition": "autoscaling:EC2_INSTANCE_TERMINATING",
        "default_result": "CONTINUE",
        "heartbeat_timeout": drain_s + HOOK_MARGIN_S,
    }


def mixed_instances(
    template_id: pulumi.Input[str],
    template_version: pulumi.Input[str],
    instance_types: Sequence[str],
    *,
    spot: bool,
) -> dict[str, Any]:
    """One group, all spot or all on-demand.

    Every number is spelled out: AWS's defaults are 100 % on-demand and `lowest-price`. No weights: with one GPU per
    type an instance is the unit, and a weight would turn min, max and desired into units that may overshoot the cap.
    """
    distribution: dict[str, Any] = {"on_demand_base_capacity": 0}
    if spot:
        distribution |= {
            "on_demand_percentage_above_base_capacity": 0,
            "spot_allocation_strategy": "price-capacity-optimized",
        }
    else:
        distribution |= {
            "on_demand_percentage_above_base_capacity": 100,
            "on_demand_allocation_strategy": "prioritized",
        }
    return {
        "launch_template": {
            "launch_template_specification": {"launch_template_id": template_id, "version": template_version},
            "overrides": [{"instance_type": instance_type} for instance_type in instance_types],
        },
        "instances_distribution": distribution,
    }


def reserved_capacity(reservation_id: str) -> dict[str, Any]:
    """What lets a group use a reservation: launches go into it first, in its zone; what it cannot hold is on-demand.

    It stands on the group and not in the launch template, which the spot group shares. Without the distribution a
    group evens out its zones first and leaves the reservation idle (Auto Scaling user guide, "Availability Zone
    distribution"). With `capacity-reservations-only` every launch would fail once the reservation is full or gone.
    """
    return {
        "capacity_reservation_specification": {
            "capacity_reservation_preference": "capacity-reservations-first",
            "capacity_reservation_target": {"capacity_reservation_ids": [reservation_id]},
        },
        "availability_zone_distribution": {"capacity_distribution_strategy": "reservations-then-balanced"},
    }


def reserved_first(instance_types: Sequence[str], reserved: str) -> list[str]:
    """The types in an on-demand group's order of preference: the reserved one goes before the others."""
    return [reserved, *(one for one in instance_types if one != reserved)]


def group(max_instances: int) -> dict[str, Any]:
    """The settings both groups share.

    MinSize is 0 always: the floor belongs to the scaling law, and a terminate with decrement fails at MinSize. Each
    group may hold the whole cap; that both together stay within it is the law's and the guard's. Scale-in protection
    is always on: only a named terminate removes an instance. `force_delete` lets `pulumi destroy` end protected
    instances, which would otherwise hold it up for ever.
    """
    return {
        "min_size": 0,
        "max_size": max_instances,
        "protect_from_scale_in": True,
        "suspended_processes": SUSPENDED_AT_CREATION,
        "health_check_type": "EC2",
        "health_check_grace_period": HEALTH_GRACE_S,
        "default_instance_warmup": 0,
        "capacity_rebalance": False,
        "wait_for_capacity_timeout": "0",
        "enabled_metrics": GROUP_METRICS,
        "metrics_granularity": "1Minute",
        "force_delete": True,
    }


def backstop() -> dict[str, Any]:
    """Exactly one instance: an alarm runs its policy again each minute while it lasts, and one stays one."""
    return {
        "policy_type": "StepScaling",
        "adjustment_type": "ExactCapacity",
        "step_adjustments": [{"metric_interval_lower_bound": "0", "scaling_adjustment": 1}],
    }


def group_tags(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tags of a group, copied to its instances. A provider's default tags do not reach here."""
    return [{"key": key, "value": value, "propagate_at_launch": True} for key, value in sorted(tags.items())]


def launch_template(
    *,
    image_id: pulumi.Input[str],
    instance_profile_arn: pulumi.Input[str],
    security_group_id: pulumi.Input[str],
    disk_gb: int,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Image, disk, network and metadata of a node; no market options: a spot template cannot be used in a mixed group.

    IMDSv2 with one hop (containers on the host network reach it, a bridge network's do not), encrypted gp3, no public
    address. A node that shuts itself down terminates, it never lingers stopped.
    """
    return {
        "image_id": image_id,
        "update_default_version": True,
        "instance_initiated_shutdown_behavior": "terminate",
        "iam_instance_profile": {"arn": instance_profile_arn},
        "metadata_options": {
            "http_endpoint": "enabled",
            "http_tokens": "required",
            "http_put_response_hop_limit": 1,
            "instance_metadata_tags": "disabled",
        },
        "block_device_mappings": [
            {
                "device_name": ROOT_DEVICE,
                "ebs": {
                    "volume_type": "gp3",
                    "volume_size": disk_gb,
                    "encrypted": "true",
                    "delete_on_termination": "true",
                },
            }
        ],
        "network_interfaces": [
            {
                "device_index": 0,
                "associate_public_ip_address": "false",
                "delete_on_termination": "true",
                "security_groups": [security_group_id],
            }
        ],
        "tag_specifications": [
            {"resource_type": resource_type, "tags": dict(tags)} for resource_type in ("instance", "volume")
        ],
        "tags": dict(tags),
    }


def security_group_rules() -> dict[str, Any]:
    """Nothing in, HTTPS out. Name resolution, time and instance metadata do not pass a security group."""
    return {
        "ingress": [],
        "egress": [
            {
                "description": "HTTPS to AWS endpoints and the image registry",
                "protocol": "tcp",
                "from_port": 443,
                "to_port": 443,
                "cidr_blocks": ["0.0.0.0/0"],
            }
        ],
    }
