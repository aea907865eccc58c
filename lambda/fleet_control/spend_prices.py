"""What runs and what an hour of it costs. Frozen, standard library only.

An unknown price is never guessed low: a type that the price list does not know costs as much as the dearest known type
with that many GPUs, or as the dearest of all while nobody knows how many it has. A price list that has grown old is
trusted no more: every type then costs as much as the dearest with its number of GPUs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HOURS_PER_MONTH = 744.0  # of 31 days: what monthly figures are reckoned for, whatever the month (components/costs.py)


@dataclass(frozen=True)
class Running:
    """An instance as the cloud reports it. ``ended_at``: when it left the running state, None while it has not.

    ``spot``: bought as spot, in ``zone``. ``disk_usd_per_hour``: its volumes. ``drain_s``: how long it may drain.
    ``reservation``: id of the Capacity Reservation it runs in, "" for none or if nobody says. ``disk_only_s``: how long
    its volumes are there beside the time that it runs.
    """

    id: str
    type: str
    zone: str
    spot: bool
    launched_at: float
    ended_at: float | None = None
    disk_usd_per_hour: float = 0.0
    drain_s: float = 300.0
    reservation: str = ""
    disk_only_s: float = 0.0


@dataclass(frozen=True)
class Reservation:
    """Capacity that is paid at the on-demand price, used or not: ``instances`` of ``type`` in reservation ``id``."""

    id: str
    type: str
    instances: int


@dataclass(frozen=True)
class Prices:
    """Dollars: per hour on-demand by type, ``dearest`` for a type nobody knows anything of, spot by (type, zone); per
    boot; per completed job; per month of 31 days for what is paid whatever runs. ``reserved``: what is paid for all the
    time. ``gpus``: how many each type has; ``dearest_by_gpus``: the dearest known price per number of GPUs. ``stale``:
    the price list is too old to be trusted. ``unquoted``: spot prices could not be asked for just now.
    """

    on_demand: Mapping[str, float]
    dearest: float
    spot: Mapping[tuple[str, str], float] = field(default_factory=dict)
    per_boot: float = 0.0
    per_job: float = 0.0
    fixed_per_month: float = 0.0
    reserved: tuple[Reservation, ...] = ()
    gpus: Mapping[str, int] = field(default_factory=dict)
    dearest_by_gpus: Mapping[int, float] = field(default_factory=dict)
    stale: bool = False
    unquoted: bool = False

    def list_price(self, kind: str) -> float:
        """Price per hour on demand, disk apart; never less than what is known of the type."""
        known = self.on_demand.get(kind)
        if known is not None and not self.stale:
            return known
        return max(known or 0.0, self.dearest_by_gpus.get(self.gpus.get(kind, 0), self.dearest))

    def doubtful(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """Those of the types whose price is not known, or not trusted any more."""
        return tuple(sorted({kind for kind in kinds if self.stale or kind not in self.on_demand}))

    @property
    def fixed_per_hour(self) -> float:
        """What is paid whatever runs, reservations apart, per hour."""
        return self.fixed_per_month / HOURS_PER_MONTH

    @property
    def reserved_per_hour(self) -> float:
        """Price per hour of all reserved capacity, used or not."""
        return sum(one.instances * self.list_price(one.type) for one in self.reserved)

    def stopping(self, one: Running) -> float:
        """Price per hour that money is committed at: on-demand even for spot, disk included."""
        return self.list_price(one.type) + one.disk_usd_per_hour

    def running(self, one: Running) -> float:
        """Price per hour that a running second is charged at, without disk. Spot never costs more than on-demand: the
        groups set no price of their own, and that is AWS's default limit. EC2 quotes it for types that the price list
        does not know, too."""
        usd = self.list_price(one.type)
        return min(usd, self.spot.get((one.type, one.zone), usd)) if one.spot else usd

    def waits_for_a_quote(self, one: Running) -> bool:
        """Whether what it costs will be known when EC2 answers again."""
        return self.unquoted and one.spot and (one.type, one.zone) not in self.spot

    @property
    def launching(self) -> float:
        """Price per hour of the next launch, not knowing its type yet: the dearest that the groups may launch."""
        return max(map(self.list_price, self.on_demand), default=self.dearest)


def inside(instances: Iterable[Running], prices: Prices) -> frozenset[str]:
    """Ids of the instances whose seconds a reservation pays for already: those that the cloud shows in it.

    Never more at once than it was said to hold, the oldest first and ended ones last: whatever is left over, of another
    type or not shown in it is charged in full.
    """
    room: Counter[tuple[str, str]] = Counter()
    for held in prices.reserved:
        room[held.id, held.type] += held.instances
    found: set[str] = set()
    for one in sorted(instances, key=lambda one: (one.ended_at is not None, one.launched_at, one.id)):
        if room[one.reservation, one.type] > 0:
            room[one.reservation, one.type] -= 1
            found.add(one.id)
    return frozenset(found)
