"""The guard keeps its promise whatever happens in whatever order: a search over ticks, alerts, edits, faults and time.

See `machine_life.py` for the machine, and `machine_bill.py` for what exactly is promised.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_world import ON_DEMAND_GROUP, SPOT_GROUP
from fleet_control.aws import accounting, runtime, scale_to_zero, stop
from fleet_control.aws.tick import Tick
from fleet_control.spend_law import Latch, Situation
from fleet_control.spend_ledger import Ledger
from fleet_control.spend_prices import Prices, Running
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from machine_bill import DEAREST, DISK, FIXED, STOP_S, STOPPED, bounds, month_of
from machine_life import CHANGES, CONTROL, Life

STARTS = [
    datetime(2026, 12, 15, 12, tzinfo=UTC),
    datetime(2026, 12, 31, 21, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2026, 12, 1, 0, 0, 30, tzinfo=UTC),
]
# What happens at a run's calls: refused, its answer lost, the run cut; or something else meanwhile.
WHATS = [
    "before", "after", "cut", "guard", "a later guard", "controller", "resume", "stop", "stop and resume", "slow",
    "interrupt",
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 9]), st.sampled_from(WHATS)), max_size=4)


def _at_calls(first: int, steps: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """What happens by the numbers of the calls; each step comes so many calls after the one before."""
    numbers = itertools.accumulate((gap for gap, _ in steps), initial=first)
    return [(number, what) for number, (_, what) in zip(list(numbers)[1:], steps, strict=True)]


# Troubles come together: what happens at one call or at those right after it.
SCRIPTS = st.builds(_at_calls, st.integers(1, 30), STEPS)
OUTAGES = [
    "everything", "ec2", "autoscaling", "dynamodb", "cloudwatch", "sns", "budgets", "terminate_instances",
    "describe_instances", "suspend_processes", "set_desired_capacity", "complete_lifecycle_action",
    "terminate_instance_in_auto_scaling_group", "put_item", "describe_spot_price_history",
]  # fmt: skip
MESSAGES: list[Any] = [None, {"Records": [None]}, "nonsense", 7, [], {"Records": [{"Sns": {"Message": "{"}}]}]
CAP = 4
REPLACED = ("now", "sleep", "client", "log", "environ")  # of the functions' runtime


def least_usd(per_boot: float) -> float:
    """The least budget that settings admit."""
    return FIXED + max(DEAREST + DISK, CAP * (2 * (DEAREST + DISK) * STOP_S / 3600 + per_boot))


def _set(**values: Any) -> Callable[[Life], None]:
    return lambda life: life.__dict__.update(values)


def _edge(left: float) -> Callable[[Life], None]:
    """The budget is set to barely more than is spent and committed."""

    def edit(life: Life) -> None:
        if row := life.world.row(CONTROL, "budget"):
            life.up_budget(max(least_usd(life.bill.per_boot), row["spent_usd"] + row["committed_usd"] + left))

    return edit


def make_dear(life: Life) -> None:
    """From now on everything costs as much, and takes as long, as it may."""
    life.kind = "g6.4xlarge"
    life.job_s, life.slow_s = 290.0, 110.0
    life.spot_price(1.0)


AWS: dict[str, Callable[[Life], Any]] = {
    "takes a spot instance": lambda life: life.interrupt(0),
    "takes all spot instances": lambda life: [life.interrupt(0) for _ in life.serving()],
    "replaces an instance": lambda life: life.replace(0),
    "replaces all instances": lambda life: [life.replace(0) for _ in life.serving()],
    "lets an instance hang": lambda life: life.hang(0),
    "lets a worker hang": lambda life: life.hang(-1, speaks=True),
    "suspends nothing": lambda life: setattr(life.world, "suspends", False),
    "suspends again": lambda life: setattr(life.world, "suspends", True),
    "has no capacity": lambda life: setattr(life.world, "delivers", False),
    "has capacity": lambda life: setattr(life.world, "delivers", True),
    "launches the dear type": _set(kind="g6.4xlarge"),
    "asks 30 % for spot": lambda life: life.spot_price(0.3),
    "asks 100 % for spot": lambda life: life.spot_price(1.0),
    "suspends spot": lambda life: life.suspend_by_aws(SPOT_GROUP),
    "suspends on-demand": lambda life: life.suspend_by_aws(ON_DEMAND_GROUP),
    "sends events late": _set(events="late"),
    "sends events twice": _set(events="twice"),
    "loses events": _set(events="lost"),
}
PEOPLE: dict[str, Callable[[Life], None]] = {
    "resume": lambda life: life.resume(),
    "resume and allow $2 more": lambda life: life.resume(2.0),
    "stop": lambda life: life.stop(),
    "send a job": lambda life: life.jobs(1),
    "send many jobs": lambda life: life.jobs(100_000),
    "send jobs of 15 minutes": _set(job_s=880.0),
    "send jobs that do not end": _set(job_s=290.0, slow_s=110.0),
    "set the cap to 1": lambda life: life.up_cap(1),
    "set the cap to 4": lambda life: life.up_cap(4),
    "set the least budget": lambda life: life.up_budget(least_usd(life.bill.per_boot)),
    "set a large budget": lambda life: life.up_budget(least_usd(life.bill.per_boot) + 40),
    "set the budget to the edge": _edge(0.001),
    "set the budget near the edge": _edge(0.5),
    "set the budget to a launch": _edge(1.4),
    "ship an image": lambda life: life.up_template(broken=False),
    "ship a broken image": lambda life: life.up_template(broken=True),
    "suspend spot": lambda life: life.suspend_by_hand(SPOT_GROUP, "Launch"),
    "suspend schedules": lambda life: life.suspend_by_hand(ON_DEMAND_GROUP, "ScheduledActions"),
}


class GuardMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.before = {name: getattr(runtime, name) for name in REPLACED}
        self._life: Life | None = None

    @property
    def life(self) -> Life:
        assert self._life is not None, "begin comes first"
        return self._life

    @initialize(
        start=st.sampled_from(STARTS),
        room=st.sampled_from([6.0, 30.0]),
        edge=st.one_of(st.floats(0.7, 1.5), st.floats(0.7, 6.0)),
        per_boot=st.sampled_from([0.0, 0.0225, 0.675]),
        lag=st.sampled_from([0.0, 8.0]),
        pending=st.sampled_from([0.0, 12.0]),
        delivers=st.sampled_from([True, True, False]),
        resumes=st.sampled_from([True, True, False]),
        suspends=st.sampled_from([True, True, True, False]),
        stopped=st.sampled_from([STOPPED, FIXED]),
        dear=st.booleans(),
        jobs=st.sampled_from([0, 40, 100_000]),
    )
    def begin(
        self,
        start: datetime,
        room: float,
        edge: float,
        per_boot: float,
        lag: float,
        pending: float,
        delivers: bool,
        resumes: bool,
        suspends: bool,
        stopped: float,
        dear: bool,
        jobs: int,
    ) -> None:
        """Seven minutes of an ordinary life, if there are jobs: some nodes have booted."""
        life = self._life = Life(
            start.timestamp(), max(room, least_usd(per_boot) - FIXED), edge, per_boot, lag, pending, stopped
        )
        life.world.delivers, life.functions.guard_config["resume_on_new_month"] = delivers, resumes
        life.world.suspends = suspends
        if dear:
            make_dear(life)
        life.install()
        life.jobs(jobs)
        life.minutes(7 if jobs else 0)

    @rule(seconds=st.sampled_from([7, 30, 60, 130, 300, 620, 1100, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.life.pass_time(seconds)

    @rule(minutes=st.sampled_from([1, 2, 5, 20, 60]))
    def minutes_pass(self, minutes: int) -> None:
        self.life.minutes(minutes)

    @rule(script=SCRIPTS)
    def tick(self, script: list[tuple[int, str]]) -> None:
        self.life.guard(script)

    @rule(script=SCRIPTS, looks=st.sampled_from([1, 1, 3]))
    def look(self, script: list[tuple[int, str]], looks: int) -> None:
        self.life.controller(looks, script)

    @rule(
        left=st.sampled_from([None, 0.7, 1.4, 5.0]),
        minutes=st.sampled_from([0, 5, 7, 12]),
        famine=st.booleans(),
        looks=st.sampled_from([0, 1, 3]),
        first=st.sampled_from([None, "takes all spot instances", "replaces an instance", "replaces all instances"]),
        silence=st.sampled_from([STOP_S, STOP_S, 400.0]),
        script=SCRIPTS,
    )
    def the_worst(
        self,
        left: float | None,
        minutes: int,
        famine: bool,
        looks: int,
        first: str | None,
        silence: float,
        script: list[tuple[int, str]],
    ) -> None:
        """Minutes at the edge of the budget, without capacity if there is a famine; then no guard, for as long as a
        stop may take, in the dearest of hours."""
        life = self.life
        ordinary = life.kind, life.job_s, life.slow_s, life.world.delivers, life.bill.spot.at(life.at)
        if left is not None:
            life.jobs(100_000)
            life.resume()
            _edge(left)(life)
        make_dear(life)
        life.world.delivers = not famine
        life.minutes(minutes)
        if looks:
            life.controller(looks)
        life.world.delivers = True
        if first:
            AWS[first](life)
        life.pass_time(silence)
        life.guard(script)
        life.kind, life.job_s, life.slow_s, life.world.delivers = ordinary[:4]
        life.spot_price(ordinary[4])

    @rule(
        what=st.sampled_from(["stop", "resume"]),
        number=st.integers(1, 22),
        then=st.sampled_from(["before", "after", "cut"]),
        script=SCRIPTS,
    )
    def minds_change(self, what: str, number: int, then: str, script: list[tuple[int, str]]) -> None:
        """In the middle of the run that carries a decision out people decide otherwise, the controller looks at once,
        and the run ends badly."""
        otherwise = {"stop": "resume", "resume": "stop"}[what]
        PEOPLE[what](self.life)
        self.life.guard([(number, otherwise), (number, "controller"), (number + 1, then), *script])

    @rule()
    def twice(self) -> None:
        """A second tick at the same moment changes nothing more."""
        life = self.life
        life.guard()
        calls, told, latch = len(life.world.calls), len(life.world.published), life.latch
        complete = isinstance(life.guard(), str) and life.world.suspends  # else it asks for it again
        again = [call for call in life.world.calls[calls:] if call[0] in CHANGES]
        assert not complete or (again, life.latch) == ([], latch), again
        assert len(life.world.published) == told

    @rule(failing=st.sampled_from(OUTAGES), seconds=st.sampled_from([30, 90, 400, 1500]))
    def outage(self, failing: str, seconds: int) -> None:
        self.life.outage = (failing, self.life.at + seconds)

    @rule(share=st.sampled_from([0.0, 0.5, 0.99, 1.2]), message=st.sampled_from(MESSAGES))
    def alert(self, share: float, message: Any) -> None:
        self.life.alert(share * self.life.promise.budget, message)

    @rule(what=st.sampled_from(sorted(AWS)))
    def aws(self, what: str) -> None:
        AWS[what](self.life)

    @rule(what=st.sampled_from(sorted(PEOPLE)))
    def people(self, what: str) -> None:
        PEOPLE[what](self.life)

    @rule(before=st.sampled_from([-45, 5, 60, 100, 400]))
    def month_end(self, before: float) -> None:
        """No guard until just before, or after, the month's end."""
        life = self.life
        if life.at < life.bill.since + 100 * 86_400:  # the price list is trusted for a year
            life.pass_time(max(0.0, bounds(month_of(life.at))[1] - before - life.at))

    def teardown(self) -> None:
        try:
            if self._life is not None:
                self._life.calm()
        finally:
            for name, value in self.before.items():
                setattr(runtime, name, value)


