"""Which resource each line of the bill belongs to, and the tags it carries: what reports by tag can count.

Custom metrics, requests to CloudWatch and Cost Explorer and what others spend belong to no resource that can be tagged,
so reports by tag leave them out. Source: Cost management guide, "Using AWS cost allocation tags": a user's tag counts
from its activation in the payer account on, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from moto.dynamodb.models import dynamodb_backends
from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends

from .bill_lines import Line
from .cloud import Cloud
from .services.machines import Machines, optional_service


class Tag(NamedTuple):
    key: str
    value: str


class CostTags:
    """Knob: `active_from`, by tag key: the moment (unix seconds) at which the tag was activated as a cost allocation
    tag; `math.inf` for one that never is. A key that is not named is active from the beginning."""

    def __init__(self, cloud: Cloud, machines: Machines) -> None:
        self.active_from: dict[str, float] = {}
        self._cloud = cloud
        self._machines = machines
        self._seen: dict[tuple[str, str], Mapping[str, str]] = {}  # of resources that are gone
        account, region = cloud.account_id, cloud.region
        self._ec2: Callable[[], Any] = lambda: ec2_backends[account][region]
        self._kinds: dict[str, Callable[[str], Mapping[str, str] | None]] = {
            "spot": self._instance,
            "on-demand": self._instance,
            "disk": self._disk,
            "reserved": self._reservation,
            "nat": self._gateway,
            "nat-bytes": self._gateway,
            "address": self._address,
            "key": self._key,
            "alarm": self._alarm,
            "table-reads": self._table,
            "table-writes": self._table,
            "queue-requests": self._queue,
            "object-puts": self._bucket,
            "object-gets": self._bucket,
            "logs": self._log_group,
            **dict.fromkeys(("function-requests", "function-time-arm64", "function-time-x86_64"), self._function),
        }

    def of(self, line: Line) -> Mapping[str, str]:
        """The tags of the line's resource; those it had when it was last there."""
        look = self._kinds.get(line.kind)
        found = look(line.item) if look else None
        if found is None:
            return self._seen.get((line.kind, line.item), {})
        self._seen[(line.kind, line.item)] = found
        return found

    def carries(self, line: Line, tags: Iterable[Tag]) -> bool:
        own = self.of(line)
        return any(own.get(tag.key) == tag.value for tag in tags)

    def remember(self, lines: Iterable[Line]) -> None:
        """Look at the tags now: a resource that goes is billed under the tags it had."""
        for line in lines:
            self.of(line)

    # -- where each kind keeps its tags -------------------------------------------------------------------------

    def _instance(self, item: str) -> Mapping[str, str]:
        return self._machines.instances[item].tags

    def _disk(self, item: str) -> Mapping[str, str]:
        return self._machines.instances[item].spec.disk_tags

    def _reservation(self, item: str) -> Mapping[str, str]:
        return self._machines.reservations.all[item].tags

    def _gateway(self, item: str) -> Mapping[str, str]:
        return _plain(self._ec2().nat_gateways[item].get_tags())

    def _address(self, item: str) -> Mapping[str, str] | None:
        given = {one.get("allocationId") for one in self._ec2().nat_gateways[item].address_set}
        found = next((one for one in self._ec2().addresses if one.allocation_id in given), None)
        return None if found is None else _plain(found.get_tags())

    def _key(self, item: str) -> Mapping[str, str] | None:
        backend: Any = kms_backends[self._cloud.account_id][self._cloud.region]
        return backend.tagger.get_tag_dict_for_resource(item) if item in backend.keys else None

    def _alarm(self, item: str) -> Mapping[str, str] | None:
        found = self._cloud.service("cloudwatch").alarms.get(item.rsplit("#", 1)[0])
        return None if found is None else found.tags

    def _table(self, item: str) -> Mapping[str, str] | None:
        found = dynamodb_backends[self._cloud.account_id][self._cloud.region].tables.get(item)
        return None if found is None else {one["Key"]: one["Value"] for one in found.tags}

    def _queue(self, item: str) -> Mapping[str, str] | None:
        found = self._cloud.service("sqs").queues.get(item)
        return None if found is None else found.tags

    def _bucket(self, item: str) -> Mapping[str, str] | None:
        backend: Any = s3_backends[self._cloud.account_id]["aws"]
        found = backend.buckets.get(item)
        return None if found is None else backend.tagger.get_tag_dict_for_resource(found.arn)

    def _function(self, item: str) -> Mapping[str, str] | None:
        found = self._cloud.service("lambda").functions.get(item)
        return None if found is None else found.tags

    def _log_group(self, item: str) -> Mapping[str, str] | None:
        """The group that the function `item` logs to."""
        backend: Any = logs_backends[self._cloud.account_id][self._cloud.region]
        found = backend.groups.get(optional_service(self._cloud, "lambda").log_group(item))
        return None if found is None else backend.tagger.get_tag_dict_for_resource(found.arn)


def _plain(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {one["key"]: one["value"] for one in tags}
