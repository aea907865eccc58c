"""The rights that docs/operations.md lists for each command: with them it works in full, without one it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from operator_desk import MONTH, NOW, QUEUE, ROOT, TABLE, Desk
from typer.testing import Result

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.iam_resources import Need

PAGE = (ROOT / "docs" / "operations.md").read_text()
SHOWN = ("sqs:", "cloudwatch:")  # rights that only show something: without them the command does all else


def listed() -> dict[str, list[tuple[str, str]]]:
    """(action, resource ARN) by command, from the page's table."""
    found: dict[str, list[tuple[str, str]]] = {}
    commands: list[str] = []
    section = re.split(r"^## ", PAGE.split("\n## Rights\n")[1], flags=re.MULTILINE)[0]
    for line in [line for line in section.splitlines() if line.startswith("| ")][1:]:
        names, actions, on = (cell.strip() for cell in line.strip("|").split("|"))
        commands, prefix = re.findall(r"`([^`]+)`", names) or commands, ""
        for word in re.findall(r"`([^`]+)`", actions):
            prefix, _, action = word.rpartition(":") if ":" in word else (prefix, "", word)
            for command in commands:
                found.setdefault(command, []).append((f"{prefix}:{action}", resource(on)))
    return found


def resource(on: str) -> str:
    name = re.findall(r"`([^`]+)`", on)
    if on.startswith("table"):
        return f"arn:aws:dynamodb:us-east-1:123456789012:table/{name[0]}"
    return f"arn:aws:sqs:us-east-1:123456789012:{name[0]}" if on.startswith("queue") else "*"


RIGHTS = {command: rights for command, rights in listed().items() if command in ("stop", "resume", "audit")}


class Limited(Desk):
    """A desk whose commands run as a role that holds what it is given."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(cloud, monkeypatch)
        rules, queue = cloud.authorizer.rules, f"arn:aws:sqs:us-east-1:123456789012:{QUEUE}"
        # Service Authorization Reference: by queue, and by nothing (CloudWatch knows no resource for this one).
        rules["sqs", "GetQueueUrl"] = lambda *_: [Need("sqs:GetQueueUrl", queue)]
        rules["cloudwatch", "GetMetricStatistics"] = lambda *_: [Need("cloudwatch:GetMetricStatistics", "*")]
        trust = [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
        self.policy(trust, lambda text: cloud.client("iam").create_role(RoleName="op", AssumeRolePolicyDocument=text))

    def policy(self, statements: list[dict[str, Any]], put: Any) -> None:
        put(json.dumps({"Version": "2012-10-17", "Statement": statements}))

    def may(self, rights: list[tuple[str, str]]) -> None:
        held = [*rights, ("sts:GetCallerIdentity", "*")]  # what everybody has: a policy may not be empty
        statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in held]
        iam = self.cloud.client("iam")
        self.policy(statements, lambda text: iam.put_role_policy(RoleName="op", PolicyName="p", PolicyDocument=text))

    def client(self, service: str, config: Any = None) -> Any:
        return self.cloud.client(service, "op")


@pytest.fixture(scope="module")
def desk() -> Iterator[Limited]:
    with Cloud(NOW) as cloud, pytest.MonkeyPatch.context() as monkeypatch:
        one = Limited(cloud, monkeypatch)
        one.send(2, wait_s=1800)
        yield one


def run(desk: Limited, command: str) -> Result:
    """Run it where it has all of its work to do."""
    desk.figures(at=NOW + 1790)
    desk.ledger(MONTH, 60, running=("i-1",))
    desk.latch(latched=command == "resume")
    return desk.run(command, "--stack", "dev")


def test_the_page_lists_rights_for_every_command_that_reaches_a_stack() -> None:
    assert set(RIGHTS) == {"stop", "resume", "audit"}
    assert ("pricing:GetProducts", "*") in listed()["prices refresh"]
    assert RIGHTS["audit"] == [("dynamodb:BatchGetItem", resource(f"table `{TABLE}`"))]


@pytest.mark.parametrize("command", RIGHTS)
def test_with_the_listed_rights_a_command_does_and_shows_everything(desk: Limited, command: str) -> None:
    desk.may(RIGHTS[command])
    done = run(desk, command)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "not known" not in done.stdout.replace("since the stop: not known", "")
    assert command == "audit" or "waits: 2 jobs, the oldest for 30 min" in done.stdout


@pytest.mark.parametrize(("command", "without"), [(one, right) for one in RIGHTS for right in RIGHTS[one]], ids=str)
def test_each_of_the_listed_rights_is_needed(desk: Limited, command: str, without: tuple[str, str]) -> None:
    desk.may([right for right in RIGHTS[command] if right != without])
    done = run(desk, command)
    if without[0].startswith(SHOWN):
        assert (done.exit_code, done.stderr) == (0, ""), "what cannot be shown keeps nobody from acting"
        assert "the oldest for" not in done.stdout
    else:
        assert done.exit_code == 1
        assert f"is not authorized to perform: {without[0]}" in done.stderr
        assert desk.row("latch")["latched"] is (command == "resume"), "nothing was changed"
