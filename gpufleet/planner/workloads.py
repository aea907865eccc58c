"""The benchmark's workloads: real arrival profiles, thinned where needed, with service times drawn for them.

One table. A policy may be tuned on the first half of it; what it is worth shows on the second. Each draws its jobs
from a seed of its own, so that a workload is the same everywhere and always. Service times are lognormal: means from
2 to 45 s and coefficients of variation from 0.5 to 0.8 span what LLM replies in 4 or 8 slots (CV of the tokens of a
reply, Azure conversations: 0.8) and diffusion jobs one at a time (28.7 s, CV 0.73, Alibaba GenTD26) measured.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from . import traces
from .simulator import Workload

DAY = 86400
MONDAY = 1_715_558_400.0  # 2024-05-13 00:00 UTC, for traces whose calendar is unknown
FRIDAY, SUNDAY = MONDAY - 3 * DAY, MONDAY - DAY  # 2024-05-10 and -12: the first days of the two Azure weeks


@dataclass(frozen=True)
class Case:
    """One workload and the fleet that serves it.

    `jobs`: expected number of jobs; the profile's rates are lowered to it, never raised. `slots`: jobs at once on an
    instance. `service_s`, `service_cv`: mean and coefficient of variation of the seconds of work of a job. `cap`: most
    instances, about four times what the busiest ten minutes need. `silent_s`: silence before and after the profile.
    """

    name: str
    profile: str
    jobs: float
    slots: int
    service_s: float
    service_cv: float
    cap: int
    seed: int
    start_at: float = MONDAY
    silent_s: tuple[float, float] = (0.0, 0.0)

    def profiled(self) -> traces.Profile:
        """The arrival rates, thinned and with the silence around them."""
        profile = traces.load(self.profile)
        before, after = (round(silence / profile.bin_s) for silence in self.silent_s)
        thin = profile.thinned(peak_rate=math.inf, jobs=self.jobs)
        return replace(thin, rates=(0.0,) * before + thin.rates + (0.0,) * after)

    def build(self) -> Workload:
        """Its jobs, always the same ones."""
        arrivals = self.profiled().arrivals(self.seed)
        rng = random.Random(self.seed + 1)  # noqa: S311 - reproducible traffic, no secret
        variance = math.log(1 + self.service_cv**2)
        mean, spread = math.log(self.service_s) - variance / 2, math.sqrt(variance)
        services = [rng.lognormvariate(mean, spread) for _ in arrivals]
        return Workload(arrivals=arrivals, services=services, start_at=self.start_at)


# fmt: off
TUNED_ON = (  # name, profile, jobs, slots, service_s, service_cv, cap, seed
    Case("office-hours", "office-hours", 300_000, 8, 20.0, 0.8, 24, 11),
    Case("daily-batch", "daily-batch", 300_000, 8, 45.0, 0.8, 32, 12),
    Case("diurnal", "diurnal", 150_000, 1, 28.7, 0.73, 48, 13),
    Case("pool-large", "pool-large", 250_000, 2, 45.0, 0.6, 64, 14),
    Case("azure-code-week", "azure-code-week", 250_000, 4, 20.0, 0.8, 32, 15, FRIDAY),
    Case("burstgpt-week", "burstgpt-week", math.inf, 1, 28.7, 0.73, 32, 16),
)
HELD_OUT = (
    Case("sporadic", "sporadic", 300_000, 4, 2.0, 0.6, 16, 21),
    Case("nightly", "nightly", 300_000, 4, 8.0, 0.6, 24, 22),
    Case("diurnal-large", "diurnal-large", 300_000, 4, 20.0, 0.8, 24, 23),
    Case("pool-mid", "pool-mid", 250_000, 1, 28.7, 0.73, 48, 24),
    Case("pool-small", "pool-small", 250_000, 8, 45.0, 0.8, 24, 25),
    Case("azure-conv-week", "azure-conv-week", 250_000, 2, 12.0, 0.5, 24, 26, SUNDAY),
    Case("burstgpt-61-days", "burstgpt-61-days", 300_000, 2, 15.0, 0.7, 32, 27),
)
# One hour of bursts in an otherwise silent day: told apart, for no daily rhythm can be learned from it.
LONE_BURST = Case("lone-burst", "azure-code-hour", math.inf, 8, 5.0, 0.66, 32, 31, silent_s=(6 * 3600, 17 * 3600))
# All 2.1 million jobs of one eighth of Azure's code completion week: for speed, not for cost.
FULL_RATE = Case("full-rate", "azure-code-week", 2_100_461, 8, 6.0, 0.8, 64, 41, FRIDAY)
# fmt: on

DOZEN = TUNED_ON + HELD_OUT
EVERY = {case.name: case for case in (*DOZEN, LONE_BURST, FULL_RATE)}
