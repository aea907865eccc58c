"""The functions' own CloudWatch metrics: eight in all, each costs money every month.

Controller, dimension ``Fleet``: Waiting, Busy, Ready, Booting, Desired, StalledSeconds. Guard, dimension ``Stack``:
GuardTick (1 for each complete tick; its absence means that the meter is silent) and SpentUsd.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import runtime

SECONDS = frozenset({"StalledSeconds"})


def put(namespace: str, dimension: str, owner: str, values: Mapping[str, float]) -> None:
    """Publishes ``values`` with one call."""
    runtime.client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": dimension, "Value": owner}],
                "Timestamp": runtime.now(),
                "Value": float(value),
                "Unit": "Seconds" if name in SECONDS else "None",
            }
            for name, value in values.items()
        ],
    )
