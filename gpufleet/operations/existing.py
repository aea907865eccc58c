"""What an account already has of what a program asked for: ids found by the inputs of a resource.

A table of types: how AWS lists them, and the id that the provider (pulumi-aws 7.51) gives them. Everything only reads.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

Inputs = Mapping[str, Any]

# Settings of another resource: a creation puts them, a second one puts them again, and they go with their owner.
SETTINGS = {
    "aws:autoscaling/lifecycleHook:LifecycleHook": "group",
    "aws:autoscaling/policy:Policy": "group",
    "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig": "function",
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": "bucket",
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": "bucket",
    "aws:s3/bucketPolicy:BucketPolicy": "bucket",
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "bucket",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": "bucket",
    "aws:s3/bucketVersioning:BucketVersioning": "bucket",
    "aws:sns/topicPolicy:TopicPolicy": "topic",
    "aws:sns/topicSubscription:TopicSubscription": "topic",  # Subscribe answers with the one that exists
    "aws:sqs/queuePolicy:QueuePolicy": "queue",
    "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy": "queue",
}
_GONE = {  # what AWS answers about something that does not exist
    "404", "AWS.SimpleQueueService.NonExistentQueue", "InvalidLaunchTemplateName.NotFoundException",
    "InvalidRouteTableID.NotFound", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "NotFound", "NotFoundException",
    "QueueDoesNotExist", "ResourceNotFoundException",
}  # fmt: skip
_LEAVING = {"deleted", "deleting", "failed"}  # states of gateways and endpoints that are listed for a while after


class UnclearError(Exception):
    """It cannot be told whether the resource exists. The message says why."""


@dataclass(frozen=True)
class Account:
    """The account to look into. `client` answers boto3 clients of the resource's region."""

    client: Callable[[str], Any]
    id: str
    partition: str
    region: str

    def ids(self, type_: str, inputs: Inputs) -> list[str]:
        """The ids of what answers to `inputs` in this account, as the provider would write them into the state.

        Raises `UnclearError` for a type that is not in the table, or inputs that do not tell; botocore's errors for
        what may not be read.
        """
        find = _TYPES.get(type_)
        if find is None:
            raise UnclearError("this command does not know how to look for its type")
        try:
            return find(self, inputs)
        except KeyError as error:
            raise UnclearError(f"its inputs do not say its {error.args[0]}") from None
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _GONE:
                raise
            return []


def known() -> set[str]:
    """The types that can be looked for, or need no look."""
    return {*_TYPES, *SETTINGS}


# -- EC2: it names everything itself, so tags tell what is whose -------------------------------------------------------


def _tagged(method: str, key: str, name: str) -> Callable[[Account, Inputs], list[str]]:
    def find(account: Account, inputs: Inputs) -> list[str]:
        filters = [{"Name": f"tag:{tag}", "Values": [value]} for tag, value in sorted(_tags(inputs).items())]
        request = {"Filter" if method == "describe_nat_gateways" else "Filters": filters}
        found = _listed(account.client("ec2"), method, key, **request)
        return [one[name] for one in found if str(one.get("State", "")).lower() not in _LEAVING]

    return find


def _tags(inputs: Inputs) -> dict[str, str]:
    if not inputs.get("tags"):
        raise UnclearError("it has no tags to find it by")
    return inputs["tags"]


def _launch_template(account: Account, inputs: Inputs) -> list[str]:
    found = account.client("ec2").describe_launch_templates(LaunchTemplateNames=[inputs["name"]])
    return [one["LaunchTemplateId"] for one in found["LaunchTemplates"]]


def _association(account: Account, inputs: Inputs) -> list[str]:
    of_subnet = [{"Name": "association.subnet-id", "Values": [inputs["subnetId"]]}]
    return [
        one["RouteTableAssociationId"]
        for table in account.client("ec2").describe_route_tables(Filters=of_subnet)["RouteTables"]
        for one in table["Associations"]
        if one.get("SubnetId") == inputs["subnetId"] and table["RouteTableId"] == inputs["routeTableId"]
    ]


