"""EventBridge rules and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Handler, Inputs, Naming, Outputs, split_import
from .properties import Prop, as_dict, as_list, block, from_api, names, table, to_api

_GONE = ("ResourceNotFoundException",)
_DEFAULT_BUS = "default"


def _bus(inputs: Mapping[str, Any]) -> dict[str, str]:
    name = inputs.get("eventBusName", _DEFAULT_BUS)
    return {} if name == _DEFAULT_BUS else {"EventBusName": name}


_RULE = {
    **names("scheduleExpression description roleArn"),
    "eventPattern": Prop(kind="json"),
    "state": Prop(default="ENABLED"),
}


class EventRule(Handler):
    type = "aws:cloudwatch/eventRule:EventRule"
    taggable, naming = True, Naming(limit=64)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "eventBusName": Prop(replace=True, default=_DEFAULT_BUS),
            "forceDestroy": Prop(default=False, kept=STEERS_DELETION),
            **_RULE,
        }
    )
    outputs = "arn"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        self._put(cloud, inputs, {"Tags": as_list(inputs["tags"])} if inputs.get("tags") else {})
        bus = inputs.get("eventBusName", _DEFAULT_BUS)
        return inputs["name"] if bus == _DEFAULT_BUS else f"{bus}/{inputs['name']}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        events, (bus, name) = cloud.client("events"), _split(identifier)
        live = events.describe_rule(Name=name, **_bus({"eventBusName": bus}))
        return {
            "name": name,
            "eventBusName": bus,
            **from_api(_RULE, live),
            "tags": as_dict(events.list_tags_for_resource(ResourceARN=live["Arn"])["Tags"]),
            "arn": live["Arn"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._put(cloud, news, {})

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        events, (bus, name) = cloud.client("events"), _split(identifier)
        arn = events.describe_rule(Name=name, **_bus({"eventBusName": bus}))["Arn"]
        if gone:
            events.untag_resource(ResourceARN=arn, TagKeys=gone)
        if new:
            events.tag_resource(ResourceARN=arn, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        events, (bus, name) = cloud.client("events"), _split(identifier)
        where = _bus({"eventBusName": bus})
        if outputs.get("forceDestroy"):
            targets = [t["Id"] for t in events.list_targets_by_rule(Rule=name, **where)["Targets"]]
            if targets:
                events.remove_targets(Rule=name, Ids=targets, **where)
        events.delete_rule(Name=name, **where)

    def _put(self, cloud: Account, inputs: Inputs, more: dict[str, Any]) -> None:
        request = to_api(_RULE, {"state": "ENABLED", **inputs})
        cloud.client("events").put_rule(Name=inputs["name"], **_bus(inputs), **request, **more)


def _split(identifier: str) -> tuple[str, str]:
    bus, _, name = identifier.rpartition("/")
    return bus or _DEFAULT_BUS, name


_TARGET = {
    **names("arn input inputPath roleArn"),
    "inputTransformer": block({"inputPaths": Prop("InputPathsMap"), "inputTemplate": Prop()}),
    "deadLetterConfig": block(names("arn")),
    "retryPolicy": block(names("maximumEventAgeInSeconds maximumRetryAttempts", computed=True), computed=True),
    "sqsTarget": block(names("messageGroupId"), api="SqsParameters"),
}


class EventTarget(Handler):
    type = "aws:cloudwatch/eventTarget:EventTarget"
    naming = Naming("targetId", None, limit=64)
    delete_first = True
    gone = _GONE
    props = table(
        {
            "rule": Prop(replace=True),
            "eventBusName": Prop(replace=True, default=_DEFAULT_BUS),
            "targetId": Prop(replace=True),
            **_TARGET,
        }
    )

    def make(self, cloud: Account, inputs: Inputs) -> str:
        self._put(cloud, inputs)
        return self._id(inputs)

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        whole = f"{_DEFAULT_BUS}/{identifier}" if identifier.count("/") == 1 else identifier
        bus, rule, target = split_import(self.type, whole, "/", "[BUS/]RULE/TARGET")
        inputs = {"eventBusName": bus, "rule": rule, "targetId": target}
        return self._id(inputs), inputs

    @staticmethod
    def _id(inputs: Mapping[str, Any]) -> str:
        bus = inputs.get("eventBusName", _DEFAULT_BUS)
        return "-".join([*([] if bus == _DEFAULT_BUS else [bus]), inputs["rule"], inputs["targetId"]])

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        where = {key: inputs[key] for key in ("rule", "targetId")}
        answer = cloud.client("events").list_targets_by_rule(Rule=inputs["rule"], **_bus(inputs))
        for target in answer["Targets"]:
            if target["Id"] == inputs["targetId"]:
                return {**where, "eventBusName": inputs.get("eventBusName", _DEFAULT_BUS), **from_api(_TARGET, target)}
        return None

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._put(cloud, news)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        answer = cloud.client("events").remove_targets(Rule=outputs["rule"], Ids=[outputs["targetId"]], **_bus(outputs))
        _refuse_failed(answer)

    def _put(self, cloud: Account, inputs: Inputs) -> None:
        target = {"Id": inputs["targetId"], **to_api(_TARGET, inputs)}
        _refuse_failed(cloud.client("events").put_targets(Rule=inputs["rule"], Targets=[target], **_bus(inputs)))


def _refuse_failed(answer: Mapping[str, Any]) -> None:
    """EventBridge reports per target with a success status: a failed entry is the error."""
    for entry in answer.get("FailedEntries", []):
        raise AwsError(entry.get("ErrorCode", "InternalException"), entry.get("ErrorMessage", ""))


HANDLERS = (EventRule, EventTarget)
