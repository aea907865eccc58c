"""What an edit of the stack file does to the plan: the compared graphs are the engine's whole input."""

from __future__ import annotations

from typing import Any

import golden
import pytest

# Inputs whose change replaces the resource; all of it would be lost.
IDENTITY = {
    "aws:sqs/queue:Queue": ("name", "fifoQueue"),
    "aws:dynamodb/table:Table": ("name", "hashKey", "rangeKey", "attributes"),
    "aws:s3/bucket:Bucket": ("bucket", "bucketPrefix"),
    "aws:autoscaling/group:Group": ("name",),
    "aws:sns/topic:Topic": ("name",),
    "aws:lambda/function:Function": ("name",),
}


def _paths(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = {}
        for key in before.keys() | after.keys():
            found |= _paths(before.get(key), after.get(key), f"{path}/{key}")
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = {}
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            found |= _paths(old, new, f"{path}/{number}")
        return found
    return {} if before == after else {path: (before, after)}


def _changes(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    return {
        f"{path.split('::')[-1]}": change
        for path, change in _paths(golden.document(before), golden.document(after)).items()
    }


def test_a_lower_cap_changes_both_groups_and_what_is_derived_from_it_and_nothing_else(graph):
    config = "inputs/environment/variables/FLEET_CONTROL_CONFIG"
    assert _changes(graph("dev", maxGpuInstances=5), graph("dev", maxGpuInstances=1)) == {
        "inference-asg-spot/inputs/maxSize": (5, 1),
        "inference-asg-on-demand/inputs/maxSize": (5, 1),
        "inference/inputs/maxInstances": (5, 1),
        "inference/inputs/cap": (5, 1),
        f"inference-scale-to-zero/{config}/fleets/0/cap": (5, 1),
        f"inference-controller/{config}/policy/cap": (5, 1),
    }


def test_a_higher_budget_changes_the_guard_and_the_aws_budget_and_nothing_else(graph):
    config = "inputs/environment/variables/FLEET_CONTROL_CONFIG"
    assert _changes(graph("dev"), graph("dev", monthlyBudgetUsd=200)) == {
        "inference/inputs/monthlyUsd": (150, 200),
        "inference-budget/inputs/limitAmount": ("150", "200"),
        f"inference-scale-to-zero/{config}/monthly_usd": (150.0, 200.0),
    }


def test_a_dedicated_account_changes_the_scope_of_the_aws_budget_and_adds_the_alarm_on_charges(graph):
    config = "inference-scale-to-zero/inputs/environment/variables/FLEET_CONTROL_CONFIG"
    found = _changes(graph("dev"), graph("dev", dedicatedAccount=True))
    added = [path for path, (before, _) in found.items() if before is None]
    assert {path.split("/")[0] for path in added} <= {"inference-estimated-charges", "inference-budget-topic-policy"}
    changed = {path: change for path, change in found.items() if path not in added}
    policy = [path for path in changed if path.startswith("inference-budget-topic-policy/")]
    for key in ("fixed_usd_per_month", "stopped_usd_per_month"):
        before, after = changed.pop(f"{config}/{key}")
        assert after - before == pytest.approx(0.10 * 744 / 730)
    assert {path: change for path, change in changed.items() if path not in policy} == {
        "inference-budget/inputs/costFilters/0/name": ("TagKeyValue", "LinkedAccount"),
        "inference-budget/inputs/costFilters/0/values/0": ("user:gpu-inference-stack$dev", "123456789012"),
        f"{config}/dedicated_account": (False, True),
    }


NETWORK = {"vpcId": "vpc-01234567", "privateSubnetIds": ["subnet-01234567", "subnet-89abcdef"]}
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
# Many keys at once: an edit that replaces something fails its group, and the failure names the input.
EDITS: list[dict[str, Any]] = [
    {
        "maxGpuInstances": 7,
        "monthlyBudgetUsd": 900,
        "alertEmails": ["someone@example.com"],
        "gpuInstanceTypes": ["g6e.xlarge"],
        "floor": 1,
        "waitTargetSeconds": 60,
        "drainSeconds": 600,
        "budgetWarnPercent": 50,
        "ami": "ami-0aaaaaaaaaaaaaaaa",
        "advanced": {"leaseSeconds": 240, "maxReceiveCount": 20, "logRetentionDays": 90, "diskGib": 300},
    },
    {"network": NETWORK, "permissionsBoundary": BOUNDARY, "tags": {"team": "ml"}},
]


@pytest.mark.parametrize("edit", EDITS, ids=["numbers", "surroundings"])
def test_no_edit_of_a_setting_replaces_what_holds_work_or_instances(edit, graph):
    before, after = graph("dev").by_urn(), graph("dev", **edit).by_urn()
    kept = [one for one in before.values() if one.type in IDENTITY]
    assert len(kept) > 10
    for resource in kept:
        assert resource.urn in after, f"{resource.urn} would be deleted"
        for key in IDENTITY[resource.type]:
            assert after[resource.urn].inputs.get(key) == resource.inputs.get(key), (resource.urn, key)


def test_a_pinned_image_is_used_as_it_is(graph):
    pinned = graph("dev", **EDITS[0])
    (template,) = pinned.of_type("aws:ec2/launchTemplate:LaunchTemplate")
    assert template.inputs["imageId"] == EDITS[0]["ami"]
    assert not [token for token, _, _ in pinned.invokes if "getParameter" in token]


def test_a_permissions_boundary_bounds_every_role(graph):
    roles = graph("dev", **EDITS[1]).of_type("aws:iam/role:Role")
    assert len(roles) == 4
    assert {role.inputs.get("permissionsBoundary") for role in roles} == {BOUNDARY}


def test_a_given_network_makes_no_network(graph):
    given = graph("dev", **EDITS[1])
    assert {one.type for one in given.resources if one.type.startswith("aws:ec2/")} == {
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/launchTemplate:LaunchTemplate",
    }
    for group in given.of_type("aws:autoscaling/group:Group"):
        assert group.inputs["vpcZoneIdentifiers"] == NETWORK["privateSubnetIds"]


RESERVED = {"id": "cr-0123456789abcdef0", "instanceType": "g6.xlarge", "instances": 1}
FIRST_POOL = ("inference-asg-dev", "inference-asg-dev-on-demand")  # the backstop launches into the first one's


def test_reserved_capacity_changes_the_on_demand_group_and_what_the_functions_are_told(graph):
    """The launch template stays as it is: its instances are not replaced, and spot ones never see the reservation."""
    config = "inputs/environment/variables/FLEET_CONTROL_CONFIG"
    types = ["g5.xlarge", "g6.xlarge", "g5.2xlarge", "g6.2xlarge", "g6.4xlarge"]
    group = "inference-asg-on-demand/inputs"
    overrides = f"{group}/mixedInstancesPolicy/launchTemplate/overrides"
    held = {"id": "cr-0123456789abcdef0", "type": "g6.xlarge", "instances": 1}
    before, after = graph("dev", monthlyBudgetUsd=900), graph("dev", monthlyBudgetUsd=900, capacityReservation=RESERVED)
    assert _changes(before, after) == {
        f"{group}/capacityReservationSpecification": (
            None,
            {
                "capacityReservationPreference": "capacity-reservations-first",
                "capacityReservationTarget": {"capacityReservationIds": ["cr-0123456789abcdef0"]},
            },
        ),
        f"{group}/availabilityZoneDistribution": (
            None,
            {"capacityDistributionStrategy": "reservations-then-balanced"},
        ),
        f"{overrides}/0/instanceType": (types[0], types[1]),
        f"{overrides}/1/instanceType": (types[1], types[0]),
        f"inference-scale-to-zero/{config}/fleets/0/reservation": (None, held),
        f"inference-controller/{config}/policy/on_demand_base": (0, 1),
        "inference-backstop/inputs/autoscalingGroupName": FIRST_POOL,
    }


def test_a_base_keeps_the_on_demand_group_of_a_fleet_that_does_not_fall_back(graph):
    config = "inputs/environment/variables/FLEET_CONTROL_CONFIG"
    assert _changes(graph("dev"), graph("dev", onDemandBase=1, onDemandFallback=False)) == {
        f"inference-controller/{config}/policy/on_demand_base": (0, 1),
        f"inference-controller/{config}/policy/on_demand_fallback": (True, False),
        "inference-backstop/inputs/autoscalingGroupName": FIRST_POOL,
    }


@pytest.mark.parametrize(("edit", "pools"), [({"spot": False}, ["on-demand"]), ({"onDemandFallback": False}, ["spot"])])
def test_a_fleet_of_one_pool_has_one_group(edit, pools, graph):
    one = graph("dev", **edit)
    assert [group.name for group in one.of_type("aws:autoscaling/group:Group")] == [f"inference-asg-{pools[0]}"]
    assert len(one.of_type("aws:autoscaling/lifecycleHook:LifecycleHook")) == 2
    assert (one.outputs["spotGroup"] is None) == (pools == ["on-demand"])
