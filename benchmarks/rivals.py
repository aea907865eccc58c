"""The other policies in a cell, each with the setting that its own documentation or hindsight gives it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from gpufleet.planner import rivals, simulated_fleet, simulator
from gpufleet.planner.simulator import Scaler, simulate

from .cells import CASES, ENOUGH, Cell, Outcome, built, outcome
from .running import in_processes
from .summary import cheapest
from .yardstick import digest

NAMES = ("KEDA, tuned in hindsight", "KEDA, default", "AWS backlog per instance", "queue depth tutorial", "static")
TUNED_KEDA, DEFAULT_KEDA, BACKLOG, TUTORIAL, STATIC = NAMES
COARSE, FINE = 8, 4  # queue lengths tried for the tuned KEDA: on a geometric scale, then between the best two
CACHE = Path(__file__).resolve().parent.parent / ".cache" / "bench-rivals.json"
# What the kept figures follow from beside their cell: the code as this process loaded it.
SOURCES = (rivals.__file__, simulator.__file__, simulated_fleet.__file__, __file__)
CODE = hashlib.sha256(b"".join(Path(str(source)).read_bytes() for source in SOURCES)).hexdigest()[:12]


def run_rival(task: tuple[str, Cell]) -> Outcome:
    """One policy in one cell; a tuned one with the best of its settings."""
    name, cell = task
    case = CASES[cell.case]
    if name == TUNED_KEDA:
        return _tuned_keda(cell)
    if name == STATIC:
        return _fewest_static(cell)
    if name == DEFAULT_KEDA:
        return _run(name, cell, rivals.Keda(cap=case.cap), "q = 5")
    if name == BACKLOG:
        return _run(name, cell, rivals.BacklogTracking(case.cap, case.slots, cell.wait_target_s, case.service_s))
    return _run(name, cell, rivals.RawDepthTracking(case.cap))


def _run(name: str, cell: Cell, scaler: Scaler, setting: str = "", initial: int = 0) -> Outcome:
    result = simulate(built(cell.case), cell.fleet(), scaler, initial=initial)
    return outcome(name, cell, result, setting)


def tune(try_out: Callable[[float], Outcome], least: float, most: float) -> Outcome:
    """The cheapest outcome with enough jobs in time over settings of which larger ones are cheaper and later.

    A geometric scale from `least` to `most`, then the gap above the largest setting that was enough, halved.
    """
    scale = [least * (most / least) ** (k / (COARSE - 1)) for k in range(COARSE)]
    tried = {setting: try_out(setting) for setting in scale}
    good = max((setting for setting, one in tried.items() if one.share >= ENOUGH), default=None)
    if good is not None:
        late = min((setting for setting in scale if setting > good), default=2 * good)
        for _ in range(FINE):
            middle = math.sqrt(good * late)
            tried[middle] = try_out(middle)
            good, late = (middle, late) if tried[middle].share >= ENOUGH else (good, middle)
    return cheapest(list(tried.values()))


def _tuned_keda(cell: Cell) -> Outcome:
    """From four instances for the work of one, up to all the work that the wait target lets wait and half as much."""
    case = CASES[cell.case]

    def try_out(queue_length: float) -> Outcome:
        return _run(TUNED_KEDA, cell, rivals.Keda(queue_length, case.cap), f"q = {queue_length:.3g}")

    return tune(try_out, case.slots / 4, 1.5 * case.slots * (1 + cell.wait_target_s / case.service_s))


def _fewest_static(cell: Cell) -> Outcome:
    """The smallest fleet that is always on and starts enough jobs in time; the cap if none does."""

    def try_out(instances: int) -> Outcome:
        return _run(STATIC, cell, rivals.Static(instances), f"{instances} instances", initial=instances)

    few, many = 0, CASES[cell.case].cap
    best = try_out(many)
    while many - few > 1:
        middle = (few + many) // 2
        one = try_out(middle)
        few, many, best = (few, middle, one) if one.share >= ENOUGH else (middle, many, best)
    return best


def all_rivals(cells: Sequence[Cell], processes: int) -> Iterator[Outcome]:
    """Every rival in every cell. Figures of unchanged code are taken from the cache."""
    kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
    tasks = [(name, cell) for cell in cells for name in NAMES]
    keys = {task: f"{CODE} {task[0]} {digest(task[1])}" for task in tasks}
    missing = [task for task in tasks if keys[task] not in kept]
    for one in in_processes(run_rival, missing, processes, {}):
        kept[keys[one.policy, one.cell]] = {name: value for name, value in asdict(one).items() if name != "cell"}
        CACHE.parent.mkdir(exist_ok=True)
        CACHE.write_text(json.dumps(kept))
    for task in tasks:
        yield Outcome(cell=task[1], **kept[keys[task]])
