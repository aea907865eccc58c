"""What a stack's settings promise and cannot keep; here: a wait target when an instance takes long to start, and what
impatience costs. Pure but for `warn`. What the cap may cost is told by `full_load`.

The scaling law hides a cold start inside the wait target if the target leaves time for the start and for seeing that
it is needed. Below that, nobody can start a job in time from zero; jobs then wait for what the target allows, for the
start, and for two looks at the queue.
"""

from __future__ import annotations

import itertools
import math
from datetime import date
from typing import TYPE_CHECKING, Final

import pulumi

from . import full_load

if TYPE_CHECKING:
    from .settings import Settings

SEEING_SECONDS: Final = 25  # a look at the queue (10 s), and the one and a half that the law keeps back
LATE_SECONDS: Final = 20  # two looks: what a wait may exceed target and cold start by

# Wait target in seconds -> GPU cost, as a multiple of the cost at 600 s. Geometric mean over six workloads of one and
# two weeks at recorded rates, with a cold start of 240 s, the law deciding: "impatience" in docs/scaling-bench.json.
PRICE_OF_IMPATIENCE: Final = {
    30: 1.89,
    60: 1.76,
    120: 1.60,
    180: 1.50,
    240: 1.35,
    270: 1.16,
    300: 1.10,
    400: 1.06,
    600: 1.00,
}
MEASURED_COLD_START_SECONDS: Final = 240
PATIENT_SECONDS: Final = 30  # beyond the cold start: the first target behind the steep part of the price

IMPATIENCE: Final = (
    f"Below the cold start plus {SEEING_SECONDS} s it cannot be kept from zero: a job then waits for the target, the "
    f"cold start and {LATE_SECONDS} s at most. Impatience costs; measured with a cold start of "
    f"{MEASURED_COLD_START_SECONDS} s, as a multiple of the cost at 600 s: "
    + ", ".join(f"{PRICE_OF_IMPATIENCE[target]:.2f} at {target} s" for target in (300, 270, 240, 120, 60))
    + "."
)


def relative_cost(wait_target_s: float, cold_start_s: float) -> float:
    """GPU cost at a wait target as a multiple of the cost at two and a half cold starts.

    Read off `PRICE_OF_IMPATIENCE`, linear in between; other cold starts by the ratio of both, an estimate.
    """
    wait = wait_target_s * MEASURED_COLD_START_SECONDS / cold_start_s
    points = sorted(PRICE_OF_IMPATIENCE.items())
    if wait <= points[0][0]:
        return points[0][1]
    for (low, dear), (high, cheap) in itertools.pairwise(points):
        if wait <= high:
            return dear + (cheap - dear) * (wait - low) / (high - low)
    return points[-1][1]


def warnings(settings: Settings) -> tuple[str, ...]:
    """What a stack's settings ask for that cannot be kept, each with what holds instead; none if all can be."""
    target, cold = settings.wait_target_seconds, settings.advanced.cold_start_seconds
    least = cold + SEEING_SECONDS
    if target >= least or settings.floor or any(window.floor for window in settings.schedule):
        return ()
    patient = math.ceil(cold + PATIENT_SECONDS)
    saved = 1 - relative_cost(patient, cold) / relative_cost(target, cold)
    longest = target + cold + LATE_SECONDS
    text = (
        f"waitTargetSeconds is {target}, but a fleet at zero needs {least:g} s for it: advanced.coldStartSeconds "
        f"({cold:g}), and {SEEING_SECONDS} s to see that a job waits. What holds, while cap, budget and capacity "
        f"suffice: no job waits longer than {longest:g} s ({target} + {cold:g} + {LATE_SECONDS}). A target of "
        f"{patient} s can be kept from zero, and the GPUs then cost about {100 * saved:.0f} % less. To be quicker, "
        "keep instances: set floor, or a schedule."
    )
    return (text,)


def warn(settings: Settings, today: date) -> None:
    """Tell `warnings` and those of `full_load` to whoever runs `pulumi preview` or `pulumi up`, once each.

    `today`: the date in UTC; only the program itself reads a clock. They are log lines and no resources: no plan
    differs for them.
    """
    for text in (*warnings(settings), *full_load.warnings(settings, today)):
        pulumi.log.warn(text)
