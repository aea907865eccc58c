"""Resume: refused while the law would trip again, with the reason; recorded when it works; never half done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.operations import resume as operation
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.services import standard

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_793_600_000.0
TABLE = "inference-control-dev"


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with Cloud(NOW) as cloud:
        client = cloud.client("dynamodb")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def stopped(dynamodb: Any, **figures: float) -> None:
    """A latched stack whose guard last wrote `figures`."""
    known = {"at": NOW - 30, "spent_usd": 60, "committed_usd": 50, "launch_usd": 1, "monthly_usd": 150, **figures}
    budget = {name: {"N": str(value)} for name, value in known.items()}
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "budget"}, **budget})
    latch = {"latched": {"BOOL": True}, "reason": {"S": "budget"}, "generation": {"N": "4"}, "note": {"S": "trip: why"}}
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "latch"}, **latch, "suspended": {"M": {"g": {"L": []}}}})


def latch_row(dynamodb: Any) -> dict[str, Any]:
    return dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": "latch"}})["Item"]


def test_resume_clears_the_latch_and_records_who_and_why(dynamodb: Any) -> None:
    stopped(dynamodb)
    before = operation.resume(dynamodb, TABLE, by="ana", at=NOW)
    assert before.sums == "$60.00 spent + $50.00 committed, budget $150.00"
    row = latch_row(dynamodb)
    assert row["latched"] == {"BOOL": False}
    assert row["generation"] == {"N": "5"}
    assert (row["by"], float(row["at"]["N"])) == ({"S": "ana"}, NOW)
    assert row["note"] == {"S": "resumed by ana; was budget: trip: why"}
    assert row["suspended"] == {"M": {"g": {"L": []}}}, "the controller lifts what the guard suspended, and only that"
    with pytest.raises(operation.ResumeError, match="not stopped"):
        operation.resume(dynamodb, TABLE, by="ana", at=NOW)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"spent_usd": 100, "committed_usd": 50}, "would trip again at once"),
        ({"spent_usd": 99.5, "committed_usd": 50}, "no launch fits"),
        ({"at": NOW - 181}, "181 s old"),
    ],
)
def test_resume_is_refused_with_its_reason_and_changes_nothing(
    dynamodb: Any, figures: dict[str, float], reason: str
) -> None:
    stopped(dynamodb, **figures)
    before = latch_row(dynamodb)
    with pytest.raises(operation.ResumeError, match=reason):
        operation.resume(dynamodb, TABLE, by="ana", at=NOW)
    assert latch_row(dynamodb) == before


def test_a_budget_that_holds_one_launch_to_the_cent_is_enough(dynamodb: Any) -> None:
    stopped(dynamodb, spent_usd=99, committed_usd=50, launch_usd=1)
    operation.resume(dynamodb, TABLE, by="ana", at=NOW)


def test_without_a_guard_that_ever_ran_nothing_is_resumed(dynamodb: Any) -> None:
    with pytest.raises(operation.ResumeError, match="has not written any figures"):
        operation.resume(dynamodb, TABLE, by="ana", at=NOW)


def test_what_aws_refuses_is_not_taken_for_a_change_by_somebody(dynamodb: Any) -> None:
    stopped(dynamodb)

    class Denied:
        def __getattr__(self, name: str) -> Any:
            return getattr(dynamodb, name)

        def update_item(self, **call: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateItem")

    with pytest.raises(ClientError, match="AccessDenied"):
        operation.resume(Denied(), TABLE, by="ana", at=NOW)


def test_a_latch_that_somebody_changes_meanwhile_stays_theirs(dynamodb: Any) -> None:
    stopped(dynamodb)

    class Slow:
        """The guard trips anew between our read and our write."""

        def __getattr__(self, name: str) -> Any:
            return getattr(dynamodb, name)

        def update_item(self, **call: Any) -> Any:
            dynamodb.update_item(
                TableName=TABLE,
                Key={"pk": {"S": "latch"}},
                UpdateExpression="SET generation = :next",
                ExpressionAttributeValues={":next": {"N": "9"}},
            )
            return dynamodb.update_item(**call)

    with pytest.raises(operation.ResumeError, match="changed by somebody else"):
        operation.resume(Slow(), TABLE, by="ana", at=NOW)
    assert latch_row(dynamodb)["latched"] == {"BOOL": True}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [(["--stack", "dev"], 1, "could not reach stack dev"), (["--stack", "nope"], 2, "Pulumi.nope.yaml")],
)
def test_the_command_fails_in_one_clear_line(arguments: list[str], status: int, words: str) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "HOME": "/nonexistent"}
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gpufleet", "resume", *arguments],
        cwd=ROOT,
        env={**clean, **nowhere, "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status
    assert words in run.stderr
    assert "Traceback" not in run.stderr


# -- the command, with the clients of an embedded cloud in the place of AWS's ------------------------------------------


@pytest.fixture
def session(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the command takes for boto3's session: it records the region it is made for."""
    cloud = Cloud._open
    assert cloud is not None
    standard.install(cloud)
    clients = {name: cloud.client(name) for name in ("dynamodb", "sqs")}
    made = SimpleNamespace(client=clients.__getitem__, clients=clients, clock=cloud.clock, region="")

    def session(region_name: str) -> SimpleNamespace:
        made.region = region_name
        return made

    monkeypatch.setattr(boto3, "Session", session)
    monkeypatch.setattr("gpufleet.commands.resume.time.time", lambda: NOW)
    monkeypatch.setattr("gpufleet.commands.resume.getpass.getuser", lambda: "ana")
    monkeypatch.chdir(ROOT)
    return made


