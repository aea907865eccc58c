"""Networks: VPC, subnets, gateways, addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import Handler, Inputs, Outputs, finishing
from .properties import Prop, as_dict, as_list, table


class Ec2Handler(Handler):
    """EC2's common ways: tags at creation by specification, later by `create_tags`."""

    kind = ""  # EC2's word for the resource in tag specifications and ARNs

    def tag_specification(self, inputs: Inputs) -> dict[str, Any]:
        if not inputs.get("tags"):
            return {}
        return {"TagSpecifications": [{"ResourceType": self.kind, "Tags": as_list(inputs["tags"])}]}

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        ec2 = cloud.client("ec2")
        if gone:
            ec2.delete_tags(Resources=[identifier], Tags=[{"Key": key} for key in gone])
        if new:
            ec2.create_tags(Resources=[identifier], Tags=as_list(new))

    def arn(self, cloud: Account, identifier: str) -> str:
        return f"arn:aws:ec2:{cloud.region}:{cloud.account_id}:{self.kind}/{identifier}"


class Vpc(Ec2Handler):
    type, kind = "aws:ec2/vpc:Vpc", "vpc"
    taggable = True
    gone = ("InvalidVpcID.NotFound",)
    props = table(
        {
            "cidrBlock": Prop(replace=True),
            "instanceTenancy": Prop(replace=True, default="default"),
            "enableDnsSupport": Prop(default=True),
            "enableDnsHostnames": Prop(default=False),
        }
    )
    outputs = (
        "arn ownerId dhcpOptionsId defaultSecurityGroupId defaultNetworkAclId mainRouteTableId defaultRouteTableId"
    )

    def rules(self, inputs: Inputs) -> None:
        block = ipaddress.ip_network(inputs["cidrBlock"], strict=False)
        if not 16 <= block.prefixlen <= 28:  # EC2 user guide, "VPC CIDR blocks"
            raise AwsError("InvalidVpc.Range", f"The CIDR '{block}' is invalid.")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        tenancy = inputs.get("instanceTenancy", "default")
        vpc = cloud.client("ec2").create_vpc(
            CidrBlock=inputs["cidrBlock"], InstanceTenancy=tenancy, **self.tag_specification(inputs)
        )["Vpc"]["VpcId"]
        with finishing(vpc):
            self.modify(cloud, vpc, {}, inputs, {"enableDnsSupport", "enableDnsHostnames"} & set(inputs))
        return vpc

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        ec2 = cloud.client("ec2")
        vpc = ec2.describe_vpcs(VpcIds=[identifier])["Vpcs"][0]
        mine = [{"Name": "vpc-id", "Values": [identifier]}]

        def attribute(name: str) -> bool:
            answer = ec2.describe_vpc_attribute(VpcId=identifier, Attribute=name)
            return answer[name[0].upper() + name[1:]]["Value"]

        groups = ec2.describe_security_groups(Filters=[*mine, {"Name": "group-name", "Values": ["default"]}])
        tables = ec2.describe_route_tables(Filters=[*mine, {"Name": "association.main", "Values": ["true"]}])
        acls = ec2.describe_network_acls(Filters=[*mine, {"Name": "default", "Values": ["true"]}])
        main = tables["RouteTables"][0]["RouteTableId"]
        return {
            "cidrBlock": vpc["CidrBlock"],
            "instanceTenancy": vpc["InstanceTenancy"],
            "enableDnsSupport": attribute("enableDnsSupport"),
            "enableDnsHostnames": attribute("enableDnsHostnames"),
            "tags": as_dict(vpc.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
            "dhcpOptionsId": vpc["DhcpOptionsId"],
            "defaultSecurityGroupId": groups["SecurityGroups"][0]["GroupId"],
            "defaultNetworkAclId": acls["NetworkAcls"][0]["NetworkAclId"],
            "mainRouteTableId": main,
            "defaultRouteTableId": main,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        for name in sorted(changed):
            value = {"Value": news.get(name, self.props[name].default)}
            cloud.client("ec2").modify_vpc_attribute(VpcId=identifier, **{name[0].upper() + name[1:]: value})

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_vpc(VpcId=identifier)


class Subnet(Ec2Handler):
    type, kind = "aws:ec2/subnet:Subnet", "subnet"
    taggable = True
    gone = ("InvalidSubnetID.NotFound",)
    props = table(
        {
            "vpcId": Prop(replace=True),
            "cidrBlock": Prop(replace=True),
            "availabilityZone": Prop(replace=True, computed=True),
            "availabilityZoneId": Prop(replace=True, computed=True),
            "mapPublicIpOnLaunch": Prop(default=False),
        }
    )
    outputs = "arn ownerId"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        ec2 = cloud.client("ec2")
        zone = {
            key: inputs[name]
            for name, key in (("availabilityZone", "AvailabilityZone"), ("availabilityZoneId", "AvailabilityZoneId"))
            if inputs.get(name)
        }
        subnet = ec2.create_subnet(
            VpcId=inputs["vpcId"], CidrBlock=inputs["cidrBlock"], **zone, **self.tag_specification(inputs)
        )["Subnet"]
        with finishing(subnet["SubnetId"]):
            if subnet["MapPublicIpOnLaunch"] != bool(inputs.get("mapPublicIpOnLaunch")):
                self.modify(cloud, subnet["SubnetId"], {}, inputs, {"mapPublicIpOnLaunch"})
        return subnet["SubnetId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        subnet = cloud.client("ec2").describe_subnets(SubnetIds=[identifier])["Subnets"][0]
        return {
            "vpcId": subnet["VpcId"],
            "cidrBlock": subnet["CidrBlock"],
            "availabilityZone": subnet["AvailabilityZone"],
            "availabilityZoneId": subnet["AvailabilityZoneId"],
            "mapPublicIpOnLaunch": subnet["MapPublicIpOnLaunch"],
            "tags": as_dict(subnet.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        cloud.client("ec2").modify_subnet_attribute(
            SubnetId=identifier, MapPublicIpOnLaunch={"Value": bool(news.get("mapPublicIpOnLaunch"))}
        )

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_subnet(SubnetId=identifier)


class InternetGateway(Ec2Handler):
    type, kind = "aws:ec2/internetGateway:InternetGateway", "internet-gateway"
    taggable = True
    gone = ("InvalidInternetGatewayID.NotFound",)
    props = table({"vpcId": Prop(computed=True)})
    outputs = "arn ownerId"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        ec2 = cloud.client("ec2")
        gateway = ec2.create_internet_gateway(**self.tag_specification(inputs))["InternetGateway"]["InternetGatewayId"]
        with finishing(gateway):
            if inputs.get("vpcId"):
                ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=inputs["vpcId"])
        return gateway

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        answer = cloud.client("ec2").describe_internet_gateways(InternetGatewayIds=[identifier])
        gateway = answer["InternetGateways"][0]
        attached = gateway.get("Attachments") or [{}]
        return {
            "vpcId": attached[0].get("VpcId"),
            "tags": as_dict(gateway.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        ec2 = cloud.client("ec2")
        if olds.get("vpcId"):
            ec2.detach_internet_gateway(InternetGatewayId=identifier, VpcId=olds["vpcId"])
        if news.get("vpcId"):
            ec2.attach_internet_gateway(InternetGatewayId=identifier, VpcId=news["vpcId"])

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        ec2 = cloud.client("ec2")
        answer = ec2.describe_internet_gateways(InternetGatewayIds=[identifier])
        for attached in answer["InternetGateways"][0].get("Attachments") or []:  # somebody may have detached it
            ec2.detach_internet_gateway(InternetGatewayId=identifier, VpcId=attached["VpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=identifier)


class Eip(Ec2Handler):
    type, kind = "aws:ec2/eip:Eip", "elastic-ip"
    taggable = True
    gone = ("InvalidAllocationID.NotFound",)
    props = table({"domain": Prop(replace=True, computed=True)})
    outputs = "arn publicIp allocationId"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        domain = inputs.get("domain", "vpc")
        return cloud.client("ec2").allocate_address(Domain=domain, **self.tag_specification(inputs))["AllocationId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        address = cloud.client("ec2").describe_addresses(AllocationIds=[identifier])["Addresses"][0]
        return {
            "domain": address["Domain"],
            "tags": as_dict(address.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "publicIp": address["PublicIp"],
            "allocationId": identifier,
        }

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").release_address(AllocationId=identifier)


class NatGateway(Ec2Handler):
    type, kind = "aws:ec2/natGateway:NatGateway", "natgateway"
    taggable = True
    gone = ("NatGatewayNotFound", "InvalidNatGatewayID.NotFound")
    props = table(
        {
            "subnetId": Prop(replace=True),
            "allocationId": Prop(replace=True),
            "connectivityType": Prop(replace=True, default="public"),
        }
    )
    outputs = "publicIp privateIp networkInterfaceId associationId"

    def rules(self, inputs: Inputs) -> None:
        if inputs.get("connectivityType", "public") == "public" and not inputs.get("allocationId"):
            raise AwsError("MissingParameter", "A public NAT gateway requires an Elastic IP allocation (allocationId)")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        more = {"AllocationId": inputs["allocationId"]} if inputs.get("allocationId") else {}
        answer = cloud.client("ec2").create_nat_gateway(
            SubnetId=inputs["subnetId"],
            ConnectivityType=inputs.get("connectivityType", "public"),
            **more,
            **self.tag_specification(inputs),
        )
        return answer["NatGateway"]["NatGatewayId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        found = cloud.client("ec2").describe_nat_gateways(NatGatewayIds=[identifier])["NatGateways"]
        if not found or found[0]["State"] in ("deleted", "deleting"):
            return None
        gateway, address = found[0], (found[0].get("NatGatewayAddresses") or [{}])[0]
        return {
            "subnetId": gateway["SubnetId"],
            "allocationId": address.get("AllocationId"),
            "connectivityType": gateway.get("ConnectivityType", "public"),
            "tags": as_dict(gateway.get("Tags")),
            "publicIp": address.get("PublicIp"),
            "privateIp": address.get("PrivateIp"),
            "networkInterfaceId": address.get("NetworkInterfaceId"),
            "associationId": address.get("AssociationId"),
        }

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_nat_gateway(NatGatewayId=identifier)


HANDLERS = (Vpc, Subnet, InternetGateway, Eip, NatGateway)
