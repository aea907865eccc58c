"""The controller on a small AWS: what it asks for, what it refuses, and what it never does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, JOBS, ON_DEMAND_GROUP, SPOT_GROUP, World
from fleet_control.boot_law import Boots
from fleet_functions import Functions


def test_the_first_message_wakes_the_fleet(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 15
    assert functions.controller() == "scale-out 0 -> 1: 15 waiting, 20.0 s each, 8 slots, target 300 s"
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]
    line = world.logs[-1]
    assert line["event"] == "decision"
    assert (line["fleet"], line["waiting"], line["desired_spot"], line["desired_on_demand"]) == (FLEET, 15, 1, 0)
    assert line["dry_run"] is False
    assert world.row(CONTROL, "budget")["headroom_usd"] == pytest.approx(99.1)


def test_a_run_looks_every_ten_seconds_for_at_most_two_minutes(world: World, functions: Functions) -> None:
    began = world.at
    functions.controller(seconds=150)
    assert 100 <= world.at - began <= 120


def test_a_run_respects_the_time_it_has_left(world: World, functions: Functions) -> None:
    began = world.at
    functions.controller(seconds=60)
    assert world.at - began <= 45


def test_at_rest_later_looks_read_the_queue_only(world: World, functions: Functions) -> None:
    world.admit()
    looks: list[float] = []

    def watch() -> None:
        looks.append(world.at)
        world.failing = {"describe_auto_scaling_groups": "Throttling"} if len(looks) < 5 else {}
        world.queue[""] = 0 if len(looks) < 5 else 3

    world.on_sleep = watch
    functions.controller(seconds=150)
    assert not [line for line in world.logs if line["event"] == "look-failed"]
    assert world.changed("desired") == [("desired", SPOT_GROUP, 1, "active")], "and a message wakes it within the run"


def overtake(world: World) -> None:
    """A newer run takes the lease after this one has looked at the groups."""
    world.before["describe_auto_scaling_groups"] = lambda: world.db.update_item(
        TableName=CONTROL,
        Key={"pk": {"S": f"scaler#{FLEET}"}},
        UpdateExpression="ADD fence :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


@pytest.mark.parametrize("limited", [True, False])
def test_two_runs_at_once_only_the_newer_acts(world: World, functions: Functions, limited: bool) -> None:
    """The older run stores nothing, launches nothing and takes nothing out of the budget."""
    if not limited:
        functions.controller_config["budget"] = {"unlimited_reason": "a test"}
    world.admit()
    world.put(CONTROL, pk=f"scaler#{FLEET}", fence=0, boots=Boots("1", served=True).to_json())
    world.queue[""] = 3
    overtake(world)
    assert functions.controller() == "a newer run took over before this one acted"
    assert world.changed() == []
    assert world.row(CONTROL, "budget")["headroom_usd"] == 100
    assert "state" not in world.row(CONTROL, f"scaler#{FLEET}")
    functions.controller()
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]


def test_a_run_that_was_overtaken_drains_nothing(world: World, functions: Functions) -> None:
    world.admit()
    one = world.serving()
    world.beat(one)
    world.on_sleep = lambda: (world.beat(one), overtake(world) if world.row(CONTROL, f"scaler#{FLEET}")["fence"] < 2
                              else None)[0]  # fmt: skip
    functions.controller(seconds=150)
    assert world.changed() == []
    assert one.state == "InService"


def test_a_run_ends_when_a_newer_one_took_over(world: World, functions: Functions) -> None:
    began = world.at
    world.on_sleep = lambda: world.put(CONTROL, pk=f"scaler#{FLEET}", fence=99)
    assert functions.controller(seconds=150) == "a newer run took over (fence 99 > 1)"
    assert world.at - began == 10


def test_dry_run_decides_and_changes_nothing(world: World, functions: Functions) -> None:
    functions.controller_config["dry_run"] = True
    world.admit()
    world.queue[""] = 3
    functions.controller()
    assert world.changed() == []
    assert world.row(CONTROL, "budget")["headroom_usd"] == 100
    line = world.logs[-1]
    assert (line["dry_run"], line["acts"]) == (True, [f"{SPOT_GROUP} desired 0 -> 1"])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda w: w.admit(age=181), "budget row 181 s old, limit 180 s: the guard is silent"),
        (lambda w: w.db.delete_item(TableName=CONTROL, Key={"pk": {"S": "budget"}}), "no budget row"),
        (lambda w: w.put(JOBS, pk=f"fleet#{FLEET}", sk="allowance", until=w.at, at=1), "no valid allowance"),
        (lambda w: w.admit(headroom=0.5), "$0.50 headroom, $0.90 a launch"),
    ],
)
def test_no_launch_without_the_guard(world: World, functions: Functions, spoil: Any, why: str) -> None:
    world.admit()
    spoil(world)
    world.queue[""] = 3
    reason = functions.controller()
    assert f"no launch: {why}" in reason
    assert reason.startswith("scale-out 0 -> 1: 3 waiting"), "the refusal says what was refused"
    assert world.changed() == []


def test_a_stopped_fleet_is_left_alone(world: World, functions: Functions) -> None:
    world.admit()
    world.put(CONTROL, pk="latch", latched=True, reason="budget", generation=3)
    world.queue[""] = 3
    one = world.serving()
    world.beat(one)
    assert functions.controller(seconds=150) == "stopped (budget): 3 waiting, latch generation 3"
    assert world.changed() == []


def test_only_as_many_launches_as_the_headroom_pays(world: World, functions: Functions) -> None:
    world.admit(headroom=2.0)
    world.queue[""] = 500
    assert "only 2 of 3 launches: $2.00 headroom, $0.90 a launch" in functions.controller()
    assert world.changed() == [("desired", SPOT_GROUP, 2, "active")]


def test_two_fleets_cannot_reserve_the_same_dollar(world: World, functions: Functions) -> None:
    """The other fleet's controller reserves after this one has read the row."""
    world.admit(headroom=1.0)
    world.queue[""] = 3
    world.before["describe_auto_scaling_groups"] = lambda: world.put(
        CONTROL, pk="budget", at=world.at, headroom_usd=0.1, launch_usd=0.9, reserved_usd=0.9
    )
    assert "headroom was taken by another fleet" in functions.controller()
    assert world.changed() == []


