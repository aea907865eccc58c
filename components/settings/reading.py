"""From raw values to Settings, or to every fault at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import catalog
from ..clouds import CLOUDS
from ..naming import Names
from . import sources
from .faults import Fault, SettingsError
from .model import SettingsFields
from .reader import Reader
from .rules import RULES, is_production


class Settings(SettingsFields):
    """Every setting of a stack, checked: see `model` for the fields and `rules` for what holds between them."""

    @classmethod
    def load(cls) -> Settings:
        """The settings of the stack that is being deployed. Raises SettingsError, which Pulumi shows as it is."""
        return _settings(sources.from_program())

    @classmethod
    def from_stack_file(
        cls, path: str | Path, stack: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Settings:
        """The settings in a stack file; needs no Pulumi CLI.

        `stack` defaults to the name in `Pulumi.<stack>.yaml`. `overrides` replaces values by key, dots for what is
        nested: `{"maxGpuInstances": "2", "model.slots": "4"}`. Raises SettingsError.
        """
        raw = sources.from_file(Path(path), stack)
        return _settings(replace(raw, values=_overridden(raw.values, overrides or {})))

    @property
    def is_production(self) -> bool:
        """True if the stack is named as a production stack."""
        return is_production(self.stack)

    @property
    def on_demand_first(self) -> int:
        """How many of the wanted instances are on-demand before any is spot: the base, and all that is reserved."""
        reserved = self.capacity_reservation.instances if self.capacity_reservation else 0
        return max(self.on_demand_base, reserved)

    @property
    def uses_on_demand(self) -> bool:
        """Whether the fleet has on-demand instances: without spot, behind spot, or before it."""
        return not self.spot or self.on_demand_fallback or self.on_demand_first > 0

    @property
    def architecture(self) -> str:
        """CPU architecture of all instance types: `x86_64` or `arm64`."""
        return catalog.gpu_type(self.gpu_instance_types[0]).architecture

    @property
    def gpus_per_instance(self) -> int:
        """GPUs of one instance, the same for every type of the list."""
        return catalog.gpu_type(self.gpu_instance_types[0]).gpu_count

    @property
    def prices_usd_per_hour(self) -> dict[str, float]:
        """On-demand price of every type of the list in this region, USD per hour."""
        return {name: catalog.on_demand_usd_per_hour(name, self.region) for name in self.gpu_instance_types}

    def names(self, component: str) -> Names:
        """The names of one component in this stack."""
        return Names(component, self.stack)


@dataclass(frozen=True)
class StackFileCheck:
    """What checking a stack file found. `settings` only if nothing is wrong and nothing is `missing`; `missing` keys
    are no faults when the file has an `environment:`, which may set them and cannot be read here."""

    source: str
    faults: tuple[Fault, ...]
    missing: tuple[str, ...]
    settings: Settings | None

    @property
    def error(self) -> SettingsError | None:
        """The faults as an error, or None."""
        return SettingsError(self.source, self.faults) if self.faults else None


def check_stack_file(path: str | Path, stack: str | None = None) -> StackFileCheck:
    """Check a stack file as far as it can be seen; raises nothing."""
    try:
        raw = sources.from_file(Path(path), stack)
    except SettingsError as error:
        return StackFileCheck(error.source, error.faults, (), None)
    settings, faults, missing = _read(raw)
    if missing and not raw.elsewhere:
        faults = [*faults, *missing]
    return StackFileCheck(raw.source, tuple(faults), tuple(fault.key for fault in missing), settings)


def _settings(raw: sources.Raw) -> Settings:
    settings, faults, missing = _read(raw)
    if settings is None:
        raise SettingsError(raw.source, [*faults, *missing])
    return settings


def _overridden(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for path, value in overrides.items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            inner = place.get(parent)
            place[parent] = place = dict(inner) if isinstance(inner, Mapping) else {}
        place[last] = value
    return result


def _read(raw: sources.Raw) -> tuple[Settings | None, list[Fault], list[Fault]]:
    """The settings if they are sound, the faults, and the faults that only say that a key is missing."""
    cloud = CLOUDS.get(str(raw.values.get("cloud")), next(iter(CLOUDS.values())))
    others = {one.region_key for one in CLOUDS.values()} - {cloud.region_key}
    values = {key: value for key, value in raw.values.items() if key not in others}
    reader = Reader(cloud, raw.encrypted)
    read = reader.fields(Settings, values, "") | {"stack": raw.stack}
    faults = [*raw.faults, *reader.faults]
    partial = _Partial({**read, "cloud": cloud.name})
    for rule in RULES:
        faults += _applied(rule, partial)
    if faults or reader.missing:
        return None, faults, reader.missing
    return Settings.model_validate(read), [], []


class _UnknownError(Exception):
    """A rule read a setting that is faulty itself."""


class _Partial:
    """The sound settings as attributes; the others raise _UnknownError."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._values[name]
        except KeyError:
            raise _UnknownError(name) from None
        if isinstance(value, list):
            return [_Partial(item) for item in value]
        return _Partial(value) if isinstance(value, dict) else value


def _applied(rule: Callable[[Any], Iterator[Fault]], partial: _Partial) -> list[Fault]:
    found: list[Fault] = []
    try:
        found.extend(rule(partial))
    except _UnknownError:
        return found
    return found
