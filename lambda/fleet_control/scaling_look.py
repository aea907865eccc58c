"""What the scaling law makes of an observation: sane numbers, learned times and rates, ages of waiting jobs. Pure."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

from .scaling_state import MAX_BINS, MAX_BOOTING, MAX_BOOTS, TIME_LIMIT, State
from .scaling_types import Instance, Observation, Policy, Pool, floor_at
from .scaling_week import add

SPOT, ON_DEMAND = "spot", "on-demand"
BOOTING, READY, DRAINING = "booting", "ready", "draining"

PRIOR_JOBS = 20  # weight of the configured service time, in jobs (measured: enough to damp the first, odd ones)
MEMORY_JOBS = 2000  # learned service time forgets beyond so many jobs
SERVICE_RANGE = 50  # learned service time stays within this factor of the configured one, whatever the counters say
MOST_LATE = 0.005  # jobs that may be late: half of the one in a hundred that the promise leaves
CAUTION_JOBS = 300  # weight of the prior of the late share, in jobs
CAUTION_RANGE = (0.05, 4.0)
CAUTION_MEMORY_S = 4 * 86_400.0  # the late share forgets with this time constant
SHORT_S, LONG_S = 90.0, 300.0  # time constants of the two arrival rates
NOISE_MEMORY_S = 600.0  # how long a contradiction of the counters is remembered (time constant)
MOST_NOISE = 0.25  # and how large a one is believed, as a share of the messages
GAP_S = 60.0  # jobs first seen after a longer gap between looks are taken as no older than its half
UNTOLD_S = 60.0  # a completion is told so long after its message is gone at most (time constant)
MOST_BOOT_S = 7200.0  # a longer boot is none: the launch hook's limit
COUNT_LIMIT = 10**9  # no counter is believed above this


@dataclass(slots=True)
class Look:
    """An observation with every number made sane, and what follows from it.

    ``present``: instances that are there and do not drain. ``used``: busy slots by instance id. ``owed``: instances
    asked for and not there, by pool; ``waiting``: backlog. ``load_90`` and ``load_300``: arrivals times service time
    over slots, in instances. ``caution``: 1 when half a percent of the jobs is late, less when fewer are, more when
    more are.
    """

    at: float
    dt: float
    waiting: int
    ready: list[Instance]
    booting: list[Instance]
    present: int
    draining: int
    used: dict[str, int]
    busy: int
    pools: dict[str, Pool]
    live: dict[str, int]
    owed: dict[str, int]
    floor: int
    service_s: float
    cold_start_s: float
    caution: float
    load_90: float
    load_300: float
    policy: Policy

    @property
    def coming(self) -> int:
        """Instances asked for and not there."""
        return sum(self.owed.values())

    @property
    def limit(self) -> int:
        """Instances that may exist beside the draining ones."""
        return max(0, self.policy.cap - self.draining)

    def age(self, one: Instance) -> float:
        """Seconds since its launch; endless if that moment makes no sense, so that nothing is waited for in vain."""
        seconds = self.at - finite(one.launched_at, -math.inf)
        return max(0.0, seconds) if seconds > -GAP_S else math.inf

    def is_old(self, one: Instance) -> bool:
        """Whether it was launched from another template version than its pool launches now."""
        pool = self.pools.get(one.pool)
        return bool(pool and pool.template and one.template and one.template != pool.template)


def take_look(observation: Observation, state: State, policy: Policy) -> tuple[Look, State]:
    """Reads one observation against what is remembered; the look and the state after it. Never raises."""
    at = round(min(max(finite(observation.at, state.looked_at or 0.0), 0.0), TIME_LIMIT), 3)
    if state.looked_at is not None and state.looked_at > at:
        state = state.sane(at)
    dt = policy.tick_s if state.looked_at is None else at - state.looked_at
    look = _fleet(observation, policy, at, dt)
    return look, _learn(look, observation, state)


def finite(value: float | None, default: float = 0.0) -> float:
    """The value as a finite float, ``default`` for anything that is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return default
    return number if math.isfinite(number) else default


