"""Resource graphs that compare: what the built-in engine and the real one make of the same program."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from desk import ROOT

from gpufleet.demo.stage import START
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine
from gpufleet.twin.world import World

_MADE_UP = re.compile("[0-9a-f]{7}")
_POLICY = re.compile("scalingPolicy:[0-9a-f-]{36}")  # in its ARN, which is no resource's id
_SCRIPT = base64.b64encode(b"#!/bin/bash")[:12].decode()  # how user data begins
Graph = dict[str, dict[str, Any]]


def of_the_built_in_engine(stack: str) -> Graph:
    """The graph that an `up` makes in this process. No other cloud may be open."""
    with Cloud(START, seed=1) as cloud:
        World(cloud)
        engine = Engine(cloud)
        engine.up(ROOT, stack)
        return comparable(
            {
                urn: {
                    "id": resource.id,
                    "type": resource.type,
                    "inputs": resource.inputs,
                    "outputs": _names(resource.outputs) if resource.custom else [],
                    "parent": resource.parent,
                    "provider": resource.provider,
                    "dependencies": sorted(resource.dependencies),
                    "propertyDependencies": _sorted(resource.property_dependencies),
                    "protect": resource.protect,
                    "ignoreChanges": resource.ignore_changes,
                }
                for urn, resource in engine.state.resources.items()
            }
        )


def of_the_real_engine(exported: list[dict[str, Any]]) -> Graph:
    """The graph of the resources in an exported state."""
    return comparable(
        {
            one["urn"]: {
                "id": one.get("id", ""),
                "type": one["type"],
                "inputs": one.get("inputs", {}),
                "outputs": _names(one.get("outputs", {})) if one["custom"] else [],
                "parent": one.get("parent", ""),
                "provider": one.get("provider", "").rsplit("::", 1)[0],
                "dependencies": sorted(one.get("dependencies", [])),
                "propertyDependencies": _sorted(one.get("propertyDependencies", {})),
                "protect": one.get("protect", False),
                "ignoreChanges": one.get("ignoreChanges", []),
            }
            for one in exported
        }
    )


def comparable(graph: Graph) -> Graph:
    """Without what chance decides: made-up ids become the names of their resources; files become their content."""
    # A bucket's settings have the bucket's id: the first by URN lends its name, in whatever order they were made.
    made_up = [urn for urn in sorted(graph, reverse=True) if _MADE_UP.search(graph[urn]["id"])]
    chosen = {graph[urn]["id"]: f"<{urn.rsplit('::', 1)[1]}>" for urn in made_up}
    found: Graph = {}
    for urn, one in graph.items():
        if one["type"] == "pulumi:pulumi:Stack":
            continue
        inputs = _plain(one["inputs"])
        if one["type"].startswith("pulumi:providers:"):
            inputs.pop("version", None)  # which plugin the program's package asks for: for the engine alone
            one["outputs"] = [name for name in one["outputs"] if name != "version"]
        text = json.dumps({**one, "inputs": inputs}, sort_keys=True)
        for identifier in sorted(chosen, key=len, reverse=True):
            text = text.replace(identifier, chosen[identifier])
        found[urn] = json.loads(_POLICY.sub("scalingPolicy:<made up>", text))
    return found


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _value(value) for key, value in inputs.items() if not key.startswith("__")}


def _value(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_SCRIPT):
        return base64.b64decode(value).decode()  # it names the bucket
    if isinstance(value, dict) and "path" in value and {"hash", "sha256"} & set(value):
        return {"file": Path(value["path"]).name}  # its name is the hash of its content
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value


def _names(outputs: Mapping[str, Any]) -> list[str]:
    # The payload may be in the bucket a moment before the bucket is versioned: both are fine, and chance.
    return sorted(name for name in outputs if not name.startswith("__") and name != "versionId")


def _sorted(dependencies: Mapping[str, Any]) -> dict[str, list[str]]:
    return {key: sorted(urns or []) for key, urns in dependencies.items() if urns}
