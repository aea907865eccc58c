"""User data run in a sandbox with fake commands, and the systemd units as systemd would read them."""

# ruff: noqa: S603, S607 - runs the script under test and its checkers
from __future__ import annotations

import configparser
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from inference_worker.__main__ import COMMANDS
from worker_world import document

BOOTSTRAP = Path(__file__).parents[2] / "bootstrap"
UNITS = sorted((BOOTSTRAP / "units").iterdir())
TEMPLATE = (BOOTSTRAP / "node" / "user_data.sh").read_text(encoding="utf-8")
SHELLCHECK = shutil.which("shellcheck", path=str(Path(sys.prefix) / "bin"))

FAKES = {
    "aws": 'case "$1 $2" in "s3 cp") [[ -e "$SANDBOX/payload.zip" ]] && cp "$SANDBOX/payload.zip" "$4";; esac',
    "systemctl": "",
    "sleep": "",
    "curl": 'case "$*" in *api/token*) echo token;; *instance-id*) echo i-0123;; esac',
    "mountpoint": '[[ -e "$SANDBOX/nvme" ]]',
}


def render(config: dict[str, object], sha256: str) -> str:
    values = {"NODE_JSON": json.dumps(config), "PAYLOAD_URI": "s3://bucket/node/x.zip", "PAYLOAD_SHA256": sha256}
    script = TEMPLATE
    for name, value in values.items():
        script = script.replace(f"@@{name}@@", value)
    assert "@@" not in script
    return script


