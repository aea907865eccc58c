"""The service model. What it has no call for (warm pools, standby, refreshes, ...) is refused by name."""

from __future__ import annotations

from .group_calls import GroupCalls
from .instance_calls import InstanceCalls
from .policy_calls import PolicyCalls


class AutoScaling(GroupCalls, InstanceCalls, PolicyCalls):
    """Groups by name are `groups`; what moves them is `lifecycle`, with its knob `takes_pending`."""