def count(value: float | None) -> int:
    """The value as a whole number from 0 to a billion."""
    if type(value) is int and 0 <= value <= COUNT_LIMIT:
        return value
    return int(min(max(finite(value), 0.0), COUNT_LIMIT))


def _fleet(observation: Observation, policy: Policy, at: float, dt: float) -> Look:
    """The instances by what they are good for. One that does not report has its share of the messages in flight."""
    ready: list[Instance] = []
    booting: list[Instance] = []
    used: dict[str, int] = {}
    silent, slots = [], policy.slots
    unique = {one.id: one for one in observation.instances}
    for one in unique.values():
        if one.state == READY:
            ready.append(one)
            if one.busy is None:
                silent.append(one.id)
            else:
                used[one.id] = min(slots, count(one.busy))
        elif one.state != DRAINING:
            booting.append(one)
    for name in silent:
        used[name] = min(slots, math.ceil(count(observation.in_flight) / len(silent)))
    pools = {pool.name: pool for pool in observation.pools if pool.name in (SPOT, ON_DEMAND)}
    live = dict.fromkeys(pools or (SPOT,), 0)
    for one in (*ready, *booting):
        if one.pool in live:
            live[one.pool] += 1
    pools = pools or {SPOT: Pool(SPOT, desired=live[SPOT])}
    return Look(
        at=at,
        dt=dt,
        waiting=count(observation.visible) + count(observation.delayed),
        ready=ready,
        booting=booting,
        present=len(ready) + len(booting),
        draining=len(unique) - len(ready) - len(booting),
        used=used,
        busy=sum(used.values()),
        pools=pools,
        live=live,
        owed={name: min(max(0, count(pool.desired) - live[name]), policy.cap) for name, pool in pools.items()},
        floor=min(max(floor_at(policy, at), floor_at(policy, at + policy.cold_start_s)), policy.cap),
        service_s=policy.service_s,
        cold_start_s=policy.cold_start_s,
        caution=1.0,
        load_90=0.0,
        load_300=0.0,
        policy=policy,
    )


def _learn(look: Look, observation: Observation, state: State) -> State:
    """Reads the counters into the look's learned numbers; the state with everything learned."""
    policy, at, dt, waiting = look.policy, look.at, look.dt, look.waiting
    first = state.looked_at is None
    instances = len(look.ready) + len(look.booting) + look.draining
    in_flight = min(count(observation.in_flight), policy.slots * max(policy.cap, instances))
    completed, worked_s = float(count(observation.completed)), float(count(observation.worked_s))
    done = max(0.0, completed - state.completed)
    jobs, job_s = _service(look, state, done, worked_s, in_flight)
    going, begun = _going(state, dt, completed, in_flight)
    quiet_since = None if waiting else (at if state.quiet_since is None else state.quiet_since)
    boots, booting = _boots(look, state)
    seen = boots if len(boots) >= 3 else (*boots, *map(finite, observation.cold_starts))
    look.cold_start_s = _cold_start(seen, policy.cold_start_s, policy.patience_s - policy.tick_s)
    arrivals, arrived, noise, late, gone = _ages(look, state, begun, in_flight)
    fade = math.exp(-dt / CAUTION_MEMORY_S)
    started, late = state.started * fade + begun + gone, state.late * fade + late
    share = (late + CAUTION_JOBS * MOST_LATE) / (started + CAUTION_JOBS)
    look.caution = min(max(share / MOST_LATE, CAUTION_RANGE[0]), CAUTION_RANGE[1])
    rate_90, rate_300 = state.rate_90, state.rate_300
    if not first and dt > 0:
        pace = arrived / dt
        rate_90 += (pace - rate_90) * (1 - math.exp(-dt / SHORT_S))
        rate_300 += (pace - rate_300) * (1 - math.exp(-dt / LONG_S))
    work = look.service_s / policy.slots
    most = 2 * policy.cap / work  # a counter that lied once must not keep the fleet large for long
    rate_90, rate_300 = min(rate_90, most), min(rate_300, most)
    look.load_90, look.load_300 = rate_90 * work, rate_300 * work
    moved = first or not waiting or not look.ready or done > 0 or waiting + in_flight < state.outstanding
    return state.with_(
        looked_at=at,
        completed=completed,
        worked_s=worked_s,
        outstanding=float(waiting + in_flight),
        going=min(going + gone, TIME_LIMIT),
        noise=noise,
        jobs=jobs,
        job_s=job_s,
        boots=boots,
        booting=booting,
        arrivals=arrivals,
        started=min(started, TIME_LIMIT),
        late=min(late, TIME_LIMIT),
        rate_90=rate_90,
        rate_300=rate_300,
        quiet_since=quiet_since,
        progress_at=at if moved or state.progress_at is None else state.progress_at,
        week=add(state.week, at, dt, arrived * work / dt if dt > 0 and not first else 0.0),
    )


