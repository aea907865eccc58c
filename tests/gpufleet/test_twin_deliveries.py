"""Messages and events on their way: lost, late, twice; and EC2's changes of state reach a rule of the guard's kind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from twin_account import Account
from twin_services import START, ServicesAccount, package

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.world import World

TELLS = """
    from . import runtime
    def handler(event, context):
        runtime.log({"event": event})
"""
STATES = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Instance State-change Notification"],
    "detail": {"state": ["running", "shutting-down", "stopping", "terminated"]},
}


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        account = ServicesAccount(cloud)
        arn = account.function("guard", package(TELLS))
        sns = cloud.client("sns")
        topic = sns.create_topic(Name="alerts")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
        account.permit("guard", "sns.amazonaws.com", topic)
        yield account


def publish(account: ServicesAccount, times: int) -> None:
    topic = next(iter(account.services.sns.topics))
    for number in range(times):
        account.cloud.client("sns").publish(TopicArn=topic, Message=str(number))
    account.clock.run_for(1)


def heard(account: ServicesAccount) -> list[str]:
    return [one["record"]["event"]["Records"][0]["Sns"]["Message"] for one in account.functions.records]


def test_deliveries_come_once_and_at_once_unless_spoiled(account: ServicesAccount) -> None:
    publish(account, 5)
    assert heard(account) == ["0", "1", "2", "3", "4"]
    assert account.services.sns.undelivered == []


def test_a_lost_delivery_never_comes_and_is_told(account: ServicesAccount) -> None:
    account.services.sns.loss_probability = 1.0
    publish(account, 2)
    account.clock.run_for(86_400)
    assert heard(account) == []
    assert [each["code"] for each in account.services.sns.undelivered] == ["Lost", "Lost"]


def test_a_duplicate_comes_with_the_same_id(account: ServicesAccount) -> None:
    account.services.sns.duplicate_probability = 1.0
    publish(account, 1)
    ids = [one["record"]["event"]["Records"][0]["Sns"]["MessageId"] for one in account.functions.records]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_a_late_delivery_comes_late_and_may_be_overtaken(account: ServicesAccount) -> None:
    delays = iter([7200.0, 60.0])
    account.services.sns.delay_s = lambda: next(delays)
    publish(account, 2)
    account.clock.run_for(3600)
    assert heard(account) == ["1"]
    account.clock.run_for(3601)
    assert heard(account) == ["1", "0"]


def test_mails_are_not_spoiled(account: ServicesAccount) -> None:
    sns, topic = account.cloud.client("sns"), next(iter(account.services.sns.topics))
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="a@example.com")
    account.services.sns.confirm("a@example.com")
    account.services.sns.loss_probability = 1.0
    publish(account, 1)
    assert [mail["message"] for mail in account.services.sns.outbox][-1] == "0"


@pytest.fixture
def fleet() -> Iterator[tuple[World, Account]]:
    """A world with a group, and a function behind a rule for changes of state."""
    with Cloud(START, seed=1) as cloud:
        world = World(cloud)
        services = ServicesAccount(cloud, world.services)
        arn = services.function("guard", package(TELLS))
        events = cloud.client("events")
        rule = events.put_rule(Name="instance-states", EventPattern=json.dumps(STATES))["RuleArn"]
        events.put_targets(Rule="instance-states", Targets=[{"Id": "1", "Arn": arn}])
        services.permit("guard", "events.amazonaws.com", rule)
        yield world, Account(cloud, world)


def states(world: World) -> list[tuple[str, str]]:
    events = [one["record"]["event"] for one in world.services.functions.records]
    return [(event["detail"]["instance-id"], event["detail"]["state"]) for event in events]


def test_an_instance_s_life_reaches_the_rule(fleet: tuple[World, Account]) -> None:
    world, account = fleet
    account.make_group(DesiredCapacity=1)
    world.run_for(60)
    (instance,) = account.ids()
    account.terminate(instance)
    world.run_for(120)
    assert states(world) == [(instance, "running"), (instance, "shutting-down"), (instance, "terminated")]
    event = world.services.functions.records[0]["record"]["event"]
    assert event["detail-type"] == "EC2 Instance State-change Notification"
    assert event["resources"] == [f"arn:aws:ec2:us-east-1:123456789012:instance/{instance}"]


def test_events_of_services_may_be_lost(fleet: tuple[World, Account]) -> None:
    world, account = fleet
    world.services.events.loss_probability = 1.0
    account.make_group(DesiredCapacity=1)
    world.run_for(60)
    assert account.running()
    assert states(world) == []
