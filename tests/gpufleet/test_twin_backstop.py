"""The backstop on the real program: a dead controller's jobs are served by one instance, which goes home by itself; and
nothing is launched that a living controller, a stop, a silent meter or the budget forbid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpufleet.demo.stage import Stage

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

ROOT = Path(__file__).parents[2]
MINUTE, HOUR = 60.0, 3600.0
ALARM, PEOPLE = "inference-backstop-dev", "ml-oncall@example.com"
EDITS = {"alertEmails": [PEOPLE], "maxGpuInstances": 3, "monthlyBudgetUsd": 400}


def provisioned(**edits: Any) -> Stage:
    """A stack whose controller has run for five minutes."""
    stage = Stage(ROOT, "dev", {**EDITS, **edits}, "us-east-1", 1)
    stage.up()
    stage.watch()
    stage.world.services.sns.confirm(PEOPLE)
    stage.world.run_for(5 * MINUTE)
    return stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with provisioned() as stage:
        yield stage


def schedule(stage: Stage, kind: str, *, on: bool) -> None:
    events = stage.client("events")
    (events.enable_rule if on else events.disable_rule)(Name=f"inference-{kind}-dev")


def configure(stage: Stage, kind: str, change: Callable[[dict[str, Any]], Any]) -> None:
    functions, name = stage.client("lambda"), f"inference-{kind}-dev"
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    config = json.loads(variables["FLEET_CONTROL_CONFIG"])
    change(config)
    environment = {"Variables": {"FLEET_CONTROL_CONFIG": json.dumps(config)}}
    functions.update_function_configuration(FunctionName=name, Environment=environment)


def no_schedule(stage: Stage) -> None:
    """The controller's last run ends, and nobody hears of it for long enough."""
    schedule(stage, "controller", on=False)
    stage.world.run_for(15 * MINUTE)


def no_configuration(stage: Stage) -> None:
    """Every run fails at once."""
    configure(stage, "controller", lambda config: config.pop("queue_url"))
    stage.world.run_for(15 * MINUTE)


def send(stage: Stage, count: int = 3, service_s: float = 20.0) -> None:
    stage.world.traffic.send(stage.outputs["queueUrl"], count, service_s=service_s)


def launches(stage: Stage) -> list[tuple[str, str]]:
    """(group, cause) of every launch, oldest first."""
    found = [
        (activity.started, group.name, activity.cause)
        for group in stage.world.scaling.groups.values()
        for activity in group.activities
        if activity.description.startswith("Launching")
    ]
    return [(name, cause) for _, name, cause in sorted(found)]


def fired(stage: Stage) -> list[float]:
    """When the alarm went on."""
    history = stage.world.services.cloudwatch.history
    return [entry["at"] for entry in history if entry["alarm"] == ALARM and entry["new"] == "ALARM"]


def served(stage: Stage) -> bool:
    account = stage.world.account()
    return len(account.completed) == len(account.sent)


def empty(stage: Stage) -> bool:
    return not stage.running() and not any(stage.world.snapshot().desired.values())


def stop_by_hand(stage: Stage) -> None:
    row = {"pk": {"S": "latch"}, "latched": {"BOOL": True}, "reason": {"S": "manual"}, "generation": {"N": "1"}}
    row |= {"at": {"N": str(stage.now())}, "by": {"S": "test"}, "month": {"S": "2026-11"}, "note": {"S": ""}}
    stage.client("dynamodb").put_item(TableName=stage.outputs["controlTable"], Item=row)


@pytest.mark.parametrize("dies", [no_schedule, no_configuration])
def test_a_dead_controller_s_jobs_are_served_by_one_instance_which_then_goes_home(
    stage: Stage, dies: Callable[[Stage], None], subtests: pytest.Subtests
) -> None:
    world = stage.world
    with subtests.test("a living controller needs no backstop"):
        send(stage)
        assert world.run_until(lambda: served(stage) and empty(stage), limit_s=2 * HOUR)
        assert fired(stage) == []
    before = len(launches(stage))

    with subtests.test("a dead one is no harm while no job waits"):
        dies(stage)
        assert (fired(stage), len(launches(stage))) == ([], before)
    with subtests.test("one instance is launched when a job has waited for its target"):
        sent_at = world.now()
        send(stage)
        assert world.run_until(lambda: served(stage), limit_s=HOUR)
        (launch,) = launches(stage)[before:]
        assert launch[0] == "inference-asg-dev"
        assert f"a monitor alarm triggered policy {ALARM} changing the desired capacity from 0 to 1" in launch[1]
        (fired_at,) = fired(stage)
        assert 5 * MINUTE < fired_at - sent_at < 8 * MINUTE
    with subtests.test("people are told"):
        assert f'ALARM: "{ALARM}" in us-east-1' in [mail["subject"] for mail in world.services.sns.outbox]
    with subtests.test("it goes home after ten minutes without a job"):
        done_at = world.now()
        assert world.run_until(lambda: empty(stage), limit_s=HOUR)
        assert 10 * MINUTE < world.now() - done_at < 15 * MINUTE
        assert [one["record"]["idle_s"] for one in world.logs if one["record"].get("event") == "unattended"] == [600]
        assert world.account().in_order
        assert world.work_killed_s == 0


