"""`gpufleet resume`: let a stopped stack run again."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

import math
from typing import Annotated

import typer

from . import briefing
from .target import BAD_INPUT, COMPONENT, ComponentOption, StackOption, fail, now, target, told, who


def resume(
    stack: StackOption,
    component: ComponentOption = COMPONENT,
    allow_extra_usd: Annotated[
        float | None,
        typer.Option(
            metavar="USD", help="Allow as many dollars on top of this month's budget. Recorded with your name."
        ),
    ] = None,
) -> None:
    """Clear the latch of a stopped stack, unless its budget would stop it again at once.

    First shows why it stopped, what it has cost and what waits. --allow-extra-usd adds to what was allowed before in
    the same month (UTC), up to the budget itself, and ends with the month.

    Uses your AWS credentials: dynamodb:BatchGetItem, UpdateItem and PutItem on the control table; to show what waits
    sqs:GetQueueUrl, sqs:GetQueueAttributes and cloudwatch:GetMetricStatistics.

    Status 0 when the fleet may run again, 1 when it stays stopped (the reason is printed), 2 for faulty input.
    """
    from gpufleet.operations import latch, sight
    from gpufleet.operations import resume as operation

    extra_usd = 0.0 if allow_extra_usd is None else allow_extra_usd
    if allow_extra_usd is not None and not (allow_extra_usd > 0 and math.isfinite(allow_extra_usd)):
        fail(f"--allow-extra-usd {allow_extra_usd:g}: say how many dollars, more than 0, for example 20", BAD_INPUT)
    found = target(stack, component)
    table, at = found.names.control_table, now()
    with told(stack, "stays stopped: "):
        dynamodb = found.client("dynamodb")
        before = latch.read(dynamodb, table)
        typer.echo(briefing.state_line(before, at))
        if not before.latch.latched:
            raise operation.ResumeError("nothing to resume: the fleet is not stopped")
        typer.echo(briefing.money_line(before, sight.accounts(dynamodb, table, before), at))
        line, waiting = briefing.waits_line(found, at)
        typer.echo(line)
        budget_usd = operation.clear(dynamodb, table, before, by=who(), at=at, extra_usd=extra_usd, waiting=waiting)
    allowed = ""
    if extra_usd:
        allowed = f"; ${extra_usd:.2f} more allowed, the budget of {before.known.month} is now ${budget_usd:.2f}"
    typer.echo(f"resumed{allowed}; the controller takes over within two minutes")
