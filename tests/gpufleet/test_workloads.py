"""The benchmark's workloads: always the same jobs, two halves, needs that a fleet of a few instances can meet."""

from __future__ import annotations

import statistics

import pytest

from gpufleet.planner import traces
from gpufleet.planner.workloads import DOZEN, EVERY, FULL_RATE, HELD_OUT, LONE_BURST, TUNED_ON, Case

NAMES = sorted(set(EVERY) - {FULL_RATE.name})


def test_the_halves_are_disjoint_and_complete_and_of_mixed_kinds() -> None:
    tuned, held = ({case.profile for case in half} for half in (TUNED_ON, HELD_OUT))
    assert not tuned & held
    assert tuned | held | {LONE_BURST.profile} == set(traces.shipped())
    assert len(EVERY) == len(DOZEN) + 2
    assert len({case.seed for case in EVERY.values()}) == len(EVERY)
    for half in (TUNED_ON, HELD_OUT):
        sources = {traces.load(case.profile).source.split("/")[0] for case in half}
        assert sources == {"alibaba", "Azure", "HPMLL"}
        assert len({case.slots for case in half}) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_rates_are_real_or_thinned_and_the_peak_needs_a_few_instances(name: str) -> None:
    case = EVERY[name]
    profile, published = case.profiled(), traces.load(case.profile)
    assert profile.jobs <= min(published.jobs, 300_000) * 1.000001
    assert max(profile.rates) <= max(published.rates)
    bins = max(1, round(600 / profile.bin_s))
    busiest = max(sum(profile.rates[k : k + bins]) / bins for k in range(0, len(profile.rates), bins))
    need = busiest * case.service_s / case.slots
    assert 2 <= need <= 20
    assert 3 * need <= case.cap


@pytest.mark.parametrize("name", ["burstgpt-week", "lone-burst"])
def test_the_same_jobs_every_time_with_the_work_that_the_table_says(name: str) -> None:
    case = EVERY[name]
    work = case.build()
    assert (work.arrivals, work.services) == (case.build().arrivals, case.build().services)
    assert len(work.arrivals) == pytest.approx(case.profiled().jobs, rel=0.06)
    mean = statistics.mean(work.services)
    assert mean == pytest.approx(case.service_s, rel=0.03)
    assert statistics.pstdev(work.services) / mean == pytest.approx(case.service_cv, rel=0.05)
    assert min(work.services) > 0


def test_the_lone_burst_is_one_hour_of_a_day() -> None:
    work = LONE_BURST.build()
    assert LONE_BURST.profiled().span_s == pytest.approx(86_400, rel=0.005)
    assert work.arrivals[0] >= 6 * 3600
    assert work.arrivals[-1] <= 7 * 3600


def test_another_seed_draws_other_jobs() -> None:
    one, other = (Case("x", "azure-code-hour", 500, 1, 5.0, 0.6, 8, seed).build() for seed in (1, 3))
    assert one.arrivals != other.arrivals
    assert one.services != other.services


def test_the_workload_for_speed_has_two_million_jobs() -> None:
    assert FULL_RATE.profiled().jobs == pytest.approx(2_100_461, rel=0.001)
    assert FULL_RATE.profiled().span_s == 7 * 86400
