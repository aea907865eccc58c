"""EventBridge: rules on the default bus, on a schedule or on service events, with Lambda targets.

Knobs: `drop_probability` and `double_probability` (schedules are at least once, and now and then not at all),
`jitter_s`; `loss_probability` of events of AWS services (EC2's are sent on a best-effort basis).
`undelivered` lists what no target accepted.
Sources: EventBridge user guide, "Creating a rule that runs on a schedule" (a schedule fires somewhere within its
minute), "Using resource-based policies" (Lambda targets need a permission for events.amazonaws.com).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..clock import Timer
from ..errors import AwsError, NotModelledError
from .model import Answer, Model, iso, operation, refuse_unknown, tag_list, tag_map
from .schedules import Cron, Rate, matches, parse_pattern, parse_schedule

if TYPE_CHECKING:
    from ..cloud import Cloud

SERVICE = "events.amazonaws.com"
_TARGET = {"Id", "Arn", "Input", "RetryPolicy", "DeadLetterConfig"}


@dataclass
class RuleEntry:
    name: str
    arn: str
    settings: dict[str, Any]  # ScheduleExpression, EventPattern, State, Description, RoleArn
    random: random.Random
    schedule: Rate | Cron | None = None
    pattern: dict[str, Any] | None = None
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    phase_s: float = 0.0  # where in its minute the rule fires: its own, for as long as it lives
    timer: Timer | None = None

    @property
    def enabled(self) -> bool:
        return self.settings["State"] == "ENABLED"


class EventsModel(Model):
    service = "events"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.rules: dict[str, RuleEntry] = {}
        self.drop_probability = 0.005
        self.double_probability = 0.001
        self.jitter_s = 1.0
        self.loss_probability = 0.0
        self._chances = cloud.chances("service events")
        self.undelivered: list[dict[str, Any]] = []
        self.publish: Callable[[str, str, dict[str, str], float], None] | None = None  # CloudWatch, when there is one

    # -- rules ------------------------------------------------------------------------------------------------

    @operation("Name", "ScheduleExpression", "EventPattern", "State", "Description", "RoleArn", "Tags", "EventBusName")
    def put_rule(self, params: dict[str, Any], principal: str) -> Answer:
        _default_bus(params)
        name = params["Name"]
        if not re.fullmatch(r"[.\-_A-Za-z0-9]{1,64}", name):
            raise AwsError(
                "ValidationException", f"Value '{name}' at 'name' failed to satisfy constraint: [\\.\\-_A-Za-z0-9]+"
            )
        schedule, pattern = params.get("ScheduleExpression"), params.get("EventPattern")
        if not schedule and not pattern:
            raise AwsError("ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if params.get("State", "ENABLED") not in ("ENABLED", "DISABLED"):
            raise NotModelledError(f"the twin does not model the rule state {params['State']}")
        parsed = parse_schedule(schedule) if schedule else None
        wanted = parse_pattern(pattern) if pattern else None
        present = self.rules.get(name)
        chances = self.cloud.chances(f"rule {name}")
        rule = present or RuleEntry(name, self.arn(f"rule/{name}"), {}, chances, phase_s=chances.uniform(0, 59))
        kept = ("ScheduleExpression", "EventPattern", "Description", "RoleArn")
        rule.settings = {"State": "ENABLED", **{k: params[k] for k in (*kept, "State") if k in params}}
        rule.schedule, rule.pattern = parsed, wanted
        if present is None:  # "Tags" of an existing rule are left alone (API reference of PutRule)
            rule.tags = tag_map(params.get("Tags"))
        self.rules[name] = rule
        self._restart(rule)
        return {"RuleArn": rule.arn}

    @operation("Name", "EventBusName")
    def describe_rule(self, params: dict[str, Any], principal: str) -> Answer:
        return self._shown(self._rule(params["Name"], params))

    @operation("NamePrefix", "EventBusName", "Limit")
    def list_rules(self, params: dict[str, Any], principal: str) -> Answer:
        prefix = params.get("NamePrefix", "")
        return {"Rules": [self._shown(rule) for name, rule in sorted(self.rules.items()) if name.startswith(prefix)]}

    @operation("Name", "EventBusName")
    def enable_rule(self, params: dict[str, Any], principal: str) -> Answer:
        return self._switch(self._rule(params["Name"], params), "ENABLED")

    @operation("Name", "EventBusName")
    def disable_rule(self, params: dict[str, Any], principal: str) -> Answer:
        return self._switch(self._rule(params["Name"], params), "DISABLED")

    @operation("Name", "EventBusName", "Force")
    def delete_rule(self, params: dict[str, Any], principal: str) -> Answer:
        _default_bus(params)
        rule = self.rules.get(params["Name"])
        if rule is None:
            return {}  # deleting what is not there succeeds
        if rule.targets:  # API reference of DeleteRule: "Before you can delete the rule, you must remove all targets"
            raise AwsError("ValidationException", "Rule can't be deleted since it has targets.")
        self._stop(rule)
        del self.rules[rule.name]
        return {}

    # -- targets ----------------------------------------------------------------------------------------------

    @operation("Rule", "EventBusName", "Targets")
    def put_targets(self, params: dict[str, Any], principal: str) -> Answer:
        rule = self._rule(params["Rule"], params)
        for target in params["Targets"]:
            refuse_unknown("events:PutTargets", target, _TARGET)
            if ":lambda:" not in target["Arn"]:
                raise NotModelledError(f"the twin delivers events to Lambda functions, not to {target['Arn']}")
            if "Input" in target:
                _check_json(target["Input"])
        if len({*rule.targets, *(t["Id"] for t in params["Targets"])}) > 5:  # quota: 5 targets a rule
            raise AwsError("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
        rule.targets.update({target["Id"]: dict(target) for target in params["Targets"]})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    @operation("Rule", "EventBusName", "Limit")
    def list_targets_by_rule(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Targets": list(self._rule(params["Rule"], params).targets.values())}

    @operation("TargetArn", "EventBusName", "Limit")
    def list_rule_names_by_target(self, params: dict[str, Any], principal: str) -> Answer:
        arn = params["TargetArn"]
        return {
            "RuleNames": [n for n, r in sorted(self.rules.items()) if arn in (t["Arn"] for t in r.targets.values())]
        }

    @operation("Rule", "EventBusName", "Ids", "Force")
    def remove_targets(self, params: dict[str, Any], principal: str) -> Answer:
        rule = self._rule(params["Rule"], params)
        missing = [each for each in params["Ids"] if rule.targets.pop(each, None) is None]
        entries = [{"TargetId": each, "ErrorCode": "ResourceNotFoundException"} for each in missing]
        return {"FailedEntryCount": len(entries), "FailedEntries": entries}

    # -- tags -------------------------------------------------------------------------------------------------

    @operation("ResourceARN", "Tags")
    def tag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        self._tagged(params).tags.update(tag_map(params["Tags"]))
        return {}

    @operation("ResourceARN", "TagKeys")
    def untag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        rule = self._tagged(params)
        rule.tags = {k: v for k, v in rule.tags.items() if k not in params["TagKeys"]}
        return {}

    @operation("ResourceARN")
    def list_tags_for_resource(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Tags": tag_list(self._tagged(params).tags)}

    # -- events -----------------------------------------------------------------------------------------------

    def emit(self, source: str, detail_type: str, detail: dict[str, Any], resources: list[str] | None = None) -> None:
        """An event of an AWS service (`aws.ec2`, ...): goes to every enabled rule whose pattern matches."""
        event = self._event(source, detail_type, detail, resources or [], self.clock.now())
        if self._chances.random() < self.loss_probability:
            return
        for rule in list(self.rules.values()):
            if rule.enabled and rule.pattern is not None and matches(rule.pattern, event):
                self._deliver(rule, event)

    def _event(self, source: str, kind: str, detail: dict[str, Any], resources: list[str], at: float) -> dict[str, Any]:
        return {
            "version": "0", "id": self.new_id(), "detail-type": kind, "source": source,
            "account": self.cloud.account_id, "time": iso(at)[:19] + "Z", "region": self.cloud.region,
            "resources": resources, "detail": detail,
        }  # fmt: skip

    def _deliver(self, rule: RuleEntry, event: dict[str, Any]) -> None:
        self._metric("TriggeredRules", rule)
        functions = self.cloud.service("lambda")
        for target in list(rule.targets.values()):
            self._metric("Invocations", rule)
            payload = json.loads(target["Input"]) if "Input" in target else event
            try:
                functions.invoke_as_service(SERVICE, rule.arn, target["Arn"], payload)
            except AwsError as error:
                self._metric("FailedInvocations", rule)
                self._undelivered(rule, target, payload, error)

    def _undelivered(self, rule: RuleEntry, target: dict[str, Any], payload: Any, error: AwsError) -> None:
        self.undelivered.append({
            "at": self.clock.now(), "rule": rule.name, "target": target["Arn"], "event": payload,
            "code": error.code, "message": error.message,
        })  # fmt: skip
        letters = target.get("DeadLetterConfig", {}).get("Arn")
        if letters:
            try:
                self.cloud.service("sqs").send_as_service(SERVICE, rule.arn, letters, json.dumps(payload))
            except AwsError:
                self._metric("InvocationsFailedToBeSentToDlq", rule)
            else:
                self._metric("InvocationsSentToDlq", rule)

    # -- schedules --------------------------------------------------------------------------------------------

    def _restart(self, rule: RuleEntry) -> None:
        self._stop(rule)
        if not rule.enabled or rule.schedule is None:
            return
        now = self.clock.now()
        if isinstance(rule.schedule, Rate):
            start = now - now % 60 + rule.phase_s
            self._arm(rule, start if start > now else start + 60)
        else:
            self._arm_cron(rule, now)

    def _arm(self, rule: RuleEntry, due: float) -> None:
        rule.timer = self.clock.at(due + rule.random.uniform(0, self.jitter_s), self._fire, rule, due)

    def _arm_cron(self, rule: RuleEntry, after: float) -> None:
        assert isinstance(rule.schedule, Cron)  # noqa: S101 - narrows for the type checker
        due = rule.schedule.next(after)
        if due is not None:
            self._arm(rule, due + rule.phase_s)

    def _fire(self, rule: RuleEntry, due: float) -> None:
        if isinstance(rule.schedule, Rate):
            self._arm(rule, due + rule.schedule.period_s)
        else:
            self._arm_cron(rule, due)
        if rule.random.random() < self.drop_probability:
            return
        event = self._event("aws.events", "Scheduled Event", {}, [rule.arn], due)
        self._deliver(rule, event)
        if rule.random.random() < self.double_probability:
            self.clock.after(rule.random.uniform(0.1, 5), self._deliver, rule, event)

    def _stop(self, rule: RuleEntry) -> None:
        if rule.timer is not None:
            rule.timer.cancel()
            rule.timer = None

    # -- inside -----------------------------------------------------------------------------------------------

    def _switch(self, rule: RuleEntry, state: str) -> Answer:
        if rule.settings["State"] != state:
            rule.settings["State"] = state
            self._restart(rule)
        return {}

    def _shown(self, rule: RuleEntry) -> Answer:
        return {"Name": rule.name, "Arn": rule.arn, "EventBusName": "default", **rule.settings}

    def _rule(self, name: str, params: dict[str, Any]) -> RuleEntry:
        _default_bus(params)
        if name not in self.rules:
            raise AwsError("ResourceNotFoundException", f"Rule {name} does not exist on EventBus default.")
        return self.rules[name]

    def _tagged(self, params: dict[str, Any]) -> RuleEntry:
        return self._rule(params["ResourceARN"].rsplit("/", 1)[-1], {})

    def _metric(self, name: str, rule: RuleEntry) -> None:
        if self.publish is not None:
            self.publish("AWS/Events", name, {"RuleName": rule.name}, 1.0)


def _default_bus(params: dict[str, Any]) -> None:
    if params.get("EventBusName", "default") != "default":
        raise NotModelledError(f"the twin has the default event bus, not {params['EventBusName']}")


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise AwsError("ValidationException", "Invalid Input for target: not JSON text.") from error
