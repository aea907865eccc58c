"""The twin's own bill: what AWS would charge for what ran, from the machines' own history and the twin's own prices.

Nothing here is shared with the catalogue, the meter or the spend law: the meter is judged against this bill.

Charged: instances (running time only, by the second, 60 s at least, at the on-demand price or at the spot price of each
moment; a spot instance that AWS takes back in its first hour is free), capacity reservations (at the on-demand price
while they exist; instances inside them add nothing), the instances' gp3 disks while they exist, NAT gateways
(each hour begun) with their public address, customer keys and alarms (by the hour). Not charged: data transfer and NAT
bytes, requests of queues, tables, functions and buckets, storage of results and logs, tax.
Sources: EC2 user guide, "Instance lifecycle" and "Billing for interrupted Spot Instances"; pricing pages in `prices`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends

from . import prices
from .cloud import Cloud
from .services.cloudwatch import CloudWatchModel
from .services.machines import Instance, Machines, optional_service

HOUR = 3600.0
EBS_MONTH_S = 30 * 86_400.0
MONTH_HOURS = 730.0  # how AWS turns a monthly price of keys and alarms into hours
MINIMUM_S = 60.0
LOOK_EVERY_S = HOUR


class Line(NamedTuple):
    """One item of a month: what it is (an instance id, a gateway id, ...), its kind, and dollars."""

    item: str
    kind: str  # spot, on-demand, reserved, disk, nat, address, key, alarm
    usd: float


@dataclass
class Standing:
    """Something that costs as long as it is there: seen from `start` to `end`."""

    kind: str
    start: float
    end: float | None = None


class Bill:
    """The bill of the account. Months are UTC, written "2026-11"; amounts are dollars."""

    def __init__(self, cloud: Cloud, machines: Machines) -> None:
        self._cloud = cloud
        self._machines = machines
        self._standing: dict[str, Standing] = {}
        self._each_hour()

    def lines(self, month: str | None = None, as_of: float | None = None) -> list[Line]:
        """Every item of `month` (default: this one) up to `as_of` (default: now) that costs something."""
        start, end = month_bounds(month or month_of(self._cloud.clock.now()))
        end = min(end, self._cloud.clock.now() if as_of is None else as_of)
        if end <= start:
            return []
        found: list[Line] = []
        for instance in self._machines.instances.values():
            found.append(
                Line(instance.id, "spot" if instance.spot else "on-demand", self._compute(instance, start, end))
            )
            found.append(Line(instance.id, "disk", _disks(instance, start, end)))
        for one in self._machines.reservations.all.values():
            seconds = max(0.0, min(end, end if one.ended is None else one.ended) - max(start, one.created))
            found.append(Line(one.id, "reserved", one.count * prices.on_demand(one.type) * seconds / HOUR))
        for item, standing in self._standing.items():
            found.extend(_standing_lines(item, standing, start, end))
        return [line for line in found if line.usd > 0]

    def total(self, month: str | None = None, as_of: float | None = None) -> float:
        return sum(line.usd for line in self.lines(month, as_of))

    def by_kind(self, month: str | None = None) -> dict[str, float]:
        sums: dict[str, float] = {}
        for line in self.lines(month):
            sums[line.kind] = sums.get(line.kind, 0.0) + line.usd
        return sums

    def figure(self) -> float:
        """This month's cost as AWS Billing knows it: the state of 8 to 12 hours ago."""
        now = self._cloud.clock.now()
        return self.total(month_of(now), as_of=now // (4 * HOUR) * (4 * HOUR) - 8 * HOUR)

    # -- instances ----------------------------------------------------------------------------------------------

    def _compute(self, instance: Instance, start: float, end: float) -> float:
        if instance.running_at is None or instance.running_at >= end:
            return 0.0
        stopped = end if instance.ended_at is None else instance.ended_at
        if instance.ended_by == "spot" and stopped - instance.running_at < HOUR and stopped <= end:
            return 0.0
        # The minimum belongs to the month in which the instance started to run.
        since, until = max(start, instance.running_at), min(end, max(stopped, instance.running_at))
        if instance.ended_at is not None and since == instance.running_at:
            until = max(until, since + MINIMUM_S)
        if instance.reservation:
            ended = self._machines.reservations.all[instance.reservation].ended
            since = max(since, until if ended is None else ended)
        if until <= since:
            return 0.0
        if instance.spot:
            return self._machines.market.cost(instance.type, instance.zone, since, until)
        return prices.on_demand(instance.type) * (until - since) / HOUR

    # -- what stands --------------------------------------------------------------------------------------------

    def _each_hour(self) -> None:
        self.observe()
        self._cloud.clock.after(LOOK_EVERY_S, self._each_hour)

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

    def _gateways(self) -> Iterable[str]:
        backend: Any = ec2_backends[self._cloud.account_id][self._cloud.region]
        return [key for key, gateway in backend.nat_gateways.items() if gateway.state in ("pending", "available")]

    def _keys(self) -> Iterable[str]:
        backend: Any = kms_backends[self._cloud.account_id][self._cloud.region]
        return [
            name for name, key in backend.keys.items() if key.key_manager == "CUSTOMER" and key.key_state == "Enabled"
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


def _disks(instance: Instance, start: float, end: float) -> float:
    """A volume is there from launch to termination, in whatever state the instance is."""
    since = max(start, instance.launched_at)
    until = min(end, end if instance.gone_at is None else instance.gone_at)
    monthly = sum(
        disk.size_gib * prices.GP3_USD_PER_GB_MONTH
        + max(0, disk.iops - prices.GP3_FREE_IOPS) * prices.GP3_USD_PER_IOPS_MONTH
        + max(0, disk.mibps - prices.GP3_FREE_MIBPS) * prices.GP3_USD_PER_MIBPS_MONTH
        for disk in instance.spec.disks
    )
    return monthly * max(0.0, until - since) / EBS_MONTH_S


def _standing_lines(item: str, standing: Standing, start: float, end: float) -> list[Line]:
    since = max(start, standing.start)
    until = end if standing.end is None else min(end, standing.end)
    if until <= since:
        return []
    hours = (until - since) / HOUR
    match standing.kind:
        case "nat":
            begun = math.ceil(hours - 1e-9)
            return [
                Line(item, "nat", begun * prices.NAT_USD_PER_HOUR),
                Line(item, "address", begun * prices.PUBLIC_IPV4_USD_PER_HOUR),
            ]
        case "key":
            return [Line(item, "key", hours * prices.KMS_KEY_USD_PER_MONTH / MONTH_HOURS)]
        case _:
            return [Line(item, "alarm", hours * prices.ALARM_USD_PER_MONTH / MONTH_HOURS)]


def month_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_bounds(month: str) -> tuple[float, float]:
    """Unix seconds of the month's start and of the next one's."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.timestamp(), following.timestamp()


def connect(cloud: Cloud, bill: Bill) -> None:
    """Let AWS Budgets show this bill, if budgets are modelled."""
    budgets: Any = optional_service(cloud, "budgets")
    if budgets is not None:
        budgets.figure = bill.figure
