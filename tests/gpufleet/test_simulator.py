"""The simulator: exact where queueing theory is, honest about bills, losses and what a policy gets to see."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from fleet_control.scaling_law import BOOTING, DRAINING, READY, Observation, Policy
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufleet.planner.simulator import FleetModel, LawScaler, Orders, Result, Workload, simulate

FLEET = FleetModel(slots=2, cap=8, cold_start_s=100)


class Scripted:
    """Orders by a function of the observation; what was seen and ordered is kept."""

    def __init__(self, order: Callable[[Observation], Orders], tick_s: float = 10.0) -> None:
        self.tick_s, self._order = tick_s, order
        self.seen: list[Observation] = []

    def look(self, seen: Observation) -> Orders:
        self.seen.append(seen)
        return self._order(seen)


def always(instances: int, tick_s: float = 10.0) -> Scripted:
    return Scripted(lambda seen: Orders(instances), tick_s)


def poisson(jobs: int, rate: float, service: Callable[[random.Random], float], seed: int) -> Workload:
    """Poisson arrivals, of exactly that mean rate over the whole: less chance in a mean wait."""
    rng = random.Random(seed)
    arrivals = list(itertools.accumulate(rng.expovariate(1) for _ in range(jobs)))
    scale = jobs / rate / arrivals[-1]
    return Workload([at * scale for at in arrivals], [service(rng) for _ in arrivals])


def exponential(jobs: int, rate: float, seed: int) -> Workload:
    """Poisson arrivals, exponential services; both means exactly as intended, 1 / `rate` and 1."""
    work = poisson(jobs, rate, lambda rng: rng.expovariate(1), seed)
    mean = sum(work.services) / jobs
    return replace(work, services=[service / mean for service in work.services])


def erlang_c_wait(servers: int, rho: float) -> float:
    """Mean wait of M/M/c in service times."""
    load = servers * rho
    series = sum(load**k / math.factorial(k) for k in range(servers))
    tail = load**servers / math.factorial(servers) / (1 - rho)
    return tail / (series + tail) / (servers * (1 - rho))


# Over seeds, these means have standard deviations of 0.3, 0.7, 1.4 and 1.2 % and no bias (twelve seeds each).
@pytest.mark.parametrize(
    ("instances", "slots", "rho", "dispatch"),
    [(1, 1, 0.5, "packed"), (3, 1, 0.6, "spread"), (2, 4, 0.6, "packed"), (5, 2, 0.7, "spread")],
)
def test_mean_waits_are_those_of_erlang(instances: int, slots: int, rho: float, dispatch: str) -> None:
    work = exponential(600_000, instances * slots * rho, seed=1)
    fleet = FleetModel(slots=slots, cap=instances, cold_start_s=0, dispatch=dispatch)
    done = simulate(work, fleet, always(instances, tick_s=1000), initial=instances)
    assert done.mean_wait == pytest.approx(erlang_c_wait(instances * slots, rho), rel=0.02)


def test_mean_waits_are_those_of_pollaczek_and_khinchine() -> None:
    work = poisson(400_000, 0.7, lambda rng: 1.0, seed=5)
    done = simulate(work, FleetModel(slots=1, cap=1, cold_start_s=0), always(1, tick_s=1000), initial=1)
    assert done.mean_wait == pytest.approx(0.7 / (2 * 0.3), rel=0.02)


workloads = st.lists(st.tuples(st.floats(0, 4000), st.floats(0.1, 300)), min_size=1, max_size=60).map(
    lambda jobs: Workload(sorted(at for at, _ in jobs), [service for _, service in jobs])
)
fleets = st.builds(
    FleetModel,
    slots=st.integers(1, 4),
    cap=st.integers(1, 5),
    cold_start_s=st.floats(0, 300),
    boot_cv=st.sampled_from([0.0, 0.5]),
    failed_boots=st.sampled_from([0.0, 0.3]),
    losses_per_h=st.sampled_from([0.0, 6.0]),
    notice_s=st.sampled_from([0.0, 120.0]),
    dispatch=st.sampled_from(["packed", "spread"]),
    counter_noise=st.sampled_from([0.0, 0.5]),
    counter_lag_s=st.sampled_from([0.0, 30.0]),
    completed_lag_s=st.sampled_from([None, 0.0, 60.0]),
)


def erratic(seed: int) -> Scripted:
    """Orders anything: launches, drains of whatever is there, kills."""
    rng = random.Random(seed)

    def order(seen: Observation) -> Orders:
        ids = [one.id for one in seen.instances]
        drain = tuple(rng.sample(ids, rng.randint(0, len(ids)))) if rng.random() < 0.1 else ()
        return Orders(rng.randint(1, 7), (*drain, "i-unknown"), kill=int(rng.random() < 0.02))

    return Scripted(order)


@settings(deadline=None, max_examples=150)
@given(workloads, fleets, st.integers(0, 99))
def test_whatever_is_ordered_every_job_is_served_once_and_paid_for(
    work: Workload, fleet: FleetModel, seed: int
) -> None:
    scaler = erratic(seed)
    done = simulate(work, fleet, scaler, seed=seed)
    assert len(done.waits) == len(work.arrivals)
    assert min(done.waits) >= 0
    assert done.busy_s - done.lost_s == pytest.approx(sum(work.services))
    assert done.instance_s * fleet.slots >= done.busy_s - 1e-6
    assert done.peak <= fleet.cap
    assert all(len(seen.instances) <= fleet.cap for seen in scaler.seen)
    assert all((one.busy or 0) <= fleet.slots for seen in scaler.seen for one in seen.instances)
    assert scaler.seen[-1].completed <= len(work.arrivals)


@settings(deadline=None, max_examples=60)
@given(workloads, st.integers(1, 3), st.sampled_from(["packed", "spread"]))
def test_jobs_start_in_the_order_of_their_arrival(work: Workload, instances: int, dispatch: str) -> None:
    fleet = replace(FLEET, dispatch=dispatch)
    done = simulate(work, fleet, always(instances))
    starts = [at + wait for at, wait in zip(work.arrivals, done.waits, strict=True)]
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(starts))
    assert done.lost_s == 0
    assert done.busy_s == pytest.approx(sum(work.services))


@settings(deadline=None, max_examples=60)
@given(workloads, st.integers(1, 3), st.integers(1, 3), st.sampled_from(["packed", "spread"]))
def test_a_fleet_that_is_always_on_is_a_queue_with_so_many_servers(
    work: Workload, instances: int, slots: int, dispatch: str
) -> None:
    """Every single wait, against the recursion over the times at which the servers are free."""
    free_at = [0.0] * (instances * slots)
    waits = []
    for at, service in zip(work.arrivals, work.services, strict=True):
        start = max(at, heapq.heappop(free_at))
        waits.append(start - at)
        heapq.heappush(free_at, start + service)
    fleet = FleetModel(slots=slots, cap=instances, cold_start_s=0, dispatch=dispatch)
    assert list(simulate(work, fleet, always(instances), initial=instances).waits) == pytest.approx(waits)


@pytest.mark.parametrize(
    "fleet",
    [
        replace(FLEET, boot_cv=0.4),
        replace(FLEET, failed_boots=0.2),
        replace(FLEET, losses_per_h=1),
        replace(FLEET, counter_noise=0.2),
    ],
)
def test_a_seed_fixes_the_run(fleet: FleetModel) -> None:
    work = poisson(1000, 0.1, lambda rng: rng.expovariate(1 / 40), seed=2)
    policy = Policy(slots=2, wait_target_s=300, service_s=40, cold_start_s=100, cap=8)

    def run(seed: int) -> Result:
        return simulate(work, fleet, LawScaler(policy), seed=seed)

    assert run(4) == run(4)
    assert run(4) != run(5)


def test_the_law_runs_the_fleet_from_zero_to_zero() -> None:
    """Two jobs: after a cold start and within the wait target, by one instance, which then goes."""
    policy = Policy(slots=2, wait_target_s=300, service_s=20, cold_start_s=100, cap=8)
    ticks = itertools.count()
    law = LawScaler(policy, timer=lambda: float(next(ticks)))
    done = simulate(Workload([1001.0, 1002.0], [20.0, 20.0]), FLEET, law)
    assert 100 <= min(done.waits) < done.worst_wait <= 300
    assert done.boots == done.peak == 1
    assert 120 <= done.instance_s < 400
    assert done.span_s < 2000
    assert law.decisions == law.seconds == done.looks  # the timer advances by one in every look


def test_a_bill_runs_from_launch_to_end_and_is_a_minute_at_least() -> None:
    """Launched at 0, ready at 100, drained at 130: 130 s. One that boots for 10 s and is told to go: 60 s."""

    def order(seen: Observation) -> Orders:
        return Orders(1) if seen.at < 130 else Orders(0, tuple(one.id for one in seen.instances))

    done = simulate(Workload([5.0], [15.0]), FLEET, Scripted(order))
    assert done.instance_s == 130
    assert done.busy_s == 15
    assert done.idle_share == pytest.approx(1 - 15 / 260)
    assert done.boots_per_day == pytest.approx(86_400 / done.span_s)

    def waver(seen: Observation) -> Orders:
        return Orders(0, ("i-00000",)) if seen.at == 10 else Orders(1)

    done = simulate(Workload([5.0], [15.0]), FLEET, Scripted(waver))
    assert done.waits[0] == 115  # the second instance was launched at 20 and boots for 100 s
    assert (done.boots, done.reversals) == (2, 1)
    assert done.instance_s == 60 + done.span_s - 20


def test_a_fleet_that_stays_is_billed_for_an_hour_more() -> None:
    done = simulate(Workload([0.0], [20.0]), FLEET, always(1), initial=1)
    assert done.instance_s == done.span_s == 20 + 3600
    assert done.boots == 0


def test_a_drained_instance_finishes_what_it_holds_and_takes_nothing_new() -> None:
    """Two jobs of 100 s on one instance, drained at 10; a third job waits for the next boot."""

    def order(seen: Observation) -> Orders:
        return Orders(1, ("i-00000",))

    scaler = Scripted(order)
    done = simulate(Workload([0.0, 0.0, 5.0], [100.0, 60.0, 1.0]), FLEET, scaler, initial=1)
    assert done.lost_s == 0
    assert list(done.waits) == [0, 0, 95]  # launched at 0, when the first was drained, ready at 100
    draining = [seen for seen in scaler.seen if any(one.state == DRAINING for one in seen.instances)]
    assert [seen.at for seen in draining] == [10 * k for k in range(1, 10)]  # gone with its last job at 100
    assert [seen.instances[0].busy for seen in draining][4:6] == [2, 1]


def test_the_cap_counts_draining_instances() -> None:
    """Cap 1: the replacement is launched only when the drained instance is gone."""
    done = simulate(
        Workload([0.0, 5.0], [100.0, 1.0]),
        replace(FLEET, cap=1),
        Scripted(lambda seen: Orders(3, ("i-00000",))),
        initial=1,
    )
    assert done.peak == 1
    assert done.waits[1] == 195


def test_a_lost_instance_gives_its_jobs_back_to_the_front() -> None:
    """Killed at 30: the first job starts again before the second one starts at all."""

    def order(seen: Observation) -> Orders:
        return Orders(1, kill=int(seen.at == 30))

    scaler = Scripted(order)
    done = simulate(Workload([0.0, 10.0], [50.0, 50.0]), replace(FLEET, slots=1), scaler, initial=1)
    assert done.lost_s == 30
    assert list(done.waits) == [130, 170]
    assert done.busy_s == 130
    assert [seen.visible for seen in scaler.seen if seen.at in (20, 40)] == [1, 2]


def test_a_job_given_back_takes_the_next_slot_that_falls_free() -> None:
    """Two instances of one slot; the newer is killed at 30 and not replaced: its job goes on at 100, the third then."""
    order = Scripted(lambda seen: Orders(1, kill=int(seen.at == 30)))
    done = simulate(Workload([0.0, 1.0, 10.0], [100.0, 50.0, 5.0]), replace(FLEET, slots=1), order, initial=2)
    assert list(done.waits) == [0, 99, 140]
    assert done.lost_s == 29


def test_a_job_given_back_starts_at_once_where_a_slot_is_free() -> None:
    order = Scripted(lambda seen: Orders(1, kill=int(seen.at == 30)))
    done = simulate(Workload([0.0, 1.0], [10.0, 50.0]), replace(FLEET, slots=1), order, initial=2)
    assert list(done.waits) == [0, 29]


def test_losses_come_at_their_rate_and_cost_only_time() -> None:
    """0.5 losses an instance hour on 8 instances for 50 h: 200 expected, standard deviation 14."""
    work = poisson(18_000, 0.1, lambda rng: 60.0, seed=8)
    fleet = replace(FLEET, losses_per_h=0.5)
    done = simulate(work, fleet, always(8), initial=8, seed=3)
    assert done.boots == pytest.approx(0.5 * done.instance_s / 3600, abs=45)
    assert 150 < done.boots < 250
    assert done.lost_s > 0
    assert done.busy_s - done.lost_s == pytest.approx(18_000 * 60)


def test_with_notice_what_fits_into_it_is_finished() -> None:
    """Jobs of 60 s, 120 s of notice: nothing is lost, and the instance is seen as draining."""
    work = poisson(4000, 0.1, lambda rng: 60.0, seed=8)
    fleet = replace(FLEET, losses_per_h=2, notice_s=120)
    scaler = always(8)
    done = simulate(work, fleet, scaler, initial=8, seed=3)
    assert done.lost_s == 0
    assert done.boots > 50
    assert any(one.state == DRAINING for seen in scaler.seen for one in seen.instances)
    long = poisson(400, 0.01, lambda rng: 600.0, seed=8)
    assert simulate(long, fleet, always(8), initial=8, seed=3).lost_s > 0


def test_a_failed_boot_is_billed_until_it_is_given_up() -> None:
    work = Workload([0.0], [10.0])
    fleet = replace(FLEET, failed_boots=1.0, boot_deadline_s=500)
    scaler = Scripted(lambda seen: Orders(1))
    with pytest.raises(RuntimeError, match="1 jobs wait"):
        simulate(work, fleet, scaler)
    assert {one.state for seen in scaler.seen for one in seen.instances} == {BOOTING}
    first = [seen for seen in scaler.seen if any(one.id == "i-00000" for one in seen.instances)]
    assert (first[0].at, first[-1].at) == (10, 490)
    # Two in five fail: the bill shows 500 s for each of them.
    fleet = replace(fleet, failed_boots=0.4)

    def order(seen: Observation) -> Orders:
        ready = tuple(one.id for one in seen.instances if one.state == READY and not one.busy)
        return Orders(int(seen.visible > 0), ready)

    spaced = Workload([k * 4000.0 for k in range(200)], [10.0] * 200)
    done = simulate(spaced, fleet, Scripted(order), seed=1)
    failed = done.boots - 200
    assert failed == pytest.approx(200 * 0.4 / 0.6, abs=60)
    assert done.instance_s == pytest.approx(200 * 115 + 500 * failed, abs=200 * 10)


def test_boots_spread_around_their_mean() -> None:
    def order(seen: Observation) -> Orders:
        ready = tuple(one.id for one in seen.instances if one.state == READY and not one.busy)
        return Orders(int(seen.visible > 0), ready)

    work = Workload([k * 900.0 for k in range(1000)], [1.0] * 1000)
    scaler = Scripted(order)
    done = simulate(work, replace(FLEET, boot_cv=0.3), scaler, seed=6)
    assert done.mean_wait == pytest.approx(100, rel=0.04)  # standard error 1 %
    spread = math.sqrt(sum((wait - done.mean_wait) ** 2 for wait in done.waits) / len(done.waits))
    assert spread / done.mean_wait == pytest.approx(0.3, rel=0.12)
    assert scaler.seen[-1].cold_starts == pytest.approx(list(done.waits)[-20:])


def test_counters_are_late_as_declared() -> None:
    """Ten jobs at 0 and no fleet: seen after the lag. Completions have their own age."""

    def seen_at(fleet: FleetModel) -> dict[float, Observation]:
        scaler = always(1)
        simulate(Workload([0.0] * 10, [25.0] * 10), fleet, scaler)
        return {seen.at: seen for seen in scaler.seen}

    now = seen_at(FLEET)
    late = seen_at(replace(FLEET, counter_lag_s=30))
    mixed = seen_at(replace(FLEET, counter_lag_s=30, completed_lag_s=0))
    fields = ("visible", "in_flight", "completed", "worked_s")
    assert [now[0].visible, now[130].visible, now[130].in_flight, now[130].completed] == [10, 6, 2, 2]
    assert now[130].worked_s == 50
    for at in range(30, 200, 10):
        assert [getattr(late[at], field) for field in fields] == [getattr(now[at - 30], field) for field in fields]
        assert (mixed[at].visible, mixed[at].completed) == (now[at - 30].visible, now[at].completed)
        assert late[at].instances == now[at].instances
    assert [late[at].visible for at in (0, 20)] == [0, 0]


def test_counters_are_noisy_within_their_bounds() -> None:
    scaler = always(1)
    simulate(Workload([0.0] * 1000, [10.0] * 1000), replace(FLEET, counter_noise=0.1), scaler)
    true = [1000 - seen.completed - 2 for seen in scaler.seen if 100 < seen.at < 4000]
    shown = [seen.visible for seen in scaler.seen if 100 < seen.at < 4000]
    assert all(0.9 * a - 0.5 <= b <= 1.1 * a + 0.5 for a, b in zip(true, shown, strict=True))
    assert len({b - a for a, b in zip(true, shown, strict=True)}) > 50


def test_dispatch_fills_one_instance_or_spreads_over_all() -> None:
    """Two instances with two slots, two jobs."""

    def busy(dispatch: str) -> list[int | None]:
        scaler = always(2)
        simulate(Workload([1.0, 2.0], [20.0] * 2), replace(FLEET, dispatch=dispatch), scaler, initial=2)
        return [one.busy for one in scaler.seen[1].instances]

    assert busy("packed") == [2, 0]
    assert busy("spread") == [1, 1]


def test_looks_are_a_minute_apart_at_rest_and_the_first_arrival_is_seen_at_the_next_tick() -> None:
    def order(seen: Observation) -> Orders:
        idle = tuple(one.id for one in seen.instances if one.state == READY and not one.busy)
        return Orders(int(seen.visible > 0), idle)

    scaler = Scripted(order)
    simulate(Workload([333.0], [10.0], start_at=1000), FLEET, scaler)
    at = [seen.at - 1000 for seen in scaler.seen]
    assert at[:7] == [0, 60, 120, 180, 240, 300, 340]
    assert at[7:] == [340 + 10 * k for k in range(1, 12)]  # boots until 440, works until 450, is drained, no more
    assert scaler.seen[7].instances[0].launched_at == 1340


def test_there_is_no_rest_before_the_late_counters_say_so() -> None:
    """A job at 333, its instance from 340 to 450, counters 30 s late; and the same 5000 s later."""

    def order(seen: Observation) -> Orders:
        wanted = 340 <= seen.at % 5000 < 440
        return Orders(int(wanted), () if wanted else tuple(one.id for one in seen.instances))

    scaler = Scripted(order)
    done = simulate(Workload([333.0, 5333.0], [10.0, 10.0]), replace(FLEET, counter_lag_s=30), scaler)
    assert list(done.waits) == [107, 107]
    assert [seen.at for seen in scaler.seen if 440 < seen.at <= 600] == [450, 460, 470, 480, 540, 600]


def test_observations_share_the_instances_that_did_not_change() -> None:
    scaler = always(1)
    simulate(Workload([0.0], [500.0]), FLEET, scaler, initial=1)
    assert scaler.seen[3].instances[0] is scaler.seen[4].instances[0]


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        Workload([2.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="one service per arrival"):
        Workload([1.0], [])
    with pytest.raises(ValueError, match="packed or spread"):
        replace(FLEET, dispatch="random")
    with pytest.raises(ValueError, match="slots = 0"):
        replace(FLEET, slots=0)


def test_an_empty_workload_costs_nothing() -> None:
    done = simulate(Workload([], []), FLEET, always(0))
    assert (done.instance_s, done.mean_wait, done.worst_wait, done.idle_share, done.share_within(0)) == (0, 0, 0, 0, 1)


def test_the_share_within_a_wait_counts_jobs() -> None:
    done = simulate(Workload([0.0, 0.0, 0.0, 0.0], [10.0] * 4), FLEET, always(1), initial=1)
    assert list(done.waits) == [0, 0, 10, 10]
    assert (done.share_within(9.9), done.share_within(10), done.worst_wait) == (0.5, 1, 10)
