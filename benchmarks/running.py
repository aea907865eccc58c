"""Runs cells in processes, with the law's settings and constants as they are or as told."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from multiprocessing import get_context
from typing import Any, TypeVar

from fleet_control.scaling_law import Policy

from gpufleet.planner.simulator import FleetModel

T = TypeVar("T")
R = TypeVar("R")


class SettingError(Exception):
    """A `--set` that names nothing."""


@dataclass(frozen=True)
class Changes:
    """What differs from the shipped law: fields of its `Policy`, constants of its modules, and the simulated fleet."""

    policy: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    fleet: dict[str, Any] = field(default_factory=dict)


def parse(texts: Sequence[str]) -> Changes:
    """From `NAME=VALUE`: a field of Policy or FleetModel, or a constant of a `fleet_control.scaling_*` module."""
    changes = Changes()
    for text in texts:
        name, _, value = text.partition("=")
        try:
            read = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            read = value
        if name in {one.name for one in fields(Policy)}:
            changes.policy[name] = read
        elif name in {one.name for one in fields(FleetModel)}:
            changes.fleet[name] = read
        elif any(hasattr(module, name) for module in law_modules()):
            changes.constants[name] = read
        else:
            raise SettingError(f"--set {name}: no field of Policy or FleetModel, no constant of the scaling law")
    return changes


def law_modules() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("fleet_control.scaling_")]


def put(constants: dict[str, Any]) -> None:
    """Sets constants wherever the law's modules know them, for the life of this process."""
    for module in law_modules():
        for name, value in constants.items():
            if hasattr(module, name):
                setattr(module, name, value)


def in_processes(work: Callable[[T], R], tasks: Sequence[T], processes: int, constants: dict[str, Any]) -> Iterator[R]:
    """The results in the order of the tasks. With one process in this one, where a profiler sees it."""
    if processes <= 1:
        put(constants)
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(processes, get_context("fork"), initializer=put, initargs=(constants,)) as pool:
        yield from pool.map(work, tasks)
