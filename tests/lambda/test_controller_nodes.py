"""Nodes that die, hang, are given notice or are named while busy; and what the run stores of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from aws_world import CONTROL, FLEET, ON_DEMAND_GROUP, SPOT_GROUP, FakeInstance, World
from fleet_control.aws import controller
from fleet_control.aws.members import Known, Memory
from fleet_control.health_law import MARGIN_S, SILENT_S, Mark
from fleet_functions import Functions
from tables import Tables

TIMEOUT_S = 900  # the job timeout that the controller is told


@pytest.fixture
def dynamodb() -> Tables:
    return Tables()


def follow(world: World, functions: Functions, seconds: float, beats: Mapping[str, Mapping[str, Any]]) -> None:
    """Runs one after the other for so long; ``beats`` are what the workers say all the time (one without says nothing).
    "rate" adds to ``completed`` at each look, "work" to ``worked_s``."""
    sums: dict[tuple[str, str], float] = {}

    def speak() -> None:
        world.admit()
        for name, said in beats.items():
            for growth in ("rate", "work"):
                sums[name, growth] = sums.get((name, growth), 0) + said.get(growth, 0)
            one, grown = world.instances[name], {"completed": sums[name, "rate"], "worked_s": sums[name, "work"]}
            if one.state == "InService":
                world.beat(one, busy=said["busy"], **grown)

    world.on_sleep = speak
    speak()
    until = world.at + seconds
    while world.at < until:
        functions.controller(seconds=74)
        world.sleep(10)


def drained(world: World) -> list[str]:
    return [call[1] for call in world.changed("terminate")]


def trio(world: World, functions: Functions) -> list[FakeInstance]:
    functions.controller_config["policy"]["cap"] = 6
    for group in world.groups.values():
        group.max = 6
    world.queue = {"": 40, "Delayed": 0, "NotVisible": 24}
    return [world.serving() for _ in range(3)]


def test_a_hung_node_is_replaced_while_the_others_serve(world: World, functions: Functions) -> None:
    bad, *good = trio(world, functions)
    beats = {one.id: {"busy": 8, "rate": 4} for one in good}
    beats[bad.id] = {"busy": 8}
    began = world.at
    follow(world, functions, TIMEOUT_S + MARGIN_S - 20, beats)
    assert drained(world) == []
    follow(world, functions, 60, beats)
    assert drained(world) == [bad.id]
    assert world.at - began < TIMEOUT_S + MARGIN_S + 90
    acts = [act for line in world.logs for act in line.get("acts", ())]
    assert any(act.startswith(f"drain {bad.id}: it has completed nothing for 12") for act in acts)


def test_a_queue_that_cannot_be_served_replaces_nobody(world: World, functions: Functions) -> None:
    """Every node works and completes nothing, hour after hour: the queue is to blame, or the model, not the nodes."""
    nodes = trio(world, functions)
    follow(world, functions, 3 * TIMEOUT_S, {one.id: {"busy": 8, "work": 80.0} for one in nodes})
    assert drained(world) == []
    assert world.logs[-1]["sick"] == {}


def test_silent_nodes_go_one_at_a_time(world: World, functions: Functions) -> None:
    """All workers fall silent: the table's fault, as like as not. One goes each cold start, never all at once."""
    nodes = trio(world, functions)
    follow(world, functions, 60, {one.id: {"busy": 4, "rate": 1} for one in nodes})
    world.on_sleep = world.admit
    gone: list[float] = []
    until = world.at + 720
    while world.at < until:
        functions.controller(seconds=24)
        world.sleep(10)
        gone += [world.at] * (len(drained(world)) - len(gone))
    assert 1 <= len(gone) <= 3
    assert all(later - earlier >= 240 for earlier, later in pairwise(gone))


def test_a_run_that_takes_over_from_one_that_replaces_a_node_does_not_take_the_next(
    world: World, functions: Functions
) -> None:
    nodes = trio(world, functions)
    follow(world, functions, 60, {one.id: {"busy": 4, "rate": 1} for one in nodes})

    def take_over(service: str, operation: str) -> None:
        if operation == "terminate_instance_in_auto_scaling_group":
            key, plus = {"pk": {"S": f"scaler#{FLEET}"}}, {":one": {"N": "1"}}
            world.db.update_item(
                TableName=CONTROL, Key=key, UpdateExpression="ADD fence :one", ExpressionAttributeValues=plus
            )

    world.on_sleep, world.on_call = world.admit, take_over
    while not drained(world):
        functions.controller(seconds=74)
    for _ in range(3):
        functions.controller(seconds=74)
    assert len(drained(world)) == 1, "all are silent: one each cold start"


