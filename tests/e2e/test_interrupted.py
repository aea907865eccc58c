"""Updates that do not end well: interrupted, killed, refused in the middle. Afterwards everything is there once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import yaml
from desk import ROOT, Desk, Done
from test_lifecycle import inventory

from gpufleet.demo.stage import START
from gpufleet.twin.cloud import OPERATOR, Cloud
from gpufleet.twin.engine import Engine
from gpufleet.twin.errors import AwsError
from gpufleet.twin.world import World

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

STACK = "dev"
UP = ("up", "--yes", "--skip-preview", "--stack", STACK)
DESTROY = ("destroy", "--yes", "--stack", STACK)


@pytest.fixture(scope="module")
def once() -> dict[str, int]:
    """How much of everything an account holds after an `up` that nothing disturbed (either engine makes the same)."""
    with Cloud(START, seed=1) as cloud:
        World(cloud)
        Engine(cloud).up(ROOT, STACK)
        return counts(SimpleNamespace(client=cloud.client, cloud=cloud))


def counts(desk: Any) -> dict[str, int]:
    return {what: len(found) for what, found in inventory(desk).items()}


# -- interrupted, killed -----------------------------------------------------------------------------------------------


def test_an_interrupted_up_ends_what_is_in_flight_and_the_next_one_goes_on(desk: Desk, once: dict[str, int]) -> None:
    desk.pulumi("stack", "init", STACK)
    with at(desk, "CreateFunction") as moment:
        stopped = desk.pulumi(*UP, code=None, waiting=lambda process: signalled(desk, process, moment, signal.SIGINT))
    assert stopped.code
    assert "cancel" in stopped.out + stopped.err
    assert pending(desk) == []
    goes_on(desk, once)


def test_an_up_that_is_killed_goes_on_without_making_anything_twice(desk: Desk, once: dict[str, int]) -> None:
    before = inventory(desk)
    desk.pulumi("stack", "init", STACK)

    killed(desk, UP, "CreateVpc", machine=True)
    assert not resolves_names(desk), "the network was made to the end: the test kills at a bad moment"
    assert "locked" in desk.up(STACK, code=1).err
    locked = desk.gpufleet("recover", "--stack", STACK, code=1)
    assert f"pulumi cancel --stack {STACK}" in locked.err
    recover(desk)

    killed(desk, UP, "CreateRouteTable", nth=2)  # there are two: both exist, one at least is pending
    desk.pulumi("cancel", "--yes", "--stack", STACK)
    tables = [urn for one in pending(desk) if "routeTable:RouteTable::" in (urn := one["resource"]["urn"])]
    there = counts(desk)["route tables"]
    desk.up(STACK, *(f"--target={urn}" for urn in tables))  # too early: what has no name of its own is made twice
    assert counts(desk)["route tables"] == there + len(tables) > there
    recover(desk)

    killed(desk, UP, "CreateFunction", nth=2, machine=True)
    recover(desk)

    goes_on(desk, once)
    assert resolves_names(desk)
    assert "nothing to recover" in desk.gpufleet("recover", "--stack", STACK).out
    desk.pulumi(*DESTROY)
    assert inventory(desk) == before


def test_a_killed_update_and_a_killed_destroy_go_on(desk: Desk, once: dict[str, int]) -> None:
    before = inventory(desk)
    desk.pulumi("stack", "init", STACK)
    desk.up(STACK)
    assert counts(desk) == once

    desk.set(STACK, "maxGpuInstances", "2")
    killed(desk, UP, "UpdateAutoScalingGroup")
    assert "locked" in desk.up(STACK, code=1).err
    recover(desk)
    goes_on(desk, once)
    assert desk.group(f"inference-asg-{STACK}")["MaxSize"] == 2

    killed(desk, DESTROY, "DeleteAutoScalingGroup")
    desk.pulumi("cancel", "--yes", "--stack", STACK)
    desk.pulumi(*DESTROY)
    assert desk.exported(STACK) == []
    assert inventory(desk) == before


def recover(desk: Desk) -> None:
    """What docs/operations.md says to do."""
    assert pending(desk), "nothing was in flight: the test kills at a bad moment"
    desk.pulumi("cancel", "--yes", "--stack", STACK)
    done = desk.gpufleet("recover", "--stack", STACK)
    assert done.out.endswith(f"now: pulumi up --stack {STACK}\n")
    assert pending(desk) == []


def resolves_names(desk: Desk) -> bool:
    """What a network is told by a second call, after its creation."""
    ec2 = desk.client("ec2")
    [vpc] = [one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"] if not one["IsDefault"]]
    return ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")["EnableDnsHostnames"]["Value"]


def goes_on(desk: Desk, once: dict[str, int]) -> None:
    desk.up(STACK)
    assert desk.up(STACK).changes == {}
    assert counts(desk) == once


def pending(desk: Desk) -> list[dict[str, Any]]:
    return desk.deployment(STACK).get("pending_operations") or []


def killed(desk: Desk, command: tuple[str, ...], operation: str, *, nth: int = 1, machine: bool = False) -> None:
    """SIGKILL the CLI when the cloud has answered its nth `operation`.

    Its plugins end what they are at, as they do in AWS; `machine`: they die with it, and nothing more is done.
    """
    with at(desk, operation, nth, last=machine) as moment:
        done = desk.pulumi(
            *command,
            code=None,
            waiting=lambda process: signalled(desk, process, moment, signal.SIGKILL, machine=machine),
        )
    assert done.code == -signal.SIGKILL


@contextmanager
def at(desk: Desk, operation: str, nth: int = 1, *, last: bool = False) -> Iterator[Callable[[], bool]]:
    """What tells when the operator has made `nth` calls of `operation`; `last`: and can make no other call."""
    made: list[str] = []
    real = desk.cloud.call

    def call(service: str, name: str, params: dict[str, Any], principal: str) -> Any:
        if principal == OPERATOR:
            if last and len(made) >= nth:
                raise AwsError("RequestCanceled", "the caller has gone")
            made.extend([name] if name == operation else [])
        return real(service, name, params, principal)

    with mock.patch.object(desk.cloud, "call", call):
        yield lambda: len(made) >= nth


def signalled(
    desk: Desk, process: subprocess.Popen[str], moment: Callable[[], bool], number: int, *, machine: bool = False
) -> None:
    """Send the signal at the moment, then answer the cloud's requests until CLI and plugins have ended."""
    desk.attend(process, moment)
    assert process.poll() is None, "the command ended before the moment came"
    plugins = descendants(process.pid)
    for one in (process.pid, *(plugins if machine else ())):
        os.kill(one, number)
    desk.attend(process)
    desk.endpoint.serve(until=lambda: not alive(plugins))


