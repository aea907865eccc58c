"""CloudWatch: log groups and metric alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Handler, Inputs, Naming, Outputs, finishing
from .properties import Prop, as_dict, as_list, block, blocks, from_api, names, table, to_api

# CloudWatch Logs API reference, PutRetentionPolicy.
_RETENTION = {
    0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}  # fmt: skip


class LogGroup(Handler):
    type = "aws:cloudwatch/logGroup:LogGroup"
    taggable, naming = True, Naming(limit=512)
    gone = ("ResourceNotFoundException",)
    props = table(
        {
            "name": Prop(replace=True),
            "logGroupClass": Prop(replace=True, computed=True),
            "retentionInDays": Prop(default=0),
            "skipDestroy": Prop(default=False, kept=STEERS_DELETION),
        }
    )
    outputs = "arn"

    def rules(self, inputs: Inputs) -> None:
        if inputs.get("retentionInDays", 0) not in _RETENTION:
            raise AwsError(
                "InvalidParameterException", f"retentionInDays {inputs['retentionInDays']} is no valid value"
            )

    def make(self, cloud: Account, inputs: Inputs) -> str:
        logs, name = cloud.client("logs"), inputs["name"]
        more = {key: inputs[key] for key in ("logGroupClass",) if inputs.get(key)}
        logs.create_log_group(logGroupName=name, **({"tags": inputs["tags"]} if inputs.get("tags") else {}), **more)
        with finishing(name):
            if inputs.get("retentionInDays"):
                self.modify(cloud, name, {}, inputs, {"retentionInDays"})
        return name

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        logs = cloud.client("logs")
        found = logs.describe_log_groups(logGroupNamePrefix=identifier)["logGroups"]
        group = next((group for group in found if group["logGroupName"] == identifier), None)
        if group is None:
            return None
        arn = group["arn"].removesuffix(":*")
        return {
            "name": identifier,
            "logGroupClass": group.get("logGroupClass", "STANDARD"),
            "retentionInDays": group.get("retentionInDays") or 0,
            "tags": logs.list_tags_for_resource(resourceArn=arn).get("tags", {}),
            "arn": arn,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        logs = cloud.client("logs")
        if news.get("retentionInDays"):
            logs.put_retention_policy(logGroupName=identifier, retentionInDays=news["retentionInDays"])
        else:
            logs.delete_retention_policy(logGroupName=identifier)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        logs = cloud.client("logs")
        arn = f"arn:aws:logs:{cloud.region}:{cloud.account_id}:log-group:{identifier}"
        if gone:
            logs.untag_resource(resourceArn=arn, tagKeys=gone)
        if new:
            logs.tag_resource(resourceArn=arn, tags=new)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        if not outputs.get("skipDestroy"):
            self.retag(cloud, identifier, {}, sorted(outputs.get("tags") or {}))  # moto keeps them for the next one
            cloud.client("logs").delete_log_group(logGroupName=identifier)


_METRIC = {
    "metricName": Prop(),
    "namespace": Prop(),
    "dimensions": Prop(kind="pairs"),
    "period": Prop(),
    "stat": Prop(),
    "unit": Prop(),
}


class MetricAlarm(Handler):
    type = "aws:cloudwatch/metricAlarm:MetricAlarm"
    taggable, naming = True, Naming(prefix_prop=None)
    gone = ("ResourceNotFound",)
    props = table(
        {
            "name": Prop("AlarmName", replace=True),
            **names("comparisonOperator evaluationPeriods threshold thresholdMetricId unit"),
            **names("alarmDescription metricName namespace period statistic extendedStatistic"),
            "dimensions": Prop(kind="pairs"),
            "datapointsToAlarm": Prop(),
            "treatMissingData": Prop(default="missing"),
            "actionsEnabled": Prop(default=True),
            "alarmActions": Prop(kind="set"),
            "okActions": Prop("OKActions", kind="set"),
            "insufficientDataActions": Prop(kind="set"),
            "evaluateLowSampleCountPercentiles": Prop("EvaluateLowSampleCountPercentile", computed=True),
            "metricQueries": blocks(
                {
                    **names("id expression label period accountId"),
                    "returnData": Prop(default=False),
                    "metric": block(_METRIC),
                },
                api="Metrics",
                kind="set",
            ),
        }
    )
    outputs = "arn"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        self._put(cloud, inputs, {"Tags": as_list(inputs["tags"])} if inputs.get("tags") else {})
        return inputs["name"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        client = cloud.client("cloudwatch")
        found = client.describe_alarms(AlarmNames=[identifier], AlarmTypes=["MetricAlarm"])["MetricAlarms"]
        if not found:
            return None
        live, arn = found[0], found[0]["AlarmArn"]
        queries = [_query_of(query) for query in live.get("Metrics") or []]
        return {
            **from_api(
                {name: prop for name, prop in self.props.items() if name not in ("metricQueries", "tags")}, live
            ),
            **({"metricQueries": queries} if queries else {}),
            "tags": as_dict(client.list_tags_for_resource(ResourceARN=arn)["Tags"]),
            "arn": arn,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._put(cloud, news, {})

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        client = cloud.client("cloudwatch")
        arn = f"arn:aws:cloudwatch:{cloud.region}:{cloud.account_id}:alarm:{identifier}"
        if gone:
            client.untag_resource(ResourceARN=arn, TagKeys=gone)
        if new:
            client.tag_resource(ResourceARN=arn, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("cloudwatch").delete_alarms(AlarmNames=[identifier])

    def _put(self, cloud: Account, inputs: Inputs, more: dict[str, Any]) -> None:
        table = {name: prop for name, prop in self.props.items() if name not in ("tags", "metricQueries")}
        request = to_api(table, {"treatMissingData": "missing", "actionsEnabled": True, **inputs})
        if inputs.get("metricQueries"):
            request["Metrics"] = [_query(query) for query in inputs["metricQueries"]]
        cloud.client("cloudwatch").put_metric_alarm(**request, **more)


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    """A metric query as CloudWatch nests it: name, namespace and dimensions one level below period and statistic."""
    request: dict[str, Any] = {
        key: query[name]
        for name, key in (
            ("id", "Id"), ("expression", "Expression"), ("label", "Label"), ("period", "Period"),
            ("accountId", "AccountId"),
        )
        if query.get(name) is not None
    }  # fmt: skip
    request["ReturnData"] = bool(query.get("returnData"))
    if query.get("metric"):
        flat = to_api(_METRIC, query["metric"])
        inner = {key: flat.pop(key) for key in ("MetricName", "Namespace", "Dimensions") if key in flat}
        request["MetricStat"] = {"Metric": inner, **flat}
    return request


def _query_of(live: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: Prop() for name in ("id", "expression", "label", "period", "accountId", "returnData")}
    query = from_api(fields, live)
    if live.get("MetricStat"):
        stat = dict(live["MetricStat"])
        query["metric"] = from_api(_METRIC, {**stat.pop("Metric"), **stat})
        if not query["metric"].get("dimensions"):
            query["metric"].pop("dimensions", None)
    return query


HANDLERS = (LogGroup, MetricAlarm)
