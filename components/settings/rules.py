"""What must hold between settings. Each rule is one function that yields the faults it finds.

A rule reads settings as attributes. While a file is being read some of them may be faulty themselves; reading one of
those ends the rule quietly (see `reading`), so each rule reports only what it can be sure of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from .. import catalog, costs, naming, sizing
from ..clouds import CLOUDS
from .faults import Fault, closest, shown
from .model import VISIBILITY_MAX_SECONDS

_PRODUCTION: Final = re.compile(r"(^|[-_.])prod(uction)?($|[-_.])", re.IGNORECASE)


def is_production(stack: str) -> bool:
    """True for stacks named prod or production, also as one part of the name: `prod-eu`, `eu.production`."""
    return _PRODUCTION.search(stack) is not None


def stack_name(s: Any) -> Iterator[Fault]:
    """The stack's name must yield names of its own."""
    try:
        naming.Names("inference", s.stack)
    except ValueError as error:
        yield Fault("(the stack's name)", shown(s.stack), str(error), "pulumi stack rename")


def known_region(s: Any) -> Iterator[Fault]:
    """The region must be one of the cloud's."""
    cloud = CLOUDS[s.cloud]
    if s.region not in cloud.regions:
        near = closest(s.region, cloud.regions)
        fix = f"did you mean {near}?" if near else f"choose one of {', '.join(cloud.regions)}"
        yield Fault(cloud.region_key, s.region, f"must be a region of {s.cloud} that the catalogue knows", fix)


def somebody_to_tell(s: Any) -> Iterator[Fault]:
    """A production stack must have somebody to tell."""
    if is_production(s.stack) and not s.alert_emails:
        rule = "must name at least one e-mail address in a production stack"
        yield Fault("alertEmails", "(none)", rule, "for example [ml-oncall@example.com]")


def floor_within_cap(s: Any) -> Iterator[Fault]:
    """The floor must not exceed the cap."""
    if s.floor > s.max_gpu_instances:
        rule = f"must not exceed maxGpuInstances, which is {s.max_gpu_instances}"
        yield Fault("floor", str(s.floor), rule, "lower the floor or raise the cap")


def window_floors_within_cap(s: Any) -> Iterator[Fault]:
    """No window's floor may exceed the cap."""
    for index, window in enumerate(s.schedule):
        if window.floor > s.max_gpu_instances:
            rule = f"must not exceed maxGpuInstances, which is {s.max_gpu_instances}"
            yield Fault(f"schedule[{index}].floor", str(window.floor), rule, "lower the floor or raise the cap")


def one_gpu_count(s: Any) -> Iterator[Fault]:
    """All instance types must have the same number of GPUs: slots and cap count instances."""
    counts = {name: catalog.gpu_type(name).gpu_count for name in s.gpu_instance_types}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        rule = f"must all have the same number of GPUs: {listed}"
        yield Fault("gpuInstanceTypes", shown(s.gpu_instance_types), rule, "keep the types of one GPU count")


def one_architecture(s: Any) -> Iterator[Fault]:
    """All instance types must have the same CPU architecture: one machine image serves them all."""
    kinds = {name: catalog.gpu_type(name).architecture for name in s.gpu_instance_types}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        rule = f"must all have the same CPU architecture: {listed}"
        yield Fault("gpuInstanceTypes", shown(s.gpu_instance_types), rule, "keep the types of one architecture")


def some_capacity(s: Any) -> Iterator[Fault]:
    """At least one of spot and on-demand must be allowed."""
    if not s.spot and not s.on_demand_fallback:
        rule = "must not be false together with spot: no instance could ever start"
        yield Fault("onDemandFallback", "false", rule, "set spot or onDemandFallback to true")


def on_demand_base_within_cap(s: Any) -> Iterator[Fault]:
    """The on-demand base must not exceed the cap."""
    if s.on_demand_base > s.max_gpu_instances:
        rule = f"must not exceed maxGpuInstances, which is {s.max_gpu_instances}"
        yield Fault("onDemandBase", str(s.on_demand_base), rule, "lower the base or raise the cap")


def on_demand_base_beside_spot(s: Any) -> Iterator[Fault]:
    """An on-demand base needs spot beside it: without spot every instance is on-demand."""
    if s.on_demand_base and not s.spot:
        rule = "must be 0 without spot: every instance is on-demand then"
        yield Fault("onDemandBase", str(s.on_demand_base), rule, "remove it, or set spot to true")


def reserved_type_is_listed(s: Any) -> Iterator[Fault]:
    """A Capacity Reservation must be of a type that the fleet may use: nothing could run in it."""
    reserved = s.capacity_reservation
    if reserved is not None and reserved.instance_type not in s.gpu_instance_types:
        rule = f"must be one of gpuInstanceTypes, which are {', '.join(s.gpu_instance_types)}"
        yield Fault("capacityReservation.instanceType", reserved.instance_type, rule, "add it to gpuInstanceTypes")


def reservation_within_cap(s: Any) -> Iterator[Fault]:
    """A Capacity Reservation must not hold more instances than the cap: the rest could never be used."""
    reserved = s.capacity_reservation
    if reserved is not None and reserved.instances > s.max_gpu_instances:
        rule = f"must not exceed maxGpuInstances, which is {s.max_gpu_instances}"
        yield Fault("capacityReservation.instances", str(reserved.instances), rule, "reserve less, or raise the cap")


