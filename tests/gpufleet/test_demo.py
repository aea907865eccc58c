"""`gpufleet demo`: the whole walk as people and programs run it, what moves its figures, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fleet_control.scaling_types import Policy, Window
from fleet_control.scaling_types import floor_at as law_floor_at
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.settings import Settings
from gpufleet.cli import app
from gpufleet.demo import walk as walks
from gpufleet.demo.report import Report
from gpufleet.demo.stage import START, Stage
from gpufleet.demo.walk import InputError, Outcome, Walk, run_walk
from gpufleet.demo.windows import floor_at
from gpufleet.twin.plugin import executables

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).parents[2]
TITLES = ["provision", "at rest", "15 jobs", "real trace", "over budget", "resume", "AWS's alert", "account"]
REASONS = (
    "scale-out 0 -> 1: 15 waiting, 20.0 s each, 8 slots, target 300 s",
    "scale-in 1 -> 0: 0 waiting, ",
    "trip: $",
    " committed >= $",
    "gpufleet resume: refused, ",
    '"Scaled inference-asg-dev to zero"',
)
HEAVY = {"pulumi", "pulumi_aws", "boto3", "botocore", "moto", "matplotlib", "rich", "yaml", "greenlet"}


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A process of its own, without credentials and without a Pulumi CLI on its PATH."""
    environment = {"PYTHONPATH": str(cwd), "PATH": "", "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def walked(project: Path = ROOT, *steps: str, sabotage: Any = None, **edits: Any) -> Outcome:
    return run_walk(Walk(project, edits=edits, only=frozenset({"provision", *steps}), sabotage=sabotage))


def figures(outcome: Outcome, title: str) -> dict[str, Any]:
    (step,) = [step for step in outcome.report.steps if step.title == title]
    return step.figures


# -- the whole walk ---------------------------------------------------------------------------------------------------


def test_the_whole_walk_on_dev_by_the_real_command(subtests: pytest.Subtests, tmp_path: Path) -> None:
    """One walk, looked at from every side: it takes as long as all other tests of this file together."""
    picture = tmp_path / "new-folder" / "timeline.png"
    done = python("-m", "gpufleet", "demo", "--json", "--plot", str(picture))
    document = json.loads(done.stdout)
    steps = {step["title"]: step for step in document["steps"]}

    with subtests.test("every promise holds, and the status says so"):
        broken = [check for step in steps.values() for check in step["checks"] if not check["ok"]]
        assert (done.returncode, done.stderr, broken) == (0, "", [])
        assert list(steps) == TITLES
        assert document["ok"]
        assert (document["stack"], document["edits"], document["trace"]) == ("dev", {}, "office-hours")
        assert len({check["promise"] for step in steps.values() for check in step["checks"]}) >= 25
    with subtests.test("the account holds"):
        account = steps["account"]["figures"]
        assert account["sent"] == account["completed"] > 1000
        assert (account["lost"], account["billed_twice"], account["work_killed_s"]) == (0, 0, 0)
    with subtests.test("the fleet wakes, works and rests"):
        woke = steps["15 jobs"]["figures"]
        assert woke["completed"] == 15
        assert 0 < woke["woke_after_s"] < 75 < woke["at_rest_after_s"] < 900
    with subtests.test("jobs of a real trace start in time and for little"):
        trace = steps["real trace"]["figures"]
        assert 600 < trace["jobs"] <= 1000
        assert 0 <= trace["wait_p50_s"] <= trace["wait_p95_s"] <= trace["wait_p99_s"] <= 300
        assert trace["share_in_target"] >= 0.99
        assert 0 < trace["cost_usd"] < 6 * 1.006
    with subtests.test("the stop costs no more than the budget"):
        stop = steps["over budget"]["figures"]
        assert stop["bill_usd"] < stop["budget_usd"] < 60
        assert stop["tripped_after_s"] > 600
        assert stop["stopped_after_s"] <= 480
        assert steps["resume"]["figures"]["waited"] > 3
    said = "\n".join(line for step in steps.values() for line in step["lines"])
    for words in REASONS:
        with subtests.test("lines carry the laws' own reasons", words=words):
            assert words in said
    with subtests.test("the picture is drawn"):
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) > 20_000


# -- what is told -----------------------------------------------------------------------------------------------------


def test_lines_come_one_by_one_under_a_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    outcome = run_walk(Walk(ROOT, edits={"maxGpuInstances": 2}, only=frozenset({"provision", "at rest"})), heard.append)
    assert outcome.ok
    assert heard[0] == "stack dev   cap 2 GPU   budget $150/month   us-east-1"
    assert heard[1].startswith("1 provision ")
    assert any(line.strip() == "inference-asg-dev-on-demand  min 0  max 2  desired 0" for line in heard)
    assert heard[-1] == "Every promise held. Next: edit maxGpuInstances in Pulumi.dev.yaml and run again"
    assert json.loads(outcome.text)["edits"] == {"maxGpuInstances": 2}


