"""The twin's own bill: what AWS would charge, from the account's own history and the twin's own prices.

Nothing here is shared with the catalogue, the meter or the spend law: the meter is judged against this bill.

Charged: machines (`machine_bill`), what stands (`standing`), what is charged by use (`requests`, `nat`). Not charged:
storage of results, logs and table backups, data transfer out and between zones, SNS, KMS requests, tax. Free tiers are
left out. Prices are those of us-east-1; elsewhere everything is taken times `prices.multiple`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import prices
from .bill_lines import Line
from .cloud import Cloud
from .cost_tags import CostTags, Tag
from .machine_bill import MachineBill
from .months import month_bounds, month_of
from .nat import NatBytes
from .requests import Requests
from .services.billing_metric import BillingMetric
from .services.machines import Machines, optional_service
from .standing import Standings
from .usage import Usage

if TYPE_CHECKING:
    from .nodes import Nodes

HOUR = 3600.0
FIGURE_EVERY_S, FIGURE_LAG_S = 4 * HOUR, 8 * HOUR


@dataclass(frozen=True)
class Foreign:
    """Spend of others in the account: dollars per hour from `start` to `end`, unix seconds."""

    usd_per_hour: float
    start: float
    end: float


class Bill:
    """The bill of the account. Months are UTC, written "2026-11"; amounts are dollars.

    `lines`, `total` and `by_kind` are the stack's; what others spend in the account (`add_foreign`) shows where AWS
    shows whole accounts: `account_total`, budgets without a tag filter, Cost Explorer, EstimatedCharges.
    Knobs: `requests.assumed`, `nat`, `tags.active_from`, `metric`.
    """

    def __init__(self, cloud: Cloud, machines: Machines) -> None:
        self._cloud = cloud
        self._multiple = prices.multiple(cloud.region)
        self.usage = Usage(cloud.clock)
        self.requests = Requests(cloud, self.usage)
        self.nat = NatBytes(cloud, machines, self.usage)
        self.tags = CostTags(cloud, machines)
        self._machines = MachineBill(cloud, machines)
        self._standing = Standings(cloud)
        self._standing.on_look += [self.nat.forget_routes, self._remember]
        self._foreign: list[Foreign] = []
        self.metric: BillingMetric | None = None  # EstimatedCharges, once there is a CloudWatch to publish to

    # -- the stack ----------------------------------------------------------------------------------------------

    def lines(self, month: str | None = None, as_of: float | None = None) -> list[Line]:
        """Every item of `month` (default: this one) up to `as_of` (default: now) that costs something."""
        wanted, start, end, known = self._asked(month, as_of)
        if end <= start:
            return []
        found = [*self._machines.of_month(wanted, end, known), *self._beside_machines(start, end)]
        return [line for line in found if line.usd > 0]

    def between(self, start: float, end: float, known: float) -> list[Line]:
        """Every item of a span within one month, by what had happened until `known`; unix seconds."""
        if end <= start:
            return []
        found = [*self._machines.between(start, end, known), *self._beside_machines(start, end)]
        return [line for line in found if line.usd > 0]

    def total(self, month: str | None = None, as_of: float | None = None) -> float:
        """The sum of `lines`, quickly."""
        wanted, start, end, known = self._asked(month, as_of)
        if end <= start:
            return 0.0
        standing = math.fsum(line.usd for line in self._standing.lines(start, end))
        used = self.usage.dollars(start, end) * self._multiple
        return self._machines.total_of_month(wanted, end, known) + standing + used

    def _asked(self, month: str | None, as_of: float | None) -> tuple[str, float, float, float]:
        """The month, its start, its end as far as it is asked for, and until when what happened is known."""
        now = self._cloud.clock.now()
        wanted = month or month_of(now)
        start, end = month_bounds(wanted)
        known = now if as_of is None else min(as_of, now)
        return wanted, start, min(end, known), known

    def by_kind(self, month: str | None = None) -> dict[str, float]:
        sums: dict[str, float] = {}
        for line in self.lines(month):
            sums[line.kind] = sums.get(line.kind, 0.0) + line.usd
        return sums

    def observe(self) -> None:
        """See what stands now: called whenever a gateway is made or deleted, and every hour."""
        self._standing.observe()

    def _remember(self) -> None:
        now = self._cloud.clock.now()
        self.tags.remember(self._standing.lines(month_bounds(month_of(now))[0], now))

    def _beside_machines(self, start: float, end: float) -> list[Line]:
        used = [Line(item, kind, usd * self._multiple) for kind, item, _, usd in self.usage.used(start, end)]
        return [*self._standing.lines(start, end), *used]

    # -- the account --------------------------------------------------------------------------------------------

    def add_foreign(self, usd_per_hour: float, start: float | None = None, end: float = math.inf) -> None:
        """Others spend in the account too, from `start` (default: now) to `end`."""
        self._foreign.append(Foreign(usd_per_hour, self._cloud.clock.now() if start is None else start, end))

    def foreign_usd(self, start: float, end: float) -> float:
        """What others spent from `start` to before `end`."""
        return sum(
            one.usd_per_hour * max(0.0, min(end, one.end) - max(start, one.start)) / HOUR for one in self._foreign
        )

    def account_total(self, month: str | None = None, as_of: float | None = None) -> float:
        """The stack's total and what others spent."""
        now = self._cloud.clock.now()
        start, end = month_bounds(month or month_of(now))
        return self.total(month, as_of) + self.foreign_usd(start, min(end, now if as_of is None else as_of))

    # -- as AWS's own reports know it ---------------------------------------------------------------------------

    def known_until(self) -> float:
        """Up to when AWS Billing knows the cost: 8 to 12 hours ago."""
        return self._cloud.clock.now() // FIGURE_EVERY_S * FIGURE_EVERY_S - FIGURE_LAG_S

    def figure(self, tags: Iterable[Tag] | None = None) -> float:
        """This month's cost as AWS Billing knows it: the stack's, or that of what carries one of the `tags`."""
        month, known = month_of(self._cloud.clock.now()), self.known_until()
        if tags is None:
            return self.total(month, as_of=known)
        start, end = month_bounds(month)
        return self.tagged_usd(tags, start, min(end, known), known)

    def account_figure(self) -> float:
        """This month's cost of the whole account as AWS Billing knows it."""
        return self.account_total(month_of(self._cloud.clock.now()), as_of=self.known_until())

    def is_active(self, tag: Tag) -> bool:
        """Whether reports count costs by the tag now."""
        return self.tags.active_from.get(tag.key, 0.0) <= self._cloud.clock.now()

    def tagged_usd(self, tags: Iterable[Tag], start: float, end: float, known: float) -> float:
        """What a report by cost allocation tags counts: lines of resources that carry one of `tags`, from the moment
        on at which the tag was activated."""
        wanted = list(tags)
        active = {tag: max(start, self.tags.active_from.get(tag.key, 0.0)) for tag in wanted}
        sums = []
        for since in sorted(set(active.values())):
            new = [tag for tag in wanted if active[tag] == since]
            known_earlier = [tag for tag in wanted if active[tag] < since]
            sums += [
                line.usd
                for line in self.between(since, end, known)
                if self.tags.carries(line, new) and not self.tags.carries(line, known_earlier)
            ]
        return math.fsum(sums)


def connect(cloud: Cloud, bill: Bill, nodes: Nodes | None = None) -> None:
    """Let the account's services tell the bill what runs, and show what AWS shows of it, as far as there are any."""
    functions: Any = optional_service(cloud, "lambda")
    if functions is not None:
        functions.on_run.append(bill.requests.run)
    if nodes is not None:
        nodes.on_call.append(bill.nat.heard)
    for name in ("budgets", "ce"):
        reports: Any = optional_service(cloud, name)
        if reports is not None:
            reports.bill = bill
    cloudwatch = optional_service(cloud, "cloudwatch")
    if cloudwatch is not None:
        bill.metric = BillingMetric(cloud, cloudwatch, bill)
        cloudwatch.collectors.append(functools.partial(bill.nat.publish, cloudwatch))


__all__ = ["Bill", "Line", "connect", "month_bounds", "month_of"]
