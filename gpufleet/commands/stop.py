"""`gpufleet stop`: stop a stack by hand."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import briefing
from .tables import duration_text
from .target import BAD_INPUT, COMPONENT, ComponentOption, StackOption, Target, fail, now, target, told, who

if TYPE_CHECKING:
    from gpufleet.operations.latch import State

LONGEST = 500  # characters of a reason: it is shown in one line


def stop(
    stack: StackOption,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit and whoever looks next.")] = "",
    component: ComponentOption = COMPONENT,
) -> None:
    """Stop a stack: nothing launches any more, and what runs finishes its jobs and goes. Until somebody resumes it.

    The guard carries it out within a minute. Jobs that are not done in `drainSeconds` go back to the queue, which goes
    on accepting. A stop for the budget becomes one that no new month lifts.

    Uses your AWS credentials: dynamodb:BatchGetItem, UpdateItem and PutItem on the control table; to show what waits
    sqs:GetQueueUrl, sqs:GetQueueAttributes and cloudwatch:GetMetricStatistics.

    Status 0 when it is stopped (also if it was before), 1 when it is not (the reason is printed), 2 for faulty input.
    """
    from gpufleet.operations import stop as operation

    if len(reason) > LONGEST:
        fail(f"--reason has {len(reason)} characters: {LONGEST} at most", BAD_INPUT)
    found = target(stack, component, needs_settings=False)
    table, at = found.names.control_table, now()
    with told(stack, "not stopped: "):
        dynamodb = found.client("dynamodb")
        done = operation.stop(dynamodb, table, by=who(), at=at, why=reason)
    before = done.before
    if done.already:
        typer.echo(f"already {briefing.state_line(before, at)}")
    elif before.latch.latched:
        typer.echo(f"was {briefing.state_line(before, at)}")
        typer.echo("now stopped (manual): no new month lifts it any more, only gpufleet resume does")
    else:
        typer.echo("stopped (manual): only gpufleet resume lifts it")
    _show(found, dynamodb, before, at)


def _show(found: Target, dynamodb: Any, before: State, at: float) -> None:
    """What runs and waits. The stop stands, whatever of this can be read."""
    from botocore.exceptions import BotoCoreError, ClientError

    from gpufleet.operations import latch, sight

    try:
        accounts = sight.accounts(dynamodb, found.names.control_table, before)
    except (latch.LatchError, ClientError, BotoCoreError) as error:
        typer.echo(f"what runs cannot be read: {error}")
        accounts = sight.Accounts(None, None)
    else:
        typer.echo(briefing.money_line(before, accounts, at))
        typer.echo(briefing.runs_line(accounts))
    typer.echo(briefing.waits_line(found, at)[0])
    if accounts.running != ():
        typer.echo(_leaving(found, before, at))


def _leaving(found: Target, before: State, at: float) -> str:
    """How long what runs may still take to go."""
    from gpufleet.operations import stop as operation

    silent_s = before.silent_s(at)
    alone = ""
    if silent_s > operation.FRESH_S:
        seen = f"for {duration_text(silent_s)}" if before.figures else "at all"
        alone = f"the guard has not been heard {seen} and may be dead (docs/operations.md, Stop, ends everything now): "
    if found.settings is None:
        return f"{alone}nothing runs any more after drainSeconds and a few minutes"
    drain_s = found.settings.drain_seconds
    gone_s = operation.gone_after_s(before, drain_s, at)
    if not gone_s:
        return f"{alone}what runs should be gone by now"
    longest = duration_text(60 * math.ceil(gone_s / 60))
    return f"{alone}jobs have {drain_s} s to finish; nothing runs any more after {longest} at most"
