"""What the scaling law makes of what it is told: learned times, ages of waiting jobs, rates, and a week's profile."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import replace
from itertools import pairwise

import pytest
from fleet_control.scaling_law import READY, SPOT, Instance, Observation, Policy, State
from fleet_control.scaling_look import (
    COUNT_LIMIT,
    GAP_S,
    LONG_S,
    MEMORY_JOBS,
    MOST_NOISE,
    NOISE_MEMORY_S,
    PRIOR_JOBS,
    SERVICE_RANGE,
    SHORT_S,
    count,
    finite,
    take_look,
)
from fleet_control.scaling_state import MAX_BINS, MAX_BOOTING, MAX_BOOTS
from fleet_control.scaling_week import DAY, FADE, LEAST, SLOT_S, STEP, TRUSTED, UNKNOWN, WEEK, Week, add, forecast
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_fleet import T0, Told, booting, ready

JOB_S = 20.0
POLICY = Policy(slots=8, wait_target_s=600, service_s=JOB_S, cold_start_s=240, cap=40)


def ages(told: Told) -> list[tuple[float, float]]:
    """Groups of the waiting jobs: seconds since their arrival at the last look, jobs."""
    at = told.state.looked_at or 0.0
    return [(at - born, jobs) for born, jobs in told.state.arrivals]


# Numbers


@pytest.mark.parametrize(
    ("value", "whole"),
    [(3, 3), (3.9, 3), (-1, 0), (float("nan"), 0), (float("inf"), 0), (None, 0), (10**400, 0), (1e15, COUNT_LIMIT)],
)
def test_a_count_is_a_whole_number_in_bounds(value: float, whole: int) -> None:
    assert count(value) == whole


def test_what_is_no_number_reads_as_the_default() -> None:
    assert [finite(value, 7.0) for value in (None, float("nan"), float("-inf"), 10**400, 2)] == [7, 7, 7, 7, 2]


@pytest.mark.parametrize("at", [float("nan"), float("inf"), None])
def test_a_look_at_no_time_is_one_at_the_last_time(at: float) -> None:
    _, state = take_look(Observation(T0, 5, 0, 0, 0), State(), POLICY)
    look, after = take_look(Observation(at, 5, 0, 0, 0), state, POLICY)
    assert (look.at, look.dt, after.arrivals) == (T0, 0, state.arrivals)


def test_a_clock_that_jumps_back_loses_nothing_but_the_time() -> None:
    told = Told(POLICY)
    told.look(1000, waiting=5)
    told.look(1010, waiting=5)
    told.look(700, waiting=5)
    assert ages(told) == [(0, 5)]
    told.look(710, waiting=5)
    assert ages(told) == [(10, 5)]
    assert told.state.week.seen_s > 0


def test_an_instance_listed_twice_is_one() -> None:
    twice = Observation(T0, 0, 0, 0, 0, (ready("i-1", 3), ready("i-1", 5)))
    look, _ = take_look(twice, State(), POLICY)
    assert (len(look.ready), look.busy) == (1, 5)


def test_more_than_all_slots_is_all_of_them() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 99), ready("i-2", -4))
    assert told.look(0).busy == 8


# Service time


def learned(done: int, took_s: float, *, policy: Policy = POLICY) -> float:
    """The service time after so many jobs beside the configured ones."""
    return (PRIOR_JOBS * policy.service_s + done * took_s) / (PRIOR_JOBS + done)


def test_service_time_is_learned_from_the_seconds_worked() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 8), spot=1)
    assert told.look(0, in_flight=8).service_s == JOB_S
    decision = told.look(600, in_flight=8, completed=180, worked_s=180 * 2)
    assert decision.service_s == pytest.approx(learned(180, 2)) == pytest.approx(3.8)


def test_what_was_done_before_the_first_look_counts_if_it_says_how_long_it_took() -> None:
    assert Told(POLICY).look(0, completed=1000, worked_s=5000).service_s == pytest.approx(learned(1000, 5), abs=1e-3)
    assert Told(POLICY).look(0, completed=1000).service_s == JOB_S


def test_service_time_forgets_old_jobs() -> None:
    told = Told(POLICY)
    done, worked = 0, 0.0
    for look in range(300):
        done, worked = done + 100, worked + 100 * 5.0
        told.look(10 * look, completed=done, worked_s=worked)
    for look in range(300, 380):
        done, worked = done + 100, worked + 100 * 15.0
        decision = told.look(10 * look, completed=done, worked_s=worked)
    assert decision.service_s == pytest.approx(15, rel=0.03), f"{MEMORY_JOBS} jobs are a memory, not all there were"


def test_where_workers_do_not_tell_jobs_in_flight_are_being_worked_on() -> None:
    """Eight slots always full and four jobs done in ten seconds: 20 s each, whatever was configured."""
    told = Told(replace(POLICY, service_s=5))
    told.set(ready("i-1", 8), spot=1)
    for look in range(500):
        decision = told.look(10 * look, in_flight=8, completed=4 * look)
    assert decision.service_s == pytest.approx(20, rel=0.03)


def test_jobs_that_have_just_begun_are_not_slow_ones() -> None:
    """Nothing is done yet, whether or not workers will tell: nothing is concluded."""
    told = Told(POLICY)
    told.set(*(ready(f"i-{n}", 8) for n in range(10)), spot=10)
    assert {told.look(at, in_flight=80).service_s for at in (0, 10, 20)} == {JOB_S}
    first = told.look(30, in_flight=80, completed=80, worked_s=1600)
    assert first.service_s == pytest.approx(JOB_S), "what they then tell is all that counts"


def test_messages_in_flight_beyond_the_slots_are_not_worked_on() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 8), spot=1)
    for look in range(200):
        decision = told.look(10 * look, in_flight=5000, completed=4 * look)
    assert decision.service_s == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("took_s", [1e-6, 1e9])
def test_service_time_stays_near_the_configured_one(took_s: float) -> None:
    told = Told(POLICY)
    done, worked = 0, 0.0
    for look in range(100):
        done, worked = done + 100, worked + 100 * took_s
        decision = told.look(10 * look, completed=done, worked_s=worked)
    assert JOB_S / SERVICE_RANGE <= decision.service_s <= JOB_S * SERVICE_RANGE
    assert (decision.service_s > JOB_S) == (took_s > JOB_S)


@pytest.mark.parametrize("lie", ["completed", "worked_s"])
def test_one_lie_about_the_work_is_soon_outweighed(lie: str) -> None:
    """A counter that shows a billion at one look, and then again what is true."""
    told = Told(POLICY)
    told.set(*(ready(f"i-{n}", 8) for n in range(5)), spot=5)
    seen = []
    for look in range(60):
        true = {"completed": 20 * look, "worked_s": 20.0 * 20 * look}
        seen.append(told.look(10 * look, in_flight=40, **{**true, **({lie: 1e9} if look == 30 else {})}).service_s)
    assert seen[29] == pytest.approx(JOB_S)
    assert JOB_S / 3 <= seen[-1] <= JOB_S * 3


def test_counts_that_fall_are_no_work() -> None:
    """Rows of workers that left expire: counts fall, and go on from there."""
    told = Told(POLICY)
    told.look(0, completed=10_000, worked_s=150_000)
    before = told.look(10, completed=10_010, worked_s=150_150).service_s
    assert told.look(20, completed=4_000, worked_s=60_000).service_s == pytest.approx(before)
    assert told.look(30, completed=4_010, worked_s=60_150).service_s == pytest.approx(15, rel=0.02)


# Cold start


def boots(*seconds: float, policy: Policy = POLICY, given_ones: tuple[float, ...] = ()) -> float:
    """The cold start after instances were seen to boot in so many seconds, one after the other."""
    told = Told(policy)
    told.look(0)
    at = 0
    for number, took in enumerate(seconds):
        began = at
        while at - began < took + 15:
            name = f"i-{number}"
            there = booting(name, began) if at - began < took else ready(name, launched=began)
            told.set(there, spot=1)
            told.look(at)
            at += 10
        told.set(spot=0)
    return told.look(at, cold_starts=given_ones).cold_start_s


def test_the_configured_cold_start_holds_until_three_boots_were_seen() -> None:
    assert boots() == boots(95, 95) == POLICY.cold_start_s
    assert boots(95, 95, 95) == pytest.approx(95), "timed from launch to half a look before it was first seen ready"


def test_cold_starts_that_others_saw_count_as_well() -> None:
    assert boots(given_ones=(100, 110)) == 240
    assert boots(given_ones=(100, 110, 120)) == 120
    assert boots(95, 95, given_ones=(95,)) == pytest.approx(95)


def test_a_high_quantile_of_the_boots_is_the_cold_start() -> None:
    """Nine in ten are at most as long."""
    assert boots(given_ones=(100, 101, 102, 103, 104, 105, 106, 107, 300, 400)) == 300
    assert boots(given_ones=tuple(range(100, 120))) == 117


def test_the_median_where_only_it_fits_into_the_wait_target() -> None:
    policy = replace(POLICY, wait_target_s=300)  # 285 s to plan with
    seen = (200, 220, 240, 250, 400)
    assert boots(policy=policy, given_ones=seen) == 240
    assert boots(policy=replace(policy, wait_target_s=600), given_ones=seen) == 400, "the quantile fits as well"
    assert boots(policy=replace(policy, wait_target_s=60), given_ones=seen) == 400, "neither fits"


def test_boots_are_timed_only_by_looks_in_time() -> None:
    told = Told(POLICY)
    told.set(booting("i-1", 0), spot=1)
    told.look(0)
    told.set(ready("i-1", launched=0), spot=1)
    told.look(5 * GAP_S)
    assert told.state.boots == (), "it may have become ready at any moment of the gap"


def test_only_the_latest_boots_are_kept() -> None:
    told = Told(POLICY)
    for number in range(3 * MAX_BOOTS):
        begun = 20.0 * number
        told.set(booting(f"i-{number}", begun - 85))
        told.look(begun)
        told.set(ready(f"i-{number}", launched=begun - 85))
        told.look(begun + 10)
    assert told.state.boots == (90.0,) * MAX_BOOTS


def test_a_burst_of_boots_is_sampled() -> None:
    told = Told(POLICY)
    names = [f"i-{n}" for n in range(3 * MAX_BOOTING)]
    told.set(*(booting(name, -100) for name in names))
    told.look(0)
    told.set(*(ready(name, launched=-100) for name in names))
    told.look(10)
    assert told.state.boots == (105.0,) * MAX_BOOTING


@pytest.mark.parametrize("launched", [float("nan"), -1e300, 1e12, 0])
def test_a_boot_that_makes_no_sense_is_none(launched: float) -> None:
    told = Told(POLICY)
    one = booting("i-1", 0)
    told.set(replace(one, launched_at=launched))
    told.look(0)
    told.set(replace(one, launched_at=launched, state=READY))
    told.look(10)
    assert told.state.boots == ()


# Ages of waiting jobs


def test_jobs_are_as_old_as_the_middle_of_the_look_they_came_in() -> None:
    told = Told(POLICY)
    told.look(0)
    told.look(10, waiting=6)
    assert ages(told) == [(5, 6)]
    told.look(20, waiting=10)
    assert ages(told) == [(15, 6), (5, 4)]


def test_what_is_there_at_the_first_look_is_new() -> None:
    told = Told(POLICY)
    told.look(0, waiting=6)
    assert ages(told) == [(0, 6)]


def test_after_a_gap_jobs_are_no_older_than_half_a_minute() -> None:
    told = Told(POLICY)
    told.look(0)
    told.look(3600, waiting=6)
    assert ages(told) == [(GAP_S / 2, 6)]


def test_the_oldest_are_started_first() -> None:
    told = Told(POLICY)
    for at, waiting, in_flight in ((0, 0, 0), (10, 6, 0), (20, 10, 0), (30, 10, 5)):
        told.look(at, waiting, in_flight)
    assert ages(told) == [(25, 1), (15, 4), (5, 5)], "five were started, five came"
    told.look(40, 3, 8, completed=4)
    assert ages(told) == [(15, 3)], "seven were started: four of those that are done, three more in flight"


def test_jobs_that_came_and_went_between_two_looks_are_counted_as_arrived() -> None:
    told = Told(POLICY)
    told.look(0)
    told.look(10, 0, 0, completed=30)
    assert told.state.rate_90 == pytest.approx(3 * (1 - math.exp(-10 / SHORT_S)))


def test_one_reading_of_zero_keeps_the_ages_two_end_them() -> None:
    told = Told(POLICY)
    told.look(0, waiting=15)
    told.look(10)
    told.look(20, waiting=15)
    assert ages(told) == [(20, 15)]
    told.look(30)
    told.look(40)
    told.look(50, waiting=15)
    assert ages(told) == [(5, 15)]


def test_a_late_completion_starts_nobody_anew() -> None:
    """A message vanishes at once, its completion is told half a minute later: those that were started in between are
    not started again when it is told, and nobody has come in their place."""
    told = Told(POLICY)
    told.look(0, 20, 8)
    told.look(10, 16, 8)  # four ended and four others began; nothing of it was told
    told.look(20, 16, 8)
    told.look(40, 16, 8, completed=4)
    assert sum(jobs for _, jobs in ages(told)) == pytest.approx(16)
    assert min(age for age, jobs in ages(told) if jobs > 2.5) == 40, "hardly anybody is taken for younger"


def test_counts_that_fall_start_nobody_and_hide_nobody() -> None:
    """A day after a worker has left its row expires. Starts go on being seen."""
    told = Told(POLICY)
    told.look(0, 0, 8, completed=50_000)
    for step in range(1, 60):
        told.look(10 * step, 100, 8, completed=(50_000 if step < 20 else 9_000) + 4 * step)
    oldest = max(age for age, _ in ages(told))
    assert oldest == pytest.approx(100 / 0.4, abs=25), "a hundred wait, four are started every ten seconds"


@pytest.mark.parametrize("lie", [{"in_flight": 10**6}, {"completed": 10**8}, {"waiting": 10**7}])
def test_one_lie_is_forgotten(lie: dict[str, float]) -> None:
    """One absurd reading of a counter: fifteen minutes later the ages are again what they are."""
    told = Told(POLICY)
    for step in range(120):
        true = {"waiting": 100, "in_flight": 8, "completed": 4 * step}
        told.look(10 * step, **{**true, **(lie if step == 30 else {})})
    groups = ages(told)
    assert sum(jobs for _, jobs in groups) == pytest.approx(100, rel=0.3)
    assert max(age for age, _ in groups) == pytest.approx(250, abs=60)


def test_jobs_that_are_killed_wait_again() -> None:
    """An instance is lost with what it held: its jobs return to the queue."""
    told = Told(POLICY)
    told.look(0, 10, 16)
    told.look(10, 18, 8)
    assert sum(jobs for _, jobs in ages(told)) == 18
    told.look(20, 14, 12)
    assert sum(jobs for _, jobs in ages(told)) == pytest.approx(14, abs=3), "what is started again was started before"


class Queue:
    """A queue whose jobs' true ages are known."""

    def __init__(self) -> None:
        self.waiting: deque[float] = deque()
        self.started = 0

    def pass_(self, at: float, arrive: int, start: int) -> None:
        self.waiting.extend([at] * arrive)
        for _ in range(min(start, len(self.waiting))):
            self.waiting.popleft()
            self.started += 1


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noisy_counters_do_not_make_the_queue_younger(noise: float, seed: int) -> None:
    """Waiting and in flight are each up to ten per cent off, every time anew. The oldest jobs, which decide, are known
    to a look or two; never taken for younger than that."""
    rng = random.Random(seed)
    told, queue, in_flight = Told(POLICY), Queue(), 200
    worst_young = worst_old = 0.0
    for look in range(400):
        at = 10.0 * look
        for second in range(10):
            queue.pass_(at - 10 + second, arrive=11 if look < 200 else 9, start=10)
        off = [rng.uniform(1 - noise, 1 + noise) for _ in range(2)]
        told.look(at, round(len(queue.waiting) * off[0]), round(in_flight * off[1]), queue.started - in_flight)
        if look > 40 and queue.waiting:
            true, known = at + T0 - (T0 + queue.waiting[0]), ages(told)[0][0]
            worst_young, worst_old = max(worst_young, true - known), max(worst_old, known - true)
    size = 200 + 200 * 10  # in flight, and the most that wait
    most = 15 + 2 * noise * size / 10  # a job more or less at the front is a tenth of a second
    assert worst_young <= 15 + noise * 100, "a queue that seems younger is served too late"
    assert worst_old <= most
    assert told.state.noise <= MOST_NOISE


