"""Schedules fire somewhere in their minute, now and then not at all; a missing permission delivers nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from twin_services import ACCOUNT, START, ServicesAccount, package, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.services.schedules import Cron, matches, parse_pattern, parse_schedule

NOTES = """
    from . import runtime
    def handler(event, context):
        runtime.log({"event": event})
"""


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        account = ServicesAccount(cloud)
        account.function("tick", package(NOTES))
        yield account


def aim(account: ServicesAccount, rule: str, *, permit: bool = True, **target: Any) -> Any:
    events = account.cloud.client("events")
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:tick"
    events.put_targets(Rule=rule, Targets=[{"Id": "t", "Arn": arn, **target}])
    if permit:
        account.permit("tick", "events.amazonaws.com", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/{rule}")
    return events


def fired(account: ServicesAccount) -> list[float]:
    return [each["at"] - START for each in account.functions.records]


def test_a_rate_fires_once_a_period_at_its_own_second(account: ServicesAccount) -> None:
    account.cloud.client("events").put_rule(Name="each-minute", ScheduleExpression="rate(1 minute)")
    aim(account, "each-minute")
    account.clock.run_for(3600)
    at = fired(account)
    assert 59 <= len(at) <= 61
    gaps = [later - sooner for sooner, later in pairwise(at)]
    assert all(58 <= gap <= 62 for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 10  # jitter
    event = account.functions.records[0]["record"]["event"]
    assert event["detail-type"] == "Scheduled Event"
    assert event["resources"] == [f"arn:aws:events:us-east-1:{ACCOUNT}:rule/each-minute"]


def test_a_schedule_is_now_and_then_dropped_or_doubled(account: ServicesAccount) -> None:
    account.cloud.client("events").put_rule(Name="m", ScheduleExpression="rate(1 minute)")
    aim(account, "m")
    account.services.events.drop_probability = 0.5
    account.clock.run_for(200 * 60)
    assert 60 < len(fired(account)) < 140
    account.functions.records.clear()
    account.services.events.drop_probability, account.services.events.double_probability = 0.0, 1.0
    account.clock.run_for(20 * 60)
    assert 38 <= len(fired(account)) <= 42


def test_the_input_of_a_target_replaces_the_event(account: ServicesAccount) -> None:
    account.cloud.client("events").put_rule(Name="m", ScheduleExpression="rate(5 minutes)")
    aim(account, "m", Input=json.dumps({"tick": True}))
    account.clock.run_for(61)
    assert [each["record"]["event"] for each in account.functions.records] == [{"tick": True}]


def test_without_the_function_s_permission_nothing_is_invoked_and_the_failure_counts(account: ServicesAccount) -> None:
    account.cloud.client("events").put_rule(Name="m", ScheduleExpression="rate(1 minute)")
    aim(account, "m", permit=False)
    account.permit("tick", "events.amazonaws.com", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/another")
    account.clock.run_for(120)
    assert fired(account) == []
    assert {each["code"] for each in account.services.events.undelivered} == {"AccessDeniedException"}
    watch = account.services.cloudwatch
    assert watch.latest("AWS/Events", "FailedInvocations", {"RuleName": "m"}) == 1


def test_undelivered_events_go_to_the_target_s_dead_letter_queue_if_its_policy_lets_them(
    account: ServicesAccount,
) -> None:
    url, arn = account.queue("letters"), f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"
    account.cloud.client("events").put_rule(Name="m", ScheduleExpression="rate(1 hour)")
    aim(account, "m", permit=False, DeadLetterConfig={"Arn": arn}, Input='{"n": 1}')
    account.clock.run_for(61)
    assert account.bodies(url) == []
    statement = {
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": arn,
    }  # fmt: skip
    account.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": statement})})
    account.clock.run_for(3600)
    assert account.bodies(url) == ['{"n": 1}']


def test_a_disabled_rule_is_silent_until_it_is_enabled(account: ServicesAccount) -> None:
    events = account.cloud.client("events")
    events.put_rule(Name="m", ScheduleExpression="rate(1 minute)", State="DISABLED")
    aim(account, "m")
    account.clock.run_for(600)
    assert fired(account) == []
    events.enable_rule(Name="m")
    account.clock.run_for(61)
    assert len(fired(account)) == 1
    events.disable_rule(Name="m")
    account.clock.run_for(600)
    assert len(fired(account)) == 1


def test_service_events_reach_the_rules_whose_pattern_matches(account: ServicesAccount) -> None:
    pattern = {"source": ["aws.ec2"], "detail": {"instance-id": [{"prefix": "i-0"}], "state": ["running", "stopped"]}}
    account.cloud.client("events").put_rule(Name="m", EventPattern=json.dumps(pattern))
    aim(account, "m")
    for instance, state in (("i-01", "running"), ("i-11", "running"), ("i-02", "pending")):
        account.services.events.emit("aws.ec2", "Instance State-change", {"instance-id": instance, "state": state})
    account.services.events.emit("aws.ecs", "x", {"instance-id": "i-01", "state": "running"})
    account.clock.run_for(1)
    assert [r["record"]["event"]["detail"]["instance-id"] for r in account.functions.records] == ["i-01"]


def test_rules_and_targets_read_back_and_go(account: ServicesAccount) -> None:
    events = account.cloud.client("events")
    tags = [{"Key": "stack", "Value": "dev"}]
    arn = events.put_rule(Name="m", ScheduleExpression="rate(1 minute)", Description="each minute", Tags=tags)[
        "RuleArn"
    ]
    aim(account, "m", RetryPolicy={"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 60})
    assert events.describe_rule(Name="m")["Description"] == "each minute"
    assert events.list_targets_by_rule(Rule="m")["Targets"][0]["RetryPolicy"]["MaximumRetryAttempts"] == 1
    assert events.list_tags_for_resource(ResourceARN=arn)["Tags"] == tags
    with refused("ValidationException", "has targets"):
        events.delete_rule(Name="m")
    events.remove_targets(Rule="m", Ids=["t"])
    events.delete_rule(Name="m")
    with refused("ResourceNotFoundException"):
        events.describe_rule(Name="m")
    account.clock.run_for(300)
    assert fired(account) == []


@pytest.mark.parametrize(
    "expression",
    ["rate(1 minutes)", "rate(5 minute)", "rate(0 minutes)", "rate(1 week)", "cron(0 8 * * * *)", "cron(0 8 ? * ? *)",
     "cron(60 8 * * ? *)", "cron(0 8 * *)", "every minute"],
)  # fmt: skip
def test_schedules_eventbridge_refuses(account: ServicesAccount, expression: str) -> None:
    with refused("ValidationException"):
        account.cloud.client("events").put_rule(Name="m", ScheduleExpression=expression)


def test_patterns_and_targets_refused(account: ServicesAccount) -> None:
    events = account.cloud.client("events")
    for pattern in ("{", "{}", '{"source": "aws.ec2"}'):
        with refused("InvalidEventPatternException"):
            events.put_rule(Name="m", EventPattern=pattern)
    with pytest.raises(NotModelledError, match="exists"):
        events.put_rule(Name="m", EventPattern='{"detail": {"x": [{"exists": true}]}}')
    events.put_rule(Name="m", ScheduleExpression="rate(1 minute)")
    with pytest.raises(NotModelledError, match="arn:aws:sqs"):
        events.put_targets(Rule="m", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:x"}])
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:tick"
    with pytest.raises(NotModelledError, match="InputPath"):
        events.put_targets(Rule="m", Targets=[{"Id": "t", "Arn": arn, "InputPath": "$.detail"}])


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("cron(0 8 * * ? *)", "2026-11-01T12:00", "2026-11-02T08:00"),
        ("cron(0/15 8-17 ? * MON-FRI *)", "2026-11-06T17:50", "2026-11-09T08:00"),
        ("cron(30 4 1 * ? *)", "2026-11-01T04:30", "2026-12-01T04:30"),
        ("cron(0 0 ? FEB 1 2027)", "2026-11-01T00:00", "2027-02-07T00:00"),
    ],
)
def test_cron(expression: str, after: str, expected: str) -> None:
    schedule = parse_schedule(expression)
    assert isinstance(schedule, Cron)
    found = schedule.next(datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp())
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%dT%H:%M") == expected


def test_a_pattern_matches_arrays_by_any_element() -> None:
    pattern = parse_pattern('{"resources": ["a", {"prefix": "arn:x"}]}')
    assert matches(pattern, {"resources": ["z", "arn:x:1"]})
    assert not matches(pattern, {"resources": ["z"]})
    assert not matches(pattern, {})
    assert not matches(parse_pattern('{"detail": {"n": [1]}}'), {"detail": {"n": True}})
