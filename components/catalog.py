"""GPU instance types of AWS: what each one holds, and what an hour of it costs on demand in a region.

GPU models, counts and memory are what EC2's DescribeInstanceTypes reports. Prices are Linux, on demand, shared tenancy,
USD per hour, from `prices.json` (`price_list` reads it, `gpufleet prices refresh` brings it up to date): exact where
the file has the type in the region, which it has for every type in us-east-1.

Other regions: AWS sells a type elsewhere at a nearly constant multiple of its us-east-1 price. REGION_FACTORS holds
that multiple per region: the highest one over the families g4dn, g5, g6 and g6e, rounded up to a hundredth (from the
price table of skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv). So a price is never understated where the
multiple is known. Where it is not known, UNKNOWN_REGION_FACTOR counts: twice the us-east-1 price, well above the
dearest known region (1.54). An unknown type costs as much as the dearest type of the catalogue. Both keep the budget
on the safe side: the fleet stops early rather than late.

Prices grow old. After PRICES_WARN_AFTER_DAYS a preview says so; after PRICES_STALE_AFTER_DAYS the guard trusts them no
more and charges every type what the dearest one with as many GPUs costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from . import price_list


@dataclass(frozen=True)
class GpuType:
    """One instance type. `gpu_memory_mib` is per GPU, `usd_per_hour` on demand in us-east-1."""

    name: str
    gpu: str
    gpu_count: int
    gpu_memory_mib: int
    vcpus: int
    architecture: str
    usd_per_hour: float

    @property
    def total_gpu_memory_mib(self) -> int:
        """Memory of all GPUs of one instance, in MiB."""
        return self.gpu_count * self.gpu_memory_mib


# Half a year: time to run `gpufleet prices refresh` in an ordinary week, long before anything changes.
PRICES_WARN_AFTER_DAYS: Final = 180
# A year and a month: whoever refreshes once a year may be some weeks late. Nobody has looked for longer than that: a
# price may have risen, and the guard must not count on it.
PRICES_STALE_AFTER_DAYS: Final = 400

_VCPUS: Final = {
    "xlarge": 4,
    "2xlarge": 8,
    "4xlarge": 16,
    "8xlarge": 32,
    "12xlarge": 48,
    "16xlarge": 64,
    "24xlarge": 96,
    "48xlarge": 192,
}

# family -> (GPU, MiB per GPU, CPU architecture, {size: GPU count})
_FAMILIES: Final[dict[str, tuple[str, int, str, dict[str, int]]]] = {
    "g4dn": ("T4", 16384, "x86_64", {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4}),
    "g5": (
        "A10G",
        22888,
        "x86_64",
        {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1}
        | {"24xlarge": 4, "48xlarge": 8},
    ),
    "g5g": ("T4G", 16384, "arm64", {"xlarge": 1}),
    "g6": (
        "L4",
        22888,
        "x86_64",
        {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1}
        | {"24xlarge": 4, "48xlarge": 8},
    ),
    "g6e": (
        "L40S",
        45776,
        "x86_64",
        {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "48xlarge": 8},
    ),
}
_NAMES: Final = tuple(f"{family}.{size}" for family, (*_, sizes) in _FAMILIES.items() for size in sizes)

REGION_FACTORS: Final[dict[str, float]] = {
    "af-south-1": 1.33,
    "ap-east-1": 1.54,
    "ap-northeast-1": 1.46,
    "ap-northeast-2": 1.24,
    "ap-northeast-3": 1.35,
    "ap-south-1": 1.21,
    "ap-southeast-1": 1.40,
    "ap-southeast-2": 1.31,
    "ap-southeast-3": 1.40,
    "ca-central-1": 1.12,
    "eu-central-1": 1.26,
    "eu-north-1": 1.07,
    "eu-south-1": 1.18,
    "eu-south-2": 1.06,
    "eu-west-1": 1.12,
    "eu-west-2": 1.27,
    "eu-west-3": 1.27,
    "me-central-1": 1.23,
    "me-south-1": 1.23,
    "us-east-1": 1.0,
    "us-east-2": 1.0,
    "us-west-1": 1.20,
    "us-west-2": 1.0,
}
UNKNOWN_REGION_FACTOR: Final = 2.0

# Commercial regions of AWS. The last row has no known multiple: see the module's docstring.
AWS_REGIONS: Final[frozenset[str]] = frozenset(REGION_FACTORS) | {
    *("ap-east-2", "ap-south-2", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7"),
    *("ca-west-1", "eu-central-2", "il-central-1", "mx-central-1", "sa-east-1"),
}

PRICES_FILE: Final = Path(__file__).with_name("prices.json")
PRICES: Final = price_list.read(PRICES_FILE, _NAMES, AWS_REGIONS)
PRICES_AS_OF: Final = PRICES.as_of.isoformat()
PRICES_FROM: Final = f"AWS price list of {PRICES_AS_OF}, us-east-1, Linux, on demand"

_BASE: Final = PRICES.usd_per_hour[price_list.BASE_REGION]
GPU_TYPES: Final[dict[str, GpuType]] = {
    name: GpuType(name, gpu, count, memory, _VCPUS[size], architecture, _BASE[name])
    for family, (gpu, memory, architecture, sizes) in _FAMILIES.items()
    for size, count in sizes.items()
    for name in (f"{family}.{size}",)
}


def gpu_type(name: str) -> GpuType:
    """The catalogue's entry for an instance type such as `g5.xlarge`; ValueError if it has none."""
    try:
        return GPU_TYPES[name]
    except KeyError:
        raise ValueError(f"no GPU instance type {name!r} in the catalogue: {', '.join(GPU_TYPES)}") from None


