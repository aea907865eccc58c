"""How commands print tables, moments and durations."""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

WIDE = 200  # columns where there is no terminal: nothing is cut off in a file or a pipe


def console() -> Any:
    """Where tables are printed; without colours or cut-off words in a file."""
    from rich.console import Console  # noqa: PLC0415 - only people need it

    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDE)


def table(heads: tuple[str, ...], rows: list[tuple[Any, ...]], figures: Collection[str] = ()) -> Any:
    """A table for `console`. Columns of whole numbers, and those named in `figures`, stand to the right; they and the
    first are never broken into lines."""
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column, head in enumerate(heads):
        number = head in figures or all(isinstance(row[column], int) for row in rows)
        made.add_column(head, justify="right" if number else "left", no_wrap=column == 0 or number)
    for row in rows:
        made.add_row(*map(str, row))
    return made


def time_text(at: float) -> str:
    """A moment as 2026-11-02 13:00:00 UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration_text(seconds: float) -> str:
    """How long, in its two largest units: 45 s, 5 min, 2 h 5 min, 3 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
