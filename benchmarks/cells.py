"""One cell of the benchmark: a workload, a cold start, a wait target; and what a policy did in it.

Seconds unless said otherwise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from fleet_control.scaling_law import Policy

from gpufleet.planner.simulator import FleetModel, LawScaler, Result, Workload, simulate
from gpufleet.planner.workloads import DOZEN, EVERY, TUNED_ON, Case

TICK_S = 10.0
SLACK_S = 25.0  # a wait target this much above the cold start hides it: two looks and a half
ENOUGH = 0.99  # share of the jobs that must start within the wait target
COLD_STARTS = (90.0, 240.0)
WAIT_TARGETS = (60.0, 300.0, 600.0)
TUNED, HELD_OUT, APART = "tuned on", "held out", "apart"

# Small enough for a test: an hour of bursts in three, on two fleets.
TINY = (
    Case("tiny-1", "azure-code-hour", 600, 1, 5.0, 0.66, 16, 51, silent_s=(3600, 3600)),
    Case("tiny-8", "azure-code-hour", 2000, 8, 20.0, 0.8, 16, 52, silent_s=(3600, 3600)),
)
CASES = EVERY | {case.name: case for case in TINY}


@dataclass(frozen=True)
class Cell:
    case: str
    cold_start_s: float
    wait_target_s: float

    @property
    def hidden(self) -> bool:
        """Whether the cold start fits into the wait target: the deadline regime."""
        return self.wait_target_s >= self.cold_start_s + SLACK_S

    @property
    def half(self) -> str:
        names = {case.name for case in (*TUNED_ON, TINY[0])}
        return TUNED if self.case in names else HELD_OUT if CASES[self.case] in (*DOZEN, TINY[1]) else APART

    @property
    def name(self) -> str:
        return f"{self.case} {self.cold_start_s:g}/{self.wait_target_s:g}"

    def fleet(self, **changes: Any) -> FleetModel:
        case = CASES[self.case]
        return FleetModel(**{"slots": case.slots, "cap": case.cap, "cold_start_s": self.cold_start_s} | changes)

    def policy(self, **changes: Any) -> Policy:
        case = CASES[self.case]
        told: dict[str, Any] = {
            "slots": case.slots,
            "wait_target_s": self.wait_target_s,
            "service_s": case.service_s,
            "cold_start_s": self.cold_start_s,
            "tick_s": TICK_S,
            "cap": case.cap,
        }
        return Policy(**told | changes)


@dataclass(frozen=True)
class Outcome:
    """What a policy did in a cell.

    `cost_s`: instance-seconds billed. `share`: of the jobs, started within the wait target; `kept`: within the wait
    target, a cold start and two looks. `setting`: what was chosen for this cell in hindsight, if anything was.
    """

    policy: str
    cell: Cell
    cost_s: float
    share: float
    kept: float
    worst_s: float
    boots_per_day: float
    idle_share: float
    lost_s: float
    peak: int
    reversals: int
    setting: str = ""
    seconds: float = 0.0  # the policy's own thinking, all looks together
    looks: int = 0


def outcome(policy: str, cell: Cell, result: Result, setting: str = "", scaler: LawScaler | None = None) -> Outcome:
    target = cell.wait_target_s
    return Outcome(
        policy=policy,
        cell=cell,
        cost_s=result.instance_s,
        share=result.share_within(target),
        kept=result.share_within(target + cell.cold_start_s + 2 * TICK_S),
        worst_s=result.worst_wait,
        boots_per_day=result.boots_per_day,
        idle_share=result.idle_share,
        lost_s=result.lost_s,
        peak=result.peak,
        reversals=result.reversals,
        setting=setting,
        seconds=scaler.seconds if scaler else 0.0,
        looks=scaler.decisions if scaler else 0,
    )


@functools.lru_cache(maxsize=2)
def built(case: str) -> Workload:
    return CASES[case].build()


def run_law(cell: Cell, fleet: dict[str, Any] | None = None, policy: dict[str, Any] | None = None) -> Outcome:
    """The law in this cell; `fleet` and `policy` change what the cloud does and what the law is told."""
    scaler = LawScaler(cell.policy(**policy or {}))
    result = simulate(built(cell.case), cell.fleet(**fleet or {}), scaler)
    return outcome("law", cell, result, scaler=scaler)
