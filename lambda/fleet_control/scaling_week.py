"""What a week of load looks like, slot by slot: the law's learned profile and its forecast. Pure.

Load is measured in instances (arrivals per second times service time over slots). A week of ten-minute slots is kept as
one printable character each, on a logarithmic scale: 1,008 bytes, within 6 % of the value from 0.02 to 700 instances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SLOT_S = 600
DAY, WEEK = 144, 1008  # slots
SCALE = "".join(chr(code) for code in range(35, 127) if chr(code) != "\\")  # printable, no quote, no backslash
UNKNOWN = "!"
LEAST, STEP = 0.02, 1.125  # the scale's first value above zero (instances), and the ratio of neighbours
MOST = LEAST * STEP ** (len(SCALE) - 2)  # the scale's last value
FADE = 0.995  # weight of an error after one slot: half of it is forgotten in a day
TRUSTED = 3.0  # a forecast is used while it errs less than so many times what the slot before would have


@dataclass(frozen=True)
class Week:
    """The last week's mean load by slot, the slot under way, and how far each way to forecast it has erred.

    ``profile``: empty, or a character for each slot of the week from the epoch on. ``slot``: number of the slot under
    way (since 1970), with ``load_s`` instance-seconds seen in ``seen_s`` seconds. ``previous``: the slot before's load.
    ``by_day``, ``by_week``, ``by_last``: faded absolute errors of yesterday's slot, last week's slot, the slot before.
    """

    profile: str = ""
    slot: int = 0
    load_s: float = 0.0
    seen_s: float = 0.0
    previous: float = 0.0
    by_day: float = 0.0
    by_week: float = 0.0
    by_last: float = 0.0


def add(week: Week, at: float, seconds: float, load: float) -> Week:
    """The week after ``seconds`` of ``load`` up to unix time ``at``."""
    slot, seconds, load = int(at // SLOT_S), min(seconds, SLOT_S), min(load, MOST)
    if slot == week.slot:
        seen = (min(week.load_s + load * seconds, MOST * SLOT_S), min(week.seen_s + seconds, SLOT_S))
        return Week(week.profile, slot, seen[0], seen[1], week.previous, week.by_day, week.by_week, week.by_last)
    return _closed(week, slot)


def _closed(week: Week, slot: int) -> Week:
    """The week with its slot under way written down; slots that nobody saw become unknown."""
    profile, mean = list(week.profile or UNKNOWN * WEEK), week.previous
    by_day, by_week, by_last = week.by_day, week.by_week, week.by_last
    if week.seen_s > 0:
        mean = min(week.load_s / week.seen_s, MOST)
        yesterday, last_week = _value(profile[(week.slot - DAY) % WEEK]), _value(profile[week.slot % WEEK])
        if yesterday is not None:
            by_day = FADE * by_day + abs(mean - yesterday)
            by_last = FADE * by_last + abs(mean - week.previous)
        if last_week is not None:
            by_week = FADE * by_week + abs(mean - last_week)
        profile[week.slot % WEEK] = _character(mean)
    for missed in range(week.slot + 1, min(slot, week.slot + WEEK)) if 0 < week.slot < slot else ():
        profile[missed % WEEK] = UNKNOWN
    return Week("".join(profile), slot, 0.0, 0.0, mean, by_day, by_week, by_last)


def forecast(week: Week, at: float) -> float:
    """Load expected at unix time ``at`` (less than a day ahead), in instances; 0 where nothing trusted is known."""
    if not week.profile:
        return 0.0
    slot = int(at // SLOT_S)
    yesterday, last_week = _value(week.profile[(slot - DAY) % WEEK]), _value(week.profile[slot % WEEK])
    value, error = yesterday, week.by_day
    if last_week is not None and (yesterday is None or week.by_week < week.by_day):
        value, error = last_week, week.by_week
    if value is None or error > TRUSTED * week.by_last:
        return 0.0
    return value


def _character(load: float) -> str:
    if load < LEAST / 2:
        return SCALE[0]
    level = 1 + round(math.log(load / LEAST) / math.log(STEP))
    return SCALE[min(max(level, 1), len(SCALE) - 1)]


def _value(character: str) -> float | None:
    level = SCALE.find(character)
    if level <= 0:
        return None if level < 0 else 0.0
    return LEAST * STEP ** (level - 1)
