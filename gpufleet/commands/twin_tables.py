"""What `gpufleet twin` shows of a cloud's status: tables of everything, or what two of them differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .tables import console, table, time_text

NOTHING = "nothing is deployed yet: pulumi stack init dev && pulumi up --stack dev"
QUEUE_WORDS = {"visible": "visible", "inFlight": "in flight", "delayed": "delayed"}


def show(status: Mapping[str, Any]) -> None:
    """Print a status as the control API answers it."""
    out = console()
    failed = status["failures"]
    out.print(
        f"it is {time_text(status['now'])} there; ${status['spentUsd']:.2f} spent this month"
        f"{f'; {failed} function runs failed' if failed else ''}"
    )
    if not (status["groups"] or status["queues"] or status["functions"]):
        out.print(NOTHING)
    for one in _tables(status):
        out.print()
        out.print(one)


def _tables(status: Mapping[str, Any]) -> Iterator[Any]:
    if status["groups"]:
        yield table(
            ("group", "min", "max", "desired", "instances", "suspended"),
            [
                (name, g["min"], g["max"], g["desired"], _instances(g) or "-", ", ".join(g["suspended"]) or "-")
                for name, g in status["groups"].items()
            ],
        )
    if status["queues"]:
        rows = [(name, *(queue[key] for key in QUEUE_WORDS)) for name, queue in status["queues"].items()]
        yield table(("queue", *QUEUE_WORDS.values()), rows)
    if status["functions"]:
        rows = [(name, f["invocations"], f["errors"], f["last"] or "-") for name, f in status["functions"].items()]
        yield table(("function", "runs", "errors", "said last"), rows)


def _instances(group: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(group["instances"].items()))


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What became different between two statuses, in a line each; the first one says what time it is now."""
    found: list[tuple[str, str]] = []
    for name, group in after["groups"].items():
        old = before["groups"].get(name) or {}
        found.append((name, _group_change(old, group)))
    for name, queue in after["queues"].items():
        old = before["queues"].get(name) or {}
        parts = [_change(word, old.get(key, 0), queue[key]) for key, word in QUEUE_WORDS.items()]
        found.append((name, "  ".join(filter(None, parts))))
    for name, function in after["functions"].items():
        old = before["functions"].get(name) or {}
        found.append((name, _change("errors", old.get("errors", 0), function["errors"])))
    dollars = [f"${status['spentUsd']:.2f}" for status in (before, after)]
    found.append(("spent this month", _change("", *dollars)))
    told = [(name, what) for name, what in found if what]
    width = max((len(name) for name, _ in told), default=0)
    lines = [f"  {name:<{width}}  {what}" for name, what in told] or ["  nothing else changed"]
    return [f"it is {time_text(after['now'])} there", *lines]


def _group_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    parts = [_change(key, old.get(key, 0), new[key]) for key in ("min", "max", "desired")]
    states = {"instances": {}, "suspended": [], **old}
    parts.append(_change("instances", _instances(states) or "none", _instances(new) or "none"))
    parts.append(_change("suspended", ", ".join(states["suspended"]) or "none", ", ".join(new["suspended"]) or "none"))
    return "  ".join(filter(None, parts))


def _change(word: str, old: object, new: object) -> str:
    return "" if old == new else f"{word} {old} -> {new}".strip()
