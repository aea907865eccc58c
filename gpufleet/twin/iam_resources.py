"""Which IAM actions, on which resources, with which condition keys, an API call needs.

`RULES` holds what the parameters alone tell; what only a service model knows (the group of an instance, its tags) it
adds to its cloud's authorizer.

Only the calls that functions and nodes of this project make are listed: a call that is not is refused by name, so that
a new one must be looked up before it passes. Source: AWS Service Authorization Reference, one page per service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import NotModelledError


class Need(NamedTuple):
    """One permission that a call needs. `context`: condition keys in lower case with their values."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


Params = Mapping[str, Any]
Rule = Callable[[Params, str, str], list[Need]]  # (parameters, account id, region) -> needs


def refuse(service: str, operation: str) -> NotModelledError:
    return NotModelledError(f"the twin does not know which IAM permission {service}:{operation} needs")


def _any_resource(action: str) -> Rule:
    return lambda params, account, region: [Need(action, "*")]


def _queue(action: str) -> Rule:
    def rule(params: Params, account: str, region: str) -> list[Need]:
        *_, owner, name = params["QueueUrl"].split("/")
        return [Need(action, f"arn:aws:sqs:{region}:{owner}:{name}")]

    return rule


def _table(action: str) -> Rule:
    def rule(params: Params, account: str, region: str) -> list[Need]:
        return [Need(action, _table_arn(params["TableName"], account, region))]

    return rule


def _table_arn(name: str, account: str, region: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:dynamodb:{region}:{account}:table/{name}"


def _batch_get(params: Params, account: str, region: str) -> list[Need]:
    return [Need("dynamodb:BatchGetItem", _table_arn(name, account, region)) for name in params["RequestItems"]]


_TRANSACT = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


def _transact_write(params: Params, account: str, region: str) -> list[Need]:
    needs = []
    for item in params["TransactItems"]:
        for kind, body in item.items():
            needs.append(Need(f"dynamodb:{_TRANSACT[kind]}", _table_arn(body["TableName"], account, region)))
    return needs


def _group_arn(name: str, account: str, region: str) -> str:
    # The UUID in a group's ARN is unknown to callers: policies match it with a wildcard.
    return f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:twin:autoScalingGroupName/{name}"


def _group(action: str, name_key: str = "AutoScalingGroupName") -> Rule:
    def rule(params: Params, account: str, region: str) -> list[Need]:
        name = params[name_key]
        return [
            Need(action, f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:twin:autoScalingGroupName/{name}")
        ]

    return rule


def group_of_instance(action: str, group_of: Callable[[str], str | None]) -> Rule:
    """A call that names an instance, not its group: `group_of` answers the group's name (None: not in one)."""

    def rule(params: Params, account: str, region: str) -> list[Need]:
        name = group_of(params["InstanceId"]) or "-"
        return [
            Need(action, f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:twin:autoScalingGroupName/{name}")
        ]

    return rule


def tagged_instances(action: str, tags_of: Callable[[str], Mapping[str, str]]) -> Rule:
    """A call on EC2 instances by id: `tags_of` answers an instance's tags, for aws:ResourceTag conditions."""

    def rule(params: Params, account: str, region: str) -> list[Need]:
        needs = []
        for instance_id in params["InstanceIds"]:
            tags = tags_of(instance_id)
            context = tuple(sorted((f"aws:resourcetag/{k}".lower(), v) for k, v in tags.items()))
            context += tuple(sorted((f"ec2:resourcetag/{k}".lower(), v) for k, v in tags.items()))
            needs.append(Need(action, f"arn:aws:ec2:{region}:{account}:instance/{instance_id}", context))
        return needs

    return rule


def _object(action: str) -> Rule:
    return lambda params, account, region: [Need(action, f"arn:aws:s3:::{params['Bucket']}/{params['Key']}")]


def _topic(params: Params, account: str, region: str) -> list[Need]:
    return [Need("sns:Publish", params.get("TopicArn") or params["TargetArn"])]


def _put_metric(params: Params, account: str, region: str) -> list[Need]:
    return [Need("cloudwatch:PutMetricData", "*", (("cloudwatch:namespace", params["Namespace"]),))]


def _budget(params: Params, account: str, region: str) -> list[Need]:
    return [Need("budgets:ViewBudget", f"arn:aws:budgets::{params['AccountId']}:budget/{params['BudgetName']}")]


RULES: dict[tuple[str, str], Rule] = {
    **{("sqs", op): _queue(f"sqs:{op}") for op in ("GetQueueAttributes", "ReceiveMessage", "SendMessage")},
    ("sqs", "DeleteMessage"): _queue("sqs:DeleteMessage"),
    ("sqs", "DeleteMessageBatch"): _queue("sqs:DeleteMessage"),
    ("sqs", "SendMessageBatch"): _queue("sqs:SendMessage"),
    ("sqs", "ChangeMessageVisibility"): _queue("sqs:ChangeMessageVisibility"),
    ("sqs", "ChangeMessageVisibilityBatch"): _queue("sqs:ChangeMessageVisibility"),
    **{("dynamodb", op): _table(f"dynamodb:{op}") for op in ("GetItem", "PutItem", "UpdateItem", "DeleteItem")},
    ("dynamodb", "Query"): _table("dynamodb:Query"),
    ("dynamodb", "BatchGetItem"): _batch_get,
    ("dynamodb", "TransactWriteItems"): _transact_write,
    ("autoscaling", "DescribeAutoScalingGroups"): _any_resource("autoscaling:DescribeAutoScalingGroups"),
    ("autoscaling", "DescribeScalingActivities"): _any_resource("autoscaling:DescribeScalingActivities"),
    ("autoscaling", "DescribeAutoScalingInstances"): _any_resource("autoscaling:DescribeAutoScalingInstances"),
    **{
        ("autoscaling", op): _group(f"autoscaling:{op}")
        for op in (
            "SetDesiredCapacity", "SuspendProcesses", "ResumeProcesses", "CompleteLifecycleAction",
            "RecordLifecycleActionHeartbeat", "UpdateAutoScalingGroup", "SetInstanceProtection",
        )
    },
    ("ec2", "DescribeInstances"): _any_resource("ec2:DescribeInstances"),
    ("ec2", "DescribeSpotPriceHistory"): _any_resource("ec2:DescribeSpotPriceHistory"),
    ("ec2", "DescribeInstanceTypes"): _any_resource("ec2:DescribeInstanceTypes"),
    ("ce", "GetCostAndUsage"): _any_resource("ce:GetCostAndUsage"),
    ("pricing", "GetProducts"): _any_resource("pricing:GetProducts"),
    ("s3", "PutObject"): _object("s3:PutObject"),
    ("s3", "GetObject"): _object("s3:GetObject"),
    ("s3", "HeadObject"): _object("s3:GetObject"),
    ("sns", "Publish"): _topic,
    ("cloudwatch", "PutMetricData"): _put_metric,
    ("cloudwatch", "GetMetricData"): _any_resource("cloudwatch:GetMetricData"),
    ("budgets", "DescribeBudget"): _budget,
}  # fmt: skip
