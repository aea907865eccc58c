"""Edits of a living stack by the real engine: what a plan may touch, how new user data reaches the fleet, what a secret
stays, and how something that exists is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from desk import ROOT, Desk, Done
from running import HOUR, STACK, beside, configure, deployed, groups, in_service, served

from components.settings import Settings

pytestmark = pytest.mark.engine

CAP, FLOOR = 3, 2
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
BASE: dict[str, Any] = {
    "maxGpuInstances": CAP,
    "monthlyBudgetUsd": 3000,
    "schedule": [{"days": WEEK, "from": "00:00", "to": "00:00", "timeZone": "UTC", "floor": FLOOR}],
}


def test_edits_of_a_living_stack(desk: Desk, tmp_path: Path, subtests: pytest.Subtests) -> None:
    outputs = deployed(desk, BASE)
    stack_file = desk.project / f"Pulumi.{STACK}.yaml"
    before = stack_file.read_text()
    for plan in PLANS:
        with subtests.test("no setting replaces what holds jobs, results or instances", keys=", ".join(plan.edits)):
            configure(desk, plan.edits)
            assert lost(desk.preview(STACK)) == plan.gone
        stack_file.write_text(before)
    with subtests.test("a secret setting is refused, and not written down anywhere"):
        refuses_a_secret(desk, tmp_path)
    stack_file.write_text(before)
    with subtests.test("new user data reaches the fleet one by one"):
        new_user_data(desk, outputs)
    with subtests.test("the drain time reaches the hooks of both groups"):
        new_drain_time(desk, outputs)


# -- plans ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Config `edits` previewed together, and what is meant to go by them (names as in `Done.changes`)."""

    edits: Mapping[str, Any]
    gone: frozenset[str] = frozenset()


HOLDING = ("sqs/queue:Queue", "dynamodb/table:Table", "s3/bucket:Bucket", "autoscaling/group:Group")
PLANS = (
    Plan(
        {
            "maxGpuInstances": 7,
            "monthlyBudgetUsd": 900,
            "alertEmails": ["someone@example.com"],
            "gpuInstanceTypes": ["g6e.xlarge"],
            "floor": 1,
            "waitTargetSeconds": 60,
            "drainSeconds": 600,
            "budgetWarnPercent": 50,
            "ami": "ami-0aaaaaaaaaaaaaaaa",
            "resumeOnNewMonth": False,
            "dedicatedAccount": True,
            "permissionsBoundary": "arn:aws:iam::123456789012:policy/boundary",
            "tags": {"team": "ml"},
            "schedule": [{"days": ["mon"], "from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin", "floor": 1}],
            "advanced": {
                "expectedServiceSeconds": 30,
                "coldStartSeconds": 200,
                "jobTimeoutSeconds": 800,
                "bootDeadlineSeconds": 800,
                "leaseSeconds": 240,
                "maxReceiveCount": 20,
                "diskGib": 300,
                "logRetentionDays": 90,
                "sessionManager": True,
                "dryRun": True,
                "reconcileDaily": False,
            },
            "model": {
                "weights": "s3://acme-models-dev/another/",
                "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "0" * 64,
                "serverArgs": ["--seed", "1"],
                "slots": 4,
                "port": 8001,
                "parametersBillions": 4,
                "dtype": "float16",
            },
        }
    ),
    # A pool that is switched off is a group less; what else holds something stays.
    Plan(
        {"network": {"vpcId": "vpc-01234567", "privateSubnetIds": ["subnet-01234567"]}, "spot": False},
        gone=frozenset({"Group inference-asg-spot"}),
    ),
    Plan(
        {
            "onDemandBase": 1,
            "capacityReservation": {"id": "cr-0123456789abcdef0", "instanceType": "g5.xlarge", "instances": 1},
        }
    ),
    Plan({"onDemandFallback": False}, gone=frozenset({"Group inference-asg-on-demand"})),
)
NOT_EDITED = {
    "cloud": "aws is the only one so far",
    "aws:region": "another region is another fleet: everything is new there, and stays here until it is destroyed",
}


def test_every_setting_of_the_schema_is_edited() -> None:
    settings = Settings.from_stack_file(ROOT / f"Pulumi.{STACK}.yaml", overrides=BASE).model_dump(by_alias=True)
    edited = {key: value for plan in PLANS for key, value in leaves(plan.edits)}
    assert edited.keys() | NOT_EDITED.keys() == settable()
    for key, value in edited.items():
        assert value != dict(leaves(settings)).get(key), f"{key} is edited to what it is"


