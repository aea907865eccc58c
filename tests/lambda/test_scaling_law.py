"""The scaling law: its promises under any observations, and its reasons for the ordinary ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fleet_control.scaling_law import (
    BOOTING,
    DRAINING,
    ON_DEMAND,
    READY,
    SPOT,
    Decision,
    Instance,
    Observation,
    Policy,
    Pool,
    State,
    Window,
    decide,
    floor_at,
)
from hypothesis import given, settings
from hypothesis import strategies as st

POLICY = Policy(slots=8, wait_target_s=300, service_s=20, cold_start_s=240, cap=4)
T0 = 1_780_000_000.0

numbers = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, 1, 7, 15, 84, 10**12]),
)
times = st.one_of(st.floats(0, 10_000).map(lambda s: T0 + s), st.floats(allow_nan=True, allow_infinity=True))
instances = st.builds(
    Instance,
    id=st.one_of(st.sampled_from([f"i-{n}" for n in range(8)]), st.text(max_size=30)),
    pool=st.sampled_from([SPOT, ON_DEMAND]),
    state=st.sampled_from([BOOTING, READY, READY, DRAINING]),
    launched_at=times,
    busy=st.one_of(st.none(), st.integers(-3, 20)),
    template=st.sampled_from(["", "1", "2"]),
)
pool_sets = st.sampled_from([(), (SPOT,), (ON_DEMAND,), (SPOT, ON_DEMAND)]).flatmap(
    lambda names: st.tuples(
        *[st.builds(Pool, st.just(n), st.integers(-2, 12), st.sampled_from([None, "1", "2"]), times) for n in names]
    )
)
observations = st.builds(
    Observation,
    at=times,
    visible=numbers,
    delayed=numbers,
    in_flight=numbers,
    completed=numbers,
    instances=st.lists(instances, max_size=10).map(tuple),
    pools=pool_sets,
    worked_s=numbers,
    cold_starts=st.lists(numbers, max_size=5).map(tuple),
)
policies = st.builds(
    Policy,
    slots=st.integers(1, 16),
    wait_target_s=st.floats(1, 3600),
    service_s=st.floats(0.1, 600),
    cold_start_s=st.floats(0, 900),
    cap=st.integers(0, 8),
    floor=st.integers(0, 8),
)
moments = st.one_of(st.none(), st.floats(-1e12, 1e12))
states = st.builds(
    State,
    looked_at=moments,
    completed=st.floats(-1e9, 1e9),
    jobs=st.floats(0, 1e12),
    job_s=st.floats(0, 1e12),
    outstanding=st.floats(0, 1e12),
    arrivals=st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(0, 1e12)), max_size=60).map(tuple),
    quiet_since=moments,
    progress_at=moments,
    idle=st.lists(st.tuples(st.text("0123456789abcdef", min_size=8, max_size=8), st.floats(-1e12, 1e12))).map(tuple),
    short_since=moments,
    spot_failed_at=moments,
)


def _distinct(observation: Observation) -> list[Instance]:
    return list({one.id: one for one in observation.instances}.values())


def _check(observation: Observation, decision: Decision, policy: Policy) -> None:
    listed = _distinct(observation)
    live = [one for one in listed if one.state != DRAINING]
    draining = len(listed) - len(live) + len(decision.drain)
    staying = len(live) - len(decision.drain)
    assert decision.desired >= staying, "only named instances leave"
    assert decision.spot + decision.on_demand <= max(decision.desired, staying)
    if decision.desired > staying:
        assert decision.desired + draining <= policy.cap, "one cap over everything that is not terminated"
    floor = min(policy.floor, policy.cap)
    dropped = len(decision.drain) and decision.desired < floor
    room = max(policy.cap - (len(listed) - len(live)), 0)
    if not dropped:
        assert decision.desired >= min(floor, room)
    else:  # only an old version, at a full cap, may go before its replacement comes
        assert len(decision.drain) == 1
        assert len(live) >= room
    named = {one.id: one for one in live}
    for instance_id in decision.drain:
        one = named[instance_id]
        assert one.state == READY
        assert one.busy is None or one.busy <= 0, "a busy instance is never drained"


@settings(max_examples=300, deadline=None)
@given(st.lists(observations, min_size=1, max_size=6), states, policies)
def test_any_observations_keep_every_promise(seen: list[Observation], state: State, policy: Policy) -> None:
    for observation in seen:
        before = state
        decision, state = decide(observation, before, policy)
        _check(observation, decision, policy)
        assert decide(observation, before, policy) == (decision, state)
        text = state.to_json()
        assert len(text.encode()) < 4096
        assert State.from_json(text) == state, "what is stored is what is known"


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=80), st.none(), st.recursive(numbers, st.lists, max_leaves=5).map(repr)))
def test_a_damaged_state_reads_as_the_initial_one(text: str | None) -> None:
    assert State.from_json(text) == State()


@pytest.mark.parametrize("field", ["arrivals", "idle", "jobs", "looked_at", "spot_live"])
@pytest.mark.parametrize("value", ["x", [1], {"a": 1}, float("nan"), -5, [[1, 2, 3]], [["k" * 9, 1]] * 3])
def test_one_damaged_field_reads_as_the_initial_state(field: str, value: object) -> None:
    if (field, value) == ("looked_at", -5):
        value = 1e300  # a time before 1970 is odd, not damaged; this one is
    data = json.loads(State(looked_at=T0, completed=9).to_json())
    assert State.from_json(json.dumps({**data, field: value})) == State()


@settings(max_examples=100, deadline=None)
@given(states)
def test_recovers_from_any_state_within_five_minutes(state: State) -> None:
    """With an idle instance and nothing to do, the fleet is at rest after the idle grace, whatever was remembered."""
    idle = Instance("i-1", SPOT, READY, T0 - 900, 0, "1")
    for tick in range(31):
        observation = Observation(T0 + 10 * tick, 0, 0, 0, 5, (idle,), (Pool(SPOT, 1, "1"),))
        decision, state = decide(observation, state, POLICY)
        if decision.drain:
            return
    pytest.fail("the idle instance is still there after five minutes")


class Fleet:
    """A fleet told step by step; answers the law's decision."""

    def __init__(self, policy: Policy = POLICY, pools: tuple[Pool, ...] = (Pool(SPOT, 0, "1"),)) -> None:
        self.policy, self.pools, self.instances, self.state = policy, pools, (), State()

    def look(self, after_s: float, waiting: float = 0, in_flight: float = 0, **more: Any) -> Decision:
        seen = Observation(
            T0 + after_s, waiting, 0, in_flight, more.pop("completed", 0), self.instances, self.pools, **more
        )
        decision, self.state = decide(seen, self.state, self.policy)
        return decision

    def set(self, *instances: Instance, **desired: int) -> None:
        self.instances = instances
        self.pools = tuple(replace(p, desired=desired.get(p.name.replace("-", "_"), p.desired)) for p in self.pools)


