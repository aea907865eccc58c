"""What EC2's events told of the fleets' instances: noted as they come, read by the next tick.

A tick sees what EC2 lists at its moment. Events tell more: the second in which an instance began to run and ended, and
of instances that came and went while no tick could look. EventBridge delivers at least once, now and then late or not
at all, so a note only ever adds to what EC2 lists. An event names an instance of anybody's in the account; only those
that carry a fleet's tag are noted.

Row ``instances`` of the control table: one attribute per instance id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from . import runtime
from .config import GuardConfig
from .items import attribute, refused, write
from .meter import FLEET_TAG

ROW = "instances"
STATE_CHANGE = "EC2 Instance State-change Notification"
ENDS = frozenset({"shutting-down", "stopping", "terminated"})
KEPT_S = 7200.0  # a note of something that ended is kept for longer than EC2 lists it
MOST_AT_ONCE = 50  # notes that one write removes: an update expression takes 4 KB


@dataclass(frozen=True)
class Note:
    """One instance by its events; unix seconds. ``ended_at``: None while no event told of its end."""

    fleet: str
    type: str
    zone: str
    spot: bool
    launched_at: float
    running_at: float
    ended_at: float | None = None


def is_state_change(event: Any) -> bool:
    """Whether an event tells that an EC2 instance changed its state."""
    return isinstance(event, dict) and event.get("detail-type") == STATE_CHANGE


def take_note(config: GuardConfig, event: Mapping[str, Any]) -> str:
    """Notes what an event tells, if it is about an instance of these fleets; answers what was done."""
    detail = event.get("detail") or {}
    instance_id, state = str(detail.get("instance-id", "")), str(detail.get("state", ""))
    at = _moment(event.get("time"))
    if not instance_id.startswith("i-") or (state != "running" and state not in ENDS):
        return f"nothing to note: {instance_id or 'no instance'} {state}".rstrip()
    if state in ENDS:
        told = _update(
            config.control_table,
            "SET #id.ended_at = :at",
            "attribute_exists(#id) AND attribute_not_exists(#id.ended_at)",
            instance_id,
            {":at": attribute(at)},
        )
        return f"{instance_id} ended" if told else f"{instance_id} is not of these fleets, or its end is known"
    note = _look_up(config, instance_id, at)
    if note is None:
        return f"{instance_id} is not of these fleets"
    _update(config.control_table, "SET #id = :note", "", instance_id, {":note": attribute(_row(note))})
    return f"{instance_id} of {note.fleet} runs"


def _look_up(config: GuardConfig, instance_id: str, at: float) -> Note | None:
    fleets = {fleet.fleet for fleet in config.fleets}
    try:
        answer = runtime.client("ec2").describe_instances(InstanceIds=[instance_id])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "InvalidInstanceID.NotFound":
            return None  # gone again; if it is one of ours, the group's activities tell of it
        raise
    rows = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
    for row in rows:
        fleet = {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())}.get(FLEET_TAG)
        if fleet in fleets:
            return Note(
                fleet=str(fleet),
                type=row["InstanceType"],
                zone=row.get("Placement", {}).get("AvailabilityZone", ""),
                spot=row.get("InstanceLifecycle") == "spot",
                launched_at=row["LaunchTime"].timestamp(),
                running_at=max(at, row["LaunchTime"].timestamp()),
            )
    return None


def notes_of(row: Mapping[str, Any]) -> dict[str, Note]:
    """The notes in the row, by instance id."""
    return {
        name: Note(
            fleet=str(one["fleet"]),
            type=str(one["type"]),
            zone=str(one["zone"]),
            spot=bool(one["spot"]),
            launched_at=float(one["launched_at"]),
            running_at=float(one["running_at"]),
            ended_at=float(one["ended_at"]) if "ended_at" in one else None,
        )
        for name, one in row.items()
        if name.startswith("i-")
    }


def forget(table: str, ids: Iterable[str]) -> None:
    """Removes the notes of instances that the ledger has charged to their end."""
    gone = sorted(ids)[:MOST_AT_ONCE]
    if gone:
        names = {f"#n{index}": name for index, name in enumerate(gone)}
        runtime.client("dynamodb").update_item(
            TableName=table,
            Key=write({"pk": ROW}),
            UpdateExpression="REMOVE " + ", ".join(names),
            ExpressionAttributeNames=names,
        )


def _row(note: Note) -> dict[str, Any]:
    return {name: value for name, value in vars(note).items() if value is not None}


def _moment(text: Any) -> float:
    """An event's time, unix seconds; now, if it says none that can be read."""
    try:
        return min(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp(), runtime.now())
    except ValueError:
        return runtime.now()


def _update(table: str, expression: str, condition: str, instance_id: str, values: Mapping[str, Any]) -> bool:
    only_if = {"ConditionExpression": condition} if condition else {}
    try:
        runtime.client("dynamodb").update_item(
            TableName=table,
            Key=write({"pk": ROW}),
            UpdateExpression=expression,
            ExpressionAttributeNames={"#id": instance_id},
            ExpressionAttributeValues=dict(values),
            **only_if,
        )
    except ClientError as error:
        if refused(error):
            return False
        raise
    return True
