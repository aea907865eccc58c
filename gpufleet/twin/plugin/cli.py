"""The Pulumi CLI as an engine: the same `up` as the built-in one (`gpufleet.twin.engine`), done by the real thing.

It works in a folder of its own that looks like the project, so that the project's stack files stay as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..deployment import Step, UpError
from ..engine import OnStep, UpResult
from ..handlers.properties import Change
from ..program import ProgramError
from ..stack_config import edited
from . import executables

_OPS = {"create", "update", "replace", "delete", "same", "read", "import"}  # the others are parts of a replacement
_LEFT_OUT = {".git", ".venv", ".cache", ".demo"}

Waiting = Callable[["subprocess.Popen[str]"], object]


class PulumiCli:
    """One project's CLI against the embedded cloud at `url`.

    `folder` keeps everything that lasts (state, settings, executables). `waiting(process)` is called while a command
    runs and returns when it has ended: a caller who hosts the cloud answers its requests there. `cli`: by default the
    one that is found (see `executables.find_cli`). Raises `NoEngineError` when there is none.
    """

    def __init__(
        self, folder: Path, url: str, region: str, waiting: Waiting | None = None, cli: Path | None = None
    ) -> None:
        self._folder = folder.resolve()
        self._waiting = waiting or (lambda process: process.wait())
        self.cli = executables.install(self._folder / "bin", cli)
        (self._folder / "state").mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in executables.removed()}
        self._environment = {
            **kept,
            **executables.environment(url, self._folder, region),
            "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true",  # `preview --json` tells events, as `up --json` does
        }

    def up(
        self,
        program: str | Path,
        stack: str,
        overrides: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
    ) -> UpResult:
        """`pulumi up` of the program in the folder `program`, with config edits on top of the stack file.

        Raises `UpError` for a resource that failed, `ProgramError` for the program's own fault, `ConfigError` for
        unusable files.
        """
        place = self._laid_out(Path(program).resolve(), stack, overrides)
        result = self._events(["up", "--yes", "--skip-preview"], place, stack)
        if on_step is not None:
            for step in result.steps:
                on_step(step)
        return result

    def run(
        self, arguments: Sequence[str], place: Path, waiting: Waiting | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command of the CLI in the folder `place`; its exit code is the caller's to look at."""
        return self.command([str(self.cli), *arguments, "--non-interactive"], place, waiting)

    def command(
        self, command: list[str], place: Path, waiting: Waiting | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Any command in the environment that the CLI gets, with the CLI on its PATH."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(  # noqa: S603 - the CLI that was found, or what the caller names
                command, cwd=place, env=self._environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL, text=True
            )
            try:
                (waiting or self._waiting)(process)
            finally:
                process.kill()  # nothing for one that has ended
                process.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())

    def exported(self, program: str | Path, stack: str) -> list[dict[str, Any]]:
        """The resources in the stack's state, as `pulumi stack export` shows them."""
        done = self.run(["stack", "export", "--stack", stack], self._place(Path(program).resolve()))
        if done.returncode:
            raise UpError(done.stderr.strip())
        return json.loads(done.stdout)["deployment"].get("resources") or []

    # -- inside -----------------------------------------------------------------------------------------------------

    def _place(self, project: Path) -> Path:
        return self._folder / "projects" / project.name

    def _laid_out(self, project: Path, stack: str, overrides: Mapping[str, Any] | None) -> Path:
        """The folder that looks like `project`, with the stack file as edited; the stack exists afterwards."""
        place = self._place(project)
        place.mkdir(parents=True, exist_ok=True)
        for entry in project.iterdir():
            link = place / entry.name
            if entry.name not in _LEFT_OUT and not entry.match("Pulumi.*.yaml") and not link.is_symlink():
                link.symlink_to(entry)
        settings = place / f"Pulumi.{stack}.yaml"
        first = not settings.exists()
        salt = {} if first else {k: v for k, v in yaml.safe_load(settings.read_text()).items() if k == "encryptionsalt"}
        config = edited(project, stack, overrides)
        settings.write_text(yaml.safe_dump({"config": config, **salt}, sort_keys=False))
        if first:
            done = self.run(["stack", "init", stack], place)
            if done.returncode:
                settings.unlink()
                raise UpError(f"pulumi stack init {stack} failed: {done.stderr.strip()}")
        return place

    def _events(self, arguments: list[str], place: Path, stack: str) -> UpResult:
        done = self.run([*arguments, "--stack", stack, "--json"], place)
        events = parsed(done.stdout)
        errors = [event for event in events if event.get("diagnosticEvent", {}).get("severity") == "error"]
        if done.returncode:
            raise _failure(errors, done)
        steps = tuple(steps_of(events))
        shown = self.run(["stack", "output", "--stack", stack, "--json", "--show-secrets"], place)
        log = tuple(_log(events))
        return UpResult(json.loads(shown.stdout), steps, dict(Counter(step.op for step in steps)), log)


def parsed(text: str) -> list[dict[str, Any]]:
    """The events that a command with `--json` printed."""
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"')]


def steps_of(events: list[dict[str, Any]]) -> Iterator[Step]:
    """What happened to each resource, in the order in which it was done."""
    for event in events:
        begun, done = (event.get(kind, {}).get("metadata") for kind in ("resourcePreEvent", "resOutputsEvent"))
        # A replacement is told before its parts, not always after them as well.
        found = begun if begun and begun["op"] == "replace" else done if done and done["op"] != "replace" else None
        if found is None or found["op"] not in _OPS or found["type"] == "pulumi:pulumi:Stack":
            continue
        yield Step(found["op"], found["urn"], found["type"], found["urn"].split("::", 3)[3], tuple(_changes(found)))


def _changes(found: Mapping[str, Any]) -> Iterator[Change]:
    for path, detail in (found.get("detailedDiff") or {}).items():
        old, new = (((found.get(side) or {}).get("inputs") or {}).get(path) for side in ("old", "new"))
        yield Change(path, old, new, "replace" in str(detail.get("diffKind")))


def _log(events: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """What the program logged: the messages that belong to a resource or the stack."""
    for event in events:
        found = event.get("diagnosticEvent")
        if found and found.get("urn") and found["severity"] in ("info", "warning", "error"):
            yield found["severity"], found["message"].strip()


def _failure(errors: list[dict[str, Any]], done: subprocess.CompletedProcess[str]) -> UpError | ProgramError:
    told = [event["diagnosticEvent"] for event in errors]
    texts = [f"{_named(one)}{one['message'].strip()}" for one in told if "update failed" not in one["message"]]
    text = "\n".join(dict.fromkeys(texts)) or done.stderr.strip() or "pulumi failed and said nothing"
    by_program = told and all(one.get("urn", "").split("::")[2:3] in ([], ["pulumi:pulumi:Stack"]) for one in told)
    return ProgramError(text) if by_program else UpError(text)


def _named(diagnostic: Mapping[str, Any]) -> str:
    urn = diagnostic.get("urn", "")
    if not urn or "pulumi:pulumi:Stack" in urn:
        return ""
    return f"{urn.split('::', 3)[3]} ({urn.split('::')[2].rsplit('$', 1)[-1]}): "
