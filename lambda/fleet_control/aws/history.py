"""The lives of instances as Auto Scaling remembers them: for six weeks, long after EC2 has forgotten them.

Asked only when the meter has a gap: an instance has vanished, no tick looked for about an hour, or the ledger is gone.
Activities tell when an instance was launched and when its end was complete, not its type. Texts: Auto Scaling user
guide, "Verify a scaling activity for an Auto Scaling group".
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from . import runtime
from .config import GuardedFleet

PAGES = 50  # of a hundred activities each, per group, some seconds: a launch and an end of 2,500 instances
_LAUNCH = re.compile(r"^Launching a new EC2 instance: (i-[0-9a-f]+)")
_END = re.compile(r"^Terminating EC2 instance: (i-[0-9a-f]+)")


class TooLongError(RuntimeError):
    """There is more history than one tick reads; what is missing must not pass for nothing."""


@dataclass(frozen=True)
class Life:
    """One instance of ``fleet``. ``launched_at``: None if that was before the time that was asked for; ``ended_at``:
    None if its end is not complete."""

    fleet: GuardedFleet
    spot: bool
    launched_at: float | None = None
    ended_at: float | None = None


def lives(fleets: Iterable[GuardedFleet], present: Container[str], since: float) -> dict[str, Life]:
    """Every instance that those groups of the fleets that are ``present`` launched or ended since ``since`` (unix
    seconds), by id. Raises TooLongError; any AWS error passes through."""
    found: dict[str, Life] = {}
    for fleet in fleets:
        for group in (name for name in fleet.groups if name in present):
            for activity in _activities(group, since):
                _learn(found, activity, Life(fleet, spot=group == fleet.spot_group))
    return found


def _activities(group: str, since: float) -> Iterable[Mapping[str, Any]]:
    start = datetime.fromtimestamp(since, UTC).isoformat()
    request: dict[str, Any] = {
        "AutoScalingGroupName": group,
        "Filters": [{"Name": "StartTimeLowerBound", "Values": [start]}],
        "MaxRecords": 100,
    }
    for _ in range(PAGES):
        answer = runtime.client("autoscaling").describe_scaling_activities(**request)
        yield from answer["Activities"]
        if not answer.get("NextToken"):
            return
        request["NextToken"] = answer["NextToken"]
    raise TooLongError(f"{group} has more than {100 * PAGES} activities since {start}")


def _learn(found: dict[str, Life], activity: Mapping[str, Any], new: Life) -> None:
    text = str(activity.get("Description", ""))
    launch, end = _LAUNCH.match(text), _END.match(text)
    if launch:
        life = found.get(launch[1], new)
        found[launch[1]] = replace(life, launched_at=activity["StartTime"].timestamp())
    elif end and "EndTime" in activity:
        life = found.get(end[1], new)
        found[end[1]] = replace(life, ended_at=activity["EndTime"].timestamp())
