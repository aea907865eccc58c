"""AWS's price list as `GetProducts` answers it, with everything beside what is asked for that it holds on AWS too.

The form of a product is that of the API's own example (Price List API reference, GetProducts) and of what
aws/karpenter-provider-aws reads (pkg/providers/pricing/pricing.go).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from gpufleet.twin.errors import AwsError

PLAIN = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
# Products of the same type that are none of ours, each with a price that would be noticed.
OTHERS: tuple[tuple[dict[str, str], str], ...] = (
    ({"operatingSystem": "Windows"}, "7"),
    ({"preInstalledSw": "SQL Web"}, "8"),
    ({"tenancy": "Dedicated"}, "9"),
    ({"capacitystatus": "AllocatedCapacityReservation"}, "0"),
    ({"capacitystatus": "UnusedCapacityReservation"}, "10"),
    ({"marketoption": "CapacityBlock"}, "0"),
)


def dimension(usd: str, **changed: Any) -> dict[str, Any]:
    """A price dimension of an on-demand term."""
    known = {"unit": "Hrs", "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": usd}, "appliesTo": []}
    return {**known, **changed}


def product(region: str, name: str, *dimensions: dict[str, Any], **attributes: str) -> dict[str, Any]:
    """An entry of the list: what is sold, and its terms."""
    sku = f"{region}.{name}".upper()
    terms = {
        f"{sku}.{n}": {"sku": sku, "priceDimensions": {f"{sku}.{n}.6YS6EN2CT7": one}}
        for n, one in enumerate(dimensions)
    }
    about = {"instanceType": name, "regionCode": region, "servicecode": "AmazonEC2", **PLAIN, **attributes}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": about, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": terms, "Reserved": {f"{sku}.R": {"priceDimensions": {"x": dimension("0.4")}}}},
    }


def sold(region: str, prices: Mapping[str, float]) -> list[dict[str, Any]]:
    """Everything that is sold of these types in a region."""
    found = []
    for name, usd in prices.items():
        found.append(product(region, name, dimension(f"{usd:.10f}")))
        found += [product(region, name, dimension(price), **about) for about, price in OTHERS]
    return found


class PriceListApi:
    """A service model for the embedded cloud. `asked`: the parameters of every call; `ends`: whether the list does."""

    service = "pricing"

    def __init__(self, products: list[dict[str, Any]]) -> None:
        self.products, self.ends = products, True
        self.asked: list[dict[str, Any]] = []
        self.raw: list[str] = []  # entries that are answered as they are, whatever is asked for

    def handles(self, operation: str) -> bool:
        return True

    def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any]:
        assert operation == "GetProducts"
        assert params["ServiceCode"] == "AmazonEC2"
        self.asked.append(params)
        wanted = {}
        for one in params["Filters"]:
            if one["Type"] != "TERM_MATCH" or one["Field"] not in {*PLAIN, "regionCode", "instanceType"}:
                raise AwsError("InvalidParameterException", f"cannot filter by {one}")
            wanted[one["Field"]] = one["Value"]
        found = [
            json.dumps(one)
            for one in self.products
            if all(one["product"]["attributes"].get(field) == value for field, value in wanted.items())
        ]
        begin, size = int(params.get("NextToken", "0")), params.get("MaxResults", 100)
        page = list(itertools.islice(self.raw + found, begin, begin + size))
        more = {"NextToken": str(begin + size)} if begin + size < len(self.raw + found) or not self.ends else {}
        return {"FormatVersion": "aws_v1", "PriceList": page, **more}
