"""The scaling law by example: what it decides, with the numbers worked out by hand, and in which words it says so.

Most examples are of instances with 8 slots and jobs of 20 s: one starts 8 jobs when it is ready and 0.4 a second from
then on. Before anything was learned the caution is 1: where y jobs are expected to be started, y - sqrt(y) count.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from fleet_control.scaling_law import (
    DRAINING,
    GIVEN_UP_BOOTS,
    LINGER,
    LOST_DEADLINE_S,
    MINIMUM_AGE_S,
    ON_DEMAND,
    OVERDUE_BOOT_S,
    PEAK_S,
    SPOT,
    TIGHT,
    TRUST_IN_FORECAST,
    Instance,
    Policy,
    Pool,
    State,
    Window,
)
from fleet_control.scaling_look import CAUTION_JOBS, CAUTION_RANGE, MOST_LATE
from fleet_control.scaling_week import DAY, SLOT_S, WEEK, Week
from scaling_fleet import T0, TICK_S, Fleet, Told, booting, ready

COLD_S, SLOTS, JOB_S = 240.0, 8, 20.0
PACE = SLOTS / JOB_S
POLICY = Policy(slots=SLOTS, wait_target_s=900, service_s=JOB_S, cold_start_s=COLD_S, cap=9)
PATIENCE_S = 885  # the wait target without one and a half looks


def sure(jobs: float, caution: float = 1.0) -> float:
    """Jobs that count where so many are expected to be started."""
    return max(0.0, jobs - caution * math.sqrt(jobs))


def by_one(seconds: float) -> float:
    """Jobs that a new instance has surely started so many seconds after its boot."""
    return SLOTS + sure(PACE * seconds)


# The deadline regime


def test_what_waits_at_zero_is_launched_for_in_time_and_no_earlier() -> None:
    """Five jobs need one instance. It is launched at the last look that leaves it a cold start: 885 - 240 - 10 s."""
    told = Told(POLICY)
    first = told.look(0, waiting=5)
    assert first.desired == 0
    assert first.reason == "steady 0: 5 waiting, 0 busy of 0 slots, 1 more within 635 s"
    for at in range(10, 640, 10):
        assert told.look(at, waiting=5).desired == 0, at
    decision = told.look(640, waiting=5)
    assert (decision.desired, decision.spot) == (1, 1)
    assert decision.reason == "scale-out 0 -> 1: 5 waiting, 20.0 s each, 8 slots, target 900 s"


def test_launched_in_time_means_started_in_time() -> None:
    fleet = Fleet(POLICY)
    fleet.arrive(5)
    fleet.until(lambda one: len(one.waits) == 5, within_s=910)
    assert POLICY.wait_target_s - 2.5 * TICK_S <= min(fleet.waits) <= max(fleet.waits) <= POLICY.wait_target_s


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_waiting_where_a_look_later_one_more_would_be_needed(number: int) -> None:
    """By the deadline an instance starts 8 + 258 - sqrt(258) = 249.9 jobs; launched a look later, 4 fewer: 246.1."""
    now, later = by_one(PATIENCE_S - COLD_S), by_one(PATIENCE_S - COLD_S - TICK_S)
    assert (now, later) == (pytest.approx(249.94, abs=0.01), pytest.approx(246.06, abs=0.01))
    fits, too_many = math.floor(number * later), math.floor(number * now)
    assert Told(POLICY).look(0, waiting=fits).desired == 0
    assert Told(POLICY).look(0, waiting=fits + 1).desired == number
    assert Told(POLICY).look(0, waiting=too_many).desired == number
    assert Told(POLICY).look(0, waiting=too_many + 1).desired == 0, "that needs one more, and can wait again"


TIGHT_POLICY = replace(POLICY, wait_target_s=300)  # 285 s of patience: 45 s after a boot


def test_hardly_any_time_between_boot_and_deadline_is_not_waited_out() -> None:
    assert 285 - COLD_S <= TIGHT * COLD_S
    decision = Told(TIGHT_POLICY).look(0, waiting=1)
    assert (decision.desired, decision.spot) == (1, 1)
    assert decision.reason == "scale-out 0 -> 1: 1 waiting, 20.0 s each, 8 slots, target 300 s"


@pytest.mark.parametrize(("waiting", "desired"), [(21, 1), (22, 2), (43, 2), (44, 3), (10_000, 9)])
def test_sized_by_what_an_instance_starts_before_the_deadline(waiting: int, desired: int) -> None:
    """In 45 s: 8 + 18 - sqrt(18) = 21.76 jobs each."""
    assert by_one(45) == pytest.approx(21.757, abs=0.001)
    assert Told(TIGHT_POLICY).look(0, waiting=waiting).desired == desired


def test_ready_instances_count_with_their_free_slots_and_their_pace() -> None:
    """Two instances with 3 free slots start 3 + 2 x 0.4 x 285 - sqrt(228) = 215.9 jobs in time."""
    assert 3 + sure(2 * PACE * 285) == pytest.approx(215.90, abs=0.01)

    def desired(waiting: int) -> int:
        told = Told(TIGHT_POLICY)
        told.set(ready("i-1", 8), ready("i-2", 5), spot=2)
        return told.look(0, waiting=waiting, in_flight=13).desired

    assert (desired(215), desired(216)) == (2, 3)


def test_a_boot_under_way_counts_from_when_it_will_serve() -> None:
    """Launched 100 s ago, ready in 140 s: 8 slots and 0.4 x 145 s = 58 jobs until the deadline, surely 50.4 of them."""
    assert by_one(285 - 140) == pytest.approx(58.38, abs=0.01)

    def desired(waiting: int) -> int:
        told = Told(TIGHT_POLICY)
        told.set(booting("i-1", -100), spot=1)
        return told.look(0, waiting=waiting).desired

    assert (desired(58), desired(59)) == (1, 2)


def test_an_instance_asked_for_counts_as_one_that_boots() -> None:
    for waiting, desired in ((21, 1), (22, 2)):
        assert Told(TIGHT_POLICY, (Pool(SPOT, 1, "1"),)).look(0, waiting=waiting).desired == desired


def test_an_overdue_boot_is_expected_soon_until_it_is_given_up() -> None:
    """One that should serve is expected within half a minute, until it has taken one and a half cold starts."""

    def desired(age_s: float, waiting: int) -> int:
        told = Told(TIGHT_POLICY)
        told.set(booting("i-1", -age_s), spot=1)
        return told.look(0, waiting=waiting).desired

    soon = math.floor(by_one(285 - OVERDUE_BOOT_S))
    assert [desired(GIVEN_UP_BOOTS * COLD_S, soon + n) for n in (0, 1)] == [1, 2]
    assert desired(GIVEN_UP_BOOTS * COLD_S + 1, 1) == 2, "it serves as no capacity any more"


def test_older_jobs_have_less_time() -> None:
    """The same 200 jobs, nothing of them started: what two instances could have done is not enough any more."""
    told = Told(TIGHT_POLICY)
    told.set(ready("i-1", 8), ready("i-2", 8), spot=2)
    assert told.look(0, waiting=200, in_flight=16).desired == 2, "0.8 a second for 285 s: 228, surely 212.9"
    assert told.look(10, waiting=200, in_flight=16).desired == 2, "for 275 s: surely 205.2"
    assert told.look(20, waiting=200, in_flight=16).desired == 3, "for 265 s: surely 197.4"


def test_the_nearest_deadline_that_needs_most_decides() -> None:
    """Forty old jobs with 250 s left, and a hundred young ones with all their time."""
    told = Told(POLICY, state=State(looked_at=T0 - 10, arrivals=((T0 - 635, 40.0),), quiet_since=None, outstanding=40))
    old = by_one(PATIENCE_S - 635 - COLD_S)
    assert math.ceil(40 / old) == 4
    decision = told.look(0, waiting=140)
    assert decision.desired == 4, "young ones fit in with them, or can wait"


def test_a_lost_deadline_does_not_buy_the_cap() -> None:
    """Jobs that are late whatever is done are sized by the 90 s after a boot: 8 + 36 - 6 = 38 each."""
    assert by_one(LOST_DEADLINE_S) == pytest.approx(38.0)
    told = Told(replace(TIGHT_POLICY, cap=100), state=State(looked_at=T0 - 10, arrivals=((T0 - 5000, 76.0),)))
    assert told.look(0, waiting=76).desired == 2


def test_nothing_is_launched_where_nothing_waits() -> None:
    told = Told(TIGHT_POLICY)
    told.set(ready("i-1", 8), spot=1)
    assert all(told.look(at, in_flight=8, completed=at).desired == 1 for at in range(0, 600, 10))


def test_the_cap_is_the_end_and_says_so() -> None:
    told = Told(replace(TIGHT_POLICY, cap=2))
    first = told.look(0, waiting=100)
    assert first.desired == 2
    assert first.reason.endswith("(needs 5, cap 2, 0 draining)")
    told.set(booting("i-1", 5), booting("i-2", 5), spot=2)
    second = told.look(10, waiting=100)
    assert second.desired == 2
    assert second.reason.startswith("at cap 2: 100 waiting, 20.0 s each, 8 slots, target 300 s; needs")


def test_draining_instances_count_against_the_cap() -> None:
    told = Told(replace(TIGHT_POLICY, cap=2))
    told.set(Instance("i-1", SPOT, DRAINING, T0 - 900), spot=0)
    decision = told.look(0, waiting=1000)
    assert (decision.desired, decision.draining) == (1, 1)
    assert "cap 2, 1 draining" in decision.reason


# Caution


@pytest.mark.parametrize(
    ("late", "caution", "seconds"),
    [
        # The jobs came within the last look: they are half of it old. Of the 15 s that are kept back for what a look
        # cannot see, the part by which the caution is below 1 is given up.
        (0, 0.1, 45 - 5 + 13.5),
        (13.5, 1.0, 45 - 5),
        (58.5, CAUTION_RANGE[1], 45 - 5),
        (2000, CAUTION_RANGE[1], 45 - 5),
    ],
)
def test_caution_follows_the_late_jobs(late: float, caution: float, seconds: float) -> None:
    """It is the share of late jobs over half a percent; 300 jobs with that share are taken as seen beforehand."""
    share = (late + CAUTION_JOBS * MOST_LATE) / (2700 + CAUTION_JOBS)
    assert min(max(share / MOST_LATE, CAUTION_RANGE[0]), CAUTION_RANGE[1]) == pytest.approx(caution)
    fits = math.floor(SLOTS + sure(PACE * seconds, caution))
    before = State(looked_at=T0 - 10, late=late, started=2700)
    desired = [Told(TIGHT_POLICY, state=before).look(0, waiting=fits + more).desired for more in (0, 1)]
    assert desired == [1, 2]


def test_caution_rises_while_jobs_are_late_and_falls_while_none_is() -> None:
    """One instance and twice its work: jobs become late. With enough of them it is in time again."""
    told = Told(replace(POLICY, cap=1))
    told.set(ready("i-1", 8), spot=1)
    seen, done, waiting = [told.state.late], 0, 1000
    for at in range(0, 2000, 10):
        done, waiting = done + 4, waiting + 4
        told.look(at, waiting=waiting, in_flight=8, completed=done)
        seen.append(told.state.late)
    assert seen[-1] > 300, "those that were there at first, one look after their 900 s"
    first = next(n for n, late in enumerate(seen) if late) - 1
    assert 900 <= 10 * first <= 930
    share = told.state.late / told.state.started
    for at in range(2000, 4000, 10):
        done += 100
        told.look(at, waiting=10, in_flight=8, completed=done)
    assert told.state.late / told.state.started < share / 5


def test_a_job_started_just_in_time_is_not_late() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 8), spot=1)
    for at in range(0, 910, 10):
        told.look(at, waiting=10, in_flight=8, completed=0)
    told.look(910, waiting=0, in_flight=8, completed=10)
    assert told.state.late == 0
    assert told.state.started == pytest.approx(10, abs=0.1)


# The load regime: the cold start outlasts the wait target

LOAD = replace(POLICY, wait_target_s=60)


def loaded(load: float, policy: Policy = LOAD, **more: Any) -> Told:
    """A fleet that has seen so many instances' load for a long time."""
    rate = load * PACE
    going = round(load * SLOTS)
    return Told(policy, state=State(looked_at=T0 - 10, rate_90=rate, rate_300=rate, going=going, **more))


