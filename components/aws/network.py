"""Where the instances live: given subnets, or a small VPC of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pulumi
import pulumi_aws as aws

from .. import catalog, costs
from .base import Account, AwsComponent, Scope


class ExistingNetwork(Protocol):
    """A VPC and private subnets of it that reach the internet (NAT) or all endpoints a node needs."""

    @property
    def vpc_id(self) -> str: ...
    @property
    def private_subnet_ids(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class NetworkArgs:
    """`existing` is used as it is. Otherwise a VPC of `cidr` over `zones` availability zones (the more, the more spot).

    `region` is the provider's: with it the plan shows what the network costs per month while nothing runs.
    """

    scope: Scope
    existing: ExistingNetwork | None = None
    cidr: str = "10.42.0.0/16"
    zones: int = 3
    region: str | None = None

    def __post_init__(self) -> None:
        if self.existing is not None and not self.existing.private_subnet_ids:
            raise ValueError("NetworkArgs.existing has no subnets: name at least one private subnet")
        if not 1 <= self.zones <= 6:
            raise ValueError(f"NetworkArgs.zones is {self.zones}: 1 to 6")
        subnets(self.cidr, self.zones)


@dataclass(frozen=True)
class Subnets:
    """CIDR blocks: one private per zone, and the public one that only holds the NAT gateway."""

    private: Sequence[str]
    public: str


def subnets(cidr: str, zones: int) -> Subnets:
    """Cut `cidr` into eight: the first `zones` (6 at most) are private, the last is public.

    Raises ValueError for something that is no IPv4 network, or one outside /16 to /21 (EC2 takes VPCs from /16 to
    /28; at /21 a subnet still has 256 addresses).
    """
    network = ipaddress.IPv4Network(cidr)
    if not 16 <= network.prefixlen <= 21:
        raise ValueError(f"network {cidr}: use a /16 to a /21")
    parts = [str(part) for part in network.subnets(prefixlen_diff=3)]
    return Subnets(private=parts[:zones], public=parts[-1])


def idle_usd_per_month(region: str) -> float:
    """What an own network costs at rest: the NAT gateway and its address, in USD for a month of 31 days."""
    hourly = costs.NAT_GATEWAY_USD_PER_HOUR + costs.PUBLIC_IPV4_USD_PER_HOUR
    return round(hourly * costs.HOURS_PER_MONTH * catalog.region_factor(region), 2)


class Network(AwsComponent):
    """`gpu-inference:aws:Network`: nothing for given subnets; else a VPC with private subnets, gateway endpoints for
    S3 and DynamoDB, and one NAT gateway.

    Does not: peer, log flows, or make interface endpoints. Fails: the one NAT gateway stands in one zone; without it
    nodes that are up still reach S3 and DynamoDB but not SQS: jobs wait, and `oldest-message` alarms.
    """

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        summary: dict[str, bool | float] = {"own": args.existing is None}
        if args.existing is None and args.region is not None:
            summary["idleUsdPerMonth"] = idle_usd_per_month(args.region)
        super().__init__("Network", name, args.scope, summary, opts)
        self.vpc_id: pulumi.Output[str]
        self.subnet_ids: list[pulumi.Output[str]]
        self.nat_gateway_ids: list[pulumi.Output[str]] = []  # of a given network, they are somebody else's cost
        if args.existing is not None:
            self.vpc_id = pulumi.Output.from_input(args.existing.vpc_id)
            self.subnet_ids = [pulumi.Output.from_input(one) for one in args.existing.private_subnet_ids]
        else:
            self._make_vpc(args)
            self._make_way_out()
            self._make_endpoints()
        self.finish({"vpcId": self.vpc_id, "subnetIds": self.subnet_ids})

    def _make_vpc(self, args: NetworkArgs) -> None:
        name, plan = self._component, subnets(args.cidr, args.zones)
        zones = aws.get_availability_zones_output(
            state="available",
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],  # no local or wavelength zones
            opts=pulumi.InvokeOutputOptions(parent=self),
        ).names
        self.vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags=self._tagged("vpc"),
            opts=self.child(),
        )

        def subnet(kind: str, number: int, cidr: str) -> aws.ec2.Subnet:
            return aws.ec2.Subnet(
                f"{name}-{kind}",
                vpc_id=self.vpc.id,
                cidr_block=cidr,
                # Counted around: a region with fewer zones still gets its subnets. A zone that AWS adds or retires
                # must not plan a new subnet under running instances.
                availability_zone=zones.apply(lambda names: names[number % len(names)]),
                map_public_ip_on_launch=False,
                tags=self._tagged(kind),
                opts=self.child(ignore_changes=["availabilityZone"]),
            )

        self.public_subnet = subnet("public", 0, plan.public)
        self.private_subnets = [subnet(f"private-{number}", number, cidr) for number, cidr in enumerate(plan.private)]
        self.vpc_id = self.vpc.id
        self.subnet_ids = [one.id for one in self.private_subnets]

    def _make_way_out(self) -> None:
        name = self._component
        self.internet_gateway = aws.ec2.InternetGateway(
            f"{name}-internet", vpc_id=self.vpc.id, tags=self._tagged("internet"), opts=self.child()
        )
        self.address = aws.ec2.Eip(
            f"{name}-nat", domain="vpc", tags=self._tagged("nat"), opts=self.child(depends_on=[self.internet_gateway])
        )
        self.nat = aws.ec2.NatGateway(
            f"{name}-nat",
            allocation_id=self.address.allocation_id,
            subnet_id=self.public_subnet.id,
            tags=self._tagged("nat"),
            opts=self.child(depends_on=[self.internet_gateway]),
        )
        self.nat_gateway_ids = [self.nat.id]
        self.public_routes = self._routes("public", [self.public_subnet])
        self.private_routes = self._routes("private", self.private_subnets)
        for kind, table, target in (
            ("public", self.public_routes, {"gateway_id": self.internet_gateway.id}),
            ("private", self.private_routes, {"nat_gateway_id": self.nat.id}),
        ):
            aws.ec2.Route(
                f"{name}-{kind}-out",
                route_table_id=table.id,
                destination_cidr_block="0.0.0.0/0",
                opts=self.child(),
                **target,
            )

    def _routes(self, kind: str, members: Sequence[aws.ec2.Subnet]) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(
            f"{self._component}-{kind}", vpc_id=self.vpc.id, tags=self._tagged(kind), opts=self.child()
        )
        for number, subnet in enumerate(members):
            aws.ec2.RouteTableAssociation(
                f"{self._component}-{kind}-{number}",
                route_table_id=table.id,
                subnet_id=subnet.id,
                opts=self.child(),
            )
        return table

    def _make_endpoints(self) -> None:
        """Gateway endpoints cost nothing: weights, ECR layers and tables do not pass the NAT gateway."""
        region = Account(self).region
        self.endpoints = {
            service: aws.ec2.VpcEndpoint(
                f"{self._component}-{service}",
                vpc_id=self.vpc.id,
                vpc_endpoint_type="Gateway",
                service_name=pulumi.Output.concat("com.amazonaws.", region, ".", service),
                route_table_ids=[self.private_routes.id],
                tags=self._tagged(service),
                opts=self.child(),
            )
            for service in ("s3", "dynamodb")
        }

    def _tagged(self, kind: str) -> dict[str, str]:
        """EC2 shows resources by their Name tag."""
        return {**self.tags, "Name": self.names.name(kind)}
