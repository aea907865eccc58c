"""One look at a fleet: queue, groups and worker heartbeats, made into what the scaling law reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..scaling_types import Instance, Observation, Pool
from . import runtime
from .config import ControllerConfig
from .groups import Group, Member, describe
from .items import attribute, read

HEARTBEAT_S = 180.0  # a heartbeat older than this says nothing any more (workers write one every few seconds)


class MissingError(RuntimeError):
    """Something the law must know could not be read; the look changes nothing."""


@dataclass(frozen=True)
class Queue:
    """Messages by SQS's counters."""

    visible: int
    delayed: int
    in_flight: int

    @property
    def waiting(self) -> int:
        """The backlog."""
        return self.visible + self.delayed


@dataclass(frozen=True)
class Sighting:
    """What one look saw. ``groups`` by pool. ``going``: instances in service that leave by themselves, by pool; their
    group still counts them as desired. ``dead``: in service without any sign of life. ``allowance_until``: 0 if none.
    """

    at: float
    queue: Queue
    groups: Mapping[str, Group]
    observation: Observation
    going: Mapping[str, int]
    dead: tuple[str, ...]
    allowance_until: float
    seen: Mapping[str, Any]

    @property
    def empty(self) -> bool:
        """No message, no instance, none asked for."""
        idle = not any(group.members or group.desired for group in self.groups.values())
        return idle and not self.queue.waiting and not self.queue.in_flight


def read_queue(url: str) -> Queue:
    """The queue's three counters (approximate, eventually consistent)."""
    names = ("", "Delayed", "NotVisible")
    attributes = [f"ApproximateNumberOfMessages{name}" for name in names]
    answer = runtime.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=attributes)
    visible, delayed, in_flight = (int(answer["Attributes"][name]) for name in attributes)
    return Queue(visible, delayed, in_flight)


def look(config: ControllerConfig, queue: Queue, seen: Mapping[str, Any], at: float) -> Sighting:
    """Reads groups and heartbeats. ``seen``: when each instance was first seen, and first seen in service.

    Raises MissingError if a group does not exist; any AWS error passes through.
    """
    client = runtime.client("autoscaling")
    found = describe(client, config.groups.values())
    absent = sorted(set(config.groups.values()) - set(found))
    if absent:
        raise MissingError(f"Auto Scaling group {', '.join(absent)} not found")
    groups = {pool: found[name] for pool, name in config.groups.items()}
    rows = _fleet_rows(config)
    now_seen = _update_seen(groups, seen, at)
    dead = tuple(_dead(config, groups, rows, now_seen, at))
    instances: list[Instance] = []
    going = dict.fromkeys(groups, 0)
    for pool, group in groups.items():
        for member in group.members:
            one = _instance(member, pool, rows, now_seen, at, member.id in dead)
            going[pool] += one.state == "draining" and not member.leaving
            instances.append(one)
    beats = [row for name, row in rows.items() if name.startswith("instance#")]
    observation = Observation(
        at=at,
        visible=queue.visible,
        delayed=queue.delayed,
        in_flight=queue.in_flight,
        completed=sum(row.get("completed", 0) for row in beats),
        worked_s=sum(row.get("worked_s", 0) for row in beats),
        cold_starts=tuple(row["cold_start_s"] for row in beats if row.get("cold_start_s")),
        instances=tuple(instances),
        pools=tuple(_pool(config, client, pool, group, going[pool]) for pool, group in groups.items()),
    )
    until = float(rows.get("allowance", {}).get("until", 0))
    return Sighting(at, queue, groups, observation, going, dead, until, now_seen)


def _fleet_rows(config: ControllerConfig) -> dict[str, dict[str, Any]]:
    """Every row of the fleet in the jobs table by its sort key: heartbeats and the allowance."""
    if config.jobs_table is None:
        return {}
    request: dict[str, Any] = {
        "TableName": config.jobs_table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": attribute(f"fleet#{config.fleet}")},
        "ConsistentRead": True,
    }
    rows: dict[str, dict[str, Any]] = {}
    while True:
        answer = runtime.client("dynamodb").query(**request)
        rows.update({row["sk"]: row for row in map(read, answer["Items"])})
        if not answer.get("LastEvaluatedKey"):
            return rows
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _update_seen(groups: Mapping[str, Group], seen: Mapping[str, Any], at: float) -> dict[str, Any]:
    """[first seen, first seen in service or None] of each present instance; Auto Scaling does not tell either."""
    result: dict[str, Any] = {}
    for group in groups.values():
        for member in group.members:
            before = seen.get(member.id)
            first, served = before if isinstance(before, list) and len(before) == 2 else (at, None)
            first = float(first) if isinstance(first, (int, float)) else at
            if served is None and member.state == "InService":
                served = at
            result[member.id] = [min(first, at), served]
    return result


def _dead(
    config: ControllerConfig, groups: Mapping[str, Group], rows: Mapping[str, Any], seen: Mapping[str, Any], at: float
) -> list[str]:
    """Instances in service, older than a cold start, whose worker has not been heard for three minutes."""
    if config.jobs_table is None:
        return []
    silent = []
    for member in (member for group in groups.values() for member in group.members if member.state == "InService"):
        first, served = seen[member.id]
        beat = rows.get(f"instance#{member.id}", {})
        heard, first = float(beat.get("at", 0)), min(first, float(beat.get("launched_at") or first))
        if at - max(served, heard) > HEARTBEAT_S and at - first > config.policy.cold_start_s:
            silent.append(member.id)
    return sorted(silent)


def _instance(
    member: Member, pool: str, rows: Mapping[str, Any], seen: Mapping[str, Any], at: float, dead: bool
) -> Instance:
    beat = rows.get(f"instance#{member.id}", {})
    fresh = bool(beat) and at - float(beat.get("at", 0)) <= HEARTBEAT_S
    if member.leaving or dead or (fresh and beat.get("state") == "draining"):
        state = "draining"
    else:
        state = "ready" if member.state == "InService" else "booting"
    return Instance(
        id=member.id,
        pool=pool,
        state=state,
        launched_at=float(beat.get("launched_at") or seen[member.id][0]),
        busy=int(beat["busy"]) if fresh and "busy" in beat else None,
        template=member.template,
    )


def _pool(config: ControllerConfig, client: Any, pool: str, group: Group, going: int) -> Pool:
    """The pool as the law counts it. A group that was given another launch template by hand is not rolled."""
    ours = group.template_id == config.template_id and group.template.isdigit()
    short = pool == "spot" and config.on_demand_group is not None and group.desired > group.present
    return Pool(
        name=pool,
        desired=max(0, group.desired - going),
        template=group.template if ours else None,
        failed_at=_failed_at(client, group.name) if short else None,
    )


def _failed_at(client: Any, group: str) -> float | None:
    """When the group last failed to get an instance. A launch that has an instance id got one and failed to boot."""
    answer = client.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=20)
    starts = [
        one["StartTime"].timestamp()
        for one in answer["Activities"]
        if one["StatusCode"] == "Failed"
        and one.get("Description", "").startswith("Launching")
        and "instance: i-" not in one.get("Description", "")
    ]
    return max(starts, default=None)
