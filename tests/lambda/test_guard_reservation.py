"""The guard of a fleet with reserved capacity: it pays for it all the time, and says how much of it is idle."""

from __future__ import annotations

from typing import Any

import pytest
from aws_world import CONTROL, ON_DEMAND_GROUP, World
from fleet_functions import Functions

HELD = {"id": "cr-0123456789abcdef0", "type": "g5.xlarge", "instances": 2}


@pytest.fixture
def reserving(functions: Functions) -> Functions:
    functions.guard_config["monthly_usd"] = 2000.0
    functions.guard_config["fleets"][0]["reservation"] = dict(HELD)
    return functions


def test_idle_capacity_is_spent_by_the_hour_and_committed_to_the_end_of_the_month(
    world: World, reserving: Functions
) -> None:
    reserving.guard()
    first = world.row(CONTROL, "budget")
    days_left = 8.5  # from 2026-11-22 12:00
    assert first["committed_usd"] == pytest.approx(2 * 1.006 * 24 * days_left + 37.2 * days_left / 31, abs=1e-4)
    world.at += 3600
    reserving.guard()
    row = world.row(CONTROL, "budget")
    assert row["spent_usd"] == pytest.approx(2 * 1.006 + 37.2 / 744, abs=1e-5)
    assert row["spent_usd"] + row["committed_usd"] == pytest.approx(first["committed_usd"], abs=1e-4)
    assert world.logs[-1]["reserved_idle"] == 2


def test_an_instance_that_aws_does_not_show_inside_is_charged_beside_the_reservation(
    world: World, reserving: Functions
) -> None:
    reserving.guard()
    world.serving(ON_DEMAND_GROUP, launched=world.at)
    world.at += 3600
    reserving.guard()
    assert world.row(CONTROL, "budget")["spent_usd"] == pytest.approx(3 * 1.006 + 0.01 + 0.05 + 37.2 / 744, abs=1e-5)
    assert world.logs[-1]["reserved_idle"] == 2


def test_a_budget_that_cannot_hold_the_reservation_is_latched_at_the_first_tick(
    world: World, reserving: Functions
) -> None:
    reserving.guard_config["monthly_usd"] = 400.0
    reserving.guard()
    assert world.row(CONTROL, "latch")["reason"] == "budget"


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("cr-0123456789abcdef0", "key fleets[0].reservation: must be an object"),
        ({"id": "cr-1", "type": "g5.xlarge"}, "missing key fleets[0].reservation.instances"),
        ({**HELD, "instances": "2"}, "key fleets[0].reservation.instances = '2': must be int"),
        ({**HELD, "zone": "a"}, "unknown key fleets[0].reservation.zone"),
    ],
)
def test_a_wrong_reservation_names_the_key(functions: Functions, held: Any, message: str) -> None:
    functions.guard_config["fleets"][0]["reservation"] = held
    with pytest.raises(ValueError, match="FLEET_CONTROL_CONFIG: ") as error:
        functions.guard()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"on_demand_base": -1}, "policy on_demand_base = -1"),
        ({"on_demand_fallback": 1}, "policy on_demand_fallback = 1"),
    ],
)
def test_a_wrong_share_of_on_demand_names_the_key(functions: Functions, change: dict[str, Any], message: str) -> None:
    functions.controller_config["policy"].update(change)
    with pytest.raises(ValueError, match="FLEET_CONTROL_CONFIG: ") as error:
        functions.controller()
    assert message in str(error.value)
