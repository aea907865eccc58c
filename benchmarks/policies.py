"""The scaling law against other policies and against a planner that knows the future, on real arrival profiles.

    .venv/bin/python benchmarks/policies.py                     # everything, written into docs/: hours
    .venv/bin/python benchmarks/policies.py --law-only          # the law against the kept yardstick: minutes
    .venv/bin/python benchmarks/policies.py --sensitivity-only  # the law where the world is not as told

Costs and shares only: no figure here depends on how fast the machine is, but the law's own microseconds a look.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "lambda")]

from benchmarks import cells, picture, report, rivals, running, stress, summary, yardstick  # noqa: E402
from benchmarks.cells import COLD_STARTS, HELD_OUT, TINY, TUNED, WAIT_TARGETS, Cell, Outcome  # noqa: E402
from gpufleet.planner.workloads import DOZEN, FULL_RATE, LONE_BURST  # noqa: E402


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    numbers = functools.partial(_list, read=float)
    add("--law-only", action="store_true", help="the law against the kept yardstick; nothing is written")
    add("--sensitivity-only", action="store_true", help="the law disturbed against undisturbed; nothing is written")
    add("--quick", action="store_true", help="two tiny workloads instead of all")
    add("--only", type=_list, default=[], metavar="NAME,...", help="these workloads")
    add("--half", choices=("tuned", "held-out"), help="the workloads the law was tuned on, or those it was not")
    add("--cold", type=numbers, default=COLD_STARTS, metavar="S,...", help="cold starts, default 90,240")
    add("--wait", type=numbers, default=WAIT_TARGETS, metavar="S,...", help="wait targets, default 60,300,600")
    add("--dispatch", choices=("packed", "spread"), default="packed", help="which instance a job goes to")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="Policy, FleetModel or constant of the law")
    add("--processes", type=int, default=2)
    add("--out", type=Path, help="folder of scaling.md, scaling-bench.json and .png; docs/ if all workloads run")
    return parser.parse_args(argv)


def _list(text: str, read: type = str) -> list:
    return [read(part) for part in text.split(",") if part]


def chosen(options: argparse.Namespace) -> list[Cell]:
    """The cells asked for, workload by workload."""
    cases = TINY if options.quick else (*DOZEN, LONE_BURST)
    names = options.only or [case.name for case in cases]
    if unknown := [name for name in names if name not in cells.CASES]:
        sys.exit(f"--only {','.join(unknown)}: there are {', '.join(cells.CASES)}")
    half = {"tuned": TUNED, "held-out": HELD_OUT, None: None}[options.half]
    every = [Cell(name, cold, wait) for name in names for cold in options.cold for wait in options.wait]
    return [cell for cell in every if half in (None, cell.half)]


def law_outcomes(options: argparse.Namespace, asked: Sequence[Cell]) -> list[Outcome]:
    changes = running.parse([f"dispatch={options.dispatch}", *options.set])
    run = functools.partial(cells.run_law, fleet=changes.fleet, policy=changes.policy)
    outcomes: list[Outcome] = []
    for one in running.in_processes(run, asked, options.processes, changes.constants):
        outcomes.append(one)
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {len(asked)} cells ", end="", file=sys.stderr, flush=True)
    return outcomes


def law_only(options: argparse.Namespace) -> None:
    asked = chosen(options)
    outcomes = law_outcomes(options, asked)
    kept = yardstick.known()
    found = {cell: kept.get(yardstick.digest(cell)) for cell in asked}
    bounds = {cell for cell, figure in found.items() if figure is None}
    costs = {cell: figure["cost_s"] if figure else yardstick.work_bound(cell) for cell, figure in found.items()}
    print(summary.law_table(outcomes, costs.__getitem__, bounds))


def stressed(options: argparse.Namespace, asked: Sequence[Cell]) -> list[str]:
    """Workloads for what is not asked of every cell."""
    cases = list(dict.fromkeys(cell.case for cell in asked if cell.half != cells.APART))
    return cases if options.only or options.quick else [case for case in cases if case in stress.STRESSED]


def effects(options: argparse.Namespace, asked: Sequence[Cell]) -> list[stress.Effect]:
    return stress.sensitivity(stressed(options, asked), options.cold, options.processes, running.parse(options.set))


def sensitivity_only(options: argparse.Namespace) -> None:
    for one in effects(options, chosen(options)):
        share = f"least share {100 * one.least_share:6.2f} % ({one.least_cell})"
        print(
            f"{one.name:<36} cost {one.cost:.3f}, dearest {one.dearest:.2f}; {share}, missed {one.missed}/{one.cells}"
        )


def everything(options: argparse.Namespace) -> None:
    """All figures, tables and the picture, into the folder asked for."""
    asked = chosen(options)
    whole = not (options.quick or options.only or options.half or options.set)
    out = options.out or (ROOT / "docs" if whole else None)
    if out is None:
        sys.exit("only part of the benchmark: name a folder with --out")
    costs = yardstick.ensure(asked, options.processes)
    outcomes = [*law_outcomes(options, asked), *rivals.all_rivals(asked, options.processes)]
    disturbed = effects(options, asked)
    patience = list(stress.impatience(stressed(options, asked), options.processes, running.parse(options.set)))
    parts = report.parts(disturbed, patience, outcomes)
    if whole:
        parts["full_rate"] = report.speed(cells.run_law(Cell(FULL_RATE.name, 240.0, 300.0)))
    out.mkdir(parents=True, exist_ok=True)
    (out / "scaling-bench.json").write_text(report.figures(outcomes, costs.__getitem__, parts), encoding="utf-8")
    picture.draw(outcomes, costs.__getitem__, out / "scaling-bench.png")
    report.publish(out / "scaling.md", report.tables(outcomes, costs.__getitem__, disturbed, patience))


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    try:
        if options.law_only:
            law_only(options)
        elif options.sensitivity_only:
            sensitivity_only(options)
        else:
            everything(options)
    except running.SettingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
