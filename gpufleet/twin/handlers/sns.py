"""SNS topics, their policies and subscriptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .account import Account
from .base import Handler, Inputs, Naming, Outputs
from .properties import Prop, as_dict, as_list, table

_GONE = ("NotFound", "NotFoundException")
_TOPIC = {
    "displayName": "DisplayName",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "deliveryPolicy": "DeliveryPolicy",
    "policy": "Policy",
    "signatureVersion": "SignatureVersion",
    "tracingConfig": "TracingConfig",
}


class Topic(Handler):
    type = "aws:sns/topic:Topic"
    taggable, naming = True, Naming(limit=256)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "fifoTopic": Prop(replace=True, default=False),
            "displayName": Prop(),
            "kmsMasterKeyId": Prop(),
            "deliveryPolicy": Prop(kind="json"),
            "policy": Prop(kind="json", computed=True),
            "signatureVersion": Prop(computed=True),
            "tracingConfig": Prop(computed=True),
        }
    )
    outputs = "arn owner"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        attributes = {key: str(inputs[name]) for name, key in _TOPIC.items() if inputs.get(name)}
        if inputs.get("fifoTopic"):
            attributes["FifoTopic"] = "true"
        tags = {"Tags": as_list(inputs["tags"])} if inputs.get("tags") else {}
        return cloud.client("sns").create_topic(Name=inputs["name"], Attributes=attributes, **tags)["TopicArn"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        sns = cloud.client("sns")
        live = sns.get_topic_attributes(TopicArn=identifier)["Attributes"]
        found: Outputs = {
            "name": identifier.rsplit(":", 1)[-1],
            "fifoTopic": live.get("FifoTopic", "false") == "true",
            **{name: live[key] for name, key in _TOPIC.items() if live.get(key)},
            "tags": as_dict(sns.list_tags_for_resource(ResourceArn=identifier).get("Tags")),
            "arn": identifier,
            "owner": live.get("Owner"),
        }
        if found.get("signatureVersion"):
            found["signatureVersion"] = int(found["signatureVersion"])
        return found

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        for name in sorted(changed):
            value = str(news.get(name) or "")
            cloud.client("sns").set_topic_attributes(
                TopicArn=identifier, AttributeName=_TOPIC[name], AttributeValue=value
            )

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("sns").untag_resource(ResourceArn=identifier, TagKeys=gone)
        if new:
            cloud.client("sns").tag_resource(ResourceArn=identifier, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("sns").delete_topic(TopicArn=identifier)


class TopicPolicy(Handler):
    """Deleting it puts SNS's own default policy back: the owner's account may do everything."""

    type = "aws:sns/topicPolicy:TopicPolicy"
    delete_first = True
    gone = _GONE
    props = table({"arn": Prop(replace=True), "policy": Prop(kind="json")})
    outputs = "owner"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        self._set(cloud, inputs["arn"], inputs["policy"])
        return inputs["arn"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        live = cloud.client("sns").get_topic_attributes(TopicArn=identifier)["Attributes"]
        if not live.get("Policy") or json.loads(live["Policy"]) == json.loads(_default_policy(cloud, identifier)):
            return None
        return {"arn": identifier, "policy": live["Policy"], "owner": live.get("Owner")}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._set(cloud, identifier, news["policy"])

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        self._set(cloud, identifier, _default_policy(cloud, identifier))

    @staticmethod
    def _set(cloud: Account, arn: str, policy: str) -> None:
        cloud.client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)


def _default_policy(cloud: Account, arn: str) -> str:
    """As the Terraform provider restores it on deletion."""
    actions = [
        "GetTopicAttributes", "SetTopicAttributes", "AddPermission", "RemovePermission", "DeleteTopic", "Subscribe",
        "ListSubscriptionsByTopic", "Publish", "Receive",
    ]  # fmt: skip
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"SNS:{action}" for action in actions],
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceOwner": cloud.account_id}},
    }
    return json.dumps({"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]})


_SUBSCRIPTION = {
    "filterPolicy": "FilterPolicy",
    "filterPolicyScope": "FilterPolicyScope",
    "rawMessageDelivery": "RawMessageDelivery",
    "redrivePolicy": "RedrivePolicy",
    "deliveryPolicy": "DeliveryPolicy",
}


class TopicSubscription(Handler):
    type = "aws:sns/topicSubscription:TopicSubscription"
    delete_first = True
    gone = _GONE
    props = table(
        {
            "topic": Prop(replace=True),
            "protocol": Prop(replace=True),
            "endpoint": Prop(replace=True),
            "filterPolicy": Prop(kind="json"),
            "filterPolicyScope": Prop(computed=True),
            "rawMessageDelivery": Prop(default=False),
            "redrivePolicy": Prop(kind="json"),
            "deliveryPolicy": Prop(kind="json"),
            "confirmationTimeoutInMinutes": Prop(
                kept="The twin confirms a subscription, or leaves it pending, at once."
            ),
            "endpointAutoConfirms": Prop(kept="It is for HTTP endpoints, and the twin delivers to none."),
        }
    )
    outputs = "arn ownerId pendingConfirmation confirmationWasAuthenticated"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        attributes = {key: _text(inputs[name]) for name, key in _SUBSCRIPTION.items() if inputs.get(name)}
        answer = cloud.client("sns").subscribe(
            TopicArn=inputs["topic"],
            Protocol=inputs["protocol"],
            Endpoint=inputs["endpoint"],
            Attributes=attributes,
            ReturnSubscriptionArn=True,
        )
        return answer["SubscriptionArn"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        live = cloud.client("sns").get_subscription_attributes(SubscriptionArn=identifier)["Attributes"]
        found: Outputs = {
            "topic": live["TopicArn"],
            "protocol": live["Protocol"],
            "endpoint": live["Endpoint"],
            **{name: live[key] for name, key in _SUBSCRIPTION.items() if live.get(key)},
            "arn": identifier,
            "ownerId": live.get("Owner"),
            "pendingConfirmation": live.get("PendingConfirmation", "false") == "true",
            "confirmationWasAuthenticated": live.get("ConfirmationWasAuthenticated", "false") == "true",
        }
        found["rawMessageDelivery"] = str(found.get("rawMessageDelivery", "false")).lower() == "true"
        return found

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        for name in sorted(changed):
            cloud.client("sns").set_subscription_attributes(
                SubscriptionArn=identifier,
                AttributeName=_SUBSCRIPTION[name],
                AttributeValue=_text(news.get(name, "false" if name == "rawMessageDelivery" else "")),
            )

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("sns").unsubscribe(SubscriptionArn=identifier)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


HANDLERS = (Topic, TopicPolicy, TopicSubscription)
