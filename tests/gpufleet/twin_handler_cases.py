"""One case or more per resource type: inputs to create it with, and updates that touch every updatable property.

Text in braces stands for something that exists already: see `prerequisites`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufleet.twin.cloud import Cloud

ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Case:
    type: str
    inputs: dict[str, Any]
    updates: tuple[dict[str, Any], ...] = ()
    label: str = ""


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def policy(action: str, resource: str = "*", **more: Any) -> str:
    statement = {"Sid": "One", "Effect": "Allow", "Action": [action], "Resource": [resource], **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def archive(folder: Path, body: str) -> dict[str, str]:
    """A function's zip, as the engine hands it to a handler."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("main.py"), body)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = folder / f"{digest}.zip"
    path.write_bytes(buffer.getvalue())
    return {"path": str(path), "sha256": digest}


def prerequisites(cloud: Cloud, folder: Path) -> dict[str, Any]:
    """What the cases refer to, made with plain boto3."""
    ec2, iam, sqs, sns = (cloud.client(name) for name in ("ec2", "iam", "sqs", "sns"))
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    known: dict[str, Any] = {"vpc": vpc, "vpc2": ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]}
    for number, zone in ((1, "us-east-1a"), (2, "us-east-1b")):
        answer = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)
        known[f"subnet{number}"] = answer["Subnet"]["SubnetId"]
        known[f"table{number}"] = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        known[f"eip{number}"] = ec2.allocate_address(Domain="vpc")["AllocationId"]
        known[f"sg{number}"] = ec2.create_security_group(GroupName=f"made-{number}", Description="x", VpcId=vpc)[
            "GroupId"
        ]
        iam.create_role(RoleName=f"made-{number}", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
        iam.put_role_policy(RoleName=f"made-{number}", PolicyName="dlq", PolicyDocument=policy("sqs:SendMessage"))
        known[f"role{number}"] = f"made-{number}"
        known[f"role_arn{number}"] = f"arn:aws:iam::{ACCOUNT}:role/made-{number}"
        known[f"boundary{number}"] = iam.create_policy(PolicyName=f"boundary-{number}", PolicyDocument=policy("sqs:*"))[
            "Policy"
        ]["Arn"]
        known[f"queue{number}"] = sqs.create_queue(QueueName=f"made-{number}")["QueueUrl"]
        known[f"queue_arn{number}"] = f"arn:aws:sqs:us-east-1:{ACCOUNT}:made-{number}"
        known[f"topic{number}"] = sns.create_topic(Name=f"made-{number}")["TopicArn"]
        known[f"key{number}"] = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
        known[f"key_id{number}"] = known[f"key{number}"].rsplit("/", 1)[-1]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    known["igw"] = gateway
    known["nat"] = ec2.create_nat_gateway(SubnetId=known["subnet1"], AllocationId=known["eip1"])["NatGateway"][
        "NatGatewayId"
    ]
    profile = iam.create_instance_profile(InstanceProfileName="made")["InstanceProfile"]["Arn"]
    known["profile"] = profile
    data = {"ImageId": "ami-0d1ea3111a9e5c0de", "InstanceType": "g5.xlarge"}
    for number in (1, 2):
        made = ec2.create_launch_template(LaunchTemplateName=f"made-{number}", LaunchTemplateData=data)
        known[f"template{number}"] = made["LaunchTemplate"]["LaunchTemplateId"]
    cloud.client("s3").create_bucket(Bucket="made-bucket")
    known["code1"], known["code2"] = (
        archive(folder, "def handler(e, c): return 1"),
        archive(folder, "def handler(e, c): return 2"),
    )
    for which in ("1", "2"):
        known[f"code_hash{which}"] = base64.b64encode(bytes.fromhex(known[f"code{which}"]["sha256"])).decode()
    for key, name in (("function_arn", "made"), ("function_arn2", "made-too")):
        cloud.client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=known["role_arn1"],
            Handler="main.handler",
            Code={"ZipFile": Path(known["code1"]["path"]).read_bytes()},
        )
        known[key] = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"
    known["rule_arn"] = cloud.client("events").put_rule(Name="made", ScheduleExpression="rate(1 minute)")["RuleArn"]
    cloud.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="made",
        MinSize=0,
        MaxSize=1,
        VPCZoneIdentifier=known["subnet1"],
        LaunchTemplate={"LaunchTemplateId": known["template1"], "Version": "1"},
    )
    path = folder / "text"
    path.write_text("two")
    known["asset"] = {"path": str(path), "sha256": "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"}
    return known


