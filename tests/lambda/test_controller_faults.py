"""Whatever fails, whenever: never above the cap, nothing launched twice, no flapping, and the next run sets it right.

A small fleet lives here: instances boot, serve the queue, report, drain and go. Faults are put at every single call of
a run, one after the other, or on many calls at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from aws_world import CONTROL, ON_DEMAND_GROUP, SPOT_GROUP, FakeInstance, World
from fleet_control.aws import runtime
from fleet_functions import Functions
from tables import Tables

BOOT_S, DRAIN_S, SERVICE_S, SLOTS = 240.0, 30.0, 20.0, 8
RUN_LEFT_S = 74  # time that lets a run look for a minute, until the next one


class Cut(BaseException):
    """The run is over at once: a timeout, a lost machine. Nothing catches it."""


class Life:
    """A fleet that does what it is told. `peak`: the most that was there or asked for at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cap: int = 4) -> None:
        self.world = World(Tables())
        for name in ("now", "sleep", "client", "log"):
            monkeypatch.setattr(runtime, name, getattr(self.world, name))
        self.functions = Functions(self.world)
        monkeypatch.setattr(runtime, "environ", self.functions.environ)
        self.functions.controller_config["policy"]["cap"] = cap
        for group in self.world.groups.values():
            group.max = cap
        self.backlog, self.flying = 0.0, 0.0
        self.done: dict[str, float] = {}
        self.leaving: dict[str, float] = {}
        self.arrivals: Callable[[float], float] = lambda at: 0.0  # jobs a second
        self.freezes: Callable[[float], bool] = lambda at: False  # the queue's counters
        self.mute: Callable[[FakeInstance], bool] = lambda one: False
        self.began = self.world.at
        self.judged: tuple[str, ...] = (SPOT_GROUP, ON_DEMAND_GROUP)
        self.peak = 0
        self.wanted: list[tuple[float, int]] = []
        self.start = (0, dict.fromkeys(self.world.groups, 0))
        self.world.on_sleep = self.live
        self.live()

    @property
    def at(self) -> float:
        return self.world.at - self.began

    def live(self) -> None:
        """Ten seconds of the fleet's life."""
        world = self.world
        self.check()
        self.backlog += 10 * self.arrivals(self.at)
        serving = []
        for one in world.instances.values():
            if one.ec2 == "running" and one.state == "Pending:Wait" and world.at - one.launched >= BOOT_S:
                one.state = "InService"
            if one.state == "Terminating:Wait" and one.ec2 == "running":
                since = self.leaving.setdefault(one.id, world.at)
                if world.at - since >= DRAIN_S:
                    one.ec2 = "terminated"
            if one.ec2 == "running" and one.state == "InService":
                serving.append(one)
        self.flying = min(self.backlog, SLOTS * len(serving))
        for index, one in enumerate(serving):
            busy = min(SLOTS, max(0, round(self.flying) - index * SLOTS))
            self.done[one.id] = self.done.get(one.id, 0.0) + busy * 10 / SERVICE_S
            self.backlog = max(0.0, self.backlog - busy * 10 / SERVICE_S)
            if not self.mute(one):
                done = round(self.done[one.id])
                world.beat(one, busy=busy, completed=done, worked_s=done * SERVICE_S, cold_start_s=BOOT_S)
        if not self.freezes(self.at):
            world.queue = {"": round(max(0.0, self.backlog - self.flying)), "Delayed": 0}
            world.queue["NotVisible"] = round(min(self.flying, self.backlog))
        world.admit()

    def check(self) -> None:
        """One cap over everything that is not terminated, draining included, and over what is asked for."""
        world = self.world
        there = sum(len(world.listed(name)) for name in world.groups)
        asked = sum(max(0, group.desired - world.present(name)) for name, group in world.groups.items())
        self.peak = max(self.peak, there + asked)
        desired = sum(self.asked.values())
        if not self.wanted or self.wanted[-1][1] != desired:
            self.wanted.append((self.at, desired))

    def run(self, seconds: float = 60.0) -> None:
        """Runs, a minute apart, until so much time is over."""
        until = self.world.at + seconds
        while self.world.at < until:
            started = self.world.at
            with suppress(Cut, RuntimeError):
                self.functions.controller(RUN_LEFT_S)
            while self.world.at < started + 60:
                self.world.sleep(10)
        self.check()

    def reversals(self, within_s: float = BOOT_S) -> int:
        """The most changes of direction of what was asked for within a cold start."""
        steps = [(at, after - before) for (_, before), (at, after) in pairwise(self.wanted)]
        turns = [at for (_, first), (at, second) in pairwise(steps) if first * second < 0]
        return max((sum(1 for other in turns if at <= other < at + within_s) for at in turns), default=0)

    @property
    def asked(self) -> dict[str, int]:
        """What the groups that are judged ask for."""
        return {name: self.world.groups[name].desired for name in self.judged}

    @property
    def ordered(self) -> int:
        """Instances that were asked for since `mark`, all in all."""
        desired, ordered = dict(self.start[1]), 0
        for call in self.world.calls[self.start[0] :]:
            if call[0] == "desired" and call[1] in desired:
                ordered += max(0, call[2] - desired[call[1]])
                desired[call[1]] = call[2]
            elif call[0] == "terminate" and call[2] and self.world.instances[call[1]].group in desired:
                desired[self.world.instances[call[1]].group] -= 1
        return ordered

    @property
    def failed_boots(self) -> int:
        """As the last decision counts them."""
        return next(line["failed_boots"] for line in reversed(self.world.logs) if "failed_boots" in line)

    def mark(self) -> None:
        self.start = (len(self.world.calls), self.asked)


