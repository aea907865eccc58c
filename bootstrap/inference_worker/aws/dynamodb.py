"""Jobs, heartbeats and the allowance in one DynamoDB table (hash key `pk`, range key `sk`, TTL attribute `expires`)."""

from __future__ import annotations

import math
from typing import Any

from botocore.exceptions import ClientError

from ..ports import Allowance, Bill, Heartbeat, JobRow, Outcome, Status
from .errors import asking, code

# Longer than a message can live (10 days on the queue, 14 among the dead letters): a late copy must find its row.
JOB_ROW_S = 40 * 86_400
HEARTBEAT_ROW_S = 86_400
NAMES = {"#status": "status", "#owner": "owner"}
NOT_ENDED = "attribute_not_exists(#status) OR #status = :running"


def _number(value: float) -> dict[str, str]:
    return {"N": repr(round(float(value), 3)).removesuffix(".0")}


def _text(value: str) -> dict[str, str]:
    return {"S": value}


class JobTable:
    """JobStore. `owner`: the id of this instance."""

    def __init__(self, client: Any, table: str, owner: str) -> None:
        self._dynamodb = client
        self._table = table
        self._owner = owner

    def claim(self, job_id: str, now: float, lease_until: float) -> tuple[bool, JobRow]:
        update = (
            "SET #status = :running, #owner = :owner, lease_until = :until, expires = :expires, "
            "attempts = if_not_exists(attempts, :zero) + :one, failures = if_not_exists(failures, :zero), "
            "started_at = if_not_exists(started_at, :now)"
        )
        values = {
            ":running": _text("running"),
            ":owner": _text(self._owner),
            ":until": _number(lease_until),
            ":expires": _number(math.ceil(now) + JOB_ROW_S),
            ":zero": _number(0),
            ":one": _number(1),
            ":now": _number(now),
        }
        free = "attribute_not_exists(#status) OR (#status = :running AND lease_until <= :now)"
        return self._update("claim", job_id, update, free, values)

    def look(self, job_id: str) -> JobRow | None:
        with asking("look"):
            answer = self._dynamodb.get_item(TableName=self._table, Key=_job_key(job_id), ConsistentRead=True)
        return _row(answer["Item"]) if "Item" in answer else None

    def keep(self, job_id: str, attempt: int, lease_until: float) -> bool:
        values = {":until": _number(lease_until), ":running": _text("running"), ":attempt": _number(attempt)}
        mine = "#status = :running AND attempts = :attempt"
        return self._update("keep", job_id, "SET lease_until = :until", mine, values)[0]

    def let_go(self, job_id: str, attempt: int, failures: int) -> None:
        values = {
            ":zero": _number(0),
            ":failures": _number(failures),
            ":running": _text("running"),
            ":attempt": _number(attempt),
        }
        mine = "#status = :running AND attempts = :attempt"
        self._update("let go", job_id, "SET lease_until = :zero, failures = :failures", mine, values)

    def settle(self, job_id: str, outcome: Outcome, attempt: int | None) -> tuple[bool, Status]:
        update = "SET #status = :status, #owner = :owner, bill = :bill, finished_at = :at, expires = :expires"
        values: dict[str, Any] = {
            ":status": _text(outcome.status),
            ":owner": _text(self._owner),
            ":bill": _bill(outcome.bill),
            ":at": _number(outcome.at),
            ":expires": _number(math.ceil(outcome.at) + JOB_ROW_S),
            ":running": _text("running"),
        }
        names = {}
        if outcome.result is not None:
            update, names = f"{update}, #result = :result", {"#result": "result"}
            values[":result"] = _text(outcome.result)
        if outcome.reason is not None:
            update, names = f"{update}, #reason = :reason, failures = :failures", {**names, "#reason": "reason"}
            values |= {":reason": _text(outcome.reason), ":failures": _number(outcome.failures)}
        condition = NOT_ENDED
        if attempt is not None:
            condition = "#status = :running AND attempts = :attempt"
            values[":attempt"] = _number(attempt)
        written, row = self._update("settle", job_id, update, condition, values, names)
        return written, row.status

    def _update(
        self,
        what: str,
        job_id: str,
        update: str,
        condition: str,
        values: dict[str, Any],
        names: dict[str, str] | None = None,
    ) -> tuple[bool, JobRow]:
        """One conditional write: (written, the row that now stands)."""
        used = {name: real for name, real in NAMES.items() if name in update + condition} | (names or {})
        with asking(what):
            try:
                answer = self._dynamodb.update_item(
                    TableName=self._table,
                    Key=_job_key(job_id),
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=used,
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as problem:
                if code(problem) != "ConditionalCheckFailedException":
                    raise
                return False, _row(problem.response.get("Item", {}))
        return True, _row(answer["Attributes"])


class FleetTable:
    """FleetStore: the heartbeat row of `instance_id` and the allowance of `fleet`."""

    def __init__(self, client: Any, table: str, fleet: str, instance_id: str) -> None:
        self._dynamodb = client
        self._table = table
        self._fleet = _text(f"fleet#{fleet}")
        self._key = {"pk": self._fleet, "sk": _text(f"instance#{instance_id}")}

    def beat(self, heartbeat: Heartbeat) -> None:
        with asking("heartbeat"):
            self._dynamodb.put_item(TableName=self._table, Item={**self._key, **_heartbeat_values(heartbeat)})

    def ready(self, heartbeat: Heartbeat) -> None:
        with asking("ready"):
            try:
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item={**self._key, **_heartbeat_values(heartbeat)},
                    ConditionExpression="attribute_not_exists(pk)",
                )
            except ClientError as problem:
                if code(problem) != "ConditionalCheckFailedException":
                    raise

    def last(self) -> Heartbeat | None:
        with asking("last heartbeat"):
            item = self._dynamodb.get_item(TableName=self._table, Key=self._key).get("Item")
        if item is None:
            return None
        return Heartbeat(
            at=_float(item, "at"),
            state="draining" if item.get("state") == _text("draining") else "ready",
            slots=int(_float(item, "slots")),
            busy=int(_float(item, "busy")),
            completed=int(_float(item, "completed")),
            worked_s=_float(item, "worked_s"),
            cold_start_s=_float(item, "cold_start_s"),
            launched_at=_float(item, "launched_at"),
        )

    def allowance(self) -> Allowance | None:
        key = {"pk": self._fleet, "sk": _text("allowance")}
        with asking("allowance"):
            item = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item", {})
        if "until" not in item:
            return None
        heard = _float(item, "controller_at") if "controller_at" in item else None
        return Allowance(_float(item, "until"), _float(item, "at"), heard)


