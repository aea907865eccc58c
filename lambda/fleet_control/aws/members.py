"""What the controller remembers of each instance, and what became of those that were booting.

Auto Scaling does not tell when an instance was first there, when it came into service, or that one left before it did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..health_law import Mark
from .groups import Group, Member


@dataclass(frozen=True)
class Known:
    """One instance that is there: since when it has been seen, since when in service. ``version``: of its launch
    template, as long as the outcome of its boot is open. ``mark``: see ``health_law``."""

    first: float
    served: float | None = None
    version: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Lost:
    """An instance of template ``version`` that left without having come into service; ``first`` seen when."""

    id: str
    version: str
    first: float


@dataclass(frozen=True)
class Memory:
    """The instances by id, and when which dead or hung one was last replaced (noted before it is done)."""

    known: Mapping[str, Known] = field(default_factory=dict)
    replaced_at: float = 0.0
    replaced: str = ""

    def to_json(self) -> str:
        """Compact JSON: 40 to 100 bytes an instance."""
        rows = {name: _row(one) for name, one in self.known.items()}
        noted = {"replaced_at": self.replaced_at, "replaced": self.replaced}
        return json.dumps({**noted, "known": rows}, separators=(",", ":"))

    @staticmethod
    def from_json(text: Any) -> Memory:
        """What was stored; nothing if there is nothing, or it is damaged."""
        try:
            data = json.loads(text or "{}")
            known = {name: _known(*row) for name, row in data.get("known", {}).items()}
            return Memory(known, float(data.get("replaced_at", 0)), str(data.get("replaced", "")))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return Memory()


def _row(one: Known) -> list[Any]:
    row: list[Any] = [round(one.first, 1), None if one.served is None else round(one.served, 1), one.version]
    if one.mark is not None:
        row += [round(one.mark.since, 1), one.mark.completed, one.mark.worked_s, one.mark.others]
    return row if len(row) > 3 or one.version else row[:2]


def _known(first: Any, served: Any, version: Any = "", *mark: Any) -> Known:
    numbers = [float(one) for one in mark]
    return Known(
        float(first),
        None if served is None else float(served),
        str(version),
        Mark(*numbers) if len(numbers) == 4 else None,
    )


def remember(memory: Memory, groups: Mapping[str, Group], at: float) -> tuple[Memory, frozenset[str], tuple[Lost, ...]]:
    """The memory after a look at the groups (by pool), which template versions an instance newly in service proves, and
    whose boot ended without service since the last look."""
    known: dict[str, Known] = {}
    proven: set[str] = set()
    members = [member for group in groups.values() for member in group.members]
    for member in members:
        before = memory.known.get(member.id)
        now = known[member.id] = _seen(member, before, at)
        if now.served is not None and (before is None or before.served is None):
            proven.add(member.template)
    lost = tuple(
        Lost(name, before.version, before.first)
        for name, before in memory.known.items()
        if before.version and (name not in known or (known[name].served is None and not known[name].version))
    )
    here = any(member.id == memory.replaced and not member.leaving for member in members)  # so nothing came of it
    noted = (0.0, "") if here else (memory.replaced_at, memory.replaced)
    return Memory(known, *noted), frozenset(proven), lost


def _seen(member: Member, before: Known | None, at: float) -> Known:
    first = at if before is None else min(before.first, at)
    served = before.served if before else None
    if served is None and member.state == "InService":
        served = at
    booting = served is None and not member.leaving
    return Known(first, served, member.template if booting else "", before.mark if before and not booting else None)
