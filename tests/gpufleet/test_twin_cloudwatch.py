"""Alarms are evaluated as CloudWatch documents it: missing data, M of N, metric math, actions at changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_services import ACCOUNT, START, ServicesAccount, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.services.alarms import next_state
from gpufleet.twin.services.metric_math import evaluate

TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts"
ALARM: dict[str, Any] = {
    "AlarmName": "backlog", "Namespace": "Own", "MetricName": "Waiting", "Statistic": "Maximum", "Period": 60,
    "EvaluationPeriods": 1, "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


@pytest.fixture
def watch(account: ServicesAccount) -> Any:
    return account.cloud.client("cloudwatch")


def say(account: ServicesAccount, *values: float | None, name: str = "Waiting") -> None:
    """One value a minute (None: a minute without data), and the evaluation at its end."""
    for value in values:
        account.clock.run_for(30)
        if value is not None:
            account.services.cloudwatch.publish("Own", name, {}, value)
        account.clock.run_for(30)


def state(watch: Any, name: str = "backlog") -> str:
    return watch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"]


# The two tables of "Configuring how CloudWatch alarms treat missing data": 0 is fine, X breaches, - is missing;
# columns: missing, ignore, breaching, notBreaching. "keep" retains the present state.
TABLE_3_OF_3 = {
    "0-X-X": ("OK", "OK", "OK", "OK"),
    "0----": ("OK", "OK", "OK", "OK"),
    "-----": ("INSUFFICIENT_DATA", "keep", "ALARM", "OK"),
    "0XX-X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "--X--": ("ALARM", "keep", "ALARM", "OK"),
}
TABLE_2_OF_3 = {
    "0-X-X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "00X0X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "0-X--": ("OK", "OK", "ALARM", "OK"),
    "----0": ("OK", "OK", "ALARM", "OK"),
    "---X-": ("ALARM", "keep", "ALARM", "OK"),
}


@pytest.mark.parametrize(
    ("needed", "picture", "expected"),
    [(needed, *row) for needed, table in ((3, TABLE_3_OF_3), (2, TABLE_2_OF_3)) for row in table.items()],
)
@pytest.mark.parametrize("present", ["OK", "ALARM"])
def test_missing_data_as_in_the_guide_s_tables(
    needed: int, picture: str, expected: tuple[str, ...], present: str
) -> None:
    points = [{"0": 0.0, "X": 9.0, "-": None}[sign] for sign in picture]
    for treat, wanted in zip(("missing", "ignore", "breaching", "notBreaching"), expected, strict=True):
        alarm = {**ALARM, "EvaluationPeriods": 3, "DatapointsToAlarm": needed, "TreatMissingData": treat}
        assert next_state(alarm, points, present) == (present if wanted == "keep" else wanted), treat


def test_an_alarm_waits_for_its_periods_and_tells_its_topic_once(account: ServicesAccount, watch: Any) -> None:
    sns = account.cloud.client("sns")
    sns.create_topic(Name="alerts")
    statement = {
        "Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "SNS:Publish",
        "Resource": TOPIC,
    }  # fmt: skip
    sns.set_topic_attributes(
        TopicArn=TOPIC, AttributeName="Policy", AttributeValue=json.dumps({"Statement": [statement]})
    )
    sns.subscribe(TopicArn=TOPIC, Protocol="email", Endpoint="a@example.com")
    account.services.sns.confirm("a@example.com")
    watch.put_metric_alarm(**{**ALARM, "EvaluationPeriods": 2, "AlarmActions": [TOPIC], "OKActions": [TOPIC]})
    assert state(watch) == "INSUFFICIENT_DATA"
    say(account, 1, 1, 1, 9)
    assert state(watch) == "OK"
    say(account, 9, 9, 9)
    assert state(watch) == "ALARM"
    say(account, 0)
    mails = [mail for mail in account.services.sns.outbox if "Confirmation" not in mail["subject"]]
    assert [mail["subject"] for mail in mails] == [
        'OK: "backlog" in us-east-1', 'ALARM: "backlog" in us-east-1', 'OK: "backlog" in us-east-1',
    ]  # fmt: skip
    told = json.loads(mails[1]["message"])
    assert (told["OldStateValue"], told["NewStateValue"]) == ("OK", "ALARM")
    assert [(each["old"], each["new"]) for each in account.services.cloudwatch.history] == [
        ("INSUFFICIENT_DATA", "OK"), ("OK", "ALARM"), ("ALARM", "OK"),
    ]  # fmt: skip
    assert len(watch.describe_alarm_history(AlarmName="backlog")["AlarmHistoryItems"]) == 3


def test_an_alarm_whose_topic_refuses_it_says_so(account: ServicesAccount, watch: Any) -> None:
    account.cloud.client("sns").create_topic(Name="alerts")
    watch.put_metric_alarm(**{**ALARM, "AlarmActions": [TOPIC]})
    watch.set_alarm_state(AlarmName="backlog", StateValue="ALARM", StateReason="test")
    assert [failure["code"] for failure in account.services.cloudwatch.failed_actions] == ["AuthorizationError"]


def test_switched_off_actions_do_nothing(account: ServicesAccount, watch: Any) -> None:
    watch.put_metric_alarm(**{**ALARM, "AlarmActions": [TOPIC]})
    watch.disable_alarm_actions(AlarmNames=["backlog"])
    watch.set_alarm_state(AlarmName="backlog", StateValue="ALARM", StateReason="test")
    assert account.services.cloudwatch.failed_actions == []


def test_a_scaling_action_repeats_each_minute_in_alarm(account: ServicesAccount, watch: Any) -> None:
    policy = f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:scalingPolicy:x:autoScalingGroupName/g:policyName/p"
    with pytest.raises(NotModelledError, match="arn:aws:autoscaling"):
        watch.put_metric_alarm(**{**ALARM, "AlarmActions": [policy]})
    called: list[str] = []
    account.services.cloudwatch.action_handlers["arn:aws:autoscaling:"] = lambda arn, alarm, message: called.append(arn)
    watch.put_metric_alarm(**{**ALARM, "AlarmActions": [policy]})
    say(account, 9, 9, 9, 0, 0)
    assert called == [policy] * 3


def test_a_math_alarm_backlog_while_both_groups_are_empty(account: ServicesAccount, watch: Any) -> None:
    def metric(key: str, name: str) -> dict[str, Any]:
        stat = {"Metric": {"Namespace": "Own", "MetricName": name}, "Period": 60, "Stat": "Maximum"}
        return {"Id": key, "MetricStat": stat, "ReturnData": False}

    expression = {"Id": "wake", "Expression": "IF(m1 > 0 AND FILL(m2, 0) == 0, 1, 0)"}
    queries = [metric("m1", "Waiting"), metric("m2", "Instances"), expression]
    settings = {k: v for k, v in ALARM.items() if k not in ("Namespace", "MetricName", "Statistic", "Period")}
    watch.put_metric_alarm(
        **{**settings, "Metrics": queries, "ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1}
    )
    say(account, 3)
    assert state(watch) == "ALARM"
    account.services.cloudwatch.publish("Own", "Instances", {}, 1)
    say(account, 3)
    assert state(watch) == "OK"
    now = datetime.fromtimestamp(account.clock.now(), UTC)
    data = watch.get_metric_data(MetricDataQueries=queries, StartTime=START, EndTime=now)["MetricDataResults"]
    assert [(each["Id"], each["Values"]) for each in data] == [("wake", [0.0, 1.0])]


def test_statistics_of_what_was_put(account: ServicesAccount, watch: Any) -> None:
    for value in (1, 2, 6):
        watch.put_metric_data(Namespace="Own", MetricData=[{"MetricName": "Seconds", "Value": value}])
    summary = {"SampleCount": 2, "Sum": 10, "Minimum": 4, "Maximum": 6}
    watch.put_metric_data(Namespace="Own", MetricData=[{"MetricName": "Seconds", "StatisticValues": summary}])
    found = watch.get_metric_statistics(
        Namespace="Own", MetricName="Seconds", StartTime=START, EndTime=START + 60, Period=60,
        Statistics=["Sum", "Average", "Minimum", "Maximum", "SampleCount"],
    )["Datapoints"]  # fmt: skip
    wanted = {"Sum": 19.0, "Average": 3.8, "Minimum": 1.0, "Maximum": 6.0, "SampleCount": 5.0}
    assert [{k: v for k, v in point.items() if k in wanted} for point in found] == [wanted]


@pytest.mark.parametrize(
    "change",
    [
        {"Period": 61}, {"DatapointsToAlarm": 2}, {"TreatMissingData": "sometimes"}, {"Statistic": "Median"},
        {"Period": 3540, "EvaluationPeriods": 30}, {"AlarmName": "x" * 256},
        {"Metrics": [{"Id": "e1", "Expression": "1 + 1"}]},
    ],
)  # fmt: skip
def test_alarms_cloudwatch_refuses(watch: Any, change: dict[str, Any]) -> None:
    with (
        refused("ValidationError")
        if len(change.get("AlarmName", "")) < 256
        else pytest.raises(Exception, match="AlarmName")
    ):
        watch.put_metric_alarm(**{**ALARM, **change})
    assert watch.describe_alarms()["MetricAlarms"] == []


@pytest.mark.parametrize(
    "queries",
    [
        [{"Id": "e1", "Expression": "1"}, {"Id": "e2", "Expression": "2"}],
        [{"Id": "e1", "Expression": "1", "ReturnData": False}],
        [{"Id": "E1", "Expression": "1"}],
        [{"Id": "e1", "Expression": "m9 + 1"}],
        [{"Id": "e1", "Expression": "(1 + 1"}],
        [{"Id": "e1", "Expression": "1"}, {"Id": "e1", "Expression": "1", "ReturnData": False}],
    ],
)
def test_metric_queries_cloudwatch_refuses(watch: Any, queries: list[dict[str, Any]]) -> None:
    settings = {k: v for k, v in ALARM.items() if k not in ("Namespace", "MetricName", "Statistic", "Period")}
    with refused("ValidationError"):
        watch.put_metric_alarm(**{**settings, "Metrics": queries})


def test_what_is_not_modelled_is_refused_by_name(watch: Any) -> None:
    with pytest.raises(NotModelledError, match="30 s"):
        watch.put_metric_alarm(**{**ALARM, "Period": 30})
    with pytest.raises(NotModelledError, match="ANOMALY_DETECTION_BAND"):
        evaluate("ANOMALY_DETECTION_BAND(m1)", {"m1": {}}, [])
    with refused("InvalidParameterValue", "AWS/"):
        watch.put_metric_data(Namespace="AWS/SQS", MetricData=[{"MetricName": "x", "Value": 1}])


def test_alarms_read_back_with_their_tags_and_go(watch: Any) -> None:
    tags = [{"Key": "stack", "Value": "dev"}]
    watch.put_metric_alarm(
        **{**ALARM, "Tags": tags, "AlarmDescription": "too many", "TreatMissingData": "notBreaching"}
    )
    found = watch.describe_alarms(AlarmNamePrefix="back")["MetricAlarms"][0]
    assert ALARM.items() <= found.items()
    assert (found["AlarmDescription"], found["TreatMissingData"]) == ("too many", "notBreaching")
    assert watch.list_tags_for_resource(ResourceARN=found["AlarmArn"])["Tags"] == tags
    watch.put_metric_alarm(**{**ALARM, "Threshold": 7})
    assert watch.describe_alarms()["MetricAlarms"][0]["Threshold"] == 7
    watch.delete_alarms(AlarmNames=["backlog"])
    assert watch.describe_alarms()["MetricAlarms"] == []


def test_metric_math_with_holes() -> None:
    m1, m2 = {0.0: 6.0, 60.0: 4.0}, {60.0: 2.0, 120.0: 0.0}
    known = {"m1": m1, "m2": m2, "k": 3.0}
    line = [0.0, 60.0, 120.0]
    assert evaluate("m1 + m2", known, line) == {0.0: 6.0, 60.0: 6.0, 120.0: 0.0}  # missing counts as 0
    assert evaluate("m1 / m2", known, line) == {60.0: 2.0}  # a division by zero is dropped
    assert evaluate("m1 > m2", known, line) == {60.0: 1.0}
    assert evaluate("FILL(m1, 0)", known, line) == {0.0: 6.0, 60.0: 4.0, 120.0: 0.0}
    assert evaluate("FILL(m1, REPEAT)", known, line) == {0.0: 6.0, 60.0: 4.0, 120.0: 4.0}
    assert evaluate("IF(m2 > 1, m1 * k, -1)", known, line) == {60.0: 12.0, 120.0: -1.0}
    assert evaluate("2 + 3 * 4 - 6 / 2", known, [0.0]) == {0.0: 11.0}
    assert evaluate("1 > 2 OR 3 >= 3 && 1 != 2", known, [0.0]) == {0.0: 1.0}


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_metric_math_agrees_with_arithmetic(a: int, b: int, c: int) -> None:
    known = {"a": {0.0: float(a)}, "b": {0.0: float(b)}, "c": {0.0: float(c)}}
    assert evaluate("a + b * c - (a - b) / c", known, [0.0])[0.0] == pytest.approx(a + b * c - (a - b) / c)