def ready(name: str, busy: int | None = 0, pool: str = SPOT, template: str = "1") -> Instance:
    return Instance(name, pool, READY, T0 - 1000, busy, template)


def test_activation_at_once_with_its_numbers() -> None:
    fleet = Fleet()
    assert fleet.look(0).reason == "at rest: 0 waiting, 0 draining"
    decision = fleet.look(10, waiting=15)
    assert (decision.desired, decision.spot) == (1, 1)
    assert decision.reason == "scale-out 0 -> 1: 15 waiting, 20.0 s each, 8 slots, target 300 s"


def test_a_boot_under_way_is_not_launched_twice() -> None:
    fleet = Fleet()
    fleet.look(0, waiting=15)
    fleet.set(spot=1)
    assert fleet.look(10, waiting=15).desired == 1, "owed counts"
    fleet.set(Instance("i-1", SPOT, BOOTING, T0 + 15, None, "1"))
    assert fleet.look(100, waiting=15).desired == 1, "booting counts"


@pytest.mark.parametrize(
    ("waiting", "desired"),
    [
        # A new instance is ready 45 s before the deadline (300 s - 1.5 ticks - 240 s): 8 + 8 x 45 / 20 = 26 jobs each.
        (26, 1),
        (27, 2),
        (52, 2),
        (53, 3),
        (10_000, 4),
    ],
)
def test_sized_by_what_an_instance_can_start_before_the_deadline(waiting: int, desired: int) -> None:
    assert Fleet().look(0, waiting=waiting).desired == desired


