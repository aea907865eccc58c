"""What AWS itself says of the bill: it only ever raises the ledger, and only if it is of this stack."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, JOBS, SPOT_GROUP, World
from fleet_control.aws.scale_to_zero import GuardError
from fleet_control.spend_ledger import Ledger, month_bounds
from fleet_control.spend_meter import reconciled
from fleet_functions import Functions

MESSAGE = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "AWS Budget Notification"}}]}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def stored(world: World) -> Ledger:
    return Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"])


def with_days(world: World, usd_a_day: float) -> Ledger:
    """A ledger that has charged as much each day of the month so far, and marked each day's begin."""
    days = {f"{day:02d}": usd_a_day * (day - 1) for day in range(1, 23)}
    made = Ledger("2026-11", world.at, on_demand_usd=usd_a_day * 21.5, warned=True, checked="2026-11-21", days=days)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=made.to_json())
    return made


@pytest.fixture
def reconciling(functions: Functions) -> Functions:
    functions.guard_config["reconcile_daily"] = True
    return functions


def test_a_figure_of_more_than_this_stack_does_not_count(world: World, functions: Functions) -> None:
    """Somebody took the tag filter off the budget: what the whole account costs says nothing about this stack."""
    world.budget = ("149.5", NOON)
    for somebody_s in ("", "user:team$ml"):
        world.budget_filter = somebody_s
        with pytest.raises(GuardError, match=r"ScopeError: budget inference-budget-dev is not filtered by user:gpu"):
            functions.guard(MESSAGE)
        assert stored(world).spent_usd < 1
        assert not world.row(CONTROL, "latch")


def test_an_account_wide_figure_counts_if_the_account_is_dedicated(world: World, functions: Functions) -> None:
    world.budget, world.budget_filter = ("149.5", NOON), ""
    functions.guard_config["dedicated_account"] = True
    assert functions.guard(MESSAGE) == f"Scaled {SPOT_GROUP} to zero"
    assert stored(world).spent_usd == pytest.approx(149.5)


def test_cost_explorer_is_asked_once_a_day(world: World, reconciling: Functions) -> None:
    world.at = datetime(2026, 11, 22, 11, 59, tzinfo=UTC).timestamp()
    with_days(world, 1.0)
    world.daily_usd = [1.0] * 21
    reconciling.guard()
    assert world.changed("cost-explorer") == [], "by noon most of yesterday is there"
    for _ in range(5):
        world.at += 60
        reconciling.guard()
    (asked,) = world.changed("cost-explorer")
    assert asked[1:3] == ("2026-11-01", "2026-11-22")
    assert json.loads(asked[3]) == {
        "And": [
            {"Tags": {"Key": "gpu-inference-stack", "Values": ["dev"]}},
            {"Not": {"Dimensions": {"Key": "RECORD_TYPE", "Values": ["Credit", "Refund"]}}},
        ]
    }
    assert stored(world).error_usd == pytest.approx(0.0)
    assert stored(world).raised_usd == 0


def test_it_is_not_asked_if_switched_off_and_once_even_if_it_fails(world: World, functions: Functions) -> None:
    with_days(world, 1.0)
    functions.guard()
    assert world.changed("cost-explorer") == []
    functions.guard_config["reconcile_daily"] = True
    world.failing = {"get_cost_and_usage": "LimitExceededException"}
    with pytest.raises(GuardError, match="ask Cost Explorer"):
        functions.guard()
    assert stored(world).checked == "2026-11-22", "each request costs a cent: the next one is tomorrow's"
    world.at += 60
    functions.guard()


def test_a_dedicated_account_is_asked_for_as_a_whole(world: World, reconciling: Functions) -> None:
    reconciling.guard_config["dedicated_account"] = True
    with_days(world, 1.0)
    reconciling.guard()
    ((*_, asked),) = world.changed("cost-explorer")
    assert set(json.loads(asked)) == {"Not"}


def test_on_the_first_of_a_month_there_is_nothing_to_ask(world: World, reconciling: Functions) -> None:
    world.at = datetime(2026, 12, 1, 15, tzinfo=UTC).timestamp()
    reconciling.guard()
    assert world.changed("cost-explorer") == []


def test_a_meter_that_charged_too_little_is_raised_and_people_are_told(world: World, reconciling: Functions) -> None:
    """$2 a day by Cost Explorer, $1 by the meter: 21 days are missing."""
    before = with_days(world, 1.0)
    world.daily_usd = [2.0] * 21
    reconciling.guard()
    assert stored(world).spent_usd == pytest.approx(before.spent_usd + 21.0, abs=0.01)
    assert stored(world).error_usd == pytest.approx(-20.0), "by the newest day that is complete"
    assert [one["Subject"] for one in world.published] == ["gpu-inference dev: the meter charges too little"]
    assert "$20.00 more were spent" in world.published[0]["Message"]


def test_a_meter_that_charged_too_much_is_left_as_it_is(world: World, reconciling: Functions) -> None:
    before = with_days(world, 1.0)
    world.daily_usd = [0.5] * 21
    reconciling.guard()
    assert stored(world).spent_usd == pytest.approx(before.spent_usd, abs=0.01)
    assert stored(world).error_usd == pytest.approx(10.0)
    assert world.published == []


