"""An operator's desk: a copy of the project, the real Pulumi CLI, and an embedded cloud that this process hosts.

The CLI and its plugins are processes of their own and reach the cloud over loopback; the test itself looks at the cloud
and spoils its day from inside.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpufleet.demo.stage import START
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.deployment import Step
from gpufleet.twin.plugin.cli import PulumiCli, parsed, steps_of
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".demo", ".*_cache", ".hypothesis", "__pycache__", "tests", "docs"
)


@dataclass
class Done:
    """A command that ended. `steps`: what happened to each resource, when it was asked for with --json."""

    code: int
    out: str
    err: str
    seconds: float
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        return list(steps_of(self.events))

    @property
    def changes(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """What was not left as it was: "Type name" -> (operation, changed properties)."""
        return {
            f"{step.type.rsplit(':', 1)[-1]} {step.name}": (step.op, tuple(sorted(change.path for change in step.diff)))
            for step in self.steps
            if step.op not in ("same", "read")
        }

    @property
    def summary(self) -> dict[str, int]:
        """The engine's own count of operations."""
        return next((e["summaryEvent"]["resourceChanges"] for e in self.events if "summaryEvent" in e), {})


class Desk:
    """Close it when done (it is a context manager). `seed` makes the cloud's chances the same every time; `start`: unix
    seconds in the cloud at first."""

    def __init__(
        self, folder: Path, seed: int = 1, region: str = "us-east-1", program: Path = ROOT, start: float = START
    ) -> None:
        self.project = folder / "project"
        shutil.copytree(program, self.project, ignore=LEFT_BEHIND)
        (self.project / ".venv").symlink_to(ROOT / ".venv")  # where Pulumi's own language host looks for it
        self.cloud = Cloud(start, region=region, seed=seed)
        self.world = World(self.cloud)
        self.endpoint = Endpoint(self.world)
        self.cli = PulumiCli(folder / "cli", self.endpoint.url, region, self.attend)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.endpoint.close()
        self.cloud.close()

    # -- commands -----------------------------------------------------------------------------------------------

    def attend(self, process: subprocess.Popen[str], until: Callable[[], bool] = lambda: False) -> None:
        """Answer the cloud's requests until `process` has ended, or `until()` holds."""
        self.endpoint.serve(until=lambda: process.poll() is not None or until())

    def pulumi(self, *arguments: str, code: int | None = 0, waiting: Any = None) -> Done:
        """One command; with --json its events are read. `code`: the exit code it must end with, None: any."""
        started = time.monotonic()
        done = self.cli.run(arguments, self.project, waiting)
        seconds = time.monotonic() - started
        assert code is None or done.returncode == code, f"pulumi {' '.join(arguments)}: {_told(done)}"
        events = parsed(done.stdout) if "--json" in arguments else []
        return Done(done.returncode, done.stdout, done.stderr, seconds, events)

    def gpufleet(self, *arguments: str, code: int | None = 0) -> Done:
        """A command of ours in the copy of the project, in the shell that the CLI is used in."""
        started = time.monotonic()
        done = self.cli.command([sys.executable, "-m", "gpufleet", *arguments], self.project)
        assert code is None or done.returncode == code, f"gpufleet {' '.join(arguments)}: {_told(done)}"
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def up(self, stack: str, *arguments: str, code: int | None = 0) -> Done:
        return self.pulumi("up", "--yes", "--skip-preview", "--json", "--stack", stack, *arguments, code=code)

    def preview(self, stack: str, *arguments: str, code: int | None = 0) -> Done:
        return self.pulumi("preview", "--json", "--stack", stack, *arguments, code=code)

    def set(self, stack: str, key: str, value: str) -> None:
        """`pulumi config set`, with a path for nested keys."""
        self.pulumi("config", "set", "--stack", stack, "--path", key, value)

    def exported(self, stack: str) -> list[dict[str, Any]]:
        """The resources in the stack's state."""
        return self.deployment(stack).get("resources") or []

    def deployment(self, stack: str) -> dict[str, Any]:
        """The stack's state: resources, pending operations."""
        return json.loads(self.pulumi("stack", "export", "--stack", stack).out)["deployment"]

    def outputs(self, stack: str) -> Mapping[str, Any]:
        return json.loads(self.pulumi("stack", "output", "--json", "--show-secrets", "--stack", stack).out)

    # -- the cloud ----------------------------------------------------------------------------------------------

    def client(self, service: str, principal: str = "operator") -> Any:
        return self.cloud.client(service, principal)

    def group(self, name: str) -> dict[str, Any]:
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return found["AutoScalingGroups"][0]


def _told(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said, as short as it is readable."""
    messages = [e["diagnosticEvent"]["message"] for e in parsed(done.stdout) if "diagnosticEvent" in e] or [done.stdout]
    return f"exit code {done.returncode}\n{re.sub(r'<[^>]*>', '', ''.join(messages))[-4000:]}\n{done.stderr[-2000:]}"
