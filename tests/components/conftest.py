"""Each program run is made once per session and shared: a graph is only read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import harness
import pytest


def pytest_configure(config: pytest.Config) -> None:
    # The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_aws")


@pytest.fixture(scope="session", autouse=True)
def _outputs_are_never_text() -> Iterator[None]:
    """An Output in an f-string becomes an error, as in `make check`'s own run of the program."""
    before = os.environ.get("PULUMI_ERROR_OUTPUT_STRING")
    os.environ["PULUMI_ERROR_OUTPUT_STRING"] = "1"
    yield
    if before is None:
        del os.environ["PULUMI_ERROR_OUTPUT_STRING"]
    else:
        os.environ["PULUMI_ERROR_OUTPUT_STRING"] = before


@pytest.fixture(scope="session")
def graph() -> Callable[..., harness.Graph]:
    """`graph("dev")`, `graph("dev", preview=True)`, `graph("dev", maxGpuInstances=5)`: the real program's graph."""

    made: dict[str, harness.Graph] = {}

    def run(name: str, *, preview: bool = False, **overrides: object) -> harness.Graph:
        key = json.dumps([name, preview, overrides], sort_keys=True)
        if key not in made:
            made[key] = harness.run_stack(name, preview=preview, **overrides)
        return made[key]

    return run