def test_several_gpus_an_instance_are_told_apart() -> None:
    settings = Settings.from_stack_file(
        ROOT / "Pulumi.dev.yaml",
        overrides={"maxGpuInstances": 2, "gpuInstanceTypes": ["g5.12xlarge"], "monthlyBudgetUsd": 1000},
    )
    assert walks.headline("dev", settings) == "stack dev   cap 8 GPU (2 instances)   budget $1,000/month   us-east-1"


def test_a_broken_promise_is_told_with_what_was_expected_and_seen() -> None:
    heard: list[str] = []
    report = Report(heard.append)
    step = report.begin("a step")
    walks.check(step, "a promise", expected="this", seen="that", ok=False, where="the log")
    report.end(step, 0.1)
    assert [line.split() for line in heard] == [
        ["FAILED"],
        ["promise", "a", "promise"],
        ["expected", "this"],
        ["seen", "that"],
        ["look", "at", "the", "log"],
    ]
    assert json.loads(report.as_json({}))["ok"] is False


def test_what_nobody_foresaw_is_told_like_a_broken_promise() -> None:
    outcome = run_walk(Walk(ROOT, only=frozenset({"at rest"})))  # nothing is provisioned there
    (broken,) = outcome.report.broken
    assert (broken.promise, broken.expected) == ("a step runs to its end", "no error")
    assert broken.seen.startswith("KeyError: ")
    assert "gpufleet/demo/" in broken.where
    assert " line " in broken.where


# -- the figures come from what runs ----------------------------------------------------------------------------------


def copy_of_the_project(folder: Path) -> Path:
    for name in ("components", "lambda", "bootstrap"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("Pulumi*.yaml"), ROOT / "__main__.py"):
        shutil.copy(file, folder)
    return folder


def replace_once(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_the_figures_come_from_what_runs(subtests: pytest.Subtests, tmp_path: Path) -> None:
    baseline = figures(walked(ROOT, "15 jobs"), "15 jobs")
    assert baseline["completed"] == 15

    with subtests.test("a changed law changes them"):
        project = copy_of_the_project(tmp_path)
        law = project / "lambda" / "fleet_control" / "scaling_law.py"
        replace_once(law, "MINIMUM_AGE_S = 60.0", "MINIMUM_AGE_S = 600.0")
        slower = figures(walked(project, "15 jobs"), "15 jobs")
        assert 240 <= slower["at_rest_after_s"] - baseline["at_rest_after_s"] <= 360
        assert slower["bill_usd"] > baseline["bill_usd"]
    with subtests.test("a spot price changes the bill; the same seed leaves the rest as it was"):
        dear = figures(
            walked(ROOT, "15 jobs", sabotage=lambda stage: stage.world.market.jump(2, stage.now())), "15 jobs"
        )
        assert dear["bill_usd"] > baseline["bill_usd"] + 0.01
        assert dear | {"bill_usd": 0} == baseline | {"bill_usd": 0}
    with subtests.test("a boot time changes them"):

        def slow(stage: Stage) -> None:
            draw = stage.world.behaviour.cold_start_s
            stage.world.behaviour.cold_start_s = lambda: draw() + 200  # type: ignore[method-assign]

        late = figures(walked(ROOT, "15 jobs", sabotage=slow), "15 jobs")
        assert 150 <= late["at_rest_after_s"] - baseline["at_rest_after_s"] <= 250
        assert late["woke_after_s"] == baseline["woke_after_s"]


def test_the_stack_files_region_is_the_clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "Pulumi.dev.yaml", tmp_path)
    replace_once(tmp_path / "Pulumi.dev.yaml", "aws:region: us-east-1", "aws:region: eu-west-1")
    seen: list[str] = []
    monkeypatch.setattr(walks, "_do_steps", lambda walk, scene: seen.append(scene.stage.cloud.region))
    run_walk(Walk(tmp_path))
    assert seen == ["eu-west-1"]


SCHEDULE = [
    {"days": ["mon", "sun"], "from": "09:00", "to": "17:30", "timeZone": "Asia/Tokyo", "floor": 1},
    {"days": ["sat"], "from": "22:00", "to": "03:00", "timeZone": "America/New_York", "floor": 3},
]


