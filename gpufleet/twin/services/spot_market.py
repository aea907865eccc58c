"""Spot capacity and its moving price, per (instance type, Availability Zone).

The price is a slow random walk, one step an hour, between 30 and 50 % of the on-demand price, around 35-45 % of it
("spot up to 70 % off", and GPU types less than that). It depends on the seed, the type and the zone alone, not on who
asks when. `jump` and `shortage` script a day that goes wrong.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ..prices import on_demand

HOUR = 3600.0
HISTORY_S = 90 * 24 * HOUR  # what DescribeSpotPriceHistory reaches back


@dataclass(frozen=True)
class Period:
    """When, and for which types and zones (None: all), something holds; `factor` for prices."""

    start: float
    end: float
    types: Collection[str] | None = None
    zones: Collection[str] | None = None
    factor: float = 1.0

    def holds(self, instance_type: str, zone: str, at: float) -> bool:
        return (
            self.start <= at < self.end
            and (self.types is None or instance_type in self.types)
            and (self.zones is None or zone in self.zones)
        )


class SpotMarket:
    """Prices in dollars per hour; times in unix seconds.

    Knobs: `available(type, zone, at)` for spot, `on_demand_available(type, zone, at)`, `jump(...)`, `shortage(...)`.
    """

    def __init__(self, start: float, seed: int, multiple: float = 1.0) -> None:
        self.available: Callable[[str, str, float], bool] = lambda instance_type, zone, at: True
        self.on_demand_available: Callable[[str, str, float], bool] = lambda instance_type, zone, at: True
        self._seed = seed
        self._multiple = multiple  # of the region's prices
        self._first_hour = int((start - HISTORY_S) // HOUR)
        self._walks: dict[tuple[str, str], tuple[random.Random, list[float]]] = {}
        self._jumps: list[Period] = []
        self._shortages: list[Period] = []

    # -- knobs ------------------------------------------------------------------------------------------------

    def jump(
        self,
        factor: float,
        start: float,
        end: float = float("inf"),
        types: Collection[str] | None = None,
        zones: Collection[str] | None = None,
    ) -> None:
        """Multiply the price from `start` to `end`; it never exceeds the on-demand price, as on AWS."""
        self._jumps.append(Period(start, end, types, zones, factor))

    def shortage(
        self,
        start: float,
        end: float,
        types: Collection[str] | None = None,
        zones: Collection[str] | None = None,
    ) -> None:
        """No spot capacity from `start` to `end`."""
        self._shortages.append(Period(start, end, types, zones))

    # -- what AWS would answer -------------------------------------------------------------------------------

    def has_spot(self, instance_type: str, zone: str, at: float) -> bool:
        if any(period.holds(instance_type, zone, at) for period in self._shortages):
            return False
        return self.available(instance_type, zone, at)

    def depth(self, instance_type: str, zone: str, at: float) -> int:
        """How deep the pool is, 1-10, redrawn every six hours: what "capacity-optimized" looks at."""
        return random.Random(f"{self._seed}:depth:{instance_type}:{zone}:{int(at // (6 * HOUR))}").randint(1, 10)  # noqa: S311

    def price(self, instance_type: str, zone: str, at: float) -> float:
        most = on_demand(instance_type) * self._multiple
        price = most * self._share(instance_type, zone, int(at // HOUR))
        for jump in self._jumps:
            if jump.holds(instance_type, zone, at):
                price *= jump.factor
        return round(min(price, most), 4)

    def cost(self, instance_type: str, zone: str, start: float, end: float) -> float:
        """Dollars for running from `start` to `end` at the price of each moment."""
        return sum(
            self.price(instance_type, zone, since) * (until - since) / HOUR for since, until in self._pieces(start, end)
        )

    def changes(self, instance_type: str, zone: str, start: float, end: float) -> list[tuple[float, float]]:
        """(moment, price) of each change in [start, end], the one in force at `start` first."""
        found: list[tuple[float, float]] = []
        for since, _ in self._pieces(start, end):
            price = self.price(instance_type, zone, since)
            if not found or found[-1][1] != price:
                found.append((since, price))
        return found

    def _pieces(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        marks = {start, end}
        marks.update(hour * HOUR for hour in range(int(start // HOUR) + 1, int(end // HOUR) + 1))
        marks.update(mark for jump in self._jumps for mark in (jump.start, jump.end) if start < mark < end)
        ordered = sorted(mark for mark in marks if start <= mark <= end)
        yield from itertools.pairwise(ordered)

    def _share(self, instance_type: str, zone: str, hour: int) -> float:
        """The walk's value in `hour`: a share of the on-demand price."""
        pool = (instance_type, zone)
        if pool not in self._walks:
            source = random.Random(f"{self._seed}:{instance_type}:{zone}")  # noqa: S311 - reproducible, no secret
            self._walks[pool] = (source, [source.uniform(0.35, 0.45)])
        source, walk = self._walks[pool]
        index = max(0, hour - self._first_hour)
        while len(walk) <= index:
            walk.append(min(0.5, max(0.3, walk[-1] + source.uniform(-0.01, 0.01))))
        return walk[index]
