"""The second half of the walk: run into the budget, stop, resume; and a stop by the AWS Budget's message alone."""

from __future__ import annotations

import json
import math

from gpufleet.demo.report import Step
from gpufleet.demo.scene import (
    HOUR,
    MINUTE,
    Load,
    Scene,
    ask_guard,
    check,
    clock,
    guard_lives,
    log_of,
    nothing_broken,
    open_jobs,
    raise_and_resume,
    small_budget,
    stopped_checks,
    tell_stopped,
    within_budget,
)
from gpufleet.operations import resume as operation


def over_budget(scene: Scene, step: Step) -> None:
    """A config edit leaves little of the budget; the load goes on; the guard stops the fleet."""
    stage = scene.stage
    stage.world.run_until(scene.at_rest, limit_s=HOUR)
    stage.world.run_for(2 * MINUTE)  # the guard's figures then hold nothing but fixed costs as committed
    if not guard_lives(scene, step):
        return
    figures, killed = stage.figures(), stage.world.work_killed_s
    budget = small_budget(scene, figures)
    stage.up(monthlyBudgetUsd=budget)
    stage.note_budget(budget)
    since = stage.now()
    stage.timeline.mark(since, f"budget ${budget:.2f}")
    scene.say(step, f"edit monthlyBudgetUsd to {budget:.2f}, pulumi up; ${figures['spent_usd']:.2f} are spent already")
    if scene.settings.spot:
        stage.world.market.jump(10, since)
        scene.say(step, "spot prices rise to those of on-demand")
    load = Load(scene)
    load.start()
    trip_at = _tripped(scene, step, budget, since)
    if trip_at is None:
        load.stop()
        return
    stopped = stage.world.run_until(lambda: not stage.running(), limit_s=HOUR)
    took = stage.now() - trip_at
    load.stop()
    tell_stopped(scene, step, took)
    stopped_checks(scene, step, took, stopped, killed)
    bill = stage.world.bill.total()
    scene.say(
        step, f"the embedded cloud's own bill says ${bill:.2f}; the guard's meter ${stage.figures()['spent_usd']:.2f}"
    )
    step.figures.update(
        budget_usd=budget, bill_usd=round(bill, 4), tripped_after_s=trip_at - since, stopped_after_s=took
    )
    within_budget(scene, step, budget)
    nothing_broken(scene, step)


def _tripped(scene: Scene, step: Step, budget: float, since: float) -> float | None:
    """Run until the guard trips; when it did, None if it did not. A guard that falls silent is not waited for."""
    stage = scene.stage
    stage.world.run_until(
        lambda: bool(stage.latch().get("latched")) or scene.guard_silent_s() > operation.FRESH_S,
        limit_s=12 * HOUR,
        step_s=30,
    )
    latch = stage.latch()
    tripped = bool(latch.get("latched"))
    check(
        step,
        "the guard stops the fleet before the budget is spent",
        expected="a trip within 12 h of load",
        seen=f"latched: {tripped}, bill ${stage.world.bill.total():.2f} of ${budget:.2f}",
        ok=tripped,
        where=log_of(stage, "scaleToZeroFunction"),
    )
    if not tripped:
        guard_lives(scene, step)
        return None
    trip_at = float(latch["at"])
    stage.note_latch(True)
    stage.timeline.mark(trip_at, "trip")
    scene.say(step, f"+{clock(trip_at - since)} {latch.get('note', '')}")
    return trip_at


def resumed(scene: Scene, step: Step) -> None:
    """The budget is raised again; resume; what waited is served."""
    stage = scene.stage
    figures = stage.figures()
    if figures["spent_usd"] + figures["committed_usd"] + figures["launch_usd"] > figures["monthly_usd"]:
        _refused(scene, step)  # a large fleet that has stopped commits so much less that it may resume at once
    enough = 1.5 * small_budget(scene, stage.figures())  # the stack's own budget may be hardly more than a stop's
    raise_and_resume(scene, step, max(scene.settings.monthly_budget_usd, math.ceil(enough)))
    _served_again(scene, step)
    nothing_broken(scene, step)


