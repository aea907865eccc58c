"""`gpufleet twin`: the embedded cloud as a server of its own, for the plain Pulumi CLI, the AWS CLI and any SDK."""
# ruff: noqa: PLC0415  what is heavy loads when a command runs

from __future__ import annotations

import json
import logging
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .project import project_folder, region_of
from .twin_tables import changes, show, time_text

if TYPE_CHECKING:
    from gpufleet.twin.server.daemon import Running

BAD_INPUT = 2
GOES_BACK = "# This shell now talks to the embedded cloud, not to AWS. Open another shell to get back."
UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
CHUNK_S = 3600.0  # of virtual time per request: others get their turn, and Ctrl-C ends a long advance

app = typer.Typer(help="The embedded cloud as a server of its own, for the plain pulumi and aws commands.")


@app.command()
def start(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="In the background; its log is in .cache/twin.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="On 127.0.0.1; 0 takes a free one.")] = 0,
    region: Annotated[str, typer.Option(help="An AWS region; by default the one of the stack files.")] = "",
    at: Annotated[
        str, typer.Option(metavar="TIME", help="Its time at the start, such as 2026-11-02T00:00Z; now.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Another seed is another day: boot times, spot prices, ids.")] = 1,
) -> None:
    """Start a new, empty cloud, one for each project. Without --detach it ends with Ctrl-C.

    Status 0 when it answers (or, in the foreground, was stopped), 1 when one runs already or it cannot start, 2 for
    faulty input.
    """
    root = _root()
    region, begin = _region(root, region), _moment(at)
    from gpufleet.twin.server import daemon

    folder = root / daemon.FOLDER
    with _told():
        if detach:
            moment = datetime.fromtimestamp(begin, UTC).isoformat()
            options = {"--port": port, "--region": region, "--at": moment, "--seed": seed}
            _announce(daemon.start(folder, [f"{option}={value}" for option, value in options.items()]), begin)
            return
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        daemon.serve(
            folder, at=begin, region=region, seed=seed, port=port, ready=lambda running: _announce(running, begin)
        )
    typer.echo("the embedded cloud has stopped, and everything in it is gone")


@app.command()
def env() -> None:
    """Print what points a shell at the cloud: eval "$(gpufleet twin env)".

    On standard output there is only what a shell runs; when no cloud runs that is `false`, so that nothing after `&&`
    reaches another account.
    """
    try:
        lines = _variables(_root())
    except BaseException:
        typer.echo("false")
        raise
    typer.echo("\n".join([*lines, GOES_BACK]))


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="The whole status as one JSON document.")] = False,
) -> None:
    """Show what time it is in the cloud, what runs and waits there, and what it has cost this month."""
    found = _find(_root())
    with _told():
        seen = _ask(found, "status")
    if as_json:
        typer.echo(json.dumps(seen, indent=2))
        return
    typer.echo(f"embedded cloud at {found.url} (process {found.pid}, {seen['region']}, account {seen['accountId']})")
    show(seen)


@app.command()
def advance(duration: Annotated[str, typer.Argument(help="90s, 10m, 2h30m, 3d, ...")]) -> None:
    """Let time pass in the cloud, and say what changed. Its clock stands still otherwise, but for calls that wait."""
    seconds = _seconds(duration)
    found = _find(_root())
    from rich.console import Console

    with _told(), Console(stderr=True).status("time passes ...") as progress:  # shown on a terminal only
        before = after = _ask(found, "status")
        end = before["now"] + seconds
        while after["now"] < end:
            after = _ask(found, "advance", {"seconds": min(CHUNK_S, end - after["now"])})
            progress.update(f"it is {time_text(after['now'])} there ...")
    for line in changes(before, after):
        typer.echo(line)


@app.command()
def stop() -> None:
    """End the cloud. Everything in it is gone then."""
    from gpufleet.twin.server import daemon

    with _told():
        found = daemon.stop(_root() / daemon.FOLDER)
    typer.echo(f"the embedded cloud at {found.url} has stopped, and everything in it is gone")


# -- input -------------------------------------------------------------------------------------------------------------


def _root() -> Path:
    root = project_folder()
    if not (root / "Pulumi.yaml").is_file():
        _fail(f"there is no Pulumi.yaml in {root} or above: run this inside a Pulumi project", BAD_INPUT)
    return root


def _region(root: Path, wanted: str) -> str:
    from components.clouds import CLOUDS

    try:
        region = wanted or region_of(root)
    except ValueError as error:
        _fail(f"{error}: say which with --region", BAD_INPUT)
    if region not in CLOUDS["aws"].regions:
        _fail(f"--region {region}: AWS has no such region; it has {', '.join(CLOUDS['aws'].regions)}", BAD_INPUT)
    return region


def _moment(text: str) -> float:
    """Unix seconds; without a time zone UTC is meant."""
    if not text:
        return float(int(time.time()))
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        _fail(f"--at {text}: write a date or a moment, for example 2026-11-02 or 2026-11-02T08:30Z", BAD_INPUT)


def _seconds(text: str) -> float:
    found = DURATION.fullmatch(text.strip().replace(" ", ""))
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), UNITS.values(), strict=True)) if found else 0
    if seconds <= 0:
        _fail(f"{text}: write how long, largest unit first: 90s, 10m, 2h30m, 3d", BAD_INPUT)
    return float(seconds)


# -- the server, and words ---------------------------------------------------------------------------------------------


def _find(root: Path) -> Running:
    from gpufleet.twin.server import daemon

    with _told():
        return daemon.find(root / daemon.FOLDER)


def _variables(root: Path) -> list[str]:
    """Shell commands, one a line."""
    from gpufleet.twin.plugin import executables
    from gpufleet.twin.server import daemon

    found, folder = _find(root), root / daemon.FOLDER
    try:
        executables.install(folder / "bin", executables.find_cli(project=root))
    except executables.NoEngineError as error:
        _fail(str(error))
    variables = {**executables.environment(found.url, folder, found.region), "GPUFLEET_TWIN_URL": found.url}
    unset = [f"unset {name}" for name in executables.removed()]
    return [*unset, *(f"export {name}={shlex.quote(value)}" for name, value in variables.items())]


def _ask(found: Running, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    from gpufleet.twin.server import client

    return client.call(found.url, what, body)


@contextmanager
def _told() -> Iterator[None]:
    """What went wrong with the server, in a line instead of a traceback."""
    from gpufleet.twin.server.client import ServerError
    from gpufleet.twin.server.daemon import DaemonError

    try:
        yield
    except (DaemonError, ServerError) as error:
        _fail(str(error))


def _announce(running: Running, begin: float) -> None:
    typer.echo(
        f"embedded cloud at {running.url} ({running.region}); it is {time_text(begin)} there until you advance it"
    )
    typer.echo('  eval "$(.venv/bin/gpufleet twin env)"             # points a shell at it')
    typer.echo("  pulumi stack init dev && pulumi up --stack dev    # in that shell")
    typer.echo("  .venv/bin/gpufleet twin stop                      # ends it; Ctrl-C too, unless it is detached")


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
