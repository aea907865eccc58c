"""`gpufleet demo`: the walk that an operator would do, on the embedded cloud."""
# ruff: noqa: PLC0415  the first line must be on the screen before anything heavy loads

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .project import project_folder

BAD_INPUT = 2


class Engines(StrEnum):
    """What does each `pulumi up` of the walk."""

    BUILT_IN = "built-in"
    PULUMI = "pulumi"


def demo(
    stack: Annotated[str, typer.Option("--stack", "-s", help="Which Pulumi.<stack>.yaml to provision.")] = "dev",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A config edit on top of the stack file; may be repeated."),
    ] = None,
    trace: Annotated[
        str, typer.Option(help="A shipped arrival profile by name, or a .json/.csv file of your own.")
    ] = "office-hours",
    plot: Annotated[Path, typer.Option(help="Where to draw the timeline (.svg or .png).")] = Path(".demo/timeline.svg"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed is another day: arrivals, boot times, spot prices.")] = 1,
    engine: Annotated[
        Engines, typer.Option(help="What does each `pulumi up`: nothing but Python, or the real Pulumi CLI.")
    ] = Engines.BUILT_IN,
) -> None:
    """Provision the stack into an embedded cloud, send real traffic, run it into its budget, stop, resume.

    No account, no network. Status 0 when every promise held, 1 when one was broken, 2 for faulty input.
    """
    if not as_json:
        typer.echo("gpufleet demo   (embedded cloud: no account, nothing leaves this machine)")
    from gpufleet.twin.credentials import forget_aws_settings

    forget_aws_settings()
    from gpufleet.demo.walk import InputError, Walk, print_walk

    try:
        edits = dict(_edit(text) for text in overrides or [])
        real = engine is Engines.PULUMI
        walk = Walk(
            project=project_folder(), stack=stack, edits=edits, trace=trace, plot=plot, seed=seed, real_engine=real
        )
        ok = print_walk(walk, as_json=as_json)
    except InputError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    if not ok:
        raise typer.Exit(1)


def _edit(text: str) -> tuple[str, Any]:
    import yaml

    from gpufleet.demo.walk import InputError

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: write KEY=VALUE, for example --set maxGpuInstances=2")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {text}: the value is not YAML") from None
