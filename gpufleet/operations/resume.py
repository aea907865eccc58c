"""Resume: clear the latch of a stopped stack, if the spend law would not trip again at once.

Only the latch changes here. The controller then lifts what the guard suspended, and launches for what waits; so a
resume by somebody without rights on the groups, or one that is cut in the middle, leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

FRESH_S = 180.0  # the guard writes its figures every minute, also while stopped


class ResumeError(Exception):
    """The fleet stays stopped: why, and what to do about it."""


@dataclass(frozen=True)
class Latch:
    """The latch as stored, with the month's figures beside it (dollars; unix seconds)."""

    latched: bool
    reason: str
    note: str
    generation: int
    spent_usd: float
    committed_usd: float
    launch_usd: float
    monthly_usd: float
    figures_at: float

    @property
    def sums(self) -> str:
        return f"${self.spent_usd:.2f} spent + ${self.committed_usd:.2f} committed, budget ${self.monthly_usd:.2f}"


def read(dynamodb: Any, control_table: str) -> Latch:
    """The latch and the guard's newest figures. Raises `ResumeError` if the guard has never run."""
    rows = {
        key: dynamodb.get_item(TableName=control_table, Key={"pk": {"S": key}}, ConsistentRead=True).get("Item", {})
        for key in ("latch", "budget")
    }
    latch, budget = rows["latch"], rows["budget"]
    if not budget:
        raise ResumeError(f"the guard has not written any figures into {control_table} yet: is its schedule enabled?")
    return Latch(
        latched=latch.get("latched", {}).get("BOOL", False),
        reason=latch.get("reason", {}).get("S", ""),
        note=latch.get("note", {}).get("S", ""),
        generation=int(_number(latch, "generation")),
        spent_usd=_number(budget, "spent_usd"),
        committed_usd=_number(budget, "committed_usd"),
        launch_usd=_number(budget, "launch_usd"),
        monthly_usd=_number(budget, "monthly_usd"),
        figures_at=_number(budget, "at"),
    )


def check(latch: Latch, at: float) -> None:
    """Raise `ResumeError` unless the fleet is stopped and, by the guard's fresh figures, may run again."""
    if not latch.latched:
        raise ResumeError("nothing to resume: the fleet is not stopped")
    if at - latch.figures_at > FRESH_S:
        raise ResumeError(
            f"the guard's figures are {at - latch.figures_at:.0f} s old: without a living guard nothing may launch; "
            "look at its log group and its alarm first"
        )
    if latch.spent_usd + latch.committed_usd >= latch.monthly_usd:
        raise ResumeError(
            f"it would trip again at once: {latch.sums}. Raise monthlyBudgetUsd in the stack file, `pulumi up`, wait "
            "a minute for the guard, then resume; or wait for the new month"
        )
    if latch.spent_usd + latch.committed_usd + latch.launch_usd > latch.monthly_usd:
        raise ResumeError(
            f"no launch fits any more: {latch.sums}, and one launch may cost ${latch.launch_usd:.2f}. Raise "
            "monthlyBudgetUsd in the stack file, `pulumi up`, wait a minute for the guard, then resume"
        )


def resume(dynamodb: Any, control_table: str, by: str, at: float) -> Latch:
    """Clear the latch and record who did it and when. Answers the latch as it was.

    `dynamodb` a boto3 client, `at` unix seconds. Raises `ResumeError` when the law forbids it or when somebody else
    changed the latch meanwhile; nothing is changed then. Safe to repeat.
    """
    before = read(dynamodb, control_table)
    check(before, at)
    try:
        dynamodb.update_item(
            TableName=control_table,
            Key={"pk": {"S": "latch"}},
            UpdateExpression="SET latched = :no, generation = :next, #at = :at, #by = :by, note = :note",
            ConditionExpression="latched = :yes AND generation = :now",
            ExpressionAttributeNames={"#at": "at", "#by": "by"},
            ExpressionAttributeValues={
                ":no": {"BOOL": False},
                ":yes": {"BOOL": True},
                ":now": {"N": str(before.generation)},
                ":next": {"N": str(before.generation + 1)},
                ":at": {"N": str(at)},
                ":by": {"S": by},
                ":note": {"S": f"resumed by {by}; was {before.reason}: {before.note}"},
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise ResumeError("the latch was changed by somebody else just now: look again") from None
    return before


def _number(row: Mapping[str, Any], name: str) -> float:
    return float(row.get(name, {}).get("N", 0))