@given(hours=st.floats(0, 24 * 366))
def test_the_walk_expects_the_floor_that_the_settings_and_the_law_agree_on(hours: float) -> None:
    edits = {"maxGpuInstances": 3, "schedule": SCHEDULE, "monthlyBudgetUsd": 1000}
    settings = _scheduled(json.dumps(edits))
    windows = tuple(Window(w.days, w.start, w.end, w.time_zone, w.floor) for w in settings.schedule)
    policy = Policy(slots=8, wait_target_s=300, service_s=20, cold_start_s=240, cap=3, windows=windows)
    at = START + hours * 3600
    assert floor_at(settings, at) == law_floor_at(policy, at)


@cache
def _scheduled(edits: str) -> Settings:
    return Settings.from_stack_file(ROOT / "Pulumi.dev.yaml", overrides=json.loads(edits))


def test_a_window_that_is_open_when_the_walk_begins_is_no_broken_promise() -> None:
    outcome = walked(ROOT, "at rest", schedule=SCHEDULE[:1])
    assert outcome.ok
    assert outcome.report.steps[1].lines[0] == "inference-asg-dev  min 0  max 1  desired 1"


# -- faulty input -----------------------------------------------------------------------------------------------------


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    (tmp_path / "garbage.csv").write_text("a,b\n1,2\n")
    (tmp_path / "negative.json").write_text(
        '{"name": "x", "rate_per_min": [-1], "bin_s": 60, "interarrival_cv": 1, "source": "s"}'
    )
    (tmp_path / "taken.png").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stack", "nope"], "Pulumi.nope.yaml"),
        (["--set", "maxGpuInstances"], "write KEY=VALUE, for example --set maxGpuInstances=2"),
        (["--set", "=2"], "write KEY=VALUE"),
        (["--set", "maxGpuInstances=[1"], "the value is not YAML"),
        (["--set", "maxGpuInstance=2"], "did you mean maxGpuInstances?"),
        (["--set", "maxGpuInstances=many"], "must be a whole number"),
        (["--set", "maxGpuInstances=-1", "--set", "drainSeconds=x"], "2 faults"),
        (["--set", "monthlyBudgetUsd=55"], "leaves no room for the walk's traffic"),
        (["--trace", "nope"], "no profile 'nope': there are "),
        (["--trace", "{folder}/absent.csv"], "No such file or directory"),
        (["--trace", "{folder}/garbage.csv"], "not a trace"),
        (["--trace", "{folder}/negative.json"], "a rate is negative"),
        (["--plot", "timeline.bmp"], "name a .svg, .png or .pdf file"),
        (["--plot", "{folder}/taken.png"], "that cannot be written"),
        (["--plot", "{folder}/garbage.csv/x.png"], "name a file in a folder of yours"),
        (["--engine", "pulumi"], "--engine pulumi: there is no pulumi on PATH: install it"),
        (["--engine", "terraform"], "is not one of"),
    ],
)
def test_faulty_input_gives_status_2_and_one_message(
    arguments: list[str], words: str, own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(own_files))
    monkeypatch.setattr(executables, "BUILT", Path("absent"))
    done = CliRunner().invoke(app, ["demo", "--json", *(text.format(folder=own_files) for text in arguments)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert type(done.exception) is SystemExit  # nothing else came out of the command


def test_the_shells_aws_settings_do_not_matter() -> None:
    """Not even a profile that is not there: moto looks at it as it is imported."""
    command = [sys.executable, "-m", "gpufleet", "demo", "--json", "--trace", "nope"]
    environment = {**os.environ, "AWS_PROFILE": "absent", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--trace: no profile 'nope'")


def test_a_program_that_fails_is_faulty_input_too(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path)
    replace_once(project / "__main__.py", "opts = pulumi", 'raise pulumi.RunError("not today")\nopts = pulumi')
    with pytest.raises(InputError, match="pulumi up failed: not today"):
        walked(project)


# -- the first line comes first ---------------------------------------------------------------------------------------

ORDER = """
import io, json, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name in {heavy}: order.append(name)
class Screen(io.StringIO):
    def write(self, text):
        order.append(text.strip() if isinstance(text, str) else text.decode().strip())
        return len(text)
order, screen = [], sys.stdout
sys.meta_path.insert(0, Hook())
import gpufleet.cli
before = list(order)
sys.stdout, sys.argv = Screen(), ["gpufleet", "demo", "--trace", "nope"]
try: gpufleet.cli.main()
except SystemExit: pass
sys.stdout = screen
print(json.dumps([before, order]))
"""


def test_the_first_line_is_on_the_screen_before_anything_heavy_loads_and_no_traceback_ends_it() -> None:
    done = python("-c", ORDER.format(heavy=sorted(HEAVY)))
    assert done.stderr.startswith("--trace: no profile 'nope'")
    assert "Traceback" not in done.stderr
    before, order = json.loads(done.stdout)
    assert before == []
    first, *rest = [entry for entry in order if entry]
    assert first.startswith("gpufleet demo")
    assert {"pulumi", "boto3", "moto"} <= set(rest)
