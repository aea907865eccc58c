"""What the guard of ten nodes costs a month at list price, from the calls that its runs make; and what it weighs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from aws_world import CONTROL, FLEET, SPOT_GROUP, World
from fleet_control.aws import runtime
from fleet_functions import Functions
from tables import Tables
from test_package import deployed, run  # noqa: F401 - a fixture, and how to use it

from components import costs

RUNS_A_MONTH = costs.SECONDS_PER_MONTH / 60
LAMBDA_LINES_BYTES = 350  # START, END and REPORT of each run, as CloudWatch Logs stores them
ALARMS = 5  # its errors, its dead letters, its silence, doubtful prices; estimated charges in a dedicated account
REQUESTS_A_MONTH = 30  # of Cost Explorer: each day but the first
MOST_USD = 3.0


@dataclass
class Hour:
    """What sixty ticks asked for."""

    calls: Counter[str]
    read_units: int
    write_units: int
    log_bytes: int

    @property
    def usd_a_month(self) -> float:
        """This hour all month, at list price, with the function's own time, its metrics and its alarms."""
        per_run = {
            "tables": self.read_units * costs.DYNAMODB_USD_PER_READ + self.write_units * costs.DYNAMODB_USD_PER_WRITE,
            "metric writes": self.calls["cloudwatch"] * costs.METRIC_USD_PER_WRITE,
            "logs": self.log_bytes / 1e9 * costs.LOGS_USD_PER_GB,
            "starts": 60 * costs.LAMBDA_USD_PER_REQUEST,
            "own time": 60 * costs.GUARD_SECONDS_PER_RUN * costs.GUARD_MIB / 1024 * costs.LAMBDA_USD_PER_GB_SECOND,
        }
        metrics = (costs.METRICS - costs.CONTROLLER_METRICS) * costs.METRIC_USD_PER_MONTH
        alarms = ALARMS * costs.ALARM_USD_PER_MONTH
        asked = REQUESTS_A_MONTH * costs.COST_EXPLORER_USD_PER_REQUEST
        return metrics + alarms + asked + sum(per_run.values()) / 60 * RUNS_A_MONTH


@pytest.fixture
def dynamodb() -> Tables:
    """In memory, where the request units are counted."""
    return Tables()


def hour(world: World, monkeypatch: pytest.MonkeyPatch, nodes: int, budget: float = 5000.0) -> Hour:
    """An hour of ticks over a fleet of so many spot instances, of which one is replaced every six minutes."""
    functions = Functions(world)
    monkeypatch.setattr(runtime, "environ", functions.environ)
    functions.guard_config["monthly_usd"] = budget
    functions.guard_config["fleets"][0]["cap"] = world.groups[SPOT_GROUP].max = 10
    running = [world.serving(launched=world.at - 60 * number) for number in range(nodes)]
    for tick in range(180):  # what ended is remembered for two hours
        if tick == 120:
            world.asked.clear()
            world.logs.clear()
        world.db.counts = False  # what the controller writes is its own
        row = {"state": "x" * 3500, "seen": "x" * 900, "boots": "", "waiting": 9, "completed": 100 * tick}
        world.put(CONTROL, pk=f"scaler#{FLEET}", at=world.at, **row)
        world.db.counts = tick >= 120
        if nodes and tick % 6 == 0:
            gone = running.pop(0)
            gone.state, gone.ec2, gone.ended = "Terminated", "terminated", world.at
            running.append(world.add(SPOT_GROUP, launched=world.at))
        world.at += 60
        functions.guard()
    logged = sum(len(json.dumps(line, separators=(",", ":"))) for line in world.logs)
    return Hour(
        Counter(service for service, _ in world.asked),
        world.db.read_units,
        world.db.write_units,
        logged + 60 * LAMBDA_LINES_BYTES,
    )


@pytest.mark.parametrize("nodes", [0, 10])
def test_the_guard_costs_at_most_three_dollars_a_month(
    world: World, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    counted = hour(world, monkeypatch, nodes)
    assert counted.usd_a_month <= MOST_USD
    assert counted.calls["cloudwatch"] == 60
    if not nodes:  # what a stack at rest is said to take
        assert counted.read_units / 60 <= costs.GUARD_TABLE_UNITS
        assert counted.write_units / 60 <= costs.GUARD_TABLE_UNITS


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak since it began")
def test_the_deployed_code_and_its_clients_weigh_less_than_128_mib(
    deployed: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the process there is Lambda's own share, about 25 MiB; answers and TLS take five more."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "function")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    used = ("autoscaling", "budgets", "ce", "cloudwatch", "dynamodb", "ec2", "sns")
    clients = "; ".join(f"runtime.client({one!r})" for one in used)
    code = f"import fleet_control.aws.scale_to_zero; from fleet_control.aws import runtime; {clients}; "
    status = run(deployed, code + "print(open('/proc/self/status').read())")
    mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
    assert mib + 25 + 5 <= 128
