"""`gpufleet resume`: let a stopped stack run again."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from .project import project_folder

COMPONENT = "inference"  # the component name in __main__.py, from which every name is made


def resume(
    stack: Annotated[str, typer.Option("--stack", "-s", help="The stack, as in `pulumi up --stack`.")],
    component: Annotated[str, typer.Option(help="The component's name in the program.")] = COMPONENT,
) -> None:
    """Clear the latch of a stopped stack, unless its budget would stop it again at once.

    Uses your AWS credentials (dynamodb:GetItem and UpdateItem on the control table, sqs:GetQueueAttributes).
    Status 0 when the fleet may run again, 1 when it stays stopped (the reason is printed), 2 for a faulty stack file.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from components.naming import Names
    from components.settings import Settings, SettingsError
    from gpufleet.operations import resume as operation

    try:
        settings = Settings.from_stack_file(project_folder() / f"Pulumi.{stack}.yaml")
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    names = Names(component, stack)
    try:
        session = boto3.Session(region_name=settings.region)
        before = operation.resume(session.client("dynamodb"), names.control_table, by=_who(), at=time.time())
    except operation.ResumeError as error:
        typer.echo(f"stays stopped: {error}", err=True)
        raise typer.Exit(1) from None
    except (ClientError, BotoCoreError) as error:
        typer.echo(f"could not reach stack {stack}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"was stopped ({before.reason}): {before.note}")
    try:
        waiting = f"{_waiting(session.client('sqs'), names.queue)} jobs wait"
    except (ClientError, BotoCoreError) as error:  # the latch is cleared all the same
        waiting = f"how many jobs wait is not known ({error})"
    typer.echo(f"now: {before.sums}; {waiting}; the controller takes over within a minute")


def _who() -> str:
    """The name in the latch's note; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "an unnamed user"


def _waiting(sqs: object, queue: str) -> int:
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]  # type: ignore[attr-defined]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # type: ignore[attr-defined]
    return sum(int(attributes.get(name, 0)) for name in names)
