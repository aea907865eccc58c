"""What a budget guard is told about money, and the AWS Budget behind it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from .. import catalog, costs
from ..naming import STACK_TAG
from .refs import FleetRef


@dataclass(frozen=True)
class Spending:
    """`monthly_usd` is what all fleets of one guard together may cost in a UTC month, `fixed_usd_per_month` included.

    `stopped_usd_per_month` is what is paid of that while the fleets are stopped: their controllers only look then.
    `per_boot_usd` and `per_job_usd` are what one boot and one completed job cost beside the instance's seconds. People
    are warned at `warn_percent`. `resume_on_new_month`: a stop for the budget ends with its month; False waits for a
    person. `dedicated_account`: the AWS account holds this stack and nothing else, so its bill is the stack's.
    `reconcile_daily`: the guard asks Cost Explorer once a day ($0.01). `prices_usd_per_hour` adds to the catalogue's
    on-demand prices, or corrects them.
    """

    monthly_usd: float
    fixed_usd_per_month: float
    stopped_usd_per_month: float
    per_boot_usd: float
    per_job_usd: float
    warn_percent: int = 80
    resume_on_new_month: bool = True
    dedicated_account: bool = False
    reconcile_daily: bool = True
    prices_usd_per_hour: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = (
            (self.fixed_usd_per_month >= 0, f"fixed_usd_per_month is {self.fixed_usd_per_month}: 0 or more"),
            (
                0 <= self.stopped_usd_per_month <= self.fixed_usd_per_month,
                f"stopped_usd_per_month is {self.stopped_usd_per_month}: 0 to fixed_usd_per_month",
            ),
            (self.per_boot_usd >= 0, f"per_boot_usd is {self.per_boot_usd}: 0 or more"),
            (self.per_job_usd >= 0, f"per_job_usd is {self.per_job_usd}: 0 or more"),
            (
                self.monthly_usd > self.fixed_usd_per_month,
                f"monthly_usd is {self.monthly_usd}: the fixed costs alone are {self.fixed_usd_per_month}",
            ),
            (1 <= self.warn_percent <= 99, f"warn_percent is {self.warn_percent}: 1 to 99"),
            (
                all(usd > 0 for usd in self.prices_usd_per_hour.values()),
                "prices_usd_per_hour has a price of 0 or less: such a type would never trip the guard",
            ),
        )
        faults = [fault for holds, fault in rules if not holds]
        if faults:
            raise ValueError("Spending: " + "; ".join(faults))


def money(spending: Spending, fleets: Sequence[FleetRef], region: str) -> dict[str, Any]:
    """The numbers of the guard's configuration in USD; prices are on demand, also for what will run on spot."""
    prices = _prices(spending, fleets, region)
    gpus = {one: catalog.gpu_type(one).gpu_count for one in sorted(prices) if one in catalog.GPU_TYPES}
    by_gpus = catalog.dearest_by_gpus(region)
    for one, count in gpus.items():
        by_gpus[count] = max(by_gpus[count], prices[one])
    return {
        "monthly_usd": float(spending.monthly_usd),
        "warn_percent": spending.warn_percent,
        "resume_on_new_month": spending.resume_on_new_month,
        "dedicated_account": spending.dedicated_account,
        "reconcile_daily": spending.reconcile_daily,
        "prices_as_of": catalog.PRICES_AS_OF,
        "prices_usd_per_hour": prices,
        "gpus": gpus,
        "dearest_by_gpus": {str(count): usd for count, usd in sorted(by_gpus.items())},
        "dearest_usd_per_hour": max(*by_gpus.values(), *prices.values()),
        "fixed_usd_per_month": spending.fixed_usd_per_month,
        "stopped_usd_per_month": spending.stopped_usd_per_month,
        "per_boot_usd": spending.per_boot_usd,
        "per_job_usd": spending.per_job_usd,
        "nat_usd_per_gb": costs.nat_usd_per_gb(region),
    }


def _prices(spending: Spending, fleets: Sequence[FleetRef], region: str) -> dict[str, float]:
    types = sorted({instance_type for fleet in fleets for instance_type in fleet.instance_types})
    return {one: catalog.on_demand_usd_per_hour(one, region) for one in types} | dict(spending.prices_usd_per_hour)


def limits(fleet: FleetRef, region: str) -> dict[str, Any]:
    """What the guard holds one fleet to, and what is reserved for it: paid at the price of its type, used or not."""
    held = fleet.reservation
    return {
        "fleet": fleet.fleet,
        "cap": fleet.cap,
        "drain_s": fleet.drain_s,
        "disk_usd_per_hour": costs.disk_usd_per_hour(fleet.disk_gb, region) + costs.node_requests_usd_per_hour(region),
        "reservation": None
        if held is None
        else {"id": held.id, "type": held.instance_type, "instances": held.instances},
    }


def reserved_usd_per_month(spending: Spending, fleets: Sequence[FleetRef], region: str) -> float:
    """What the fleets' reservations cost in a month of 31 days, used or not, in USD."""
    prices = _prices(spending, fleets, region)
    held = [fleet.reservation for fleet in fleets if fleet.reservation is not None]
    return sum(one.instances * prices[one.instance_type] for one in held) * costs.HOURS_PER_MONTH


def in_words(spending: Spending, fleets: Sequence[FleetRef], region: str) -> str:
    """The budget as a plan's output shows it: the month's limit, and what of it is paid whatever runs."""
    reserved = reserved_usd_per_month(spending, fleets, region)
    words = f"${spending.monthly_usd:,.2f} a month (UTC), ${spending.fixed_usd_per_month:,.2f} of it fixed"
    return f"{words}, ${reserved:,.2f} reserved" if reserved else words


def budget(
    name: str,
    stack: str,
    spending: Spending,
    emails: Sequence[str],
    topic_arn: pulumi.Input[str],
    account_id: pulumi.Input[str],
) -> dict[str, Any]:
    """The AWS Budget: this stack's cost, credits and refunds left out, one topic per notification.

    By tag, whose value needs the `user:` prefix: without it a budget looks right and reads $0 for ever. In a dedicated
    account by the account instead: that counts what carries no tag too, and needs no cost allocation tag. (No filter at
    all would count every member of an organization if the account is its payer; and the provider takes a filter that is
    left out for the one that is there: `cost_filter` is a computed attribute.)
    """
    stacks_own = {"name": "TagKeyValue", "values": [f"user:{STACK_TAG}${stack}"]}
    accounts = {"name": "LinkedAccount", "values": [account_id]}

    def notification(threshold: int, **subscribers: Any) -> dict[str, Any]:
        return {
            "comparison_operator": "GREATER_THAN",
            "notification_type": "ACTUAL",
            "threshold": threshold,
            "threshold_type": "PERCENTAGE",
            **subscribers,
        }

    warning = [notification(spending.warn_percent, subscriber_email_addresses=list(emails))] if emails else []
    return {
        "name": name,
        "budget_type": "COST",
        "limit_amount": f"{spending.monthly_usd:.2f}".removesuffix(".00"),
        "limit_unit": "USD",
        "time_unit": "MONTHLY",
        "cost_filters": [accounts if spending.dedicated_account else stacks_own],
        "cost_types": {"include_credit": False, "include_refund": False},
        "notifications": [*warning, notification(100, subscriber_sns_topic_arns=[topic_arn])],
    }
