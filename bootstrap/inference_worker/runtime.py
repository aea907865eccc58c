"""The one door to the outside world: time, threads, network, processes, AWS clients.

Every entry point takes a `Runtime`. `HostRuntime` is the real one; a simulation passes its own with virtual time. The
code behind this door is correct with real threads and with one-at-a-time scheduling that switches only in `sleep`,
`Event.wait`, `http` and calls of a client: a lock is never held across any of these.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

Headers = Mapping[str, str]
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
MAX_CONNECTIONS = 300  # one per slot (256 at most) and some for heartbeats; botocore's default of 10 would queue them


class Event(Protocol):
    """A flag that is raised once and stays up."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...

    def wait(self, timeout_s: float, /) -> bool:
        """Wait until the flag is up or `timeout_s` seconds passed; return whether it is up."""
        ...


class Runtime(Protocol):
    """What an entry point may do to the world around it."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def booted_at(self) -> float:
        """Unix time at which this machine's kernel started: the launch of the instance, as far as the node can know."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def spawn(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` beside the caller. It is not waited for when the process ends."""
        ...

    def client(self, service: str) -> Any:
        """A boto3 client of `service`, the same one at every call, safe to share between threads."""
        ...

    def http(
        self, method: str, url: str, headers: Headers, body: bytes | None, timeout_s: float
    ) -> tuple[int, Headers, bytes]:
        """One request, without proxy, redirect or retry: status, headers with lower-case names, body.

        Raises ConnectionRefusedError when nobody listens, another OSError when no whole answer came.
        """
        ...

    def log(self, record: Mapping[str, Any]) -> None: ...

    def event(self) -> Event: ...

    def lock(self) -> AbstractContextManager[Any]: ...

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        """Run a command to its end and return its status; 124 if it took longer than `timeout_s` seconds."""
        ...

    def become(self, argv: Sequence[str]) -> None:
        """Replace this process by a command. Does not return on a host."""
        ...

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call `callback` each time this process is asked to end (SIGTERM or SIGINT)."""
        ...


class HostRuntime:
    """The real world. Region and credentials come from the environment, as boto3 finds them."""

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._clients_lock = threading.Lock()
        self._log_lock = threading.Lock()

    def now(self) -> float:
        return time.time()

    def booted_at(self) -> float:
        return time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def spawn(self, name: str, work: Callable[[], object]) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()

    def client(self, service: str) -> Any:
        # boto3 clients may be shared between threads, but making one is not thread-safe.
        with self._clients_lock:
            if service not in self._clients:
                self._clients[service] = boto3.client(service, config=_client_config(service))  # pyright: ignore[reportArgumentType, reportCallIssue]
            return self._clients[service]

    def http(
        self, method: str, url: str, headers: Headers, body: bytes | None, timeout_s: float
    ) -> tuple[int, Headers, bytes]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as broken:
            raise ConnectionError(f"{method} {url}: {broken!r}") from broken
        finally:
            connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, answer

    def log(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, default=str, separators=(",", ":"))
        with self._log_lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def event(self) -> Event:
        return threading.Event()

    def lock(self) -> AbstractContextManager[Any]:
        return threading.Lock()

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        try:
            return subprocess.run(list(argv), check=False, timeout=timeout_s).returncode  # noqa: S603 - fixed commands
        except subprocess.TimeoutExpired:
            return 124

    def become(self, argv: Sequence[str]) -> None:
        os.execvp(argv[0], list(argv))  # noqa: S606 - a list of arguments, on purpose without a shell

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call before any other thread starts: threads inherit the mask that keeps the signals for the waiter.

        A thread that waits, not a signal handler: a handler runs between two bytecodes of the main thread and would
        deadlock when that thread holds the very lock that `callback` needs.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

        def wait_for_signals() -> None:
            while True:
                signal.sigwait(STOP_SIGNALS)
                callback()

        self.spawn("signals", wait_for_signals)


def _client_config(service: str) -> Config:
    """Finite calls. SQS: two tries of at most 3 + 25 s stay under two thirds of the 120 s lease, and 25 s is longer
    than the longest poll (20 s). Others: a try is given up after 10 s, S3 after 30 s as it carries whole results."""
    read_timeout, attempts = {"sqs": (25, 2), "s3": (30, 4)}.get(service, (10, 4))
    return Config(
        connect_timeout=3,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=MAX_CONNECTIONS,
    )
