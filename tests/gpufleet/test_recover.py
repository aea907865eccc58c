"""Recover: what exists is found, nothing is taken for something else, and in doubt nothing changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.operations import recover
from gpufleet.operations.existing import SETTINGS, Account, UnclearError, known
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine
from gpufleet.twin.world import World

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_793_600_000.0
STACK = "dev"
TAGS = {"Name": "inference-vpc-dev", "gpu-inference-stack": STACK}
VPC, ROLE, QUEUE = "aws:ec2/vpc:Vpc", "aws:iam/role:Role", "aws:sqs/queue:Queue"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(NOW) as cloud:
        World(cloud)
        yield cloud


def account(cloud: Cloud) -> Account:
    return Account(cloud.client, cloud.account_id, "aws", cloud.region)


# -- lookups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_every_aws_type_of_the_stacks_can_be_recovered(stack: str) -> None:
    golden = json.loads((ROOT / "tests/components/golden" / f"{stack}.json").read_text())
    types = {urn.split("::")[2].rsplit("$", 1)[-1] for urn in golden}
    assert {name for name in types if name.startswith("aws:")} <= known()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")
def test_every_resource_of_a_stack_is_found_by_its_inputs_and_in_another_account_none() -> None:
    with Cloud(NOW) as cloud:
        World(cloud)
        engine = Engine(cloud)
        engine.up(ROOT, "prod")
        resources = [one for one in engine.state.resources.values() if one.type in known() - SETTINGS.keys()]
        found = {one.urn: account(cloud).ids(one.type, one.inputs) for one in resources}
        assert found == {one.urn: [one.id] for one in resources}
        assert len(found) > 70
    with Cloud(NOW) as empty:
        World(empty)
        assert {tuple(account(empty).ids(one.type, one.inputs)) for one in resources} == {()}


def test_a_bucket_whose_name_the_provider_chose_is_found_by_its_prefix_and_tags(cloud: Cloud) -> None:
    inputs = {"bucketPrefix": "results-dev-", "tags": TAGS}
    s3 = cloud.client("s3")
    for name, tags in {"results-dev-1": TAGS, "results-dev-2": {"Name": "another's"}, "other": TAGS}.items():
        s3.create_bucket(Bucket=name)
        s3.put_bucket_tagging(
            Bucket=name, Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}
        )
    assert account(cloud).ids("aws:s3/bucket:Bucket", inputs) == ["results-dev-1"]
    s3.create_bucket(Bucket="results-dev-3")  # killed before it had its tags
    assert account(cloud).ids("aws:s3/bucket:Bucket", inputs) == ["results-dev-1", "results-dev-3"]


def test_what_is_being_deleted_does_not_exist_any_more(cloud: Cloud) -> None:
    kms, inputs = cloud.client("kms"), {"tags": TAGS, "description": "ours"}
    tags = [{"TagKey": key, "TagValue": value} for key, value in TAGS.items()]
    key = kms.create_key(Description="ours", Tags=tags)["KeyMetadata"]["KeyId"]
    kms.create_key(Description="another's", Tags=tags)
    assert account(cloud).ids("aws:kms/key:Key", inputs) == [key]
    kms.schedule_key_deletion(KeyId=key)
    assert account(cloud).ids("aws:kms/key:Key", inputs) == []


@pytest.mark.parametrize(
    ("type_", "inputs", "why"),
    [
        ("aws:rds/instance:Instance", {}, "does not know how to look for its type"),
        (ROLE, {}, "do not say its name"),
        (VPC, {"cidrBlock": "10.0.0.0/16"}, "no tags to find it by"),
        ("aws:kms/key:Key", {"tags": {}}, "no tags to find it by"),
    ],
)
def test_what_cannot_be_told_is_not_taken_for_never_made(cloud: Cloud, type_: str, inputs: Any, why: str) -> None:
    with pytest.raises(UnclearError, match=why):
        account(cloud).ids(type_, inputs)


def test_what_may_not_be_read_is_not_taken_for_never_made() -> None:
    class Denied:
        def get_role(self, **call: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetRole")

    with pytest.raises(ClientError, match="AccessDenied"):
        Account(lambda _: Denied(), "1", "aws", "us-east-1").ids(ROLE, {"name": "node"})


# -- the plan, and the state after it ----------------------------------------------------------------------------------


def urn(type_: str, name: str = "it") -> str:
    return f"urn:pulumi:dev::gpu-inference::{type_}::{name}"


PROVIDER = {
    "urn": urn("pulumi:providers:aws", "aws"),
    "type": "pulumi:providers:aws",
    "custom": True,
    "id": "1",
    "inputs": {"region": "us-east-1"},
}


def resource(type_: str, name: str = "it", **more: Any) -> dict[str, Any]:
    ours = f"{PROVIDER['urn']}::{PROVIDER['id']}"
    return {"urn": urn(type_, name), "type": type_, "custom": True, "provider": ours, "inputs": {"name": name}, **more}


def state(*resources: dict[str, Any], **pending: dict[str, Any]) -> dict[str, Any]:
    """An exported state; `pending`: what was being done, as in creating=..., creating_2=..."""
    operations = [{"type": doing.split("_")[0], "resource": one} for doing, one in pending.items()]
    return {"version": 3, "deployment": {"resources": [PROVIDER, *resources], "pending_operations": operations}}


def finding(*ids: str) -> Callable[[recover.Interrupted], list[str]]:
    return lambda one: list(ids)


def test_what_exists_is_taken_in_with_its_inputs_and_what_was_never_made_is_forgotten() -> None:
    document = state(creating=resource(ROLE, "made"), creating_2=resource(ROLE, "never"))
    plan = recover.planned(document, lambda one: ["made"] if one.inputs["name"] == "made" else [])
    assert (plan.exists, plan.never_made, plan.refreshed) == (
        {urn(ROLE, "made"): "made"},
        [urn(ROLE, "never")],
        [urn(ROLE, "made")],
    )
    after = recover.recovered(document, plan)
    made = resource(ROLE, "made", id="made", outputs={"name": "made", "id": "made"})
    assert after == {"version": 3, "deployment": {"resources": [PROVIDER, made]}}
    assert document == state(creating=resource(ROLE, "made"), creating_2=resource(ROLE, "never")), "it is not ours"


def test_a_creation_that_had_ended_is_taken_as_it_is() -> None:
    ended = resource(ROLE, id="it", outputs={"arn": "arn:aws:iam::1:role/it"})
    document = state(creating=ended)
    plan = recover.planned(document, finding())
    assert recover.recovered(document, plan)["deployment"]["resources"] == [PROVIDER, ended]


def test_an_id_that_the_state_has_is_not_anothers_but_names_may_repeat_between_types() -> None:
    held = resource(VPC, "first", id="vpc-1")
    document = state(held, resource(QUEUE, "q", id="vpc-2"), creating=resource(VPC, "second"))
    assert recover.planned(document, finding("vpc-1")).never_made == [urn(VPC, "second")]
    assert recover.planned(document, finding("vpc-1", "vpc-2")).exists == {urn(VPC, "second"): "vpc-2"}


def test_updates_and_deletions_are_only_looked_at() -> None:
    kept = [resource(ROLE, "changed", id="changed"), resource(ROLE, "leaving", id="leaving")]
    document = state(*kept, updating=kept[0], deleting=kept[1], deleting_2=resource(ROLE, "gone", id="gone"))
    plan = recover.planned(document, finding("never asked"))
    assert (plan.refreshed, plan.exists) == ([urn(ROLE, "changed"), urn(ROLE, "leaving")], {})
    assert recover.recovered(document, plan)["deployment"] == {"resources": [PROVIDER, *kept]}


def test_what_is_nothing_of_its_own_in_the_account_is_forgotten() -> None:
    setting = resource("aws:s3/bucketVersioning:BucketVersioning")
    component = {**resource("gpu-inference:aws:Network"), "custom": False}
    document = state(creating=setting, creating_2=component, creating_3=PROVIDER)
    plan = recover.planned(document, finding("never asked"))
    assert plan.repeated == [setting["urn"], component["urn"], PROVIDER["urn"]]
    assert any("up sets it on its bucket again" in line for line in recover.lines(document, plan))


def test_doubt_is_told_with_the_way_out_and_the_user_may_decide() -> None:
    document = state(creating=resource(VPC))
    plan = recover.planned(document, finding("vpc-1", "vpc-2"))
    assert (plan.exists, plan.never_made) == ({}, [])
    assert plan.unclear[urn(VPC)].startswith("2 of them fit, vpc-1, vpc-2; ")
    assert f"--id '{urn(VPC)}=<id>'" in plan.unclear[urn(VPC)]
    assert recover.planned(document, finding(), {urn(VPC): "vpc-2"}).exists == {urn(VPC): "vpc-2"}
    assert recover.planned(document, finding("vpc-1"), {urn(VPC): ""}).never_made == [urn(VPC)]
    with pytest.raises(recover.RecoverError, match="not being created: urn:another"):
        recover.planned(document, finding(), {"urn:another": "vpc-2"})


def test_two_resources_are_never_the_same_thing() -> None:
    document = state(creating=resource(VPC, "a"), creating_2=resource(VPC, "b"))
    plan = recover.planned(document, finding("vpc-1"))
    assert set(plan.unclear) == {urn(VPC, "a"), urn(VPC, "b")}


def test_a_secret_does_not_say_anything() -> None:
    secret = {recover._SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:..."}
    [one] = recover.interrupted(state(creating=resource(ROLE, inputs={"name": secret, "path": "/"})))
    assert one.inputs == {"path": "/"}


def test_a_second_one_beside_what_the_state_has_is_left_for_up_to_delete() -> None:
    kept, new = resource(VPC, id="vpc-1", protect=True), resource(VPC, protect=True)
    document = state(kept, creating=new, creating_2=new)  # killed twice, or made anew by an `up` in between
    plan = recover.planned(document, finding("vpc-1", "vpc-2"))
    second = {**new, "id": "vpc-2", "outputs": {"name": "it", "id": "vpc-2"}, "delete": True, "protect": False}
    assert recover.recovered(document, plan)["deployment"]["resources"] == [PROVIDER, kept, second]
    assert [line.split(maxsplit=4)[-1] for line in recover.lines(document, plan)] == ["vpc-2, which up deletes"]


def test_what_was_deleted_to_be_made_again_is_followed_by_its_successor() -> None:
    old, dependent = resource(VPC, id="vpc-1", pendingReplacement=True), resource(QUEUE, "after", id="q")
    document = state(old, dependent, creating=resource(VPC))
    plan = recover.planned(document, finding("vpc-2"))
    made = resource(VPC, id="vpc-2", outputs={"name": "it", "id": "vpc-2"})
    assert recover.recovered(document, plan)["deployment"]["resources"] == [PROVIDER, made, dependent]


def test_a_name_that_was_deleted_to_be_made_again_is_the_new_one() -> None:
    document = state(resource(ROLE, id="it", pendingReplacement=True), creating=resource(ROLE))
    assert recover.planned(document, finding("it")).exists == {urn(ROLE): "it"}


# -- the command, with a stand-in for the CLI and the clients of an embedded cloud -------------------------------------

PULUMI = f"""#!{sys.executable}
import pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if sys.argv[1:3] == ["stack", "export"]:
    print((here / "state").read_text())
