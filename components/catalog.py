"""GPU instance types of AWS: what each one holds and what an hour of it costs on demand. Pure data, no I/O.

Prices are Linux, on demand, shared tenancy, USD per hour in us-east-1, from the AWS price list of 2026-07-20 (as
published in aws/karpenter-provider-aws, pkg/providers/pricing/zz_generated.pricing_aws.go). GPU models, counts and
memory are what EC2's DescribeInstanceTypes reports.

Other regions: AWS sells a type elsewhere at a nearly constant multiple of its us-east-1 price. REGION_FACTORS holds
that multiple per region: the highest one over the families g4dn, g5, g6 and g6e, rounded up to a hundredth (from the
price table of skypilot-org/skypilot-catalog, catalogs/v8/aws/vms.csv). So a price is never understated where the
multiple is known. Where it is not known, UNKNOWN_REGION_FACTOR counts: twice the us-east-1 price, well above the
dearest known region (1.54). An unknown type costs as much as the dearest type of the catalogue. Both keep the budget
on the safe side: the fleet stops early rather than late.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


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


PRICES_FROM: Final = "AWS price list of 2026-07-20, us-east-1, Linux, on demand"

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

# family -> (GPU, MiB per GPU, CPU architecture, {size: (GPU count, USD per hour)})
_FAMILIES: Final[dict[str, tuple[str, int, str, dict[str, tuple[int, float]]]]] = {
    "g4dn": (
        "T4",
        16384,
        "x86_64",
        {"xlarge": (1, 0.526), "2xlarge": (1, 0.752), "4xlarge": (1, 1.204), "8xlarge": (1, 2.176)}
        | {"12xlarge": (4, 3.912)},
    ),
    "g5": (
        "A10G",
        22888,
        "x86_64",
        {"xlarge": (1, 1.006), "2xlarge": (1, 1.212), "4xlarge": (1, 1.624), "8xlarge": (1, 2.448)}
        | {"12xlarge": (4, 5.672), "16xlarge": (1, 4.096), "24xlarge": (4, 8.144), "48xlarge": (8, 16.288)},
    ),
    "g5g": ("T4G", 16384, "arm64", {"xlarge": (1, 0.42)}),
    "g6": (
        "L4",
        22888,
        "x86_64",
        {"xlarge": (1, 0.8048), "2xlarge": (1, 0.9776), "4xlarge": (1, 1.3232), "8xlarge": (1, 2.0144)}
        | {"12xlarge": (4, 4.6016), "16xlarge": (1, 3.3968), "24xlarge": (4, 6.6752), "48xlarge": (8, 13.3504)},
    ),
    "g6e": (
        "L40S",
        45776,
        "x86_64",
        {"xlarge": (1, 1.861), "2xlarge": (1, 2.24208), "4xlarge": (1, 3.00424), "8xlarge": (1, 4.52856)}
        | {"12xlarge": (4, 10.49264), "48xlarge": (8, 30.13118)},
    ),
}

GPU_TYPES: Final[dict[str, GpuType]] = {
    f"{family}.{size}": GpuType(f"{family}.{size}", gpu, count, memory, _VCPUS[size], architecture, usd)
    for family, (gpu, memory, architecture, sizes) in _FAMILIES.items()
    for size, (count, usd) in sizes.items()
}

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


def gpu_type(name: str) -> GpuType:
    """The catalogue's entry for an instance type such as `g5.xlarge`; ValueError if it has none."""
    try:
        return GPU_TYPES[name]
    except KeyError:
        raise ValueError(f"no GPU instance type {name!r} in the catalogue: {', '.join(GPU_TYPES)}") from None


def region_factor(region: str) -> float:
    """How many times its us-east-1 price a type costs in `region`, at most (1.0 or more, no unit)."""
    return REGION_FACTORS.get(region, UNKNOWN_REGION_FACTOR)


def on_demand_usd_per_hour(name: str, region: str) -> float:
    """USD per hour of one instance of type `name`, on demand in `region`; never less than its real price.

    An unknown type costs as much as the dearest type of the catalogue, an unknown region twice us-east-1.
    """
    known = GPU_TYPES.get(name)
    usd = known.usd_per_hour if known else max(one.usd_per_hour for one in GPU_TYPES.values())
    return usd * region_factor(region)


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
