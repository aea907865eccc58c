"""The functions' configuration: one JSON document in ``FLEET_CONTROL_CONFIG``, read into frozen dataclasses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, TypeVar

from ..scaling_types import Policy, Window
from ..spend_prices import Reservation

VARIABLE = "FLEET_CONTROL_CONFIG"
T = TypeVar("T")


class ConfigError(ValueError):
    """The function's configuration is wrong; the message names the key and what it must be."""


@dataclass(frozen=True)
class ControllerConfig:
    """What the controller watches and may change. ``unlimited_reason`` is None when a budget guard admits launches;
    ``job_timeout_s``: the longest a job may take, None if nobody knows."""

    stack: str
    fleet: str
    queue_url: str
    spot_group: str | None
    on_demand_group: str | None
    jobs_table: str | None
    control_table: str
    unlimited_reason: str | None
    template_id: str
    job_timeout_s: float | None
    metric_namespace: str
    dry_run: bool
    policy: Policy

    @property
    def groups(self) -> dict[str, str]:
        """Group name by pool, only those the fleet has."""
        both = {"spot": self.spot_group, "on-demand": self.on_demand_group}
        return {pool: name for pool, name in both.items() if name}


@dataclass(frozen=True)
class GuardedFleet:
    """One fleet that shares the guard's budget. ``reservation``: what is paid for it, used or not."""

    fleet: str
    spot_group: str | None
    on_demand_group: str | None
    launch_hook: str | None
    terminate_hook: str | None
    jobs_table: str | None
    cap: int
    drain_s: float
    disk_usd_per_hour: float
    reservation: Reservation | None

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of its groups, spot first."""
        return tuple(name for name in (self.spot_group, self.on_demand_group) if name)


@dataclass(frozen=True)
class GuardConfig:
    """The budget, its prices, and the fleets under it. ``stopped_usd_per_month``: what is paid whatever runs while the
    fleets are stopped; both figures are of 31 days. ``prices_as_of``: date of the price list, "2026-07-20".
    ``nat_gateways``: those that the fleets' bytes pass and that the stack pays for. ``dedicated_account``: the account
    holds this stack alone, so that its figures are the stack's."""

    stack: str
    control_table: str
    monthly_usd: float
    warn_percent: float
    resume_on_new_month: bool
    prices_usd_per_hour: Mapping[str, float]
    dearest_usd_per_hour: float
    gpus: Mapping[str, int]
    dearest_by_gpus: Mapping[int, float]
    prices_as_of: str
    fixed_usd_per_month: float
    stopped_usd_per_month: float
    per_boot_usd: float
    per_job_usd: float
    nat_gateways: tuple[str, ...]
    nat_usd_per_gb: float
    dedicated_account: bool
    reconcile_daily: bool
    account_id: str
    budget_name: str
    alert_topic_arn: str | None
    metric_namespace: str
    fleets: tuple[GuardedFleet, ...]


@dataclass(frozen=True)
class KeeperConfig:
    """The queue whose messages are sent anew after ``resend_after_s``, or before ``max_receive_count`` ends them."""

    stack: str
    queue_url: str
    resend_after_s: float
    max_receive_count: int


def controller(environ: Mapping[str, str]) -> ControllerConfig:
    """The controller's configuration. Raises ConfigError."""
    data = _document(environ)
    budget = _section(data.pop("budget", None), "budget")
    if set(budget) not in ({"limit"}, {"unlimited_reason"}):
        raise ConfigError(f'{VARIABLE}: key budget: must be {{"limit": true}} or {{"unlimited_reason": "..."}}')
    data["unlimited_reason"] = budget.get("unlimited_reason")
    data["policy"] = _policy(_section(data.get("policy"), "policy"))
    config = _build(ControllerConfig, data, "")
    if not config.groups:
        raise ConfigError(f"{VARIABLE}: keys spot_group, on_demand_group: at least one must name a group")
    return config


