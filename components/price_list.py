"""The price list: what an hour of each GPU type costs on demand, by region, with the day on which AWS said so. Pure.

It is a data file, `prices.json`, beside this module (in a checkout and in the wheel alike), which `gpufleet prices
refresh` writes anew from AWS's own list. It is read strictly: the budget stands on it, so a damaged file ends whatever
reads it, with every fault named, and no price is ever made up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

BASE_REGION: Final = "us-east-1"  # the region of which every price must be known: others are derived from it
MOST_USD_PER_HOUR: Final = 1000  # the dearest instance of AWS costs a few hundred: more is a slip of a finger
_KEYS: Final = ("as_of", "source", "usd_per_hour")


class PriceListError(ValueError):
    """The file cannot be used. The message names every fault and what to do."""


@dataclass(frozen=True)
class PriceList:
    """Prices as AWS published them on the day `as_of`; `source` says where. `usd_per_hour`: by region, then by type."""

    as_of: date
    source: str
    usd_per_hour: Mapping[str, Mapping[str, float]]

    def exact(self, name: str, region: str) -> float | None:
        """USD per hour of type `name` in `region`; None if the list does not have it."""
        return self.usd_per_hour.get(region, {}).get(name)

    def text(self) -> str:
        """The file's text; `parse` reads it back to an equal list. Regions by name, types as they are given."""
        regions = {region: dict(prices) for region, prices in sorted(self.usd_per_hour.items())}
        values = dict(zip(_KEYS, (self.as_of.isoformat(), self.source, regions), strict=True))
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read(path: Path, types: Collection[str], regions: Collection[str]) -> PriceList:
    """The list in the file `path`. Raises `PriceListError`, also if the file cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"), types, regions)
    except (OSError, ValueError) as error:
        raise PriceListError(
            f"the price list {path} cannot be used: {error}\nPut back the file of the last release or commit, then "
            "bring it up to date: gpufleet prices refresh"
        ) from error


def parse(text: str, types: Collection[str], regions: Collection[str]) -> PriceList:
    """The list in the file's text. `types` and `regions` are those that may occur; the base region must have every
    type.

    Raises `PriceListError` with every fault at once.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise PriceListError(f"it is no JSON document: {error}") from error
    faults = list(_faults(values, types, regions))
    if faults:
        raise PriceListError("; ".join(faults))
    priced = {
        region: MappingProxyType({name: float(usd) for name, usd in prices.items()})
        for region, prices in values["usd_per_hour"].items()
    }
    return PriceList(date.fromisoformat(values["as_of"]), values["source"], MappingProxyType(priced))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is there twice would silently hide a price."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return values


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _faults(values: Any, types: Collection[str], regions: Collection[str]) -> Iterator[str]:
    if not isinstance(values, dict) or set(values) != set(_KEYS):
        yield f"it must be an object with the keys {', '.join(_KEYS)}, and no others"
        return
    if not _is_day(values["as_of"]):
        yield f"as_of is {values['as_of']!r}: must be the day of the prices, such as 2026-07-20"
    if not isinstance(values["source"], str) or not values["source"].strip():
        yield f"source is {values['source']!r}: must say where the prices are from"
    priced = values["usd_per_hour"]
    if not isinstance(priced, dict) or not all(isinstance(prices, dict) for prices in priced.values()):
        yield "usd_per_hour must hold an object of prices by type for each region"
        return
    for region, prices in priced.items():
        if region not in regions:
            yield f"usd_per_hour.{region}: AWS has no such region"
        if not prices:
            yield f"usd_per_hour.{region} is empty: leave the region out"
        for name, usd in prices.items():
            if name not in types:
                yield f"usd_per_hour.{region}.{name}: the catalogue has no such type"
            if isinstance(usd, bool) or not isinstance(usd, (int, float)) or not 0 < usd <= MOST_USD_PER_HOUR:
                yield (
                    f"usd_per_hour.{region}.{name} is {usd!r}: must be a number of dollars above 0, at most "
                    f"{MOST_USD_PER_HOUR}"
                )
    missing = [name for name in types if name not in priced.get(BASE_REGION, {})]
    if missing:
        yield f"usd_per_hour.{BASE_REGION} has no price of {', '.join(missing)}"


def _is_day(value: Any) -> bool:
    """Only 2026-07-20, of all that ISO 8601 allows: people read the file too."""
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
