"""The store of CloudWatch metrics: one-minute points, read back as statistics over any period of whole minutes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .metric_math import Series

MINUTE_S = 60
STATISTICS = ("Average", "Sum", "Minimum", "Maximum", "SampleCount")
Key = tuple[str, str, tuple[tuple[str, str], ...]]  # namespace, name, sorted dimensions


def key_of(namespace: str, name: str, dimensions: Mapping[str, str]) -> Key:
    return namespace, name, tuple(sorted(dimensions.items()))


@dataclass(slots=True)
class Point:
    total: float = 0.0
    count: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, other: Point) -> None:
        self.total += other.total
        self.count += other.count
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def statistic(self, name: str) -> float:
        match name:
            case "Sum":
                return self.total
            case "Minimum":
                return self.least
            case "Maximum":
                return self.most
            case "SampleCount":
                return self.count
            case _:
                return self.total / self.count


class MetricStore:
    def __init__(self) -> None:
        self.series: dict[Key, dict[int, Point]] = {}

    def put(self, key: Key, at: float, point: Point) -> None:
        minute = int(at // MINUTE_S)
        self.series.setdefault(key, {}).setdefault(minute, Point()).add(point)

    def read(self, key: Key, statistic: str, period: int, start: float, end: float) -> Series:
        """Values by start of period, for the periods from `start` to before `end` that have data."""
        points = self.series.get(key)
        if not points:
            return {}
        if period == MINUTE_S:
            each = (minute for minute in range(int(start // MINUTE_S), math.ceil(end / MINUTE_S)) if minute in points)
            return {float(m * MINUTE_S): points[m].statistic(statistic) for m in each if points[m].count}
        together: dict[float, Point] = {}
        first, last = int(start // MINUTE_S), int(start + math.ceil((end - start) / period) * period) // MINUTE_S
        # A series of a few points a day, or a day of minutes: whichever is shorter is gone through.
        minutes = sorted(points) if len(points) < last - first else range(first, last)
        for minute in minutes:
            at = start + (minute * MINUTE_S - start) // period * period
            if start <= at < end and minute in points:
                together.setdefault(at, Point()).add(points[minute])
        return {at: point.statistic(statistic) for at, point in together.items() if point.count}

    def forget(self, oldest: float) -> None:
        """Throw away every point before `oldest`, unix seconds."""
        minute = int(oldest // MINUTE_S)
        for points in self.series.values():
            for at in [at for at in points if at < minute]:
                del points[at]
