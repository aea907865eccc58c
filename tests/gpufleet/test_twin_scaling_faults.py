"""The program under trouble: whatever its controller is refused, told late or cut off from, the fleet stays under its
cap, does not flap, loses no job, kills no work, and recovers by itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import pytest
from twin_pools import CONTROLLER, DRAIN, HOUR, MINUTE, Frozen, Pools, Refusal

from gpufleet.twin.cloud import Call

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

SERVICES = ("autoscaling", "cloudwatch", "dynamodb", "sqs")  # all that the controller calls
COLD_START_S = 240  # as the stack is configured
STEADY_S, BURST_AT, BURST = 70 * MINUTE, 50 * MINUTE, 60


class Trouble(Protocol):
    """`on` until it is over; `count`: how often it struck."""

    on: bool
    count: int


def refused(pools: Pools) -> Trouble:
    return Refusal(pools, lambda call: call.principal == CONTROLLER)


def refused_to_all(pools: Pools) -> Trouble:
    """The account is throttled: guard and nodes are refused, too."""
    return Refusal(pools, lambda call: call.service in SERVICES)


def half_refused(pools: Pools) -> Trouble:
    chance = random.Random(7)
    return Refusal(pools, lambda call: call.principal == CONTROLLER and chance.random() < 0.5)


def frozen_queue(pools: Pools) -> Trouble:
    return Frozen(pools, queue=True)


def frozen_heartbeats(pools: Pools) -> Trouble:
    return Frozen(pools, rows=True)


def frozen_both(pools: Pools) -> Trouble:
    return Frozen(pools, queue=True, rows=True)


class Doubled:
    """Every event of the schedule comes twice, and further runs begin between them."""

    def __init__(self, pools: Pools) -> None:
        self.on, self.count = True, 0
        self._pools, self._chance = pools, random.Random(3)
        pools.world.services.events.double_probability = 1.0
        self._invoke()

    def _invoke(self) -> None:
        if not self.on:
            self._pools.world.services.events.double_probability = 0.0
            return
        self.count += 1
        runs = self._pools.world.services.functions.functions[CONTROLLER].host.running
        assert len(runs) <= 4, "one that was overtaken ends at its next look"
        self._pools.client("lambda").invoke(FunctionName=CONTROLLER, InvocationType="Event", Payload=b"{}")
        self._pools.cloud.clock.after(self._chance.uniform(5, 15), self._invoke)


TROUBLES: dict[Callable[[Pools], Trouble], float] = {
    refused: 5 * MINUTE,
    refused_to_all: 4 * MINUTE,
    half_refused: 20 * MINUTE,
    frozen_queue: 5 * MINUTE,
    frozen_heartbeats: 5 * MINUTE,
    frozen_both: 5 * MINUTE,
    Doubled: 10 * MINUTE,
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: one.__name__)
def test_trouble_under_steady_and_changing_load(trouble: Callable[[Pools], Trouble]) -> None:
    """At a steady load, when a burst comes, and when the load ends."""
    with Pools() as pools:
        world = pools.world
        pools.steady(4.5, STEADY_S)
        world.clock.at(pools.began + BURST_AT, pools.send, BURST)
        for at in (15 * MINUTE, BURST_AT - 30, STEADY_S - MINUTE):
            world.run_until(pools.began + at)
            one = trouble(pools)
            world.run_for(TROUBLES[trouble])
            one.on = False
            assert one.count > 10
            assert pools.peak <= pools.cap
        assert world.run_until(pools.home, limit_s=2 * HOUR), "it recovers by itself"
        pools.check()
        # Eight calls in a row must succeed before anything is launched: where half of them fail, hardly ever.
        assert pools.peak > 2 or trouble is half_refused, "the burst took more than the load before it"
        assert pools.reversals() <= 1
        assert pools.acting() == sorted(pools.acting()), "only the newest run acts"
        apart = [later - earlier for earlier, later in pairwise(sorted(pools.replaced().values()))]
        assert min(apart, default=HOUR) >= COLD_START_S, "of nodes that all look dead, one goes each cold start"


def by_a_run(pools: Pools, call: Call) -> bool:
    """Whether the controller itself calls, not Lambda on its behalf (about a run that failed)."""
    return call.principal == CONTROLLER and pools.cloud.clock.in_process()


class Cut:
    """One run of the controller stops for good at its call number `number` from now on (of one operation, if `only` is
    given): it hangs there until its function's timeout. Every other run goes on."""

    def __init__(self, pools: Pools, number: int, only: str | None) -> None:
        self.operation = ""
        self._pools, self._left, self._only = pools, number, only
        pools.cloud.faults.append(self._hear)

    def _hear(self, call: Call) -> None:
        if self.operation or self._only not in (None, call.operation) or not by_a_run(self._pools, call):
            return
        self._left -= 1
        if self._left < 0:
            self.operation = call.operation
            self._pools.cloud.clock.sleep(HOUR)


def test_a_run_is_cut_at_any_call() -> None:
    """From rest to rest, again and again: each time one run is cut when jobs come, and one when the last is done; one
    call later than the time before, and at the calls that change the fleet."""
    cut, places = set(), [(number, None) for number in range(22)]
    with Pools() as pools:
        for number, only in [*places, (0, "SetDesiredCapacity"), (0, DRAIN), (1, DRAIN)]:
            began = pools.now()
            jobs = 2 + number % 3 * 4
            pools.send(jobs)
            wakes = Cut(pools, number, only)
            assert pools.world.run_until(pools.served, limit_s=HOUR)
            leaves = Cut(pools, number, only)
            assert pools.world.run_until(pools.home, limit_s=HOUR), number
            pools.check()
            turns = [one.step for one in pools.moves(began)]
            assert turns == sorted(turns, reverse=True), f"what drains is not launched again: {number}"
            assert len(turns) <= 2 * pools.cap
            cut |= {wakes.operation, leaves.operation}
            pools.world.run_for(3 * MINUTE)
    assert {"UpdateItem", "GetQueueAttributes", "DescribeAutoScalingGroups", "SetDesiredCapacity", DRAIN} <= cut


def test_every_run_is_cut_at_another_call() -> None:
    """A steady load and a burst; no run lives for longer than some calls."""
    with Pools() as pools:
        world, seen = pools.world, {}

        def hang(call: Call) -> None:
            if world.now() > pools.began + HOUR or not by_a_run(pools, call):
                return
            run = pools.cloud.clock.current()
            seen[run] = seen.get(run, 0) + 1
            if seen[run] > 7 * len(seen) % 60:
                pools.cloud.clock.sleep(HOUR)

        pools.cloud.faults.append(hang)
        pools.steady(4.5, 50 * MINUTE)
        world.clock.at(pools.began + 25 * MINUTE, pools.send, BURST)
        world.run_for(50 * MINUTE)
        assert world.run_until(pools.home, limit_s=2 * HOUR)
        pools.check()
        assert len(seen) > 50
        assert pools.reversals() <= 1
