"""The built-in engine: `up`, `preview`, `refresh` and `destroy` of a Pulumi program against the twin.

It needs nothing but Python. The handlers it drives are the same that the real engine is served with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import program as programs
from .cloud import Cloud
from .deployment import Run, Step, UpError
from .handlers import handler, ignoring
from .handlers.properties import differences
from .program import ProgramError
from .stack_config import ConfigError, StackConfig, load
from .state import State

OnStep = Callable[[Step], object]


@dataclass(frozen=True)
class UpResult:
    """What a run did: the stack's outputs, every step in order, steps per operation, and what the program logged.

    In a preview `outputs` holds those that are known already.
    """

    outputs: Mapping[str, Any]
    steps: tuple[Step, ...]
    counts: Mapping[str, int]
    log: tuple[tuple[str, str], ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that changed something."""
        return tuple(step for step in self.steps if step.op not in ("same", "read"))


@dataclass(frozen=True)
class Drift:
    """A property that is not as deployed. `path` is empty for a resource that is gone."""

    urn: str
    path: str
    state: Any
    live: Any


class Engine:
    """One stack's engine. `state` carries on from an earlier engine; it is always what has been done so far."""

    def __init__(self, cloud: Cloud, state: State | None = None) -> None:
        self.cloud = cloud
        self.state = state or State()

    def up(
        self,
        program: str | Path,
        stack: str,
        overrides: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
    ) -> UpResult:
        """Run the program in the folder `program` and make the cloud as it says.

        `overrides` are config values on top of the stack file's (see `stack_config.load`). Raises `UpError` for a
        resource that failed (what was done stays in the state, the next `up` carries on), `ProgramError` for the
        program's own fault, `ConfigError` for unusable files.
        """
        return self._run(Path(program), stack, overrides, on_step, preview=False)

    def preview(
        self,
        program: str | Path,
        stack: str,
        overrides: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
    ) -> UpResult:
        """What `up` would do. Outputs of resources still to be created are unknown: whatever depends on them shows
        as changed to `UNKNOWN`, and code inside the program's `apply` on them does not run."""
        return self._run(Path(program), stack, overrides, on_step, preview=True)

    def refresh(self, *, preview_only: bool = False) -> list[Drift]:
        """What of the deployed inputs is not so in the cloud any more; the state then takes the live values.

        Ignored changes and what the program leaves to AWS are no drift. With `preview_only` the state stays.
        """
        drifts: list[Drift] = []
        for urn, resource in list(self.state.resources.items()):
            if not resource.custom:
                continue
            kind = handler(resource.type)
            live = kind.read(self.cloud, resource.id, resource.inputs)
            if live is None:
                drifts.append(Drift(urn, "", resource.id, None))
                if not preview_only:
                    del self.state.resources[urn]
                continue
            found = ignoring(resource.inputs, kind.inputs_of(live, resource.inputs), resource.ignore_changes)
            drifts.extend(Drift(urn, c.path, c.new, c.old) for c in differences(kind.props, found, resource.inputs))
            if not preview_only:
                resource.inputs, resource.outputs = found, live
        return drifts

    def destroy(self, on_step: OnStep | None = None) -> UpResult:
        """Delete everything in the state, in reverse order of dependencies. Raises `UpError` before anything is
        deleted if a resource is protected."""
        run = Run(self.cloud, self.state, StackConfig("", "", {}), preview=False, on_step=on_step)
        run.delete_all([*self.state.pending, *self.state.resources.values()])
        self.state.outputs = {}
        return UpResult({}, tuple(run.steps), run.counts)

    def unprotect(self) -> None:
        """What `pulumi state unprotect --all` does."""
        for resource in self.state.resources.values():
            resource.protect = False

    def _run(
        self,
        folder: Path,
        stack: str,
        overrides: Mapping[str, Any] | None,
        on_step: OnStep | None,
        *,
        preview: bool,
    ) -> UpResult:
        config = load(folder, stack, overrides)
        state = self.state.copy() if preview else self.state
        run = Run(self.cloud, state, config, preview=preview, on_step=on_step)
        try:
            programs.run(folder, config, run, preview=preview)
        except ProgramError as error:
            if run.failure is None:
                raise
            raise run.failure from error
        if run.failure is not None:
            raise run.failure
        run.delete_the_rest()
        state.outputs = run.outputs
        return UpResult(run.outputs, tuple(run.steps), run.counts, tuple(run.logged))


__all__ = ["ConfigError", "Drift", "Engine", "ProgramError", "Step", "UpError", "UpResult"]