def test_a_ready_instance_that_makes_the_deadline_is_enough() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=8), spot=1)
    assert fleet.look(0, waiting=100).desired == 1, "8 slots start 114 jobs within 285 s"
    assert fleet.look(10, waiting=130).desired == 2


def test_jobs_grow_old_and_then_need_more() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=8), spot=1)
    assert fleet.look(0, waiting=100).desired == 1
    assert fleet.look(40, waiting=100).desired > 1, "the same jobs, 40 s older, with nothing started"


def test_hopeless_deadlines_do_not_buy_the_cap() -> None:
    fleet = Fleet(replace(POLICY, wait_target_s=60, cap=100))
    # By 90 s after a boot an instance starts 8 + 8 x 90 / 20 = 44 jobs.
    assert fleet.look(0, waiting=88).desired == 2


def test_service_time_is_learned() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=8), spot=1)
    fleet.look(0, in_flight=8)
    learned = fleet.look(600, in_flight=8, completed=180, worked_s=180 * 2)
    assert learned.service_s == pytest.approx((20 * 20 + 360) / 200)


def test_cold_start_is_learned_from_three_boots() -> None:
    fleet = Fleet(replace(POLICY, wait_target_s=900))
    assert fleet.look(0, waiting=1, cold_starts=(100, 120)).cold_start_s == 240
    assert fleet.look(1, waiting=1, cold_starts=(100, 120, 400)).cold_start_s == 400


def test_one_reading_of_zero_changes_nothing() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1"), spot=1)
    fleet.look(0, waiting=15)
    assert fleet.look(10).drain == ()
    fleet.look(20, waiting=15)
    assert fleet.state.arrivals[0][0] == T0, "the jobs' ages survive a counter that flickers"


def test_idle_instance_drains_after_the_grace_with_its_numbers() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=3), spot=1)
    fleet.look(0, in_flight=3)
    fleet.set(ready("i-1"))
    assert fleet.look(10).drain == ()
    assert fleet.look(60).drain == ()
    decision = fleet.look(70)
    assert (decision.drain, decision.desired, decision.spot) == (("i-1",), 0, 0)
    assert decision.reason == "scale-in 1 -> 0: 0 waiting for 70 s, idle 60 s, 0 busy, floor 0"


def test_nothing_leaves_while_jobs_wait() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1"), ready("i-2"), spot=2)
    assert all(fleet.look(t, waiting=1).drain == () for t in range(0, 600, 10))


def test_the_quiet_must_last_even_if_an_instance_was_idle_all_along() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1"), ready("i-2", busy=8), spot=2)
    for after in range(0, 100, 10):
        fleet.look(after, waiting=1, in_flight=8)
    fleet.set(ready("i-1"), ready("i-2", busy=0))
    assert all(fleet.look(t).drain == () for t in range(100, 160, 10))
    assert fleet.look(160).drain == ("i-1", "i-2")


def test_busy_instances_stay_and_headroom_is_kept() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=8), ready("i-2"), ready("i-3"), spot=3)
    fleet.look(0, in_flight=8)
    decision = fleet.look(100, in_flight=8)
    assert decision.drain == ("i-2",), "8 busy + 1 free slot need two instances of 8"


