"""The least budget that settings admit, held against the law of the guard that will watch it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fleet_control import spend_law
from fleet_control.spend_law import committed_usd
from fleet_control.spend_prices import Prices, Running
from hypothesis import given
from hypothesis import strategies as st

from components import costs
from components.settings import Settings, SettingsError

DEV = Path(__file__).parents[2] / "Pulumi.dev.yaml"
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def test_both_know_the_same_times() -> None:
    assert (costs.ALLOWANCE_SECONDS, costs.LEAVING_SECONDS) == (spend_law.ALLOWANCE_S, spend_law.LEAVING_S)


@given(st.integers(1, 60), st.integers(30, 3000), st.booleans())
def test_it_holds_what_is_committed_for_the_whole_cap_when_a_month_begins(
    cap: int, drain_s: int, foreign: bool
) -> None:
    edits = {"maxGpuInstances": str(cap), "drainSeconds": str(drain_s)}
    edits |= {"model.image": "vllm/vllm-openai@sha256:" + "0" * 64} if foreign else {}
    with pytest.raises(SettingsError) as refused:
        Settings.from_stack_file(DEV, overrides={**edits, "monthlyBudgetUsd": "1"})
    (least,) = re.findall(r"at least (\S+):", str(refused.value))
    budget = float(least) + 0.01  # it is told rounded
    s = Settings.from_stack_file(DEV, overrides={**edits, "monthlyBudgetUsd": f"{budget:.2f}"})

    disk = costs.disk_usd_per_hour(s.advanced.disk_gib, s.region)
    hourly, requests = costs.dearest_usd_per_hour(s) - disk, costs.node_requests_usd_per_hour(s.region)
    fixed, boot = costs.fixed_usd_of(s), costs.per_boot_usd(s.model.image, s.network is None, s.region)
    prices = Prices({"dearest": hourly}, hourly, per_boot=boot, fixed_per_month=fixed)
    fleet = [
        Running(str(number), "dearest", "z", False, DECEMBER - 3600, None, disk + requests, s.drain_seconds)
        for number in range(cap)
    ]
    committed = committed_usd(fleet, (), prices, DECEMBER)
    assert committed <= budget
    assert committed - fixed == pytest.approx(costs.stopping_usd(s))