def test_what_was_asked_for_goes_up_before_a_dead_node_goes(world: World, functions: Functions) -> None:
    functions.controller_config["policy"]["floor"] = 3
    nodes = trio(world, functions)
    world.queue = {"": 0, "Delayed": 0, "NotVisible": 24}
    beats = {one.id: {"busy": 8, "rate": 1} for one in nodes}
    follow(world, functions, 60, beats)
    del beats[nodes[0].id]
    world.calls.clear()
    follow(world, functions, 240, beats)
    changes = world.changed("desired", "terminate")
    raised = next(index for index, call in enumerate(changes) if call[0] == "desired" and call[2] > 3)
    assert raised < changes.index(("terminate", nodes[0].id, True))


def test_a_notice_is_answered_by_a_replacement_at_the_next_look_under_the_cap(
    world: World, functions: Functions
) -> None:
    """The worker writes `draining` as soon as it sees the notice; AWS takes the instance two minutes later."""
    functions.controller_config["policy"] |= {"cap": 3, "floor": 2}
    world.admit()
    world.queue = {"": 0, "Delayed": 0, "NotVisible": 16}
    nodes = [world.serving() for _ in range(2)]
    for one in nodes:
        world.beat(one, busy=8)
    functions.controller()
    assert world.changed("desired") == []
    world.at += 10
    for one in nodes:
        world.beat(one, busy=8, state="draining" if one is nodes[0] else "ready")
    functions.controller()
    assert world.changed("desired") == [("desired", SPOT_GROUP, 3, "active")]
    world.at += 10
    nodes[1].state = "Terminating:Wait"  # the other one leaves through its group: it counts against the cap as well
    world.groups[SPOT_GROUP].desired -= 1
    world.calls.clear()
    functions.controller()
    assert world.changed("desired") == []
    assert sum(len(world.listed(group)) for group in world.groups) <= 3


def test_a_node_under_notice_stays_draining_after_its_last_word(world: World, functions: Functions) -> None:
    """It has handed back its jobs and ended; EC2 and the group take minutes to see it gone."""
    world.admit()
    one = world.serving()
    world.beat(one, state="draining", age=SILENT_S + 60)
    world.queue[""] = 5
    functions.controller()
    assert (world.logs[-1]["ready"], world.logs[-1]["draining"]) == (0, 1)


