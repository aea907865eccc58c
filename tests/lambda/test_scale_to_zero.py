"""The guard on a small AWS: it meters, warns, trips, stops, and keeps stopped; and it can only ever take away."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_world import (
    CONTROL,
    FLEET,
    JOBS,
    LAUNCH_HOOK,
    ON_DEMAND_GROUP,
    SPOT_GROUP,
    TERMINATE_HOOK,
    World,
)
from fleet_control.aws.scale_to_zero import GuardError
from fleet_control.spend_ledger import Ledger, opened
from fleet_control.spend_meter import meter
from fleet_control.spend_prices import Prices
from fleet_functions import Functions

STOPPED = f"Scaled {SPOT_GROUP} to zero"
ALL_FOUR = ("Launch", "AlarmNotification", "ScheduledActions", "AZRebalance")
SNS_MESSAGE = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "AWS Budget Notification November 22, 2026"}}]}


def spend(world: World, usd: float, warned: bool = True) -> None:
    """A ledger of this month in which ``usd`` are already spent."""
    ledger = Ledger(month="2026-11", metered_at=world.at, on_demand_usd=usd, warned=warned)
    world.put(CONTROL, pk="ledger#2026-11", version=1, record=ledger.to_json())


def latch(world: World) -> dict[str, Any]:
    return world.row(CONTROL, "latch")


def test_within_budget_it_meters_and_lets_the_fleet_run(world: World, functions: Functions) -> None:
    functions.guard()
    world.serving(ON_DEMAND_GROUP, launched=world.at)
    world.at += 3600
    body = functions.guard()
    assert body.startswith("Nothing stopped: within budget: $1.1")
    row = world.row(CONTROL, "budget")
    assert row["spent_usd"] == pytest.approx(1.006 + 0.01 + 0.05 + 37.2 / 744, abs=1e-5)
    assert row["headroom_usd"] == pytest.approx(150 - row["spent_usd"] - row["committed_usd"], abs=1e-5)
    assert (row["at"], row["month"]) == (world.at, "2026-11")
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance")["until"] == world.at + 600
    assert [one["MetricName"] for one in world.metrics[-2:]] == ["GuardTick", "SpentUsd"]
    assert world.changed("suspend", "desired", "terminate") == []


def test_trip_stops_in_the_promised_order(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    busy = world.serving()
    world.groups[SPOT_GROUP].desired += 2
    booting = world.add(SPOT_GROUP, state="Pending:Wait")
    assert functions.guard() == STOPPED
    assert [call for call in world.changed() if call[0] != "spot-prices"] == [
        ("suspend", SPOT_GROUP, ALL_FOUR),
        ("suspend", ON_DEMAND_GROUP, ALL_FOUR),
        ("terminate", busy.id, True),
        ("complete", booting.id, LAUNCH_HOOK, "ABANDON"),
        ("desired", SPOT_GROUP, 0, "suspended"),
    ], "no group may launch while the instances of another are drained, one call each"
    stored = latch(world)
    assert (stored["latched"], stored["reason"], stored["generation"], stored["month"]) == (
        True,
        "budget",
        1,
        "2026-11",
    )
    assert stored["suspended"] == {SPOT_GROUP: sorted(ALL_FOUR), ON_DEMAND_GROUP: sorted(ALL_FOUR)}
    assert world.row(CONTROL, "budget")["headroom_usd"] == 0
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}, "nodes get no further allowance"
    assert world.published[-1]["Message"].startswith("trip: $140.")
    assert world.logs[-1]["reason"].endswith(">= $150.00")


def test_repeated_runs_change_nothing_more(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    world.serving()
    functions.guard()
    done, told, before = list(world.calls), list(world.published), latch(world)
    for _ in range(3):
        world.at += 60
        assert functions.guard() == STOPPED
    assert [call for call in world.calls if call[0] != "spot-prices"] == [c for c in done if c[0] != "spot-prices"]
    assert (world.published, latch(world)) == (told, before)


def test_a_drain_past_its_deadline_is_ended(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    one = world.serving()
    functions.guard()
    for _ in range(5):
        world.at += 60
        functions.guard()
    world.at += 55
    functions.guard()
    assert world.changed("complete", "ec2-terminate") == [], "the drain has its 300 s, and 55 s of grace"
    world.at += 5
    functions.guard()
    assert world.changed("complete") == [("complete", one.id, TERMINATE_HOOK, "CONTINUE")]
    assert world.changed("ec2-terminate") == [("ec2-terminate", (one.id,))]


def stop_by_hand(world: World) -> None:
    world.put(CONTROL, pk="latch", latched=True, reason="manual", generation=1, at=world.at, month="2026-11")


def test_a_scale_in_s_drain_has_the_stop_s_time_from_the_stop_on(world: World, functions: Functions) -> None:
    """It may have begun a quarter of an hour before. The watchdog is to be first with its worker: it asks between 15 s
    before and 15 s after the drain time, and what is then stored takes 40 s."""
    one = world.add(SPOT_GROUP, state="Terminating:Wait", launched=world.at - 9000)
    for _ in range(15):
        functions.guard()
        world.at += 60
    stop_by_hand(world)
    world.at += 60  # the tick comes when it comes
    functions.guard()
    carried_out = world.at
    while not world.changed("ec2-terminate"):
        world.at += 10
        functions.guard()
    assert 315 + 40 < world.at - carried_out <= 300 + 55 + 10
    assert world.changed("complete") == [("complete", one.id, TERMINATE_HOOK, "CONTINUE")]


def allowance(world: World) -> float:
    return world.row(JOBS, f"fleet#{FLEET}", "allowance")["until"]


def test_a_stop_cuts_the_allowance_to_one_drain_and_a_resume_extends_it(world: World, functions: Functions) -> None:
    functions.guard()
    world.at += 60
    spend(world, 149.0)
    tripped = world.at
    for _ in range(3):
        assert functions.guard() == STOPPED
        assert allowance(world) == tripped + 300 + 60
        world.at += 60
    assert sum("allowance" in act for log in world.logs for act in log["acts"]) == 1, "said once"
    spend(world, 1.0)
    world.put(CONTROL, **{**latch(world), "latched": False, "generation": 2})
    functions.guard()
    assert allowance(world) == world.at + 600


def test_a_stop_never_extends_an_allowance(world: World, functions: Functions) -> None:
    functions.guard()
    granted = allowance(world)
    stop_by_hand(world)
    world.at += 301
    functions.guard()
    assert allowance(world) == granted


def test_an_allowance_that_cannot_be_cut_holds_up_no_stop_and_is_cut_next_time(
    world: World, functions: Functions
) -> None:
    functions.guard()
    one = world.serving()
    stop_by_hand(world)
    world.failing = {"put_item": "ProvisionedThroughputExceededException"}
    with pytest.raises(GuardError, match=f"allowance of {FLEET}"):
        functions.guard()
    assert world.changed("terminate") == [("terminate", one.id, True)]
    assert world.groups[SPOT_GROUP].desired == 0
    world.failing = {}
    world.at += 60
    functions.guard()
    assert allowance(world) == world.at + 300 + 60


def test_a_run_that_was_superseded_cuts_nothing(world: World, functions: Functions) -> None:
    functions.guard()
    granted = allowance(world)
    stop_by_hand(world)
    resumed = {**latch(world), "latched": False, "generation": 2}
    world.before["describe_auto_scaling_groups"] = lambda: world.put(CONTROL, **resumed)
    functions.guard()
    assert allowance(world) == granted


def test_an_instance_in_no_group_is_stopped_too(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    stray = world.add("detached", launched=world.at - 9000)
    other = world.add("detached", launched=world.at - 9000, fleet="somebody-else")
    functions.guard()
    world.at += 391
    functions.guard()
    assert stray.ec2 == "terminated"
    assert other.ec2 == "running"


def test_capacity_is_left_alone_unless_launch_reads_back_as_suspended(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    world.serving()
    world.failing = {"suspend_processes": "Throttling"}
    with pytest.raises(GuardError, match="Throttling"):
        functions.guard()
    assert world.changed("desired", "terminate") == []
    assert latch(world)["latched"] is True
    world.failing = {}
    assert functions.guard() == STOPPED, "the next tick goes on"
    assert world.changed("desired", "terminate")


def test_a_suspension_that_does_not_read_back_changes_no_capacity(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    world.serving()
    world.suspends = False
    with pytest.raises(GuardError, match="Launch does not read back as suspended"):
        functions.guard()
    assert world.changed("desired", "terminate") == []


def test_a_group_that_fails_does_not_keep_the_other_from_stopping(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    del world.groups[SPOT_GROUP]
    world.serving(ON_DEMAND_GROUP)
    with pytest.raises(GuardError, match=f"group {SPOT_GROUP} not found"):
        functions.guard()
    assert world.groups[ON_DEMAND_GROUP].desired == 0


def test_a_stopped_fleet_costs_less_once_it_is_sure_that_all_know_of_the_stop(
    world: World, functions: Functions
) -> None:
    """A latch may be written a minute after its moment, and controllers look on until their next run."""
    functions.guard_config["stopped_usd_per_month"] = 18.6
    functions.guard()
    world.put(CONTROL, pk="latch", latched=True, reason="manual", generation=1, at=world.at + 30, month="2026-11")
    spent = []
    for _ in range(5):
        world.at += 60
        functions.guard()
        spent.append(world.row(CONTROL, "ledger#2026-11")["spent_usd"])
    hourly = [(after - before) * 60 for before, after in itertools.pairwise([0.0, *spent])]
    assert hourly == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.025])


def test_manual_stop_is_carried_out_and_kept(world: World, functions: Functions) -> None:
    world.put(CONTROL, pk="latch", latched=True, reason="manual", generation=1, at=world.at, month="2026-10")
    world.serving()
    assert functions.guard() == STOPPED
    assert world.groups[SPOT_GROUP].desired == 0
    assert set(latch(world)["suspended"]) == {SPOT_GROUP, ON_DEMAND_GROUP}


def test_processes_somebody_else_suspended_are_not_recorded_as_ours(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    world.groups[SPOT_GROUP].suspended = {"AZRebalance", "ScheduledActions"}
    functions.guard()
    assert latch(world)["suspended"][SPOT_GROUP] == ["AlarmNotification", "Launch"]


def test_a_late_run_cannot_undo_a_resume(world: World, functions: Functions) -> None:
    """It has read a latched row, somebody resumes, and only then it would act."""
    spend(world, 140.0)
    functions.guard()
    for group in world.groups.values():
        group.suspended = set()
    one = world.serving()
    stale = latch(world)
    world.before["describe_auto_scaling_groups"] = lambda: world.put(
        CONTROL, **{**stale, "latched": False, "generation": 2}
    )
    done = len(world.changed("suspend", "desired", "terminate"))
    assert functions.guard() == "Nothing stopped: latch generation 1 -> 2"
    assert len(world.changed("suspend", "desired", "terminate")) == done
    assert (latch(world)["latched"], one.state) == (False, "InService")


def test_a_resume_in_the_moment_of_suspending_leaves_a_note_to_resume(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    world.before["suspend_processes"] = lambda: world.put(
        CONTROL, pk="latch", latched=False, generation=2, suspended={}
    )
    assert functions.guard().startswith("Nothing stopped: resumed meanwhile")
    assert latch(world)["suspended"] == {SPOT_GROUP: sorted(ALL_FOUR)}


def test_an_instance_that_ec2_does_not_list_yet_is_committed_all_the_same(world: World, functions: Functions) -> None:
    """EC2's listing lags behind the group: between the two an instance is neither listed nor owed any more."""
    functions.guard()
    nothing = world.row(CONTROL, "budget")["committed_usd"]
    late = world.serving(state="Pending", fleet="not listed yet")
    functions.guard()
    unlisted = world.row(CONTROL, "budget")["committed_usd"]
    late.fleet = FLEET
    functions.guard()
    listed = world.row(CONTROL, "budget")["committed_usd"]
    assert unlisted >= listed > nothing


