"""The control table as the controller uses it: its lease and state, the latch, and the admission of launches.

Rows by ``pk``: ``scaler#<fleet>`` (fence, state, seen, boots, waiting, completed, at, acted_at), ``latch``, ``budget``.
A run holds the lease as long as the stored fence is its own; what it stores and does is conditional on that. ``boots``
is stored as soon as it changes and read at every look, so that removing it by hand ends a hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from . import runtime
from .items import attribute, read, refused, write


class UnreadableError(RuntimeError):
    """A row could not be read in full; nothing may be decided on what is missing."""


@dataclass(frozen=True)
class Lease:
    """The right to act for a fleet: the fence this run holds, and the row that the run before it left."""

    fence: int
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """The control rows of one look. ``own``: the fleet's (its fence is the newest one); any is empty if never
    written."""

    own: Mapping[str, Any] = field(default_factory=dict)
    latch: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fence(self) -> int:
        """The fence of the run that holds the lease."""
        return int(self.own.get("fence", 0))

    @property
    def boots(self) -> str:
        """The facts about boots, as stored."""
        return str(self.own.get("boots") or "")

    @property
    def latched(self) -> bool:
        """Whether the fleet is stopped."""
        return bool(self.latch.get("latched"))

    @property
    def generation(self) -> int:
        """The latch's generation; 0 if it was never set."""
        return int(self.latch.get("generation", 0))

    @property
    def latch_at(self) -> float:
        """When the fleet was stopped or resumed last; 0 if never."""
        return float(self.latch.get("at", 0))

    def suspended(self, groups: Any) -> dict[str, list[str]]:
        """Processes the guard suspended, by group, for those of ``groups`` that still wait to be resumed."""
        recorded = self.latch.get("suspended") or {}
        return {name: list(recorded[name]) for name in groups if name in recorded}


def take_lease(table: str, fleet: str) -> Lease:
    """Takes the lease from whichever run holds it."""
    answer = runtime.client("dynamodb").update_item(
        TableName=table,
        Key=write({"pk": f"scaler#{fleet}"}),
        UpdateExpression="ADD fence :one",
        ExpressionAttributeValues={":one": attribute(1)},
        ReturnValues="ALL_NEW",
    )
    row = read(answer["Attributes"])
    return Lease(fence=int(row["fence"]), row=row)


def get(table: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The rows with these keys, by key, in one consistent read. Raises UnreadableError if DynamoDB held one back."""
    keys = [write({"pk": name}) for name in names]
    answer = runtime.client("dynamodb").batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
    if answer.get("UnprocessedKeys"):
        raise UnreadableError(f"control table {table}: DynamoDB held rows back (throttled)")
    return {row["pk"]: row for row in map(read, answer["Responses"].get(table, []))}


def read_rows(table: str, fleet: str) -> Rows:
    """Latch, budget and lease at one moment. Raises UnreadableError."""
    scaler = f"scaler#{fleet}"
    rows = get(table, ("latch", "budget", scaler))
    return Rows(rows.get(scaler, {}), rows.get("latch", {}), rows.get("budget", {}))


@dataclass(frozen=True)
class Record:
    """What a run stores: the law's state, its memory of the instances, the facts about boots, the jobs that wait and
    those completed so far (both for the guard), and when something was last changed."""

    state: str
    seen: str
    boots: str
    waiting: int
    completed: float
    acted_at: float


def save(table: str, fleet: str, fence: int, record: Record, at: float) -> bool:
    """Stores what the run knows, if it still holds the lease; False if a newer run took it."""
    values = {f":{name}": value for name, value in vars(record).items()}
    try:
        runtime.client("dynamodb").update_item(
            TableName=table,
            Key=write({"pk": f"scaler#{fleet}"}),
            UpdateExpression="SET #state = :state, seen = :seen, boots = :boots, waiting = :waiting, "
            "completed = :completed, acted_at = :acted_at, #at = :at",
            ConditionExpression="fence = :fence",
            ExpressionAttributeNames={"#state": "state", "#at": "at"},
            ExpressionAttributeValues=write({**values, ":fence": fence, ":at": at}),
        )
    except ClientError as error:
        if refused(error):
            return False
        raise
    return True


def reserve(table: str, usd: float, at: float, oldest: float) -> bool:
    """Takes ``usd`` out of the headroom that the guard published not before ``oldest``; False if it is not there.

    Fleets that share a guard reserve from the same row, so one dollar admits one launch. The guard keeps what was
    reserved within its last minute out of the next headroom, until the launch itself is seen.
    """
    try:
        runtime.client("dynamodb").update_item(
            TableName=table,
            Key=write({"pk": "budget"}),
            UpdateExpression="SET headroom_usd = headroom_usd - :usd, reserved_at = :at ADD reserved_usd :usd",
            ConditionExpression="headroom_usd >= :usd AND #at >= :oldest",
            ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues=write({":usd": usd, ":at": at, ":oldest": oldest}),
        )
    except ClientError as error:
        if refused(error):
            return False
        raise
    return True


def forget_suspended(table: str, group: str, generation: int) -> bool:
    """Removes a resumed group from the latch's list; False if the latch has changed since it was read."""
    try:
        runtime.client("dynamodb").update_item(
            TableName=table,
            Key=write({"pk": "latch"}),
            UpdateExpression="REMOVE suspended.#group",
            ConditionExpression="generation = :generation AND latched = :no",
            ExpressionAttributeNames={"#group": group},
            ExpressionAttributeValues=write({":generation": generation, ":no": False}),
        )
    except ClientError as error:
        if refused(error):
            return False
        raise
    return True
