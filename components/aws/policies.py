"""Every IAM, resource and key policy of the AWS stack, as pure functions from ARNs to statements.

Least privilege: exact ARNs, one Sid per purpose. `Resource: "*"` appears only for actions that AWS offers no
resource-level permission for (the `Describe*` of Auto Scaling and EC2, `ecr:GetAuthorizationToken`,
`ce:GetCostAndUsage`, `cloudwatch:GetMetricData`, and `cloudwatch:PutMetricData`, which is held to its namespace by a
condition).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Statement = dict[str, Any]
Document = dict[str, Any]

# <account>.dkr.ecr.<region>.amazonaws.com[.cn]/<repository>[:tag]@sha256:<digest>
_ECR_IMAGE = re.compile(r"^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)")


def document(*statements: Statement) -> Document:
    """A policy document of `statements`, in the order given."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    condition: Mapping[str, Mapping[str, Any]] | None = None,
) -> Statement:
    """An Allow statement for an identity policy."""
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    if condition:
        statement["Condition"] = {operator: dict(keys) for operator, keys in condition.items()}
    return statement


def assume_role(service: str) -> Document:
    """The trust policy that lets one AWS service (`lambda.amazonaws.com`, `ec2.amazonaws.com`) take the role."""
    return document(
        {
            "Sid": "AssumedByService",
            "Effect": "Allow",
            "Action": ["sts:AssumeRole"],
            "Principal": {"Service": service},
        }
    )


# --- ARNs that are needed before, or apart from, the resource they name -------------------------------------------


def group_arn(partition: str, region: str, account_id: str, group: str) -> str:
    """An Auto Scaling group's ARN by name; the wildcard stands for the UUID that only AWS knows."""
    return f"arn:{partition}:autoscaling:{region}:{account_id}:autoScalingGroup:*:autoScalingGroupName/{group}"


def budget_arn(partition: str, account_id: str, budget: str) -> str:
    return f"arn:{partition}:budgets::{account_id}:budget/{budget}"


def alarm_arn(partition: str, region: str, account_id: str, alarm: str) -> str:
    """A CloudWatch alarm's ARN by name; `*` for every alarm of the account in the region."""
    return f"arn:{partition}:cloudwatch:{region}:{account_id}:alarm:{alarm}"


def instances_arn(partition: str, region: str, account_id: str) -> str:
    return f"arn:{partition}:ec2:{region}:{account_id}:instance/*"


# --- resource policies ---------------------------------------------------------------------------------------------


def deny_insecure_transport(sid: str, action: str, resources: Sequence[str]) -> Statement:
    """Nobody, the owner included, reaches the resource without TLS."""
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def tls_only_queue(queue_arn: str) -> Document:
    return document(deny_insecure_transport("DenyInsecureTransport", "sqs:*", [queue_arn]))


def function_dead_letter_queue(queue_arn: str, topic_arn: str | None) -> Document:
    """TLS only; and the topic whose messages reach the function may leave here what it could not deliver."""
    statements = [deny_insecure_transport("DenyInsecureTransport", "sqs:*", [queue_arn])]
    if topic_arn:
        statements.append(
            {
                "Sid": "UndeliveredFromTopic",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": ["sqs:SendMessage"],
                "Resource": [queue_arn],
                "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
            }
        )
    return document(*statements)


def tls_only_bucket(bucket_arn: str) -> Document:
    return document(deny_insecure_transport("DenyInsecureTransport", "s3:*", [bucket_arn, f"{bucket_arn}/*"]))


def topic_publishers(topic_arn: str, account_id: str, *publishers: tuple[str, str]) -> Document:
    """AWS services may publish, each only on behalf of the named source in this account; nobody without TLS.

    `publishers`: (service, ARN of the source) each; the service's name is in the Sid. A topic policy replaces the
    default one. Publishers with an identity policy in this account need no statement here.
    """
    return document(
        *(
            {
                "Sid": f"PublishedBy{service.split('.', 1)[0].capitalize()}",
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": ["sns:Publish"],
                "Resource": [topic_arn],
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account_id},
                    "ArnLike": {"aws:SourceArn": source_arn},
                },
            }
            for service, source_arn in publishers
        ),
        deny_insecure_transport("DenyInsecureTransport", "sns:Publish", [topic_arn]),
    )


def topic_key(partition: str, account_id: str) -> Document:
    """The key of the alert topics: managed by the account's IAM policies, used by the two publishing services.

    CloudWatch alarms and AWS Budgets encrypt what they publish with this key; the AWS-managed SNS key cannot be opened
    to them. A key policy's `Resource: "*"` means this key. AWS Budgets is held to this account; for CloudWatch AWS
    documents no source condition, and one that does not match would drop every alarm without a word. Who may publish
    at all is the topic policy's to say, and that names this account's alarms.
    """
    return document(
        {
            "Sid": "ManagedThroughIam",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{partition}:iam::{account_id}:root"},
            "Action": ["kms:*"],
            "Resource": ["*"],
        },
        {
            "Sid": "EncryptedByAlarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            "Resource": ["*"],
        },
        {
            "Sid": "EncryptedByBudgets",
            "Effect": "Allow",
            "Principal": {"Service": "budgets.amazonaws.com"},
            "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
            "Resource": ["*"],
            "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
        },
    )


# --- cloud functions -----------------------------------------------------------------------------------------------


def function_basics(log_group_arn: str, dead_letter_arn: str) -> list[Statement]:
    """What every control function needs: its own log group, and a place for the events it failed on."""
    return [
        allow("WriteOwnLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group_arn}:*"]),
        allow("KeepFailedEvents", ["sqs:SendMessage"], [dead_letter_arn]),
    ]


