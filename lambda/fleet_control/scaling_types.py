"""What the scaling law reads and is told. Frozen, standard library only.

Times are unix seconds, durations seconds. Counters may be late, noisy or absurd: the law makes them sane itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Instance:
    """One instance that is not terminated.

    ``pool``: ``spot`` or ``on-demand``. ``state``: ``booting`` (cannot serve yet), ``ready`` or ``draining``. ``busy``:
    slots in use as its worker reports them, None if it does not report. ``template``: version it was launched from.
    """

    id: str
    pool: str
    state: str
    launched_at: float
    busy: int | None = None
    template: str = ""


@dataclass(frozen=True)
class Pool:
    """One half of the fleet: ``desired`` instances are asked for (draining ones not counted), from ``template``.

    ``failed_at``: start of the latest launch that the cloud could not deliver, None if none is known.
    """

    name: str
    desired: int = 0
    template: str | None = None
    failed_at: float | None = None


@dataclass(frozen=True)
class Observation:
    """One look at the fleet.

    ``visible``, ``delayed``, ``in_flight``: messages. ``completed`` and ``worked_s``: running counts of jobs done and
    of seconds that slots worked on them, over all workers, departed ones kept, of the same moment as the messages
    (``worked_s`` stays 0 where workers do not tell). ``cold_starts``: seconds from launch to first readiness of the
    boots that were seen, where somebody else keeps them; the law also times the boots it sees itself. Without ``pools``
    the fleet is one spot pool that owes nothing.
    """

    at: float
    visible: float
    delayed: float
    in_flight: float
    completed: float
    instances: tuple[Instance, ...] = ()
    pools: tuple[Pool, ...] = ()
    worked_s: float = 0.0
    cold_starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Window:
    """Weekly hours in which ``floor`` instances are kept. ``days``: mon..sun, the days on which it opens.

    ``start`` and ``end`` are wall-clock times "HH:MM" in the IANA ``time_zone``; an ``end`` at or before ``start`` is
    on the next day.
    """

    days: tuple[str, ...]
    start: str
    end: str
    time_zone: str
    floor: int

    def __post_init__(self) -> None:
        unknown = [day for day in self.days if day not in DAYS]
        if unknown:
            raise ValueError(f"window days: unknown {unknown}; use {', '.join(DAYS)}")
        for name in ("start", "end"):
            time.fromisoformat(getattr(self, name))
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"window time_zone {self.time_zone!r}: not a known IANA time zone") from error

    def open_at(self, at: float) -> bool:
        """Whether the window is open at unix time ``at``; wall-clock time decides, also on days that change the
        clock.
        """
        local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None)
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        for back in (0, 1):
            day = local.date() - timedelta(days=back)
            opens = datetime.combine(day, start)
            closes = datetime.combine(day + timedelta(days=0 if end > start else 1), end)
            if DAYS[day.weekday()] in self.days and opens <= local < closes:
                return True
        return False


@dataclass(frozen=True)
class Policy:
    """What was promised and what is allowed.

    ``slots``: jobs at once on an instance. ``wait_target_s``: a job is started within this time. ``service_s`` and
    ``cold_start_s``: expected values, until learned. ``tick_s``: time between looks; ``metric_lag_s``: age of the
    counters at a look. ``floor`` and ``cap``: least and most instances. ``headroom``: free slots kept while any is
    busy, at most ``slots - 1``. ``on_demand_base``: so many of the wanted instances are on-demand from the start.
    ``on_demand_fallback``: on-demand also gets what spot fails to deliver. Raises ValueError with the field, its value
    and the rule.
    """

    slots: int
    wait_target_s: float
    service_s: float
    cold_start_s: float
    tick_s: float = 10.0
    metric_lag_s: float = 0.0
    floor: int = 0
    cap: int = 1
    headroom: int = 1
    windows: tuple[Window, ...] = ()
    on_demand_base: int = 0
    on_demand_fallback: bool = True

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("floor", 0), ("cap", 0), ("headroom", 0), ("on_demand_base", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"policy {name} = {value!r}: must be a whole number of at least {least}")
        if not isinstance(self.on_demand_fallback, bool):
            raise ValueError(f"policy on_demand_fallback = {self.on_demand_fallback!r}: must be true or false")
        for name in ("wait_target_s", "service_s", "tick_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"policy {name} = {value!r}: must be a number of seconds above 0")
        for name in ("cold_start_s", "metric_lag_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(f"policy {name} = {value!r}: must be a number of seconds, 0 or more")

    @cached_property
    def margin_s(self) -> float:
        """What a look cannot see: half a tick of an arrival's age, and a tick until the next look."""
        return 1.5 * self.tick_s

    @cached_property
    def patience_s(self) -> float:
        """The part of the wait target that is left to plan with: the margin and the metrics' lag are kept back."""
        return self.wait_target_s - self.margin_s - self.metric_lag_s


def floor_at(policy: Policy, at: float) -> int:
    """Least number of instances wanted at unix time ``at``: the largest of the policy's and the open windows'
    floors.
    """
    if not policy.windows or not 0 <= at < 250_000_000_000:  # beyond what a calendar can tell
        return policy.floor
    return max([policy.floor, *(window.floor for window in policy.windows if window.open_at(at))])
