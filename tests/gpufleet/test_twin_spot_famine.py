"""Spot that AWS does not give, takes back, and gives again: the jobs are served on on-demand instances meanwhile, and
the fleet goes back to spot by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from twin_pools import BOOT_S, HOUR, LOOK_S, MINUTE, SERVICE_S, Pools

from gpufleet.twin.prices import on_demand
from gpufleet.twin.services.machines import Instance

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

FAMINE_S, BACK_S = 30 * MINUTE, 15 * MINUTE
GROUP_S = 6.0  # what Auto Scaling takes from a changed desired count to the launch
IDLE_S = 2 * LOOK_S  # the controller sees it idle, however its looks fall
TARGET_S = 300.0  # the stack's waitTargetSeconds


def spot_price(pools: Pools) -> float:
    """Dollars an hour that were paid for spot, on average."""
    return pools.world.bill.by_kind()["spot"] / running_s(pools, spot=True) * HOUR


def running_s(pools: Pools, *, spot: bool) -> float:
    """Seconds that the pool's instances ran, all in all."""
    found = [one for one in pools.world.machines.instances.values() if one.spot is spot and one.running_at is not None]
    return sum((pools.now() if one.ended_at is None else one.ended_at) - (one.running_at or 0.0) for one in found)


def usd(pools: Pools) -> float:
    """Dollars for instances."""
    bill = pools.world.bill.by_kind()
    return bill.get("spot", 0.0) + bill.get("on-demand", 0.0)


@dataclass(frozen=True)
class Day:
    """What is left of a day. Times are seconds from the first job on; `usd` and `running_s` by "is spot"."""

    waits: Mapping[str, float]
    launches: list[tuple[float, bool]]
    gone: dict[bool, float]
    running_s: dict[bool, float]
    usd: float
    spot_usd: float


def lived(famine_at: float | None = None, *, interrupt: bool = False, service_s: float = SERVICE_S) -> Day:
    """An hour of a steady load of one and a half instances, with a famine or without; every boot takes equally long."""
    with Pools(even=True, edits={"advanced.expectedServiceSeconds": int(service_s)}) as pools:
        began, world = pools.began, pools.world
        if famine_at is not None:
            world.set_spot_shortage(began + famine_at, began + famine_at + FAMINE_S, interrupt=interrupt)
        pools.steady(180 / service_s, HOUR, service_s)
        world.run_for(HOUR)
        assert world.run_until(pools.home, limit_s=HOUR)
        pools.check()
        everyone = list(world.machines.instances.values())
        return Day(
            waits=world.account().waits,
            launches=[(one.launched_at - began, one.spot) for one in everyone],
            gone={spot: max((end(one) - began for one in everyone if one.spot is spot), default=0.0) for spot in SIDES},
            running_s={spot: running_s(pools, spot=spot) for spot in SIDES},
            usd=usd(pools),
            spot_usd=spot_price(pools),
        )


SIDES = (True, False)


def end(one: Instance) -> float:
    assert one.ended_at is not None
    return one.ended_at


@pytest.mark.long
def test_half_an_hour_without_spot_costs_two_looks_and_the_price_of_on_demand(subtests: pytest.Subtests) -> None:
    smooth, famine = lived(), lived(famine_at=0.0)
    with subtests.test("one look sees that spot was refused and takes the request back, the next asks on-demand"):
        (first, spot), (instead, still_spot) = smooth.launches[0], famine.launches[0]
        assert (spot, still_spot) == (True, False)
        assert instead - first <= 2 * LOOK_S + GROUP_S
    with subtests.test("no job waits longer than undisturbed by more than a boot and those looks, or than promised"):
        extra = {job: wait - smooth.waits[job] for job, wait in famine.waits.items()}
        assert max(extra.values()) <= BOOT_S + 2 * LOOK_S
        assert max(famine.waits.values()) <= TARGET_S
    with subtests.test("on-demand has gone a quarter of an hour after spot came back"):
        assert FAMINE_S < famine.gone[False] <= FAMINE_S + BACK_S
        assert all(spot for at, spot in famine.launches if at > FAMINE_S)
    with subtests.test("the instances run as long as undisturbed, and while one takes over from the other"):
        swaps = sum(not spot for _, spot in famine.launches)
        overlap_s = sum(famine.running_s.values()) - sum(smooth.running_s.values())
        assert overlap_s <= swaps * (BOOT_S + 2 * LOOK_S + 2 * SERVICE_S)
    with subtests.test(
        "and the bill is that of the undisturbed day, that overlap, and on-demand's price instead of spot's"
    ):
        dearer = famine.running_s[False] / HOUR * (on_demand("g5.xlarge") - smooth.spot_usd)
        assert famine.usd == pytest.approx(smooth.usd + overlap_s / HOUR * smooth.spot_usd + dearer, rel=0.02)