def test_unknown_busy_slots_count_as_busy_while_messages_are_in_flight() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=None), spot=1)
    assert all(fleet.look(t, in_flight=1).drain == () for t in range(0, 300, 10))
    fleet.look(300)
    assert fleet.look(360).drain == ("i-1",)


def test_what_was_not_launched_is_cancelled_when_nothing_waits() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=4), spot=3)
    fleet.look(0, in_flight=4)
    decision = fleet.look(60, in_flight=4)
    assert (decision.desired, decision.drain) == (1, ())
    assert decision.reason == "cancel 3 -> 1: 0 waiting for 60 s, 2 not launched"


def test_cap_counts_draining_instances() -> None:
    fleet = Fleet(replace(POLICY, cap=2))
    fleet.set(Instance("i-1", SPOT, DRAINING, T0 - 900), spot=0)
    decision = fleet.look(0, waiting=1000)
    assert decision.desired == 1
    assert "cap 2, 1 draining" in decision.reason


def test_a_lowered_cap_drains_only_idle_instances() -> None:
    fleet = Fleet(replace(POLICY, cap=1))
    fleet.set(ready("i-1", 8), ready("i-2", 8), ready("i-3", 0), spot=3)
    decision = fleet.look(0, waiting=5, in_flight=16)
    assert decision.drain == ("i-3",)
    assert "over cap" in decision.reason


def test_floor_is_launched_and_kept() -> None:
    fleet = Fleet(replace(POLICY, floor=2))
    decision = fleet.look(0)
    assert (decision.desired, decision.reason) == (2, "scale-out 0 -> 2: floor 2, 0 waiting")
    fleet.set(ready("i-1"), ready("i-2"), ready("i-3"), spot=3)
    fleet.look(10)
    assert len(fleet.look(100).drain) == 1


@pytest.mark.parametrize(
    ("when", "floor"),
    [
        (1_763_971_200, 0),  # Monday 2025-11-24 08:00 UTC = 09:00 in Berlin: the window 10:00-18:00 is closed
        (1_763_974_800, 2),  # 10:00 in Berlin
        (1_764_003_599, 2),  # 17:59:59
        (1_764_003_600, 0),  # 18:00
        (1_763_888_400, 0),  # Sunday 10:00
        (1_752_480_000, 2),  # Monday 2025-07-14 08:00 UTC = 10:00 in Berlin: summer time
    ],
)
def test_windows_follow_the_wall_clock(when: float, floor: int) -> None:
    window = Window(("mon",), "10:00", "18:00", "Europe/Berlin", 2)
    assert floor_at(replace(POLICY, windows=(window,)), when) == floor


def test_a_window_over_midnight_belongs_to_the_day_it_opens() -> None:
    window = Window(("mon",), "22:00", "02:00", "UTC", 1)
    midnight = 1_764_028_800  # Tuesday 2025-11-25 00:00 UTC
    open_ = [window.open_at(midnight + hours * 3600) for hours in (-3, -1, 1, 2, 23)]
    assert open_ == [False, True, True, False, False]


@pytest.mark.parametrize(
    "wrong",
    [{"slots": 0}, {"cap": -1}, {"service_s": 0}, {"wait_target_s": float("nan")}, {"floor": 1.5}, {"tick_s": -1}],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"policy {next(iter(wrong))} = "):
        replace(POLICY, **wrong)  # type: ignore[arg-type]


def test_a_window_in_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="Mars/Olympus"):
        Window(("mon",), "10:00", "18:00", "Mars/Olympus", 1)


BOTH = (Pool(SPOT, 0, "1"), Pool(ON_DEMAND, 0, "1"))


def test_spot_first_then_on_demand_for_what_it_failed_to_deliver() -> None:
    fleet = Fleet(pools=BOTH)
    first = fleet.look(0, waiting=8)
    assert (first.spot, first.on_demand) == (1, 0)
    fleet.set(spot=1)
    assert fleet.look(10, waiting=8).spot == 1
    fleet.pools = (Pool(SPOT, 1, "1", failed_at=T0 + 12), BOTH[1])
    lowered = fleet.look(20, waiting=8)
    assert (lowered.spot, lowered.on_demand) == (0, 0), "spot is lowered and read back before on-demand is raised"
    assert lowered.reason.startswith("spot fell short: delivered 0 of 1")
    fleet.pools = BOTH
    moved = fleet.look(30, waiting=8)
    assert (moved.spot, moved.on_demand) == (0, 1)
    assert "on-demand, spot failed 10 s ago" in moved.reason


