"""What is wrong with a stack's settings, in words a user can act on."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pulumi

_WIDTH = 100


@dataclass(frozen=True)
class Fault:
    """One fault: the key, the value found there, the rule it breaks, and what to do."""

    key: str
    value: str
    rule: str
    fix: str


class SettingsError(pulumi.RunError):
    """Every fault of one source of settings at once.

    A `pulumi.RunError`, so that `pulumi up` prints the message alone, without a traceback.
    """

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        super().__init__(_render(source, self.faults))


def _render(source: str, faults: Sequence[Fault]) -> str:
    lines = [f"{source}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}"]
    for fault in faults:
        lines += ["", f"  {fault.key}"]
        rows = (("value", fault.value), ("rule", fault.rule), ("fix", fault.fix))
        lines += [f"    {name:<6} {text}" for name, text in rows if text]
    return "\n".join(lines)


def shown(value: object) -> str:
    """A value as one short line; never longer than a line, however large, nested or recursive it is."""
    text = _shown(value, 4)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _shown(value: object, depth: int) -> str:
    if isinstance(value, str):
        return " ".join("".join(c if c.isprintable() else " " for c in value[: _WIDTH * 2]).split()) or '""'
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _nested(value, depth - 1) if depth else "..."
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**_WIDTH:
        return "a very large number"
    return str(value)[: _WIDTH * 2]


def _nested(value: Mapping | Iterable, depth: int) -> str:
    if isinstance(value, Mapping):
        pairs = itertools.islice(value.items(), 8)
        return "{" + ", ".join(f"{_shown(k, 1)}: {_shown(v, depth)}" for k, v in pairs) + "}"
    return "[" + ", ".join(_shown(item, depth) for item in itertools.islice(value, 8)) + "]"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely meant, ignoring case; None if none is near."""
    by_lower = {one.lower(): one for one in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None