def resume() -> Result:
    return CliRunner().invoke(app, ["resume", "--stack", "dev"])


def test_the_command_clears_the_latch_and_tells_what_waits(dynamodb: Any, session: SimpleNamespace) -> None:
    stopped(dynamodb)
    url = session.clients["sqs"].create_queue(QueueName="inference-queue-dev")["QueueUrl"]
    for _ in range(3):
        session.clients["sqs"].send_message(QueueUrl=url, MessageBody="{}")
    session.clock.run_for(60)  # the queue's counters lag
    done = resume()
    assert (done.exit_code, done.stderr, session.region) == (0, "", "us-east-1")
    assert done.stdout.splitlines() == [
        "was stopped (budget): trip: why",
        "now: $60.00 spent + $50.00 committed, budget $150.00; 3 jobs wait; the controller takes over within a minute",
    ]
    assert latch_row(dynamodb)["by"] == {"S": "ana"}


def test_the_command_says_why_the_stack_stays_stopped(dynamodb: Any, session: SimpleNamespace) -> None:
    stopped(dynamodb, at=NOW - 4000)
    done = resume()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("stays stopped: the guard's figures are 4000 s old")
    assert len(done.stderr.splitlines()) == 1


def test_a_cleared_latch_is_a_success_even_if_the_queue_cannot_be_seen(dynamodb: Any, session: SimpleNamespace) -> None:
    stopped(dynamodb)
    done = resume()
    assert (done.exit_code, done.stderr) == (0, "")
    assert "how many jobs wait is not known" in done.stdout
    assert latch_row(dynamodb)["latched"] == {"BOOL": False}


def test_a_user_without_a_name_may_resume(
    dynamodb: Any, session: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("gpufleet.commands.resume.getpass.getuser", nobody)
    stopped(dynamodb)
    assert resume().exit_code == 0
    assert latch_row(dynamodb)["by"] == {"S": "an unnamed user"}


def test_a_stack_that_was_never_deployed_is_one_clear_line(dynamodb: Any, session: SimpleNamespace) -> None:
    dynamodb.delete_table(TableName=TABLE)
    done = resume()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("could not reach stack dev: ")
    assert "ResourceNotFoundException" in done.stderr
    assert type(done.exception) is SystemExit