def _refused(scene: Scene, step: Step) -> None:
    stage, refusal = scene.stage, ""
    try:
        operation.resume(stage.client("dynamodb"), stage.outputs["controlTable"], by="demo", at=stage.now())
    except operation.ResumeError as error:
        refusal = str(error)
    scene.say(step, f"gpufleet resume: refused, {refusal.split('. ')[0]}" if refusal else "gpufleet resume: allowed")
    check(
        step,
        "resume is refused while it would trip again at once",
        expected="a refusal that says why",
        seen=refusal or "it was allowed",
        ok=bool(refusal),
        where="gpufleet/operations/resume.py",
    )


def budget_alert(scene: Scene, step: Step) -> None:
    """AWS Budgets reports more than the meter saw: its message alone stops the fleet."""
    stage = scene.stage
    killed = stage.world.work_killed_s
    stage.world.traffic.send(stage.outputs["queueUrl"], 8, service_s=min(120, scene.job_s))
    stage.world.run_until(lambda: stage.at_work() > 0, limit_s=20 * MINUTE)
    budgets = stage.world.services.budgets
    figure, before = scene.settings.monthly_budget_usd * 1.01, budgets.figure
    since = stage.now()
    stage.timeline.mark(since, "AWS Budgets alert")
    budgets.figure = lambda: figure
    try:
        budgets.refresh_now()
        _stopped_by_message(scene, step, figure)
        stopped = stage.world.run_until(lambda: not stage.running(), limit_s=HOUR)
        stopped_checks(scene, step, stage.now() - since, stopped, killed)
    finally:
        budgets.figure = before
    if not step.ok:
        return
    raise_and_resume(scene, step, math.ceil(1.5 * (figure + stage.figures()["committed_usd"])))
    _served_again(scene, step)
    stage.world.run_until(scene.at_rest, limit_s=2 * HOUR, step_s=30)
    nothing_broken(scene, step)


def _stopped_by_message(scene: Scene, step: Step, figure: float) -> None:
    stage, since = scene.stage, scene.stage.now()
    arrived = stage.world.run_until(lambda: bool(stage.latch().get("latched")), limit_s=10 * MINUTE, step_s=1)
    took_s = stage.now() - since
    answer = ask_guard(stage)
    if arrived:
        stage.note_latch(True)
    topic = stage.outputs["budgetTopicArn"].rsplit(":", 1)[-1]
    scene.say(step, f"AWS Budgets says ${figure:.2f}; its message on {topic}")
    scene.say(step, f"+{clock(took_s)} {stage.latch().get('note', 'no latch')}")
    scene.say(step, f"aws lambda invoke: {json.dumps(answer)}")
    check(
        step,
        "the AWS Budget's message alone stops the fleet",
        expected=f"Scaled {stage.groups()[0]['AutoScalingGroupName']} to zero",
        seen=f"{answer.get('body', answer)}, latched after {took_s:.0f} s" if arrived else f"no latch; {answer}",
        ok=arrived and str(answer.get("body", "")).startswith("Scaled "),
        where=log_of(stage, "scaleToZeroFunction"),
    )


def _served_again(scene: Scene, step: Step) -> None:
    """What was accepted while stopped is served once the fleet may run again."""
    stage = scene.stage
    waiting, since = len(open_jobs(stage)), stage.now()
    served = stage.world.run_until(scene.served, limit_s=HOUR / 2, step_s=30)
    scene.say(step, f"+{clock(stage.now() - since)} {waiting - len(open_jobs(stage))} waiting jobs served")
    step.figures.update(waited=waiting)
    check(
        step,
        "jobs accepted while stopped are served after the resume",
        expected=f"{waiting} jobs served",
        seen=f"{len(open_jobs(stage))} still open, {stage.running()} running",
        ok=served,
        where=log_of(stage, "controllerFunction"),
    )
