"""The yardstick: exact where queueing theory is, and never worse with more servers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufleet.planner.queueing import waits_always_on


def test_it_agrees_with_pollaczek_and_khinchine() -> None:
    """One server, Poisson arrivals, constant service: the mean wait is rho S / (2 (1 - rho))."""
    rng, at, arrivals = random.Random(1), 0.0, []
    for _ in range(200_000):
        at += rng.expovariate(0.7)
        arrivals.append(at)
    waits = waits_always_on(arrivals, servers=1, service_s=1.0)
    assert sum(waits) / len(waits) == pytest.approx(0.7 / (2 * 0.3), rel=0.05)


@given(st.lists(st.floats(0, 1e4), max_size=40), st.integers(1, 5), st.floats(0.1, 100))
def test_nobody_starts_before_arriving_and_more_servers_never_hurt(
    times: list[float], servers: int, service_s: float
) -> None:
    arrivals = sorted(times)
    waits = waits_always_on(arrivals, servers, service_s)
    more = waits_always_on(arrivals, servers + 1, service_s)
    assert all(wait >= 0 for wait in waits)
    assert all(a <= b + 1e-6 for a, b in zip(more, waits, strict=True))