def _job_key(job_id: str) -> dict[str, Any]:
    return {"pk": _text(f"job#{job_id}"), "sk": _text("job")}


def _float(item: dict[str, Any], name: str) -> float:
    return float(item.get(name, {}).get("N", 0))


def _row(item: dict[str, Any]) -> JobRow:
    return JobRow(
        status=item.get("status", {}).get("S", "running"),
        attempts=int(_float(item, "attempts")),
        failures=int(_float(item, "failures")),
        lease_until=_float(item, "lease_until"),
    )


def _bill(bill: Bill) -> dict[str, Any]:
    return {
        "M": {
            "prompt_tokens": _number(bill.prompt_tokens),
            "completion_tokens": _number(bill.completion_tokens),
            "seconds": _number(bill.seconds),
        }
    }


def _heartbeat_values(heartbeat: Heartbeat) -> dict[str, Any]:
    return {
        "at": _number(heartbeat.at),
        "state": _text(heartbeat.state),
        "slots": _number(heartbeat.slots),
        "busy": _number(heartbeat.busy),
        "completed": _number(heartbeat.completed),
        "worked_s": _number(heartbeat.worked_s),
        "cold_start_s": _number(heartbeat.cold_start_s),
        "launched_at": _number(heartbeat.launched_at),
        "expires": _number(math.ceil(heartbeat.at) + HEARTBEAT_ROW_S),
    }
