"""`gpufleet twin`: one server for a project, found, asked, stopped; and what it says when there is none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from gpufleet.cli import app
from gpufleet.commands import project as project_files
from gpufleet.commands.twin_tables import changes
from gpufleet.twin.plugin import executables
from gpufleet.twin.server import daemon

ROOT = Path(__file__).resolve().parents[2]
START = 1_793_577_600.0  # 2026-11-02T00:00Z


def make_project(folder: Path) -> Path:
    """A Pulumi project, and a folder `cli` with what answers like the Pulumi CLI."""
    (folder / "cli").mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text('name: probe\nruntime: python\nrequiredPulumiVersion: ">=3.229.0"\n')
    (folder / "Pulumi.dev.yaml").write_text("config:\n  aws:region: eu-west-1\n")
    set_cli_version(folder, "3.300.0")
    return folder


def set_cli_version(project: Path, version: str) -> None:
    cli = project / "cli" / "pulumi"
    cli.write_text(f"#!/bin/sh\necho v{version}\n")
    cli.chmod(0o755)


def environment(project: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), "PATH": f"{project / 'cli'}:{os.environ['PATH']}"}


def run(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user runs it; `more` environment."""
    command = [sys.executable, "-m", "gpufleet", "twin", *arguments]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=project, env={**environment(project), **more}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def bash(project: Path, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    prelude = f'gpufleet() {{ "{sys.executable}" -m gpufleet "$@"; }}\n'
    return subprocess.run(  # noqa: S603 - a script of the test
        ["bash", "-c", prelude + script],  # noqa: S607
        cwd=project,
        env={**environment(project), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def twin(*arguments: str) -> Result:
    """The command in this process, in the current folder."""
    return CliRunner().invoke(app, ["twin", *arguments])


def client(project: Path, service: str) -> Any:
    keys = {"aws_access_key_id": "TWINoperator", "aws_secret_access_key": "twin"}
    url = json.loads(state(project).read_text())["url"]
    return boto3.client(service, endpoint_url=url, region_name="eu-west-1", **keys)


def state(project: Path) -> Path:
    return project / ".cache/twin/server.json"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(pid: int) -> Callable[[], bool]:
    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # A process that ended under an init that never asks for it stays as a zombie; with threads that are still
        # ending it has its files, and its lock.
        status, threads = Path(f"/proc/{pid}/stat"), Path(f"/proc/{pid}/task")
        try:
            return status.read_text().rpartition(")")[2].split()[0] == "Z" and len(list(threads.iterdir())) == 1
        except (FileNotFoundError, ProcessLookupError):
            return False  # asked for in this moment: the next look is told so

    return gone


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose twin runs; tests only look, and let time pass."""
    project = make_project(tmp_path_factory.mktemp("served"))
    # Started in a shell that another twin, or an account, was set up in.
    foreign = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_PROFILE": "production"}
    done = run(project, "start", "--detach", "--at", "2026-11-02T00:00Z", **foreign)
    assert (done.returncode, done.stderr) == (0, "")
    (project / "start.txt").write_text(done.stdout)
    yield project
    daemon.stop(project / daemon.FOLDER)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of this test alone, as the current folder; whatever it starts is stopped."""
    made = make_project(tmp_path / "project")
    monkeypatch.chdir(made)
    yield made
    if state(made).exists():
        daemon.stop(made / daemon.FOLDER)


# -- a running twin ----------------------------------------------------------------------------------------------------


def test_start_says_where_it_is_and_what_to_type_next(served: Path) -> None:
    lines = (served / "start.txt").read_text().splitlines()
    found = json.loads(state(served).read_text())
    assert lines[0] == (
        f"embedded cloud at {found['url']} (eu-west-1); it is 2026-11-02 00:00:00 UTC there until you advance it"
    )
    assert 'eval "$(.venv/bin/gpufleet twin env)"' in lines[1]
    assert "pulumi up --stack dev" in lines[2]
    assert (found["region"], found["seed"]) == ("eu-west-1", 1)
    assert not ended(found["pid"])()


def test_status_for_people_and_for_programs(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (served / "deep" / "inside").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(served / "deep" / "inside")
    shown, document = twin("status"), twin("status", "--json")
    assert (shown.exit_code, document.exit_code) == (0, 0)
    found = json.loads(document.stdout)
    assert found["region"] == "eu-west-1"
    assert json.loads(state(served).read_text())["url"] in shown.stdout
    assert "spent this month" in shown.stdout


def test_time_passes_only_when_it_is_let(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served)
    sqs = client(served, "sqs")
    queue = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    before = json.loads(twin("status", "--json").stdout)["now"]
    sqs.send_message(QueueUrl=queue, MessageBody="{}", DelaySeconds=60)
    done = twin("advance", "2h30m")
    assert (done.exit_code, done.stderr) == (0, "")
    now = json.loads(twin("status", "--json").stdout)
    assert now["now"] == before + 9000
    assert now["queues"]["jobs"] == {"visible": 1, "inFlight": 0, "delayed": 0}
    assert done.stdout.splitlines()[0].endswith("UTC there")
    assert "  jobs  visible 0 -> 1  delayed 1 -> 0" in done.stdout.splitlines()
    assert "nothing else changed" in twin("advance", "1s").stdout
    shown = twin("status").stdout
    assert "queue" in shown
    assert "in flight" in shown
    sqs.delete_queue(QueueUrl=queue)


def test_what_the_shell_knew_of_aws_does_not_reach_it(served: Path) -> None:
    assert client(served, "sts").get_caller_identity()["Account"] == "123456789012"


def test_env_points_a_shell_at_it_and_back_again(served: Path) -> None:
    script = """
        set -eu
        eval "$(gpufleet twin env)"
        first=$PATH
        eval "$(gpufleet twin env)"
        [ "$first" = "$PATH" ] && echo same path
        echo "$AWS_ENDPOINT_URL $GPUFLEET_TWIN_URL ${AWS_PROFILE-none} $AWS_REGION"
        command -v pulumi-resource-aws
        pulumi version
        gpufleet twin env | tail -n 1
    """
    done = bash(served, script, AWS_PROFILE="production")
    assert (done.returncode, done.stderr) == (0, "")
    url = json.loads(state(served).read_text())["url"]
    assert done.stdout.splitlines() == [
        "same path",
        f"{url} {url} none eu-west-1",
        str(served / ".cache/twin/bin/pulumi-resource-aws"),
        "v3.300.0",
        "# This shell now talks to the embedded cloud, not to AWS. Open another shell to get back.",
    ]


def test_env_refuses_a_cli_that_the_project_cannot_use(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_project(tmp_path / "old")
    set_cli_version(old, "3.99.0")
    monkeypatch.setenv("PATH", environment(old)["PATH"])
    monkeypatch.setattr(executables, "BUILT", Path("no/such/file"))
    monkeypatch.chdir(served)
    done = twin("env")
    assert (done.exit_code, done.stdout) == (1, "false\n")
    assert "3.99.0" in done.stderr


def test_a_second_start_says_where_the_first_is(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served)
    found = json.loads(state(served).read_text())
    for arguments in (["start"], ["start", "--detach"]):
        done = twin(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"runs already, at {found['url']} (process {found['pid']}, since {found['started']})" in done.stderr
    assert json.loads(state(served).read_text()) == found


# -- begin and end -----------------------------------------------------------------------------------------------------


def test_stop_ends_it_and_a_new_one_begins_empty(project: Path) -> None:
    kept = project / ".cache/twin/state/.pulumi/stacks/probe/dev.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")  # what Pulumi knew of the last cloud
    assert run(project, "start", "-d", "--region", "us-west-2", "--seed", "7").returncode == 0
    found = json.loads(state(project).read_text())
    assert (found["region"], found["seed"]) == ("us-west-2", 7)
    assert list((project / ".cache/twin/state").iterdir()) == []
    done = twin("stop")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"the embedded cloud at {found['url']} has stopped, and everything in it is gone\n"
    wait_for(ended(found["pid"]))
    assert not state(project).exists()


def test_servers_that_were_killed_or_hang_leave_nothing_to_tidy_up(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, "start", "--detach")
    killed = json.loads(state(project).read_text())["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_for(ended(killed))
    done = twin("status")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "ended without being stopped (its log: .cache/twin/server.log)" in done.stderr
    assert not state(project).exists()

    assert run(project, "start", "--detach").returncode == 0
    hanging = json.loads(state(project).read_text())["pid"]
    assert hanging != killed
    os.kill(hanging, signal.SIGSTOP)
    monkeypatch.setattr(daemon, "_STOP_S", 0.2)
    assert twin("stop").exit_code == 0
    wait_for(ended(hanging))
    assert not state(project).exists()


def test_a_server_whose_folder_is_deleted_ends_by_itself(project: Path) -> None:
    """`make clean` must not leave a process that nobody finds any more."""
    run(project, "start", "--detach")
    pid = json.loads(state(project).read_text())["pid"]
    for path in sorted((project / ".cache/twin").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    wait_for(ended(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_ends_with_a_signal(project: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "gpufleet", "twin", "start"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=project, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("embedded cloud at http://127.0.0.1:")
        server.send_signal(number)
        assert server.stdout.read().splitlines()[-1] == "the embedded cloud has stopped, and everything in it is gone"
    assert server.returncode == 0
    assert not state(project).exists()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(project, "start", "--detach", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "the embedded cloud did not start; the end of its log:"
    assert f"cannot serve on port {port}: Address already in use; --port 0 takes a free one" in done.stderr
    assert "Traceback" not in done.stderr
    assert not state(project).exists()


# -- no twin, bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["advance", "10m"], ["stop"], ["env"]])
def test_without_a_twin_every_command_says_how_to_start_one(project: Path, command: list[str]) -> None:
    done = twin(*command)
    assert done.exit_code == 1
    assert done.stderr == (
        "the embedded cloud of this project is not running; start one: gpufleet twin start --detach\n"
    )
    assert done.stdout == ("false\n" if command == ["env"] else "")


def test_without_a_twin_nothing_goes_on_into_another_account(project: Path) -> None:
    done = bash(project, 'eval "$(gpufleet twin env)" && echo went on')
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "--at", "yesterday"], "--at yesterday: write a date or a moment, for example 2026-11-02"),
        (["start", "--region", "us-est-1"], "--region us-est-1: AWS has no such region; it has af-south-1, "),
        (["advance", "ten minutes"], "ten minutes: write how long, largest unit first: 90s, 10m, 2h30m, 3d"),
        (["advance", "0s"], "0s: write how long"),
        (["advance", "10"], "10: write how long"),
        (["advance", "5m2h"], "5m2h: write how long"),
    ],
)
def test_bad_input_is_one_line_that_says_what_would_do(project: Path, arguments: list[str], words: str) -> None:
    done = twin(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1


def test_outside_a_project_there_is_no_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = twin("start")
    assert (done.exit_code, done.stderr) == (
        2,
        f"there is no Pulumi.yaml in {tmp_path} or above: run this inside a Pulumi project\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stacks", "project_wide", "region"),
    [
        ({}, "", "us-east-1"),
        ({}, "eu-west-3", "eu-west-3"),
        ({"dev": "eu-west-1", "prod": "eu-west-1"}, "eu-west-3", "eu-west-1"),
        ({"dev": "eu-west-1", "prod": ""}, "", "eu-west-1"),
    ],
)
def test_the_region_is_the_one_that_the_files_name(
    tmp_path: Path, stacks: dict[str, str], project_wide: str, region: str
) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f"name: probe\nconfig:\n  aws:region: {{value: '{project_wide}'}}\n")
    for stack, named in stacks.items():
        (tmp_path / f"Pulumi.{stack}.yaml").write_text(f"config:\n  aws:region: '{named}'\n")
    assert project_files.region_of(tmp_path) == region


def test_stacks_in_several_regions_need_a_choice(project: Path) -> None:
    (project / "Pulumi.prod.yaml").write_text("config:\n  aws:region: us-east-1\n")
    done = twin("start")
    assert done.exit_code == 2
    assert done.stderr == (
        "the stacks are in several regions (dev: eu-west-1, prod: us-east-1): say which with --region\n"
    )


def test_changes_name_what_became_different() -> None:
    def status(now: float, **group: Any) -> dict[str, Any]:
        fleet = {"min": 0, "max": 2, "desired": 0, "suspended": ["AZRebalance"], "instances": {}, **group}
        return {
            "now": START + now,
            "groups": {"inference-asg-dev": fleet},
            "queues": {"q": {"visible": 15 - now / 60, "inFlight": 0, "delayed": 0}},
            "functions": {"guard": {"invocations": now, "errors": int(now > 60), "last": ""}},
            "spentUsd": now / 60,
        }

    before = status(60)
    after = status(120, desired=1, instances={"InService": 1}, suspended=["Launch"])
    assert changes(before, after) == [
        "it is 2026-11-02 00:02:00 UTC there",
        "  inference-asg-dev  desired 0 -> 1  instances none -> 1 InService  suspended AZRebalance -> Launch",
        "  q                  visible 14.0 -> 13.0",
        "  guard              errors 0 -> 1",
        "  spent this month   $1.00 -> $2.00",
    ]
    assert changes(before, before)[1:] == ["  nothing else changed"]
