"""Runs a Pulumi program under Pulumi's own mock monitor, in this process and on this thread.

The monitor hands every registration to a `Deployment`, in the order in which the program's dependencies allow.
Nothing runs on another thread: the SDK's calls to its monitor are made in place, so the twin's clock and services see
one caller, and two runs of the same program take the same steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime import set_all_config
from pulumi.runtime import settings as runtime_settings
from pulumi.runtime.mocks import MockMonitor, MockSettings
from pulumi.runtime.proto import engine_pb2, provider_pb2, resource_pb2
from pulumi.runtime.stack import run_in_stack

from .stack_config import StackConfig
from .wire import plain, wire

STACK_TYPE = "pulumi:pulumi:Stack"
_SETTINGS: Any = runtime_settings.SETTINGS


class ProgramError(Exception):
    """The program itself failed; the message is what `pulumi up` would show."""


@dataclass(frozen=True)
class Registration:
    """A resource as the program asks for it. `inputs` are plain values; `secrets` the top-level names marked secret."""

    urn: str
    type: str
    name: str
    custom: bool
    inputs: dict[str, Any]
    parent: str = ""
    provider: str = ""
    protect: bool = False
    delete_before_replace: bool | None = None
    retain_on_delete: bool = False
    deleted_with: str = ""
    import_id: str = ""
    read_id: str = ""
    ignore_changes: tuple[str, ...] = ()
    replace_on_changes: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    property_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registered:
    """What the program learns: id and outputs (those missing are unknown in a preview). `failed`: nothing of it."""

    id: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    failed: bool = False


class Deployment(Protocol):
    """What the program runs against."""

    def register(self, wanted: Registration) -> Registered: ...

    def invoke(self, token: str, args: dict[str, Any], provider: str) -> dict[str, Any]: ...

    def stack_outputs(self, outputs: dict[str, Any]) -> None: ...

    def log(self, severity: str, message: str) -> None: ...


def run(folder: Path, config: StackConfig, deployment: Deployment, *, preview: bool) -> None:
    """Run the program in `folder` as `pulumi up` does. Raises `ProgramError` with the program's own message."""
    folder = folder.resolve()
    context = contextvars.copy_context()  # Pulumi's settings live in context variables: each run has its own
    with _surroundings(folder, config):
        context.run(_run, folder, config, deployment, preview)


def _run(folder: Path, config: StackConfig, deployment: Deployment, preview: bool) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(_InPlace())
    monitor = _Monitor(deployment, config, preview)
    settings = MockSettings(
        monitor=monitor,
        monitor_features=set(monitor.GetDeploymentInfo(None).supportedFeatures),
        engine=_Log(deployment),
        project=config.project,
        stack=config.stack,
        root_directory=str(folder),
        organization="organization",
        dry_run=preview,
        callbacks=None,
    )
    runtime_settings.configure(settings)
    _SETTINGS.outputs.clear()
    runtime_settings.ROOT.set(None)
    set_all_config(dict(config.values))

    async def program() -> None:
        runpy.run_path(str(folder), run_name="__main__")

    try:
        with _quiet():
            loop.run_until_complete(run_in_stack(program))
    except pulumi.RunError as error:
        raise ProgramError(str(error)) from error
    except Exception as error:
        raise ProgramError(_explained(error, folder)) from error
    finally:
        _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    for output in list(_SETTINGS.outputs):
        if output.done() and not output.cancelled():
            output.exception()  # seen: the first error has been reported already
    _SETTINGS.outputs.clear()
    asyncio.set_event_loop(None)
    loop.close()


def _explained(error: BaseException, folder: Path) -> str:
    """`Type: message (file, line)` of a fault that is no deliberate error of the program."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
    own = [frame for frame in frames if ".venv" not in frame.filename]
    where = f" ({Path(own[-1].filename).relative_to(folder)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pulumi and asyncio log what is raised anyhow."""
    loggers = [logging.getLogger(name) for name in ("asyncio", "pulumi")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _surroundings(folder: Path, config: StackConfig) -> Iterator[None]:
    """What the CLI sets around a program: working directory, environment, and modules of that folder only.

    A module that another program imported from its own folder (both have `components`, say) is put aside meanwhile.
    """
    own = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    own -= {"__main__"}
    foreign = {
        name: module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in own and not _is_of(module, folder)
    }
    for name in foreign:
        del sys.modules[name]
    before = {name: os.environ.get(name) for name in ("PULUMI_CONFIG", "PULUMI_CONFIG_SECRET_KEYS")}
    path = list(sys.path)
    os.environ.update({"PULUMI_CONFIG": json.dumps(dict(config.values)), "PULUMI_CONFIG_SECRET_KEYS": "[]"})
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if foreign:
            for name in [name for name in sys.modules if name.partition(".")[0] in own]:
                del sys.modules[name]
            sys.modules.update(foreign)


def _is_of(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder)


class _InPlace(ThreadPoolExecutor):
    """An executor that runs a call where it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Log:
    """The engine's side of `pulumi.log`."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def Log(self, request: Any) -> empty_pb2.Empty:  # noqa: N802 - the SDK's name
        names = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}
        if request.severity in names:
            self._deployment.log(names[request.severity], request.message)
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, request: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()


