"""What runs now and at which price, as EC2 and AWS Budgets tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_law import Running, month_of
from . import runtime
from .config import GuardConfig, GuardedFleet

FLEET_TAG = "gpu-inference-fleet"
LISTED_STATES = ("pending", "running", "shutting-down", "stopping", "stopped", "terminated")
BILLED_STATES = ("pending", "running", "stopping")  # pending and stopping are free: counted, so as never to be under
SPOT_CACHE_S = 50.0  # less than a tick: a rise that is seen late would be charged too low until then
SPOT_PAGES = 3  # of a hundred prices each: more than the types times zones of any fleet here
FIGURE_LAG_S = 86_400.0  # AWS Budgets' figures are 8 to 12 hours old, a day at most
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
    moment = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return min(moment, at)


def spot_prices(nodes: Iterable[Node], cached: Mapping[str, Any], at: float) -> dict[str, Any]:
    """Spot prices as {"at": ..., "prices": {"type|zone": $/h}}; looked up only while spot instances run, and at most
    once a minute. What cannot be looked up is left out: it is then charged at the on-demand price.
    """
    running = [node.running for node in nodes if node.running.spot and node.running.ended_at is None]
    prices = dict(cached.get("prices") or {})
    fresh = 0 <= at - float(cached.get("at", 0)) < SPOT_CACHE_S
    if not running or (fresh and all(f"{one.type}|{one.zone}" in prices for one in running)):
        return dict(cached)
    if fresh and cached.get("asked") == sorted({one.type for one in running}):
        return dict(cached)  # this very question was just answered without those prices
    types = sorted({one.type for one in running})
    try:
        return {"at": at, "asked": types, "prices": _price_history(types, at)}
    except (ClientError, BotoCoreError) as error:
        runtime.log({"event": "spot-prices-failed", "at": at, "reason": f"on-demand prices used: {error}"})
        return {"at": at, "asked": types, "prices": {}}


def _price_history(types: list[str], at: float) -> dict[str, float]:
    request: dict[str, Any] = {
        "InstanceTypes": types,
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": at,  # with a start of now AWS answers the price in effect
        "MaxResults": 100,
    }
    newest: dict[str, tuple[float, float]] = {}
    for _ in range(SPOT_PAGES):
        answer = runtime.client("ec2").describe_spot_price_history(**request)
        for row in answer["SpotPriceHistory"]:
            key = f"{row['InstanceType']}|{row['AvailabilityZone']}"
            price = (row["Timestamp"].timestamp(), float(row["SpotPrice"]))
            newest[key] = max(newest.get(key, price), price)
        if not answer.get("NextToken"):
            break
        request["NextToken"] = answer["NextToken"]
    return {key: price for key, (_, price) in newest.items()}


def asks_for_figure(event: Any) -> bool:
    """Whether an event is a message of the AWS Budget (whatever it says) and not a tick of the schedule."""
    return bool(event.get("Records")) if isinstance(event, dict) else event is not None


def budget_figure(config: GuardConfig, at: float) -> tuple[float, str] | None:
    """AWS Budgets' figure in dollars and the UTC month it is of; None if it has none.

    The answer names no month (``LastUpdatedTime`` is when somebody last edited the budget), and the figure lags: on the
    first day of a month it may still be last month's, so it counts as that.
    """
    answer = runtime.client("budgets").describe_budget(AccountId=config.account_id, BudgetName=config.budget_name)
    spend = answer["Budget"].get("CalculatedSpend", {}).get("ActualSpend", {})
    return (float(spend["Amount"]), month_of(at - FIGURE_LAG_S)) if spend.get("Unit") == "USD" else None
