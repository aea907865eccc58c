"""EventBridge's schedule expressions and event patterns, as pure functions.

Source: EventBridge user guide, "Creating a rule that runs on a schedule" and "Event patterns".
"""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import AwsError, NotModelledError

_UNIT_S = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)}


def invalid_schedule(text: str) -> AwsError:
    return AwsError("ValidationException", f"Parameter ScheduleExpression is not valid: {text}")


@dataclass(frozen=True)
class Rate:
    """rate(value unit): every `period_s` seconds from the rule's start."""

    period_s: int


@dataclass(frozen=True)
class Cron:
    """cron(minutes hours day-of-month month day-of-week year), UTC. Day of week: 1 is Sunday."""

    minutes: frozenset[int]
    hours: frozenset[int]
    month_days: frozenset[int] | None  # None: "?"
    months: frozenset[int]
    week_days: frozenset[int] | None
    years: frozenset[int]

    def next(self, after: float) -> float | None:
        """The first minute after `after` (unix seconds) that matches, None when the years are over."""
        moment = datetime.fromtimestamp(after, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for offset in range(366 * 5):
            day = moment.date() + timedelta(days=offset)
            if day.year not in self.years or day.month not in self.months or not self._on(day.day, day.isoweekday()):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                    if at >= moment:
                        return at.timestamp()
        return None

    def _on(self, month_day: int, iso_week_day: int) -> bool:
        if self.month_days is not None:
            return month_day in self.month_days
        return self.week_days is not None and iso_week_day % 7 + 1 in self.week_days


def parse_schedule(text: str) -> Rate | Cron:
    """Raises `AwsError` ValidationException for what EventBridge refuses: `rate(1 minutes)`, both days given, ..."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)(s?)\)", text)
    if rate:
        value = int(rate[1])
        if value < 1 or (value == 1) == bool(rate[3]):  # singular for 1, plural for more
            raise invalid_schedule(text)
        return Rate(value * _UNIT_S[rate[2]])
    cron = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", text)
    if not cron:
        raise invalid_schedule(text)
    minutes, hours, month_day, month, week_day, year = cron.groups()
    if (month_day == "?") == (week_day == "?"):  # "you can't specify both": one of the two must be ?
        raise invalid_schedule(text)
    return Cron(
        _field(minutes, 0, 59, text),
        _field(hours, 0, 23, text),
        None if month_day == "?" else _field(month_day, 1, 31, text),
        _field(month, 1, 12, text, _MONTHS),
        None if week_day == "?" else _field(week_day, 1, 7, text, _DAYS),
        _field(year, 1970, 2199, text),
    )


def _field(field: str, low: int, high: int, text: str, names: Mapping[str, int] | None = None) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        if re.search(r"[LW#]", part) and part not in (names or {}) and not re.search(r"[A-Z]{3}", part):
            raise NotModelledError(f"the twin does not model L, W and # in {text}")
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
        if not match:
            raise invalid_schedule(text)
        first = low if match[1] == "*" else _number(match[1], names, text)
        last = _number(match[2], names, text) if match[2] else high if match[1] == "*" or match[3] else first
        if not low <= first <= last <= high:
            raise invalid_schedule(text)
        values.update(range(first, last + 1, int(match[3] or 1)))
    return frozenset(values)


def _number(text: str, names: Mapping[str, int] | None, whole: str) -> int:
    if names and text.upper() in names:
        return names[text.upper()]
    if not text.isdigit():
        raise invalid_schedule(whole)
    return int(text)


def parse_pattern(text: str) -> dict[str, Any]:
    """An event pattern. Raises `AwsError` InvalidEventPatternException for what is none."""
    try:
        pattern = json.loads(text)
    except json.JSONDecodeError as error:
        raise AwsError("InvalidEventPatternException", "Event pattern is not valid. Reason: not JSON") from error
    if not isinstance(pattern, dict) or not pattern:
        raise AwsError("InvalidEventPatternException", "Event pattern is not valid. Reason: no fields")
    _check_pattern(pattern)
    return pattern


def _check_pattern(pattern: Mapping[str, Any]) -> None:
    for key, wanted in pattern.items():
        if isinstance(wanted, dict):
            _check_pattern(wanted)
            continue
        if not isinstance(wanted, list) or not wanted:
            text = f'Event pattern is not valid. Reason: "{key}" must be an object or an array'
            raise AwsError("InvalidEventPatternException", text)
        for each in wanted:
            if isinstance(each, dict) and set(each) != {"prefix"}:
                raise NotModelledError(f"the twin matches events by value and by prefix, not by {sorted(each)}")


def matches(pattern: Mapping[str, Any], event: Any) -> bool:
    """Whether every field of the pattern has one of its values in the event."""
    for key, wanted in pattern.items():
        value = event.get(key) if isinstance(event, dict) else None
        if isinstance(wanted, dict):
            if not matches(wanted, value):
                return False
        elif not any(_one(each, found) for found in (value if isinstance(value, list) else [value]) for each in wanted):
            return False
    return True


def _one(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, str) and found.startswith(wanted["prefix"])
    return wanted == found and type(wanted) is type(found)