def filled(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, known) for item in value]
    if isinstance(value, str) and value.startswith("{") and value[1:-1] in known:
        return known[value[1:-1]]
    return value


TAGS = {"tags": {"a": "1", "b": "2"}}
RETAG = {"tags": {"a": "3", "c": "4"}}
QUEUE_POLICY = policy("sqs:SendMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:*", Principal="*")
QUEUE_POLICY_2 = policy("sqs:ReceiveMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:*", Principal="*")
TOPIC_POLICY = policy("sns:Publish", f"arn:aws:sns:us-east-1:{ACCOUNT}:*", Principal="*")
TOPIC_POLICY_2 = policy("sns:Subscribe", f"arn:aws:sns:us-east-1:{ACCOUNT}:*", Principal="*")
USER_DATA = base64.b64encode(b"#!/bin/bash\n").decode()
USER_DATA_2 = base64.b64encode(b"#!/bin/bash\ntrue\n").decode()
RULE = {"protocol": "tcp", "fromPort": 443, "toPort": 443, "cidrBlocks": ["0.0.0.0/0"], "description": "out"}
RULE_2 = {"protocol": "tcp", "fromPort": 22, "toPort": 23, "self": True}
MIXED = {
    "launchTemplate": {
        "launchTemplateSpecification": {"launchTemplateId": "{template1}", "version": "1"},
        "overrides": [{"instanceType": "g5.xlarge"}, {"instanceType": "g6.xlarge"}],
    },
    "instancesDistribution": {
        "onDemandPercentageAboveBaseCapacity": 0,
        "spotAllocationStrategy": "price-capacity-optimized",
    },
}
MIXED_2 = {
    "launchTemplate": {**MIXED["launchTemplate"], "overrides": [{"instanceType": "g6.xlarge"}]},
    "instancesDistribution": MIXED["instancesDistribution"],
}
ALARM = {
    "name": "alarm",
    "comparisonOperator": "GreaterThanThreshold",
    "evaluationPeriods": 2,
    "threshold": 1,
    "metricName": "ApproximateNumberOfMessagesVisible",
    "namespace": "AWS/SQS",
    "period": 60,
    "statistic": "Maximum",
    "dimensions": {"QueueName": "made-1"},
}
QUERIES = [
    {"id": "a", "metric": {"metricName": "A", "namespace": "N", "period": 60, "stat": "Sum", "dimensions": {"F": "x"}}},
    {"id": "b", "expression": "IF(a > 0, 1, 0)", "label": "both", "returnData": True},
]
LIFECYCLE = {"id": "tidy", "status": "Enabled", "filter": {"prefix": ""}}
NOTIFICATION = {
    "comparisonOperator": "GREATER_THAN",
    "notificationType": "ACTUAL",
    "threshold": 80,
    "thresholdType": "PERCENTAGE",
    "subscriberEmailAddresses": ["a@example.com"],
}

