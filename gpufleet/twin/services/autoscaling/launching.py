"""What a group launches, and where: launch template, purchase option, pool.

Sources: user guide, "Auto Scaling groups with multiple instance types and purchase options" (base and percentage,
strategies; no fallback from spot to on-demand inside one group), "Availability Zone balance" (zones are balanced
before pools are compared) and "Availability Zone distribution" (`reservations-then-balanced`: reservations go before
zones).
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from ...cloud import Cloud
from ...errors import NotModelledError
from ...prices import on_demand
from ..machines import CapacityError, Disk, Instance, LaunchSpec, Machines
from ..model import tag_map
from .model import Group
from .rules import RESERVATIONS, check_template, invalid

DLAMI_ROOT_GIB = 75  # the deep-learning AMI's own root volume, when the template maps no disk


class Pool(NamedTuple):
    """Where an instance can come from."""

    type: str
    zone: str
    subnet_id: str


class Template(NamedTuple):
    """One version of a launch template: its data, and how an instance shows it."""

    data: Mapping[str, Any]
    shown: dict[str, str]


def read_template(cloud: Cloud, given: Mapping[str, Any]) -> Template:
    """The version that a launch template specification means now. Raises `AwsError` if there is none."""
    version = given.get("Version") or "$Default"
    key = "LaunchTemplateId" if given.get("LaunchTemplateId") else "LaunchTemplateName"
    try:
        answer = cloud.client("ec2").describe_launch_template_versions(**{key: given[key]}, Versions=[version])
        found = answer["LaunchTemplateVersions"][0]
    except ClientError as error:
        reason = error.response["Error"]["Message"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        raise invalid(f"You must use a valid fully-formed launch template. {reason}") from error
    except (KeyError, IndexError):
        raise invalid(
            f"You must use a valid fully-formed launch template. Could not find version {version} of {given}."
        ) from None
    shown = {
        "LaunchTemplateId": found["LaunchTemplateId"],
        "LaunchTemplateName": found["LaunchTemplateName"],
        "Version": str(found["VersionNumber"]),
    }
    return Template(found["LaunchTemplateData"], shown)


def check_group_template(cloud: Cloud, given: Mapping[str, Any], mixed: Mapping[str, Any] | None) -> None:
    overrides = bool(mixed and mixed["LaunchTemplate"].get("Overrides"))
    check_template(read_template(cloud, given).data, mixed=mixed is not None, has_overrides=overrides)


def spec_of(data: Mapping[str, Any]) -> LaunchSpec:
    """The part of a launch template that decides what an instance is."""
    profile = data.get("IamInstanceProfile") or {}
    return LaunchSpec(
        image_id=data["ImageId"],
        user_data=_decoded(data.get("UserData", "")),
        profile=profile.get("Name") or profile.get("Arn"),
        tags=_tags(data, "instance"),
        disks=_disks(data),
        shutdown_terminates=data.get("InstanceInitiatedShutdownBehavior") == "terminate",
        disk_tags=_tags(data, "volume"),
    )


@lru_cache(maxsize=16)
def _decoded(user_data: str) -> str:
    """One text for all instances of a template version: there may be thousands."""
    return base64.b64decode(user_data).decode()


def _tags(data: Mapping[str, Any], resource_type: str) -> dict[str, str]:
    given = [one["Tags"] for one in data.get("TagSpecifications", []) if one["ResourceType"] == resource_type]
    return {key: value for tags in given for key, value in tag_map(tags).items()}


def _disks(data: Mapping[str, Any]) -> tuple[Disk, ...]:
    disks = []
    for mapping in data.get("BlockDeviceMappings", []):
        ebs = mapping.get("Ebs")
        if ebs is None:
            continue
        kind = ebs.get("VolumeType", "gp2")
        if kind != "gp3":
            raise NotModelledError(f"the twin has no price for volumes of type {kind}")
        size = int(ebs.get("VolumeSize", DLAMI_ROOT_GIB))
        disks.append(Disk(size, kind, int(ebs.get("Iops", 3000)), int(ebs.get("Throughput", 125))))
    return tuple(disks) or (Disk(DLAMI_ROOT_GIB),)


def launch(
    cloud: Cloud, machines: Machines, group: Group, only_zone: str | None = None
) -> tuple[Instance, dict[str, str]]:
    """Launch one more instance of the group (in `only_zone`, if given); returns it and how its template is shown.

    Raises `CapacityError` when no pool has one, `AwsError` when the template is gone.
    """
    template = read_template(cloud, group.template_spec())
    spec = spec_of(template.data)
    propagated = {key: value for key, (value, propagate) in group.tags.items() if propagate}
    tags = {**spec.tags, **propagated, "aws:autoscaling:groupName": group.name}
    spec = replace(spec, tags=tags)
    spot = _wants_spot(group, template.data)
    failure = CapacityError("no subnet")
    for pool in _pools(cloud, machines, group, template.data, spot=spot):
        if only_zone not in (None, pool.zone):
            continue
        held = "" if spot else _reservation(machines, group, pool)
        try:
            instance = machines.launch(spec, pool.type, pool.zone, pool.subnet_id, spot=spot, reservation=held)
        except CapacityError as error:
            failure = error
        else:
            return instance, template.shown
    raise failure


def _reservation(machines: Machines, group: Group, pool: Pool) -> str:
    """The group's capacity reservation that has room for an instance of this pool; "" if none has."""
    target = group.settings.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget") or {}
    ids = target.get("CapacityReservationIds", [])
    return next((number for number in ids if machines.reservations.fits(number, pool.type, pool.zone)), "")


