"""What the tests of a living stack share: its config, its fleet at work, and a second program beside it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from desk import ROOT, Desk

HOUR = 3600.0
STACK = os.environ.get("E2E_STACK", "dev")  # the same tests, by hand, on another stack
REFRESH = ("refresh", "--stack", STACK, "--preview-only", "--expect-no-changes", "--json")


def configure(desk: Desk, edits: Mapping[str, Any]) -> None:
    """Edit the stack file, as in an editor: many `pulumi config set` would take a second each."""
    path = desk.project / f"Pulumi.{STACK}.yaml"
    document = yaml.safe_load(path.read_text())
    for key, value in edits.items():
        config, name = document["config"], f"gpu-inference:{key}"
        config[name] = {**config.get(name, {}), **value} if isinstance(value, Mapping) else value
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def deployed(desk: Desk, edits: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stack with config `edits`, provisioned and followed by the world; answers its outputs."""
    desk.pulumi("stack", "init", STACK)
    configure(desk, edits)
    desk.up(STACK)
    outputs = desk.outputs(STACK)
    desk.world.follow(outputs["queueUrl"], outputs["jobsTable"], outputs["resultsBucket"])
    return outputs


def in_service(desk: Desk) -> list[str]:
    """Ids of the instances that serve."""
    return [one.id for one in desk.world.instances() if desk.world.state_of(one) == "InService"]


def served(desk: Desk) -> bool:
    """Nothing waits or is in work."""
    now = desk.world.snapshot()
    return not (now.backlog or now.in_flight)


def groups(desk: Desk, outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Both groups as AWS shows them."""
    return [desk.group(outputs[key]) for key in ("spotGroup", "onDemandGroup")]


def beside(desk: Desk, folder: Path, name: str, program: str) -> Desk:
    """The same desk at another project: a small program of its own, with the same CLI, state and cloud."""
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text(
        f"name: {name}\nruntime: {{name: python, options: {{toolchain: pip, virtualenv: .venv}}}}\n"
    )
    (folder / "__main__.py").write_text(program)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    other = copy.copy(desk)
    other.project = folder
    return other