def test_a_busy_instance_that_the_law_names_goes_through_its_drain(
    world: World, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named while it works: no capacity from then on, still under the cap, and nobody ends it but its own worker."""
    nodes = trio(world, functions)
    world.admit()
    for one in nodes:
        world.beat(one, busy=2)
    decide = controller.decide

    def naming(*given):
        decision, state = decide(*given)
        return replace(decision, drain=(nodes[1].id,), spot=3, desired=3), state

    monkeypatch.setattr(controller, "decide", naming)
    functions.controller()
    assert world.changed("desired", "terminate") == [
        ("desired", SPOT_GROUP, 4, "active"),
        ("terminate", nodes[1].id, True),
    ], "desired counts after the drain: its replacement is asked for first"
    assert nodes[1].state == "Terminating:Wait"


def test_an_instance_that_has_just_gone_does_not_stop_the_others_from_going(
    world: World, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = trio(world, functions)
    world.admit()
    for one in nodes:
        world.beat(one)
    world.queue = {"": 0, "Delayed": 0, "NotVisible": 0}
    decide = controller.decide

    def naming(*given):
        nodes[0].ec2 = "shutting-down"  # after the look
        decision, state = decide(*given)
        return replace(decision, drain=(nodes[0].id, nodes[1].id), spot=1, desired=1), state

    monkeypatch.setattr(controller, "decide", naming)
    reason = functions.controller()
    assert drained(world) == [nodes[1].id]
    assert f"{nodes[0].id} is not drained" in reason


@pytest.mark.parametrize("short", [SPOT_GROUP, ON_DEMAND_GROUP])
def test_failed_launches_of_either_pool_are_told_to_the_law(
    world: World, functions: Functions, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    told = []
    decide = controller.decide
    monkeypatch.setattr(controller, "decide", lambda seen, *rest: (told.append(seen), decide(seen, *rest))[1])
    world.admit()
    world.delivers = False
    world.groups[short].desired = 1
    world.groups[short].activities = [
        {
            "StatusCode": "Failed",
            "StartTime": datetime.fromtimestamp(world.at - 5, UTC),
            "Description": "Launching a new EC2 instance.  Status Reason: InsufficientInstanceCapacity",
        }
    ]
    functions.controller()
    pool = "spot" if short == SPOT_GROUP else "on-demand"
    assert {one.name: one.failed_at for one in told[0].pools} == {
        name: world.at - 5 if name == pool else None for name in ("spot", "on-demand")
    }
    assert world.changed("activities") == [("activities", short)], "the other group owes nothing and is not asked"


def test_what_is_remembered_survives_storing() -> None:
    memory = Memory(
        {
            "i-1": Known(1.5, None, "7"),
            "i-2": Known(1.0, 2.0),
            "i-3": Known(1.0, 2.0, "", Mark(3.0, 4.0, 5.5, 6.0)),
        },
        replaced_at=9.0,
        replaced="i-4",
    )
    assert Memory.from_json(memory.to_json()) == memory


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"known":[1]}', '{"known":{"i":["x"]}}', '{"known":{"i":1}}'])
def test_damaged_memory_is_no_memory(text: str | None) -> None:
    assert Memory.from_json(text) == Memory()


def test_a_run_stores_once_and_before_each_action(world: World, functions: Functions) -> None:
    world.admit()
    one = world.serving()
    world.on_sleep = lambda: (world.admit(), world.beat(one, busy=4))[0]
    world.beat(one, busy=4)
    world.queue["NotVisible"] = 4

    def writes() -> list[float]:
        return [at for at, operation in stored if operation == "update_item"]

    stored: list[tuple[float, str]] = []
    world.on_call = lambda service, operation: stored.append((world.at, operation))
    began = world.at
    functions.controller(seconds=74)  # as long as it takes the next run to take over
    row = world.row(CONTROL, f"scaler#{FLEET}")
    assert [at - began for at in writes()] == [0, 0, 50], "the lease, that this version boots, and once a minute"
    assert row["at"] == began + 50
    stored.clear()
    began = world.at
    functions.controller(seconds=74)
    assert [at - began for at in writes()] == [0, 50]
    stored.clear()
    began = world.at
    world.queue[""] = 300
    functions.controller(seconds=24)
    assert [at - began for at in writes()] == [0, 0, 0], "the lease, the state, the budget's reservation"
    operations = [operation for _, operation in stored]
    assert operations.index("set_desired_capacity") > len(operations) - 1 - operations[::-1].index("update_item")


def test_a_look_that_took_too_long_is_not_acted_on(world: World, functions: Functions) -> None:
    world.admit()
    world.queue[""] = 3
    slow = iter([25.0])
    world.on_call = lambda service, operation: setattr(
        world, "at", world.at + (next(slow, 0.0) if operation == "query" else 0.0)
    )
    functions.controller(seconds=60)
    assert world.logs[0]["reason"] == "look failed: StaleError: seen 25 s ago, limit 20 s: not acted on"
    assert world.changed("desired") == [("desired", SPOT_GROUP, 1, "active")], "the next look acts"


def test_the_run_that_takes_over_goes_on_from_ten_seconds_ago(world: World, functions: Functions) -> None:
    """A run does not know when the next one comes: it stores what it knows just before that is due."""
    world.admit()
    one = world.serving()
    began = world.at

    def live() -> None:
        world.admit()
        world.beat(one, busy=4)
        if world.at - began == 60:
            world.db.update_item(
                TableName=CONTROL,
                Key={"pk": {"S": f"scaler#{FLEET}"}},
                UpdateExpression="ADD fence :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )

    world.on_sleep = live
    live()
    assert functions.controller(seconds=150) == "a newer run took over (fence 2 > 1)"
    assert world.row(CONTROL, f"scaler#{FLEET}")["at"] == began + 50
