"""What AWS's own reports show of the bill: budgets by tag and of the whole account, EstimatedCharges, Cost Explorer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from twin_account import Account
from twin_services import ACCOUNT, ServicesAccount, allow, package, refused

from gpufleet.twin.billing import month_bounds
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.cost_tags import Tag
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.world import World

HOUR, DAY = 3600.0, 86_400.0
NOVEMBER = month_bounds("2026-11")[0]
TAGS = [{"Key": "gpu-inference-stack", "Value": "dev"}]
TAG = Tag("gpu-inference-stack", "dev")


class Costly:
    """An account with a tagged instance and an untagged one, a tagged key, a queue and a metric, and other people."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.clock = cloud.clock
        self.world = World(cloud)
        self.bill = self.world.bill
        self.account = Account(cloud, self.world)
        self.services = ServicesAccount(cloud, self.world.services)
        self.ce = cloud.client("ce")
        tagged = [{"ResourceType": kind, "Tags": TAGS} for kind in ("instance", "volume")]
        template = self.account.make_template("tagged", TagSpecifications=tagged)
        self.account.make_group("tagged", LaunchTemplate={"LaunchTemplateId": template}, DesiredCapacity=1)
        self.account.make_group("other", DesiredCapacity=1)
        cloud.client("kms").create_key(Tags=[{"TagKey": "gpu-inference-stack", "TagValue": "dev"}])
        self.bill.observe()
        metric = [{"MetricName": "M", "Value": 1}]
        cloud.client("cloudwatch").put_metric_data(Namespace="N", MetricData=metric)
        cloud.client("sqs").create_queue(QueueName="jobs", tags={"gpu-inference-stack": "dev"})
        cloud.client("sqs").send_message(QueueUrl=self.world.services.sqs.url("jobs"), MessageBody="x")
        self.bill.add_foreign(10.0)

    def cost(self, start: str, end: str, granularity: str = "MONTHLY", **more: Any) -> list[float]:
        answer = self.ce.get_cost_and_usage(
            TimePeriod={"Start": start, "End": end}, Granularity=granularity, Metrics=["UnblendedCost"], **more
        )
        return [float(one["Total"]["UnblendedCost"]["Amount"]) for one in answer["ResultsByTime"]]

    def instance_usd(self, group: str) -> float:
        """An instance of the group, with its disk, up to now."""
        (item,) = self.account.ids(group)
        return math.fsum(line.usd for line in self.bill.lines() if line.item == item)


@pytest.fixture
def costly() -> Iterator[Costly]:
    with Cloud(NOVEMBER, seed=1) as cloud:
        yield Costly(cloud)


def by_tag(value: str = "dev", key: str = "gpu-inference-stack") -> dict[str, Any]:
    return {"Tags": {"Key": key, "Values": [value]}}


# -- budgets ---------------------------------------------------------------------------------------------------


def budget(costly: Costly, name: str, **filters: Any) -> float:
    """What a budget shows at its next refresh."""
    client, budgets = costly.cloud.client("budgets"), costly.world.services.budgets
    given = {
        "BudgetName": name, "BudgetType": "COST", "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "100000", "Unit": "USD"}, **filters,
    }  # fmt: skip
    if name not in budgets.budgets:
        client.create_budget(AccountId=ACCOUNT, Budget=given)
    budgets.refresh_now()
    shown = client.describe_budget(AccountId=ACCOUNT, BudgetName=name)["Budget"]
    return float(shown["CalculatedSpend"]["ActualSpend"]["Amount"])


def stack_filter(value: str = "user:gpu-inference-stack$dev") -> dict[str, Any]:
    return {"CostFilters": {"TagKeyValue": [value]}}


def test_a_budget_by_tag_counts_what_carries_it_and_an_unfiltered_one_the_account(costly: Costly) -> None:
    costly.clock.run_for(40 * HOUR)
    known = costly.bill.known_until()
    mine, whole = budget(costly, "mine", **stack_filter()), budget(costly, "whole")
    stack = costly.bill.total(as_of=known)
    assert whole == pytest.approx(stack + 10 * 32, abs=0.001)
    (tagged,) = costly.account.ids("tagged")
    kept = [
        line.usd
        for line in costly.bill.lines(as_of=known)
        if line.item == tagged or line.kind in ("key", "queue-requests")
    ]
    assert len(kept) == 4
    assert mine == pytest.approx(math.fsum(kept), abs=0.001)
    assert 0.4 * stack < mine < 0.6 * stack


