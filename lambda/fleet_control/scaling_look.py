"""What the scaling law makes of an observation: sane numbers, learned times, ages of the jobs that wait. Pure."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

from .scaling_types import Instance, Observation, Policy, Pool, State, floor_at

SPOT, ON_DEMAND = "spot", "on-demand"
BOOTING, READY, DRAINING = "booting", "ready", "draining"

PRIOR_JOBS = 20  # weight of the configured service time, in jobs (measured: enough to damp the first, odd ones)
MEMORY_JOBS = 2000  # learned service time forgets beyond so many jobs
SERVICE_RANGE = 50  # learned service time stays within this factor of the configured one, whatever the counters say
SPOT_RETRY_S = 900  # a failed spot pool is tried again after this long even under load
MAX_BINS = 24  # groups of waiting jobs by arrival kept in the state; older ones are merged
MAX_IDLE = 100  # instances whose idle time is kept in the state (22 characters each)
COUNT_LIMIT = 10**9  # no counter is believed above this
TIME_LIMIT = 10.0**11  # nor any time, in unix seconds (the year 5138)


@dataclass(frozen=True)
class Look:
    """An observation with every number made sane, and what follows from it."""

    at: float
    waiting: int
    in_flight: int
    ready: tuple[Instance, ...]
    booting: tuple[Instance, ...]
    draining: int
    pools: dict[str, Pool]
    owed: dict[str, int]
    floor: int
    service_s: float
    cold_start_s: float
    policy: Policy

    @property
    def live(self) -> int:
        return len(self.ready) + len(self.booting)

    @property
    def limit(self) -> int:
        """Instances that may exist beside the draining ones."""
        return max(0, self.policy.cap - self.draining)

    @property
    def total_owed(self) -> int:
        return sum(self.owed.values())

    def count(self, pool: str) -> int:
        return sum(1 for one in (*self.ready, *self.booting) if one.pool == pool)

    def busy_slots(self, one: Instance) -> int:
        """Busy slots of an instance; of one that does not report, its share of the messages in flight."""
        if one.busy is not None:
            return min(self.policy.slots, count(one.busy))
        silent = sum(1 for other in self.ready if other.busy is None)
        return min(self.policy.slots, math.ceil(self.in_flight / silent))

    @property
    def busy(self) -> int:
        return sum(self.busy_slots(one) for one in self.ready)

    def is_old(self, one: Instance) -> bool:
        current = self.pools[one.pool].template if one.pool in self.pools else None
        return bool(current and one.template and one.template != current)


def take_look(observation: Observation, state: State, policy: Policy) -> tuple[Look, State]:
    """Reads one observation against what is remembered; the look and the state after it. Never raises."""
    observation = replace(observation, at=min(max(finite(observation.at), 0.0), TIME_LIMIT))
    look, state = _learn(observation, state.sane(observation.at), policy)
    return look, _remember(look, state)


def finite(value: float | None, default: float = 0.0) -> float:
    """The value as a finite float, ``default`` for anything that is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return default
    return number if math.isfinite(number) else default


def count(value: float | None) -> int:
    """The value as a whole number from 0 to a billion."""
    return int(min(max(finite(value), 0.0), COUNT_LIMIT))


def _learn(observation: Observation, state: State, policy: Policy) -> tuple[Look, State]:
    """Reads the counters: service time, cold start, arrivals of the jobs that wait, progress."""
    at = observation.at
    waiting = count(observation.visible) + count(observation.delayed)
    in_flight = count(observation.in_flight)
    completed, worked_s = float(count(observation.completed)), float(count(observation.worked_s))
    done, worked = completed - state.completed, worked_s - state.worked_s
    jobs, job_s = state.jobs, state.job_s
    if done > 0 and worked >= 0:
        fade = min(1.0, MEMORY_JOBS / (jobs + done))
        jobs, job_s = (jobs + done) * fade, min((job_s + worked) * fade, TIME_LIMIT)
    learned = (PRIOR_JOBS * policy.service_s + job_s) / (PRIOR_JOBS + jobs)
    service_s = min(max(learned, policy.service_s / SERVICE_RANGE), policy.service_s * SERVICE_RANGE)
    first = state.looked_at is None
    arrived = waiting if first else max(0.0, waiting + in_flight - state.outstanding + max(0.0, done))
    quiet_since = None if waiting else (at if state.quiet_since is None else state.quiet_since)
    outstanding = float(waiting + in_flight)
    if not waiting and state.quiet_since is None:  # not believed yet: what was there, less what was completed
        outstanding = max(outstanding, state.outstanding - max(0.0, done))
    look = _look(observation, policy, service_s, waiting, in_flight)
    moved = first or not waiting or not look.ready or done > 0 or waiting + in_flight < state.outstanding
    return look, replace(
        state,
        looked_at=at,
        completed=completed,
        worked_s=worked_s,
        jobs=jobs,
        job_s=job_s,
        outstanding=outstanding,
        arrivals=_arrivals(state, at, waiting, arrived),
        quiet_since=quiet_since,
        progress_at=at if moved or state.progress_at is None else state.progress_at,
    )


