"""The configuration of a stack as the Pulumi CLI would hand it to the program: Pulumi.yaml, then the stack file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import NotModelledError

DISABLE_DEFAULTS = "pulumi:disable-default-providers"


class ConfigError(Exception):
    """A project or stack file that cannot be used; the message says which, and what to do."""


@dataclass(frozen=True)
class StackConfig:
    """`values`: text by full key (`gpu-inference:maxGpuInstances`), what is not text as JSON, as Pulumi carries it."""

    project: str
    stack: str
    values: Mapping[str, str]

    def needs_explicit_provider(self, package: str) -> bool:
        disabled = json.loads(self.values.get(DISABLE_DEFAULTS, "[]"))
        return "*" in disabled or package in disabled


def load(program: Path, stack: str, overrides: Mapping[str, Any] | None = None) -> StackConfig:
    """Read the configuration of `stack` for the program in the folder `program`.

    `overrides` go on top: `{"maxGpuInstances": "2", "model.slots": 4, "aws:region": "us-west-2"}`; a key without
    namespace is the project's, dots lead into nested values, text is read as YAML. Raises `ConfigError`.
    """
    name, values = _project(program)
    values |= _edited(program, stack, overrides, name, values)
    return StackConfig(name, stack, {key: _as_text(value) for key, value in values.items() if value is not None})


def edited(program: Path, stack: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The stack file's own values by full key, with `overrides` on top (see `load`). Raises `ConfigError`."""
    return _edited(program, stack, overrides, *_project(program))


def _edited(
    program: Path, stack: str, overrides: Mapping[str, Any] | None, name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    stack_file = program / f"Pulumi.{stack}.yaml"
    known = sorted(path.name.split(".")[1] for path in program.glob("Pulumi.*.yaml"))
    if known and stack not in known:  # a project without any stack file is one whose stacks have no settings
        raise ConfigError(f"there is no {stack_file.name}; the stacks here are: {', '.join(known)}")
    values: dict[str, Any] = {}
    own = _document(stack_file).get("config") if known else None
    for key, value in (own or {}).items():
        if isinstance(value, dict) and set(value) == {"secure"}:
            raise NotModelledError(
                f"{stack_file.name}: {key} is encrypted, which only the Pulumi CLI can read; give it as an override"
            )
        values[_full(name, key)] = value
    for path, value in (overrides or {}).items():
        key = _full(name, path.split(".")[0])
        if "." in path and key not in values and key in defaults:
            values[key] = defaults[key]
        _override(values, name, path, read_yaml(value) if isinstance(value, str) else value)
    return values


def _project(program: Path) -> tuple[str, dict[str, Any]]:
    """The project's name, and the values that Pulumi.yaml gives to every stack."""
    project_file = program / "Pulumi.yaml"
    project = _document(project_file)
    name = project.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{project_file.name} has no name")
    values: dict[str, Any] = {}
    for key, entry in (project.get("config") or {}).items():
        plain = not isinstance(entry, dict) or not {"type", "value", "default", "description", "secret"} & set(entry)
        value = entry if plain else entry.get("value", entry.get("default"))
        if value is not None:
            values[_full(name, key)] = value
    return name, values


def _full(project: str, key: str) -> str:
    key = str(key).replace(":config:", ":", 1)  # the old spelling, which Pulumi still takes
    return key if ":" in key else f"{project}:{key}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _override(values: dict[str, Any], project: str, path: str, value: Any) -> None:
    head, *rest = path.split(".")
    key = _full(project, head)
    if not rest:
        values[key] = value
        return
    root = json.loads(json.dumps(values.get(key) or {}))
    values[key], node = root, root
    for part in rest[:-1]:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ConfigError(f"cannot set {path}: {head} has no such part")
    node[rest[-1]] = value


def _document(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_text(encoding="utf-8-sig"), Yaml12Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"there is no {path.name} in {path.parent}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not readable YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path.name} is not a map of keys")
    return found


def read_yaml(text: str) -> Any:
    """One value as a stack file would hold it."""
    try:
        return yaml.load(text, Yaml12Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        return text


class Yaml12Loader(yaml.SafeLoader):
    """YAML 1.2 as Pulumi reads it: `18:00`, `on` and `2026-01-01` are words."""


_TAG = "tag:yaml.org,2002:"
Yaml12Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("merge", r"^<<$", ["<"]),
):
    Yaml12Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)
