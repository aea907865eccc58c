"""On-Demand Capacity Reservations: instances of one type in one zone that EC2 holds and bills until they are cancelled.

Only targeted ones of default tenancy without an end: an instance enters one if its group names it. Sources: EC2 user
guide, "On-Demand Capacity Reservations" (paid from creation to cancellation, used or not; instances that run in one go
on as ordinary ones when it is cancelled).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..cloud import Cloud
from ..errors import AwsError, NotModelledError
from ..prices import on_demand
from .model import Answer, Model, operation, tag_list, tag_map

if TYPE_CHECKING:
    from .machines import Instance

# parameter: (AWS's default, what the twin models)
_MODELLED = {
    "InstanceMatchCriteria": ("open", "targeted"),
    "EndDateType": ("unlimited", "unlimited"),
    "Tenancy": ("default", "default"),
    "InstancePlatform": ("", "Linux/UNIX"),
}


@dataclass
class Reservation:
    """`count` instances of `type` in `zone`, from `created` to `ended` (unix seconds; None: still there)."""

    id: str
    type: str
    zone: str
    count: int
    created: float
    tags: Mapping[str, str]
    ended: float | None = None


class Reservations:
    """The account's reservations by id in `all`; which of `instances` run in them, these say themselves."""

    def __init__(self, cloud: Cloud, instances: Mapping[str, Instance]) -> None:
        self._cloud = cloud
        self._instances = instances
        self.all: dict[str, Reservation] = {}

    def make(self, instance_type: str, zone: str, count: int, tags: Mapping[str, str]) -> Reservation:
        on_demand(instance_type)  # a type without a price could not be billed
        number = f"cr-{self._cloud.random.getrandbits(68):017x}"
        self.all[number] = Reservation(number, instance_type, zone, count, self._cloud.clock.now(), tags)
        return self.all[number]

    def free(self, number: str) -> int:
        """How many more instances the reservation holds; 0 if it is cancelled or was never made."""
        found = self.all.get(number)
        if found is None or found.ended is not None:
            return 0
        return found.count - sum(i.reservation == number and i.gone_at is None for i in self._instances.values())

    def fits(self, number: str, instance_type: str, zone: str) -> bool:
        """Whether an instance of this type in this zone can enter the reservation now."""
        return self.free(number) > 0 and (self.all[number].type, self.all[number].zone) == (instance_type, zone)


class ReservationCalls(Model):
    """The calls on reservations, for the model of EC2."""

    reservations: Reservations

    @operation("InstanceType", "AvailabilityZone", "InstanceCount", "TagSpecifications", *_MODELLED)
    def create_capacity_reservation(self, params: dict[str, Any], principal: str) -> Answer:
        for name, (default, modelled) in _MODELLED.items():
            given = params.get(name, default)
            if given != modelled:
                raise NotModelledError(f"the twin models capacity reservations with {name} {modelled}, not {given!r}")
        if params["InstanceCount"] < 1:
            raise AwsError("InvalidParameterValue", "The instance count must be at least 1.")
        tags = [tag for one in params.get("TagSpecifications", []) for tag in one["Tags"]]
        made = self.reservations.make(
            params["InstanceType"], params["AvailabilityZone"], params["InstanceCount"], tag_map(tags)
        )
        return {"CapacityReservation": self._shown(made)}

    @operation("CapacityReservationIds")
    def describe_capacity_reservations(self, params: dict[str, Any], principal: str) -> Answer:
        asked = params.get("CapacityReservationIds") or list(self.reservations.all)
        return {"CapacityReservations": [self._shown(self._found(number)) for number in asked]}

    @operation("CapacityReservationId")
    def cancel_capacity_reservation(self, params: dict[str, Any], principal: str) -> Answer:
        self._found(params["CapacityReservationId"]).ended = self.clock.now()
        return {"Return": True}

    def _found(self, number: str) -> Reservation:
        try:
            return self.reservations.all[number]
        except KeyError:
            raise AwsError(
                "InvalidCapacityReservationId.NotFound", f"The capacity reservation ID '{number}' does not exist."
            ) from None

    def _shown(self, found: Reservation) -> dict[str, Any]:
        return {
            "CapacityReservationId": found.id,
            "OwnerId": self.cloud.account_id,
            "InstanceType": found.type,
            "InstancePlatform": "Linux/UNIX",
            "AvailabilityZone": found.zone,
            "Tenancy": "default",
            "TotalInstanceCount": found.count,
            "AvailableInstanceCount": self.reservations.free(found.id),
            "State": "active" if found.ended is None else "cancelled",
            "EndDateType": "unlimited",
            "InstanceMatchCriteria": "targeted",
            "Tags": tag_list(dict(found.tags)),
        }
