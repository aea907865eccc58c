"""In a dedicated account the estimated charges are a second way by which the guard hears of the spending."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpufleet.demo.stage import Stage

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600.0


@pytest.mark.parametrize(("edits", "stops"), [({"dedicatedAccount": True}, True), ({}, False)])
def test_with_the_message_of_the_aws_budget_lost_the_charges_make_the_guard_ask(
    edits: dict[str, bool], stops: bool
) -> None:
    """AWS Budgets speaks once a month, and its message is lost. The account's charges pass the budget too."""
    with Stage(ROOT, "dev", edits, "us-east-1", 1) as stage:
        stage.up()
        stage.world.run_for(HOUR)
        services, bill = stage.world.services, stage.world.bill
        services.budgets.figure = lambda: 200.0
        services.sns.loss_probability = 1.0
        services.budgets.refresh_now()
        stage.world.run_for(HOUR)
        services.sns.loss_probability = 0.0
        assert stage.latch().get("latched") is not True, "nobody told the guard"

        bill.add_foreign(200.0, start=stage.now() - HOUR)  # somebody's mistake, in an account of this stack alone
        stage.world.run_until(lambda: bool(stage.latch().get("latched")), limit_s=20 * HOUR)
        assert bool(stage.latch().get("latched")) == stops
        assert stage.failures() == []
        if stops:
            assert stage.latch()["reason"] == "budget"
            assert [one["alarm"] for one in services.cloudwatch.history if one["new"] == "ALARM"] == [
                "inference-estimated-charges-dev"
            ]
