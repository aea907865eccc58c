"""`gpufleet validate`, `schema` and `docs-config` as people and hooks run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components.settings.schema import stack_schema
from gpufleet.cli import app
from gpufleet.commands import docs_config

ROOT = Path(__file__).parents[2]
BAD = ROOT / "tests" / "components" / "stack_files"


def gpufleet(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with an empty PATH: no Pulumi CLI to lean on."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, "-m", "gpufleet", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_every_stack_file_of_the_project_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    done = gpufleet("validate", cwd=ROOT / "docs")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["OK", f"Pulumi.{name}.yaml"] for name in ("dev", "prod", "staging")
    ]
    assert re.search(r"cap 10 instances, budget \$3,000 a month, which lasts 9\.\d days at full load", done.stdout)


def test_a_faulty_file_gives_status_2_and_its_faults_and_the_others_are_still_checked() -> None:
    done = gpufleet("validate", str(BAD / "many-faults.yaml"), "Pulumi.dev.yaml", str(BAD / "file-empty.yaml"))
    assert done.returncode == 2
    assert done.stdout.startswith("OK  Pulumi.dev.yaml")
    assert "many-faults.yaml: 22 faults" in done.stderr
    assert "did you mean maxGpuInstances?" in done.stderr
    assert "file-empty.yaml: 1 fault\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_gives_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absent = CliRunner().invoke(app, ["validate", "Pulumi.nope.yaml"])
    assert (absent.exit_code, "there is no file Pulumi.nope.yaml" in absent.output) == (2, True)
    none = CliRunner().invoke(app, ["validate"])
    assert (none.exit_code, "no stack file" in none.output) == (2, True)


def test_a_file_with_an_environment_is_checked_as_far_as_it_can_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text("environment: [dev]\nconfig: {gpu-inference:cloud: aws}\n")
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert result.exit_code == 0
    assert "its environment must set aws:region, maxGpuInstances, monthlyBudgetUsd, model" in result.output


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, gpufleet.cli; print(sorted({'pulumi', 'boto3', 'pydantic', 'moto'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[]\n"


def test_the_pre_commit_hook_runs_on_stack_files_only() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == ".venv/bin/python -m gpufleet validate"  # the virtualenv that Pulumi.yaml names
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["runtime"]["options"]["virtualenv"] == ".venv"
    wanted = re.compile(hook["files"])
    assert wanted.search("Pulumi.dev.yaml")
    assert wanted.search("infra/Pulumi.prod-eu.yaml")
    assert not wanted.search("Pulumi.yaml")
    assert not wanted.search("notes/Pulumi.dev.yaml.md")


def test_generated_files_are_up_to_date() -> None:
    stale = [path.name for path, text in docs_config.generated(ROOT).items() if path.read_text() != text]
    assert stale == [], "run python -m gpufleet docs-config"


def test_docs_config_writes_what_is_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stack in ("dev", "prod"):
        shutil.copy(ROOT / f"Pulumi.{stack}.yaml", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{docs_config.TABLE_BEGINS}\nold\n{docs_config.TABLE_ENDS}\nafter\n")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["docs-config", "--check"]).exit_code == 1
    assert CliRunner().invoke(app, ["docs-config"]).exit_code == 0
    assert CliRunner().invoke(app, ["docs-config", "--check"]).exit_code == 0
    assert (tmp_path / "docs" / "configuration.md").read_text() == (ROOT / "docs" / "configuration.md").read_text()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| `dev` | 1 x 1 GPU | $150 a month | 3.2 days |\n| `prod` | 10 x 1 GPU | $3,000 a month |" in text


def test_the_reference_page_names_every_setting_and_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for line in (
        "| `aws:region` | required |",
        "| `drainSeconds` | `300` |",
        "| `leaseSeconds` | `120` |",
        "| g5.xlarge |",
    ):
        assert line in page
    example = page.split("```yaml\n")[1].split("```")[0]
    path_free = yaml.safe_load(example)
    assert path_free["config"]["gpu-inference:maxGpuInstances"] == 4


KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "anyOf", "not", "pattern"),
    *("properties", "propertyNames", "additionalProperties", "required", "items", "minItems", "maxItems"),
    *("minimum", "maximum"),
}


def keywords(schema: object) -> set[str]:
    """Every keyword of a JSON Schema and of the schemas inside it."""
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for word, inner in schema.items():
        if word in ("properties", "$defs"):
            found |= set().union(*map(keywords, inner.values()))
        elif word not in ("default", "enum", "required"):
            found |= keywords(inner)
    return found


def test_the_schema_tells_editors_about_types_names_and_typos() -> None:
    schema = stack_schema()
    assert json.loads(CliRunner().invoke(app, ["schema"]).output) == schema
    config = schema["properties"]["config"]
    assert set(config["required"]) == {
        f"gpu-inference:{k}" for k in ("cloud", "maxGpuInstances", "model", "monthlyBudgetUsd")
    }
    cap = config["properties"]["gpu-inference:maxGpuInstances"]
    assert cap["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1000}
    assert cap["anyOf"][1]["type"] == "string"
    assert config["properties"]["gpu-inference:cloud"]["enum"] == ["aws"]
    assert "us-east-1" in config["properties"]["aws:region"]["enum"]
    known, not_ours = config["propertyNames"]["anyOf"]
    assert "gpu-inference:maxGpuInstnces" not in known["enum"]
    assert re.search(not_ours["not"]["pattern"], "gpu-inference:maxGpuInstnces")
    assert schema["$defs"]["Window"]["properties"].keys() == {"days", "from", "to", "timeZone", "floor"}
    assert schema["$defs"]["Model"]["additionalProperties"] is False
    assert keywords(schema) <= KEYWORDS


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_the_stack_files_point_their_editor_to_the_schema(stack: str) -> None:
    first = (ROOT / f"Pulumi.{stack}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schemas/stack.schema.json"
    assert (ROOT / "schemas" / "stack.schema.json").exists()


def test_a_promise_that_cannot_be_kept_is_a_warning_and_no_fault(tmp_path: Path) -> None:
    text = (ROOT / "Pulumi.dev.yaml").read_text()
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(re.sub(r"(?m)^config:$", "config:\n  gpu-inference:advanced: {coldStartSeconds: 600}", text))
    done = gpufleet("validate", str(path))
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["OK", "Pulumi.dev.yaml"])
    assert done.stderr.startswith("warning  Pulumi.dev.yaml  waitTargetSeconds is 300, but a fleet at zero needs 625 s")