def steady(told: Told, at: float, load: float, done: float) -> Any:
    """A look at a fleet that does that load: nothing waits."""
    return told.look(at, in_flight=round(load * SLOTS), completed=done + load * PACE * (at + 10))


def test_a_job_at_zero_gets_an_instance_at_once() -> None:
    assert LOAD.patience_s < COLD_S
    decision = Told(LOAD).look(0, waiting=1)
    assert (decision.desired, decision.spot) == (1, 1)


def test_what_waits_and_what_will_come_is_launched_for() -> None:
    """No load is known. An instance does 8 + 36 jobs until 90 s after its boot; half of another one is one more."""
    each = SLOTS + PACE * LOST_DEADLINE_S
    assert each == 44
    assert [Told(LOAD).look(0, waiting=n).desired for n in (1, 65, 67, 109, 111)] == [1, 1, 2, 2, 3]


def test_capacity_is_kept_for_the_load_before_anything_waits() -> None:
    told = loaded(4.0)
    told.set(ready("i-1", 8), ready("i-2", 8), spot=2)
    decision = steady(told, 0, 4.0, 0)
    assert decision.waiting == 0
    assert 4 <= decision.desired <= 5, "the load and a little more"
    assert decision.reason.startswith(f"scale-out 2 -> {decision.desired}: load 4.0 instances, 0 waiting")


