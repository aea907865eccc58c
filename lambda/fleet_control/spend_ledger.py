"""The record of one UTC month: what was charged, and up to when each instance is paid. Frozen, standard library
only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Paid:
    """How far one instance is paid. ``usd_per_hour``: its price at the last tick, disk apart. ``ended``: no more to
    come.
    """

    launched_at: float
    until: float
    usd_per_hour: float
    disk_usd_per_hour: float = 0.0
    ended: bool = False


@dataclass(frozen=True)
class Ledger:
    """Dollars of one month ("2026-11") up to ``metered_at``. ``fixed_usd``: what is paid whatever runs, reserved
    capacity included. ``raised_usd``: what another source found on top.
    """

    month: str
    metered_at: float
    instance_usd: float = 0.0
    disk_usd: float = 0.0
    boot_usd: float = 0.0
    fixed_usd: float = 0.0
    raised_usd: float = 0.0
    warned: bool = False
    instances: Mapping[str, Paid] = field(default_factory=dict)

    @property
    def spent_usd(self) -> float:
        """Everything charged so far."""
        return self.instance_usd + self.disk_usd + self.boot_usd + self.fixed_usd + self.raised_usd

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
            instances = {name: _paid(row) for name, row in data.pop("instances").items()}
            month, warned = str(data.pop("month")), bool(data.pop("warned"))
            month_bounds(month)
            return Ledger(month=month, warned=warned, instances=instances, **{k: _amount(v) for k, v in data.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"ledger record is damaged ({error}); restore the row or delete it to start anew"
            ) from error


def _amount(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no amount")
    return float(value)


def _paid(row: Any) -> Paid:
    launched_at, until, usd, disk, ended = row
    return Paid(_amount(launched_at), _amount(until), _amount(usd), _amount(disk), bool(ended))


def opened(at: float) -> Ledger:
    """An empty ledger that starts at ``at``: costs before it are not this stack's."""
    return Ledger(month=month_of(at), metered_at=at)


def month_of(at: float) -> str:
    """The UTC month of unix time ``at``, as "2026-11"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_bounds(month: str) -> tuple[float, float]:
    """First moment of a month and of the next one, unix seconds."""
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    after = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start.timestamp(), after.timestamp()
