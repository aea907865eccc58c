"""Which fleets nobody attends: what the guard says to the backstop, an alarm that launches one instance.

The alarm wants two things at once: a job that has waited longer than promised, and the guard's metric ``Unattended``.
The metric is there only while the guard ticks in full, the latch is clear, the fleet's controller has been silent for
ten minutes, nothing of the fleet runs or is asked for, and the budget pays for a launch. So a stopped fleet, a silent
meter, a spent budget, and a controller that lives and has its reasons (a hold, a dry run) launch nothing.

A controller that was never heard is not missed: a fleet may be scaled by something else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .config import GuardedFleet
from .groups import Group

SILENT_S = 600.0  # a controller that lives is heard every three minutes at the least
DEAF = frozenset({"Launch", "AlarmNotification"})  # with either suspended the alarm could not launch anyway


def unattended(
    fleets: Iterable[GuardedFleet],
    heard: Mapping[str, float],
    groups: Mapping[str, Group],
    running: Collection[str],
    room_usd: float,
    launch_usd: float,
    at: float,
) -> list[str]:
    """Names of the fleets that the backstop may wake; ``room_usd`` pays a launch for each of them.

    ``heard``: when each fleet's controller last stored its state, unix seconds; ``running``: the fleets of instances
    that have not ended.
    """
    found = []
    for fleet in fleets:
        silent = fleet.fleet in heard and at - heard[fleet.fleet] > SILENT_S
        empty = fleet.fleet not in running and all(_at_zero(groups.get(name)) for name in fleet.groups)
        if silent and empty and room_usd >= launch_usd:
            found.append(fleet.fleet)
            room_usd -= launch_usd
    return found


def _at_zero(group: Group | None) -> bool:
    return group is not None and not group.desired and not group.members and not group.suspended & DEAF
