"""Does a model fit the GPUs of an instance? An estimate from its parameter count; pure.

Weights need parameters x bytes per parameter. Beside them a model server needs room for activations, CUDA graphs and
at least a little attention cache, and it may only take part of the memory (vLLM: `gpu_memory_utilization`, 0.9 by
default). The estimate says no only where the weights and that least room cannot fit; it cannot promise that a
long context fits as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .catalog import GpuType

BYTES_PER_PARAMETER: Final[dict[str, float]] = {
    "float32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5,
}

USABLE_SHARE: Final = 0.9  # vLLM's default gpu_memory_utilization
LEAST_ROOM_MIB: Final = 1536  # CUDA context, activations, CUDA graphs and a first block of attention cache, per GPU


@dataclass(frozen=True)
class Fit:
    """Whether a model fits one instance: MiB needed and MiB usable, over all its GPUs."""

    needed_mib: int
    usable_mib: int

    @property
    def fits(self) -> bool:
        """True if the model's least need is within what the server may use."""
        return self.needed_mib <= self.usable_mib


def weights_mib(parameters_billions: float, dtype: str) -> int:
    """Memory of the weights alone in MiB. `dtype` is a key of BYTES_PER_PARAMETER (ValueError otherwise)."""
    if dtype not in BYTES_PER_PARAMETER:
        raise ValueError(f"no dtype {dtype!r}: choose one of {', '.join(BYTES_PER_PARAMETER)}")
    return round(parameters_billions * 1e9 * BYTES_PER_PARAMETER[dtype] / 2**20)


def fit(parameters_billions: float, dtype: str, gpu: GpuType) -> Fit:
    """Compare a model with one instance type; the weights are spread over all GPUs of the instance."""
    needed = weights_mib(parameters_billions, dtype) + LEAST_ROOM_MIB * gpu.gpu_count
    return Fit(needed, int(gpu.total_gpu_memory_mib * USABLE_SHARE))
