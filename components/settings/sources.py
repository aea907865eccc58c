"""Where raw settings come from: the running Pulumi program, or a stack file. Nothing is checked here but their form.

Keys are ours without their namespace (`maxGpuInstances`) and the clouds' region keys (`aws:region`); all others belong
to Pulumi or to other packages and are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi
import yaml
from pulumi.runtime import config as runtime_config
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from ..clouds import CLOUDS
from .faults import Fault, SettingsError, closest, shown

NAMESPACE: Final = "gpu-inference"  # the project's name in Pulumi.yaml
PULUMI_KEYS: Final = ("config", "encryptionsalt", "encryptedkey", "environment", "secretsprovider")
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 30  # settings are four levels deep
_REGION_KEYS: Final = frozenset(cloud.region_key for cloud in CLOUDS.values())


@dataclass(frozen=True)
class Raw:
    """Unchecked settings: `values` by key; `encrypted` keys; `faults` of form; `elsewhere` if an environment
    (Pulumi ESC) that cannot be read here may set more."""

    source: str
    stack: str
    values: Mapping[str, Any]
    encrypted: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    elsewhere: bool = False


def our_key(key: str) -> str | None:
    """The key without our namespace, a region key as it is, or None for a key that is not ours."""
    key = key.replace(":config:", ":", 1)  # the old spelling, which Pulumi still takes
    if key in _REGION_KEYS:
        return key
    namespace, colon, name = key.partition(":")
    if not colon:
        return key  # Pulumi puts a key without namespace into the project's
    return name if namespace == NAMESPACE else None


def from_program() -> Raw:
    """The settings of the stack that is being deployed: the one place that reads Pulumi's raw configuration.

    Under `pulumi up` they come in the environment variable PULUMI_CONFIG, under mocks from
    `pulumi.runtime.set_all_config`; `pulumi.Config` cannot list keys, so unknown ones would go unseen.
    """
    stack = pulumi.get_stack() or ""
    source = f"stack {stack}"
    try:
        everything = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
        secret = set(runtime_config.get_config_secret_keys_env())
    except (ValueError, TypeError):
        raise SettingsError(source, [_fault("PULUMI_CONFIG is not JSON", "run the program with pulumi up")]) from None
    ours = {key: name for key in everything if (name := our_key(str(key))) is not None}
    encrypted = {name for key, name in ours.items() if key in secret or runtime_config.is_config_secret(key)}
    values = {name: None if everything[key] == "null" else everything[key] for key, name in ours.items()}
    return Raw(source, stack, values, frozenset(encrypted))


def from_file(path: Path, stack: str | None = None) -> Raw:
    """The settings in a stack file, with the project's own values (Pulumi.yaml beside it) below them.

    `stack` defaults to the name in `Pulumi.<stack>.yaml`, or the file's own. Raises SettingsError if it cannot be read.
    """
    source = path.name
    if stack is None:
        stem = path.name.removesuffix(path.suffix)
        stack = stem.removeprefix("Pulumi.") if stem.startswith("Pulumi.") else stem
    document = _mapping(path, source)
    faults = [_foreign(key, value) for key, value in document.items() if key not in PULUMI_KEYS]
    config = document.get("config")
    if config is None:
        config = {}
    if not isinstance(config, Mapping):
        raise SettingsError(source, [Fault("config", shown(config), "must be a map of keys and values", "indent them")])
    values: dict[str, Any] = {}
    for key, value in config.items():
        name = our_key(key) if isinstance(key, str) else None
        if not isinstance(key, str):
            faults.append(Fault(shown(key), shown(value), "a key must be a word", "put the key in quotes"))
        elif name is not None and name in values:
            faults.append(Fault(name, shown(value), "is set twice, with and without its namespace", "remove one"))
        elif name is not None:
            values[name] = value
    values = {**_project_values(path.parent / "Pulumi.yaml"), **values}
    return Raw(source, stack, values, faults=tuple(faults), elsewhere="environment" in document)


def _foreign(key: Any, value: Any) -> Fault:
    name = shown(key)
    if isinstance(key, str) and (":" in key):
        return Fault(name, shown(value), "stands outside config", "move it below config: and indent it")
    near = closest(name, PULUMI_KEYS)
    fix = f"did you mean {near}?" if near else "settings stand below config:"
    return Fault(name, shown(value), "is not a key of a Pulumi stack file", fix)


def _project_values(path: Path) -> dict[str, Any]:
    """Values that Pulumi.yaml sets for every stack (`value:` or `default:`); none if it is absent or not readable."""
    try:
        config = _mapping(path, path.name).get("config")
    except SettingsError:
        return {}
    values: dict[str, Any] = {}
    for key, entry in config.items() if isinstance(config, Mapping) else ():
        name = our_key(key) if isinstance(key, str) else None
        if name is not None and isinstance(entry, Mapping):
            if "value" in entry or "default" in entry:
                values[name] = entry.get("value", entry.get("default"))
        elif name is not None and entry is not None:
            values[name] = entry
    return values


def _fault(rule: str, fix: str) -> Fault:
    return Fault("(the whole file)", "", rule, fix)


def _mapping(path: Path, source: str) -> Mapping[Any, Any]:
    """The YAML document in a file; SettingsError with one clear fault if there is none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        fault = _fault(f"there is no file {path}", "check the name, or run: pulumi stack init")
        raise SettingsError(source, [fault]) from None
    except OSError as error:
        fault = _fault(f"cannot be read: {error.strerror or 'unknown error'}", "check the file")
        raise SettingsError(source, [fault]) from None
    if len(raw) > MAX_BYTES:
        raise SettingsError(source, [_fault("is larger than 1 MB", "a stack file has a few dozen lines")])
    try:
        document = yaml.load(raw.decode("utf-8-sig"), _StackFileLoader)  # noqa: S506  a SafeLoader
    except UnicodeDecodeError:
        raise SettingsError(source, [_fault("is not UTF-8 text", "save it as UTF-8")]) from None
    except yaml.YAMLError as error:
        raise SettingsError(source, [_fault(*_yaml_fault(error))]) from None
    if document is None:
        raise SettingsError(source, [_fault("is empty", "begin with config: and see docs/configuration.md")])
    if not isinstance(document, Mapping):
        fault = Fault("(the whole file)", shown(document), "must be a map", "begin with config:")
        raise SettingsError(source, [fault])
    return document


