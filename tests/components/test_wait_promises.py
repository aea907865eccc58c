"""What a wait target can promise: told before anything is deployed, with the figure that holds and what it costs."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime
from typing import Any

import pulumi
import pytest
from harness import ROOT, run_stack
from hypothesis import given
from hypothesis import strategies as st

from components import full_load, promises
from components.settings import Settings


def settings_of(**overrides: Any) -> Settings:
    return Settings.from_stack_file(ROOT / "Pulumi.dev.yaml", overrides=overrides)


def test_a_target_below_the_cold_start_is_told_with_what_holds_and_what_it_costs() -> None:
    (warning,) = promises.warnings(settings_of(waitTargetSeconds="60"))
    assert "waitTargetSeconds is 60, but a fleet at zero needs 265 s" in warning
    assert "no job waits longer than 320 s (60 + 240 + 20)" in warning
    assert "A target of 270 s can be kept from zero, and the GPUs then cost about 34 % less" in warning


@given(st.integers(30, 2_000), st.floats(10, 900))
def test_the_warning_ends_where_the_promise_begins(target: int, cold: float) -> None:
    s = settings_of(**{"waitTargetSeconds": target, "advanced.coldStartSeconds": cold})
    found = promises.warnings(s)
    assert bool(found) == (target < cold + 25)
    for warning in found:  # what it recommends is not warned of, and is never dearer
        patient = int(re.findall(r"A target of (\d+) s", warning)[0])
        again = settings_of(**{"waitTargetSeconds": patient, "advanced.coldStartSeconds": cold})
        assert promises.warnings(again) == ()
        assert promises.relative_cost(patient, cold) <= promises.relative_cost(target, cold)


WINDOW = {"days": ["mon"], "from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("edit", "warned"),
    [
        ({}, True),
        ({"floor": 1}, False),
        ({"schedule": [{**WINDOW, "floor": 1}]}, False),
        ({"schedule": [{**WINDOW, "floor": 0}]}, True),
        ({"onDemandBase": 1}, True),
    ],
)
def test_instances_that_are_kept_cover_a_short_target(edit: dict[str, Any], warned: bool) -> None:
    assert bool(promises.warnings(settings_of(waitTargetSeconds="60", **edit))) == warned


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_the_project_s_own_stacks_promise_what_they_can_keep(stack: str) -> None:
    assert promises.warnings(Settings.from_stack_file(ROOT / f"Pulumi.{stack}.yaml")) == ()


@pytest.mark.parametrize("preview", [True, False])
def test_the_program_warns_once_at_preview_and_at_up(preview: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", told.append)
    s, today = settings_of(waitTargetSeconds="60"), datetime.now(UTC).date()
    run_stack("dev", preview=preview, waitTargetSeconds=60)
    of_wait, *of_money = told
    assert (of_wait,) == promises.warnings(s)
    # Midnight may pass while the program runs.
    assert tuple(of_money) in [full_load.warnings(s, day) for day in (today, datetime.now(UTC).date())]
    assert "whatever runs" in of_money[0]


def test_patience_never_costs_more_and_the_table_is_met() -> None:
    for target, cost in promises.PRICE_OF_IMPATIENCE.items():
        assert promises.relative_cost(target, 240) == pytest.approx(cost)
    waits = range(5, 3_000, 5)
    for cold in (90, 240, 600):
        costs = [promises.relative_cost(wait, cold) for wait in waits]
        assert all(later <= sooner for sooner, later in itertools.pairwise(costs))
        assert (costs[0], costs[-1]) == (1.89, 1.0)


def test_the_price_of_impatience_is_what_the_benchmark_measured() -> None:
    measured = json.loads((ROOT / "docs" / "scaling-bench.json").read_text())["impatience"]
    assert {step["wait_target_s"]: round(step["cost"], 2) for step in measured} == promises.PRICE_OF_IMPATIENCE


def test_the_reference_says_the_price_of_impatience() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| `waitTargetSeconds`")]
    assert "1.10 at 300 s" in row
    assert "1.76 at 60 s" in row
