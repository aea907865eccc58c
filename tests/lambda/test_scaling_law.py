"""What the scaling law promises whatever it is told, whatever it remembers."""

from __future__ import annotations

import json
import math
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from fleet_control.scaling_law import (
    BOOTING,
    DRAINING,
    LINGER,
    MINIMUM_AGE_S,
    ON_DEMAND,
    PEAK_S,
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
from fleet_control.scaling_look import CAUTION_RANGE, COUNT_LIMIT, LONG_S, SHORT_S
from fleet_control.scaling_state import MAX_BINS, MAX_BOOTING, MAX_BOOTS, MAX_HISTORY
from fleet_control.scaling_week import SCALE, UNKNOWN, WEEK, Week
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_fleet import T0, Fleet, sealed, unsealed

MOST_BYTES = 4096
POLICY = Policy(slots=8, wait_target_s=300, service_s=20, cold_start_s=240, cap=4)

counters = st.one_of(
    st.integers(0, 200),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, 1, 7, 84, 10**12, 10**400, True]),
)
times = st.one_of(
    st.floats(-300, 1500).map(lambda seconds: T0 + seconds),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, 1, 5e-324, 10**400]),
)
instances = st.builds(
    Instance,
    id=st.one_of(st.sampled_from([f"i-{n}" for n in range(8)]), st.text(max_size=30)),
    pool=st.sampled_from([SPOT, SPOT, ON_DEMAND, "reserved"]),
    state=st.sampled_from([BOOTING, READY, READY, READY, DRAINING, "gone"]),
    launched_at=times,
    busy=st.one_of(st.none(), st.integers(-3, 20), counters),
    template=st.sampled_from(["", "1", "2"]),
)
pools = st.sampled_from([(), (SPOT,), (ON_DEMAND,), (SPOT, ON_DEMAND), (SPOT, ON_DEMAND), ("reserved", SPOT)]).flatmap(
    lambda names: st.tuples(
        *[
            st.builds(
                Pool,
                st.just(name),
                st.one_of(st.integers(-2, 12), counters),
                st.sampled_from([None, "1", "2"]),
                st.one_of(st.none(), times),
            )
            for name in names
        ]
    )
)
observations = st.builds(
    Observation,
    at=times,
    visible=counters,
    delayed=st.one_of(st.just(0), counters),
    in_flight=counters,
    completed=counters,
    instances=st.lists(instances, max_size=10).map(tuple),
    pools=pools,
    worked_s=counters,
    cold_starts=st.lists(counters, max_size=5).map(tuple),
)
windows = st.builds(
    Window,
    days=st.lists(st.sampled_from(["mon", "tue", "sat"]), max_size=3).map(tuple),
    start=st.just("10:00"),
    end=st.sampled_from(["09:00", "18:00"]),
    time_zone=st.just("Europe/Berlin"),
    floor=st.integers(0, 6),
)
policies = st.builds(
    Policy,
    slots=st.integers(1, 16),
    wait_target_s=st.one_of(st.sampled_from([60, 300, 600]), st.floats(1, 3600)),
    service_s=st.floats(0.1, 600),
    cold_start_s=st.one_of(st.sampled_from([90, 240]), st.floats(0, 900)),
    metric_lag_s=st.sampled_from([0, 30]),
    cap=st.integers(0, 8),
    floor=st.integers(0, 8),
    headroom=st.integers(0, 3),
    windows=st.lists(windows, max_size=1).map(tuple),
    on_demand_base=st.integers(0, 3),
    on_demand_fallback=st.booleans(),
)
moments = st.one_of(st.floats(0, 9e10), st.floats(-600, 600).map(lambda seconds: T0 + seconds))
ages = st.one_of(st.floats(0, 1e11), st.floats(0, 1000))
amounts = st.one_of(st.floats(0, 1e12), st.integers(0, 100), st.sampled_from([0, 1e-300, 1e12]))


def _pairs(most: int) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(ages, amounts), max_size=most)


