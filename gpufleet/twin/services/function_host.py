"""Runs the code of one function: execution environments, invocations as processes of the clock, timeouts, records.

An environment serves one invocation at a time and keeps its modules for the next one; overlapping invocations get
environments of their own; a timeout ends one (Lambda developer guide, "Execution environment lifecycle").
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from ..clock import Clock, Event, Process
from ..errors import NotModelledError
from .function_code import CodeError, Files, Package, has_module

if TYPE_CHECKING:
    from ..cloud import Cloud

RUNTIME_MODULE = "fleet_control.aws.runtime"  # the one door through which this project's functions see the world


@dataclass(frozen=True)
class FunctionSetup:
    """What an environment is made from."""

    name: str
    arn: str
    handler: str
    role: str
    timeout_s: float
    memory_mb: int
    environ: dict[str, str]
    files: Files


class Context:
    """The second argument of a handler."""

    def __init__(self, setup: FunctionSetup, request_id: str, deadline: float, clock: Clock) -> None:
        self.function_name = setup.name
        self.function_version = "$LATEST"
        self.invoked_function_arn = setup.arn
        self.memory_limit_in_mb = str(setup.memory_mb)
        self.aws_request_id = request_id
        self.log_group_name = f"/aws/lambda/{setup.name}"
        self.log_stream_name = "twin"
        self._deadline = deadline
        self._clock = clock

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - self._clock.now()) * 1000))


@dataclass(eq=False)
class Invocation:
    """One run of a function. `error`: None, or `{"errorType", "errorMessage", "requestId", "stackTrace"}`."""

    request_id: str
    event: Any
    started: float
    done: Event
    payload: bytes = b"null"
    error: dict[str, Any] | None = None
    ended: float = 0.0
    process: Process | None = None
    cold: bool = False  # its environment was made for it
    records: list[dict[str, Any]] = field(default_factory=list)
    on_done: Callable[[Invocation], None] | None = None


class Environment:
    """Loaded modules of one function. Raises `CodeError` when the handler cannot be loaded."""

    def __init__(self, cloud: Cloud, setup: FunctionSetup, log: Callable[[dict[str, Any]], None]) -> None:
        self.package = Package(setup.files, lambda line: log(_as_record(line)))
        self.used_at = cloud.clock.now()
        try:
            if has_module(setup.files, RUNTIME_MODULE):
                _replace_world(self.package.module(RUNTIME_MODULE), cloud, setup, log)
            self.handler = self._load(setup.handler)
        except BaseException:
            self.package.close()
            raise

    def _load(self, handler: str) -> Callable[[Any, Any], Any]:
        path, _, name = handler.rpartition(".")
        if not has_module(self.package.files, path):
            raise CodeError("Runtime.ImportModuleError", f"Unable to import module '{path}': No module named '{path}'")
        try:
            module = self.package.module(path)
        except ImportError as error:
            raise CodeError("Runtime.ImportModuleError", f"Unable to import module '{path}': {error}") from error
        if not hasattr(module, name):
            raise CodeError("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{path}'")
        return getattr(module, name)


def _replace_world(runtime: ModuleType, cloud: Cloud, setup: FunctionSetup, log: Callable[..., None]) -> None:
    """Virtual time, the function's environment, clients of its role, and a log: nothing real is left to reach."""
    runtime.environ = dict(setup.environ)  # type: ignore[attr-defined]
    runtime.now = cloud.clock.now  # type: ignore[attr-defined]
    runtime.sleep = cloud.clock.sleep  # type: ignore[attr-defined]
    runtime.client = lambda service: cloud.client(service, setup.role)  # type: ignore[attr-defined]
    runtime.log = log  # type: ignore[attr-defined]


def _as_record(line: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except json.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"message": line}