def _going(state: State, dt: float, completed: float, in_flight: int) -> tuple[float, float]:
    """Jobs ever started, and how many of them since the last look.

    A completion may be told later than its message vanished from the queue: what was started is not started again when
    it is told. But no more can be untold than there was, and not for long, or one reading too high would hide every
    start after it. The count of completed jobs falls when rows of departed workers expire; that is no job.
    """
    told = completed + in_flight
    if state.looked_at is None:
        return told, 0.0
    before = state.going - max(0.0, state.completed - completed)
    untold = min(max(0.0, before - told), state.outstanding) * math.exp(-dt / UNTOLD_S)
    return told + untold, max(0.0, told - before)


def _service(look: Look, state: State, done: float, worked_s: float, in_flight: int) -> tuple[float, float]:
    """Jobs done and the seconds they took, as far as they are remembered; sets the look's service time."""
    policy, tells = look.policy, worked_s > 0 or state.worked_s > 0
    least, most = policy.service_s / SERVICE_RANGE, policy.service_s * SERVICE_RANGE
    jobs, job_s, worked = state.jobs, state.job_s, worked_s - state.worked_s
    if tells:  # no more than jobs can take, no more jobs than that: one lie must not be believed for thousands of jobs
        worked, done = min(worked, done * most), min(done, max(0.0, worked) / least)
        if state.worked_s == 0 and state.looked_at is not None:
            jobs = job_s = 0.0  # what was concluded before they told anything
    elif state.looked_at is None or look.dt > GAP_S:
        worked = done = 0.0
    else:  # jobs in flight are being worked on
        slot_s = policy.slots * max(1, len(look.ready)) * look.dt
        worked, done = min(in_flight * look.dt, slot_s), min(done, slot_s / least)
    if worked >= 0 and (done > 0 or not tells):
        jobs, job_s = jobs + done, min(job_s + worked, TIME_LIMIT)
        if jobs > MEMORY_JOBS:
            jobs, job_s = float(MEMORY_JOBS), job_s * MEMORY_JOBS / jobs
    learned = (PRIOR_JOBS * policy.service_s + job_s) / (PRIOR_JOBS + jobs)
    if not tells and jobs < PRIOR_JOBS:  # until then, jobs that have just begun would look like slow ones
        learned = policy.service_s
    look.service_s = min(max(learned, least), most)
    return jobs, job_s


