"""The embedded cloud as a process of its own: one for each project, in the foreground or in the background.

Its folder is `.cache/twin` of the project. Whoever serves holds a lock there as long as it lives, however it ends: a
state file that nobody holds the lock for is a leftover, and the process id in one that is held is the server's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..credentials import forget_aws_settings
from . import client

if TYPE_CHECKING:
    from .endpoint import Endpoint

FOLDER = Path(".cache/twin")
LOG = "server.log"
PULUMI_STATE = "state"
_STATE = "server.json"
_LOCK = "server.lock"
_PACKAGES = Path(__file__).parents[3]  # the folder that holds the package `gpufleet`
_START_S = 60.0  # imports take three seconds; a busy machine needs more
_STOP_S = 5.0
_LOOK_S = 0.05
_TAIL = 15  # lines


class DaemonError(Exception):
    """No embedded cloud runs, or one does already, or it could not start; the message says what to do."""


@dataclass(frozen=True)
class Running:
    """The state file: where the server is, its process, since when (real time), which region, which seed."""

    url: str
    pid: int
    started: str
    region: str
    seed: int


def find(folder: Path) -> Running:
    """The server whose folder is `folder`. Raises `DaemonError` if none runs; tidies up after one that died."""
    state = folder / _STATE
    if _is_free(folder):
        died = state.exists()
        state.unlink(missing_ok=True)
        how = f"ended without being stopped (its log: {FOLDER / LOG})" if died else "is not running"
        raise DaemonError(f"the embedded cloud of this project {how}; start one: gpufleet twin start --detach")
    found = _read(state)
    if found is None:
        raise DaemonError("the embedded cloud of this project is only just starting: try again")
    return found


def serve(folder: Path, *, at: float, region: str, seed: int, port: int, ready: Callable[[Running], object]) -> None:
    """Be the embedded cloud until stopped by the control API, SIGINT, SIGTERM or SIGHUP, or until `folder` is deleted.

    `at`: unix seconds of virtual time at the beginning. `ready` is called once requests are taken. Raises `DaemonError`
    if one runs already or the port is taken.
    """
    with _held(folder) as is_held, _open(at, region, seed, port) as endpoint, _signals(endpoint.stop):
        # A new cloud is empty, so what Pulumi knows of the last one is wrong.
        shutil.rmtree(folder / PULUMI_STATE, ignore_errors=True)
        (folder / PULUMI_STATE).mkdir()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        running = Running(endpoint.url, os.getpid(), started, region, seed)
        _write(folder / _STATE, running)
        try:
            ready(running)
            endpoint.serve(until=lambda: not is_held())
        finally:
            if is_held():
                (folder / _STATE).unlink(missing_ok=True)


@contextlib.contextmanager
def _open(at: float, region: str, seed: int, port: int) -> Iterator[Endpoint]:
    forget_aws_settings()
    from ..cloud import Cloud  # noqa: PLC0415 - the other commands do without all this
    from ..world import World  # noqa: PLC0415
    from .endpoint import Endpoint  # noqa: PLC0415

    with Cloud(at, region=region, seed=seed) as cloud:
        try:
            endpoint = Endpoint(World(cloud), port)
        except OSError as error:
            raise DaemonError(f"cannot serve on port {port}: {error.strerror}; --port 0 takes a free one") from None
        with endpoint:
            yield endpoint


def start(folder: Path, arguments: list[str]) -> Running:
    """Run `gpufleet twin start` with `arguments` in the background; answers once it is healthy.

    Raises `DaemonError` with the end of its log if it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_free(folder):
        raise _already(folder)
    command = [sys.executable, "-P", "-m", "gpufleet", "twin", "start", *arguments]
    paths = [str(_PACKAGES), os.environ.get("PYTHONPATH", "")]
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own command
            command,
            cwd=folder.parents[1],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_S
    while child.poll() is None:
        found = _read(folder / _STATE)
        if found is not None and found.pid == child.pid and client.is_healthy(found.url):
            return found
        if time.monotonic() > deadline:
            child.kill()
            child.wait()
        time.sleep(_LOOK_S)
    lines = (folder / LOG).read_text(errors="replace").strip().splitlines()[-_TAIL:]
    raise DaemonError("\n  ".join(["the embedded cloud did not start; the end of its log:", *lines]))


def stop(folder: Path) -> Running:
    """End the server: by its control API, else by signals. Raises `DaemonError` if none runs."""
    found = find(folder)
    with contextlib.suppress(client.ServerError):
        client.call(found.url, "stop", {}, timeout=_STOP_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _becomes_free(folder):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, number)
    if not _becomes_free(folder):
        raise DaemonError(f"process {found.pid} does not end")
    (folder / _STATE).unlink(missing_ok=True)
    return found


# -- the lock and the state file ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Callable[[], bool]]:
    """Hold the folder's lock. What is yielded answers whether it still is the folder's: `make clean` deletes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    with path.open("a") as lock:
        if not _lock(lock, fcntl.LOCK_EX):
            raise _already(folder)
        mine = os.fstat(lock.fileno()).st_ino

        def is_held() -> bool:
            try:
                return path.stat().st_ino == mine
            except FileNotFoundError:
                return False

        yield is_held


def _is_free(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open() as lock:
            return _lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return True


def _becomes_free(folder: Path) -> bool:
    deadline = time.monotonic() + _STOP_S
    while not _is_free(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _lock(file: IO[Any], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _already(folder: Path) -> DaemonError:
    found = _read(folder / _STATE)
    where = f"at {found.url} (process {found.pid}, since {found.started})" if found else "(it is only just starting)"
    return DaemonError(
        f"an embedded cloud of this project runs already, {where}: use that one, or end it first (gpufleet twin stop). "
        "This is an error because a start promises a new, empty cloud"
    )


def _read(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, running: Running) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(running)) + "\n")
    new.replace(path)  # whoever reads sees all of it or nothing


@contextlib.contextmanager
def _signals(stop_serving: Callable[[], object]) -> Iterator[None]:
    """The first signal lets the request in hand finish, a second one does not wait."""

    def on_signal(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.default_int_handler)
        stop_serving()

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for each in before:
        signal.signal(each, on_signal)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
