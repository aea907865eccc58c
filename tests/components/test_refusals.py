"""What the components refuse before anything is registered: numbers that cannot work, and parts that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from components import aws
from components.aws.alerts import AlertsArgs
from components.aws.control_function import ControlFunctionArgs

SCOPE = aws.Scope(stack="dev")
ALERTS = aws.AlertsRef("arn:topic", "arn:key")
QUEUE = aws.QueueRef(url="https://queue", arn="arn:aws:sqs:us-east-1:123456789012:queue", name="queue")
FULL = replace(
    QUEUE,
    dead_letter_url="https://dlq",
    dead_letter_arn="arn:dlq",
    jobs_table="jobs",
    jobs_table_arn="arn:jobs",
    bucket="results",
    bucket_arn="arn:results",
    max_receive_count=10,
)
MODEL = aws.Model("s3://models/llama/", "vllm@sha256:" + "a" * 64, slots=8)
FLEET = aws.FleetRef(
    fleet="inference-dev",
    component="inference",
    group_names=["inference-asg-dev"],
    spot_group="inference-asg-dev",
    on_demand_group=None,
    instance_types=["g5.xlarge"],
    cap=2,
    drain_s=300,
    boot_deadline_s=900,
    disk_gb=150,
    template_id="lt-1",
    launch_hook="inference-launch-hook",
    terminate_hook="inference-terminate-hook",
    needs_allowance=True,
    jobs_table="jobs",
    jobs_table_arn="arn:jobs",
)
BOTH = replace(FLEET, on_demand_group="inference-asg-dev-on-demand")
HELD = aws.CapacityReservation("cr-0123456789abcdef0", "g5.xlarge", 2)
GUARD = aws.BudgetRef("control", "arn:control", ["inference-dev"])


@dataclass(frozen=True)
class Subnetless:
    vpc_id: str = "vpc-1"
    private_subnet_ids: tuple[str, ...] = ()


def queue(**changes: Any) -> object:
    return aws.InferenceQueueArgs(SCOPE, **{"oldest_message_alarm_s": 1200, **changes})


def fleet(**changes: Any) -> object:
    given: dict[str, Any] = {
        "vpc_id": "vpc-1",
        "subnet_ids": ["subnet-1"],
        "max_instances": 2,
        "instance_types": ["g5.xlarge"],
        "node": aws.ModelNode(MODEL, FULL),
    }
    return aws.GpuFleetArgs(SCOPE, **(given | changes))


def guard(**changes: Any) -> object:
    given: dict[str, Any] = {
        "spending": aws.Spending(150, 47, 40, 0, 0),
        "region": "us-east-1",
        "fleets": [FLEET],
        "alerts": ALERTS,
    }
    return aws.BudgetGuardArgs(SCOPE, **(given | changes))


def scaler(**changes: Any) -> object:
    given: dict[str, Any] = {"queue": FULL, "fleet": FLEET, "budget": GUARD, "policy": aws.ScalingPolicy(slots=8)}
    return aws.QueueDepthScalerArgs(SCOPE, **(given | changes))


def policy(**changes: Any) -> object:
    return scaler(policy=aws.ScalingPolicy(**{"slots": 8, **changes}))


def function(**changes: Any) -> object:
    given: dict[str, Any] = {"max_event_age_s": 60, "retries": 0, "timeout_s": 60}
    names: dict[str, Any] = dict.fromkeys(("kind", "handler", "description", "schedule"), "x")
    return ControlFunctionArgs(SCOPE, **(names | {"config": {}, "statements": []} | given | changes))


def window(**changes: Any) -> aws.Window:
    given: dict[str, Any] = {
        "days": ["mon"],
        "start": "08:00",
        "end": "18:00",
        "time_zone": "Europe/Berlin",
        "floor": 1,
    }
    return aws.Window(**(given | changes))


@pytest.mark.parametrize("build", [queue, fleet, guard, scaler, policy, function])
def test_what_is_right_is_taken(build):
    build()


@pytest.mark.parametrize(
    ("build", "changes", "says"),
    [
        (queue, {"visibility_s": 10}, "visibility_s is 10"),
        (queue, {"retention_s": 30}, "retention_s is 30"),
        (queue, {"dead_letter_retention_s": 864_000}, "longer than retention_s"),
        (queue, {"resend_after_s": 800_000}, "second chance"),
        (queue, {"max_receive_count": 2}, "max_receive_count is 2"),
        (queue, {"max_message_bytes": 2_000_000}, "max_message_bytes"),
        (fleet, {"max_instances": 0}, "max_instances is 0"),
        (fleet, {"spot": False, "on_demand": False}, "a fleet needs a pool"),
        (fleet, {"instance_types": []}, "1 to 40 types"),
        (fleet, {"instance_types": ["g5.xlarge", "g5.xlarge"]}, "each type once"),
        (fleet, {"boot_deadline_s": 7200}, "boot_deadline_s is 7200"),
        (fleet, {"drain_s": 7200}, "drain_s is 7200"),
        (fleet, {"disk_gb": 50}, "the image needs 75 GB"),
        (fleet, {"reservation": HELD, "on_demand": False}, "without an on-demand group cannot use it"),
        (fleet, {"reservation": replace(HELD, instance_type="g6.xlarge")}, "its type must be of the list"),
        (fleet, {"reservation": replace(HELD, instances=3)}, "1 instance to max_instances"),
        (guard, {"fleets": [replace(FLEET, reservation=HELD)]}, "fixed costs and reservations alone are 1543.93"),
        (guard, {"fleets": []}, "guards nothing"),
        (guard, {"fleets": [FLEET, FLEET]}, "names one twice"),
        (guard, {"emails": [f"{number}@example.com" for number in range(11)]}, "takes 10"),
        (scaler, {"budget": replace(GUARD, fleets=["other-dev"])}, "not inference-dev"),
        (scaler, {"budget": aws.Unlimited(reason="a test")}, "set ModelNode.allowance to False"),
        (scaler, {"policy": aws.ScalingPolicy(slots=8, on_demand_base=3), "fleet": BOTH}, "0 to the cap of 2"),
        (scaler, {"policy": aws.ScalingPolicy(slots=8, on_demand_base=1)}, "inference-dev has no on-demand group"),
        (scaler, {"fleet": replace(BOTH, reservation=HELD)}, "pays for 2 reserved instances"),
        (policy, {"slots": 0}, "slots is 0"),
        (policy, {"wait_target_s": 0}, "wait_target_s is 0"),
        (policy, {"service_s": 0}, "service_s is 0"),
        (policy, {"cold_start_s": -1}, "cold_start_s is -1"),
        (policy, {"floor": 3}, "outside 0 to the cap of 2"),
        (policy, {"windows": [window(floor=3)]}, "outside 0 to the cap of 2"),
        (policy, {"windows": [window(days=["monday"])]}, "days must be some of"),
        (function, {"max_event_age_s": 10}, "max_event_age_s is 10"),
        (function, {"retries": 3}, "retries is 3"),
    ],
)
def test_what_cannot_work_is_refused_by_name(build, changes, says):
    with pytest.raises(ValueError, match=says):
        build(**changes)


def test_a_reservation_fits_a_fleet_that_starts_with_it():
    fleet(reservation=HELD)
    guard(fleets=[replace(FLEET, reservation=HELD)], spending=aws.Spending(1600, 47, 40, 0, 0))
    scaler(fleet=replace(BOTH, reservation=HELD), policy=aws.ScalingPolicy(slots=8, on_demand_base=2))
    scaler(fleet=replace(BOTH, reservation=HELD, spot_group=None))  # without spot every instance can use it


def test_a_limit_is_left_out_only_with_a_reason():
    with pytest.raises(ValueError, match="say why"):
        aws.Unlimited(reason="  ")


def test_the_shipped_worker_wants_a_queue_that_keeps_records():
    with pytest.raises(ValueError, match=r"dead_letter_url.*CustomNode"):
        aws.ModelNode(MODEL, QUEUE)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (replace(MODEL, image="vllm:latest"), "pin it by digest"),
        (replace(MODEL, weights="/mnt/weights"), "s3:// prefix"),
        (replace(MODEL, slots=0), "at least 1"),
    ],
)
def test_a_model_that_a_node_cannot_serve_is_refused(model, says):
    with pytest.raises(ValueError, match=says):
        aws.ModelNode(model, FULL)


def test_alerts_and_network_refuse_what_aws_would():
    with pytest.raises(ValueError, match="7 to 30"):
        AlertsArgs(SCOPE, key_deletion_days=3)
    with pytest.raises(ValueError, match="twice"):
        AlertsArgs(SCOPE, emails=["a@example.com", "a@example.com"])
    with pytest.raises(ValueError, match="1 to 6"):
        aws.NetworkArgs(SCOPE, zones=9)
    with pytest.raises(ValueError, match="no subnets"):
        aws.NetworkArgs(SCOPE, existing=Subnetless())
