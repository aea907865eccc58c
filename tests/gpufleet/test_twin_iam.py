"""Policies are judged as IAM judges them; removing a statement is an access error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twin_services import ACCOUNT, START, ServicesAccount, allow, document, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.iam import Caller, evaluate, resource_policy
from gpufleet.twin.iam_resources import Need

QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


def deny(action: str, resource: str = "*", **condition: Any) -> dict[str, Any]:
    return {**allow(action, resource, **condition), "Effect": "Deny"}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], False),
        ([allow("sqs:SendMessage", QUEUE)], True),
        ([allow("SQS:sendmessage", QUEUE)], True),
        ([allow("sqs:Send*", "arn:aws:sqs:*:*:jobs")], True),
        ([allow("sqs:SendMessage", f"{QUEUE}-other")], False),
        ([allow("sqs:ReceiveMessage", QUEUE)], False),
        ([allow("sqs:SendMessag?", QUEUE)], True),
        ([allow("*"), deny("sqs:SendMessage", QUEUE)], False),
        ([allow("sqs:SendMessage", QUEUE, StringEquals={"aws:RequestTag/x": "y"})], False),
        ([allow("sqs:SendMessage", QUEUE, StringEquals={"team": "ml"})], True),
        ([allow("sqs:SendMessage", QUEUE, StringLike={"Team": ["x", "m?"]})], True),
        ([allow("sqs:SendMessage", QUEUE, StringNotEquals={"team": "ml"})], False),
        ([allow("sqs:SendMessage", QUEUE, StringNotEquals={"absent": "x"})], True),
        ([allow("sqs:SendMessage", QUEUE, StringEqualsIfExists={"absent": "x"})], True),
        ([allow("sqs:SendMessage", QUEUE, NumericEquals={"size": 0})], True),
        ([allow("sqs:SendMessage", QUEUE, Bool={"aws:SecureTransport": "false"})], False),
    ],
)
def test_statements(statements: list[dict[str, Any]], allowed: bool) -> None:
    need = Need("sqs:SendMessage", QUEUE, (("size", "0"), ("team", "ml")))
    assert evaluate(statements, need) is allowed


def test_what_the_evaluator_does_not_know_is_refused_by_name() -> None:
    need = Need("sqs:SendMessage", QUEUE, (("x", "1"),))
    with pytest.raises(NotModelledError, match="NotAction"):
        evaluate([{"Effect": "Allow", "NotAction": "sqs:*", "Resource": "*"}], need)
    with pytest.raises(NotModelledError, match="IpAddress"):
        evaluate([allow("*", "*", IpAddress={"x": "10.0.0.0/8"})], need)


def test_a_call_without_its_statement_is_denied_and_recorded(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    account.role("sender", allow("sqs:SendMessage", QUEUE))
    client = account.cloud.client("sqs", "sender")
    client.send_message(QueueUrl=url, MessageBody="x")
    with refused("AccessDenied", "sqs:ReceiveMessage on resource: " + QUEUE):
        client.receive_message(QueueUrl=url)
    account.cloud.client("iam").delete_role_policy(RoleName="sender", PolicyName="own")
    with refused("AccessDenied", "sqs:SendMessage"):
        client.send_message(QueueUrl=url, MessageBody="x")
    assert [(c.operation, c.error) for c in account.cloud.calls_of("sender")] == [
        ("SendMessage", None), ("ReceiveMessage", "AccessDenied"), ("SendMessage", "AccessDenied"),
    ]  # fmt: skip


def test_managed_policies_count_and_a_boundary_limits_them(account: ServicesAccount) -> None:
    iam = account.cloud.client("iam")
    wide = iam.create_policy(PolicyName="wide", PolicyDocument=document(allow("sqs:*")))["Policy"]["Arn"]
    only_send = iam.create_policy(PolicyName="only-send", PolicyDocument=document(allow("sqs:SendMessage")))
    account.role("worker")
    iam.attach_role_policy(RoleName="worker", PolicyArn=wide)
    url = account.queue("jobs")
    client = account.cloud.client("sqs", "worker")
    client.receive_message(QueueUrl=url)
    iam.put_role_permissions_boundary(RoleName="worker", PermissionsBoundary=only_send["Policy"]["Arn"])
    client.send_message(QueueUrl=url, MessageBody="x")
    with refused("AccessDenied", "sqs:ReceiveMessage"):
        client.receive_message(QueueUrl=url)


def test_a_call_nobody_listed_is_refused_by_name(account: ServicesAccount) -> None:
    account.role("curious", allow("*"))
    with pytest.raises(NotModelledError, match="sqs:ListQueues"):
        account.cloud.client("sqs", "curious").list_queues()


def test_a_resource_policy_names_its_callers() -> None:
    topic = "arn:aws:sns:us-east-1:1:alerts"
    source = {"StringEquals": {"aws:SourceAccount": "1"}, "ArnLike": {"aws:SourceArn": "arn:aws:budgets::1:*"}}
    statement = {
        "Effect": "Allow", "Principal": {"Service": "budgets.amazonaws.com"}, "Action": "SNS:Publish",
        "Resource": topic, "Condition": source,
    }  # fmt: skip
    insecure = {
        "Effect": "Deny", "Principal": "*", "Action": "sns:*", "Resource": topic,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }  # fmt: skip
    text = json.dumps({"Statement": [statement, insecure]})

    def said(service: str, source: str, account: str = "1") -> str | None:
        return resource_policy(text, Caller.of_service(service, source, account), "sns:Publish", topic)

    assert said("budgets.amazonaws.com", "arn:aws:budgets::1:budget/b") == "Allow"
    assert said("budgets.amazonaws.com", "arn:aws:budgets::2:budget/b") is None
    assert said("budgets.amazonaws.com", "arn:aws:budgets::1:budget/b", "2") is None
    assert said("cloudwatch.amazonaws.com", "arn:aws:budgets::1:budget/b") is None
    everybody = {**statement, "Effect": "Deny", "Principal": {"AWS": "*"}, "Condition": {}}
    assert resource_policy({"Statement": everybody}, Caller.of_role("x", "1"), "sns:Publish", topic) == "Deny"
