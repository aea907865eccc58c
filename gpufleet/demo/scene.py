"""What the steps of a walk share: the scene, the checks that several of them make, and the words for numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components import costs
from components.settings import Settings
from gpufleet.demo.report import Check, Report, Step
from gpufleet.demo.stage import START, Stage
from gpufleet.demo.windows import floor_at
from gpufleet.operations import resume as operation
from gpufleet.planner.traces import Profile
from gpufleet.twin.billing import month_bounds, month_of

MINUTE, HOUR = 60.0, 3600.0
MACHINES = ("spot", "on-demand", "disk")  # kinds of lines in the bill


@dataclass
class Scene:
    """The stage, what is told, the stack's settings (as first provisioned), and the traffic."""

    stage: Stage
    report: Report
    settings: Settings
    profile: Profile

    @property
    def stop_within_s(self) -> float:
        """From the trip to nothing running: the drain, and three minutes for guard ticks and terminations."""
        return self.settings.drain_seconds + 3 * MINUTE

    @property
    def floor(self) -> int:
        return floor_at(self.settings, self.stage.now())

    @property
    def job_s(self) -> float:
        return 0.75 * self.settings.drain_seconds  # a drain lets such a job end

    def at_rest(self) -> bool:
        """Nothing waits or is in work, and no more than the floor runs."""
        return self.served() and self.stage.running() <= self.floor

    def served(self) -> bool:
        """Nothing waits or is in work."""
        now = self.stage.world.snapshot()
        return not (now.backlog or now.in_flight)

    def guard_silent_s(self) -> float:
        """The age of the guard's figures; infinite if it never wrote any."""
        return self.stage.now() - self.stage.figures().get("at", -math.inf)

    def say(self, step: Step, text: str) -> None:
        self.report.line(step, text)

    def tell_events(self, step: Step, since: float, limit: int = 8) -> None:
        """The decisions and arrivals since `since`, with their distance from it."""
        events = self.stage.events(since)
        for event in events[:limit]:
            self.say(step, f"+{clock(event.at - since)} {event.text}")
        if len(events) > limit:
            self.say(step, f"... and {len(events) - limit} more of the kind")


def clock(seconds: float) -> str:
    """Seconds as mm:ss or h:mm:ss."""
    whole = int(seconds)
    if whole < HOUR:
        return f"{whole // 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def percentile(ascending: Sequence[float], q: float) -> float:
    """The value that a share `q` of the values does not exceed; 0 of none."""
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)] if ascending else 0.0


def share(values: Sequence[float], limit: float) -> float:
    """Which part of `values` is at most `limit`; 1 of none."""
    return sum(value <= limit for value in values) / len(values) if values else 1.0


def check(step: Step, promise: str, *, expected: str, seen: str, ok: bool, where: str) -> None:
    step.checks.append(Check(promise, expected, seen, ok, where))


def log_of(stage: Stage, output: str) -> str:
    """Where the log of the function behind a stack output is."""
    return f"log group /aws/lambda/{stage.outputs[output]}"


def open_jobs(stage: Stage) -> frozenset[str]:
    """Jobs that were sent and have not ended."""
    account = stage.world.account()
    return account.sent - account.completed - account.failed - account.expired


def nothing_broken(scene: Scene, step: Step) -> None:
    """What must hold after every step: no job lost or billed twice, and no function failed."""
    account = scene.stage.world.account()
    check(
        step,
        "nothing is lost, nothing is billed twice",
        expected="0 lost, 0 billed twice, every completed job has its result",
        seen=f"{len(account.lost)} lost, {len(account.billed_twice)} billed twice, {len(account.without_result)} bare",
        ok=account.in_order,
        where=f"table {scene.stage.outputs['jobsTable']}",
    )
    _metered_in_full(scene, step)
    failures = scene.stage.failures()
    check(
        step,
        "no function fails",
        expected="0 failed invocations",
        seen=f"{len(failures)} failed" + (f", the first: {_failure(failures[0])}" if failures else ""),
        ok=not failures,
        where="the functions' log groups",
    )


def _metered_in_full(scene: Scene, step: Step) -> None:
    """The guard's ledger against the bill, as of its last tick, and without what other sources raised it by."""
    ledger, bill = scene.stage.ledger(), scene.stage.world.bill
    metered = sum(ledger.get(part, 0.0) for part in ("spot_usd", "on_demand_usd", "disk_usd", "boot_usd"))
    billed = sum(line.usd for line in bill.lines(as_of=ledger.get("metered_at")) if line.kind in MACHINES)
    check(
        step,
        "the guard's ledger is never under the bill",
        expected=f"at least ${billed:.4f} for machines",
        seen=f"${metered:.4f}",
        ok=metered >= billed,
        where=f"row ledger#... in {scene.stage.outputs['controlTable']}",
    )


def _failure(failure: dict[str, Any]) -> str:
    return f"{failure['function']}: {failure.get('type', '')}: {failure.get('message', '')}"[:300]


