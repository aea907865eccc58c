"""Units of a node, run as systemd runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .clock import Process
from .errors import AwsError, NotModelledError
from .node_runtime import Host, VirtualRuntime
from .payload import Unit


class UnitHost(Host, Protocol):
    """What a unit needs from its node."""

    name: str

    def start_unit_command(self, command: str, runtime: VirtualRuntime) -> int: ...


class Service:
    """A unit as systemd runs it: after others, restarted as it says, stopped by SIGTERM."""

    def __init__(self, node: UnitHost, unit: Unit, units: Mapping[str, Service]) -> None:
        self._node = node
        self._units = units
        self._unit = unit
        self._clock = node.clock
        self._runtime: VirtualRuntime | None = None
        self._process: Process | None = None
        self._stopping = False
        self.started = node.clock.event()

    def start(self) -> None:
        self._process = self._clock.spawn(f"{self._node.name}/{self._unit.name}", self._run)

    def stop(self, timeout_s: float) -> bool:
        """SIGTERM, then wait; kills and answers False when `timeout_s` passes."""
        self._stopping = True
        if self._process is None or not self._process.alive:
            return True
        if self._runtime is None or not self._runtime.stop_callbacks:
            self.kill()
            return True
        for callback in list(self._runtime.stop_callbacks):
            callback()
        if self._process.done.wait(timeout_s):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        if self._runtime is not None:
            self._runtime.end()
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        for name in self._unit.after:
            self._units[name].started.wait()
        while not self._stopping:
            status = self._once()
            self.started.set()
            if self._unit.restart == "no" or status in self._unit.no_restart:
                return
            if status == 0 and self._unit.restart != "always":
                return
            self._clock.sleep(self._unit.restart_s)

    def _once(self) -> int:
        for command in self._unit.before_start:
            status = self._execute(command)
            if status != 0:
                return status
        if self._unit.kind != "oneshot":
            self.started.set()
        return self._execute(self._unit.command)

    def _execute(self, command: str) -> int:
        self._runtime = VirtualRuntime(self._node, command)
        try:
            return self._node.start_unit_command(command, self._runtime)
        except NotModelledError:
            raise
        except AwsError as error:  # a stub's missing permission; the worker's own calls raise ClientError
            self._node.log({"event": "denied", "process": command, "problem": str(error)})
            return 1
        except Exception as error:
            self._node.log({"event": "process-died", "process": command, "problem": repr(error)})
            return 1
        finally:
            self._runtime.end()
