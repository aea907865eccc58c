"""Prices are never understated, and what is unknown counts as dear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import catalog

# On-demand prices of other regions, read in skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv.
ELSEWHERE = [
    ("g4dn.2xlarge", "ap-southeast-1", 1.052),
    ("g4dn.2xlarge", "eu-south-1", 0.88),
    ("g4dn.2xlarge", "me-south-1", 0.922),
    ("g4dn.2xlarge", "us-west-1", 0.902),
    ("g4dn.4xlarge", "ap-east-1", 1.854),
    ("g4dn.4xlarge", "ap-northeast-3", 1.625),
    ("g4dn.12xlarge", "af-south-1", 5.19),
    ("g5.16xlarge", "eu-west-1", 4.57237),
    ("g5.24xlarge", "ap-northeast-1", 11.81123),
    ("g5.24xlarge", "ap-southeast-3", 11.39836),
    ("g5.24xlarge", "eu-north-1", 8.63782),
    ("g6.4xlarge", "ap-southeast-2", 1.72042),
    ("g6.4xlarge", "ca-central-1", 1.4692),
    ("g6.4xlarge", "eu-central-1", 1.65466),
    ("g6.4xlarge", "eu-west-2", 1.67965),
    ("g6.4xlarge", "eu-west-3", 1.67965),
    ("g6.4xlarge", "me-central-1", 1.6248),
    ("g6.8xlarge", "ap-south-1", 2.41888),
    ("g6e.4xlarge", "ap-northeast-2", 3.69355),
    ("g6e.4xlarge", "eu-south-2", 3.16567),
    ("g6e.48xlarge", "us-west-2", 30.13118),
]


@pytest.mark.parametrize(("name", "region", "price"), ELSEWHERE, ids=str)
def test_a_price_elsewhere_is_met_within_two_percent_and_never_understated(
    name: str, region: str, price: float
) -> None:
    ours = catalog.on_demand_usd_per_hour(name, region)
    assert price <= ours <= price * 1.02


def test_every_region_with_a_known_multiple_was_checked_against_a_price_or_is_the_base() -> None:
    checked = {region for _, region, _ in ELSEWHERE} | {"us-east-1", "us-east-2"}
    assert checked == set(catalog.REGION_FACTORS)


def test_the_base_prices_are_those_of_the_price_list() -> None:
    assert catalog.on_demand_usd_per_hour("g5.xlarge", "us-east-1") == 1.006
    assert catalog.on_demand_usd_per_hour("g6.4xlarge", "us-east-1") == 1.3232
    assert catalog.on_demand_usd_per_hour("g6e.48xlarge", "us-east-1") == 30.13118


@given(st.text(max_size=12), st.sampled_from(sorted(catalog.AWS_REGIONS)))
def test_an_unknown_type_is_never_cheaper_than_a_known_one(name: str, region: str) -> None:
    dearest_known = max(catalog.on_demand_usd_per_hour(known, region) for known in catalog.GPU_TYPES)
    assert catalog.on_demand_usd_per_hour(f"x9{name}", region) >= dearest_known


@given(st.sampled_from(sorted(catalog.GPU_TYPES)), st.text(max_size=12))
def test_an_unknown_region_is_never_cheaper_than_a_known_one(name: str, region: str) -> None:
    dearest_known = max(catalog.on_demand_usd_per_hour(name, known) for known in catalog.REGION_FACTORS)
    assert catalog.on_demand_usd_per_hour(name, f"xx-{region}") > dearest_known


def test_the_dearest_and_the_cheapest_of_a_list() -> None:
    names = ["g6.xlarge", "g5.2xlarge", "g5.xlarge"]
    assert catalog.dearest(names, "us-east-1") == ("g5.2xlarge", 1.212)
    assert catalog.cheapest(names, "us-east-1") == ("g6.xlarge", 0.8048)
    for choose in (catalog.dearest, catalog.cheapest):
        with pytest.raises(ValueError, match="name at least one"):
            choose([], "us-east-1")


def test_a_type_tells_what_it_holds_and_an_unknown_one_says_which_there_are() -> None:
    one = catalog.gpu_type("g6e.12xlarge")
    assert (one.gpu, one.gpu_count, one.total_gpu_memory_mib, one.architecture) == ("L40S", 4, 4 * 45776, "x86_64")
    with pytest.raises(ValueError, match=r"no GPU instance type 'g5\.huge'.*g5\.xlarge"):
        catalog.gpu_type("g5.huge")


def test_types_of_one_family_agree_on_their_gpu() -> None:
    families: dict[str, set] = {}
    for one in catalog.GPU_TYPES.values():
        families.setdefault(one.name.partition(".")[0], set()).add((one.gpu, one.gpu_memory_mib, one.architecture))
    assert all(len(kinds) == 1 for kinds in families.values())