class FunctionHost:
    """The environments and running invocations of one function.

    `finished` hears each invocation's end (metrics, records, failures are the owner's business).
    """

    idle_s = 600.0  # an environment unused for longer is gone; AWS gives no number

    def __init__(self, cloud: Cloud, setup: FunctionSetup, finished: Callable[[Invocation], None]) -> None:
        self.cloud = cloud
        self.setup = setup
        self.running: list[Invocation] = []
        self._finished = finished
        self._idle: list[Environment] = []

    def reload(self, setup: FunctionSetup) -> None:
        """New code or configuration: later invocations start in fresh environments."""
        self.setup = setup
        for environment in self._idle:
            environment.package.close()
        self._idle = []

    def start(self, request_id: str, event: Any, on_done: Callable[[Invocation], None] | None = None) -> Invocation:
        """Begin an invocation; `invocation.done` is set at its end, `on_done` is called then."""
        clock = self.cloud.clock
        invocation = Invocation(request_id, event, clock.now(), clock.event(), on_done=on_done)
        self.running.append(invocation)
        invocation.process = clock.spawn(f"lambda {self.setup.name}", self._run, invocation, self.setup)
        clock.after(self.setup.timeout_s, self._time_out, invocation, self.setup.timeout_s)
        return invocation

    def _run(self, invocation: Invocation, setup: FunctionSetup) -> None:
        environment: Environment | None = None
        try:
            environment = self._environment(setup, invocation)
            context = Context(setup, invocation.request_id, invocation.started + setup.timeout_s, self.cloud.clock)
            invocation.payload = _encode(environment.handler(json.loads(json.dumps(invocation.event)), context))
        except (GreenletExit, NotModelledError):  # timed out, or the twin lacks something: no answer of the function
            if environment is not None:
                environment.package.close()
            raise
        except CodeError as error:
            invocation.error = _described(error.kind, error, invocation.request_id)
        except Exception as error:
            invocation.error = _described(type(error).__name__, error, invocation.request_id)
        if environment is not None:
            self._keep(environment, setup)
        self._finish(invocation)

    def _environment(self, setup: FunctionSetup, invocation: Invocation) -> Environment:
        oldest = self.cloud.clock.now() - self.idle_s
        while self._idle:
            environment = self._idle.pop()
            if environment.used_at >= oldest:
                return environment
            environment.package.close()
        invocation.cold = True
        return Environment(self.cloud, setup, self._log)

    def _keep(self, environment: Environment, setup: FunctionSetup) -> None:
        environment.used_at = self.cloud.clock.now()
        if setup is self.setup:
            self._idle.append(environment)
        else:
            environment.package.close()

    def _log(self, record: dict[str, Any]) -> None:
        """A line of the invocation that is running now (of the environment's start, when none is)."""
        clock = self.cloud.clock
        process = clock.current() if clock.in_process() else None
        for invocation in self.running:
            if invocation.process is process:
                invocation.records.append({
                    "at": clock.now(), "function": self.setup.name, "request_id": invocation.request_id,
                    "record": record,
                })  # fmt: skip

    def _time_out(self, invocation: Invocation, timeout: float) -> None:
        if invocation.done.is_set() or invocation.process is None:
            return
        invocation.error = {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {invocation.request_id} Error: Task timed out after {timeout:.2f} seconds",
            "requestId": invocation.request_id,
            "stackTrace": [],
        }
        invocation.process.kill()
        self._finish(invocation)

    def _finish(self, invocation: Invocation) -> None:
        if invocation.done.is_set():
            return
        invocation.ended = self.cloud.clock.now()
        self.running.remove(invocation)
        if invocation.error is not None:
            invocation.payload = json.dumps(invocation.error).encode()
        invocation.done.set()
        self._finished(invocation)
        if invocation.on_done is not None:
            invocation.on_done(invocation)


def _encode(result: Any) -> bytes:
    try:
        return json.dumps(result).encode()
    except TypeError as error:
        raise CodeError("Runtime.MarshalError", f"Unable to marshal response: {error}") from error


def _described(kind: str, error: Exception, request_id: str) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith("/var/task/")]
    return {
        "errorMessage": str(error),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": [f'  File "{f.filename}", line {f.lineno}, in {f.name}' for f in own],
    }
