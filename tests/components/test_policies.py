"""What each role may do, judged on the policies that the stacks would get: no more than its work needs."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any

import pytest
from harness import ACCOUNT, Graph

from components.aws import policies

STACKS = ["dev", "staging", "prod"]
# Actions that AWS has no resource-level permission for (service authorization reference), or that a condition holds.
UNSCOPED = {
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeScalingActivities",
    "ce:GetCostAndUsage",
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeSpotPriceHistory",
    "ecr:GetAuthorizationToken",
    "cloudwatch:GetMetricData",
    "cloudwatch:PutMetricData",
}


def roles(graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """The statements of each role, by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for policy in graph.of_type("aws:iam/rolePolicy:RolePolicy"):
        found.setdefault(policy.inputs["role"], []).extend(json.loads(policy.inputs["policy"])["Statement"])
    return found


def allowed(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """Whether some statement allows `action` on `resource`, conditions aside."""
    return any(
        any(fnmatch.fnmatchcase(action, one) for one in statement["Action"])
        and any(fnmatch.fnmatchcase(resource, one) for one in statement["Resource"])
        for statement in statements
    )


def too_broad(statement: dict[str, Any]) -> list[str]:
    """What is broader than it must be in an identity policy's statement."""
    faults = []
    for action in statement["Action"]:
        if "*" in action:
            faults.append(f"action {action}")
        for resource in statement["Resource"]:
            if resource == "*" and action not in UNSCOPED:
                faults.append(f"{action} on everything")
            elif resource != "*" and not re.fullmatch(
                r"arn:aws:[a-z0-9-]+:[a-z0-9-]*:(\d{12})?:.*[A-Za-z0-9/*]", resource
            ):
                faults.append(f"{action} on {resource}, which is no ARN")
    return faults


@pytest.mark.parametrize("stack", STACKS)
def test_no_statement_is_broader_than_it_must_be(stack, graph):
    found = roles(graph(stack))
    assert set(found) == {f"inference-{thing}-{stack}" for thing in ("node", "controller", "scale-to-zero", "keeper")}
    for role, statements in found.items():
        sids = [statement["Sid"] for statement in statements]
        assert len(set(sids)) == len(sids), role
        assert [fault for statement in statements for fault in too_broad(statement)] == [], role


@pytest.mark.parametrize(
    "statement",
    [
        policies.allow("Any", ["*"], ["arn:aws:sqs:us-east-1:123456789012:queue"]),
        policies.allow("Service", ["sqs:*"], ["arn:aws:sqs:us-east-1:123456789012:queue"]),
        policies.allow("Everything", ["sqs:SendMessage"], ["*"]),
        policies.allow("NoArn", ["sqs:SendMessage"], ["inference-queue-dev"]),
    ],
    ids=lambda statement: statement["Sid"],
)
def test_the_check_for_broad_statements_finds_them(statement):
    assert too_broad(statement)


def test_the_guard_can_stop_but_never_start(graph):
    """Whoever takes over the guard's function gets a switch that only turns off."""
    guard = roles(graph("prod"))["inference-scale-to-zero-prod"]
    actions = {action for statement in guard for action in statement["Action"]}
    assert {"autoscaling:SuspendProcesses", "ec2:TerminateInstances", "autoscaling:SetDesiredCapacity"} <= actions
    forbidden = ("*:Resume*", "autoscaling:Update*", "*:Run*", "ec2:Create*", "autoscaling:Create*", "iam:*")
    assert not [action for action in actions for pattern in forbidden if fnmatch.fnmatch(action, pattern)]


# Actions of Auto Scaling, EC2 and others that lead to more instances or to more rights: from the service authorization
# reference. SetDesiredCapacity is not among them: that the guard only ever sets 0 is the function's own promise, held
# against the calls that it makes.
ADDS_CAPACITY = (
    *("autoscaling:ResumeProcesses", "autoscaling:UpdateAutoScalingGroup", "autoscaling:CreateAutoScalingGroup"),
    *("autoscaling:AttachInstances", "autoscaling:PutScalingPolicy", "autoscaling:ExecutePolicy"),
    *("autoscaling:StartInstanceRefresh", "autoscaling:PutScheduledUpdateGroupAction", "autoscaling:PutWarmPool"),
    *("autoscaling:ExitStandby", "autoscaling:DetachInstances", "autoscaling:EnterStandby"),
    *("ec2:RunInstances", "ec2:StartInstances", "ec2:CreateFleet", "ec2:RequestSpotInstances"),
    *("ec2:RequestSpotFleet", "ec2:ModifyInstanceAttribute", "ec2:CreateCapacityReservation", "ec2:CreateTags"),
    *("ec2:CreateLaunchTemplateVersion", "lambda:InvokeFunction", "lambda:UpdateFunctionConfiguration"),
    *("iam:PassRole", "iam:PutRolePolicy", "sts:AssumeRole", "budgets:ModifyBudget", "cloudwatch:SetAlarmState"),
)


@pytest.mark.parametrize("edits", [{}, {"dedicatedAccount": True}])
def test_no_statement_of_the_guard_allows_what_adds_capacity(graph, edits):
    guard = roles(graph("prod", **edits))["inference-scale-to-zero-prod"]
    group = f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:1b2c:autoScalingGroupName/inference-asg-prod"
    resources = ["*", group, *(resource for one in guard for resource in one["Resource"])]
    found = [action for action in ADDS_CAPACITY for resource in resources if allowed(guard, action, resource)]
    assert found == []
    assert allowed(guard, "autoscaling:SetDesiredCapacity", group), "the check sees what is allowed"


def test_the_guard_asks_cost_explorer_only_where_it_is_to(graph):
    for daily in (True, False):
        guard = roles(graph("dev", advanced={"reconcileDaily": daily}))["inference-scale-to-zero-dev"]
        assert allowed(guard, "ce:GetCostAndUsage", "*") == daily


def test_the_guard_terminates_only_instances_of_its_fleets(graph):
    guard = roles(graph("prod"))["inference-scale-to-zero-prod"]
    (statement,) = [one for one in guard if "ec2:TerminateInstances" in one["Action"]]
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/gpu-inference-fleet": ["inference-prod"]}}


def test_metrics_are_held_to_one_namespace(graph):
    for statements in roles(graph("dev")).values():
        for statement in statements:
            if "cloudwatch:PutMetricData" in statement["Action"]:
                assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "GpuInference"}}


