"""What users of the settings rely on: lax values, Pulumi's own keys, both ways in, one clear message, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.runtime import config as runtime_config
from pydantic import ValidationError

from components.aws import fleet_plans
from components.clouds import load_cloud
from components.settings import Settings, SettingsError, check_stack_file
from components.settings.faults import shown
from components.settings.model import SettingsFields

ROOT = Path(__file__).parents[2]
IMAGE = "vllm@sha256:" + "0123456789abcdef" * 4
CONFIG = {
    "aws:region": "us-east-1",
    "gpu-inference:cloud": "aws",
    "gpu-inference:maxGpuInstances": 2,
    "gpu-inference:monthlyBudgetUsd": 300,
    "gpu-inference:model": {"weights": "s3://acme-models/llama/", "image": IMAGE, "slots": 8},
}


def stack_file(folder: Path, stack: str = "dev", top: dict | None = None, **config: object) -> Path:
    path = folder / f"Pulumi.{stack}.yaml"
    ours = {f"gpu-inference:{key}": value for key, value in config.items()}
    path.write_text(yaml.safe_dump({"config": {**CONFIG, **ours}, **(top or {})}))
    return path


@pytest.mark.parametrize(("stack", "cap", "budget"), [("dev", 1, 150), ("staging", 2, 400), ("prod", 10, 3000)])
def test_the_stacks_of_this_project_are_sound(stack: str, cap: int, budget: float) -> None:
    s = Settings.from_stack_file(ROOT / f"Pulumi.{stack}.yaml")
    assert (s.stack, s.max_gpu_instances, s.monthly_budget_usd) == (stack, cap, budget)
    assert s.is_production == (stack == "prod")
    assert s.names("inference").queue == f"inference-queue-{stack}"
    assert s.prices_usd_per_hour["g6.xlarge"] == 0.8048


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    s = Settings.from_stack_file(stack_file(tmp_path))
    assert s.gpu_instance_types == ("g5.xlarge", "g6.xlarge", "g5.2xlarge", "g6.2xlarge", "g6.4xlarge")
    assert (s.floor, s.spot, s.on_demand_fallback, s.wait_target_seconds) == (0, True, True, 300)
    assert (s.budget_warn_percent, s.drain_seconds, s.resume_on_new_month) == (80, 300, True)
    assert (s.schedule, s.network, s.ami, s.permissions_boundary, dict(s.tags)) == ((), None, None, None, {})
    assert (s.advanced.expected_service_seconds, s.advanced.cold_start_seconds, s.advanced.lease_seconds) == (
        20,
        240,
        120,
    )
    assert (s.model.port, s.model.server_args, s.architecture, s.gpus_per_instance) == (8000, (), "x86_64", 1)


def test_hooks_outlast_the_work_they_wait_for(tmp_path: Path) -> None:
    longest = {"bootDeadlineSeconds": 7140}
    s = Settings.from_stack_file(stack_file(tmp_path, drainSeconds=7140, advanced=longest))
    drain, boot = s.drain_seconds, s.advanced.boot_deadline_seconds
    assert drain < fleet_plans.terminate_hook(drain)["heartbeat_timeout"] <= 7200
    assert boot < fleet_plans.launch_hook(boot)["heartbeat_timeout"] <= 7200


def test_values_may_be_text_as_pulumi_config_set_writes_them(tmp_path: Path) -> None:
    s = Settings.from_stack_file(
        stack_file(
            tmp_path,
            maxGpuInstances="2",
            monthlyBudgetUsd="300.50",
            spot="false",
            gpuInstanceTypes='["g6.xlarge"]',
            advanced='{"leaseSeconds": "60"}',
            schedule='[{"days": ["Monday"], "from": "22:00", "to": "06:00", "timeZone": "UTC", "floor": "1"}]',
            tags={"cost-center": 1234, "gpu": True},
        )
    )
    assert (s.max_gpu_instances, s.monthly_budget_usd, s.spot) == (2, 300.5, False)
    assert (s.gpu_instance_types, s.advanced.lease_seconds, s.schedule[0].days) == (("g6.xlarge",), 60, ("mon",))
    assert dict(s.tags) == {"cost-center": "1234", "gpu": "true"}


def test_yaml_is_read_as_pulumi_reads_it(tmp_path: Path) -> None:
    """YAML 1.2: 18:00 is a word and not the number 1080; yes and off are words, which a flag understands."""
    path = stack_file(tmp_path)
    window = "{days: [mon], from: 10:00, to: 18:00, timeZone: UTC, floor: 0x1}"
    path.write_text(path.read_text() + f"  gpu-inference:schedule: [{window}]\n  gpu-inference:spot: off\n")
    s = Settings.from_stack_file(path)
    assert (s.schedule[0].start, s.schedule[0].end, s.schedule[0].floor, s.spot) == ("10:00", "18:00", 1, False)


def test_yaml_anchors_and_merges_are_understood(tmp_path: Path) -> None:
    path = stack_file(tmp_path)
    weekday = "{days: [mon], from: '08:00', to: '18:00', timeZone: UTC, floor: 1}"
    saturday = "{<<: *weekday, days: [sat], floor: 0}"
    path.write_text(path.read_text() + f"  gpu-inference:schedule: [&weekday {weekday}, {saturday}]\n")
    schedule = Settings.from_stack_file(path).schedule
    assert [(window.days, window.start, window.floor) for window in schedule] == [
        (("mon",), "08:00", 1),
        (("sat",), "08:00", 0),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("!!int abc", "abc"), ("!!float abc", "abc"), ("!!bool abc", "abc"), ("1_000_000_0", "10000000"), (".inf", "inf")],
)
def test_odd_numbers_are_refused_by_their_rule_and_not_by_a_crash(tmp_path: Path, text: str, value: str) -> None:
    path = stack_file(tmp_path)
    path.write_text(path.read_text() + f"  gpu-inference:floor: {text}\n")
    with pytest.raises(SettingsError) as caught:
        Settings.from_stack_file(path)
    assert [(fault.key, fault.value) for fault in caught.value.faults] == [("floor", value)]


def test_a_file_without_settings_names_what_is_required(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text("config:\n")
    with pytest.raises(SettingsError) as caught:
        Settings.from_stack_file(path)
    missing = ["cloud", "aws:region", "maxGpuInstances", "monthlyBudgetUsd", "model"]
    assert [fault.key for fault in caught.value.faults] == missing


def test_the_components_of_a_cloud_are_found_by_its_name() -> None:
    with pytest.raises(ValueError, match="choose one of aws"):
        load_cloud("asw")


def test_keys_of_pulumi_and_of_other_packages_are_left_alone(tmp_path: Path) -> None:
    top = {
        "encryptionsalt": "v1:a",
        "secretsprovider": "awskms://alias/x",
        "encryptedkey": "abc",
        "environment": ["dev"],
    }
    path = stack_file(tmp_path, top=top)
    config = yaml.safe_load(path.read_text())
    config["config"] |= {"aws:profile": {"secure": "v1:abc"}, "pulumi:disable-default-providers": ["*"], "other:key": 1}
    path.write_text(yaml.safe_dump(config))
    assert Settings.from_stack_file(path).max_gpu_instances == 2


def test_keys_may_leave_out_the_namespace_or_spell_it_the_old_way(tmp_path: Path) -> None:
    path = stack_file(tmp_path)
    path.write_text(path.read_text() + "  floor: 1\n  gpu-inference:config:drainSeconds: 60\n")
    s = Settings.from_stack_file(path)
    assert (s.floor, s.drain_seconds) == (1, 60)


def test_an_environment_may_set_what_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text("environment: [inference-dev]\nconfig: {gpu-inference:floor: 1}\n")
    check = check_stack_file(path)
    assert (check.faults, check.settings, check.error) == ((), None, None)
    assert check.missing == ("cloud", "aws:region", "maxGpuInstances", "monthlyBudgetUsd", "model")
    with pytest.raises(SettingsError):
        Settings.from_stack_file(path)
    path.write_text("environment: [inference-dev]\nconfig: {gpu-inference:floor: -1}\n")
    assert [fault.key for fault in check_stack_file(path).faults] == ["floor"]


def test_the_project_file_may_set_values_for_every_stack(tmp_path: Path) -> None:
    path = stack_file(tmp_path, floor=1, monthlyBudgetUsd=900)
    (tmp_path / "Pulumi.yaml").write_text(
        "name: gpu-inference\nconfig:\n  gpu-inference:floor: {type: integer, default: 0}\n"
        "  gpu-inference:drainSeconds: {value: 90}\n  gpu-inference:spot: false\n  gpu-inference:ami: {type: string}\n"
    )
    s = Settings.from_stack_file(path)
    assert (s.floor, s.drain_seconds, s.spot, s.ami) == (1, 90, False, None)


def test_overrides_replace_values_by_key_and_are_checked_like_them(tmp_path: Path) -> None:
    path = stack_file(tmp_path)
    s = Settings.from_stack_file(
        path, overrides={"maxGpuInstances": "5", "model.slots": "4", "advanced.dryRun": "true"}
    )
    assert (s.max_gpu_instances, s.model.slots, s.model.image, s.advanced.dry_run) == (5, 4, IMAGE, True)
    with pytest.raises(SettingsError, match=r"did you mean model\.slots"):
        Settings.from_stack_file(path, overrides={"model.slotz": "4"})


def test_a_typo_is_answered_with_the_closest_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_stack_file(stack_file(tmp_path, WaitTargetSecond=60, qqq=1))
    fixes = {fault.key: fault.fix for fault in caught.value.faults}
    assert fixes["WaitTargetSecond"] == "did you mean waitTargetSeconds?"
    assert fixes["qqq"].startswith("the keys here are cloud, aws:region, maxGpuInstances")


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    s = Settings.from_stack_file(stack_file(tmp_path, tags={"team": "ml"}))
    with pytest.raises(ValidationError):
        s.floor = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        s.tags["team"] = "other"  # type: ignore[index]


def test_a_file_that_is_not_there_or_is_a_folder_gives_one_message(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        Settings.from_stack_file(tmp_path / "Pulumi.dev.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.from_stack_file(tmp_path)
    (tmp_path / "Pulumi.big.yaml").write_bytes(b"# " + b"x" * 1_000_000)
    with pytest.raises(SettingsError, match="larger than 1 MB"):
        Settings.from_stack_file(tmp_path / "Pulumi.big.yaml")


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = stack_file(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Settings.from_stack_file(path).cloud == "aws"


# Under `pulumi up`: the language host puts PULUMI_CONFIG (all values as text) into the environment and runs the program
# like this, which is what pulumi-language-python-exec does; without an engine its log goes to standard error.
HOST = """
    import asyncio, runpy, sys, traceback
    import pulumi
    from pulumi.runtime.stack import run_pulumi_func
    class Mocks(pulumi.runtime.Mocks):
        def call(self, args): return {}
        def new_resource(self, args): return args.name, args.inputs
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(Mocks(), project="gpu-inference", stack=sys.argv[1])
    pulumi.runtime.set_all_config(pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env())
    try:
        program = lambda: runpy.run_path(sys.argv[2], run_name="__main__")
        asyncio.get_event_loop().run_until_complete(run_pulumi_func(program))
    except pulumi.RunError as e:
        pulumi.log.error(str(e))
        sys.exit(1)
    except Exception:
        pulumi.log.error(traceback.format_exc())
        sys.exit(1)
