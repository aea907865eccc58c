"""What an hour costs: the shipped price list, spot prices as EC2 quotes them, and how many GPUs an unknown type has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_prices import Prices, Running
from . import runtime
from .config import GuardConfig

SPOT_PAGES = 10  # of a hundred prices each: 40 types in 3 zones, which change a few times a day, after a day's pause
# On-demand prices of GPU types change seldom, and then mostly fall; a list of more than a year ago is trusted no more
# (components/catalog.py warns from 180 days on, and says the same 400 days).
STALE_AFTER = timedelta(days=400)


def prices(
    config: GuardConfig, spot: Mapping[str, Any], gpus: Mapping[str, int], at: float, stopped: bool = False
) -> Prices:
    """What the law reckons with. ``spot``: quotes as `spot_prices` keeps them; ``gpus``: what EC2 said of types that
    the settings do not list. ``stopped``: the fleets are, and then a controller only looks once a minute."""
    pairs = {tuple(key.split("|", 1)): float(price) for key, price in (spot.get("prices") or {}).items()}
    age = datetime.fromtimestamp(at, UTC).date() - date.fromisoformat(config.prices_as_of)
    return Prices(
        on_demand=config.prices_usd_per_hour,
        dearest=config.dearest_usd_per_hour,
        spot={(kind, zone): price for (kind, zone), price in pairs.items()},
        per_boot=config.per_boot_usd,
        per_job=config.per_job_usd,
        fixed_per_month=config.stopped_usd_per_month if stopped else config.fixed_usd_per_month,
        reserved=tuple(fleet.reservation for fleet in config.fleets if fleet.reservation is not None),
        gpus={**gpus, **config.gpus},
        dearest_by_gpus=config.dearest_by_gpus,
        stale=age > STALE_AFTER,
        unquoted=bool(spot.get("failed")),
    )


def gpu_counts(config: GuardConfig, kinds: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """How many GPUs each type has that neither the settings nor ``known`` name: one call when such a type first runs.
    What EC2 does not say is left out, and asked for again."""
    unknown = sorted(set(kinds) - set(config.gpus) - set(known))
    if not unknown:
        return dict(known)
    try:
        answer = runtime.client("ec2").describe_instance_types(InstanceTypes=unknown)
    except (ClientError, BotoCoreError) as error:
        runtime.log({"event": "gpu-counts-failed", "types": unknown, "reason": f"the dearest price is used: {error}"})
        return dict(known)
    found = {
        row["InstanceType"]: sum(gpu.get("Count", 0) for gpu in row.get("GpuInfo", {}).get("Gpus", ()))
        for row in answer["InstanceTypes"]
    }
    return {**known, **found}


def spot_prices(unpaid: Iterable[Running], known: Mapping[str, Any], since: float, at: float) -> dict[str, Any]:
    """Spot prices as {"at": ..., "prices": {"type|zone": $/h}}: the highest since ``since``, up to which everything is
    paid, so that a price that fell in between is not charged too low. Asked for only while there are spot instances
    that are not paid to their end; else those that are ``known`` stand. What EC2 does not know is left out: it is
    charged at the on-demand price. If it does not answer, "failed" says so.
    """
    types = sorted({one.type for one in unpaid if one.spot})
    if not types:
        return dict(known)
    try:
        return {"at": at, "prices": _highest(types, min(since, at))}
    except (ClientError, BotoCoreError) as error:
        runtime.log({"event": "spot-prices-failed", "at": at, "reason": f"paid when they are known: {error}"})
        return {"at": at, "prices": {}, "failed": True}


def _highest(types: list[str], since: float) -> dict[str, float]:
    """The highest price of each type and zone since ``since``; nothing if there are more than fit into the pages."""
    request: dict[str, Any] = {
        "InstanceTypes": types,
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": since,  # AWS answers the price that was in effect then, and every change after it
        "MaxResults": 100,
    }
    highest: dict[str, float] = {}
    for _ in range(SPOT_PAGES):
        answer = runtime.client("ec2").describe_spot_price_history(**request)
        for row in answer["SpotPriceHistory"]:
            key = f"{row['InstanceType']}|{row['AvailabilityZone']}"
            highest[key] = max(highest.get(key, 0.0), float(row["SpotPrice"]))
        if not answer.get("NextToken"):
            return highest
        request["NextToken"] = answer["NextToken"]
    return {}
