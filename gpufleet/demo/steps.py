"""The first half of the walk: provision, rest, some jobs, a day's real traffic; and the account at the end.

A step does what its title says, tells what was seen (the laws' own reasons), and records checks: a promise, what was
expected, what was seen, and where to look when it is broken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from components import costs
from gpufleet.demo.report import Step
from gpufleet.demo.scene import HOUR, MINUTE, Scene, check, log_of, nothing_broken, percentile, share
from gpufleet.planner.queueing import waits_always_on

TRACE_S = 6 * HOUR
TRACE_START_S = 4 * HOUR  # where in the profile's first day: the office-hours one is idle, busy, idle, busy from there
TRACE_JOBS = 800  # enough for percentiles, few enough for a walk of half a minute
LOAD = 0.6  # of what the cap can serve, at the busiest ten minutes


def provision(scene: Scene, step: Step) -> None:
    """`pulumi up` of the real program and the real stack file."""
    stage = scene.stage
    result = stage.up()
    stage.watch()
    stage.note_budget(scene.settings.monthly_budget_usd)
    made = sum(step.op == "create" and step.type.startswith("aws:") for step in result.steps)
    scene.say(step, f"{made} resources from __main__.py and Pulumi.{stage.stack}.yaml")
    again = stage.up()
    step.figures.update(resources=made, changes_of_a_second_up=len(again.changes))
    check(
        step,
        "a second `pulumi up` changes nothing",
        expected="0 changes",
        seen=f"{len(again.changes)} changes: {', '.join(change.name for change in again.changes)}",
        ok=not again.changes,
        where="the resource handlers, or an input that is not the same twice",
    )


def at_rest(scene: Scene, step: Step) -> None:
    """Nothing to do: nothing runs."""
    stage = scene.stage
    stage.world.run_for(3 * MINUTE)
    groups = stage.groups()
    for group in groups:
        scene.say(
            step,
            f"{group['AutoScalingGroupName']}  min {group['MinSize']}  max {group['MaxSize']}  "
            f"desired {group['DesiredCapacity']}",
        )
    cap, floor = scene.settings.max_gpu_instances, scene.floor
    wanted = sum(group["DesiredCapacity"] for group in groups)
    seen = f"desired {wanted}, running {stage.running()}"
    check(
        step,
        "an idle fleet runs its floor and no more",
        expected=f"{floor} instances",
        seen=seen,
        ok=floor == wanted,
        where=log_of(stage, "controllerFunction"),
    )
    largest = {group["MaxSize"] for group in groups}
    check(
        step,
        "the cap is in both groups",
        expected=f"max {cap}",
        seen=f"max {sorted(largest)}",
        ok=largest == {cap},
        where="maxGpuInstances in the stack file",
    )
    figures = stage.figures()
    check(
        step,
        "the guard meters from the first minute",
        expected="figures of this month",
        seen=f"{figures or 'none'}",
        ok=figures.get("monthly_usd") == scene.settings.monthly_budget_usd,
        where=log_of(stage, "scaleToZeroFunction"),
    )


def some_jobs(scene: Scene, step: Step) -> None:
    """A few jobs wake the fleet; it works and goes back to zero."""
    stage, count = scene.stage, 15
    since = stage.now()
    stage.timeline.mark(since, f"{count} jobs")
    stage.world.traffic.send(stage.outputs["queueUrl"], count)
    back = stage.world.run_until(scene.at_rest, limit_s=HOUR)
    rested = stage.now() - since
    stage.world.run_for(2 * MINUTE)  # a function's log lines are there when its run has ended
    scene.tell_events(step, since)
    account = stage.world.account()
    starts = [event for event in stage.events(since) if event.text.startswith("scale-out")]
    woke = starts[0].at - since if starts else math.inf
    scene.say(step, f"{len(account.completed)} of {count} completed")
    step.figures.update(completed=len(account.completed), woke_after_s=round(woke, 1) if starts else None)
    step.figures.update(at_rest_after_s=rested if back else None, bill_usd=round(stage.world.bill.total(), 4))
    check(
        step,
        "the fleet wakes within seconds of the first message",
        expected="a scale-out within 75 s",
        seen=f"after {woke:.0f} s" if starts else "no scale-out",
        ok=woke <= 75 or scene.floor > 0,
        where=log_of(stage, "controllerFunction"),
    )
    check(
        step,
        "every job is completed",
        expected=f"{count} completed",
        seen=f"{len(account.completed)} completed, {len(account.waiting)} waiting, {len(account.failed)} failed",
        ok=len(account.completed) == count,
        where=f"table {stage.outputs['jobsTable']}, and the node logs",
    )
    check(
        step,
        "the fleet goes back to zero",
        expected=f"{scene.floor} instances within an hour",
        seen=f"{stage.running()} running, desired {[g['DesiredCapacity'] for g in stage.groups()]}",
        ok=back,
        where=log_of(stage, "controllerFunction"),
    )
    reports = stage.reports()
    check(
        step,
        "the workers' heartbeats tell what they do",
        expected=f"{len(account.completed)} jobs reported",
        seen=f"{sum(reports.values())} jobs reported by {len(reports)} workers",
        ok=sum(reports.values()) == len(account.completed),
        where=f"rows instance#... in {stage.outputs['jobsTable']}, and the node logs",
    )
    nothing_broken(scene, step)


def real_trace(scene: Scene, step: Step) -> None:
    """Six hours of a real arrival trace, thinned to what the cap can serve."""
    stage, settings = scene.stage, scene.settings
    per_second = settings.max_gpu_instances * settings.model.slots / settings.advanced.expected_service_seconds
    window = scene.profile.window(TRACE_START_S, min(TRACE_S, scene.profile.span_s))
    thin = window.thinned(peak_rate=LOAD * per_second, jobs=TRACE_JOBS)
    since, spent = stage.now(), stage.world.bill.total()
    before = set(stage.world.account().sent)
    arrivals = [since + at for at in thin.arrivals(scene.settings.max_gpu_instances)]
    stage.timeline.mark(since, f"{scene.profile.name}, {thin.span_s / HOUR:.0f} h")
    stage.world.traffic.schedule(stage.outputs["queueUrl"], arrivals)
    stage.world.run_for(thin.span_s)
    done = stage.world.run_until(scene.served, limit_s=2 * HOUR, step_s=60)
    account = stage.world.account()
    waits = sorted(wait for job, wait in account.waits.items() if job not in before)
    sent = len(account.sent) - len(before)
    in_target = share(waits, settings.wait_target_seconds)
    cost = stage.world.bill.total() - spent
    decisions = [event.text for event in stage.events(since) if event.text.startswith("scale-")]
    outs = sum(text.startswith("scale-out") for text in decisions)
    scene.say(
        step, f"{thin.span_s / HOUR:.0f} h of {scene.profile.name}, {sent} jobs ({scene.profile.source.split(',')[0]})"
    )
    p50, p95, p99 = (percentile(waits, q) for q in (0.5, 0.95, 0.99))
    scene.say(
        step,
        f"waits p50/p95/p99 {p50:.0f}/{p95:.0f}/{p99:.0f} s, {100 * in_target:.1f} % within "
        f"{settings.wait_target_seconds} s, {outs} scale-outs, {len(decisions) - outs} scale-ins, ${cost:.2f}",
    )
    step.figures.update(
        jobs=sent, wait_p50_s=p50, wait_p95_s=p95, wait_p99_s=p99, share_in_target=in_target, cost_usd=round(cost, 2)
    )
    _in_time(scene, step, arrivals, waits)
    check(
        step,
        "every job of the trace is completed",
        expected=f"{sent} completed",
        seen=f"{len(account.completed - before)} completed, {len(account.waiting)} waiting",
        ok=done and len(account.completed - before) == sent,
        where=f"table {stage.outputs['jobsTable']}",
    )
    nothing_broken(scene, step)


def _in_time(scene: Scene, step: Step, arrivals: Sequence[float], waits: Sequence[float]) -> None:
    """The wait target, as far as the cap allows it: bursts that overrun the whole cap are no fault of the law."""
    settings = scene.settings
    target, cold_start = settings.wait_target_seconds, settings.advanced.cold_start_seconds
    slots = settings.max_gpu_instances * settings.model.slots
    always_on = waits_always_on(arrivals, slots, settings.advanced.expected_service_seconds)
    # What would wait so long in front of a fleet that never sleeps has no time left for a boot.
    possible = share(always_on, target - cold_start if target > cold_start else target)
    wanted = min(0.99, possible)
    # From zero nobody can promise less than a cold start; the law promises the target or, where a boot stands in
    # between, the target plus a cold start and two looks.
    bound = target + cold_start + 20 if possible >= 0.99 else math.inf
    if possible < 0.99:
        scene.say(
            step,
            f"the cap is too small for these bursts: even always on, {100 * (1 - possible):.1f} % would wait more than "
            f"{max(0, target - cold_start):.0f} s, which leaves no time to boot",
        )
    check(
        step,
        "jobs start in time",
        expected=f"{100 * wanted:.1f} % within {target} s"
        + (f", all within {bound:.0f} s" if math.isfinite(bound) else ""),
        seen=f"{100 * share(waits, target):.1f} %, longest {max(waits, default=0):.0f} s",
        ok=share(waits, target) >= wanted and max(waits, default=0) <= bound,
        where=log_of(scene.stage, "controllerFunction"),
    )


def account(scene: Scene, step: Step) -> None:
    """The sum of it all."""
    stage = scene.stage
    stage.world.run_for(2 * MINUTE)
    jobs = stage.world.account()
    scene.say(
        step,
        f"sent {len(jobs.sent)} = completed {len(jobs.completed)}; billed twice {len(jobs.billed_twice)}, "
        f"lost {len(jobs.lost)}; work killed {stage.world.work_killed_s:.0f} s",
    )
    step.figures.update(sent=len(jobs.sent), completed=len(jobs.completed), lost=len(jobs.lost))
    step.figures.update(billed_twice=len(jobs.billed_twice), work_killed_s=stage.world.work_killed_s)
    check(
        step,
        "every job sent is completed, once",
        expected=f"{len(jobs.sent)} completed, 0 lost, 0 billed twice, every result stored",
        seen=f"{len(jobs.completed)} completed, {len(jobs.lost)} lost, {len(jobs.billed_twice)} billed twice, "
        f"{len(jobs.without_result)} without result, {len(jobs.dead)} dead letters, {len(jobs.waiting)} waiting",
        ok=jobs.in_order and jobs.sent == jobs.completed,
        where=f"table {stage.outputs['jobsTable']}, bucket {stage.outputs['resultsBucket']}",
    )
    check(
        step,
        "no working GPU is killed",
        expected="0 s of work killed",
        seen=f"{stage.world.work_killed_s:.0f} s",
        ok=stage.world.work_killed_s == 0,
        where="the terminate hooks and the node logs",
    )
    spent, raised = stage.world.bill.total(), stage.ledger().get("raised_usd", 0.0)
    meter = stage.figures()["spent_usd"] - raised
    # The bill has the gateway's whole hour as soon as it has begun, the meter by the second.
    begun = costs.NAT_GATEWAY_USD_PER_HOUR + costs.PUBLIC_IPV4_USD_PER_HOUR
    off = meter / spent - 1
    scene.say(
        step,
        f"the embedded cloud's own bill ${spent:.2f}, the guard's own meter ${meter:.2f}: {100 * off:+.1f} %"
        + (f" (AWS Budgets' figure put ${raised:.2f} on top)" if raised else ""),
    )
    check(
        step,
        "the guard's meter, fixed costs included, is within 1 % of the whole bill",
        expected=f"${spent:.2f}, give or take 1 %, and the gateway's hour that has begun (${begun:.2f})",
        seen=f"${meter:.2f}",
        ok=-0.01 * spent - begun <= meter - spent <= 0.01 * spent,
        where=f"row ledger#... in {stage.outputs['controlTable']}",
    )
