"""The alarms of the stack: what each watches, when it speaks, what to do. Pure plans, and the one way to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from .refs import AlertsRef

NAMESPACE = "GpuInference"  # of the metrics that the control functions publish
Plan = dict[str, Any]


def alarm(
    parent: pulumi.Resource,
    resource_name: str,
    plan: Plan,
    name: str,
    alerts: AlertsRef | None,
    tags: Mapping[str, str],
    sets_off: Sequence[pulumi.Input[str]] = (),
) -> aws.cloudwatch.MetricAlarm:
    """`plan` as an alarm that tells `alerts` when it starts and ends; without alerts only the console shows it.

    `sets_off`: ARNs of what it does besides when it starts (a scaling policy, again each minute while it lasts).
    """
    told = [alerts.topic_arn] if alerts else []
    return aws.cloudwatch.MetricAlarm(
        resource_name,
        name=name,
        alarm_actions=[*told, *sets_off] or None,
        ok_actions=told or None,
        tags=tags,
        opts=pulumi.ResourceOptions(parent=parent),
        **plan,
    )


def dead_letters(queue: pulumi.Input[str], what: str) -> Plan:
    """Anything visible in a dead-letter queue. (NumberOfMessagesSent does not count what SQS moves there itself.)"""
    return _plan(
        f"There are {what}: read them, repair the cause, redrive or delete",
        namespace="AWS/SQS",
        metric="ApproximateNumberOfMessagesVisible",
        dimensions={"QueueName": queue},
        statistic="Maximum",
        threshold=0,
    )


def oldest_message(queue: pulumi.Input[str], seconds: int) -> Plan:
    """Jobs wait much longer than promised. SQS stops the metric for a queue idle for 6 hours: no data is no alarm."""
    return _plan(
        f"The oldest job has waited more than {seconds} s: no capacity, a stopped fleet, or jobs that keep failing",
        namespace="AWS/SQS",
        metric="ApproximateAgeOfOldestMessage",
        dimensions={"QueueName": queue},
        statistic="Maximum",
        threshold=seconds,
        minutes=5,
    )


def function_errors(function: str, errors: int) -> Plan:
    return _plan(
        f"{function} failed {errors} times in 5 minutes: see its log group",
        namespace="AWS/Lambda",
        metric="Errors",
        dimensions={"FunctionName": function},
        statistic="Sum",
        threshold=errors - 1,
        period=300,
    )


def meter_silent(stack: str) -> Plan:
    """The guard has not metered for 5 minutes. Missing data is the fault itself, so it counts as breaching."""
    plan = _plan(
        "The spend meter is silent: nothing launches without it, and nodes drain when their allowance ends",
        namespace=NAMESPACE,
        metric="GuardTick",
        dimensions={"Stack": stack},
        statistic="Sum",
        threshold=1,
        minutes=5,
    )
    return plan | {"comparison_operator": "LessThanThreshold", "treat_missing_data": "breaching"}


def doubtful_prices(stack: str) -> Plan:
    """Types run whose price is not known, or the price list is too old: the guard counts the dearest known price of
    that number of GPUs, and stops early rather than late. It publishes the metric only while that is so."""
    return _plan(
        "Prices are not known, or too old: the dearest known ones count, so the budget ends early. Run gpufleet prices "
        "refresh and deploy, or take the type out of gpuInstanceTypes",
        namespace=NAMESPACE,
        metric="DoubtfulPrices",
        dimensions={"Stack": stack},
        statistic="Maximum",
        threshold=0,
        period=300,
    )


def estimated_charges(stack: str, usd: float) -> Plan:
    """The whole account's charges of this month, as AWS Billing estimates them several times a day, have reached the
    budget. For an account that holds this stack alone, in us-east-1, which alone has the metric, once "Receive billing
    alerts" is switched on (CloudWatch user guide, "Create a billing alarm"). Between two figures the state stays."""
    plan = _plan(
        f"AWS estimates this account's charges at the budget of stack {stack}: the guard asks AWS Budgets for the "
        "figure and applies its law",
        namespace="AWS/Billing",
        metric="EstimatedCharges",
        dimensions={"Currency": "USD"},
        statistic="Maximum",
        threshold=usd,
        period=21_600,
    )
    return plan | {"comparison_operator": "GreaterThanOrEqualToThreshold", "treat_missing_data": "ignore"}