def _yaml_fault(error: yaml.YAMLError) -> tuple[str, str]:
    """Rule and fix for a YAML error, with line and column."""
    if isinstance(error, ReaderError):
        return f"holds a character that YAML forbids at position {error.position}", "save it as plain UTF-8 text"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    if "\\t" in problem or "tab" in problem.lower():
        return f"is not YAML: a tab{where}", "indent with spaces"
    return f"is not YAML{where}: {problem}", "correct that line"


class _StackFileLoader(yaml.SafeLoader):
    """YAML as Pulumi reads it (version 1.2: `on` and `18:00` are words), that refuses a key given twice."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ComposerError(None, None, "it is nested too deeply", self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {shown(key.value)} is given twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    word = loader.construct_scalar(node).replace("_", "")
    try:
        return int(word, 0) if len(word) <= 40 else word
    except ValueError:
        return word


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    word = loader.construct_scalar(node)
    try:
        return float(word.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
    except ValueError:
        return word


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool | str:
    word = loader.construct_scalar(node)
    return {"true": True, "false": False}.get(word.lower(), word)


_TAG: Final = "tag:yaml.org,2002:"
_StackFileLoader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.nan|\.NaN|\.NAN)$", list("-+.")),
    ("merge", r"^<<$", ["<"]),
):
    _StackFileLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)
_StackFileLoader.yaml_constructors = {
    _TAG + "null": yaml.SafeLoader.construct_yaml_null,
    _TAG + "bool": _bool,
    _TAG + "int": _int,
    _TAG + "float": _float,
    _TAG + "str": yaml.SafeLoader.construct_yaml_str,
    _TAG + "seq": yaml.SafeLoader.construct_yaml_seq,
    _TAG + "map": yaml.SafeLoader.construct_yaml_map,
    None: yaml.SafeLoader.construct_undefined,
}
