"""AWS Budgets: a monthly cost budget whose figure lags by hours and which tells each threshold once a month.

The figures come from `bill` (set by whoever keeps it): of the resources that carry the budget's tag, or of the whole
account for a budget without a filter. `figure` scripts them: the dollars that every budget then shows which could show
any. The served spend is refreshed every 8 to 12 hours of virtual time, or by `refresh_now()`.
Sources: API reference of `CreateBudget`, `Notification` (at most 10, each at most one SNS topic and 10 addresses);
cost management guide, "Managing your costs with AWS Budgets" (updated up to three times a day), "Best practices for
budgets" (an ACTUAL alert is sent once in a period), "Creating an Amazon SNS topic for budget notifications".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from ..cost_tags import Tag
from ..errors import AwsError
from .budget_rules import (
    BudgetEntry,
    NotificationEntry,
    add_notification,
    check_budget,
    check_notification,
    check_subscribers,
    crossed,
    filter_tags,
    find_notification,
    threshold_usd,
    with_defaults,
)
from .model import Answer, Model, operation, tag_list, tag_map

if TYPE_CHECKING:
    from ..cloud import Cloud

SERVICE = "budgets.amazonaws.com"
REFRESH_S = (8 * 3600.0, 12 * 3600.0)


class Figures(Protocol):
    """What AWS Billing knows of this month's cost, in dollars."""

    def figure(self, tags: Iterable[Tag]) -> float: ...

    def account_figure(self) -> float: ...

    def is_active(self, tag: Tag) -> bool: ...


