"""What an instance type is made of, for the types that have a price here. Kept apart from the catalogue on purpose.

Sources: EC2's "Specifications for accelerated computing instances" and the answers of DescribeInstanceTypes that
karpenter-provider-aws shows (website, instance-types.md); g7 and g7e: two GPUs in a 12xlarge, eight in a 48xlarge. The
memory of g7e is taken to be g6e's.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import NotModelledError
from .prices import ON_DEMAND_USD_PER_HOUR


class Hardware(NamedTuple):
    """`memory_gib` of the instance, `gpu_mib` of each of its `gpus`."""

    vcpus: int
    memory_gib: int
    gpus: int
    gpu: str
    gpu_mib: int
    architecture: str


_VCPUS = {"xlarge": 4, **{f"{n}xlarge": 4 * n for n in (2, 4, 8, 12, 16, 24, 48)}}
# family -> (GPU, MiB of one, CPU architecture, GiB of memory for each vCPU, GPUs where there is more than one)
_FAMILIES: dict[str, tuple[str, int, str, int, dict[str, int]]] = {
    "g4dn": ("T4", 16384, "x86_64", 4, {"12xlarge": 4}),
    "g5": ("A10G", 22888, "x86_64", 4, {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    "g5g": ("T4g", 16384, "arm64", 2, {}),
    "g6": ("L4", 22888, "x86_64", 4, {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}),
    "g6e": ("L40S", 45776, "x86_64", 8, {"12xlarge": 4, "48xlarge": 8}),
    "g7": ("RTX PRO 4500", 32768, "x86_64", 4, {"12xlarge": 2, "48xlarge": 8}),
    "g7e": ("RTX PRO 6000", 98304, "x86_64", 8, {"12xlarge": 2, "48xlarge": 8}),
    "p5": ("H100", 81920, "x86_64", 16, {}),
}


def hardware(instance_type: str) -> Hardware:
    """Raises `NotModelledError` for a type that has no price here."""
    family, _, size = instance_type.partition(".")
    if instance_type not in ON_DEMAND_USD_PER_HOUR or family not in _FAMILIES:
        raise NotModelledError(f"the twin does not know the instance type {instance_type}")
    gpu, gpu_mib, architecture, gib_each, several = _FAMILIES[family]
    vcpus = _VCPUS[size]
    return Hardware(vcpus, vcpus * gib_each, several.get(size, 1), gpu, gpu_mib, architecture)
