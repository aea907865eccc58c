"""`gpufleet audit`: who stopped and resumed a stack, when and why."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from . import briefing
from .tables import console, table, time_text
from .target import COMPONENT, ComponentOption, StackOption, now, target, told

MOST = 1000  # ten calls of BatchGetItem
HEADS = ("#", "when", "who", "what", "spent", "committed", "budget", "extra", "waiting", "why")


def audit(
    stack: StackOption,
    last: Annotated[int, typer.Option("--last", "-n", min=1, max=MOST, help="How many changes, the newest.")] = 20,
    component: ComponentOption = COMPONENT,
) -> None:
    """List the stops and resumes of a stack, newest first, with the figures that each was decided on.

    Uses your AWS credentials: dynamodb:BatchGetItem on the control table.

    Status 0, 1 when the stack cannot be read (the reason is printed), 2 for faulty input.
    """
    from gpufleet.operations import latch

    found = target(stack, component, needs_settings=False)
    with told(stack, ""):
        dynamodb = found.client("dynamodb")
        state = latch.read(dynamodb, found.names.control_table)
        rows = latch.audits(dynamodb, found.names.control_table, state.latch.generation, last)
    typer.echo(briefing.state_line(state, now()))
    if rows:
        out = console()
        out.print()
        out.print(table(HEADS, [_cells(row) for row in rows], figures=HEADS[:1] + HEADS[4:9]))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    waiting = row.get("waiting")
    return (
        f"{row.get('generation', 0):.0f}",
        time_text(row.get("at", 0)),
        str(row.get("by", "")),
        f"{row.get('action', '')} ({row.get('reason', '')})",
        *(_usd(row.get(f"{name}_usd")) for name in ("spent", "committed", "budget")),
        _usd(row.get("extra_usd") or None),
        "-" if waiting is None else f"{waiting:.0f}",
        str(row.get("note", "")),
    )


def _usd(value: float | None) -> str:
    return "-" if value is None else f"${value:.2f}"
