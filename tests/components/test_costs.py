"""The numbers that the guard and the tables rest on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components import catalog, costs
from components.settings import Settings

ROOT = Path(__file__).parents[2]
NETWORK = {"vpcId": "vpc-01234567", "privateSubnetIds": ["subnet-01234567"]}
LOCAL = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/vllm@sha256:" + "a" * 64


def test_a_stack_with_its_own_network_pays_for_its_gateway_all_month() -> None:
    own, shared = (costs.fixed_usd_per_month(flag, "us-east-1") for flag in (True, False))
    assert own - shared == pytest.approx(744 * (0.045 + 0.005))
    assert 10 < shared < 20


def test_fixed_costs_are_itemised_and_grow_with_the_region() -> None:
    items = costs.fixed_costs(True, "us-east-1")
    assert sum(item.usd_per_month for item in items) == costs.fixed_usd_per_month(True, "us-east-1")
    assert all(item.usd_per_month > 0 for item in items)
    virginia, tokyo = (
        costs.fixed_usd_per_month(True, region, reconcile_daily=False) for region in ("us-east-1", "ap-northeast-1")
    )
    assert tokyo == pytest.approx(virginia * catalog.region_factor("ap-northeast-1"))


@pytest.mark.parametrize("region", ["us-east-1", "ap-northeast-1"])
def test_asking_cost_explorer_daily_is_a_cent_a_day_everywhere(region: str) -> None:
    asked, silent = (costs.fixed_usd_per_month(True, region, reconcile_daily=flag) for flag in (True, False))
    assert asked - silent == pytest.approx(31 * 0.01)


def test_a_dedicated_account_pays_for_one_alarm_more_where_aws_publishes_its_charges() -> None:
    def more(region: str) -> float:
        return costs.fixed_usd_per_month(True, region, dedicated_account=True) - costs.fixed_usd_per_month(True, region)

    assert more("us-east-1") == pytest.approx(0.10 * 744 / 730)
    assert more("eu-central-1") == 0


def test_a_stopped_stack_saves_its_controllers_running_time_and_most_of_its_looks() -> None:
    running, stopped = (
        {item.what: item.usd_per_month for item in costs.fixed_costs(True, "us-east-1", stopped=flag)}
        for flag in (False, True)
    )
    assert {what for what in running if running[what] != stopped[what]} == {
        "controller function, always running",
        "queue reads",
        "tables",
    }
    assert 5 * stopped["queue reads"] < running["queue reads"]
    assert running["controller function, always running"] - stopped["controller function, always running"] > 4.5


def test_the_settings_say_what_is_fixed() -> None:
    assert costs.fixed_usd_of(load("dev")) == costs.fixed_usd_per_month(True, "us-east-1")
    edits = {"dedicatedAccount": "true", "advanced.reconcileDaily": "false", "network": NETWORK}
    bare = costs.fixed_usd_per_month(False, "us-east-1", dedicated_account=True, reconcile_daily=False)
    assert costs.fixed_usd_of(load("dev", **edits)) == bare


def test_a_million_jobs_cost_ten_dollars_and_one_through_the_nat_gateway() -> None:
    own, given = costs.per_job_usd(True, "us-east-1"), costs.per_job_usd(False, "us-east-1")
    assert 1e6 * given == pytest.approx(5 * 0.40 + 3 * 0.625 + 5.00)
    assert 1e6 * (own - given) == pytest.approx(20e-6 * 0.045 * 1e6)
    assert costs.per_job_usd(True, "eu-central-1") == pytest.approx(own * 1.26)


def test_the_budget_page_shows_the_idle_month_item_by_item() -> None:
    page = (Path(__file__).parents[2] / "docs" / "budget.md").read_text()
    for item in costs.fixed_costs(True, "us-east-1"):
        assert f"| {item.what} | {item.usd_per_month:.2f} |" in page
    assert f"**{costs.fixed_usd_per_month(True, 'us-east-1'):.2f}**" in page


def test_a_disk_costs_its_size() -> None:
    assert costs.disk_usd_per_hour(100, "us-east-1") * 720 == pytest.approx(8)
    assert costs.disk_usd_per_hour(100, "eu-central-1") > costs.disk_usd_per_hour(100, "us-east-1")


def test_a_boot_is_cheap_with_the_image_in_the_regions_own_registry() -> None:
    local = costs.per_boot_usd(LOCAL, True, "eu-central-1")
    elsewhere = costs.per_boot_usd(LOCAL, True, "eu-west-1")
    assert 0 < local < 0.05 < elsewhere
    assert costs.per_boot_usd("vllm/vllm-openai@sha256:" + "a" * 64, True, "eu-central-1") > 0.5
    assert costs.per_boot_usd(LOCAL, False, "eu-central-1") == 0


def load(stack: str, **overrides: Any) -> Settings:
    return Settings.from_stack_file(ROOT / f"Pulumi.{stack}.yaml", overrides=overrides)


def test_days_at_full_load_are_what_is_left_after_fixed_costs() -> None:
    s = load("prod")
    hour = 10 * (1.3232 + costs.disk_usd_per_hour(s.advanced.disk_gib, "us-east-1"))  # g6.4xlarge, the dearest
    assert costs.full_load_usd_per_hour(s) == pytest.approx(hour)
    spent = costs.fixed_usd_per_month(True, "us-east-1") + costs.days_at_full_load(s) * 24 * hour
    assert spent == pytest.approx(3000)


def test_more_instances_shorten_the_days_and_a_large_budget_lasts_the_month() -> None:
    assert costs.days_at_full_load(load("dev", maxGpuInstances="2")) < costs.days_at_full_load(load("dev"))
    assert costs.days_at_full_load(load("dev", monthlyBudgetUsd="5000")) == 31


RESERVED = {"id": "cr-0123456789abcdef0", "instanceType": "g5.xlarge", "instances": 2}


def test_reserved_capacity_is_paid_all_month_and_its_instances_only_add_their_disks() -> None:
    plain, held = load("prod"), load("prod", capacityReservation=RESERVED)
    month = 2 * 1.006 * 744
    assert costs.reserved_usd_per_month(held.capacity_reservation, held.region) == pytest.approx(month)
    assert costs.reserved_usd_per_month(None, held.region) == 0
    assert costs.idle_usd_per_month(held) - costs.idle_usd_per_month(plain) == pytest.approx(month)
    dearest = 1.3232  # g6.4xlarge
    saved = costs.full_load_usd_per_hour(plain) - costs.full_load_usd_per_hour(held)
    assert saved == pytest.approx(2 * dearest)
    spent = costs.idle_usd_per_month(held) + costs.days_at_full_load(held) * 24 * costs.full_load_usd_per_hour(held)
    assert spent == pytest.approx(3000)


def test_reserved_capacity_costs_what_its_region_asks() -> None:
    s = load("prod", capacityReservation=RESERVED, **{"aws:region": "eu-central-1"})
    assert costs.reserved_usd_per_month(s.capacity_reservation, "eu-central-1") == pytest.approx(2 * 1.006 * 1.26 * 744)
