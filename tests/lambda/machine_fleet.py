"""The machine's fleet: nodes that boot, serve, drain, obey their allowance or hang, by a clock of events."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aws_world import FLEET, JOBS, TERMINATE_HOOK, FakeInstance
from botocore.exceptions import ClientError
from machine_bill import DRAIN_S, STOP_S, Bill, Promise, Span, bounds, month_of
from machine_world import MachineCalls, MachineWorld

BOOT_S, BOOT_DEADLINE_S = 240.0, 960.0
LOOK_S, EARLY_S = 30.0, 75.0  # of the node's watchdog (bootstrap/inference_worker/watchdog.py)
HOOK_S = DRAIN_S + 60  # the terminate hook of a node that says nothing
JOBS_S = 8 / 20  # jobs that a node serves in a second


@dataclass
class Node:
    """What is known of an instance beside what AWS says. ``boots``: whether its model ever answers. ``job_s``: how long
    what it serves still takes when it is asked to go; ``slow_s``: how much longer its worker takes than it may."""

    one: FakeInstance
    span: Span
    boots: bool
    pending_s: float
    job_s: float = 0.0
    slow_s: float = 0.0
    hung: bool = False
    speaks: bool = False  # though it hangs
    drains_at: float | None = None
    gone_at: float | None = None  # when its watchdog, which has begun to leave, is done
    completed: float = 0.0
    closed: bool = False  # its end was told
    seen: bool = False  # a complete tick has seen its end
    successor: bool = False  # of one that AWS took


class Fleet:
    """Nodes and their clock. ``job_s``, ``slow_s``: of a node that is asked to go from now on. ``broken``: template
    versions that never boot. ``events``: how EC2's events reach the guard: "at once", "late", "twice" or "lost"."""

    world: MachineWorld
    bill: Bill
    promise: Promise

    def __init__(self, lag_s: float, pending_s: float) -> None:
        self.lag_s, self.pending_s, self.kind = lag_s, pending_s, "g5.xlarge"
        self.nodes: dict[str, Node] = {}
        self.job_s, self.slow_s = 5.0, 0.0
        self.broken: set[str] = set()
        self.backlog = 0.0
        self.events = "at once"
        self.mail: list[tuple[float, dict[str, Any]]] = []
        self.accepted_at = 0.0  # of the last complete tick that left the fleet running
        self.taken: Counter[str] = Counter()  # by AWS and not replaced yet, by group
        self.exact = True  # nothing has happened in this month that the meter may charge too much for, but
        self.slack = 0.0  # for these dollars

    @property
    def at(self) -> float:
        return self.world.at

    def live(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.one.ended is None]

    def serving(self) -> list[Node]:
        return [node for node in self.live() if node.one.state == "InService"]

    def takeable(self) -> list[Node]:
        """What AWS may take or replace: no successor that the guard has not seen (docs/budget.md: not covered)."""
        return [node for node in self.serving() if not (node.successor and node.one.launched > self.accepted_at)]

    def owed(self) -> int:
        return sum(max(0, group.desired - self.world.present(name)) for name, group in self.world.groups.items())

    def launched(self, one: FakeInstance) -> None:
        span = Span(one.type, one.spot)
        self.bill.spans.append(span)
        node = self.nodes[one.id] = Node(one, span, one.template not in self.broken, self.pending_s)
        if self.taken[one.group]:
            self.taken[one.group] -= 1
            node.successor = True
        if not self.pending_s:
            self._runs(node)

    # --- the clock --------------------------------------------------------------------------------------------------
    def pass_time(self, seconds: float) -> None:
        until = self.at + seconds
        while True:
            self._happen()
            moments = [until, bounds(month_of(self.at))[1], *(due for due, _ in self.mail)]
            following = min([*moments, *map(self._due, self.live())])
            self._serve(following - self.at)
            self._excuse(self.at, following)
            before, self.world.at = month_of(self.at), max(self.at, following)
            if month_of(self.at) != before:
                self.promise.check(self.at, before)
                self.promise.begin(month_of(self.at), self.at, self.owed())
                self.exact, self.slack = not self.live(), 0.0
            if self.at >= until:
                self._happen()
                self.promise.check(self.at)
                return

    def _happen(self) -> None:
        """Everything that is due now."""
        while True:
            self.world.settle()
            for node in [node for node in self.nodes.values() if node.one.ended is not None and not node.closed]:
                self._ends(node)
            due = [node for node in self.live() if self._due(node) <= self.at]
            mail = [event for at, event in self.mail if at <= self.at]
            self.mail = [(at, event) for at, event in self.mail if at > self.at]
            if not due and not mail:
                return
            for node in due:
                self._act(node)
            for event in mail:
                self.deliver(event)

    def deliver(self, event: dict[str, Any]) -> None:
        """One event of EC2's reaches the guard."""
        raise NotImplementedError

    def _runs(self, node: Node) -> None:
        node.one.ec2, node.span.began = "running", self.at
        self._tell(node, "running")

    def _ends(self, node: Node) -> None:
        node.closed, node.span.ended = True, node.one.ended
        self.exact &= node.span.began is not None  # what never ran costs nothing, and is charged
        self.world.ended(node.one)
        self._tell(node, "shutting-down")

    def _tell(self, node: Node, state: str) -> None:
        at, event = self.at, {"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification"}
        event |= {"time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        event |= {"detail": {"instance-id": node.one.id, "state": state}}
        due = {"at once": [at], "late": [at + 90], "twice": [at, at + 40], "lost": []}[self.events]
        self.exact &= self.events in ("at once", "twice")
        self.mail += [(moment, event) for moment in due]

    def _due(self, node: Node) -> float:
        """When something happens to a node by itself."""
        one = node.one
        if node.span.began is None:
            return one.launched + node.pending_s
        if one.state.startswith("Terminating") and node.drains_at is None:
            node.drains_at, node.job_s, node.slow_s = self.at, self.job_s, self.slow_s
        if node.hung:
            if node.drains_at is not None:
                return math.inf if node.speaks else node.drains_at + HOOK_S
            return one.launched + BOOT_DEADLINE_S + 60 if one.state == "Pending:Wait" else math.inf
        if node.gone_at is not None:
            return node.gone_at
        look = self._look(node)
        if node.drains_at is not None:
            return min(look, node.drains_at + node.job_s)
        if one.state == "Pending:Wait":
            return min(look, one.launched + (BOOT_S if node.boots else BOOT_DEADLINE_S))
        return look

    def _look(self, node: Node) -> float:
        """When the watchdog next looks and finds the allowance over, as far as it is known now."""
        first = node.one.launched + 60
        over = max(first, self.at, self.allowance() - EARLY_S)
        return first + LOOK_S * math.ceil((over - first) / LOOK_S - 1e-9)

    def allowance(self) -> float:
        row = self.world.db.rows[JOBS].get((f"fleet#{FLEET}", "allowance"))
        return float(row["until"]["N"]) if row else 0.0

    def _act(self, node: Node) -> None:
        one, world = node.one, self.world
        if node.span.began is None:
            self._runs(node)
        elif node.hung:
            world.leaves(one, f"Terminating EC2 instance: {one.id}", "a hook's time was up")
        elif node.gone_at is not None:
            self._goes(node)
        elif self._look(node) <= self.at:
            worker = 0.0 if one.state == "Pending:Wait" else min(self.job_s, DRAIN_S) + self.slow_s
            if node.drains_at is not None:
                worker = 10.0 + node.slow_s  # asked a second time, it hands its jobs back
            node.gone_at = self.at + worker + 5
        elif node.drains_at is not None:
            self._complete(one)
        elif node.boots:
            one.state = "InService"
        else:
            world.fails_to_boot(one)

    def _goes(self, node: Node) -> None:
        """By name, with decrement; without, where desired is at its least already. Then its hook is completed."""
        for decrement in (True, False):
            try:
                MachineCalls(self.world).terminate_instance_in_auto_scaling_group(node.one.id, decrement)
                break
            except ClientError:
                continue
        self._complete(node.one)

    def _complete(self, one: FakeInstance) -> None:
        MachineCalls(self.world).complete_lifecycle_action(one.group, TERMINATE_HOOK, one.id, "CONTINUE")

    def _serve(self, seconds: float) -> None:
        serving = [node for node in self.serving() if not node.hung]
        done = min(self.backlog, JOBS_S * seconds * len(serving))
        for node in serving:
            node.completed += done / len(serving)
        self.backlog -= done
        self.bill.jobs[month_of(self.at)] = self.bill.jobs.get(month_of(self.at), 0.0) + done
        self.report()  # a node that leaves has told what it did

    def _excuse(self, begin: float, end: float) -> None:
        begin = max(begin, self.accepted_at + STOP_S)
        for node in self.live() if end > begin else ():
            if node.hung:
                self.promise.excuse(node.span, begin, end)

    def report(self) -> None:
        """What the nodes and the queue say now."""
        serving = [node for node in self.serving() if not node.hung]
        flying = min(self.backlog, 8.0 * len(serving))
        for node in serving:
            done, busy = round(node.completed), math.ceil(flying / len(serving))
            self.world.beat(node.one, busy=busy, completed=done, worked_s=done * 20.0, cold_start_s=BOOT_S)
        self.world.queue = {"": round(self.backlog - flying), "Delayed": 0, "NotVisible": round(flying)}
