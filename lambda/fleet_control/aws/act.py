"""Carries a decision out: cancel, launch, drain. Launches pass the gate and the budget's admission first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from ..scaling_law import ON_DEMAND, SPOT, Decision
from . import runtime
from .config import ControllerConfig
from .groups import Group, busy_with_another_change, describe, drain
from .observe import Sighting
from .store import Rows, forget_suspended, reserve

FRESH_S = 180.0  # the guard publishes the budget every minute; three missed ones mean that it is silent
NEVER_RESUMED = "AZRebalance"  # it kills busy nodes to even out zones


@dataclass
class Outcome:
    """What was done (``acts``) and what was refused (``refusals``), as short clauses with numbers."""

    acts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def gate(config: ControllerConfig, rows: Rows, allowance_until: float, at: float) -> str | None:
    """Why nothing may be launched now, or None. Missing and stale data close the gate."""
    if rows.latched:
        return f"stopped ({rows.latch.get('reason')})"
    if config.unlimited_reason is not None:
        return None
    if not rows.budget:
        return "no budget row: the guard has not run yet"
    age = at - float(rows.budget.get("at", 0))
    if age > FRESH_S:
        return f"budget row {age:.0f} s old, limit {FRESH_S:.0f} s: the guard is silent"
    if config.jobs_table is not None and allowance_until <= at:
        return "no valid allowance from the guard"
    return None


def apply(config: ControllerConfig, decision: Decision, sighting: Sighting, rows: Rows) -> Outcome:
    """Brings the groups to the decision. A group that is busy with another change is left for the next look."""
    outcome = Outcome()
    leaving = set(decision.drain)
    for pool, group in sighting.groups.items():
        share = {SPOT: decision.spot, ON_DEMAND: decision.on_demand}[pool]
        mine = [one.id for one in group.members if one.id in leaving and not one.leaving]
        target = share + len(mine) + sighting.going.get(pool, 0)
        try:
            after = _drain_dead(config, group, sighting.dead, outcome)
            target -= group.present - after.present
            if target > max(after.desired, after.present):
                _launch(config, after, target, rows, sighting, outcome)
            elif target < after.desired and after.desired > after.present:
                _cancel(config, after, target, outcome)
            for instance_id in mine:
                outcome.acts.append(f"drain {instance_id}")
                if not config.dry_run:
                    after = drain(runtime.client("autoscaling"), after, instance_id)
        except ClientError as error:
            if not busy_with_another_change(error):
                raise
            outcome.refusals.append(f"{group.name} is busy with another change")
    return outcome


def _drain_dead(config: ControllerConfig, group: Group, dead: tuple[str, ...], outcome: Outcome) -> Group:
    """Removes one dead node a look, so that a failure of the table cannot empty the fleet at once."""
    mine = [one.id for one in group.members if one.id in dead[:1]]
    for instance_id in mine:
        outcome.acts.append(f"drain {instance_id}: in service, but its worker is silent")
        if not config.dry_run:
            group = drain(runtime.client("autoscaling"), group, instance_id)
    return group


def _launch(
    config: ControllerConfig, group: Group, target: int, rows: Rows, sighting: Sighting, outcome: Outcome
) -> None:
    base = max(group.desired, group.present)
    number, why = target - base, gate(config, rows, sighting.allowance_until, sighting.at)
    if why is not None:
        number = 0
    elif config.unlimited_reason is None:
        number, why = _admit(config, number, rows.budget, sighting.at)
    if why is not None:
        outcome.refusals.append(f"no launch: {why}" if number == 0 else why)
    if number == 0:
        return
    outcome.acts.append(f"{group.name} desired {group.desired} -> {base + number}")
    if not config.dry_run:
        runtime.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName=group.name, DesiredCapacity=base + number, HonorCooldown=False
        )


def _admit(config: ControllerConfig, number: int, budget: Mapping[str, Any], at: float) -> tuple[int, str | None]:
    """How many of ``number`` launches the headroom pays for, reserved; and what to say if it is not all of them."""
    each, left = float(budget.get("launch_usd", math.inf)), float(budget.get("headroom_usd", 0))
    fits = min(number, int(left / each)) if 0 < each < math.inf else 0
    short = f"${left:.2f} headroom, ${each:.2f} a launch"
    if fits <= 0:
        return 0, short
    if not config.dry_run and not reserve(config.control_table, fits * each, at, at - FRESH_S):
        return 0, f"headroom was taken by another fleet ({short})"
    return fits, None if fits == number else f"only {fits} of {number} launches: {short}"


def _cancel(config: ControllerConfig, group: Group, target: int, outcome: Outcome) -> None:
    """Lowers desired to what is present (never below it), so that nothing but the not yet launched is given up."""
    fresh = describe(runtime.client("autoscaling"), [group.name]).get(group.name, group)
    wanted = max(target, fresh.present)
    if wanted >= fresh.desired:
        return
    outcome.acts.append(f"{group.name} desired {fresh.desired} -> {wanted}")
    if not config.dry_run:
        runtime.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName=group.name, DesiredCapacity=wanted, HonorCooldown=False
        )


def resume(config: ControllerConfig, rows: Rows) -> list[str]:
    """After the latch was cleared: makes each group owe nothing, then resumes what the guard suspended, then says so.

    Desired must not exceed what is present (0 after a complete stop) before Launch is resumed, so that resuming by
    itself launches nothing; the law decides afresh at the next look. Only recorded processes are resumed.
    """
    client, acts = runtime.client("autoscaling"), []
    recorded = rows.suspended(config.groups.values())
    for name, group in sorted(describe(client, recorded).items()):
        if config.dry_run:
            acts.append(f"resume {name}")
            continue
        if group.desired > group.present:
            client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=group.present, HonorCooldown=False)
            again = describe(client, [name])[name]
            if again.desired > again.present:
                acts.append(f"{name} still asks for {again.desired}; resumed at the next look")
                continue
        processes = [one for one in recorded[name] if one != NEVER_RESUMED]
        if processes:  # an empty list would resume every process
            client.resume_processes(AutoScalingGroupName=name, ScalingProcesses=processes)
        forget_suspended(config.control_table, name, rows.generation)
        acts.append(f"resume {name}: {', '.join(processes) or 'nothing was suspended by the guard'}")
    return acts
