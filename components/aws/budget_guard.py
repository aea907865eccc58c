"""The guard: it meters what runs, minute by minute, and stops its fleets before the month's budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from .. import costs
from . import alarms, policies, spending
from .base import Account, AwsComponent, Scope, rendered
from .control_function import ControlFunction, ControlFunctionArgs, Events
from .refs import AlertsRef, BudgetRef, FleetRef
from .spending import Spending
from .tables import control_table

# EC2 tells at once when an instance began to run and when it no longer does, also between two ticks. The event names no
# tag: those of every instance of the account in the region come, and the guard counts its own fleets' (EC2 user guide,
# "Amazon EC2 instance state change events").
INSTANCE_STATES = Events(
    "instance-states",
    {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["running", "shutting-down", "stopping", "terminated"]},
    },
)


@dataclass(frozen=True)
class BudgetGuardArgs:
    """`region` is the one the fleets run in, for the catalogue's prices.

    `nat_gateway_ids`: gateways that the fleets' bytes pass and that are part of the budget; the guard charges what they
    count. `emails` get AWS Budgets' own warning; the guard's warnings go to `alerts`, whose key AWS Budgets must be
    able to use (as `Alerts` sets it up).
    """

    scope: Scope
    spending: Spending
    region: str
    fleets: Sequence[FleetRef]
    alerts: AlertsRef
    emails: Sequence[str] = ()
    nat_gateway_ids: Sequence[pulumi.Input[str]] = ()

    def __post_init__(self) -> None:
        names = [fleet.fleet for fleet in self.fleets]
        monthly, fixed = self.spending.monthly_usd, self.spending.fixed_usd_per_month
        reserved = spending.reserved_usd_per_month(self.spending, self.fleets, self.region)
        rules = (
            (bool(names), "fleets is empty: a guard without a fleet guards nothing"),
            (len(set(names)) == len(names), f"fleets names one twice: {', '.join(names)}"),
            (
                monthly > fixed + reserved,
                f"spending.monthly_usd is {monthly:g}: fixed costs and reservations alone are {fixed + reserved:.2f}",
            ),
            (len(self.emails) <= 10, f"emails has {len(self.emails)} addresses: AWS Budgets takes 10"),
        )
        faults = [fault for holds, fault in rules if not holds]
        if faults:
            raise ValueError("BudgetGuardArgs: " + "; ".join(faults))


class BudgetGuard(AwsComponent):
    """`gpu-inference:aws:BudgetGuard`: control table, guard function every minute and on every change of an instance's
    state, AWS Budget and its topic, alarms; in a dedicated account in us-east-1 one on its estimated charges.

    Does not: launch, resume a process, or raise any capacity (its role cannot). Fails: a guard that is dead raises
    the meter alarm, and within ten minutes the allowance ends, so that nothing launches and nodes leave. The AWS
    Budget's tag filter reads 0 until `gpu-inference-stack` is activated as a cost allocation tag in the payer account
    (a dedicated account needs none), and estimated charges are there only once somebody has switched "Receive billing
    alerts" on; the guard's own meter depends on neither.
    """

    def __init__(self, name: str, args: BudgetGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "BudgetGuard",
            name,
            args.scope,
            {"monthlyUsd": args.spending.monthly_usd, "fleets": [fleet.fleet for fleet in args.fleets]},
            opts,
        )
        self.account = Account(self)
        self.table = control_table(self, protect=args.scope.protect)
        self._make_topic(args)
        self._make_function(args)
        self._make_budget(args)
        self._make_alarms(args)
        self.ref = BudgetRef(
            control_table=self.table.name,
            control_table_arn=self.table.arn,
            fleets=[fleet.fleet for fleet in args.fleets],
        )
        self.finish(
            {
                "controlTable": self.table.name,
                "budgetTopicArn": self.topic.arn,
                "scaleToZeroFunction": self.function.function.name,
                "budget": spending.in_words(args.spending, args.fleets, args.region),
                "resumeHint": pulumi.Output.format(
                    "after a stop: gpufleet resume --stack {0} clears the latch in {1}",
                    args.scope.stack,
                    self.table.name,
                ),
            }
        )

    def _make_alarms(self, args: BudgetGuardArgs) -> None:
        stack = args.scope.stack
        self.meter_silent = self._alarm("meter-silent", alarms.meter_silent(stack), args)
        self.doubtful_prices = self._alarm("doubtful-prices", alarms.doubtful_prices(stack), args)
        self.estimated_charges: aws.cloudwatch.MetricAlarm | None = None
        if self._watches_charges(args):
            plan = alarms.estimated_charges(stack, args.spending.monthly_usd)
            # The policy's ARN is the topic's: nothing is published before it may be.
            self.estimated_charges = self._alarm("estimated-charges", plan, args, sets_off=[self.topic_policy.arn])

    def _alarm(
        self, kind: str, plan: alarms.Plan, args: BudgetGuardArgs, sets_off: Sequence[pulumi.Input[str]] = ()
    ) -> aws.cloudwatch.MetricAlarm:
        name = f"{self._component}-{kind}"
        return alarms.alarm(self, name, plan, self.names.alarm(kind), args.alerts, self.tags, sets_off)

    @staticmethod
    def _watches_charges(args: BudgetGuardArgs) -> bool:
        return costs.charges_alarm(args.spending.dedicated_account, args.region)

    def _make_topic(self, args: BudgetGuardArgs) -> None:
        name, watches_charges = self._component, self._watches_charges(args)
        self.topic = aws.sns.Topic(
            f"{name}-budget-topic",
            name=self.names.budget_topic,
            kms_master_key_id=args.alerts.key_arn,
            tags=self.tags,
            opts=self.child(),
        )

        def publishers(topic_arn: str, partition: str, region: str, account_id: str) -> policies.Document:
            sources = [("budgets.amazonaws.com", f"arn:{partition}:budgets::{account_id}:*")]
            if watches_charges:
                alarm = policies.alarm_arn(partition, region, account_id, self.names.alarm("estimated-charges"))
                sources.append(("cloudwatch.amazonaws.com", alarm))
            return policies.topic_publishers(topic_arn, account_id, *sources)

        self.topic_policy = aws.sns.TopicPolicy(
            f"{name}-budget-topic-policy",
            arn=self.topic.arn,
            policy=rendered(publishers, topic_arn=self.topic.arn, **self.account.wires),
            opts=self.child(),
        )

    def _make_function(self, args: BudgetGuardArgs) -> None:
        self.function = ControlFunction(
            self._component,
            ControlFunctionArgs(
                scope=args.scope,
                kind="scale-to-zero",
                handler="fleet_control.aws.scale_to_zero.handler",
                description="Meters the fleets every minute and stops them before the budget is spent",
                config=self._config(args),
                statements=self._statements(args),
                schedule="rate(1 minute)",
                timeout_s=60,
                max_event_age_s=3600,  # a budget message is worth delivering late; a late tick does no harm
                retries=2,
                alerts=args.alerts,
                topic_arn=self.topic.arn,
                events=INSTANCE_STATES,
                errors_in_5_minutes=3,
            ),
            self.child(),
        )

    def _make_budget(self, args: BudgetGuardArgs) -> None:
        self.budget = aws.budgets.Budget(
            f"{self._component}-budget",
            opts=self.child(depends_on=[self.topic_policy, self.function]),
            tags=self.tags,
            **spending.budget(
                self.names.budget, args.scope.stack, args.spending, args.emails, self.topic.arn, self.account.id
            ),
        )

    def _config(self, args: BudgetGuardArgs) -> pulumi.Output[dict[str, Any]]:
        wires = [
            {
                "spot_group": fleet.spot_group,
                "on_demand_group": fleet.on_demand_group,
                "launch_hook": fleet.launch_hook,
                "terminate_hook": fleet.terminate_hook,
                "jobs_table": fleet.jobs_table,
            }
            for fleet in args.fleets
        ]
        return pulumi.Output.all(
            fleets=wires,
            table=self.table.name,
            account=self.account.id,
            alerts=args.alerts.topic_arn,
            gateways=list(args.nat_gateway_ids),
        ).apply(
            lambda known: {
                "stack": args.scope.stack,
                "control_table": known["table"],
                "budget_name": self.names.budget,
                "account_id": known["account"],
                "alert_topic_arn": known["alerts"],
                "metric_namespace": alarms.NAMESPACE,
                "nat_gateways": known["gateways"],
                **spending.money(args.spending, args.fleets, args.region),
                "fleets": [
                    spending.limits(fleet, args.region) | wired
                    for fleet, wired in zip(args.fleets, known["fleets"], strict=True)
                ],
            }
        )

    def _statements(self, args: BudgetGuardArgs) -> pulumi.Output[list[policies.Statement]]:
        groups = sorted(group for fleet in args.fleets for group in fleet.group_names)

        def build(
            table: str, tables: list[str | None], topic: str, key: str, partition: str, region: str, account_id: str
        ) -> list[policies.Statement]:
            return [
                *policies.guard(
                    group_arns=[policies.group_arn(partition, region, account_id, group) for group in groups],
                    instances=policies.instances_arn(partition, region, account_id),
                    fleet_tags=[fleet.fleet for fleet in args.fleets],
                    control_table_arn=table,
                    jobs_table_arns=sorted({arn for arn in tables if arn}),
                    budget=policies.budget_arn(partition, account_id, self.names.budget),
                    namespace=alarms.NAMESPACE,
                    reconcile_daily=args.spending.reconcile_daily,
                    reads_gateways=bool(args.nat_gateway_ids),
                ),
                *policies.publish_alerts(topic, key),
            ]

        return pulumi.Output.all(
            table=self.table.arn,
            tables=[fleet.jobs_table_arn for fleet in args.fleets],
            topic=args.alerts.topic_arn,
            key=args.alerts.key_arn,
            **self.account.wires,
        ).apply(lambda known: build(**known))
