"""A stack's life by the real engine: what a user does with the plain CLI, on each of the three stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import pytest
from desk import Desk

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

UP_LIMIT_S = 60.0
COMPONENTS = 6  # Alerts, Network, InferenceQueue, GpuFleet, BudgetGuard, QueueDepthScaler
UNCHANGING = {"update": 0, "create": 0, "delete": 0, "replace": 0}
CAP_EDIT = {
    # the groups' size, the figures that the two functions decide by, and what the components say of themselves
    "Group inference-asg-spot": ("update", ("maxSize",)),
    "Group inference-asg-on-demand": ("update", ("maxSize",)),
    "Function inference-controller": ("update", ("environment.variables",)),
    "Function inference-scale-to-zero": ("update", ("environment.variables",)),
    "GpuFleet inference": ("update", ()),
    "QueueDepthScaler inference": ("update", ()),
}


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_a_stack_from_init_to_destroy(stack: str, tmp_path: Path) -> None:
    expected = graphs.of_the_built_in_engine(stack)
    with Desk(tmp_path) as desk:
        before = inventory(desk)
        desk.pulumi("stack", "init", stack)

        plan = desk.preview(stack)
        assert {op for op, _ in plan.changes.values()} == {"create"}
        assert inventory(desk) == before, "a preview made something"

        made = desk.up(stack)
        assert made.changes.keys() == plan.changes.keys(), "what was done is not what was planned"
        assert made.seconds < UP_LIMIT_S
        assert desk.outputs(stack)["queueUrl"].endswith(f"/inference-queue-{stack}")

        graph = graphs.of_the_real_engine(desk.exported(stack))
        assert graph.keys() == expected.keys()
        for urn, resource in graph.items():
            for what, value in resource.items():
                assert value == expected[urn][what], f"{what} of {urn} is not what the built-in engine makes"

        again = desk.up(stack)
        assert again.changes == {}
        assert set(again.summary) == {"same"}
        desk.pulumi("preview", "--stack", stack, "--expect-no-changes")
        desk.pulumi("refresh", "--stack", stack, "--preview-only", "--expect-no-changes")
        assert desk.up(stack, "--refresh").changes == {}

        cap = desk.group(f"inference-asg-{stack}")["MaxSize"]
        desk.set(stack, "maxGpuInstances", str(cap + 1))
        planned = desk.preview(stack)
        edited = desk.up(stack)
        assert planned.changes == edited.changes == CAP_EDIT
        assert desk.group(f"inference-asg-{stack}")["MaxSize"] == cap + 1

        destroyed(desk, stack)
        assert inventory(desk) == before


def destroyed(desk: Desk, stack: str) -> None:
    """`pulumi destroy`, with what docs/operations.md says to do first for a protected stack."""
    protected = [one["urn"] for one in desk.exported(stack) if one.get("protect")]
    assert bool(protected) == (stack != "dev"), "staging and prod are protected, dev is for playing"
    if protected:
        refused = desk.pulumi("destroy", "--yes", "--stack", stack, code=None)
        assert refused.code
        assert "protected" in refused.out + refused.err
        assert desk.group(f"inference-asg-{stack}"), "a refused destroy took something away"
        desk.pulumi("state", "unprotect", "--all", "--yes", "--stack", stack)
        for table in ("jobs", "control"):
            desk.client("dynamodb").update_table(
                TableName=f"inference-{table}-{stack}", DeletionProtectionEnabled=False
            )
    desk.pulumi("destroy", "--yes", "--stack", stack)
    assert desk.exported(stack) == []


def inventory(desk: Desk) -> dict[str, list[Any]]:
    """All that the account holds, by service: what a bill or a name clash would come from."""
    ec2, iam = desk.client("ec2"), desk.client("iam")
    return {
        "queues": desk.client("sqs").list_queues().get("QueueUrls", []),
        "tables": desk.client("dynamodb").list_tables()["TableNames"],
        "buckets": [one["Name"] for one in desk.client("s3").list_buckets()["Buckets"]],
        "functions": [one["FunctionName"] for one in desk.client("lambda").list_functions()["Functions"]],
        "rules": [one["Name"] for one in desk.client("events").list_rules()["Rules"]],
        "topics": desk.client("sns").list_topics()["Topics"],
        "alarms": [one["AlarmName"] for one in desk.client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "log groups": [one["logGroupName"] for one in desk.client("logs").describe_log_groups()["logGroups"]],
        "groups": desk.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"],
        "templates": ec2.describe_launch_templates()["LaunchTemplates"],
        "networks": sorted(one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]),
        "subnets": sorted(one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]),
        "security groups": sorted(one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]),
        "route tables": sorted(one["RouteTableId"] for one in ec2.describe_route_tables()["RouteTables"]),
        "gateways": [one["InternetGatewayId"] for one in ec2.describe_internet_gateways()["InternetGateways"]],
        "NAT gateways": [
            one["State"] for one in ec2.describe_nat_gateways()["NatGateways"] if one["State"] != "deleted"
        ],
        "addresses": ec2.describe_addresses()["Addresses"],
        "endpoints": [one for one in ec2.describe_vpc_endpoints()["VpcEndpoints"] if one["State"] != "deleted"],
        "roles": [one["RoleName"] for one in iam.list_roles()["Roles"]],
        "profiles": iam.list_instance_profiles()["InstanceProfiles"],
        "policies": [one["PolicyName"] for one in iam.list_policies(Scope="Local")["Policies"]],
        "key aliases": [
            one["AliasName"] for one in desk.client("kms").list_aliases()["Aliases"] if "/aws/" not in one["AliasName"]
        ],
        "budgets": desk.client("budgets").describe_budgets(AccountId=desk.cloud.account_id).get("Budgets", []),
    }
