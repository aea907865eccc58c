"""CloudWatch: metrics, statistics, and alarms that are evaluated every minute and act.

Services publish through `publish`; `collectors` are called at the end of every minute, before the alarms, with the
minute's start. `history` keeps every change of state, `failed_actions` what an alarm could not do.
`action_handlers` maps the beginning of an action's ARN to the callable that carries it out (topics: built in). An
Auto Scaling action is called again every minute while its alarm stays in ALARM, others at changes only (CloudWatch user
guide, "Alarm actions").
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import AwsError, NotModelledError
from .alarm_messages import ACTIONS, AlarmEntry, alarm_message
from .alarms import (
    check_alarm,
    check_period,
    check_queries,
    check_statistic,
    datapoints,
    looks_back_s,
    next_state,
    query_series,
)
from .metrics import MetricStore, Point, key_of
from .model import Answer, Model, operation, refuse_unknown, tag_list, tag_map, unix

if TYPE_CHECKING:
    from ..cloud import Cloud

SERVICE = "cloudwatch.amazonaws.com"
REPEATING = "arn:aws:autoscaling:"
_ALARM = {
    "AlarmName", "AlarmDescription", "ActionsEnabled", *ACTIONS.values(), "MetricName", "Namespace", "Statistic",
    "Dimensions", "Period", "Unit", "EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator",
    "TreatMissingData", "Metrics",
}  # fmt: skip
ActionHandler = Callable[[str, str, dict[str, Any]], None]  # (action's ARN, alarm's ARN, message)


class CloudWatchModel(Model):
    service = "cloudwatch"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.store = MetricStore()
        self.alarms: dict[str, AlarmEntry] = {}
        self.collectors: list[Callable[[float], None]] = []
        self.action_handlers: dict[str, ActionHandler] = {"arn:aws:sns:": self._notify}
        self.history: list[dict[str, Any]] = []
        self.failed_actions: list[dict[str, Any]] = []
        cloud.on_forget.append(self._forget)
        self.clock.at(self.clock.now() // 60 * 60 + 60, self._minute)

    # -- metrics ----------------------------------------------------------------------------------------------

    def publish(
        self, namespace: str, name: str, dimensions: dict[str, str], value: float, at: float | None = None
    ) -> None:
        """One value of a metric, at `at` unix seconds (default: now)."""
        moment = self.clock.now() if at is None else at
        self.store.put(key_of(namespace, name, dimensions), moment, Point(value, 1, value, value))

    def latest(self, namespace: str, name: str, dimensions: dict[str, str]) -> float | None:
        """The average of the newest minute that has data (for people and tests)."""
        points = self.store.series.get(key_of(namespace, name, dimensions))
        return points[max(points)].statistic("Average") if points else None

    @operation("Namespace", "MetricData")
    def put_metric_data(self, params: dict[str, Any], principal: str) -> Answer:
        if params["Namespace"].startswith("AWS/"):  # API reference: "can't begin with AWS/"
            raise AwsError("InvalidParameterValue", "The value AWS/ for parameter Namespace is reserved.")
        for datum in params["MetricData"]:
            known = {"MetricName", "Dimensions", "Timestamp", "Value", "StatisticValues", "Unit", "StorageResolution"}
            refuse_unknown("cloudwatch:PutMetricData", datum, known)
            if datum.get("StorageResolution", 60) != 60:
                raise NotModelledError("the twin keeps one-minute points, not StorageResolution 1")
            if len(datum.get("Dimensions", [])) > 30:  # "Up to 30 dimensions"
                raise AwsError(
                    "InvalidParameterValue", "The collection MetricData.Dimensions must have at most 30 members."
                )
            if ("Value" in datum) == ("StatisticValues" in datum):
                text = "Exactly one of Value and StatisticValues must be given for " + datum["MetricName"]
                raise AwsError("InvalidParameterCombination", text)
            self._put(params["Namespace"], datum)
        return {}

    def _put(self, namespace: str, datum: dict[str, Any]) -> None:
        at = unix(datum["Timestamp"]) if "Timestamp" in datum else self.clock.now()
        if not -14 * 86_400 <= at - self.clock.now() <= 7200:  # two weeks back, two hours ahead
            raise AwsError("InvalidParameterValue", f"The value {at} for parameter Timestamp is out of range.")
        dimensions = {d["Name"]: d["Value"] for d in datum.get("Dimensions", [])}
        value = datum.get("Value")
        if value is not None:
            point = Point(value, 1, value, value)
        else:
            s = datum["StatisticValues"]
            point = Point(s["Sum"], s["SampleCount"], s["Minimum"], s["Maximum"])
        self.store.put(key_of(namespace, datum["MetricName"], dimensions), at, point)

    @operation("Namespace", "MetricName", "Dimensions", "StartTime", "EndTime", "Period", "Statistics")
    def get_metric_statistics(self, params: dict[str, Any], principal: str) -> Answer:
        check_period(params["Period"])
        start, end = unix(params["StartTime"]) // 60 * 60, unix(params["EndTime"])
        if end <= start:
            raise AwsError("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
        dimensions = {d["Name"]: d["Value"] for d in params.get("Dimensions", [])}
        key = key_of(params["Namespace"], params["MetricName"], dimensions)
        found: dict[float, dict[str, Any]] = {}
        for statistic in params.get("Statistics") or []:
            check_statistic(statistic)
            for at, value in self.store.read(key, statistic, params["Period"], start, end).items():
                found.setdefault(at, {"Timestamp": _utc(at), "Unit": "None"})[statistic] = value
        return {"Label": params["MetricName"], "Datapoints": list(found.values())}

    @operation("MetricDataQueries", "StartTime", "EndTime", "ScanBy")
    def get_metric_data(self, params: dict[str, Any], principal: str) -> Answer:
        queries = params["MetricDataQueries"]
        check_queries(queries)
        start, end = unix(params["StartTime"]) // 60 * 60, unix(params["EndTime"])
        series = query_series(queries, self.store, None, start, end)
        newest_first = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        results = []
        for query in queries:
            if query.get("ReturnData", True):
                points = sorted(series[query["Id"]].items(), reverse=newest_first)
                results.append({
                    "Id": query["Id"], "Label": query.get("Label", query["Id"]), "StatusCode": "Complete",
                    "Timestamps": [_utc(at) for at, _ in points], "Values": [value for _, value in points],
                })  # fmt: skip
        return {"MetricDataResults": results, "Messages": []}

    # -- alarms -----------------------------------------------------------------------------------------------

    @operation(*_ALARM, "Tags")
    def put_metric_alarm(self, params: dict[str, Any], principal: str) -> Answer:
        settings = {k: v for k, v in params.items() if k in _ALARM}
        check_alarm(settings)
        for actions in ACTIONS.values():
            for arn in settings.get(actions, []):
                self._handler(arn)
        name = settings["AlarmName"]
        present = self.alarms.get(name)
        defaults = {"ActionsEnabled": True, **{actions: [] for actions in ACTIONS.values()}}
        if present is not None:  # tags of an existing alarm are left alone (API reference of PutMetricAlarm)
            present.settings, present.configured = {**defaults, **settings}, self.clock.now()
        else:
            tags = tag_map(params.get("Tags"))
            self.alarms[name] = AlarmEntry(
                self.arn(f"alarm:{name}"), {**defaults, **settings}, tags, self.clock.now(), changed=self.clock.now()
            )
        return {}

    @operation("AlarmNames", "AlarmNamePrefix", "AlarmTypes", "StateValue", "MaxRecords")
    def describe_alarms(self, params: dict[str, Any], principal: str) -> Answer:
        names, prefix, state = params.get("AlarmNames"), params.get("AlarmNamePrefix", ""), params.get("StateValue")
        found = [
            self._shown(alarm)
            for name, alarm in sorted(self.alarms.items())
            if (names is None or name in names) and name.startswith(prefix) and state in (None, alarm.state)
        ]
        return {"MetricAlarms": found, "CompositeAlarms": []}

    @operation("AlarmNames")
    def delete_alarms(self, params: dict[str, Any], principal: str) -> Answer:
        for name in params["AlarmNames"]:
            self.alarms.pop(name, None)
        return {}

    @operation("AlarmNames")
    def enable_alarm_actions(self, params: dict[str, Any], principal: str) -> Answer:
        return self._switch(params["AlarmNames"], on=True)

    @operation("AlarmNames")
    def disable_alarm_actions(self, params: dict[str, Any], principal: str) -> Answer:
        return self._switch(params["AlarmNames"], on=False)

    @operation("AlarmName", "StateValue", "StateReason", "StateReasonData")
    def set_alarm_state(self, params: dict[str, Any], principal: str) -> Answer:
        if params["AlarmName"] not in self.alarms:
            raise AwsError("ResourceNotFound", f"Unknown alarm {params['AlarmName']}", 404)
        self._change(self.alarms[params["AlarmName"]], params["StateValue"], params["StateReason"])
        return {}

    @operation("AlarmName", "HistoryItemType", "MaxRecords")
    def describe_alarm_history(self, params: dict[str, Any], principal: str) -> Answer:
        name = params.get("AlarmName")
        items = [
            {
                "AlarmName": each["alarm"], "AlarmType": "MetricAlarm", "Timestamp": _utc(each["at"]),
                "HistoryItemType": "StateUpdate",
                "HistorySummary": f"Alarm updated from {each['old']} to {each['new']}",
            }
            for each in reversed(self.history)
            if name in (None, each["alarm"])
        ]  # fmt: skip
        return {"AlarmHistoryItems": items}

    @operation("ResourceARN", "Tags")
    def tag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        self._tagged(params).tags.update(tag_map(params["Tags"]))
        return {}

    @operation("ResourceARN", "TagKeys")
    def untag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        alarm = self._tagged(params)
        alarm.tags = {k: v for k, v in alarm.tags.items() if k not in params["TagKeys"]}
        return {}

    @operation("ResourceARN")
    def list_tags_for_resource(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Tags": tag_list(self._tagged(params).tags)}

    # -- every minute -----------------------------------------------------------------------------------------

    def _minute(self) -> None:
        now = self.clock.now()
        for collect in self.collectors:
            collect(now - 60)
        for alarm in list(self.alarms.values()):
            alarm.points = datapoints(alarm.settings, self.store, now)
            state = next_state(alarm.settings, alarm.points, alarm.state)
            if state != alarm.state:
                self._change(alarm, state, self._why(alarm))
            elif state == "ALARM":
                self._act(alarm, "ALARM", [a for a in alarm.settings["AlarmActions"] if a.startswith(REPEATING)])
        self.clock.at(now // 60 * 60 + 60, self._minute)

    def _why(self, alarm: AlarmEntry) -> str:
        values = [value for value in alarm.points if value is not None][-alarm.settings["EvaluationPeriods"] :]
        if not values:
            return "Insufficient Data: no datapoints were received"
        compare, threshold = alarm.settings["ComparisonOperator"], alarm.settings["Threshold"]
        return f"Threshold Crossed: datapoints {values} checked against {compare} {threshold}"

    def _change(self, alarm: AlarmEntry, state: str, reason: str) -> None:
        old, alarm.state, alarm.reason, alarm.changed = alarm.state, state, reason, self.clock.now()
        name = alarm.settings["AlarmName"]
        self.history.append({"at": self.clock.now(), "alarm": name, "old": old, "new": state, "reason": reason})
        if old != state:
            self._act(alarm, old, alarm.settings[ACTIONS[state]])

    def _act(self, alarm: AlarmEntry, old: str, actions: list[str]) -> None:
        if not alarm.settings["ActionsEnabled"]:
            return
        for arn in actions:
            try:
                self._handler(arn)(arn, alarm.arn, alarm_message(self.cloud, alarm, old))
            except AwsError as error:
                self.failed_actions.append({
                    "at": self.clock.now(), "alarm": alarm.settings["AlarmName"], "action": arn,
                    "code": error.code, "message": error.message,
                })  # fmt: skip

    def _notify(self, topic_arn: str, alarm_arn: str, message: dict[str, Any]) -> None:
        subject = f'{message["NewStateValue"]}: "{message["AlarmName"]}" in {self.cloud.region}'[:100]
        self.cloud.service("sns").publish_as_service(SERVICE, alarm_arn, topic_arn, subject, json.dumps(message))

    def _handler(self, arn: str) -> ActionHandler:
        for start, handler in self.action_handlers.items():
            if arn.startswith(start):
                return handler
        raise NotModelledError(f"the twin does not model the alarm action {arn}")

    # -- inside -----------------------------------------------------------------------------------------------

    def _forget(self, oldest: float) -> None:
        """Points that an alarm still looks at stay."""
        looked_at = max((looks_back_s(alarm.settings) for alarm in self.alarms.values()), default=0.0)
        self.store.forget(min(oldest, self.clock.now() - looked_at))

    def _switch(self, names: list[str], *, on: bool) -> Answer:
        for name in names:
            if name in self.alarms:
                self.alarms[name].settings["ActionsEnabled"] = on
        return {}

    def _tagged(self, params: dict[str, Any]) -> AlarmEntry:
        name = params["ResourceARN"].split(":", 6)[-1]
        if name not in self.alarms:
            raise AwsError("ResourceNotFoundException", f"Unknown alarm {name}", 404)
        return self.alarms[name]

    def _shown(self, alarm: AlarmEntry) -> Answer:
        return {
            **alarm.settings,
            "AlarmArn": alarm.arn,
            "StateValue": alarm.state,
            "StateReason": alarm.reason,
            "StateUpdatedTimestamp": _utc(alarm.changed),
            "AlarmConfigurationUpdatedTimestamp": _utc(alarm.configured),
        }


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
