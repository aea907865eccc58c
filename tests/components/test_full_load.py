"""What the whole cap at work costs, told before anything is deployed: in dollars, and with the day the budget ends."""

from __future__ import annotations

import importlib
import math
import re
from datetime import date, timedelta
from typing import Any

import pulumi
import pytest
from harness import ROOT
from hypothesis import given
from hypothesis import strategies as st

from components import catalog, costs, full_load, promises
from components.settings import Settings

FIRST, LATE = date(2026, 9, 1), date(2026, 11, 28)
RESERVED = {"id": "cr-0123456789abcdef0", "instanceType": "g6.xlarge", "instances": 1}


def settings_of(stack: str = "dev", **overrides: Any) -> Settings:
    return Settings.from_stack_file(ROOT / f"Pulumi.{stack}.yaml", overrides=overrides)


def test_the_dev_stack_is_told_its_worst_month_and_the_day_its_budget_ends() -> None:
    """By hand: a g6.4xlarge at $1.3232, 150 GiB at $0.08 a month of 720 hours; the rest of $150 lasts three days."""
    hour = 1.3232 + 150 * 0.08 / 720
    idle = costs.fixed_usd_per_month(True, "us-east-1")
    worst, days = idle + 744 * hour, (150 - idle) / hour / 24
    assert 3 < days < 4
    (told,) = full_load.warnings(settings_of(), FIRST)
    assert told == (
        f"monthlyBudgetUsd is 150, but with the whole cap at work all month this stack would cost ${worst:,.0f}: "
        f"1 x g6.4xlarge, the dearest of gpuInstanceTypes, on demand with its disk at ${hour:.2f} an hour, and "
        f"${idle:,.0f} whatever runs. From the 1st the budget lasts {days:.1f} days: the guard stops the fleet on the "
        "4th."
    )


def test_from_a_later_day_it_ends_later_or_the_month_ends_first() -> None:
    (early,) = full_load.warnings(settings_of(), date(2026, 11, 10))
    assert "From today (2026-11-10), with no GPU used this month so far, it ends on 2026-11-13." in early
    (late,) = full_load.warnings(settings_of(), LATE)
    rest = 3 * 24 * costs.full_load_usd_per_hour(settings_of())
    assert f"From today (2026-11-28), with no GPU used this month so far, the month's rest (${rest:,.0f}) fits." in late


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_the_figure_is_that_of_the_readme(stack: str) -> None:
    (told,) = full_load.warnings(settings_of(stack), FIRST)
    (lasts,) = re.findall(r"the budget lasts (\d+\.\d) days", told)
    assert re.search(
        rf"^\| `{stack}` \|.*\| {re.escape(lasts)} days \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )


@given(st.integers(1, 40), st.integers(90, 60_000), st.dates(date(2026, 8, 1), date(2026, 12, 31)))
def test_it_is_told_exactly_if_the_whole_cap_may_cost_more_than_the_budget(cap: int, usd: int, today: date) -> None:
    s = settings_of(maxGpuInstances=str(cap), monthlyBudgetUsd=str(usd))
    worst = costs.idle_usd_per_month(s) + 744 * cap * costs.dearest_usd_per_hour(s)
    told = full_load.warnings(s, today)
    assert len(told) == (worst > usd)
    for text in told:
        hours = (usd - costs.idle_usd_per_month(s)) / (cap * costs.dearest_usd_per_hour(s))
        day = int(re.findall(r"on the (\d+)(?:st|nd|rd|th)", text)[0])
        assert 24 * (day - 1) <= hours < 24 * day
        for ends in re.findall(r"it ends on (\S+)\.", text):
            last = date.fromisoformat(ends)
            assert last == today + timedelta(days=math.floor(hours / 24))
            assert (last.year, last.month) == (today.year, today.month)
        assert ("fits" in text) + ("it ends on" in text) == (today.day > 1)


def test_more_budget_than_the_worst_month_is_told_nothing() -> None:
    worst = costs.full_load_usd_per_month(settings_of())
    assert full_load.warnings(settings_of(monthlyBudgetUsd=str(math.ceil(worst))), FIRST) == ()


def test_reserved_capacity_is_paid_whatever_runs() -> None:
    (some,) = full_load.warnings(settings_of("prod", capacityReservation=RESERVED), FIRST)
    assert "9 x g6.4xlarge, the dearest" in some
    assert "and the disks of 1 reserved, and $" in some
    all_reserved = settings_of(monthlyBudgetUsd="655", capacityReservation=RESERVED)
    (all_of_it,) = full_load.warnings(all_reserved, FIRST)
    idle = costs.fixed_usd_per_month(True, "us-east-1") + 744 * 0.8048
    disk = 744 * 150 * 0.08 / 720
    assert f"would cost ${idle + disk:,.0f}: the disks of 1 reserved, and ${idle:,.0f} whatever runs" in all_of_it


def test_old_prices_are_told_with_their_date_and_what_to_run() -> None:
    enough = settings_of(monthlyBudgetUsd="5000")
    limit = date.fromisoformat(catalog.PRICES_AS_OF) + timedelta(days=180)
    assert full_load.warnings(enough, limit) == ()
    (told,) = full_load.warnings(enough, limit + timedelta(days=1))
    assert told.startswith(f"the GPU prices are 181 days old (of {catalog.PRICES_AS_OF})")
    assert "gpufleet prices refresh" in told


@pytest.mark.parametrize(
    ("day", "word"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (13, "13th"), (22, "22nd")]
)
def test_days_have_their_endings(day: int, word: str) -> None:
    assert full_load.ordinal(day) == word


def test_nobody_but_the_program_reads_a_clock() -> None:
    """Two previews of one file on two days differ in their log alone: the date goes nowhere else."""
    for module in ("full_load", "promises", "costs", "catalog"):
        source = (ROOT / "components" / f"{module}.py").read_text()
        assert not re.search(r"\.(now|today|utcnow|time)\(", source), module
        importlib.import_module(f"components.{module}")


def test_warnings_reach_the_log_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", told.append)
    promises.warn(settings_of(waitTargetSeconds="60"), LATE)
    assert [text.split(" is ", 1)[0] for text in told] == ["waitTargetSeconds", "monthlyBudgetUsd"]
