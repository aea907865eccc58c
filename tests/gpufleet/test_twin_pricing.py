"""The price list and the description of instance types, as whoever refreshes prices asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twin_services import START, ServicesAccount, allow, refused
from twin_wire import over_the_wire

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.instance_types import hardware
from gpufleet.twin.plugin.remote import RemoteAccount
from gpufleet.twin.prices import ON_DEMAND_USD_PER_HOUR, REGION_MULTIPLES
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World

EXACT = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}


@pytest.fixture
def world() -> Iterator[World]:
    with Cloud(START) as cloud:
        yield World(cloud)


def filters(**fields: str) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]


def products(client: Any, **fields: str) -> list[dict[str, Any]]:
    found, token = [], {}
    while True:
        page = client.get_products(ServiceCode="AmazonEC2", Filters=filters(**fields), **token)
        found += [json.loads(text) for text in page["PriceList"]]
        if "NextToken" not in page:
            return found
        token = {"NextToken": page["NextToken"]}


def usd(product: dict[str, Any]) -> float:
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert dimension["unit"] == "Hrs"
    return float(dimension["pricePerUnit"]["USD"])


def test_all_filters_together_name_one_product(world: World) -> None:
    client = world.cloud.client("pricing")
    (found,) = products(client, instanceType="g5.xlarge", regionCode="us-east-1", **EXACT)
    assert usd(found) == 1.006
    assert found["product"]["attributes"]["location"] == "US East (N. Virginia)"
    assert found["product"]["attributes"]["gpu"] == "1"
    assert found["publicationDate"] == "2026-07-20T00:00:00Z"
    assert found["product"]["sku"] in next(iter(found["terms"]["OnDemand"]))
    (same,) = products(client, instanceType="g5.xlarge", location="US East (N. Virginia)", **EXACT)
    assert same == found


@pytest.mark.parametrize(("left_out", "prices"), [
    ("operatingSystem", {1.006, 1.19}), ("tenancy", {1.006, 1.06636}), ("preInstalledSw", {1.006, 1.486}),
    ("capacitystatus", {1.006, 0.0}),
])  # fmt: skip
def test_a_filter_left_out_brings_products_at_other_prices(world: World, left_out: str, prices: set[float]) -> None:
    given = {field: value for field, value in EXACT.items() if field != left_out}
    found = products(world.cloud.client("pricing"), instanceType="g5.xlarge", regionCode="us-east-1", **given)
    assert len(found) > 1
    assert {usd(one) for one in found} == prices


def test_other_regions_have_their_multiple(world: World) -> None:
    client = world.cloud.client("pricing")
    for region, multiple in REGION_MULTIPLES.items():
        (found,) = products(client, instanceType="g6.xlarge", regionCode=region, **EXACT)
        assert usd(found) == pytest.approx(0.8048 * multiple, abs=1e-5)
    assert products(client, instanceType="g6.xlarge", regionCode="af-south-1", **EXACT) == []
    assert products(client, instanceType="g9.xlarge", regionCode="us-east-1", **EXACT) == []


def test_values_match_as_they_are_spelled(world: World) -> None:
    client = world.cloud.client("pricing")
    assert products(client, instanceType="g5.xlarge", regionCode="us-east-1", operatingSystem="linux") == []


def test_pages_hold_a_hundred_at_most_and_all_together_everything(world: World) -> None:
    client = world.cloud.client("pricing")
    first = client.get_products(ServiceCode="AmazonEC2", Filters=filters(productFamily="Compute Instance", **EXACT))
    assert len(first["PriceList"]) == 100
    every = products(client, **EXACT)
    assert len(every) == len(ON_DEMAND_USD_PER_HOUR) * len(REGION_MULTIPLES)
    assert len({one["product"]["sku"] for one in every}) == len(every)
    few = client.get_products(ServiceCode="AmazonEC2", Filters=filters(**EXACT), MaxResults=3)
    assert len(few["PriceList"]) == 3
    assert products(client, productFamily="Storage") == []


def test_what_aws_refuses_and_what_is_not_modelled(world: World) -> None:
    client = world.cloud.client("pricing")
    with refused("InvalidNextTokenException"):
        client.get_products(ServiceCode="AmazonEC2", NextToken="x")
    with refused("InvalidParameterException", "format version"):
        client.get_products(ServiceCode="AmazonEC2", FormatVersion="v2")
    with refused("InvalidParameterException", "MaxResults"):
        client.get_products(ServiceCode="AmazonEC2", MaxResults=101)
    with pytest.raises(NotModelledError, match="not of AmazonRDS"):
        client.get_products(ServiceCode="AmazonRDS")
    with pytest.raises(NotModelledError, match="field nonsense"):
        client.get_products(ServiceCode="AmazonEC2", Filters=filters(nonsense="x"))
    asked = [{"Type": "ANY_OF", "Field": "instanceType", "Value": "g5.xlarge,g6.xlarge"}]
    with pytest.raises(NotModelledError, match="not by ANY_OF"):
        client.get_products(ServiceCode="AmazonEC2", Filters=asked)
    with pytest.raises(NotModelledError, match="pricing:DescribeServices"):
        client.describe_services()


def test_a_role_needs_permission(world: World) -> None:
    account = ServicesAccount(world.cloud, world.services)
    account.role("reader", allow(["pricing:GetProducts", "ec2:DescribeInstanceTypes"]))
    account.role("other")
    assert products(world.cloud.client("pricing", "reader"), instanceType="g5.xlarge", regionCode="us-east-1", **EXACT)
    assert world.cloud.client("ec2", "reader").describe_instance_types(InstanceTypes=["g5.xlarge"])["InstanceTypes"]
    with refused("AccessDenied", "pricing:GetProducts"):
        world.cloud.client("pricing", "other").get_products(ServiceCode="AmazonEC2")
    with refused("AccessDenied", "ec2:DescribeInstanceTypes"):
        world.cloud.client("ec2", "other").describe_instance_types()


def test_both_are_the_same_over_the_wire(world: World) -> None:
    asked = {"instanceType": "g5.12xlarge", "regionCode": "us-east-1", **EXACT}
    own = products(world.cloud.client("pricing"), **asked)
    types = world.cloud.client("ec2").describe_instance_types(InstanceTypes=["g5.12xlarge"])["InstanceTypes"]
    costs = {
        "TimePeriod": {"Start": "2026-11-01", "End": "2026-11-02"}, "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
    }  # fmt: skip
    with Endpoint(world) as endpoint:
        remote = over_the_wire(endpoint, lambda: RemoteAccount(endpoint.url))
        assert over_the_wire(endpoint, lambda: products(remote.client("pricing"), **asked)) == own
        found = over_the_wire(
            endpoint, lambda: remote.client("ec2").describe_instance_types(InstanceTypes=["g5.12xlarge"])
        )
        assert found["InstanceTypes"] == types
        told = over_the_wire(endpoint, lambda: remote.client("ce").get_cost_and_usage(**costs))
    assert told["ResultsByTime"][0]["Total"]["UnblendedCost"]["Unit"] == "USD"


# -- instance types --------------------------------------------------------------------------------------------


def gpus(world: World, *names: str) -> dict[str, int]:
    found = world.cloud.client("ec2").describe_instance_types(InstanceTypes=list(names))["InstanceTypes"]
    return {one["InstanceType"]: sum(gpu["Count"] for gpu in one["GpuInfo"]["Gpus"]) for one in found}


def test_the_gpus_of_a_type(world: World) -> None:
    assert gpus(world, "g5.xlarge", "g5.16xlarge", "g5.24xlarge", "g6.48xlarge", "g4dn.12xlarge", "p5.4xlarge") == {
        "g5.xlarge": 1, "g5.16xlarge": 1, "g5.24xlarge": 4, "g6.48xlarge": 8, "g4dn.12xlarge": 4, "p5.4xlarge": 1,
    }  # fmt: skip


def test_every_type_with_a_price_is_described(world: World) -> None:
    client = world.cloud.client("ec2")
    pages = client.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 7})
    found = [one["InstanceType"] for page in pages for one in page["InstanceTypes"]]
    assert sorted(found) == sorted(ON_DEMAND_USD_PER_HOUR)
    assert len(set(found)) == len(found)
    for name in ON_DEMAND_USD_PER_HOUR:
        assert hardware(name).gpus in (1, 2, 4, 8)


def test_types_by_filter(world: World) -> None:
    client = world.cloud.client("ec2")
    found = client.describe_instance_types(Filters=[{"Name": "instance-type", "Values": ["g5.2*", "g6.xlarge"]}])
    assert [one["InstanceType"] for one in found["InstanceTypes"]] == ["g5.24xlarge", "g5.2xlarge", "g6.xlarge"]
    with pytest.raises(NotModelledError, match="filter vcpu-info"):
        client.describe_instance_types(Filters=[{"Name": "vcpu-info.default-vcpus", "Values": ["4"]}])


def test_types_that_do_not_exist_are_told(world: World) -> None:
    client = world.cloud.client("ec2")
    with refused("InvalidInstanceType", "The following supplied instance types do not exist: [g9.xlarge]"):
        client.describe_instance_types(InstanceTypes=["g5.xlarge", "g9.xlarge"])
    with refused("InvalidParameterCombination"):
        client.describe_instance_types(InstanceTypes=["g5.xlarge"], MaxResults=5)
    with refused("InvalidParameterValue"):
        client.describe_instance_types(MaxResults=101)
    with refused("InvalidNextToken"):
        client.describe_instance_types(NextToken="x")
    with pytest.raises(NotModelledError, match=r"does not know the instance type m5\.large"):
        hardware("m5.large")