CASES = (
    Case("pulumi:providers:aws", {"region": "us-east-1"}, (
        {"defaultTags": json.dumps({"tags": {"x": "y"}}), "allowedAccountIds": json.dumps([ACCOUNT]),
         "forbiddenAccountIds": json.dumps(["999999999999"])},
    )),
    Case("aws:ec2/vpc:Vpc", {"cidrBlock": "10.9.0.0/16", "instanceTenancy": "default", **TAGS},
         ({"enableDnsSupport": False, "enableDnsHostnames": True, **RETAG}, {"enableDnsSupport": True, "tags": None})),
    Case("aws:ec2/subnet:Subnet",
         {"vpcId": "{vpc}", "cidrBlock": "10.0.9.0/24", "availabilityZone": "us-east-1a", **TAGS},
         ({"mapPublicIpOnLaunch": True, **RETAG}, {"mapPublicIpOnLaunch": None})),
    Case("aws:ec2/subnet:Subnet", {"vpcId": "{vpc}", "cidrBlock": "10.0.10.0/24", "availabilityZoneId": "use1-az4"}),
    Case("aws:ec2/internetGateway:InternetGateway", {"vpcId": "{vpc2}", **TAGS}, (RETAG,)),
    Case("aws:ec2/internetGateway:InternetGateway", {}, ({"vpcId": "{vpc2}"},), "later"),
    Case("aws:ec2/eip:Eip", {"domain": "vpc", **TAGS}, (RETAG,)),
    Case("aws:ec2/natGateway:NatGateway",
         {"subnetId": "{subnet2}", "allocationId": "{eip2}", "connectivityType": "public", **TAGS}, (RETAG,)),
    Case("aws:ec2/routeTable:RouteTable", {"vpcId": "{vpc}", **TAGS}, (RETAG,)),
    Case("aws:ec2/route:Route",
         {"routeTableId": "{table1}", "destinationCidrBlock": "0.0.0.0/0", "gatewayId": "{igw}"},
         ({"gatewayId": None, "natGatewayId": "{nat}"}, {"gatewayId": "{igw}", "natGatewayId": None})),
    Case("aws:ec2/routeTableAssociation:RouteTableAssociation",
         {"subnetId": "{subnet1}", "routeTableId": "{table1}"}, ({"routeTableId": "{table2}"},)),
    Case("aws:ec2/vpcEndpoint:VpcEndpoint",
         {"vpcId": "{vpc}", "serviceName": "com.amazonaws.us-east-1.s3", "vpcEndpointType": "Gateway",
          "routeTableIds": ["{table1}"], **TAGS},
         ({"routeTableIds": ["{table2}"], "policy": policy("s3:*", Principal="*"), **RETAG},)),
    Case("aws:ec2/securityGroup:SecurityGroup",
         {"name": "group", "description": "mine", "vpcId": "{vpc}", "ingress": [], "egress": [RULE], **TAGS},
         ({"ingress": [RULE_2], "egress": [RULE, {**RULE, "toPort": 444, "description": "more"}], **RETAG},)),
    Case("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", {"vpcId": "{vpc2}", **TAGS},
         ({"ingress": [RULE_2], "egress": [RULE], **RETAG},)),
    Case("aws:ec2/launchTemplate:LaunchTemplate",
         {"name": "template", "imageId": "ami-1", "updateDefaultVersion": True, "userData": USER_DATA,
          "metadataOptions": {"httpTokens": "required"}, **TAGS},
         ({"userData": USER_DATA_2, "imageId": "ami-2", "description": "second", "instanceType": "g5.xlarge",
           "keyName": "k", "instanceInitiatedShutdownBehavior": "terminate", "disableApiStop": True,
           "disableApiTermination": True, "ebsOptimized": "true", "vpcSecurityGroupIds": ["{sg1}"],
           "iamInstanceProfile": {"arn": "{profile}"}, "monitoring": {"enabled": True},
           "creditSpecification": {"cpuCredits": "standard"},
           "instanceMarketOptions": {"marketType": "spot", "spotOptions": {"maxPrice": "1"}},
           "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1}, **RETAG},
          {"vpcSecurityGroupIds": None,
           "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 9, "encrypted": "true"}}],
           "networkInterfaces": [{"deviceIndex": 0, "associatePublicIpAddress": "false", "securityGroups": ["{sg1}"]}],
           "tagSpecifications": [{"resourceType": "volume", "tags": {"x": "y"}}]},
          {"updateDefaultVersion": None, "defaultVersion": 1})),
    Case("aws:sqs/queue:Queue", {"name": "queue", "sqsManagedSseEnabled": True, **TAGS},
         ({"visibilityTimeoutSeconds": 120, "messageRetentionSeconds": 864_000, "maxMessageSize": 2048,
           "delaySeconds": 1, "receiveWaitTimeSeconds": 20, "policy": QUEUE_POLICY,
           "redrivePolicy": json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:made-1",
                                        "maxReceiveCount": 10}),
           "redriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}), **RETAG},
          {"visibilityTimeoutSeconds": None, "tags": None},
          {"sqsManagedSseEnabled": False, "kmsMasterKeyId": "{key1}", "kmsDataKeyReusePeriodSeconds": 600})),
    Case("aws:sqs/queuePolicy:QueuePolicy",
         {"queueUrl": "{queue1}", "policy": QUEUE_POLICY}, ({"policy": QUEUE_POLICY_2},)),
    Case("aws:sqs/redriveAllowPolicy:RedriveAllowPolicy",
         {"queueUrl": "{queue1}", "redriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"})},
         ({"redriveAllowPolicy": json.dumps({"redrivePermission": "allowAll"})},)),
    Case("aws:sqs/redrivePolicy:RedrivePolicy",
         {"queueUrl": "{queue1}", "redrivePolicy": json.dumps(
             {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:made-2", "maxReceiveCount": 3})},
         ({"redrivePolicy": json.dumps(
             {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:made-2", "maxReceiveCount": 4})},)),
    Case("aws:dynamodb/table:Table",
         {"name": "table", "hashKey": "pk", "rangeKey": "sk", "billingMode": "PAY_PER_REQUEST",
          "attributes": [{"name": "sk", "type": "S"}, {"name": "pk", "type": "S"}],
          "ttl": {"attributeName": "expires", "enabled": True}, "pointInTimeRecovery": {"enabled": True},
          "serverSideEncryption": {"enabled": True}, **TAGS},
         ({"ttl": {"attributeName": "gone", "enabled": True}, "pointInTimeRecovery": {"enabled": False},
           "deletionProtectionEnabled": True, **RETAG},
          {"ttl": None, "deletionProtectionEnabled": False},
          {"billingMode": "PROVISIONED", "readCapacity": 1, "writeCapacity": 2})),
    Case("aws:s3/bucket:Bucket", {"bucket": "a-bucket", **TAGS}, (RETAG, {"tags": None})),
    Case("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
         {"bucket": "made-bucket", "blockPublicAcls": True},
         ({"blockPublicAcls": False, "blockPublicPolicy": True, "ignorePublicAcls": True,
           "restrictPublicBuckets": True},)),
    Case("aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
         {"bucket": "made-bucket", "rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]},
         ({"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": "{key1}"},
                      "bucketKeyEnabled": True}]},)),
    Case("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         {"bucket": "made-bucket", "rules": [{**LIFECYCLE, "expiration": {"days": 9}}]},
         ({"rules": [{**LIFECYCLE, "noncurrentVersionExpiration": {"noncurrentDays": 3},
                      "abortIncompleteMultipartUpload": {"daysAfterInitiation": 7}}]},)),
    Case("aws:s3/bucketVersioning:BucketVersioning",
         {"bucket": "made-bucket", "versioningConfiguration": {"status": "Enabled"}},
         ({"versioningConfiguration": {"status": "Suspended"}},)),
    Case("aws:s3/bucketOwnershipControls:BucketOwnershipControls",
         {"bucket": "made-bucket", "rule": {"objectOwnership": "BucketOwnerEnforced"}},
         ({"rule": {"objectOwnership": "ObjectWriter"}},)),
    Case("aws:s3/bucketPolicy:BucketPolicy", {"bucket": "made-bucket", "policy": policy("s3:GetObject", Principal="*")},
         ({"policy": policy("s3:PutObject", Principal="*")},)),
    Case("aws:s3/bucketObjectv2:BucketObjectv2", {"bucket": "made-bucket", "key": "a/b", "content": "one", **TAGS},
         ({"content": "two", "contentType": "text/plain", "cacheControl": "no-store", "metadata": {"m": "n"},
           "contentDisposition": "inline", "contentEncoding": "identity", "contentLanguage": "en",
           "storageClass": "STANDARD_IA", "serverSideEncryption": "AES256"}, RETAG,
          {"content": None, "contentBase64": "b25l"}, {"contentBase64": None, "source": "{asset}"})),
    Case("aws:lambda/function:Function",
         {"name": "function", "runtime": "python3.13", "handler": "main.handler", "role": "{role_arn1}",
          "packageType": "Zip", "code": "{code1}", "sourceCodeHash": "{code_hash1}", "architectures": ["arm64"],
          "environment": {"variables": {"ONE": "1"}}, **TAGS},
         ({"code": "{code2}", "sourceCodeHash": "{code_hash2}"},
          {"description": "x", "timeout": 60, "memorySize": 256, "environment": {"variables": {"TWO": "2"}},
           "role": "{role_arn2}", "deadLetterConfig": {"targetArn": "{queue_arn1}"}, "reservedConcurrentExecutions": 1,
           "tracingConfig": {"mode": "Active"}, "ephemeralStorage": {"size": 1024}, **RETAG},
          {"environment": None, "deadLetterConfig": None, "reservedConcurrentExecutions": None, "timeout": None})),
    Case("aws:lambda/permission:Permission",
         {"function": "made", "statementId": "from-rule", "action": "lambda:InvokeFunction",
          "principal": "events.amazonaws.com", "sourceArn": "{rule_arn}"}),
    Case("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig",
         {"functionName": "made", "maximumRetryAttempts": 0},
         ({"maximumRetryAttempts": 1, "maximumEventAgeInSeconds": 300,
           "destinationConfig": {"onFailure": {"destination": "{queue_arn1}"}}},)),
    Case("aws:iam/role:Role", {"name": "role", "path": "/x/", "assumeRolePolicy": trust("ec2.amazonaws.com"), **TAGS},
         ({"assumeRolePolicy": trust("lambda.amazonaws.com"), "description": "d", "maxSessionDuration": 7200,
           "permissionsBoundary": "{boundary1}", **RETAG}, {"permissionsBoundary": None, "description": None})),
    Case("aws:iam/rolePolicy:RolePolicy", {"role": "made-1", "name": "inline", "policy": policy("sqs:*")},
         ({"policy": policy("sns:*")},)),
    Case("aws:iam/rolePolicyAttachment:RolePolicyAttachment",
         {"role": "made-1", "policyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"}),
    Case("aws:iam/policy:Policy", {"name": "p", "path": "/x/", "description": "d", "policy": policy("sqs:*"), **TAGS},
         tuple({"policy": policy(f"{service}:*"), **RETAG} for service in ("s3", "sns", "kms", "ec2", "iam", "logs"))),
    Case("aws:iam/instanceProfile:InstanceProfile", {"name": "profile", "path": "/x/", "role": "made-1", **TAGS},
         ({"role": "made-2", **RETAG}, {"role": None})),
    Case("aws:cloudwatch/logGroup:LogGroup", {"name": "/aws/lambda/x", "logGroupClass": "STANDARD", **TAGS},
         ({"retentionInDays": 30, **RETAG}, {"retentionInDays": None})),
    Case("aws:cloudwatch/metricAlarm:MetricAlarm", {**ALARM, **TAGS},
         ({"threshold": 5, "evaluationPeriods": 3, "datapointsToAlarm": 2, "period": 300, "statistic": "Sum",
           "comparisonOperator": "LessThanThreshold", "treatMissingData": "breaching", "alarmDescription": "d",
           "metricName": "NumberOfMessagesSent", "namespace": "AWS/SQS", "dimensions": {"QueueName": "made-2"},
           "alarmActions": ["{topic1}"], "okActions": ["{topic2}"], **RETAG},
          {"alarmActions": None, "actionsEnabled": False, "insufficientDataActions": ["{topic1}"]})),
    Case("aws:cloudwatch/metricAlarm:MetricAlarm",
         {"name": "maths", "comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 1, "threshold": 0,
          "metricQueries": QUERIES},
         ({"metricQueries": [QUERIES[0], {**QUERIES[1], "expression": "IF(a > 1, 1, 0)"}]},), "maths"),
    Case("aws:cloudwatch/eventRule:EventRule", {"name": "rule", "scheduleExpression": "rate(1 minute)", **TAGS},
         ({"scheduleExpression": "rate(5 minutes)", "description": "d", "state": "DISABLED", **RETAG},)),
    Case("aws:cloudwatch/eventTarget:EventTarget", {"rule": "made", "targetId": "t", "arn": "{function_arn}"},
         ({"input": '{"a": 1}', "deadLetterConfig": {"arn": "{queue_arn1}"},
           "retryPolicy": {"maximumRetryAttempts": 1, "maximumEventAgeInSeconds": 60}}, {"arn": "{function_arn2}"})),
    Case("aws:sns/topic:Topic", {"name": "topic", "kmsMasterKeyId": "{key1}", **TAGS},
         ({"displayName": "d", "policy": TOPIC_POLICY, "kmsMasterKeyId": "{key2}", **RETAG},)),
    Case("aws:sns/topicPolicy:TopicPolicy", {"arn": "{topic1}", "policy": TOPIC_POLICY}, ({"policy": TOPIC_POLICY_2},)),
    Case("aws:sns/topicSubscription:TopicSubscription",
         {"topic": "{topic1}", "protocol": "lambda", "endpoint": "{function_arn}"},
         ({"redrivePolicy": json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:made-1"})},)),
    Case("aws:kms/key:Key", {"description": "k", "keyUsage": "ENCRYPT_DECRYPT", "multiRegion": False,
                             "customerMasterKeySpec": "SYMMETRIC_DEFAULT", **TAGS},
         ({"description": "l", "enableKeyRotation": True, "policy": policy("kms:*", Principal="*"), **RETAG},
          {"enableKeyRotation": None},
          {"isEnabled": False}, {"isEnabled": True})),
    Case("aws:kms/alias:Alias", {"name": "alias/x", "targetKeyId": "{key_id1}"}, ({"targetKeyId": "{key2}"},)),
    Case("aws:budgets/budget:Budget",
         {"name": "budget", "accountId": ACCOUNT, "budgetType": "COST", "limitAmount": "150", "limitUnit": "USD",
          "timeUnit": "MONTHLY", "costFilters": [{"name": "TagKeyValue", "values": ["user:stack$dev"]}],
          "costTypes": {"includeCredit": False}, "notifications": [NOTIFICATION], **TAGS},
         ({"limitAmount": "3000", "costTypes": {"includeCredit": False, "includeRefund": False},
           "costFilters": [{"name": "TagKeyValue", "values": ["user:stack$prod"]}],
           "notifications": [NOTIFICATION, {**NOTIFICATION, "threshold": 100, "subscriberEmailAddresses": None,
                                            "subscriberSnsTopicArns": ["{topic1}"]}], **RETAG},)),
    Case("aws:autoscaling/group:Group",
         {"name": "group", "minSize": 0, "maxSize": 1, "vpcZoneIdentifiers": ["{subnet1}"],
          "mixedInstancesPolicy": MIXED, "suspendedProcesses": ["AZRebalance"], "enabledMetrics": ["GroupMaxSize"],
          "metricsGranularity": "1Minute", "tags": [{"key": "a", "value": "1", "propagateAtLaunch": True}]},
         ({"maxSize": 5, "vpcZoneIdentifiers": ["{subnet2}", "{subnet1}"], "mixedInstancesPolicy": MIXED_2,
           "suspendedProcesses": ["Launch"], "enabledMetrics": ["GroupMinSize"], "protectFromScaleIn": True,
           "healthCheckType": "EC2", "healthCheckGracePeriod": 600, "defaultCooldown": 10, "defaultInstanceWarmup": 0,
           "tags": [{"key": "b", "value": "2", "propagateAtLaunch": False}]},
          {"protectFromScaleIn": None, "suspendedProcesses": None, "healthCheckGracePeriod": None,
           "availabilityZoneDistribution": {"capacityDistributionStrategy": "reservations-then-balanced"},
           "capacityReservationSpecification": {
               "capacityReservationPreference": "capacity-reservations-first",
               "capacityReservationTarget": {"capacityReservationIds": ["cr-0123456789abcdef0"]}}},
          {"capacityReservationSpecification": {"capacityReservationPreference": "none"},
           "availabilityZoneDistribution": {"capacityDistributionStrategy": "balanced-best-effort"}})),
    Case("aws:autoscaling/group:Group",
         {"name": "plain", "minSize": 0, "maxSize": 2, "desiredCapacity": 0, "vpcZoneIdentifiers": ["{subnet1}"],
          "launchTemplate": {"id": "{template1}", "version": "1"}},
         ({"launchTemplate": {"id": "{template2}", "version": "1"}, "maxSize": 3, "minSize": 0},), "plain"),
    Case("aws:autoscaling/lifecycleHook:LifecycleHook",
         {"name": "hook", "autoscalingGroupName": "made",
          "lifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING", "heartbeatTimeout": 600},
         ({"heartbeatTimeout": 900, "defaultResult": "ABANDON"}, {"defaultResult": "CONTINUE"})),
    Case("aws:autoscaling/policy:Policy",
         {"name": "policy", "autoscalingGroupName": "made", "policyType": "StepScaling",
          "adjustmentType": "ExactCapacity",
          "stepAdjustments": [{"metricIntervalLowerBound": "0", "scalingAdjustment": 1}]},
         ({"metricAggregationType": "Maximum", "enabled": False, "adjustmentType": "ChangeInCapacity",
           "stepAdjustments": [
               {"metricIntervalLowerBound": "0.5", "metricIntervalUpperBound": "10", "scalingAdjustment": 1},
               {"metricIntervalLowerBound": "10", "scalingAdjustment": 2}]},
          {"enabled": None, "adjustmentType": "PercentChangeInCapacity", "minAdjustmentMagnitude": 2})),
)  # fmt: skip
