"""The running stack that a command is about: its settings, its names, and clients of its region."""
# ruff: noqa: PLC0415  what is heavy loads when the command runs

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .project import project_folder, region_in

if TYPE_CHECKING:
    from components.naming import Names
    from components.settings import Settings

COMPONENT = "inference"  # the component name in __main__.py, from which every name is made
FAILED, BAD_INPUT = 1, 2
IMPATIENT_S = 5  # for what is only shown: a queue that does not answer keeps nobody waiting

StackOption = Annotated[str, typer.Option("--stack", "-s", help="The stack, as in `pulumi up --stack`.")]
ComponentOption = Annotated[str, typer.Option(help="The component's name in the program.")]


@dataclass(frozen=True)
class Target:
    """`settings`: None if the stack file has faults and the command can do without."""

    names: Names
    settings: Settings | None
    session: Any

    def client(self, service: str) -> Any:
        return self.session.client(service)

    def impatient(self, service: str) -> Any:
        """A client that gives up soon."""
        from botocore.config import Config

        settings = Config(connect_timeout=IMPATIENT_S, read_timeout=IMPATIENT_S, retries={"total_max_attempts": 1})
        return self.session.client(service, config=settings)


def target(stack: str, component: str, *, needs_settings: bool = True) -> Target:
    """The stack in its stack file's region. A faulty stack file ends the command with status 2, unless it still says
    the region and the command needs no more than that (`needs_settings`)."""
    import boto3

    from components.naming import Names
    from components.settings import Settings, SettingsError

    path = project_folder() / f"Pulumi.{stack}.yaml"
    try:
        names = Names(component, stack)
        settings = Settings.from_stack_file(path)
    except ValueError as error:
        fail(str(error), BAD_INPUT)
    except SettingsError as error:
        region = None if needs_settings else region_in(path)
        if region is None:
            fail(str(error), BAD_INPUT)
        typer.echo(f"{path.name} has faults (gpufleet validate says which); going on in {region}", err=True)
        return Target(names, None, boto3.Session(region_name=region))
    return Target(names, settings, boto3.Session(region_name=settings.region))


@contextmanager
def told(stack: str, refused: str) -> Iterator[None]:
    """What went wrong in one line on standard error instead of a traceback, with status 1. `refused`: what a refusal
    begins with."""
    from botocore.exceptions import BotoCoreError, ClientError

    from gpufleet.operations.latch import LatchError

    try:
        yield
    except LatchError as error:
        fail(f"{refused}{error}", FAILED)
    except (ClientError, BotoCoreError) as error:
        fail(f"could not reach stack {stack}: {error}", FAILED)


def now() -> float:
    """Unix seconds, where the stack is: in a shell that `gpufleet twin env` points at an embedded cloud, its time."""
    url = os.environ.get("GPUFLEET_TWIN_URL")
    if not url or url != os.environ.get("AWS_ENDPOINT_URL"):
        return time.time()
    from gpufleet.twin.server import client

    try:
        return float(client.call(url, "now")["now"])
    except client.ServerError as error:
        fail(str(error), FAILED)


def who() -> str:
    """The name in the audit; in a container the user may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "an unnamed user"


def fail(message: str, status: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
