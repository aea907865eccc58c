"""The record of one UTC month: what was charged, and up to when each instance is paid. Frozen, standard library
only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Paid:
    """How far one instance is paid. ``usd_per_hour``: its price at the last tick, disk apart; ``most_usd_per_hour``:
    what it can be at the most, on demand. ``spot``: its pool. ``unpriced``: it is paid no further until its spot price
    is known. ``ended``: no more to come.
    """

    launched_at: float
    until: float
    usd_per_hour: float
    disk_usd_per_hour: float = 0.0
    spot: bool = False
    unpriced: bool = False
    most_usd_per_hour: float = 0.0
    ended: bool = False


@dataclass(frozen=True)
class Ledger:
    """Dollars of one month ("2026-11") up to ``metered_at``.

    ``spot_usd``, ``on_demand_usd``: instance seconds by pool. ``fixed_usd``: what is paid whatever runs;
    ``reserved_usd``: reserved capacity, used or not. ``raised_usd``: what another source found on top of the meter.
    ``nat_usd``: bytes through the NAT gateway as it counted them, up to ``nat_to``; ``boots``: when a boot began and
    what it was estimated at, as long as that stands in ``boot_usd`` for bytes that were not counted yet.
    ``jobs``: completed jobs that were counted so far, by fleet. ``days``: what was metered when a day of the month
    ("05") began. ``checked``: the day ("2026-11-05") of the last reconciliation, ``error_usd`` what the meter had
    charged too much by it (negative: too little).
    """

    month: str
    metered_at: float
    spot_usd: float = 0.0
    on_demand_usd: float = 0.0
    disk_usd: float = 0.0
    boot_usd: float = 0.0
    job_usd: float = 0.0
    fixed_usd: float = 0.0
    reserved_usd: float = 0.0
    nat_usd: float = 0.0
    raised_usd: float = 0.0
    warned: bool = False
    checked: str = ""
    error_usd: float = 0.0
    nat_to: float = 0.0
    boots: tuple[tuple[float, float], ...] = ()
    jobs: Mapping[str, float] = field(default_factory=dict)
    days: Mapping[str, float] = field(default_factory=dict)
    instances: Mapping[str, Paid] = field(default_factory=dict)

    @property
    def instance_usd(self) -> float:
        """Instance seconds of both pools."""
        return self.spot_usd + self.on_demand_usd

    @property
    def estimated_usd(self) -> float:
        """The part that is an estimate: boots, jobs, and what the control plane and the network cost by the hour."""
        return self.boot_usd + self.job_usd + self.fixed_usd

    @property
    def metered_usd(self) -> float:
        """What the meter itself has charged so far."""
        return self.instance_usd + self.disk_usd + self.reserved_usd + self.nat_usd + self.estimated_usd

    @property
    def spent_usd(self) -> float:
        """Everything charged so far, other sources included."""
        return self.metered_usd + self.raised_usd

    def to_json(self) -> str:
        """Compact JSON; ``from_json`` reads it back to an equal ledger."""
        data = {name: value for name, value in vars(self).items() if name != "instances"}
        data["instances"] = {name: list(vars(paid).values()) for name, paid in self.instances.items()}
        return json.dumps(data, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Ledger:
        """The stored ledger. Raises ValueError if it is damaged: money is never guessed to be unspent."""
        try:
            data = json.loads(text)
            known: dict[str, Any] = {
                "month": str(data.pop("month")),
                "warned": bool(data.pop("warned")),
                "checked": str(data.pop("checked")),
                "boots": tuple((_amount(at), _amount(usd)) for at, usd in data.pop("boots")),
                "jobs": {str(name): _amount(count) for name, count in data.pop("jobs").items()},
                "days": {str(day): _amount(usd) for day, usd in data.pop("days").items()},
                "instances": {name: _paid(row) for name, row in data.pop("instances").items()},
            }
            month_bounds(known["month"])
            missing = {one.name for one in fields(Ledger)} - set(known) - set(data)
            if missing:
                raise ValueError(f"no {', '.join(sorted(missing))}")
            known.update((name, _amount(value)) for name, value in data.items())
            return Ledger(**known)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"ledger record is damaged ({error}); restore the row, or delete it: it is then made anew from what "
                "Auto Scaling and AWS Budgets remember"
            ) from error


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _paid(row: Any) -> Paid:
    launched_at, until, usd, disk, spot, unpriced, most, ended = row
    amounts = (_amount(launched_at), _amount(until), _amount(usd), _amount(disk))
    return Paid(*amounts, bool(spot), bool(unpriced), _amount(most), bool(ended))


def opened(at: float) -> Ledger:
    """An empty ledger that starts at ``at``: costs before it are not this stack's."""
    return Ledger(month=month_of(at), metered_at=at)


def month_of(at: float) -> str:
    """The UTC month of unix time ``at``, as "2026-11"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def day_of(at: float) -> str:
    """The UTC day of unix time ``at``, as "2026-11-05"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def month_bounds(month: str) -> tuple[float, float]:
    """First moment of a month and of the next one, unix seconds."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.timestamp(), after.timestamp()
