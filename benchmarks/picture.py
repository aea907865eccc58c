"""The picture: what each policy costs over the clairvoyant schedule, against the share of jobs it starts in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from .cells import ENOUGH, Outcome
from .report import LAW, REGIMES, Costs, comparable
from .rivals import BACKLOG, DEFAULT_KEDA, STATIC, TUNED_KEDA, TUTORIAL
from .summary import geo_mean, regime

# Colour and mark of each policy; the law is drawn last, on top.
LOOKS = {
    STATIC: ("#8c6d31", "s"),
    TUTORIAL: ("#7b4173", "v"),
    BACKLOG: ("#e6550d", "D"),
    DEFAULT_KEDA: ("#6baed6", "o"),
    TUNED_KEDA: ("#08519c", "o"),
    LAW: ("#238b45", "*"),
}
LEAST_LATE = 3e-4  # shares above 99.97 % are drawn as one
SHARES = (0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
COSTS = (1, 1.5, 2, 3, 5, 10, 20, 40)


def height(share: float) -> float:
    """Where a share of jobs in time stands: each nine takes the same room."""
    return -math.log10(max(1 - share, LEAST_LATE))


def draw(outcomes: Sequence[Outcome], yardstick: Costs, file: Path) -> None:
    """One panel a regime: a small mark for each cell, a large one for the policy's means over them."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    figure.suptitle(
        "Cost over a schedule that knows the future, and jobs started in time", x=0.01, ha="left", fontweight="bold"
    )
    for axis, (hidden, title) in zip(panels, REGIMES, strict=True):
        cells = comparable(regime(outcomes, hidden))
        axis.set_title(title, loc="left", fontsize=10)
        axis.axhspan(height(ENOUGH), height(1.0) + 0.15, color="#edf8e9", lw=0, zorder=0)
        for policy in LOOKS:
            mine = [one for one in cells if one.policy == policy]
            if mine:
                _policy(axis, policy, mine, yardstick)
        _scales(axis)
    panels[0].set_ylabel("jobs started within the wait target")
    handles, labels = panels[0].get_legend_handles_labels()
    order = [labels.index(policy) for policy in (LAW, TUNED_KEDA, DEFAULT_KEDA, BACKLOG, TUTORIAL, STATIC)]
    figure.legend(
        [handles[k] for k in order], [labels[k] for k in order], loc="outside lower center", ncols=6, frameon=False
    )
    figure.savefig(file, dpi=110)


def _policy(axis: Axes, policy: str, outcomes: Sequence[Outcome], yardstick: Costs) -> None:
    colour, mark = LOOKS[policy]
    costs = [one.cost_s / yardstick(one.cell) for one in outcomes]
    axis.plot(
        costs, [height(one.share) for one in outcomes], mark, color=colour, ms=8 if mark == "*" else 5, alpha=0.4, mew=0
    )
    late = sum(1 - one.share for one in outcomes) / len(outcomes)
    size = 20 if mark == "*" else 11
    axis.plot(geo_mean(costs), height(1 - late), mark, color=colour, ms=size, mec="white", mew=1, label=policy)


def _scales(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_xlim(0.95)
    axis.xaxis.set_major_locator(FixedLocator(COSTS))
    axis.xaxis.set_major_formatter(FixedFormatter([f"{cost:g}x" for cost in COSTS]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(0, height(1.0) + 0.15)
    axis.yaxis.set_major_locator(FixedLocator([*map(height, SHARES), height(1.0)]))
    axis.yaxis.set_major_formatter(FixedFormatter([*(f"{100 * share:g} %" for share in SHARES), "all"]))
    axis.set_xlabel("cost (instance-seconds) over clairvoyant; large marks: means over the cells")
    axis.grid(color="#dddddd", lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)
