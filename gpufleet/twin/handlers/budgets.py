"""AWS Budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .account import Account
from .base import Handler, Inputs, Naming, Outputs
from .properties import Prop, as_dict, as_list, block, blocks, from_api, names, table, to_api

_COST_TYPES = {
    **names(
        "includeCredit includeDiscount includeOtherSubscription includeRecurring includeRefund includeSubscription "
        "includeSupport includeTax includeUpfront",
        default=True,
    ),
    **names("useAmortized useBlended", default=False),
}
_NOTIFICATION = names("comparisonOperator notificationType threshold thresholdType")


class Budget(Handler):
    type = "aws:budgets/budget:Budget"
    taggable, naming = True, Naming(limit=100)
    gone = ("NotFoundException",)
    props = table(
        {
            "name": Prop(replace=True),
            "accountId": Prop(replace=True, computed=True),
            "budgetType": Prop(),
            "limitAmount": Prop(),
            "limitUnit": Prop(),
            "timeUnit": Prop(),
            "costFilters": blocks(names("name values"), kind="set"),
            "costTypes": block(_COST_TYPES, computed=True),
            "notifications": blocks(
                {**_NOTIFICATION, **names("subscriberEmailAddresses subscriberSnsTopicArns", kind="set")}, kind="set"
            ),
        }
    )
    outputs = "arn"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        account = inputs.get("accountId", cloud.account_id)
        cloud.client("budgets").create_budget(
            AccountId=account,
            Budget=_budget(inputs),
            NotificationsWithSubscribers=[
                {"Notification": to_api(_NOTIFICATION, one), "Subscribers": _subscribers(one)}
                for one in inputs.get("notifications") or []
            ],
            **({"ResourceTags": as_list(inputs["tags"])} if inputs.get("tags") else {}),
        )
        return f"{account}:{inputs['name']}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        client, (account, name) = cloud.client("budgets"), identifier.split(":", 1)
        where = {"AccountId": account, "BudgetName": name}
        live = client.describe_budget(**where)["Budget"]
        notifications = []
        for notification in client.describe_notifications_for_budget(**where).get("Notifications", []):
            asked = {key: notification[key] for key in ("NotificationType", "ComparisonOperator", "Threshold")}
            if notification.get("ThresholdType"):
                asked["ThresholdType"] = notification["ThresholdType"]
            people = client.describe_subscribers_for_notification(**where, Notification=asked)["Subscribers"]
            notifications.append(_notification_of(asked, people))
        arn = f"arn:aws:budgets::{account}:budget/{name}"
        amount = live.get("BudgetLimit", {})
        return {
            "name": name,
            "accountId": account,
            "budgetType": live["BudgetType"],
            "limitAmount": _amount(amount.get("Amount"), inputs.get("limitAmount")),
            "limitUnit": amount.get("Unit"),
            "timeUnit": live["TimeUnit"],
            "costFilters": [{"name": key, "values": values} for key, values in (live.get("CostFilters") or {}).items()],
            "costTypes": from_api(_COST_TYPES, live.get("CostTypes") or {}),
            "notifications": notifications,
            "tags": as_dict(client.list_tags_for_resource(ResourceARN=arn).get("ResourceTags")),
            "arn": arn,
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        client, (account, name) = cloud.client("budgets"), identifier.split(":", 1)
        where = {"AccountId": account, "BudgetName": name}
        if changed - {"notifications"}:
            client.update_budget(AccountId=account, NewBudget=_budget(news))
        if "notifications" in changed:  # as the provider does it: all go, all come again
            for one in client.describe_notifications_for_budget(**where).get("Notifications", []):
                keys = ("NotificationType", "ComparisonOperator", "Threshold", "ThresholdType")
                client.delete_notification(**where, Notification={key: one[key] for key in keys if key in one})
            for one in news.get("notifications") or []:
                client.create_notification(
                    **where, Notification=to_api(_NOTIFICATION, one), Subscribers=_subscribers(one)
                )

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        account, name = identifier.split(":", 1)
        arn = f"arn:aws:budgets::{account}:budget/{name}"
        if gone:
            cloud.client("budgets").untag_resource(ResourceARN=arn, ResourceTagKeys=gone)
        if new:
            cloud.client("budgets").tag_resource(ResourceARN=arn, ResourceTags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        account, name = identifier.split(":", 1)
        cloud.client("budgets").delete_budget(AccountId=account, BudgetName=name)


def _budget(inputs: Inputs) -> dict[str, Any]:
    defaults = {name: prop.default for name, prop in _COST_TYPES.items()}
    request: dict[str, Any] = {
        "BudgetName": inputs["name"],
        "BudgetType": inputs["budgetType"],
        "TimeUnit": inputs["timeUnit"],
        "CostTypes": to_api(_COST_TYPES, {**defaults, **(inputs.get("costTypes") or {})}),
        "CostFilters": {one["name"]: one["values"] for one in inputs.get("costFilters") or []},
    }
    if inputs.get("limitAmount"):
        request["BudgetLimit"] = {"Amount": inputs["limitAmount"], "Unit": inputs.get("limitUnit", "USD")}
    return request


def _subscribers(notification: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"SubscriptionType": kind, "Address": address}
        for name, kind in (("subscriberEmailAddresses", "EMAIL"), ("subscriberSnsTopicArns", "SNS"))
        for address in notification.get(name) or []
    ]


def _notification_of(live: Mapping[str, Any], people: list[Mapping[str, str]]) -> dict[str, Any]:
    found = from_api(_NOTIFICATION, live)
    for name, kind in (("subscriberEmailAddresses", "EMAIL"), ("subscriberSnsTopicArns", "SNS")):
        addresses = sorted(one["Address"] for one in people if one["SubscriptionType"] == kind)
        if addresses:
            found[name] = addresses
    return found


def _amount(live: str | None, given: str | None) -> str | None:
    """Amounts are text; 150 and 150.0 are the same amount."""
    if live is not None and given is not None and float(live) == float(given):
        return given
    return live


HANDLERS = (Budget,)