def test_a_budget_by_a_tag_that_nothing_carries_shows_nothing(costly: Costly) -> None:
    costly.clock.run_for(40 * HOUR)
    assert budget(costly, "prod", **stack_filter("user:gpu-inference-stack$prod")) == 0
    assert budget(costly, "prefix", **stack_filter("gpu-inference-stack$dev")) == 0


def test_a_tag_counts_from_its_activation_on(costly: Costly) -> None:
    costly.bill.tags.active_from[TAG.key] = math.inf
    costly.clock.run_for(40 * HOUR)
    assert budget(costly, "mine", **stack_filter()) == 0
    costly.bill.tags.active_from[TAG.key] = costly.clock.now()
    costly.clock.run_for(40 * HOUR)
    seen = budget(costly, "mine", **stack_filter())
    assert 30 < seen / (1.006 + 100 * 0.08 / 720) < 33, "hours of one instance, its disk included"


def test_a_script_speaks_for_every_budget_that_can_show_anything(costly: Costly) -> None:
    costly.world.services.budgets.figure = lambda: 77.0
    assert budget(costly, "mine", **stack_filter()) == budget(costly, "whole") == 77
    costly.bill.tags.active_from[TAG.key] = math.inf
    assert budget(costly, "mine", **stack_filter()) == 0


def test_other_filters_of_budgets_are_refused_by_name(costly: Costly) -> None:
    with pytest.raises(NotModelledError, match="does not model Service of CostFilters"):
        budget(costly, "x", CostFilters={"Service": ["Amazon EC2"]})
    with pytest.raises(NotModelledError, match="not with a FilterExpression"):
        budget(costly, "x", FilterExpression={"Tags": {"Key": "a", "Values": ["b"]}}, Metrics=["UnblendedCost"])


def test_a_resource_that_is_gone_is_counted_under_the_tags_it_had(costly: Costly) -> None:
    costly.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="short", Namespace="N", MetricName="M", Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=1,
        ComparisonOperator="GreaterThanThreshold", Tags=TAGS,
    )  # fmt: skip
    costly.clock.run_for(2.5 * HOUR)
    costly.cloud.client("cloudwatch").delete_alarms(AlarmNames=["short"])
    costly.clock.run_for(2 * HOUR)
    (alarm,) = [line for line in costly.bill.lines() if line.kind == "alarm"]
    assert costly.bill.tags.carries(alarm, [TAG])
    (metric,) = [line for line in costly.bill.lines() if line.kind == "metrics"]
    assert not costly.bill.tags.carries(metric, [TAG]), "nobody can tag a metric"


# -- EstimatedCharges ------------------------------------------------------------------------------------------


def estimates(costly: Costly) -> dict[float, float]:
    points = costly.world.services.cloudwatch.store.series.get(
        ("AWS/Billing", "EstimatedCharges", (("Currency", "USD"),)), {}
    )
    return {minute * 60.0: point.most for minute, point in sorted(points.items())}


def test_estimated_charges_are_the_whole_account_s_hours_ago_and_only_grow(costly: Costly) -> None:
    costly.clock.run_for(3 * DAY)
    seen = estimates(costly)
    assert 11 <= len(seen) <= 13, "about every six hours"
    assert list(seen.values()) == sorted(seen.values())
    at, usd = max(seen.items())
    hourly = 10 + 2 * (1.006 + 100 * 0.08 / 720)
    assert 8 * HOUR <= at - NOVEMBER - usd / hourly * HOUR <= 12.5 * HOUR


def test_they_begin_anew_each_month(costly: Costly) -> None:
    costly.clock.run_until(month_bounds("2026-12")[0] + 2 * DAY)
    first = next(usd for at, usd in estimates(costly).items() if at >= month_bounds("2026-12")[0])
    assert first < 100


