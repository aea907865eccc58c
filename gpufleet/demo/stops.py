"""The second half of the walk: run into the budget, stop, resume; and a stop by the AWS Budget's message alone."""

from __future__ import annotations

import json

from gpufleet.demo.report import Step
from gpufleet.demo.scene import (
    HOUR,
    MINUTE,
    Load,
    Scene,
    ask_guard,
    check,
    clock,
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
    figures = stage.figures()
    budget = small_budget(scene, figures)
    stage.up(monthlyBudgetUsd=budget)
    stage.note_budget(budget)
    since = stage.now()
    stage.timeline.mark(since, f"budget ${budget:.2f}")
    scene.say(step, f"edit monthlyBudgetUsd to {budget:.2f}, pulumi up; ${figures['spent_usd']:.2f} are spent already")
    load = Load(scene)
    load.start()
    tripped = stage.world.run_until(lambda: bool(stage.latch().get("latched")), limit_s=12 * HOUR, step_s=30)
    trip_at = stage.now()
    latch = stage.latch()
    if tripped:
        stage.note_latch(True)
        stage.timeline.mark(trip_at, "trip")
        scene.say(step, f"+{clock(trip_at - since)} {latch.get('note', '')}")
    check(
        step,
        "the guard stops the fleet before the budget is spent",
        expected="a trip within 12 h of load",
        seen=f"latched: {bool(latch.get('latched'))}, bill ${stage.world.bill.total():.2f} of ${budget:.2f}",
        ok=tripped,
        where=log_of(stage, "scaleToZeroFunction"),
    )
    if not tripped:
        load.stop()
        return
    killed = stage.world.work_killed_s
    stopped = stage.world.run_until(lambda: not stage.running(), limit_s=HOUR)
    took = stage.now() - trip_at
    load.stop()
    tell_stopped(scene, step, took)
    stopped_checks(scene, step, took, stopped)
    work = stage.world.work_killed_s - killed
    check(
        step,
        "no job is killed by the stop",
        expected="0 s of work lost",
        seen=f"{work:.0f} s",
        ok=work == 0,
        where="the terminate hooks and the node logs",
    )
    bill = stage.world.bill.total()
    scene.say(
        step, f"the embedded cloud's own bill says ${bill:.2f}; the guard's meter ${stage.figures()['spent_usd']:.2f}"
    )
    step.figures.update(
        budget_usd=budget, bill_usd=round(bill, 4), tripped_after_s=trip_at - since, stopped_after_s=took
    )
    within_budget(scene, step, budget)
    nothing_broken(scene, step)


def resumed(scene: Scene, step: Step) -> None:
    """The budget is raised again; resume; what waited is served."""
    stage = scene.stage
    waiting = stage.backlog()
    refusal = ""
    try:
        operation.resume(stage.client("dynamodb"), stage.outputs["controlTable"], by="demo", at=stage.now())
    except operation.ResumeError as error:
        refusal = str(error)
    check(
        step,
        "resume is refused while it would trip again at once",
        expected="a refusal that says why",
        seen=refusal or "it was allowed",
        ok=bool(refusal),
        where="gpufleet/operations/resume.py",
    )
    scene.say(step, f"gpufleet resume: refused, {refusal.split('. ')[0]}")
    raise_and_resume(scene, step, scene.settings.monthly_budget_usd)
    since = stage.now()
    served = stage.world.run_until(scene.served, limit_s=4 * HOUR, step_s=30)
    scene.say(step, f"+{clock(stage.now() - since)} {waiting} waiting jobs served")
    step.figures.update(waited=waiting)
    check(
        step,
        "jobs accepted while stopped are served after the resume",
        expected=f"{waiting} jobs served",
        seen=f"{len(open_jobs(stage))} still open, {stage.running()} running",
        ok=served,
        where=log_of(stage, "controllerFunction"),
    )
    nothing_broken(scene, step)


def budget_alert(scene: Scene, step: Step) -> None:
    """AWS Budgets reports more than the meter saw: its message alone stops the fleet."""
    stage = scene.stage
    stage.world.traffic.send(stage.outputs["queueUrl"], 8, service_s=120)
    stage.world.run_until(lambda: stage.world.snapshot().in_flight > 0, limit_s=20 * MINUTE)
    budgets = stage.world.services.budgets
    budget, before = scene.settings.monthly_budget_usd, budgets.figure
    figure = budget * 1.01
    since = stage.now()
    stage.timeline.mark(since, "AWS Budgets alert")
    budgets.figure = lambda: figure
    try:
        budgets.refresh_now()
        arrived = stage.world.run_until(lambda: bool(stage.latch().get("latched")), limit_s=10 * MINUTE, step_s=1)
        took_s = stage.now() - since
        answer = ask_guard(stage)
        latch = stage.latch()
        if arrived:
            stage.note_latch(True)
        scene.say(
            step, f"AWS Budgets says ${figure:.2f}; its message on {stage.outputs['budgetTopicArn'].split(':')[-1]}"
        )
        scene.say(step, f"+{clock(took_s)} {latch.get('note', 'no latch')}")
        scene.say(step, f"aws lambda invoke: {json.dumps(answer)}")
        check(
            step,
            "the AWS Budget's message alone stops the fleet",
            expected=f"Scaled {stage.outputs['spotGroup'] or stage.outputs['onDemandGroup']} to zero",
            seen=f"{answer.get('body', answer)}, latched after {took_s:.0f} s",
            ok=arrived and str(answer.get("body", "")).startswith("Scaled "),
            where=log_of(stage, "scaleToZeroFunction"),
        )
        stopped = stage.world.run_until(lambda: not stage.running(), limit_s=HOUR)
        stopped_checks(scene, step, stage.now() - since, stopped)
    finally:
        budgets.figure = before
    if not step.ok:
        return
    raise_and_resume(scene, step, figure * 1.5)
    stage.world.run_until(scene.at_rest, limit_s=2 * HOUR, step_s=30)
    nothing_broken(scene, step)
