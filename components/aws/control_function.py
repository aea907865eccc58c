"""A function that runs on a schedule and watches over the stack: keeper, guard or controller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from .. import payloads
from . import alarms, policies
from .base import AwsComponent, Scope, rendered
from .refs import AlertsRef

RUNTIME = "python3.13"  # on Amazon Linux 2023, supported to 2029-06 (endoflife.date, read 2026-11)
DEAD_LETTER_RETENTION_S = 14 * 86_400  # the longest SQS keeps anything


@dataclass(frozen=True)
class Events:
    """Events of the account's default bus: `kind` is their part of the rule's name, `pattern` which of them."""

    kind: str
    pattern: Mapping[str, Any]


@dataclass(frozen=True)
class ControlFunctionArgs:
    """One function.

    `kind` is its part of the name (`controller`); `config` the document it finds in `FLEET_CONTROL_CONFIG`;
    `statements` what its role may do beyond logs and its own dead letters; `schedule` a `rate(...)` or `cron(...)`.
    A tick older than `max_event_age_s` (60 to 21,600) is worth nothing and is dropped to the dead-letter queue, as is
    an event that failed `retries` (0 to 2) times more. `topic_arn` is an SNS topic that also invokes it, `events` are
    others that do.
    `errors_in_5_minutes` failed runs raise the alarm. `reserved_concurrency` stays None in a fresh account: AWS keeps
    10 executions unreserved, and a quota of 10 leaves none to reserve.
    """

    scope: Scope
    kind: str
    handler: str
    description: str
    config: pulumi.Input[dict[str, Any]]
    statements: pulumi.Input[Sequence[policies.Statement]]
    schedule: str
    timeout_s: int
    max_event_age_s: int
    retries: int
    alerts: AlertsRef | None = None
    topic_arn: pulumi.Input[str] | None = None
    events: Events | None = None
    errors_in_5_minutes: int = 1
    memory_mb: int = 256
    reserved_concurrency: int | None = None

    def __post_init__(self) -> None:
        if not 60 <= self.max_event_age_s <= 21_600:
            raise ValueError(f"ControlFunctionArgs.max_event_age_s is {self.max_event_age_s}: Lambda takes 60 to 21600")
        if not 0 <= self.retries <= 2:
            raise ValueError(f"ControlFunctionArgs.retries is {self.retries}: Lambda takes 0 to 2")


class ControlFunction(AwsComponent):
    """`gpu-inference:aws:ControlFunction`: log group, role, function, dead letters, schedule, alarms of one function.

    Does not: run in a VPC (it only talks to AWS APIs) or keep state (its tables do). Fails: a run that raises is
    retried as said, then its event lies in the dead-letter queue and an alarm is raised.
    """

    def __init__(self, name: str, args: ControlFunctionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ControlFunction", name, args.scope, _summary(args), opts, suffix=f"-{args.kind}-function")
        self._kind = args.kind
        self.log_group = aws.cloudwatch.LogGroup(
            f"{name}-{args.kind}-logs",
            name=self.names.log_group(args.kind),
            retention_in_days=args.scope.log_retention_days,
            tags=self.tags,
            opts=self.child(),
        )
        self._make_dead_letters(args)
        self.function_role = self.role(args.kind, "lambda.amazonaws.com", args.description)
        self.policy = aws.iam.RolePolicy(
            f"{name}-{args.kind}-policy",
            name=self.names.role(args.kind),
            role=self.function_role.name,
            policy=rendered(
                lambda log_group, dead_letters, statements: policies.document(
                    *policies.function_basics(log_group, dead_letters), *statements
                ),
                log_group=self.log_group.arn,
                dead_letters=self.dead_letters.arn,
                statements=args.statements,
            ),
            opts=self.child(),
        )
        self._make_function(args)
        self._make_triggers(args)
        self._make_alarms(args)
        self.finish({"functionName": self.function.name, "functionArn": self.function.arn})

    def _make_dead_letters(self, args: ControlFunctionArgs) -> None:
        self.dead_letters = aws.sqs.Queue(
            f"{self._component}-{args.kind}-dlq",
            name=self.names.function_dead_letters(args.kind),
            message_retention_seconds=DEAD_LETTER_RETENTION_S,
            sqs_managed_sse_enabled=True,
            tags=self.tags,
            opts=self.child(),
        )
        self.dead_letters_policy = aws.sqs.QueuePolicy(
            f"{self._component}-{args.kind}-dlq-policy",
            queue_url=self.dead_letters.url,
            policy=rendered(
                policies.function_dead_letter_queue, queue_arn=self.dead_letters.arn, topic_arn=args.topic_arn
            ),
            opts=self.child(),
        )

    def _make_function(self, args: ControlFunctionArgs) -> None:
        code = payloads.function_zip()
        self.function = aws.lambda_.Function(
            f"{self._component}-{args.kind}",
            name=self.names.function(args.kind),
            description=args.description,
            runtime=RUNTIME,
            architectures=["arm64"],
            handler=args.handler,
            code=pulumi.FileArchive(str(code.path)),
            source_code_hash=code.sha256_base64,
            role=self.function_role.arn,
            timeout=args.timeout_s,
            memory_size=args.memory_mb,
            reserved_concurrent_executions=args.reserved_concurrency,
            environment={
                "variables": {
                    "FLEET_CONTROL_CONFIG": pulumi.Output.from_input(args.config).apply(
                        lambda config: json.dumps(config, sort_keys=True)
                    )
                }
            },
            tags=self.tags,
            opts=self.child(depends_on=[self.log_group, self.policy]),
        )
        self.invoke_config = aws.lambda_.FunctionEventInvokeConfig(
            f"{self._component}-{args.kind}-async",
            function_name=self.function.name,
            maximum_event_age_in_seconds=args.max_event_age_s,
            maximum_retry_attempts=args.retries,
            destination_config={"on_failure": {"destination": self.dead_letters.arn}},
            opts=self.child(),
        )

    def _make_triggers(self, args: ControlFunctionArgs) -> None:
        runs = f"Runs {self.names.function(args.kind)}"
        self.rule, self.permission, self.target = self._make_rule(
            "schedule", self.names.schedule(args.kind), args.kind, description=runs, schedule_expression=args.schedule
        )
        self.event_rule: aws.cloudwatch.EventRule | None = None
        if args.events is not None:
            tells = f"Tells {self.names.function(args.kind)}"
            pattern = json.dumps(dict(args.events.pattern), sort_keys=True)
            self.event_rule, _, _ = self._make_rule(
                "events",
                self.names.events(args.events.kind),
                args.events.kind,
                description=tells,
                event_pattern=pattern,
            )
        self.subscription: aws.sns.TopicSubscription | None = None
        if args.topic_arn is not None:
            permission = self._invoke_permission("topic", "sns.amazonaws.com", args.topic_arn)
            self.subscription = aws.sns.TopicSubscription(
                f"{self._component}-{args.kind}-subscription",
                topic=args.topic_arn,
                protocol="lambda",
                endpoint=self.function.arn,
                redrive_policy=rendered(lambda arn: {"deadLetterTargetArn": arn}, arn=self.dead_letters.arn),
                opts=self.child(depends_on=[permission, self.dead_letters_policy]),
            )

    def _make_rule(
        self, source: str, name: str, target_id: str, **when: Any
    ) -> tuple[aws.cloudwatch.EventRule, aws.lambda_.Permission, aws.cloudwatch.EventTarget]:
        """A rule called `name` that invokes the function, its permission to do so, and its target."""
        prefix = f"{self._component}-{self._kind}"
        rule = aws.cloudwatch.EventRule(f"{prefix}-{source}", name=name, tags=self.tags, opts=self.child(), **when)
        permission = self._invoke_permission(source, "events.amazonaws.com", rule.arn)
        target = aws.cloudwatch.EventTarget(
            f"{prefix}-target" if source == "schedule" else f"{prefix}-{source}-target",
            rule=rule.name,
            target_id=target_id,
            arn=self.function.arn,
            opts=self.child(depends_on=[permission, self.invoke_config]),
        )
        return rule, permission, target

    def _invoke_permission(self, source: str, service: str, arn: pulumi.Input[str]) -> aws.lambda_.Permission:
        return aws.lambda_.Permission(
            f"{self._component}-{self._kind}-from-{source}",
            statement_id=f"from-{source}",
            action="lambda:InvokeFunction",
            function=self.function.name,
            principal=service,
            source_arn=arn,
            opts=self.child(),
        )

    def _make_alarms(self, args: ControlFunctionArgs) -> None:
        prefix, function = f"{self._component}-{args.kind}", self.names.function(args.kind)
        self.alarms = [
            alarms.alarm(
                self, f"{prefix}-{kind}", plan, self.names.alarm(f"{args.kind}-{kind}"), args.alerts, self.tags
            )
            for kind, plan in (
                ("errors", alarms.function_errors(function, args.errors_in_5_minutes)),
                (
                    "dead-letters",
                    alarms.dead_letters(self.names.function_dead_letters(args.kind), f"events {function} failed on"),
                ),
            )
        ]


def _summary(args: ControlFunctionArgs) -> dict[str, Any]:
    return {"kind": args.kind, "handler": args.handler, "schedule": args.schedule}
