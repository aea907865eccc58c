"""`gpufleet recover`: what to do after a `pulumi up` that was killed."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .project import project_folder

if TYPE_CHECKING:
    from gpufleet.operations.existing import Account
    from gpufleet.operations.recover import Interrupted

BAD_INPUT = 2


def recover(
    stack: Annotated[str, typer.Option("--stack", "-s", help="The stack, as in `pulumi up --stack`.")],
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="URN=ID", help="An id that you looked up yourself; URN= for never made."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what was found.")] = False,
) -> None:
    """Put a stack's state in order after a `pulumi up` that was killed.

    What it had begun to create is looked for in the account, and taken into the state or, if it was never made,
    forgotten.

    First `pulumi cancel`, which removes the lock that the killed CLI left; afterwards `pulumi up` goes on.

    Uses the pulumi on PATH, and your AWS credentials, only to read: sts:GetCallerIdentity, and Describe, Get and List
    on what the stack consists of (the managed policy ReadOnlyAccess is enough).

    Status 0 when `up` may go on, 1 when the state stays as it is (the reason is printed), 2 for faulty input.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from gpufleet.operations import recover as operation

    given = _given(ids or [])
    place = operation.Stack(stack, project_folder())
    try:
        before = place.exported()
        if not operation.interrupted(before):
            typer.echo(f"nothing to recover: no operation of {stack} was interrupted")
            return
        plan = operation.planned(before, _finder(before), given)
        for line in operation.lines(before, plan):
            typer.echo(line)
        if plan.unclear:
            raise operation.RecoverError(f"{len(plan.unclear)} unclear, see above: nothing was changed")
        if dry_run:
            return
        place.replace(before, operation.recovered(before, plan))
        if plan.refreshed:
            place.refresh(plan.refreshed)
    except operation.RecoverError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (ClientError, BotoCoreError) as error:
        typer.echo(f"could not look into the account, nothing was changed: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"now: pulumi up --stack {stack}")


def _given(ids: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in ids]
    for urn, equals, _ in pairs:
        if not (urn.startswith("urn:") and equals):
            typer.echo(f"--id takes URN=ID, not {urn}{equals}", err=True)
            raise typer.Exit(BAD_INPUT)
    return {urn: identifier for urn, _, identifier in pairs}


def _finder(document: dict[str, Any]) -> Callable[[Interrupted], list[str]]:
    """What looks for a resource in its region of the account.

    Raises `RecoverError` in another account than the stack's: it would find nothing, and `up` would make all twice.
    """
    import boto3

    from gpufleet.operations import recover as operation
    from gpufleet.operations.existing import Account

    @cache
    def account(region: str | None) -> Account:
        session = boto3.Session(region_name=region)
        who = session.client("sts").get_caller_identity()
        stacks = operation.accounts(document)
        if stacks and who["Account"] not in stacks:
            raise operation.RecoverError(
                f"your credentials are for account {who['Account']}, the stack is in {', '.join(sorted(stacks))}"
            )
        return Account(cache(session.client), who["Account"], who["Arn"].split(":")[1], session.region_name or "")

    return lambda one: account(operation.region_of(document, one)).ids(one.type, one.inputs)
