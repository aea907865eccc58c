"""The scaler: a controller that looks at one queue and decides how many instances its fleet should have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pulumi
import pulumi_aws as aws

from .. import costs
from . import alarms, fleet_plans, policies
from .base import Account, AwsComponent, Scope
from .control_function import ControlFunction, ControlFunctionArgs
from .refs import AlertsRef, BudgetRef, FleetRef, QueueRef, Unlimited
from .tables import control_table

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class WindowLike(Protocol):
    """A least number of instances at some time of the week (see `Window`)."""

    @property
    def days(self) -> Sequence[str]: ...
    @property
    def start(self) -> str: ...
    @property
    def end(self) -> str: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def floor(self) -> int: ...


@dataclass(frozen=True)
class Window:
    """A least number of instances on some days between two times of day (`HH:MM`) in an IANA time zone."""

    days: Sequence[str]
    start: str
    end: str
    time_zone: str
    floor: int


@dataclass(frozen=True)
class ScalingPolicy:
    """What the scaling law is told. `service_s` (one job in one slot) and `cold_start_s` are first guesses.

    `slots` is how many jobs an instance works at once, `wait_target_s` how long a job may wait. The first
    `on_demand_base` instances are on-demand; beyond them spot, and on-demand for what spot does not deliver only with
    `on_demand_fallback`.
    """

    slots: int
    wait_target_s: float = 300
    service_s: float = 20
    cold_start_s: float = 240
    floor: int = 0
    windows: Sequence[WindowLike] = ()
    on_demand_base: int = 0
    on_demand_fallback: bool = True

    def document(self, cap: int) -> dict[str, Any]:
        """As the controller reads it."""
        return {
            "slots": self.slots,
            "wait_target_s": self.wait_target_s,
            "service_s": self.service_s,
            "cold_start_s": self.cold_start_s,
            "floor": self.floor,
            "cap": cap,
            "on_demand_base": self.on_demand_base,
            "on_demand_fallback": self.on_demand_fallback,
            "windows": [
                {
                    "days": list(window.days),
                    "from": window.start,
                    "to": window.end,
                    "time_zone": window.time_zone,
                    "floor": window.floor,
                }
                for window in self.windows
            ],
        }


@dataclass(frozen=True)
class QueueDepthScalerArgs:
    """`budget` is a guard's ref, or `Unlimited(reason=...)` said out loud. `dry_run`: decide and log, do nothing."""

    scope: Scope
    queue: QueueRef
    fleet: FleetRef
    budget: BudgetRef | Unlimited
    policy: ScalingPolicy
    alerts: AlertsRef | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        faults = [
            *_policy_faults(self.policy, self.fleet.cap),
            *_base_faults(self.policy.on_demand_base, self.fleet),
            *_budget_faults(self.budget, self.fleet),
        ]
        if faults:
            raise ValueError("QueueDepthScalerArgs: " + "; ".join(faults))


def _policy_faults(policy: ScalingPolicy, cap: int) -> list[str]:
    floors = [policy.floor, *(window.floor for window in policy.windows)]
    rules = (
        (policy.slots >= 1, f"policy.slots is {policy.slots}: at least 1"),
        (policy.wait_target_s > 0, f"policy.wait_target_s is {policy.wait_target_s}: above 0"),
        (policy.service_s > 0, f"policy.service_s is {policy.service_s}: above 0"),
        (policy.cold_start_s >= 0, f"policy.cold_start_s is {policy.cold_start_s}: 0 or more"),
        (all(0 <= floor <= cap for floor in floors), f"a floor of {floors} is outside 0 to the cap of {cap}"),
        (
            all(set(window.days) <= set(DAYS) and window.days for window in policy.windows),
            f"a window's days must be some of {', '.join(DAYS)}",
        ),
    )
    return [fault for holds, fault in rules if not holds]


def _base_faults(base: int, fleet: FleetRef) -> list[str]:
    said = f"policy.on_demand_base is {base}"
    held = fleet.reservation.instances if fleet.reservation else 0
    if not 0 <= base <= fleet.cap:
        return [f"{said}: 0 to the cap of {fleet.cap}"]
    if base and fleet.on_demand_group is None:
        return [f"{said}: {fleet.fleet} has no on-demand group"]
    if fleet.spot_group is not None and base < held:
        return [f"{said}: {fleet.fleet} pays for {held} reserved instances, which only on-demand ones can use"]
    return []


def _budget_faults(budget: BudgetRef | Unlimited, fleet: FleetRef) -> list[str]:
    if isinstance(budget, BudgetRef) and fleet.fleet not in budget.fleets:
        return [f"the guard covers {', '.join(budget.fleets)}, not {fleet.fleet}: name the fleet in its `fleets`"]
    if isinstance(budget, Unlimited) and fleet.needs_allowance:
        return [
            (
                f"nodes of {fleet.fleet} leave when no guard speaks to them, and an Unlimited scaler has none: "
                "set ModelNode.allowance to False"
            )
        ]
    return []