def guard(environ: Mapping[str, str]) -> GuardConfig:
    """The guard's configuration. Raises ConfigError."""
    data = _document(environ)
    rows = data.get("fleets")
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{VARIABLE}: key fleets: must be a list of at least one fleet")
    if "nat_gateways" in data:
        gateways = data["nat_gateways"]
        if not isinstance(gateways, list) or not all(isinstance(one, str) for one in gateways):
            raise ConfigError(f"{VARIABLE}: key nat_gateways = {gateways!r}: must be a list of ids")
        data["nat_gateways"] = tuple(gateways)
    data["fleets"] = tuple(_fleet(row, f"fleets[{index}]") for index, row in enumerate(rows))
    config = _build(GuardConfig, data, "")
    try:
        date.fromisoformat(config.prices_as_of)
        by_gpus = {int(count): float(usd) for count, usd in config.dearest_by_gpus.items()}
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{VARIABLE}: keys prices_as_of, dearest_by_gpus: {error}") from error
    return replace(config, dearest_by_gpus=by_gpus)


def _fleet(row: Any, key: str) -> GuardedFleet:
    data = _section(row, key)
    if data.get("reservation") is not None:
        held = f"{key}.reservation"
        data["reservation"] = _build(Reservation, _section(data["reservation"], held), f"{held}.")
    return _build(GuardedFleet, data, f"{key}.")


def keeper(environ: Mapping[str, str]) -> KeeperConfig:
    """The keeper's configuration. Raises ConfigError."""
    return _build(KeeperConfig, _document(environ), "")


def _document(environ: Mapping[str, str]) -> dict[str, Any]:
    text = environ.get(VARIABLE)
    if text is None:
        raise ConfigError(f"{VARIABLE}: not set; the function's environment must hold its configuration as JSON")
    try:
        return _section(json.loads(text), "(document)")
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: not a JSON object: {error}") from error


def _section(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{VARIABLE}: key {key}: must be an object, is {type(value).__name__}")
    return dict(value)


def _policy(data: dict[str, Any]) -> Policy:
    names = {"slots", "wait_target_s", "service_s", "cold_start_s", "floor", "cap", "windows"}
    _check_keys(data, names | {"on_demand_base", "on_demand_fallback"}, "policy.")
    windows = []
    for index, raw in enumerate(data["windows"]):
        key = f"policy.windows[{index}]"
        row = _section(raw, key)
        _check_keys(row, {"days", "from", "to", "time_zone", "floor"}, f"{key}.")
        try:
            windows.append(Window(tuple(row["days"]), row["from"], row["to"], row["time_zone"], row["floor"]))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{VARIABLE}: key {key}: {error}") from error
    try:
        return Policy(**{**data, "windows": tuple(windows)})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{VARIABLE}: key policy: {error}") from error


def _check_keys(data: Mapping[str, Any], names: set[str], prefix: str) -> None:
    for kind, keys in (("missing", names - set(data)), ("unknown", set(data) - names)):
        if keys:
            raise ConfigError(f"{VARIABLE}: {kind} key {', '.join(prefix + key for key in sorted(keys))}")


# What a field's annotation admits. Numbers may come as JSON integers; a boolean is never a number.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "int": (int,),
    "bool": (bool,),
    "Mapping[str, float]": (dict,),
    "Mapping[str, int]": (dict,),
    "Mapping[int, float]": (dict,),
}


def _build(kind: type[T], data: dict[str, Any], prefix: str) -> T:
    known = {one.name: str(one.type) for one in fields(kind)}  # type: ignore[arg-type]
    _check_keys(data, set(known), prefix)
    for name, value in data.items():
        admitted = _KINDS.get(known[name])
        wrong_bool = isinstance(value, bool) and known[name] != "bool"
        if admitted and (wrong_bool or not isinstance(value, admitted)):
            raise ConfigError(f"{VARIABLE}: key {prefix}{name} = {value!r}: must be {known[name]}")
    return kind(**data)
