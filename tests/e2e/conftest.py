"""The tests with the real Pulumi engine: `make e2e`. They are skipped, with the reason, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk

from gpufleet.twin.plugin import executables


@pytest.fixture(scope="session", autouse=True)
def engine() -> Path:
    try:
        found = executables.find_cli()
    except executables.NoEngineError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path) as desk:
        yield desk