class BudgetsModel(Model):
    """`outbox` holds the mails to e-mail subscribers, `failed` what could not be published to a topic and why."""

    service = "budgets"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.budgets: dict[str, BudgetEntry] = {}
        self.bill: Figures | None = None
        self.figure: Callable[[], float] | None = None
        self.outbox: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self._later()

    # -- budgets ----------------------------------------------------------------------------------------------

    @operation("AccountId", "Budget", "NotificationsWithSubscribers", "ResourceTags")
    def create_budget(self, params: dict[str, Any], principal: str) -> Answer:
        self._account(params)
        budget = dict(params["Budget"])
        check_budget(budget)
        name = budget["BudgetName"]
        if name in self.budgets:
            raise AwsError("DuplicateRecordException", f"Error creating budget: {name} - the budget already exists.")
        entry = BudgetEntry(with_defaults(budget), tag_map(params.get("ResourceTags")), self.clock.now())
        for each in params.get("NotificationsWithSubscribers") or []:
            add_notification(entry, each["Notification"], each["Subscribers"])
        self.budgets[name] = entry
        return {}

    @operation("AccountId", "BudgetName", "ShowFilterExpression")
    def describe_budget(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Budget": self._shown(self._budget(params))}

    @operation("AccountId", "MaxResults", "NextToken")
    def describe_budgets(self, params: dict[str, Any], principal: str) -> Answer:
        self._account(params)
        return {"Budgets": [self._shown(entry) for _, entry in sorted(self.budgets.items())]}

    @operation("AccountId", "NewBudget")
    def update_budget(self, params: dict[str, Any], principal: str) -> Answer:
        budget = dict(params["NewBudget"])
        entry = self._budget({**params, "BudgetName": budget["BudgetName"]})
        check_budget(budget)
        entry.settings, entry.updated = with_defaults(budget), self.clock.now()
        return {}

    @operation("AccountId", "BudgetName")
    def delete_budget(self, params: dict[str, Any], principal: str) -> Answer:
        del self.budgets[self._budget(params).settings["BudgetName"]]
        return {}

    # -- notifications ----------------------------------------------------------------------------------------

    @operation("AccountId", "BudgetName", "Notification", "Subscribers")
    def create_notification(self, params: dict[str, Any], principal: str) -> Answer:
        add_notification(self._budget(params), params["Notification"], params["Subscribers"])
        return {}

    @operation("AccountId", "BudgetName", "MaxResults", "NextToken")
    def describe_notifications_for_budget(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self._budget(params)
        states = ["ALARM" if crossed(entry, n) else "OK" for n in entry.notifications]
        shown = [{**n.settings, "NotificationState": s} for n, s in zip(entry.notifications, states, strict=True)]
        return {"Notifications": shown}

    @operation("AccountId", "BudgetName", "OldNotification", "NewNotification")
    def update_notification(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self._budget(params)
        notification = find_notification(entry, params["OldNotification"])
        changed = check_notification(params["NewNotification"])
        if any(n.settings == changed for n in entry.notifications if n is not notification):
            raise AwsError("DuplicateRecordException", "The notification already exists.")
        notification.settings, notification.sent_in = changed, ""
        return {}

    @operation("AccountId", "BudgetName", "Notification")
    def delete_notification(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self._budget(params)
        entry.notifications.remove(find_notification(entry, params["Notification"]))
        return {}

    @operation("AccountId", "BudgetName", "Notification", "MaxResults", "NextToken")
    def describe_subscribers_for_notification(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Subscribers": list(find_notification(self._budget(params), params["Notification"]).subscribers)}

    @operation("AccountId", "BudgetName", "Notification", "Subscriber")
    def create_subscriber(self, params: dict[str, Any], principal: str) -> Answer:
        notification = find_notification(self._budget(params), params["Notification"])
        if params["Subscriber"] in notification.subscribers:
            raise AwsError("DuplicateRecordException", "The subscriber already exists.")
        check_subscribers([*notification.subscribers, params["Subscriber"]])
        notification.subscribers.append(dict(params["Subscriber"]))
        return {}

    @operation("AccountId", "BudgetName", "Notification", "Subscriber")
    def delete_subscriber(self, params: dict[str, Any], principal: str) -> Answer:
        notification = find_notification(self._budget(params), params["Notification"])
        if params["Subscriber"] not in notification.subscribers:
            raise AwsError("NotFoundException", "The subscriber does not exist.")
        notification.subscribers.remove(params["Subscriber"])
        return {}

    # -- tags -------------------------------------------------------------------------------------------------

    @operation("ResourceARN", "ResourceTags")
    def tag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        self._tagged(params).tags.update(tag_map(params["ResourceTags"]))
        return {}

    @operation("ResourceARN", "ResourceTagKeys")
    def untag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self._tagged(params)
        entry.tags = {k: v for k, v in entry.tags.items() if k not in params["ResourceTagKeys"]}
        return {}

    @operation("ResourceARN")
    def list_tags_for_resource(self, params: dict[str, Any], principal: str) -> Answer:
        return {"ResourceTags": tag_list(self._tagged(params).tags)}

    # -- the figure -------------------------------------------------------------------------------------------

    def refresh_now(self) -> None:
        """Take the present figures as the budgets' spend and send what their thresholds ask for."""
        for entry in list(self.budgets.values()):
            entry.spend = self._spent(entry)
            for notification in entry.notifications:
                self._consider(entry, notification)

    def _spent(self, entry: BudgetEntry) -> float:
        tags = filter_tags(entry.settings, self.cloud.account_id)
        if self.bill is not None and tags is not None:
            tags = [tag for tag in tags if self.bill.is_active(tag)]
        if self.figure is not None:
            return self.figure() if tags is None or tags else 0.0
        if self.bill is None:
            return 0.0
        return self.bill.account_figure() if tags is None else self.bill.figure(tags)

    def _later(self) -> None:
        self.clock.after(self.random.uniform(*REFRESH_S), self._refresh)

    def _refresh(self) -> None:
        self.refresh_now()
        self._later()

    def _consider(self, entry: BudgetEntry, notification: NotificationEntry) -> None:
        month = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%Y-%m")
        # A forecast needs about five weeks of history: the twin never has one, so those are kept but not sent.
        if notification.settings["NotificationType"] != "ACTUAL" or notification.sent_in == month:
            return
        if not crossed(entry, notification):
            return
        notification.sent_in = month
        name = entry.settings["BudgetName"]
        subject = f"AWS Budgets: {name} has exceeded your alert threshold"
        text = self._text(entry, notification)
        for subscriber in notification.subscribers:
            if subscriber["SubscriptionType"] == "EMAIL":
                mail = {"at": self.clock.now(), "to": subscriber["Address"], "subject": subject, "message": text}
                self.outbox.append(mail)
            else:
                self._publish(name, subscriber["Address"], subject, text)

    def _publish(self, name: str, topic_arn: str, subject: str, text: str) -> None:
        try:
            self.cloud.service("sns").publish_as_service(SERVICE, self.arn(name), topic_arn, subject[:100], text)
        except AwsError as error:  # lost for this month: there is no second try
            failure = {"at": self.clock.now(), "budget": name, "topic": topic_arn}
            self.failed.append({**failure, "code": error.code, "message": error.message})

    def _text(self, entry: BudgetEntry, notification: NotificationEntry) -> str:
        """The plain text AWS Budgets publishes, as people who receive it quote it."""
        name, threshold = entry.settings["BudgetName"], threshold_usd(entry, notification)
        sign = {"GREATER_THAN": (">", "greater than"), "LESS_THAN": ("<", "less than"), "EQUAL_TO": ("=", "equal to")}
        symbol, words = sign[notification.settings["ComparisonOperator"]]
        day = datetime.fromtimestamp(self.clock.now(), UTC).strftime("%B %d, %Y")
        return (
            f"AWS Budget Notification {day}\nAWS Account {self.cloud.account_id}\n\nDear AWS Customer,\n\n"
            f"You requested that we alert you when the ACTUAL Cost associated with your {name} budget is {words} "
            f"${threshold:,.2f} for the current month. The ACTUAL Cost associated with this budget is "
            f"${entry.spend:,.2f}. You can find additional details below and by accessing the AWS Budgets dashboard "
            f"[1].\n\nBudget Name: {name}\nBudget Type: Cost\nBudgeted Amount: ${entry.limit:,.2f}\n"
            f"Alert Type: ACTUAL\nAlert Threshold: {symbol} ${threshold:,.2f}\nACTUAL Amount: ${entry.spend:,.2f}\n\n"
            "[1] https://console.aws.amazon.com/billing/home#/budgets\n"
        )

    # -- inside -----------------------------------------------------------------------------------------------

    def arn(self, resource: str, *, region: str | None = None) -> str:
        return f"arn:aws:budgets::{self.cloud.account_id}:budget/{resource}"  # a global service: no region

    def _account(self, params: dict[str, Any]) -> None:
        if params["AccountId"] != self.cloud.account_id:
            raise AwsError("AccessDeniedException", f"Account {params['AccountId']} is not the caller's.")

    def _budget(self, params: dict[str, Any]) -> BudgetEntry:
        self._account(params)
        name = params["BudgetName"]
        if name not in self.budgets:
            raise AwsError("NotFoundException", f"Unable to get budget: {name} - the budget doesn't exist.")
        return self.budgets[name]

    def _tagged(self, params: dict[str, Any]) -> BudgetEntry:
        name = params["ResourceARN"].split("/", 1)[-1]
        return self._budget({"AccountId": self.cloud.account_id, "BudgetName": name})

    def _shown(self, entry: BudgetEntry) -> Answer:
        spend = {"ActualSpend": {"Amount": f"{entry.spend:.3f}", "Unit": "USD"}}
        updated = datetime.fromtimestamp(entry.updated, UTC)  # by its owner: a new figure leaves it (API reference)
        return {**entry.settings, "CalculatedSpend": spend, "LastUpdatedTime": updated}