STORED: dict[str, st.SearchStrategy[Any]] = {
    "looked_at": moments,
    **dict.fromkeys(("completed", "worked_s"), st.floats(-1e12, 1e12)),
    **dict.fromkeys(("outstanding", "going", "noise", "jobs", "job_s", "started", "late"), amounts),
    **dict.fromkeys(("rate_90", "rate_300"), amounts),
    "boots": st.lists(amounts.map(lambda boot: round(boot, 1)), max_size=MAX_BOOTS),
    "booting": st.text("0123456789abcdef", max_size=8 * MAX_BOOTING),
    "arrivals": _pairs(MAX_BINS),
    **dict.fromkeys(("peaks", "keeps"), _pairs(MAX_HISTORY)),
    **dict.fromkeys(("quiet_since", "progress_at", "short_since"), st.one_of(st.none(), moments)),
    **dict.fromkeys(("spot_failed_at", "probed_at", "replace_since"), st.one_of(st.none(), moments)),
    "spot_live": amounts,
    "surge": st.one_of(st.none(), st.tuples(moments, amounts, amounts)),
    "week": st.fixed_dictionaries(
        {
            "profile": st.one_of(st.just(""), st.sampled_from([*SCALE, UNKNOWN]).map(lambda one: one * WEEK)),
            "slot": st.one_of(st.integers(0, 10**6), st.integers(-3, 3).map(lambda n: int(T0 // 600) + n)),
            **dict.fromkeys(("load_s", "seen_s", "previous", "by_day", "by_week", "by_last"), amounts),
        }
    ),
}
# What may be found stored: every field in its type and range, and none that belongs to another.
stored = st.fixed_dictionaries(STORED).map(sealed)


def remembered(text: str) -> State:
    """The state that the text stores; it is one that is read, not one that reads as nothing."""
    state = State.from_json(text)
    assert state != State()
    return state


class Facts:
    """What an observation says, counted anew and in the plainest way."""

    def __init__(self, seen: Observation, policy: Policy) -> None:
        listed = {one.id: one for one in seen.instances}
        self.ready = {name: one for name, one in listed.items() if one.state == READY}
        self.live = {name: one for name, one in listed.items() if one.state != DRAINING}
        self.draining = len(listed) - len(self.live)
        self.room = max(0, policy.cap - self.draining)
        self.pools = {pool.name: pool for pool in seen.pools if pool.name in (SPOT, ON_DEMAND)}
        self.waiting = any(_number(value) >= 1 for value in (seen.visible, seen.delayed))
        self.busy = sum(
            min(policy.slots, max(0, int(_number(one.busy)))) for one in self.ready.values() if one.busy is not None
        )

    def unwanted(self, one: Instance) -> bool:
        """Whether it may be replaced: of another template version, or on-demand."""
        pool = self.pools.get(one.pool)
        return one.pool == ON_DEMAND or bool(pool and pool.template and one.template != pool.template)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, OverflowError):
        return 0.0
    return min(number, 1e9) if math.isfinite(number) else 0.0


def check(seen: Observation, decision: Decision, policy: Policy) -> None:
    """Every promise that holds at any look, whatever is observed and remembered."""
    facts = Facts(seen, policy)
    named = [facts.ready.get(name) for name in decision.drain]
    assert None not in named, "only ready instances that are known are drained"
    assert len(set(decision.drain)) == len(decision.drain)
    leaving = [one for one in named if one is not None]
    staying = {name: one for name, one in facts.live.items() if name not in decision.drain}
    assert decision.desired >= len(staying), "only named instances leave"
    if decision.desired > len(staying):
        assert decision.desired + facts.draining + len(leaving) <= policy.cap, "one cap over everything that is there"
    _check_pools(decision, facts, policy, staying)
    floor = min(floor_at(policy, _at(seen)), policy.cap, facts.room)
    over = len(facts.live) > policy.cap
    if decision.desired < floor:
        assert len(leaving) == 1, "one instance to be replaced may go first at a full cap"
        assert facts.unwanted(leaving[0])
        assert len(facts.live) >= facts.room
    if leaving and not over:
        replaced = all(facts.unwanted(one) for one in leaving)
        assert replaced or not facts.waiting, "nothing is drained that is needed"
        serving = len(facts.ready) - len(leaving)
        assert replaced or serving * policy.slots >= facts.busy, "what stays and serves holds what is busy"
        assert replaced or all(not 0 <= _at(seen) - one.launched_at < MINIMUM_AGE_S for one in leaving)
    assert decision.reason
    assert json.dumps(asdict(decision), allow_nan=False)


def _at(seen: Observation) -> float:
    try:
        return float(seen.at)
    except OverflowError:
        return math.nan


def _check_pools(decision: Decision, facts: Facts, policy: Policy, staying: dict[str, Instance]) -> None:
    asked, most = {}, {SPOT: decision.spot, ON_DEMAND: decision.on_demand}
    for name, share in most.items():
        here = sum(1 for one in staying.values() if one.pool == name)
        assert share >= here or name not in facts.pools, "no pool is asked for less than stays in it"
        assert share <= here or name in (facts.pools or (SPOT,)), "a pool that is not there is asked for nothing"
        asked[name] = max(0, share - here)
    launched = sum(asked.values())
    assert launched <= decision.desired - len(staying) + 1, "no more is asked for than is wanted, and one probe"
    if launched:
        gone = len(facts.live) - len(staying)
        assert len(staying) + gone + facts.draining + launched <= policy.cap, "the cap holds over both pools"
    if asked[ON_DEMAND] and SPOT in facts.pools and not policy.on_demand_fallback:
        assert asked[ON_DEMAND] <= policy.on_demand_base


@settings(max_examples=100, deadline=None)
@given(st.lists(observations, min_size=1, max_size=6), st.one_of(st.none(), stored), policies)
def test_any_observations_and_any_memory_keep_every_promise(
    told: list[Observation], memory: str | None, policy: Policy
) -> None:
    state = State() if memory is None else remembered(memory)
    for seen in told:
        before = state
        decision, state = decide(seen, before, policy)
        check(seen, decision, policy)
        assert decide(seen, before, policy) == (decision, state), "the same from the same"
        text = state.to_json()
        assert len(text.encode()) < MOST_BYTES
        again = State.from_json(text)
        assert again != State(), "what is written can be read"
        assert unsealed(again.to_json()) == unsealed(text)
        for stored_now, known in zip(_flat(again), _flat(state), strict=True):
            assert stored_now == pytest.approx(known, rel=1e-4, abs=2e-3)


def _flat(state: State) -> Iterator[float]:
    """Every number in a state, every text as one, and moments in lists as seconds before the look."""
    at = state.looked_at or 0.0
    for name, value in asdict(state).items():
        aged = name in ("arrivals", "peaks", "keeps")
        for one in _leaves([(at - moment, number) for moment, number in value] if aged else value):
            yield -1.0 if one is None else zlib.crc32(one.encode()) if isinstance(one, str) else one


def _leaves(value: Any) -> Iterator[Any]:
    value = list(value.values()) if isinstance(value, dict) else value
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=80), st.none(), st.recursive(counters, st.lists, max_leaves=5).map(repr)))
def test_a_damaged_state_reads_as_the_initial_one(text: str | None) -> None:
    assert State.from_json(text) == State()


