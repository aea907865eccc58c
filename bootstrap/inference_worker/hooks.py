"""Telling the group that a wait is over."""

from __future__ import annotations

from typing import Literal

from .ports import Lifecycle, UnavailableError
from .runtime import Runtime

TRIES, PAUSE_S = 6, 10


def complete(runtime: Runtime, lifecycle: Lifecycle, hook: str | None, result: Literal["CONTINUE", "ABANDON"]) -> bool:
    """End the wait of this instance at `hook`; False if there is no hook or the instance does not wait there.

    The wait may begin a moment after it was announced, and calls fail: asked six times, ten seconds apart. Whatever
    happens, the hook's own timeout remains.
    """
    if hook is None:
        return False
    for _ in range(TRIES):
        try:
            if lifecycle.complete(hook, result):
                runtime.log({"event": "hook", "hook": hook, "result": result})
                return True
        except UnavailableError as problem:
            runtime.log({"event": "hook-not-completed", "hook": hook, "problem": str(problem)})
        runtime.sleep(PAUSE_S)
    runtime.log({"event": "not-at-hook", "hook": hook})
    return False
