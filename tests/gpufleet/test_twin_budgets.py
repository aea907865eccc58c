"""A budget's figure is hours old, and each threshold speaks once a month."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from twin_services import ACCOUNT, START, ServicesAccount, allow, package, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError

HOUR = 3600.0
DAY = 24 * HOUR
TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:budget"
BUDGET: dict[str, Any] = {
    "BudgetName": "inference-budget-dev", "BudgetType": "COST", "TimeUnit": "MONTHLY",
    "BudgetLimit": {"Amount": "150", "Unit": "USD"},
}  # fmt: skip
NOTES = """
    from . import runtime
    def handler(event, context):
        runtime.log(event["Records"][0]["Sns"])
"""


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


def notification(percent: float, *subscribers: dict[str, str]) -> dict[str, Any]:
    return {
        "Notification": {
            "NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": percent,
            "ThresholdType": "PERCENTAGE",
        },
        "Subscribers": list(subscribers) or [{"SubscriptionType": "EMAIL", "Address": "a@example.com"}],
    }  # fmt: skip


def create(account: ServicesAccount, *notifications: dict[str, Any], **changes: Any) -> Any:
    client = account.cloud.client("budgets")
    client.create_budget(
        AccountId=ACCOUNT, Budget={**BUDGET, **changes}, NotificationsWithSubscribers=list(notifications)
    )
    return client


def spend(client: Any) -> str:
    described = client.describe_budget(AccountId=ACCOUNT, BudgetName=BUDGET["BudgetName"])["Budget"]
    return described["CalculatedSpend"]["ActualSpend"]["Amount"]


def test_a_new_figure_does_not_say_when_it_was_made(account: ServicesAccount) -> None:
    """API reference, Budget: LastUpdatedTime is "the last time that you updated this budget"."""
    client = create(account)
    names = {"AccountId": ACCOUNT, "BudgetName": BUDGET["BudgetName"]}
    made = client.describe_budget(**names)["Budget"]["LastUpdatedTime"]
    account.cloud.clock.run_for(86_400)
    assert client.describe_budget(**names)["Budget"]["LastUpdatedTime"] == made
    client.update_budget(AccountId=ACCOUNT, NewBudget=BUDGET)
    assert client.describe_budget(**names)["Budget"]["LastUpdatedTime"] > made


def test_the_figure_is_refreshed_every_8_to_12_hours(account: ServicesAccount) -> None:
    client = create(account)
    bill = 0.0
    seen = []

    def figure() -> float:
        seen.append(account.clock.now())
        return bill

    account.services.budgets.figure = figure
    bill = 42.0
    account.clock.run_for(7 * HOUR)
    assert spend(client) == "0.000"
    account.clock.run_for(6 * HOUR)
    assert spend(client) == "42.000"
    account.clock.run_for(10 * DAY)
    gaps = [later - sooner for sooner, later in pairwise(seen)]
    assert all(8 * HOUR <= gap <= 12 * HOUR for gap in gaps)


def test_a_breach_reaches_the_function_in_aws_s_words_once_a_month(account: ServicesAccount) -> None:
    arn = account.function("guard", package(NOTES))
    statement = {
        "Effect": "Allow", "Principal": {"Service": "budgets.amazonaws.com"}, "Action": "SNS:Publish",
        "Resource": TOPIC, "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
    }  # fmt: skip
    sns = account.cloud.client("sns")
    sns.create_topic(Name="budget", Attributes={"Policy": json.dumps({"Statement": [statement]})})
    sns.subscribe(TopicArn=TOPIC, Protocol="lambda", Endpoint=arn)
    account.permit("guard", "sns.amazonaws.com", TOPIC)
    create(account, notification(100, {"SubscriptionType": "SNS", "Address": TOPIC}), notification(80))
    budgets = account.services.budgets
    for bill in (100.0, 151.5, 180.0):
        budgets.figure = lambda bill=bill: bill
        budgets.refresh_now()
        account.clock.run_for(60)
    assert [mail["message"].count("ACTUAL Amount: $151.50") for mail in budgets.outbox] == [1]
    told = [each["record"] for each in account.functions.records]
    assert len(told) == 1
    assert told[0]["Subject"] == "AWS Budgets: inference-budget-dev has exceeded your alert threshold"
    assert told[0]["Message"].startswith("AWS Budget Notification November 01, 2026\nAWS Account 123456789012\n")
    assert "budget is greater than $150.00 for the current month" in told[0]["Message"]
    assert (
        "\nBudgeted Amount: $150.00\nAlert Type: ACTUAL\nAlert Threshold: > $150.00\nACTUAL Amount: $151.50\n"
        in (told[0]["Message"])
    )
    account.clock.run_for(30 * DAY)  # December
    budgets.refresh_now()
    account.clock.run_for(60)
    assert len(account.functions.records) == 2


def test_a_topic_that_does_not_let_budgets_in_costs_the_message(account: ServicesAccount) -> None:
    account.cloud.client("sns").create_topic(Name="budget")
    create(account, notification(100, {"SubscriptionType": "SNS", "Address": TOPIC}))
    account.services.budgets.figure = lambda: 500.0
    account.services.budgets.refresh_now()
    account.services.budgets.refresh_now()
    assert [failure["code"] for failure in account.services.budgets.failed] == ["AuthorizationError"]


def test_a_tag_filter_without_its_prefix_never_sees_a_cent(account: ServicesAccount) -> None:
    client = create(account, notification(80), CostFilters={"TagKeyValue": ["stack$dev"]})
    account.services.budgets.figure = lambda: 500.0
    account.services.budgets.refresh_now()
    assert spend(client) == "0.000"
    client.update_budget(AccountId=ACCOUNT, NewBudget={**BUDGET, "CostFilters": {"TagKeyValue": ["user:stack$dev"]}})
    account.services.budgets.refresh_now()
    assert spend(client) == "500.000"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"BudgetName": "a:b"}, "InvalidParameterException"),
        ({"BudgetName": "a\\b"}, "InvalidParameterException"),
        ({"BudgetLimit": {"Amount": "0", "Unit": "USD"}}, "InvalidParameterException"),
        ({"CostFilters": {"Service": ["x"]}, "Metrics": ["UnblendedCost"]}, "InvalidParameterException"),
    ],
)
def test_budgets_aws_refuses(account: ServicesAccount, change: dict[str, Any], code: str) -> None:
    with refused(code):
        create(account, **change)
    assert account.services.budgets.budgets == {}


def test_the_limits_of_notifications_and_subscribers(account: ServicesAccount) -> None:
    sns = {"SubscriptionType": "SNS", "Address": TOPIC}
    mails = [{"SubscriptionType": "EMAIL", "Address": f"a{i}@example.com"} for i in range(11)]
    with refused("CreationLimitExceededException"):
        create(account, notification(50, sns, {**sns, "Address": TOPIC + "2"}))
    with refused("CreationLimitExceededException"):
        create(account, notification(50, *mails))
    with refused("CreationLimitExceededException"):
        create(account, *[notification(percent) for percent in range(11)])
    with refused("DuplicateRecordException"):
        create(account, notification(50), notification(50))
    with refused("InvalidParameterException", "e-mail"):
        create(account, notification(50, {"SubscriptionType": "EMAIL", "Address": "nobody"}))
    with pytest.raises(NotModelledError, match="monthly cost"):
        create(account, TimeUnit="DAILY")


def test_budgets_read_back_change_and_go(account: ServicesAccount) -> None:
    client = create(account, notification(80), CostTypes={"IncludeCredit": False})
    names = {"AccountId": ACCOUNT, "BudgetName": BUDGET["BudgetName"]}
    budget = client.describe_budget(**names)["Budget"]
    assert BUDGET.items() <= budget.items()
    assert budget["CostTypes"] == {"IncludeCredit": False}
    with refused("DuplicateRecordException"):
        create(account)
    first = notification(80)["Notification"]
    assert client.describe_notifications_for_budget(**names)["Notifications"] == [{**first, "NotificationState": "OK"}]
    new = {"SubscriptionType": "EMAIL", "Address": "b@example.com"}
    client.create_subscriber(**names, Notification=first, Subscriber=new)
    client.update_notification(**names, OldNotification=first, NewNotification={**first, "Threshold": 90.0})
    changed = {**first, "Threshold": 90.0}
    found = client.describe_subscribers_for_notification(**names, Notification=changed)["Subscribers"]
    assert new in found
    client.delete_subscriber(**names, Notification=changed, Subscriber=new)
    client.create_notification(**names, **notification(100))
    client.delete_notification(**names, Notification=changed)
    assert len(client.describe_notifications_for_budget(**names)["Notifications"]) == 1
    arn = f"arn:aws:budgets::{ACCOUNT}:budget/{BUDGET['BudgetName']}"
    client.tag_resource(ResourceARN=arn, ResourceTags=[{"Key": "stack", "Value": "dev"}])
    assert client.list_tags_for_resource(ResourceARN=arn)["ResourceTags"] == [{"Key": "stack", "Value": "dev"}]
    client.delete_budget(**names)
    with refused("NotFoundException"):
        client.describe_budget(**names)


def test_a_role_reads_only_the_budget_it_may_view(account: ServicesAccount) -> None:
    create(account)
    account.role("guard", allow("budgets:ViewBudget", f"arn:aws:budgets::{ACCOUNT}:budget/{BUDGET['BudgetName']}"))
    guard = account.cloud.client("budgets", "guard")
    assert spend(guard) == "0.000"
    with refused("AccessDenied"):
        guard.describe_budget(AccountId=ACCOUNT, BudgetName="other")