class QueueDepthScaler(AwsComponent):
    """`gpu-inference:aws:QueueDepthScaler`: the controller function every minute, its alarms, the backstop, and without
    a guard a control table of its own.

    Does not: meter or stop anything for money, and never lets AWS choose a victim: it drains instances by name.
    Fails: a run that dies is followed by the next minute's; the lease in the control table keeps two from acting at
    once. While the guard's figures are older than three minutes it launches nothing; silent, it raises an alarm. When
    it has been silent for ten minutes, the backstop launches one instance for jobs that wait longer than promised. It
    rests on the guard's word, and on nodes that leave by themselves: there is none for an `Unlimited` scaler, for nodes
    that need no allowance, or in a dry run.
    """

    def __init__(self, name: str, args: QueueDepthScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "QueueDepthScaler",
            name,
            args.scope,
            {"fleet": args.fleet.fleet, "cap": args.fleet.cap, "limited": isinstance(args.budget, BudgetRef)},
            opts,
        )
        self.account = Account(self)
        if isinstance(args.budget, BudgetRef):
            self.table = None
            self._control = (args.budget.control_table, args.budget.control_table_arn)
        else:
            self.table = control_table(self, protect=args.scope.protect)
            self._control = (self.table.name, self.table.arn)
        self.function = ControlFunction(
            name,
            ControlFunctionArgs(
                scope=args.scope,
                kind="controller",
                handler="fleet_control.aws.controller.handler",
                description=f"Scales {args.fleet.fleet} with its queue, to and from zero",
                config=self._config(args),
                statements=self._statements(args),
                schedule="rate(1 minute)",
                timeout_s=150,
                max_event_age_s=60,  # the next minute looks again anyway
                retries=0,
                alerts=args.alerts,
                errors_in_5_minutes=3,
                memory_mb=costs.CONTROLLER_MIB,
            ),
            self.child(),
        )
        self.serves_nothing = alarms.alarm(
            self,
            f"{name}-serves-nothing",
            alarms.serves_nothing(args.fleet.fleet),
            self.names.alarm("serves-nothing"),
            args.alerts,
            self.tags,
        )
        self.failed_boots = alarms.alarm(
            self,
            f"{name}-failed-boots",
            alarms.failed_boots(args.fleet.fleet),
            self.names.alarm("failed-boots"),
            args.alerts,
            self.tags,
        )
        self.silent = alarms.alarm(
            self,
            f"{name}-controller-silent",
            alarms.controller_silent(args.fleet.fleet),
            self.names.alarm("controller-silent"),
            args.alerts,
            self.tags,
        )
        self.backstop: aws.cloudwatch.MetricAlarm | None = None
        if args.fleet.needs_allowance and not args.dry_run:  # which an Unlimited scaler refuses: see _budget_faults
            self.backstop = self._make_backstop(name, args)
        self.finish({"controllerFunction": self.function.function.name})

    def _make_backstop(self, name: str, args: QueueDepthScalerArgs) -> aws.cloudwatch.MetricAlarm:
        """One instance of the pool that a fleet's first one is of: nobody is there to choose when it is needed."""
        fleet = args.fleet
        spot = None if args.policy.on_demand_base else fleet.spot_group
        group = next(one for one in (spot, fleet.on_demand_group) if one is not None)
        self.backstop_policy = aws.autoscaling.Policy(
            f"{name}-backstop",
            name=self.names.name("backstop"),
            autoscaling_group_name=group,
            opts=self.child(),
            **fleet_plans.backstop(),
        )
        return alarms.alarm(
            self,
            f"{name}-backstop-alarm",
            alarms.backstop(args.queue.name, fleet.fleet, round(args.policy.wait_target_s)),
            self.names.alarm("backstop"),
            args.alerts,
            self.tags,
            sets_off=[self.backstop_policy.arn],
        )

    def _config(self, args: QueueDepthScalerArgs) -> pulumi.Output[dict[str, Any]]:
        fleet, budget = args.fleet, args.budget
        plain = {
            "stack": args.scope.stack,
            "fleet": fleet.fleet,
            "budget": {"limit": True} if isinstance(budget, BudgetRef) else {"unlimited_reason": budget.reason},
            "metric_namespace": alarms.NAMESPACE,
            "dry_run": args.dry_run,
            "job_timeout_s": fleet.job_timeout_s,
            "policy": args.policy.document(fleet.cap),
        }
        return pulumi.Output.all(
            queue_url=args.queue.url,
            spot_group=fleet.spot_group,
            on_demand_group=fleet.on_demand_group,
            jobs_table=fleet.jobs_table,
            control_table=self._control[0],
            template_id=fleet.template_id,
        ).apply(lambda known: plain | known)

    def _statements(self, args: QueueDepthScalerArgs) -> pulumi.Output[list[policies.Statement]]:
        fleet = args.fleet

        def build(
            queue: str, table: str, jobs: str | None, partition: str, region: str, account_id: str
        ) -> list[policies.Statement]:
            return policies.controller(
                queue_arn=queue,
                group_arns=[policies.group_arn(partition, region, account_id, group) for group in fleet.group_names],
                control_table_arn=table,
                jobs_table_arn=jobs,
                namespace=alarms.NAMESPACE,
            )

        return pulumi.Output.all(
            queue=args.queue.arn, table=self._control[1], jobs=fleet.jobs_table_arn, **self.account.wires
        ).apply(lambda known: build(**known))