def search(examples: int, steps: int, **more: Any) -> None:
    """Plays so many lives; with ``derandomize`` the same ones each time. Hypothesis would draw numbers from the modules
    loaded by then, too, which depend on the tests that the process ran before: it finds none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(providers, "_get_local_constants", Constants)
        patch.setattr(providers, "CONSTANTS_CACHE", LRUCache(1024))
        run_state_machine_as_test(
            GuardMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
                database=None,
                report_multiple_bugs=False,
                **more,
            ),
        )


def test_the_promise_holds_whatever_happens_in_whatever_order() -> None:
    search(30, 25, derandomize=True)


@pytest.mark.long
def test_the_promise_holds_over_many_more_lives() -> None:
    """A proof that fails is to be the fault of the change. `search(300, 40)` plays other lives each time."""
    search(250, 40, derandomize=True)


def put_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life puts its world in the place of the functions' runtime."""
    for name in REPLACED:
        monkeypatch.setattr(runtime, name, getattr(runtime, name))


def dear_evening(monkeypatch: pytest.MonkeyPatch) -> Life:
    """Full load at the dearest price, by workers that take longer to leave than they may, until the budget is gone."""
    put_back_afterwards(monkeypatch)
    life = Life(datetime(2026, 12, 31, 18, tzinfo=UTC).timestamp(), room=30.0, edge=3.0, per_boot=0.0225)
    life.install()
    life.kind, life.job_s = "g6.4xlarge", 290.0
    life.spot_price(1.0)
    life.jobs(100_000)
    life.minutes(150)
    life.calm()
    return life


