"""Whether a fleet may run, as its groups say when the program runs: the output `fleetState` of a stack.

A stop outlives every `pulumi up`: suspended processes and desired capacity belong to the laws (`fleet_plans`), so no
plan shows them. This output does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pulumi
import pulumi_aws as aws

MAY_RUN: Final = "may run"
_GROUP: Final = "aws:autoscaling/getGroup:getGroup"


def in_words(stack: str, suspended: Mapping[str, Iterable[str]]) -> str:
    """`suspended`: the suspended processes of each group. A fleet whose every group cannot launch is stopped."""
    held = [group for group, processes in suspended.items() if "Launch" in processes]
    if not held:
        return MAY_RUN
    what = "stopped" if len(held) == len(suspended) else "stopped in part"
    return f"{what}: Launch is suspended in {', '.join(held)}; why: gpufleet audit --stack {stack}"


def fleet_state(parent: pulumi.Resource, stack: str, groups: Sequence[aws.autoscaling.Group]) -> pulumi.Output[str]:
    """`in_words` of `groups` at the time of the run. Unknown in a preview that would create one of them: a group's id,
    which is its name, is known from its creation on.

    A group that cannot be read (deleted by hand, calls throttled) is told and fails nothing: `up --refresh` must still
    be able to mend it.
    """
    options = pulumi.InvokeOptions(parent=parent)

    async def read(names: list[str]) -> str:
        found: dict[str, Any] = {}
        for name in names:
            try:
                # Not `get_group_output`: an output that fails, fails the program, also if somebody awaits it.
                answer = await pulumi.runtime.invoke_async(_GROUP, {"name": name}, options)
            except Exception as error:  # the SDK raises nothing narrower for what a provider refuses
                return f"unknown: {name} cannot be read: {error}"
            found[name] = answer.get("suspendedProcesses") or []
        return in_words(stack, found)

    return pulumi.Output.all(*(group.id for group in groups)).apply(read)
