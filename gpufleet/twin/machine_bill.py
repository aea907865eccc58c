"""What instances, their disks and capacity reservations cost.

Instances: running time only, by the second, 60 s at least, at the on-demand price or at the spot price of each moment;
a spot instance that AWS takes back in its first hour is free. Reservations: the on-demand price while they exist;
instances inside them add nothing. Disks: gp3, while they exist.
Sources: EC2 user guide, "Instance lifecycle" and "Billing for interrupted Spot Instances"; pricing pages in `prices`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from . import prices
from .bill_lines import Line
from .cloud import Cloud
from .months import month_bounds, months_between
from .services.machines import Instance, Machines

HOUR = 3600.0
EBS_MONTH_S = 30 * 86_400.0
MINIMUM_S = 60.0


class Closed(NamedTuple):
    """An instance of which nothing changes any more after `at` (unix seconds), and its lines in a month."""

    at: float
    instance: Instance
    lines: list[Line]


class MachineBill:
    """The lines of instances that are gone are made once and summed up: a bill is asked for every minute."""

    def __init__(self, cloud: Cloud, machines: Machines) -> None:
        self._cloud = cloud
        self._machines = machines
        self._multiple = prices.multiple(cloud.region)
        self._open: dict[str, Instance] = dict(machines.instances)
        self._closed: dict[str, list[Closed]] = {}  # by month, in the order of their moments
        self._sums: dict[str, list[float]] = {}  # dollars of the first 0, 1, 2, ... of them
        machines.on_change.append(self._changed)

    def of_month(self, month: str, end: float, known: float) -> list[Line]:
        """The month up to `end`, by what had happened until `known`; unix seconds."""
        closed, others = self._parted(month, end)
        found = [line for one in self._closed.get(month, [])[:closed] for line in one.lines]
        start = month_bounds(month)[0]
        for instance in others:
            found += self._lines(instance, start, end, known)
        return found + self._reserved(start, end)

    def total_of_month(self, month: str, end: float, known: float) -> float:
        """The sum of `of_month`."""
        closed, others = self._parted(month, end)
        start = month_bounds(month)[0]
        rest = sum(line.usd for instance in others for line in self._lines(instance, start, end, known))
        return self._sums.get(month, [0.0])[closed] + rest + sum(line.usd for line in self._reserved(start, end))

    def between(self, start: float, end: float, known: float) -> list[Line]:
        """From `start` to before `end`, by what had happened until `known`; unix seconds."""
        found: list[Line] = []
        for instance in self._machines.instances.values():
            if instance.launched_at < end and not (instance.gone_at and instance.gone_at + MINIMUM_S <= start):
                found += self._lines(instance, start, end, known)
        return found + self._reserved(start, end)

    def _parted(self, month: str, end: float) -> tuple[int, list[Instance]]:
        """How many of the month's closed instances were so at `end`, and which others may have cost something."""
        self._close(self._cloud.clock.now())
        closed = self._closed.get(month, [])
        number = bisect_right(closed, end, key=lambda one: one.at)
        later = [one.instance for one in closed[number:]]
        return number, [one for one in (*later, *self._open.values()) if one.launched_at < end]

    def _changed(self, instance: Instance) -> None:
        if instance.gone_at is None:
            self._open[instance.id] = instance

    def _close(self, now: float) -> None:
        gone = [(i.gone_at + MINIMUM_S, i) for i in self._open.values() if i.gone_at and i.gone_at + MINIMUM_S <= now]
        for at, instance in sorted(gone, key=lambda one: one[0]):
            del self._open[instance.id]
            for month in months_between(instance.launched_at, at):
                lines = self._lines(instance, *month_bounds(month), now)
                self._closed.setdefault(month, []).append(Closed(at, instance, lines))
                sums = self._sums.setdefault(month, [0.0])
                sums.append(sums[-1] + sum(line.usd for line in lines))

    def _lines(self, instance: Instance, start: float, end: float, known: float) -> list[Line]:
        compute = self._compute(instance, start, end, known)
        lines = [
            Line(instance.id, "spot" if instance.spot else "on-demand", compute),
            Line(instance.id, "disk", _disks(instance, start, end) * self._multiple),
        ]
        return [line for line in lines if line.usd > 0]

    def _compute(self, instance: Instance, start: float, end: float, known: float) -> float:
        if instance.running_at is None or instance.running_at >= end:
            return 0.0
        stopped = end if instance.ended_at is None else instance.ended_at
        if instance.ended_by == "spot" and stopped - instance.running_at < HOUR and stopped <= known:
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
        return prices.on_demand(instance.type) * self._multiple * (until - since) / HOUR

    def _reserved(self, start: float, end: float) -> list[Line]:
        found = []
        for one in self._machines.reservations.all.values():
            seconds = min(end, end if one.ended is None else one.ended) - max(start, one.created)
            if seconds > 0:
                hourly = one.count * prices.on_demand(one.type) * self._multiple
                found.append(Line(one.id, "reserved", hourly * seconds / HOUR))
        return found


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
