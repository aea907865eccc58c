"""Every resource handler against the twin: what is put in comes back, is updated, is seen, and goes away."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi import _types
from twin_handler_cases import CASES, Case, filled, policy, prerequisites, trust

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError
from gpufleet.twin.handlers import HANDLERS, Asked, handler, ignoring, invoke
from gpufleet.twin.handlers.properties import differences
from gpufleet.twin.world import World


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud).services.functions.account_concurrency = 1000
        yield cloud


@pytest.fixture(scope="module")
def known(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return prerequisites(cloud, tmp_path_factory.mktemp("files"))


def asked(name: str = "thing", **more: Any) -> Asked:
    return Asked(name, random.Random(1), **more)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type.rsplit(':', 1)[-1]}{case.label}")
def test_life_of_a_resource(case: Case, cloud: Cloud, known: dict[str, Any]) -> None:
    kind = handler(case.type)
    inputs = kind.check(cloud, filled(case.inputs, known), asked())
    identifier, outputs = kind.create(cloud, inputs)
    assert differences(kind.props, outputs, inputs) == []
    assert kind.diff(kind.inputs_of(outputs, inputs), inputs).changes == ()
    for update in filled(list(case.updates), known):
        news = kind.check(cloud, {**inputs, **update}, asked())
        diff = kind.diff(inputs, news)
        assert diff.changes
        assert not diff.replaces, diff
        identifier, outputs = kind.update(cloud, identifier, inputs, news, {change.top for change in diff.changes})
        live = kind.read(cloud, identifier, news)
        assert live is not None
        assert differences(kind.props, live, news) == []
        inputs = news
    for name in kind.outputs.split():
        assert outputs.get(name) is not None or name in ("owner", "prefixListId", "versionId"), name
    kind.delete(cloud, identifier, {**inputs, **outputs})
    if case.type not in ("pulumi:providers:aws", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
                         "aws:s3/bucketVersioning:BucketVersioning"):  # fmt: skip
        assert kind.read(cloud, identifier, inputs) is None
        kind.delete(cloud, identifier, {**inputs, **outputs})  # gone already is fine


@pytest.mark.parametrize("type_", sorted(HANDLERS))
def test_every_property_is_created_or_updated_by_a_case(type_: str) -> None:
    kind, cases = handler(type_), [case for case in CASES if case.type == type_]
    assert cases
    created = {name for case in cases for name in case.inputs}
    updated = {name for case in cases for update in case.updates for name in update}
    for name, prop in kind.props.items():
        if prop.kept or name == "region":
            continue
        assert name in created | updated or prop.default is not None or prop.computed or name in RARE, name


RARE = {"thresholdMetricId", "extendedStatistic", "unit", "layers", "kmsKeyArn", "loggingConfig", "qualifier",
        "eventPattern", "roleArn", "inputPath", "inputTransformer", "sqsTarget", "notificationMetadata",
        "notificationTargetArn", "minAdjustmentMagnitude", "estimatedInstanceWarmup", "stepAdjustments",
        "deliveryPolicy", "filterPolicy"}  # fmt: skip


def _args(namespace: Any, cls: str) -> type:
    """The inputs' class; `...InitArgs` where a nested type has taken the plain name."""
    return getattr(namespace, f"{cls}InitArgs", None) or getattr(namespace, f"{cls}Args")


@pytest.mark.parametrize("type_", sorted(set(HANDLERS) - {"pulumi:providers:aws"}))
def test_declared_names_are_those_of_the_real_provider(type_: str) -> None:
    _, module, cls = type_.split(":")
    package = {"lambda": "lambda_"}.get(module.split("/")[0], module.split("/")[0])
    namespace = importlib.import_module(f"pulumi_aws.{package}")
    real_inputs = set(_types.input_type_py_to_pulumi_names(_args(namespace, cls)).values())
    real_outputs = set(_types.resource_types(getattr(namespace, cls)))
    kind = handler(type_)
    assert set(kind.props) <= real_inputs | {"region"}
    assert set(kind.outputs.split()) <= real_outputs


@pytest.mark.parametrize("case", [case for case in CASES if case.updates], ids=lambda c: f"{c.type}{c.label}")
def test_unknown_properties_are_refused_by_name(case: Case, cloud: Cloud, known: dict[str, Any]) -> None:
    with pytest.raises(NotModelledError, match=r"does not model nonsense of"):
        handler(case.type).check(cloud, {**filled(case.inputs, known), "nonsense": 1}, asked())


def test_unknown_nested_properties_types_and_functions_are_refused_by_name(cloud: Cloud) -> None:
    kind = handler("aws:ec2/launchTemplate:LaunchTemplate")
    with pytest.raises(NotModelledError, match=r"blockDeviceMappings\.ebs\.nonsense of aws:ec2/launchTemplate"):
        kind.check(cloud, {"blockDeviceMappings": [{"ebs": {"nonsense": 1}}]}, asked())
    with pytest.raises(NotModelledError, match="aws:rds/instance:Instance"):
        handler("aws:rds/instance:Instance")
    with pytest.raises(NotModelledError, match="aws:ec2/getAmi:getAmi"):
        invoke(cloud, "aws:ec2/getAmi:getAmi", {})


