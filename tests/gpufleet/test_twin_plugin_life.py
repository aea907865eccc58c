"""The provider plugin acts as the engine asks it: a resource's life, imports, the provider itself, what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2
from twin_handler_cases import trust
from twin_plugin import ACCOUNT, Engine, Refused, archive, urn, values

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.handlers.sqs import Queue
from gpufleet.twin.plugin import provider as plugin
from gpufleet.twin.plugin.provider import TwinProvider
from gpufleet.twin.wire import wire
from gpufleet.twin.world import World

QUEUE, PROFILE = "aws:sqs/queue:Queue", "aws:iam/instanceProfile:InstanceProfile"
ASSOCIATION = "aws:ec2/routeTableAssociation:RouteTableAssociation"
PROVIDER = "pulumi:providers:aws"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud)
        yield cloud


@pytest.fixture
def engine(cloud: Cloud) -> Engine:
    return Engine(TwinProvider(cloud, "7.0.0"))


@pytest.fixture
def queue(cloud: Cloud) -> Iterator[str]:
    url = cloud.client("sqs").create_queue(QueueName="made", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    yield url
    cloud.client("sqs").delete_queue(QueueUrl=url)


# -- a resource's life ----------------------------------------------------------------------------------------------


def test_creation_reading_update_and_deletion(engine: Engine, cloud: Cloud) -> None:
    sqs = cloud.client("sqs")
    inputs = engine.Check(QUEUE, "lives", news={"delaySeconds": 1}).inputs
    made = engine.Create(QUEUE, "lives", properties=inputs)
    assert values(made.properties)["url"] == made.id
    assert "__defaults" not in values(made.properties), "what the provider chose is noted in the inputs"

    sqs.set_queue_attributes(QueueUrl=made.id, Attributes={"DelaySeconds": "9"})
    seen = engine.Read(QUEUE, "lives", id=made.id, inputs=inputs, properties=made.properties)
    assert seen.id == made.id
    assert values(seen.inputs) == {**values(inputs), "delaySeconds": 9}
    assert values(seen.properties)["delaySeconds"] == 9

    news = engine.Check(QUEUE, "lives", news={"delaySeconds": 2, "tags": {"a": "1"}}, olds=inputs).inputs
    updated = engine.Update(
        QUEUE, "lives", id=made.id, old_inputs=seen.inputs, news=news, olds=seen.properties, ignoreChanges=["tags"]
    )
    assert values(updated.properties)["delaySeconds"] == 2
    assert values(updated.properties)["tags"] == {}, "an ignored change is not applied"
    assert sqs.get_queue_attributes(QueueUrl=made.id, AttributeNames=["All"])["Attributes"]["DelaySeconds"] == "2"

    gone = {"id": made.id, "old_inputs": inputs, "properties": updated.properties}
    engine.Delete(QUEUE, "lives", **gone)
    engine.Delete(QUEUE, "lives", **gone)  # somebody else may have been quicker
    assert engine.Read(QUEUE, "lives", id=made.id, inputs=inputs, properties=updated.properties).id == ""
    with pytest.raises(Refused, match=r"^updating failed: .*NonExistentQueue"):
        engine.Update(QUEUE, "lives", id=made.id, old_inputs=inputs, news=news, olds=updated.properties)


def test_a_subnet_changes_its_route_table_though_the_engine_keeps_the_first_id(engine: Engine, cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    tables = [ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"] for _ in range(3)]

    def associated() -> list[str]:
        found = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])
        return [table["RouteTableId"] for table in found["RouteTables"]]

    inputs = {"subnetId": subnet, "routeTableId": tables[0]}
    made = engine.Create(ASSOCIATION, properties=inputs)
    for table in tables[1:]:
        news = {"subnetId": subnet, "routeTableId": table}
        state = engine.Update(ASSOCIATION, id=made.id, old_inputs=inputs, news=news, olds=made.properties)
        assert associated() == [table]
        seen = engine.Read(ASSOCIATION, id=made.id, inputs=news, properties=state.properties)
        assert (seen.id, values(seen.inputs)) == (made.id, news)
        inputs = news
    engine.Delete(ASSOCIATION, id=made.id, old_inputs=inputs, properties=inputs)
    assert associated() == []
    assert engine.Read(ASSOCIATION, id=made.id, inputs=inputs, properties=inputs).id == ""


# -- pulumi import --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def existing(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A route, an event target, a hook and a permission that somebody made by hand."""
    ec2, groups = cloud.client("ec2"), cloud.client("autoscaling")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.1.0/24")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    data = {"ImageId": "ami-0d1ea3111a9e5c0de", "InstanceType": "g5.xlarge"}
    ec2.create_launch_template(LaunchTemplateName="by-hand", LaunchTemplateData=data)
    groups.create_auto_scaling_group(
        AutoScalingGroupName="by-hand", MinSize=0, MaxSize=1, VPCZoneIdentifier=subnet,
        LaunchTemplate={"LaunchTemplateName": "by-hand", "Version": "1"},
    )  # fmt: skip
    groups.put_lifecycle_hook(
        AutoScalingGroupName="by-hand", LifecycleHookName="drain", HeartbeatTimeout=77,
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
    )  # fmt: skip
    cloud.client("iam").create_role(RoleName="by-hand", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
    code = tmp_path_factory.mktemp("code") / "code.zip"
    archive(code, "x = 1")
    cloud.client("lambda").create_function(
        FunctionName="by-hand", Runtime="python3.13", Handler="main.x", Code={"ZipFile": code.read_bytes()},
        Role=f"arn:aws:iam::{ACCOUNT}:role/by-hand",
    )  # fmt: skip
    cloud.client("lambda").add_permission(
        FunctionName="by-hand", StatementId="from-sns", Action="lambda:InvokeFunction", Principal="sns.amazonaws.com"
    )
    events, function = cloud.client("events"), f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:by-hand"
    events.put_rule(Name="by-hand", ScheduleExpression="rate(1 minute)")
    events.put_targets(Rule="by-hand", Targets=[{"Id": "t", "Arn": function, "Input": "{}"}])
    return {"table": table, "gateway": gateway, "function": function}


IMPORTS = [
    ("aws:ec2/route:Route", "{table}_0.0.0.0/0", "r-{table}",
     {"routeTableId": "{table}", "destinationCidrBlock": "0.0.0.0/0"}, {"gatewayId": "{gateway}"}),
    ("aws:cloudwatch/eventTarget:EventTarget", "by-hand/t", "by-hand-t",
     {"rule": "by-hand", "targetId": "t", "arn": "{function}", "input": "{{}}"}, {"eventBusName": "default"}),
    ("aws:cloudwatch/eventTarget:EventTarget", "default/by-hand/t", "by-hand-t",
     {"rule": "by-hand", "targetId": "t", "arn": "{function}", "input": "{{}}"}, {"eventBusName": "default"}),
    ("aws:autoscaling/lifecycleHook:LifecycleHook", "by-hand/drain", "drain",
     {"name": "drain", "autoscalingGroupName": "by-hand",
      "lifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING"}, {"heartbeatTimeout": 77}),
    ("aws:lambda/permission:Permission", "by-hand/from-sns", "from-sns",
     {"function": "by-hand", "action": "lambda:InvokeFunction", "principal": "sns.amazonaws.com"},
     {"statementId": "from-sns"}),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "given", "identifier", "inputs", "outputs"), IMPORTS, ids=lambda one: str(one)[:40])