def test_spot_that_delivers_nothing_for_a_cold_start_has_failed() -> None:
    fleet = Fleet(pools=BOTH)
    fleet.look(0, waiting=3)
    fleet.set(spot=1)
    assert all(fleet.look(t, waiting=3).spot == 1 for t in range(10, 241, 10))
    assert fleet.look(250, waiting=3).spot == 0


def test_a_slow_spot_boot_buys_no_on_demand() -> None:
    fleet = Fleet(pools=BOTH)
    fleet.look(0, waiting=15)
    fleet.set(Instance("i-1", SPOT, BOOTING, T0 + 5, None, "1"), spot=1)
    assert all(fleet.look(t, waiting=15).on_demand == 0 for t in range(10, 400, 10))


def test_on_demand_is_given_back_first_and_spot_is_tried_again_from_rest() -> None:
    fleet = Fleet(pools=BOTH)
    fleet.state = replace(State(), spot_failed_at=T0 - 50)
    fleet.set(ready("i-1", 8), ready("i-2", 0), ready("i-9", 0, ON_DEMAND), spot=2, on_demand=1)
    fleet.look(0, in_flight=8)
    decision = fleet.look(60, in_flight=8)
    assert (decision.drain, decision.on_demand) == (("i-9",), 0)
    fleet.set(spot=0, on_demand=0)
    fleet.look(70)
    again = fleet.look(80, waiting=5)
    assert (again.spot, again.on_demand) == (1, 0)


def test_old_versions_go_one_by_one_when_idle() -> None:
    fleet = Fleet(replace(POLICY, floor=1, cap=3), pools=(Pool(SPOT, 1, "2"),))
    fleet.set(ready("i-1"), spot=1)
    fleet.look(0)
    surge = fleet.look(60)
    assert (surge.desired, surge.drain) == (2, ())
    assert surge.reason.startswith("replace 1 -> 2: old template version idle")
    fleet.set(ready("i-1"), Instance("i-2", SPOT, BOOTING, T0 + 65, None, "2"), spot=2)
    assert fleet.look(70).drain == (), "the old one serves until the new one is ready"
    fleet.set(ready("i-1"), ready("i-2", template="2"))
    assert fleet.look(300).drain == ("i-1",)


def test_at_a_full_cap_the_old_version_goes_first() -> None:
    fleet = Fleet(replace(POLICY, floor=1, cap=1), pools=(Pool(SPOT, 1, "2"),))
    fleet.set(ready("i-1"), spot=1)
    fleet.look(0)
    assert fleet.look(60).drain == ("i-1",)
    fleet.set(Instance("i-1", SPOT, DRAINING, T0), spot=0)
    assert fleet.look(70).desired == 0, "the cap is full until it is gone"
    fleet.set(spot=0)
    assert fleet.look(80).desired == 1


def test_a_busy_old_version_is_left_alone() -> None:
    fleet = Fleet(replace(POLICY, cap=3), pools=(Pool(SPOT, 1, "2"),))
    fleet.set(ready("i-1", busy=1), spot=1)
    assert all(fleet.look(t, in_flight=1).drain == () for t in range(0, 300, 10))


def test_stalled_work_is_noticed() -> None:
    fleet = Fleet()
    fleet.set(ready("i-1", busy=0), spot=1)
    fleet.look(0, waiting=5)
    fleet.look(600, waiting=5)
    assert fleet.state.progress_at == T0
    fleet.look(610, waiting=5, completed=1)
    assert fleet.state.progress_at == T0 + 610
