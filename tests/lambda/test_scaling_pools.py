"""Which pool is asked, and how instances are replaced: by example, and with a fleet that does what it is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from fleet_control.scaling_law import BOOTING, DRAINING, ON_DEMAND, READY, SPOT, Instance, Policy, Pool, State
from fleet_control.scaling_pools import PATIENCE_S, PROBE_S, PROBE_WAIT_S, REPLACE_WAIT_S
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_fleet import T0, TICK_S, Fleet, Told, booting, ready

COLD_S = 240.0
POLICY = Policy(slots=8, wait_target_s=300, service_s=20, cold_start_s=COLD_S, cap=6)
BOTH = (Pool(SPOT, 0, "1"), Pool(ON_DEMAND, 0, "1"))


def arriving(jobs: int, after_s: int = 3) -> Callable[[Fleet], None]:
    """So many jobs after every look; with ``after_s`` 0 they are seen waiting at every look."""
    return lambda fleet: fleet.arrive(jobs, after_s)


def starved(policy: Policy = POLICY, *, jobs: int = 18, seconds: float = 1800, tells: bool = True) -> Fleet:
    """A fleet that has worked for a while with a spot pool that delivers nothing."""
    fleet = Fleet(policy, spot=0, tells=tells)
    fleet.run(seconds, arriving(jobs))
    assert not fleet.live(SPOT)
    assert len(fleet.live(ON_DEMAND)) >= 1
    return fleet


# Spot, and on-demand for what it does not deliver


def test_spot_comes_first() -> None:
    fleet = Fleet(POLICY)
    fleet.run(3600, arriving(12))
    assert {pool for _, pool in fleet.launches} == {SPOT}
    assert fleet.waits


def test_a_refused_launch_moves_to_on_demand_once_spot_is_lowered() -> None:
    told = Told(POLICY, BOTH)
    first = told.look(0, waiting=8)
    assert (first.spot, first.on_demand) == (1, 0)
    told.pools = (Pool(SPOT, 1, "1", failed_at=T0 + 2), BOTH[1])
    lowered = told.look(10, waiting=8)
    assert (lowered.spot, lowered.on_demand) == (0, 0), "spot is lowered and read back before on-demand is raised"
    assert lowered.reason.startswith("spot fell short: delivered 0 of 1, the rest moves to on-demand")
    told.pools = BOTH
    moved = told.look(20, waiting=8)
    assert (moved.spot, moved.on_demand) == (0, 1)
    assert "on-demand, spot failed 10 s ago" in moved.reason


def test_an_earlier_refusal_says_nothing_about_this_launch() -> None:
    told = Told(POLICY, BOTH)
    told.look(0, waiting=8)
    told.pools = (Pool(SPOT, 1, "1", failed_at=T0 - 1), BOTH[1])
    assert told.look(10, waiting=8).spot == 1


def test_spot_that_delivers_nothing_for_a_cold_start_has_failed() -> None:
    told = Told(POLICY, BOTH)
    told.look(0, waiting=3)
    told.set(spot=1)
    assert all(told.look(at, waiting=3).spot == 1 for at in range(10, 241, 10))
    assert told.look(250, waiting=3).spot == 0
    told.set(spot=0)
    assert told.look(260, waiting=3).on_demand == 1


def test_every_instance_that_comes_gives_spot_another_cold_start() -> None:
    told = Told(POLICY, BOTH)
    told.look(0, waiting=70)
    told.set(spot=3)
    told.look(200, waiting=70)
    told.set(booting("i-1", 195), spot=3)
    assert told.look(250, waiting=70).spot == 3
    assert told.look(490, waiting=70).spot == 3
    lowered = told.look(500, waiting=70)
    assert (lowered.spot, lowered.on_demand) == (1, 0)


def test_a_slow_boot_is_delivered() -> None:
    told = Told(POLICY, BOTH)
    told.look(0, waiting=15)
    told.set(booting("i-1", 5), spot=1)
    seen = [told.look(at, waiting=15) for at in range(10, 1000, 10)]
    assert {one.spot - 1 >= one.on_demand for one in seen} == {True}, "what else is needed is asked of spot"
    assert all(one.on_demand == 0 for one in seen)


@pytest.mark.parametrize("tells", [True, False])
def test_what_spot_has_is_used_and_on_demand_is_the_rest(tells: bool) -> None:
    fleet = Fleet(POLICY, spot=2, tells=tells)
    worst = 0

    def look(one: Fleet) -> None:
        nonlocal worst
        one.arrive(18)
        worst = max(worst, len(one.live()))

    fleet.run(3600, look)
    assert len(fleet.live(SPOT)) == 2
    assert fleet.live(ON_DEMAND)
    assert worst <= POLICY.cap
    waited = POLICY.wait_target_s if tells else POLICY.wait_target_s + COLD_S + 2 * TICK_S
    assert max(fleet.waits) <= waited, "a refusal that is told costs a look or two, one that is not a cold start"


def test_on_demand_is_never_raised_while_spot_owes() -> None:
    """At any look: what is newly asked of on-demand is asked when spot's desired count is what it has delivered."""
    fleet = Fleet(POLICY, spot=0, tells=False)

    def look(one: Fleet) -> None:
        one.arrive(18)
        if one.now % 700 == 0:
            one.spot = (one.spot + 2) % 5

    for _ in range(700):
        look(fleet)
        owes, before = fleet.desired[SPOT] > len(fleet.live(SPOT)), fleet.desired[ON_DEMAND]
        probing = fleet.state.probed_at is not None
        decision = fleet.step()
        assert decision.on_demand <= before or not owes or probing
    assert any(pool == ON_DEMAND for _, pool in fleet.launches)