def test_a_dear_evening_ends_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dear_evening(monkeypatch).latch["reason"] == "budget"


def test_if_nothing_were_committed_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "committed_usd", lambda *_: 0.0)
    with pytest.raises(AssertionError, match=r"over; budget|the nodes may run on"):
        dear_evening(monkeypatch)


@pytest.mark.parametrize("then", ["cut", "before", "after"])
def test_a_resume_in_the_middle_of_a_stop_leaves_no_group_suspended(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """At each call of the guard's first run of a stop somebody resumes, the controller runs, and the guard's run is cut
    a call later, or its next call fails. What is suspended by then is not all that will be."""
    put_back_afterwards(monkeypatch)
    for number in itertools.count(1):
        life = Life(STARTS[0].timestamp(), room=30.0, edge=6.0, per_boot=0.0225)
        life.install()
        life.jobs(40)
        life.minutes(7)
        life.stop()
        life.guard([(number, "resume"), (number, "controller"), (number + 1, then)])
        if life.latched:
            break  # the run has fewer calls
        life.calm()
    assert number > 15


@pytest.mark.parametrize("then", ["cut", "before"])
def test_two_runs_of_a_stop_at_the_same_time_note_what_both_suspended(
    monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """At each call of a stop another run carries the whole of it out; at each later call somebody resumes, and the
    first run ends badly. What the other run noted is there still."""
    put_back_afterwards(monkeypatch)
    lives = 0
    for other, later in itertools.product(range(1, 20), range(1, 8)):
        life = Life(STARTS[0].timestamp(), room=30.0, edge=6.0, per_boot=0.0)
        life.install()
        life.stop()
        life.guard([(other, "guard"), (other + later, "resume"), (other + later + 1, then)])
        if life.latched:
            continue  # the run has fewer calls
        lives += 1
        life.calm()
    assert lives > 50


def a_manual_stop_ends_with_its_month(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = scale_to_zero.judge

    def forgetful(latch: Latch, now: Situation) -> tuple[Latch, str]:
        return judge(replace(latch, reason="budget") if latch.latched else latch, now)

    monkeypatch.setattr(scale_to_zero, "judge", forgetful)


def what_has_ended_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = accounting.meter

    def careless(ledger: Ledger, instances: Iterable[Running], *rest: Any) -> tuple[Ledger, ...]:
        return meter(ledger, [one for one in instances if one.ended_at is None], *rest)

    monkeypatch.setattr(accounting, "meter", careless)


def what_is_suspended_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "record_suspended", lambda *_: True)


def no_replacement_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    law = accounting.committed_usd

    def half(instances: list[Running], owed: list[tuple[int, float, float]], prices: Prices, at: float) -> float:
        rest_of_month = law((), (), prices, at)
        return rest_of_month + (law(instances, owed, prices, at) - rest_of_month) / 2

    monkeypatch.setattr(accounting, "committed_usd", half)


def a_stop_extends_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = scale_to_zero._stop

    def generous(tick: Tick, *rest: Any) -> str:
        scale_to_zero._carry_on(tick)
        return carry_out(tick, *rest)

    monkeypatch.setattr(scale_to_zero, "_stop", generous)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sabotage", "verdict"),
    [
        (a_manual_stop_ends_with_its_month, "cleared the latch"),
        (what_has_ended_is_not_charged, "the (ledger|meter)|ledger#"),
        (what_is_suspended_is_not_noted, "is suspended without a latch"),
        (no_replacement_is_committed, "over; budget"),
        (a_stop_extends_the_allowance, "of a fleet that is stopped may run on"),
    ],
)
def test_a_guard_that_breaks_its_promise_is_found_out(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None], verdict: str
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(AssertionError, match=verdict):
        search(400, 40, derandomize=True, phases=[Phase.generate])