def test_two_guards_at_once_charge_once(world: World, functions: Functions) -> None:
    """The other run stores its ledger between this one's read and write."""
    spend(world, 10.0)
    world.serving(launched=world.at)
    world.at += 3600
    rival = Ledger(month="2026-11", metered_at=world.at, on_demand_usd=12.0, warned=True)
    world.before["describe_auto_scaling_groups"] = lambda: world.put(
        CONTROL, pk="ledger#2026-11", version=2, record=rival.to_json()
    )
    functions.guard()
    row = world.row(CONTROL, "ledger#2026-11")
    assert row["version"] == 3
    assert row["spent_usd"] == pytest.approx(12.0 + 1.006 + 0.01 + 0.05), "on top of what the other run stored"


def test_warns_once_and_again_only_if_it_could_not_be_told(world: World, functions: Functions) -> None:
    spend(world, 121.0, warned=False)
    world.failing = {"publish": "Throttling"}
    with pytest.raises(GuardError, match="warn"):
        functions.guard()
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance"), "a mail that fails stops no fleet"
    world.failing = {}
    for _ in range(3):
        world.at += 60
        functions.guard()
    assert [one["Subject"] for one in world.published] == ["gpu-inference dev: budget warning"]
    assert "$121.00 of $150.00 spent" in world.published[0]["Message"]