def _route(account: Account, inputs: Inputs) -> list[str]:
    table, block = inputs["routeTableId"], inputs["destinationCidrBlock"]
    found = account.client("ec2").describe_route_tables(RouteTableIds=[table])["RouteTables"]
    made = any(route.get("DestinationCidrBlock") == block for one in found for route in one["Routes"])
    return [f"r-{table}{zlib.crc32(block.encode())}"] if made else []


# -- S3, KMS -----------------------------------------------------------------------------------------------------------


def _bucket(account: Account, inputs: Inputs) -> list[str]:
    """With a prefix the provider chooses the name when it creates the bucket: then the tags tell, which come after."""
    s3 = account.client("s3")
    if inputs.get("bucket"):
        s3.head_bucket(Bucket=inputs["bucket"])
        return [inputs["bucket"]]
    names = [one["Name"] for one in _listed(s3, "list_buckets", "Buckets", Prefix=inputs["bucketPrefix"])]
    mine = [name for name in names if name.startswith(inputs["bucketPrefix"])]
    return [name for name in mine if _bucket_tags(s3, name) in ({}, inputs.get("tags") or {})]


def _bucket_tags(s3: Any, bucket: str) -> dict[str, str]:
    try:
        return {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchTagSet":
            raise
        return {}


def _object(account: Account, inputs: Inputs) -> list[str]:
    account.client("s3").head_object(Bucket=inputs["bucket"], Key=inputs["key"])
    return [f"{inputs['bucket']}/{inputs['key']}"]


def _key(account: Account, inputs: Inputs) -> list[str]:
    kms, wanted = account.client("kms"), _tags(inputs).items()
    return [
        key["KeyId"]
        for key in _listed(kms, "list_keys", "Keys")
        if wanted <= _key_tags(kms, key["KeyId"]).items() and _lives(kms, key["KeyId"], inputs.get("description"))
    ]


def _key_tags(kms: Any, key: str) -> dict[str, str]:
    try:
        return {tag["TagKey"]: tag["TagValue"] for tag in _listed(kms, "list_resource_tags", "Tags", KeyId=key)}
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise
        return {}  # a key of somebody else, whose policy keeps this user out; ours lets the account's users in


def _lives(kms: Any, key: str, description: str | None) -> bool:
    about = kms.describe_key(KeyId=key)["KeyMetadata"]
    return about["KeyState"] != "PendingDeletion" and description in (None, about.get("Description"))


# -- what has a name ---------------------------------------------------------------------------------------------------


def _named(service: str, method: str, key: str) -> Callable[[Account, Inputs], list[str]]:
    """The name is the id; `method`, asked with it under `key`, fails when there is none."""

    def find(account: Account, inputs: Inputs) -> list[str]:
        getattr(account.client(service), method)(**{key: inputs["name"]})
        return [inputs["name"]]

    return find


def _queue(account: Account, inputs: Inputs) -> list[str]:
    return [account.client("sqs").get_queue_url(QueueName=inputs["name"])["QueueUrl"]]


def _topic(account: Account, inputs: Inputs) -> list[str]:
    arn = f"arn:{account.partition}:sns:{account.region}:{account.id}:{inputs['name']}"
    account.client("sns").get_topic_attributes(TopicArn=arn)
    return [arn]


def _log_group(account: Account, inputs: Inputs) -> list[str]:
    found = _listed(account.client("logs"), "describe_log_groups", "logGroups", logGroupNamePrefix=inputs["name"])
    return [one["logGroupName"] for one in found if one["logGroupName"] == inputs["name"]]


def _alarm(account: Account, inputs: Inputs) -> list[str]:
    found = account.client("cloudwatch").describe_alarms(AlarmNames=[inputs["name"]], AlarmTypes=["MetricAlarm"])
    return [one["AlarmName"] for one in found["MetricAlarms"]]


def _group(account: Account, inputs: Inputs) -> list[str]:
    found = account.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[inputs["name"]])
    return [one["AutoScalingGroupName"] for one in found["AutoScalingGroups"] if not one.get("Status")]


def _budget(account: Account, inputs: Inputs) -> list[str]:
    owner = inputs.get("accountId", account.id)
    account.client("budgets").describe_budget(AccountId=owner, BudgetName=inputs["name"])
    return [f"{owner}:{inputs['name']}"]


# -- parts of something that has a name --------------------------------------------------------------------------------


