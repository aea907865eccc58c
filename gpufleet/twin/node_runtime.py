"""The virtual `Runtime` that the worker package gets on a node: time, threads, network, commands and AWS clients.

A dead node does nothing more: whatever its code tries after the power is cut (a `finally`, an `except`) ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import urlsplit

from greenlet import GreenletExit

from .clock import Clock, Event, Process
from .errors import NotModelledError

METADATA_HOST = "169.254.169.254"


class Host(Protocol):
    """What a runtime needs from its node."""

    alive: bool
    clock: Clock
    launched_at: float

    def log(self, record: Mapping[str, Any]) -> None: ...

    def request(
        self,
        host: str,
        port: int,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> tuple[int, Mapping[str, str], bytes]: ...

    def aws(self, service: str) -> Any: ...

    def command(self, argv: Sequence[str], timeout_s: float) -> int: ...

    def replace(self, argv: Sequence[str]) -> None: ...


class VirtualRuntime:
    """One process of the node (a running unit): its threads die with it, its stop callbacks are its own."""

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self._clock = host.clock
        self._name = name
        self.threads: list[Process] = []
        self.stop_callbacks: list[Callable[[], object]] = []

    def now(self) -> float:
        return self._clock.now()

    def booted_at(self) -> float:
        return self._host.launched_at

    def sleep(self, seconds: float) -> None:
        self._check_alive()
        self._clock.sleep(seconds)

    def spawn(self, name: str, work: Callable[[], object]) -> None:
        self._check_alive()
        self.threads = [thread for thread in self.threads if thread.alive]
        self.threads.append(self._clock.spawn(f"{self._name}/{name}", self._thread, name, work))

    def client(self, service: str) -> Any:
        return self._host.aws(service)

    def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._check_alive()
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return self._host.request(parts.hostname or "", parts.port or 80, method, path, headers, body, timeout_s)

    def log(self, record: Mapping[str, Any]) -> None:
        self._host.log(record)

    def event(self) -> Event:
        return self._clock.event()

    def lock(self) -> AbstractContextManager[Any]:
        return VirtualLock(self._clock)

    def run(self, argv: Sequence[str], timeout_s: float = 60.0) -> int:
        self._check_alive()
        return self._host.command(argv, timeout_s)

    def become(self, argv: Sequence[str]) -> None:
        self._check_alive()
        self._host.replace(argv)

    def on_stop(self, callback: Callable[[], object]) -> None:
        self.stop_callbacks.append(callback)

    def end(self) -> None:
        """The process is over: its threads go with it."""
        for thread in self.threads:
            thread.kill()

    def _thread(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except NotModelledError:
            raise
        except Exception as error:
            self.log({"event": "thread-died", "process": self._name, "thread": name, "problem": repr(error)})

    def _check_alive(self) -> None:
        if not self._host.alive:
            raise GreenletExit


class VirtualLock:
    """A lock between processes of the clock, used as `threading.Lock` is: `with lock:`."""

    def __init__(self, clock: Clock) -> None:
        self._free = clock.event()
        self._free.set()

    def __enter__(self) -> None:
        while not self._free.is_set():
            self._free.wait()
        self._free.clear()

    def __exit__(self, *exc: object) -> None:
        self._free.set()


class NodeClient:
    """A boto3 client of a node's role. Dead nodes call nobody; `after(operation, params, answer)` hears of what
    succeeded."""

    def __init__(self, host: Host, client: Any, after: Callable[[str, dict[str, Any], dict[str, Any]], None]) -> None:
        self._host = host
        self._client = client
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        operation = self._client.meta.method_to_api_mapping.get(name)
        if operation is None:
            return found

        def call(**params: Any) -> Any:
            if not self._host.alive:
                raise GreenletExit
            answer = found(**params)
            self._after(operation, params, answer)
            return answer

        return call
