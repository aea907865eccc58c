"""The store of CloudWatch metrics: one-minute points, read back as statistics over any period of whole minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .metric_math import Series

MINUTE_S = 60
STATISTICS = ("Average", "Sum", "Minimum", "Maximum", "SampleCount")
Key = tuple[str, str, tuple[tuple[str, str], ...]]  # namespace, name, sorted dimensions


def key_of(namespace: str, name: str, dimensions: Mapping[str, str]) -> Key:
    return namespace, name, tuple(sorted(dimensions.items()))


@dataclass
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
        found: Series = {}
        if not points:
            return found
        at = start
        while at < end:
            together = Point()
            for minute in range(int(at // MINUTE_S), int((at + period) // MINUTE_S)):
                if minute in points:
                    together.add(points[minute])
            if together.count:
                found[at] = together.statistic(statistic)
            at += period
        return found
