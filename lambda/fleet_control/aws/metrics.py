"""The functions' own CloudWatch metrics, each of which costs money every month; how many instances there are is told by
Auto Scaling's own metrics for nothing.

Controller, dimension ``Fleet``: Waiting (jobs; its absence means that the controller is silent), StalledSeconds (jobs
wait beside ready instances, none is served), FailedBoots (in a row). Guard, dimension ``Stack``: GuardTick (1 for each
complete tick; its absence means that the meter is silent), SpentUsd, and DoubtfulPrices (types that are charged at the
dearest price because theirs is not known; else not there); dimension ``Fleet``: Unattended, 1 while the
backstop may launch (see `backstop.py`) and else not there, so that it costs next to nothing.
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
