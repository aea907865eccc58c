"""`gpufleet stop`, `resume` and `audit` on a provisioned stack: what they say is what the guard then does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from twin_pools import HOUR, MINUTE, ROOT, Pools
from typer.testing import CliRunner, Result

from components import costs
from components.settings import Settings
from gpufleet.cli import app
from gpufleet.operations import stop

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

DRAIN_S = 300.0  # of the stack file


class Operated(Pools):
    """A stack that somebody operates with the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(cap=2)
        session = SimpleNamespace(client=lambda service, config=None: self.client(service))
        monkeypatch.setattr(boto3, "Session", lambda region_name: session)
        monkeypatch.setattr("gpufleet.commands.target.time.time", self.now)
        monkeypatch.delenv("GPUFLEET_TWIN_URL", raising=False)  # of a shell that talks to another embedded cloud
        monkeypatch.chdir(ROOT)

    def __enter__(self) -> Operated:
        return self

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--stack", "dev"])

    def ids(self) -> set[str]:
        return {one.id for one in self.world.instances()}

    def suspended(self) -> bool:
        return all("Launch" in {one["ProcessName"] for one in group["SuspendedProcesses"]} for group in self.groups())

    def row(self, key: str) -> dict[str, Any]:
        return {name: next(iter(value.values())) for name, value in self._control_row(key)["Item"].items()}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operated]:
    with Operated(monkeypatch) as one:
        yield one


def test_a_stop_empties_the_fleet_in_the_time_it_says_and_a_resume_serves_what_waits(fleet: Operated) -> None:
    fleet.send(12, service_s=200.0)
    assert fleet.world.run_until(lambda: fleet.at_work() == 4, limit_s=HOUR)
    fleet.world.run_for(2 * MINUTE)
    said, at = fleet.run("stop", "--reason", "a bad model"), fleet.now()
    assert (said.exit_code, said.stderr) == (0, "")
    (runs,) = re.findall(r"^runs: 2 instances, (.*)$", said.stdout, re.MULTILINE)
    assert set(runs.split(", ")) == fleet.ids()
    assert f"nothing runs any more after {round((DRAIN_S + stop.TICKS_S) / 60)} min at most" in said.stdout
    assert fleet.world.run_until(lambda: not fleet.running(), limit_s=HOUR)
    assert fleet.now() - at <= DRAIN_S + stop.TICKS_S
    fleet.world.run_for(5 * MINUTE)
    assert fleet.suspended()
    assert not fleet.running()
    waiting = fleet.backlog()
    assert waiting

    said = fleet.run("resume")
    assert (said.exit_code, said.stderr) == (0, "")
    assert re.search(r"^stopped \(manual\) since .*, by .*: a bad model$", said.stdout, re.MULTILINE)
    assert f"waits: {waiting} jobs" in said.stdout
    assert fleet.world.run_until(fleet.home, limit_s=2 * HOUR)
    assert fleet.world.account().in_order
    assert not fleet.suspended()

    audit = fleet.run("audit").stdout
    assert [line.split()[0] for line in audit.splitlines()[3:]] == ["2", "1"]
    assert int(fleet.row("audit#2")["waiting"]) == waiting


def stopped(fleet: Operated) -> Result:
    """The next stop, to its end; answers what a resume says then."""
    assert fleet.world.run_until(lambda: bool(fleet.latch().get("latched")), limit_s=12 * HOUR, step_s=30)
    assert fleet.world.run_until(lambda: not fleet.running(), limit_s=HOUR)
    fleet.world.run_for(2 * MINUTE)
    return fleet.run("resume")


@pytest.mark.long
def test_dollars_that_a_refusal_asks_for_are_enough_for_the_guard(fleet: Operated) -> None:
    edits = {name: str(value) for name, value in fleet.edits.items()}
    least = costs.least_budget_usd(Settings.from_stack_file(ROOT / "Pulumi.dev.yaml", overrides=edits))
    fleet.up(monthlyBudgetUsd=math.ceil(100 * least) / 100, spot=False)
    fleet.send(100, service_s=300.0)
    refused = stopped(fleet)
    while refused.exit_code == 0:  # what two instances would still cost was left: enough for a launch of one
        refused = stopped(fleet)
    assert refused.exit_code == 1
    generation = fleet.latch()["generation"]
    (needed,) = re.findall(r"Allow \$([0-9.]+) or more", refused.stderr)
    too_few = fleet.run("resume", "--allow-extra-usd", f"{float(needed) - 0.05:.2f}")
    assert (too_few.exit_code, fleet.latch()["generation"]) == (1, generation)
    allowed = fleet.run("resume", "--allow-extra-usd", needed)
    assert (allowed.exit_code, allowed.stderr) == (0, "")
    fleet.world.run_for(2 * MINUTE)
    assert not fleet.latch()["latched"], fleet.latch()
    seen = fleet.figures()
    assert seen["budget_usd"] == pytest.approx(seen["monthly_usd"] + float(needed))
    assert fleet.world.run_until(lambda: fleet.running() > 0, limit_s=10 * MINUTE), "the dollars are for a launch"
    assert fleet.world.run_until(lambda: bool(fleet.latch()["latched"]), limit_s=12 * HOUR, step_s=30)
    assert fleet.world.run_until(lambda: not fleet.running(), limit_s=HOUR)
    fleet.world.run_for(2 * MINUTE)
    seen = fleet.figures()
    assert seen["spent_usd"] + seen["committed_usd"] <= seen["budget_usd"]
