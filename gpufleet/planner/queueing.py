"""What no scaling law could do better: the waits of jobs in front of a fleet that is always on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable


def waits_always_on(arrivals: Iterable[float], servers: int, service_s: float) -> list[float]:
    """Seconds that each job waits for one of `servers` slots that are never off, first come, first served.

    `arrivals` ascending, in seconds; every job takes `service_s`. A fleet with the same cap that sleeps in between can
    only do worse: this is the yardstick for what a cap allows.
    """
    free_at = [0.0] * servers
    waits = []
    for at in arrivals:
        start = max(at, heapq.heappop(free_at))
        waits.append(start - at)
        heapq.heappush(free_at, start + service_s)
    return waits