@pytest.mark.long
def test_a_famine_that_takes_every_instance_back_is_bridged_within_the_wait_target(subtests: pytest.Subtests) -> None:
    famine_at = 15 * MINUTE
    day = lived(famine_at=famine_at, interrupt=True)
    with subtests.test("four looks: the notice, spot asked and refused, on-demand asked"):
        replaced_at, spot = next(one for one in day.launches if one[0] > famine_at)
        assert not spot
        assert replaced_at - famine_at <= 4 * LOOK_S + GROUP_S
        assert replaced_at - famine_at < 120, "before the interrupted ones have gone"
    with subtests.test("no job waits for longer than promised"):
        assert max(day.waits.values()) <= TARGET_S
    with subtests.test("on-demand has gone a quarter of an hour after spot came back"):
        assert day.gone[False] <= famine_at + FAMINE_S + BACK_S


def test_a_notice_brings_the_replacement_before_the_instance_has_gone(subtests: pytest.Subtests) -> None:
    """Every instance is to go. Jobs that take longer than the two minutes that are left are handed back."""
    with Pools() as pools:
        world = pools.world
        pools.steady(4.5, 18 * MINUTE)
        world.run_for(10 * MINUTE)
        long = pools.send(2, service_s=200)
        assert world.run_until(lambda: set(long) <= pools.attempts().keys(), limit_s=5 * MINUTE)
        victims, noticed_at = pools.in_service(), world.now()
        assert len(victims) == 2
        for one in victims:
            world.interrupt(one.id)
        world.run_for(2 * MINUTE + 1)
        with subtests.test("asked for within four looks, and launched while the others still run"):
            assert {(one.ended_by, one.ended_at) for one in victims} == {("spot", noticed_at + 120)}
            asked = [one.at for one in pools.asked("SetDesiredCapacity", noticed_at)]
            launched = [one.launched_at for one in pools.launched(noticed_at)]
            assert noticed_at < min(asked) <= noticed_at + 4 * LOOK_S
            assert min(asked) < min(launched) < noticed_at + 120
        with subtests.test("the jobs are handed back and completed"):
            world.run_for(5 * MINUTE)
            assert world.run_until(pools.home, limit_s=HOUR)
            pools.check()
            attempts = pools.attempts()
            assert [attempts[job] for job in long] == [2, 2]
            assert max(attempts.values()) == 2


# -- what the law does not keep yet ------------------------------------------------------------------------------------


@pytest.mark.long
def test_at_a_full_cap_on_demand_goes_at_the_first_idle_moment_after_spot_came_back() -> None:
    with Pools(cap=1, even=True) as pools:
        world = pools.world
        world.set_spot_shortage(pools.began, pools.began + FAMINE_S)
        pools.steady(2.5, FAMINE_S + 10 * MINUTE)
        world.run_for(FAMINE_S + 10 * MINUTE)
        assert world.run_until(pools.served, limit_s=HOUR)
        assert pools.of_pool(spot=False), "busy all the time, so it is still there"
        idle_at, left = world.now(), lambda: not pools.of_pool(spot=False)
        world.run_for(IDLE_S)
        pools.steady(2.5, 30 * MINUTE)
        assert world.run_until(left, limit_s=20 * MINUTE), "two looks to be sure that it is idle, then its drain"
        assert world.now() - idle_at <= 2 * MINUTE


@pytest.mark.long
def test_with_jobs_too_long_for_the_drain_no_replacement_is_sent_home_in_vain() -> None:
    day = lived(famine_at=0.0, service_s=90.0)
    after = [at for at, spot in day.launches if spot and at > FAMINE_S]
    assert len(after) <= 4, "one for each on-demand instance, and as many to spare"
