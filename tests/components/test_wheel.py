"""The package as others install it: built, installed apart, used by both examples beside a `components/` of theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fleet_control.aws import config as functions
from harness import ROOT

from components import catalog, payloads

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "a" * 64
CONFIGS = {
    "fleet_only": {
        "fleet-only:region": "us-east-1",
        "fleet-only:queueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/images",
        "fleet-only:queueArn": "arn:aws:sqs:us-east-1:123456789012:images",
        "fleet-only:vpcId": "vpc-0123456789abcdef0",
        "fleet-only:subnetIds": '["subnet-0123456789abcdef0", "subnet-1123456789abcdef0"]',
    },
    "two_fleets": {"two-fleets:region": "us-east-1", "two-fleets:image": IMAGE},
}
RUN_EXAMPLES = """
import json, sys
from pathlib import Path
installed, harness_folder, programs = sys.argv[1:4]
sys.path[:0] = [installed]
sys.path.append(harness_folder)
import harness
graphs = {}
for name, config in json.loads(programs).items():
    graph = harness.run(Path(name), project=Path(name).name.replace("_", "-"), config=config)
    graphs[Path(name).name] = [[one.urn, one.type, one.name, one.inputs] for one in graph.resources]
import gpu_inference.payloads as payloads
import gpu_inference.catalog as catalog
assert Path(payloads.__file__).is_relative_to(installed), payloads.__file__
assert catalog.PRICES_FILE.is_relative_to(installed), catalog.PRICES_FILE
zips = {"zip": payloads.function_zip().sha256, "node": payloads.node_zip().sha256}
print(json.dumps({"graphs": graphs, **zips, "prices": catalog.PRICES.text()}))
"""


def _call(*command: str, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_", "PYTHON"))}
    done = subprocess.run(  # noqa: S603  our own interpreter and scripts
        [sys.executable, "-I", "-W", "ignore", *command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both examples' graphs, made by the installed package in a process that has never seen this checkout."""
    work = tmp_path_factory.mktemp("wheel")
    _call("-m", "hatchling", "build", "-t", "wheel", "-d", str(work / "dist"), cwd=ROOT)
    (wheel,) = (work / "dist").glob("*.whl")
    installed = work / "installed"
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(installed))
    _call(*pip, str(wheel), cwd=work)
    programs = {}
    for name, config in CONFIGS.items():
        program = work / name
        shutil.copytree(ROOT / "examples" / name, program)
        (program / "components").mkdir()
        (program / "components" / "__init__.py").write_text("raise RuntimeError('this is the other program')\n")
        programs[str(program)] = config
    harness_folder = work / "harness"
    harness_folder.mkdir()
    shutil.copy(ROOT / "tests" / "components" / "harness.py", harness_folder)
    arguments = ("-c", RUN_EXAMPLES, str(installed), str(harness_folder), json.dumps(programs))
    return json.loads(_call(*arguments, cwd=work, PULUMI_ERROR_OUTPUT_STRING="1", TMPDIR=str(work)))


def _names(resources: list[list[Any]]) -> Counter[tuple[str, str]]:
    """How often each AWS name is used per resource type; hooks are named per group."""
    return Counter(
        (type_, inputs["name"])
        for _, type_, _, inputs in resources
        if type_.startswith("aws:") and "name" in inputs and "lifecycleHook" not in type_
    )


def test_the_installed_package_deploys_the_same_code_as_the_checkout(ran):
    assert ran["zip"] == payloads.function_zip().sha256
    assert ran["node"] == payloads.node_zip().sha256


def test_the_installed_package_reckons_with_the_same_prices_as_the_checkout(ran):
    assert ran["prices"] == catalog.PRICES.text()


def test_a_fleet_serves_an_adopted_queue_with_a_node_of_its_own(ran):
    resources = ran["graphs"]["fleet_only"]
    assert not [name for _, type_, name, _ in resources if type_ == "aws:sqs/queue:Queue" and "dlq" not in name]
    assert not [type_ for _, type_, _, _ in resources if type_ == "aws:autoscaling/lifecycleHook:LifecycleHook"]
    (environment,) = [inputs["environment"] for _, type_, _, inputs in resources if type_.endswith(":Function")]
    config = functions.controller(environment["variables"])
    assert config.unlimited_reason == "the team's account has a limit of its own"
    assert config.jobs_table is None
    assert config.queue_url.endswith("/images")
    assert config.control_table == "vision-control-dev"


def test_two_fleets_in_one_program_share_a_guard_and_no_name(ran):
    resources = ran["graphs"]["two_fleets"]
    assert [name for name, uses in _names(resources).items() if uses > 1] == []
    urns = [urn for urn, _, _, _ in resources]
    assert len(set(urns)) == len(urns)
    environments = {
        name: inputs["environment"]["variables"] for _, type_, name, inputs in resources if "environment" in inputs
    }
    guard = functions.guard(environments["models-scale-to-zero"])
    assert [(fleet.fleet, fleet.cap) for fleet in guard.fleets] == [("small-dev", 2), ("large-dev", 1)]
    assert set(guard.prices_usd_per_hour) == {"g5.xlarge", "g6.xlarge", "g6e.xlarge", "g6e.2xlarge"}
    for name in ("small", "large"):
        assert functions.controller(environments[f"{name}-controller"]).control_table == guard.control_table