def test_without_a_budget_launches_need_no_guard(world: World, functions: Functions) -> None:
    functions.controller_config["budget"] = {"unlimited_reason": "paid by the research grant"}
    world.queue[""] = 3
    functions.controller()
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]


def test_idle_instance_is_drained_by_name_with_decrement(world: World, functions: Functions) -> None:
    world.admit()
    one = world.serving()
    world.on_sleep = lambda: world.beat(one)
    world.beat(one)
    functions.controller(seconds=150)
    assert world.changed() == [("terminate", one.id, True)]
    assert any(line["reason"].startswith("scale-in 1 -> 0") for line in world.logs)


def test_cancelling_never_goes_below_what_has_arrived_meanwhile(world: World, functions: Functions) -> None:
    """Two are owed and no longer needed; one of them appears just before desired is lowered."""
    world.admit()
    one = world.serving()
    world.groups[SPOT_GROUP].desired, world.delivers = 3, False
    looked: list[float] = []

    def arrive(service: str, operation: str) -> None:
        if operation == "describe_auto_scaling_groups":
            if world.at in looked and world.present(SPOT_GROUP) == 1:  # the one that precedes lowering
                world.add(SPOT_GROUP, state="Pending:Wait")
            looked.append(world.at)

    world.on_call = arrive
    world.on_sleep = lambda: world.beat(one, busy=4)
    world.beat(one, busy=4)
    functions.controller(seconds=80)
    assert world.changed("desired")[0] == ("desired", SPOT_GROUP, 2, "active")


def test_a_busy_instance_stays_whatever_the_queue_says(world: World, functions: Functions) -> None:
    world.admit()
    one = world.serving()
    world.on_sleep = lambda: world.beat(one, busy=1)
    world.beat(one, busy=1)
    functions.controller(seconds=150)
    assert world.changed() == []


def test_a_lowered_cap_drains_without_asking_for_one_too_few(world: World, functions: Functions) -> None:
    """AWS lowers desired with MaxSize; a decrement would then ask for fewer than stay, and fail at zero."""
    functions.controller_config["policy"]["cap"] = 1
    world.admit()
    nodes = [world.serving() for _ in range(3)]
    for one in nodes:
        world.beat(one)
    world.groups[SPOT_GROUP].desired = world.groups[SPOT_GROUP].max = 1
    functions.controller()
    assert [call[2] for call in world.changed("terminate")] == [False, False]
    assert world.groups[SPOT_GROUP].desired == world.present(SPOT_GROUP) == 1


def test_a_dead_node_is_replaced(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""], world.queue["NotVisible"] = 20, 0
    one = world.serving()
    world.beat(one, busy=3, age=0)
    functions.controller()
    world.at += 200
    world.admit()
    functions.controller()
    assert ("terminate", one.id, True) in world.changed()
    assert any("its worker has been silent" in act for line in world.logs for act in line.get("acts", ()))
    assert world.groups[SPOT_GROUP].desired == 1, "and a new one was asked for in its place"


