"""The whole twin: one account with its services, machines, nodes, bill and traffic, and the knobs that spoil its day.

with Cloud(start, seed=1) as cloud:
    world = World(cloud)
    ...                                   # provision with boto3 clients, or run the program against it
    world.follow(queue_url, jobs_table, bucket)
    world.traffic.send(queue_url, 15)
    world.run_for(3600)
    world.snapshot(), world.account(), world.bill.total()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from .billing import Bill, connect
from .cloud import Cloud
from .ledger import JobAccount, Ledger
from .nodes import Nodes
from .services import standard
from .services.autoscaling import AutoScaling
from .services.ec2 import Ec2
from .services.machines import Instance
from .traffic import Traffic

SAMPLE_S = 60.0


@dataclass(frozen=True)
class Snapshot:
    """The world at one moment. `instances`: count by (pool, state): pool "spot" or "on-demand", state as the group
    shows it, or as EC2 does for one in no group. `desired`: by group. `spent`: the bill's dollars this month."""

    at: float
    backlog: int
    in_flight: int
    instances: dict[tuple[str, str], int]
    desired: dict[str, int]
    spent: float

    @property
    def running(self) -> int:
        return sum(self.instances.values())


@dataclass(frozen=True)
class Followed:
    """What snapshots and accounts are about."""

    queue_url: str
    jobs_table: str
    bucket: str


class World:
    """Everything registered with `cloud` and wired up. Times are unix seconds, durations seconds."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.clock = cloud.clock
        self.services = standard.install(cloud)
        self.ec2 = Ec2(cloud)
        self.machines = self.ec2.machines
        self.market = self.machines.market
        cloud.register("ec2", self.ec2)
        self.scaling = AutoScaling(cloud, self.machines)
        cloud.register("autoscaling", self.scaling)
        self.services.cloudwatch.action_handlers["arn:aws:autoscaling:"] = self._scale_on_alarm
        self.nodes = Nodes(cloud, self.machines, self.scaling)
        self.behaviour = self.nodes.behaviour
        self.bill = Bill(cloud, self.machines)
        self.ec2.on_network_change.append(self.bill.observe)
        connect(cloud, self.bill, self.nodes)
        self.ledger = Ledger(cloud, self.services.sqs)
        self.traffic = Traffic(cloud)
        self.timeline: list[Snapshot] = []
        self.followed: Followed | None = None

    def _scale_on_alarm(self, policy_arn: str, alarm_arn: str, message: dict[str, Any]) -> None:
        alarm = self.services.cloudwatch.alarms[message["AlarmName"]]
        values = [value for value in alarm.points if value is not None]
        self.scaling.breached(policy_arn, values[-1] - alarm.settings["Threshold"] if values else 0.0)

    # -- time ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock.now()

    def run_for(self, seconds: float) -> None:
        self.clock.run_for(seconds)

    def run_until(
        self, condition: float | Callable[[], bool], *, limit_s: float = 86_400.0, step_s: float = 10.0
    ) -> bool:
        """Run to a moment, or until `condition()` holds (looked at every `step_s`) or `limit_s` passed; answers
        whether it holds."""
        if not callable(condition):
            self.clock.run_until(condition)
            return True
        deadline = self.now() + limit_s
        while not condition():
            if self.now() >= deadline:
                return False
            self.clock.run_until(min(deadline, self.now() + step_s))
        return True

    # -- looking ------------------------------------------------------------------------------------------------

    def follow(self, queue_url: str, jobs_table: str, bucket: str, every_s: float = SAMPLE_S) -> None:
        """Say which queue, table and bucket snapshots and accounts are about, and sample the timeline from now on."""
        sampling = self.followed is not None
        self.followed = Followed(queue_url, jobs_table, bucket)
        if not sampling:
            self._sample(every_s)

    def _sample(self, every_s: float) -> None:
        self.timeline.append(self.snapshot())
        self.clock.after(every_s, self._sample, every_s)

    def snapshot(self) -> Snapshot:
        backlog = in_flight = 0
        if self.followed is not None:
            entry = self.services.sqs.queues.get(self.followed.queue_url.rsplit("/", 1)[-1])
            if entry is not None:
                visible, in_flight, delayed = entry.queue.counts()
                backlog = visible + delayed
        return Snapshot(
            at=self.now(),
            backlog=backlog,
            in_flight=in_flight,
            instances=dict(Counter((pool_of(i), self.state_of(i)) for i in self.instances())),
            desired={name: group.desired for name, group in self.scaling.groups.items()},
            spent=self.bill.total(),
        )

    def instances(self) -> list[Instance]:
        """Every instance that is not terminated."""
        return [i for i in self.machines.instances.values() if i.state != "terminated"]

    def state_of(self, instance: Instance) -> str:
        found = self.scaling.find_member(instance.id)
        return found[1].state if found and instance.alive else instance.state

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What nodes logged: {"at", "instance", "record"}."""
        return self.nodes.logs

    @property
    def work_killed_s(self) -> float:
        """Seconds of model work cut short by the end of an instance that was not a spot interruption."""
        return self.nodes.work_killed_s

    def account(self) -> JobAccount:
        """The account of the followed queue's jobs."""
        if self.followed is None:
            raise RuntimeError("follow(queue_url, jobs_table, bucket) first: whose jobs are to be counted?")
        f = self.followed
        return self.ledger.account(f.queue_url, f.jobs_table, f.bucket, self.nodes.bills)

    # -- spoiling the day -----------------------------------------------------------------------------------------

    def set_spot_shortage(
        self,
        start: float,
        end: float,
        types: Collection[str] | None = None,
        zones: Collection[str] | None = None,
        *,
        interrupt: bool = False,
    ) -> None:
        """No spot capacity from `start` to `end`; with `interrupt`, what runs then is taken back at `start`."""
        self.market.shortage(start, end, types, zones)
        if interrupt:
            self.clock.at(start, self._interrupt_all, types, zones)

    def _interrupt_all(self, types: Collection[str] | None, zones: Collection[str] | None) -> None:
        for instance in self.instances():
            fits = (types is None or instance.type in types) and (zones is None or instance.zone in zones)
            if instance.spot and instance.alive and fits:
                self.machines.interrupt(instance.id)

    def interrupt(self, instance_id: str, notice_s: float = 120.0) -> None:
        self.machines.interrupt(instance_id, notice_s)

    def fail_next_boots(self, count: int, how: str = "model") -> None:
        """The next `count` boots fail: "instance" (EC2 cannot start it) or "model" (the model never loads)."""
        if how == "instance":
            self.machines.fail_next_boots(count)
        elif how == "model":
            self.behaviour.never_loads = count
        else:
            raise ValueError(f'a boot fails as "instance" or as "model", not as {how!r}')


def pool_of(instance: Instance) -> str:
    return "spot" if instance.spot else "on-demand"
