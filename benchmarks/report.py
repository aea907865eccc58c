"""What the benchmark leaves behind: all figures as JSON, tables in Markdown, one picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cells import APART, ENOUGH, HELD_OUT, TUNED, Cell, Outcome, built
from .rivals import NAMES, TUNED_KEDA
from .stress import Effect, Patience
from .summary import group, regime

LAW = "law"
REGIMES = ((True, "W >= C + 25 s: the cold start hides inside the wait target"), (False, "W < C: it cannot"))
BEGIN, END = "<!-- figures of benchmarks/policies.py: begin -->", "<!-- figures of benchmarks/policies.py: end -->"
Costs = Callable[[Cell], float]


def figures(outcomes: Sequence[Outcome], yardstick: Costs, parts: dict[str, Any]) -> str:
    """All figures: one row a cell and policy, then the parts as they are."""
    rows = [_row(one, yardstick) for one in outcomes]
    cells = ",\n".join(json.dumps(list(row.values())) for row in rows)
    rest = "".join(f',\n"{name}": {json.dumps(part)}' for name, part in parts.items())
    return f'{{"columns": {json.dumps(list(rows[0]))},\n"cells": [\n{cells}\n]{rest}}}\n'


def _row(one: Outcome, yardstick: Costs) -> dict[str, Any]:
    return {
        "policy": one.policy,
        "workload": one.cell.case,
        "half": one.cell.half,
        "cold_start_s": one.cell.cold_start_s,
        "wait_target_s": one.cell.wait_target_s,
        "cost_over_clairvoyant": round(one.cost_s / yardstick(one.cell), 4),
        "instance_hours": round(one.cost_s / 3600, 2),
        "share_in_time": round(one.share, 5),
        "share_in_target_and_cold_start": round(one.kept, 5),
        "worst_wait_s": round(one.worst_s, 1),
        "boots_per_day": round(one.boots_per_day, 1),
        "idle_share": round(one.idle_share, 4),
        "lost_work_s": round(one.lost_s),
        "peak_instances": one.peak,
        "setting": one.setting,
    }


def tables(
    outcomes: Sequence[Outcome], yardstick: Costs, effects: Sequence[Effect], patience: Sequence[Patience]
) -> str:
    """The Markdown between the markers."""
    parts: list[str] = []
    for hidden, title in REGIMES:
        parts += [f"### {title}", "", *_policies(outcomes, hidden, yardstick), ""]
    if burst := _apart(outcomes, yardstick):
        parts += ["### One hour of bursts in a silent day", "", *burst, ""]
    parts += ["### The law, workload by workload", "", *_workloads(outcomes, yardstick), ""]
    if effects:
        parts += ["### When the world is not as told (W = C + 60 s, plus the lag where one is declared)", ""]
        parts += [
            "| disturbance | cost | dearest cell | least share in time | cells under 99 % |",
            "|---|---|---|---|---|",
        ]
        for one in effects:
            shares = f"{_percent(one.least_share)} ({one.least_cell}) | {one.missed} of {one.cells}"
            parts.append(f"| {one.name} | {one.cost:.3f} | {one.dearest:.2f} | {shares} |")
        parts.append("")
    if patience:
        parts += ["### The price of impatience (C = 240 s)", ""]
        parts += ["| wait target s | cost against 600 s | share in time, mean | least |", "|---|---|---|---|"]
        for step in patience:
            shares = f"{_percent(step.mean_share)} | {_percent(step.least_share)}"
            parts.append(f"| {step.wait_target_s:g} | {step.cost:.2f} | {shares} |")
        parts.append("")
    return "\n".join(parts)


def _policies(outcomes: Sequence[Outcome], hidden: bool, yardstick: Costs) -> list[str]:
    """One row a policy: costs are geometric means over the clairvoyant schedule."""
    titles = ("policy", "cost", "held out", "tuned on", "dearest cell", "99 % in time", "least share")
    titles += ("least within W + C + 2 looks", "worst wait s", "boots a day", "idle")
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for policy in (LAW, *NAMES):
        cells = comparable([one for one in regime(outcomes, hidden) if one.policy == policy])
        if not cells:
            continue
        held, tuned = (group(regime(cells, hidden, half), yardstick) for half in (HELD_OUT, TUNED))
        both = group(cells, yardstick)
        boots = sum(one.boots_per_day for one in cells) / len(cells)
        idle = sum(one.idle_share for one in cells) / len(cells)
        row = (
            policy,
            f"{both.cost:.3f}",
            f"{held.cost:.3f}" if held.cells else "none",
            f"{tuned.cost:.3f}" if tuned.cells else "none",
            f"{both.worst:.2f} ({both.worst_cell})",
            f"{both.cells - len(both.missed)} of {both.cells} cells",
            _percent(both.least_share),
            _percent(both.least_kept),
            f"{max(one.worst_s for one in cells):.0f}",
            f"{boots:.0f}",
            _percent(idle, 0),
        )
        lines.append("| " + " | ".join(row) + " |")
    return [*lines, "", *_same_cells(outcomes, hidden, yardstick)]


def _apart(outcomes: Sequence[Outcome], yardstick: Costs) -> list[str]:
    """The workloads that stand apart, a policy a row: cost and least share by regime."""
    lines = []
    for policy in (LAW, *NAMES):
        mine = [one for one in outcomes if one.policy == policy]
        groups = [group(comparable(regime(mine, hidden, APART)), yardstick) for hidden, _ in REGIMES]
        if any(one.cells for one in groups):
            texts = [f"{one.cost:.2f} | {_percent(one.least_share)}" if one.cells else "none | none" for one in groups]
            lines.append(f"| {policy} | " + " | ".join(texts) + " |")
    titles = ("policy", "W >= C + 25 s: cost", "least share", "W < C: cost", "least share")
    return ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *lines] if lines else []


def comparable(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Without the cells in which no setting of a policy tuned in hindsight is enough: there nothing was tuned."""
    return [one for one in outcomes if one.policy != TUNED_KEDA or one.share >= ENOUGH]