def _wants_spot(group: Group, data: Mapping[str, Any]) -> bool:
    """Purchase option of the next instance: first the on-demand base, then the percentage above it."""
    if group.mixed is None:
        return (data.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"
    distribution = group.mixed.get("InstancesDistribution") or {}
    base = distribution.get("OnDemandBaseCapacity", 0)
    percentage = distribution.get("OnDemandPercentageAboveBaseCapacity", 100)
    present = group.capacity()
    bought = sum(not member.instance.spot for member in present)
    above = max(0, len(present) + 1 - base)
    wanted = min(base, len(present) + 1) + -(-above * percentage // 100)  # on-demand rounds up
    return bought >= wanted


def _pools(cloud: Cloud, machines: Machines, group: Group, data: Mapping[str, Any], *, spot: bool) -> list[Pool]:
    """Every pool, the one to try first in front: reserved if that goes first, emptiest zone, allocation strategy."""
    overrides = group.mixed["LaunchTemplate"].get("Overrides") if group.mixed else None
    types = [override["InstanceType"] for override in overrides] if overrides else [data["InstanceType"]]
    distribution = (group.mixed or {}).get("InstancesDistribution") or {}
    present = Counter(member.instance.zone for member in group.capacity())
    now, market = cloud.clock.now(), machines.market
    zones = group.settings.get("AvailabilityZoneDistribution", {})
    reserved_first = zones.get("CapacityDistributionStrategy") == RESERVATIONS
    pools = [Pool(kind, zone, subnet) for subnet, zone in group.subnets.items() for kind in types]

    def rank(pool: Pool) -> tuple[float, ...]:
        preference = types.index(pool.type)
        if not spot:
            cheapest = distribution.get("OnDemandAllocationStrategy") == "lowest-price"
            reserved = reserved_first and bool(_reservation(machines, group, pool))
            return (not reserved, present[pool.zone], on_demand(pool.type) if cheapest else preference)
        price, depth = market.price(pool.type, pool.zone, now), market.depth(pool.type, pool.zone, now)
        match distribution.get("SpotAllocationStrategy", "lowest-price"):
            case "price-capacity-optimized":  # the cheapest of the pools that are deep enough
                return (present[pool.zone], float(depth < 5), price)
            case "capacity-optimized-prioritized":
                return (present[pool.zone], -(depth // 3), preference)
            case "capacity-optimized":
                return (present[pool.zone], -depth, price)
            case _:
                return (present[pool.zone], price, preference)

    return sorted(pools, key=rank)
