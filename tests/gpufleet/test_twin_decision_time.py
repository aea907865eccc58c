"""How soon the deployed program answers the first message of a fleet at rest, while its schedule fires late, twice and
now and then not at all. Counted from the sending: SQS's counters, up to five seconds late here, come on top.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
from twin_scaling import DAY, HOUR, MINUTE, launch_decided, provisioned, send, served

from gpufleet.demo.stage import Stage

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

MESSAGES = 120
LATE_S = 5.0  # of a schedule's invocation, at most; the counters lag as much
LAST_LOOK_S = 110.0  # a run looks every 10 s for two minutes, unless a newer one takes over


def spoil(stage: Stage) -> None:
    """One invocation of twenty is dropped, one comes twice, each is up to five seconds late."""
    events = stage.world.services.events
    events.jitter_s, events.drop_probability, events.double_probability = LATE_S, 0.05, 0.05


def decided_after(stage: Stage) -> float:
    """Seconds from now, when the first message is sent, to the decision to launch."""
    sent_at = stage.now()
    send(stage, 1, service_s=2)
    assert stage.world.run_until(lambda: launch_decided(stage, sent_at) is not None, limit_s=10 * MINUTE, step_s=2)
    at = launch_decided(stage, sent_at)
    assert at is not None
    return at - sent_at


def rest(stage: Stage) -> None:
    assert stage.world.run_until(stage.at_zero, limit_s=HOUR, step_s=5)


@pytest.fixture
def impatient() -> Iterator[Stage]:
    """Its wait target is shorter than a cold start; schedules fire at their second, none is lost."""
    with provisioned(waitTargetSeconds=60) as stage:
        events = stage.world.services.events
        events.jitter_s, events.drop_probability, events.double_probability = LATE_S, 0.0, 0.0
        yield stage


@pytest.mark.long
def test_a_first_message_is_answered_in_seconds_whenever_it_comes() -> None:
    """With the defaults (300 s of patience, 240 s to boot) a launch is due at once. There is no capacity, so that each
    message can be taken back and the next one finds a fleet at rest: what is measured is the decision."""
    chance = random.Random(7)
    with provisioned() as stage:
        world = stage.world
        world.market.available = world.market.on_demand_available = lambda *_: False
        spoil(stage)
        queue = world.services.sqs.named(stage.outputs["queueUrl"].rsplit("/", 1)[-1]).queue
        waits = []
        for _ in range(MESSAGES):
            world.run_for(chance.uniform(20, 140))
            assert stage.at_zero()
            waits.append(decided_after(stage))
            queue.purge()
            rest(stage)
        waits.sort()
        assert waits[math.ceil(0.99 * MESSAGES) - 1] <= 15
        assert waits[-1] <= 75
        assert waits[0] < 10 < waits[-1], "some came just before a look, some just after one"


@pytest.mark.parametrize(("dropped", "limit_s"), [(1, 15), (2, 75)])
def test_a_run_bridges_one_dropped_invocation_and_the_next_after_two_is_in_time(
    impatient: Stage, dropped: int, limit_s: float
) -> None:
    """Sent just after a look of the run before, up to its last one: the worst moment. An instance serves each job."""
    world, events = impatient.world, impatient.world.services.events
    for looks_s in (50, 70, 90, LAST_LOOK_S):
        run = _next_run(impatient)
        events.drop_probability = 1.0
        world.run_until(run + looks_s + 0.5)
        assert impatient.at_zero()
        world.cloud.clock.at(run + dropped * MINUTE + 3 * LATE_S, setattr, events, "drop_probability", 0.0)
        assert decided_after(impatient) <= limit_s
        assert world.run_until(lambda: served(impatient), limit_s=HOUR)
        following = next(at for at in _leases(impatient) if at > run)
        assert following >= run + (dropped + 1) * MINUTE - LATE_S, "the invocations were dropped"
        rest(impatient)


def _next_run(stage: Stage) -> float:
    """Lets the next run of the controller begin; when it did."""
    leases = len(_leases(stage))
    assert stage.world.run_until(lambda: len(_leases(stage)) > leases, limit_s=3 * MINUTE, step_s=1)
    return _leases(stage)[-1]


def _leases(stage: Stage) -> list[float]:
    """When the controller took its lease: each run does so once."""
    return [
        call.at
        for call in stage.cloud.calls
        if call.operation == "UpdateItem" and call.params["UpdateExpression"] == "ADD fence :one"
    ]


@pytest.mark.long
def test_after_seven_idle_days_it_is_as_quick() -> None:
    with provisioned() as stage:
        spoil(stage)
        world = stage.world
        world.run_for(7 * DAY)
        assert stage.failures() == []
        assert launch_decided(stage, 0) is None
        assert not world.machines.instances
        world.run_until(_next_run(stage) + 0.5)  # a look has just found nothing
        assert decided_after(stage) <= 15
        assert world.run_until(lambda: served(stage), limit_s=HOUR)
