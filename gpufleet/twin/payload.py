"""The node's payload: its Python package loaded from the zip, and its systemd units read from it.

Each node gets modules of its own, as each machine does: nothing that one node keeps in a module is seen by another.
The package is loaded under another name than its own; it may only import relatively inside itself, at module top.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import itertools
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, ModuleType

PACKAGE = "inference_worker"
_ids = itertools.count()
_COMMAND = re.compile(rf"-m {PACKAGE} (\w+)")


@dataclass(frozen=True)
class Unit:
    """What the twin knows of a service unit. `before_start` and `command`: commands of the worker package.

    `kind` is systemd's Type: a `oneshot` counts as started once it has ended, others as soon as they run.
    """

    name: str
    command: str
    before_start: tuple[str, ...]
    kind: str
    after: tuple[str, ...]
    restart: str
    restart_s: float
    no_restart: frozenset[int]


@lru_cache(maxsize=8)
def _compiled(archive: bytes) -> dict[str, tuple[CodeType, bool]]:
    """Module name relative to the package ("" is the package itself) -> (code, is a package)."""
    found: dict[str, tuple[CodeType, bool]] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        for path in content.namelist():
            if not path.startswith(f"{PACKAGE}/") or not path.endswith(".py"):
                continue
            name = path.removeprefix(f"{PACKAGE}/").removesuffix(".py").replace("/", ".")
            package = name == "__init__" or name.endswith(".__init__")
            name = name.removesuffix("__init__").rstrip(".") if package else name
            found[name] = (compile(content.read(path), f"payload.zip/{path}", "exec"), package)
    return found


class _Loader(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Finds the modules of one loaded copy."""

    def __init__(self, root: str, archive: bytes) -> None:
        self._root = root
        self._modules = _compiled(archive)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._root and not fullname.startswith(f"{self._root}."):
            return None
        entry = self._modules.get(fullname[len(self._root) + 1 :])
        if entry is None:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=entry[1])

    def exec_module(self, module: ModuleType) -> None:
        code, _ = self._modules[module.__name__[len(self._root) + 1 :]]
        exec(code, module.__dict__)  # noqa: S102 - the payload that was just deployed, as a node would run it


class Package:
    """One node's copy of the worker package; `module("work")` imports one of its modules."""

    def __init__(self, archive: bytes) -> None:
        self._root = f"_twin_node_{next(_ids)}"
        self._loader = _Loader(self._root, archive)

    def module(self, name: str) -> ModuleType:
        sys.meta_path.insert(0, self._loader)
        try:
            return importlib.import_module(f"{self._root}.{name}")
        finally:
            sys.meta_path.remove(self._loader)

    def unload(self) -> None:
        for name in [n for n in sys.modules if n == self._root or n.startswith(f"{self._root}.")]:
            del sys.modules[name]


@lru_cache(maxsize=8)
def read_units(archive: bytes) -> tuple[Unit, ...]:
    """The service units of the payload that run a command of the worker package."""
    texts: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        for path in content.namelist():
            if path.startswith("units/") and path.endswith(".service"):
                texts[path.removeprefix("units/")] = content.read(path).decode()
    keys = {name: _keys(text) for name, text in texts.items()}
    units = []
    for name, found in keys.items():
        commands = [m.group(1) for line in found.get("ExecStart", []) if (m := _COMMAND.search(line))]
        if not commands:
            continue
        after = {other for other in _words(found, "After") if other in keys}
        after |= {other for other, theirs in keys.items() if name in _words(theirs, "Before")}
        units.append(
            Unit(
                name=name,
                command=commands[0],
                before_start=tuple(
                    m.group(1) for line in found.get("ExecStartPre", []) if (m := _COMMAND.search(line))
                ),
                kind=found.get("Type", ["simple"])[-1],
                after=tuple(sorted(after)),
                restart=found.get("Restart", ["no"])[-1],
                restart_s=float(found.get("RestartSec", ["0.1"])[-1]),
                no_restart=frozenset(int(word) for word in _words(found, "RestartPreventExitStatus")),
            )
        )
    return tuple(units)


def _keys(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def _words(keys: dict[str, list[str]], name: str) -> list[str]:
    return [word for line in keys.get(name, []) for word in line.split()]
