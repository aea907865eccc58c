"""How many GPU instances the fleet should have, and which of them should go. Pure: no clock, no I/O, no randomness.

The law in a page
-----------------
The wait target is a promise: a job that arrives now is started within ``wait_target_s``. Everything else follows from
when a new instance can help: one cold start after its launch.

*A cold start fits into the wait target* (the deadline regime). Nothing needs to stay warm. The waiting jobs are the
latest arrivals, so their ages, and with them their deadlines, are known. For each deadline the law asks how many jobs
the capacity that is there will have started by then: free slots now, ready instances at one job per slot and service
time, booting ones from the moment they will be ready. What is missing, divided by what one more instance could start by
the same deadline, has to be launched: but not before it must. As long as the same number of instances does when it is
launched one look later, the law waits: they cost nothing until then, and jobs that meanwhile finish may make them
unnecessary. That laziness is what makes it cheap. Where hardly any time is left between boot and deadline it launches
at once. A deadline that can no longer be met is sized by the work a new instance would still find 90 s after its boot,
so that a hopeless deadline does not buy the whole cap.

*It does not* (the load regime): nobody can promise the target from zero, so capacity has to be there before the jobs.
The law keeps what the highest load of the last five minutes needs and a little more, or what the same ten minutes of
yesterday or last week needed, while that has proved a good forecast; and it launches for what waits and will arrive
until one cold start and 90 s from now. What is promised is: wait target + cold start + two looks.

*How much is a little more* is learned from how it went: *caution* is 1 when half a percent of the jobs is late, and it
scales every reserve, from 0.05 to 4. Service times vary, so the number of jobs started by a deadline is discounted by
``caution`` standard deviations. While fewer are late, the margin for what a look cannot see is given up too. Service
time and cold start are learned from what is seen; both begin at the configured value.

Instances leave when nothing has waited for two looks in a row (one reading of zero of an eventually consistent counter
proves nothing) and nothing has to be launched. What was asked for and not launched is cancelled first. Then the least
busy instances beyond the regime's floor are named to *drain*: they take no new job, finish what they hold, and go. Ones
to be replaced anyway and on-demand ones come first. Pull workers spread the load over all instances, so waiting for an
idle one would keep a fleet far too large.

The *floor* is the largest of ``floor`` and the windows open now or one cold start ahead, so that a window opens with
its instances ready; never above the cap. The *cap* is one number over both pools and counts every instance that is not
terminated, draining ones included. Which pool is asked, and how instances are replaced: ``scaling_pools``. How counters
are read, and what is learned from them: ``scaling_look``. Counters that lie (negative, huge, contradictory, late) cost
accuracy for a look, nothing else.

The constants were measured on real traces (docs/scaling.md); each says what it is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .scaling_look import BOOTING, DRAINING, ON_DEMAND, READY, SPOT, Look, take_look
from .scaling_pools import leaving, replacements, replacing, shares, watch_spot
from .scaling_state import MAX_HISTORY, State
from .scaling_types import Instance, Observation, Policy, Pool, Window, floor_at
from .scaling_week import forecast

LOST_DEADLINE_S = 90.0  # a deadline that cannot be met is moved to this long after a new instance's boot
OVERDUE_BOOT_S = 30.0  # a boot later than its cold start is expected this soon ...
GIVEN_UP_BOOTS = 1.5  # ... until it has taken so many cold starts; then it serves as no capacity
MINIMUM_AGE_S = 60.0  # a younger instance is not drained: its first minute is paid in any case
TIGHT = 0.5  # launches do not wait where boot and deadline lie closer than this share of a cold start ...
TIGHT_RESERVE = 0.75  # ... and so many standard deviations of the load are kept: after a boot hardly any slack is left
PEAK_S = 300.0  # the load regime keeps what the highest load of so long needs
RESERVE = 0.2  # standard deviations of the load kept beside it, times the caution (0.4: 6 % dearer, 0.4 % more in time)
LOAD_CAUTION = 2.0  # the load regime is no more cautious: from zero, the first jobs are late whatever is kept
# Share of a forecast load that is made ready for. Without any, 2 % fewer jobs of nightly and daily batches are in time,
# at the same cost; elsewhere it changes nothing.
TRUST_IN_FORECAST = 0.8
LINGER = 0.25  # in the load regime nothing leaves for so many cold starts, times the caution

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

    ``spot`` and ``on_demand`` are the two pools' shares to ask for now; together at most ``desired`` and one spot
    instance that is asked for as a probe (what spot failed to deliver is asked of on-demand one look later). ``drain``
    names instances. ``reason`` says why, with its numbers.
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
    state = watch_spot(look, state)
    if look.cold_start_s + policy.tick_s <= policy.patience_s:
        launch, keep, note = _by_deadline(look, state)
    else:
        launch, keep, note, state = _by_load(look, state)
    drain: list[Instance] = []
    present = look.present + look.coming
    if look.present > policy.cap:
        drain = leaving(look, state)[: look.present - policy.cap]
        desired = look.present - len(drain)
        excess = f"over cap: {look.present} instances + {look.draining} draining, cap {policy.cap}"
        reason = f"{excess}; {len(drain)} to drain"
    elif launch or present < look.floor:
        wanted = max(look.floor, present + launch)
        desired = max(look.present, min(wanted, look.limit))
        reason = _grown(look, present, wanted, desired)
    else:
        needed = max(keep, look.floor, _work(look)) + replacing(look, state)
        desired, drain, reason = _shrink(look, state, needed, note)
    if desired == present and not drain:
        asked, drain, state = replacements(look, state)
        desired += asked - len(drain)
        if asked or drain:
            reason = f"replace {present} -> {desired}: old template version or on-demand; {reason}"
    return _decision(look, state, desired, tuple(one.id for one in drain), reason)


def _by_deadline(look: Look, state: State) -> tuple[int, int, str]:
    """Instances to launch now so that every waiting job is started by its deadline, those to keep, and what waits."""
    policy, boot_s, caution = look.policy, look.cold_start_s, look.caution
    slots, pace = policy.slots, policy.slots / look.service_s
    eased = policy.patience_s + policy.margin_s * max(0.0, 1.0 - caution)
    tight = policy.patience_s - boot_s <= TIGHT * boot_s
    keep = math.floor(look.load_300 + (TIGHT_RESERVE * math.sqrt(look.load_300 / slots) if tight else 0.0))
    boots, ready = _boots_left(look), len(look.ready)
    free = slots * ready - look.busy
    need = later = jobs = 0.0
    slack = math.inf
    for born, number in state.arrivals:
        jobs += number
        left = eased - (look.at - born)
        by = left if left >= boot_s else boot_s + LOST_DEADLINE_S
        up, ready_s = 0, ready * by
        for boot in boots:
            if boot > by:
                break
            up += 1
            ready_s += by - boot
        short = jobs - free - slots * up - _discounted(pace * ready_s, caution)
        if short > 0:
            need = max(need, short / (slots + _discounted(pace * (by - boot_s), caution)))
            later = max(later, short / (slots + _discounted(pace * max(0.0, by - boot_s - policy.tick_s), caution)))
            slack = min(slack, left - boot_s - policy.tick_s)
    launch = math.ceil(need - 1e-9) if look.waiting else 0
    if not launch or tight or slack < 0 or math.ceil(later - 1e-9) > launch:
        return launch, keep, ""
    return 0, keep, f"{launch} more within {slack:.0f} s"


def _by_load(look: Look, state: State) -> tuple[int, int, str, State]:
    """Where a cold start outlasts the wait target: instances to launch now for what waits and what will arrive, those
    to keep for the load that was or is to come, and the state."""
    policy, boot_s, caution = look.policy, look.cold_start_s, min(look.caution, LOAD_CAUTION)
    slots, pace, share = policy.slots, policy.slots / look.service_s, min(1.0, 2 * caution)
    peaks, peak = highest(state.peaks, look.at, look.load_90, PEAK_S)
    load = share * peak + RESERVE * caution * math.sqrt(peak)
    ahead = forecast(state.week, look.at + boot_s + policy.tick_s)
    load = max(load, TRUST_IN_FORECAST * share * ahead + RESERVE * caution * math.sqrt(ahead))
    boots, ready, horizon = _boots_left(look), len(look.ready), boot_s + LOST_DEADLINE_S
    started = slots * (ready + len(boots)) - look.busy
    started += pace * (horizon * ready + sum([horizon - boot for boot in boots]))
    arriving = max(look.load_90, load) * pace * (horizon - policy.patience_s)
    present = look.present + look.coming
    launch = round(load) - present
    if look.waiting:
        short = look.waiting + arriving - started
        launch = max(launch, math.ceil(short / (slots + pace * LOST_DEADLINE_S) - 0.5), 0 if present else 1)
    keep = min(max(round(load), _work(look)), policy.cap)
    keeps, most = highest(state.keeps, look.at, float(keep), LINGER * boot_s * caution)
    return max(0, launch), int(most), "", state.with_(peaks=peaks, keeps=keeps)


def _boots_left(look: Look) -> list[float]:
    """Seconds until each instance under way serves, ascending; those asked for need a whole cold start."""
    boot_s, left = look.cold_start_s, []
    for one in look.booting:
        age = look.age(one)
        if age <= GIVEN_UP_BOOTS * boot_s:
            left.append(max(boot_s - age, min(OVERDUE_BOOT_S, boot_s)))
    left.sort()
    return left + [boot_s] * look.coming


def _discounted(jobs: float, caution: float) -> float:
    """Jobs that are started rather surely where ``jobs`` are expected: fewer by ``caution`` standard deviations."""
    return max(0.0, jobs - caution * math.sqrt(jobs)) if jobs > 0 else 0.0


def _work(look: Look) -> int:
    """Instances that hold what is being worked on, and the headroom (with one slot each: none, it would be a GPU)."""
    if not look.busy:
        return 0
    slots = look.policy.slots
    return math.ceil((look.busy + min(look.policy.headroom, slots - 1)) / slots)


def highest(
    history: tuple[tuple[float, float], ...], at: float, value: float, horizon_s: float
) -> tuple[tuple[tuple[float, float], ...], float]:
    """The running maximum of the last ``horizon_s`` seconds: what is to be remembered (at most twelve pairs of time
    and value, falling), and the maximum. A value that follows a higher one closely is passed over."""
    kept = [pair for pair in history if at - pair[0] <= horizon_s and pair[1] > value]
    if not kept or at - kept[-1][0] >= horizon_s / MAX_HISTORY:
        kept = [*kept, (at, value)][-MAX_HISTORY:]
    return tuple(kept), kept[0][1]


def _shrink(look: Look, state: State, keep: int, note: str) -> tuple[int, list[Instance], str]:
    """Nothing has to be launched now. Once nothing waits: cancels, then drains, what is beyond ``keep``."""
    present = look.present + look.coming
    held = max(look.present, min(present, look.limit))  # the cap may have been lowered
    slots = len(look.ready) * look.policy.slots
    numbers = f"{look.waiting} waiting, {look.busy} busy of {slots} slots"
    if not held and not look.waiting:
        return 0, [], f"at rest: 0 waiting, {look.draining} draining"
    if look.waiting or state.quiet_since is None or look.at - state.quiet_since < look.policy.tick_s or held <= keep:
        on_the_way = f", {held - len(look.ready)} on the way" if held > len(look.ready) else ""
        return held, [], f"steady {held}: {numbers}{on_the_way}{', ' if note else ''}{note}"
    if held > look.present:
        desired = max(look.present, keep)
        return desired, [], f"cancel {present} -> {desired}: {numbers}, keep {keep}"
    aged = [one for one in leaving(look, state) if look.age(one) >= MINIMUM_AGE_S]
    drain = aged[: max(0, len(look.ready) - keep)]  # what boots serves nothing yet: it replaces nobody
    if not drain:
        return held, [], f"steady {held}: {numbers}"
    return held - len(drain), drain, f"scale-in {held} -> {held - len(drain)}: {numbers}, keep {keep}"


def _grown(look: Look, present: int, wanted: int, desired: int) -> str:
    """Why more instances are wanted, in words with numbers."""
    policy, why = look.policy, f"floor {look.floor}, 0 waiting"
    if look.waiting:
        each = f"{look.service_s:.1f} s each, {policy.slots} slots"
        why = f"{look.waiting} waiting, {each}, target {policy.wait_target_s:g} s"
    elif wanted > look.floor:
        why = f"load {look.load_90:.1f} instances, 0 waiting"
    if desired > present:
        cut = "" if wanted == desired else f" (needs {wanted}, cap {policy.cap}, {look.draining} draining)"
        return f"scale-out {present} -> {desired}: {why}{cut}"
    return f"at cap {policy.cap}: {why}; needs {wanted}, {look.draining} draining"


def _decision(look: Look, state: State, desired: int, drain: tuple[str, ...], reason: str) -> tuple[Decision, State]:
    """The decision with the pools' shares in it."""
    spot, on_demand, note, state = shares(look, state, desired, drain)
    decision = Decision(
        desired=desired,
        spot=spot,
        on_demand=on_demand,
        drain=drain,
        reason=f"{note}; {reason}" if note else reason,
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
