"""Changes that somebody makes in AWS behind Pulumi's back, one or more for each kind of resource that matters."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from running import STACK

Client = Callable[[str], Any]  # the operator's boto3 client of a service
Outputs = Mapping[str, Any]

ANYBODY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
)
ANYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
ALARM_READ_ONLY = {
    "AlarmArn", "AlarmConfigurationUpdatedTimestamp", "StateValue", "StateReason", "StateReasonData",
    "StateUpdatedTimestamp", "StateTransitionedTimestamp",
}  # fmt: skip
KEEPER, ALARM = f"inference-keeper-{STACK}", f"inference-serves-nothing-{STACK}"
RULE, GUARD_RULE = f"inference-controller-{STACK}", f"inference-scale-to-zero-{STACK}"
LOGS, NODE, HOOK = f"/aws/lambda/inference-controller-{STACK}", f"inference-node-{STACK}", "inference-terminate-hook"


@dataclass(frozen=True)
class Drift:
    """`resource` ("Type name") and its `prop` differ after `make`; `look` answers what AWS shows there."""

    resource: str
    prop: str
    look: Callable[[Client, Outputs], Any]
    make: Callable[[Client, Outputs], Any]


# -- what AWS shows ---------------------------------------------------------------------------------------------------


def visibility(client: Client, outputs: Outputs) -> Any:
    return client("sqs").get_queue_attributes(QueueUrl=outputs["queueUrl"], AttributeNames=["All"])["Attributes"][
        "VisibilityTimeout"
    ]


def queue_policy(client: Client, outputs: Outputs) -> Any:
    found = client("sqs").get_queue_attributes(QueueUrl=outputs["deadLetterQueueUrl"], AttributeNames=["Policy"])
    return json.loads(found["Attributes"]["Policy"])


def recovery(client: Client, outputs: Outputs) -> Any:
    found = client("dynamodb").describe_continuous_backups(TableName=outputs["jobsTable"])
    return found["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]


def ttl(client: Client, outputs: Outputs) -> Any:
    found = client("dynamodb").describe_time_to_live(TableName=outputs["controlTable"])["TimeToLiveDescription"]
    return found["TimeToLiveStatus"], found.get("AttributeName")


def function(client: Client, name: str) -> dict[str, Any]:
    return client("lambda").get_function_configuration(FunctionName=name)


def target(client: Client) -> dict[str, Any]:
    return client("events").list_targets_by_rule(Rule=GUARD_RULE)["Targets"][0]


def alarm(client: Client) -> dict[str, Any]:
    (found,) = client("cloudwatch").describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]
    return {key: value for key, value in found.items() if key not in ALARM_READ_ONLY}


def security_group(client: Client) -> dict[str, Any]:
    condition = {"Name": "group-name", "Values": [NODE]}
    return client("ec2").describe_security_groups(Filters=[condition])["SecurityGroups"][0]


def lifecycle(client: Client, outputs: Outputs) -> list[dict[str, Any]]:
    return client("s3").get_bucket_lifecycle_configuration(Bucket=outputs["resultsBucket"])["Rules"]


def private(client: Client, outputs: Outputs) -> Any:
    return client("s3").get_public_access_block(Bucket=outputs["resultsBucket"])["PublicAccessBlockConfiguration"]


def template(client: Client, outputs: Outputs) -> Any:
    """What an instance of the spot group would get: the newest version has to be the group's own."""
    answer = client("ec2").describe_launch_template_versions(LaunchTemplateName=NODE, Versions=["$Latest"])
    (found,) = answer["LaunchTemplateVersions"]
    mixed = group(client, outputs["spotGroup"])["MixedInstancesPolicy"]
    used = mixed["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
    # moto lists the template's own tags among those of its instances, in the first version only
    data = {key: value for key, value in found["LaunchTemplateData"].items() if key != "TagSpecifications"}
    return data, str(found["VersionNumber"]) == used


def group(client: Client, name: str) -> dict[str, Any]:
    answer = client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    return answer["AutoScalingGroups"][0]


def hook(client: Client, outputs: Outputs) -> Any:
    name = outputs["spotGroup"]
    answer = client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=name, LifecycleHookNames=[HOOK])
    return answer["LifecycleHooks"][0]["HeartbeatTimeout"]


