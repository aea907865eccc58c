"""The walk an operator would do, on the embedded cloud, with every promise checked on the way.

It stops at the first step that broke a promise: what follows would only repeat it.
"""

from __future__ import annotations

import gc
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components import costs
from components.settings import Settings, SettingsError
from gpufleet.demo import steps, stops
from gpufleet.demo.report import Report, Step, to_stream
from gpufleet.demo.scene import HOUR, Scene, check
from gpufleet.demo.stage import Stage
from gpufleet.demo.timeline import draw
from gpufleet.planner import traces
from gpufleet.twin.engine import ConfigError, ProgramError, UpError
from gpufleet.twin.plugin.executables import NoEngineError, find_cli

StepFunction = Callable[[Scene, Step], None]
PICTURES = (".svg", ".png", ".pdf")
OURS = Path(__file__).parents[1]  # this package's folder

STEPS: tuple[tuple[str, StepFunction], ...] = (
    ("provision", steps.provision),
    ("at rest", steps.at_rest),
    ("15 jobs", steps.some_jobs),
    ("real trace", steps.real_trace),
    ("over budget", stops.over_budget),
    ("resume", stops.resumed),
    ("AWS's alert", stops.budget_alert),
    ("account", steps.account),
)


class InputError(Exception):
    """The walk cannot begin: a faulty stack file, edit, trace or picture. The message says what to mend."""


@dataclass
class Walk:
    """What to walk: the project's folder, the stack, config edits on top of its file, the traffic, where to draw."""

    project: Path
    stack: str = "dev"
    edits: Mapping[str, Any] = field(default_factory=dict)
    trace: str = "office-hours"
    plot: Path | None = None
    seed: int = 1
    real_engine: bool = False  # the Pulumi CLI does each `up`, instead of the built-in engine
    only: frozenset[str] | None = None  # titles of the steps to do; None: all
    # Called after provisioning: tests break one thing here and expect the walk to name the promise it broke.
    sabotage: Callable[[Stage], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a walk found. `stage` is closed unless the caller opened it."""

    report: Report
    text: str

    @property
    def ok(self) -> bool:
        return not self.report.broken


def run_walk(walk: Walk, say: Callable[[str], None] | None = None) -> Outcome:
    """Do the walk. `say` hears every line as it happens (default: none); `Outcome.text` is the JSON document.

    Raises `InputError` for what the user gave; everything else that goes wrong is a broken promise in the report.
    """
    settings, profile, cli = _settings(walk), _profile(walk), _cli(walk)
    _check_plot(walk.plot)
    _check_room(settings)
    # A simulation makes many small objects that stay: Python's usual passes over all of them take a sixth of the time.
    gc.set_threshold(100_000, 20, 20)
    report = Report(say or (lambda line: None))
    report.header(headline(walk.stack, settings))
    with Stage(walk.project, walk.stack, walk.edits, settings.region, walk.seed, cli) as stage:
        scene = Scene(stage, report, settings, profile)
        _do_steps(walk, scene)
        _close(walk, scene)
        head = {"stack": walk.stack, "edits": dict(walk.edits), "seed": walk.seed, "trace": profile.name}
        head["engine"] = "pulumi" if walk.real_engine else "built-in"
        return Outcome(report, report.as_json(head))


def print_walk(walk: Walk, *, as_json: bool) -> bool:
    """Do the walk for a person, or for a program; answers whether every promise held."""
    outcome = run_walk(walk, None if as_json else to_stream())
    if as_json:
        print(outcome.text)
    return outcome.ok


def headline(stack: str, settings: Settings) -> str:
    cap, gpus = settings.max_gpu_instances, settings.max_gpu_instances * settings.gpus_per_instance
    many = "" if gpus == cap else f" ({cap} instances)"
    return (
        f"stack {stack}   cap {gpus} GPU{many}   budget ${settings.monthly_budget_usd:,.0f}/month   {settings.region}"
    )


def _cli(walk: Walk) -> Path | None:
    try:
        return find_cli() if walk.real_engine else None
    except NoEngineError as error:
        raise InputError(f"--engine pulumi: {error}") from None


def _settings(walk: Walk) -> Settings:
    path = walk.project / f"Pulumi.{walk.stack}.yaml"
    try:
        return Settings.from_stack_file(path, overrides=walk.edits)
    except SettingsError as error:
        raise InputError(str(error)) from None


def _profile(walk: Walk) -> traces.Profile:
    try:
        return traces.load(walk.trace)
    except traces.TraceError as error:
        raise InputError(f"--trace: {error}") from None


def _check_plot(plot: Path | None) -> None:
    """Whether the picture can be written, before half a minute is spent on it."""
    if plot is None:
        return
    if plot.suffix not in PICTURES:
        raise InputError(f"--plot {plot}: name a {', '.join(PICTURES[:-1])} or {PICTURES[-1]} file")
    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
        if plot.is_dir() or not os.access(plot if plot.exists() else plot.parent, os.W_OK):
            raise InputError(f"--plot {plot}: that cannot be written; name a file in a folder of yours")
    except OSError as error:
        raise InputError(f"--plot {plot}: {error.strerror or error}; name a file in a folder of yours") from None


def _check_room(settings: Settings) -> None:
    """A budget that the walk's own traffic may use up would stop the fleet where the walk expects it to serve."""
    fixed = costs.idle_usd_per_month(settings)
    traffic = steps.TRACE_S / HOUR * costs.full_load_usd_per_hour(settings)
    if settings.monthly_budget_usd < fixed + traffic:
        raise InputError(
            f"monthlyBudgetUsd {settings.monthly_budget_usd:.2f} leaves no room for the walk's traffic: "
            f"${fixed:.2f} are fixed, and six hours at the cap may cost ${traffic:.2f}; "
            f"try it with --set monthlyBudgetUsd={math.ceil(fixed + traffic)}"
        )


def _do_steps(walk: Walk, scene: Scene) -> None:
    for title, function in STEPS:
        if walk.only is not None and title not in walk.only:
            continue
        step, started = scene.report.begin(title), time.perf_counter()
        try:
            function(scene, step)
        except (ConfigError, ProgramError, UpError) as error:
            raise InputError(f"pulumi up failed: {error}") from None
        except Exception as error:  # what nobody foresaw: told like every other broken promise
            _unforeseen(step, error)
        scene.report.end(step, time.perf_counter() - started)
        if not step.ok:
            return
        if function is steps.provision and walk.sabotage is not None:
            walk.sabotage(scene.stage)


def _unforeseen(step: Step, error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(OURS)]
    check(
        step,
        "a step runs to its end",
        expected="no error",
        seen=f"{type(error).__name__}: {error}",
        ok=False,
        where=f"{ours[-1].filename}, line {ours[-1].lineno}",
    )


def _close(walk: Walk, scene: Scene) -> None:
    if walk.plot is not None and len(scene.stage.world.timeline) > 1:
        draw(scene.stage.drawn(), f"gpufleet demo: {headline(walk.stack, scene.settings)}", [walk.plot])
        scene.report.footer(f"{'':<16} timeline: {walk.plot}")
    broken = len(scene.report.broken)
    if broken:
        scene.report.footer(f"{broken} promise{'s' if broken > 1 else ''} broken")
    else:
        scene.report.footer(f"Every promise held. Next: edit maxGpuInstances in Pulumi.{walk.stack}.yaml and run again")