def job_within_visibility(s: Any) -> Iterator[Fault]:
    """A job and its last lease must end before SQS shows its message again, whatever the worker does."""
    advanced = s.advanced
    together = advanced.job_timeout_seconds + advanced.lease_seconds
    if together > VISIBILITY_MAX_SECONDS:
        rule = f"with leaseSeconds ({advanced.lease_seconds}) must not exceed the 43200 s that SQS hides a message"
        fix = f"set it to {VISIBILITY_MAX_SECONDS - advanced.lease_seconds} at most"
        yield Fault("advanced.jobTimeoutSeconds", str(advanced.job_timeout_seconds), rule, fix)


def service_within_timeout(s: Any) -> Iterator[Fault]:
    """A job must not be expected to take longer than it may."""
    advanced = s.advanced
    if advanced.expected_service_seconds > advanced.job_timeout_seconds:
        rule = f"must not exceed jobTimeoutSeconds, which is {advanced.job_timeout_seconds}"
        value = f"{advanced.expected_service_seconds:g}"
        yield Fault("advanced.expectedServiceSeconds", value, rule, "raise the timeout")


def drain_finishes_a_job(s: Any) -> Iterator[Fault]:
    """A stop must let a job of the expected length finish; it would hand back every one of them."""
    expected = s.advanced.expected_service_seconds
    if s.drain_seconds < expected:
        rule = f"must be at least advanced.expectedServiceSeconds ({expected:g}), or a stop finishes no job"
        yield Fault("drainSeconds", str(s.drain_seconds), rule, f"set it to {expected:g} or more")


def boot_within_deadline(s: Any) -> Iterator[Fault]:
    """A node must have the time to boot that it is expected to need."""
    advanced = s.advanced
    if advanced.cold_start_seconds > advanced.boot_deadline_seconds:
        rule = f"must not exceed bootDeadlineSeconds, which is {advanced.boot_deadline_seconds}"
        value = f"{advanced.cold_start_seconds:g}"
        yield Fault("advanced.coldStartSeconds", value, rule, "raise the deadline: every boot would be abandoned")


def model_fits(s: Any) -> Iterator[Fault]:
    """A model whose size is given must fit the smallest instance type of the list."""
    if s.model.parameters_billions is None:
        return
    smallest = min(map(catalog.gpu_type, s.gpu_instance_types), key=lambda one: one.total_gpu_memory_mib)
    fit = sizing.fit(s.model.parameters_billions, s.model.dtype, smallest)
    if not fit.fits:
        rule = f"must fit {smallest.name}: {fit.needed_mib} MiB needed as {s.model.dtype}, {fit.usable_mib} usable"
        fix = "use larger GPUs, a smaller dtype, or drop the small types from gpuInstanceTypes"
        yield Fault("model.parametersBillions", f"{s.model.parameters_billions:g}", rule, fix)


def budget_pays_for_something(s: Any) -> Iterator[Fault]:
    """The budget must cover the fixed costs, a Capacity Reservation all month, and one hour of one instance at the
    dearest on-demand price or what it costs to stop the whole cap, whichever is more: the cap may be at work when a
    month begins."""
    fixed, hour, stopping = costs.fixed_usd_of(s), costs.dearest_usd_per_hour(s), costs.stopping_usd(s)
    reserved = costs.reserved_usd_per_month(s.capacity_reservation, s.region)
    name, _ = catalog.dearest(s.gpu_instance_types, s.region)
    least = costs.least_budget_usd(s)
    if s.monthly_budget_usd < least:
        held = f", {reserved:.2f} of reserved capacity" if reserved else ""
        for_gpus = f"one hour of {name}"
        if stopping > hour:
            for_gpus = f"{stopping:.2f} to stop {s.max_gpu_instances} x {name} that work when a month begins"
        rule = f"must be at least {least:.2f}: {fixed:.2f} of fixed costs a month{held} and {for_gpus}"
        own = "raise it, or use an existing network: its own NAT gateway is most of the fixed costs"
        yield Fault("monthlyBudgetUsd", f"{s.monthly_budget_usd:g}", rule, own if s.network is None else "raise it")


def budget_holds_the_floor(s: Any) -> Iterator[Fault]:
    """The budget must hold what of the floor is on-demand all month, even on the cheapest type: it would be stopped."""
    reserved = s.capacity_reservation.instances if s.capacity_reservation is not None else 0
    always = min(s.floor, max(s.on_demand_base, reserved)) if s.spot else s.floor
    if not always:
        return
    name, hour = catalog.cheapest(s.gpu_instance_types, s.region)
    fixed = costs.fixed_usd_of(s)
    fixed += costs.reserved_usd_per_month(s.capacity_reservation, s.region)
    hourly = max(0, always - reserved) * hour + always * costs.disk_usd_per_hour(s.advanced.disk_gib, s.region)
    month = fixed + hourly * costs.HOURS_PER_MONTH
    if s.monthly_budget_usd < month:
        rule = f"must be affordable: {always} x {name} on demand all month cost {month:.0f} with fixed costs"
        fix = f"lower the floor, use a schedule, or raise monthlyBudgetUsd ({s.monthly_budget_usd:g})"
        yield Fault("floor", str(s.floor), rule, fix)


RULES: Final[tuple[Callable[[Any], Iterator[Fault]], ...]] = (
    stack_name,
    known_region,
    somebody_to_tell,
    floor_within_cap,
    window_floors_within_cap,
    one_gpu_count,
    one_architecture,
    some_capacity,
    on_demand_base_within_cap,
    on_demand_base_beside_spot,
    reserved_type_is_listed,
    reservation_within_cap,
    job_within_visibility,
    service_within_timeout,
    drain_finishes_a_job,
    boot_within_deadline,
    model_fits,
    budget_pays_for_something,
    budget_holds_the_floor,
)
