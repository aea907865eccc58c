"""Break one thing and walk on: the demo must fail, and name the promise that broke.

Each sabotage does the fewest steps that can notice it. Nothing but the promises named here may break: so the steps
themselves hold in every other respect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gpufleet.cli import app
from gpufleet.demo import walk as walks
from gpufleet.demo.stage import Stage
from gpufleet.demo.walk import Walk, run_walk

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).parents[2]
REST, JOBS, OVER, ALERT = "at rest", "15 jobs", "over budget", "AWS's alert"

WAKES = "the fleet wakes within seconds of the first message"
COMPLETED = "every job is completed"
BACK = "the fleet goes back to zero"
LOST = "nothing is lost, nothing is billed twice"
HEARD = "the workers' heartbeats tell what they do"
LEDGER = "the guard's ledger is never under the bill"
WATCHED = "the guard watches the budget every minute"
TRIPPED = "the guard stops the fleet before the budget is spent"
MESSAGE = "the AWS Budget's message alone stops the fleet"
STOPPED = "nothing runs soon after the stop"
SUSPENDED = "no group can launch while stopped"
ASLEEP = "the queue still accepts jobs, and nothing wakes for them"
SPARED = "no job is killed by the stop"
SERVED = "jobs accepted while stopped are served after the resume"
CAPPED = "the cap is in both groups"
FAILS = "no function fails"
METERS = "the guard meters from the first minute"

Act = Callable[[Stage], None]


def no_schedule(kind: str) -> Act:
    return lambda stage: stage.client("events").disable_rule(Name=f"inference-{kind}-dev")


def later(seconds: float, act: Act) -> Act:
    def wait(stage: Stage) -> None:
        stage.cloud.clock.after(seconds, act, stage)

    return wait


def deny(role: str, action: str) -> Act:
    def deny(stage: Stage) -> None:
        iam, name = stage.client("iam"), f"inference-{role}-dev"
        document = iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
        kept = [{**one, "Action": [each for each in one["Action"] if each != action]} for one in document["Statement"]]
        assert kept != document["Statement"], f"{name} never had {action}"
        document["Statement"] = [one for one in kept if one["Action"]]
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(document))

    return deny


def no_terminate_hooks(stage: Stage) -> None:
    for group in stage.groups():
        stage.client("autoscaling").delete_lifecycle_hook(
            AutoScalingGroupName=group["AutoScalingGroupName"], LifecycleHookName="inference-terminate-hook"
        )


def larger_groups(stage: Stage) -> None:
    for group in stage.groups():
        stage.client("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName=group["AutoScalingGroupName"], MaxSize=3
        )


class LaunchGoesOn(dict[str, str]):
    """The suspended processes of a group that takes the call and suspends everything but Launch."""

    def setdefault(self, key: str, default: str = "") -> str:
        return default if key == "Launch" else super().setdefault(key, default)


def launch_is_not_suspended(stage: Stage) -> None:
    for group in stage.world.scaling.groups.values():
        group.suspended = LaunchGoesOn(group.suspended)


def meter_counts_next_to_nothing(stage: Stage) -> None:
    functions, name = stage.client("lambda"), stage.outputs["scaleToZeroFunction"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    config = json.loads(variables["FLEET_CONTROL_CONFIG"])
    config["prices_usd_per_hour"] = dict.fromkeys(config["prices_usd_per_hour"], 0.001)
    config["dearest_usd_per_hour"], config["per_boot_usd"] = 0.001, 0.0
    config["fleets"][0]["disk_usd_per_hour"] = 0.0
    environment = {"Variables": {"FLEET_CONTROL_CONFIG": json.dumps(config)}}
    functions.update_function_configuration(FunctionName=name, Environment=environment)


def nobody_hears_the_topic(stage: Stage) -> None:
    sns = stage.client("sns")
    for one in sns.list_subscriptions_by_topic(TopicArn=stage.outputs["budgetTopicArn"])["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])


def queue_is_emptied(stage: Stage) -> None:
    stage.client("sqs").purge_queue(QueueUrl=stage.outputs["queueUrl"])


@dataclass(frozen=True)
class Sabotage:
    """What is done after provisioning, in which step it must be noticed, which promises it breaks, and words that the
    report must have about it. On-demand groups alone (`spot: false`) spend quicker and give the same answers."""

    act: Act
    step: str
    breaks: set[str]
    says: str = ""
    edits: Mapping[str, Any] = field(default_factory=dict)
    may_break: frozenset[str] = frozenset()  # too, if it lasts long enough


SABOTAGES = {
    "no guard from the start": Sabotage(no_schedule("scale-to-zero"), OVER, {WATCHED}, "no figures"),
    "the guard dies under load": Sabotage(
        later(1800, no_schedule("scale-to-zero")), OVER, {TRIPPED, WATCHED}, "latched: False", {"spot": False}
    ),
    "no controller": Sabotage(no_schedule("controller"), JOBS, {WAKES, COMPLETED, BACK}, "no scale-out"),
    "no terminate hooks": Sabotage(no_terminate_hooks, ALERT, {SPARED}, edits={"spot": False}),
    "the heartbeats stop": Sabotage(deny("node", "dynamodb:PutItem"), JOBS, {HEARD}, "0 jobs reported by 0 workers"),
    "the guard may not suspend": Sabotage(
        deny("scale-to-zero", "autoscaling:SuspendProcesses"),
        ALERT,
        {MESSAGE, SUSPENDED},
        "is not authorized to perform: autoscaling:SuspendProcesses",
        may_break=frozenset({ASLEEP}),  # the group brings a new instance for the one that has gone
    ),
    "Launch cannot be suspended": Sabotage(
        launch_is_not_suspended,
        ALERT,
        {MESSAGE, SUSPENDED},
        "Launch does not read back as suspended",
        may_break=frozenset({ASLEEP}),
    ),
    "the meter counts next to nothing": Sabotage(meter_counts_next_to_nothing, JOBS, {LEDGER}),
    "nobody hears the topic": Sabotage(
        nobody_hears_the_topic, ALERT, {MESSAGE, STOPPED, SUSPENDED, ASLEEP}, "no latch"
    ),
    "the controller may not resume": Sabotage(
        deny("controller", "autoscaling:ResumeProcesses"),
        ALERT,
        {SERVED},
        "still open, 0 running",
        may_break=frozenset({FAILS}),  # a run whose looks all fail ends as an error
    ),
    "the queue is emptied": Sabotage(later(240, queue_is_emptied), JOBS, {COMPLETED, LOST}, "15 lost"),
    "a group is larger than the cap": Sabotage(larger_groups, REST, {CAPPED}, "max [3]"),
}


@pytest.mark.parametrize("name", SABOTAGES)
@pytest.mark.long
def test_sabotage_breaks_the_promise_it_concerns_and_no_other(name: str) -> None:
    sabotage = SABOTAGES[name]
    only = frozenset({"provision", sabotage.step})
    outcome = run_walk(Walk(ROOT, edits=sabotage.edits, only=only, sabotage=sabotage.act))
    assert not outcome.ok
    assert {check.promise for check in outcome.report.broken} - sabotage.may_break == sabotage.breaks
    assert sabotage.says in " ".join(check.seen for check in outcome.report.broken)
    assert all(check.expected and check.seen and check.where for check in outcome.report.broken)


def test_a_broken_promise_ends_the_command_with_status_1_and_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    act, only = no_schedule("scale-to-zero"), frozenset({"provision", REST, JOBS})
    monkeypatch.setattr(walks, "Walk", lambda **given: Walk(**given, only=only, sabotage=act))
    monkeypatch.chdir(ROOT)
    picture = tmp_path / "timeline.svg"
    done = CliRunner().invoke(app, ["demo", "--plot", str(picture)])
    assert (done.exit_code, done.stderr) == (1, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    told = lines[lines.index("FAILED") :]
    assert told[:5] == [
        "FAILED",
        f"promise   {METERS}",
        "expected  figures of this month",
        "seen      none",
        "look at   log group /aws/lambda/inference-scale-to-zero-dev",
    ]
    assert told[-1] == "1 promise broken"
    assert not any(line.startswith("3 15 jobs") for line in lines)  # what follows would only repeat it
    assert picture.read_text().startswith("<?xml")
