"""SNS topics and subscriptions: create, read, set, tag, delete, confirm; publishing is in `sns.py`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import AwsError, NotModelledError
from .model import Answer, Model, operation, tag_list, tag_map

if TYPE_CHECKING:
    from ..cloud import Cloud

_ATTRIBUTES = {"Policy", "KmsMasterKeyId", "DisplayName", "DeliveryPolicy", "SignatureVersion", "TracingConfig"}
_SUBSCRIPTION = {"RedrivePolicy", "RawMessageDelivery"}


@dataclass
class Subscription:
    arn: str
    topic_arn: str
    protocol: str
    endpoint: str
    attributes: dict[str, str]
    token: str
    pending: bool


@dataclass
class TopicEntry:
    name: str
    arn: str
    attributes: dict[str, str]
    tags: dict[str, str]
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class TopicAdmin(Model):
    service = "sns"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.topics: dict[str, TopicEntry] = {}
        self.outbox: list[dict[str, Any]] = []

    # -- topics -----------------------------------------------------------------------------------------------

    @operation("Name", "Attributes", "Tags")
    def create_topic(self, params: dict[str, Any], principal: str) -> Answer:
        name, given = params["Name"], dict(params.get("Attributes") or {})
        if name.endswith(".fifo"):
            raise NotModelledError("the twin models standard topics, not FIFO topics")
        if not re.fullmatch(r"[\w-]{1,256}", name, re.ASCII):
            raise invalid("Topic Name")
        for attribute, value in given.items():
            _check_attribute(attribute, value)
        arn, tags = self.arn(name), tag_map(params.get("Tags"))
        present = self.topics.get(arn)
        if present is None:
            self.topics[arn] = TopicEntry(name, arn, {k: v for k, v in given.items() if v}, tags)
        elif any(present.attributes.get(k, "") != v for k, v in given.items()):
            raise invalid("Attributes Reason: Topic already exists with different attributes")
        elif tags and tags != present.tags:
            raise invalid("Tags Reason: Topic already exists with different tags")
        return {"TopicArn": arn}

    @operation("TopicArn")
    def get_topic_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params["TopicArn"])
        pending = sum(s.pending for s in topic.subscriptions.values())
        return {
            "Attributes": {
                "TopicArn": topic.arn,
                "Owner": self.cloud.account_id,
                "DisplayName": "",
                "Policy": json.dumps(self._default_policy(topic)),
                "SubscriptionsConfirmed": str(len(topic.subscriptions) - pending),
                "SubscriptionsPending": str(pending),
                "SubscriptionsDeleted": "0",
                **topic.attributes,
            }
        }

    @operation("TopicArn", "AttributeName", "AttributeValue")
    def set_topic_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params["TopicArn"])
        name, value = params["AttributeName"], params.get("AttributeValue", "")
        _check_attribute(name, value)
        if value:
            topic.attributes[name] = value
        else:
            topic.attributes.pop(name, None)
        return {}

    @operation("NextToken")
    def list_topics(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Topics": [{"TopicArn": arn} for arn in sorted(self.topics)]}

    @operation("TopicArn")
    def delete_topic(self, params: dict[str, Any], principal: str) -> Answer:
        self.topics.pop(params["TopicArn"], None)  # deleting what is not there succeeds
        return {}

    @operation("ResourceArn", "Tags")
    def tag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        self.topic_of(params["ResourceArn"], "ResourceNotFound").tags.update(tag_map(params["Tags"]))
        return {}

    @operation("ResourceArn", "TagKeys")
    def untag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params["ResourceArn"], "ResourceNotFound")
        topic.tags = {k: v for k, v in topic.tags.items() if k not in params["TagKeys"]}
        return {}

    @operation("ResourceArn")
    def list_tags_for_resource(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Tags": tag_list(self.topic_of(params["ResourceArn"], "ResourceNotFound").tags)}

    # -- subscriptions ----------------------------------------------------------------------------------------

    @operation("TopicArn", "Protocol", "Endpoint", "Attributes", "ReturnSubscriptionArn")
    def subscribe(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params["TopicArn"])
        protocol, endpoint = params["Protocol"], params.get("Endpoint", "")
        if protocol not in ("email", "lambda", "sqs"):
            raise NotModelledError(f"the twin delivers to email, lambda and sqs, not to {protocol}")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+" if protocol == "email" else rf"arn:aws:{protocol}:.+", endpoint):
            raise invalid(f"Endpoint Reason: {endpoint!r} is no {protocol} endpoint")
        attributes = dict(params.get("Attributes") or {})
        for name in attributes:
            _check_subscription_attribute(name)
        for present in topic.subscriptions.values():
            if (present.protocol, present.endpoint) == (protocol, endpoint):
                return {"SubscriptionArn": self._shown_arn(present, params)}
        subscription = Subscription(
            f"{topic.arn}:{self.new_id()}",
            topic.arn,
            protocol,
            endpoint,
            attributes,
            self.new_id(),
            protocol == "email",
        )
        topic.subscriptions[subscription.arn] = subscription
        if subscription.pending:
            text = f"You have chosen to subscribe to the topic:\n{topic.arn}\n\nTo confirm: token {subscription.token}"
            self._mail(endpoint, "AWS Notification - Subscription Confirmation", text, topic.arn)
        return {"SubscriptionArn": self._shown_arn(subscription, params)}

    @operation("TopicArn", "Token")
    def confirm_subscription(self, params: dict[str, Any], principal: str) -> Answer:
        for subscription in self.topic_of(params["TopicArn"]).subscriptions.values():
            if subscription.token == params["Token"]:
                subscription.pending = False
                return {"SubscriptionArn": subscription.arn}
        raise invalid("Token")

    def confirm(self, address: str) -> int:
        """A person clicks on every confirmation link in their mailbox; answers how many there were."""
        waiting = [
            s for t in self.topics.values() for s in t.subscriptions.values() if s.pending and s.endpoint == address
        ]
        for subscription in waiting:
            subscription.pending = False
        return len(waiting)

    @operation("SubscriptionArn")
    def get_subscription_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        found = self._subscription(params["SubscriptionArn"])
        return {
            "Attributes": {
                "SubscriptionArn": found.arn,
                "TopicArn": found.topic_arn,
                "Protocol": found.protocol,
                "Endpoint": found.endpoint,
                "Owner": self.cloud.account_id,
                "PendingConfirmation": str(found.pending).lower(),
                "RawMessageDelivery": "false",
                **found.attributes,
            }
        }

    @operation("SubscriptionArn", "AttributeName", "AttributeValue")
    def set_subscription_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        found = self._subscription(params["SubscriptionArn"])
        _check_subscription_attribute(params["AttributeName"])
        if params.get("AttributeValue"):
            found.attributes[params["AttributeName"]] = params["AttributeValue"]
        else:
            found.attributes.pop(params["AttributeName"], None)
        return {}

    @operation("TopicArn", "NextToken")
    def list_subscriptions_by_topic(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params["TopicArn"])
        return {
            "Subscriptions": [
                {
                    "SubscriptionArn": "PendingConfirmation" if s.pending else s.arn,
                    "Owner": self.cloud.account_id,
                    "Protocol": s.protocol,
                    "Endpoint": s.endpoint,
                    "TopicArn": topic.arn,
                }
                for s in topic.subscriptions.values()
            ]
        }

    @operation("SubscriptionArn")
    def unsubscribe(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topics.get(params["SubscriptionArn"].rsplit(":", 1)[0])
        if topic is not None:
            topic.subscriptions.pop(params["SubscriptionArn"], None)
        return {}

    # -- inside -----------------------------------------------------------------------------------------------

    def _mail(self, to: str, subject: str, message: str, topic_arn: str) -> None:
        self.outbox.append(
            {"at": self.clock.now(), "to": to, "subject": subject, "message": message, "topic": topic_arn}
        )

    def _default_policy(self, topic: TopicEntry) -> dict[str, Any]:
        """What a new topic has: its owner's account, no service (a policy of one's own replaces it)."""
        actions = [
            "SNS:GetTopicAttributes", "SNS:SetTopicAttributes", "SNS:AddPermission", "SNS:RemovePermission",
            "SNS:DeleteTopic", "SNS:Subscribe", "SNS:ListSubscriptionsByTopic", "SNS:Publish",
        ]  # fmt: skip
        statement = {
            "Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": actions,
            "Resource": topic.arn, "Condition": {"StringEquals": {"AWS:SourceOwner": self.cloud.account_id}},
        }  # fmt: skip
        return {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}

    def _shown_arn(self, subscription: Subscription, params: dict[str, Any]) -> str:
        hidden = subscription.pending and not params.get("ReturnSubscriptionArn")
        return "pending confirmation" if hidden else subscription.arn

    def topic_of(self, arn: str, code: str = "NotFound") -> TopicEntry:
        if arn not in self.topics:
            raise AwsError(code, "Topic does not exist", 404)
        return self.topics[arn]

    def _subscription(self, arn: str) -> Subscription:
        topic = self.topics.get(arn.rsplit(":", 1)[0])
        if topic is None or arn not in topic.subscriptions:
            raise AwsError("NotFound", "Subscription does not exist", 404)
        return topic.subscriptions[arn]


def _check_attribute(name: str, value: str) -> None:
    if name not in _ATTRIBUTES:
        raise NotModelledError(f"the twin does not model the topic attribute {name}")
    if name == "Policy" and value:
        try:
            statements = json.loads(value)["Statement"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise invalid("Policy Error: not a policy document") from error
        for statement in statements if isinstance(statements, list) else [statements]:
            if not {"Effect", "Principal", "Action", "Resource"} <= set(statement):
                raise invalid("Policy Error: each statement has Effect, Principal, Action and Resource")


def _check_subscription_attribute(name: str) -> None:
    if name not in _SUBSCRIPTION:
        raise NotModelledError(f"the twin does not model the subscription attribute {name}")


def invalid(what: str) -> AwsError:
    return AwsError("InvalidParameter", f"Invalid parameter: {what}")
