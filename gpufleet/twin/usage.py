"""How much was used of what is charged by use, hour by hour: requests, gigabytes, hours of a metric.

Counted at the moment of use, kept by the hour for as long as the cloud lives, so that the bill of any span of the past
can be made without going through the calls. Within an hour of the past, use counts as even.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from .clock import Clock

HOUR = 3600.0


@dataclass(slots=True)
class Series:
    """The use of one thing. `hours`: those with use, as counts of hours since 1970; `before`: all that was used before
    each of them; `inside`: what was used in it."""

    hours: list[int] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)

    def add(self, hour: int, quantity: float) -> None:
        if self.hours and self.hours[-1] == hour:
            self.inside[-1] += quantity
            return
        self.before.append(self.before[-1] + self.inside[-1] if self.hours else 0.0)
        self.hours.append(hour)
        self.inside.append(quantity)

    def until(self, at: float, now: float) -> float:
        """All that was used before the moment `at`. `now`: the hour that is under way has been used up to here."""
        found = bisect_right(self.hours, at / HOUR) - 1
        if found < 0:
            return 0.0
        begun = self.hours[found] * HOUR
        so_far = min(HOUR, now - begun)
        share = 1.0 if so_far <= 0 else min(1.0, (at - begun) / so_far)
        return self.before[found] + self.inside[found] * share


class Usage:
    """Quantities by (kind, item), in the unit that the kind is charged by, and the dollars of all together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._series: dict[tuple[str, str], Series] = {}
        self._dollars = Series()
        self._prices: dict[tuple[str, str], float] = {}
        self._metrics: dict[str, int] = {}

    def add(self, kind: str, item: str, quantity: float, usd_each: float) -> None:
        """`quantity` more of `item` was used now, at `usd_each` dollars a unit."""
        hour = int(self._clock.now() // HOUR)
        series = self._series.get((kind, item))
        if series is None:
            series = self._series[(kind, item)] = Series()
            self._prices[(kind, item)] = usd_each
        series.add(hour, quantity)
        self._dollars.add(hour, quantity * usd_each)

    def hourly(self, kind: str, item: str, usd_each: float) -> None:
        """`item` is in use in this hour, and counts for the whole of it, once."""
        hour = int(self._clock.now() // HOUR)
        if self._metrics.get(item) != hour:
            self._metrics[item] = hour
            self.add(kind, item, 1.0, usd_each)

    def used(self, start: float, end: float) -> Iterator[tuple[str, str, float, float]]:
        """(kind, item, quantity, dollars) of everything used from `start` to before `end`, unix seconds."""
        now = self._clock.now()
        for (kind, item), series in self._series.items():
            quantity = series.until(end, now) - series.until(start, now)
            if quantity > 0:
                yield kind, item, quantity, quantity * self._prices[(kind, item)]

    def dollars(self, start: float, end: float) -> float:
        """What all that was used from `start` to before `end` costs."""
        now = self._clock.now()
        return self._dollars.until(end, now) - self._dollars.until(start, now)
