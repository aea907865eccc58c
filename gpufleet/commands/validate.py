"""`gpufleet validate`: check stack files without the Pulumi CLI, a cloud account or a network."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .project import project_folder

if TYPE_CHECKING:
    from components.settings import Settings

BAD_SETTINGS = 2


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Stack files; every Pulumi.*.yaml beside Pulumi.yaml if none is given.")
    ] = None,
) -> None:
    """Check stack files and name every fault at once. Status 0 if all are sound (a warning is no fault), 2 if any
    is not."""
    from components import promises
    from components.settings import check_stack_file

    project = project_folder()
    chosen = files or sorted(project.glob("Pulumi.*.yaml"))
    if not chosen:
        typer.echo(f"no stack file: there is no Pulumi.<stack>.yaml in {project}", err=True)
        raise typer.Exit(BAD_SETTINGS)
    sound = True
    for path in chosen:
        check = check_stack_file(path)
        if check.error is not None:
            sound = False
            typer.echo(f"{check.error}\n", err=True)
        elif check.settings is None:
            typer.echo(
                f"OK  {path.name}  as far as it can be seen: its environment must set {', '.join(check.missing)}"
            )
        else:
            typer.echo(f"OK  {path.name}  {_summary(check.settings)}")
            for warning in promises.warnings(check.settings):
                typer.echo(f"warning  {path.name}  {warning}", err=True)
    if not sound:
        raise typer.Exit(BAD_SETTINGS)


def _summary(settings: Settings) -> str:
    from components import costs

    cap, days = settings.max_gpu_instances, costs.days_at_full_load(settings)
    return (
        f"cap {cap} {'instance' if cap == 1 else 'instances'}, budget ${settings.monthly_budget_usd:,.0f} a month, "
        f"which lasts {days:.1f} days at full load"
    )
