"""What costs as long as it is there: NAT gateways with their public address, customer keys, metrics of alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends

from . import prices
from .bill_lines import Line
from .cloud import Cloud
from .months import month_bounds, month_of
from .services.cloudwatch import CloudWatchModel
from .services.machines import optional_service

HOUR = 3600.0
LOOK_EVERY_S = HOUR


@dataclass
class Standing:
    """Something that is there from `start` to `end`, unix seconds."""

    kind: str
    start: float
    end: float | None = None


class Standings:
    """`on_look` is told at every look."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._standing: dict[str, Standing] = {}
        self._multiple = prices.multiple(cloud.region)
        self.on_look: list[Callable[[], object]] = []
        self._each_hour()

    def lines(self, start: float, end: float) -> list[Line]:
        """What stood from `start` to before `end`, unix seconds of one month."""
        return [line for item, one in self._standing.items() for line in self._lines(item, one, start, end)]

    def observe(self) -> None:
        """Note which gateways, keys and alarms are there now. What came or went since the last look counts from or to
        this moment: looked at every hour, and whenever a gateway is made or deleted."""
        now = self._cloud.clock.now()
        present: dict[str, str] = {}
        for kind, look in (("nat", self._gateways), ("key", self._keys), ("alarm", self._alarms)):
            present.update(dict.fromkeys(look(), kind))
        for item, kind in present.items():
            if item not in self._standing:
                self._standing[item] = Standing(kind, now)
        for item, standing in self._standing.items():
            if standing.end is None and item not in present:
                standing.end = now
        for heard in self.on_look:
            heard()

    def _each_hour(self) -> None:
        self.observe()
        self._cloud.clock.after(LOOK_EVERY_S, self._each_hour)

    def _gateways(self) -> Iterable[str]:
        backend: Any = ec2_backends[self._cloud.account_id][self._cloud.region]
        return [key for key, gateway in backend.nat_gateways.items() if gateway.state in ("pending", "available")]

    def _keys(self) -> Iterable[str]:
        backend: Any = kms_backends[self._cloud.account_id][self._cloud.region]
        return [
            name
            for name, key in backend.keys.items()
            if key.key_manager == "CUSTOMER" and key.key_state == "Enabled" and not _aws_own(key)
        ]

    def _alarms(self) -> Iterable[str]:
        """Each metric that a standard alarm reads is charged."""
        cloudwatch = optional_service(self._cloud, "cloudwatch")
        if not isinstance(cloudwatch, CloudWatchModel):
            return []
        names = []
        for name, alarm in cloudwatch.alarms.items():
            metrics = sum("MetricStat" in query for query in alarm.settings.get("Metrics", [])) or 1
            names += [f"{name}#{number}" for number in range(metrics)]
        return names

    def _lines(self, item: str, standing: Standing, start: float, end: float) -> list[Line]:
        since = max(start, standing.start)
        until = end if standing.end is None else min(end, standing.end)
        if until <= since:
            return []
        hours = (until - since) / HOUR * self._multiple
        match standing.kind:
            case "nat":
                begun = _hours_begun(standing.start, start, until) * self._multiple
                return [
                    Line(item, "nat", begun * prices.NAT_USD_PER_HOUR),
                    Line(item, "address", begun * prices.PUBLIC_IPV4_USD_PER_HOUR),
                ]
            case "key":
                return [Line(item, "key", hours * prices.KMS_KEY_USD_PER_MONTH / prices.MONTH_HOURS)]
            case _:
                return [Line(item, "alarm", hours * prices.ALARM_USD_PER_MONTH / prices.MONTH_HOURS)]


def _hours_begun(made: float, start: float, end: float) -> int:
    """How many hours of something made at `made` begin from `start` to before `end`; hours are counted anew each
    month."""
    first = max(made, month_bounds(month_of(start))[0])
    before = math.ceil((start - first) / HOUR - 1e-9) if start > first else 0
    return math.ceil((end - first) / HOUR - 1e-9) - before


def _aws_own(key: Any) -> bool:
    """moto makes the key `aws/dynamodb` of an encrypted table as if it were a customer's; AWS's own keys cost nothing a
    month (aws.amazon.com/kms/pricing)."""
    return str(key.description).startswith("Default master key that protects my ")