def test_after_a_night_without_jobs_it_wakes_late_and_stopped_it_does_not_wake(
    stage: Stage, subtests: pytest.Subtests
) -> None:
    world = stage.world
    no_schedule(stage)
    with subtests.test("nobody touches the queue: SQS takes up to 15 minutes to publish metrics again"):
        world.run_for(8 * HOUR)
        sent_at = world.now()
        send(stage)
        assert world.run_until(lambda: bool(launches(stage)), limit_s=HOUR)
        assert world.now() - sent_at <= 17 * MINUTE
        assert world.run_until(lambda: served(stage) and empty(stage), limit_s=HOUR)
    before, fires = len(launches(stage)), len(fired(stage))
    with subtests.test("a stopped fleet stays stopped"):
        stop_by_hand(stage)
        send(stage)
        world.run_for(HOUR)
        assert len(fired(stage)) == fires
    with subtests.test("even if the alarm does fire"):
        for group in stage.groups():
            suspended = {process["ProcessName"] for process in group["SuspendedProcesses"]}
            assert {"Launch", "AlarmNotification"} <= suspended
        watch = stage.client("cloudwatch")
        watch.set_alarm_state(AlarmName=ALARM, StateValue="ALARM", StateReason="somebody tries it out")
        assert not any(world.snapshot().desired.values()), "the alarm asks for nothing"
        world.run_for(10 * MINUTE)
        assert world.services.cloudwatch.failed_actions == []
        assert (len(launches(stage)), empty(stage)) == (before, True)


def test_nothing_is_launched_without_the_guard_s_word(stage: Stage, subtests: pytest.Subtests) -> None:
    world = stage.world
    schedule(stage, "scale-to-zero", on=False)
    no_schedule(stage)
    send(stage)
    with subtests.test("the meter is silent"):
        world.run_for(HOUR)
        assert (fired(stage), launches(stage)) == ([], [])
    with subtests.test("the budget has no room, and without a controller nobody says that jobs wait: no latch is set"):
        figures = stage.figures()
        room = figures["spent_usd"] + figures["committed_usd"] + figures["launch_usd"] / 2
        configure(stage, "scale-to-zero", lambda config: config.update(monthly_usd=room))
        schedule(stage, "scale-to-zero", on=True)
        world.run_for(HOUR)
        assert 0 < stage.figures()["headroom_usd"] < figures["launch_usd"]
        assert not stage.latch().get("latched")
        assert (fired(stage), launches(stage)) == ([], [])
    with subtests.test("with both there again, it is"):
        configure(stage, "scale-to-zero", lambda config: config.update(monthly_usd=400.0))
        assert world.run_until(lambda: served(stage), limit_s=HOUR)
        assert (len(fired(stage)), len(launches(stage))) == (1, 1)


def test_nodes_of_a_controller_that_dies_at_work_finish_and_go_home(stage: Stage) -> None:
    world = stage.world
    send(stage, 40, service_s=200)
    assert world.run_until(lambda: stage.at_work() > 8, limit_s=HOUR), "more than one instance works"
    no_schedule(stage)
    assert world.run_until(lambda: served(stage), limit_s=2 * HOUR)
    assert world.run_until(lambda: empty(stage), limit_s=HOUR)
    assert world.account().in_order
    assert world.work_killed_s == 0
    assert fired(stage) == []


def test_a_controller_that_lives_and_holds_is_not_helped(stage: Stage) -> None:
    """No instance boots, so it stopped trying: both groups are at zero, and jobs wait longer than promised."""
    stage.world.fail_next_boots(1000)
    send(stage)
    stage.world.run_for(3 * HOUR)
    assert not any(stage.world.snapshot().desired.values())
    assert len(launches(stage)) <= 6
    assert fired(stage) == []


def test_a_controller_that_comes_back_takes_over(stage: Stage) -> None:
    """It finds one instance wanted and adds what it needs; neither side takes back what the other did."""
    world = stage.world
    no_schedule(stage)
    send(stage, 60, service_s=200)
    assert world.run_until(lambda: bool(launches(stage)), limit_s=HOUR)
    schedule(stage, "controller", on=True)
    wanted: list[int] = []
    while not served(stage):
        world.run_for(MINUTE)
        wanted.append(sum(world.snapshot().desired.values()))
        assert len(wanted) < 120
        assert stage.running() <= 3
    rises = wanted[: wanted.index(max(wanted)) + 1]
    assert rises == sorted(rises)
    assert max(wanted) > 1
    assert world.run_until(lambda: empty(stage), limit_s=HOUR)
    assert world.account().in_order
