"""The built-in engine against the real one: the same day on the same resources (the graphs: test_lifecycle.py)."""

from __future__ import annotations

import json
import re

import pytest
from desk import ROOT

from gpufleet.demo.walk import Walk, run_walk

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]


def test_the_demo_gives_the_same_account_by_both_engines() -> None:
    accounts = [json.loads(_walked(real_engine=real)) for real in (False, True)]
    assert [account.pop("engine") for account in accounts] == ["built-in", "pulumi"]
    assert accounts[0] == accounts[1]


def _walked(*, real_engine: bool) -> str:
    outcome = run_walk(Walk(ROOT, real_engine=real_engine))
    assert outcome.ok, outcome.text
    return re.sub(r"(inference-results-dev-)[0-9a-f]{26}", r"\1<chosen by the provider>", outcome.text)