@pytest.mark.parametrize("name", ["arrivals", "booting", "boots", "jobs", "looked_at", "spot_live", "surge", "week"])
@pytest.mark.parametrize("value", ["x\u00e4", [[]], {"a": 1}, float("nan"), -5, 1e300, [[1, 2, 3]], [["k" * 9, 1]] * 3])
def test_one_damaged_field_reads_as_the_initial_state(name: str, value: object) -> None:
    data = unsealed(State(looked_at=T0, completed=9).to_json())
    assert State.from_json(sealed(data)) == State(looked_at=T0, completed=9)
    assert State.from_json(sealed({**data, name: value})) == State()


@pytest.mark.parametrize("name", [item.name for item in fields(State)])
def test_a_field_that_is_missing_reads_as_the_initial_state(name: str) -> None:
    data = unsealed(State(looked_at=T0, completed=9).to_json())
    del data[name]
    assert State.from_json(sealed(data)) == State()


@settings(max_examples=60, deadline=None)
@given(stored, st.data())
def test_any_damage_to_what_is_stored_is_forgotten_with_everything_learned(memory: str, data: st.DataObject) -> None:
    """Also where it still makes sense as a state: what it says was never seen. The first look after it starts anew."""
    text = remembered(memory).to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([one for one in "0123456789.-aZ[]{},:" if one != text[at]]))
    assert State.from_json(text[:at] + other + text[at + 1 :]) in (State(), State.from_json(text))
    assert State.from_json(text[:at]) == State()


