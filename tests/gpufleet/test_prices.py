"""`gpufleet prices`: what AWS's list says becomes the catalogue's; an answer that makes no sense changes nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_desk import ROOT
from price_list_api import PriceListApi, dimension, product, sold
from typer.testing import CliRunner, Result

from components import catalog, price_list
from components.price_list import PriceList
from gpufleet.cli import app
from gpufleet.operations import prices as operation
from gpufleet.operations.prices import Change, PricesError
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError
from gpufleet.twin.services import standard

NOW = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)
TODAY = NOW.date()
BASE = dict(catalog.PRICES.usd_per_hour["us-east-1"])
IRELAND = {"g4dn.xlarge": 0.587, "g5.xlarge": 1.123, "g5.2xlarge": 1.353}


@pytest.fixture
def api() -> PriceListApi:
    return PriceListApi(sold("us-east-1", BASE) + sold("eu-west-1", IRELAND) + sold("us-east-1", {"m5.large": 0.096}))


@pytest.fixture
def pricing(api: PriceListApi) -> Iterator[Any]:
    with Cloud(NOW.timestamp()) as cloud:
        cloud.register("pricing", api)
        yield cloud.client("pricing")


def refreshed(pricing: Any, *regions: str, before: PriceList = catalog.PRICES) -> PriceList:
    return operation.refreshed(pricing, before, catalog.GPU_TYPES, regions, TODAY)


def change(api: PriceListApi, name: str, act: Callable[[dict[str, Any]], Any], region: str = "us-east-1") -> None:
    """Let `act` change the product that is asked for."""
    plain = product(region, name)["product"]["attributes"]
    (found,) = [one for one in api.products if one["product"]["attributes"] == plain]
    act(found)


def the_dimension(found: dict[str, Any]) -> dict[str, Any]:
    ((_, term),) = found["terms"]["OnDemand"].items()
    ((_, one),) = term["priceDimensions"].items()
    return one


# -- what AWS says -----------------------------------------------------------------------------------------------------


def test_the_plain_price_of_every_type_is_read_among_all_others(pricing: Any) -> None:
    found = refreshed(pricing, "eu-west-1")
    assert found.as_of == TODAY
    assert found.usd_per_hour == {"us-east-1": BASE, "eu-west-1": IRELAND}, "types not sold there are left out"
    assert "GetProducts of AmazonEC2" in found.source
    assert price_list.parse(found.text(), catalog.GPU_TYPES, catalog.AWS_REGIONS) == found


def test_the_base_region_and_what_the_list_has_are_always_read_anew(pricing: Any, api: PriceListApi) -> None:
    before = refreshed(pricing, "eu-west-1")
    change(api, "g5.xlarge", lambda one: the_dimension(one)["pricePerUnit"].update(USD="1.2"), region="eu-west-1")
    api.asked.clear()
    after = refreshed(pricing, before=before)
    assert after.exact("g5.xlarge", "eu-west-1") == 1.2
    regions = {one["Value"] for asked in api.asked for one in asked["Filters"] if one["Field"] == "regionCode"}
    assert regions == {"us-east-1", "eu-west-1"}


def test_a_list_of_several_pages_is_read_to_its_end(pricing: Any, api: PriceListApi) -> None:
    api.products[:0] = sold("us-east-1", {f"m5.{n}xlarge": 1.0 for n in range(250)})
    assert refreshed(pricing).usd_per_hour == {"us-east-1": BASE}
    assert len(api.asked) == 3


def test_a_list_without_an_end_is_given_up(pricing: Any, api: PriceListApi) -> None:
    api.ends = False
    with pytest.raises(PricesError, match="us-east-1: AWS's list does not end after 60 pages"):
        refreshed(pricing)
    assert len(api.asked) == operation.PAGES


def test_a_price_that_is_there_twice_is_one(pricing: Any, api: PriceListApi) -> None:
    api.products += [product("us-east-1", "g5.xlarge", dimension("1.00600"), dimension("1.006"))]
    assert refreshed(pricing).exact("g5.xlarge", "us-east-1") == 1.006


def test_a_region_without_any_of_the_types_is_left_out(pricing: Any, api: PriceListApi) -> None:
    api.products += sold("ca-west-1", {"m5.large": 0.1})
    assert set(refreshed(pricing, "ca-west-1").usd_per_hour) == {"us-east-1"}


def _usd(text: str) -> Callable[[dict[str, Any]], Any]:
    return lambda one: the_dimension(one)["pricePerUnit"].update(USD=text)


NONSENSE = {
    "free": (_usd("0.0000000000"), "a price of '0.0000000000' USD"),
    "negative": (_usd("-1.006"), "a price of '-1.006' USD"),
    "no number": (_usd("free"), "a price of 'free' USD"),
    "not a number": (_usd("NaN"), "a price of 'NaN' USD"),
    "infinite": (_usd("inf"), "a price of 'inf' USD"),
    "a point lost": (_usd("1006"), "a price of '1006' USD"),
    "another currency": (lambda one: the_dimension(one).update(pricePerUnit={"CNY": "7"}), "priced in CNY, not in USD"),
    "no currency": (lambda one: the_dimension(one).update(pricePerUnit={}), "priced in no currency"),
    "another unit": (lambda one: the_dimension(one).update(unit="Quantity"), "priced by 'Quantity', not by the hour"),
    "no term": (lambda one: one["terms"].update(OnDemand={}), "no price"),
    "no on-demand terms": (lambda one: one["terms"].pop("OnDemand"), "no price"),
    "several prices": (
        lambda one: one["terms"]["OnDemand"].update(x={"priceDimensions": {"y": dimension("1.1")}}),
        "several prices, $1.006, $1.1",
    ),
}


@pytest.mark.parametrize("case", NONSENSE, ids=str)
def test_an_answer_that_makes_no_sense_is_refused_by_name(pricing: Any, api: PriceListApi, case: str) -> None:
    act, words = NONSENSE[case]
    change(api, "g5.xlarge", act)
    with pytest.raises(PricesError, match=re.escape(f"us-east-1 g5.xlarge: {words}")):
        refreshed(pricing)


def test_every_fault_of_all_regions_is_named_at_once(pricing: Any, api: PriceListApi) -> None:
    change(api, "g6.xlarge", _usd("0"))
    change(api, "g5.xlarge", _usd("0"), region="eu-west-1")
    with pytest.raises(
        PricesError, match=r"eu-west-1 g5\.xlarge: .*eu-west-2: nothing is sold.*us-east-1 g6\.xlarge: "
    ):
        refreshed(pricing, "eu-west-1", "eu-west-2")


def test_the_base_region_must_sell_every_type(pricing: Any, api: PriceListApi) -> None:
    api.products = [one for one in api.products if one["product"]["attributes"]["instanceType"] != "g5g.xlarge"]
    with pytest.raises(PricesError, match=r"us-east-1 has no price of g5g\.xlarge"):
        refreshed(pricing)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "no JSON"), ("[]", "unknown form"), ('{"product": {}}', "unknown form"), ("null", "unknown form")],
)
def test_what_is_no_product_is_refused(pricing: Any, api: PriceListApi, text: str, words: str) -> None:
    api.raw.append(text)
    with pytest.raises(PricesError, match=f"us-east-1: .*{words}"):
        refreshed(pricing)


def test_the_embedded_clouds_own_list_says_what_the_catalogue_ships() -> None:
    """Both were copied from the same list of AWS's, each on its own."""
    with Cloud(NOW.timestamp()) as cloud:
        standard.install(cloud)
        found = refreshed(cloud.client("pricing"), "eu-west-1")
    assert found.usd_per_hour["us-east-1"] == BASE
    for name, usd in found.usd_per_hour["eu-west-1"].items():
        reckoned = catalog.on_demand_usd_per_hour(name, "eu-west-1")
        assert 0.9 * reckoned < usd <= reckoned


