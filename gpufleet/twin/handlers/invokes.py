"""The provider's functions (data sources) that programs may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NotModelledError
from .account import Account
from .group_function import group

Args = Mapping[str, Any]

# The deep-learning image that AWS publishes under public parameters; moto does not have them.
# Source: AWS Deep Learning AMIs, "Find the ID with SSM" (facts of the project: section 9).
_IMAGES = "/aws/service/deeplearning/ami/"
IMAGE_IDS = {"x86_64": "ami-0d1ea3111a9e5c0de", "arm64": "ami-0d1ea3111a9e5a364"}


def _known(token: str, args: Args, *names: str) -> None:
    unknown = sorted(set(args) - {*names, "region"})
    if unknown:
        raise NotModelledError(f"the twin does not model {', '.join(unknown)} of {token}")


def _caller_identity(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getCallerIdentity", args)
    answer = cloud.client("sts").get_caller_identity()
    return {"id": answer["Account"], "accountId": answer["Account"], "arn": answer["Arn"], "userId": answer["UserId"]}


def _region(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getRegion", args, "id", "name", "endpoint")
    name = args.get("region") or args.get("name") or cloud.region
    return {
        "id": name,
        "name": name,
        "region": name,
        "endpoint": f"ec2.{name}.amazonaws.com",
        "description": _REGIONS.get(name, name),
    }


_REGIONS = {"us-east-1": "US East (N. Virginia)", "us-west-2": "US West (Oregon)", "eu-central-1": "Europe (Frankfurt)"}


def _zones(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getAvailabilityZones", args, "state", "filters", "excludeNames", "excludeZoneIds", "allAvailabilityZones")
    filters = [{"Name": one["name"], "Values": list(one["values"])} for one in args.get("filters") or []]
    # Zones that need no opt-in are all that moto has; it does not know the filter.
    filters = [one for one in filters if one["Name"] != "opt-in-status" or "opt-in-not-required" not in one["Values"]]
    if args.get("state"):
        filters.append({"Name": "state", "Values": [args["state"]]})
    answer = cloud.client("ec2").describe_availability_zones(Filters=filters)
    zones = [
        zone
        for zone in answer["AvailabilityZones"]
        if zone["ZoneName"] not in (args.get("excludeNames") or [])
        and zone["ZoneId"] not in (args.get("excludeZoneIds") or [])
    ]
    zones.sort(key=lambda zone: zone["ZoneName"])
    return {
        "id": cloud.region,
        "names": [zone["ZoneName"] for zone in zones],
        "zoneIds": [zone["ZoneId"] for zone in zones],
        "groupNames": [cloud.region],
    }


def _partition(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getPartition", args)
    return {"id": "aws", "partition": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}


def _parameter(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getParameter", args, "name", "withDecryption")
    name = args["name"]
    if name.startswith(_IMAGES):
        architecture = name.removeprefix(_IMAGES).split("/", 1)[0]
        if architecture not in IMAGE_IDS or not name.endswith("/latest/ami-id"):
            raise NotModelledError(f"the twin has no deep-learning image parameter {name}")
        found = {"Name": name, "Type": "String", "Value": IMAGE_IDS[architecture], "Version": 1}
        found["ARN"] = f"arn:aws:ssm:{cloud.region}::parameter{name}"
    else:
        decrypted = bool(args.get("withDecryption", True))
        found = cloud.client("ssm").get_parameter(Name=name, WithDecryption=decrypted)["Parameter"]
    secret = found["Type"] == "SecureString"
    return {
        "id": name,
        "name": name,
        "arn": found["ARN"],
        "type": found["Type"],
        "value": found["Value"],
        "insecureValue": None if secret else found["Value"],
        "version": found["Version"],
        "withDecryption": args.get("withDecryption", True),
    }


def _group(cloud: Account, args: Args) -> dict[str, Any]:
    _known("getGroup", args, "name")
    if args.get("region", cloud.region) != cloud.region:
        raise NotModelledError(f"the twin serves {cloud.region}, getGroup asks for {args['region']}")
    return group(cloud, args["name"])


INVOKES: dict[str, Callable[[Account, Args], dict[str, Any]]] = {
    "aws:autoscaling/getGroup:getGroup": _group,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller_identity,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
    "aws:index/getPartition:getPartition": _partition,
    "aws:ssm/getParameter:getParameter": _parameter,
}


def invoke(cloud: Account, token: str, args: Args) -> dict[str, Any]:
    """The answer of a provider function. Raises `NotModelledError` for one that the twin does not know."""
    function = INVOKES.get(token)
    if function is None:
        raise NotModelledError(f"the twin does not model the function {token}")
    return function(cloud, {key: value for key, value in args.items() if value is not None})
