"""What AWS Budgets accepts, and when a threshold is crossed.

Sources: API reference of `CreateBudget`, `Budget`, `Notification` and `Subscriber`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ..cost_tags import Tag
from ..errors import AwsError, NotModelledError
from .model import refuse_unknown

_BUDGET = {
    "BudgetName", "BudgetLimit", "CostFilters", "CostTypes", "TimeUnit", "TimePeriod", "BudgetType", "CalculatedSpend",
    "LastUpdatedTime", "FilterExpression", "Metrics",
}  # fmt: skip


@dataclass
class NotificationEntry:
    settings: dict[str, Any]  # NotificationType, ComparisonOperator, Threshold, ThresholdType
    subscribers: list[dict[str, str]]
    sent_in: str = ""  # month ("2026-11") in which it was last sent


@dataclass
class BudgetEntry:
    settings: dict[str, Any]
    tags: dict[str, str]
    updated: float
    spend: float = 0.0
    notifications: list[NotificationEntry] = field(default_factory=list)

    @property
    def limit(self) -> float:
        return float(self.settings["BudgetLimit"]["Amount"])


def invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)


def check_budget(budget: dict[str, Any]) -> None:
    refuse_unknown("a budget", budget, _BUDGET)
    name = budget["BudgetName"]
    if not re.fullmatch(r"(?![^:\\]*/action/|(?i:.*<script>.*</script>.*))[^:\\]{1,100}", name):
        raise invalid(f"Budget name {name!r}: 1 to 100 characters without : and \\, and without /action/.")
    if budget["BudgetType"] != "COST" or budget["TimeUnit"] != "MONTHLY":
        raise NotModelledError("the twin models monthly cost budgets")
    try:
        amount, unit = Decimal(budget["BudgetLimit"]["Amount"]), budget["BudgetLimit"]["Unit"]
    except (KeyError, InvalidOperation) as error:
        raise invalid("BudgetLimit needs an Amount that is a number, and a Unit.") from error
    if amount <= 0 or unit != "USD":
        raise invalid("BudgetLimit must be more than 0, in USD.")
    if ("FilterExpression" in budget or "Metrics" in budget) and ("CostFilters" in budget or "CostTypes" in budget):
        raise invalid("FilterExpression and Metrics can not be given together with CostFilters and CostTypes.")
    if "FilterExpression" in budget:
        raise NotModelledError("the twin models budgets with CostFilters, not with a FilterExpression")
    filters = budget.get("CostFilters") or {}
    refuse_unknown("CostFilters of a budget", filters, {"TagKeyValue", "LinkedAccount"})
    if len(filters) > 1:
        raise NotModelledError("the twin models budgets with one cost filter")


def with_defaults(budget: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in budget.items() if k not in ("CalculatedSpend", "LastUpdatedTime")}
    period = {"Start": datetime(2026, 1, 1, tzinfo=UTC), "End": datetime(2087, 6, 15, tzinfo=UTC)}
    return {**kept, "TimePeriod": {**period, **kept.get("TimePeriod", {})}}


def filter_tags(settings: dict[str, Any], account_id: str) -> list[Tag] | None:
    """The tags that a budget counts; None: it has no filter, or the account's own, and counts the whole account.

    A tag without the prefix `user:` matches nothing: the budget looks right and shows $0 for ever; so does another
    account's filter.
    """
    filters = settings.get("CostFilters") or {}
    if "LinkedAccount" in filters:
        return None if account_id in filters["LinkedAccount"] else []
    given = filters.get("TagKeyValue")
    if given is None:
        return None
    pairs = [tag.removeprefix("user:").split("$", 1) for tag in given if tag.startswith(("user:", "aws:"))]
    return [Tag(key, "".join(value)) for key, *value in pairs]


def check_notification(notification: dict[str, Any]) -> dict[str, Any]:
    settings = {"ThresholdType": "PERCENTAGE", **{k: v for k, v in notification.items() if k != "NotificationState"}}
    if not 0 <= settings["Threshold"] <= 15_000_000_000_000:
        raise invalid("Threshold must be between 0 and 15000000000000.")
    return settings


def check_subscribers(subscribers: list[dict[str, str]]) -> None:
    topics = [s for s in subscribers if s["SubscriptionType"] == "SNS"]
    mails = [s for s in subscribers if s["SubscriptionType"] == "EMAIL"]
    if not subscribers:
        raise invalid("A notification must have at least one subscriber.")
    if len(topics) > 1 or len(mails) > 10:  # "one SNS subscriber and up to 10 email subscribers"
        raise AwsError("CreationLimitExceededException", "A notification has at most 1 SNS and 10 EMAIL subscribers.")
    for topic in topics:
        if not topic["Address"].startswith("arn:aws:sns:"):
            raise invalid(f"{topic['Address']} is no SNS topic.")
    for mail in mails:
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", mail["Address"]):
            raise invalid(f"{mail['Address']} is no e-mail address.")


def add_notification(entry: BudgetEntry, notification: dict[str, Any], subscribers: list[dict[str, str]]) -> None:
    settings = check_notification(notification)
    if any(n.settings == settings for n in entry.notifications):
        raise AwsError("DuplicateRecordException", "The notification already exists.")
    if len(entry.notifications) >= 10:  # "A budget can have up to ten notifications"
        raise AwsError("CreationLimitExceededException", "A budget can have up to 10 notifications.")
    check_subscribers(subscribers)
    entry.notifications.append(NotificationEntry(settings, [dict(s) for s in subscribers]))


def find_notification(entry: BudgetEntry, wanted: dict[str, Any]) -> NotificationEntry:
    settings = check_notification(wanted)
    for notification in entry.notifications:
        if notification.settings == settings:
            return notification
    raise AwsError("NotFoundException", "The notification does not exist.")


def threshold_usd(entry: BudgetEntry, notification: NotificationEntry) -> float:
    threshold = float(notification.settings["Threshold"])
    percent = notification.settings["ThresholdType"] == "PERCENTAGE"
    return entry.limit * threshold / 100 if percent else threshold


def crossed(entry: BudgetEntry, notification: NotificationEntry) -> bool:
    threshold = threshold_usd(entry, notification)
    match notification.settings["ComparisonOperator"]:
        case "GREATER_THAN":
            return entry.spend > threshold
        case "LESS_THAN":
            return entry.spend < threshold
        case _:
            return entry.spend == threshold