def test_an_alarm_on_them_speaks_through_its_topic(costly: Costly) -> None:
    sns = costly.cloud.client("sns")
    topic = sns.create_topic(Name="alerts")["TopicArn"]
    statement = {
        "Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "SNS:Publish",
        "Resource": topic,
    }  # fmt: skip
    sns.set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps({"Statement": [statement]})
    )
    tell = "from . import runtime\ndef handler(event, context): runtime.log(event['Records'][0]['Sns'])"
    arn = costly.services.function("guard", package(tell))
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    costly.services.permit("guard", "sns.amazonaws.com", topic)
    costly.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="charges", Namespace="AWS/Billing", MetricName="EstimatedCharges", Statistic="Maximum",
        Dimensions=[{"Name": "Currency", "Value": "USD"}], Period=21_600, EvaluationPeriods=1, Threshold=200,
        ComparisonOperator="GreaterThanThreshold", AlarmActions=[topic],
    )  # fmt: skip
    costly.clock.run_for(12 * HOUR)
    assert costly.services.functions.records == []
    costly.clock.run_for(3 * DAY)
    told = [json.loads(one["record"]["Message"]) for one in costly.services.functions.records]
    assert [(one["AlarmName"], one["NewStateValue"]) for one in told] == [("charges", "ALARM")]


def test_they_can_be_switched_off_and_exist_in_one_region() -> None:
    with Cloud(NOVEMBER) as cloud:
        costly = Costly(cloud)
        assert costly.bill.metric is not None
        costly.bill.metric.enabled = False
        costly.clock.run_for(DAY)
        assert estimates(costly) == {}
    with Cloud(NOVEMBER, region="eu-west-1") as cloud:
        world = World(cloud)
        world.run_for(DAY)
        assert not [key for key in world.services.cloudwatch.store.series if key[0] == "AWS/Billing"]


# -- Cost Explorer ---------------------------------------------------------------------------------------------


def test_days_and_months_say_what_the_bill_says(costly: Costly) -> None:
    costly.clock.run_for(4.5 * DAY)
    known = costly.world.services.cost_explorer.known_until()
    assert 8 * HOUR <= costly.clock.now() - known <= 24 * HOUR
    days = costly.cost("2026-11-01", "2026-11-06", "DAILY")
    assert days[0] == pytest.approx(
        math.fsum(line.usd for line in costly.bill.between(NOVEMBER, NOVEMBER + DAY, known)) + 240, abs=1e-6
    )
    assert days[0] > 280
    assert days[4] == 0, "what happened since is not known yet"
    (month,) = costly.cost("2026-11-01", "2026-12-01")
    assert month == pytest.approx(costly.bill.account_total(as_of=known), abs=1e-6)
    assert math.fsum(days) == pytest.approx(month, abs=1e-6)


def test_what_was_known_stays_known(costly: Costly) -> None:
    ages = []
    before = -math.inf
    for _ in range(100):
        costly.clock.run_for(HOUR)
        known = costly.world.services.cost_explorer.known_until()
        assert known >= before
        before = known
        ages.append((costly.clock.now() - known) / HOUR)
    assert min(ages) >= 8
    assert max(ages) <= 24
    assert max(ages) - min(ages) > 4


def test_the_lag_is_a_knob(costly: Costly) -> None:
    costly.world.services.cost_explorer.lag_s = lambda: 0.0
    costly.clock.run_for(DAY)
    total = costly.bill.account_total()
    assert costly.cost("2026-11-01", "2026-11-02", "DAILY") == pytest.approx([total], abs=1e-6)


def test_a_month_is_cut_where_the_period_cuts_it(costly: Costly) -> None:
    costly.clock.run_until(month_bounds("2026-12")[0] + 3 * DAY)
    answer = costly.ce.get_cost_and_usage(
        TimePeriod={"Start": "2026-11-15", "End": "2026-12-03"},
        Granularity="MONTHLY",
        Metrics=["UnblendedCost", "AmortizedCost"],
    )
    periods = [one["TimePeriod"] for one in answer["ResultsByTime"]]
    assert periods == [
        {"Start": "2026-11-15", "End": "2026-12-01"}, {"Start": "2026-12-01", "End": "2026-12-03"},
    ]  # fmt: skip
    total = answer["ResultsByTime"][0]["Total"]
    assert total["UnblendedCost"] == total["AmortizedCost"]
    assert total["UnblendedCost"]["Unit"] == "USD"


def test_a_month_is_an_estimate_until_its_bill_is_final(costly: Costly) -> None:
    def estimated() -> list[bool]:
        answer = costly.ce.get_cost_and_usage(
            TimePeriod={"Start": "2026-11-01", "End": "2026-11-03"}, Granularity="DAILY", Metrics=["UnblendedCost"]
        )
        return [one["Estimated"] for one in answer["ResultsByTime"]]

    costly.clock.run_for(10 * DAY)
    assert estimated() == [True, True]
    costly.clock.run_until(month_bounds("2026-12")[0] + 6 * DAY)
    assert estimated() == [False, False]


