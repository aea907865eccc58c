"""Carries a decision out: launch, cancel, drain. Launches pass the gate, the boot law and the budget's admission.

Desired goes up first, then instances are drained by name with decrement: what is to replace them is on its way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from .. import boot_law
from ..scaling_law import ON_DEMAND, SPOT, Decision
from . import runtime
from .config import ControllerConfig
from .groups import Group, busy_with_another_change, describe, drain
from .items import error_code
from .observe import Sighting
from .store import Rows, forget_suspended, reserve

FRESH_S = 180.0  # the guard publishes the budget every minute; three missed ones mean that it is silent
NEVER_RESUMED = "AZRebalance"  # it kills busy nodes to even out zones


@dataclass
class Outcome:
    """What was done (``acts``) and what was refused (``refusals``), as short clauses with numbers."""

    acts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@dataclass
class Hands:
    """What a look may do. ``claim`` shows that the run still holds the lease, and raises if it does not; nothing is
    changed before it was called. In a dry run nothing is changed, and nothing claimed."""

    config: ControllerConfig
    claim: Callable[[], None]
    outcome: Outcome

    def change(self, words: str, step: Callable[[], Any]) -> Any:
        """Makes a change and notes it; the step's result, None in a dry run."""
        result = None
        if not self.config.dry_run:
            self.claim()
            result = step()
        self.outcome.acts.append(words)
        return result

    def set_desired(self, group: Group, number: int) -> None:
        self.change(
            f"{group.name} desired {group.desired} -> {number}",
            lambda: runtime.client("autoscaling").set_desired_capacity(
                AutoScalingGroupName=group.name, DesiredCapacity=number, HonorCooldown=False
            ),
        )

    def drain(self, group: Group, instance_id: str, why: str = "") -> Group:
        """The group afterwards. An instance that cannot be terminated (any more) is left to the next look."""
        try:
            after = self.change(
                f"drain {instance_id}{why}", lambda: drain(runtime.client("autoscaling"), group, instance_id)
            )
        except ClientError as error:
            if error_code(error) != "ValidationError":
                raise
            self.outcome.refusals.append(f"{instance_id} is not drained: {error}")
            return group
        return after or group


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


def apply(hands: Hands, decision: Decision, sighting: Sighting, rows: Rows) -> None:
    """Brings the groups to the decision. A group that is busy with another change is left for the next look."""
    room, why = boot_law.room(sighting.boots, len(sighting.booting), sighting.at)
    surplus = boot_law.surplus(sighting.boots, sighting.booting)
    for pool, group in sighting.groups.items():
        mine = [one.id for one in group.members if one.id in decision.drain and not one.leaving]
        share = {SPOT: decision.spot, ON_DEMAND: decision.on_demand}[pool]
        target = share + len(mine) + sighting.going.get(pool, 0)
        if room is not None:
            allowed = min(target, group.present + room)
            if allowed < target and target > group.present:
                _refuse(hands.outcome, target - group.present, allowed - group.present, why)
            target, room = allowed, room - max(0, allowed - group.present)
        try:
            after = _resize(hands, group, target, rows, sighting)
            for instance_id in mine:
                after = hands.drain(after, instance_id)
            for instance_id in (one.id for one in group.members if one.id in surplus and not one.leaving):
                after = hands.drain(after, instance_id, ": launched by its group while the version is held")
            if sighting.replace in {one.id for one in group.members}:
                hands.drain(after, str(sighting.replace), f": {sighting.sick[str(sighting.replace)]}")
        except ClientError as error:
            if not busy_with_another_change(error):
                raise
            hands.outcome.refusals.append(f"{group.name} is busy with another change")


def _refuse(outcome: Outcome, wanted: int, allowed: int, why: str) -> None:
    outcome.refusals.append(f"only {allowed} of {wanted} launches: {why}" if allowed > 0 else f"no launch: {why}")


def _resize(hands: Hands, group: Group, target: int, rows: Rows, sighting: Sighting) -> Group:
    """Launches what is missing, or cancels what has not launched; the group afterwards."""
    base = max(group.desired, group.present)
    if target > base:
        number = _admitted(hands, target - base, rows, sighting)
        if number > 0:
            hands.set_desired(group, base + number)
            return replace(group, desired=base + number)
    elif target < group.desired and group.desired > group.present:
        return _cancel(hands, group, target)
    return group


