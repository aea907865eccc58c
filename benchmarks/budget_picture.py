"""The picture: each scenario's bill over its budget, ours and with AWS Budgets alone; and how long the stop took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .budget_verdicts import Outcome

OURS, ALONE, LIMIT = "#238b45", "#e6550d", "#555555"
THICK = 0.38


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    figure = Figure(figsize=(12, 0.42 * len(outcomes) + 2.0), layout="constrained")
    bills, times = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle("The month's bill over its budget, and the time to stop", x=0.01, ha="left", fontweight="bold")
    _bills(bills, outcomes)
    _times(times, outcomes)
    bills.set_yticks(range(len(outcomes)), [one.title for one in outcomes])
    bills.set_ylim(len(outcomes) - 0.4, -0.6)
    handles, labels = bills.get_legend_handles_labels()
    more, names = times.get_legend_handles_labels()
    figure.legend(handles + more, labels + names, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=110)


def _bills(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    rows = range(len(outcomes))
    shares = [100 * one.share for one in outcomes]
    axis.barh([row - THICK / 2 for row in rows], shares, THICK, color=OURS, label="this guard")
    alone = [(row, one) for row, one in enumerate(outcomes) if one.alone is not None]
    sizes = [100 * one.alone.bill_usd / one.budget_usd for _, one in alone if one.alone is not None]
    label = "AWS Budgets alone (dollars over the budget)"
    axis.barh([row + THICK / 2 for row, _ in alone], sizes, THICK, color=ALONE, label=label)
    for (row, one), size in zip(alone, sizes, strict=True):
        over = one.alone.over_usd if one.alone else 0.0
        axis.text(size + 1.5, row + THICK / 2, f"+${over:.0f}" if over else "0", va="center", fontsize=8, color=ALONE)
    axis.axvline(100, color=LIMIT, lw=1.2, ls="--", zorder=3)
    axis.set_xlim(0, 1.12 * max([100.0, *shares, *sizes]))
    axis.set_xlabel("bill at the end of the month, % of the budget")
    _plain(axis)


def _times(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    found = [(row, one.longest) for row, one in enumerate(outcomes)]
    stops = [(row, stop) for row, stop in found if stop is not None]
    ended = [(row, stop.seconds / 60) for row, stop in stops if math.isfinite(stop.seconds)]
    axis.barh([row for row, _ in ended], [minutes for _, minutes in ended], 2 * THICK, color=OURS)
    limits = [stop.limit_s / 60 for _, stop in stops]
    axis.plot(limits, [row for row, _ in stops], "|", color=LIMIT, ms=16, mew=2, label="promised at most")
    for row, stop in found:
        words = "no stop" if stop is None else "never ended" if math.isinf(stop.seconds) else "nothing ran"
        if stop is None or not stop.instances or math.isinf(stop.seconds):
            axis.text(0.2, row, words, va="center", fontsize=8, color=LIMIT)
    axis.set_xlim(0)
    axis.set_xlabel("minutes from crossing the budget to nothing running")
    axis.tick_params(axis="y", length=0)
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
