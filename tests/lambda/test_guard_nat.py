"""A boot's bytes are an estimate until the NAT gateway has counted them."""

from __future__ import annotations

import itertools

import pytest
from aws_world import CONTROL, ON_DEMAND_GROUP, World
from fleet_control.spend_ledger import Ledger
from fleet_functions import Functions
from tables import Tables

GATEWAY = "nat-0123456789abcdef0"


@pytest.fixture
def dynamodb() -> Tables:
    """In memory: there are hours of ticks."""
    return Tables()


@pytest.fixture
def metering(world: World, functions: Functions) -> Functions:
    """Ten GB an image: $0.45 through the gateway, of which the settings know no better than $0.675."""
    functions.guard_config |= {"nat_gateways": [GATEWAY], "per_boot_usd": 0.675}
    world.nat = {GATEWAY: []}
    return functions


def stored(world: World) -> Ledger:
    return Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"])


def minutes(world: World, functions: Functions, number: int) -> None:
    for _ in range(number):
        world.at += 60
        functions.guard()


def boots(world: World) -> None:
    world.serving(ON_DEMAND_GROUP, launched=world.at)
    world.nat[GATEWAY].append((world.at + 120, 10.0))


def test_an_estimate_gives_way_to_what_was_counted(world: World, metering: Functions) -> None:
    metering.guard()
    boots(world)
    minutes(world, metering, 60)
    assert (stored(world).boot_usd, stored(world).nat_usd) == (0.675, 0.0), "until the hour is over and a little more"
    minutes(world, metering, 20)
    assert (stored(world).boot_usd, stored(world).nat_usd) == (0.0, pytest.approx(0.45))
    minutes(world, metering, 60)
    assert (stored(world).boot_usd, stored(world).nat_usd) == (0.0, pytest.approx(0.45)), "counted once"
    assert len(world.changed("nat")) == 2, "once an hour"


def test_a_boot_whose_bytes_are_still_to_come_keeps_its_estimate(world: World, metering: Functions) -> None:
    metering.guard()
    minutes(world, metering, 50)
    boots(world)
    minutes(world, metering, 27)
    assert len(world.changed("nat")) == 1
    assert stored(world).boot_usd == 0.675, "over for a while, never under"


def test_bytes_are_asked_for_without_a_gap_or_an_overlap(world: World, metering: Functions) -> None:
    metering.guard()
    minutes(world, metering, 200)
    asked = world.changed("nat")
    assert len(asked) >= 2
    assert all(one[2] == other[1] for one, other in itertools.pairwise(asked))


def test_a_gateway_that_tells_nothing_leaves_the_estimate(world: World, metering: Functions) -> None:
    metering.guard()
    boots(world)
    world.nat = {}
    minutes(world, metering, 120)
    assert (stored(world).boot_usd, stored(world).nat_usd) == (0.675, 0.0)


def test_a_new_month_counts_from_its_first_moment(world: World, metering: Functions) -> None:
    world.at += 8.5 * 86_400 - 1800
    metering.guard()
    boots(world)
    minutes(world, metering, 150)
    assert stored(world).boot_usd == 0.675, "a boot of the last half hour of a month stays an estimate"
    december = Ledger.from_json(world.row(CONTROL, "ledger#2026-12")["record"])
    assert december.nat_usd == 0
    assert next(one[1] for one in world.changed("nat")) % 86_400 == 0


def test_without_a_gateway_nobody_is_asked(world: World, functions: Functions) -> None:
    functions.guard()
    minutes(world, functions, 120)
    assert world.changed("nat") == []
