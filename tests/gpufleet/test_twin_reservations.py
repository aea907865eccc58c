"""Capacity reservations in the twin: who runs in them, what they cost, and the guard's meter beside the bill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twin_account import START, Account, refused

from components import costs
from components.settings import Settings
from gpufleet.demo.stage import Stage
from gpufleet.twin.billing import Bill
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).parents[2]
HOUR = 3600.0


@pytest.fixture
def account() -> Iterator[Account]:
    with Cloud(START, seed=1) as cloud:
        yield Account(cloud)


def reserve(account: Account, zone: str, count: int = 1, instance_type: str = "g5.xlarge") -> str:
    made = account.ec2.create_capacity_reservation(
        InstanceType=instance_type,
        InstancePlatform="Linux/UNIX",
        AvailabilityZone=zone,
        InstanceCount=count,
        InstanceMatchCriteria="targeted",
    )
    return made["CapacityReservation"]["CapacityReservationId"]


def reserving(number: str, **change: Any) -> dict[str, Any]:
    return {
        "CapacityReservationSpecification": {
            "CapacityReservationPreference": "capacity-reservations-first",
            "CapacityReservationTarget": {"CapacityReservationIds": [number]},
        },
        "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "reservations-then-balanced"},
        **change,
    }


def reservations(account: Account) -> list[str]:
    """Where each instance runs, in launch order: zone and reservation."""
    found = account.ec2.describe_instances()["Reservations"]
    shown = [row["Instances"][0] for row in found]
    return [
        f"{one['Placement']['AvailabilityZone'][-1]}{'*' if one.get('CapacityReservationId') else ''}" for one in shown
    ]


def test_launches_go_into_the_reservation_first_and_beyond_it_they_are_on_demand(account: Account) -> None:
    number = reserve(account, "us-east-1b", 2)
    account.make_group(MixedInstancesPolicy=account.mixed(OnDemandPercentageAboveBaseCapacity=100), **reserving(number))
    account.desire(4)
    account.clock.run_for(300)
    assert sorted(reservations(account)) == ["a", "a", "b*", "b*"]
    shown = account.ec2.describe_capacity_reservations(CapacityReservationIds=[number])["CapacityReservations"][0]
    assert (shown["TotalInstanceCount"], shown["AvailableInstanceCount"]) == (2, 0)


def test_a_group_that_evens_out_its_zones_first_leaves_a_reservation_idle(account: Account) -> None:
    """What `reservations-then-balanced` is for: one zone of two holds all that is reserved."""
    even = {"AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"}}
    number = reserve(account, "us-east-1b", 2)
    account.make_group(**reserving(number, **even))
    account.desire(2)
    account.clock.run_for(300)
    assert sorted(reservations(account)) == ["a", "b*"]


def test_a_reservation_gives_capacity_where_there_is_none_and_only_of_its_type(account: Account) -> None:
    account.machines.market.on_demand_available = lambda kind, zone, at: False
    number, other = reserve(account, "us-east-1a"), reserve(account, "us-east-1a", instance_type="g6.xlarge")
    account.make_group(**reserving(other))
    account.make_group("holder", **reserving(number))
    account.desire(2)
    account.desire(2, "holder")
    account.clock.run_for(600)
    assert account.states() == []
    assert account.states("holder") == ["InService"]


def test_spot_instances_never_enter_a_reservation(account: Account) -> None:
    number = reserve(account, "us-east-1a", 5)
    account.make_group(MixedInstancesPolicy=account.mixed(), **reserving(number))
    account.desire(2)
    account.clock.run_for(300)
    assert sorted(reservations(account)) == ["a", "b"]


def test_a_cancelled_or_unknown_reservation_stops_no_launch(account: Account) -> None:
    number = reserve(account, "us-east-1a")
    account.make_group(**reserving(number))
    account.desire(1)
    account.clock.run_for(300)
    assert reservations(account) == ["a*"]
    account.ec2.cancel_capacity_reservation(CapacityReservationId=number)
    account.make_group("late", **reserving("cr-0123456789abcdef0"))
    account.desire(2)
    account.desire(1, "late")
    account.clock.run_for(300)
    assert all(not one.endswith("*") for one in reservations(account)), "those that ran in it go on as ordinary ones"
    assert len(account.states()) + len(account.states("late")) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CapacityReservationSpecification": {"CapacityReservationPreference": "open"}}, "Invalid"),
        (
            {"CapacityReservationSpecification": {"CapacityReservationPreference": "none"}},
            "needs Capacity Reservations",
        ),
        ({"AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "all-in-one"}}, "Invalid"),
        (
            {
                "CapacityReservationSpecification": {
                    "CapacityReservationPreference": "none",
                    "CapacityReservationTarget": {"CapacityReservationIds": ["cr-0123456789abcdef0"]},
                }
            },
            "cannot be specified with",
        ),
    ],
)
def test_what_aws_refuses_of_reservations(account: Account, change: dict[str, Any], words: str) -> None:
    with refused("ValidationError", words):
        account.make_group(**reserving("cr-0123456789abcdef0", **change))
    account.make_group()
    with refused("ValidationError", words):
        account.aws.update_auto_scaling_group(
            AutoScalingGroupName="fleet", **reserving("cr-0123456789abcdef0", **change)
        )


def test_what_is_not_modelled_of_reservations_is_refused_by_name(account: Account) -> None:
    target = {"CapacityReservationIds": ["cr-0123456789abcdef0"]}
    for preference in ("capacity-reservations-only", "default"):
        given = {"CapacityReservationPreference": preference, "CapacityReservationTarget": target}
        with pytest.raises(NotModelledError, match=preference):
            account.make_group(CapacityReservationSpecification=given)
    arns = {"CapacityReservationResourceGroupArns": ["arn:aws:resource-groups:us-east-1:123456789012:group/x"]}
    with pytest.raises(NotModelledError, match="CapacityReservationResourceGroupArns"):
        account.make_group(
            CapacityReservationSpecification={
                "CapacityReservationPreference": "capacity-reservations-first",
                "CapacityReservationTarget": arns,
            }
        )
    with pytest.raises(NotModelledError, match="balanced-only"):
        account.make_group(AvailabilityZoneDistribution={"CapacityDistributionStrategy": "balanced-only"})


def test_a_capacity_reservation_from_its_making_to_its_end(account: Account) -> None:
    wanted = {
        "InstanceType": "g5.xlarge",
        "InstancePlatform": "Linux/UNIX",
        "AvailabilityZone": "us-east-1a",
        "InstanceCount": 2,
        "InstanceMatchCriteria": "targeted",
    }
    tags = [{"ResourceType": "capacity-reservation", "Tags": [{"Key": "a", "Value": "1"}]}]
    made = account.ec2.create_capacity_reservation(**wanted, TagSpecifications=tags)["CapacityReservation"]
    number = made["CapacityReservationId"]
    assert number.startswith("cr-")
    assert (made["State"], made["AvailableInstanceCount"], made["Tags"]) == (
        "active",
        2,
        [{"Key": "a", "Value": "1"}],
    )
    assert account.ec2.describe_capacity_reservations()["CapacityReservations"] == [made]
    account.ec2.cancel_capacity_reservation(CapacityReservationId=number)
    ended = account.ec2.describe_capacity_reservations(CapacityReservationIds=[number])["CapacityReservations"][0]
    assert (ended["State"], ended["AvailableInstanceCount"]) == ("cancelled", 0)
    with refused("InvalidCapacityReservationId.NotFound", "does not exist"):
        account.ec2.cancel_capacity_reservation(CapacityReservationId="cr-0123456789abcdef0")
    with refused("InvalidParameterValue", "at least 1"):
        account.ec2.create_capacity_reservation(**{**wanted, "InstanceCount": 0})
    for change in ({"InstanceMatchCriteria": "open"}, {"InstancePlatform": "Windows"}, {"Tenancy": "dedicated"}):
        with pytest.raises(NotModelledError, match=next(iter(change))):
            account.ec2.create_capacity_reservation(**{**wanted, **change})


def test_reserved_capacity_costs_from_its_making_to_its_end_and_what_runs_in_it_nothing_more(
    account: Account,
) -> None:
    bill = Bill(account.cloud, account.machines)
    number = reserve(account, "us-east-1a", 2)
    account.make_group(**reserving(number))
    account.desire(1)
    account.clock.run_for(3 * HOUR)
    assert bill.by_kind()["reserved"] == pytest.approx(3 * 2 * 1.006)
    assert "on-demand" not in bill.by_kind()
    assert bill.by_kind()["disk"] > 0
    account.ec2.cancel_capacity_reservation(CapacityReservationId=number)
    account.clock.run_for(2 * HOUR)
    assert bill.by_kind()["reserved"] == pytest.approx(3 * 2 * 1.006)
    assert bill.by_kind()["on-demand"] == pytest.approx(2 * 1.006), "the instance goes on as an ordinary one"


# -- the deployed program -------------------------------------------------------------------------------------------


def one_reserved(stage: Stage, instance_type: str, zone: str) -> dict[str, Any]:
    """The setting of a reservation for one instance that was just made."""
    made = stage.client("ec2").create_capacity_reservation(
        InstanceType=instance_type,
        InstancePlatform="Linux/UNIX",
        AvailabilityZone=zone,
        InstanceCount=1,
        InstanceMatchCriteria="targeted",
    )["CapacityReservation"]
    return {"id": made["CapacityReservationId"], "instanceType": instance_type, "instances": 1}


@pytest.mark.long
def test_the_guard_charges_what_is_reserved_all_the_time_and_what_runs_in_it_once() -> None:
    """The program as deployed, its meter against the bill: one instance in the reservation, one beside it."""
    with Stage(ROOT, "dev", {}, "us-east-1", seed=1) as stage:
        held = one_reserved(stage, "g5.xlarge", "us-east-1b")
        edits = {"capacityReservation": held, "monthlyBudgetUsd": 900, "maxGpuInstances": 2}
        stage.up(**edits, advanced={"dryRun": True})  # nobody but this test launches
        stage.world.run_for(HOUR)
        idle = stage.records("inference-scale-to-zero-dev", 0)[-1]
        assert (idle["instances"], idle["reserved_idle"]) == (0, 1)
        group = stage.outputs["onDemandGroup"]
        stage.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=2)
        stage.world.run_for(3 * HOUR)
        assert stage.records("inference-scale-to-zero-dev", 0)[-1]["reserved_idle"] == 0
        bill, ledger = stage.world.bill.by_kind(), stage.ledger()
        settings = Settings.from_stack_file(ROOT / "Pulumi.dev.yaml", overrides=edits)
        assert bill["reserved"] == pytest.approx(4 * 1.006, rel=0.01)
        assert ledger["reserved_usd"] == pytest.approx(bill["reserved"], rel=0.01)
        assert ledger["on_demand_usd"] == pytest.approx(bill["on-demand"], rel=0.01)
        assert ledger["on_demand_usd"] >= bill["on-demand"] * 0.999
        # The whole month's reservation is spoken for from its first minute.
        reserved = costs.reserved_usd_per_month(settings.capacity_reservation, "us-east-1")
        figures = stage.figures()
        held_usd = figures["spent_usd"] + figures["committed_usd"]
        assert held_usd > reserved * 29 / 31
        assert held_usd < costs.idle_usd_per_month(settings) + 10
        assert stage.failures() == []


def test_the_first_job_is_served_from_what_is_reserved_and_the_next_ones_from_spot() -> None:
    """The law's share, the group's preference and the reservation, together, as deployed."""
    with Stage(ROOT, "dev", {}, "us-east-1", seed=1) as stage:
        held = one_reserved(stage, "g6.xlarge", "us-east-1c")
        stage.up(capacityReservation=held, monthlyBudgetUsd=800, maxGpuInstances=2, onDemandFallback=False)
        stage.world.run_for(120)

        def launched() -> list[tuple[bool, str | None]]:
            found = stage.client("ec2").describe_instances()["Reservations"]
            rows = sorted((row["Instances"][0] for row in found), key=lambda one: one["LaunchTime"])
            return [(one.get("InstanceLifecycle") == "spot", one.get("CapacityReservationId")) for one in rows]

        def send(count: int) -> None:
            for number in range(count):
                body = f'{{"prompt": "Say {number}.", "max_tokens": 64}}'
                stage.client("sqs").send_message(QueueUrl=stage.outputs["queueUrl"], MessageBody=body)

        send(1)
        stage.world.run_for(60)
        assert launched() == [(False, held["id"])]
        send(400)
        stage.world.run_for(120)
        assert launched() == [(False, held["id"]), (True, None)]
        assert stage.failures() == []
