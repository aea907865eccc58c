"""What the fleets' NAT gateways have passed, as CloudWatch counts it: an image from elsewhere is most of what a boot
costs beside its seconds, and only the gateway knows how large it was.

Source: VPC user guide, "Monitor NAT gateways with Amazon CloudWatch": bytes from the clients and from the destinations,
each minute; the price is per GB processed, in either direction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..spend_ledger import Ledger, month_bounds
from ..spend_meter import counted
from . import runtime
from .config import GuardConfig

EVERY_S = 3600.0  # two metrics asked for cost $0.00002: an hour's delay is worth more than that
LAG_S = 900.0  # CloudWatch has a minute's figure some minutes later
PERIOD_S = 300
METRICS = ("BytesInFromSource", "BytesInFromDestination")
BYTES_PER_GB = 1e9


def due(config: GuardConfig, ledger: Ledger, at: float) -> bool:
    """Whether the gateways are to be asked: once an hour."""
    return bool(config.nat_gateways) and at - ledger.nat_to >= EVERY_S + LAG_S


def count(config: GuardConfig, ledger: Ledger, since: float, at: float) -> Ledger:
    """The ledger with the bytes up to a quarter of an hour ago, from ``since`` on if it never counted any. A gateway
    that tells nothing at all leaves the estimates as they are."""
    start = max(ledger.nat_to or since, month_bounds(ledger.month)[0]) // PERIOD_S * PERIOD_S
    end = (at - LAG_S) // PERIOD_S * PERIOD_S
    if end - start < EVERY_S:
        return replace(ledger, nat_to=start)
    found = _bytes(config, start, end)
    return ledger if found is None else counted(ledger, found / BYTES_PER_GB * config.nat_usd_per_gb, end)


def _bytes(config: GuardConfig, start: float, end: float) -> float | None:
    """Bytes that all gateways passed; None if one of them has no figure of that time."""
    request: dict[str, Any] = {
        "MetricDataQueries": [
            _query(f"g{index}_{metric.lower()}", gateway, metric)
            for index, gateway in enumerate(config.nat_gateways)
            for metric in METRICS
        ],
        "StartTime": datetime.fromtimestamp(start, UTC),
        "EndTime": datetime.fromtimestamp(end, UTC),
    }
    sums: dict[str, float] = {}
    while True:
        answer = runtime.client("cloudwatch").get_metric_data(**request)
        for row in answer["MetricDataResults"]:
            if row["Values"]:
                sums[row["Id"]] = sums.get(row["Id"], 0.0) + sum(row["Values"])
        if not answer.get("NextToken"):
            break
        request["NextToken"] = answer["NextToken"]
    complete = len(sums) == len(request["MetricDataQueries"])
    return sum(sums.values()) if complete else None


def _query(name: str, gateway: str, metric: str) -> dict[str, Any]:
    dimensions = [{"Name": "NatGatewayId", "Value": gateway}]
    which = {"Namespace": "AWS/NATGateway", "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": which, "Period": PERIOD_S, "Stat": "Sum"}}
