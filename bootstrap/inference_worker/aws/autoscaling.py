"""This instance in its Auto Scaling group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from botocore.exceptions import ClientError

from .errors import asking, code


class GroupMember:
    """Lifecycle. A node does not know which of its fleet's groups it is in: it asks each in turn."""

    def __init__(self, client: Any, groups: Sequence[str], instance_id: str) -> None:
        self._autoscaling = client
        self._groups = groups
        self._instance_id = instance_id

    def complete(self, hook: str, result: Literal["CONTINUE", "ABANDON"]) -> bool:
        # By instance id: the token goes to whoever listens to the group's notifications, and nobody does.
        return self._at_hook(
            "complete hook",
            lambda group: self._autoscaling.complete_lifecycle_action(
                LifecycleHookName=hook,
                AutoScalingGroupName=group,
                InstanceId=self._instance_id,
                LifecycleActionResult=result,
            ),
        )

    def extend(self, hook: str) -> bool:
        return self._at_hook(
            "extend hook",
            lambda group: self._autoscaling.record_lifecycle_action_heartbeat(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=self._instance_id
            ),
        )

    def terminate(self) -> None:
        with asking("terminate"):
            try:
                self._terminate(decrement=True)
            except ClientError as problem:
                # Refused when the desired count already is at the minimum; then nothing replaces this instance.
                text = str(problem.response.get("Error", {}).get("Message", "")).lower()
                if code(problem) != "ValidationError" or ("minsize" not in text and "min size" not in text):
                    raise
                self._terminate(decrement=False)

    def _terminate(self, *, decrement: bool) -> None:
        self._autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=self._instance_id, ShouldDecrementDesiredCapacity=decrement
        )

    def _at_hook(self, what: str, ask: Callable[[str], Any]) -> bool:
        """ValidationError: the instance does not wait at that hook in that group."""
        for group in self._groups:
            with asking(what):
                try:
                    ask(group)
                    return True
                except ClientError as problem:
                    if code(problem) != "ValidationError":
                        raise
        return False
