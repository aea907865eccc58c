"""What each cell costs a planner that knows the future, kept in clairvoyant.json: finding it takes minutes a cell.

A figure is kept under a digest of everything it follows from, so a changed workload or method is computed anew, never
compared with an old figure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpufleet.planner.clairvoyant import clairvoyant

from .cells import CASES, Cell, built
from .running import in_processes

FILE = Path(__file__).parent / "clairvoyant.json"
METHOD = 1  # raise it when the way the schedule is found changes


def digest(cell: Cell) -> str:
    """Names a cell by its content: the rates, the fleet, how many jobs came out and their work, C, W and the method.

    Jobs enter as rounded sums: their last digits depend on the machine's logarithm.
    """
    case, work = CASES[cell.case], built(cell.case)
    content = {
        "case": {name: str(value) for name, value in asdict(case).items()},
        "rates": [f"{rate:.6g}" for rate in case.profiled().rates],
        "jobs": [len(work.arrivals), round(sum(work.arrivals) / 1e3), round(sum(work.services))],
        "fleet": [cell.cold_start_s, cell.wait_target_s],
        "method": METHOD,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def work_bound(cell: Cell) -> float:
    """Instance-seconds that no schedule can go below: the work itself."""
    return sum(built(cell.case).services) / CASES[cell.case].slots


def known() -> dict[str, dict[str, Any]]:
    """The kept figures by digest."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def find(cell: Cell) -> dict[str, Any]:
    """The schedule's cost and share in time, and what no schedule can go below. Minutes."""
    plan = clairvoyant(built(cell.case), cell.fleet(), cell.wait_target_s)
    figure = {"cell": cell.name, "cost_s": round(plan.cost_s), "lower_bound_s": round(plan.lower_bound_s)}
    return figure | {"share": round(plan.share, 5), "boots": plan.boots}


def ensure(cells: Sequence[Cell], processes: int) -> dict[Cell, float]:
    """The yardstick's instance-seconds of these cells; what is not known yet is found and kept."""
    kept = known()
    digests = {cell: digest(cell) for cell in cells}
    missing = [cell for cell in cells if digests[cell] not in kept]
    for cell, figure in zip(missing, in_processes(find, missing, processes, {}), strict=True):
        kept[digests[cell]] = figure
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(one)}" for key, one in sorted(kept.items(), key=_by_name))
        FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return {cell: kept[digests[cell]]["cost_s"] for cell in cells}


def _by_name(entry: tuple[str, dict[str, Any]]) -> str:
    return str(entry[1]["cell"])