def test_the_largest_state_fits() -> None:
    """Every list full, every number as long as the law lets it become."""
    at = 1e11 - 0.877
    state = State(
        looked_at=at,
        **dict.fromkeys(("completed", "worked_s", "going", "job_s", "started", "late"), 1e11 - 0.123),
        **dict.fromkeys(("outstanding", "rate_90", "rate_300"), 3e9 - 0.123),
        noise=0.123,
        jobs=1999.123,
        boots=(7199.9,) * MAX_BOOTS,
        booting=("0123abcd",) * MAX_BOOTING,
        arrivals=((1.123, COUNT_LIMIT / MAX_BINS + 0.123),) * MAX_BINS,
        **dict.fromkeys(("peaks", "keeps"), ((at - 9999.877, 1234.123),) * MAX_HISTORY),
        **dict.fromkeys(
            ("quiet_since", "progress_at", "short_since", "spot_failed_at", "probed_at", "replace_since"), at
        ),
        spot_live=100_000,
        surge=(at, 100_000.0, 100_000.0),
        week=Week(
            SCALE[-1] * WEEK, int(at // 600), *(-0.123 + n for n in (427_100, 600, 712, 142_000, 142_000, 142_000))
        ),
    )
    assert len(state.to_json().encode()) < MOST_BYTES
    assert State.from_json(state.to_json()).to_json() == state.to_json()


def test_the_state_stays_small_under_heavy_traffic() -> None:
    """Ten thousand looks at up to a thousand instances that work on millions of jobs, by counters that are a few per
    cent off. What is stored and read back decides the same."""
    rng = random.Random(5)
    policy = replace(POLICY, cap=1200)
    at, waiting, completed, state, sizes = T0, 0.0, 0.0, State(), []
    for look in range(10_000):
        at += rng.choice([10.123, 9.877, 10, 60, 0.4])
        waiting = waiting * rng.choice([1, 1, 0.99, 0 if look % 250 == 0 else 1]) + rng.randrange(10 ** (look % 7))
        completed += rng.randrange(1000)
        number = 1000 if look % 100 < 2 else 3
        boots = look % 100 == 0
        fleet = tuple(
            Instance(f"i-{n}", SPOT, BOOTING if boots and n % 9 == 0 else READY, at - 60.4 - n, n % 8, "1")
            for n in range(number)
        )
        both = (Pool(SPOT, number, "1"), Pool(ON_DEMAND, 0, "1"))
        seen = Observation(
            at, waiting * rng.uniform(0.95, 1.05), 0, rng.randrange(9000), completed, fleet, both, completed * 20.2
        )
        _, state = decide(seen, state, policy)
        if look % 7 == 0:
            text = state.to_json()
            sizes.append(len(text.encode()))
            state = State.from_json(text)
            again = State.from_json(state.to_json())
            assert unsealed(again.to_json()) == unsealed(text), "what is stored is what is known"
            assert decide(seen, state, policy)[0] == decide(seen, again, policy)[0]
    assert state.looked_at == pytest.approx(at, abs=1e-3)
    assert 2800 < max(sizes) < MOST_BYTES


def _rest_s(policy: Policy) -> float:
    """How long an idle fleet may take to rest: until the highest load that the law remembers, twice what the cap can
    serve, has faded to half an instance."""
    return LONG_S * math.log(4 * policy.cap) + 3 * policy.tick_s


@settings(max_examples=100, deadline=None)
@given(stored, st.sampled_from([60, 300]))
def test_an_idle_fleet_goes_to_rest_whatever_is_remembered(memory: str, target_s: float) -> None:
    """In the load regime it lingers first. What it forecasts there is another matter: no profile is remembered here."""
    state, policy = replace(remembered(memory), week=Week()), replace(POLICY, wait_target_s=target_s)
    began = max(T0, state.looked_at or 0.0)
    names, after = {"i-1", "i-2"}, 0
    while names:
        idle = tuple(Instance(name, SPOT, READY, began - 900, 0, "1") for name in sorted(names))
        both = (Pool(SPOT, len(names), "1"), Pool(ON_DEMAND, 0, "1"))
        decision, state = decide(Observation(began + after, 0, 0, 0, 5, idle, both, 100), state, policy)
        names -= set(decision.drain)
        after += 10
        within_s = _rest_s(policy)
        if (
            decision.cold_start_s + policy.tick_s > policy.patience_s
        ):  # the load fades, then its peak, then what is kept
            faded_s = SHORT_S * math.log(2 * policy.cap / 0.01)
            within_s = faded_s + 2 * PEAK_S + LINGER * CAUTION_RANGE[1] * decision.cold_start_s
        assert after < within_s, f"{names} still there: {decision.reason}"
    assert (decision.desired, decision.spot, decision.on_demand) == (0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(stored, st.sampled_from([60, 300, 900]), st.booleans())
def test_a_job_that_waits_at_zero_gets_an_instance_whatever_is_remembered(
    memory: str, target_s: float, one_pool: bool
) -> None:
    """At once where the cold start outlasts the wait target, else before the target is reached."""
    state = remembered(memory)
    began = max(T0, state.looked_at or 0.0) + 10
    policy = replace(POLICY, wait_target_s=target_s)
    both = (Pool(SPOT, 0, "1"),) if one_pool else (Pool(SPOT, 0, "1"), Pool(ON_DEMAND, 0, "1"))
    for after in range(0, int(policy.wait_target_s) + 20, 10):
        decision, state = decide(Observation(began + after, 1, 0, 0, 5, (), both, 100), state, policy)
        if decision.desired:
            break
        assert decision.cold_start_s + policy.tick_s <= policy.patience_s, "only what can still be met may wait"
    assert decision.desired >= 1
    assert decision.spot + decision.on_demand >= 1


@settings(max_examples=25, deadline=None)
@given(stored, st.sampled_from([120, 300, 900]), st.sampled_from([0, 1, 99]), st.booleans(), st.integers(1, 300))
def test_a_fleet_serves_and_rests_whatever_is_remembered(
    memory: str, target_s: float, spot: int, tells: bool, jobs: int
) -> None:
    """From any memory, with spot or without: every job is done, and then nothing is left."""
    state = replace(remembered(memory), week=Week())  # what it forecasts is another matter
    if state.looked_at is not None and state.looked_at > T0:
        state = state.sane(T0)
    fleet = Fleet(replace(POLICY, wait_target_s=target_s), spot=spot, tells=tells, state=state)
    fleet.arrive(jobs)
    fleet.until(lambda one: len(one.waits) == jobs, within_s=target_s + 4 * POLICY.cold_start_s + 60)
    fleet.until(lambda one: not one.instances, within_s=2 * _rest_s(POLICY) + 4 * POLICY.cold_start_s)
    assert fleet.log[-1].desired == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"cap": -1},
        {"service_s": 0},
        {"wait_target_s": float("nan")},
        {"cold_start_s": float("inf")},
        {"floor": 1.5},
        {"tick_s": -1},
        {"on_demand_base": True},
        {"on_demand_fallback": 1},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"policy {next(iter(wrong))} = "):
        replace(POLICY, **wrong)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("time_zone", "Mars/Olympus", "Mars/Olympus"), ("days", ("mo",), "unknown"), ("start", "25:00", "hour")],
)
def test_a_window_that_makes_no_sense_is_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(Window(("mon",), "10:00", "18:00", "Europe/Berlin", 1), **{field: value})


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