# -- two lists ---------------------------------------------------------------------------------------------------------


def test_what_differs_between_two_lists(pricing: Any) -> None:
    before = refreshed(pricing, "eu-west-1")
    assert operation.changes(before, before) == []
    ireland = {"g5.xlarge": 1.2, "g5.2xlarge": 1.353, "g6.xlarge": 0.9}
    after = PriceList(TODAY, "x", {"us-east-1": BASE, "eu-west-1": ireland, "us-east-2": {"g5.xlarge": 1.006}})
    assert operation.changes(before, after) == [
        Change("eu-west-1", "g4dn.xlarge", 0.587, None),
        Change("eu-west-1", "g5.xlarge", 1.123, 1.2),
        Change("eu-west-1", "g6.xlarge", None, 0.9),
        Change("us-east-2", "g5.xlarge", None, 1.006),
    ]
    assert [one.region for one in operation.changes(after, before)] == ["eu-west-1"] * 3 + ["us-east-2"]


PRICE = st.decimals("0.0001", price_list.MOST_USD_PER_HOUR, places=10).map(float)


@settings(max_examples=25)
@given(
    st.fixed_dictionaries(dict.fromkeys(catalog.GPU_TYPES, PRICE)),
    st.dictionaries(st.sampled_from(sorted(catalog.GPU_TYPES)), PRICE, min_size=1),
)
def test_whatever_aws_charges_is_what_the_catalogue_then_says(base: dict[str, float], tokyo: dict[str, float]) -> None:
    api = PriceListApi(sold("us-east-1", base) + sold("ap-northeast-1", tokyo))

    class Client:
        def get_products(self, **request: Any) -> dict[str, Any]:
            return api.call("GetProducts", request, "")

    found = price_list.parse(refreshed(Client(), "ap-northeast-1").text(), catalog.GPU_TYPES, catalog.AWS_REGIONS)
    for name in catalog.GPU_TYPES:
        assert catalog.on_demand_usd_per_hour(name, "us-east-1", found) == round(base[name], 10)
        expected = round(tokyo[name], 10) if name in tokyo else round(base[name], 10) * 1.46
        assert catalog.on_demand_usd_per_hour(name, "ap-northeast-1", found) == expected


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.json"
    path.write_text("as it was")
    path.chmod(0o644)
    operation.write(path, catalog.PRICES)
    assert path.read_text() == catalog.PRICES.text()
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        operation.write(path, PriceList(TODAY, "other", {}))
    assert path.read_text() == catalog.PRICES.text()
    assert list(tmp_path.iterdir()) == [path], "no half file is left behind"


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, pricing: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The price list in a folder of its own, for the command to write to."""
    path = tmp_path / "prices.json"
    path.write_text(catalog.PRICES.text())
    monkeypatch.setattr(catalog, "PRICES_FILE", path)
    monkeypatch.setattr("gpufleet.commands.target.time.time", NOW.timestamp)
    monkeypatch.delenv("GPUFLEET_TWIN_URL", raising=False)  # of a shell that talks to another embedded cloud
    monkeypatch.chdir(ROOT)

    class Session:
        def __init__(self, region_name: str) -> None:
            assert region_name == "us-east-1", "the list is asked for there, whatever region it is about"

        def client(self, service: str) -> Any:
            assert service == "pricing"
            return pricing

    monkeypatch.setattr(boto3, "Session", Session)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["prices", *words])


def cells(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_refresh_writes_the_file_and_shows_what_changed(file: Path, api: PriceListApi) -> None:
    change(api, "g6.xlarge", _usd("0.7500000000"))
    done = run("refresh", "--region", "eu-west-1")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = cells(done.stdout)
    assert lines[0] == ["region", "type", "was", "is", "change"]
    assert ["us-east-1", "g6.xlarge", "0.8048", "0.75", "-6.8 %"] in lines
    assert ["eu-west-1", "g5.xlarge", "~1.1267", "1.123", "-0.3 %"] in lines
    written = price_list.read(file, catalog.GPU_TYPES, catalog.AWS_REGIONS)
    assert written.as_of == date(2026, 11, 2)
    assert written.usd_per_hour == {"us-east-1": {**BASE, "g6.xlarge": 0.75}, "eu-west-1": IRELAND}


def test_a_refresh_without_changes_still_notes_the_day(file: Path) -> None:
    done = run("refresh")
    assert done.exit_code == 0
    assert done.stdout.startswith("no price has changed\nwrote ")
    assert json.loads(file.read_text())["as_of"] == "2026-11-02"


def test_check_writes_nothing_and_tells_by_its_status(file: Path, api: PriceListApi) -> None:
    assert run("refresh", "--check").exit_code == 0
    change(api, "g6.xlarge", _usd("0.75"))
    done = run("refresh", "--check")
    assert done.exit_code == 1
    assert ["us-east-1", "g6.xlarge", "0.8048", "0.75", "-6.8 %"] in cells(done.stdout)
    assert file.read_text() == catalog.PRICES.text()


def test_what_makes_no_sense_is_told_and_not_written(file: Path, api: PriceListApi) -> None:
    change(api, "g6.xlarge", _usd("0"))
    done = run("refresh")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "AWS's answer makes no sense: us-east-1 g6.xlarge: a price of '0' USD",
        "nothing was written",
    ]
    assert file.read_text() == catalog.PRICES.text()


def test_what_aws_refuses_is_one_clear_line(file: Path, api: PriceListApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any) -> Any:
        raise AwsError("AccessDeniedException", "not authorized to perform: pricing:GetProducts")

    monkeypatch.setattr(api, "call", denied)
    done = run("refresh")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("could not read AWS's price list, nothing was written: ")
    assert "pricing:GetProducts" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_region_that_aws_does_not_have_is_faulty_input(file: Path, api: PriceListApi) -> None:
    done = run("refresh", "--region", "us-east-9")
    assert (done.exit_code, api.asked) == (2, [])
    assert "AWS has no region us-east-9" in done.stderr


def test_the_regions_of_the_stack_files_are_refreshed(
    file: Path, api: PriceListApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "Pulumi.yaml").write_text("name: mine\nruntime: python\n")
    for stack, region in (("dev", "us-east-1"), ("prod", "eu-west-1")):
        (file.parent / f"Pulumi.{stack}.yaml").write_text(f"config: {{aws:region: {region}}}")
    monkeypatch.chdir(file.parent)
    assert run("refresh").exit_code == 0
    assert set(json.loads(file.read_text())["usd_per_hour"]) == {"us-east-1", "eu-west-1"}


def test_a_fresh_process_reckons_with_what_a_refresh_wrote(file: Path, api: PriceListApi, tmp_path: Path) -> None:
    change(api, "g6.xlarge", _usd("0.75"))
    assert run("refresh", "--region", "eu-west-1").exit_code == 0
    shutil.copytree(ROOT / "components", tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(file, tmp_path / "components" / "prices.json")
    asked = "('g6.xlarge', 'us-east-1'), ('g5.xlarge', 'eu-west-1')"
    say = f"from components import catalog; print([catalog.on_demand_usd_per_hour(*one) for one in ({asked})])"
    command = [sys.executable, "-c", f"{say}; print(catalog.PRICES_AS_OF)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stdout.split("\n")[:2] == ["[0.75, 1.123]", "2026-11-02"]


def test_prices_are_shown_with_their_date_and_source(file: Path) -> None:
    done = run()
    assert (done.exit_code, done.stdout) == (0, run("show").stdout)
    age = (TODAY - catalog.PRICES.as_of).days
    assert done.stdout.startswith(f"prices of {catalog.PRICES_AS_OF}, {age} days old\nsource: AWS ")
    assert ["g6e.48xlarge", "8 x L40S", "30.13118"] in cells(done.stdout)


@pytest.mark.parametrize(
    ("days", "old", "stale"),
    [
        (0, False, False),
        (180, False, False),
        (181, True, False),
        (400, True, False),
        (401, True, True),
        (-2, True, False),
    ],
)
def test_old_prices_are_shown_with_what_follows_from_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, days: int, old: bool, stale: bool
) -> None:
    at = datetime.combine(catalog.PRICES.as_of + timedelta(days), datetime.min.time(), UTC).timestamp()
    monkeypatch.setattr("gpufleet.commands.target.time.time", lambda: at)
    shown = run().stdout
    assert ("gpufleet prices refresh" in shown) is old
    assert ("too old to be trusted" in shown) is stale
