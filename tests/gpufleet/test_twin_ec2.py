"""EC2 instances in the twin: what the API shows, who may end them, and the spot market."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twin_account import START, Account, refused

from gpufleet.twin import prices
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.services.spot_market import SpotMarket

ZONE = "us-east-1a"


@pytest.fixture
def account() -> Iterator[Account]:
    with Cloud(START, seed=1) as cloud:
        account = Account(cloud)
        account.make_group(DesiredCapacity=3)
        account.make_spot_group(DesiredCapacity=1)
        account.clock.run_for(60)
        yield account


def shown(account: Account, **params: object) -> list[dict[str, object]]:
    answer = account.ec2.describe_instances(**params)
    return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]


def by(name: str, *values: str) -> dict[str, object]:
    return {"Filters": [{"Name": name, "Values": list(values)}]}


def test_filters(account: Account) -> None:
    (spot,) = account.ids("spot")
    assert len(shown(account, **by("tag:gpu-inference-fleet", "inference-*"))) == 4
    assert shown(account, **by("tag:gpu-inference-fleet", "other")) == []
    assert len(shown(account, **by("tag-key", "aws:autoscaling:groupName"))) == 4
    assert [i["InstanceId"] for i in shown(account, **by("instance-lifecycle", "spot"))] == [spot]
    assert [i["InstanceId"] for i in shown(account, **by("instance-id", spot))] == [spot]
    account.ec2.terminate_instances(InstanceIds=[spot])
    assert len(shown(account, **by("instance-state-name", "pending", "running"))) == 3
    with pytest.raises(NotModelledError, match="mood"):
        shown(account, **by("mood", "good"))


def test_pages(account: Account) -> None:
    account.desire(7)
    account.clock.run_for(60)
    pages = account.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    assert [len(page["Reservations"]) for page in pages] == [5, 3]
    with refused("InvalidParameterCombination", "maxResults"):
        account.ec2.describe_instances(InstanceIds=account.ids(), MaxResults=5)
    with refused("InvalidParameterValue", "maxResults"):
        account.ec2.describe_instances(MaxResults=2)


def test_terminated_instances_stay_visible_for_an_hour(account: Account) -> None:
    (spot,) = account.ids("spot")
    account.ec2.terminate_instances(InstanceIds=[spot])
    account.clock.run_for(40)
    (gone,) = shown(account, InstanceIds=[spot])
    assert gone["State"] == {"Code": 48, "Name": "terminated"}
    assert str(gone["StateTransitionReason"]).startswith("User initiated (2026-11-01 12:01:00 GMT)")
    account.clock.run_for(3600)
    with refused("InvalidInstanceID.NotFound", f"The instance ID '{spot}' does not exist"):
        shown(account, InstanceIds=[spot])


def test_terminate_checks_every_id_first(account: Account) -> None:
    ids = account.ids()
    with refused("InvalidInstanceID.NotFound", "i-0000"):
        account.ec2.terminate_instances(InstanceIds=[ids[0], "i-0000"])
    assert len(account.running()) == 4


def test_terminate_by_tag_condition(account: Account) -> None:
    account.make_role(
        "guard",
        {
            "Effect": "Allow",
            "Action": "ec2:TerminateInstances",
            "Resource": "arn:aws:ec2:us-east-1:123456789012:instance/*",
            "Condition": {"StringEquals": {"aws:ResourceTag/gpu-inference-fleet": "inference-dev"}},
        },
    )
    other = account.make_template("other", TagSpecifications=None)
    account.make_group("foreign", LaunchTemplate={"LaunchTemplateId": other}, DesiredCapacity=1)
    account.clock.run_for(60)
    guard = account.cloud.client("ec2", "guard")
    with refused("AccessDenied", "ec2:TerminateInstances"):
        guard.terminate_instances(InstanceIds=account.ids("foreign"))
    guard.terminate_instances(InstanceIds=account.ids())
    assert set(account.running()) == set(account.ids("foreign") + account.ids("spot"))


@pytest.mark.parametrize("call", ["stop_instances", "start_instances", "reboot_instances"])
def test_other_calls_on_instances_are_refused_by_name(account: Account, call: str) -> None:
    with pytest.raises(NotModelledError, match="ec2:"):
        getattr(account.ec2, call)(InstanceIds=account.ids())


def test_a_subnet_in_use_cannot_be_deleted(account: Account) -> None:
    (instance,) = shown(account, InstanceIds=account.ids("spot"))
    with refused("DependencyViolation", "has dependencies"):
        account.ec2.delete_subnet(SubnetId=instance["SubnetId"])
    account.ec2.terminate_instances(InstanceIds=account.running())
    account.ec2.delete_subnet(SubnetId=instance["SubnetId"])
    remaining = {subnet["SubnetId"] for subnet in account.ec2.describe_subnets()["Subnets"]}
    assert instance["SubnetId"] not in remaining


def test_a_template_version_made_from_another_keeps_what_it_does_not_change(account: Account) -> None:
    def data() -> dict[str, object]:
        answer = account.ec2.describe_launch_template_versions(LaunchTemplateId=account.template, Versions=["$Latest"])
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    before = data()
    made = account.ec2.create_launch_template_version(
        LaunchTemplateId=account.template, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-87654321"}
    )
    assert made["LaunchTemplateVersion"]["VersionNumber"] == 2
    assert data() == {**before, "ImageId": "ami-87654321"}
    with refused("InvalidLaunchTemplateId.VersionNotFound", "version 9"):
        account.ec2.create_launch_template_version(
            LaunchTemplateId=account.template, SourceVersion="9", LaunchTemplateData={"ImageId": "ami-87654321"}
        )


def test_spot_price_history_ends_with_the_price_of_now(account: Account) -> None:
    account.clock.run_for(6 * 3600)
    now = account.clock.now()
    history = account.ec2.describe_spot_price_history(
        InstanceTypes=["g5.xlarge"], AvailabilityZone=ZONE, StartTime=now, ProductDescriptions=["Linux/UNIX"]
    )["SpotPriceHistory"]
    assert [float(row["SpotPrice"]) for row in history] == [account.machines.market.price("g5.xlarge", ZONE, now)]
    longer = account.ec2.describe_spot_price_history(InstanceTypes=["g5.xlarge"], StartTime=now - 7200)
    assert len({row["AvailabilityZone"] for row in longer["SpotPriceHistory"]}) > 1
    assert longer["SpotPriceHistory"] == sorted(
        longer["SpotPriceHistory"], key=lambda row: row["Timestamp"], reverse=True
    )


# -- the market -----------------------------------------------------------------------------------------------------


def test_prices_walk_within_bounds_and_depend_on_the_seed_alone() -> None:
    one, same, other = SpotMarket(START, 7), SpotMarket(START, 7), SpotMarket(START, 8)
    hours = [START + 3600 * hour for hour in range(500)]
    walk = [one.price("g5.xlarge", ZONE, at) for at in hours]
    assert [same.price("g5.xlarge", ZONE, at) for at in reversed(hours)] == walk[::-1]
    assert [other.price("g5.xlarge", ZONE, at) for at in hours] != walk
    shares = [price / prices.on_demand("g5.xlarge") for price in walk]
    assert 0.29 < min(shares) < max(shares) < 0.51
    assert len(set(walk)) > 50


def test_cost_is_the_price_of_each_moment_and_jumps_are_capped() -> None:
    market = SpotMarket(START, 7)
    first, second = (market.price("g5.xlarge", ZONE, START + 3600 * hour) for hour in (0, 1))
    assert market.cost("g5.xlarge", ZONE, START + 1800, START + 5400) == pytest.approx((first + second) / 2)
    market.jump(2.0, START, START + 1800)
    assert market.price("g5.xlarge", ZONE, START) == pytest.approx(2 * first, rel=1e-3)
    assert market.cost("g5.xlarge", ZONE, START, START + 3600) == pytest.approx(1.5 * first, rel=1e-3)
    market.jump(50.0, START + 7200, types=["g6.xlarge"])
    assert market.price("g6.xlarge", ZONE, START + 7200) == prices.on_demand("g6.xlarge")
    assert market.price("g5.xlarge", ZONE, START + 7200) < 0.51 * prices.on_demand("g5.xlarge")


def test_a_type_without_a_price_is_refused_by_name() -> None:
    with pytest.raises(NotModelledError, match=r"m5\.large"):
        prices.on_demand("m5.large")
