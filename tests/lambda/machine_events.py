"""What people and AWS do to the machine's fleet, whatever else is under way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aws_world import CONTROL, SPOT_GROUP
from fleet_functions import Functions
from machine_fleet import Fleet
from machine_world import Frame

from gpufleet.operations import resume as resuming
from gpufleet.operations import stop as stopping
from gpufleet.operations.latch import LatchError


class Events(Fleet):
    """``by_hand``: the processes that people suspended, by group."""

    functions: Functions
    actor: str
    frames: list[Frame]
    by_hand: dict[str, set[str]]

    # --- people -----------------------------------------------------------------------------------------------------
    def by(self, step: Callable[[], Any]) -> None:
        """An operator does something, whatever else is under way."""
        actor, frames, self.actor, self.frames = self.actor, self.frames, "operator", []
        try:
            step()
        finally:
            self.actor, self.frames = actor, frames

    def resume(self, extra_usd: float = 0.0) -> None:
        def step() -> None:
            try:
                resuming.resume(self.world.db, CONTROL, "ann", self.at, extra_usd)
            except LatchError:
                return
            self.promise.allow(extra_usd, self.at)

        self.by(step)

    def stop(self) -> None:
        def step() -> None:
            with suppress(LatchError):
                stopping.stop(self.world.db, CONTROL, "ann", self.at)

        self.by(step)

    def jobs(self, number: float) -> None:
        self.backlog += number

    def up_budget(self, budget: float) -> None:
        self.functions.guard_config["monthly_usd"] = budget
        self.promise.up(budget, self.at)

    def up_cap(self, cap: int) -> None:
        self.functions.guard_config["fleets"][0]["cap"] = cap
        self.functions.controller_config["policy"]["cap"] = cap
        for group in self.world.groups.values():
            group.max, group.desired = cap, min(group.desired, cap)

    def up_template(self, broken: bool) -> None:
        for group in self.world.groups.values():
            group.template = str(int(group.template) + 1)
        self.broken |= {self.world.groups[SPOT_GROUP].template} if broken else set()

    def suspend_by_hand(self, name: str, process: str) -> None:
        """An operator suspends what nobody else has, and what the guard has not noted that it is about to."""
        group, noted = self.world.groups[name], self.world.row(CONTROL, "latch").get("suspended", {})
        if process not in group.suspended and process not in noted.get(name, ()):
            group.suspended.add(process)
            self.by_hand.setdefault(name, set()).add(process)

    # --- AWS --------------------------------------------------------------------------------------------------------
    def interrupt(self, index: int) -> None:
        """AWS takes a spot instance back."""
        if mine := [node for node in self.takeable() if node.one.spot]:
            one = mine[index].one
            self.taken[one.group] += 1
            self.world.leaves(one, f"Terminating EC2 instance: {one.id}", "SpotInstanceTermination")

    def replace(self, index: int) -> None:
        """A group replaces an instance that fails its health check: it drains, another one is launched."""
        if mine := self.takeable():
            one = mine[index].one
            self.taken[one.group] += 1
            one.state = "Terminating:Wait"
            self.world.told(one.group, f"Terminating EC2 instance: {one.id}", "InProgress", "a health check")

    def hang(self, index: int, *, speaks: bool = False) -> None:
        """A node obeys nobody any more; with ``speaks`` its worker goes on to extend its hook."""
        if mine := self.live():
            mine[index].hung, mine[index].speaks = True, speaks

    def suspend_by_aws(self, name: str) -> None:
        """Launches have failed for a day."""
        group = self.world.groups[name]
        if "Launch" not in group.suspended:
            group.suspended.add("Launch")
            group.by_aws.add("Launch")

    def spot_price(self, share: float) -> None:
        if share != self.bill.spot.at(self.at):
            self.bill.spot.set(self.at, share)
            self.exact = False  # the highest since the last tick is charged
