"""The control API under `/_twin/`: what only an embedded cloud has, looking at everything and letting time pass."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from ..services.metrics import key_of
from ..world import World
from .messages import HttpAnswer, HttpRequest

ROOT = "/_twin/"


class ControlError(Exception):
    """A request to the control API that makes no sense; the text says what would."""


def status(world: World) -> dict[str, Any]:
    """The account at one moment, as JSON: queues, groups, functions, the bill, failed invocations."""
    return {
        "now": world.now(),
        "region": world.cloud.region,
        "accountId": world.cloud.account_id,
        "queues": {name: _queue(entry.queue.counts()) for name, entry in sorted(world.services.sqs.queues.items())},
        "groups": {name: _group(group) for name, group in sorted(world.scaling.groups.items())},
        "functions": {name: _function(world, name) for name in sorted(world.services.functions.functions)},
        "spentUsd": round(world.bill.total(), 4),
        "failures": len(world.services.functions.failures),
    }


def _queue(counts: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("visible", "inFlight", "delayed"), counts, strict=True))


def _group(group: Any) -> dict[str, Any]:
    return {
        "min": group.min_size,
        "max": group.max_size,
        "desired": group.desired,
        "suspended": sorted(group.suspended),
        "instances": dict(Counter(member.state for member in group.members.values())),
    }


def _function(world: World, name: str) -> dict[str, Any]:
    functions = world.services.functions
    last = next((r["record"] for r in reversed(functions.records) if r["function"] == name), {})
    points = world.services.cloudwatch.store.series.get(key_of("AWS/Lambda", "Invocations", {"FunctionName": name}), {})
    return {
        "invocations": int(sum(point.total for point in points.values())),
        "errors": sum(failure["function"] == name for failure in functions.failures),
        "last": _words(last),
    }


def _words(record: dict[str, Any]) -> str:
    """What a log record says to people: its reason, else its message, else all of it."""
    if not record:
        return ""
    for key in ("reason", "message", "event"):
        if isinstance(record.get(key), str):
            return record[key]
    return json.dumps(record)


def advanced(world: World, request: HttpRequest) -> HttpAnswer:
    """`{"seconds": 600}`: let virtual time pass, then answer the status."""
    world.run_for(_seconds(request.body))
    return HttpAnswer.of_json(status(world))


def _seconds(body: bytes) -> float:
    try:
        seconds = json.loads(body)["seconds"]
    except (ValueError, KeyError, TypeError):
        seconds = None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ControlError('POST /_twin/advance takes {"seconds": <number from 0 on>}')
    return float(seconds)