def test_a_property_that_only_creation_sets_replaces() -> None:
    for kind in HANDLERS.values():
        for name, prop in kind.props.items():
            if prop.replace and prop.fields is None and prop.kind != "json" and not prop.kept:
                assert kind.diff({name: "old"}, {name: "new"}).replaces, (kind.type, name)


def test_names_are_made_as_the_provider_makes_them(cloud: Cloud) -> None:
    queue = handler("aws:sqs/queue:Queue")
    first = queue.check(cloud, {}, asked("jobs"))["name"]
    assert first.startswith("jobs-")
    assert len(first) == len("jobs-") + 7
    assert queue.check(cloud, {}, asked("jobs", olds={"name": first}, auto_named=True))["name"] == first
    bucket = handler("aws:s3/bucket:Bucket").check(cloud, {"bucketPrefix": "results-dev-"}, asked())
    assert bucket["bucket"].startswith("results-dev-")
    assert handler("aws:kms/alias:Alias").check(cloud, {"targetKeyId": "x"}, asked("k"))["name"].startswith("alias/k-")


def test_a_kept_name_forces_deletion_first_and_a_made_name_does_not() -> None:
    queue = handler("aws:dynamodb/table:Table")
    olds, news = {"name": "t", "hashKey": "a"}, {"name": "t", "hashKey": "b"}
    assert queue.diff(olds, news).delete_first
    assert not queue.diff(olds, news, auto_named=True).delete_first


def test_default_tags_reach_resources_but_not_auto_scaling_groups(cloud: Cloud, known: dict[str, Any]) -> None:
    tags = {"team": "ml"}
    queue = handler("aws:sqs/queue:Queue")
    inputs = queue.check(cloud, {"name": "tagged", "tags": {"a": "1"}}, asked(default_tags=tags))
    identifier, outputs = queue.create(cloud, inputs)
    assert outputs["tagsAll"] == {"a": "1", "team": "ml"}
    assert cloud.client("sqs").list_queue_tags(QueueUrl=identifier)["Tags"] == {"a": "1", "team": "ml"}
    group = next(case for case in CASES if case.type == "aws:autoscaling/group:Group")
    checked = handler(group.type).check(cloud, filled(group.inputs, known), asked(default_tags=tags))
    assert [tag["key"] for tag in checked["tags"]] == ["a"]


def test_ignored_paths_take_the_old_value() -> None:
    olds = {"a": {"b": [1, 2]}, "tags": {"x": "1"}, "gone": 1}
    news = {"a": {"b": [3, 4]}, "tags": {"x": "2", "y": "3"}, "fresh": 1}
    assert ignoring(olds, news, ["a.b[0]"])["a"] == {"b": [1, 4]}
    assert ignoring(olds, news, ['tags["x"]'])["tags"] == {"x": "1", "y": "3"}
    assert ignoring(olds, news, ["tags.*"])["tags"] == {"x": "1"}
    assert ignoring(olds, news, ["fresh", "gone"]) == {"a": {"b": [3, 4]}, "tags": {"x": "2", "y": "3"}, "gone": 1}


