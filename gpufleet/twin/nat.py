"""What nodes send and fetch through a NAT gateway, as far as their subnet's route says that they have one.

S3 and DynamoDB are reached over gateway endpoints: weights, results and tables do not count here, and neither do the
layers of an image in the region's own ECR, which come out of S3. What is left of a boot (packages, the ECR and Auto
Scaling APIs, telemetry) is drawn from 0.35 to 0.5 GB; an image from another registry comes on top of it, 8 to 12 GB
(vLLM's is about 10 GB compressed). Both are the twin's assumptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.ec2.models import ec2_backends

from . import prices
from .cloud import Cloud
from .services.cloudwatch import CloudWatchModel
from .services.machines import Instance, Machines
from .usage import Usage

KB_PER_GB, BYTES_PER_GB = 1e6, 1e9
NAMESPACE = "AWS/NATGateway"
_BESIDE = ("s3", "dynamodb")  # reached over gateway endpoints
_IMAGE = re.compile(r'"image"\s*:\s*"([^"]+)"')


class NatBytes:
    """Knobs: `gb_per_boot(instance)`, `kb_per_job` (beside the job's own body), `kb_per_call` (an API call, its TLS
    included). Call `forget_routes` when routes have changed."""

    def __init__(self, cloud: Cloud, machines: Machines, usage: Usage) -> None:
        self._cloud = cloud
        self._usage = usage
        self._gateways: dict[str, str | None] = {}
        self.gb_per_boot: Callable[[Instance], float] = self._drawn
        self.kb_per_job = 20.0
        self.kb_per_call = 3.0
        self._passed: dict[str, float] = {}  # GB since the last minute's metric, by gateway
        machines.on_change.append(self._changed)

    def gateway(self, subnet_id: str) -> str | None:
        """The NAT gateway behind the subnet's default route; None if it has none."""
        if subnet_id not in self._gateways:
            self._gateways[subnet_id] = self._look_up(subnet_id)
        return self._gateways[subnet_id]

    def publish(self, cloudwatch: CloudWatchModel, minute: float) -> None:
        """The gateways' own metrics of the last minute, zeros included (VPC user guide, "Monitor NAT gateways with
        Amazon CloudWatch"). What nodes send is a few per cent of what they fetch: all is told as fetched."""
        backend: Any = ec2_backends[self._cloud.account_id][self._cloud.region]
        for gateway, made in backend.nat_gateways.items():
            if made.state != "available":
                continue
            dimensions = {"NatGatewayId": gateway}
            fetched = self._passed.pop(gateway, 0.0) * BYTES_PER_GB
            cloudwatch.publish(NAMESPACE, "BytesInFromSource", dimensions, 0.0, at=minute)
            cloudwatch.publish(NAMESPACE, "BytesInFromDestination", dimensions, fetched, at=minute)

    def forget_routes(self) -> None:
        self._gateways.clear()

    def heard(self, instance: Instance, service: str, operation: str, answer: dict[str, Any]) -> None:
        """A node made an API call and was answered."""
        if service in _BESIDE:
            return
        kilobytes = self.kb_per_call
        for message in answer.get("Messages", ()) if operation == "ReceiveMessage" else ():
            kilobytes += self.kb_per_job + len(message["Body"]) / 1000
        self._through(instance, kilobytes / KB_PER_GB)

    def _changed(self, instance: Instance) -> None:
        if instance.state == "running" and self.gateway(instance.subnet_id):
            self._through(instance, self.gb_per_boot(instance))

    def _through(self, instance: Instance, gigabytes: float) -> None:
        gateway = self.gateway(instance.subnet_id) if gigabytes else None
        if gateway:
            self._usage.add("nat-bytes", gateway, gigabytes, prices.NAT_USD_PER_GB)
            self._passed[gateway] = self._passed.get(gateway, 0.0) + gigabytes

    def _drawn(self, instance: Instance) -> float:
        chances = self._cloud.chances(f"boot bytes {instance.id}")
        image = _IMAGE.search(instance.spec.user_data)
        foreign = image is not None and f".dkr.ecr.{self._cloud.region}." not in image[1]
        return chances.uniform(0.35, 0.5) + (chances.uniform(8.0, 12.0) if foreign else 0.0)

    def _look_up(self, subnet_id: str) -> str | None:
        backend: Any = ec2_backends[self._cloud.account_id][self._cloud.region]
        every = list(backend.route_tables.values())
        tables = [t for t in every if any(one.get("SubnetId") == subnet_id for one in t.associations)]
        if not tables:  # the network's main table
            subnet = next((zone[subnet_id] for zone in backend.subnets.values() if subnet_id in zone), None)
            tables = [t for t in every if subnet and t.vpc_id == subnet.vpc_id and t.main_association_id]
        for table in tables:
            for route in table.routes:
                if route.destination_cidr_block == "0.0.0.0/0" and route.nat_gateway is not None:
                    return route.nat_gateway.id
        return None
