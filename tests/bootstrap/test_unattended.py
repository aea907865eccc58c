"""A node whose fleet nobody attends goes home once it is idle; and never while it works, or because it cannot see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from worker_world import TERMINATE_HOOK, Node, World

ALLOWANCE = ("fleet#inference-dev", "allowance")
MINUTE = 60


def served(world: World, heard: Callable[[float], float | None], minutes: int, *, every: int = 1) -> None:
    """A guard that ticks every `every` minutes for so long; `heard(now)`: when it last heard the controller."""
    for minute in range(minutes):
        if minute % every == 0:
            at = heard(world.clock.now)
            row = {"until": world.clock.now + 600, "at": world.clock.now}
            world.put_row(*ALLOWANCE, **row, **({} if at is None else {"controller_at": at}))
        world.clock.run(most_s=MINUTE)


def silent_since(start: float) -> Callable[[float], float]:
    return lambda now: start


@pytest.fixture
def world() -> World:
    return World(mute_heartbeats=False)


def running(world: World) -> Node:
    """A node with its worker; the first allowance is there before it."""
    served(world, lambda now: now, 1)
    return world.node().start("watchdog", "work")


def test_an_idle_node_of_a_silent_controller_leaves_through_its_group(world: World) -> None:
    instance, start = running(world), world.clock.now
    served(world, silent_since(start), 19)
    assert instance.terminated == [], "silent for 600 s, then idle for 600 s"
    served(world, silent_since(start), 3)
    assert instance.commands == [["systemctl", "stop", "worker.service"]]
    assert instance.terminated == [True], "the group's desired count goes down with it"
    assert instance.hook_calls == [(TERMINATE_HOOK, "CONTINUE")]
    assert instance.status == {"watchdog": 0, "work": 0}
    assert [log["event"] for log in instance.logs if log["event"] == "unattended"] == ["unattended"]


def test_it_stays_while_there_is_work_and_its_idle_time_begins_with_the_end_of_the_last_job(world: World) -> None:
    world.answers["long"] = 2400.0
    world.send("long")
    instance, start = running(world), world.clock.now
    served(world, silent_since(start), 41)
    assert world.ended()
    assert instance.terminated == []
    served(world, silent_since(start), 7)
    world.send("short")  # 20 s, which no look of the watchdog needs to see
    served(world, silent_since(start), 9)
    assert instance.terminated == []
    served(world, silent_since(start), 4)
    assert instance.terminated == [True]
    world.check()


def test_a_job_that_comes_with_the_last_look_is_finished(world: World) -> None:
    instance, start = running(world), world.clock.now
    world.answers["last"] = 100.0
    while not any(log["event"] == "unattended" for log in instance.logs):
        world.put_row(*ALLOWANCE, until=world.clock.now + 600, at=world.clock.now, controller_at=start)
        world.clock.run(lambda: any(log["event"] == "unattended" for log in instance.logs), MINUTE)
        if world.clock.now - start > 1170 and not world.accepted:
            world.send("last")
    world.clock.run(lambda: bool(instance.terminated), 300)
    assert instance.terminated == [True]
    world.check()


@pytest.mark.parametrize(
    "heard",
    [lambda now: now - 180, lambda now: now - 599, lambda now: None],
    ids=["it lives", "it may live", "it never ran"],
)
def test_an_idle_node_waits_for_its_controller(world: World, heard: Callable[[float], float | None]) -> None:
    instance = running(world)
    served(world, heard, 60)
    assert instance.terminated == []


def test_an_old_allowance_says_nothing_about_the_controller(world: World) -> None:
    """A guard that ticks now and then: for want of a fresh word nobody leaves, and the allowance still holds."""
    instance, start = running(world), world.clock.now
    served(world, silent_since(start), 60, every=8)
    assert instance.terminated == []


def test_a_controller_that_comes_back_keeps_the_node(world: World) -> None:
    instance, start = running(world), world.clock.now
    served(world, silent_since(start), 19)
    served(world, lambda now: now, 2)
    served(world, silent_since(world.clock.now), 19)
    assert instance.terminated == []


@pytest.mark.parametrize("sees", ["its heartbeat", "who it is"])
def test_what_cannot_be_read_keeps_the_node(world: World, sees: str) -> None:
    instance, start = running(world), world.clock.now
    world.clock.run(most_s=MINUTE)
    if sees == "who it is":
        instance.metadata_fault = 500
    else:  # every other row can be read: the watchdog asks for the allowance first, then for the heartbeat
        reads = [0]

        def fault(node: Node, operation: str) -> str | None:
            reads[0] += operation == "dynamodb.get_item"
            return "before" if operation == "dynamodb.get_item" and silent(reads[0]) else None

        def silent(number: int) -> bool:
            return world.clock.now - start > 600 and number % 2 == 0

        world.fault = fault
    served(world, silent_since(start), 60)
    assert instance.terminated == []
    assert any(log["event"] == "heartbeat-unreadable" for log in instance.logs)
    instance.metadata_fault, world.fault = None, lambda node, operation: None
    served(world, silent_since(start), 12)
    assert instance.terminated == [True]


def test_a_worker_that_writes_no_heartbeat_is_not_taken_for_idle(world: World) -> None:
    instance, start = running(world), world.clock.now
    world.clock.run(most_s=MINUTE)
    world.mute_heartbeats = True
    served(world, silent_since(start), 60)
    assert instance.terminated == []