def test_import_by_what_the_documentation_names(
    engine: Engine, existing: Mapping[str, str], type_: str, given: str, identifier: str,
    inputs: dict[str, Any], outputs: dict[str, Any],
) -> None:  # fmt: skip
    def filled(wanted: dict[str, Any]) -> dict[str, Any]:
        return {name: one.format(**existing) if isinstance(one, str) else one for name, one in wanted.items()}

    found = engine.Read(type_, id=given.format(**existing))
    assert found.id.startswith(identifier.format(**existing))
    assert values(found.inputs) == filled(inputs)
    assert filled(outputs).items() <= values(found.properties).items()
    assert not engine.Diff(type_, old_inputs=found.inputs, news=found.inputs, olds=found.properties).diffs
    again = engine.Read(type_, id=found.id, inputs=found.inputs, properties=found.properties)
    assert (again.id, again.properties) == (found.id, found.properties)


def test_import_of_a_queue_names_what_is_not_as_by_default(engine: Engine, queue: str) -> None:
    found = engine.Read(QUEUE, id=queue)
    # the largest message is as AWS sets it, which the provider does not
    assert values(found.inputs) == {"name": "made", "visibilityTimeoutSeconds": 60, "maxMessageSize": 1_048_576}


@pytest.mark.parametrize(
    ("type_", "given", "form"),
    [
        ("aws:ec2/route:Route", "rtb-1", "TABLE_DESTINATION"),
        ("aws:cloudwatch/eventTarget:EventTarget", "rule", "[BUS/]RULE/TARGET"),
        ("aws:cloudwatch/eventTarget:EventTarget", "a/b/c/d", "[BUS/]RULE/TARGET"),
        ("aws:autoscaling/lifecycleHook:LifecycleHook", "group/", "GROUP/HOOK"),
        ("aws:lambda/permission:Permission", "statement", "FUNCTION[:QUALIFIER]/STATEMENT"),
    ],
)
def test_a_wrong_import_id_is_answered_by_the_right_form(engine: Engine, type_: str, given: str, form: str) -> None:
    with pytest.raises(Refused) as told:
        engine.Read(type_, id=given)
    assert str(told.value) == f"reading failed: InvalidImportId: {type_} is imported by {form}, not by {given}"


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("aws:ec2/route:Route", "{table}_10.9.0.0/16"),
        ("aws:cloudwatch/eventTarget:EventTarget", "by-hand/other"),
        ("aws:autoscaling/lifecycleHook:LifecycleHook", "by-hand/other"),
        ("aws:lambda/permission:Permission", "by-hand/other"),
        ("aws:lambda/permission:Permission", "other/from-sns"),
        (QUEUE, f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/other"),
    ],
)
def test_an_import_of_nothing_finds_nothing(
    engine: Engine, existing: Mapping[str, str], type_: str, given: str
) -> None:
    assert engine.Read(type_, id=given.format(**existing)).id == ""


