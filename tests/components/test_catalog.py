"""Prices are never understated, and what is unknown counts as dear."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from fleet_control.aws import quotes
from hypothesis import given
from hypothesis import strategies as st

from components import catalog, price_list
from components.price_list import PriceList

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


# -- the price list ----------------------------------------------------------------------------------------------------

SHIPPED = catalog.PRICES_FILE.read_text(encoding="utf-8")
BASE = catalog.PRICES.usd_per_hour["us-east-1"]


def edited(change: Callable[[dict[str, Any]], None]) -> str:
    """The shipped file's text after `change`."""
    values = json.loads(SHIPPED)
    change(values)
    return json.dumps(values)


def parsed(text: str) -> PriceList:
    return price_list.parse(text, catalog.GPU_TYPES, catalog.AWS_REGIONS)


def listed(**regions: dict[str, float]) -> PriceList:
    """The shipped list with more regions, `eu_west_1` for eu-west-1."""
    more = {region.replace("_", "-"): prices for region, prices in regions.items()}
    return replace(catalog.PRICES, usd_per_hour={**catalog.PRICES.usd_per_hour, **more})


def test_a_listed_price_counts_as_it_is_and_any_other_is_reckoned_from_the_base_region() -> None:
    prices = listed(eu_west_1={"g5.xlarge": 1.123})
    assert catalog.on_demand_usd_per_hour("g5.xlarge", "eu-west-1", prices) == 1.123
    assert catalog.on_demand_usd_per_hour("g6.xlarge", "eu-west-1", prices) == pytest.approx(0.8048 * 1.12)
    assert catalog.on_demand_usd_per_hour("g5.xlarge", "eu-west-2", prices) == pytest.approx(1.006 * 1.27)
    assert catalog.on_demand_usd_per_hour("g5.xlarge", "eu-central-2", prices) == pytest.approx(1.006 * 2)


def test_an_unknown_type_costs_the_dearest_price_of_its_region_listed_or_reckoned() -> None:
    assert catalog.on_demand_usd_per_hour("x9.huge", "eu-west-1", listed(eu_west_1={"g4dn.xlarge": 99.0})) == 99
    reckoned = 30.13118 * 1.12
    assert catalog.on_demand_usd_per_hour("x9.huge", "eu-west-1") == pytest.approx(reckoned)


@given(st.sampled_from(sorted(catalog.GPU_TYPES)), st.sampled_from(sorted(catalog.AWS_REGIONS)))
def test_no_type_costs_more_than_the_dearest_with_as_many_gpus(name: str, region: str) -> None:
    dearest = catalog.dearest_by_gpus(region)
    assert catalog.on_demand_usd_per_hour(name, region) <= dearest[catalog.gpu_type(name).gpu_count]


def test_the_dearest_by_gpus_is_a_price_of_the_catalogue_in_that_region() -> None:
    assert catalog.dearest_by_gpus("us-east-1") == {1: 4.52856, 4: 10.49264, 8: 30.13118}
    assert catalog.dearest_by_gpus("eu-west-1", listed(eu_west_1={"g5.xlarge": 50.0}))[1] == 50


def test_the_age_of_the_prices_is_counted_in_days() -> None:
    assert catalog.PRICES.as_of.isoformat() == catalog.PRICES_AS_OF
    for days in (-1, 0, 1, 365):
        assert catalog.prices_age_days(catalog.PRICES.as_of + timedelta(days)) == days
    assert 0 < catalog.PRICES_WARN_AFTER_DAYS < catalog.PRICES_STALE_AFTER_DAYS
    assert timedelta(catalog.PRICES_STALE_AFTER_DAYS) == quotes.STALE_AFTER, "what the guard does is what is said here"


def test_the_shipped_file_is_as_the_refresh_writes_it() -> None:
    assert catalog.PRICES.text() == SHIPPED


