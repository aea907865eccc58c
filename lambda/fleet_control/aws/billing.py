"""What other sources say that the month has cost: AWS Budgets when its message comes, Cost Explorer once a day.

Both lag by hours to a day, so they never replace the meter: they can only raise it. A figure counts only if it is of
this stack: by its tag, or of the whole account if the settings say that the account holds nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..spend_ledger import Ledger, day_of, month_of
from . import runtime
from .config import GuardConfig

STACK_TAG = "gpu-inference-stack"
FIGURE_LAG_S = 86_400.0  # AWS Budgets' figures are 8 to 12 hours old, a day at most
# Cost Explorer refreshes at least once in 24 hours (cost management guide, "Analyzing your costs"): by noon most of
# yesterday is there.
RECONCILE_HOUR = 12


class ScopeError(ValueError):
    """A figure is not of this stack alone."""


def asks_for_figure(event: Any) -> bool:
    """Whether an event is a message of the AWS Budget (whatever it says) and not a tick of the schedule."""
    return bool(event.get("Records")) if isinstance(event, dict) else event is not None


def budget_figure(config: GuardConfig, at: float) -> tuple[float, str] | None:
    """AWS Budgets' figure in dollars and the UTC month it is of; None if it has none. Raises ScopeError if somebody
    changed the budget so that it counts more than this stack.

    The answer names no month (``LastUpdatedTime`` is when somebody last edited the budget), and the figure lags: on the
    first day of a month it may still be last month's, so it counts as that.
    """
    answer = runtime.client("budgets").describe_budget(AccountId=config.account_id, BudgetName=config.budget_name)
    if not config.dedicated_account and not _of_this_stack(answer["Budget"], config.stack):
        raise ScopeError(f"budget {config.budget_name} is not filtered by user:{STACK_TAG}${config.stack}")
    spend = answer["Budget"].get("CalculatedSpend", {}).get("ActualSpend", {})
    return (float(spend["Amount"]), month_of(at - FIGURE_LAG_S)) if spend.get("Unit") == "USD" else None


def _of_this_stack(budget: Any, stack: str) -> bool:
    values = (budget.get("CostFilters") or {}).get("TagKeyValue")
    return values == [f"user:{STACK_TAG}${stack}"]


def due(config: GuardConfig, ledger: Ledger, at: float) -> bool:
    """Whether Cost Explorer is to be asked now: once a day, and not on the first, when it has nothing of the month."""
    now = datetime.fromtimestamp(at, UTC)
    return config.reconcile_daily and now.hour >= RECONCILE_HOUR and now.day > 1 and ledger.checked != day_of(at)


def daily_usd(config: GuardConfig, at: float) -> dict[str, float]:
    """Dollars of each day of the month before today by Cost Explorer ("05": 12.5), credits and refunds left out; one
    request, which costs $0.01. Days that it does not know are not there."""
    today = day_of(at)
    kept: dict[str, Any] = {"Not": {"Dimensions": {"Key": "RECORD_TYPE", "Values": ["Credit", "Refund"]}}}
    tagged: dict[str, Any] = {"Tags": {"Key": STACK_TAG, "Values": [config.stack]}}
    answer = runtime.client("ce").get_cost_and_usage(
        TimePeriod={"Start": f"{today[:7]}-01", "End": today},
        Granularity="DAILY",
        Metrics=["UnblendedCost"],
        Filter=kept if config.dedicated_account else {"And": [tagged, kept]},
    )
    return {
        row["TimePeriod"]["Start"][-2:]: float(row["Total"]["UnblendedCost"]["Amount"])
        for row in answer["ResultsByTime"]
        if row.get("Total", {}).get("UnblendedCost", {}).get("Unit") == "USD"
    }