def test_nobody_but_the_fleet_itself_and_its_laws_touches_its_groups(graph):
    own = f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:1b2c:autoScalingGroupName/inference-asg-dev"
    others = own.replace("inference-asg-dev", "somebody-elses")
    for role, statements in roles(graph("dev")).items():
        on_groups = "autoscaling:TerminateInstanceInAutoScalingGroup"
        assert allowed(statements, on_groups, own) == (not role.startswith("inference-keeper")), role
        assert not allowed(statements, on_groups, others), role


def test_a_node_writes_results_and_reads_weights_and_nothing_else_in_s3(graph):
    one = graph("dev")
    node = roles(one)["inference-node-dev"]
    bucket = f"arn:aws:s3:::{one.outputs['resultsBucket']}"
    assert allowed(node, "s3:PutObject", f"{bucket}/results/job-1.json")
    assert allowed(node, "s3:GetObject", f"{bucket}/node/inference-dev/abc.zip")
    assert not allowed(node, "s3:PutObject", f"{bucket}/node/inference-dev/abc.zip")
    assert not allowed(node, "s3:DeleteObject", f"{bucket}/results/job-1.json")
    weights = "arn:aws:s3:::acme-models-dev/llama-3.1-8b-instruct/"
    assert allowed(node, "s3:GetObject", weights + "model.safetensors")
    assert not allowed(node, "s3:GetObject", "arn:aws:s3:::acme-models-dev/other/model.safetensors")
    assert not allowed(node, "s3:PutObject", weights + "model.safetensors")


@pytest.mark.parametrize(
    ("image", "actions"),
    [
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/vllm@sha256:" + "a" * 64,
            ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        ),
        ("docker.io/vllm/vllm-openai@sha256:" + "a" * 64, []),
    ],
)
def test_a_node_may_pull_its_own_image_and_no_other(image, actions):
    statements = policies.node_model("aws", "s3://models/llama/", image)
    registry = [one for one in statements if one["Action"][0].startswith("ecr:")]
    assert [action for one in registry for action in one["Action"]] == actions
    if actions:
        assert registry[1]["Resource"] == ["arn:aws:ecr:us-east-1:123456789012:repository/team/vllm"]


def test_weights_are_listed_below_their_own_prefix_only():
    (listing,) = [one for one in policies.node_model("aws", "s3://models/a/b/", "x@sha256:1") if "List" in one["Sid"]]
    assert listing["Resource"] == ["arn:aws:s3:::models"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["a/b/*"]}}


def breach_statements(graph: Graph) -> list[dict[str, Any]]:
    """Who may publish to the topic that the guard listens to."""
    (policy,) = [one for one in graph.of_type("aws:sns/topicPolicy:TopicPolicy") if "budget" in one.name]
    return json.loads(policy.inputs["policy"])["Statement"]


def test_only_aws_budgets_of_this_account_may_publish_a_breach(graph):
    publish, deny = breach_statements(graph("dev"))
    assert publish["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert publish["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:budgets::{ACCOUNT}:*"},
    }
    assert deny["Effect"] == "Deny"


def test_in_a_dedicated_account_the_charges_alarm_may_publish_too_and_no_other(graph):
    budgets, alarm, deny = breach_statements(graph("dev", dedicatedAccount=True))
    assert [budgets, deny] == breach_statements(graph("dev"))
    assert alarm["Sid"] != budgets["Sid"]
    assert alarm["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert alarm["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:inference-estimated-charges-dev"},
    }


def test_the_topics_key_is_open_to_alarms_and_to_this_accounts_budgets(graph):
    (key,) = graph("dev").of_type("aws:kms/key:Key")
    manage, alarms, budgets = json.loads(key.inputs["policy"])["Statement"]
    assert manage["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert budgets["Principal"] == {"Service": "budgets.amazonaws.com"}
    assert budgets["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert alarms["Action"] == budgets["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert key.inputs["enableKeyRotation"] is True


def test_functions_are_invoked_by_their_own_rule_and_topic_only(graph):
    for permission in graph("dev").of_type("aws:lambda/permission:Permission"):
        assert permission.inputs["sourceArn"].startswith("arn:aws:"), permission.urn
        assert permission.inputs["principal"] in ("events.amazonaws.com", "sns.amazonaws.com")