def test_without_fallback_on_demand_is_never_asked() -> None:
    fleet = Fleet(replace(POLICY, on_demand_fallback=False), spot=0)
    fleet.run(1800, arriving(3))
    assert not fleet.launches
    assert {one.on_demand for one in fleet.log} == {0}
    fleet.spot = 9
    fleet.until(lambda one: bool(one.live(SPOT, READY)), within_s=COLD_S + 30)


def test_a_failure_is_forgotten_where_fallback_is_switched_off() -> None:
    fleet = starved()
    fleet.policy = replace(POLICY, on_demand_fallback=False)
    fleet.run(10, arriving(18))
    assert fleet.state.spot_failed_at is None
    fleet.spot = 9
    fleet.until(lambda one: not one.live(ON_DEMAND), within_s=2400, each=arriving(18))
    assert fleet.live(SPOT)


@pytest.mark.parametrize("pool", [SPOT, ON_DEMAND])
def test_a_fleet_of_one_pool_asks_that_one(pool: str) -> None:
    told = Told(POLICY, (Pool(pool, 0, "1"),))
    decision = told.look(0, waiting=15)
    assert (decision.spot, decision.on_demand) == ((1, 0) if pool == SPOT else (0, 1))
    told.set(ready("i-1", 0, pool), **{pool.replace("-", "_"): 1})
    assert all(told.look(at).desired == 1 for at in range(10, 20, 10)), "one pool has nothing to be given back to"
    assert told.look(30).drain == ("i-1",)


def test_a_pool_nobody_knows_owes_nothing() -> None:
    told = Told(POLICY, (Pool(SPOT, 0, "1"), Pool("reserved", 3, "1")))
    told.set(ready("i-1", 0, "reserved"))
    decision = told.look(0, waiting=300)
    assert (decision.desired, decision.on_demand) == (decision.spot + 1, 0)


# The on-demand base


def test_the_base_is_on_demand_from_the_start() -> None:
    told = Told(replace(POLICY, on_demand_base=2, floor=3), BOTH)
    decision = told.look(0)
    assert (decision.desired, decision.spot, decision.on_demand) == (3, 1, 2)
    few = Told(replace(POLICY, on_demand_base=2, floor=1), BOTH)
    assert (few.look(0).spot, few.look(0).on_demand) == (0, 1), "no more than is wanted at all"