def _look(observation: Observation, policy: Policy, service_s: float, waiting: int, flying: int) -> Look:
    at = observation.at
    unique = {one.id: one for one in observation.instances}
    listed = tuple(replace(one, launched_at=min(finite(one.launched_at, at), at)) for one in unique.values())
    live = [one for one in listed if one.state != DRAINING]
    pools = {pool.name: pool for pool in observation.pools}
    pools = pools or {SPOT: Pool(SPOT, desired=sum(1 for one in live if one.pool == SPOT))}
    counts = {name: sum(1 for one in live if one.pool == name) for name in pools}
    return Look(
        at=at,
        waiting=waiting,
        in_flight=flying,
        ready=tuple(one for one in live if one.state == READY),
        booting=tuple(one for one in live if one.state != READY),
        draining=len(listed) - len(live),
        pools=pools,
        owed={name: max(0, count(pool.desired) - counts[name]) for name, pool in pools.items()},
        floor=min(floor_at(policy, at), policy.cap),
        service_s=service_s,
        cold_start_s=_cold_start(observation.cold_starts, policy),
        policy=policy,
    )


def _cold_start(seen: tuple[float, ...], policy: Policy) -> float:
    """The configured value until three boots were seen; then their 0.9 quantile, or their median if only that still
    lets a cold start hide inside the wait target (a high quantile alone would make every launch look hopeless)."""
    boots = sorted(boot for boot in map(finite, seen) if 0 < boot < 7200)
    if len(boots) < 3:
        return max(1.0, policy.cold_start_s)
    high, median = boots[math.ceil(0.9 * len(boots)) - 1], boots[(len(boots) - 1) // 2]
    return median if high + policy.tick_s > policy.patience_s >= median + policy.tick_s else high


def _arrivals(state: State, at: float, waiting: int, arrived: float) -> tuple[tuple[float, float], ...]:
    """Groups (arrived at, jobs) of the jobs that wait, oldest first. The waiting jobs are the latest arrivals."""
    if not waiting:  # the first reading of zero may be the queue's lag: ages are kept until it is confirmed
        return state.arrivals if state.quiet_since is None else ()
    bins = [*state.arrivals, (at, arrived)] if arrived else list(state.arrivals)
    surplus = sum(jobs for _, jobs in bins) - waiting
    if surplus < 0:
        bins.append((at, -surplus))
    while surplus > 0 and bins:
        born, jobs = bins.pop(0)
        if jobs > surplus:
            bins.insert(0, (born, jobs - surplus))
        surplus -= jobs
    while len(bins) > MAX_BINS:
        bins[:2] = [(bins[0][0], bins[0][1] + bins[1][1])]
    return tuple(bins)


def _remember(look: Look, state: State) -> State:
    """Since when each instance is idle, and whether spot delivers."""
    before = dict(state.idle)
    idle = [(key(one), before.get(key(one), look.at)) for one in look.ready if look.busy_slots(one) == 0]
    idle = sorted(idle, key=lambda entry: (entry[1], entry[0]))[:MAX_IDLE]
    delivered, owed = look.count(SPOT), look.owed.get(SPOT, 0)
    short_since = state.short_since if owed else None
    if owed and (short_since is None or delivered > state.spot_live):
        short_since = look.at
    failed_at = state.spot_failed_at
    at_rest = not look.waiting and not look.live and not look.total_owed
    if at_rest or (failed_at is not None and look.at - failed_at > SPOT_RETRY_S):
        failed_at = None
    if short_since is not None and ON_DEMAND in look.pools:
        refused_at = look.pools[SPOT].failed_at
        refused = refused_at is not None and finite(refused_at) >= short_since
        if refused or look.at - short_since > look.cold_start_s:
            failed_at = look.at
    return replace(state, idle=tuple(idle), spot_live=delivered, short_since=short_since, spot_failed_at=failed_at)


def key(one: Instance) -> str:
    """Eight characters that stand for an instance in the state."""
    return f"{zlib.crc32(one.id.encode('utf-8', 'surrogatepass')):08x}"
