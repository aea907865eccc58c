"""A graph as JSON to review: per URN the inputs and the options the engine acts on. Hashes of our code are left out."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from harness import ROOT, Graph

from components import payloads

FOLDER = ROOT / "tests" / "components" / "golden"


def document(graph: Graph) -> dict[str, Any]:
    """`{urn: {inputs, and what applies of protect, ignoreChanges}}`, sorted; policies and configurations opened up."""
    result = {}
    for resource in sorted(graph.resources, key=lambda one: one.urn):
        entry: dict[str, Any] = {"inputs": _stable(resource.inputs)}
        if resource.protect:
            entry["protect"] = True
        if resource.ignore_changes:
            entry["ignoreChanges"] = list(resource.ignore_changes)
        result[resource.urn] = entry
    return result


def _stable(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {one: _stable(value[one], one) for one in sorted(value)}
    if isinstance(value, list):
        return [_stable(one) for one in value]
    if not isinstance(value, str):
        return value
    if key == "userData":
        return {"node.json": node_config(value)}
    if value[:1] in ("{", "["):
        return _stable(json.loads(value))
    for what, payload in (("function code", payloads.function_zip()), ("node files", payloads.node_zip())):
        value = value.replace(payload.sha256, f"<{what}>").replace(payload.sha256_base64, f"<{what}>")
    return value


def node_config(user_data: str) -> dict[str, Any]:
    """The configuration inside a launch template's user data."""
    script = base64.b64decode(user_data).decode("utf-8")
    found = re.search(r"<<'NODE_JSON'\n(.*?)\nNODE_JSON\n", script, re.DOTALL)
    assert found, "the user data holds no node.json"
    return json.loads(found.group(1))