# -- the provider itself --------------------------------------------------------------------------------------------


def test_a_provider_of_another_account_or_region_is_refused(engine: Engine) -> None:
    with pytest.raises(Refused, match=f"^configuring the provider failed: .*account ID not allowed: {ACCOUNT}"):
        engine.Configure(args={"region": "us-east-1", "allowedAccountIds": '["1"]'})
    with pytest.raises(Refused, match="not allowed"):
        engine.Configure(args={"region": "us-east-1", "forbiddenAccountIds": json.dumps([ACCOUNT])})
    answer = engine.Configure(args={"region": "us-east-1", "allowedAccountIds": json.dumps([ACCOUNT])})
    assert answer.supportsPreview
    (failure,) = engine.CheckConfig(PROVIDER, news={"region": "eu-west-1"}).failures
    assert failure.reason == "the twin serves us-east-1, thing asks for eu-west-1"
    (failure,) = engine.CheckConfig(PROVIDER, news={}).failures
    assert "has no region" in failure.reason
    (failure,) = engine.CheckConfig(PROVIDER, news={"region": "us-east-1", "nonsense": "1"}).failures
    assert "nonsense" in failure.reason


def test_a_provider_s_settings_are_compared(engine: Engine) -> None:
    old = {"region": "us-east-1", "defaultTags": '{"tags": {"a": "1"}}', "version": "7.0.0"}
    assert not engine.DiffConfig(PROVIDER, old_inputs=old, news=old).diffs
    tags = engine.DiffConfig(PROVIDER, old_inputs=old, news={**old, "defaultTags": '{"tags": {}}'})
    assert (list(tags.diffs), list(tags.replaces)) == (["defaultTags"], [])
    region = engine.DiffConfig(PROVIDER, old_inputs=old, news={**old, "region": "eu-west-1"})
    assert list(region.replaces) == ["region"]


