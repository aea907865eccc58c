"""Topics deliver to functions, queues and mailboxes, if every policy on the way agrees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twin_services import ACCOUNT, START, ServicesAccount, allow, package, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError

TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts"
BUDGET = f"arn:aws:budgets::{ACCOUNT}:budget/b"
NOTES = """
    from . import runtime
    def handler(event, context):
        runtime.log(event["Records"][0])
"""


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


@pytest.fixture
def sns(account: ServicesAccount) -> Any:
    client = account.cloud.client("sns")
    client.create_topic(Name="alerts")
    return client


def publisher(service: str, source: str = "*") -> str:
    statement = {
        "Effect": "Allow", "Principal": {"Service": service}, "Action": "SNS:Publish", "Resource": TOPIC,
        "Condition": {"ArnLike": {"aws:SourceArn": source}},
    }  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def as_budgets(account: ServicesAccount) -> str:
    return account.services.sns.publish_as_service("budgets.amazonaws.com", BUDGET, TOPIC, "subject", "over")


def test_a_function_gets_sns_s_event_shape_if_it_permits_the_topic(account: ServicesAccount, sns: Any) -> None:
    arn = account.function("guard", package(NOTES))
    sns.subscribe(TopicArn=TOPIC, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=TOPIC, Message="first", Subject="hello")
    assert account.services.sns.undelivered[0]["code"] == "AccessDeniedException"
    account.permit("guard", "sns.amazonaws.com", TOPIC)
    message_id = sns.publish(TopicArn=TOPIC, Message="second", Subject="hello")["MessageId"]
    account.clock.run_for(1)
    records = [each["record"] for each in account.functions.records]
    assert len(records) == 1
    assert records[0]["EventSource"] == "aws:sns"
    told = records[0]["Sns"]
    assert (told["Message"], told["Subject"], told["MessageId"]) == ("second", "hello", message_id)
    assert told["TopicArn"] == TOPIC
    assert told["Timestamp"] == "2026-11-01T12:00:00.000Z"


def test_an_undelivered_message_goes_to_the_subscription_s_dead_letters(account: ServicesAccount, sns: Any) -> None:
    arn, queue = account.function("guard", package(NOTES)), f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"
    statement = {
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": queue, "Condition": {"ArnEquals": {"aws:SourceArn": TOPIC}},
    }  # fmt: skip
    url = account.queue("letters", Policy=json.dumps({"Statement": [statement]}))
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": queue})}
    sns.subscribe(TopicArn=TOPIC, Protocol="lambda", Endpoint=arn, Attributes=redrive)
    sns.publish(TopicArn=TOPIC, Message="lost?")
    assert [json.loads(body)["Message"] for body in account.bodies(url)] == ["lost?"]


def test_a_queue_subscriber_needs_the_queue_s_policy(account: ServicesAccount, sns: Any) -> None:
    url, arn = account.queue("mail"), f"arn:aws:sqs:us-east-1:{ACCOUNT}:mail"
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    sns.publish(TopicArn=TOPIC, Message="one")
    assert account.bodies(url) == []
    statement = {
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn,
    }  # fmt: skip
    account.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [statement]})})
    sns.publish(TopicArn=TOPIC, Message="two")
    assert account.bodies(url) == ["two"]


def test_mail_comes_only_after_the_address_confirmed(account: ServicesAccount, sns: Any) -> None:
    outbox = account.services.sns.outbox
    made = sns.subscribe(TopicArn=TOPIC, Protocol="email", Endpoint="oncall@example.com", ReturnSubscriptionArn=True)
    attributes = sns.get_subscription_attributes(SubscriptionArn=made["SubscriptionArn"])["Attributes"]
    assert attributes["PendingConfirmation"] == "true"
    assert (
        sns.list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"][0]["SubscriptionArn"] == "PendingConfirmation"
    )
    sns.publish(TopicArn=TOPIC, Message="too early")
    assert [mail["subject"] for mail in outbox] == ["AWS Notification - Subscription Confirmation"]
    assert account.services.sns.confirm("oncall@example.com") == 1
    sns.publish(TopicArn=TOPIC, Message="stopped", Subject="ALARM")
    assert (outbox[-1]["to"], outbox[-1]["subject"], outbox[-1]["message"]) == (
        "oncall@example.com",
        "ALARM",
        "stopped",
    )
    sns.unsubscribe(SubscriptionArn=made["SubscriptionArn"])
    with refused("NotFound"):
        sns.get_subscription_attributes(SubscriptionArn=made["SubscriptionArn"])


def test_a_service_needs_a_statement_in_the_topic_s_policy(account: ServicesAccount, sns: Any) -> None:
    with pytest.raises(AwsError, match="AuthorizationError"):  # the default policy names no service
        as_budgets(account)
    sns.set_topic_attributes(
        TopicArn=TOPIC, AttributeName="Policy", AttributeValue=publisher("cloudwatch.amazonaws.com")
    )
    with pytest.raises(AwsError, match="AuthorizationError"):
        as_budgets(account)
    policy = publisher("budgets.amazonaws.com", f"arn:aws:budgets::{ACCOUNT}:*")
    sns.set_topic_attributes(TopicArn=TOPIC, AttributeName="Policy", AttributeValue=policy)
    assert as_budgets(account)


def test_an_encrypted_topic_also_needs_the_key_s_policy(account: ServicesAccount, sns: Any) -> None:
    kms = account.cloud.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    policy = publisher("budgets.amazonaws.com")
    sns.set_topic_attributes(TopicArn=TOPIC, AttributeName="Policy", AttributeValue=policy)
    sns.set_topic_attributes(TopicArn=TOPIC, AttributeName="KmsMasterKeyId", AttributeValue=key)
    with pytest.raises(AwsError, match="KMSAccessDenied"):
        as_budgets(account)

    def key_policy(actions: list[str]) -> str:
        statement = {
            "Effect": "Allow", "Principal": {"Service": "budgets.amazonaws.com"}, "Action": actions, "Resource": "*",
        }  # fmt: skip
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=key_policy(["kms:Decrypt"]))
    with pytest.raises(AwsError, match="KMSAccessDenied"):
        as_budgets(account)
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=key_policy(["kms:Decrypt", "kms:GenerateDataKey*"]))
    assert as_budgets(account)
    sns.set_topic_attributes(TopicArn=TOPIC, AttributeName="KmsMasterKeyId", AttributeValue="alias/aws/sns")
    with pytest.raises(AwsError, match="KMSAccessDenied"):  # nobody can edit the policy of that key
        as_budgets(account)


def test_a_role_that_publishes_to_an_encrypted_topic_needs_the_key_too(account: ServicesAccount, sns: Any) -> None:
    key = account.cloud.client("kms").create_key()["KeyMetadata"]
    sns.set_topic_attributes(TopicArn=TOPIC, AttributeName="KmsMasterKeyId", AttributeValue=key["KeyId"])
    account.role("half", allow("sns:Publish", TOPIC))
    with refused("KMSAccessDenied", "kms:GenerateDataKey"):
        account.cloud.client("sns", "half").publish(TopicArn=TOPIC, Message="x")
    account.role("whole", allow("sns:Publish", TOPIC), allow(["kms:GenerateDataKey", "kms:Decrypt"], key["Arn"]))
    account.cloud.client("sns", "whole").publish(TopicArn=TOPIC, Message="x")


def test_topics_read_back_and_refuse(account: ServicesAccount, sns: Any) -> None:
    made = sns.create_topic(Name="two", Attributes={"DisplayName": "Two"}, Tags=[{"Key": "a", "Value": "b"}])[
        "TopicArn"
    ]
    assert sns.get_topic_attributes(TopicArn=made)["Attributes"]["DisplayName"] == "Two"
    assert sns.list_tags_for_resource(ResourceArn=made)["Tags"] == [{"Key": "a", "Value": "b"}]
    with refused("InvalidParameter", "different attributes"):
        sns.create_topic(Name="two", Attributes={"DisplayName": "Three"})
    with refused("InvalidParameter"):
        sns.create_topic(Name="no spaces")
    with refused("InvalidParameter", "Policy"):
        sns.set_topic_attributes(TopicArn=made, AttributeName="Policy", AttributeValue="{")
    with pytest.raises(NotModelledError, match="HTTPSuccessFeedbackRoleArn"):
        sns.set_topic_attributes(TopicArn=made, AttributeName="HTTPSuccessFeedbackRoleArn", AttributeValue="x")
    with pytest.raises(NotModelledError, match="https"):
        sns.subscribe(TopicArn=made, Protocol="https", Endpoint="https://example.com")
    with refused("InvalidParameter"):
        sns.subscribe(TopicArn=made, Protocol="email", Endpoint="nobody")
    with refused("InvalidParameter"):
        sns.publish(TopicArn=made, Message="x", Subject="x" * 101)
    sns.delete_topic(TopicArn=made)
    with refused("NotFound"):
        sns.get_topic_attributes(TopicArn=made)
