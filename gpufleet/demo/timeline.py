"""The picture of a run: what waited, what ran, what was spent; one time axis, three panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Instance states from the first to the last in life; the picture stacks them in this order, pool by pool.
STATES = ("booting", "in service", "draining")
POOLS = ("spot", "on-demand")
COLOURS = {
    ("spot", "booting"): "#c6dbef",
    ("spot", "in service"): "#3182bd",
    ("spot", "draining"): "#9e9ac8",
    ("on-demand", "booting"): "#fdd0a2",
    ("on-demand", "in service"): "#e6550d",
    ("on-demand", "draining"): "#756bb1",
}


@dataclass(frozen=True)
class Sample:
    """The system at one moment. `at` unix seconds; counts of messages; instances by (pool, state); dollars.

    `spent_usd` is the cloud's own bill; `held_usd` what the guard holds against the budget: spent and committed.
    """

    at: float
    backlog: int
    in_flight: int
    instances: dict[tuple[str, str], int]
    spent_usd: float
    held_usd: float
    budget_usd: float
    latched: bool


@dataclass
class Timeline:
    """Samples in order of time, and marks (time, label) for what the reader should look at."""

    samples: list[Sample] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)

    def mark(self, at: float, label: str) -> None:
        self.marks.append((at, label))


def draw(timeline: Timeline, title: str, files: Sequence[Path]) -> None:
    """Write the picture to every one of `files` (the suffix says how: .svg, .png). Needs at least two samples."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only those who draw should wait for

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    start = timeline.samples[0].at
    hours = [(sample.at - start) / 3600 for sample in timeline.samples]
    figure, (queue, fleet, money) = plt.subplots(3, 1, figsize=(12, 8), sharex=True, height_ratios=(2, 2, 2))
    figure.suptitle(title, x=0.07, ha="left", fontsize=13, fontweight="bold")

    queue.fill_between(hours, [s.backlog for s in timeline.samples], step="post", color="#969696", label="waiting")
    queue.step(hours, [s.in_flight for s in timeline.samples], where="post", color="#252525", lw=1, label="in flight")
    queue.set_ylabel("messages")
    _legend(queue, max(s.backlog for s in timeline.samples))

    layers = [(pool, state) for pool in POOLS for state in STATES]
    used = [layer for layer in layers if any(s.instances.get(layer) for s in timeline.samples)]
    if used:
        stacks = [[s.instances.get(layer, 0) for s in timeline.samples] for layer in used]
        labels = [f"{pool} {state}" for pool, state in used]
        fleet.stackplot(hours, *stacks, step="post", colors=[COLOURS[layer] for layer in used], labels=labels)
        _legend(fleet, max(sum(s.instances.values()) for s in timeline.samples))
    fleet.set_ylabel("instances")
    fleet.yaxis.get_major_locator().set_params(integer=True)

    money.step(hours, [s.budget_usd for s in timeline.samples], where="post", color="#cb181d", lw=1.5, label="budget")
    held, spent = [s.held_usd for s in timeline.samples], [s.spent_usd for s in timeline.samples]
    money.step(hours, held, where="post", color="#fe9929", lw=1.5, label="spent + committed, by the guard")
    money.step(hours, spent, where="post", color="#238b45", lw=1.5, label="spent, by the cloud's own bill")
    money.set_ylabel("USD this month")
    money.set_xlabel("hours since the start")
    _legend(money, max(max(s.budget_usd, s.held_usd) for s in timeline.samples))

    _shade_stops(timeline, hours, (queue, fleet, money))
    _marks(timeline, (hours[-1] - hours[0]) or 1.0, (queue, fleet, money))
    for axis in (queue, fleet, money):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
    plt.close(figure)


def _legend(axis: Any, highest: float) -> None:
    """One line above the data: room is made for it."""
    axis.set_ylim(0, 1.3 * max(highest, 1))
    axis.legend(loc="upper left", frameon=False, ncols=6, fontsize=9)


def _marks(timeline: Timeline, span_h: float, axes: Sequence[Any]) -> None:
    """A dotted line and a label each; a label that would stand in another's way goes one step up."""
    free_from: list[float] = []  # for each step, the hour from which it is free
    for at, label in timeline.marks:
        hour = (at - timeline.samples[0].at) / 3600
        for axis in axes:
            axis.axvline(hour, color="#bdbdbd", lw=0.8, ls=":")
        level = next((k for k, free in enumerate(free_from) if free <= hour), len(free_from))
        free_from[level : level + 1] = [hour + 0.008 * span_h * (len(label) + 2)]  # 0.8 % of the width a letter
        axes[0].annotate(
            label,
            (hour, 1.03 + 0.1 * level),
            xycoords=("data", "axes fraction"),
            ha="left" if hour < 0.9 * span_h else "right",
            va="bottom",
            fontsize=8,
        )


def _shade_stops(timeline: Timeline, hours: Sequence[float], axes: Sequence[Any]) -> None:
    """A light red background while the fleet is latched."""
    begin: float | None = None
    for hour, sample in zip([*hours, hours[-1]], [*timeline.samples, None], strict=True):
        latched = sample is not None and sample.latched
        if latched and begin is None:
            begin = hour
        elif not latched and begin is not None:
            for axis in axes:
                axis.axvspan(begin, hour, color="#fee0d2", alpha=0.6, lw=0)
            begin = None
