"""What the scaling law remembers from look to look, and how it is stored. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .scaling_week import MOST, SLOT_S, WEEK, Week

MAX_BINS = 48  # groups of waiting jobs by arrival
MAX_BOOTS = 60  # latest cold starts
MAX_BOOTING = 24  # instances whose boot is timed
MAX_HISTORY = 12  # values of a running maximum
TIME_LIMIT = 10.0**11  # no time is believed beyond this, in unix seconds (the year 5138)
_AGED = ("arrivals", "peaks", "keeps")  # lists of moments and values


@dataclass(frozen=True)
class State:
    """At most 4 KB as JSON. Times are unix seconds.

    The last reading of the running counts and of the messages outstanding; the learned service time as ``job_s``
    seconds over ``jobs`` jobs; the last cold starts and the instances booting at the last look (CRC-32 of their ids);
    the jobs that wait by arrival; jobs ``started`` and ``late`` lately; arrivals per second over 90 and 300 s; highest
    loads and keeps of the last minutes; since when nothing waits, and when work last moved on (``progress_at``).

    Of the pools: spot instances present at the last look, since when spot owes some, when it was found to fail and when
    it was last probed; since when instances are to be replaced, and (``surge``) when replacements were asked for, how
    many instances there were, and how many were asked for.
    """

    looked_at: float | None = None
    completed: float = 0.0
    worked_s: float = 0.0
    outstanding: float = 0.0
    going: float = 0.0
    noise: float = 0.0
    jobs: float = 0.0
    job_s: float = 0.0
    boots: tuple[float, ...] = ()
    booting: tuple[str, ...] = ()
    arrivals: tuple[tuple[float, float], ...] = ()
    started: float = 0.0
    late: float = 0.0
    rate_90: float = 0.0
    rate_300: float = 0.0
    peaks: tuple[tuple[float, float], ...] = ()
    keeps: tuple[tuple[float, float], ...] = ()
    quiet_since: float | None = None
    progress_at: float | None = None
    spot_live: int = 0
    short_since: float | None = None
    spot_failed_at: float | None = None
    probed_at: float | None = None
    replace_since: float | None = None
    surge: tuple[float, float, float] | None = None
    week: Week = field(default_factory=Week)

    def to_json(self) -> str:
        """Compact JSON, times and counts to a thousandth; ``from_json`` reads it back. Moments in lists are written as
        seconds before the look. It ends with a checksum: a number that was damaged and still makes sense would be
        believed for days, as what was learned is."""
        data = {**asdict(self), "booting": "".join(self.booting), "boots": [round(boot, 1) for boot in self.boots]}
        for name in _AGED:
            data[name] = [(_short((self.looked_at or 0.0) - at), _short(value)) for at, value in data[name]]
        data = _rounded(data)
        return _compact({**data, "check": _checksum(data)})

    @staticmethod
    def from_json(text: str | None) -> State:
        """The stored state; the initial one if there is none or it is damaged in any way."""
        try:
            data = json.loads(text or "")
            if data.pop("check") != _checksum(data):
                return State()
            state = State(**{one.name: _READ[one.name](data[one.name]) for one in fields(State)})
            at = state.looked_at
            if at is None:
                return State()
            aged = {name: tuple((max(0.0, at - age), value) for age, value in getattr(state, name)) for name in _AGED}
            return state.with_(**aged).sane(at)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            return State()

    def with_(self, **changes: Any) -> State:
        """The state with these fields changed, itself if none does: ``dataclasses.replace`` takes three times as long,
        and copies in any case."""
        known = vars(self)
        if all(known[name] == value for name, value in changes.items()):
            return self
        return State(**{**known, **changes})

    def sane(self, at: float) -> State:
        """The state without times after ``at``: a clock that jumped back must not freeze the law."""

        def past(moment: float | None) -> float | None:
            return None if moment is None else min(moment, at)

        return self.with_(
            looked_at=past(self.looked_at),
            arrivals=tuple((min(born, at), jobs) for born, jobs in self.arrivals),
            peaks=tuple((min(seen, at), load) for seen, load in self.peaks),
            keeps=tuple((min(seen, at), keep) for seen, keep in self.keeps),
            quiet_since=past(self.quiet_since),
            progress_at=past(self.progress_at),
            short_since=past(self.short_since),
            spot_failed_at=past(self.spot_failed_at),
            probed_at=past(self.probed_at),
            replace_since=past(self.replace_since),
            surge=None if self.surge is None else (min(self.surge[0], at), *self.surge[1:]),
            week=self.week if self.week.slot * SLOT_S <= at + SLOT_S else Week(),
        )


def _compact(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def _checksum(data: dict[str, Any]) -> str:
    """CRC-32 of everything that is stored."""
    return f"{zlib.crc32(_compact(data).encode()):08x}"


def _short(value: float) -> float:
    """To a thousandth, or whole where it is so large that a thousandth does not matter."""
    return round(value, 3) if abs(value) < 10_000 and value % 1 else round(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e12 <= value <= 1e12:
        raise ValueError("not a number that a count or a time could have")
    return float(value)


def _time(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= TIME_LIMIT:
        raise ValueError("not a time")
    return number


def _positive(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError("negative")
    return number


def _whole(value: Any) -> int:
    return int(_positive(value))


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _pairs(most: int) -> Callable[[Any], tuple[tuple[float, float], ...]]:
    def read(value: Any) -> tuple[tuple[float, float], ...]:
        pairs = tuple((_time(age), _positive(number)) for age, number in value)
        if len(pairs) > most:
            raise ValueError("too many")
        return pairs

    return read


def _triple(value: Any) -> tuple[float, float, float]:
    at, before, asked = value
    return _time(at), _positive(before), _positive(asked)


def _numbers(value: Any) -> tuple[float, ...]:
    if len(value) > MAX_BOOTS:
        raise ValueError("too many")
    return tuple(_positive(one) for one in value)


def _keys(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str) or not value.isascii() or len(value) > 8 * MAX_BOOTING:
        raise ValueError("not keys of eight characters")
    return tuple(value[n : n + 8] for n in range(0, len(value), 8))


def _week(value: Any) -> Week:
    profile, slot = value["profile"], _whole(value["slot"])
    if not isinstance(profile, str) or len(profile) not in (0, WEEK) or not profile.isascii():
        raise ValueError("not a week")
    names = ("load_s", "seen_s", "previous", "by_day", "by_week", "by_last")
    load_s, seen_s, previous, *errors = (min(_positive(value[name]), 1e9) for name in names)
    return Week(profile, slot, load_s, seen_s, min(previous, MOST), *errors)


_READ: dict[str, Callable[[Any], Any]] = {
    "looked_at": _or_none(_time),
    "completed": _number,
    "worked_s": _number,
    "outstanding": _positive,
    "going": _positive,
    "noise": _positive,
    "jobs": _positive,
    "job_s": _positive,
    "boots": _numbers,
    "booting": _keys,
    "arrivals": _pairs(MAX_BINS),
    "started": _positive,
    "late": _positive,
    "rate_90": _positive,
    "rate_300": _positive,
    "peaks": _pairs(MAX_HISTORY),
    "keeps": _pairs(MAX_HISTORY),
    "quiet_since": _or_none(_time),
    "progress_at": _or_none(_time),
    "spot_live": _whole,
    "short_since": _or_none(_time),
    "spot_failed_at": _or_none(_time),
    "probed_at": _or_none(_time),
    "replace_since": _or_none(_time),
    "surge": _or_none(_triple),
    "week": _week,
}