def _boots(look: Look, state: State) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The latest cold starts, and the instances whose boot is being timed."""
    if not look.booting and not state.booting:
        return state.boots, ()
    boots, before = state.boots, set(state.booting)
    if before and look.dt <= GAP_S:
        over = [one for one in look.ready if key(one) in before]
        # It became ready at some moment since the last look: half a look ago, as far as anybody knows.
        took = [look.at - look.dt / 2 - finite(one.launched_at, look.at) for one in over]
        boots = (*boots, *(round(boot, 1) for boot in took if 0 < boot < MOST_BOOT_S))[-MAX_BOOTS:]
    return boots, tuple(key(one) for one in look.booting[:MAX_BOOTING])


@lru_cache(maxsize=8)  # boots are rarer than looks
def _cold_start(seen: tuple[float, ...], configured_s: float, hidden_s: float) -> float:
    """The configured value until three boots were seen; then their 0.9 quantile, or their median if only that still
    lets a cold start hide inside the wait target, which one of ``hidden_s`` does (a high quantile alone would make
    every launch look hopeless)."""
    if len(seen) < 3:
        return max(1.0, configured_s)
    boots = sorted([boot for boot in seen if 0 < boot < MOST_BOOT_S] or [configured_s])
    high, median = boots[math.ceil(0.9 * len(boots)) - 1], boots[(len(boots) - 1) // 2]
    return median if high > hidden_s >= median else high


def _ages(
    look: Look, state: State, begun: float, in_flight: int
) -> tuple[tuple[tuple[float, float], ...], float, float, float, float]:
    """Groups (arrived at, jobs) of the jobs that wait, oldest first; how many arrived since the last look; how far the
    counters contradict themselves; how many jobs became late; how many were started without being told.

    What was started leaves the oldest groups; what is then missing has arrived. Fewer jobs than should be there is what
    true counters never say: how much so is remembered as their noise, and a shortfall within it changes nothing, or
    every dip and its return would look like young arrivals in place of old ones. A job is late when it still waits one
    tick after its target (one that starts just in time between two looks must not count).
    """
    waiting = look.waiting
    noise = min(state.noise, MOST_NOISE) * math.exp(-look.dt / NOISE_MEMORY_S)
    bins, unseen = _without(state.arrivals, begun)
    if not waiting:  # the first reading of zero may be the queue's lag: ages are kept until it is confirmed
        if state.quiet_since is None:
            return tuple(bins), unseen, noise, 0.0, 0.0
        return (), unseen, noise, 0.0, sum([jobs for _, jobs in bins])
    gone, missing = 0.0, waiting - sum([jobs for _, jobs in bins])
    arrived = unseen + max(0.0, missing)
    if missing > 0:
        bins.append((look.at - (min(look.dt, GAP_S) / 2 if state.looked_at is not None else 0.0), missing))
    elif missing < 0:
        size = waiting + in_flight
        tolerated = noise * size
        gone = max(0.0, -missing - tolerated)
        bins, _ = _without(tuple(bins), gone)
        noise = max(noise, min(-missing / size, MOST_NOISE))
    late, limit = 0.0, look.at - look.policy.wait_target_s - look.policy.tick_s
    for born, jobs in bins:
        if born > limit:
            break
        if born > limit - look.dt:
            late += jobs
    if len(bins) > MAX_BINS:
        bins = _coarser(bins)
    return tuple(bins), arrived, noise, late, gone


def _without(groups: tuple[tuple[float, float], ...], jobs: float) -> tuple[list[tuple[float, float]], float]:
    """The groups without their ``jobs`` oldest jobs, and how many of those they did not hold."""
    for first, (born, here) in enumerate(groups):
        if here > jobs:
            return [(born, here - jobs), *groups[first + 1 :]], 0.0
        jobs -= here
    return [], jobs


def _coarser(bins: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every two neighbours of the older half as one group with the older one's age: its deadline is the nearer one."""
    half = len(bins) // 2 // 2 * 2
    merged = [(bins[n][0], bins[n][1] + bins[n + 1][1]) for n in range(0, half, 2)]
    return merged + bins[half:]


def key(one: Instance) -> str:
    """Eight characters that stand for an instance in the state."""
    return f"{zlib.crc32(one.id.encode('utf-8', 'surrogatepass')):08x}"
