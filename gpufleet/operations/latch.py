"""The control table as an operator's commands see it: the latch, the guard's figures beside it, and the audit.

A change of the latch is one transaction: the row `latch`, on the condition that it still has the generation that was
read, and the row `audit#<generation>`, which says who did what, when, and at which figures. Somebody else's change in
between therefore stands, and nothing is written. The guard writes both rows in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

FRESH_S = 180.0  # the guard writes its figures every minute, also while stopped
KEYS_AT_ONCE = 100  # the most that BatchGetItem takes (DynamoDB API reference)
TRIES = 5  # for rows that DynamoDB holds back when it is throttled

Row = Mapping[str, Any]


class LatchError(Exception):
    """The latch stays as it is: why, and what to do about it."""


@dataclass(frozen=True)
class Latch:
    """The row `latch`; unix seconds, dollars. A table without the row has the latch of a stack that never stopped.

    `month` ("2026-11"): of the change. `extra_usd`: what was allowed on top of the budget of `extra_month`.
    """

    latched: bool = False
    reason: str = ""
    generation: int = 0
    at: float = 0.0
    by: str = ""
    month: str = ""
    note: str = ""
    extra_usd: float = 0.0
    extra_month: str = ""

    def allowed_usd(self, month: str) -> float:
        """Dollars that were allowed on top of the budget of `month`."""
        return self.extra_usd if self.extra_month == month else 0.0


@dataclass(frozen=True)
class Figures:
    """The row `budget`: what the guard wrote at its last tick, in dollars. `monthly_usd` is the stack's own budget."""

    at: float
    month: str
    spent_usd: float
    committed_usd: float
    launch_usd: float
    monthly_usd: float


@dataclass(frozen=True)
class State:
    """What is stored now. `figures`: None if the guard has never run."""

    latch: Latch
    figures: Figures | None

    @property
    def known(self) -> Figures:
        """The figures. Raises `LatchError` if there are none."""
        if self.figures is None:
            raise LatchError("the guard has not written any figures yet: is its schedule enabled?")
        return self.figures

    @property
    def budget_usd(self) -> float:
        """The budget of the figures' month, with what was allowed on top."""
        return self.known.monthly_usd + self.latch.allowed_usd(self.known.month)

    @property
    def sums(self) -> str:
        """What the law looks at, for people. The audit keeps the same numbers."""
        extra = self.latch.allowed_usd(self.known.month)
        allowed = f" (${self.known.monthly_usd:.2f}, and ${extra:.2f} allowed in {self.known.month})" if extra else ""
        return (
            f"${self.known.spent_usd:.2f} spent + ${self.known.committed_usd:.2f} committed, "
            f"budget ${self.budget_usd:.2f}{allowed}"
        )

    def moment(self, at: float) -> float:
        """`at`, or the guard's last tick if that is later: of two clocks the one that has gone further decides which
        month it is."""
        return max(at, self.figures.at) if self.figures else at

    def silent_s(self, at: float) -> float:
        """For how long the guard has written nothing; infinite if it never did."""
        return max(0.0, at - self.figures.at) if self.figures else float("inf")


def read(dynamodb: Any, control_table: str) -> State:
    """Latch and figures as they are now, in one consistent call (dynamodb:BatchGetItem)."""
    rows = get(dynamodb, control_table, ["latch", "budget"])
    return State(_latch(rows.get("latch", {})), _figures(rows["budget"]) if "budget" in rows else None)


