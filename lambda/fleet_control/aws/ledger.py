"""The control table as the guard uses it: ledgers, latch with its audit rows, budget row. Every write is conditional on
what was read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from ..spend_law import Latch
from ..spend_ledger import Ledger, month_bounds, month_of, opened
from . import runtime, witness
from .items import refused, write
from .store import get

WAITING_FRESH_S = 180.0  # a controller writes how many jobs wait at least every minute
RESERVED_S = 60.0  # a reserved launch is seen in the group's desired count long before this


@dataclass(frozen=True)
class Book:
    """A stored ledger with its version (0: not stored yet) and the guard's notes: spot prices seen, how many GPUs types
    have that the settings do not list, drains begun."""

    ledger: Ledger
    version: int = 0
    spot: Mapping[str, Any] = field(default_factory=dict)
    draining: Mapping[str, float] = field(default_factory=dict)
    gpus: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """What the guard read at the start of a tick. ``waiting``: jobs that wait in all fleets, None if nobody says.
    ``heard``: when each fleet's controller last stored its state; a fleet whose controller never did is not in it.
    ``completed``: running counts of completed jobs by fleet. ``notes``: of instances, by their events."""

    latch: Latch
    budget: Mapping[str, Any]
    book: Book
    waiting: int | None
    heard: Mapping[str, float] = field(default_factory=dict)
    completed: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, witness.Note] = field(default_factory=dict)


def read_control(table: str, fleets: Iterable[str], at: float) -> Control:
    """Latch, budget row, ledger, the controllers' rows and the notes of instances.

    Raises UnreadableError or ValueError: money fails closed.
    """
    month = f"ledger#{month_of(at)}"
    scalers = {fleet: f"scaler#{fleet}" for fleet in fleets}
    rows = get(table, ["latch", "budget", month, witness.ROW, *scalers.values()])
    book = _book(rows[month]) if month in rows else _latest_book(table, at)
    latch, _ = latch_of(rows.get("latch", {}))
    stored = {fleet: rows[name] for fleet, name in scalers.items() if "at" in rows.get(name, {})}
    fresh = [row for row in stored.values() if at - float(row["at"]) <= WAITING_FRESH_S]
    waiting = sum(int(row.get("waiting", 0)) for row in fresh) if fresh else None
    heard = {fleet: float(row["at"]) for fleet, row in stored.items()}
    completed = {fleet: float(row["completed"]) for fleet, row in stored.items() if "completed" in row}
    notes = witness.notes_of(rows.get(witness.ROW, {}))
    return Control(latch, rows.get("budget", {}), book, waiting, heard, completed, notes)


def _latest_book(table: str, at: float) -> Book:
    """The newest ledger of the last twelve months, to be carried into this one; a new one if there is none."""
    months, start = [], month_bounds(month_of(at))[0]
    for _ in range(12):
        months.append(month_of(start - 1))
        start = month_bounds(months[-1])[0]
    rows = get(table, [f"ledger#{month}" for month in months])
    found = [rows[f"ledger#{month}"] for month in months if f"ledger#{month}" in rows]
    return _book(found[0]) if found else Book(opened(at))


def _book(row: Mapping[str, Any]) -> Book:
    notes = [json.loads(row.get(name) or "{}") for name in ("spot", "draining", "gpus")]
    return Book(Ledger.from_json(row["record"]), int(row["version"]), *notes)


def save_ledgers(table: str, book: Book, ledgers: tuple[Ledger, ...]) -> Book | None:
    """Stores the ledgers that a tick made of ``book``, oldest first; the newest as a book, None if another run was
    faster. A run that is cut in between is made good by the next: the older month then reads as charged to its end.
    """
    version, stored = book.version, None
    for ledger in ledgers:
        known = version if ledger.month == book.ledger.month else 0
        stored = _put(table, replace(book, ledger=ledger, version=known))
        if stored is None:
            return None
    return stored


def _put(table: str, book: Book) -> Book | None:
    ledger = book.ledger
    values = {
        "version": book.version + 1,
        "month": ledger.month,
        "at": ledger.metered_at,
        "spent_usd": ledger.spent_usd,
        "record": ledger.to_json(),
        "spot": json.dumps(book.spot, separators=(",", ":")),
        "draining": json.dumps(book.draining, separators=(",", ":")),
        "gpus": json.dumps(book.gpus, separators=(",", ":")),
    }
    condition = "version = :known" if book.version else "attribute_not_exists(version)"
    known = {"known": book.version} if book.version else {}
    if _update(table, f"ledger#{ledger.month}", values, condition, known):
        return replace(book, version=book.version + 1)
    return None


def latch_of(row: Mapping[str, Any]) -> tuple[Latch, Mapping[str, list[str]]]:
    """The latch row as the law's latch and the processes the guard suspended by group."""
    latch = Latch(
        latched=bool(row.get("latched", False)),
        reason=str(row.get("reason", "")),
        generation=int(row.get("generation", 0)),
        at=float(row.get("at", 0)),
        by=str(row.get("by", "")),
        month=str(row.get("month", "")),
        note=str(row.get("note", "")),
        extra_usd=float(row.get("extra_usd", 0)),
        extra_month=str(row.get("extra_month", "")),
    )
    return latch, row.get("suspended") or {}


