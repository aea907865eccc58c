"""Cost Explorer: what the account's bill says by day or month, as of some hours ago.

Sources: Cost Management API reference, "GetCostAndUsage" (the start of a period is inclusive, its end exclusive; each
page is a request); cost management guide, "Analyzing your costs with AWS Cost Explorer" (data of the present month is
there after 24 hours, refreshed at least once a day); the words of the refusals as users report them
(aws/aws-sdk-js#2732, zoph-io/instance-watcher#18, redhat-performance/cloud-governance#1011).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from ..bill_lines import Line
from ..cost_tags import CostTags
from ..errors import AwsError, NotModelledError
from ..months import month_bounds, month_of
from .cost_filters import Predicate, invalid, predicate, tag_keys
from .model import Answer, Model, operation, refuse_unknown

if TYPE_CHECKING:
    from ..cloud import Cloud

REFRESH_S = 8 * 3600.0
LAG_S = (8 * 3600.0, 16 * 3600.0)  # how old the newest data of a refresh is: what is served is 8 to 24 hours old
FINAL_AFTER_S = 5 * 86_400.0  # a month's bill is made final in the first days of the next
OLDEST_MONTHS = 14
# One account without reserved instances, savings plans, discounts or credits: all of them are the same.
METRICS = ("UnblendedCost", "BlendedCost", "AmortizedCost", "NetUnblendedCost", "NetAmortizedCost")
_OTHER_METRICS = ("UsageQuantity", "NormalizedUsageAmount")


class Costs(Protocol):
    """The bill."""

    tags: CostTags

    def between(self, start: float, end: float, known: float) -> list[Line]: ...

    def foreign_usd(self, start: float, end: float) -> float: ...


class CostExplorerModel(Model):
    """`bill` is set by whoever keeps it. Knobs: `enabled` (a person switches Cost Explorer on, once), `lag_s()`, which
    draws how old the newest data of a refresh is."""

    service = "ce"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.bill: Costs | None = None
        self.enabled = True
        self._chances = cloud.chances("cost explorer")
        self.lag_s = lambda: self._chances.uniform(*LAG_S)
        self._refreshed = self._known = -math.inf

    @operation("TimePeriod", "Granularity", "Metrics", "Filter")
    def get_cost_and_usage(self, params: dict[str, Any], principal: str) -> Answer:
        if not self.enabled:
            raise AwsError("AccessDeniedException", "User not enabled for cost explorer access")
        periods = self._periods(params["TimePeriod"], params["Granularity"])
        wanted = _metrics(params["Metrics"])
        expression = params.get("Filter")
        if expression is not None:
            self._predicate(expression, ())  # is it one at all
        known, results = self.known_until(), []
        for start, end in periods:
            usd = f"{self._usd(start, end, known, expression):.10f}"
            results.append({
                "TimePeriod": {"Start": _day(start), "End": _day(end)},
                "Total": {metric: {"Amount": usd, "Unit": "USD"} for metric in wanted},
                "Groups": [],
                "Estimated": self.clock.now() < month_bounds(month_of(start))[1] + FINAL_AFTER_S,
            })  # fmt: skip
        return {"ResultsByTime": results, "DimensionValueAttributes": []}

    def known_until(self) -> float:
        """Up to when the served data is complete."""
        refreshed = self.clock.now() // REFRESH_S * REFRESH_S
        if self._refreshed < refreshed:
            self._refreshed = refreshed
            self._known = max(self._known, refreshed - self.lag_s())  # what was known once stays known
        return self._known

    # -- inside -----------------------------------------------------------------------------------------------

    def _usd(self, start: float, end: float, known: float, expression: Mapping[str, Any] | None) -> float:
        """Dollars of a span within one month. A tag counts from its activation on: the span is cut there."""
        if self.bill is None:
            return 0.0
        end = min(end, known)
        if end <= start:
            return 0.0
        keys = tag_keys(expression) if expression is not None else set()
        begins = {key: self.bill.tags.active_from.get(key, 0.0) for key in keys}
        cuts = sorted({start, end, *(at for at in begins.values() if start < at < end)})
        total = 0.0
        for since, until in pairwise(cuts):
            lines = [*self.bill.between(since, until, known), *self._foreign(since, until)]
            if expression is not None:
                takes = self._predicate(expression, [key for key, at in begins.items() if at <= since])
                lines = [line for line in lines if takes(line)]
            total += math.fsum(line.usd for line in lines)
        return total

    def _foreign(self, start: float, end: float) -> list[Line]:
        usd = self.bill.foreign_usd(start, end) if self.bill is not None else 0.0
        return [Line("others", "foreign", usd)] if usd else []

    def _predicate(self, expression: Mapping[str, Any], active: Collection[str]) -> Predicate:
        tags_of = self.bill.tags.of if self.bill is not None else lambda line: {}
        return predicate(expression, tags_of, active, self.cloud.account_id, self.cloud.region)

    def _periods(self, period: Mapping[str, str], granularity: str) -> list[tuple[float, float]]:
        refuse_unknown("TimePeriod", period, {"Start", "End"})
        start, end = _date(period["Start"]), _date(period["End"])
        today = datetime.fromtimestamp(self.clock.now(), UTC).date()
        if start >= end:
            raise invalid("Start date (and hour) should be before end date (and hour)")
        if end > _next_month(today):
            raise invalid("end date past the beginning of next month")
        if (today.year - start.year) * 12 + today.month - start.month > OLDEST_MONTHS and start.day != 1:
            text = f"To retrieve data beyond the past {OLDEST_MONTHS} months, your start date needs to be the first day"
            raise invalid(f"{text} of the month.")
        if granularity not in ("DAILY", "MONTHLY"):
            raise NotModelledError(f"the twin does not model the granularity {granularity} of Cost Explorer")
        days = list(_cut(start, end, daily=granularity == "DAILY"))
        return [(_at(since), _at(until)) for since, until in pairwise(days)]


def _metrics(asked: Iterable[str]) -> list[str]:
    wanted = list(asked)
    for metric in wanted:
        if metric in _OTHER_METRICS:
            raise NotModelledError(f"the twin does not model the metric {metric} of Cost Explorer")
        if metric not in METRICS:
            raise invalid(f"Invalid metric: {metric}")
    if not wanted:
        raise invalid("At least one metric must be given.")
    return wanted


def _date(text: str) -> date:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", text):
        raise NotModelledError("the twin does not model hours of Cost Explorer")
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise invalid(f"Invalid date: {text!r} is not of the form YYYY-MM-DD.") from None


def _cut(start: date, end: date, *, daily: bool) -> Iterator[date]:
    """Where periods begin and end: each day, or each first of a month, and the two ends."""
    while start < end:
        yield start
        start = start + timedelta(days=1) if daily else _next_month(start)
    yield end


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _at(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
