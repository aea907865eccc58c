"""The Pulumi CLI as an engine, without one: which is found, what is put on PATH, and how its events are read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2_grpc

from gpufleet.twin.deployment import Step, UpError
from gpufleet.twin.engine import ProgramError
from gpufleet.twin.plugin import executables
from gpufleet.twin.plugin.cli import PulumiCli, parsed, steps_of
from gpufleet.twin.plugin.executables import NoEngineError, find_cli

URL = "http://127.0.0.1:4566"


def script(path: Path, text: str = "echo v3.300.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# -- which CLI ------------------------------------------------------------------------------------------------------


def test_the_cli_on_path_comes_before_the_built_one(tmp_path: Path) -> None:
    built = script(tmp_path / ".cache/engine/pulumi")
    assert find_cli(search=str(tmp_path), root=tmp_path) == built
    own = script(tmp_path / "bin/pulumi")
    assert find_cli(search=f"{tmp_path / 'none'}:{own.parent}", root=tmp_path) == own


def test_a_cli_that_is_too_old_or_does_not_run_gives_way_to_the_built_one(tmp_path: Path) -> None:
    old, broken = script(tmp_path / "old/pulumi", "echo v3.9.1"), script(tmp_path / "broken/pulumi", "exit 1")
    with pytest.raises(NoEngineError, match=r"/old/pulumi is version 3\.9\.1, and Pulumi\.yaml asks for >=3\.229\.0"):
        find_cli(search=str(old.parent), root=tmp_path)
    with pytest.raises(NoEngineError, match=r"/broken/pulumi does not run"):
        find_cli(search=str(broken.parent), root=tmp_path)
    built = script(tmp_path / ".cache/engine/pulumi")
    assert {find_cli(search=str(one.parent), root=tmp_path) for one in (old, broken)} == {built}


def test_without_a_cli_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NoEngineError, match=r"no pulumi on PATH: install it .* or run `make engine`"):
        find_cli(search=str(tmp_path), root=tmp_path)


@pytest.mark.parametrize(("version", "fits"), [("3.229.0", True), ("3.300.0-dev.1", True), ("3.228.9", False)])
def test_versions_are_compared_as_numbers(tmp_path: Path, version: str, fits: bool) -> None:
    cli = script(tmp_path / "pulumi", f"echo v{version}")
    (tmp_path / "Pulumi.yaml").write_text('name: x\nrequiredPulumiVersion: ">=3.229.0"\n')
    if fits:
        assert executables.check_version(cli, tmp_path) == version
    else:
        with pytest.raises(NoEngineError, match="update it"):
            executables.check_version(cli, tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: x\n")
    assert executables.check_version(cli, tmp_path) == version, "a project may take any"


# -- what is put on PATH --------------------------------------------------------------------------------------------


def test_the_bin_folder_has_the_provider_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    cli, folder = script(tmp_path / "engine/pulumi"), tmp_path / "bin"
    assert executables.install(folder, cli) == cli
    assert (folder / "pulumi").resolve() == cli
    for name in ("pulumi-resource-aws", "pulumi-language-python"):
        assert os.access(folder / name, os.X_OK), name
        assert sys.executable in (folder / name).read_text()

    script(tmp_path / "engine/pulumi-language-python")  # as the official one has beside it
    executables.install(folder, cli)
    assert not (folder / "pulumi-language-python").exists()


def test_a_cli_on_path_stays_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli, folder = script(tmp_path / "own/pulumi"), tmp_path / "bin"
    script(tmp_path / "hosts/pulumi-language-python")
    monkeypatch.setenv("PATH", f"{folder}:{cli.parent}:{tmp_path / 'hosts'}:/usr/bin:/bin")
    assert executables.install(folder) == cli
    assert sorted(path.name for path in folder.iterdir() if path.suffix == "" and path.name[0] != ".") == [
        "pulumi-resource-aws"
    ]
    assert executables.install(folder) == cli, "our own folder on PATH is not asked"


def test_the_provider_s_script_runs_and_needs_a_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executables.install(tmp_path / "bin", script(tmp_path / "engine/pulumi"))
    (tmp_path / "grpc.py").write_text("raise RuntimeError('not this one')")  # the folder it is started in lends nothing
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    command = [tmp_path / "bin/pulumi-resource-aws"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    assert done.returncode == 1
    assert "gpufleet twin env" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_leads_to_the_cloud_and_does_not_grow(tmp_path: Path) -> None:
    executables.install(tmp_path / "bin", script(tmp_path / "engine/pulumi"))
    base = {"PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL_SQS": "https://elsewhere"}
    once = executables.environment(URL, tmp_path, "eu-west-1", base)
    assert once["PATH"] == f"{tmp_path / 'bin'}:/usr/bin:/bin"
    assert (once["AWS_ENDPOINT_URL"], once["AWS_REGION"], once["AWS_DEFAULT_REGION"]) == (URL, "eu-west-1", "eu-west-1")
    assert once["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/state?metadata=skip"
    assert executables.environment(URL, tmp_path, "eu-west-1", {**base, **once}) == once
    other = tmp_path / "other"
    executables.install(other / "bin", script(tmp_path / "engine/pulumi"))
    moved = executables.environment(URL, other, "eu-west-1", {**base, **once})
    assert moved["PATH"] == f"{other / 'bin'}:/usr/bin:/bin", "one embedded cloud at a time"
    assert "AWS_ENDPOINT_URL_SQS" in executables.removed(base)
    assert "AWS_PROFILE" in executables.removed(base)


# -- the CLI's events -----------------------------------------------------------------------------------------------

# As `pulumi up --json` of version 3.259 wrote them, without what is not read.
_QUEUE = {"urn": "urn:pulumi:dev::small::my:Part$aws:sqs/queue:Queue::q", "type": "aws:sqs/queue:Queue"}
_TABLE = {"urn": "urn:pulumi:dev::small::aws:dynamodb/table:Table::t", "type": "aws:dynamodb/table:Table"}
_STACK = {"urn": "urn:pulumi:dev::small::pulumi:pulumi:Stack::small-dev", "type": "pulumi:pulumi:Stack"}
_UPDATE = {
    **_QUEUE, "op": "update", "old": {"inputs": {"name": "jobs", "visibilityTimeoutSeconds": 30}},
    "new": {"inputs": {"name": "jobs", "visibilityTimeoutSeconds": 60}},
    "detailedDiff": {"visibilityTimeoutSeconds": {"diffKind": "update", "inputDiff": True}},
}  # fmt: skip
_REPLACE = {
    **_TABLE, "op": "replace", "old": {"inputs": {"hashKey": "a"}}, "new": {"inputs": {"hashKey": "b"}},
    "detailedDiff": {"hashKey": {"diffKind": "update-replace", "inputDiff": True}},
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"preludeEvent": {"config": {"small:mode": "two"}}},
    {"diagnosticEvent": {"severity": "warning", "message": "using pulumi-resource-aws from $PATH at /bin\n"}},
    {"resourcePreEvent": {"metadata": {**_STACK, "op": "same", "detailedDiff": None}}},
    {"diagnosticEvent": {"severity": "info", "message": "hello\n", "urn": _QUEUE["urn"]}},
    {"diagnosticEvent": {"severity": "debug", "message": "noise\n", "urn": _QUEUE["urn"]}},
    {"resourcePreEvent": {"metadata": _UPDATE}},
    {"resourcePreEvent": {"metadata": {**_TABLE, "op": "delete-replaced", "new": None, "detailedDiff": None}}},
    {"resOutputsEvent": {"metadata": {**_TABLE, "op": "delete-replaced", "new": None, "detailedDiff": None}}},
    {"resourcePreEvent": {"metadata": _REPLACE}},
    {"resOutputsEvent": {"metadata": _UPDATE}},
    {"resOutputsEvent": {"metadata": _REPLACE}},
    {"resourcePreEvent": {"metadata": {**_REPLACE, "op": "create-replacement"}}},
    {"resOutputsEvent": {"metadata": {**_REPLACE, "op": "create-replacement"}}},
    {"resOutputsEvent": {"metadata": {**_STACK, "op": "same", "detailedDiff": None}}},
    {"summaryEvent": {"resourceChanges": {"replace": 1, "same": 1, "update": 1}, "result": "succeeded"}},
]
_TOLD = {"severity": "error", "urn": _QUEUE["urn"], "message": "creating failed: CreateQueue: QueueAlreadyExists: no\n"}
_MISSING = "Missing required configuration variable 'small:missing'\n\tplease set a value\n"


def lines(events: list[dict[str, Any]]) -> str:
    numbered = [json.dumps({"sequence": number, **event}) for number, event in enumerate(events)]
    return "\n".join(["warning: a line of text", "{ not an event", *numbered])


def test_steps_name_what_happened_to_each_resource_once() -> None:
    steps = list(steps_of(parsed(lines(EVENTS))))
    assert [(step.op, step.name, step.type) for step in steps] == [
        ("replace", "t", "aws:dynamodb/table:Table"),
        ("update", "q", "aws:sqs/queue:Queue"),
    ]
    ((hash_key,), (timeout,)) = (step.diff for step in steps)
    assert (hash_key.path, hash_key.old, hash_key.new, hash_key.replace) == ("hashKey", "a", "b", True)
    assert (timeout.path, timeout.old, timeout.new, timeout.replace) == ("visibilityTimeoutSeconds", 30, 60, False)


FAKE = """
case "$1 $2" in
  "version "*) echo v3.300.0;;
  "stack init") [ ! -e "{0}/no-init" ] || {{ echo "error: no stack for you" >&2; exit 255; }}; echo >> "{0}/inits";;
  "stack output") echo '{{"url": "u"}}';;
  "stack export") echo '{{"deployment": {{"resources": [{{"urn": "x"}}]}}}}';;
  "up "*) echo "$AWS_ENDPOINT_URL $AWS_PROFILE" > "{0}/seen"; cat "{0}/events"; exit "$(cat "{0}/code")";;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
    (folder / "Pulumi.dev.yaml").write_text("config:\n  small:mode: one\n")
    (folder / "__main__.py").write_text("")
    (folder / ".venv").mkdir()
    return folder


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PulumiCli:
    """Driven with a script that writes what the test has put into `events` and `code`."""
    script(tmp_path / "fake/pulumi", FAKE.format(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'fake'}:/usr/bin:/bin")
    monkeypatch.setenv("AWS_PROFILE", "production")
    answers(tmp_path, EVENTS)
    return PulumiCli(tmp_path / "kept", URL, "us-east-1")


def answers(folder: Path, events: list[dict[str, Any]], code: int = 0) -> None:
    (folder / "events").write_text(lines(events))
    (folder / "code").write_text(str(code))


def test_an_update_answers_as_the_built_in_engine_does(cli: PulumiCli, project: Path, tmp_path: Path) -> None:
    seen: list[Step] = []
    result = cli.up(project, "dev", {"mode": "two"}, on_step=seen.append)
    assert result.outputs == {"url": "u"}
    assert result.counts == {"replace": 1, "update": 1}
    assert result.log == (("info", "hello"),)
    assert tuple(seen) == result.steps
    assert (tmp_path / "seen").read_text() == f"{URL} \n", "the shell's own profile would lead somewhere else"
    assert cli.exported(project, "dev") == [{"urn": "x"}]


def test_it_works_in_a_folder_of_its_own(cli: PulumiCli, project: Path, tmp_path: Path) -> None:
    before = (project / "Pulumi.dev.yaml").read_text()
    cli.up(project, "dev", {"mode": "two"})
    place = tmp_path / "kept/projects/small"
    assert (place / "__main__.py").resolve() == project / "__main__.py"
    assert not (place / ".venv").exists()
    settings = place / "Pulumi.dev.yaml"
    assert yaml.safe_load(settings.read_text()) == {"config": {"small:mode": "two"}}
    settings.write_text(f"encryptionsalt: v1:salt\n{settings.read_text()}")  # as the CLI does
    cli.up(project, "dev", {"mode": "three"})
    assert yaml.safe_load(settings.read_text()) == {"config": {"small:mode": "three"}, "encryptionsalt": "v1:salt"}
    assert (tmp_path / "inits").read_text() == "\n", "the stack is there the second time"
    assert (project / "Pulumi.dev.yaml").read_text() == before


@pytest.mark.parametrize(
    ("events", "kind", "text"),
    [
        ([{"diagnosticEvent": _TOLD},
          {"diagnosticEvent": {"severity": "error", "urn": _STACK["urn"], "message": "update failed"}}],
         UpError, "q (aws:sqs/queue:Queue): creating failed: CreateQueue: QueueAlreadyExists: no"),
        ([{"diagnosticEvent": _TOLD}, {"diagnosticEvent": _TOLD}],
         UpError, "q (aws:sqs/queue:Queue): creating failed: CreateQueue: QueueAlreadyExists: no"),
        ([{"diagnosticEvent": {"severity": "error", "message": _MISSING}}], ProgramError, _MISSING.strip()),
        ([{"diagnosticEvent": {"severity": "error", "urn": _STACK["urn"], "message": _MISSING}}],
         ProgramError, _MISSING.strip()),
        ([], UpError, "pulumi failed and said nothing"),
    ],
)  # fmt: skip
def test_a_failure_is_the_resource_s_or_the_program_s(
    cli: PulumiCli, project: Path, tmp_path: Path, events: list[dict[str, Any]], kind: type[Exception], text: str
) -> None:
    answers(tmp_path, events, code=255)
    with pytest.raises(kind) as told:
        cli.up(project, "dev")
    assert str(told.value) == text


def test_a_stack_that_cannot_be_made_is_tried_anew_next_time(cli: PulumiCli, project: Path, tmp_path: Path) -> None:
    (tmp_path / "no-init").touch()
    for _ in range(2):
        with pytest.raises(UpError, match="pulumi stack init dev failed: error: no stack for you"):
            cli.up(project, "dev")
    (tmp_path / "no-init").unlink()
    assert cli.up(project, "dev").counts


# -- how a plugin ends ----------------------------------------------------------------------------------------------

HANGING = """
import threading
from pulumi.runtime.proto import language_pb2_grpc
from gpufleet.twin.plugin.serving import serve

class Hanging(language_pb2_grpc.LanguageRuntimeServicer):
    def GetPluginInfo(self, request, context):
        print("called", flush=True)
        threading.Event().wait()

serve(lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Hanging(), server))
"""


def test_a_plugin_ends_when_it_is_asked_to_whatever_it_waits_for() -> None:
    """The engine gives it five seconds, which every failed update would take longer."""
    command = [sys.executable, "-u", "-c", HANGING]
    environment = {**os.environ, "PYTHONPATH": str(executables.ROOT)}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as plugin,  # noqa: S603
        contextlib.ExitStack() as ending,
    ):
        ending.callback(plugin.kill)
        assert plugin.stdout is not None
        port = int(plugin.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            waiting = language_pb2_grpc.LanguageRuntimeStub(channel).GetPluginInfo.future(
                empty_pb2.Empty(), wait_for_ready=True
            )
            assert plugin.stdout.readline() == "called\n"
            plugin.send_signal(signal.SIGINT)
            assert plugin.wait(timeout=3) == 0
            assert waiting.exception(timeout=3) is not None
