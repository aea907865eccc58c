"""The floor that a stack's settings ask for at a moment: what the walk expects, whatever the controller makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from components.settings import Settings, Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def floor_at(settings: Settings, at: float) -> int:
    """Instances to keep at `at` (unix seconds): the largest of the floor and the open windows', within the cap."""
    floors = [settings.floor, *(window.floor for window in settings.schedule if _open(window, at))]
    return min(max(floors), settings.max_gpu_instances)


def _open(window: Window, at: float) -> bool:
    """Wall-clock time decides; a window that ends at or before its start ends on the next day."""
    local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(window.time_zone)).replace(tzinfo=None)
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    length = timedelta(hours=end.hour - start.hour, minutes=end.minute - start.minute)
    if length <= timedelta():
        length += timedelta(days=1)
    for began in (local.date(), local.date() - timedelta(days=1)):
        opens = datetime.combine(began, start)
        if DAYS[began.weekday()] in window.days and opens <= local < opens + length:
            return True
    return False
