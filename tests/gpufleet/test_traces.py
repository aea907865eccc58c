"""Traces: what is drawn looks like what was measured, and a bad file is refused with its reason."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufleet.planner import traces

# Days and requests as the sources publish them (the pools: the sum of their clients' rates).
PUBLISHED = {
    "office-hours": (14, 566_209),
    "sporadic": (14, 361_631),
    "nightly": (14, 473_434),
    "daily-batch": (14, 4_568_077),
    "diurnal": (14, 1_614_210),
    "diurnal-large": (14, 22_820_877),
    "pool-large": (14, 195.84 * 14 * 86400),
    "pool-mid": (14, 1790.1 * 14 * 86400),
    "pool-small": (14, 1174.4 * 14 * 86400),
    "azure-code-week": (7, 16_803_691),
    "azure-conv-week": (7, 27_303_995),
    "azure-code-hour": (3440 / 86400, 8_819),
    "burstgpt-week": (7, 16_953_018 / 872),
    "burstgpt-61-days": (61, 1_429_737),
}


@pytest.mark.parametrize("name", traces.shipped())
def test_shipped_profiles_name_their_source_and_licence_and_carry_its_requests(name: str) -> None:
    profile = traces.load(name)
    assert profile.name == name
    assert profile.licence in {"Apache-2.0", "CC-BY-4.0"}
    assert profile.source.startswith(("alibaba/ServeGen, ", "Azure/AzurePublicDataset, ", "HPMLL/BurstGPT, "))
    days, requests = PUBLISHED[name]
    assert profile.span_s == pytest.approx(days * 86400)
    assert profile.jobs == pytest.approx(requests, rel=2e-3)


def test_every_published_trace_is_shipped_and_small() -> None:
    assert set(traces.shipped()) == set(PUBLISHED)
    assert sum(path.stat().st_size for path in traces.PROFILES.glob("*.json")) < 150_000


def test_arrivals_follow_the_rates_and_are_bursty() -> None:
    profile = traces.load("office-hours")
    times = profile.arrivals(seed=1)
    assert times == sorted(times)
    assert len(times) == pytest.approx(profile.jobs, rel=0.02)
    idle = [k for k, rate in enumerate(profile.rates) if rate == 0]
    busy_bins = {int(t // profile.bin_s) for t in times}
    assert not busy_bins & set(idle)
    steady = traces.Profile("steady", (1.0,) * 100, 600, profile.interarrival_cv, "s", "l").arrivals(seed=2)
    gaps = [b - a for a, b in itertools.pairwise(steady)]
    assert statistics.pstdev(gaps) / statistics.mean(gaps) == pytest.approx(profile.interarrival_cv, rel=0.1)


RATES = st.one_of(st.just(0.0), st.floats(1e-4, 5))


@given(st.lists(RATES, min_size=1, max_size=20), st.floats(0.01, 2), st.floats(1, 500), st.integers(0, 9))
def test_thinning_keeps_the_shape_and_both_limits(rates: list[float], peak: float, jobs: float, seed: int) -> None:
    profile = traces.Profile("p", tuple(rates), 60.0, 1.5, "s", "l")
    thin = profile.thinned(peak_rate=peak, jobs=jobs)
    assert max(thin.rates) <= peak * 1.000001
    assert thin.jobs <= jobs * 1.000001
    assert [rate == 0 for rate in thin.rates] == [rate == 0 for rate in profile.rates]
    factors = [t / r for t, r in zip(thin.rates, profile.rates, strict=True) if r]
    assert factors == pytest.approx(factors[:1] * len(factors))
    assert thin.arrivals(seed) == thin.arrivals(seed)


def test_window_wraps_around() -> None:
    profile = traces.Profile("p", (1.0, 2.0, 3.0), 600, 1.0, "s", "l")
    assert profile.window(1200, 1800).rates == (3.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("a.csv", "t_s\n1\n", "fewer than two rows"),
        ("b.csv", "time\n1\n2\n", "t_s"),
        ("c.json", "{}", "name"),
        ("d.json", '{"name":"x","bin_s":0,"interarrival_cv":1,"rate_per_min":[1]}', "positive bin_s"),
        ("e.json", '{"name":"x","bin_s":60,"interarrival_cv":1,"rate_per_min":[-1]}', "negative"),
        ("f.json", "not json", "not a trace"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, file: str, text: str, reason: str) -> None:
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(traces.TraceError, match=reason):
        traces.load(str(path))


def test_an_unknown_name_lists_the_shipped_ones_and_an_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(traces.TraceError, match="office-hours"):
        traces.load("offise-hours")
    with pytest.raises(traces.TraceError, match="No such file"):
        traces.load(str(tmp_path / "absent.csv"))


def test_a_users_csv_of_arrival_times_and_of_rates(tmp_path: Path) -> None:
    arrivals = tmp_path / "arrivals.csv"
    arrivals.write_text("t_s\n" + "\n".join(str(t) for t in (0, 10, 20, 130)) + "\n")
    assert traces.load(str(arrivals)).rates == (3 / 60, 0.0, 1 / 60)
    rates = tmp_path / "rates.csv"
    rates.write_text("t_s,rate_per_min\n0,60\n300,0\n")
    assert traces.load(str(rates)).rates == (1.0, 0.0)
    assert traces.load(str(rates)).bin_s == 300
