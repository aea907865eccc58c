"""What a stack costs with its whole cap at work, and what is told of that before it is deployed. Pure.

The budget holds whatever happens, but it may hold by stopping the fleet: who sets a cap should see on which day. The
worst case is the cap of instances, all of the dearest listed type on demand, for every hour of a month of 31 days.
Instances that drain count against the cap, so they are in it. `costs` has the figures; the README's table shows the
same days.
"""

from __future__ import annotations

import calendar
import math
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

from . import catalog, costs

if TYPE_CHECKING:
    from .settings import Settings


def warnings(settings: Settings, today: date) -> tuple[str, ...]:
    """What is to be said of the money of a stack, if it is deployed on `today` (UTC); nothing if all is well."""
    return (*_budget_ends_early(settings, today), *_old_prices(today))


def _budget_ends_early(settings: Settings, today: date) -> Iterator[str]:
    worst, budget = costs.full_load_usd_per_month(settings), settings.monthly_budget_usd
    if worst <= budget:
        return
    days, idle = costs.days_at_full_load(settings), costs.idle_usd_per_month(settings)
    yield (
        f"monthlyBudgetUsd is {budget:,.0f}, but with the whole cap at work all month this stack would cost "
        f"${worst:,.0f}: {_what_runs(settings)}, and ${idle:,.0f} whatever runs. From the 1st the budget lasts "
        f"{days:.1f} days: the guard stops the fleet on the {ordinal(math.floor(days) + 1)}."
        f"{_from_today(settings, today)}"
    )


def _what_runs(settings: Settings) -> str:
    """The cap in words, draining instances included; reserved ones cost their disks beyond what is paid anyway."""
    held = settings.capacity_reservation.instances if settings.capacity_reservation else 0
    name, _ = catalog.dearest(settings.gpu_instance_types, settings.region)
    usd = costs.dearest_usd_per_hour(settings)
    free, parts = settings.max_gpu_instances - held, []
    if free:
        parts.append(f"{free} x {name}, the dearest of gpuInstanceTypes, on demand with its disk at ${usd:.2f} an hour")
    if held:
        parts.append(f"the disks of {held} reserved")
    return " and ".join(parts)


def _from_today(settings: Settings, today: date) -> str:
    """The same for what is left of this month, today included, if no GPU ran in it so far."""
    if today.day == 1:
        return ""
    left = calendar.monthrange(today.year, today.month)[1] - today.day + 1
    days, usd = costs.days_at_full_load(settings), left * 24 * costs.full_load_usd_per_hour(settings)
    ends = (
        f"it ends on {today + timedelta(days=math.floor(days))}"
        if days < left
        else f"the month's rest (${usd:,.0f}) fits"
    )
    return f" From today ({today}), with no GPU used this month so far, {ends}."


def _old_prices(today: date) -> Iterator[str]:
    age = catalog.prices_age_days(today)
    if age > catalog.PRICES_WARN_AFTER_DAYS:
        yield (
            f"the GPU prices are {age} days old (of {catalog.PRICES_AS_OF}), and the budget is reckoned with them: run "
            f"gpufleet prices refresh, then deploy. From {catalog.PRICES_STALE_AFTER_DAYS} days on the guard charges "
            "every type like the dearest one with as many GPUs."
        )


def ordinal(day: int) -> str:
    """A day of the month in words: 1st, 2nd, 3rd, 4th, ..., 21st."""
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"