@given(
    st.dictionaries(
        st.sampled_from(sorted(catalog.AWS_REGIONS - {"us-east-1"})),
        st.dictionaries(
            st.sampled_from(sorted(catalog.GPU_TYPES)),
            st.floats(0, price_list.MOST_USD_PER_HOUR, exclude_min=True),
            min_size=1,
        ),
    ),
    st.dates(),
)
def test_a_list_reads_back_as_it_was_written(regions: dict[str, dict[str, float]], day: date) -> None:
    prices = replace(listed(**regions), as_of=day)
    assert parsed(prices.text()) == prices


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


PRICE = ("usd_per_hour", "us-east-1", "g5.xlarge")
DAMAGED = {
    "no price": (_set(*PRICE, value=0), "us-east-1.g5.xlarge is 0"),
    "a negative one": (_set(*PRICE, value=-1.006), "us-east-1.g5.xlarge is -1.006"),
    "a point lost": (_set(*PRICE, value=1006), "at most 1000"),
    "text": (_set(*PRICE, value="1.006"), "us-east-1.g5.xlarge is '1.006'"),
    "a flag": (_set(*PRICE, value=True), "us-east-1.g5.xlarge is True"),
    "nothing": (_set(*PRICE, value=None), "us-east-1.g5.xlarge is None"),
    "an unknown type": (_set("usd_per_hour", "us-east-1", "g5.huge", value=1), "no such type"),
    "an unknown region": (_set("usd_per_hour", "eu-west-9", value={"g5.xlarge": 1}), "no such region"),
    "an empty region": (_set("usd_per_hour", "eu-west-1", value={}), "leave the region out"),
    "a region that is none": (_set("usd_per_hour", "eu-west-1", value=[1.2]), "by type for each region"),
    "no regions": (_set("usd_per_hour", value=None), "by type for each region"),
    "no base region": (_set("usd_per_hour", value={}), "no price of g4dn.xlarge"),
    "a type missing": (lambda values: values["usd_per_hour"]["us-east-1"].pop("g6.xlarge"), "no price of g6.xlarge"),
    "no date": (_set("as_of", value="July 2026"), "such as 2026-07-20"),
    "another date": (_set("as_of", value="20260720"), "such as 2026-07-20"),
    "a day that never was": (_set("as_of", value="2026-02-30"), "such as 2026-07-20"),
    "no source": (_set("source", value=" "), "must say where"),
    "a key too many": (_set("comment", value="x"), "and no others"),
}


@pytest.mark.parametrize("case", DAMAGED, ids=str)
def test_a_damaged_list_is_refused_by_name(case: str) -> None:
    change, words = DAMAGED[case]
    with pytest.raises(price_list.PriceListError, match=re.escape(words)):
        parsed(edited(change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SHIPPED[:-20], "no JSON document"),
        ("", "no JSON document"),
        ("[]", "must be an object"),
        (SHIPPED.replace("1.006", "NaN"), "NaN is no number"),
        (SHIPPED.replace("1.006", "Infinity"), "Infinity is no number"),
        (SHIPPED.replace("1.006", "1e999"), "g5.xlarge is inf"),
        (SHIPPED.replace("1.006", "1" + 400 * "0"), "at most 1000"),
        (SHIPPED.replace('"g5.2xlarge"', '"g5.xlarge"'), "'g5.xlarge' is there twice"),
        ("[" * 100_000, "no JSON document"),
    ],
    ids=["cut", "empty", "a list", "NaN", "infinite", "beyond floats", "a huge whole number", "a key twice", "deep"],
)
def test_what_is_no_price_list_at_all_is_refused(text: str, words: str) -> None:
    with pytest.raises(price_list.PriceListError, match=re.escape(words)):
        parsed(text)


def test_every_fault_is_named_at_once_with_the_file_and_what_to_do(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["as_of"] = "yesterday"
        values["usd_per_hour"]["us-east-1"]["g5.xlarge"] = 0

    (tmp_path / "prices.json").write_text(edited(change))
    for path, words in ((tmp_path / "prices.json", ["as_of", "g5.xlarge"]), (tmp_path / "none.json", ["No such file"])):
        with pytest.raises(price_list.PriceListError) as raised:
            price_list.read(path, catalog.GPU_TYPES, catalog.AWS_REGIONS)
        for word in (str(path), "gpufleet prices refresh", *words):
            assert word in str(raised.value)
