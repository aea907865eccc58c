"""Inputs that hardly any program sets, on top of a resource type's first case: see `twin_handler_cases`.

Each is either applied or refused. `refused` is then a part of what is said, in AWS's words or the embedded cloud's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twin_handler_cases import ACCOUNT, ALARM, LIFECYCLE, MIXED, QUERIES


@dataclass(frozen=True)
class Rare:
    type: str
    inputs: dict[str, Any]
    refused: str = ""


GROUP = "aws:autoscaling/group:Group"
HOOK = "aws:autoscaling/lifecycleHook:LifecycleHook"
POLICY = "aws:autoscaling/policy:Policy"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
FUNCTION = "aws:lambda/function:Function"
ALARM_TYPE = "aws:cloudwatch/metricAlarm:MetricAlarm"
TARGET = "aws:cloudwatch/eventTarget:EventTarget"
TOPIC = "aws:sns/topic:Topic"
TABLE = "aws:dynamodb/table:Table"
DISTRIBUTION = {"onDemandAllocationStrategy": "prioritized", "onDemandBaseCapacity": 1,
                "onDemandPercentageAboveBaseCapacity": 50, "spotAllocationStrategy": "capacity-optimized"}  # fmt: skip
RULE = {
    "protocol": "tcp", "fromPort": 443, "toPort": 443, "description": "rare", "cidrBlocks": ["10.0.0.0/8"],
    "ipv6CidrBlocks": ["fd00::/8"], "securityGroups": ["{sg1}"], "self": True,
}  # fmt: skip
LISTED = {"protocol": "tcp", "fromPort": 443, "toPort": 443, "prefixListIds": ["pl-1"]}
NO_OVERRIDES = "LaunchTemplateSpecification of MixedInstancesPolicy overrides"


def mixed(**launch: Any) -> dict[str, Any]:
    return {"mixedInstancesPolicy": {**MIXED, "launchTemplate": {**MIXED["launchTemplate"], **launch}}}


def lifecycle(**rule: Any) -> dict[str, Any]:
    return {"rules": [{**LIFECYCLE, **rule}]}


def device(**ebs: Any) -> dict[str, Any]:
    return {"blockDeviceMappings": [{"deviceName": "/dev/sdb", "ebs": {"volumeSize": 100, **ebs}}]}


RARE = (
    Rare(GROUP, mixed(launchTemplateSpecification={"launchTemplateName": "made-1", "version": "1"})),
    Rare(GROUP, mixed(overrides=[{"instanceType": "g5.xlarge", "weightedCapacity": "2"}]), "WeightedCapacity"),
    Rare(GROUP, mixed(overrides=[{"instanceType": "g5.xlarge", "launchTemplateSpecification": {
        "launchTemplateId": "{template2}", "version": "1"}}]), NO_OVERRIDES),
    Rare(GROUP, mixed(overrides=[{"instanceType": "g5.xlarge", "launchTemplateSpecification": {
        "launchTemplateName": "made-2", "version": "1"}}]), NO_OVERRIDES),
    Rare(GROUP, {"mixedInstancesPolicy": {**MIXED, "instancesDistribution": DISTRIBUTION}}),
    Rare(GROUP, {"mixedInstancesPolicy": {**MIXED, "instancesDistribution": {
        "spotAllocationStrategy": "lowest-price", "spotInstancePools": 3}}}),
    Rare(GROUP, {"mixedInstancesPolicy": {**MIXED, "instancesDistribution": {"spotMaxPrice": "0.5"}}}, "SpotMaxPrice"),
    Rare(GROUP, {"mixedInstancesPolicy": None, "launchTemplate": {"name": "made-1", "version": "1"}}),
    Rare(GROUP, {"capacityRebalance": True}, "CapacityRebalance"),
    Rare(GROUP, {"maxInstanceLifetime": 86_400}, "MaxInstanceLifetime"),
    Rare(GROUP, {"terminationPolicies": ["OldestInstance"]}, "the termination policies"),
    Rare(HOOK, {"notificationMetadata": "note"}),
    Rare(HOOK, {"roleArn": "{role_arn1}", "notificationTargetArn": "{queue_arn1}"}, "NotificationTargetARN, RoleARN"),
    Rare(POLICY, {"policyType": None, "stepAdjustments": None}, "StepScaling policies, not simple ones"),
    Rare(POLICY, {"stepAdjustments": [{"scalingAdjustment": 1}]}, "must not have both bounds unspecified"),
    Rare(POLICY, {"stepAdjustments": [{"metricIntervalLowerBound": "0", "scalingAdjustment": -1}]}, "not be negative"),
    Rare(POLICY, {"metricAggregationType": "Sum"}, "MetricAggregationType must be one of"),
    Rare(POLICY, {"autoscalingGroupName": "nobody"}, "AutoScalingGroup name not found"),
    Rare("aws:budgets/budget:Budget", {"costTypes": {
        **dict.fromkeys(("includeDiscount", "includeOtherSubscription", "includeRecurring", "includeSubscription",
                         "includeSupport", "includeTax", "includeUpfront"), False), "useAmortized": True}}),
    Rare("aws:budgets/budget:Budget", {"costTypes": {"useBlended": True}}),
    Rare("aws:cloudwatch/eventRule:EventRule", {"eventBusName": "other"}, "the default event bus, not other"),
    Rare("aws:cloudwatch/eventRule:EventRule", {"roleArn": "{role_arn1}"}),
    Rare("aws:cloudwatch/eventRule:EventRule",
         {"scheduleExpression": None, "eventPattern": json.dumps({"source": ["aws.ec2"]})}),
    Rare(TARGET, {"eventBusName": "other"}, "the default event bus, not other"),
    Rare(TARGET, {"inputPath": "$.detail"}, "InputPath"),
    Rare(TARGET, {"roleArn": "{role_arn1}"}, "RoleArn"),
    Rare(TARGET, {"inputTransformer": {"inputPaths": {"a": "$.a"}, "inputTemplate": '"<a>"'}}, "InputTransformer"),
    Rare(TARGET, {"arn": "{queue_arn1}", "sqsTarget": {"messageGroupId": "g"}}, "SqsParameters"),
    Rare(ALARM_TYPE, {"unit": "Count"}),
    Rare(ALARM_TYPE, {"statistic": None, "extendedStatistic": "p90", "evaluateLowSampleCountPercentiles": "ignore"},
         "EvaluateLowSampleCountPercentile, ExtendedStatistic"),
    Rare(ALARM_TYPE, {**dict.fromkeys((*ALARM, "tags")), "name": "band", "evaluationPeriods": 1,
                      "comparisonOperator": "GreaterThanUpperThreshold", "thresholdMetricId": "b", "metricQueries": [
                          QUERIES[0], {"id": "b", "expression": "ANOMALY_DETECTION_BAND(a)", "returnData": True}]},
         "ThresholdMetricId"),
    Rare(ALARM_TYPE, {**dict.fromkeys(("metricName", "namespace", "period", "statistic", "dimensions")),
                      "metricQueries": [{**QUERIES[0], "accountId": ACCOUNT, "returnData": True}]}, "AccountId"),
    Rare(ALARM_TYPE, {**dict.fromkeys(("metricName", "namespace", "period", "statistic", "dimensions")),
                      "metricQueries": [{"id": "a", "returnData": True, "metric": {
                          **QUERIES[0]["metric"], "unit": "Count"}}]}, "Unit of MetricStat"),
    Rare(ALARM_TYPE, {**dict.fromkeys(("metricName", "namespace", "period", "statistic", "dimensions")),
                      "metricQueries": [QUERIES[0], {**QUERIES[1], "period": 60}]}),
    Rare(TABLE, {"pointInTimeRecovery": {"enabled": True, "recoveryPeriodInDays": 7}}),
    Rare(TABLE, {"serverSideEncryption": {"enabled": True, "kmsKeyArn": "{key1}"}}),
    Rare(TABLE, {"tableClass": "STANDARD_INFREQUENT_ACCESS"}, "tableClass STANDARD_INFREQUENT_ACCESS"),
    Rare("aws:ec2/securityGroup:SecurityGroup", {"ingress": [RULE], "egress": [RULE, LISTED]}),
    Rare("aws:ec2/securityGroup:SecurityGroup", {"ingress": [LISTED], "egress": [RULE]}),
    Rare("aws:ec2/securityGroup:SecurityGroup", {"egress": [{**LISTED, "description": "d"}]},
         "a description beside egress.prefixListIds"),
    Rare("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
         {"vpcId": "{vpc}", "ingress": [RULE, LISTED], "egress": [RULE, LISTED]}),
    Rare(TEMPLATE, {"iamInstanceProfile": {"name": "made"}}),
    Rare(TEMPLATE, {"instanceMarketOptions": {"marketType": "spot", "spotOptions": {
        "spotInstanceType": "persistent", "instanceInterruptionBehavior": "stop",
        "validUntil": "2027-01-01T00:00:00Z"}}}),
    Rare(TEMPLATE, {"instanceMarketOptions": {"marketType": "spot", "spotOptions": {"blockDurationMinutes": 60}}}),
    Rare(TEMPLATE, {"metadataOptions": {
        "httpEndpoint": "disabled", "httpProtocolIpv6": "enabled", "instanceMetadataTags": "enabled"}}),
    Rare(TEMPLATE, {"blockDeviceMappings": [{"deviceName": "/dev/sdb", "virtualName": "ephemeral0"}]}),
    Rare(TEMPLATE, {"blockDeviceMappings": [{"deviceName": "/dev/sdb", "noDevice": ""}]}),
    Rare(TEMPLATE, device(volumeType="gp3", iops=4000, throughput=250, deleteOnTermination="true")),
    Rare(TEMPLATE, device(encrypted="true", kmsKeyId="{key1}", snapshotId="snap-1")),
    Rare(TEMPLATE, {"vpcSecurityGroupIds": None, "networkInterfaces": [{
        "deviceIndex": 0, "description": "d", "subnetId": "{subnet1}", "interfaceType": "efa",
        "deleteOnTermination": "true"}]}),
    Rare(FUNCTION, {"kmsKeyArn": "{key1}"}),
    Rare(FUNCTION, {"layers": [f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:x:1"]}, "layers"),
    Rare(FUNCTION, {"loggingConfig": {"logFormat": "JSON", "applicationLogLevel": "INFO", "systemLogLevel": "WARN"}}),
    Rare(FUNCTION, {"loggingConfig": {"logFormat": "Text", "logGroup": "/elsewhere"}}),
    Rare("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig", {"qualifier": "1"}, "versions and aliases"),
    Rare("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig",
         {"destinationConfig": {"onSuccess": {"destination": "{queue_arn1}"}}}, "OnSuccess"),
    Rare("aws:lambda/permission:Permission", {"sourceAccount": ACCOUNT}),
    Rare("aws:lambda/permission:Permission", {"qualifier": "1"}, "versions and aliases"),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(filter={"objectSizeGreaterThan": 1000}), "rules.filter.objectSizeGreaterThan"),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(expiration={"date": "2027-01-01T00:00:00Z"})),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(filter={"tag": {"key": "a", "value": "b"}}, transitions=[{"days": 30, "storageClass": "GLACIER"}],
                   noncurrentVersionTransitions=[
                       {"noncurrentDays": 30, "newerNoncurrentVersions": 2, "storageClass": "GLACIER"}])),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(transitions=[{"date": "2027-01-01T00:00:00Z", "storageClass": "GLACIER"}])),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(expiration={"expiredObjectDeleteMarker": True})),
    Rare("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
         lifecycle(noncurrentVersionExpiration={"noncurrentDays": 3, "newerNoncurrentVersions": 2}),
         "rules.noncurrentVersionExpiration.newerNoncurrentVersions"),
    Rare("aws:s3/bucketVersioning:BucketVersioning",
         {"versioningConfiguration": {"status": "Enabled", "mfaDelete": "Enabled"}},
         "versioningConfiguration.mfaDelete"),
    Rare(TOPIC, {"name": "topic.fifo", "fifoTopic": True}, "FIFO topics"),
    Rare(TOPIC, {"deliveryPolicy": json.dumps({"http": {"defaultHealthyRetryPolicy": {"numRetries": 3}}})}),
    Rare(TOPIC, {"signatureVersion": 2}),
    Rare(TOPIC, {"tracingConfig": "Active"}),
    Rare("aws:sns/topicSubscription:TopicSubscription",
         {"filterPolicy": json.dumps({"a": ["b"]}), "filterPolicyScope": "MessageBody"}, "FilterPolicy"),
    Rare("aws:sns/topicSubscription:TopicSubscription", {"rawMessageDelivery": True}),
    Rare("aws:sns/topicSubscription:TopicSubscription",
         {"protocol": "sqs", "endpoint": "{queue_arn1}", "rawMessageDelivery": True}),
    Rare("aws:sns/topicSubscription:TopicSubscription", {"deliveryPolicy": json.dumps({"healthyRetryPolicy": {}})},
         "DeliveryPolicy"),
)  # fmt: skip