def descendants(pid: int) -> list[int]:
    parents = {int(one): int(parent) for one, parent in (line.split()[:2] for line in processes())}
    found = [pid]
    for above in found:  # grows while it is gone through
        found += [one for one, parent in parents.items() if parent == above]
    return found[1:]


def alive(pids: list[int]) -> bool:
    return any(int(pid) in pids and state[0] != "Z" for pid, _, state in (line.split()[:3] for line in processes()))


def processes() -> list[str]:
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.splitlines()


# -- refused in the middle ---------------------------------------------------------------------------------------------


def test_what_aws_refuses_in_the_middle_is_told_in_a_sentence_and_the_next_up_goes_on(
    desk: Desk, once: dict[str, int]
) -> None:
    desk.pulumi("stack", "init", STACK)
    with refused(desk, "AddRoleToInstanceProfile"):  # the second call of a creation: the profile exists by then
        half_made = desk.up(STACK, code=1)
    [(profile, message)] = errors(half_made).items()
    assert profile == "aws:iam/instanceProfile:InstanceProfile inference-node-profile"
    assert "creating failed: AddRoleToInstanceProfile: ServiceException: we are sorry" in message

    with refused(desk, "CreateFunction"):
        nothing_made = desk.up(STACK, code=1)
    assert nothing_made.changes["InstanceProfile inference-node-profile"][0] == "replace"
    for function, message in errors(nothing_made).items():
        assert function.startswith("aws:lambda/function:Function inference-")
        assert message == "creating failed: CreateFunction: ServiceException: we are sorry"
    goes_on(desk, once)


@contextmanager
def refused(desk: Desk, operation: str) -> Iterator[None]:
    """AWS answers the operator's `operation` with an error of its own."""
    real = desk.cloud.call

    def call(service: str, name: str, params: dict[str, Any], principal: str) -> Any:
        if (name, principal) == (operation, OPERATOR):
            raise AwsError("ServiceException", "we are sorry", 500)
        return real(service, name, params, principal)

    with mock.patch.object(desk.cloud, "call", call):
        yield


def errors(done: Done) -> dict[str, str]:
    """What failed: "type name" -> the message."""
    told = [event["diagnosticEvent"] for event in done.events if "diagnosticEvent" in event]
    failed = [one for one in told if one["severity"] == "error" and one.get("urn")]
    assert failed
    assert "Traceback" not in "".join(one["message"] for one in told) + done.err
    return {
        f"{type_.rsplit('$', 1)[-1]} {name}": one["message"].strip()
        for one in failed
        for _, _, type_, name in [one["urn"].split("::", 3)]
        if type_ != "pulumi:pulumi:Stack"
    }


def test_a_property_that_the_twin_does_not_model_is_refused_by_name(tmp_path: Path) -> None:
    program = tmp_path / "program"
    written(
        program,
        {
            "Pulumi.yaml": {"name": "fifo", "runtime": runtime()},
            "Pulumi.dev.yaml": {"config": {"aws:region": "us-east-1"}},
        },
    )
    (program / "__main__.py").write_text(
        "import pulumi_aws as aws\n\naws.sqs.Queue('jobs', name='jobs.fifo', fifo_queue=True)\n"
    )
    with Desk(tmp_path / "desk", program=program) as desk:
        desk.pulumi("stack", "init", STACK)
        done = desk.up(STACK, code=1)
        assert list(errors(done)) == ["aws:sqs/queue:Queue jobs"]
        assert "the twin does not model fifoQueue of aws:sqs/queue:Queue" in errors(done)["aws:sqs/queue:Queue jobs"]
        assert "panic" not in done.out + done.err
        assert inventory(desk)["queues"] == []


def runtime() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["runtime"]


def written(folder: Path, files: Mapping[str, Any]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
