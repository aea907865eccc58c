"""EC2 instances as machines: their states, who ends them, spot notices. The API over them is in `ec2.py`.

Instances are launched by Auto Scaling groups, run, and end: by an API call, by their group, by a spot interruption, by
their own shutdown, or because they fail to start. `on_change` hears of every change of state: nodes, groups and the
bill listen there.

Sources: EC2 user guide, "Instance lifecycle" (states; only `running` is billed), "Spot Instance interruptions" (two
minutes of notice), "Terminate your instance" (terminated instances stay visible "a short while": an hour here).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..cloud import Cloud
from ..prices import multiple
from .reservations import Reservations
from .spot_market import SpotMarket

VISIBLE_AFTER_END_S = 3600.0
EndedBy = Literal["request", "group", "spot", "host", "failure", ""]


@dataclass(frozen=True)
class Disk:
    """A volume of an instance: size in GiB, IOPS and MiB/s as provisioned."""

    size_gib: int
    kind: str = "gp3"
    iops: int = 3000
    mibps: int = 125


@dataclass(frozen=True)
class LaunchSpec:
    """What a launch template version says about an instance. `profile`: name or ARN of the instance profile."""

    image_id: str
    user_data: str
    profile: str | None
    tags: Mapping[str, str]
    disks: tuple[Disk, ...]
    shutdown_terminates: bool
    disk_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Instance:
    """One instance. Times are unix seconds; `ended_at`: left pending/running; `gone_at`: terminated. `reservation`: id
    of the capacity reservation that it was launched into."""

    id: str
    type: str
    zone: str
    subnet_id: str
    spot: bool
    spec: LaunchSpec
    launched_at: float
    tags: dict[str, str] = field(default_factory=dict)
    state: str = "pending"
    running_at: float | None = None
    ended_at: float | None = None
    gone_at: float | None = None
    ended_by: EndedBy = ""
    reservation: str = ""
    interruption_at: float | None = None  # when a spot interruption that was announced takes place

    @property
    def alive(self) -> bool:
        return self.state in ("pending", "running")


class CapacityError(Exception):
    """EC2 has no such instance to give; the text is what the group's activity shows."""


def optional_service(cloud: Cloud, name: str) -> Any:
    """A service of ours if it is registered, else None."""
    try:
        return cloud.service(name)
    except KeyError:
        return None


class Machines:
    """Knobs: `boot_seconds()` draws the time from launch to running (20-40 s), `fail_next_boots(n)`,
    `interrupt(instance_id)`; `market` holds those of spot."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.market = SpotMarket(cloud.clock.now(), cloud.random.getrandbits(64), multiple(cloud.region))
        self.instances: dict[str, Instance] = {}
        self.reservations = Reservations(cloud, self.instances)
        self.on_change: list[Callable[[Instance], None]] = []
        self.boot_seconds: Callable[[], float] = lambda: cloud.random.uniform(20, 40)
        self._fail_boots = 0

    # -- knobs ------------------------------------------------------------------------------------------------

    def fail_next_boots(self, count: int) -> None:
        """The next `count` instances end instead of running, with AWS's "Server.InternalError"."""
        self._fail_boots = count

    def interrupt(self, instance_id: str, notice_s: float = 120.0) -> None:
        """AWS takes the spot instance back: a notice now, the end `notice_s` later, whatever it does by then."""
        instance = self.instances[instance_id]
        if not instance.spot or not instance.alive:
            raise ValueError(f"{instance_id} is not a spot instance that runs")
        if instance.interruption_at is not None:
            return
        instance.interruption_at = self.cloud.clock.now() + notice_s
        self._emit(
            "EC2 Spot Instance Interruption Warning",
            instance,
            {"instance-id": instance.id, "instance-action": "terminate"},
        )
        self.cloud.clock.after(notice_s, self.end, instance, "spot")

    # -- life -------------------------------------------------------------------------------------------------

    def launch(
        self, spec: LaunchSpec, instance_type: str, zone: str, subnet_id: str, *, spot: bool, reservation: str = ""
    ) -> Instance:
        """Start an instance, in the `reservation` if one is given (which has room for it). Raises `CapacityError` with
        the words an Auto Scaling activity shows."""
        now = self.cloud.clock.now()
        if spot and not self.market.has_spot(instance_type, zone, now):
            raise CapacityError(
                "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your "
                "request configuration. Please adjust your request and try again. Launching EC2 instance failed."
            )
        if not spot and not reservation and not self.market.on_demand_available(instance_type, zone, now):
            raise CapacityError(
                "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have "
                f"sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). Our system "
                "will be working on provisioning additional capacity. Launching EC2 instance failed."
            )
        instance = Instance(
            id=f"i-{self.cloud.random.getrandbits(68):017x}",
            type=instance_type,
            zone=zone,
            subnet_id=subnet_id,
            spot=spot,
            spec=spec,
            launched_at=now,
            tags=dict(spec.tags),
            reservation=reservation,
        )
        self.instances[instance.id] = instance
        self._changed(instance)
        fails, self._fail_boots = self._fail_boots > 0, max(0, self._fail_boots - 1)
        self.cloud.clock.after(self.boot_seconds(), self._boot, instance, fails)
        return instance

    def end(self, instance: Instance, by: EndedBy) -> None:
        """Begin to end the instance; nothing if that already happened."""
        if not instance.alive:
            return
        instance.state, instance.ended_by, instance.ended_at = "shutting-down", by, self.cloud.clock.now()
        self._changed(instance)
        self.cloud.clock.after(self.cloud.random.uniform(5, 30), self._gone, instance)

    def visible(self) -> list[Instance]:
        """Every instance that the API still shows, in launch order."""
        now = self.cloud.clock.now()
        return [i for i in self.instances.values() if i.gone_at is None or now - i.gone_at < VISIBLE_AFTER_END_S]

    def _boot(self, instance: Instance, fails: bool) -> None:
        if instance.state != "pending":
            return
        if fails:
            self.end(instance, "failure")
            return
        instance.state, instance.running_at = "running", self.cloud.clock.now()
        self._changed(instance)

    def _gone(self, instance: Instance) -> None:
        instance.state, instance.gone_at = "terminated", self.cloud.clock.now()
        self._changed(instance)

    def _changed(self, instance: Instance) -> None:
        for listener in list(self.on_change):
            listener(instance)
        self._emit(
            "EC2 Instance State-change Notification", instance, {"instance-id": instance.id, "state": instance.state}
        )

    def _emit(self, detail_type: str, instance: Instance, detail: dict[str, Any]) -> None:
        events = optional_service(self.cloud, "events")
        if events is not None:
            arn = f"arn:aws:ec2:{self.cloud.region}:{self.cloud.account_id}:instance/{instance.id}"
            events.emit("aws.ec2", detail_type, detail, [arn])
