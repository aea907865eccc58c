"""A price that nobody knows is the dearest that can be, and somebody is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aws_world import CONTROL, ON_DEMAND_GROUP, World
from fleet_control.spend_ledger import Ledger
from fleet_control.spend_prices import Prices
from fleet_functions import Functions

LISTED = {"g5.xlarge": 1.006, "g6.xlarge": 0.8048}


@pytest.fixture
def pricing(functions: Functions) -> Functions:
    functions.guard_config |= {
        "prices_usd_per_hour": LISTED,
        "gpus": {"g5.xlarge": 1, "g6.xlarge": 1},
        "dearest_by_gpus": {"1": 4.5, "4": 10.5, "8": 30.1},
        "dearest_usd_per_hour": 30.1,
    }
    return functions


def hour_of(world: World, functions: Functions, kind: str) -> float:
    """What the meter charges for an hour of an instance of this type."""
    functions.guard()
    world.serving(ON_DEMAND_GROUP, launched=world.at, type=kind)
    world.at += 3000
    functions.guard()
    return Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"]).instance_usd * 3600 / 3000


def doubtful(world: World) -> list[float]:
    return [one["Value"] for one in world.metrics if one["MetricName"] == "DoubtfulPrices"]


def test_a_listed_type_costs_its_price_and_raises_no_doubt(world: World, pricing: Functions) -> None:
    assert hour_of(world, pricing, "g6.xlarge") == pytest.approx(0.8048)
    assert doubtful(world) == []
    assert world.changed("gpu-counts") == []


def test_an_unknown_type_costs_the_dearest_of_its_number_of_gpus(world: World, pricing: Functions) -> None:
    world.gpu_counts = {"g9.12xlarge": 4}
    assert hour_of(world, pricing, "g9.12xlarge") == pytest.approx(10.5)
    assert world.changed("gpu-counts") == [("gpu-counts", ("g9.12xlarge",))], "asked once, then kept"
    assert doubtful(world) == [1.0]
    assert "charged at the dearest price: g9.12xlarge" in world.logs[-1]["acts"]


def test_a_type_of_which_nothing_is_known_costs_the_dearest_of_all(world: World, pricing: Functions) -> None:
    assert hour_of(world, pricing, "x9.mystery") == pytest.approx(30.1)
    world.gpu_counts = {"x9.mystery": 16}
    pricing.guard()
    assert "charged at the dearest price: x9.mystery" in world.logs[-1]["acts"], "16 GPUs: no known price either"


def test_a_price_list_of_more_than_400_days_ago_is_trusted_no_more(world: World, pricing: Functions) -> None:
    pricing.guard_config["prices_as_of"] = "2025-10-01"
    assert hour_of(world, pricing, "g6.xlarge") == pytest.approx(4.5)
    assert doubtful(world) == [2.0, 2.0], "said from the first tick on, whatever runs"
    launch = world.row(CONTROL, "budget")["launch_usd"]
    assert launch == pytest.approx(2 * 0.05 + 4.51 * (600 + 2 * 1050) / 3600), "launches are admitted at that price too"


def test_a_price_list_of_exactly_400_days_ago_still_holds(world: World, pricing: Functions) -> None:
    pricing.guard_config["prices_as_of"] = "2025-10-18"
    assert (datetime.fromtimestamp(world.at, UTC).date() - datetime(2025, 10, 18, tzinfo=UTC).date()).days == 400
    assert hour_of(world, pricing, "g6.xlarge") == pytest.approx(0.8048)


def test_no_doubt_makes_a_type_cheaper_than_it_is_known_to_be() -> None:
    prices = Prices({"p5.4xlarge": 6.88}, 30.1, gpus={"p5.4xlarge": 1}, dearest_by_gpus={1: 4.5}, stale=True)
    assert prices.list_price("p5.4xlarge") == 6.88


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prices_as_of": "last summer"}, "keys prices_as_of, dearest_by_gpus: Invalid isoformat string"),
        ({"dearest_by_gpus": {"many": 4.5}}, "keys prices_as_of, dearest_by_gpus: invalid literal"),
        ({"gpus": [1]}, "key gpus = [1]: must be Mapping[str, int]"),
    ],
)
def test_a_wrong_price_list_names_the_key(functions: Functions, change: dict[str, object], message: str) -> None:
    functions.guard_config |= change
    with pytest.raises(ValueError, match="FLEET_CONTROL_CONFIG: ") as error:
        functions.guard()
    assert message in str(error.value)