# --- one fault at every call of a run --------------------------------------------------------------------------------


def floor(life: Life, number: int) -> None:
    """What is wanted, whatever the law makes of waiting jobs."""
    life.functions.controller_config["policy"]["floor"] = number


def wake(life: Life) -> None:
    floor(life, 2)


def leave(life: Life) -> None:
    floor(life, 2)
    for _ in range(2):
        life.world.serving()
    life.live()
    life.run(120)
    floor(life, 0)


def fall_back(life: Life) -> None:
    """Spot delivers nothing. (It is asked again now and then; that is not judged.)"""
    floor(life, 1)
    life.judged = (ON_DEMAND_GROUP,)
    settle = life.world.settle

    def only_on_demand() -> None:
        spot = life.world.groups[SPOT_GROUP]
        life.world.delivers = spot.desired == 0
        if spot.desired and not spot.activities:
            why = "Could not launch Spot Instances. UnfulfillableCapacity"
            life.world.told(SPOT_GROUP, f"Launching a new EC2 instance.  Status Reason: {why}", "Failed")
        settle()

    life.world.settle = only_on_demand  # type: ignore[method-assign]


def lose_one(life: Life) -> None:
    floor(life, 2)
    nodes = [life.world.serving() for _ in range(2)]
    life.live()
    life.run(60)
    life.mute = lambda one: one.id == nodes[0].id
    life.run(180)


def fail_to_boot(life: Life) -> None:
    life.backlog = 4000
    life.live()
    life.run(60)
    for one in list(life.world.instances.values()):
        life.world.fails_to_boot(one)


def resume(life: Life) -> None:
    floor(life, 1)
    processes = ["AlarmNotification", "Launch", "ScheduledActions"]
    for group in life.world.groups.values():
        group.suspended = set(processes)
    stopped = dict.fromkeys(life.world.groups, processes)
    life.world.put(CONTROL, pk="latch", latched=False, generation=5, at=life.world.at - 600, suspended=stopped)


SCENES = {scene.__name__: scene for scene in (wake, leave, fall_back, lose_one, fail_to_boot, resume)}
AFTERWARDS_S = 180.0


def after(monkeypatch: pytest.MonkeyPatch, scene: Callable[[Life], None], fault: Callable[[Life], None]) -> Life:
    """The life of a scene with a fault in the one run that follows it, and some runs more."""
    life = Life(monkeypatch)
    scene(life)
    life.world.asked.clear()
    life.mark()
    fault(life)
    life.run()
    life.world.on_call = lambda service, operation: None
    life.run(AFTERWARDS_S)
    return life


