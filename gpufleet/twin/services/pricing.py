"""The AWS Price List API: GetProducts for EC2 instances, out of the twin's own prices.

One instance type is many products, as on AWS: by operating system, tenancy, pre-installed software and capacity status
(an unused reservation costs the same, an allocated one nothing). Who asks for a price without saying which gets all.
Source: Price List API reference, "GetProducts"; the shape of a product as AWS's own answers have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import AwsError, NotModelledError
from ..instance_types import Hardware, hardware
from ..prices import ON_DEMAND_USD_PER_HOUR, PRICE_LIST_DATE, REGION_MULTIPLES
from .model import Answer, Model, operation, refuse_unknown

if TYPE_CHECKING:
    from ..cloud import Cloud

SERVICE_CODE = "AmazonEC2"
PAGE = 100
TERM, RATE = "JRTCKXETXF", "6YS6EN2CT7"  # AWS's codes of on-demand terms and of hourly rates
_LOCATIONS = {
    "ap-northeast-1": ("Asia Pacific (Tokyo)", "APN1-"),
    "ap-south-1": ("Asia Pacific (Mumbai)", "APS3-"),
    "ap-southeast-2": ("Asia Pacific (Sydney)", "APS2-"),
    "ca-central-1": ("Canada (Central)", "CAN1-"),
    "eu-central-1": ("EU (Frankfurt)", "EUC1-"),
    "eu-north-1": ("EU (Stockholm)", "EUN1-"),
    "eu-west-1": ("EU (Ireland)", "EUW1-"),
    "eu-west-2": ("EU (London)", "EUW2-"),
    "us-east-1": ("US East (N. Virginia)", ""),
    "us-east-2": ("US East (Ohio)", "USE2-"),
    "us-west-2": ("US West (Oregon)", "USW2-"),
}


class Variant(NamedTuple):
    """How a type is sold. Dollars an hour are `share` of the type's price and `per_vcpu` for each vCPU."""

    system: str
    tenancy: str
    status: str
    software: str
    box: str  # what the usage type begins with
    operation: str
    share: float = 1.0
    per_vcpu: float = 0.0


# Beside the first, the numbers are the twin's own: what matters is that they are other products.
_VARIANTS = (
    Variant("Linux", "Shared", "Used", "NA", "BoxUsage", "RunInstances"),
    Variant("Linux", "Shared", "UnusedCapacityReservation", "NA", "UnusedBox", "RunInstances"),
    Variant("Linux", "Shared", "AllocatedCapacityReservation", "NA", "Reservation", "RunInstances", share=0.0),
    Variant("Linux", "Dedicated", "Used", "NA", "DedicatedUsage", "RunInstances", share=1.06),
    Variant("Linux", "Shared", "Used", "SQL Std", "BoxUsage", "RunInstances:0004", per_vcpu=0.12),
    Variant("Windows", "Shared", "Used", "NA", "BoxUsage", "RunInstances:0002", per_vcpu=0.046),
)
_SAMPLE = "g5.xlarge"