def controller_silent(fleet: str) -> Plan:
    """The controller has published nothing for 5 minutes: nothing wakes the fleet, and nothing sends it home."""
    plan = _plan(
        f"The controller of {fleet} is silent: nothing launches, and idle instances stay. Look at its schedule and log",
        namespace=NAMESPACE,
        metric="Waiting",
        dimensions={"Fleet": fleet},
        statistic="SampleCount",
        threshold=1,
        minutes=5,
    )
    return plan | {"comparison_operator": "LessThanThreshold", "treat_missing_data": "breaching"}


def failed_boots(fleet: str) -> Plan:
    """Three boots of the present template version failed in a row: the controller holds it (`fleet_control.boot_law`).

    It ends with the first boot that succeeds, or with another version.
    """
    return _plan(
        f"Three boots of {fleet} failed in a row: launches are held but for probes. Deploy a version that boots",
        namespace=NAMESPACE,
        metric="FailedBoots",
        dimensions={"Fleet": fleet},
        statistic="Maximum",
        threshold=2,
    )


def backstop(queue: pulumi.Input[str], fleet: str, seconds: int) -> Plan:
    """A job has waited longer than promised, and the guard says that nobody attends the fleet: launch one instance.

    All that must hold for a launch is in the guard's word (`fleet_control.aws.backstop`), which is there only while the
    guard ticks. Where either metric has no point there is no alarm: SQS's may take 15 minutes to come back for a queue
    that nobody touched for 6 hours, and then the launch comes as much later.
    """

    def metric(namespace: str, name: str, dimension: str, value: pulumi.Input[str]) -> dict[str, Any]:
        which = {"namespace": namespace, "metric_name": name, "dimensions": {dimension: value}}
        return which | {"stat": "Maximum", "period": 60}

    return {
        "alarm_description": f"The controller of {fleet} is silent, nothing runs, and a job has waited for more than "
        f"{seconds} s: one instance is launched. Look at the controller's schedule and log",
        "metric_queries": [
            {"id": "age", "metric": metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue)},
            {"id": "unattended", "metric": metric(NAMESPACE, "Unattended", "Fleet", fleet)},
            {
                "id": "launch",
                "expression": f"IF(age > {seconds} AND unattended > 0, 1, 0)",
                "label": "a job waits, and nobody attends",
                "return_data": True,
            },
        ],
        "evaluation_periods": 1,
        "datapoints_to_alarm": 1,
        "threshold": 1,
        "comparison_operator": "GreaterThanOrEqualToThreshold",
        "treat_missing_data": "notBreaching",
    }


def serves_nothing(fleet: str) -> Plan:
    """Instances are in service, jobs wait, and none was completed for 15 minutes: GPUs burn money on a hung engine.

    The controller publishes how long that has been so; one job done sets it back to 0.
    """
    return _plan(
        f"Instances of {fleet} are in service and jobs wait, but none was completed for 15 minutes: "
        "the model server hangs, or the worker cannot reach the queue",
        namespace=NAMESPACE,
        metric="StalledSeconds",
        dimensions={"Fleet": fleet},
        statistic="Maximum",
        threshold=900,
    )


def _plan(
    description: str,
    *,
    namespace: str,
    metric: str,
    dimensions: Mapping[str, pulumi.Input[str]],
    statistic: str,
    threshold: float,
    minutes: int = 1,
    period: int = 60,
) -> Plan:
    return {
        "alarm_description": description,
        "namespace": namespace,
        "metric_name": metric,
        "dimensions": dict(dimensions),
        "statistic": statistic,
        "period": period,
        "evaluation_periods": minutes,
        "datapoints_to_alarm": minutes,
        "threshold": threshold,
        "comparison_operator": "GreaterThanThreshold",
        "treat_missing_data": "notBreaching",
    }