def once(index: int, kind: str) -> Callable[[Life], None]:
    """A fault at the call with this number: refused, or done and its answer lost, or the run cut before it (which is
    also: after the one before)."""

    def install(life: Life) -> None:
        numbers = iter(range(1_000_000))

        def hear(service: str, operation: str) -> str | None:
            if next(numbers) != index:
                return None
            if kind == "cut":
                raise Cut
            return kind

        life.world.on_call = hear

    return install


@pytest.mark.parametrize("kind", ["before", "after", "cut"])
@pytest.mark.parametrize("name", SCENES)
def test_a_fault_at_any_call_of_a_run_is_made_good(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    scene = SCENES[name]
    smooth = after(monkeypatch, scene, lambda life: None)
    calls = 0

    def count(life: Life) -> None:
        nonlocal calls
        life.run()
        calls = len(life.world.asked)

    after(monkeypatch, scene, count)
    assert calls > 12
    for index in range(calls):
        life = after(monkeypatch, scene, once(index, kind))
        assert life.peak <= 4, (index, life.wanted)
        assert life.asked == smooth.asked, (index, life.wanted, smooth.wanted)
        assert life.ordered == smooth.ordered, (index, life.wanted, smooth.wanted)
        assert life.reversals() <= max(1, smooth.reversals()), (index, life.wanted)
        assert life.failed_boots == smooth.failed_boots, index


@pytest.mark.parametrize("name", SCENES)
def test_a_second_run_at_any_call_of_the_first_changes_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Two runs at once: the second takes the lease at every possible moment, looks and acts; then the first goes on."""
    scene = SCENES[name]
    smooth = after(monkeypatch, scene, lambda life: None)

    def meanwhile(index: int) -> Callable[[Life], None]:
        def install(life: Life) -> None:
            numbers = iter(range(1_000_000))

            def hear(service: str, operation: str) -> None:
                if next(numbers) == index:
                    life.functions.controller()

            life.world.on_call = hear

        return install

    for index in range(30):
        life = after(monkeypatch, scene, meanwhile(index))
        assert life.peak <= 4, (index, life.wanted)
        assert life.asked == smooth.asked, (index, life.wanted, smooth.wanted)
        assert life.ordered == smooth.ordered, (index, life.wanted, smooth.wanted)


# --- many faults over a busy hour ------------------------------------------------------------------------------------


def half_of_them(life: Life, seed: int) -> None:
    chance = random.Random(seed)
    life.world.on_call = lambda *_: chance.choice([None, None, "before", "after"])


def all_of_them(life: Life, seed: int) -> None:
    life.world.on_call = lambda *_: "before"


def any_cut(life: Life, seed: int) -> None:
    chance = random.Random(seed)

    def hear(*_: str) -> None:
        if chance.random() < 0.1:
            raise Cut

    life.world.on_call = hear


def frozen(life: Life, seed: int) -> None:
    began = life.at
    life.freezes = lambda at: at < began + 300


def frozen_and_mute(life: Life, seed: int) -> None:
    frozen(life, seed)
    began = life.at
    life.mute = lambda one: life.at < began + 300


TROUBLES = (half_of_them, all_of_them, any_cut, frozen, frozen_and_mute)


def load(at: float) -> float:
    """Jobs a second: quiet, a burst, quiet, a steady half hour, quiet."""
    if 600 <= at < 660:
        return 4.0
    return 0.8 if 1800 <= at < 3600 else 0.0


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("when", [590.0, 2400.0, 3550.0], ids=["burst", "steady", "end"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: one.__name__)
def test_five_minutes_of_trouble(
    monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Life, int], None], when: float, seed: int
) -> None:
    life = Life(monkeypatch, cap=5)
    life.arrivals = load
    life.run(when)
    trouble(life, seed)
    life.run(300)
    life.world.on_call = lambda service, operation: None
    life.run(5400 - life.at)
    assert life.peak <= 5
    assert life.reversals() <= 1, life.wanted
    assert life.backlog < 1, "every job was served in the end"
    assert life.asked == {SPOT_GROUP: 0, ON_DEMAND_GROUP: 0}, "and the fleet went home"
