"""CloudWatch alarms as pure functions: what an alarm may look like, and what state its data puts it in.

Sources: API reference of `PutMetricAlarm`; CloudWatch user guide, "Evaluating an alarm" and "Configuring how CloudWatch
alarms treat missing data" (its two tables are the tests).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import AwsError, NotModelledError
from .metric_math import Series, evaluate, identifiers
from .metrics import STATISTICS, MetricStore, key_of
from .model import refuse_unknown

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
EXTRA_PERIODS = 2  # CloudWatch looks back further than the evaluation periods: 5 for 3 in the guide's tables
_SINGLE = {"MetricName", "Namespace", "Statistic", "Period"}


def invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)


def check_alarm(alarm: Mapping[str, Any]) -> None:
    """Raise `AwsError` for an alarm that CloudWatch refuses, `NotModelledError` for what the twin cannot evaluate."""
    if not 1 <= len(alarm["AlarmName"]) <= 255:
        raise invalid("AlarmName must have between 1 and 255 characters.")
    if alarm["ComparisonOperator"] not in OPERATORS:
        raise NotModelledError(f"the twin does not model the comparison {alarm['ComparisonOperator']} of an alarm")
    if "Threshold" not in alarm:
        raise invalid("Threshold must be given.")
    if alarm.get("TreatMissingData", "missing") not in TREATMENTS:
        raise invalid(f"TreatMissingData must be one of {', '.join(TREATMENTS)}.")
    periods, to_alarm = alarm["EvaluationPeriods"], alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    if not 1 <= to_alarm <= periods:
        raise invalid("DatapointsToAlarm must be between 1 and EvaluationPeriods.")
    if alarm.get("Metrics"):
        given = sorted((_SINGLE | {"Dimensions"}) & set(alarm))
        if given:
            raise invalid(f"Metrics and {', '.join(given)} can not be given together.")
        check_queries(alarm["Metrics"])
        if sum(query.get("ReturnData", True) for query in alarm["Metrics"]) != 1:
            raise invalid("Exactly one element of the metrics list should return data.")
    else:
        missing = sorted(_SINGLE - set(alarm))
        if missing:
            raise invalid(f"{', '.join(missing)} must be given unless Metrics is.")
        check_statistic(alarm["Statistic"])
    period = alarm_period(alarm)
    check_period(period)
    if period * periods > (86_400 if period < 3600 else 604_800):  # API reference: EvaluationPeriods
        raise invalid("Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400).")


def check_period(period: int) -> None:
    if period in (10, 20, 30):
        raise NotModelledError(f"the twin keeps one-minute points: it has no periods of {period} s")
    if period <= 0 or period % 60:
        raise invalid("Period must be 10, 20, 30 or a multiple of 60.")


def check_statistic(statistic: str) -> None:
    if re.fullmatch(r"(p|tm|wm|tc|ts|pr)\d.*|iqm|(PR|TM|WM|TC|TS)\(.*\)|IQM", statistic):
        raise NotModelledError(f"the twin does not model the statistic {statistic}")
    if statistic not in STATISTICS:
        raise invalid(f"The value {statistic} for parameter Statistic is not supported.")


def check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    """Raise for metric queries (of an alarm or of GetMetricData) that do not make sense."""
    ids = [query["Id"] for query in queries]
    if len(set(ids)) != len(ids):
        raise invalid("The values for parameter id in MetricDataQueries are not unique.")
    for query in queries:
        refuse_unknown("a metric query", query, {"Id", "MetricStat", "Expression", "Label", "ReturnData", "Period"})
        if not re.fullmatch(r"[a-z]\w*", query["Id"]):
            raise invalid(f"Metric id {query['Id']} must start with a lower-case letter.")
        if ("MetricStat" in query) == ("Expression" in query):
            raise invalid(f"{query['Id']}: exactly one of MetricStat and Expression must be given.")
        if "MetricStat" in query:
            refuse_unknown("MetricStat", query["MetricStat"], {"Metric", "Period", "Stat"})
            check_statistic(query["MetricStat"]["Stat"])
            check_period(query["MetricStat"]["Period"])
        else:
            unknown = identifiers(query["Expression"]) - set(ids)
            if unknown:
                raise invalid(f"{query['Id']}: unknown id {', '.join(sorted(unknown))}.")
            evaluate(query["Expression"], dict.fromkeys(ids, 0.0), [])


def alarm_period(alarm: Mapping[str, Any]) -> int:
    if not alarm.get("Metrics"):
        return alarm["Period"]
    return max(query["MetricStat"]["Period"] for query in alarm["Metrics"] if "MetricStat" in query)


def looks_back_s(alarm: Mapping[str, Any]) -> float:
    """How old a point may be, in seconds, for the alarm still to see it."""
    return alarm_period(alarm) * (alarm["EvaluationPeriods"] + EXTRA_PERIODS) + 60.0


def query_series(
    queries: Sequence[Mapping[str, Any]], store: MetricStore, period: int | None, start: float, end: float
) -> dict[str, Series]:
    """The time series of every query by its id; `period` None: each metric's own."""
    known: dict[str, Series] = {}
    for query in queries:
        if "MetricStat" in query:
            stat = query["MetricStat"]
            known[query["Id"]] = store.read(
                metric_key(stat["Metric"]), stat["Stat"], period or stat["Period"], start, end
            )
    step = period or max((q["MetricStat"]["Period"] for q in queries if "MetricStat" in q), default=60)
    timeline = [start + step * i for i in range(int((end - start) // step))]
    waiting = [query for query in queries if "Expression" in query]
    while waiting:
        ready = [query for query in waiting if identifiers(query["Expression"]) <= set(known)]
        if not ready:
            raise invalid("The expressions refer to each other.")
        for query in ready:
            known[query["Id"]] = evaluate(query["Expression"], known, timeline)
        waiting = [query for query in waiting if query not in ready]
    return known


def metric_key(metric: Mapping[str, Any]) -> Any:
    dimensions = {d["Name"]: d["Value"] for d in metric.get("Dimensions", [])}
    return key_of(metric["Namespace"], metric["MetricName"], dimensions)


def datapoints(alarm: Mapping[str, Any], store: MetricStore, now: float) -> list[float | None]:
    """The alarm's data, oldest first, one entry for each period of its evaluation range; None: missing."""
    period = alarm_period(alarm)
    end = now // 60 * 60
    start = end - period * (alarm["EvaluationPeriods"] + EXTRA_PERIODS)
    if alarm.get("Metrics"):
        result = next(query["Id"] for query in alarm["Metrics"] if query.get("ReturnData", True))
        series = query_series(alarm["Metrics"], store, period, start, end)[result]
    else:
        series = store.read(metric_key(alarm), alarm["Statistic"], period, start, end)
    return [series.get(start + period * i) for i in range(alarm["EvaluationPeriods"] + EXTRA_PERIODS)]


def next_state(alarm: Mapping[str, Any], points: Sequence[float | None], state: str) -> str:
    """OK, ALARM or INSUFFICIENT_DATA. `points`: as `datapoints` answers them; `state`: the present one."""
    periods, treat = alarm["EvaluationPeriods"], alarm.get("TreatMissingData", "missing")
    needed = alarm.get("DatapointsToAlarm", periods)
    breaches = OPERATORS[alarm["ComparisonOperator"]]
    present = [breaches(point, alarm["Threshold"]) for point in points if point is not None]
    if len(present) >= periods:  # enough real data: missing points are passed over
        return "ALARM" if sum(present[-periods:]) >= needed else "OK"
    assumed = periods - len(present) if treat == "breaching" else 0
    if sum(present) + assumed >= needed:
        return "ALARM"
    if treat in ("breaching", "notBreaching") or not all(present):
        return "OK"
    if treat == "ignore":
        return state
    return "ALARM" if present else "INSUFFICIENT_DATA"
