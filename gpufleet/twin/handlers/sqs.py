"""SQS queues and their policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .account import Account
from .base import Handler, Inputs, Naming, Outputs, finishing
from .properties import Prop, table

_GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_NUMBERS = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "maxMessageSize": "MaximumMessageSize",
    "delaySeconds": "DelaySeconds",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
}
_TEXTS = {
    "kmsMasterKeyId": "KmsMasterKeyId",
    "policy": "Policy",
    "redrivePolicy": "RedrivePolicy",
    "redriveAllowPolicy": "RedriveAllowPolicy",
}


class Queue(Handler):
    type = "aws:sqs/queue:Queue"
    taggable, naming = True, Naming(limit=80)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "visibilityTimeoutSeconds": Prop(default=30),
            "messageRetentionSeconds": Prop(default=345_600),
            "maxMessageSize": Prop(default=262_144),  # the provider's default; the API's own is 1 MiB since 2025
            "delaySeconds": Prop(default=0),
            "receiveWaitTimeSeconds": Prop(default=0),
            "kmsMasterKeyId": Prop(),
            "kmsDataKeyReusePeriodSeconds": Prop(computed=True),
            "sqsManagedSseEnabled": Prop(computed=True),
            "policy": Prop(kind="json", computed=True),  # may be a resource of its own: absence is no change
            "redrivePolicy": Prop(kind="json", computed=True),
            "redriveAllowPolicy": Prop(kind="json", computed=True),
        }
    )
    outputs = "arn url"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        sqs, defaults = cloud.client("sqs"), {n: p.default for n, p in self.props.items() if p.default is not None}
        attributes = _attributes({**defaults, **inputs}, set(self.props))
        return sqs.create_queue(QueueName=inputs["name"], Attributes=attributes, tags=inputs.get("tags") or {})[
            "QueueUrl"
        ]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        sqs = cloud.client("sqs")
        live = sqs.get_queue_attributes(QueueUrl=identifier, AttributeNames=["All"])["Attributes"]
        return {
            "name": identifier.rsplit("/", 1)[-1],
            **{name: int(live[key]) for name, key in _NUMBERS.items() if live.get(key)},
            **{name: live[key] for name, key in _TEXTS.items() if live.get(key)},
            "sqsManagedSseEnabled": live.get("SqsManagedSseEnabled", "false") == "true",
            "tags": sqs.list_queue_tags(QueueUrl=identifier).get("Tags", {}),
            "arn": live["QueueArn"],
            "url": identifier,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        wanted = {name: news.get(name, self.props[name].default) for name in changed}
        cloud.client("sqs").set_queue_attributes(QueueUrl=identifier, Attributes=_attributes(wanted, changed))

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("sqs").untag_queue(QueueUrl=identifier, TagKeys=gone)
        if new:
            cloud.client("sqs").tag_queue(QueueUrl=identifier, Tags=new)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("sqs").delete_queue(QueueUrl=identifier)


def _attributes(values: Mapping[str, Any], wanted: set[str]) -> dict[str, str]:
    """Queue attributes as SQS takes them: all text."""
    found = {
        key: str(values[name]) for name, key in _NUMBERS.items() if name in wanted and values.get(name) is not None
    }
    for name, key in _TEXTS.items():
        if name in wanted and name in values:
            found[key] = values[name] or ""
    if "sqsManagedSseEnabled" in wanted and values.get("sqsManagedSseEnabled") is not None:
        found["SqsManagedSseEnabled"] = str(values["sqsManagedSseEnabled"]).lower()
    return found


class _QueueAttribute(Handler):
    """One attribute of a queue that is a resource of its own."""

    prop, attribute = "", ""
    delete_first = True
    gone = _GONE

    def make(self, cloud: Account, inputs: Inputs) -> str:
        with finishing(inputs["queueUrl"]):
            self._set(cloud, inputs["queueUrl"], inputs[self.prop])
        return inputs["queueUrl"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        answer = cloud.client("sqs").get_queue_attributes(QueueUrl=identifier, AttributeNames=["All"])
        value = answer.get("Attributes", {}).get(self.attribute)
        return {"queueUrl": identifier, self.prop: value} if value else None

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._set(cloud, identifier, news[self.prop])

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        self._set(cloud, identifier, "")

    def _set(self, cloud: Account, url: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={self.attribute: text})


class QueuePolicy(_QueueAttribute):
    type, prop, attribute = "aws:sqs/queuePolicy:QueuePolicy", "policy", "Policy"
    props = table({"queueUrl": Prop(replace=True), "policy": Prop(kind="json")})


class RedriveAllowPolicy(_QueueAttribute):
    type, prop, attribute = "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy", "redriveAllowPolicy", "RedriveAllowPolicy"
    props = table({"queueUrl": Prop(replace=True), "redriveAllowPolicy": Prop(kind="json")})


class RedrivePolicy(_QueueAttribute):
    type, prop, attribute = "aws:sqs/redrivePolicy:RedrivePolicy", "redrivePolicy", "RedrivePolicy"
    props = table({"queueUrl": Prop(replace=True), "redrivePolicy": Prop(kind="json")})


HANDLERS = (Queue, QueuePolicy, RedriveAllowPolicy, RedrivePolicy)
