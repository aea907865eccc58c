"""What the scaling law reads, remembers and is told. Frozen, standard library only.

Times are unix seconds, durations seconds. Counters may be late, noisy or absurd: the law makes them sane itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, time, timedelta
from typing import Any
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
    of seconds that slots worked on them, over all workers, departed ones kept. ``cold_starts``: seconds from launch
    to first readiness of the boots that were seen. Without ``pools`` the fleet is one spot pool that owes nothing.
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
    busy. ``idle_grace_s``: nothing leaves before it was idle, and nothing waited, for so long (60: the queue's
    counters need a minute to settle). Raises ValueError with the field, its value and the rule.
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
    idle_grace_s: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("floor", 0), ("cap", 0), ("headroom", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"policy {name} = {value!r}: must be a whole number of at least {least}")
        for name in ("wait_target_s", "service_s", "tick_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"policy {name} = {value!r}: must be a number of seconds above 0")
        for name in ("cold_start_s", "metric_lag_s", "idle_grace_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(f"policy {name} = {value!r}: must be a number of seconds, 0 or more")

    @property
    def patience_s(self) -> float:
        """The part of the wait target the law may use: one and a half ticks and the metrics' lag are kept back."""
        return self.wait_target_s - 1.5 * self.tick_s - self.metric_lag_s


def floor_at(policy: Policy, at: float) -> int:
    """Least number of instances wanted at unix time ``at``: the largest of the policy's and the open windows'
    floors.
    """
    if not 0 <= at < 250_000_000_000:  # beyond what a calendar can tell
        return policy.floor
    return max([policy.floor, *(window.floor for window in policy.windows if window.open_at(at))])


@dataclass(frozen=True)
class State:
    """What the law remembers from look to look; at most 4 KB as JSON.

    The last reading of the running counts; the learned service time as ``job_s`` seconds over ``jobs`` jobs; the jobs
    that wait by arrival; since when nothing waits (``quiet_since``), since when each instance is idle (by the CRC-32 of
    its id), when work last moved on (``progress_at``), since when spot owes instances, and when it was found to fail.
    """

    looked_at: float | None = None
    completed: float = 0.0
    worked_s: float = 0.0
    jobs: float = 0.0
    job_s: float = 0.0
    outstanding: float = 0.0
    arrivals: tuple[tuple[float, float], ...] = ()
    quiet_since: float | None = None
    progress_at: float | None = None
    idle: tuple[tuple[str, float], ...] = ()
    spot_live: int = 0
    short_since: float | None = None
    spot_failed_at: float | None = None

    def to_json(self) -> str:
        """Compact JSON; ``from_json`` reads it back to an equal state."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str | None) -> State:
        """The stored state; the initial one if there is none or it is damaged in any way."""
        try:
            data = json.loads(text or "")
            return State(**{one.name: _READ[one.name](data[one.name]) for one in fields(State)})
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return State()

    def sane(self, at: float) -> State:
        """The state without times after ``at``: a clock that jumped back, or a damaged store, must not freeze the
        law.
        """

        def past(moment: float | None) -> float | None:
            return None if moment is None else min(moment, at)

        return State(
            looked_at=past(self.looked_at),
            completed=self.completed,
            worked_s=self.worked_s,
            jobs=self.jobs,
            job_s=self.job_s,
            outstanding=self.outstanding,
            arrivals=tuple((min(born, at), jobs) for born, jobs in self.arrivals),
            quiet_since=past(self.quiet_since),
            progress_at=past(self.progress_at),
            idle=tuple((key, min(since, at)) for key, since in self.idle),
            spot_live=self.spot_live,
            short_since=past(self.short_since),
            spot_failed_at=past(self.spot_failed_at),
        )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e12 <= value <= 1e12:
        raise ValueError("not a number that a count or a time could have")
    return float(value)


def _positive(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError("negative")
    return number


def _moment(value: Any) -> float | None:
    return None if value is None else _number(value)


def _bins(value: Any) -> tuple[tuple[float, float], ...]:
    bins = tuple((_number(born), _positive(jobs)) for born, jobs in value)
    if len(bins) > 100:
        raise ValueError("too many groups")
    return bins


def _idle(value: Any) -> tuple[tuple[str, float], ...]:
    idle = tuple((str(key), _number(since)) for key, since in value)
    if len(idle) > 100 or any(len(key) > 8 for key, _ in idle):
        raise ValueError("too many instances")
    return idle


_READ: Mapping[str, Any] = {
    "looked_at": _moment,
    "completed": _number,
    "worked_s": _number,
    "jobs": _positive,
    "job_s": _positive,
    "outstanding": _positive,
    "arrivals": _bins,
    "quiet_since": _moment,
    "progress_at": _moment,
    "idle": _idle,
    "spot_live": lambda value: int(_positive(value)),
    "short_since": _moment,
    "spot_failed_at": _moment,
}
