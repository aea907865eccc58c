"""One look at a fleet: queue, groups and worker heartbeats, made into what the laws read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import boot_law, health_law
from ..boot_law import Boots
from ..health_law import SILENT_S, Limits, Node
from ..scaling_law import Instance, Observation, Pool
from . import runtime
from .activities import Activities, boot_failed, launch_failed_at
from .config import ControllerConfig
from .groups import Group, Member, describe
from .items import attribute, read
from .members import Lost, Memory, remember
from .store import Rows

IN_SERVICE = "InService"


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
    """What one look saw. ``groups`` by pool. ``going``: instances in service that leave by themselves or are sick, by
    pool; their group still counts them as desired. ``sick``: dead and hung ones with the reason; ``replace``: the one
    whose turn it is. ``booting``: of the present template version, since when each has been seen. ``allowance_until``:
    0 if none.
    """

    at: float
    queue: Queue
    groups: Mapping[str, Group]
    observation: Observation
    going: Mapping[str, int]
    sick: Mapping[str, str]
    replace: str | None
    boots: Boots
    booting: Mapping[str, float]
    allowance_until: float
    memory: Memory

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


def look(config: ControllerConfig, queue: Queue, memory: Memory, rows: Rows, at: float) -> Sighting:
    """Reads groups and heartbeats, and the groups' activities if a launch is owed or a boot ended without service.

    Raises MissingError if a group does not exist; any AWS error passes through.
    """
    client = runtime.client("autoscaling")
    found = describe(client, config.groups.values())
    absent = sorted(set(config.groups.values()) - set(found))
    if absent:
        raise MissingError(f"Auto Scaling group {', '.join(absent)} not found")
    groups = {pool: found[name] for pool, name in config.groups.items()}
    fleet_rows, activities = _fleet_rows(config), Activities(client)
    memory, proven, lost = remember(memory, groups, at)
    version = _version(groups.values())
    beats = {name: row for name, row in fleet_rows.items() if name.startswith("instance#")}
    failed = _failed_boots(groups, activities, [one for one in lost if one.version == version], beats, rows)
    boots = boot_law.learn(Boots.from_json(rows.boots), version, version in proven, failed, at)
    limits = Limits(config.policy.cold_start_s, config.job_timeout_s)
    memory, sick = _sick(config, groups, beats, memory, queue, limits, at)
    instances = [
        _instance(member, pool, beats, memory, sick, at) for pool, group in groups.items() for member in group.members
    ]
    leaving = {member.id for group in groups.values() for member in group.members if member.leaving}
    going = dict.fromkeys(groups, 0)
    for one in instances:
        going[one.pool] += one.state == "draining" and one.id not in leaving
    observation = Observation(
        at=at,
        visible=queue.visible,
        delayed=queue.delayed,
        in_flight=queue.in_flight,
        completed=sum(row.get("completed", 0) for row in beats.values()),
        worked_s=sum(row.get("worked_s", 0) for row in beats.values()),
        cold_starts=tuple(row["cold_start_s"] for row in beats.values() if row.get("cold_start_s")),
        instances=tuple(instances),
        pools=tuple(
            _pool(config, activities, pool, group, going[pool], held=boots.held) for pool, group in groups.items()
        ),
    )
    return Sighting(
        at=at,
        queue=queue,
        groups=groups,
        observation=observation,
        going=going,
        sick=sick,
        replace=health_law.replace_now(sick, memory.replaced_at, at, limits),
        boots=boots,
        booting={name: one.first for name, one in memory.known.items() if one.version and one.version == version},
        allowance_until=float(fleet_rows.get("allowance", {}).get("until", 0)),
        memory=memory,
    )


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


def _version(groups: Iterable[Group]) -> str:
    """The newest template version that a group launches; empty if one goes by a name such as ``$Latest``."""
    versions = [group.template for group in groups]
    return max(versions, key=int) if all(one.isdigit() for one in versions) else ""


def _failed_boots(
    groups: Mapping[str, Group],
    activities: Activities,
    lost: Iterable[Lost],
    beats: Mapping[str, Mapping[str, Any]],
    rows: Rows,
) -> tuple[float, ...]:
    """When those of the ``lost`` were first seen that failed to boot. A latch that changed while one booted explains
    its end (the guard abandons what boots), and so does a spot notice that its node told."""
    return tuple(
        one.first
        for one in lost
        if not rows.latched
        and one.first > float(rows.latch.get("at", 0))
        and beats.get(f"instance#{one.id}", {}).get("state") != "draining"
        and boot_failed([told for group in groups.values() for told in activities.of(group.name)], one.id)
    )


def _sick(
    config: ControllerConfig,
    groups: Mapping[str, Group],
    beats: Mapping[str, Mapping[str, Any]],
    memory: Memory,
    queue: Queue,
    limits: Limits,
    at: float,
) -> tuple[Memory, dict[str, str]]:
    """The memory with the nodes' marks, and the dead and hung ones. Without a jobs table nobody can tell."""
    if config.jobs_table is None:
        return memory, {}
    nodes = []
    for member in (one for group in groups.values() for one in group.members if one.state == IN_SERVICE):
        known, beat = memory.known[member.id], beats.get(f"instance#{member.id}", {})
        first, served = known.first, at if known.served is None else known.served
        nodes.append(
            Node(
                id=member.id,
                launched_at=min(first, float(beat.get("launched_at") or first)),
                heard_at=max(served, float(beat.get("at", 0))),
                busy=int(beat.get("busy", 0)),
                completed=float(beat.get("completed", 0)),
                worked_s=float(beat.get("worked_s", 0)),
            )
        )
    completed = float(sum(row.get("completed", 0) for row in beats.values()))
    before = {name: one.mark for name, one in memory.known.items() if one.mark is not None}
    marks = health_law.marks(nodes, before, queue.visible, completed, at)
    known = {name: replace(one, mark=marks.get(name)) for name, one in memory.known.items()}
    return replace(memory, known=known), health_law.sick(nodes, marks, completed, memory.replaced_at, at, limits)


def _instance(
    member: Member,
    pool: str,
    beats: Mapping[str, Mapping[str, Any]],
    memory: Memory,
    sick: Mapping[str, str],
    at: float,
) -> Instance:
    """One instance as the law counts it. A worker that said it drains (a spot notice) stays so after its last word."""
    beat = beats.get(f"instance#{member.id}", {})
    fresh = bool(beat) and at - float(beat.get("at", 0)) <= SILENT_S
    if member.leaving or member.id in sick or beat.get("state") == "draining":
        state = "draining"
    else:
        state = "ready" if member.state == IN_SERVICE else "booting"
    return Instance(
        id=member.id,
        pool=pool,
        state=state,
        launched_at=float(beat.get("launched_at") or memory.known[member.id].first),
        busy=int(beat["busy"]) if fresh and "busy" in beat else None,
        template=member.template,
    )


def _pool(config: ControllerConfig, activities: Activities, pool: str, group: Group, going: int, *, held: bool) -> Pool:
    """The pool as the law counts it. Neither a version that fails to boot replaces an older one, nor another launch
    template that the group was given by hand."""
    rolls = group.template_id == config.template_id and group.template.isdigit() and not held
    short = len(config.groups) > 1 and group.desired > group.present
    return Pool(
        name=pool,
        desired=max(0, group.desired - going),
        template=group.template if rolls else None,
        failed_at=launch_failed_at(activities.of(group.name)) if short else None,
    )
