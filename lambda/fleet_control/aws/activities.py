"""What Auto Scaling's activities tell that its groups do not: launches that failed, and why an instance left.

The texts are AWS's (Auto Scaling user guide, "Verify a scaling activity" and "Troubleshoot"); only these phrases count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LATEST = 50  # activities that are asked for, newest first
ABANDONED = "abandoned"  # the node gave its boot up, or was not heard before its hook's deadline
# Somebody's will: a terminate by name (a drain, a stop, the node itself without an allowance), or a lowered desired.
WANTED = ("in response to a user request", "difference between desired and actual capacity, shrinking")
SPOT_TOOK_IT = "SpotInstanceTermination"


class Activities:
    """The latest activities of groups, each group asked at most once, and only if somebody wants to know."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: dict[str, list[Mapping[str, Any]]] = {}

    def of(self, group: str) -> list[Mapping[str, Any]]:
        if group not in self._known:
            answer = self._client.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=LATEST)
            self._known[group] = answer["Activities"]
        return self._known[group]


def launch_failed_at(activities: Iterable[Mapping[str, Any]]) -> float | None:
    """When a launch last failed to get an instance, unix seconds; None if none did. One that names an instance got one
    and failed later."""
    starts = [
        one["StartTime"].timestamp()
        for one in activities
        if one["StatusCode"] == "Failed"
        and one.get("Description", "").startswith("Launching")
        and "instance: i-" not in one.get("Description", "")
    ]
    return max(starts, default=None)


def boot_failed(activities: Iterable[Mapping[str, Any]], instance_id: str) -> bool:
    """Whether an instance that left before it came into service failed to boot, by the activities that name it. What
    they do not explain counts as a failure (a machine that powers itself off looks like that): the other way round it
    would be launched without end."""
    texts = [" ".join(str(one.get(key, "")) for key in ("Description", "Cause", "StatusMessage")) for one in activities]
    told = " ".join(text for text in texts if instance_id in text)
    return ABANDONED in told or not any(phrase in told for phrase in (*WANTED, SPOT_TOOK_IT))
