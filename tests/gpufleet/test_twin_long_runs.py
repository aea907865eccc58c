"""A cloud that runs for weeks: what only grows goes if that is asked for, and nothing that is still needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twin_fleet import Fleet
from twin_services import START, ServicesAccount, allow, package

from gpufleet.twin.cloud import Cloud

HOUR = 3600.0
CHATTY = """
    from . import runtime
    def handler(event, context):
        runtime.client("cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "Value": 1}])
        runtime.log({"said": event})
"""


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        account = ServicesAccount(cloud)
        account.function("chatty", package(CHATTY), allow("cloudwatch:PutMetricData"))
        yield account


def talk(account: ServicesAccount, hours: int) -> None:
    for hour in range(hours):
        account.aws.invoke(FunctionName="chatty", Payload=str(hour).encode())
        account.clock.run_for(HOUR)


def ages(account: ServicesAccount, moments: list[float]) -> list[int]:
    return [round((account.clock.now() - at) / HOUR) for at in moments]


def test_nothing_is_thrown_away_unless_asked_for(account: ServicesAccount) -> None:
    talk(account, 30)
    assert len(account.cloud.calls) == len(account.functions.records) == 30


def test_calls_logs_and_points_older_than_asked_for_go(account: ServicesAccount) -> None:
    account.cloud.forget_after(5 * HOUR)
    talk(account, 30)
    assert max(ages(account, [call.at for call in account.cloud.calls])) in (5, 6)
    assert max(ages(account, [record["at"] for record in account.functions.records])) in (5, 6)
    points = account.services.cloudwatch.store.series[("N", "M", ())]
    assert max(ages(account, [minute * 60.0 for minute in points])) in (5, 6)


def test_it_can_be_asked_for_from_the_beginning() -> None:
    with Cloud(START, keep_calls_s=HOUR) as cloud:
        account = ServicesAccount(cloud)
        account.function("chatty", package(CHATTY), allow("cloudwatch:PutMetricData"))
        talk(account, 10)
        assert len(cloud.calls) <= 2


def test_failures_stay(account: ServicesAccount) -> None:
    account.cloud.forget_after(HOUR)
    account.function("broken", package("def handler(event, context): return 1 / 0"))
    account.aws.invoke(FunctionName="broken")
    account.clock.run_for(10 * HOUR)
    assert [failure["type"] for failure in account.functions.failures] == ["ZeroDivisionError"]


def test_points_that_an_alarm_still_looks_at_stay(account: ServicesAccount) -> None:
    account.cloud.forget_after(HOUR)
    account.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="rare", Namespace="N", MetricName="M", Statistic="Maximum", Period=21_600, EvaluationPeriods=2,
        Threshold=0.5, ComparisonOperator="GreaterThanThreshold", DatapointsToAlarm=1,
    )  # fmt: skip
    account.aws.invoke(FunctionName="chatty", Payload=b"1")
    account.clock.run_for(10 * HOUR)
    assert account.services.cloudwatch.alarms["rare"].state == "ALARM"


def test_the_bill_stays_whole() -> None:
    with_all, with_little = bill_usd(None), bill_usd(HOUR)
    assert with_little == pytest.approx(with_all)


def bill_usd(keep_s: float | None) -> float:
    with Cloud(START, seed=3, keep_calls_s=keep_s) as cloud:
        fleet = Fleet(cloud)
        fleet.allow(START + 40 * 86_400)
        fleet.world.follow(fleet.queue, "inference-jobs-dev", fleet.bucket)
        fleet.desire(1)
        fleet.world.traffic.send(fleet.queue, 5)
        fleet.world.run_for(0.5 * HOUR)
        (instance,) = fleet.ids()
        fleet.terminate(instance)
        fleet.world.run_for(2.6 * HOUR)
        assert bool(fleet.world.nodes.nodes) == (keep_s is None), "a node that is long gone is forgotten"
        assert fleet.world.account().in_order
        return fleet.world.bill.total()