if sys.argv[1:3] == ["stack", "import"]:
    if (here / "lock").exists():
        sys.exit("error: the stack is currently locked by 1 lock(s). Delete the lock file with `pulumi cancel`.")
    (here / "state").write_text(sys.stdin.read())
if sys.argv[1] == "refresh" and (here / "offline").exists():
    sys.exit("error: no such host")
"""


class Shell:
    """Where the command runs: a project, a CLI that keeps its state in a file, an account."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        self.folder, self.cloud, self.region = folder, cloud, ""
        (folder / "Pulumi.yaml").touch()
        (folder / "pulumi").write_text(PULUMI)
        (folder / "pulumi").chmod(0o755)

    def state(self, document: dict[str, Any] | None = None) -> dict[str, Any]:
        if document is not None:
            (self.folder / "state").write_text(json.dumps(document))
        return json.loads((self.folder / "state").read_text())

    def recover(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["recover", "--stack", STACK, *arguments])

    @property
    def refreshed(self) -> list[str]:
        calls = (self.folder / "calls").read_text().splitlines()
        return [word for call in calls for word in call.split() if call.startswith("refresh") and "urn:" in word]


@pytest.fixture
def shell(tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell(tmp_path, cloud)
    cloud.client("sts")  # so that the cloud has a session of its own before the stand-in

    def session(region_name: str) -> Any:
        made.region = region_name
        return SimpleNamespace(client=cloud.client, region_name=region_name)

    monkeypatch.setattr(boto3, "Session", session)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return made


def killed_while_creating_queues(cloud: Cloud) -> dict[str, Any]:
    cloud.client("sqs").create_queue(QueueName="made")
    return state(creating=resource(QUEUE, "made"), creating_2=resource(QUEUE, "never"))


def test_the_command_shows_what_it_found_and_puts_the_state_in_order(shell: Shell) -> None:
    before = shell.state(killed_while_creating_queues(shell.cloud))
    url = shell.cloud.client("sqs").get_queue_url(QueueName="made")["QueueUrl"]
    shown = shell.recover("--dry-run")
    assert (shown.exit_code, shell.state()) == (0, before)
    done = shell.recover()
    assert (done.exit_code, done.stderr, shell.region) == (0, "", "us-east-1")
    assert done.stdout.splitlines() == [
        f"exists      {QUEUE} made  {url}",
        f"never made  {QUEUE} never up makes it",
        "now: pulumi up --stack dev",
    ]
    assert [one.get("id") for one in shell.state()["deployment"]["resources"]] == ["1", url]
    assert shell.refreshed == [urn(QUEUE, "made")]
    again = shell.recover()
    assert (again.exit_code, again.stdout) == (0, "nothing to recover: no operation of dev was interrupted\n")


def test_in_doubt_the_command_changes_nothing(shell: Shell) -> None:
    other = resource("aws:rds/instance:Instance")
    killed = killed_while_creating_queues(shell.cloud)["deployment"]["pending_operations"][0]["resource"]
    before = shell.state(state(creating=killed, creating_2=other))
    done = shell.recover()
    assert (done.exit_code, shell.state()) == (1, before)
    assert "UNCLEAR     aws:rds/instance:Instance it " in done.stdout
    assert done.stderr == "1 unclear, see above: nothing was changed\n"
    assert shell.recover("--id", f"{other['urn']}=db-1").exit_code == 0
    assert [one["id"] for one in shell.state()["deployment"]["resources"]][2:] == ["db-1"]
    assert shell.recover("--id", "db-1").exit_code == 2


def test_a_stack_that_is_locked_stays_as_it_is(shell: Shell) -> None:
    before = shell.state(killed_while_creating_queues(shell.cloud))
    (shell.folder / "lock").touch()
    done = shell.recover()
    assert (done.exit_code, shell.state()) == (1, before)
    assert "currently locked" in done.stderr
    assert "`pulumi cancel --stack dev`" in done.stderr


def test_credentials_for_another_account_are_refused(shell: Shell) -> None:
    there = resource(ROLE, "there", id="there", outputs={"arn": "arn:aws:iam::999999999999:role/there"})
    before = shell.state(state(there, creating=resource(QUEUE, "made")))
    done = shell.recover()
    assert (done.exit_code, shell.state()) == (1, before)
    assert done.stderr == "your credentials are for account 123456789012, the stack is in 999999999999\n"


def test_a_refresh_that_fails_says_where_the_state_is(shell: Shell) -> None:
    shell.state(killed_while_creating_queues(shell.cloud))
    (shell.folder / "offline").touch()
    done = shell.recover()
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "pulumi could not refresh dev: error: no such host",
        "The state has what was found; now: pulumi refresh --stack dev",
    ]


def test_a_state_that_somebody_changes_meanwhile_stays_theirs(shell: Shell) -> None:
    theirs = shell.state(state())
    stack = recover.Stack(STACK, shell.folder)
    with pytest.raises(recover.RecoverError, match="has just changed"):
        stack.replace(state(resource(ROLE, id="it")), state())
    assert shell.state() == theirs


def test_without_a_cli_or_an_account_one_line_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.state(killed_while_creating_queues(shell.cloud))

    def denied(service: str) -> Any:
        raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "expired"}}, "GetCallerIdentity")

    monkeypatch.setattr(boto3, "Session", lambda region_name: SimpleNamespace(client=denied, region_name=region_name))
    assert shell.recover().stderr.startswith("could not look into the account, nothing was changed: ")
    (shell.folder / "pulumi").unlink()
    assert shell.recover().stderr == "there is no pulumi on PATH\n"