def settable() -> set[str]:
    """Every key of a stack file, dots for what is nested, as editors are told."""
    schema = json.loads((ROOT / "schemas/stack.schema.json").read_text())

    def below(path: str, node: Any) -> Iterator[str]:
        inner = re.search(r'"#/\$defs/(\w+)"', json.dumps(node))
        if inner is None:
            yield path
        else:
            for key, value in schema["$defs"][inner[1]]["properties"].items():
                yield from below(f"{path}.{key}", value)

    keys = schema["properties"]["config"]["properties"].items()
    return {leaf for key, node in keys for leaf in below(key.removeprefix("gpu-inference:"), node)}


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their key; of a list of maps, the first one's. Tags are one setting."""
    for key, value in values.items():
        items = list(value) if isinstance(value, list | tuple) else [value]
        if items and isinstance(items[0], Mapping) and key != "tags":
            yield from leaves(items[0], f"{path}{key}.")
        else:
            yield f"{path}{key}", items


def lost(done: Done) -> set[str]:
    """What holds something and would be deleted or replaced."""
    return {
        f"{step.type.rsplit(':', 1)[-1]} {step.name}"
        for step in done.steps
        if step.op in ("delete", "replace") and step.type.removeprefix("aws:") in HOLDING
    }


# -- user data and drain time -----------------------------------------------------------------------------------------

VERSION = ("mixedInstancesPolicy.launchTemplate.launchTemplateSpecification.version",)


def new_user_data(desk: Desk, outputs: Mapping[str, Any]) -> None:
    world, template = desk.world, desk.client("ec2").describe_launch_templates
    world.traffic.send(outputs["queueUrl"], 16, service_s=100)
    assert world.run_until(lambda: len(in_service(desk)) == FLOOR and not world.snapshot().backlog, limit_s=HOUR)
    script = desk.project / "bootstrap/node/user_data.sh"
    script.write_text(script.read_text().replace("umask 022\n", "umask 027\n", 1))
    (before,) = template()["LaunchTemplates"]

    edit = desk.up(STACK)
    assert edit.changes == {
        "LaunchTemplate inference-node": ("update", ("userData",)),
        "Group inference-asg-spot": ("update", VERSION),
        "Group inference-asg-on-demand": ("update", VERSION),
    }
    (after,) = template()["LaunchTemplates"]
    assert after["LaunchTemplateId"] == before["LaunchTemplateId"]
    assert (before["LatestVersionNumber"], after["LatestVersionNumber"], after["DefaultVersionNumber"]) == (1, 2, 2)

    old = set(in_service(desk))
    assert world.snapshot().in_flight == 16, "the edit is to find the instances at work"
    assert world.run_until(lambda: rolled_over(desk, old, outputs), limit_s=HOUR)
    assert {versions(desk)[one] for one in in_service(desk)} == {"2"}
    assert served(desk)
    account = world.account()
    assert account.in_order
    assert account.completed == account.sent
    assert world.work_killed_s == 0
    assert world.services.functions.failures == []


def rolled_over(desk: Desk, old: set[str], outputs: Mapping[str, Any]) -> bool:
    """Looked at every ten seconds: what must hold on the way. True once no old instance is left."""
    states = {one.id: desk.world.state_of(one) for one in desk.world.instances()}
    assert len(states) <= CAP, f"more than the cap: {states}"
    assert list(states.values()).count("InService") >= FLOOR, f"less than the floor: {states}"
    assert sum(states[one] != "InService" for one in old & states.keys()) <= 1, f"old ones leave together: {states}"
    if int(desk.world.now()) % 120 < 10:
        desk.world.traffic.send(outputs["queueUrl"], 2, service_s=20)  # the fleet is never wholly idle for long
    return not old & states.keys() and served(desk)


def versions(desk: Desk) -> dict[str, str]:
    """The launch template's version of each instance, as its group shows it."""
    found = desk.client("autoscaling").describe_auto_scaling_instances()["AutoScalingInstances"]
    return {one["InstanceId"]: one["LaunchTemplate"]["Version"] for one in found}


def new_drain_time(desk: Desk, outputs: Mapping[str, Any]) -> None:
    configure(desk, {"drainSeconds": 480})
    edit = desk.up(STACK)
    hooks = {name: change for name, change in edit.changes.items() if name.startswith("LifecycleHook")}
    assert hooks == {
        f"LifecycleHook inference-terminate-hook-{pool}": ("update", ("heartbeatTimeout",))
        for pool in ("spot", "on-demand")
    }
    for group in groups(desk, outputs):
        name = group["AutoScalingGroupName"]
        found = desk.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"]
        timeouts = {hook["LifecycleTransition"].rsplit("_", 1)[-1]: hook["HeartbeatTimeout"] for hook in found}
        assert timeouts == {"LAUNCHING": 960, "TERMINATING": 540}, name  # a minute more than the node's own time


# -- secrets ----------------------------------------------------------------------------------------------------------

PASSWORD, NOTE = "hunter2", "correct-horse"


def refuses_a_secret(desk: Desk, folder: Path) -> None:
    desk.pulumi("config", "set", "--stack", STACK, "--secret", "alertEmails", f'["{PASSWORD}@example.com"]')
    refused = desk.pulumi("preview", "--stack", STACK, code=None)
    assert refused.code
    told = refused.out + refused.err
    assert "must be plain: settings hold no secrets and are checked before use" in told
    assert "pulumi config set --plaintext gpu-inference:alertEmails" in told
    assert PASSWORD not in told
    assert files_with(PASSWORD, folder) == []