def test_days_that_the_meter_did_not_see_begin_are_not_held_against_it() -> None:
    """The guard was dead from the 5th to the 8th: only days whose ends are both known are compared."""
    at = month_bounds("2026-11")[0] + 9.5 * 86_400
    days = {"01": 0.0, "02": 1.0, "03": 2.0, "04": 3.0, "09": 8.0, "10": 9.0}
    ledger = Ledger("2026-11", at, on_demand_usd=9.5, days=days)
    assert reconciled(ledger, {f"{day:02d}": 1.0 for day in range(1, 10)}) == (pytest.approx(9.5), pytest.approx(0.0))
    assert reconciled(ledger, {}) == (0.0, None)
    unknown = {f"{day:02d}": 1.0 for day in (1, 2, 4, 5)}
    assert reconciled(ledger, unknown) == (pytest.approx(9.5), pytest.approx(0.0)), "up to the day that is missing"


def test_marks_are_made_at_the_first_tick_of_each_day(world: World, functions: Functions) -> None:
    functions.guard()
    for _ in range(3):
        world.at += 12 * 3600 - 30
        functions.guard()
    days = stored(world).days
    assert set(days) == {"22", "23"}
    assert days["23"] == pytest.approx(37.2 / 744 * (24 - 1 / 60), abs=1e-4)


def audit(world: World, generation: int) -> dict[str, Any]:
    return world.row(CONTROL, f"audit#{generation}")


def test_every_change_of_the_latch_leaves_who_what_why_and_at_which_figures(world: World, functions: Functions) -> None:
    ledger = Ledger("2026-11", world.at, on_demand_usd=145.0, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())
    functions.guard()
    row = audit(world, 1)
    assert {name: row[name] for name in ("action", "by", "reason", "at")} == {
        "action": "stop",
        "by": "guard",
        "reason": "budget",
        "at": world.at,
    }
    assert row["note"].startswith("trip: $145.00 spent")
    assert (row["spent_usd"], row["budget_usd"]) == (145, 150)
    world.at = datetime(2026, 12, 1, 0, 1, tzinfo=UTC).timestamp()
    functions.guard()
    assert (audit(world, 2)["action"], audit(world, 2)["by"]) == ("resume", "new month")


def test_an_old_audit_row_holds_up_no_stop(world: World, functions: Functions) -> None:
    """A latch row that was lost counts its generations anew: money fails closed."""
    world.put(CONTROL, pk="audit#1", generation=1, note="of a latch that was lost")
    ledger = Ledger("2026-11", world.at, on_demand_usd=145.0, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())
    assert functions.guard() == f"Scaled {SPOT_GROUP} to zero"
    assert audit(world, 1)["by"] == "guard"


def test_what_was_allowed_on_top_counts_in_its_month_only(world: World, functions: Functions) -> None:
    ledger = Ledger("2026-11", world.at, on_demand_usd=145.0, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())
    world.put(CONTROL, pk="latch", latched=False, generation=3, extra_usd=20, extra_month="2026-11", suspended={})
    assert functions.guard().startswith("Nothing stopped: within budget: $145.00 spent")
    row = world.row(CONTROL, "budget")
    assert (row["monthly_usd"], row["extra_usd"], row["budget_usd"]) == (150, 20, 170)
    world.put(CONTROL, pk="latch", latched=False, generation=3, extra_usd=20, extra_month="2026-10", suspended={})
    assert functions.guard() == f"Scaled {SPOT_GROUP} to zero"
    assert world.row(CONTROL, "latch")["extra_usd"] == 20, "kept for the record"


@pytest.mark.parametrize("code", ["TransactionCanceledException", "InternalServerError"])
def test_a_stop_that_cannot_be_stored_extends_nothing(world: World, functions: Functions, code: str) -> None:
    """Nodes leave when their allowance ends; the next tick tries again."""
    ledger = Ledger("2026-11", world.at, on_demand_usd=145.0, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())
    world.failing = {"transact_write_items": code}
    with pytest.raises(GuardError, match=f"latch: ClientError: .*{code}"):
        functions.guard()
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}
    assert world.row(CONTROL, "budget")["headroom_usd"] == 0
    world.failing = {}
    assert functions.guard() == f"Scaled {SPOT_GROUP} to zero"


def test_a_latch_that_somebody_changed_meanwhile_stands_but_extends_nothing(world: World, functions: Functions) -> None:
    ledger = Ledger("2026-11", world.at, on_demand_usd=145.0, warned=True)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())
    world.before["transact_write_items"] = lambda: world.put(CONTROL, pk="latch", latched=False, generation=7)
    assert functions.guard().endswith("the latch was changed meanwhile and stands as it is")
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}
    assert not audit(world, 1)
    assert functions.guard() == f"Scaled {SPOT_GROUP} to zero"
    assert world.row(CONTROL, "latch")["generation"] == 8
