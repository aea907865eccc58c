"""Security groups, with their rules in line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError, NotModelledError
from .account import Account
from .base import Inputs, Naming, Outputs, finishing
from .network import Ec2Handler
from .properties import Prop, as_dict, blocks, table

_RULE = {
    "protocol": Prop(),
    "fromPort": Prop(),
    "toPort": Prop(),
    "description": Prop(),
    "self": Prop(default=False),
    "cidrBlocks": Prop(kind="set"),
    "ipv6CidrBlocks": Prop(kind="set"),
    "prefixListIds": Prop(kind="set"),
    "securityGroups": Prop(kind="set"),
}
_SIDES = ("ingress", "egress")


def _check_ports(protocol: str, low: int | None, high: int | None) -> None:
    """AWS: protocol -1 covers all ports; tcp and udp need 0 <= from <= to <= 65535 (EC2 API, IpPermission)."""
    if protocol in ("tcp", "udp", "6", "17"):
        if low is None or high is None or not 0 <= low <= high <= 65_535:
            raise AwsError("InvalidParameterValue", f"Invalid TCP/UDP port range ({low}:{high})")
    elif protocol == "-1" and (low or 0, high or 0) not in ((0, 0), (-1, -1)):
        raise AwsError("InvalidParameterValue", "You may not specify ports with protocol -1")


class SecurityGroup(Ec2Handler):
    type, kind = "aws:ec2/securityGroup:SecurityGroup", "security-group"
    taggable, naming = True, Naming()
    gone = ("InvalidGroup.NotFound", "InvalidGroupId.NotFound")
    props = table(
        {
            "name": Prop(replace=True),
            "description": Prop(replace=True, default="Managed by Pulumi"),
            "vpcId": Prop(replace=True, computed=True),
            "ingress": blocks(_RULE, kind="set", computed=True),
            "egress": blocks(_RULE, kind="set", computed=True),
        }
    )
    outputs = "arn ownerId"

    def rules(self, inputs: Inputs) -> None:
        if inputs["name"].lower().startswith("sg-"):
            raise AwsError("InvalidParameterValue", "Group names may not begin with 'sg-'")
        for side in _SIDES:
            for rule in inputs.get(side) or []:
                _check_ports(str(rule["protocol"]), rule.get("fromPort"), rule.get("toPort"))
                if rule.get("prefixListIds") and rule.get("description"):  # moto drops it for these
                    raise NotModelledError(f"the twin does not model a description beside {side}.prefixListIds")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        ec2 = cloud.client("ec2")
        vpc = {"VpcId": inputs["vpcId"]} if inputs.get("vpcId") else {}
        group = ec2.create_security_group(
            GroupName=inputs["name"],
            Description=inputs.get("description", "Managed by Pulumi"),
            **vpc,
            **self.tag_specification(inputs),
        )["GroupId"]
        with finishing(group):  # like the real provider: AWS's own allow-all egress rule goes
            _replace_rules(ec2, group, {side: inputs.get(side) or [] for side in _SIDES})
        return group

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        group = cloud.client("ec2").describe_security_groups(GroupIds=[identifier])["SecurityGroups"][0]
        return {
            "name": group["GroupName"],
            "description": group["Description"],
            "vpcId": group.get("VpcId"),
            "ingress": _rules_of(group["IpPermissions"], identifier),
            "egress": _rules_of(group["IpPermissionsEgress"], identifier),
            "tags": as_dict(group.get("Tags")),
            "arn": self.arn(cloud, identifier),
            "ownerId": cloud.account_id,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        sides = {side: news.get(side) or [] for side in _SIDES if side in changed}
        _replace_rules(cloud.client("ec2"), identifier, sides)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_security_group(GroupId=identifier)


class DefaultSecurityGroup(SecurityGroup):
    """The group that comes with a VPC: adopted, emptied of rules that the program does not name, never deleted."""

    type = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
    naming = None
    props = table(
        {
            "vpcId": Prop(replace=True, computed=True),
            "ingress": blocks(_RULE, kind="set"),
            "egress": blocks(_RULE, kind="set"),
        }
    )
    outputs = "arn ownerId name description"

    def rules(self, inputs: Inputs) -> None:
        super().rules({**inputs, "name": "default"})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        mine = [{"Name": "vpc-id", "Values": [inputs["vpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
        ec2 = cloud.client("ec2")
        group = ec2.describe_security_groups(Filters=mine)["SecurityGroups"][0]["GroupId"]
        _replace_rules(ec2, group, {side: inputs.get(side) or [] for side in _SIDES})
        self.retag(cloud, group, inputs.get("tags") or {}, [])
        return group

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        return  # the real provider only forgets it as well


def _replace_rules(ec2: Any, group: str, sides: Mapping[str, list[dict[str, Any]]]) -> None:
    live = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    for side, wanted in sides.items():
        present = live["IpPermissions" if side == "ingress" else "IpPermissionsEgress"]
        if present:
            getattr(ec2, f"revoke_security_group_{side}")(GroupId=group, IpPermissions=present)
        if wanted:
            permissions = [_permission(rule, group) for rule in wanted]
            getattr(ec2, f"authorize_security_group_{side}")(GroupId=group, IpPermissions=permissions)


def _permission(rule: Mapping[str, Any], group: str) -> dict[str, Any]:
    about = {"Description": rule["description"]} if rule.get("description") else {}
    groups = [*(rule.get("securityGroups") or []), *([group] if rule.get("self") else [])]
    permission: dict[str, Any] = {"IpProtocol": str(rule["protocol"])}
    if permission["IpProtocol"] != "-1":
        permission |= {"FromPort": rule["fromPort"], "ToPort": rule["toPort"]}
    ranges = {
        "IpRanges": [{"CidrIp": cidr, **about} for cidr in rule.get("cidrBlocks") or []],
        "Ipv6Ranges": [{"CidrIpv6": cidr, **about} for cidr in rule.get("ipv6CidrBlocks") or []],
        "PrefixListIds": [{"PrefixListId": entry, **about} for entry in rule.get("prefixListIds") or []],
        "UserIdGroupPairs": [{"GroupId": entry, **about} for entry in groups],
    }
    return permission | {key: value for key, value in ranges.items() if value}


def _rules_of(permissions: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    """One block per protocol, ports and description, as the real provider groups them."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}

    def add(permission: Mapping[str, Any], key: str, entry: str, item: Mapping[str, Any]) -> None:
        ports = (permission.get("FromPort", 0) or 0, permission.get("ToPort", 0) or 0)
        where = (permission["IpProtocol"], *ports, item.get("Description", ""))
        rule = found.setdefault(
            where, {"protocol": where[0], "fromPort": ports[0], "toPort": ports[1], "description": where[3]}
        )
        rule.setdefault(key, []).append(entry)

    for permission in permissions:
        for item in permission.get("IpRanges", []):
            add(permission, "cidrBlocks", item["CidrIp"], item)
        for item in permission.get("Ipv6Ranges", []):
            add(permission, "ipv6CidrBlocks", item["CidrIpv6"], item)
        for item in permission.get("PrefixListIds", []):
            add(permission, "prefixListIds", item["PrefixListId"], item)
        for item in permission.get("UserIdGroupPairs", []):
            add(permission, "securityGroups", item["GroupId"], item)
    for rule in found.values():
        if group in rule.get("securityGroups", []):
            rule["securityGroups"].remove(group)
            rule["self"] = True
    return list(found.values())


HANDLERS = (SecurityGroup, DefaultSecurityGroup)