def test_the_peak_of_the_last_minutes_is_kept_then_given_back() -> None:
    told = loaded(6.0)
    names = [f"i-{n}" for n in range(6)]
    told.set(*(ready(name, 7) for name in names), spot=6)
    steady(told, 0, 6.0, 0)
    done, here = told.state.completed, list(names)
    gone: list[float] = []
    for at in range(10, 2000, 10):
        told.set(*(ready(name, 0) for name in here), spot=len(here))
        decision = told.look(at, completed=done)
        gone += [at] * len(decision.drain)
        here = [name for name in here if name not in decision.drain]
    assert min(gone) > PEAK_S, "nothing leaves while the peak is remembered"
    assert min(gone) <= PEAK_S + LINGER * COLD_S + 60
    assert len(gone) == 6, "and then everything"


def test_it_lingers_for_a_share_of_a_cold_start() -> None:
    told = Told(replace(LOAD, cold_start_s=600))
    told.set(ready("i-1", 1), ready("i-2", 0), spot=2)
    keep = told.look(0, in_flight=9)
    assert keep.drain == ()
    told.set(ready("i-1", 8), ready("i-2", 1), spot=2)
    told.look(10, in_flight=9, completed=0)
    told.set(ready("i-1", 1), ready("i-2", 0), spot=2)
    left = next(at for at in range(20, 1000, 10) if told.look(at, in_flight=1).drain)
    assert LINGER * 600 * 0.9 <= left - 10 <= LINGER * 600 * 1.1 + 10