"""


def run_program(folder: Path, config: dict[str, object], stack: str = "dev", secret: tuple[str, ...] = ()):
    (folder / "host.py").write_text(textwrap.dedent(HOST))
    (folder / "program.py").write_text(
        "from components.settings import Settings\n"
        "s = Settings.load()\n"
        "print(s.stack, s.max_gpu_instances, s.model.slots, s.gpu_instance_types)\n"
    )
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PULUMI_CONFIG": json.dumps(text),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(secret),
    }
    return subprocess.run(  # noqa: S603  our own two files
        [sys.executable, "host.py", stack, "program.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_program_reads_the_settings_that_pulumi_hands_it(tmp_path: Path) -> None:
    config = {**CONFIG, "gpu-inference:gpuInstanceTypes": ["g6.xlarge"], "pulumi:disable-default-providers": ["*"]}
    done = run_program(tmp_path, config, stack="staging")
    assert (done.returncode, done.stdout, done.stderr) == (0, "staging 2 8 ('g6.xlarge',)\n", "")


def test_a_program_with_faulty_settings_shows_the_message_and_no_traceback(tmp_path: Path) -> None:
    config = {**CONFIG, "gpu-inference:maxGpuInstances": 0, "gpu-inference:flor": 1, "gpu-inference:spot": None}
    done = run_program(tmp_path, config, stack="prod", secret=("gpu-inference:cloud",))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "stack prod: 5 faults" in done.stderr
    for part in ("must be a whole number from 1 to 1000", "did you mean floor?", "has no value", "must be plain"):
        assert part in done.stderr
    assert "in a production stack" in done.stderr


def test_load_reads_the_configuration_of_mocks(monkeypatch: pytest.MonkeyPatch) -> None:
    token = runtime_config.CONFIG.set({})
    try:
        pulumi.runtime.set_all_config(
            {key: value if isinstance(value, str) else json.dumps(value) for key, value in CONFIG.items()}
        )
        assert Settings.load().max_gpu_instances == 2
        monkeypatch.setenv("PULUMI_CONFIG", "not json")
        with pytest.raises(SettingsError, match="PULUMI_CONFIG is not JSON"):
            Settings.load()
    finally:
        runtime_config.CONFIG.reset(token)


def read_bytes(content: bytes) -> list[SettingsError]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Pulumi.dev.yaml"
        path.write_bytes(content)
        error = check_stack_file(path).error
        try:
            Settings.from_stack_file(path)
        except SettingsError as raised:
            return [raised, *([error] if error else [])]
    return []


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([field.alias or name for name, field in SettingsFields.model_fields.items() if name != "stack"])
NESTED = st.dictionaries(
    st.sampled_from(["weights", "image", "slots", "serverArgs", "parametersBillions", "days", "from", "timeZone"])
    | st.sampled_from(["vpcId", "privateSubnetIds", "leaseSeconds", "coldStartSeconds", "secure"]),
    ANY,
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        KEYS.map("gpu-inference:".__add__) | st.just("aws:region"), ANY | NESTED | st.lists(NESTED), max_size=6
    )
)
def test_no_configuration_raises_anything_but_a_settings_error(config: dict) -> None:
    for error in read_bytes(yaml.dump({"config": CONFIG | config}).encode()):
        assert all(len(line) < 600 for line in str(error).splitlines())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="&*!|>{}[]:-?#'\"\t\n ab<1~%@`", max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_settings_error(content: bytes) -> None:
    read_bytes(content)


@given(ANY)
def test_any_value_is_shown_on_one_short_line(value: object) -> None:
    assert len(shown(value)) <= 100
    assert "\n" not in shown(value)


def test_a_value_that_holds_itself_or_repeats_itself_a_billion_times_is_shown_short() -> None:
    loop: list = []
    loop.append(loop)
    bomb: list = ["lol"]
    for _ in range(40):
        bomb = [bomb] * 10
    assert len(shown(loop)) <= 100
    assert len(shown(bomb)) <= 100
    assert shown(10**5000) == "a very large number"


RESERVED = {"id": "cr-0123456789abcdef0", "instanceType": "g5.xlarge", "instances": 2}


@pytest.mark.parametrize(
    ("config", "first", "on_demand"),
    [
        ({}, 0, True),
        ({"onDemandFallback": False}, 0, False),
        ({"onDemandFallback": False, "onDemandBase": 1}, 1, True),
        ({"onDemandFallback": False, "capacityReservation": RESERVED}, 2, True),
        ({"onDemandBase": 1, "capacityReservation": RESERVED}, 2, True),
        ({"spot": False}, 0, True),
    ],
)
def test_the_first_instances_are_the_base_or_all_that_is_reserved(
    tmp_path: Path, config: dict, first: int, on_demand: bool
) -> None:
    s = Settings.from_stack_file(stack_file(tmp_path, monthlyBudgetUsd=3000, **config))
    assert (s.on_demand_first, s.uses_on_demand) == (first, on_demand)


def test_reserved_capacity_pays_for_its_part_of_a_floor(tmp_path: Path) -> None:
    """Two reserved g5.xlarge are $1497 a month, whatever runs; a floor of two then adds its disks alone."""
    s = Settings.from_stack_file(
        stack_file(tmp_path, monthlyBudgetUsd=1600, spot=False, floor=2, capacityReservation=RESERVED)
    )
    assert s.floor == 2
    with pytest.raises(SettingsError, match=r"must be affordable: 2 x g6\.xlarge on demand all month cost 1271"):
        Settings.from_stack_file(stack_file(tmp_path, monthlyBudgetUsd=1250, spot=False, floor=2))
