"""The scaling law with something in front of it: looks told one by one, and a small fleet that moves by itself."""

from __future__ import annotations

import json
import math
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fleet_control.scaling_law import (
    BOOTING,
    DRAINING,
    ON_DEMAND,
    READY,
    SPOT,
    Decision,
    Instance,
    Observation,
    Policy,
    Pool,
    State,
    decide,
)

T0 = 1_780_000_000.0
TICK_S = 10


def sealed(data: dict[str, Any]) -> str:
    """The data as the text that the law would have stored: with the checksum of its compact form."""
    body = json.dumps(data, separators=(",", ":"))
    return f'{body[:-1]},"check":"{zlib.crc32(body.encode()):08x}"}}'


def unsealed(text: str) -> dict[str, Any]:
    """What a stored text says, without its checksum."""
    return {name: value for name, value in json.loads(text).items() if name != "check"}


class Told:
    """A fleet told look by look, whatever it does; keeps the law's state."""

    def __init__(
        self, policy: Policy, pools: tuple[Pool, ...] = (Pool(SPOT, 0, "1"),), state: State | None = None
    ) -> None:
        self.policy, self.pools, self.state = policy, pools, state or State()
        self.instances: tuple[Instance, ...] = ()

    def look(self, at: float, waiting: float = 0, in_flight: float = 0, completed: float = 0, **more: Any) -> Decision:
        """The decision at second ``at``, with so many messages waiting and in flight."""
        seen = Observation(T0 + at, waiting, 0, in_flight, completed, self.instances, self.pools, **more)
        decision, self.state = decide(seen, self.state, self.policy)
        return decision

    def set(self, *instances: Instance, **desired: int) -> None:
        """What there is now, and by pool what is asked for."""
        self.instances = instances
        self.pools = tuple(replace(p, desired=desired.get(p.name.replace("-", "_"), p.desired)) for p in self.pools)


def ready(name: str, busy: int | None = 0, pool: str = SPOT, template: str = "1", launched: float = -1000) -> Instance:
    """An instance that serves, launched at that second."""
    return Instance(name, pool, READY, T0 + launched, busy, template)


def booting(name: str, launched: float, pool: str = SPOT, template: str = "1") -> Instance:
    """An instance that cannot serve yet."""
    return Instance(name, pool, BOOTING, T0 + launched, None, template)