class _Monitor(MockMonitor):
    """Pulumi's mock monitor, with the whole request instead of the part that its mocks are shown."""

    def __init__(self, deployment: Deployment, config: StackConfig, preview: bool) -> None:
        super().__init__(mocks=None)  # type: ignore[arg-type] - every method that would use them is overridden
        self._deployment, self._config, self._preview = deployment, config, preview
        self._types: dict[str, str] = {}  # urn -> its qualified type

    def urn(self, parent: str, type_: str, name: str) -> str:
        """As the engine makes it: the types of all parents but the stack, then this one."""
        above = parent.split("::")[2] if parent else ""
        qualified = type_ if above in ("", STACK_TYPE) else f"{above}${type_}"
        return f"urn:pulumi:{self._config.stack}::{self._config.project}::{qualified}::{name}"

    def RegisterResource(self, request: Any) -> resource_pb2.RegisterResourceResponse:  # noqa: N802
        urn = self.urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        inputs, secrets = plain(request.object)
        wanted = Registration(
            urn=urn,
            type=request.type,
            name=request.name,
            custom=request.custom,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider,
            protect=request.protect,
            delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
            retain_on_delete=request.retainOnDelete,
            deleted_with=request.deletedWith,
            import_id=request.importId,
            ignore_changes=tuple(request.ignoreChanges),
            replace_on_changes=tuple(request.replaceOnChanges),
            dependencies=tuple(request.dependencies),
            property_dependencies={key: tuple(deps.urns) for key, deps in request.propertyDependencies.items()},
            aliases=tuple(self._alias(request, alias) for alias in request.aliases),
            secrets=secrets,
        )
        answer = self._deployment.register(wanted)
        self.resources[urn] = MockMonitor.ResourceRegistration(urn, answer.id, dict(answer.outputs))
        return resource_pb2.RegisterResourceResponse(
            urn=urn,
            id=answer.id,
            object=wire(answer.outputs, answer.secrets),
            result=resource_pb2.FAIL if answer.failed else resource_pb2.SUCCESS,
        )

    def ReadResource(self, request: Any) -> resource_pb2.ReadResourceResponse:  # noqa: N802
        urn = self.urn(request.parent, request.type, request.name)
        inputs, secrets = plain(request.properties)
        wanted = Registration(
            urn=urn,
            type=request.type,
            name=request.name,
            custom=True,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider,
            read_id=request.id,
            dependencies=tuple(request.dependencies),
            secrets=secrets,
        )
        answer = self._deployment.register(wanted)
        return resource_pb2.ReadResourceResponse(urn=urn, properties=wire(answer.outputs, answer.secrets))

    def Invoke(self, request: Any) -> resource_pb2.ResourceInvokeResponse:  # noqa: N802
        args, _ = plain(request.args)
        if request.tok == "pulumi:pulumi:getResource":
            found = self.resources[args["urn"]]
            return _answer(found._asdict())
        try:
            answer = self._deployment.invoke(request.tok, args, request.provider)
        except Exception as error:
            failure = provider_pb2.CheckFailure(property="", reason=str(error))
            return resource_pb2.ResourceInvokeResponse(failures=[failure])
        return _answer(answer)

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:  # noqa: N802
        if request.urn.split("::")[2] == STACK_TYPE:
            outputs, _ = plain(request.outputs)
            self._deployment.stack_outputs(outputs)
        return empty_pb2.Empty()

    def _alias(self, request: Any, alias: Any) -> str:
        if alias.urn:
            return alias.urn
        spec = alias.spec
        parent = "" if spec.noParent else spec.parentUrn or request.parent
        above = parent.split("::")[2] if parent else ""
        type_ = spec.type or request.type
        qualified = type_ if above in ("", STACK_TYPE) else f"{above}${type_}"
        stack, project = spec.stack or self._config.stack, spec.project or self._config.project
        return f"urn:pulumi:{stack}::{project}::{qualified}::{spec.name or request.name}"


def _answer(values: Mapping[str, Any]) -> resource_pb2.ResourceInvokeResponse:
    response = resource_pb2.ResourceInvokeResponse()
    getattr(response, "return").CopyFrom(wire(values))  # a keyword of Python
    return response
