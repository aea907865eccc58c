"""What came of a scenario, and whether it kept the promises. Pure.

Dollars are USD. A month is a UTC month, "2026-11".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .budget_stops import Stop

METER_WITHIN = 0.01  # of the bill, either way


@dataclass(frozen=True)
class Month:
    """One month by both accounts. `bill_usd`: the embedded cloud's; `meter_usd`: the guard's ledger at its last tick.
    `whole`: it ended within the run; if not, both are as of that tick. `bill`, `meter`: the same, part by part."""

    name: str
    bill_usd: float
    meter_usd: float
    whole: bool
    bill: Mapping[str, float] = field(default_factory=dict)
    meter: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """What the meter is over (under: below 0) the bill, as a share of it."""
        return self.meter_usd / self.bill_usd - 1 if self.bill_usd else math.inf


@dataclass(frozen=True)
class Jobs:
    """Jobs over the whole run. `accepted`: sent while the fleet was stopped; `unserved`: of all, not completed at the
    end."""

    sent: int
    completed: int
    lost: int
    billed_twice: int
    without_result: int
    accepted: int
    unserved: int


@dataclass(frozen=True)
class Alone:
    """The same load with AWS Budgets alone: the month's bill, what of it is over the budget, when the bill crossed the
    budget, and when AWS Budgets' message came (None: not within the month)."""

    bill_usd: float
    over_usd: float
    crossed_at: float | None
    message_at: float | None


@dataclass(frozen=True)
class Outcome:
    """What a scenario did. `note`: what went wrong in it, and that it did (`happened`). `worst_minute_usd`: the dearest
    minute by the bill."""

    scenario: str
    title: str
    budget_usd: float
    months: tuple[Month, ...]
    stops: tuple[Stop, ...]
    jobs: Jobs
    worst_minute_usd: float
    happened: bool
    note: str
    alone: Alone | None = None

    @property
    def judged(self) -> Month:
        """The month that the budget is held against: the first one, which ends within the run."""
        return self.months[0]

    @property
    def share(self) -> float:
        return self.judged.bill_usd / self.budget_usd

    @property
    def longest(self) -> Stop | None:
        """Of the stops, the one that came nearest to its limit, or exceeded it most."""
        return max(self.stops, key=lambda stop: stop.seconds / stop.limit_s, default=None)


@dataclass(frozen=True)
class Verdict:
    promise: str
    kept: bool
    seen: str


def judge(one: Outcome) -> list[Verdict]:
    """Every promise, with what was seen."""
    month, jobs = one.judged, one.jobs
    launched = sum(stop.launched for stop in one.stops)
    return [
        Verdict("the scenario took place", one.happened, one.note),
        Verdict(
            "the month's bill is within the budget",
            month.whole and month.bill_usd <= one.budget_usd,
            f"${month.bill_usd:.2f} of ${one.budget_usd:.2f}",
        ),
        *(
            Verdict(f"the meter is within 1 % of the bill, {each.name}", abs(each.error) <= METER_WITHIN, _error(each))
            for each in one.months
        ),
        *(Verdict(_promise(stop), stop.seconds <= stop.limit_s, f"{stop.seconds:.0f} s") for stop in one.stops),
        Verdict("nothing is launched while stopped", launched == 0, f"{launched} launched"),
        Verdict(
            "no job is lost or billed twice",
            not (jobs.lost or jobs.billed_twice or jobs.without_result),
            f"{jobs.lost} lost, {jobs.billed_twice} billed twice, {jobs.without_result} without result",
        ),
        Verdict(
            "every job is served, those accepted while stopped after the resume",
            jobs.unserved == 0,
            f"{jobs.unserved} of {jobs.sent} not served; {jobs.accepted} were accepted while stopped",
        ),
    ]


def _promise(stop: Stop) -> str:
    state = "the guard lives" if stop.living else "the guard is dead or blind"
    return f"nothing runs {stop.limit_s:.0f} s after the crossing: {state}"


def _error(month: Month) -> str:
    return f"{100 * month.error:+.2f} % (meter ${month.meter_usd:.4f}, bill ${month.bill_usd:.4f})"


def broken(one: Outcome) -> list[Verdict]:
    return [verdict for verdict in judge(one) if not verdict.kept]
