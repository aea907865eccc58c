"""The estimate says no exactly where weights cannot fit, and agrees with models people run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import catalog, sizing


@pytest.mark.parametrize(
    ("billions", "dtype", "name", "fits"),
    [
        (8, "bfloat16", "g5.xlarge", True),  # Llama 3.1 8B on one A10G: 14.9 GiB of weights
        (8, "bfloat16", "g4dn.xlarge", False),  # the same on a T4 with 16 GiB: no room beside the weights
        (8, "int8", "g4dn.xlarge", True),
        (13, "bfloat16", "g5.xlarge", False),
        (13, "bfloat16", "g6e.xlarge", True),
        (70, "bfloat16", "g6e.12xlarge", True),  # 130 GiB over four L40S
        (70, "bfloat16", "g5.12xlarge", False),
        (70, "int4", "g5.12xlarge", True),
    ],
)
def test_models_that_people_run(billions: float, dtype: str, name: str, fits: bool) -> None:
    assert sizing.fit(billions, dtype, catalog.gpu_type(name)).fits is fits


def test_weights_are_parameters_times_bytes() -> None:
    assert sizing.weights_mib(8, "bfloat16") == round(16e9 / 2**20)
    with pytest.raises(ValueError, match="choose one of float32"):
        sizing.weights_mib(8, "bf16")


@given(
    st.floats(0.01, 2000), st.sampled_from(list(sizing.BYTES_PER_PARAMETER)), st.sampled_from(list(catalog.GPU_TYPES))
)
def test_what_fits_is_smaller_than_the_memory_and_a_smaller_model_fits_too(
    billions: float, dtype: str, name: str
) -> None:
    gpu = catalog.gpu_type(name)
    fit = sizing.fit(billions, dtype, gpu)
    assert fit.needed_mib > sizing.weights_mib(billions, dtype)
    assert fit.usable_mib < gpu.total_gpu_memory_mib
    if fit.fits:
        assert sizing.fit(billions / 2, dtype, gpu).fits