@pytest.mark.parametrize(
    ("type_", "inputs", "code"),
    [
        ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/8"}, "InvalidVpc.Range"),
        ("aws:ec2/launchTemplate:LaunchTemplate", {"userData": "A" * 30_000}, "InvalidParameterValue"),
        ("aws:ec2/launchTemplate:LaunchTemplate", {"userData": "#!/bin/bash"}, "InvalidUserData.Malformed"),
        ("aws:ec2/launchTemplate:LaunchTemplate",
         {"networkInterfaces": [{}], "vpcSecurityGroupIds": ["sg-1"]}, "InvalidParameterCombination"),
        ("aws:ec2/securityGroup:SecurityGroup",
         {"egress": [{"protocol": "tcp", "fromPort": 2, "toPort": 1}]}, "InvalidParameterValue"),
        ("aws:ec2/natGateway:NatGateway", {"subnetId": "s"}, "MissingParameter"),
        ("aws:ec2/vpcEndpoint:VpcEndpoint",
         {"vpcId": "v", "serviceName": "com.amazonaws.us-east-1.sqs"}, "InvalidServiceName"),
        ("aws:ec2/route:Route", {"routeTableId": "r", "destinationCidrBlock": "::/0"}, "InvalidParameterCombination"),
        ("aws:iam/role:Role", {"assumeRolePolicy": policy("sts:AssumeRole")}, "MalformedPolicyDocument"),
        ("aws:iam/role:Role", {"assumeRolePolicy": "{"}, "MalformedPolicyDocument"),
        ("aws:iam/rolePolicy:RolePolicy", {"role": "r", "policy": '{"Statement": []}'}, "MalformedPolicyDocument"),
        ("aws:iam/rolePolicy:RolePolicy", {"role": "r", "policy": policy("s3:" + "x" * 10_240)}, "LimitExceeded"),
        ("aws:iam/policy:Policy", {"policy": policy("s3:" + "x" * 6_144)}, "LimitExceeded"),
        ("aws:s3/bucket:Bucket", {"bucket": "Not_Allowed"}, "InvalidBucketName"),
        ("aws:s3/bucketObjectv2:BucketObjectv2",
         {"bucket": "b", "key": "k", "tags": {str(n): "x" for n in range(11)}}, "BadRequest"),
        ("aws:s3/bucketObjectv2:BucketObjectv2",
         {"bucket": "b", "key": "k", "content": "", "source": {}}, "InvalidRequest"),
        ("aws:dynamodb/table:Table",
         {"hashKey": "a", "attributes": [{"name": "b", "type": "S"}], "billingMode": "PAY_PER_REQUEST"},
         "ValidationException"),
        ("aws:dynamodb/table:Table",
         {"hashKey": "a", "attributes": [{"name": "a", "type": "S"}]}, "ValidationException"),
        ("aws:cloudwatch/logGroup:LogGroup", {"retentionInDays": 31}, "InvalidParameterException"),
        ("aws:kms/key:Key", {"deletionWindowInDays": 6}, "ValidationException"),
        ("aws:kms/alias:Alias", {"name": "alias/aws/x", "targetKeyId": "k"}, "ValidationException"),
        ("aws:autoscaling/group:Group", {"minSize": 0, "maxSize": 1}, "ValidationError"),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_refused_before_anything_is_made(
    type_: str, inputs: dict[str, Any], code: str, cloud: Cloud
) -> None:
    with pytest.raises(AwsError) as refused:
        handler(type_).check(cloud, inputs, asked())
    assert refused.value.code == code


def test_inline_policies_of_a_role_share_one_limit(cloud: Cloud, known: dict[str, Any]) -> None:
    kind = handler("aws:iam/rolePolicy:RolePolicy")
    cloud.client("iam").create_role(RoleName="full", AssumeRolePolicyDocument=trust("ec2.amazonaws.com"))
    half = policy("s3:" + "x" * 6_000)
    kind.create(cloud, {"role": "full", "name": "one", "policy": half})
    with pytest.raises(AwsError, match="10240 bytes exceeded for role full"):
        kind.create(cloud, {"role": "full", "name": "two", "policy": half})


def test_a_provider_of_another_account_or_region_is_refused(cloud: Cloud) -> None:
    kind = handler("pulumi:providers:aws")
    with pytest.raises(NotModelledError, match="serves us-east-1"):
        kind.check(cloud, {"region": "eu-west-1"}, asked())
    with pytest.raises(AwsError, match="account ID not allowed"):
        kind.create(cloud, kind.check(cloud, {"region": "us-east-1", "allowedAccountIds": '["1"]'}, asked()))


def test_a_bucket_with_objects_goes_only_by_force(cloud: Cloud) -> None:
    kind = handler("aws:s3/bucket:Bucket")
    identifier, outputs = kind.create(cloud, {"bucket": "full-bucket"})
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket=identifier, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=identifier, Key="k", Body=body)
    with pytest.raises(s3.exceptions.ClientError, match="BucketNotEmpty"):
        kind.delete(cloud, identifier, outputs)
    kind.delete(cloud, identifier, {**outputs, "forceDestroy": True})
    assert kind.read(cloud, identifier, {}) is None


def test_a_bucket_policy_that_wants_tls_lets_the_twin_s_callers_pass(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="tls")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::tls/*"}
    for secure, allowed in (("false", True), ("true", False)):
        statement = {**deny, "Condition": {"Bool": {"aws:SecureTransport": secure}}}
        s3.put_bucket_policy(Bucket="tls", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        if allowed:
            s3.put_object(Bucket="tls", Key="k", Body=b"x")
        else:
            with pytest.raises(s3.exceptions.ClientError):
                s3.put_object(Bucket="tls", Key="k", Body=b"x")


@pytest.mark.parametrize("name", ["serverSideEncryption", "tableClass"])
def test_what_moto_would_pretend_to_change_is_refused(cloud: Cloud, name: str) -> None:
    kind = handler("aws:dynamodb/table:Table")
    with pytest.raises(NotModelledError, match=f"a change of {name} of"):
        kind.update(cloud, "any", {}, {}, {name})


def test_functions_of_the_provider(cloud: Cloud) -> None:
    assert invoke(cloud, "aws:index/getCallerIdentity:getCallerIdentity", {})["accountId"] == cloud.account_id
    assert invoke(cloud, "aws:index/getRegion:getRegion", {})["region"] == "us-east-1"
    assert invoke(cloud, "aws:index/getPartition:getPartition", {})["partition"] == "aws"
    zones = invoke(cloud, "aws:index/getAvailabilityZones:getAvailabilityZones", {"state": "available"})
    assert zones["names"] == [f"us-east-1{letter}" for letter in "abcdef"]
    name = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
    assert invoke(cloud, "aws:ssm/getParameter:getParameter", {"name": name})["value"].startswith("ami-")
    cloud.client("ssm").put_parameter(Name="/mine", Value="v", Type="String")
    assert invoke(cloud, "aws:ssm/getParameter:getParameter", {"name": "/mine"})["value"] == "v"