def profile(load_at: dict[int, str]) -> str:
    """A week of rest but for these slots."""
    return "".join(load_at.get(slot, "#") for slot in range(WEEK))


def test_yesterday_is_made_ready_for_before_it_comes() -> None:
    """A load of 4.2 instances began yesterday at the slot that begins one cold start from now."""
    base = math.ceil(T0 / SLOT_S) * SLOT_S
    slot = int(base // SLOT_S)
    week = Week(profile({(slot - DAY) % WEEK: "P"}), slot - 1, by_day=1.0, by_week=2.0, by_last=1.0)
    told = Told(LOAD, state=State(looked_at=base - 700, week=week, going=0))
    early = base - T0 - COLD_S - TICK_S
    assert told.look(early - 30).desired == 0
    warm = told.look(early)
    expected = 0.02 * 1.125 ** (b"P"[0] - 36)
    assert expected == pytest.approx(3.6, abs=0.7)
    assert TRUST_IN_FORECAST * expected - 1 <= warm.desired <= expected + 2
    assert warm.desired >= 2
    wrong = Told(LOAD, state=State(looked_at=base - 700, week=replace(week, by_day=9.0, by_week=9.0), going=0))
    assert wrong.look(early).desired == 0, "a forecast that errs more than three times as much is not trusted"


def test_everything_that_can_be_promised_from_zero_is_kept() -> None:
    """A burst at zero: every job is started within the wait target, a cold start and two looks."""
    fleet = Fleet(LOAD)
    fleet.run(600)
    fleet.arrive(100)
    fleet.until(lambda one: len(one.waits) == 100, within_s=1000)
    assert max(fleet.waits) <= LOAD.wait_target_s + COLD_S + 2 * TICK_S
    again = Fleet(LOAD)
    again.run(3600, lambda one: one.arrive(12))
    late = [wait for wait in again.waits[800:] if wait > LOAD.wait_target_s]
    assert not late, "steady work waits for nothing"


# Scale-in


def test_instances_leave_after_two_readings_of_zero() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 0), spot=1)
    told.look(0, waiting=1)
    first = told.look(10)
    assert first.drain == ()
    second = told.look(20)
    assert (second.drain, second.desired, second.spot) == (("i-1",), 0, 0)
    assert second.reason == "scale-in 1 -> 0: 0 waiting, 0 busy of 8 slots, keep 0"
    told.set(spot=0)
    assert told.look(30).reason == "at rest: 0 waiting, 0 draining"


