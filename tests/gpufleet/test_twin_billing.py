"""The twin's bill, held against arithmetic done by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from twin_account import START, Account

from gpufleet.twin.billing import Bill, month_bounds
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.services.cloudwatch import CloudWatchModel

HOUR = 3600.0


@pytest.fixture
def account() -> Iterator[Account]:
    with Cloud(START, seed=1) as cloud:
        account = Account(cloud)
        account.machines.boot_seconds = lambda: 30.0
        yield account


@pytest.fixture
def bill(account: Account) -> Bill:
    bill = Bill(account.cloud, account.machines)
    account.ec2_model.on_network_change.append(bill.observe)
    return bill


def run_one(account: Account, seconds: float, group: str = "fleet") -> str:
    """An instance that runs for `seconds`, then is terminated; returns its id."""
    account.desire(1, group)
    account.clock.run_for(10)
    (instance_id,) = account.ids(group)
    instance = account.machines.instances[instance_id]
    account.clock.run_until(instance.launched_at + 30)
    account.clock.run_for(seconds)
    account.terminate(instance_id)
    return instance_id


def test_on_demand_by_the_second_from_running_to_the_end(account: Account, bill: Bill) -> None:
    account.make_group()
    run_one(account, 1000)
    account.clock.run_for(5 * HOUR)
    assert bill.by_kind()["on-demand"] == pytest.approx(1.006 * 1000 / 3600)


def test_sixty_seconds_at_least(account: Account, bill: Bill) -> None:
    account.make_group()
    run_one(account, 7)
    account.clock.run_for(HOUR)
    assert bill.by_kind()["on-demand"] == pytest.approx(1.006 * 60 / 3600)


def test_an_instance_that_never_ran_costs_no_compute(account: Account, bill: Bill) -> None:
    account.machines.fail_next_boots(1)
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(50)
    account.desire(0)
    account.clock.run_for(HOUR)
    assert "on-demand" not in bill.by_kind()
    assert bill.by_kind()["disk"] > 0


def test_spot_at_the_price_of_each_moment(account: Account, bill: Bill) -> None:
    account.make_spot_group()
    instance = account.machines.instances[run_one(account, 3 * HOUR, "spot")]
    account.clock.run_for(HOUR)
    assert instance.running_at is not None
    expected, at = 0.0, instance.running_at
    while at < instance.running_at + 3 * HOUR:
        expected += account.machines.market.price(instance.type, instance.zone, at) / 3600
        at += 1
    assert bill.by_kind()["spot"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("ran_s", "free"), [(0.9 * HOUR, True), (1.1 * HOUR, False)])
def test_a_spot_instance_taken_back_in_its_first_hour_is_free(
    account: Account, bill: Bill, ran_s: float, free: bool
) -> None:
    account.make_spot_group(DesiredCapacity=1)
    account.clock.run_for(60)
    (victim,) = account.ids("spot")
    account.desire(0, "spot")
    account.clock.run_for(ran_s - 120)
    account.machines.interrupt(victim)
    account.clock.run_for(HOUR)
    assert ("spot" not in bill.by_kind()) is free


def test_disks_cost_while_the_instance_exists(account: Account, bill: Bill) -> None:
    account.make_group()
    instance = account.machines.instances[run_one(account, HOUR)]
    account.clock.run_for(HOUR)
    assert instance.gone_at is not None
    seconds = instance.gone_at - instance.launched_at
    assert bill.by_kind()["disk"] == pytest.approx(100 * 0.08 * seconds / (30 * 86_400))


def test_provisioned_throughput_and_iops_cost_extra(account: Account, bill: Bill) -> None:
    ebs = {"VolumeSize": 10, "VolumeType": "gp3", "Iops": 4000, "Throughput": 225}
    fast = account.make_template("fast", BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": ebs}])
    account.make_group(LaunchTemplate={"LaunchTemplateId": fast}, DesiredCapacity=1)
    account.clock.run_for(60)
    before = bill.by_kind()["disk"]
    account.clock.run_for(86_400)
    assert bill.by_kind()["disk"] - before == pytest.approx((10 * 0.08 + 1000 * 0.005 + 100 * 0.04) / 30)


def test_nat_gateway_by_the_hour_begun_with_its_address(account: Account, bill: Bill) -> None:
    address = account.ec2.allocate_address(Domain="vpc")["AllocationId"]
    account.clock.run_for(100)
    gateway = account.ec2.create_nat_gateway(SubnetId=account.subnets[0], AllocationId=address)["NatGateway"]
    account.clock.run_for(2.5 * HOUR)
    assert bill.by_kind() == pytest.approx({"nat": 3 * 0.045, "address": 3 * 0.005})
    account.ec2.delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
    account.clock.run_for(10 * HOUR)
    assert bill.by_kind() == pytest.approx({"nat": 3 * 0.045, "address": 3 * 0.005})


def test_customer_keys_cost_by_the_hour(account: Account, bill: Bill) -> None:
    account.cloud.client("kms").create_key()
    account.clock.run_for(HOUR)
    account.clock.run_for(73 * HOUR)
    assert bill.by_kind()["key"] == pytest.approx(0.1, rel=0.02)


def test_months_are_utc_and_add_up() -> None:
    with Cloud(month_bounds("2026-12")[0] - HOUR, seed=1) as cloud:
        account = Account(cloud)
        check_months(account, Bill(cloud, account.machines))


def check_months(account: Account, bill: Bill) -> None:
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(4 * HOUR)
    (instance,) = account.machines.instances.values()
    assert instance.running_at is not None
    november, december = month_bounds("2026-11"), month_bounds("2026-12")
    assert november[1] == december[0] == datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert bill.by_kind("2026-11")["on-demand"] == pytest.approx(1.006 * (november[1] - instance.running_at) / 3600)
    assert bill.by_kind("2026-12")["on-demand"] == pytest.approx(1.006 * (account.clock.now() - december[0]) / 3600)
    assert bill.total() == bill.total("2026-12")
    assert bill.total("2026-10") == 0
    lines = bill.lines("2026-11")
    assert sum(line.usd for line in lines) == bill.total("2026-11")
    assert {line.item for line in lines if line.kind == "on-demand"} == {instance.id}


def test_aws_budgets_sees_the_bill_eight_to_twelve_hours_late(account: Account, bill: Bill) -> None:
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(7 * HOUR)
    assert bill.figure() == 0.0
    assert bill.total() > 6.9
    account.clock.run_for(24 * HOUR)
    lag_hours = (bill.total() - bill.figure()) / 1.006
    assert 8 <= lag_hours < 12.5  # in hours of the one instance, its disk included


def test_alarms_cost_for_each_metric_they_read(account: Account) -> None:
    account.cloud.register("cloudwatch", CloudWatchModel(account.cloud))
    bill = Bill(account.cloud, account.machines)
    metrics = [{"Namespace": "N", "MetricName": name} for name in ("A", "B")]
    stats = [
        {"Id": f"m{i}", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False}
        for i, metric in enumerate(metrics, 1)
    ]
    account.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="both",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        Threshold=1,
        Metrics=[*stats, {"Id": "e", "Expression": "m1 + m2", "ReturnData": True}],
    )
    account.clock.run_for(HOUR)
    before = bill.by_kind().get("alarm", 0.0)
    account.clock.run_for(73 * HOUR)
    assert bill.by_kind()["alarm"] - before == pytest.approx(2 * 0.1 / 10)
