"""CloudWatch Logs of the twin: what functions said, read back as on AWS."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twin_account import refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.world import World

START = 1_793_534_400.0
MS = int(START * 1000)
GROUP = "/aws/lambda/talker"
CODE = """
import json
def handler(event, context):
    print(json.dumps({"event": event["event"], "n": event["n"], "deep": {"x": "a b"}}))
    if event.get("fail"):
        raise ValueError("no good")
"""
TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
Say = Callable[..., None]


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(START) as cloud:
        World(cloud)
        iam = cloud.client("iam")
        iam.create_role(RoleName="talks", AssumeRolePolicyDocument=policy(TRUST))
        allowed = policy({"Effect": "Allow", "Action": "logs:*", "Resource": "*"})
        iam.put_role_policy(RoleName="talks", PolicyName="p", PolicyDocument=allowed)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("main.py", CODE)
        cloud.client("lambda").create_function(
            FunctionName="talker", Runtime="python3.13", Handler="main.handler", Code={"ZipFile": data.getvalue()},
            Role=f"arn:aws:iam::{cloud.account_id}:role/talks",
        )  # fmt: skip
        cloud.client("logs").create_log_group(logGroupName=GROUP)
        yield cloud


@pytest.fixture
def say(cloud: Cloud) -> Say:
    def act(event: str, n: int = 0, **more: Any) -> None:
        payload = json.dumps({"event": event, "n": n, **more}).encode()
        cloud.client("lambda").invoke(FunctionName="talker", Payload=payload)

    return act


def found(cloud: Cloud, **params: Any) -> list[str]:
    answer = cloud.client("logs").filter_log_events(logGroupName=GROUP, **params)
    return [json.loads(event["message"]).get("event", "-") for event in answer["events"]]


def test_an_event_is_the_json_line_of_a_record(cloud: Cloud, say: Say) -> None:
    say("decision", 1)
    (event,) = cloud.client("logs").filter_log_events(logGroupName=GROUP)["events"]
    assert json.loads(event["message"]) == {"event": "decision", "n": 1, "deep": {"x": "a b"}}
    assert (event["timestamp"], event["logStreamName"]) == (MS, "twin")


def test_times_bound_what_is_found(cloud: Cloud, say: Say) -> None:
    for minute in range(3):
        say(str(minute))
        cloud.wait(60)
    assert found(cloud) == ["0", "1", "2"]
    assert found(cloud, startTime=MS + 60_000) == ["1", "2"]
    assert found(cloud, endTime=MS + 60_000) == ["0", "1"]  # inclusive
    streamed = cloud.client("logs").get_log_events(logGroupName=GROUP, logStreamName="twin", endTime=MS + 60_000)
    assert len(streamed["events"]) == 1  # here the end is not part of it


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["decision", "look", "decision"]),
        ("decision", ["decision", "decision"]),
        ("decision Decision", []),  # case counts, and every term must be there
        ('"a b"', ["decision", "look", "decision"]),
        ('{ $.event = "decision" }', ["decision", "decision"]),
        ("{$.n=2}", ["look"]),
        ('{ $.deep.x = "a b" }', ["decision", "look", "decision"]),
        ('{ $.deep.y = "a b" }', []),
    ],
)
def test_patterns(cloud: Cloud, say: Say, pattern: str, expected: list[str]) -> None:
    for n, event in enumerate(("decision", "look", "decision"), 1):
        say(event, n)
    assert found(cloud, filterPattern=pattern) == expected


@pytest.mark.parametrize(
    "pattern", ["?a ?b", "-decision", "[a, b]", "{ $.n > 1 }", '{ $.a = "b*" }', "%x%", "a" * 60 + "!"]
)
def test_other_patterns_are_refused_by_name(cloud: Cloud, pattern: str) -> None:
    with pytest.raises(NotModelledError, match="does not model the filter pattern"):
        found(cloud, filterPattern=pattern)


def test_pages(cloud: Cloud, say: Say) -> None:
    for n in range(5):
        say(str(n))
    logs = cloud.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 2})
    assert [len(page["events"]) for page in pages] == [2, 2, 1]
    stream = {"logGroupName": GROUP, "logStreamName": "twin", "limit": 2}
    newest = logs.get_log_events(**stream)
    assert [json.loads(e["message"])["event"] for e in newest["events"]] == ["3", "4"]
    older = logs.get_log_events(**stream, nextToken=newest["nextBackwardToken"])
    assert [json.loads(e["message"])["event"] for e in older["events"]] == ["1", "2"]
    end = logs.get_log_events(**stream, nextToken=newest["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], newest["nextForwardToken"])


def test_a_failed_invocation_is_an_event_too(cloud: Cloud, say: Say) -> None:
    say("look", fail=True)
    messages = [json.loads(e["message"]) for e in cloud.client("logs").filter_log_events(logGroupName=GROUP)["events"]]
    assert [m.get("errorType") for m in messages] == [None, "ValueError"]
    assert messages[1]["errorMessage"] == "no good"


def test_a_role_that_may_not_log_leaves_nothing(cloud: Cloud, say: Say) -> None:
    cloud.client("iam").delete_role_policy(RoleName="talks", PolicyName="p")
    say("look", fail=True)
    assert found(cloud) == []
    assert cloud.client("logs").describe_log_streams(logGroupName=GROUP)["logStreams"] == []


def test_a_function_logs_where_its_configuration_says(cloud: Cloud, say: Say) -> None:
    cloud.client("logs").create_log_group(logGroupName="elsewhere")
    cloud.client("lambda").update_function_configuration(
        FunctionName="talker", LoggingConfig={"LogGroup": "elsewhere", "LogFormat": "JSON"}
    )
    say("look")
    assert found(cloud) == []
    assert len(cloud.client("logs").filter_log_events(logGroupName="elsewhere")["events"]) == 1


def test_a_group_keeps_what_its_retention_says(cloud: Cloud, say: Say) -> None:
    cloud.client("logs").put_retention_policy(logGroupName=GROUP, retentionInDays=1)
    say("old")
    cloud.wait(86_401)
    say("new")
    assert found(cloud) == ["new"]


def test_streams(cloud: Cloud, say: Say) -> None:
    logs = cloud.client("logs")
    say("look")
    cloud.wait(60)
    say("look")
    (stream,) = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert (stream["logStreamName"], stream["firstEventTimestamp"]) == ("twin", MS)
    assert stream["lastEventTimestamp"] == MS + 60_000
    assert found(cloud, logStreamNames=["other"]) == []
    assert found(cloud, logStreamNamePrefix="tw") == ["look", "look"]
    by_arn = logs.filter_log_events(logGroupIdentifier=f"arn:aws:logs:us-east-1:{cloud.account_id}:log-group:{GROUP}")
    assert len(by_arn["events"]) == 2


def test_what_is_not_there_is_refused_as_on_aws(cloud: Cloud) -> None:
    logs = cloud.client("logs")
    with refused("ResourceNotFoundException", "The specified log group does not exist."):
        logs.filter_log_events(logGroupName="none")
    with refused("ResourceNotFoundException", "The specified log stream does not exist."):
        logs.get_log_events(logGroupName=GROUP, logStreamName="none")
    with refused("InvalidParameterException", "Exactly one of"):
        logs.describe_log_streams()
    with refused("InvalidParameterException", "nextToken"):
        logs.filter_log_events(logGroupName=GROUP, nextToken="x")
    with pytest.raises(NotModelledError, match="logs:PutLogEvents"):
        logs.put_log_events(logGroupName=GROUP, logStreamName="twin", logEvents=[{"timestamp": MS, "message": "m"}])
