"""Jobs that take longer than a stop's drain: a scale-in waits for them, a stop and a dead guard do not, and all that
stays inside what the guard had committed."""

from __future__ import annotations

from typing import Any

import pytest
from twin_pools import HOUR, MINUTE, Pools

from gpufleet.operations.resume import resume
from gpufleet.twin.model_server import CANARY_S, TOKENS_PER_S

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

GUARD = "inference-scale-to-zero-dev"
DRAIN_S, SHORT_S, JOB_TIMEOUT_S = 300.0, 400.0, 3600.0
LEAVING_S = 600.0 + 150.0  # of the spend law
LEAVE_AFTER_S, LOOK_S = 600.0 - 75.0, 30.0  # of the watchdog: it leaves before the allowance ends, and looks so often
EDITS = {
    "model.slots": 3,
    "spot": False,  # on-demand costs what is committed for it: the bill has no discount to hide behind
    "drainSeconds": int(DRAIN_S),
    "advanced.expectedServiceSeconds": int(DRAIN_S),
    "advanced.jobTimeoutSeconds": int(JOB_TIMEOUT_S),
}


class LongJobs(Pools):
    """Two instances that serve, one long job on each, and one of the two is leaving in a scale-in: `leaving`.
    `idle_usd`: what the guard had committed before anything ran."""

    def __init__(self, long_s: float) -> None:
        super().__init__(cap=2, edits=EDITS)
        self.world.behaviour.service_seconds = _exactly
        self.idle_usd = self.figures()["committed_usd"]
        for seconds in (long_s, SHORT_S, SHORT_S, long_s, SHORT_S, SHORT_S):
            self.send(1, seconds)
        assert self.world.run_until(lambda: bool(self.drained()), limit_s=HOUR)
        (self.leaving,) = self.drained()
        self.drained_at = self.now()
        model = self.world.nodes.nodes[self.leaving].model
        (began,) = model.in_flight.values()
        self.left_s = began + long_s - self.now()
        assert self.at_work() == 2, "one long job on each"

    def __enter__(self) -> LongJobs:
        return self

    def gone(self) -> bool:
        return self.leaving not in {one.id for one in self.world.instances()}

    def paid(self, at: float) -> float:
        """The instances' bill up to then."""
        return sum(one.usd for one in self.world.bill.lines(as_of=at) if one.kind in ("on-demand", "disk"))

    def stop(self) -> None:
        """By hand, as docs/operations.md says it."""
        row: dict[str, Any] = {"pk": {"S": "latch"}, "latched": {"BOOL": True}, "reason": {"S": "manual"}}
        row |= {"generation": {"N": "1"}, "at": {"N": str(self.now())}, "month": {"S": "2026-11"}}
        self.client("dynamodb").put_item(TableName=self.outputs["controlTable"], Item=row)

    def guard_runs(self, *, on: bool) -> None:
        events = self.client("events")
        (events.enable_rule if on else events.disable_rule)(Name=GUARD)

    def finish(self) -> None:
        assert self.world.run_until(self.home, limit_s=3 * HOUR)
        account = self.world.account()
        assert account.in_order
        assert account.completed == account.sent


def _exactly(request: Any, _: Any) -> float:
    tokens = request["max_tokens"]
    return CANARY_S if tokens == 1 else tokens / TOKENS_PER_S


def test_a_scale_in_waits_for_a_job_that_outlasts_a_stop_s_drain() -> None:
    with LongJobs(long_s=900.0) as fleet:
        assert fleet.left_s > DRAIN_S + MINUTE, "longer than the hook waits without being told that the drain goes on"
        assert fleet.world.run_until(fleet.gone, limit_s=HOUR)
        assert fleet.left_s < fleet.now() - fleet.drained_at < fleet.left_s + MINUTE
        fleet.finish()
        assert fleet.world.account().begun_again == frozenset()
        assert fleet.world.work_killed_s == 0


def test_a_stop_ends_a_scale_in_s_drain_with_its_own_and_the_jobs_are_done_after_the_resume() -> None:
    with LongJobs(long_s=2400.0) as fleet:
        world = fleet.world
        fleet.stop()
        assert world.run_until(lambda: bool(fleet.backlog()), limit_s=HOUR, step_s=1.0)
        first = next(one["at"] for one in fleet.records(GUARD, fleet.drained_at) if one["latched"])
        assert first - fleet.drained_at <= MINUTE + 10
        assert world.run_until(lambda: fleet.backlog() == 2, limit_s=LOOK_S, step_s=1.0), "what was just told as well"
        assert DRAIN_S - 10 < fleet.now() - first < DRAIN_S + LOOK_S
        assert world.run_until(lambda: not fleet.running(), limit_s=2 * MINUTE)
        assert [act for one in fleet.records(GUARD, first) for act in one["acts"] if "deadline" in act] == []
        row = next(one for one in fleet.records(GUARD, first) if one["at"] == first)
        committed = row["committed_usd"] - fleet.idle_usd
        assert 0 < fleet.paid(fleet.now()) - fleet.paid(first) < committed / 2
        resume(fleet.client("dynamodb"), fleet.outputs["controlTable"], by="test", at=fleet.now())
        fleet.finish()
        assert len(world.account().begun_again) == 2


@pytest.mark.parametrize("stopped", [False, True], ids=["before the latch", "right after the latch"])
def test_a_scale_in_s_drain_without_a_guard_ends_inside_what_was_committed(stopped: bool) -> None:
    with LongJobs(long_s=2400.0) as fleet:
        world = fleet.world
        world.run_for(MINUTE)
        figures = fleet.figures()
        spoken = figures["at"]
        if stopped:
            fleet.stop()
        fleet.guard_runs(on=False)
        assert world.run_until(fleet.gone, limit_s=HOUR)
        assert LEAVE_AFTER_S <= fleet.now() - spoken < LEAVE_AFTER_S + LOOK_S + MINUTE, "it drained already, so at once"
        again = world.account().begun_again
        assert fleet.backlog() + len(again) == 1, "handed back, not left to its lease: it waits, or the other has it"
        assert world.run_until(lambda: not fleet.running(), limit_s=HOUR)
        assert fleet.now() - spoken < DRAIN_S + LEAVING_S
        assert fleet.backlog() == 2
        assert fleet.paid(fleet.now()) - fleet.paid(spoken) < figures["committed_usd"] - fleet.idle_usd
