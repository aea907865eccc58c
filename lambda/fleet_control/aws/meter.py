"""What runs now, as EC2 tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..spend_prices import Running
from . import runtime
from .config import GuardConfig, GuardedFleet

FLEET_TAG = "gpu-inference-fleet"
LISTED_STATES = ("pending", "running", "shutting-down", "stopping", "stopped", "terminated")
BILLED_STATES = ("pending", "running", "stopping")  # stopping is free: counted, so as never to be under
_ENDED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


@dataclass(frozen=True)
class Node:
    """One instance with the fleet it belongs to. ``state``: EC2's."""

    fleet: GuardedFleet
    state: str
    running: Running


def describe_nodes(config: GuardConfig, at: float) -> list[Node]:
    """Every instance that carries a fleet's tag, in any state EC2 still lists."""
    fleets = {fleet.fleet: fleet for fleet in config.fleets}
    request: dict[str, Any] = {
        "Filters": [
            {"Name": f"tag:{FLEET_TAG}", "Values": sorted(fleets)},
            {"Name": "instance-state-name", "Values": list(LISTED_STATES)},
        ],
        "MaxResults": 1000,
    }
    nodes: list[Node] = []
    while True:
        answer = runtime.client("ec2").describe_instances(**request)
        for row in (row for reservation in answer["Reservations"] for row in reservation["Instances"]):
            tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())}
            nodes.append(_node(row, fleets[tags[FLEET_TAG]], at))
        if not answer.get("NextToken"):
            return nodes
        request["NextToken"] = answer["NextToken"]


def _node(row: Mapping[str, Any], fleet: GuardedFleet, at: float) -> Node:
    state = row["State"]["Name"]
    running = Running(
        id=row["InstanceId"],
        type=row["InstanceType"],
        zone=row.get("Placement", {}).get("AvailabilityZone", ""),
        spot=row.get("InstanceLifecycle") == "spot",
        launched_at=row["LaunchTime"].timestamp(),
        ended_at=None if state in BILLED_STATES else ended_at(row.get("StateTransitionReason", ""), at),
        disk_usd_per_hour=fleet.disk_usd_per_hour,
        drain_s=fleet.drain_s,
        reservation=row.get("CapacityReservationId", ""),
    )
    return Node(fleet, state, running)


def ended_at(reason: str, at: float) -> float:
    """When an instance left the running state, from "User initiated (2026-11-22 12:00:00 GMT)"; else ``at``."""
    match = _ENDED.search(reason)
    if not match:
        return at
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