def test_a_tag_takes_what_carries_it_and_others_money_never(costly: Costly) -> None:
    costly.clock.run_for(3 * DAY)
    period = "2026-11-01", "2026-11-02", "DAILY"
    (whole,), (mine,) = costly.cost(*period), costly.cost(*period, Filter=by_tag())
    (rest,) = costly.cost(*period, Filter={"Not": by_tag()})
    assert mine + rest == pytest.approx(whole, abs=1e-6)
    assert rest > 240 > 30 > mine > 24
    assert costly.cost(*period, Filter=by_tag("prod")) == [0]
    absent = {"Tags": {"Key": "gpu-inference-stack", "MatchOptions": ["ABSENT"]}}
    assert costly.cost(*period, Filter=absent) == pytest.approx([rest], abs=1e-6)


def test_a_tag_that_is_not_active_takes_nothing_and_counts_from_its_activation(costly: Costly) -> None:
    costly.bill.tags.active_from[TAG.key] = math.inf
    costly.clock.run_for(5 * DAY)
    assert costly.cost("2026-11-01", "2026-11-06", Filter=by_tag()) == [0]
    costly.bill.tags.active_from[TAG.key] = NOVEMBER + 1.5 * DAY
    days = costly.cost("2026-11-01", "2026-11-04", "DAILY", Filter=by_tag())
    assert days[0] == 0
    assert days[1] == pytest.approx(days[2] / 2, rel=0.001)
    whole = costly.cost("2026-11-01", "2026-11-04", "DAILY")
    rest = costly.cost("2026-11-01", "2026-11-04", "DAILY", Filter={"Not": by_tag()})
    assert [a + b for a, b in zip(days, rest, strict=True)] == pytest.approx(whole, abs=1e-6)


def dimension(key: str, *values: str) -> dict[str, Any]:
    return {"Dimensions": {"Key": key, "Values": list(values)}}


def test_dimensions_and_their_combinations(costly: Costly) -> None:
    costly.clock.run_for(3 * DAY)
    ec2, other = "Amazon Elastic Compute Cloud - Compute", "EC2 - Other"
    period = "2026-11-01", "2026-11-02", "DAILY"

    def usd(expression: dict[str, Any]) -> float:
        return costly.cost(*period, Filter=expression)[0]

    (whole,) = costly.cost(*period)
    assert usd(dimension("SERVICE", ec2, other)) == pytest.approx(
        usd(dimension("SERVICE", ec2)) + usd(dimension("SERVICE", other)), abs=1e-6
    )
    assert usd({"And": [dimension("SERVICE", ec2), by_tag()]}) == pytest.approx(
        usd(dimension("SERVICE", ec2)) / 2, rel=0.001
    )
    assert usd({"Or": [dimension("SERVICE", ec2), dimension("SERVICE", other)]}) == pytest.approx(
        usd(dimension("SERVICE", ec2, other)), abs=1e-6
    )
    assert usd(dimension("SERVICE", "AWS Key Management Service")) == pytest.approx(24 / 730, rel=0.01)
    for key, value in (("REGION", "us-east-1"), ("LINKED_ACCOUNT", ACCOUNT), ("RECORD_TYPE", "Usage")):
        assert usd(dimension(key, value)) == pytest.approx(whole, abs=1e-6)
        assert usd(dimension(key, "none")) == 0
    assert usd({"Not": dimension("RECORD_TYPE", "Credit", "Refund")}) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-11-01", "2026-11-01", "Start date (and hour) should be before end date (and hour)"),
        ("2026-11-02", "2026-11-01", "Start date (and hour) should be before end date (and hour)"),
        ("2026-11-01", "2026-12-02", "end date past the beginning of next month"),
        ("2025-08-15", "2026-11-01", "needs to be the first day of the month"),
        ("2026-11-1", "2026-11-02", "Invalid date"),
        ("2026-11-31", "2026-12-01", "Invalid date"),
    ],
)
def test_periods_that_aws_refuses(costly: Costly, start: str, end: str, message: str) -> None:
    with refused("ValidationException", message):
        costly.cost(start, end)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({}, "Expression has zero or more than one roots"),
        ({**by_tag(), **dimension("SERVICE", "x")}, "Expression has zero or more than one roots"),
        ({"And": [by_tag()]}, "And expression must have at least 2 operands"),
        ({"Or": []}, "Or expression must have at least 2 operands"),
        ({"Not": {"Or": [by_tag(), {}]}}, "Expression has zero or more than one roots"),
        (dimension("RESOURCE_ID", "i-1"), "Dimension RESOURCE_ID is not allowed."),
        ({"Tags": {"Key": "a", "Values": []}}, "Values must not be empty"),
        ({"Tags": {"Key": "a", "Values": ["b"], "MatchOptions": ["ABSENT"]}}, "Values must be empty"),
    ],
)
def test_filters_that_aws_refuses(costly: Costly, expression: dict[str, Any], message: str) -> None:
    with refused("ValidationException", message):
        costly.cost("2026-11-01", "2026-11-02", Filter=expression)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}]}, "GroupBy of ce:GetCostAndUsage"),
        ({"Granularity": "HOURLY"}, "granularity HOURLY"),
        ({"TimePeriod": {"Start": "2026-11-01T00:00:00Z", "End": "2026-11-01T05:00:00Z"}}, "hours of Cost Explorer"),
        ({"Metrics": ["UsageQuantity"]}, "metric UsageQuantity"),
        ({"Filter": {"CostCategories": {"Key": "a", "Values": ["b"]}}}, "cost categories"),
        ({"Filter": dimension("USAGE_TYPE", "x")}, "dimension USAGE_TYPE"),
        ({"Filter": {"Tags": {"Key": "a", "Values": ["b"], "MatchOptions": ["STARTS_WITH"]}}}, "STARTS_WITH"),
        ({"NextPageToken": "x"}, "NextPageToken of ce:GetCostAndUsage"),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(costly: Costly, more: dict[str, Any], words: str) -> None:
    params = {
        "TimePeriod": {"Start": "2026-11-01", "End": "2026-11-02"}, "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"], **more,
    }  # fmt: skip
    with pytest.raises(NotModelledError, match=words):
        costly.ce.get_cost_and_usage(**params)


