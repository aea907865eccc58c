"""On-demand prices of the catalogue's types, read from AWS's own price list; and how two price lists differ.

`GetProducts` of the Price List API (botocore's service `pricing`) answers JSON documents: a product with its
attributes, and its terms. The filters are those of Karpenter's price reader (aws/karpenter-provider-aws,
pkg/providers/pricing/pricing.go), which reads the same prices; what comes back is held against them once more. An
answer that makes no sense is refused as a whole: the budget stands on these numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from components.price_list import BASE_REGION, MOST_USD_PER_HOUR, PriceList

SERVICE = "AmazonEC2"
ENDPOINT_REGION = "us-east-1"  # the list of all regions is served in three of them (botocore's endpoints), here always
PAGE = 100  # products, the most that GetProducts answers at once (its API reference)
PAGES = 60  # calls per region; the largest one sells about a thousand types (zz_generated.pricing_aws.go, same folder)
# Attributes of a product that name plain Linux on shared hardware, bought by the hour and not out of a reservation.
FILTERS = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


class PricesError(Exception):
    """The price list stays as it is: what AWS answered, and why it cannot be used."""


@dataclass(frozen=True)
class Change:
    """A price that differs. `was`, `now`: USD per hour; None if the list does not have it."""

    region: str
    type: str
    was: float | None
    now: float | None


def refreshed(
    pricing: Any, before: PriceList, types: Collection[str], regions: Iterable[str], today: date
) -> PriceList:
    """The list as AWS has it today: for `regions`, the base region, and those that `before` has, for one date must be
    true of all of them.

    `pricing`: a boto3 client of that service. A type that AWS does not sell in a region is left out there, as is a
    region that sells none. Raises `PricesError` with every fault of all answers; botocore's errors.
    """
    priced: dict[str, Mapping[str, float]] = {}
    faults: list[str] = []
    for region in sorted({BASE_REGION, *regions, *before.usd_per_hour}):
        prices, wrong = _of_region(pricing, region, types)
        faults += wrong
        if prices:
            priced[region] = {name: prices[name] for name in types if name in prices}
    missing = [name for name in types if name not in priced.get(BASE_REGION, {})]
    if missing and not faults:
        faults.append(f"{BASE_REGION} has no price of {', '.join(missing)}, and other regions' prices depend on it")
    if faults:
        raise PricesError("AWS's answer makes no sense: " + "; ".join(faults))
    source = (
        f"AWS Price List API on {today.isoformat()}, GetProducts of {SERVICE}: Linux, on demand, shared tenancy, USD "
        "per hour"
    )
    return PriceList(today, source, priced)


def _of_region(pricing: Any, region: str, types: Collection[str]) -> tuple[dict[str, float], list[str]]:
    """Prices by type in a region, and what is wrong with the answers."""
    seen, found, faults = 0, {name: set() for name in types}, []
    for product in _products(pricing, region):
        seen += 1
        try:
            attributes = product["product"]["attributes"]
            name = attributes.get("instanceType")
            if name in found and _fits(attributes, region):
                found[name] |= set(_prices(product["terms"].get("OnDemand", {})))
        except PricesError as error:
            faults.append(f"{region} {name}: {error}")
        except (KeyError, TypeError, AttributeError) as error:
            faults.append(f"{region}: a product of an unknown form ({type(error).__name__}: {error})")
    if not seen:
        faults.append(f"{region}: nothing is sold there")
    for name, prices in found.items():
        if len(prices) > 1:
            faults.append(f"{region} {name}: several prices, {', '.join(f'${usd:g}' for usd in sorted(prices))}")
    return {name: prices.pop() for name, prices in found.items() if len(prices) == 1}, faults


def _products(pricing: Any, region: str) -> Iterator[Any]:
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in {"regionCode": region, **FILTERS}.items()
    ]
    request: dict[str, Any] = {"ServiceCode": SERVICE, "Filters": filters, "MaxResults": PAGE}
    for _ in range(PAGES):
        answer = pricing.get_products(**request)
        for text in answer["PriceList"]:
            yield _document(text, region)
        if not answer.get("NextToken"):
            return
        request["NextToken"] = answer["NextToken"]
    raise PricesError(f"{region}: AWS's list does not end after {PAGES} pages of {PAGE} products; nothing was changed")


def _document(text: str, region: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise PricesError(f"{region}: AWS answered what is no JSON ({error}); nothing was changed") from None


def _fits(attributes: Mapping[str, Any], region: str) -> bool:
    """Whether a product is what the filters ask for; an attribute that it does not have cannot contradict."""
    wanted = {"regionCode": region, **FILTERS}
    return all(attributes.get(field, value) == value for field, value in wanted.items())


def _prices(terms: Mapping[str, Any]) -> Iterator[float]:
    """The prices of a product's on-demand terms. Raises `PricesError` for none, or one that is no price by the hour."""
    dimensions = [one for term in terms.values() for one in term["priceDimensions"].values()]
    if not dimensions:
        raise PricesError("no price")
    for one in dimensions:
        unit, price = one.get("unit"), one["pricePerUnit"]
        if unit != "Hrs":
            raise PricesError(f"priced by {unit!r}, not by the hour")
        if "USD" not in price:
            raise PricesError(f"priced in {', '.join(price) or 'no currency'}, not in USD")
        try:
            usd = float(price["USD"])
        except ValueError:
            usd = 0.0
        if not 0 < usd <= MOST_USD_PER_HOUR:
            raise PricesError(f"a price of {price['USD']!r} USD")
        yield usd


def changes(before: PriceList, after: PriceList) -> list[Change]:
    """Every price that differs, by region."""
    found = []
    for region in sorted({*before.usd_per_hour, *after.usd_per_hour}):
        was, now = before.usd_per_hour.get(region, {}), after.usd_per_hour.get(region, {})
        found += [
            Change(region, name, was.get(name), now.get(name))
            for name in dict.fromkeys([*was, *now])
            if was.get(name) != now.get(name)
        ]
    return found


def write(path: Path, prices: PriceList) -> None:
    """Put the list in the place of the file `path`: a reader sees the old one or the new one, never half of it."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(prices.text())
        if path.exists():
            Path(partial).chmod(path.stat().st_mode & 0o777)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
