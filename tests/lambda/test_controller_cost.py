"""What the controller of one fleet costs a month at list price, from the calls that its runs make."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aws_world import FLEET, JOBS
from tables import Tables
from test_controller_faults import Life
from test_package import deployed, run  # noqa: F401 - a fixture, and how to use it

from components import costs

RUNS_A_MONTH = costs.SECONDS_PER_MONTH / 60
LAMBDA_LINES_BYTES = 350  # START, END and REPORT of each run, as CloudWatch Logs stores them
MOST_USD = 8.0


@dataclass
class Hour:
    """What sixty runs, a minute apart, asked for."""

    calls: Counter[str]
    read_units: int
    write_units: int
    log_bytes: int

    @property
    def usd_a_month(self) -> float:
        """This hour all month, at list price, with the function's own time, its metrics and its alarms."""
        per_run = {
            "sqs": self.calls["sqs"] * costs.SQS_USD_PER_REQUEST,
            "tables": self.read_units * costs.DYNAMODB_USD_PER_READ + self.write_units * costs.DYNAMODB_USD_PER_WRITE,
            "metric writes": self.calls["cloudwatch"] * costs.METRIC_USD_PER_WRITE,
            "logs": self.log_bytes / 1e9 * costs.LOGS_USD_PER_GB,
            "starts": 60 * costs.LAMBDA_USD_PER_REQUEST,
        }
        gb_s = costs.SECONDS_PER_MONTH * costs.OVERLAP * costs.CONTROLLER_MIB / 1024
        fixed = (
            gb_s * costs.LAMBDA_USD_PER_GB_SECOND
            + costs.CONTROLLER_METRICS * costs.METRIC_USD_PER_MONTH
            + costs.CONTROLLER_ALARMS * costs.ALARM_USD_PER_MONTH
        )
        return fixed + sum(per_run.values()) / 60 * RUNS_A_MONTH


def measured(life: Life) -> Hour:
    """An hour of a fleet's life, after ten minutes of settling. Only what the controller asks for is counted."""
    life.run(600)
    tables = life.world.db
    tables.counts = True
    own, live = [0, 0], life.live

    def unbilled() -> None:  # what nodes and guard write is theirs
        before = tables.read_units, tables.write_units
        live()
        own[0] += tables.read_units - before[0]
        own[1] += tables.write_units - before[1]

    life.world.on_sleep = unbilled
    life.world.asked.clear()
    life.world.logs.clear()
    life.run(3600)
    logged = sum(len(json.dumps(line, separators=(",", ":"))) for line in life.world.logs)
    return Hour(
        Counter(service for service, _ in life.world.asked),
        tables.read_units - own[0],
        tables.write_units - own[1],
        logged + 60 * LAMBDA_LINES_BYTES,
    )


def at_rest(life: Life) -> None:
    pass


def under_load(life: Life) -> None:
    """Ten nodes at work all the time, jobs waiting all the time, and the rows of a hundred nodes that left today."""
    life.functions.controller_config["policy"]["floor"] = 10
    life.arrivals = lambda at: 4.2
    for number in range(100):
        row = {"state": "draining", "slots": 8, "busy": 0, "completed": 1234, "worked_s": 12345.678}
        more = {"cold_start_s": 241.123, "launched_at": life.world.at - 20_000, "expires": life.world.at + 9999}
        name = f"instance#i-old{number:014x}"
        life.world.put(JOBS, pk=f"fleet#{FLEET}", sk=name, at=life.world.at - 9000, **row, **more)


@pytest.mark.parametrize("day", [at_rest, under_load], ids=lambda one: one.__name__)
def test_the_controller_costs_at_most_eight_dollars_a_month(
    monkeypatch: pytest.MonkeyPatch, day: Callable[[Life], None]
) -> None:
    life = Life(monkeypatch, cap=10)
    assert isinstance(life.world.db, Tables)
    day(life)
    hour = measured(life)
    assert hour.usd_a_month <= MOST_USD
    if day is under_load:
        assert life.world.queue["NotVisible"] > 60, "it is a busy hour"


def test_the_budget_page_understates_nothing_of_a_fleet_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are the counted ones, rounded up."""
    hour = measured(Life(monkeypatch, cap=10))
    stated = costs.controller_usd_per_month("us-east-1")
    assert hour.usd_a_month <= stated <= MOST_USD
    assert hour.calls["sqs"] / 60 <= costs.LOOKS_PER_MINUTE
    assert hour.read_units / 60 <= costs.LOOKS_PER_MINUTE * costs.TABLE_READS_PER_LOOK
    assert hour.write_units / 60 <= costs.TABLE_WRITES_PER_RUN
    assert hour.log_bytes / 60 <= costs.LOG_BYTES_PER_RUN
    assert hour.calls["cloudwatch"] == 60


def test_a_run_publishes_as_many_metrics_as_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(monkeypatch)
    life.run(120)
    assert len({one["MetricName"] for one in life.world.metrics}) == costs.CONTROLLER_METRICS


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak since it began")
def test_the_deployed_code_and_its_clients_leave_a_quarter_of_the_functions_memory_free(
    deployed: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the process there is Lambda's own share, about 25 MiB; answers and TLS take five more."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "function")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients = "; ".join(f"runtime.client({one!r})" for one in ("autoscaling", "cloudwatch", "dynamodb", "sqs"))
    code = f"import fleet_control.aws.controller; from fleet_control.aws import runtime; {clients}; "
    status = run(deployed, code + "print(open('/proc/self/status').read())")
    mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
    assert mib + 25 + 5 <= costs.CONTROLLER_MIB * 0.75
