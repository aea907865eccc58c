"""The budget's promise, scenario by scenario, by the embedded cloud's own bill; and AWS Budgets alone beside it.

    .venv/bin/python benchmarks/budget.py                            # everything, written into docs/: half an hour
    .venv/bin/python benchmarks/budget.py --only full-load,day-2     # some scenarios: prints their verdicts
    .venv/bin/python benchmarks/budget.py --ours-only                # without AWS Budgets alone: half the time

Ends with status 1 if a promise was not kept. No figure depends on how fast the machine is.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "lambda"), str(ROOT / "bootstrap")]

from benchmarks import budget_picture, budget_report, budget_run  # noqa: E402
from benchmarks.budget_scenarios import BY_NAME, SCENARIOS  # noqa: E402
from benchmarks.budget_verdicts import Alone, Outcome, broken  # noqa: E402


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", type=lambda text: [name for name in text.split(",") if name], default=[], metavar="NAME,...")
    add("--ours-only", action="store_true", help="without AWS Budgets alone")
    add("--processes", type=int, default=2)
    add("--out", type=Path, help="folder of budget-bench.md, .json and .png; docs/ if everything runs")
    return parser.parse_args(argv)


def play(name: str) -> Outcome:
    return budget_run.play(BY_NAME[name])


def play_alone(name: str, budget_usd: float) -> Alone:
    return budget_run.play_alone(BY_NAME[name], budget_usd)


def run(names: Sequence[str], processes: int, *, ours_only: bool = False) -> list[Outcome]:
    """The outcomes in the order of `names`, told as they come. Each run has a process of its own: one cloud is open at
    a time in a process, and what it has allocated goes with it."""
    fresh = functools.partial(ProcessPoolExecutor, processes, get_context("spawn"), max_tasks_per_child=1)
    with fresh() as pool:
        longest_first = sorted(names, key=lambda name: BY_NAME[name].start)
        tasks = {pool.submit(play, name): name for name in longest_first}
        done = _gathered(tasks)
        worlds: dict[Future[Alone], tuple[str, float]] = {}
        for name in longest_first if not ours_only else ():
            world = (BY_NAME[name].alone_as or name, done[name].budget_usd)
            if world not in worlds.values():
                worlds[pool.submit(play_alone, *world)] = world
        alone = {world: task.result() for task, world in worlds.items()}
    worlds_of = {name: (BY_NAME[name].alone_as or name, done[name].budget_usd) for name in names}
    return [replace(done[name], alone=alone.get(worlds_of[name])) for name in names]


def _gathered(tasks: dict[Future[Outcome], str]) -> dict[str, Outcome]:
    done = {}
    for task in as_completed(tasks):
        done[tasks[task]] = task.result()
        print(budget_report.line(done[tasks[task]]), flush=True)
    return done


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    if unknown := [name for name in options.only if name not in BY_NAME]:
        sys.exit(f"--only {','.join(unknown)}: there are {', '.join(BY_NAME)}")
    out = options.out or (None if options.only or options.ours_only else ROOT / "docs")
    outcomes = run(options.only or [one.name for one in SCENARIOS], options.processes, ours_only=options.ours_only)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "budget-bench.json").write_text(budget_report.figures(outcomes), encoding="utf-8")
        (out / "budget-bench.md").write_text(budget_report.page(outcomes), encoding="utf-8")
        budget_picture.draw(outcomes, out / "budget-bench.png")
    sys.exit(any(broken(one) for one in outcomes))


if __name__ == "__main__":
    main()
