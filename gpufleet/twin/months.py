"""Months as bills know them: UTC, written "2026-11"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache


def month_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


@lru_cache(maxsize=64)
def month_bounds(month: str) -> tuple[float, float]:
    """Unix seconds of the month's start and of the next one's."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.timestamp(), following.timestamp()


def months_between(start: float, end: float) -> list[str]:
    """The months that have a moment from `start` to before `end`."""
    found = [month_of(start)]
    while month_bounds(found[-1])[1] < end:
        found.append(month_of(month_bounds(found[-1])[1]))
    return found
