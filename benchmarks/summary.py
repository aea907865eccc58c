"""What the cells add up to: geometric means, the worst cell, cells that miss. Pure arithmetic on outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .cells import APART, ENOUGH, HELD_OUT, TUNED, Cell, Outcome


def geo_mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


@dataclass(frozen=True)
class Group:
    """Figures over some cells of one policy: `cost` and `worst` are ratios to the yardstick."""

    cells: int
    cost: float
    worst: float
    worst_cell: str
    missed: tuple[str, ...]  # cells in which fewer than 99 % of the jobs were started in time
    least_share: float
    least_kept: float


def group(outcomes: Sequence[Outcome], yardstick: Callable[[Cell], float]) -> Group:
    ratios = {one.cell: one.cost_s / yardstick(one.cell) for one in outcomes}
    worst = max(ratios, key=lambda cell: ratios[cell], default=None)
    return Group(
        cells=len(outcomes),
        cost=geo_mean(ratios.values()),
        worst=ratios[worst] if worst else math.nan,
        worst_cell=worst.name if worst else "",
        missed=tuple(one.cell.name for one in outcomes if one.share < ENOUGH),
        least_share=min((one.share for one in outcomes), default=math.nan),
        least_kept=min((one.kept for one in outcomes), default=math.nan),
    )


def regime(outcomes: Sequence[Outcome], hidden: bool, *halves: str) -> list[Outcome]:
    """The outcomes of one regime, in the named halves; in both if none is named. What stands apart is never in."""
    halves = halves or (TUNED, HELD_OUT)
    return [one for one in outcomes if one.cell.hidden == hidden and one.cell.half in halves]


def cheapest(outcomes: Sequence[Outcome]) -> Outcome:
    """The choice of one who knows how each setting ends: the cheapest that keeps 99 %; if none does, the best share,
    of equals the cheapest."""
    enough = [one for one in outcomes if one.share >= ENOUGH]
    return min(enough or outcomes, key=lambda one: (0.0 if enough else -one.share, one.cost_s))


def law_table(outcomes: Sequence[Outcome], yardstick: Callable[[Cell], float], bounds: set[Cell]) -> str:
    """A line a workload: cost over the yardstick and share in time (percent), one column for each C/W.

    `bounds`: cells whose yardstick is only the work bound, marked with `~`; `!` marks a cell under 99 %.
    """
    columns = sorted({(one.cell.cold_start_s, one.cell.wait_target_s) for one in outcomes})
    cases = list(dict.fromkeys(one.cell.case for one in outcomes))
    found = {(one.cell.case, one.cell.cold_start_s, one.cell.wait_target_s): one for one in outcomes}
    head = " ".join(f"{f'{cold:g}/{target:g}':>14}" for cold, target in columns)
    lines = [f"{'cost, % in time':<24}{head}"]
    for case in cases:
        texts, half = [], ""
        for cold, target in columns:
            one = found.get((case, cold, target))
            if not one:
                texts.append(f"{'':>14}")
                continue
            half = one.cell.half
            ratio = one.cost_s / yardstick(one.cell)
            marks = ("~" if one.cell in bounds else "") + ("!" if one.share < ENOUGH else "")
            texts.append(f"{f'{marks}{ratio:.3f} {100 * one.share:5.2f}':>14}")
        lines.append(f"{case:<18}{half[:5]:<6}" + " ".join(texts))
    for hidden, title in ((True, "W >= C + 25"), (False, "W < C + 25")):
        for name, halves in (("tuned on", (TUNED,)), ("held out", (HELD_OUT,)), ("both", ()), ("apart", (APART,))):
            one = group(regime(outcomes, hidden, *halves), yardstick)
            if one.cells:
                lines.append(
                    f"{title:<12}{name:<9} geo-mean {one.cost:.4f} worst {one.worst:.3f} ({one.worst_cell})"
                    f", under 99 %: {len(one.missed)} of {one.cells}, least {100 * one.least_share:.2f} %"
                    f", in W + C + 2 looks {100 * one.least_kept:.3f} %"
                )
    seconds, looks = sum(one.seconds for one in outcomes), sum(one.looks for one in outcomes)
    lines.append(f"the law's own time: {1e6 * seconds / max(1, looks):.0f} us a look, {seconds:.0f} s, {looks} looks")
    lines.append(f"boots a day {sum(one.boots_per_day for one in outcomes) / len(outcomes):.0f} in the mean cell")
    return "\n".join(lines)