def test_two_readings_are_a_look_apart() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 0), spot=1)
    told.look(0)
    assert told.look(4).drain == (), "two readings within a look are one"
    assert told.look(10).drain == ("i-1",)


def test_nothing_leaves_while_a_job_waits() -> None:
    told = Told(POLICY)
    told.set(ready("i-1"), ready("i-2"), spot=2)
    assert all(told.look(at, waiting=1).drain == () for at in range(0, 600, 10))
    assert all(told.look(at, waiting=at // 10 % 2).drain == () for at in range(600, 1200, 10)), "nor while it flickers"


def test_the_least_busy_leave_and_may_be_busy() -> None:
    """Eleven jobs and a free slot need two instances of eight: the two least busy go and finish what they hold."""
    told = Told(POLICY)
    told.set(ready("i-1", 4), ready("i-2", 1), ready("i-3", 4), ready("i-4", 2), spot=4)
    told.look(0, in_flight=11)
    decision = told.look(10, in_flight=11)
    assert decision.drain == ("i-2", "i-4")
    assert decision.reason == "scale-in 4 -> 2: 0 waiting, 11 busy of 32 slots, keep 2"


@pytest.mark.parametrize(
    ("slots", "headroom", "busy", "stay"),
    [
        (8, 1, (8, 0, 0), 2),  # 8 busy and one free slot
        (8, 1, (7, 0, 0), 1),
        (8, 0, (8, 0, 0), 1),
        (8, 3, (6, 0, 0), 2),  # 6 busy and three free
        (8, 99, (2, 0, 0), 2),  # 2 busy and at most seven free
        (1, 1, (1, 1, 0), 2),  # with one slot each a free slot would be a whole GPU
        (1, 1, (0, 0, 0), 0),
        (8, 1, (0, 0, 0), 0),  # no headroom for nobody
    ],
)
def test_headroom_is_kept_in_slots(slots: int, headroom: int, busy: tuple[int, ...], stay: int) -> None:
    told = Told(replace(POLICY, slots=slots, headroom=headroom))
    told.set(*(ready(f"i-{n}", one) for n, one in enumerate(busy)), spot=3)
    told.look(0, in_flight=sum(busy))
    assert told.look(10, in_flight=sum(busy)).desired == stay


def test_an_instance_younger_than_a_minute_stays() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", launched=-MINIMUM_AGE_S + 25), ready("i-2"), spot=2)
    told.look(0)
    assert told.look(10).drain == ("i-2",)
    told.set(ready("i-1", launched=-MINIMUM_AGE_S + 25), spot=1)
    assert told.look(20).drain == ()
    assert told.look(30).drain == ("i-1",)


@pytest.mark.parametrize("launched", [float("nan"), float("inf"), 1e12])
def test_a_launch_time_that_makes_no_sense_keeps_nothing_for_ever(launched: float) -> None:
    told = Told(POLICY)
    told.set(replace(ready("i-1"), launched_at=launched), spot=1)
    told.look(0)
    assert told.look(10).drain == ("i-1",)
    stuck = Told(TIGHT_POLICY)
    stuck.set(replace(booting("i-1", 0), launched_at=launched), spot=1)
    assert stuck.look(0, waiting=5).desired == 2


def test_what_boots_replaces_nobody() -> None:
    told = Told(replace(POLICY, floor=1))
    told.set(ready("i-1"), booting("i-2", -30), spot=2)
    told.look(0)
    assert told.look(10).drain == (), "the floor serves"
    told.set(ready("i-1"), ready("i-2", launched=-30), spot=2)
    assert told.look(40).drain == ("i-2",), "of two idle ones the younger"


def test_of_equals_the_youngest_goes() -> None:
    told = Told(replace(POLICY, floor=2))
    told.set(ready("i-1", launched=-100), ready("i-2", launched=-300), ready("i-3", launched=-200), spot=3)
    told.look(0)
    assert told.look(10).drain == ("i-1",)


def test_on_demand_goes_before_spot_even_if_busier() -> None:
    told = Told(POLICY, (Pool(SPOT, 2, "1"), Pool(ON_DEMAND, 1, "1")))
    told.state = State(looked_at=T0 - 10, spot_failed_at=T0 - 60)
    told.set(ready("i-1", 8), ready("i-2", 0), ready("i-3", 2, ON_DEMAND), spot=2, on_demand=1)
    told.look(0, in_flight=10)
    assert told.look(10, in_flight=10).drain == ("i-3",)


def test_silent_instances_share_what_is_in_flight() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", None), ready("i-2", None), spot=2)
    decision = told.look(0, in_flight=5)
    assert decision.busy == 6
    assert told.look(10, in_flight=5).desired == 1
    told.set(ready("i-1", None), spot=1)
    assert all(told.look(at, in_flight=1).drain == () for at in range(20, 300, 10))
    told.look(300)
    assert told.look(310).drain == ("i-1",)


def test_a_busy_instance_goes_however_long_its_jobs_are() -> None:
    """It finishes what it holds, for as long as a job may take: nothing is cut."""
    told = Told(replace(POLICY, service_s=200))
    told.set(ready("i-1", 1), ready("i-2", 0), ready("i-3", 2), spot=3)
    told.look(0, in_flight=3)
    assert told.look(10, in_flight=3).drain == ("i-2", "i-1")


def test_what_was_not_launched_is_cancelled() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", 4), spot=3)
    told.look(0, in_flight=4)
    decision = told.look(10, in_flight=4)
    assert (decision.desired, decision.drain) == (1, ())
    assert decision.reason == "cancel 3 -> 1: 0 waiting, 4 busy of 8 slots, keep 1"


# Cap, floor, windows


def test_a_lowered_cap_drains_at_once_the_least_busy() -> None:
    told = Told(replace(POLICY, cap=1))
    told.set(ready("i-1", 8), ready("i-2", 7), ready("i-3", 0), spot=3)
    decision = told.look(0, waiting=5, in_flight=15)
    assert (decision.drain, decision.desired, decision.spot) == (("i-3", "i-2"), 1, 1)
    assert decision.reason == "over cap: 3 instances + 0 draining, cap 1; 2 to drain"


def test_a_lowered_cap_cancels_what_was_not_launched() -> None:
    told = Told(replace(TIGHT_POLICY, cap=2))
    told.set(booting("i-1", -5), spot=5)
    assert told.look(0, waiting=100).desired == 2


def test_the_floor_is_launched_and_kept() -> None:
    told = Told(replace(POLICY, floor=2))
    decision = told.look(0)
    assert (decision.desired, decision.reason) == (2, "scale-out 0 -> 2: floor 2, 0 waiting")
    told.set(ready("i-1"), ready("i-2"), ready("i-3"), spot=3)
    told.look(10)
    assert len(told.look(20).drain) == 1
    told.set(ready("i-1"), ready("i-2"), spot=2)
    assert all(told.look(at).desired == 2 for at in range(30, 900, 10))


def test_the_floor_is_never_above_the_cap() -> None:
    assert Told(replace(POLICY, floor=5, cap=3)).look(0).desired == 3


def test_a_window_opens_with_its_instances_ready() -> None:
    """They are launched one cold start ahead, and let go when it closes."""
    opens = 1_763_974_800 - T0  # Monday 2025-11-24 10:00 in Berlin
    window = Window(("mon",), "10:00", "18:00", "Europe/Berlin", 2)
    fleet = Fleet(replace(POLICY, windows=(window,)), boot_s=COLD_S)
    fleet.now = opens - 900
    fleet.run(900 - COLD_S - TICK_S)
    assert not fleet.launches
    fleet.run(COLD_S + 2 * TICK_S)
    assert [round(opens - at) for at, _ in fleet.launches] == [COLD_S, COLD_S]
    assert len(fleet.live(state="ready")) == 2
    assert "floor 2" in next(one.reason for one in fleet.log if one.desired)
    fleet.now = opens + 8 * 3600 - 600
    fleet.run(600)
    assert not fleet.drains
    fleet.run(60)
    assert len(fleet.drains) == 2


def test_a_decision_carries_its_numbers() -> None:
    told = Told(TIGHT_POLICY)
    told.set(ready("i-1", 8), booting("i-2", -50), Instance("i-3", SPOT, DRAINING, T0 - 900, 2), spot=2)
    decision = told.look(0, waiting=7, in_flight=10)
    numbers = (decision.waiting, decision.busy, decision.ready, decision.booting, decision.draining, decision.floor)
    assert numbers == (7, 8, 1, 1, 1, 0)
    assert (decision.service_s, decision.cold_start_s) == (20.0, 240.0)


def test_stalled_work_is_noticed() -> None:
    told = Told(POLICY)
    told.set(ready("i-1", busy=0), spot=1)
    told.look(0, waiting=5)
    told.look(600, waiting=5)
    assert told.state.progress_at == T0
    told.look(610, waiting=5, completed=1)
    assert told.state.progress_at == T0 + 610