def budget(client: Client) -> dict[str, Any]:
    account = client("sts").get_caller_identity()["Account"]
    (found,) = client("budgets").describe_budgets(AccountId=account)["Budgets"]
    return {key: value for key, value in found.items() if key not in ("CalculatedSpend", "LastUpdatedTime")}


def topic_policy(client: Client, outputs: Outputs) -> Any:
    return json.loads(client("sns").get_topic_attributes(TopicArn=outputs["budgetTopicArn"])["Attributes"]["Policy"])


def alert_key(client: Client) -> str:
    topics = client("sns").list_topics()["Topics"]
    arn = next(one["TopicArn"] for one in topics if one["TopicArn"].endswith(f":inference-alerts-{STACK}"))
    return client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]["KmsMasterKeyId"]


def empty_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("nothing.py", "")
    return buffer.getvalue()


# -- what is done to it -----------------------------------------------------------------------------------------------

DRIFTS = (
    Drift(
        "Queue inference-queue", "visibilityTimeoutSeconds", visibility,
        lambda aws, o: aws("sqs").set_queue_attributes(QueueUrl=o["queueUrl"], Attributes={"VisibilityTimeout": "45"}),
    ),
    Drift(
        "QueuePolicy inference-dlq-policy", "policy", queue_policy,
        lambda aws, o: aws("sqs").set_queue_attributes(
            QueueUrl=o["deadLetterQueueUrl"], Attributes={"Policy": ANYBODY}
        ),
    ),
    Drift(
        "Table inference-jobs", "pointInTimeRecovery.enabled", recovery,
        lambda aws, o: aws("dynamodb").update_continuous_backups(
            TableName=o["jobsTable"], PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
        ),
    ),
    Drift(
        "Table inference-control", "ttl.enabled", ttl,
        lambda aws, o: aws("dynamodb").update_time_to_live(
            TableName=o["controlTable"], TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires"}
        ),
    ),
    Drift(
        "Function inference-controller", "memorySize",
        lambda aws, o: function(aws, o["controllerFunction"])["MemorySize"],
        lambda aws, o: aws("lambda").update_function_configuration(
            FunctionName=o["controllerFunction"], MemorySize=3008
        ),
    ),
    Drift(
        "Function inference-scale-to-zero", "environment.variables",
        lambda aws, o: function(aws, o["scaleToZeroFunction"])["Environment"],
        lambda aws, o: aws("lambda").update_function_configuration(
            FunctionName=o["scaleToZeroFunction"], Environment={"Variables": {}}
        ),
    ),
    Drift(
        "Function inference-keeper", "code",
        lambda aws, o: function(aws, KEEPER)["CodeSha256"],
        lambda aws, o: aws("lambda").update_function_code(FunctionName=KEEPER, ZipFile=empty_zip()),
    ),
    Drift(
        "EventRule inference-controller-schedule", "state",
        lambda aws, o: aws("events").describe_rule(Name=RULE)["State"],
        lambda aws, o: aws("events").disable_rule(Name=RULE),
    ),
    Drift(
        "EventTarget inference-scale-to-zero-target", "input",
        lambda aws, o: target(aws),
        lambda aws, o: aws("events").put_targets(Rule=GUARD_RULE, Targets=[{**target(aws), "Input": '{"odd": 1}'}]),
    ),
    Drift(
        "MetricAlarm inference-serves-nothing", "threshold",
        lambda aws, o: alarm(aws),
        lambda aws, o: aws("cloudwatch").put_metric_alarm(**{**alarm(aws), "Threshold": 9e9}),
    ),
    Drift(
        "RolePolicy inference-node-policy", "policy",
        lambda aws, o: aws("iam").get_role_policy(RoleName=NODE, PolicyName=NODE)["PolicyDocument"],
        lambda aws, o: aws("iam").put_role_policy(RoleName=NODE, PolicyName=NODE, PolicyDocument=ANYTHING),
    ),
    Drift(
        "Role inference-node", "tags",
        lambda aws, o: sorted(tag["Key"] for tag in aws("iam").get_role(RoleName=NODE)["Role"]["Tags"]),
        lambda aws, o: aws("iam").tag_role(RoleName=NODE, Tags=[{"Key": "by-hand", "Value": "yes"}]),
    ),
    Drift(
        "SecurityGroup inference-node-sg", "ingress",
        lambda aws, o: security_group(aws)["IpPermissions"],
        lambda aws, o: aws("ec2").authorize_security_group_ingress(
            GroupId=security_group(aws)["GroupId"],
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ],
        ),
    ),
    Drift(
        "BucketPublicAccessBlock inference-results-private", "blockPublicPolicy", private,
        lambda aws, o: aws("s3").put_public_access_block(
            Bucket=o["resultsBucket"],
            PublicAccessBlockConfiguration={**private(aws, o), "BlockPublicPolicy": False},
        ),
    ),
    Drift(
        "BucketLifecycleConfiguration inference-results-lifecycle",
        "rules[0].noncurrentVersionExpiration.noncurrentDays", lifecycle,
        lambda aws, o: aws("s3").put_bucket_lifecycle_configuration(
            Bucket=o["resultsBucket"],
            LifecycleConfiguration={
                "Rules": [{**lifecycle(aws, o)[0], "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}]
            },
        ),
    ),
    Drift(
        "LaunchTemplate inference-node", "instanceInitiatedShutdownBehavior", template,
        lambda aws, o: aws("ec2").create_launch_template_version(
            LaunchTemplateName=NODE,
            SourceVersion="1",
            VersionDescription=f"GPU nodes of inference-{STACK}",
            LaunchTemplateData={"InstanceInitiatedShutdownBehavior": "stop"},
        ),
    ),
    Drift(
        "Group inference-asg-on-demand", "maxSize",
        lambda aws, o: group(aws, o["onDemandGroup"])["MaxSize"],
        lambda aws, o: aws("autoscaling").update_auto_scaling_group(AutoScalingGroupName=o["onDemandGroup"], MaxSize=7),
    ),
    Drift(
        "LifecycleHook inference-terminate-hook-spot", "heartbeatTimeout", hook,
        lambda aws, o: aws("autoscaling").put_lifecycle_hook(
            AutoScalingGroupName=o["spotGroup"], LifecycleHookName=HOOK, HeartbeatTimeout=30
        ),
    ),
    Drift(
        "Budget inference-budget", "limitAmount",
        lambda aws, o: budget(aws),
        lambda aws, o: aws("budgets").update_budget(
            AccountId=aws("sts").get_caller_identity()["Account"],
            NewBudget={**budget(aws), "BudgetLimit": {"Amount": "9999", "Unit": "USD"}},
        ),
    ),
    Drift(
        "LogGroup inference-controller-logs", "retentionInDays",
        lambda aws, o: aws("logs").describe_log_groups(logGroupNamePrefix=LOGS)["logGroups"][0]["retentionInDays"],
        lambda aws, o: aws("logs").put_retention_policy(logGroupName=LOGS, retentionInDays=1),
    ),
    Drift(
        "TopicPolicy inference-budget-topic-policy", "policy", topic_policy,
        lambda aws, o: aws("sns").set_topic_attributes(
            TopicArn=o["budgetTopicArn"], AttributeName="Policy", AttributeValue=ANYBODY
        ),
    ),
    Drift(
        "Key inference-alerts-key", "enableKeyRotation",
        lambda aws, o: aws("kms").get_key_rotation_status(KeyId=alert_key(aws))["KeyRotationEnabled"],
        lambda aws, o: aws("kms").disable_key_rotation(KeyId=alert_key(aws)),
    ),
)  # fmt: skip
