"""The walk an operator would do, on the embedded cloud, with every promise checked on the way.

It stops at the first step that broke a promise: what follows would only repeat it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.settings import Settings, SettingsError
from gpufleet.demo import steps, stops
from gpufleet.demo.report import Report, Step, to_stream
from gpufleet.demo.scene import Scene
from gpufleet.demo.stage import Stage
from gpufleet.demo.timeline import draw
from gpufleet.planner import traces
from gpufleet.twin.engine import ConfigError, ProgramError, UpError

StepFunction = Callable[[Scene, Step], None]

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
    settings, profile = _settings(walk), _profile(walk)
    if walk.plot is not None and walk.plot.suffix not in (".svg", ".png", ".pdf"):
        raise InputError(f"--plot {walk.plot}: name a .svg, .png or .pdf file")
    # A simulation makes many small objects that stay: Python's usual passes over all of them take a sixth of the time.
    gc.set_threshold(100_000, 20, 20)
    report = Report(say or (lambda line: None))
    report.header(headline(walk.stack, settings))
    with Stage(walk.project, walk.stack, walk.edits, walk.seed) as stage:
        scene = Scene(stage, report, settings, profile)
        _do_steps(walk, scene)
        _close(walk, scene)
        head = {"stack": walk.stack, "edits": dict(walk.edits), "seed": walk.seed, "trace": profile.name}
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


def _do_steps(walk: Walk, scene: Scene) -> None:
    for title, function in STEPS:
        if walk.only is not None and title not in walk.only:
            continue
        step, started = scene.report.begin(title), time.perf_counter()
        try:
            function(scene, step)
        except (ConfigError, ProgramError, UpError) as error:
            raise InputError(f"pulumi up failed: {error}") from None
        scene.report.end(step, time.perf_counter() - started)
        if not step.ok:
            return
        if function is steps.provision and walk.sabotage is not None:
            walk.sabotage(scene.stage)


def _close(walk: Walk, scene: Scene) -> None:
    if walk.plot is not None and len(scene.stage.world.timeline) > 1:
        draw(scene.stage.drawn(), f"gpufleet demo: {headline(walk.stack, scene.settings)}", [walk.plot])
        scene.report.footer(f"{'':<16} timeline: {walk.plot}")
    broken = len(scene.report.broken)
    if broken:
        scene.report.footer(f"{broken} promise{'s' if broken > 1 else ''} broken")
    else:
        scene.report.footer(f"Every promise held. Next: edit maxGpuInstances in Pulumi.{walk.stack}.yaml and run again")