class Sandbox:
    """The rendered script with its absolute folders moved below `root`, and PATH led by fakes that log their calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fakes = root / "fakes"
        self.fakes.mkdir()
        for folder in ("etc/systemd/system", "opt"):
            (root / folder).mkdir(parents=True)
        for name, body in FAKES.items():
            self.fake(name, body)
        for name in ("python3.14", "python3.13"):
            self.fake(name, "exit 1")
        self.fake("python3.12", f'exec "{sys.executable}" "$@"')
        with zipfile.ZipFile(root / "payload.zip", "w") as payload:
            for folder in ("inference_worker", "units"):
                for path in sorted((BOOTSTRAP / folder).rglob("*")):
                    if path.is_file() and path.suffix != ".pyc":
                        payload.write(path, path.relative_to(BOOTSTRAP))
        self.sha256 = hashlib.sha256((root / "payload.zip").read_bytes()).hexdigest()

    def fake(self, name: str, body: str) -> None:
        path = self.fakes / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "$SANDBOX/calls"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)

    def run(self, sha256: str | None = None, **changes: object) -> subprocess.CompletedProcess[str]:
        script = render(document(**changes), sha256 or self.sha256)
        for folder in ("/etc/", "/opt/"):
            script = script.replace(folder, f"{self.root}{folder}")
        places = f"--config {self.root}/etc/inference/node.json --units {self.root}/etc/systemd/system"
        script = script.replace("inference_worker install", f"inference_worker install {places}")
        environment = {"PATH": f"{self.fakes}:/usr/bin:/bin", "SANDBOX": str(self.root)}
        return subprocess.run(
            ["bash"], input=script, env=environment, text=True, capture_output=True, check=False, timeout=60
        )

    def calls(self) -> list[str]:
        return (self.root / "calls").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_first_boot_sets_the_node_up_and_a_second_run_leaves_it_so(sandbox: Sandbox) -> None:
    for _ in range(2):
        done = sandbox.run()
        assert done.returncode == 0, done.stderr
        root = sandbox.root
        assert json.loads((root / "etc/inference/node.json").read_text(encoding="utf-8")) == document()
        installed = root / "etc/systemd/system"
        assert {unit.name for unit in UNITS} <= {path.name for path in installed.iterdir()}
        assert "TimeoutStopSec=410" in (installed / "worker.service.d/node.conf").read_text(encoding="utf-8")
        assert (root / "opt/inference/python3").is_symlink()
        assert (root / "opt/inference/payload/inference_worker/__main__.py").is_file()
        assert (root / "opt/inference/weights").is_dir()
        assert "systemctl enable inference.target" in sandbox.calls()
        assert sandbox.calls()[-1] == "systemctl start --no-block inference.target"
    assert not any("complete-lifecycle-action" in call for call in sandbox.calls())


def test_weights_go_to_the_instance_disk_if_there_is_one(sandbox: Sandbox) -> None:
    (sandbox.root / "nvme").touch()
    assert sandbox.run().returncode == 0
    assert (sandbox.root / "opt/inference/weights").resolve() == sandbox.root / "opt/dlami/nvme/weights"


@pytest.mark.parametrize("fault", ["wrong checksum", "no payload", "no python", "old boto3", "enable refused"])
def test_a_failed_set_up_abandons_the_launch_and_powers_off(sandbox: Sandbox, fault: str) -> None:
    if fault == "no payload":
        (sandbox.root / "payload.zip").unlink()
    if fault in ("no python", "old boto3"):
        for name in ("python3.12", "python3.11"):
            sandbox.fake(name, "exit 1")
        sandbox.fake("python3", 'case "$*" in *boto3*) exit 1;; esac; exec /usr/bin/python3 "$@"')
    if fault == "old boto3":  # it has no conditional writes to S3: such a worker would fail at its first result
        knows_nothing = "import botocore.model as m; m.StructureShape.members = property(lambda shape: {})"
        check = f'exec "{sys.executable}" -I -c "{knows_nothing}; $3"'
        sandbox.fake("python3.12", f'[[ $1 == -I ]] && {check}; exec "{sys.executable}" "$@"')
    if fault == "enable refused":
        sandbox.fake("systemctl", "[[ $1 != enable ]]")
    done = sandbox.run(sha256="0" * 64 if fault == "wrong checksum" else None)
    assert done.returncode == 1
    assert "inference set-up failed" in done.stderr
    calls = sandbox.calls()
    assert "systemctl start --no-block inference.target" not in calls
    assert calls[-1] == "systemctl poweroff"
    abandoned = [call for call in calls if "complete-lifecycle-action" in call]
    assert len(abandoned) == 2, "in both groups: the node does not know which is its own"
    assert all("--lifecycle-action-result ABANDON" in call and "--instance-id i-0123" in call for call in abandoned)
    assert "--auto-scaling-group-name inference-asg-dev-on-demand" in abandoned[1]


def test_without_a_launch_hook_a_failed_set_up_only_powers_off(sandbox: Sandbox) -> None:
    assert sandbox.run(sha256="0" * 64, launch_hook=None).returncode == 1
    assert not any("complete-lifecycle-action" in call for call in sandbox.calls())
    assert sandbox.calls()[-1] == "systemctl poweroff"


def test_user_data_is_clean_small_and_without_secrets(tmp_path: Path) -> None:
    big = document(model={"server_args": [f"--argument-{n}={'x' * 40}" for n in range(100)]})
    script = render(big, "0" * 64)
    assert len(script.encode()) < 16_384
    assert SHELLCHECK, "shellcheck comes with the development requirements"
    path = tmp_path / "user_data.sh"
    path.write_text(script, encoding="utf-8")
    found = subprocess.run([SHELLCHECK, "--severity=style", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "169.254.169.254/latest/meta-data" not in script.replace("$metadata", ""), "only with a token"
    for word in ("aws_secret", "password", "AKIA"):
        assert word not in script


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(BOOTSTRAP / "units" / name)
    return parser


def test_the_worker_stops_before_the_model_server_and_has_time_to_drain() -> None:
    worker = unit("worker.service")
    assert "model-server.service" in worker["Unit"]["After"], "stop order is the reverse of the start order"
    assert "ready.service" in worker["Unit"]["After"], "no job before the group counts the instance: a stop abandons it"
    assert worker["Service"]["KillSignal"] == "SIGTERM"
    assert worker["Service"]["Restart"] == "on-failure", "a drained worker stays down"
    assert int(worker["Service"]["TimeoutStopSec"]) >= 3600


def test_the_watchdog_looks_before_the_weights_and_outlives_its_own_faults() -> None:
    watchdog = unit("watchdog.service")
    assert "weights.service" in watchdog["Unit"]["Before"]
    assert watchdog["Service"]["ExecStartPre"].endswith("admit")
    assert watchdog["Service"]["Restart"] == "on-failure"
    assert watchdog["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_aws_command_has_a_home_it_may_write_to() -> None:
    """`aws` keeps a cache below its home, and versions of it fail if they cannot; ProtectHome takes root's away."""
    weights = unit("weights.service")["Service"]
    assert "HOME=/tmp" in weights["Environment"].split()
    assert weights["PrivateTmp"] == "yes"


def test_units_that_may_fail_first_are_wanted_not_required() -> None:
    for path in UNITS:
        for directive in ("Requires", "BindsTo", "Requisite"):
            assert directive not in unit(path.name)["Unit"], path.name


@pytest.mark.parametrize("path", [path for path in UNITS if path.suffix == ".service"], ids=lambda path: path.name)
def test_services_are_hardened_and_run_known_commands(path: Path) -> None:
    service = unit(path.name)["Service"]
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] in ("strict", "full")
    program, *arguments = service["ExecStart"].split()
    assert program == "/opt/inference/python3"
    assert arguments[:2] == ["-m", "inference_worker"]
    assert arguments[2] in COMMANDS
    assert path.name in unit("inference.target")["Unit"]["Wants"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        text = path.read_text(encoding="utf-8")
        for program in ("/opt/inference/python3", "/usr/bin/docker"):
            text = text.replace(program, "/usr/bin/true")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    files = [str(tmp_path / path.name) for path in UNITS]
    found = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    ours = [line for line in found.stderr.splitlines() if str(tmp_path) in line or "Unknown" in line]
    assert not ours, found.stderr
