"""The law where the world is not as told, and where it is asked to hurry: sensitivity, and the price of impatience."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cells import ENOUGH, Cell, Outcome, run_law
from .running import Changes, in_processes
from .summary import geo_mean

# Three workloads of each half, with one, two, four and eight slots; all thirteen would take hours.
STRESSED = ("office-hours", "diurnal", "burstgpt-week", "sporadic", "pool-mid", "azure-conv-week")
SLACK_S = 60.0  # the wait target here is the cold start plus this, plus the lag where one is declared
IMPATIENCE_COLD_S = 240.0
IMPATIENCE_WAITS = (600.0, 400.0, 300.0, 270.0, 240.0, 180.0, 120.0, 60.0, 30.0)


@dataclass(frozen=True)
class Disturbance:
    """`service` and `cold_start`: factors on what the law is told at the start. `lag_s`: declared age of the counters.
    `fleet`: what the simulated cloud does."""

    name: str
    service: float = 1.0
    cold_start: float = 1.0
    lag_s: float = 0.0
    fleet: dict[str, Any] = field(default_factory=dict)


DISTURBANCES = (
    Disturbance("service time told at half", service=0.5),
    Disturbance("service time told at twice", service=2.0),
    Disturbance("cold start told at half", cold_start=0.5),
    Disturbance("cold start told at twice", cold_start=2.0),
    Disturbance("counters 30 s late, declared", lag_s=30.0),
    Disturbance("counters 60 s late, declared", lag_s=60.0),
    Disturbance("counters +-10 %", fleet={"counter_noise": 0.1}),
    Disturbance("boot times spread (CV 0.3)", fleet={"boot_cv": 0.3}),
    Disturbance("5 % of boots fail", fleet={"failed_boots": 0.05}),
    Disturbance("spot loss 0.3/h, no notice", fleet={"losses_per_h": 0.3}),
    Disturbance("spot loss 0.3/h, two minutes' notice", fleet={"losses_per_h": 0.3, "notice_s": 120.0}),
    Disturbance("workers spread the jobs", fleet={"dispatch": "spread"}),
)


@dataclass(frozen=True)
class Run:
    """One cell under one disturbance; `lag_s` without a disturbance: only the wait target is that much longer."""

    case: str
    cold_start_s: float
    lag_s: float
    disturbance: Disturbance | None
    changes: Changes

    @property
    def cell(self) -> Cell:
        return Cell(self.case, self.cold_start_s, self.cold_start_s + SLACK_S + self.lag_s)


def run(task: Run) -> Outcome:
    one, cell, changes = task.disturbance, task.cell, task.changes
    if not one:
        return run_law(cell, changes.fleet, changes.policy)
    told = cell.policy()
    policy: dict[str, Any] = {
        "service_s": one.service * told.service_s,
        "cold_start_s": one.cold_start * told.cold_start_s,
        "metric_lag_s": one.lag_s,
    }
    fleet = {"counter_lag_s": one.lag_s} | one.fleet
    return run_law(cell, changes.fleet | fleet, changes.policy | policy)


@dataclass(frozen=True)
class Effect:
    """Over all cells: least share in time, cells under 99 %, and the cost against the undisturbed runs."""

    name: str
    cells: int
    least_share: float
    least_cell: str
    missed: int
    cost: float
    dearest: float


def sensitivity(cases: Sequence[str], colds: Sequence[float], processes: int, changes: Changes) -> list[Effect]:
    """Each disturbance over all cells, undisturbed runs first. `changes` hold for both sides."""
    lags = sorted({one.lag_s for one in DISTURBANCES})
    plain = [Run(case, cold, lag, None, changes) for case in cases for cold in colds for lag in lags]
    disturbed = [Run(case, cold, one.lag_s, one, changes) for case in cases for cold in colds for one in DISTURBANCES]
    tasks = sorted(plain + disturbed, key=lambda task: cases.index(task.case))
    done = list(zip(tasks, in_processes(run, tasks, processes, changes.constants), strict=True))
    costs = {task.cell: one.cost_s for task, one in done if not task.disturbance}
    effects = [_effect("undisturbed", [one for task, one in done if not task.disturbance and not task.lag_s], costs)]
    for disturbance in DISTURBANCES:
        mine = [one for task, one in done if task.disturbance == disturbance]
        effects.append(_effect(disturbance.name, mine, costs))
    return effects


def _effect(name: str, outcomes: Sequence[Outcome], costs: dict[Cell, float]) -> Effect:
    least = min(outcomes, key=lambda one: one.share)
    ratios = [one.cost_s / costs[one.cell] for one in outcomes]
    missed = sum(one.share < ENOUGH for one in outcomes)
    return Effect(name, len(outcomes), least.share, least.cell.name, missed, geo_mean(ratios), max(ratios))


@dataclass(frozen=True)
class Patience:
    """The law at one wait target: cost against the longest one, share in time in the mean and the worst workload."""

    wait_target_s: float
    cost: float
    mean_share: float
    least_share: float


def impatience(cases: Sequence[str], processes: int, changes: Changes) -> Iterator[Patience]:
    """The longest wait target first; it is what the others' costs are measured by."""
    tasks = [Cell(case, IMPATIENCE_COLD_S, wait) for case in cases for wait in IMPATIENCE_WAITS]
    law = functools.partial(run_law, fleet=changes.fleet, policy=changes.policy)
    done = {one.cell: one for one in in_processes(law, tasks, processes, changes.constants)}
    for wait in IMPATIENCE_WAITS:
        mine = [done[Cell(case, IMPATIENCE_COLD_S, wait)] for case in cases]
        base = [done[Cell(case, IMPATIENCE_COLD_S, IMPATIENCE_WAITS[0])] for case in cases]
        shares = [one.share for one in mine]
        cost = geo_mean(one.cost_s / other.cost_s for one, other in zip(mine, base, strict=True))
        yield Patience(wait, cost, sum(shares) / len(shares), min(shares))