def stopped_checks(scene: Scene, step: Step, took_s: float, stopped: bool, killed_s: float) -> None:
    """What must hold of a stopped fleet: nothing runs, nothing can launch, jobs are still accepted, none was cut.

    `took_s`: from the trip to nothing running; `killed_s`: seconds of work that had been cut before the stop.
    """
    stage = scene.stage
    check(
        step,
        "nothing runs soon after the stop",
        expected=f"0 instances within {clock(scene.stop_within_s)}",
        seen=f"{stage.running()} instances after {clock(took_s)}",
        ok=stopped and took_s <= scene.stop_within_s,
        where=log_of(stage, "scaleToZeroFunction"),
    )
    groups = stage.groups()
    open_groups = [
        group["AutoScalingGroupName"]
        for group in groups
        if group["DesiredCapacity"]
        or "Launch" not in {process["ProcessName"] for process in group["SuspendedProcesses"]}
    ]
    check(
        step,
        "no group can launch while stopped",
        expected="Launch suspended, desired 0 in every group",
        seen="so in every group" if not open_groups else f"not in {', '.join(open_groups)}",
        ok=not open_groups,
        where=log_of(stage, "scaleToZeroFunction"),
    )
    before = len(open_jobs(stage))
    stage.world.traffic.send(stage.outputs["queueUrl"], 3)
    stage.world.run_for(3 * MINUTE)
    waiting = len(open_jobs(stage))
    check(
        step,
        "the queue still accepts jobs, and nothing wakes for them",
        expected=f"{before + 3} waiting, 0 running",
        seen=f"{waiting} waiting, {stage.running()} running",
        ok=waiting == before + 3 and not stage.running(),
        where=log_of(stage, "controllerFunction"),
    )
    cut = stage.world.work_killed_s - killed_s
    check(
        step,
        "no job is killed by the stop",
        expected="0 s of work lost",
        seen=f"{cut:.0f} s",
        ok=cut == 0,
        where="the terminate hooks and the node logs",
    )


def tell_stopped(scene: Scene, step: Step, took_s: float) -> None:
    stage = scene.stage
    wanted = sum(group["DesiredCapacity"] for group in stage.groups())
    scene.say(
        step,
        f"+{clock(took_s)} after that nothing runs: Launch suspended, desired {wanted}, {stage.backlog()} jobs wait",
    )


def within_budget(scene: Scene, step: Step, budget: float) -> None:
    """The month, not only its first hours: what the machines cost so far, and every fixed cost to its end."""
    bill, settings = scene.stage.world.bill.by_kind(), scene.settings
    machines = sum(bill.get(kind, 0.0) for kind in MACHINES)
    hours = (month_bounds(month_of(START))[1] - START) / HOUR
    fixed = costs.idle_usd_per_month(settings) * hours / costs.HOURS_PER_MONTH
    check(
        step,
        "the bill stays within the budget",
        expected=f"at most ${budget:.2f} by the end of the month",
        seen=f"${machines:.2f} for machines by the embedded cloud's own bill, and ${fixed:.2f} fixed",
        ok=machines + fixed <= budget,
        where=log_of(scene.stage, "scaleToZeroFunction"),
    )


def small_budget(scene: Scene, figures: dict[str, float]) -> float:
    """A budget that holds what is spent and committed, and a launch for every instance of the cap; or
    the least that the settings accept, if that is more."""
    settings = scene.settings
    fleet = settings.max_gpu_instances * figures["launch_usd"]
    least = costs.least_budget_usd(settings)
    return math.ceil(100 * max(least, figures["spent_usd"] + figures["committed_usd"] + 1.1 * fleet)) / 100


def raise_and_resume(scene: Scene, step: Step, budget: float) -> None:
    """The operator's way out of a stop: a larger budget in the stack file, `pulumi up`, a minute, `gpufleet resume`."""
    stage = scene.stage
    stage.up(monthlyBudgetUsd=budget)
    stage.note_budget(budget)
    stage.world.run_for(2 * MINUTE)
    refused = ""
    try:
        before = operation.resume(stage.client("dynamodb"), stage.outputs["controlTable"], by="demo", at=stage.now())
        stage.note_latch(False)
        stage.timeline.mark(stage.now(), "resume")
        scene.say(step, f"edit monthlyBudgetUsd to {budget:.2f}, pulumi up, gpufleet resume; {before.sums}")
    except operation.ResumeError as error:
        refused = str(error)
    check(
        step,
        "resume works once the budget allows it",
        expected="the latch is cleared",
        seen=refused or "cleared",
        ok=not refused,
        where=f"row latch in {stage.outputs['controlTable']}",
    )


def guard_lives(scene: Scene, step: Step) -> bool:
    """Whether the guard tells what it holds against the budget, and did so just now; without it nothing may run."""
    silent = scene.guard_silent_s()
    check(
        step,
        "the guard watches the budget every minute",
        expected=f"its figures, at most {operation.FRESH_S:.0f} s old",
        seen="no figures" if math.isinf(silent) else f"figures {silent:.0f} s old",
        ok=silent <= operation.FRESH_S,
        where=log_of(scene.stage, "scaleToZeroFunction"),
    )
    return silent <= operation.FRESH_S


def ask_guard(stage: Stage) -> dict[str, Any]:
    """`aws lambda invoke` of the guard, as in the README's walk: its answer."""
    answer = stage.client("lambda").invoke(FunctionName=stage.outputs["scaleToZeroFunction"], Payload=b"{}")
    return json.loads(answer["Payload"].read())


class Load:
    """Keeps every slot of the cap busy: tops the backlog up each minute, until stopped."""

    def __init__(self, scene: Scene) -> None:
        settings = scene.settings
        self._stage = scene.stage
        self._service_s = scene.job_s
        # One more job for every slot: enough to want the whole cap, little enough to be served after a resume.
        self._level = settings.max_gpu_instances * settings.model.slots
        self._on = False

    def start(self) -> None:
        self._on = True
        self._top_up()

    def stop(self) -> None:
        self._on = False

    def _top_up(self) -> None:
        if not self._on:
            return
        missing = self._level - self._stage.backlog()
        if missing > 0:
            self._stage.world.traffic.send(self._stage.outputs["queueUrl"], missing, service_s=self._service_s)
        self._stage.cloud.clock.after(MINUTE, self._top_up)
