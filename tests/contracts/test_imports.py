"""What may import what: the standard library (plus boto3 where said) is all that functions and nodes may use."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = {"boto3", "botocore"}


def imported(path: Path) -> set[str]:
    """Top-level names of the absolute imports of a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} holds no Python file"
    return found


@pytest.mark.parametrize("folder", ["lambda/fleet_control", "bootstrap/inference_worker"])
def test_functions_and_nodes_need_nothing_but_the_standard_library_and_boto3(folder: str) -> None:
    foreign = {
        str(path.relative_to(ROOT)): extra
        for path in files(folder)
        if (extra := imported(path) - set(sys.stdlib_module_names) - SDK)
    }
    assert not foreign


@pytest.mark.parametrize("law", ["scaling_law.py", "spend_law.py", "spend_prices.py", "boot_law.py", "health_law.py"])
def test_laws_touch_neither_clock_nor_network(law: str) -> None:
    impure = {"time", "random", "os", "socket", "urllib", "subprocess", "threading", *SDK}
    assert not imported(ROOT / "lambda" / "fleet_control" / law) & impure


@pytest.mark.parametrize("folder", ["lambda/fleet_control", "bootstrap/inference_worker"])
def test_every_import_of_a_payload_stands_at_the_top_of_its_module(folder: str) -> None:
    """Payloads are loaded from a zip once: an import inside a function would look for the package again, in vain."""
    late = []
    for path in files(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                late += [
                    f"{path.name}:{inner.lineno}"
                    for inner in ast.walk(node)
                    if isinstance(inner, (ast.Import, ast.ImportFrom))
                ]
    assert not late
