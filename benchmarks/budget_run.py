"""Plays one scenario on the embedded cloud: the real program, functions and workers, driven by the built-in engine.

*Ours.* The stack runs at full load until the guard stops it, is left alone to the end of the month while a job comes in
now and then, and then for as long as it takes to serve what waits. Nobody resumes it: the new month does.

*AWS Budgets alone.* A second run of the same world (same start, same seed, so the same load, prices and boots) with the
guard's budget out of reach and the AWS Budget's limit at the real one. Its figure is 8 to 12 hours old and refreshed
every 8 to 12 hours, as AWS says of it. When its message is there, the guard gets the real budget and stops the fleet as
it always does: the message is taken for as good as the guard, only late. After that nothing but the idle stack runs to
the end of the month; that is the last idle hour's bill, multiplied. What befalls the guard alone (it is dead, or
throttled) has no counterpart there: such a scenario is compared with the world it disturbs.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpufleet.demo.stage import Stage
from gpufleet.twin.billing import month_bounds, month_of
from gpufleet.twin.services.function_admin import Function
from gpufleet.twin.services.function_host import Invocation
from gpufleet.twin.world import World

from .budget_alerts import Alerts
from .budget_stops import Life, Stop, Tick, stops
from .budget_verdicts import Alone, Jobs, Month, Outcome

ROOT = Path(__file__).resolve().parent.parent
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
REGION, SEED = "us-east-1", 1
DRAIN_S = 300.0  # the stack's drainSeconds
# Four instances of one slot, of types of $1.86 to $3.00 an hour: a fleet that spends its budget in a day or so, with
# few jobs to simulate.
STACK: Mapping[str, Any] = {
    "maxGpuInstances": 4,
    "gpuInstanceTypes": ["g6e.xlarge", "g6e.2xlarge", "g6e.4xlarge"],
    "model.slots": 1,
    "drainSeconds": int(DRAIN_S),
    "advanced.expectedServiceSeconds": 240,
}
JOBS_PER_HOUR = 30.0  # a little more than four such instances do: 28.8
JOB_S = (200.0, 800.0)  # most outlast the drain of a stop, all end within the job timeout
LOAD_AFTER_S = 10 * MINUTE  # from the start of the stack
LOAD_ON_S = HOUR  # producers go on for so long after a stop; then one job a day comes
OUT_OF_REACH_USD = 1_000_000.0
LOOK_S = 10.0
KEPT_S = 3 * HOUR  # of the cloud's own log of calls
SERVED_WITHIN_S = 36 * HOUR  # after the new month began


def nothing(run: Run) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Scenario:
    """One scenario. `start`: unix seconds at which the stack is made. `prepare`: what goes wrong in the world, arranged
    before the load begins, in both runs. `when`, `then`: what befalls the guard or the settings, and when; in our run
    only. `happened`: whether it took place. `load_s`: how long full load lasts at most. `alone_as`: the scenario that
    has the same world, if another one has.
    """

    name: str
    title: str
    start: float
    budget_usd: float
    edits: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Run], None] = nothing
    when: Callable[[Run], bool] = lambda run: run.near()
    then: Callable[[Run], None] = nothing
    happened: Callable[[Run], bool] = lambda run: bool(run.stops())
    load_s: float = math.inf
    alone_as: str = ""

    @property
    def month(self) -> str:
        return month_of(self.start)

    @property
    def end(self) -> float:
        """The end of the month, unix seconds."""
        return month_bounds(self.month)[1]


class Load:
    """Jobs at random intervals: at full load while `full` and for `load_s` at most, then one a day to the end of the
    month."""

    def __init__(self, stage: Stage, scenario: Scenario) -> None:
        self.full = True
        self._stage, self._until = stage, scenario.end
        self._full_until = scenario.start + LOAD_AFTER_S + scenario.load_s
        self._chance = random.Random(SEED)  # noqa: S311 - reproducible simulation, no secret
        stage.cloud.clock.spawn("load", self._run)

    def _run(self) -> None:
        clock = self._stage.cloud.clock
        clock.sleep(LOAD_AFTER_S)
        while clock.now() < self._until:
            self._stage.world.traffic.send(self._stage.outputs["queueUrl"], 1, service_s=self._chance.uniform(*JOB_S))
            full = self.full and clock.now() < self._full_until
            clock.sleep(self._chance.expovariate(JOBS_PER_HOUR / HOUR) if full else DAY)


class Run:
    """A scenario on its stage. `count`: how often its trouble struck, `struck_at`: when the guard's own began; `note`:
    what to tell of it."""

    def __init__(self, stage: Stage, scenario: Scenario, budget_usd: float) -> None:
        self.stage, self.scenario, self.budget_usd = stage, scenario, budget_usd
        self.count, self.note, self.struck_at = 0, "", math.inf
        self.alone = budget_usd >= OUT_OF_REACH_USD
        stage.edits.update({**STACK, **scenario.edits, "monthlyBudgetUsd": budget_usd})
        stage.up()
        stage.watch()
        stage.note_budget(budget_usd)
        self.alerts = Alerts(stage)
        self.ticks: list[Tick] = []
        self.world.services.functions.on_run.append(self._heard)
        stage.cloud.forget_after(KEPT_S)
        scenario.prepare(self)
        self.load = Load(stage, scenario)

    @property
    def world(self) -> World:
        return self.stage.world

    def now(self) -> float:
        return self.stage.now()

    def latched(self) -> bool:
        """Whether the guard's last run found or set the latch."""
        return bool(self.ticks) and self.ticks[-1].latched

    def edit_budget(self, budget_usd: float) -> None:
        """`pulumi up` with another budget."""
        self.budget_usd = budget_usd
        self.stage.up(monthlyBudgetUsd=budget_usd)
        self.stage.note_budget(budget_usd)

    def near(self) -> bool:
        """Whether the guard's next tick should trip, by how its sum grew over the last five."""
        seen = [(tick.at, tick.sum_usd) for tick in self.ticks[-6:] if tick.sum_usd is not None]
        if len(seen) < 2:
            return False
        (since, low), (until, high) = seen[0], seen[-1]
        return high + MINUTE * (high - low) / (until - since) >= self.budget_usd

    def rule(self, *, enabled: bool) -> None:
        """The guard's schedule, switched by an operator."""
        events, name = self.stage.client("events"), self.stage.outputs["scaleToZeroFunction"]
        (events.enable_rule if enabled else events.disable_rule)(Name=name)

    # -- what was seen ------------------------------------------------------------------------------------------

    def _heard(self, function: Function, invocation: Invocation, _: bool) -> None:
        """Keeps what the guard writes down at each run: the cloud forgets it after some hours."""
        if function.name != self.stage.outputs["scaleToZeroFunction"]:
            return
        for record in (one["record"] for one in invocation.records):
            if record.get("event") == "guard":
                total = record["spent_usd"] + record["committed_usd"] if "committed_usd" in record else None
                self.ticks.append(Tick(record["at"], total, record["latched"], record["reason"]))

    def lives(self) -> list[Life]:
        return [Life(one.launched_at, one.gone_at) for one in self.world.machines.instances.values()]

    def stops(self) -> list[Stop]:
        return stops(self.ticks, self.lives(), self.stage.budgets, DRAIN_S)

    def served(self) -> bool:
        account = self.world.account()
        return account.sent <= account.completed

    def month(self, name: str) -> Month | None:
        """The month by both accounts; None if the guard has no ledger of it."""
        row = self.stage.client("dynamodb").get_item(
            TableName=self.stage.outputs["controlTable"], Key={"pk": {"S": f"ledger#{name}"}}, ConsistentRead=True
        )
        if "Item" not in row:
            return None
        ledger = json.loads(row["Item"]["record"]["S"])
        end = month_bounds(name)[1]
        whole = self.now() >= end
        as_of = end if whole else float(ledger["metered_at"])
        parts: dict[str, float] = {}
        for line in self.world.bill.lines(name, as_of):
            parts[line.kind] = parts.get(line.kind, 0.0) + line.usd
        meter = {key: value for key, value in ledger.items() if key.endswith("_usd") and isinstance(value, int | float)}
        spent = float(row["Item"]["spent_usd"]["N"])
        return Month(name, sum(parts.values()), spent, whole, _rounded(parts), _rounded(meter))

    def worst_minute_usd(self) -> float:
        """The largest step of the bill between two samples of a minute, within a month."""
        steps = [
            later.spent - earlier.spent
            for earlier, later in pairwise(self.world.timeline)
            if month_of(earlier.at) == month_of(later.at)
        ]
        return max(steps, default=0.0)