@dataclass
class Fleet:
    """A fleet of both pools, looked at every ten seconds, that does what the law decides as far as its cloud delivers.

    ``spot``: instances that spot has, of which it takes none back. ``boot_s``: from launch to ready. ``job_s``: every
    job's. ``tells``: a launch that failed is told. ``gate``: launches are let through. ``template``: what both pools
    launch now. ``spread``: jobs go to the emptiest instance. Seconds count from T0.
    """

    policy: Policy
    spot: float = math.inf
    boot_s: float = 240.0
    job_s: float = 20.0
    tells: bool = True
    gate: bool = True
    template: str = "1"
    names: tuple[str, ...] = (SPOT, ON_DEMAND)
    spread: bool = False
    state: State = field(default_factory=State)
    now: float = 0.0
    instances: dict[str, Instance] = field(default_factory=dict)
    desired: dict[str, int] = field(default_factory=dict)
    failed_at: dict[str, float] = field(default_factory=dict)
    work: dict[str, list[float]] = field(default_factory=dict)  # when the jobs that an instance holds end
    queue: deque[float] = field(default_factory=deque)  # when the waiting jobs arrived
    arriving: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    completed: int = 0
    launches: list[tuple[float, str]] = field(default_factory=list)  # time, pool
    drains: list[tuple[float, str]] = field(default_factory=list)  # time, instance
    log: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desired = {name: self.desired.get(name, 0) for name in self.names}

    def add(self, pool: str, number: int = 1, *, template: str | None = None, jobs: int = 0) -> None:
        """Instances that are ready, each with so many jobs that have just begun."""
        for _ in range(number):
            name = self._launch(pool, template or self.template, -3600.0)
            self.instances[name] = replace(self.instances[name], state=READY)
            self.work[name] = [self.now + self.job_s] * jobs
            self.desired[pool] += 1

    def arrive(self, jobs: int, after_s: int = 3) -> None:
        """Jobs that arrive so many seconds after the look that comes next; with 0 it sees them wait."""
        if after_s:
            self.arriving += [self.now + after_s] * jobs
        else:
            self.queue.extend([self.now] * jobs)

    def live(self, pool: str | None = None, state: str | None = None) -> list[Instance]:
        """Instances that do not drain, of a pool, in a state."""
        return [
            one
            for one in self.instances.values()
            if one.state != DRAINING and pool in (None, one.pool) and state in (None, one.state)
        ]

    def run(self, seconds: float, each: Callable[[Fleet], None] | None = None) -> None:
        """Looks every ten seconds for so long; ``each`` is called before a look."""
        for _ in range(int(seconds // TICK_S)):
            if each is not None:
                each(self)
            self.step()

    def until(
        self, true: Callable[[Fleet], bool], within_s: float, each: Callable[[Fleet], None] | None = None
    ) -> float:
        """Looks until something is true; the seconds it took. Fails if it takes longer than ``within_s``."""
        began = self.now
        while not true(self):
            assert self.now - began < within_s, f"not within {within_s:g} s: {self.log[-1] if self.log else 'no look'}"
            self.run(TICK_S, each)
        return self.now - began

    def step(self) -> Decision:
        """One look and what follows until the next one."""
        before = self.state
        seen = self._observe()
        decision, self.state = decide(seen, before, self.policy)
        stored = self.state.to_json()
        assert unsealed(State.from_json(stored).to_json()) == unsealed(stored), "what is stored is what is known"
        self.log.append(decision)
        self._obey(decision)
        for second in range(TICK_S):
            self._pass(self.now + second)
        self.now += TICK_S
        existing = len(self.instances)
        assert existing <= max(self.policy.cap, self._most), f"{existing} instances, cap {self.policy.cap}"
        self._most = existing
        return decision

    _most: int = 10**9

    def lower_cap(self, cap: int) -> None:
        self.policy = replace(self.policy, cap=cap)

    def reversals(self) -> int:
        """Launches within a cold start after a drain; more than one a cold start is oscillation."""
        turned = [at for at, _ in self.launches if any(0 <= at - when <= self.boot_s for when, _ in self.drains)]
        return len({int(at // self.boot_s) for at in turned})

    def _observe(self) -> Observation:
        return Observation(
            at=T0 + self.now,
            visible=len(self.queue),
            delayed=0,
            in_flight=sum(map(len, self.work.values())),
            completed=self.completed,
            worked_s=self.completed * self.job_s,
            instances=tuple(
                replace(
                    one, busy=len(self.work[name]) if one.state == READY else None, launched_at=T0 + one.launched_at
                )
                for name, one in self.instances.items()
            ),
            pools=tuple(Pool(name, self.desired[name], self.template, self.failed_at.get(name)) for name in self.names),
        )

    def _obey(self, decision: Decision) -> None:
        """What the controller does: raises desired (through the gate), lowers it no further than what is present, then
        drains by name."""
        for name in self.names:
            share = {SPOT: decision.spot, ON_DEMAND: decision.on_demand}[name]
            mine = [one.id for one in self.live(name) if one.id in decision.drain]
            target, present = share + len(mine), len(self.live(name))
            if target > max(self.desired[name], present):
                self.desired[name] = target if self.gate else self.desired[name]
            elif target < self.desired[name]:
                self.desired[name] = max(target, present)
            for one in mine:
                self.drains.append((self.now, one))
                self.instances[one] = replace(self.instances[one], state=DRAINING)
                self.desired[name] -= 1

    def _launch(self, pool: str, template: str, at: float) -> str:
        name = f"{pool}-{len(self.work)}"
        self.instances[name] = Instance(name, pool, BOOTING, at, None, template)
        self.work[name] = []
        return name

    def _pass(self, now: float) -> None:
        self.queue.extend(one for one in self.arriving if one <= now)
        self.arriving = [one for one in self.arriving if one > now]
        for pool in self.names:
            for _ in range(self.desired[pool] - len(self.live(pool))):
                in_pool = sum(1 for one in self.instances.values() if one.pool == pool)
                if pool == SPOT and in_pool >= self.spot:
                    if self.tells:
                        self.failed_at[pool] = T0 + now
                    break
                self._launch(pool, self.template, now)
                self.launches.append((now, pool))
        for name, one in list(self.instances.items()):
            done = [end for end in self.work[name] if end <= now]
            self.completed += len(done)
            self.work[name] = [end for end in self.work[name] if end > now]
            if one.state == BOOTING and now - one.launched_at >= self.boot_s:
                self.instances[name] = replace(one, state=READY)
            elif one.state == DRAINING and not self.work[name]:
                del self.instances[name]
        ready = self.live(state=READY)
        while self.queue and ready:
            key = (lambda one: len(self.work[one.id])) if self.spread else (lambda one: -len(self.work[one.id]))
            free = [one for one in ready if len(self.work[one.id]) < self.policy.slots]
            if not free:
                break
            self.work[min(free, key=key).id].append(now + self.job_s)
            self.waits.append(now - self.queue.popleft())