class PricingModel(Model):
    service = "pricing"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._fields = {*_attributes(_SAMPLE, "us-east-1", hardware(_SAMPLE), _VARIANTS[0]), "productFamily"}

    @operation("ServiceCode", "Filters", "FormatVersion", "MaxResults", "NextToken")
    def get_products(self, params: dict[str, Any], principal: str) -> Answer:
        if params["ServiceCode"] != SERVICE_CODE:
            raise NotModelledError(f"the twin has a price list of {SERVICE_CODE}, not of {params['ServiceCode']}")
        version = params.get("FormatVersion", "aws_v1")
        if version != "aws_v1":
            raise AwsError("InvalidParameterException", f"Invalid format version: {version}")
        wanted = self._filters(params.get("Filters") or [])
        size = params.get("MaxResults", PAGE)
        if not 1 <= size <= PAGE:
            raise AwsError("InvalidParameterException", f"MaxResults must be between 1 and {PAGE}")
        token = params.get("NextToken") or "page-0"
        if not token.startswith("page-"):
            raise AwsError("InvalidNextTokenException", "The pagination token is invalid.")
        found, start = list(_products(wanted)), int(token.removeprefix("page-"))
        answer: Answer = {
            "FormatVersion": "aws_v1",
            "PriceList": [json.dumps(product) for product in found[start : start + size]],
        }
        if start + size < len(found):
            answer["NextToken"] = f"page-{start + size}"
        return answer

    def _filters(self, given: list[Mapping[str, str]]) -> dict[str, str]:
        """Field -> value; a product must match all."""
        wanted: dict[str, str] = {}
        for condition in given:
            refuse_unknown("a filter of pricing:GetProducts", condition, {"Type", "Field", "Value"})
            if condition["Type"] != "TERM_MATCH":
                raise NotModelledError(f"the twin filters prices by TERM_MATCH, not by {condition['Type']}")
            if condition["Field"] not in self._fields:
                raise NotModelledError(f"the twin does not model the field {condition['Field']} of a price list")
            if wanted.setdefault(condition["Field"], condition["Value"]) != condition["Value"]:
                raise NotModelledError(f"the twin takes one value for {condition['Field']} of a price list")
        return wanted


def _products(wanted: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    family = wanted.get("productFamily", "Compute Instance")
    terms = {field: value for field, value in wanted.items() if field != "productFamily"}
    for region, multiple in REGION_MULTIPLES.items():
        for name, usd in ON_DEMAND_USD_PER_HOUR.items():
            if terms.get("regionCode", region) != region or terms.get("instanceType", name) != name:
                continue
            made = hardware(name)
            for variant in _VARIANTS:
                attributes = _attributes(name, region, made, variant)
                if family == "Compute Instance" and all(attributes[field] == value for field, value in terms.items()):
                    hourly = usd * multiple * variant.share + made.vcpus * variant.per_vcpu
                    yield _product(attributes, round(hourly, 5))


def _attributes(name: str, region: str, made: Hardware, variant: Variant) -> dict[str, str]:
    location, prefix = _LOCATIONS[region]
    return {
        "servicecode": SERVICE_CODE,
        "servicename": "Amazon Elastic Compute Cloud",
        "location": location,
        "locationType": "AWS Region",
        "regionCode": region,
        "instanceType": name,
        "instanceFamily": "GPU instance",
        "currentGeneration": "Yes",
        "vcpu": str(made.vcpus),
        "memory": f"{made.memory_gib} GiB",
        "gpu": str(made.gpus),
        "gpuMemory": f"{made.gpu_mib // 1024} GB",
        "operatingSystem": variant.system,
        "licenseModel": "No License required",
        "tenancy": variant.tenancy,
        "preInstalledSw": variant.software,
        "capacitystatus": variant.status,
        "marketoption": "OnDemand",
        "usagetype": f"{prefix}{variant.box}:{name}",
        "operation": variant.operation,
    }


def _product(attributes: Mapping[str, str], usd: float) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()
    sku = digest[:16].upper()
    offer, rate = f"{sku}.{TERM}", f"{sku}.{TERM}.{RATE}"
    what = f"{attributes['operatingSystem']} {attributes['instanceType']}"
    dimension = {
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${usd:g} per On Demand {what} Instance Hour",
        "appliesTo": [],
        "rateCode": rate,
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    term = {
        "sku": sku,
        "offerTermCode": TERM,
        "effectiveDate": f"{PRICE_LIST_DATE}T00:00:00Z",
        "termAttributes": {},
        "priceDimensions": {rate: dimension},
    }
    return {
        "product": {"productFamily": "Compute Instance", "attributes": dict(attributes), "sku": sku},
        "serviceCode": SERVICE_CODE,
        "terms": {"OnDemand": {offer: term}},
        "version": PRICE_LIST_DATE.replace("-", "") + "000000",
        "publicationDate": f"{PRICE_LIST_DATE}T00:00:00Z",
    }
