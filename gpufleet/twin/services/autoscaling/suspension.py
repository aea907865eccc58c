"""AWS's own suspension of a group's processes.

User guide, "Suspend and resume processes": a group "that has been trying to launch instances for over 24 hours but has
not succeeded in launching any" is suspended administratively; anybody who may resume processes may resume these.
AWS publishes neither the words of the reason nor which processes it suspends: here all but Terminate, which is the side
on which nothing starts and what runs can still be ended, and a reason that does not begin with "User suspended at", as
every user's does.
"""

from __future__ import annotations

from collections.abc import Iterable

from .model import PROCESSES, Group, stamp

FAILING_S = 24 * 3600.0
SUSPENDED = tuple(name for name in PROCESSES if name != "Terminate")


def user_reason(now: float) -> str:
    return f"User suspended at {stamp(now)}"


def administrative_reason(now: float) -> str:
    return f"Administrative suspension at {stamp(now)}: the group has repeatedly failed to launch instances"


def suspend(group: Group, processes: Iterable[str], now: float) -> None:
    """Suspend them administratively; what is suspended already keeps its reason."""
    for process in processes:
        group.suspended.setdefault(process, administrative_reason(now))


def failed(group: Group, now: float, patience_s: float) -> None:
    """A launch failed: after `patience_s` of nothing else the group is suspended.

    `group.failing_since` is taken back when an instance comes into service, when the group has what it wants, and when
    Launch is resumed.
    """
    if group.failing_since is None:
        group.failing_since = now
    elif now - group.failing_since > patience_s:
        suspend(group, SUSPENDED, now)