def read_latch(table: str) -> tuple[Latch, Mapping[str, list[str]]]:
    """The latch as it is now."""
    return latch_of(get(table, ["latch"]).get("latch", {}))


def save_latch(table: str, before: Latch, after: Latch, figures: Mapping[str, Any]) -> bool:
    """Changes the latch from one generation to the next, and keeps for the record who did so and at which ``figures``;
    both or neither. False if somebody else changed it first."""
    condition = "generation = :before" if before.generation else "attribute_not_exists(generation)"
    known = {"before": before.generation} if before.generation else {}
    entry = {
        "pk": f"audit#{after.generation}",
        "generation": after.generation,
        "at": after.at,
        "by": after.by,
        "action": "stop" if after.latched else "resume",
        "reason": after.reason or before.reason,
        "note": after.note,
        "extra_usd": after.extra_usd if after.extra_month == month_of(after.at) else 0.0,
        **figures,
    }
    audit = {"TableName": table, "Item": write(entry)}  # on no condition of its own: it must never hold a stop up
    update = _change(table, "latch", vars(after), condition, known)
    try:
        runtime.client("dynamodb").transact_write_items(TransactItems=[{"Update": update}, {"Put": audit}])
    except ClientError as error:
        reasons = error.response.get("CancellationReasons", ())  # type: ignore[typeddict-item]
        if {reason.get("Code") for reason in reasons} & {"ConditionalCheckFailed", "TransactionConflict"}:
            return False
        raise
    return True


def record_suspended(table: str, latch: Latch, group: str, processes: list[str]) -> bool:
    """Notes what the guard is about to suspend, while ``latch`` still stands; False if it does not. A list of groups
    that a run at the same time has begun is gone on with."""
    condition = "generation = :now AND latched = :stands"
    known = {"now": latch.generation, "stands": latch.latched}
    _update(table, "latch", {"suspended": {}}, f"{condition} AND attribute_not_exists(suspended)", known)
    return _update(table, "latch", {"suspended." + group: processes}, condition, known)


def save_budget(table: str, seen: Mapping[str, Any], values: Mapping[str, Any], headroom: float, at: float) -> bool:
    """Publishes the month's figures and what launches may still cost. False if a launch was reserved meanwhile.

    What a controller reserved within the last minute stays taken out: its launch may not show in any group yet.
    """
    reserved = reserved_usd(seen, at)
    full = {**values, "at": at, "headroom_usd": max(0.0, headroom - reserved), "reserved_usd": reserved}
    if "reserved_usd" in seen:
        return _update(table, "budget", full, "reserved_usd = :seen", {"seen": seen["reserved_usd"]})
    return _update(table, "budget", full, "attribute_not_exists(reserved_usd)", {})


def reserved_usd(budget: Mapping[str, Any], at: float) -> float:
    """What controllers took out of the budget row's headroom within the last minute."""
    recent = at - float(budget.get("reserved_at", 0)) <= RESERVED_S
    return float(budget.get("reserved_usd", 0)) if recent else 0.0


def read_budget(table: str) -> Mapping[str, Any]:
    """The budget row as it is now."""
    return get(table, ["budget"]).get("budget", {})


def _update(table: str, key: str, values: Mapping[str, Any], condition: str, known: Mapping[str, Any]) -> bool:
    """Sets attributes (a name with a dot: one entry of a map) if the condition holds."""
    try:
        runtime.client("dynamodb").update_item(**_change(table, key, values, condition, known))
    except ClientError as error:
        if refused(error):
            return False
        raise
    return True


def _change(
    table: str, key: str, values: Mapping[str, Any], condition: str, known: Mapping[str, Any]
) -> dict[str, Any]:
    names: dict[str, str] = {}
    sets = []
    for index, (name, _) in enumerate(values.items()):
        parts = name.split(".", 1)
        path = [f"#n{index}_{part}" for part in range(len(parts))]
        names.update(zip(path, parts, strict=True))
        sets.append(f"{'.'.join(path)} = :v{index}")
    given = {f":v{index}": value for index, value in enumerate(values.values())}
    given |= {f":{name}": value for name, value in known.items()}
    return {
        "TableName": table,
        "Key": write({"pk": key}),
        "UpdateExpression": "SET " + ", ".join(sets),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": write(given),
    }