@pytest.mark.parametrize("fallback", [True, False])
def test_the_base_stays_when_the_rest_leaves(fallback: bool) -> None:
    fleet = Fleet(replace(POLICY, on_demand_base=1, floor=1, on_demand_fallback=fallback))
    fleet.run(1800, arriving(18))
    assert (len(fleet.live(ON_DEMAND)), len(fleet.live(SPOT)) >= 2) == (1, True)
    fleet.until(lambda one: len(one.instances) == 1, within_s=1800)
    assert [one.pool for one in fleet.live()] == [ON_DEMAND]
    fleet.run(600)
    assert len(fleet.launches) == len(fleet.drains) + 1


def test_the_base_outlives_a_new_template_version() -> None:
    fleet = Fleet(replace(POLICY, on_demand_base=1, floor=3))
    fleet.run(600)
    fleet.template = "2"
    fleet.until(lambda one: {one.template for one in one.instances.values()} == {"2"}, within_s=4 * (COLD_S + 60))
    fleet.run(600)
    assert sorted(one.pool for one in fleet.live()) == [ON_DEMAND, SPOT, SPOT]


# Probes of a spot pool that failed


def probes(fleet: Fleet) -> list[float]:
    """When the spot pool began to be asked for one instance as a probe."""
    asked = ["as a probe" in one.reason for one in fleet.log]
    return [float(n * TICK_S) for n in range(1, len(asked)) if asked[n] and not asked[n - 1]]


