"""The clouds this project can deploy to: the one list that the settings, the schema and the program read."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from . import catalog


@dataclass(frozen=True)
class Cloud:
    """One cloud: the provider's own config key for the region, and the regions its catalogue knows."""

    name: str
    region_key: str
    regions: tuple[str, ...]


CLOUDS: Final[dict[str, Cloud]] = {"aws": Cloud("aws", "aws:region", tuple(sorted(catalog.AWS_REGIONS)))}


def load_cloud(name: str) -> ModuleType:
    """The module with the components of cloud `name`; only the chosen cloud's SDK is imported.

    Raises ValueError if no such cloud exists.
    """
    if name not in CLOUDS:
        raise ValueError(f"no cloud {name!r}: choose one of {', '.join(CLOUDS)}")
    return importlib.import_module(f".{name}", __package__)
