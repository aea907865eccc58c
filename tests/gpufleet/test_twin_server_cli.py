"""The AWS CLI against the endpoint: the commands that operators type, as they type them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twin_wire import over_the_wire

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World

AWS = Path(sys.executable).with_name("aws")
CODE = """
import json
def handler(event, context):
    print(json.dumps({"event": "decision", "reason": "scale-out 0 -> 1: 15 waiting"}))
    return {"statusCode": 200, "body": "Nothing stopped"}
"""
Run = Callable[..., str]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Cloud(1_793_534_400.0) as cloud:
        world = World(cloud)
        furnish(cloud)
        yield world


@pytest.fixture(scope="module")
def aws(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`aws("s3", "ls")`: what the command prints; a refusal raises CalledProcessError with its words in `stderr`."""
    home = tmp_path_factory.mktemp("home")
    with Endpoint(world) as endpoint:
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "AWS_ENDPOINT_URL": endpoint.url,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "TWINoperator",
            "AWS_SECRET_ACCESS_KEY": "twin", "AWS_MAX_ATTEMPTS": "1",
        }  # fmt: skip

        def run(*arguments: str) -> str:
            # Version 1 goes to AWS's own address for SQS, whatever AWS_ENDPOINT_URL says: it must be told once more.
            told = ("--endpoint-url", endpoint.url) if arguments[0] == "sqs" else ()
            command = [str(AWS), *told, *arguments]
            return over_the_wire(
                endpoint,
                lambda: (
                    subprocess.run(  # noqa: S603 - the pinned AWS CLI of the environment
                        command, env=environ, capture_output=True, text=True, check=True, timeout=60, cwd=home
                    ).stdout
                ),
            )

        yield run


def furnish(cloud: Cloud) -> None:
    """What the commands are about."""
    cloud.client("sqs").create_queue(QueueName="jobs")
    cloud.client("sns").create_topic(Name="budget")
    cloud.client("s3").create_bucket(Bucket="results-dev")
    cloud.client("s3").put_object(Bucket="results-dev", Key="results/1.json", Body=b"{}")
    cloud.client("dynamodb").create_table(
        TableName="rows",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    cloud.client("dynamodb").put_item(TableName="rows", Item={"k": {"S": "latch"}, "state": {"S": "open"}})
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    data = {"ImageId": "ami-0d1ea3111a9e5c0de", "InstanceType": "g5.xlarge"}
    ec2.create_launch_template(LaunchTemplateName="node", LaunchTemplateData=data)
    cloud.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="inference-asg-dev", MinSize=0, MaxSize=1, VPCZoneIdentifier=subnet,
        LaunchTemplate={"LaunchTemplateName": "node", "Version": "1"},
    )  # fmt: skip
    make_function(cloud)


def make_function(cloud: Cloud) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    logs = {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}
    iam = cloud.client("iam")
    iam.create_role(RoleName="function", AssumeRolePolicyDocument=policy(trust))
    iam.put_role_policy(RoleName="function", PolicyName="logs", PolicyDocument=policy(logs))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", CODE)
    cloud.client("lambda").create_function(
        FunctionName="guard", Runtime="python3.13", Handler="main.handler", Code={"ZipFile": code.getvalue()},
        Role=f"arn:aws:iam::{cloud.account_id}:role/function",
    )  # fmt: skip
    cloud.client("logs").create_log_group(logGroupName="/aws/lambda/guard")


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_the_commands_of_the_walk(aws: Run, world: World) -> None:
    group = aws("autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", "inference-asg-dev",
                "--query", "AutoScalingGroups[].[AutoScalingGroupName,MinSize,MaxSize,DesiredCapacity]",
                "--output", "text")  # fmt: skip
    assert group.split() == ["inference-asg-dev", "0", "1", "0"]

    queue = world.services.sqs.queues["jobs"]
    body = '{"prompt": "Say 1 in French.", "max_tokens": 64}'
    aws("sqs", "send-message", "--queue-url", queue.url, "--message-body", body)
    assert queue.queue.counts()[0] == 1

    invoked = aws("lambda", "invoke", "--function-name", "guard", "/dev/stdout")
    assert invoked.startswith('{"statusCode": 200, "body": "Nothing stopped"}')
    said = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/guard", "--query", "events[].message",
               "--output", "text")  # fmt: skip
    assert json.loads(said)["reason"] == "scale-out 0 -> 1: 15 waiting"

    assert aws("s3", "ls", "s3://results-dev/results/").split()[-1] == "1.json"
    aws("sns", "publish", "--topic-arn", f"arn:aws:sns:us-east-1:{world.cloud.account_id}:budget",
        "--subject", "AWS Budgets: inference-budget-dev", "--message", "ACTUAL amount exceeded")  # fmt: skip


def test_more_of_it(aws: Run, tmp_path: Path) -> None:
    item = aws("dynamodb", "get-item", "--table-name", "rows", "--key", '{"k": {"S": "latch"}}')
    assert json.loads(item)["Item"]["state"] == {"S": "open"}
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.write_bytes(bytes(range(256)) * 400)
    aws("s3", "cp", str(sent), "s3://results-dev/copy")
    aws("s3", "cp", "s3://results-dev/copy", str(got))
    assert got.read_bytes() == sent.read_bytes()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        aws("ec2", "run-instances", "--image-id", "ami-1", "--instance-type", "g5.xlarge")
    assert "the twin does not model ec2:RunInstances" in refused.value.stderr
