"""`node.json` as frozen data. A wrong file names all of its faults at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_PATH = "/etc/inference/node.json"


class ConfigError(ValueError):
    """node.json cannot be used; the message lists every fault."""


@dataclass(frozen=True)
class ModelConfig:
    """The model server: weights (s3 prefix), image (by digest), its arguments, concurrent jobs, loopback port."""

    weights: str
    image: str
    server_args: tuple[str, ...]
    slots: int
    port: int


@dataclass(frozen=True)
class NodeConfig:
    """What a node knows about its fleet. Fields ending in `_s` are seconds."""

    region: str
    stack: str
    fleet: str
    groups: tuple[str, ...]
    launch_hook: str | None
    terminate_hook: str | None
    queue_url: str
    dead_letter_url: str
    jobs_table: str
    bucket: str
    lease_s: int
    drain_s: int
    boot_deadline_s: int
    allowance: bool
    max_receive_count: int
    job_timeout_s: int
    model: ModelConfig


Rule = tuple[Callable[[Any], bool], str]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _whole(low: int, high: int) -> Rule:
    return (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"a whole number from {low} to {high}",
    )


TEXT: Rule = (_text, "a text that is not empty")
NAME_OR_NULL: Rule = (lambda value: value is None or _text(value), "a name, or null for none")
TEXTS: Rule = (
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "a list of texts",
)
NAMES: Rule = (
    lambda value: isinstance(value, list) and bool(value) and all(map(_text, value)),
    "a list of names, not empty",
)
FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
URL: Rule = (lambda value: _text(value) and value.startswith(("https://", "http://")), "a URL of a queue")
WEIGHTS: Rule = (lambda value: _text(value) and value.startswith("s3://"), "an s3:// prefix")
IMAGE: Rule = (lambda value: _text(value) and "@sha256:" in value, "an image by digest (...@sha256:...)")

NODE_RULES: dict[str, Rule] = {
    "region": TEXT,
    "stack": TEXT,
    "fleet": TEXT,
    "groups": NAMES,
    "launch_hook": NAME_OR_NULL,
    "terminate_hook": NAME_OR_NULL,
    "queue_url": URL,
    "dead_letter_url": URL,
    "jobs_table": TEXT,
    "bucket": TEXT,
    # SQS hides a message for 12 h at most; under 30 s three heartbeats no longer fit into a lease.
    "lease_s": _whole(30, 43_200),
    "drain_s": _whole(1, 43_200),
    "boot_deadline_s": _whole(60, 43_200),
    "allowance": FLAG,
    # Below 3 there is no receive left in which a message near the limit could be copied. SQS allows 1000.
    "max_receive_count": _whole(3, 1_000),
    # SQS ends a message's time in flight 12 h after it was received, whatever the heartbeats say.
    "job_timeout_s": _whole(1, 40_000),
}
MODEL_RULES: dict[str, Rule] = {
    "weights": WEIGHTS,
    "image": IMAGE,
    "server_args": TEXTS,
    "slots": _whole(1, 256),
    "port": _whole(1, 65_535),
}


def parse(document: Any) -> NodeConfig:
    """Return the configuration in `document` (node.json, decoded); raise ConfigError naming every fault."""
    if not isinstance(document, Mapping):
        raise ConfigError("node.json: must be an object")
    node = {key: value for key, value in document.items() if key != "model"}
    model = document.get("model")
    faults = _faults("", node, NODE_RULES)
    if isinstance(model, Mapping):
        faults += _faults("model.", model, MODEL_RULES)
    else:
        faults.append("model: missing or not an object")
    if faults or not isinstance(model, Mapping):
        raise ConfigError("node.json cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults))
    return NodeConfig(
        **{**node, "groups": tuple(node["groups"])},
        model=ModelConfig(**{**model, "server_args": tuple(model["server_args"])}),
    )


def load(path: str = DEFAULT_PATH) -> NodeConfig:
    """Read and check the file at `path`; raise ConfigError if it is missing, not JSON or wrong."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise ConfigError(f"{path}: not JSON: {problem}") from problem
    return parse(document)


def _faults(prefix: str, document: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    faults = [f"{prefix}{key}: unknown key" for key in document if key not in rules]
    for key, (holds, rule) in rules.items():
        if key not in document:
            faults.append(f"{prefix}{key}: missing; must be {rule}")
        elif not holds(document[key]):
            faults.append(f"{prefix}{key}: {document[key]!r} must be {rule}")
    return faults