def _latch(row: Row) -> Latch:
    return Latch(
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


def _figures(row: Row) -> Figures:
    dollars = {name: float(row.get(f"{name}_usd", 0)) for name in ("spent", "committed", "launch", "monthly")}
    return Figures(
        at=float(row.get("at", 0)),
        month=str(row.get("month", "")),
        **{f"{name}_usd": usd for name, usd in dollars.items()},
    )


def change(
    dynamodb: Any, control_table: str, before: State, after: Latch, budget_usd: float | None, waiting: int | None
) -> None:
    """Store the latch `after`, the next generation of `before`, with its audit row; both or neither.

    `budget_usd`: the budget that it was decided on; `waiting`: jobs that wait; None: not known. Needs
    dynamodb:UpdateItem and PutItem. Raises `LatchError` if somebody else changed the latch since `before` was read.
    """
    figures = before.figures
    audit = {
        "pk": f"audit#{after.generation}",
        "generation": after.generation,
        "at": after.at,
        "by": after.by,
        "action": "stop" if after.latched else "resume",
        "reason": after.reason or before.latch.reason,
        "note": after.note,
        "spent_usd": figures.spent_usd if figures else None,
        "committed_usd": figures.committed_usd if figures else None,
        "budget_usd": budget_usd,
        "waiting": waiting,
        "extra_usd": after.allowed_usd(month_of(after.at)),
    }
    update = _update(control_table, before.latch, after)
    # No condition on the audit row: whoever deleted the latch row by hand began its generations anew, and a row that is
    # there from before must not keep the fleet from being stopped.
    put = {"TableName": control_table, "Item": {name: _attribute(value) for name, value in audit.items()}}
    try:
        dynamodb.transact_write_items(TransactItems=[{"Update": update}, {"Put": put}])
    except ClientError as error:
        codes = {reason.get("Code") for reason in error.response.get("CancellationReasons", [])}  # type: ignore[typeddict-item]
        if codes & {"ConditionalCheckFailed", "TransactionConflict"}:
            raise LatchError("the latch was changed by somebody else just now, nothing was done: look again") from None
        raise


def _update(table: str, before: Latch, after: Latch) -> dict[str, Any]:
    values = vars(after)
    condition = "generation = :known" if before.generation else "attribute_not_exists(generation)"
    known = {":known": _attribute(before.generation)} if before.generation else {}
    return {
        "TableName": table,
        "Key": {"pk": {"S": "latch"}},
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in values),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in values},
        "ExpressionAttributeValues": {**{f":{name}": _attribute(value) for name, value in values.items()}, **known},
    }


def audits(dynamodb: Any, control_table: str, newest: int, last: int) -> list[Row]:
    """The last audit rows, newest first: at most `last` of those up to generation `newest`. What was changed before
    there was an audit has no row."""
    found: list[Row] = []
    while newest > 0 and len(found) < last:
        generations = range(newest, max(0, newest - KEYS_AT_ONCE), -1)
        rows = get(dynamodb, control_table, [f"audit#{generation}" for generation in generations])
        found += [rows[key] for generation in generations if (key := f"audit#{generation}") in rows]
        newest -= len(generations)
    return found[:last]


def get(dynamodb: Any, control_table: str, keys: Iterable[str]) -> dict[str, Row]:
    """The rows with these keys, as plain values, by key; at most 100. Raises `LatchError` if DynamoDB keeps holding
    some back."""
    asked: Any = {"Keys": [{"pk": {"S": key}} for key in keys], "ConsistentRead": True}
    found: dict[str, Row] = {}
    for _ in range(TRIES):
        answer = dynamodb.batch_get_item(RequestItems={control_table: asked})
        for item in answer["Responses"].get(control_table, []):
            row = {name: _plain(value) for name, value in item.items()}
            found[row["pk"]] = row
        asked = answer.get("UnprocessedKeys", {}).get(control_table)
        if not asked:
            return found
    raise LatchError(f"the table {control_table} is throttled, rows were held back {TRIES} times: try again")


def _plain(value: Mapping[str, Any]) -> Any:
    ((kind, inner),) = value.items()
    match kind:
        case "N":
            return float(inner)
        case "NULL":
            return None
        case "M":
            return {name: _plain(one) for name, one in inner.items()}
        case "L":
            return [_plain(one) for one in inner]
        case _:
            return inner


def _attribute(value: str | bool | float | None) -> dict[str, Any]:
    """As the guard writes them: floats keep 15 digits."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    return {"S": value} if isinstance(value, str) else {"N": f"{value:.15g}"}


def month_of(at: float) -> str:
    """The UTC month of unix time `at`, as "2026-11"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")
