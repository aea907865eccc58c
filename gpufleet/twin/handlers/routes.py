"""Where packets go: route tables, routes, gateway endpoints."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import Handler, Inputs, Outputs, split_import
from .network import Ec2Handler
from .properties import Prop, as_dict, table


class RouteTable(Ec2Handler):
    type, kind = "aws:ec2/routeTable:RouteTable", "route-table"
    taggable = True
    gone = ("InvalidRouteTableID.NotFound",)
    props = table({"vpcId": Prop(replace=True)})
    outputs = "arn ownerId routes"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        answer = cloud.client("ec2").create_route_table(VpcId=inputs["vpcId"], **self.tag_specification(inputs))
        return answer["RouteTable"]["RouteTableId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        live = cloud.client("ec2").describe_route_tables(RouteTableIds=[identifier])["RouteTables"][0]
        return {
            "vpcId": live["VpcId"],
            "tags": as_dict(live.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
            "routes": [
                {"cidrBlock": r["DestinationCidrBlock"], **{k: v for k, v in _target_of(r).items() if v}}
                for r in live["Routes"]
                if r.get("DestinationCidrBlock") and r.get("GatewayId") != "local"
            ],
        }

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_route_table(RouteTableId=identifier)


def _target_of(route: Mapping[str, Any]) -> dict[str, Any]:
    return {"gatewayId": route.get("GatewayId"), "natGatewayId": route.get("NatGatewayId")}


class Route(Handler):
    type = "aws:ec2/route:Route"
    delete_first = True
    gone = ("InvalidRoute.NotFound", "InvalidRouteTableID.NotFound")
    props = table(
        {
            "routeTableId": Prop(replace=True),
            "destinationCidrBlock": Prop(replace=True),
            "gatewayId": Prop(computed=True),
            "natGatewayId": Prop(computed=True),
        }
    )
    outputs = "origin state"

    def rules(self, inputs: Inputs) -> None:
        if len([1 for name in ("gatewayId", "natGatewayId") if inputs.get(name)]) != 1:
            raise AwsError("InvalidParameterCombination", "A route needs exactly one of gatewayId, natGatewayId")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("ec2").create_route(**self._request(inputs))
        return self._id(inputs)

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        table_id, block = split_import(self.type, identifier, "_", "TABLE_DESTINATION")
        inputs = {"routeTableId": table_id, "destinationCidrBlock": block}
        return self._id(inputs), inputs

    @staticmethod
    def _id(inputs: Mapping[str, Any]) -> str:
        return f"r-{inputs['routeTableId']}{zlib.crc32(inputs['destinationCidrBlock'].encode())}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        answer = cloud.client("ec2").describe_route_tables(RouteTableIds=[inputs["routeTableId"]])
        for route in answer["RouteTables"][0]["Routes"]:
            if route.get("DestinationCidrBlock") == inputs["destinationCidrBlock"]:
                return {
                    "routeTableId": inputs["routeTableId"],
                    "destinationCidrBlock": inputs["destinationCidrBlock"],
                    **_target_of(route),
                    "origin": route.get("Origin"),
                    "state": route.get("State"),
                }
        return None

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        cloud.client("ec2").replace_route(**self._request(news))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_route(
            RouteTableId=outputs["routeTableId"], DestinationCidrBlock=outputs["destinationCidrBlock"]
        )

    def _request(self, inputs: Inputs) -> dict[str, Any]:
        return {
            self.props[name].name(name): inputs[name]
            for name in ("routeTableId", "destinationCidrBlock", "gatewayId", "natGatewayId")
            if inputs.get(name)
        }


class RouteTableAssociation(Handler):
    type = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    delete_first = True
    gone = ("InvalidAssociationID.NotFound",)
    props = table({"subnetId": Prop(replace=True), "routeTableId": Prop()})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        answer = cloud.client("ec2").associate_route_table(
            SubnetId=inputs["subnetId"], RouteTableId=inputs["routeTableId"]
        )
        return answer["AssociationId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        found = self._association(cloud, identifier, inputs)
        return found and {"subnetId": found.get("SubnetId"), "routeTableId": found["RouteTableId"]}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> str:
        found = self._association(cloud, identifier, olds)
        answer = cloud.client("ec2").replace_route_table_association(
            AssociationId=found["RouteTableAssociationId"] if found else identifier, RouteTableId=news["routeTableId"]
        )
        return answer["NewAssociationId"]

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        found = self._association(cloud, identifier, outputs)
        if found is not None:
            cloud.client("ec2").disassociate_route_table(AssociationId=found["RouteTableAssociationId"])

    @staticmethod
    def _association(cloud: Account, identifier: str, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """By its id, else by its subnet, which has one at most: a new route table brings a new id, and Pulumi's engine
        keeps the id that a resource was created with."""
        wanted = {"route-table-association-id": identifier, "subnet-id": inputs.get("subnetId")}
        for name, value in wanted.items():
            mine = [{"Name": f"association.{name}", "Values": [value]}] if value else None
            for table_ in cloud.client("ec2").describe_route_tables(Filters=mine)["RouteTables"] if mine else ():
                for found in table_["Associations"]:
                    if value in (found["RouteTableAssociationId"], found.get("SubnetId")):
                        return {**found, "RouteTableId": table_["RouteTableId"]}
        return None


class VpcEndpoint(Ec2Handler):
    """Gateway endpoints (S3, DynamoDB); interface endpoints are not modelled: their properties are refused by name."""

    type, kind = "aws:ec2/vpcEndpoint:VpcEndpoint", "vpc-endpoint"
    taggable = True
    gone = ("InvalidVpcEndpointId.NotFound",)
    props = table(
        {
            "vpcId": Prop(replace=True),
            "serviceName": Prop(replace=True),
            "vpcEndpointType": Prop(replace=True, default="Gateway"),
            "routeTableIds": Prop(kind="set", computed=True),
            "policy": Prop(kind="json", computed=True),
        }
    )
    outputs = "arn ownerId state prefixListId"

    def rules(self, inputs: Inputs) -> None:
        service = inputs["serviceName"].rsplit(".", 1)[-1]
        if inputs.get("vpcEndpointType", "Gateway") != "Gateway" or service not in ("s3", "dynamodb"):
            raise AwsError(
                "InvalidServiceName", f"The Vpc Endpoint Service '{inputs['serviceName']}' has no gateway type"
            )

    def make(self, cloud: Account, inputs: Inputs) -> str:
        policy = {"PolicyDocument": inputs["policy"]} if inputs.get("policy") else {}
        answer = cloud.client("ec2").create_vpc_endpoint(
            VpcId=inputs["vpcId"],
            ServiceName=inputs["serviceName"],
            VpcEndpointType="Gateway",
            RouteTableIds=inputs.get("routeTableIds", []),
            **policy,
            **self.tag_specification(inputs),
        )
        return answer["VpcEndpoint"]["VpcEndpointId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        ec2 = cloud.client("ec2")
        found = ec2.describe_vpc_endpoints(VpcEndpointIds=[identifier])["VpcEndpoints"]
        if not found or found[0]["State"].lower() in ("deleted", "deleting"):
            return None
        endpoint = found[0]
        lists = ec2.describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [endpoint["ServiceName"]]}]
        )["PrefixLists"]
        return {
            "vpcId": endpoint["VpcId"],
            "serviceName": endpoint["ServiceName"],
            "vpcEndpointType": endpoint["VpcEndpointType"],
            "routeTableIds": sorted(endpoint.get("RouteTableIds", [])),
            "policy": endpoint.get("PolicyDocument"),
            "tags": as_dict(endpoint.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
            "state": endpoint["State"],
            "prefixListId": lists[0]["PrefixListId"] if lists else None,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        request: dict[str, Any] = {}
        if "routeTableIds" in changed:
            before, after = set(olds.get("routeTableIds") or []), set(news.get("routeTableIds") or [])
            request["AddRouteTableIds"] = sorted(after - before)
            request["RemoveRouteTableIds"] = sorted(before - after)
        if "policy" in changed:
            request["PolicyDocument"] = news["policy"]
        cloud.client("ec2").modify_vpc_endpoint(
            VpcEndpointId=identifier, **{key: value for key, value in request.items() if value}
        )

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        ec2 = cloud.client("ec2")
        try:
            ec2.delete_vpc_endpoints(VpcEndpointIds=[identifier])
        except (
            ec2.exceptions.ClientError
        ) as error:  # moto wants a route in tables that were added later, and makes none
            if error.response["Error"]["Code"] != "InvalidRoute.NotFound":
                raise
            tables = ec2.describe_vpc_endpoints(VpcEndpointIds=[identifier])["VpcEndpoints"][0]["RouteTableIds"]
            ec2.modify_vpc_endpoint(VpcEndpointId=identifier, RemoveRouteTableIds=tables)
            ec2.delete_vpc_endpoints(VpcEndpointIds=[identifier])


HANDLERS = (RouteTable, Route, RouteTableAssociation, VpcEndpoint)