def files_with(word: str, folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if word.encode() in path.read_bytes()]


SMALL = """
import pulumi, pulumi_aws as aws
config = pulumi.Config()
provider = aws.Provider("aws", region="us-east-1")
hidden = {"password": pulumi.Output.secret("hunter2"), "note": config.require_secret("note"), "team": "ml"}
queue = aws.sqs.Queue("hidden", name="hidden", tags=hidden, opts=pulumi.ResourceOptions(provider=provider))
pulumi.export("tags", queue.tags_all)
"""


def test_secrets_stay_secret_in_the_state(desk: Desk, tmp_path: Path) -> None:
    small = beside(desk, tmp_path / "small", "small", SMALL)
    small.pulumi("stack", "init", "small")
    small.pulumi("config", "set", "--stack", "small", "--secret", "note", NOTE)
    made = small.up("small")
    again = small.up("small", "--refresh")
    assert again.changes == {}

    (url,) = desk.client("sqs").list_queues(QueueNamePrefix="hidden")["QueueUrls"]
    tags = {"password": PASSWORD, "note": NOTE, "team": "ml"}
    assert desk.client("sqs").list_queue_tags(QueueUrl=url)["Tags"] == tags, "the cloud gets what was meant"
    assert small.outputs("small")["tags"] == tags
    exported = small.pulumi("stack", "export", "--stack", "small").out
    shown = small.pulumi("stack", "export", "--show-secrets", "--stack", "small").out
    for word in (PASSWORD, NOTE):
        assert files_with(word, tmp_path / "cli" / "state") == []
        assert word not in exported + made.out + again.out
        assert word in shown
    assert '"team": "ml"' in exported, "only what is secret is hidden"


# -- imports ----------------------------------------------------------------------------------------------------------

ADOPTING = """
import pulumi, pulumi_aws as aws
provider = aws.Provider("aws", region="us-east-1")
for name, own in pulumi.Config().require_object("queues").items():
    url = f"https://sqs.us-east-1.amazonaws.com/123456789012/{name}"
    opts = pulumi.ResourceOptions(provider=provider, import_=url, retain_on_delete=name == "kept")
    aws.sqs.Queue(name, name=own["name"], visibility_timeout_seconds=own["visibility"], tags={"team": "ml"}, opts=opts)
"""


def test_existing_queues_are_imported(desk: Desk, tmp_path: Path) -> None:
    sqs = desk.client("sqs")
    # The provider asks for 256 KiB where a program says nothing; AWS's own default is larger.
    given = {"VisibilityTimeout": "77", "MaximumMessageSize": "262144"}
    kept, taken = (
        sqs.create_queue(QueueName=name, Attributes=given, tags={"team": "ml"})["QueueUrl"]
        for name in ("kept", "taken")
    )
    before = attributes_of(sqs, kept)
    small = beside(desk, tmp_path / "small", "small", ADOPTING)
    small.pulumi("stack", "init", "small")
    salt = (small.project / "Pulumi.small.yaml").read_text()

    def program_says(**queues: Any) -> None:
        (small.project / "Pulumi.small.yaml").write_text(f"{salt}\nconfig: {json.dumps({'small:queues': queues})}\n")

    program_says(kept={"name": "renamed", "visibility": 77})
    refused = small.pulumi("up", "--yes", "--skip-preview", "--stack", "small", code=None)
    assert refused.code
    assert "previously-imported resources that still specify an ID may not be replaced" in refused.out
    assert "name: {kept} => {renamed}" in refused.out
    assert "Traceback" not in refused.out + refused.err
    small.pulumi("state", "delete", "--yes", "--stack", "small", "urn:pulumi:small::small::aws:sqs/queue:Queue::kept")

    program_says(kept={"name": "kept", "visibility": 77}, taken={"name": "taken", "visibility": 30})
    adopted = [(step.op, step.name, [change.path for change in step.diff]) for step in small.up("small").steps]
    assert sorted(step for step in adopted if step[0] != "same") == [
        ("import", "kept", []),
        ("import", "taken", []),
        ("update", "taken", ["visibilityTimeoutSeconds"]),  # put right at once: pulumi/pulumi#19339
    ]
    assert attributes_of(sqs, kept) == before
    assert attributes_of(sqs, taken) == {**before, "VisibilityTimeout": "30"}

    assert small.up("small").changes == {}
    small.pulumi("destroy", "--yes", "--stack", "small")
    assert sqs.list_queues()["QueueUrls"] == [kept], "only what the program lets go of is left"
    assert attributes_of(sqs, kept) == before


def attributes_of(sqs: Any, url: str) -> dict[str, str]:
    names = ["VisibilityTimeout", "MessageRetentionPeriod", "MaximumMessageSize", "DelaySeconds"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
