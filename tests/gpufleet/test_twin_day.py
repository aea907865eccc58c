"""A day of a real trace through the deployed program: every job is served, in time, under the cap, none of its work is
lost to scale-in, and the fleet does not flap.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from twin_scaling import DAY, HOUR, provisioned, served

from gpufleet.demo.stage import Stage
from gpufleet.planner import traces

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

CAP, TARGET_S = 4, 300.0
JOBS = 2000
JOB_S, SPREAD = 150.0, 0.4  # median and log deviation: a few outlast the 300 s that a stop would give them


def day(start: float) -> list[tuple[float, float]]:
    """(when, service seconds) of each job: the last day of BurstGPT's first week, thinned. Its peak is 16 times its
    mean, and needs the whole cap."""
    profile = traces.load("burstgpt-week").window(6 * DAY, DAY).thinned(peak_rate=math.inf, jobs=JOBS)
    chance = random.Random(1)
    return [(start + at, chance.lognormvariate(math.log(JOB_S), SPREAD)) for at in profile.arrivals(1)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """After the day, once the fleet is at rest."""
    with provisioned(maxGpuInstances=CAP) as stage:
        world = stage.world
        world.traffic.schedule(stage.outputs["queueUrl"], day(stage.now()))
        world.run_for(DAY)
        assert world.run_until(stage.at_zero, limit_s=HOUR, step_s=60)
        yield stage


def test_every_job_is_completed_and_nearly_all_start_in_time(stage: Stage) -> None:
    account = stage.world.account()
    assert len(account.sent) > 0.95 * JOBS
    assert served(stage)
    assert account.in_order
    assert len(account.waits) == len(account.sent)
    assert sum(wait <= TARGET_S for wait in account.waits.values()) >= 0.99 * len(account.waits)


def test_no_work_is_killed_by_scale_in(stage: Stage) -> None:
    assert len(drains(stage)) > 10
    assert stage.world.work_killed_s == 0
    assert not stage.world.account().begun_again


def test_the_cap_is_reached_and_never_exceeded(stage: Stage) -> None:
    assert most_at_once(stage) == CAP


def test_the_fleet_does_not_flap(stage: Stage) -> None:
    """Within a cold start, at most one launch takes back a drain."""
    launches = [(one.launched_at, "launch") for one in stage.world.machines.instances.values()]
    steps = sorted([*launches, *((at, "drain") for at in drains(stage))])
    reversals = [at for (_, before), (at, step) in pairwise(steps) if (before, step) == ("drain", "launch")]
    assert len(reversals) > 10
    assert min(later - sooner for sooner, later in pairwise(reversals)) >= cold_start_s(stage)


def drains(stage: Stage) -> list[float]:
    """When instances were named to leave."""
    calls = stage.cloud.calls
    return [call.at for call in calls if call.operation == "TerminateInstanceInAutoScalingGroup" and not call.error]


def most_at_once(stage: Stage) -> int:
    """The most instances that were not terminated at any moment."""
    changes = []
    for one in stage.world.machines.instances.values():
        assert one.gone_at is not None
        changes += [(one.launched_at, 1), (one.gone_at, -1)]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def cold_start_s(stage: Stage) -> float:
    """As the law had learned it by the evening."""
    decisions = stage.records(stage.outputs["controllerFunction"], 0)
    return [one["cold_start_s"] for one in decisions if one.get("event") == "decision"][-1]