@pytest.mark.parametrize("tells", [True, False])
def test_a_failed_spot_pool_is_asked_for_one_now_and_then(tells: bool) -> None:
    fleet = starved(replace(POLICY, cap=12), tells=tells, seconds=3600)
    looks = probes(fleet)
    assert len(looks) > 5
    assert {after - before for before, after in pairwise(looks)} == {PROBE_S}
    asked = [one.spot for one in fleet.log[int(looks[2] // TICK_S) :]]
    kept = asked.index(0)
    assert asked[:kept] == [1] * kept
    assert kept * TICK_S == (TICK_S if tells else PROBE_WAIT_S + TICK_S), "a refusal or a minute ends it"
    assert not fleet.live(SPOT)


def test_a_probe_needs_room_under_the_cap() -> None:
    fleet = Fleet(replace(POLICY, cap=2), spot=0)
    fleet.run(3600, arriving(30))
    assert len(fleet.live(ON_DEMAND)) == 2
    full = next(n for n, one in enumerate(fleet.log) if one.desired == 2)
    assert all(at < full * TICK_S for at in probes(fleet))


def test_a_probe_makes_way_for_what_is_needed() -> None:
    """The cap is reached while a probe is out: it is withdrawn, and one on-demand instance waits until that is read."""
    told = Told(replace(POLICY, cap=3), BOTH, replace(State(), looked_at=T0 - 10, spot_failed_at=T0 - 500))
    told.set(ready("i-1", 8, ON_DEMAND), on_demand=1)
    probe = told.look(0, in_flight=8)
    assert (probe.spot, probe.on_demand) == (1, 1)
    told.set(ready("i-1", 8, ON_DEMAND), spot=1, on_demand=1)
    burst = told.look(10, waiting=2000, in_flight=8)
    assert (burst.desired, burst.spot, burst.on_demand) == (3, 0, 2)
    told.set(ready("i-1", 8, ON_DEMAND), spot=0, on_demand=2)
    after = told.look(20, waiting=2000, in_flight=8)
    assert (after.desired, after.spot, after.on_demand) == (3, 0, 3)


def test_a_probe_is_no_capacity() -> None:
    def sized(spot: int) -> int:
        state = replace(State(), looked_at=T0 - 10, spot_failed_at=T0 - 500, probed_at=T0 - 20 if spot else None)
        told = Told(POLICY, BOTH, state)
        told.set(ready("i-1", 8, ON_DEMAND), spot=spot, on_demand=1)
        return told.look(0, waiting=150, in_flight=8).on_demand

    assert sized(spot=1) == sized(spot=0) > 1


def test_a_probe_that_comes_ends_the_famine_and_on_demand_is_given_back() -> None:
    fleet = starved(replace(POLICY, cap=12))
    before = len(fleet.live(ON_DEMAND, READY))
    fleet.spot, began, fewest = 99, fleet.now, before
    jobs = len(fleet.waits)

    def look(one: Fleet) -> None:
        nonlocal fewest
        one.arrive(18)
        fewest = min(fewest, len(one.live(state=READY)))

    fleet.until(lambda one: not any(i.pool == ON_DEMAND for i in one.instances.values()), 4 * COLD_S + PROBE_S, look)
    assert fleet.state.spot_failed_at is None
    assert fewest >= before - 1
    assert max(fleet.waits[jobs:]) <= POLICY.wait_target_s
    first = min(at for at, pool in fleet.launches if pool == SPOT and at >= began)
    assert min(at for at, _ in fleet.drains if at >= began) >= first, "replacements are asked for first"
    assert turns(fleet, since=began) <= 2


def test_a_spot_pool_that_fails_again_takes_nothing_away() -> None:
    fleet = starved(seconds=3600)
    fleet.spot = 1
    before = len(fleet.live())
    fleet.run(3600, arriving(18))
    assert len(fleet.live(SPOT)) == 1
    assert len(fleet.live(ON_DEMAND)) >= before - 2
    assert max(fleet.waits) <= POLICY.wait_target_s
    launched = [at for at, _ in fleet.launches if at > 3600]
    assert len(launched) <= 4, "it settles"


def test_at_rest_a_failure_is_forgotten() -> None:
    fleet = starved()
    fleet.until(lambda one: not one.instances, within_s=2400)
    fleet.run(30)
    assert fleet.state.spot_failed_at is None
    assert fleet.desired == {SPOT: 0, ON_DEMAND: 0}
    fleet.spot = 99
    mark = len(fleet.launches)
    fleet.run(900, arriving(4))
    assert {pool for _, pool in fleet.launches[mark:]} == {SPOT}


def test_a_probe_does_not_outlive_the_fleet_it_was_for() -> None:
    told = Told(POLICY, BOTH, replace(State(), looked_at=T0 - 10, spot_failed_at=T0 - 500))
    told.set(ready("i-1", 1, ON_DEMAND), on_demand=1)
    assert told.look(0, in_flight=1).spot == 1
    told.set(spot=1, on_demand=0)
    assert told.look(10).spot == 0
    assert told.state.probed_at is None


# New template versions


def rolled(fleet: Fleet) -> bool:
    return {one.template for one in fleet.instances.values()} == {fleet.template}


def test_versions_are_replaced_one_by_one_and_never_below_the_floor() -> None:
    fleet = Fleet(replace(POLICY, floor=2))
    fleet.add(SPOT, 2)
    fleet.run(60)
    fleet.template = "2"
    seen: set[tuple[int, int]] = set()

    def look(one: Fleet) -> None:
        seen.add((len(one.live(state=READY)), len(one.instances)))

    fleet.until(rolled, within_s=2 * (COLD_S + 2 * TICK_S), each=look)
    fleet.run(600)
    assert {there for _, there in seen} <= {2, 3}, "one more than the floor at a time"
    assert min(ready_ones for ready_ones, _ in seen) == 2, "an old one serves until its successor does"
    assert (len(fleet.launches), len(fleet.drains)) == (2, 2)


@pytest.mark.parametrize("after_s", [0, 3])
@pytest.mark.parametrize("target_s", [60, 300, 600])
def test_versions_are_replaced_under_continuous_load(target_s: float, after_s: int) -> None:
    """Also where jobs wait at every look, so that nothing is ever idle, and where nobody waits."""
    policy = replace(POLICY, wait_target_s=target_s, cap=12)
    fleet = Fleet(policy)
    fleet.run(1800, arriving(12, after_s))
    before, mark = len(fleet.live()), len(fleet.waits)
    fleet.template = "2"
    fleet.until(rolled, within_s=(before + 1) * (COLD_S + 120), each=arriving(12, after_s))
    assert len(fleet.instances) <= before + 1
    assert max(fleet.waits[mark:]) <= max(target_s, 60 + COLD_S + 2 * TICK_S)
    assert turns(fleet, since=1800) <= 2


def test_at_a_full_cap_the_idle_one_goes_first() -> None:
    fleet = Fleet(replace(POLICY, floor=2, cap=2))
    fleet.add(SPOT, 2)
    fleet.run(60)
    fleet.template = "2"
    decision = fleet.step()
    assert (len(decision.drain), decision.desired) == (1, 1)
    assert decision.reason.startswith("replace 2 -> 1: old template version")
    fleet.until(rolled, within_s=2 * (COLD_S + 4 * TICK_S))
    assert len(fleet.drains) == 2


def test_at_a_full_cap_a_busy_one_goes_after_half_an_hour() -> None:
    fleet = Fleet(replace(POLICY, cap=2))
    fleet.add(SPOT, 2)
    fleet.run(1200, arriving(20))
    fleet.template, began = "2", fleet.now
    fleet.until(rolled, within_s=2 * (PATIENCE_S + COLD_S + 60), each=arriving(20))
    first, second = (at for at, _ in fleet.drains)
    assert PATIENCE_S < first - began <= PATIENCE_S + 30
    assert second - first > COLD_S, "the second one only when the first one's successor serves"
    assert max(len(one.drain) for one in fleet.log) == 1


def test_a_replacement_that_is_slow_to_come_is_waited_for() -> None:
    told = Told(replace(POLICY, floor=1), (Pool(SPOT, 1, "2"),))
    told.set(ready("i-1"), spot=1)
    assert told.look(0).desired == 2
    told.set(ready("i-1"), spot=2)
    seen = [told.look(at) for at in range(10, 600, 10)]
    assert {(one.desired, one.drain) for one in seen} == {(2, ())}, "neither cancelled, nor asked for twice"


def test_nothing_is_drained_for_a_replacement_that_is_not_let_through() -> None:
    fleet = Fleet(replace(POLICY, floor=1))
    fleet.add(SPOT)
    fleet.run(60)
    fleet.template, fleet.gate = "2", False
    fleet.run(3600)
    assert not fleet.drains
    asked = [n for n, one in enumerate(fleet.log) if one.desired == 2]
    assert len(asked) > 10, "it is asked for again and again"
    assert min(after - before for before, after in pairwise(asked)) * TICK_S > REPLACE_WAIT_S
    fleet.gate = True
    fleet.until(rolled, within_s=COLD_S + 120)
    assert len(fleet.drains) == 1


def test_a_refused_replacement_keeps_nothing_that_is_not_needed() -> None:
    fleet = Fleet(replace(POLICY, floor=1))
    fleet.add(SPOT, 2, jobs=4)
    fleet.template, fleet.gate = "2", False
    fleet.until(lambda one: len(one.instances) == 1, within_s=900)


def test_a_replacement_that_is_lost_is_asked_for_anew() -> None:
    fleet = Fleet(replace(POLICY, floor=1))
    fleet.add(SPOT)
    fleet.run(60)
    fleet.template = "2"
    fleet.until(lambda one: len(one.live(state=BOOTING)) == 1, within_s=60)
    lost = fleet.live(state=BOOTING)[0].id
    del fleet.instances[lost]
    fleet.desired[SPOT] = 1
    fleet.until(rolled, within_s=2 * COLD_S)
    assert len(fleet.live(state=READY)) == 1


def test_an_instance_that_is_lost_meanwhile_is_not_made_up_for_by_the_replacement() -> None:
    told = Told(replace(POLICY, floor=2), (Pool(SPOT, 2, "2"),))
    told.set(ready("i-1"), ready("i-2", template="2"), spot=2)
    told.look(0)
    assert told.state.surge is not None
    told.set(ready("i-1"), booting("i-3", 5, template="2"), spot=2)
    told.look(10)
    told.set(ready("i-1"), ready("i-3", template="2", launched=5), spot=2)
    assert told.look(250).drain == (), "two are wanted, and two are there"


def test_a_replacement_that_never_boots_brings_no_second_one() -> None:
    fleet = Fleet(replace(POLICY, floor=1, cap=6))
    fleet.add(SPOT)
    fleet.run(60)
    fleet.template, fleet.boot_s = "2", 1e9
    fleet.run(3600)
    assert len(fleet.instances) <= 3
    assert not fleet.drains


def test_a_pool_that_does_not_say_what_it_launches_rolls_nothing() -> None:
    told = Told(replace(POLICY, floor=1), (Pool(SPOT, 1, None),))
    told.set(ready("i-1"))
    assert all(told.look(at).desired == 1 for at in range(0, 600, 10))


def test_a_version_put_back_meanwhile_ends_the_roll() -> None:
    fleet = Fleet(replace(POLICY, floor=1))
    fleet.add(SPOT)
    fleet.run(60)
    fleet.template = "2"
    fleet.run(30)
    fleet.template = "1"
    fleet.until(lambda one: rolled(one) and len(one.instances) == 1, within_s=3 * COLD_S)


# Whatever happens to both pools


def turns(fleet: Fleet, since: float = 0) -> int:
    """The most changes between launching and draining within one cold start."""
    events = sorted([(at, 1) for at, _ in fleet.launches] + [(at, 0) for at, _ in fleet.drains])
    turned = [at for (_, one), (at, other) in pairwise(events) if one != other and at >= since]
    return max((sum(1 for at in turned if begin <= at < begin + fleet.boot_s) for begin in turned), default=0)


@pytest.mark.long
@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([60, 300, 600]),
    st.sampled_from([1, 8]),
    st.integers(0, 2),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([0.3, 1.5, 2.5]),
)
def test_no_oscillation_and_no_dead_end(
    seed: int, target_s: float, slots: int, floor: int, base: int, tells: bool, instances: float
) -> None:
    """Three hours of steady work while spot comes and goes and versions change: every job is served, the fleet settles,
    and in the end it rests."""
    rng = random.Random(seed)
    policy = replace(POLICY, slots=slots, wait_target_s=target_s, floor=floor, on_demand_base=base)
    fleet = Fleet(policy, tells=tells)
    owed = 0.0

    def look(one: Fleet) -> None:
        nonlocal owed
        owed += instances * slots * TICK_S / one.job_s
        one.arrive(int(owed), rng.randrange(10))
        owed -= int(owed)
        if rng.random() < 0.01:
            one.spot = rng.choice([0, 1, 2, 99])
        if rng.random() < 0.002:
            one.template += "1"

    fleet.run(3 * 3600, look)
    assert turns(fleet) <= 4
    assert max(fleet.waits) <= max(target_s, COLD_S) + 2 * COLD_S + 60, "two cold starts if spot refuses in silence"
    spot, mark = 99, len(fleet.launches)
    fleet.spot = spot
    fleet.until(lambda one: not one.queue and not any(one.work.values()), within_s=1800)
    fleet.until(lambda one: len(one.instances) <= floor, within_s=2400)
    fleet.until(lambda one: rolled(one) or not one.instances, within_s=(floor + 1) * (COLD_S + 120))
    fleet.run(1200)
    assert len(fleet.instances) == min(floor, policy.cap)
    assert not [one for one in fleet.instances.values() if one.state == DRAINING]
    on_demand = len(fleet.live(ON_DEMAND))
    assert on_demand == min(base, floor) or mark == len(fleet.launches)


def test_it_settles_under_steady_work() -> None:
    """With a spot pool too small for the load: after an hour hardly anything is launched or drained any more."""
    fleet = Fleet(POLICY, spot=1)
    fleet.run(3600, arriving(18))
    launches, drains = len(fleet.launches), len(fleet.drains)
    fleet.run(2 * 3600, arriving(18))
    assert len(fleet.launches) - launches <= 6
    assert len(fleet.drains) - drains <= 6
    assert len(fleet.live(SPOT)) == 1


def test_an_instance_draining_in_its_own_right_is_left_alone() -> None:
    told = Told(POLICY, BOTH)
    leaving = Instance("i-9", SPOT, DRAINING, T0 - 900, 3, "1")
    told.set(ready("i-1", 3), leaving, spot=1)
    decision = told.look(0, in_flight=6)
    assert (decision.drain, decision.draining, decision.spot) == ((), 1, 1)