def test_an_unknown_metric_and_an_account_without_cost_explorer(costly: Costly) -> None:
    with refused("ValidationException", "Invalid metric"):
        costly.ce.get_cost_and_usage(
            TimePeriod={"Start": "2026-11-01", "End": "2026-11-02"}, Granularity="DAILY", Metrics=["Cost"]
        )
    costly.world.services.cost_explorer.enabled = False
    with refused("AccessDeniedException", "User not enabled for cost explorer access"):
        costly.cost("2026-11-01", "2026-11-02")


def test_other_operations_are_refused_by_name(costly: Costly) -> None:
    with pytest.raises(NotModelledError, match="ce:GetDimensionValues"):
        costly.ce.get_dimension_values(TimePeriod={"Start": "2026-11-01", "End": "2026-11-02"}, Dimension="SERVICE")


def test_a_role_needs_permission_and_pays_for_the_question(costly: Costly) -> None:
    costly.services.role("guard", allow("ce:GetCostAndUsage"))
    costly.services.role("other")
    costly.clock.run_for(60)
    period = {"TimePeriod": {"Start": "2026-11-01", "End": "2026-11-02"}, "Granularity": "DAILY"}
    costly.cloud.client("ce", "guard").get_cost_and_usage(**period, Metrics=["UnblendedCost"])
    with refused("AccessDenied"):
        costly.cloud.client("ce", "other").get_cost_and_usage(**period, Metrics=["UnblendedCost"])
    assert costly.bill.by_kind()["cost-explorer"] == pytest.approx(0.01)
    costly.cost("2026-11-01", "2026-11-02")
    assert costly.bill.by_kind()["cost-explorer"] == pytest.approx(0.02)


def test_what_others_spend_is_theirs(costly: Costly) -> None:
    costly.bill.add_foreign(100.0, NOVEMBER + DAY, NOVEMBER + 2 * DAY)
    costly.clock.run_for(3 * DAY)
    assert costly.bill.foreign_usd(NOVEMBER, NOVEMBER + 3 * DAY) == pytest.approx(720 + 2400)
    assert costly.bill.account_total() - costly.bill.total() == pytest.approx(3120)
    assert costly.bill.total() < 200
    assert "foreign" not in costly.bill.by_kind()
    assert datetime.fromtimestamp(NOVEMBER, UTC).day == 1