@pytest.mark.parametrize("operation", ["describe_instances", "describe_auto_scaling_groups"])
def test_what_cannot_be_read_extends_nothing(world: World, functions: Functions, operation: str) -> None:
    world.failing = {operation: "RequestLimitExceeded"}
    with pytest.raises(GuardError, match="RequestLimitExceeded"):
        functions.guard()
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}
    assert world.row(CONTROL, "budget") == {}
    assert world.metrics == []


def test_a_stopped_fleet_is_kept_stopped_without_a_meter(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    functions.guard()
    world.groups[SPOT_GROUP].suspended = set()
    world.failing = {"describe_instances": "RequestLimitExceeded"}
    with pytest.raises(GuardError):
        functions.guard()
    assert world.groups[SPOT_GROUP].suspended == set(ALL_FOUR)


def test_a_damaged_ledger_stops_the_meter_not_the_safety(world: World, functions: Functions) -> None:
    world.put(CONTROL, pk="ledger#2026-11", version=3, record="{}")
    with pytest.raises(ValueError, match="ledger record is damaged"):
        functions.guard()
    assert world.row(JOBS, f"fleet#{FLEET}", "allowance") == {}


@pytest.mark.parametrize(
    "event",
    [SNS_MESSAGE, {"Records": [{"Sns": {"Message": "{not json"}}, {}]}, {"Records": [None]}, "nonsense", 7],
)
def test_a_budget_message_of_any_content_asks_for_the_figure(world: World, functions: Functions, event: Any) -> None:
    world.budget = ("149.5", datetime(2026, 11, 22, 8, tzinfo=UTC))
    assert functions.guard(event) == STOPPED
    assert functions.guard(event) == STOPPED, "and twice changes nothing"
    assert latch(world)["generation"] == 1
    assert world.row(CONTROL, "ledger#2026-11")["spent_usd"] == pytest.approx(149.5)


def test_a_figure_counts_however_long_ago_the_budget_was_edited(world: World, functions: Functions) -> None:
    """AWS's LastUpdatedTime is when somebody last edited the budget, not how old the figure is."""
    world.budget = ("149.5", datetime(2026, 2, 1, tzinfo=UTC))
    assert functions.guard(SNS_MESSAGE) == STOPPED


def test_a_figure_of_last_month_is_ignored(world: World, functions: Functions) -> None:
    """Figures lag: on the first day of a month AWS Budgets may still show what the last one cost."""
    world.budget = ("149.5", datetime(2026, 2, 1, tzinfo=UTC))
    world.at = datetime(2026, 12, 1, 20, tzinfo=UTC).timestamp()
    assert functions.guard(SNS_MESSAGE).startswith("Nothing stopped: within budget: $0.00 spent")
    world.at = datetime(2026, 12, 2, 0, 1, tzinfo=UTC).timestamp()
    assert functions.guard(SNS_MESSAGE) == STOPPED


def test_a_direct_invocation_is_a_tick(world: World, functions: Functions) -> None:
    assert functions.guard({}).startswith("Nothing stopped: within budget")


def test_a_new_month_resumes_and_carries_what_runs(world: World, functions: Functions) -> None:
    spend(world, 140.0)
    functions.guard()
    world.at = datetime(2026, 12, 1, 0, 0, 30, tzinfo=UTC).timestamp()
    assert functions.guard().startswith("Nothing stopped: resume: new month 2026-12, $0.0")
    stored = latch(world)
    assert (stored["latched"], stored["generation"], stored["by"]) == (False, 2, "new month")
    assert set(stored["suspended"]) == {SPOT_GROUP, ON_DEMAND_GROUP}, "the controller resumes what is listed there"
    assert world.row(CONTROL, "ledger#2026-11")["spent_usd"] > 140
    assert world.row(CONTROL, "ledger#2026-12")["spent_usd"] < 0.01


def test_a_new_month_does_not_resume_if_it_is_told_not_to(world: World, functions: Functions) -> None:
    functions.guard_config["resume_on_new_month"] = False
    spend(world, 140.0)
    functions.guard()
    world.at = datetime(2026, 12, 1, 0, 0, 30, tzinfo=UTC).timestamp()
    assert functions.guard() == STOPPED


def test_exhausted_when_jobs_wait_and_no_launch_fits(world: World, functions: Functions) -> None:
    spend(world, 139.5)
    world.put(CONTROL, pk=f"scaler#{FLEET}", fence=1, waiting=23, at=world.at - 170)
    assert functions.guard() == STOPPED
    assert latch(world)["reason"] == "exhausted"
    assert "23 waiting, nothing runs" in world.published[-1]["Message"]


def test_an_old_report_of_waiting_jobs_exhausts_nothing(world: World, functions: Functions) -> None:
    spend(world, 139.5)
    world.put(CONTROL, pk=f"scaler#{FLEET}", fence=1, waiting=23, at=world.at - 190)
    assert functions.guard().startswith("Nothing stopped")


def test_what_was_just_reserved_stays_out_of_the_headroom(world: World, functions: Functions) -> None:
    functions.guard()
    full = world.row(CONTROL, "budget")["headroom_usd"]
    world.db.update_item(
        TableName=CONTROL,
        Key={"pk": {"S": "budget"}},
        UpdateExpression="SET reserved_at = :at, headroom_usd = headroom_usd - :usd ADD reserved_usd :usd",
        ExpressionAttributeValues={":at": {"N": str(world.at)}, ":usd": {"N": "2"}},
    )
    world.at += 30
    functions.guard()
    assert world.row(CONTROL, "budget")["headroom_usd"] == pytest.approx(full - 2, abs=0.01)
    world.at += 60
    functions.guard()
    assert world.row(CONTROL, "budget")["headroom_usd"] == pytest.approx(full, abs=0.01)


def test_a_reservation_during_the_tick_is_not_overwritten(world: World, functions: Functions) -> None:
    functions.guard()
    full = world.row(CONTROL, "budget")["headroom_usd"]
    world.before["describe_auto_scaling_groups"] = lambda: world.put(
        CONTROL, **{**world.row(CONTROL, "budget"), "reserved_usd": 5, "reserved_at": world.at}
    )
    functions.guard()
    assert world.row(CONTROL, "budget")["headroom_usd"] == pytest.approx(full - 5, abs=0.01)


def test_instances_over_the_cap_are_drained_newest_first(world: World, functions: Functions) -> None:
    functions.guard_config["fleets"][0]["cap"] = 1
    old = world.serving(launched=world.at - 9000)
    new = world.serving(launched=world.at - 900)
    other = world.serving(ON_DEMAND_GROUP, launched=world.at - 5000)
    functions.guard()
    assert world.changed("terminate") == [("terminate", new.id, True), ("terminate", other.id, True)]
    functions.guard()
    assert len(world.changed("terminate")) == 2
    assert old.state == "InService"


def test_an_instance_that_boots_over_the_cap_is_not_paid_for_with_a_serving_one(
    world: World, functions: Functions
) -> None:
    functions.guard_config["fleets"][0]["cap"] = 1
    serving = world.serving(launched=world.at - 9000)
    booting = world.serving(ON_DEMAND_GROUP, state="Pending:Wait", launched=world.at - 60)
    functions.guard()
    assert serving.state == "InService", "the newest goes, and it is not there yet"
    booting.state = "InService"
    functions.guard()
    assert world.changed("terminate") == [("terminate", booting.id, True)]


def test_spot_prices_are_asked_for_only_while_spot_runs_and_at_every_tick(world: World, functions: Functions) -> None:
    functions.guard()
    assert world.changed("spot-prices") == []
    when = datetime.fromtimestamp(world.at - 9000, UTC)
    world.spot_history = [
        {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a", "SpotPrice": "0.4", "Timestamp": when}
    ]
    world.serving(launched=world.at)
    for _ in range(15):
        world.at += 60
        functions.guard()
    world.at += 20
    functions.guard()  # a message of the AWS Budget comes between two ticks
    assert len(world.changed("spot-prices")) == 16
    spent = world.row(CONTROL, "ledger#2026-11")["spent_usd"]
    assert spent == pytest.approx(920 / 3600 * (0.4 + 0.01) + 0.05 + 37.2 * 920 / (744 * 3600), abs=1e-3)


def test_a_spot_price_that_rises_is_never_charged_too_low(world: World, functions: Functions) -> None:
    def price(usd: str) -> None:
        when = datetime.fromtimestamp(world.at, UTC)
        row = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a", "SpotPrice": usd, "Timestamp": when}
        world.spot_history = [row]

    price("0.4")
    functions.guard()
    world.serving(launched=world.at)
    for minute in range(1, 11):
        world.at += 60
        if minute == 6:
            price("1.0")
        functions.guard()
    spent = world.row(CONTROL, "ledger#2026-11")["spent_usd"]
    other = 600 / 3600 * 0.01 + 0.05 + 37.2 * 600 / (744 * 3600)
    assert spent - other >= (5 * 0.4 + 5 * 1.0) / 60


def test_a_spot_price_that_fell_while_no_tick_worked_is_charged_as_it_was(world: World, functions: Functions) -> None:
    functions.guard()
    world.serving(launched=world.at)
    zone = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a"}
    fell = datetime.fromtimestamp(world.at + 1200, UTC)
    world.spot_history = [
        {**zone, "SpotPrice": "0.9", "Timestamp": datetime.fromtimestamp(world.at - 9000, UTC)},
        {**zone, "SpotPrice": "0.4", "Timestamp": fell},
    ]
    world.at += 1800
    functions.guard()
    assert Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"]).spot_usd == pytest.approx(0.9 / 2)


def spot_usd(world: World) -> float:
    return Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"]).spot_usd


def test_while_spot_prices_cannot_be_asked_for_they_count_as_on_demand_and_are_paid_later(
    world: World, functions: Functions
) -> None:
    functions.guard()
    began = world.row(CONTROL, "budget")["spent_usd"]
    world.serving(launched=world.at)
    when = datetime.fromtimestamp(world.at - 9000, UTC)
    zone = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a"}
    world.spot_history = [{**zone, "SpotPrice": "0.4", "Timestamp": when}]
    world.failing = {"describe_spot_price_history": "RequestLimitExceeded"}
    world.at += 3600
    functions.guard()
    assert spot_usd(world) == 0
    assert world.row(CONTROL, "budget")["spent_usd"] - began >= 1.006, "in doubt it is dear"
    world.failing = {}
    world.at += 60
    functions.guard()
    assert spot_usd(world) == pytest.approx(0.4 * 3660 / 3600), "and paid at what it was"
    assert world.row(CONTROL, "budget")["spent_usd"] - began < 1.0


def test_what_waited_for_a_price_when_its_month_ended_is_paid_at_the_on_demand_price(
    world: World, functions: Functions
) -> None:
    world.at = datetime(2026, 11, 30, 23, 0, tzinfo=UTC).timestamp()
    functions.guard()
    world.serving(launched=world.at)
    world.failing = {"describe_spot_price_history": "RequestLimitExceeded"}
    world.at += 1800
    functions.guard()
    world.at += 3600
    functions.guard()
    assert spot_usd(world) == pytest.approx(1.006)


def test_what_ended_before_its_price_was_known_is_paid_to_its_end(world: World, functions: Functions) -> None:
    functions.guard()
    one = world.serving(launched=world.at)
    world.failing = {"describe_spot_price_history": "RequestLimitExceeded"}
    world.at += 1800
    functions.guard()
    one.state, one.ec2, one.ended = "Terminated", "terminated", world.at
    world.at += 600
    functions.guard()
    when = datetime.fromtimestamp(world.at - 90_000, UTC)
    zone = {"InstanceType": "g5.xlarge", "AvailabilityZone": "us-east-1a"}
    world.spot_history = [{**zone, "SpotPrice": "0.4", "Timestamp": when}]
    world.failing = {}
    world.at += 60
    functions.guard()
    assert spot_usd(world) == pytest.approx(0.2)


def test_a_type_that_ec2_quotes_no_spot_price_for_costs_the_on_demand_price(world: World, functions: Functions) -> None:
    functions.guard()
    world.serving(launched=world.at)
    world.at += 3000
    functions.guard()
    assert spot_usd(world) == pytest.approx(1.006 * 3000 / 3600)


def test_two_fleets_share_one_budget(world: World, functions: Functions) -> None:
    second = {**functions.guard_config["fleets"][0], "fleet": "batch-dev", "spot_group": None}
    second |= {"on_demand_group": "batch-asg-dev", "jobs_table": None}
    functions.guard_config["fleets"].append(second)
    world.groups["batch-asg-dev"] = type(world.groups[SPOT_GROUP])("batch-asg-dev")
    spend(world, 140.0)
    world.serving()
    world.groups["batch-asg-dev"].desired = 1
    world.add("batch-asg-dev", fleet="batch-dev")
    assert functions.guard() == f"Scaled {SPOT_GROUP}, batch-asg-dev to zero"
    assert [group.desired for group in world.groups.values()] == [0, 0, 0]


def test_the_guard_only_ever_sets_zero_and_only_while_launch_is_suspended(world: World, functions: Functions) -> None:
    """Over a month of trips, resumes, failures and strays: on the recorded calls."""
    steps: list[Callable[[], Any]] = [
        lambda: spend(world, 149.0),
        world.serving,
        lambda: world.failing.update(suspend_processes="Throttling"),
        world.groups[SPOT_GROUP].suspended.clear,
        world.failing.clear,
        lambda: setattr(world.groups[SPOT_GROUP], "desired", 3),
        world.settle,
        lambda: world.put(CONTROL, **{**latch(world), "latched": False, "generation": 9}),
        lambda: world.groups[ON_DEMAND_GROUP].suspended.discard("Launch"),
        lambda: world.failing.update(terminate_instance_in_auto_scaling_group="InternalFailure"),
        world.failing.clear,
    ]
    for step in steps:
        step()
        for _ in range(3):
            world.at += 60
            try:
                functions.guard()
            except GuardError:
                continue
    settings = world.changed("desired")
    assert settings
    assert {(call[2], call[3]) for call in settings} == {(0, "suspended")}
    assert world.changed("resume") == []


def test_the_ledger_survives_the_store(world: World, functions: Functions) -> None:
    functions.guard()
    stored = Ledger.from_json(world.row(CONTROL, "ledger#2026-11")["record"])
    assert (
        stored
        == meter(
            opened(world.at),
            [],
            Prices({}, 1.006, fixed_per_month=37.2, per_job=0.0001, gpus={"g5.xlarge": 1}, dearest_by_gpus={1: 1.006}),
            world.at,
        )[-1]
    )