def _same_cells(outcomes: Sequence[Outcome], hidden: bool, yardstick: Costs) -> list[str]:
    """The fair comparison with a policy that was tuned: only the cells in which its tuning found 99 %."""
    all_tuned = [one for one in regime(outcomes, hidden) if one.policy == TUNED_KEDA]
    tuned = comparable(all_tuned)
    cells = {one.cell for one in tuned}
    law = [one for one in outcomes if one.policy == LAW and one.cell in cells]
    if not tuned or not law:
        return []
    costs = f"{group(tuned, yardstick).cost:.3f} there, the law {group(law, yardstick).cost:.3f}"
    reached = f"{len(cells)} of {len(all_tuned)} cells"
    return [f"In {reached} some queue length lets KEDA start 99 % of the jobs in time: the best one costs {costs}."]


def _workloads(outcomes: Sequence[Outcome], yardstick: Costs) -> list[str]:
    law = [one for one in outcomes if one.policy == LAW]
    columns = sorted({(one.cell.cold_start_s, one.cell.wait_target_s) for one in law})
    lines = [
        "| workload | " + " | ".join(f"{cold:g}/{target:g}" for cold, target in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for case in dict.fromkeys(one.cell.case for one in law):
        mine = {(one.cell.cold_start_s, one.cell.wait_target_s): one for one in law if one.cell.case == case}
        half = next(iter(mine.values())).cell.half
        texts = [f"{one.cost_s / yardstick(one.cell):.2f}, {_percent(one.share)}" for _, one in sorted(mine.items())]
        lines.append(f"| {case} ({half}) | " + " | ".join(texts) + " |")
    return lines


def _percent(share: float, digits: int = 1) -> str:
    """Never rounded up over a promise: 98.96 % is not 99.0 %."""
    scale = 10**digits
    return f"{math.floor(share * 100 * scale + 1e-9) / scale:.{digits}f} %"


def speed(one: Outcome) -> dict[str, Any]:
    """The law's own time over a whole run; the only figure that depends on the machine."""
    return {"jobs": len(built(one.cell.case).arrivals), "looks": one.looks, "law_seconds": round(one.seconds, 2)}


def publish(document: Path, table: str) -> None:
    """Puts the tables between the document's markers; a document that is not there gets nothing but them."""
    text = document.read_text(encoding="utf-8") if document.exists() else f"{BEGIN}\n{END}\n"
    document.write_text(put_between(text, table), encoding="utf-8")


def put_between(text: str, table: str) -> str:
    """The document with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"no place for the table: the markers {BEGIN!r} and {END!r} are not there")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def parts(effects: Sequence[Effect], patience: Sequence[Patience], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the JSON holds beside the cells."""
    law = [one for one in outcomes if one.policy == LAW]
    looks = sum(one.looks for one in law)
    return {
        "sensitivity": [asdict(one) for one in effects],
        "impatience": [asdict(one) for one in patience],
        "law": {"looks": looks, "us_a_look": round(1e6 * sum(one.seconds for one in law) / max(1, looks), 1)},
    }
