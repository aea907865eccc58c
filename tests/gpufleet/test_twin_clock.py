"""Virtual time: processes take turns, nothing sleeps, faults of the twin are never swallowed."""

from __future__ import annotations

from typing import Any

import pytest

from gpufleet.twin.clock import Clock
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError


def test_processes_interleave_in_time_order_and_the_clock_ends_where_it_was_told() -> None:
    clock, seen = Clock(100.0), []

    def walk(name: str, step: float) -> None:
        for _ in range(3):
            clock.sleep(step)
            seen.append((clock.now(), name))

    clock.spawn("slow", walk, "slow", 3)
    clock.spawn("fast", walk, "fast", 2)
    clock.run_until(108)
    assert seen == [(102, "fast"), (103, "slow"), (104, "fast"), (106, "slow"), (106, "fast")]
    assert clock.now() == 108


def test_an_event_wakes_its_waiters_before_their_timeout_and_a_timeout_says_so() -> None:
    clock, seen = Clock(0.0), []
    event = clock.event()
    clock.spawn("short", lambda: seen.append((event.wait(5), clock.now())))
    clock.spawn("long", lambda: seen.append((event.wait(50), clock.now())))
    clock.after(10, event.set)
    clock.run_for(100)
    assert seen == [(False, 5), (True, 10)]


def test_a_killed_process_ends_where_it_waits_and_runs_its_clean_up() -> None:
    clock, seen = Clock(0.0), []

    def work() -> None:
        try:
            clock.sleep(60)
            seen.append("finished")
        finally:
            seen.append("cleaned up")

    process = clock.spawn("work", work)
    clock.run_for(10)
    process.kill()
    clock.run_for(100)
    assert seen == ["cleaned up"]
    assert not process.alive
    assert process.done.is_set()


def test_waiting_outside_a_process_is_refused() -> None:
    with pytest.raises(RuntimeError, match="only a process may wait"):
        Clock(0.0).sleep(1)


def test_run_until_done_stops_at_the_event_or_at_the_limit() -> None:
    clock = Clock(0.0)
    event = clock.event()
    clock.after(7, event.set)
    assert clock.run_until_done(event, 100)
    assert clock.now() == 7
    assert not clock.run_until_done(clock.event(), 50)
    assert clock.now() == 50


def test_a_thousand_waiting_processes_cost_no_more_per_step_than_a_few() -> None:
    clock, ticks = Clock(0.0), []
    for index in range(1000):
        clock.spawn(f"idle {index}", lambda: clock.event().wait())
    clock.run_for(1)
    assert len(clock._processes) == 1000
    for index in range(1000):
        clock.after(index, ticks.append, index)
    clock.run_for(1000)
    assert ticks == list(range(1000))
    assert clock.spawn("short", lambda: None) is not None
    clock.run_for(1)
    assert len(clock._processes) == 1000  # the finished one is forgotten at once


class Broken:
    def handles(self, operation: str) -> bool:
        return True

    def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any]:
        raise NotModelledError(f"no {operation}")


def test_what_the_twin_does_not_know_comes_out_of_the_run_even_if_the_code_swallows_it() -> None:
    with Cloud(0.0) as cloud:
        cloud.register("sqs", Broken())
        client = cloud.client("sqs")
        carried_on = []

        def careless() -> None:
            try:
                client.list_queues()
            except Exception:
                carried_on.append(True)

        cloud.clock.spawn("careless", careless)
        with pytest.raises(NotModelledError, match="no ListQueues"):
            cloud.clock.run_for(1)
        assert carried_on