def test_a_node_that_just_came_into_service_is_not_dead(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 5
    one = world.serving(state="Pending:Wait", launched=world.at)
    functions.controller()
    world.at += 400
    world.admit()
    one.state = "InService"
    functions.controller()
    assert world.changed("terminate") == []


def test_without_a_jobs_table_messages_in_flight_count_as_busy(world: World, functions: Functions) -> None:
    functions.controller_config["jobs_table"] = None
    world.admit()
    one = world.serving()
    world.queue["NotVisible"] = 1
    functions.controller(seconds=150)
    assert world.changed() == []
    world.queue["NotVisible"] = 0
    world.admit()
    functions.controller(seconds=150)
    assert world.changed() == [("terminate", one.id, True)]


def test_on_demand_only_after_spot_was_lowered_and_read_back(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""], world.delivers = 8, False
    group = world.groups[SPOT_GROUP]

    def fail_to_launch() -> None:
        if group.desired and not group.activities:
            group.activities.append(
                {
                    "StatusCode": "Failed",
                    "StartTime": datetime.fromtimestamp(world.at, UTC),
                    "Description": "Launching a new EC2 instance.  Status Reason: UnfulfillableCapacity",
                }
            )
        world.admit()

    world.on_sleep = fail_to_launch
    functions.controller(seconds=70)
    assert world.changed("desired") == [
        ("desired", SPOT_GROUP, 1, "active"),
        ("desired", SPOT_GROUP, 0, "active"),
        ("desired", ON_DEMAND_GROUP, 1, "active"),
    ]


def test_a_failed_boot_is_no_reason_to_buy_on_demand(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""], world.delivers = 8, False
    world.groups[SPOT_GROUP].activities = [
        {
            "StatusCode": "Failed",
            "StartTime": datetime.fromtimestamp(world.at + 5, UTC),
            "Description": "Launching a new EC2 instance: i-0123.  Status Reason: abandoned by its lifecycle hook",
        }
    ]
    functions.controller(seconds=70)
    assert world.changed("desired") == [("desired", SPOT_GROUP, 1, "active")]


def test_a_self_draining_node_counts_in_desired_but_not_as_capacity(world: World, functions: Functions) -> None:
    """A spot notice: the worker drains, its group still counts it; a replacement is asked for beside it."""
    world.admit()
    one = world.serving()
    world.beat(one, busy=2, state="draining")
    world.queue[""] = 5
    functions.controller()
    assert world.changed() == [("desired", SPOT_GROUP, 2, "active")]


def test_a_failing_look_is_logged_and_the_next_one_goes_on(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 3
    world.failing = {"describe_auto_scaling_groups": "Throttling"}
    world.on_sleep = world.failing.clear
    functions.controller(seconds=45)
    assert world.logs[0]["event"] == "look-failed"
    assert "Throttling" in world.logs[0]["reason"]
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]


@pytest.mark.parametrize("operation", ["get_queue_attributes", "describe_auto_scaling_groups", "set_desired_capacity"])
def test_a_run_of_failing_looks_raises_no_capacity_and_ends_as_an_error(
    world: World, functions: Functions, operation: str
) -> None:
    world.admit()
    world.queue[""] = 3
    world.failing = {operation: "InternalFailure"}
    with pytest.raises(RuntimeError, match="looks in a row failed; look failed: ClientError"):
        functions.controller(seconds=150)
    stored = world.row(CONTROL, f"scaler#{FLEET}").get("at")
    assert stored == (world.at if operation == "set_desired_capacity" else None), "who sees nothing does not look alive"
    looks = sum(record["event"] == "look-failed" for record in world.logs)
    assert looks > 10  # the run went on looking
    assert world.changed("desired") == []


def test_a_busy_group_is_retried_at_the_next_look(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 3
    world.failing = {"set_desired_capacity": "ScalingActivityInProgress"}
    world.on_sleep = lambda: (world.failing.clear(), world.admit())[0]
    functions.controller(seconds=45)
    assert f"{SPOT_GROUP} is busy with another change" in world.logs[0]["reason"]
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]


def test_a_damaged_state_row_is_no_obstacle(world: World, functions: Functions) -> None:
    world.admit()
    world.put(CONTROL, pk=f"scaler#{FLEET}", fence=7, state="{not json", seen="[1]")
    world.queue[""] = 3
    functions.controller()
    assert world.changed() == [("desired", SPOT_GROUP, 1, "active")]
    assert world.row(CONTROL, f"scaler#{FLEET}")["fence"] == 8


def test_resume_makes_the_group_owe_nothing_then_resumes_what_was_recorded(world: World, functions: Functions) -> None:
    world.admit()
    recorded = ["AZRebalance", "AlarmNotification", "Launch", "ScheduledActions"]
    for group in world.groups.values():
        group.suspended = {*recorded, "HealthCheck"}
    world.groups[SPOT_GROUP].desired = 3
    world.put(CONTROL, pk="latch", latched=False, generation=5, suspended={SPOT_GROUP: recorded, "other-fleet": ["X"]})
    world.queue[""] = 3
    functions.controller(seconds=34)
    assert world.changed()[:2] == [
        ("desired", SPOT_GROUP, 0, "suspended"),
        ("resume", SPOT_GROUP, ("AlarmNotification", "Launch", "ScheduledActions")),
    ]
    assert world.groups[SPOT_GROUP].suspended == {"AZRebalance", "HealthCheck"}
    assert world.row(CONTROL, "latch")["suspended"] == {"other-fleet": ["X"]}
    assert world.changed()[2:] == [("desired", SPOT_GROUP, 1, "active")], "then the waiting jobs are served"


def test_nothing_is_resumed_while_latched(world: World, functions: Functions) -> None:
    world.put(CONTROL, pk="latch", latched=True, reason="manual", generation=5, suspended={SPOT_GROUP: ["Launch"]})
    world.groups[SPOT_GROUP].suspended = {"Launch"}
    functions.controller(seconds=45)
    assert world.changed() == []


def given_up(world: World) -> None:
    """AWS has suspended the group after a day of failed launches, which it still asks for."""
    group = world.groups[SPOT_GROUP]
    group.desired, group.suspended, group.by_aws = 2, {"Launch", "AZRebalance"}, {"Launch"}
    world.admit()


def test_what_aws_suspended_by_itself_is_lifted_once_the_group_owes_nothing(world: World, functions: Functions) -> None:
    given_up(world)
    functions.controller()
    assert world.changed("desired", "resume") == [
        ("desired", SPOT_GROUP, 0, "suspended"),
        ("resume", SPOT_GROUP, ("Launch",)),
    ]
    assert world.groups[SPOT_GROUP].suspended == {"AZRebalance"}, "which somebody suspended, and nobody resumes"
    world.at += 60
    functions.controller()
    assert len(world.changed("resume")) == 1


def test_what_aws_suspended_stays_so_while_the_fleet_is_stopped(world: World, functions: Functions) -> None:
    given_up(world)
    world.put(CONTROL, pk="latch", latched=True, reason="budget", generation=1, at=world.at)
    functions.controller()
    assert world.changed("desired", "resume") == []


def test_what_an_operator_suspended_is_not_lifted(world: World, functions: Functions) -> None:
    given_up(world)
    world.groups[SPOT_GROUP].by_aws = set()
    functions.controller()
    assert world.changed("resume") == []


def test_a_version_of_another_template_is_not_rolled(world: World, functions: Functions) -> None:
    functions.controller_config["template_id"] = "lt-2"
    functions.controller_config["policy"]["floor"] = 1
    world.admit()
    one = world.serving(template="0")
    world.on_sleep = lambda: (world.beat(one), world.admit())[0]
    world.beat(one)
    functions.controller(seconds=150)
    assert world.changed() == []


def test_metrics_once_a_run(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 3
    functions.controller(seconds=150)
    names = [one["MetricName"] for one in world.metrics]
    assert names == ["Waiting", "StalledSeconds", "FailedBoots"]
    assert world.metrics[0]["Dimensions"] == [{"Name": "Fleet", "Value": FLEET}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue_url": 5}, "key queue_url = 5: must be str"),
        ({"extra": 1}, "unknown key extra"),
        ({"budget": {}}, "key budget: must be"),
        ({"spot_group": None, "on_demand_group": None}, "keys spot_group, on_demand_group: at least one"),
        ({"dry_run": 1}, "key dry_run = 1: must be bool"),
        ({"policy": {"slots": 8}}, "missing key policy.cap, policy.cold_start_s"),
    ],
)
def test_a_wrong_configuration_names_the_key(
    world: World, functions: Functions, change: dict[str, Any], message: str
) -> None:
    functions.controller_config.update(change)
    with pytest.raises(ValueError, match="FLEET_CONTROL_CONFIG: ") as error:
        functions.controller()
    assert message in str(error.value)


def test_a_window_of_the_configuration_raises_the_floor(world: World, functions: Functions) -> None:
    window = {"days": ["sun"], "from": "08:00", "to": "18:00", "time_zone": "UTC", "floor": 2}
    functions.controller_config["policy"]["windows"] = [window]
    world.admit()
    assert functions.controller() == "scale-out 0 -> 2: floor 2, 0 waiting"
    json.dumps(world.logs)