def _rule(account: Account, inputs: Inputs) -> list[str]:
    bus = _bus(inputs)
    account.client("events").describe_rule(Name=inputs["name"], **bus)
    return ["/".join([*bus.values(), inputs["name"]])]


def _target(account: Account, inputs: Inputs) -> list[str]:
    bus = _bus(inputs)
    found = _listed(account.client("events"), "list_targets_by_rule", "Targets", Rule=inputs["rule"], **bus)
    made = inputs["targetId"] in {one["Id"] for one in found}
    return ["-".join([*bus.values(), inputs["rule"], inputs["targetId"]])] if made else []


def _bus(inputs: Inputs) -> dict[str, str]:
    """The bus, where it is not the default one, which ids leave out."""
    bus = inputs.get("eventBusName", "default")
    return {} if bus == "default" else {"EventBusName": bus}


def _permission(account: Account, inputs: Inputs) -> list[str]:
    version = {"Qualifier": inputs["qualifier"]} if inputs.get("qualifier") else {}
    policy = account.client("lambda").get_policy(FunctionName=inputs["function"], **version)["Policy"]
    made = inputs["statementId"] in {statement["Sid"] for statement in json.loads(policy)["Statement"]}
    return [inputs["statementId"]] if made else []


def _role_policy(account: Account, inputs: Inputs) -> list[str]:
    account.client("iam").get_role_policy(RoleName=inputs["role"], PolicyName=inputs["name"])
    return [f"{inputs['role']}:{inputs['name']}"]


def _attachment(account: Account, inputs: Inputs) -> list[str]:
    iam, arn = account.client("iam"), inputs["policyArn"]
    found = _listed(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=inputs["role"])
    return [f"{inputs['role']}/{arn}"] if arn in {one["PolicyArn"] for one in found} else []


def _listed(client: Any, method: str, key: str, **request: Any) -> Iterable[dict[str, Any]]:
    """All that a listing call answers under `key`, page by page where it has pages."""
    paged = client.can_paginate(method)
    pages = client.get_paginator(method).paginate(**request) if paged else [getattr(client, method)(**request)]
    return [one for page in pages for one in page.get(key, [])]


_TYPES: dict[str, Callable[[Account, Inputs], list[str]]] = {
    "aws:autoscaling/group:Group": _group,
    "aws:budgets/budget:Budget": _budget,
    "aws:cloudwatch/eventRule:EventRule": _rule,
    "aws:cloudwatch/eventTarget:EventTarget": _target,
    "aws:cloudwatch/logGroup:LogGroup": _log_group,
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:dynamodb/table:Table": _named("dynamodb", "describe_table", "TableName"),
    "aws:ec2/eip:Eip": _tagged("describe_addresses", "Addresses", "AllocationId"),
    "aws:ec2/internetGateway:InternetGateway": _tagged(
        "describe_internet_gateways", "InternetGateways", "InternetGatewayId"
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": _launch_template,
    "aws:ec2/natGateway:NatGateway": _tagged("describe_nat_gateways", "NatGateways", "NatGatewayId"),
    "aws:ec2/route:Route": _route,
    "aws:ec2/routeTable:RouteTable": _tagged("describe_route_tables", "RouteTables", "RouteTableId"),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _association,
    "aws:ec2/securityGroup:SecurityGroup": _tagged("describe_security_groups", "SecurityGroups", "GroupId"),
    "aws:ec2/subnet:Subnet": _tagged("describe_subnets", "Subnets", "SubnetId"),
    "aws:ec2/vpc:Vpc": _tagged("describe_vpcs", "Vpcs", "VpcId"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _tagged("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    "aws:iam/instanceProfile:InstanceProfile": _named("iam", "get_instance_profile", "InstanceProfileName"),
    "aws:iam/role:Role": _named("iam", "get_role", "RoleName"),
    "aws:iam/rolePolicy:RolePolicy": _role_policy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _attachment,
    "aws:kms/key:Key": _key,
    "aws:lambda/function:Function": _named("lambda", "get_function_configuration", "FunctionName"),
    "aws:lambda/permission:Permission": _permission,
    "aws:s3/bucket:Bucket": _bucket,
    "aws:s3/bucketObjectv2:BucketObjectv2": _object,
    "aws:sns/topic:Topic": _topic,
    "aws:sqs/queue:Queue": _queue,
}