def test_functions_of_the_provider(engine: Engine) -> None:
    answer = engine.Invoke(tok="aws:index/getCallerIdentity:getCallerIdentity", args={})
    assert values(getattr(answer, "return"))["accountId"] == ACCOUNT
    (failure,) = engine.Invoke(tok="aws:ec2/getAmi:getAmi", args={}).failures
    assert failure.reason == "the twin does not model the function aws:ec2/getAmi:getAmi"
    with pytest.raises(Refused, match=r"^calling a function failed: GetParameter: ParameterNotFound: "):
        engine.Invoke(tok="aws:ssm/getParameter:getParameter", args={"name": "/none"})


def test_it_says_what_it_is_and_needs_a_cloud(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.provider.GetPluginInfo(None, None).version == "7.0.0"
    engine.provider.Cancel(None, None)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(SystemExit, match="gpufleet twin env"):
        plugin.main()


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_what_aws_refuses_is_one_clean_sentence(engine: Engine, queue: str) -> None:
    with pytest.raises(Refused) as told:
        engine.Create(QUEUE, properties={"name": "made", "delaySeconds": 5})
    text = str(told.value)
    assert text.startswith("creating failed: CreateQueue: QueueAlreadyExists: ")
    assert "\n" not in text
    assert "Traceback" not in text


def test_an_unknown_type_and_a_fault_of_ours_are_one_sentence_too(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match=r"^checking failed: the twin does not model the resource type aws:rds/i:I$"):
        engine.Check("aws:rds/i:I", news={})

    def faulty(*_: Any) -> str:
        raise RuntimeError("boom")

    monkeypatch.setattr(Queue, "make", faulty)
    with pytest.raises(Refused, match=r"^creating failed: RuntimeError: boom$"):
        engine.Create(QUEUE, properties={"name": "never"})


def test_what_is_half_made_is_kept_and_replaced_next_time(cloud: Cloud) -> None:
    """Over gRPC itself: the id reaches the engine in a detail of the error."""
    server = grpc.server(ThreadPoolExecutor(1))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(TwinProvider(cloud, "7.0.0"), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    inputs = {"name": "half", "role": "nobody"}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        with pytest.raises(grpc.RpcError) as told:
            stub.Create(provider_pb2.CreateRequest(urn=urn(PROFILE), properties=wire(inputs)))
        error: Any = told.value
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert error.details().startswith("creating failed: AddRoleToInstanceProfile: NoSuchEntity: ")
        status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        (detail,), failed = status.details, provider_pb2.ErrorResourceInitFailed()
        assert detail.Unpack(failed)
        assert (failed.id, list(failed.reasons)) == ("half", [error.details()])
        assert values(failed.properties) == {**inputs, "__unfinished": True}

        olds, news = failed.properties, wire({"name": "half"})
        again = stub.Diff(provider_pb2.DiffRequest(urn=urn(PROFILE), olds=olds, old_inputs=wire(inputs), news=news))
        assert again.deleteBeforeReplace
        assert "__unfinished" in again.replaces
        # a refresh in between does not make it whole
        read = stub.Read(provider_pb2.ReadRequest(urn=urn(PROFILE), id="half", inputs=wire(inputs), properties=olds))
        assert values(read.properties)["__unfinished"] is True
        gone = provider_pb2.DeleteRequest(urn=urn(PROFILE), id="half", old_inputs=wire(inputs), properties=olds)
        stub.Delete(gone)
    server.stop(grace=None).wait()
    assert cloud.client("iam").list_instance_profiles()["InstanceProfiles"] == []