def test_noise_is_forgotten() -> None:
    told = Told(POLICY)
    told.look(0, 1000, 100)
    told.look(10, 900, 100)
    first = told.state.noise
    assert first == pytest.approx(100 / 1000)
    for step in range(1, 181):
        told.look(10 + 10 * step, 900, 100)
    assert told.state.noise == pytest.approx(first * math.exp(-1800 / NOISE_MEMORY_S), rel=1e-3)


def test_a_queue_that_is_emptied_by_hand_is_believed() -> None:
    told = Told(POLICY)
    told.look(0, 10_000, 8)
    told.look(10, 500, 8)
    assert sum(jobs for _, jobs in ages(told)) == pytest.approx(500)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=MAX_BINS + 1, max_size=400))
def test_coarse_groups_keep_every_job_and_make_none_younger(arrived: list[int]) -> None:
    """More groups than are kept: the older ones are put together, with the older one's age."""
    told, total = Told(POLICY), 0
    born: list[float] = []
    for look, number in enumerate(arrived):
        total += number
        told.look(10 * look, waiting=total)
        born += [T0 + 10 * look - (5 if look else 0)] * number
        groups = told.state.arrivals
        assert len(groups) <= MAX_BINS
        assert sum(jobs for _, jobs in groups) == pytest.approx(total)
        assert all(one[0] < other[0] for one, other in pairwise(groups))
    known = [at for at, jobs in told.state.arrivals for _ in range(round(jobs))]
    assert all(one <= true for one, true in zip(known, born, strict=True))
    late = [true - one for one, true in zip(known, born, strict=True)]
    assert max(late[-MAX_BINS // 4 :]) == 0, "the youngest are exact"


# Rates


def test_rates_follow_the_arrivals_at_their_own_pace() -> None:
    told = Told(POLICY)
    told.look(0)
    for step in range(1, 61):
        told.look(10 * step, 0, 8, completed=4 * step)
    assert told.state.rate_90 == pytest.approx(0.4, rel=0.02)
    assert told.state.rate_300 == pytest.approx(0.4 * (1 - math.exp(-600 / LONG_S)), rel=0.03)
    for step in range(61, 91):
        told.look(10 * step, 0, 0, completed=4 * 60 + 8)
    assert told.state.rate_90 == pytest.approx(0.4 * math.exp(-300 / SHORT_S), rel=0.2)
    assert told.state.rate_300 > told.state.rate_90


def test_one_lie_does_not_keep_the_load_high() -> None:
    """Whatever a counter claims, no more load is believed than twice what the cap can serve."""
    told = Told(POLICY)
    told.look(0)
    told.look(10, completed=10**9)
    look, _ = take_look(Observation(T0 + 20, 0, 0, 0, 10**9), told.state, POLICY)
    assert look.load_90 <= 2 * POLICY.cap
    assert look.load_300 <= 2 * POLICY.cap


# A week's profile


def weeks(load: list[float], *, start: int = 5 * WEEK, week: Week | None = None) -> Week:
    """The week after slots of that load, looked at four times each; a negative load is a slot that nobody saw."""
    week = week or Week()
    for slot, value in enumerate(load):
        for quarter in range(4):
            if value >= 0:
                week = add(week, (start + slot) * SLOT_S + 150 * quarter + 75, 150, value)
    return week


def next_slot(week: Week) -> float:
    """The forecast for the slot after the one under way."""
    return forecast(week, (week.slot + 1) * SLOT_S)


@settings(max_examples=100)
@given(st.floats(LEAST, 700))
def test_one_character_is_within_seven_per_cent(load: float) -> None:
    week = weeks([load, 0.0] * (DAY // 2 + 1))
    assert next_slot(week) == pytest.approx(load, rel=math.sqrt(STEP) - 1 + 1e-6)
    assert math.sqrt(STEP) - 1 < 0.07


@pytest.mark.parametrize(("load", "known"), [(0.0, 0.0), (LEAST / 3, 0.0), (1e9, pytest.approx(700, rel=0.1))])
def test_the_ends_of_the_scale(load: float, known: float) -> None:
    assert next_slot(weeks([load, 9.0] * (DAY // 2 + 1))) == known


def daily(slot: int) -> float:
    """Rest, but for an hour at noon."""
    return 4.0 if 72 <= slot % DAY < 78 else 0.0


def test_nothing_is_forecast_before_a_day_was_seen() -> None:
    assert next_slot(Week()) == 0
    assert next_slot(weeks([5.0] * (DAY - 2))) == 0


def test_yesterday_is_the_forecast() -> None:
    week = weeks([daily(slot) for slot in range(2 * DAY + 72)])
    assert next_slot(week) == pytest.approx(4, rel=0.07)
    assert forecast(week, (week.slot - 3) * SLOT_S) == 0
    assert forecast(week, (week.slot + 12) * SLOT_S) == 0


def test_last_week_is_the_forecast_where_it_has_erred_less() -> None:
    """Work on weekdays alone: on the first day after two at rest, yesterday knows nothing."""

    def weekdays(slot: int) -> float:
        return daily(slot) if slot // DAY % 7 < 5 else 0.0

    week = weeks([weekdays(slot) for slot in range(2 * WEEK + 72)])
    assert next_slot(week) == pytest.approx(4, rel=0.07)
    saturday = weeks([weekdays(slot) for slot in range(2 * WEEK + 5 * DAY + 72)])
    assert next_slot(saturday) == 0


def test_a_profile_that_errs_is_not_trusted() -> None:
    """Work at another hour every day: the slot before knows more than yesterday does."""
    rng = random.Random(4)
    starts = [rng.randrange(130) for _ in range(9)]
    load = [6.0 if starts[slot // DAY] <= slot % DAY < starts[slot // DAY] + 12 else 0.0 for slot in range(8 * DAY)]
    week = weeks(load)
    assert week.by_day > TRUSTED * week.by_last / 2
    begins = starts[7] - 1
    trusted = [forecast(week, (week.slot - week.slot % DAY + DAY + slot) * SLOT_S) for slot in (begins, begins + 5)]
    assert trusted == [0, 0] or week.by_day <= TRUSTED * week.by_last


def test_trust_comes_back() -> None:
    """Errors are half forgotten after a day."""
    assert pytest.approx(0.5, abs=0.02) == FADE**DAY
    rng = random.Random(1)
    wild = weeks([rng.choice([0.0, 9.0]) if slot % 2 == 0 else 9.0 for slot in range(3 * DAY)])
    calm = weeks([daily(slot) for slot in range(8 * DAY + 72)], start=wild.slot + 1, week=wild)
    assert next_slot(calm) == pytest.approx(4, rel=0.07)


def test_slots_that_nobody_saw_are_unknown_and_not_rest() -> None:
    load = [2.0, 3.0] * (DAY // 2 + 5)
    gap = weeks([*load, *[-1.0] * 5, 2.0])
    assert gap.profile.count(UNKNOWN) == WEEK - (DAY + 10), "the five are among the rest of the week"
    slot = gap.slot
    assert [forecast(gap, (slot - back + DAY) * SLOT_S) == 0 for back in (0, 1, 5, 6)] == [True, True, True, False]


def test_an_old_profile_is_overwritten_slot_by_slot() -> None:
    week = weeks([2.0, 4.0] * (WEEK // 2))
    assert week.profile.count(UNKNOWN) == 1, "the slot under way"
    week = weeks([8.0, 1.0] * DAY, start=week.slot + 1, week=week)
    assert max(week.profile.count(one) for one in set(week.profile)) <= WEEK // 2 - DAY + 1
    assert next_slot(week) == pytest.approx(8, rel=0.07)


def test_a_gap_of_more_than_a_week_forgets_the_profile() -> None:
    week = weeks([2.0, 3.0] * DAY)
    late = add(week, (week.slot + 2 * WEEK) * SLOT_S, 10, 1.0)
    assert late.profile.count(UNKNOWN) >= WEEK - 1
    assert forecast(late, (late.slot + 1) * SLOT_S) == 0


@pytest.mark.parametrize("back", [0.002, 30])
def test_a_clock_a_little_back_keeps_the_profile(back: float) -> None:
    told = Told(POLICY)
    base = math.ceil(T0 / SLOT_S) * SLOT_S - T0
    week = weeks([2.0, 3.0] * DAY, start=int((T0 + base) // SLOT_S) - 2 * DAY)
    told.state = State(looked_at=T0 + base, week=replace(week, slot=week.slot + 1, load_s=0, seen_s=0))
    told.look(base - back)
    assert forecast(told.state.week, T0 + base) == pytest.approx(2, rel=0.07)


def test_the_law_learns_a_week_of_its_load() -> None:
    """Eight jobs at every look are 0.8 a second, two instances of 8 slots with jobs of 20 s."""
    told = Told(POLICY)
    told.set(Instance("i-1", SPOT, READY, T0 - 900, 8), Instance("i-2", SPOT, READY, T0 - 900, 8))
    for step in range(4 * 60):
        told.look(10 * step, 0, 16, completed=8 * step)
    known = [one for one in told.state.week.profile if one != UNKNOWN]
    assert len(known) >= 3
    assert told.state.week.previous == pytest.approx(2, rel=0.01)
