"""The endpoint: errors, streams, callers and gaps over AWS's wire protocols, as real boto3 clients meet them."""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from twin_wire import over_the_wire

from gpufleet.twin.cloud import Call, Cloud
from gpufleet.twin.errors import AwsError
from gpufleet.twin.plugin.remote import RemoteAccount
from gpufleet.twin.server.client import ServerError
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World

START = 1_793_534_400.0
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"
TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
CODE = """
def handler(event, context):
    if event.get("fail"):
        raise ValueError("no good")
    return {"said": event}
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Cloud(START) as cloud:
        world = World(cloud)
        furnish(cloud)
        yield world


@pytest.fixture(scope="module")
def endpoint(world: World) -> Iterator[Endpoint]:
    with Endpoint(world) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def remote(endpoint: Endpoint) -> RemoteAccount:
    return over_the_wire(endpoint, lambda: RemoteAccount(endpoint.url, "us-east-1"))


@pytest.fixture
def ask(endpoint: Endpoint, remote: RemoteAccount) -> Callable[..., Any]:
    """`ask("sqs", "send_message", QueueUrl=...)`: one call over the wire."""
    return lambda service, method, **params: over_the_wire(
        endpoint, lambda: getattr(remote.client(service), method)(**params)
    )


def furnish(cloud: Cloud) -> None:
    """A queue, a table, a bucket, a function and the roles that callers act as."""
    cloud.client("sqs").create_queue(QueueName="jobs")
    cloud.client("dynamodb").create_table(
        TableName="rows",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    cloud.client("dynamodb").put_item(TableName="rows", Item={"k": {"S": "there"}, "n": {"N": "1"}})
    cloud.client("s3").create_bucket(Bucket="files")
    iam = cloud.client("iam")
    for role, actions in (("reader", "sqs:ReceiveMessage"), ("function", "logs:*"), ("writer", "sqs:*")):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(TRUST))
        allowed = policy({"Effect": "Allow", "Action": actions, "Resource": "*"})
        iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=allowed)
    cloud.client("lambda").create_function(
        FunctionName="echo", Runtime="python3.13", Handler="main.handler", Code={"ZipFile": zipped(CODE)},
        Role=f"arn:aws:iam::{cloud.account_id}:role/function",
    )  # fmt: skip


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def zipped(text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("main.py", text)
    return data.getvalue()


# -- errors: one or more per protocol ---------------------------------------------------------------------------------

PUT_NEW = {"TableName": "rows", "Item": {"k": {"S": "there"}}, "ConditionExpression": "attribute_not_exists(k)"}


@pytest.mark.parametrize(
    ("service", "method", "params", "kind"),
    [
        # json, query-compatible: the code of the old protocol, the class of the shape
        ("sqs", "send_message", {"QueueUrl": URL + "x", "MessageBody": "b"}, "QueueDoesNotExist"),
        ("sqs", "receive_message", {"QueueUrl": URL, "MaxNumberOfMessages": 11}, "ClientError"),
        ("sqs", "delete_message", {"QueueUrl": URL, "ReceiptHandle": "?"}, "ReceiptHandleIsInvalid"),
        ("cloudwatch", "put_metric_data", {"Namespace": "AWS/X", "MetricData": [{"MetricName": "m"}]},
         "InvalidParameterValueException"),
        # json 1.0 with fields of its own
        ("dynamodb", "get_item", {"TableName": "none", "Key": {"k": {"S": "1"}}}, "ResourceNotFoundException"),
        ("dynamodb", "put_item", PUT_NEW, "ConditionalCheckFailedException"),
        ("dynamodb", "put_item", {**PUT_NEW, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"},
         "ConditionalCheckFailedException"),
        ("dynamodb", "transact_write_items", {"TransactItems": [{"Put": {**PUT_NEW, "TableName": "rows"}},
          {"Delete": {"TableName": "rows", "Key": {"k": {"S": "z"}}}}]}, "TransactionCanceledException"),
        ("dynamodb", "describe_table", {"TableName": "none"}, "ResourceNotFoundException"),  # moto's
        # json 1.1
        ("events", "describe_rule", {"Name": "none"}, "ResourceNotFoundException"),
        ("budgets", "describe_budget", {"AccountId": "123456789012", "BudgetName": "none"}, "NotFoundException"),
        ("kms", "describe_key", {"KeyId": "00000000-0000-0000-0000-000000000000"}, "NotFoundException"),  # moto's
        ("logs", "filter_log_events", {"logGroupName": "none"}, "ResourceNotFoundException"),
        # rest-json
        ("lambda", "get_function", {"FunctionName": "none"}, "ResourceNotFoundException"),
        ("lambda", "invoke", {"FunctionName": "echo", "Payload": b"{"}, "InvalidRequestContentException"),
        # query
        ("sns", "publish", {"TopicArn": "arn:aws:sns:us-east-1:123456789012:x", "Message": "m"}, "NotFoundException"),
        ("iam", "get_role", {"RoleName": "none"}, "NoSuchEntityException"),  # moto's
        ("autoscaling", "set_desired_capacity", {"AutoScalingGroupName": "none", "DesiredCapacity": 1}, "ClientError"),
        # ec2
        ("ec2", "terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "ClientError"),
        ("ec2", "delete_vpc", {"VpcId": "vpc-0"}, "ClientError"),  # moto's
        # rest-xml
        ("s3", "put_object", {"Bucket": "none", "Key": "k", "Body": b""}, "NoSuchBucket"),
        ("s3", "get_object", {"Bucket": "files", "Key": "none"}, "NoSuchKey"),  # moto's
        ("s3", "head_object", {"Bucket": "files", "Key": "none"}, "ClientError"),  # no body: the status is the code
    ],
)  # fmt: skip
def test_errors_are_those_of_the_same_call_in_process(
    service: str, method: str, params: dict[str, Any], kind: str, world: World, ask: Callable[..., Any]
) -> None:
    with pytest.raises(ClientError) as near:
        getattr(world.cloud.client(service), method)(**params)
    with pytest.raises(ClientError) as far:
        ask(service, method, **params)
    assert kind == type(near.value).__name__ == type(far.value).__name__
    assert _told(far.value) == _told(near.value)


def _told(error: ClientError) -> dict[str, Any]:
    """What a caller can tell errors apart by, and the fields of its own that an error carries."""
    response: Any = error.response
    described = response["Error"]
    return {
        **{k: v for k, v in response.items() if k in ("CancellationReasons", "Item")},
        "code": described["Code"],
        "message": described.get("Message"),
        "modelled": described.get("QueryErrorCode", described["Code"]),
        "status": response["ResponseMetadata"]["HTTPStatusCode"],
    }


def test_a_failed_condition_shows_the_item(ask: Callable[..., Any]) -> None:
    with pytest.raises(ClientError) as refused:
        ask("dynamodb", "put_item", **PUT_NEW, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert refused.value.response["Item"] == {"k": {"S": "there"}, "n": {"N": "1"}}  # pyright: ignore[reportGeneralTypeIssues,reportTypedDictNotRequiredAccess]


# -- streams and bytes ------------------------------------------------------------------------------------------------


def test_bytes_and_text_survive(ask: Callable[..., Any]) -> None:
    text = "gr\u00fc\u00df <&> \"'\u2603 \U0001f680 \t\n end"
    sent = ask("sqs", "send_message", QueueUrl=URL, MessageBody=text,
               MessageAttributes={"b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}})  # fmt: skip
    got = ask("sqs", "receive_message", QueueUrl=URL, MessageAttributeNames=["All"])["Messages"][0]
    assert (got["Body"], got["MessageId"]) == (text, sent["MessageId"])
    assert got["MessageAttributes"]["b"]["BinaryValue"] == b"\x00\xff"
    ask("sqs", "delete_message", QueueUrl=URL, ReceiptHandle=got["ReceiptHandle"])
    item = {"k": {"S": text}, "b": {"B": b"\x00\xff"}, "l": {"L": [{"NULL": True}, {"M": {"x": {"BS": [b"1"]}}}]}}
    ask("dynamodb", "put_item", TableName="rows", Item=item)
    assert ask("dynamodb", "get_item", TableName="rows", Key={"k": item["k"]})["Item"] == item
    ask("iam", "tag_role", RoleName="reader", Tags=[{"Key": "k", "Value": "a b+c/d=e@f"}])
    assert ask("iam", "list_role_tags", RoleName="reader")["Tags"] == [{"Key": "k", "Value": "a b+c/d=e@f"}]


def test_answers_of_query_services_keep_their_line_ends(ask: Callable[..., Any], world: World) -> None:
    topic = ask("sns", "create_topic", Name="lines", Attributes={"DisplayName": "one\r\ntwo <&>"})["TopicArn"]
    assert ask("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["DisplayName"] == "one\r\ntwo <&>"


def test_objects_go_and_come(ask: Callable[..., Any]) -> None:
    key, body = "a b/c+d/\u00e9?#%&=.json", bytes(range(256)) * 40
    ask("s3", "put_object", Bucket="files", Key=key, Body=body, ContentType="application/json", Metadata={"m": "1"})
    got = ask("s3", "get_object", Bucket="files", Key=key)
    assert got["Body"].read() == body
    head = ask("s3", "head_object", Bucket="files", Key=key)
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (len(body), "application/json", {"m": "1"})
    part = ask("s3", "get_object", Bucket="files", Key=key, Range="bytes=0-9")
    assert part["Body"].read() == body[:10]
    ask("s3", "copy_object", Bucket="files", Key="copy", CopySource={"Bucket": "files", "Key": key})
    listed = ask("s3", "list_objects_v2", Bucket="files", Prefix="a b/")
    assert [each["Key"] for each in listed["Contents"]] == [key]
    gone = ask("s3", "delete_objects", Bucket="files", Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert len(gone["Deleted"]) == 2
    assert "Contents" not in ask("s3", "list_objects_v2", Bucket="files")


def test_an_object_is_written_once(ask: Callable[..., Any]) -> None:
    ask("s3", "put_object", Bucket="files", Key="once", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        ask("s3", "put_object", Bucket="files", Key="once", Body=b"2", IfNoneMatch="*")
    assert ask("s3", "get_object", Bucket="files", Key="once")["Body"].read() == b"1"


def test_a_large_object_in_parts(endpoint: Endpoint, remote: RemoteAccount) -> None:
    body = io.BytesIO(b"x" * (9 * 1024 * 1024))  # above boto3's threshold: a multipart upload from several threads
    over_the_wire(endpoint, lambda: remote.client("s3").upload_fileobj(body, "files", "large"))
    got = io.BytesIO()
    over_the_wire(endpoint, lambda: remote.client("s3").download_fileobj("files", "large", got))
    assert got.getvalue() == b"x" * (9 * 1024 * 1024)


def test_invocations(ask: Callable[..., Any]) -> None:
    answer = ask("lambda", "invoke", FunctionName="echo", Payload=b'{"x": 1}', LogType="Tail")
    assert (answer["StatusCode"], json.load(answer["Payload"])) == (200, {"said": {"x": 1}})
    assert "FunctionError" not in answer
    failed = ask("lambda", "invoke", FunctionName="arn:aws:lambda:us-east-1:123456789012:function:echo",
                 Payload=b'{"fail": true}')  # fmt: skip
    assert (failed["StatusCode"], failed["FunctionError"]) == (200, "Unhandled")
    assert json.load(failed["Payload"])["errorMessage"] == "no good"
    assert ask("lambda", "invoke", FunctionName="echo", InvocationType="Event")["StatusCode"] == 202
    assert ask("lambda", "invoke", FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204


def test_times_come_back_as_times(ask: Callable[..., Any], world: World) -> None:
    now = datetime.datetime.fromtimestamp(world.now(), datetime.UTC)
    datum = {"MetricName": "m", "Value": 2.5, "Timestamp": now}
    ask("cloudwatch", "put_metric_data", Namespace="n", MetricData=[datum])
    span = datetime.timedelta(minutes=5)
    answer = ask("cloudwatch", "get_metric_statistics", Namespace="n", MetricName="m", Period=60, Statistics=["Sum"],
                 StartTime=now - span, EndTime=now + span)  # fmt: skip
    assert [point["Sum"] for point in answer["Datapoints"]] == [2.5]
    assert abs(answer["Datapoints"][0]["Timestamp"] - now) < datetime.timedelta(minutes=1)


def test_a_request_may_be_compressed(ask: Callable[..., Any], world: World) -> None:
    data = [{"MetricName": f"m{n}", "Value": float(n), "Dimensions": [{"Name": "d", "Value": "x" * 50}]}
            for n in range(300)]  # botocore compresses what is longer than 10 KB  # fmt: skip
    ask("cloudwatch", "put_metric_data", Namespace="large", MetricData=data)
    assert world.services.cloudwatch.latest("large", "m299", {"d": "x" * 50}) == 299.0


# -- who calls --------------------------------------------------------------------------------------------------------


def client(endpoint: Endpoint, service: str, key: str = "TWINoperator", region: str = "us-east-1", **more: Any) -> Any:
    config = Config(retries={"total_max_attempts": 1}, **more)
    return boto3.client(service, endpoint_url=endpoint.url, region_name=region, aws_access_key_id=key,
                        aws_secret_access_key="twin", config=config)  # fmt: skip


def test_a_role_may_do_what_its_policies_allow_and_is_recorded(endpoint: Endpoint, world: World) -> None:
    sqs = client(endpoint, "sqs", "TWINreader")
    over_the_wire(endpoint, lambda: sqs.receive_message(QueueUrl=URL))
    with pytest.raises(ClientError, match="assumed-role/reader is not authorized to perform: sqs:SendMessage"):
        over_the_wire(endpoint, lambda: sqs.send_message(QueueUrl=URL, MessageBody="b"))
    said = [(call.operation, call.error) for call in world.cloud.calls_of("reader")]
    assert said == [("ReceiveMessage", None), ("SendMessage", "AccessDenied")]


def test_faults_reach_roles_over_the_wire(endpoint: Endpoint, world: World) -> None:
    def slow_down(call: Call) -> None:
        if call.principal == "writer":
            raise AwsError("RequestThrottled", "Slow down.", 403)

    world.cloud.faults.append(slow_down)
    sqs = client(endpoint, "sqs", "TWINwriter")
    with pytest.raises(ClientError, match="RequestThrottled"):
        over_the_wire(endpoint, lambda: sqs.send_message(QueueUrl=URL, MessageBody="b"))
    world.cloud.faults.clear()


@pytest.mark.parametrize("service", ["sqs", "dynamodb", "iam", "ec2", "lambda", "s3"])
@pytest.mark.parametrize(
    ("key", "region", "code", "words"),
    [
        ("AKIAIOSFODNN7EXAMPLE", "us-east-1", "InvalidClientTokenId", "gpufleet twin env"),
        ("TWINoperator", "eu-west-1", "SignatureDoesNotMatch", "the embedded cloud serves us-east-1"),
    ],
)
def test_a_stranger_and_another_region_are_refused(
    service: str, key: str, region: str, code: str, words: str, endpoint: Endpoint
) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "sqs": lambda c: c.list_queues(), "dynamodb": lambda c: c.list_tables(), "iam": lambda c: c.list_roles(),
        "ec2": lambda c: c.describe_vpcs(), "lambda": lambda c: c.list_functions(), "s3": lambda c: c.list_buckets(),
    }  # fmt: skip
    if service == "iam" and code == "SignatureDoesNotMatch":
        return  # IAM has one region, whatever the client's
    with pytest.raises(ClientError) as refused:
        over_the_wire(endpoint, lambda: calls[service](client(endpoint, service, key, region)))
    told = _told(refused.value)
    assert (told["code"], told["status"]) == (code, 403)
    assert words in told["message"]


def test_a_presigned_url_works(endpoint: Endpoint, remote: RemoteAccount, world: World) -> None:
    world.cloud.client("s3").put_object(Bucket="files", Key="signed", Body=b"hello")
    url = remote.client("s3").generate_presigned_url("get_object", Params={"Bucket": "files", "Key": "signed"})
    with over_the_wire(endpoint, lambda: urlopen(url)) as answer:  # noqa: S310 - of the endpoint
        assert answer.read() == b"hello"


# -- gaps and time ----------------------------------------------------------------------------------------------------


def test_a_gap_says_so_and_the_server_stays_up(ask: Callable[..., Any]) -> None:
    with pytest.raises(ClientError) as refused:
        ask("ec2", "run_instances", MinCount=1, MaxCount=1)
    assert _told(refused.value)["code"] == "NotModelled"
    assert "the twin does not model ec2:RunInstances" in str(refused.value)
    with pytest.raises(ClientError, match="NotModelled"):
        ask("sqs", "list_message_move_tasks", SourceArn="arn:aws:sqs:us-east-1:123456789012:jobs")
    with pytest.raises(ClientError, match="NotModelled"):
        ask("outposts", "list_sites")  # a service that neither the twin nor moto has
    assert ask("sqs", "list_queues")["QueueUrls"] == [URL]


def test_a_fault_of_the_twin_says_so_and_the_server_stays_up(
    ask: Callable[..., Any], world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(world.services.sqs, "call", broken)
    with pytest.raises(ClientError) as refused:
        ask("sqs", "list_queues")
    assert _told(refused.value) == {
        "code": "TwinFailure", "message": "the embedded cloud failed: ZeroDivisionError: a bug",
        "modelled": "TwinFailure", "status": 500,
    }  # fmt: skip
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert ask("sqs", "list_queues")["QueueUrls"] == [URL]


def test_parameters_are_checked_by_the_model(endpoint: Endpoint) -> None:
    lenient = client(endpoint, "autoscaling", parameter_validation=False)
    with pytest.raises(ClientError, match=r'ValidationError.*Missing required parameter in input: "DesiredCapacity"'):
        over_the_wire(endpoint, lambda: lenient.set_desired_capacity(AutoScalingGroupName="x"))


def test_a_long_poll_answers_at_once_and_time_stands_still(ask: Callable[..., Any], remote: RemoteAccount) -> None:
    empty = ask("sqs", "create_queue", QueueName="empty")["QueueUrl"]
    assert "Messages" not in ask("sqs", "receive_message", QueueUrl=empty, WaitTimeSeconds=20)
    ask("sqs", "delete_queue", QueueUrl=empty)


def test_the_account_lets_time_pass(endpoint: Endpoint, remote: RemoteAccount, world: World) -> None:
    before = world.now()
    over_the_wire(endpoint, lambda: remote.wait(90.5))
    assert over_the_wire(endpoint, remote.now) == world.now() == before + 90.5
    assert remote.account_id == world.cloud.account_id


def test_an_account_of_another_region_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(ServerError, match="serves us-east-1, not eu-west-1"):
        over_the_wire(endpoint, lambda: RemoteAccount(endpoint.url, "eu-west-1"))


def test_names_made_up_here_follow_the_seed(endpoint: Endpoint) -> None:
    one, other = (over_the_wire(endpoint, lambda: RemoteAccount(endpoint.url, seed=b"7")) for _ in range(2))
    assert one.random.random() == other.random.random()