def region_factor(region: str) -> float:
    """How many times its us-east-1 price a type costs in `region`, at most (1.0 or more, no unit)."""
    return REGION_FACTORS.get(region, UNKNOWN_REGION_FACTOR)


def on_demand_usd_per_hour(name: str, region: str, prices: price_list.PriceList = PRICES) -> float:
    """USD per hour of one instance of type `name`, on demand in `region`: its exact price by the list `prices`, else
    its us-east-1 price times the region's factor, which is never less than its real price.

    An unknown type costs as much as the dearest type of the catalogue, an unknown region twice us-east-1.
    """
    exact = prices.exact(name, region)
    if exact is not None:
        return exact
    base = prices.exact(name, price_list.BASE_REGION)
    if base is not None:
        return base * region_factor(region)
    return max(on_demand_usd_per_hour(one, region, prices) for one in prices.usd_per_hour[price_list.BASE_REGION])


def dearest_by_gpus(region: str, prices: price_list.PriceList = PRICES) -> dict[int, float]:
    """The dearest on-demand price in `region`, USD per hour, over the catalogue's types with the same number of GPUs:
    by that number. What a type costs whose own price is unknown or too old.
    """
    found: dict[int, float] = {}
    for one in GPU_TYPES.values():
        usd = on_demand_usd_per_hour(one.name, region, prices)
        found[one.gpu_count] = max(usd, found.get(one.gpu_count, 0.0))
    return dict(sorted(found.items()))


def prices_age_days(today: date) -> int:
    """How many days before `today` the prices were published; negative if their date is still to come."""
    return (today - PRICES.as_of).days


def dearest(names: Iterable[str], region: str) -> tuple[str, float]:
    """Of the types in `names`, the one with the highest on-demand price in `region`: (name, USD per hour).

    Raises ValueError if `names` is empty.
    """
    priced = [(name, on_demand_usd_per_hour(name, region)) for name in names]
    if not priced:
        raise ValueError("no instance type given: name at least one")
    return max(priced, key=lambda pair: (pair[1], pair[0]))


def cheapest(names: Iterable[str], region: str) -> tuple[str, float]:
    """Of the types in `names`, the one with the lowest on-demand price in `region`: (name, USD per hour).

    Raises ValueError if `names` is empty.
    """
    priced = [(name, on_demand_usd_per_hour(name, region)) for name in names]
    if not priced:
        raise ValueError("no instance type given: name at least one")
    return min(priced, key=lambda pair: (pair[1], pair[0]))
