"""How many GPU instances the fleet should have, and which of them should go. Pure: no clock, no I/O, no randomness.

The law in a page ----------------- The wait target is a promise: a job that arrives now is started within
``wait_target_s``. At every look the waiting jobs are taken as the latest arrivals, so their ages, and with them their
deadlines, are known. For each deadline the law asks how many jobs the capacity that is there will have started by
then: free slots now, ready instances at one job per slot and service time, booting instances from the moment they
will be ready. Booting capacity counts, and so do instances that were asked for and are still owed. What is missing,
divided by what one more instance could start by the same deadline, is launched. A deadline that a new instance can no
longer meet is sized by the work a new instance would still find 90 s after its boot, so that a hopeless deadline does
not buy the whole cap.

The first waiting job at zero launches one instance at once (*activation*). Service time is learned from what workers
report (seconds worked / jobs completed), cold start from the boots that were seen; both start at the configured value.

Instances leave only while nothing waits, and has not for ``idle_grace_s`` (counters of a queue are eventually
consistent: one reading of zero proves nothing). What has been asked for and not launched is cancelled first. Then
idle instances are named to *drain*: old template versions first, then on-demand, then the longest idle. An instance
with a busy slot is never named; one whose busy slots are unknown counts as busy while any message is in flight. While
anything is busy, ``headroom`` free slots are kept.

The *floor* is the largest of ``floor`` and the windows open now, never above the cap. The *cap* is one number over both
pools and counts every instance that is not terminated, draining ones included.

Spot comes first. On-demand gets only what spot failed to deliver: owed after a failed launch, or for longer than a
cold start (a booting instance is delivered). Spot's desired is then lowered to what it delivered, and only a later
look, which has read that back, raises on-demand. The failure is forgotten at rest, or after 15 minutes: the next
launch tries spot.

Instances of an old template version are replaced one by one when idle: the replacement first if the floor needs it
and the cap has room, else after. Counters that lie (negative, huge, contradictory, late) cost accuracy for a look,
nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .scaling_look import BOOTING, DRAINING, ON_DEMAND, READY, SPOT, Look, key, take_look
from .scaling_types import Instance, Observation, Policy, Pool, State, Window, floor_at

LOST_DEADLINE_S = 90  # a deadline that cannot be met is moved to this long after a new instance's boot
OVERDUE_BOOT_S = 30  # a boot later than its cold start is expected this soon ...
GIVEN_UP_BOOTS = 2  # ... until it has taken so many cold starts; then it serves as no capacity

__all__ = [
    "BOOTING",
    "DRAINING",
    "ON_DEMAND",
    "READY",
    "SPOT",
    "Decision",
    "Instance",
    "Observation",
    "Policy",
    "Pool",
    "State",
    "Window",
    "decide",
    "floor_at",
]


@dataclass(frozen=True)
class Decision:
    """What to do at this look. ``desired`` counts instances that are not draining, after the drains of this decision.

    ``spot`` and ``on_demand`` are the two pools' shares to ask for now; together at most ``desired`` (what spot
    failed to deliver is asked of on-demand one look later). ``drain`` names instances. ``reason`` says why, with its
    numbers.
    """

    desired: int
    spot: int
    on_demand: int
    drain: tuple[str, ...]
    reason: str
    waiting: int
    busy: int
    ready: int
    booting: int
    draining: int
    floor: int
    service_s: float
    cold_start_s: float


def decide(observation: Observation, state: State, policy: Policy) -> tuple[Decision, State]:
    """The decision for one look and the state to pass to the next one. Same input, same output; never raises."""
    look, state = take_look(observation, state, policy)
    if look.waiting > 0 or look.live + look.total_owed < look.floor or look.live > policy.cap:
        desired, drain, reason = _grow(look, state)
    else:
        desired, drain, reason = _shrink(look, state)
    return _split(look, state, desired, drain, reason)


def _missing(look: Look, state: State) -> int:
    """Instances to launch so that every job that waits is started by its deadline."""
    slots, service_s, boot_s = look.policy.slots, look.service_s, look.cold_start_s
    sources = [(0.0, float(slots - look.busy_slots(one))) for one in look.ready]
    for one in look.booting:
        age = look.at - one.launched_at
        if age <= GIVEN_UP_BOOTS * boot_s:
            sources.append((max(boot_s - age, min(OVERDUE_BOOT_S, boot_s)), float(slots)))
    sources += [(boot_s, float(slots))] * look.total_owed
    need, jobs = 0.0, 0.0
    for born, count in state.arrivals:
        jobs += count
        left_s = look.policy.patience_s - (look.at - born)
        if left_s < boot_s:
            left_s = boot_s + LOST_DEADLINE_S
        started = sum(
            free + slots * (left_s - ready_in) / service_s for ready_in, free in sources if ready_in <= left_s
        )
        need = max(need, (jobs - started) / (slots * (1 + (left_s - boot_s) / service_s)))
    return max(math.ceil(need - 1e-9), 0 if sources else 1)


def _grow(look: Look, state: State) -> tuple[int, tuple[str, ...], str]:
    """Jobs wait, or the floor is not reached, or there are more instances than the cap."""
    present = look.live + look.total_owed
    missing = _missing(look, state) if look.waiting else 0
    wanted = max(look.floor, present + missing)
    desired = max(look.live, min(wanted, look.limit))
    why = (
        f"{look.waiting} waiting, {look.service_s:.1f} s each, {look.policy.slots} slots, "
        f"target {look.policy.wait_target_s:g} s"
    )
    if look.live > look.policy.cap:
        idle = [one for one in _leaving(look, state) if look.busy_slots(one) == 0]
        drain = tuple(one.id for one in idle[: look.live - look.policy.cap])
        excess = f"over cap: {look.live} instances + {look.draining} draining, cap {look.policy.cap}"
        return look.live - len(drain), drain, f"{excess}; {len(drain)} idle to drain"
    if desired > present:
        cut = "" if wanted == desired else f" (needs {wanted}, cap {look.policy.cap}, {look.draining} draining)"
        if not look.waiting or present + missing < look.floor:
            why = f"floor {look.floor}, {look.waiting} waiting"
        return desired, (), f"scale-out {present} -> {desired}: {why}{cut}"
    if wanted > desired:
        return desired, (), f"at cap {look.policy.cap}: {why}; needs {wanted}, {look.draining} draining"
    return (
        desired,
        (),
        f"enough {desired}: {why}; {len(look.ready)} ready, {look.busy} busy, {desired - len(look.ready)} on the way",
    )


def _leaving(look: Look, state: State) -> list[Instance]:
    """Ready instances in the order in which they should go: old version, on-demand, longest idle."""
    since = dict(state.idle)
    order = {one.id: (not look.is_old(one), one.pool != ON_DEMAND, since.get(key(one), look.at)) for one in look.ready}
    return sorted(look.ready, key=lambda one: (*order[one.id], one.id))


def _shrink(look: Look, state: State) -> tuple[int, tuple[str, ...], str]:
    """Nothing waits and the floor is there: cancel, drain what is idle, replace old versions; or stay."""
    grace = look.policy.idle_grace_s
    present = min(look.live + look.total_owed, max(look.live, look.limit))
    quiet_s = look.at - (look.at if state.quiet_since is None else state.quiet_since)
    if not look.live and not present:
        return 0, (), f"at rest: 0 waiting, {look.draining} draining"
    if quiet_s < grace:
        return present, (), f"steady {present}: 0 waiting, {look.busy} busy, quiet {quiet_s:.0f} s of {grace:g} s"
    since = dict(state.idle)
    idle = [one for one in _leaving(look, state) if look.at - since.get(key(one), look.at) >= grace]
    work = math.ceil((look.busy + look.policy.headroom) / look.policy.slots) if look.busy else 0
    keep = max(look.floor, work)
    old = [one for one in idle if look.is_old(one)]
    room = look.limit > len(look.ready)
    surge = len(look.ready) + 1 if old and len(look.ready) - 1 < keep and room else 0
    needed = max(look.live, look.floor, surge)
    if present > needed:
        return (
            needed,
            (),
            f"cancel {present} -> {needed}: 0 waiting for {quiet_s:.0f} s, {look.total_owed} not launched",
        )
    if surge > present:
        return (
            surge,
            (),
            f"replace {present} -> {surge}: old template version idle, floor {look.floor}, {look.busy} busy",
        )
    drain = idle[: max(0, len(look.ready) - keep)]
    if not drain and old and not room and not look.draining and len(look.ready) - 1 >= work:
        drain = old[:1]
    if not drain:
        return (
            present,
            (),
            f"steady {present}: 0 waiting, {look.busy} busy of {len(look.ready) * look.policy.slots} slots",
        )
    after = present - len(drain)
    idle_s = look.at - max(since[key(one)] for one in drain)
    why = f"0 waiting for {quiet_s:.0f} s, idle {idle_s:.0f} s, {look.busy} busy, floor {look.floor}"
    return after, tuple(one.id for one in drain), f"scale-in {present} -> {after}: {why}"


def _split(look: Look, state: State, desired: int, drain: tuple[str, ...], reason: str) -> tuple[Decision, State]:
    """Shares the wanted instances between the pools: spot first, on-demand for what spot failed to deliver."""
    gone = set(drain)
    staying = [one.pool for one in (*look.ready, *look.booting) if one.id not in gone]
    spot, on_demand = staying.count(SPOT), staying.count(ON_DEMAND)
    more, owed = max(0, desired - len(staying)), look.owed
    if SPOT not in look.pools:
        on_demand += more
    elif ON_DEMAND not in look.pools:
        spot += more
    elif state.spot_failed_at is None:
        backed = min(more, owed[ON_DEMAND])
        spot, on_demand = spot + more - backed, on_demand + backed
    elif owed[SPOT]:
        on_demand += min(more, owed[ON_DEMAND])
        reason = f"spot fell short: delivered {spot} of {spot + owed[SPOT]}, the rest moves to on-demand; {reason}"
    else:
        on_demand += more
        reason = f"{reason}; on-demand, spot failed {look.at - state.spot_failed_at:.0f} s ago" if more else reason
    if SPOT in look.pools and spot > look.count(SPOT) and state.short_since is None:
        state = replace(state, short_since=look.at)
    decision = Decision(
        desired=desired,
        spot=spot,
        on_demand=on_demand,
        drain=drain,
        reason=reason,
        waiting=look.waiting,
        busy=look.busy,
        ready=len(look.ready),
        booting=len(look.booting),
        draining=look.draining,
        floor=look.floor,
        service_s=round(look.service_s, 3),
        cold_start_s=round(look.cold_start_s, 3),
    )
    return decision, state