def _admitted(hands: Hands, number: int, rows: Rows, sighting: Sighting) -> int:
    """How many of ``number`` launches gate and budget let through."""
    config, wanted = hands.config, number
    why = gate(config, rows, sighting.allowance_until, sighting.at)
    if why is not None:
        number = 0
    elif config.unlimited_reason is None:
        number, why = _admit(hands, number, rows.budget, sighting.at)
    if why is not None:
        _refuse(hands.outcome, wanted, number, why)
    return number


def _admit(hands: Hands, number: int, budget: Mapping[str, Any], at: float) -> tuple[int, str | None]:
    """How many of ``number`` launches the headroom pays for, reserved; and what to say if it is not all of them."""
    each, left = float(budget.get("launch_usd", math.inf)), float(budget.get("headroom_usd", 0))
    fits = min(number, int(left / each)) if 0 < each < math.inf else 0
    short = f"${left:.2f} headroom, ${each:.2f} a launch"
    if fits <= 0:
        return 0, short
    if not hands.config.dry_run:
        hands.claim()
        if not reserve(hands.config.control_table, fits * each, at, at - FRESH_S):
            return 0, f"headroom was taken by another fleet ({short})"
    return fits, None if fits == number else short


def _cancel(hands: Hands, group: Group, target: int) -> Group:
    """Lowers desired to what is present (never below it), so that nothing but the not yet launched is given up."""
    fresh = describe(runtime.client("autoscaling"), [group.name]).get(group.name, group)
    wanted = max(target, fresh.present)
    if wanted >= fresh.desired:
        return fresh
    hands.set_desired(fresh, wanted)
    return replace(fresh, desired=wanted)


def resume(hands: Hands, rows: Rows) -> None:
    """After the latch was cleared: resumes exactly what the guard suspended, then removes its note."""
    config, client = hands.config, runtime.client("autoscaling")
    recorded = rows.suspended(config.groups.values())
    for name, group in sorted(describe(client, recorded).items()):
        processes = [one for one in recorded[name] if one != NEVER_RESUMED]
        if _owes_nothing(hands, group):
            words = f"resume {name}: {', '.join(processes) or 'nothing was suspended by the guard'}"
            hands.change(
                words, lambda name=name, processes=processes: _resume(config, name, processes, rows.generation)
            )


def lift_aws_own(hands: Hands, groups: Iterable[Group]) -> None:
    """Resumes what AWS itself suspended after a day of failed launches: nobody else does. For an unlatched fleet only.
    What made the launches fail is the boot law's business. (The guard's role can resume nothing, so this is here.)"""
    client = runtime.client("autoscaling")
    for group in groups:
        processes = sorted(group.by_aws - {NEVER_RESUMED})
        if processes and _owes_nothing(hands, group):
            request = {"AutoScalingGroupName": group.name, "ScalingProcesses": processes}
            words = f"resume {group.name}: {', '.join(processes)}, suspended by AWS itself"
            hands.change(words, lambda request=request: client.resume_processes(**request))


def _owes_nothing(hands: Hands, group: Group) -> bool:
    """Sees to it that the group asks for no more than is present (nothing, after a complete stop), so that resuming
    Launch by itself launches nothing: the law decides afresh at the next look. False if it asks for more all the same.
    """
    if group.desired <= group.present:
        return True
    hands.set_desired(group, group.present)
    if hands.config.dry_run:
        return True
    again = describe(runtime.client("autoscaling"), [group.name])[group.name]
    if again.desired > again.present:
        hands.outcome.refusals.append(f"{group.name} still asks for {again.desired}; resumed at the next look")
        return False
    return True


def _resume(config: ControllerConfig, name: str, processes: list[str], generation: int) -> None:
    if processes:  # an empty list would resume every process
        client = runtime.client("autoscaling")
        client.resume_processes(AutoScalingGroupName=name, ScalingProcesses=processes)
    forget_suspended(config.control_table, name, generation)