def play(scenario: Scenario) -> Outcome:
    """Our run, from the start of the stack until every job is served."""
    with _stage(scenario) as stage:
        run = Run(stage, scenario, scenario.budget_usd)
        world = run.world
        world.run_until(lambda: run.latched() or scenario.when(run), limit_s=scenario.end - run.now(), step_s=LOOK_S)
        scenario.then(run)
        world.run_until(lambda: run.latched() or not run.stage.running(), limit_s=DAY, step_s=LOOK_S)
        world.run_for(LOAD_ON_S)
        run.load.full = False
        world.run_until(max(scenario.end, run.now()))
        world.run_for(HOUR / 2)  # a dead guard is told of the new month later; a living one within a minute
        world.run_until(run.served, limit_s=SERVED_WITHIN_S, step_s=10 * MINUTE)
        world.run_until(-(-run.now() // HOUR) * HOUR)  # gateways are billed by the hour begun: end with a whole one
        return _outcome(run)


def _stage(scenario: Scenario) -> Stage:
    return Stage(ROOT, "dev", {}, REGION, SEED, start=scenario.start)


def _outcome(run: Run) -> Outcome:
    scenario, found = run.scenario, run.stops()
    account, sent = run.world.account(), run.world.ledger.sent(run.stage.outputs["queueUrl"])
    months = [run.month(scenario.month), run.month(month_of(run.now()))]
    jobs = Jobs(
        sent=len(account.sent),
        completed=len(account.completed),
        lost=len(account.lost),
        billed_twice=len(account.billed_twice),
        without_result=len(account.without_result),
        accepted=sum(any(stop.crossing_at < at < stop.until for stop in found) for at in sent.values()),
        unserved=len(account.sent - account.completed),
    )
    return Outcome(
        scenario=scenario.name,
        title=scenario.title,
        budget_usd=run.budget_usd,
        months=tuple(month for month in months if month is not None),
        stops=tuple(found),
        jobs=jobs,
        worst_minute_usd=run.worst_minute_usd(),
        happened=scenario.happened(run),
        note=run.note or f"{len(found)} stops",
    )


def play_alone(scenario: Scenario, budget_usd: float) -> Alone:
    """The same world with AWS Budgets alone, to its message or the end of the month, then reckoned to its end."""
    with _stage(scenario) as stage:
        run = Run(stage, scenario, OUT_OF_REACH_USD)
        world, end, bill = run.world, scenario.end, run.world.bill
        limit_aws_budget(run, budget_usd)
        world.run_until(lambda: bool(run.alerts.delivered), limit_s=end - run.now(), step_s=MINUTE)
        message_at = next(iter(run.alerts.delivered), None)
        if message_at is not None:
            run.edit_budget(budget_usd)
            world.run_until(lambda: not run.stage.running(), limit_s=min(HOUR, end - run.now()), step_s=LOOK_S)
            world.run_until(min(end, (run.now() // HOUR + 2) * HOUR))
        now = run.now()
        idle = bill.total(scenario.month, now) - bill.total(scenario.month, now - HOUR) if now < end else 0.0
        total = bill.total(scenario.month, now) + idle * (end - now) / HOUR
        crossed = _crossed(lambda at: bill.total(scenario.month, at), budget_usd, scenario.start, now)
        return Alone(total, max(0.0, total - budget_usd), crossed, message_at)


def limit_aws_budget(run: Run, budget_usd: float) -> None:
    """An operator gives the AWS Budget another limit."""
    client, account = run.stage.client("budgets"), run.stage.cloud.account_id
    for one in client.describe_budgets(AccountId=account)["Budgets"]:
        kept = {key: value for key, value in one.items() if key not in ("CalculatedSpend", "LastUpdatedTime")}
        limit = {"Amount": f"{budget_usd:.2f}", "Unit": "USD"}
        client.update_budget(AccountId=account, NewBudget={**kept, "BudgetLimit": limit})


def _crossed(bill: Callable[[float], float], budget_usd: float, start: float, end: float) -> float | None:
    """When a bill that only grows reached the budget, to the minute; None if it did not."""
    if bill(end) < budget_usd:
        return None
    low, high = start, end
    while high - low > MINUTE:
        middle = (low + high) / 2
        low, high = (low, middle) if bill(middle) >= budget_usd else (middle, high)
    return high


def _rounded(parts: Mapping[str, float]) -> dict[str, float]:
    return {key: round(usd, 6) for key, usd in sorted(parts.items())}