def put_metrics(namespace: str) -> Statement:
    return allow(
        "PublishMetrics",
        ["cloudwatch:PutMetricData"],
        ["*"],
        {"StringEquals": {"cloudwatch:namespace": namespace}},
    )


def publish_alerts(topic_arn: str, key_arn: str) -> list[Statement]:
    """Tell people through the encrypted alert topic."""
    return [
        allow("TellPeople", ["sns:Publish"], [topic_arn]),
        allow("EncryptAlerts", ["kms:Decrypt", "kms:GenerateDataKey"], [key_arn]),
    ]


def keeper(queue_arn: str) -> list[Statement]:
    """Re-send old messages of one queue: send the copy, then delete the original."""
    return [
        allow(
            "ResendOldMessages",
            ["sqs:ReceiveMessage", "sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
            [queue_arn],
        )
    ]


def controller(
    *,
    queue_arn: str,
    group_arns: Sequence[str],
    control_table_arn: str,
    jobs_table_arn: str | None,
    namespace: str,
) -> list[Statement]:
    """Look at one queue and one fleet, set what is desired, drain instances by name, undo a lifted stop."""
    statements = [
        allow("ReadQueueDepth", ["sqs:GetQueueAttributes"], [queue_arn]),
        allow("SeeFleet", ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities"], ["*"]),
        allow(
            "ScaleFleet",
            [
                "autoscaling:ResumeProcesses",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            group_arns,
        ),
        allow("KeepControlState", ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], [control_table_arn]),
        put_metrics(namespace),
    ]
    if jobs_table_arn:
        statements.append(allow("ReadHeartbeats", ["dynamodb:Query"], [jobs_table_arn]))
    return statements


def guard(
    *,
    group_arns: Sequence[str],
    instances: str,
    fleet_tags: Sequence[str],
    control_table_arn: str,
    jobs_table_arns: Sequence[str],
    budget: str,
    namespace: str,
    reconcile_daily: bool,
    reads_gateways: bool,
) -> list[Statement]:
    """Meter the fleets and stop them. Nothing here can raise capacity or resume a suspended process.

    A change of the latch and its audit row are one transaction, which IAM judges as its writes. Cost Explorer and
    CloudWatch's metrics know no resources. IAM has no condition key for the desired capacity: that the guard only ever
    sets it to 0, after Launch reads back suspended, is the function's own promise.
    """
    statements = [
        allow(
            "SeeFleets",
            [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeInstances",
                "ec2:DescribeSpotPriceHistory",
            ],
            ["*"],
        ),
        allow(
            "StopFleets",
            [
                "autoscaling:CompleteLifecycleAction",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:SuspendProcesses",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            group_arns,
        ),
        allow(
            "TerminateLeftovers",
            ["ec2:TerminateInstances"],
            [instances],
            {"StringEquals": {"aws:ResourceTag/gpu-inference-fleet": sorted(fleet_tags)}},
        ),
        allow("KeepLedger", ["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], [control_table_arn]),
        allow("AskAwsBudgets", ["budgets:ViewBudget"], [budget]),
        put_metrics(namespace),
    ]
    if reads_gateways:
        statements.append(allow("CountGatewayBytes", ["cloudwatch:GetMetricData"], ["*"]))
    if reconcile_daily:
        statements.append(allow("AskCostExplorer", ["ce:GetCostAndUsage"], ["*"]))
    if jobs_table_arns:
        statements.append(allow("ExtendAllowance", ["dynamodb:PutItem"], sorted(jobs_table_arns)))
    return statements


# --- nodes ---------------------------------------------------------------------------------------------------------


def node_worker(
    *, queue_arn: str, dead_letter_arn: str, jobs_table_arn: str, bucket_arn: str, node_files: str
) -> list[Statement]:
    """Serve one queue: receive, claim, write the result once, tell the job table, delete."""
    return [
        allow("ServeQueue", ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"], [queue_arn]),
        allow("SendCopies", ["sqs:SendMessage"], [queue_arn, dead_letter_arn]),
        allow("KeepJobRecords", ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], [jobs_table_arn]),
        allow("WriteResults", ["s3:GetObject", "s3:PutObject"], [f"{bucket_arn}/results/*"]),
        allow("FetchNodeFiles", ["s3:GetObject"], [f"{bucket_arn}/{node_files}/*"]),
    ]


def node_lifecycle(group_arns: Sequence[str]) -> list[Statement]:
    """A node speaks for itself to its Auto Scaling groups: ready, still draining, gone."""
    return [
        allow(
            "SpeakForItself",
            [
                "autoscaling:CompleteLifecycleAction",
                "autoscaling:RecordLifecycleActionHeartbeat",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            group_arns,
        )
    ]


def node_model(partition: str, weights: str, image: str) -> list[Statement]:
    """Read the weights under one `s3://bucket/prefix/`, and pull one image if it is in an ECR registry."""
    bucket, _, prefix = weights.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    inside = f"{prefix}/*" if prefix else "*"
    statements = [
        allow("ReadWeights", ["s3:GetObject"], [f"arn:{partition}:s3:::{bucket}/{inside}"]),
        allow(
            "ListWeights",
            ["s3:ListBucket"],
            [f"arn:{partition}:s3:::{bucket}"],
            {"StringLike": {"s3:prefix": [inside]}},
        ),
    ]
    registry = _ECR_IMAGE.match(image)
    if registry:
        account, region, repository = registry.groups()
        statements += [
            allow("SignInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
            allow(
                "PullImage",
                ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [f"arn:{partition}:ecr:{region}:{account}:repository/{repository}"],
            ),
        ]
    return statements
