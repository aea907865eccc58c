"""The whole machine: the fleet, the functions' runs over it, an AWS that interrupts and refuses, people who edit, stop
and resume. What must never be done is checked where it is done, what must hold in the end in `calm`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from aws_world import CONTROL
from fleet_control.aws import runtime
from fleet_functions import Functions
from machine_bill import (
    DEAREST,
    DISK,
    DRAIN_S,
    FIXED,
    ON_DEMAND,
    PER_JOB,
    STOP_S,
    STOPPED,
    Bill,
    Promise,
    PromiseError,
    bounds,
    fixed,
    month_of,
)
from machine_events import Events
from machine_world import LISTED_S, Frame, MachineWorld

HEARD = frozenset({"suspend", "terminate", "complete", "desired", "ec2-terminate"})  # what the guard may change
CHANGES = HEARD | {"resume"}
LIMIT_S = {"guard": 60.0, "controller": 150.0}  # the functions' timeouts


class Cut(BaseException):
    """The run is over at once: its time is up, its machine is lost."""


class Life(Events):
    """``start``: the first tick; ``room``: dollars of the budget beyond the fixed costs; ``edge``: how many of them the
    first month has left at the start; ``stopped``: the fixed costs of a fleet that is stopped."""

    def __init__(
        self,
        start: float,
        room: float,
        edge: float,
        per_boot: float,
        lag_s: float = 0.0,
        pending_s: float = 0.0,
        stopped: float = STOPPED,
    ) -> None:
        super().__init__(lag_s, pending_s)
        self.frames: list[Frame] = []
        self.actor = "program"
        self.outage: tuple[str, float] = ("", 0.0)
        self.by_hand: dict[str, set[str]] = {}
        self.world = MachineWorld(self)
        self.world.at = self.accepted_at = self.ticked_at = start
        self.turned_at = self.decided_at = start  # when the latch was last set or cleared; was last written
        self.world.on_call = self.hear
        for group in self.world.groups.values():
            group.created = start
        budget, (first, end) = FIXED + room, bounds(month_of(start))
        past = max(0.0, budget - fixed(end - start) - edge) if start - first > 86_400 else 0.0  # see FIGURE_LAG_S
        self.bill = Bill(start, past, per_boot, stopped)
        self.promise = Promise(self.bill, budget, {month_of(start): budget})
        self.functions = Functions(self.world)
        guard = self.functions.guard_config
        guard |= {"monthly_usd": budget, "prices_usd_per_hour": dict(ON_DEMAND), "dearest_usd_per_hour": DEAREST}
        guard |= {"gpus": dict.fromkeys(ON_DEMAND, 1), "dearest_by_gpus": {"1": DEAREST}, "reconcile_daily": True}
        guard |= {"fixed_usd_per_month": FIXED, "stopped_usd_per_month": stopped}
        guard |= {"per_boot_usd": per_boot, "per_job_usd": PER_JOB}
        guard["fleets"][0] |= {"drain_s": DRAIN_S, "disk_usd_per_hour": DISK}
        self.up_cap(4)

    def install(self) -> None:
        """Puts this world in the place of the functions' runtime; the first tick learns what the month has cost."""
        for name in ("now", "sleep", "client", "log"):
            setattr(runtime, name, getattr(self.world, name))
        runtime.environ = self.functions.environ  # type: ignore[assignment]
        self.alert(self.bill.past)

    # --- runs of the functions --------------------------------------------------------------------------------------
    @property
    def frame(self) -> Frame | None:
        return self.frames[-1] if self.frames else None

    @property
    def who(self) -> str:
        return self.frame.actor if self.frame else self.actor

    def run(
        self, actor: str, step: Callable[[], Any], script: Iterable[tuple[int, str]] = (), *, tick: bool = True
    ) -> Any:
        """The run's answer, or the exception that ended it."""
        frame = Frame(actor, self.at, LIMIT_S[actor], self.promise.budget, tick=tick, looked=self.at)
        for number, what in script:
            frame.script.setdefault(number, []).append(what)
        self.frames.append(frame)
        try:
            answer = step()
        except PromiseError:
            raise
        except (Cut, Exception) as error:
            answer = error
        finally:
            self.frames.pop()
        if self.promise.broken:
            raise self.promise.broken  # the controller goes on whatever its look raises
        if actor == "guard" and tick and isinstance(answer, str):
            self._ticked(frame)
        self.promise.check(self.at)
        return answer

    def guard(self, script: Iterable[tuple[int, str]] = (), event: Any = None) -> Any:
        return self.run("guard", lambda: self.functions.guard(event), script)

    def controller(self, looks: int = 1, script: Iterable[tuple[int, str]] = ()) -> Any:
        self.report()
        return self.run("controller", lambda: self.functions.controller(14 + 10.0 * looks), script)

    def deliver(self, event: dict[str, Any]) -> None:
        noted = self.run("guard", lambda: self.functions.guard(event), tick=False)
        self.exact &= isinstance(noted, str)  # else it may be charged from its launch on

    def alert(self, figure: float, event: Any = None, script: Iterable[tuple[int, str]] = ()) -> Any:
        self.world.budget = (f"{figure:.6f}", datetime(2026, 2, 1, tzinfo=UTC))
        return self.guard(script, {"Records": [{}]} if event is None else event)

    def hear(self, service: str, operation: str) -> str | None:
        """Something happens at a call of the run under way, or it is refused."""
        frame, (failing, until) = self.frame, self.outage
        assert frame is not None
        frame.calls += 1
        verdict = None
        for what in frame.script.get(frame.calls, ()):
            if what == "cut":
                raise Cut
            if what in ("before", "after"):
                verdict = what
            elif len(self.frames) < 3:
                self.meanwhile(what)
        if self.at - frame.began >= frame.limit_s:
            raise Cut
        if self.at < until and failing in ("everything", service, operation):
            verdict = "before"
        return verdict

    def meanwhile(self, what: str) -> None:
        """What a script names."""
        {
            "guard": self.guard,
            "a later guard": lambda: (self.pass_time(25), self.guard()),
            "controller": self.controller,
            "resume": self.resume,
            "stop": self.stop,
            "stop and resume": lambda: (self.stop(), self.resume()),
            "slow": lambda: self.pass_time(25),
            "interrupt": lambda: self.interrupt(0),
        }[what]()

    def _ticked(self, frame: Frame) -> None:
        """After a complete tick: the ledger holds what the bill holds; a lowered budget is known."""
        month = month_of(frame.began)
        for node in self.nodes.values():
            if node.one.ended is not None and not node.seen:
                node.seen = True
                self.exact &= frame.began - node.one.ended <= LISTED_S  # else its type is not known any more
        row = self.world.row(CONTROL, f"ledger#{month}")
        record = json.loads(row["record"])
        spent = row["spent_usd"] - record.get("job_usd", 0.0)
        waiting = max(0.0, self.world.row(CONTROL, "budget")["spent_usd"] - row["spent_usd"])  # for a spot price
        least = self.bill.of(month, min(float(row["at"]), frame.began))  # a late run knows what waits up to its moment
        if spent + waiting < least - self._between(month) - self._unlisted(frame.began) - 1e-6:
            self.promise.breaks(f"the ledger holds ${spent:.6f} + ${waiting:.6f}, the bill is ${least:.6f}")
        metered = spent - record["raised_usd"]
        for node in self.nodes.values():  # what ended meanwhile, the tick may have charged to its end
            node.span.ended = node.one.ended
        bill = self.bill.of(month, float(row["at"]), whole=True)
        bill -= self.bill.past if month == month_of(self.bill.since) else 0.0
        if self.decided_at + 60 >= self.ticked_at:  # the time since the tick before is charged as of a working fleet
            self.slack += fixed(max(0.0, frame.began - self.ticked_at), FIXED - self.bill.stopped)
        self.ticked_at = max(self.ticked_at, frame.began)
        disks = len(self.bill.spans) * DISK / 60  # up to a minute before an instance runs and after it ended
        if self.exact and metered > bill * 1.01 + self.slack + disks:
            self.promise.breaks(f"the meter is at ${metered:.6f}, the bill is ${bill:.6f}")
        if frame.budget == self.promise.budget and month == month_of(self.at):
            reserved = self.world.row(CONTROL, "budget").get("reserved_usd", 0)
            self.promise.known(self.at, self.owed(), float(reserved))
        if not self.latched:
            self.accepted_at = frame.began

    def _unlisted(self, at: float) -> float:
        """What instances have cost that EC2 does not show yet."""
        new = [node.span for node in self.live() if node.span.began is not None and at - node.one.launched < self.lag_s]
        return sum(self.bill.per_boot + self.bill.running(one, one.began or at, at) for one in new)

    def _between(self, month: str) -> float:
        """What of this month's bill may be in the ledger of the month before, which may count from the launch on: boots
        that were pending at its end, and as much of a minute that began then."""
        start, usd = bounds(month)[0], 0.0
        for node in self.nodes.values():
            if node.span.began is not None and node.one.launched < start <= node.span.began + 60:
                usd += self.bill.per_boot * (node.span.began >= start)
                usd += (ON_DEMAND[node.span.kind] + DISK) * node.pending_s / 3600
        return usd

    # --- what must never be done ------------------------------------------------------------------------------------
    def judge(self, call: tuple[Any, ...]) -> None:
        """A call, as it is made."""
        if self.who == "controller" and call[0] == "resume" and self.frame and self.frame.owes.get(call[1], 1) > 0:
            self.promise.breaks(f"resumed though its group still asked for instances: {call}")
        if self.who == "controller" and call[0] == "desired" and self.frame:
            self._asks(call[1], call[2], self.frame)
        if self.who != "guard" or self.frame is None:
            return
        if call[0] in CHANGES - HEARD:
            self.promise.breaks(f"the guard may not do this: {call}")
        if call[0] == "desired" and (call[2] != 0 or not self.frame.read.get(call[1])):
            self.promise.breaks(f"only 0, and only after Launch reads back as suspended: {call}")

    def _asks(self, name: str, number: int, frame: Frame) -> None:
        """A controller asks its group for this many instances."""
        if number <= self.world.groups[name].desired:
            return
        if self.latched and self.turned_at < frame.looked:
            self.promise.breaks(f"{name} is asked for {number} though the fleet was stopped at {self.turned_at}")
        if self.allowance() <= frame.looked:
            self.promise.breaks(f"{name} is asked for {number} though no node may run: {self.allowance()}, {self.at}")

    def row_changes(self, key: tuple[str, ...], before: dict[str, Any], after: dict[str, Any]) -> None:
        """A row, as it is written."""
        if key == ("latch",):
            self.latch_changes(before, after)
        elif key[0].startswith("ledger#") and before:
            spent, more = (float(row["spent_usd"]["N"]) for row in (before, after))
            if more < spent - 1e-6:
                self.promise.breaks(f"{key[0]} falls from ${spent:.6f} to ${more:.6f}")
        elif key[1:] == ("allowance",) and self.frame:
            longer = float(after["until"]["N"]) > (float(before["until"]["N"]) if before else 0.0)
            if longer and self.latched and self.turned_at < self.frame.began:
                self.promise.breaks(f"the nodes of a fleet that is stopped may run on until {after['until']}")
            if longer:
                self._affords(self.frame.began)

    def _affords(self, began: float) -> None:
        """The nodes may run on: the month can pay for a stop that begins only now, whatever it takes."""
        month = month_of(began)
        live = [node for node in self.live() if node.span.began is not None and node.span.began <= began]
        usd = self.bill.of(month, began) - self._between(month) + fixed(bounds(month)[1] - began)
        usd += sum(ON_DEMAND[node.span.kind] + DISK for node in live) * STOP_S / 3600
        usd -= self.promise.excused.get(month, 0.0)
        if usd > self.promise.bound[month] + 1e-6:
            self.promise.breaks(f"the nodes may run on, though to stop them costs ${usd:.4f} in {month}")

    def latch_changes(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """The latch row, as it is written."""
        was, now = (row.get("latched", {}).get("BOOL", False) for row in (before, after))
        older, newer = (int(row.get("generation", {}).get("N", 0)) for row in (before, after))
        if newer < older or (newer == older and was != now):
            self.promise.breaks(f"{self.who} changed the latch {was} -> {now}, generation {older} -> {newer}")
        if was and not now and self.who != "operator":
            mine = self.who == "guard" and before["reason"]["S"] in ("budget", "exhausted")
            new = before["month"]["S"] != month_of(self.at) and self.functions.guard_config["resume_on_new_month"]
            if not (mine and new):
                self.promise.breaks(f"{self.who} cleared the latch {before}")
        if was != now:
            self.turned_at = self.at
            self.bill.fixed.set(self.at, self.bill.stopped if now else FIXED)
        if newer != older:
            self.decided_at = self.at

    @property
    def latch(self) -> dict[str, Any]:
        return self.world.row(CONTROL, "latch")

    @property
    def latched(self) -> bool:
        return bool(self.latch.get("latched"))

    def minutes(self, number: int) -> None:
        """Minutes of the ordinary life."""
        for _ in range(number):
            self.guard()
            self.controller()
            self.pass_time(60)

    # --- what must hold in the end ----------------------------------------------------------------------------------
    def calm(self) -> None:
        """Nothing fails any more; a while later nothing is stuck."""
        self.outage, self.events, self.world.suspends = ("", 0.0), "at once", True
        since, state, stopped_at = self.at, self.latched, None
        while self.at - since < 600:
            answer = self.guard()
            if not isinstance(answer, str):
                self.promise.breaks(f"a tick failed though nothing was refused: {answer!r}")
            if self.latched != state:
                since, state = self.at, self.latched
            stopped_at = (stopped_at or self.at) if self.latched else None
            lines = len(self.world.logs)
            self.controller()
            if failed := [line for line in self.world.logs[lines:] if line["event"] == "look-failed"]:
                self.promise.breaks(f"a look failed though nothing was refused: {failed[0]['reason']}")
            self.pass_time(60)
            if stopped_at is not None and self.at - stopped_at > DRAIN_S + 180 and self.live():
                self.promise.breaks(f"{len(self.live())} still run {self.at - stopped_at:.0f} s after the stop")
        for name, group in self.world.groups.items():
            if self.latched and (group.desired or "Launch" not in group.suspended):
                self.promise.breaks(f"latched, but {name} asks for {group.desired}, suspended {group.suspended}")
            if not self.latched and group.suspended - self.by_hand.get(name, set()) - {"AZRebalance"}:
                self.promise.breaks(f"{name} is suspended without a latch: {group.suspended}; {self.latch}")
            if self.by_hand.get(name, set()) - group.suspended:
                self.promise.breaks(f"{name} was resumed though people suspended it: {self.by_hand[name]}")
