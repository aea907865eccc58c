"""Where alarms go: one encrypted topic, and the people who subscribed to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from . import policies
from .base import Account, AwsComponent, Scope, rendered
from .refs import AlertsRef


@dataclass(frozen=True)
class AlertsArgs:
    """`emails`: who is told; each address must confirm once. `key_deletion_days`: 7 to 30, a deleted key's grace."""

    scope: Scope
    emails: Sequence[str] = ()
    key_deletion_days: int = 30

    def __post_init__(self) -> None:
        if not 7 <= self.key_deletion_days <= 30:
            raise ValueError(f"AlertsArgs.key_deletion_days is {self.key_deletion_days}: KMS takes 7 to 30 days")
        if len(set(self.emails)) != len(self.emails):
            raise ValueError(f"AlertsArgs.emails names an address twice: {', '.join(self.emails)}")


class Alerts(AwsComponent):
    """`gpu-inference:aws:Alerts`: key with rotation, topic, topic policy, one e-mail subscription per address.

    Does not: page anybody, or know which alarms exist. Fails: a subscription that was never confirmed receives
    nothing, and AWS does not say so.
    """

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("Alerts", name, args.scope, {"emails": len(args.emails)}, opts)
        account = Account(self)
        self.key = aws.kms.Key(
            f"{name}-alerts-key",
            description=f"Alert topics of {name}, stack {args.scope.stack}",
            enable_key_rotation=True,
            deletion_window_in_days=args.key_deletion_days,
            policy=rendered(policies.topic_key, partition=account.partition, account_id=account.id),
            tags=self.tags,
            opts=self.child(),
        )
        self.topic = aws.sns.Topic(
            f"{name}-alerts",
            name=self.names.alerts_topic,
            kms_master_key_id=self.key.arn,
            tags=self.tags,
            opts=self.child(),
        )
        self.topic_policy = aws.sns.TopicPolicy(
            f"{name}-alerts-policy",
            arn=self.topic.arn,
            policy=pulumi.Output.json_dumps(
                pulumi.Output.all(self.topic.arn, account.partition, account.region, account.id).apply(
                    lambda known: policies.topic_publishers(
                        known[0],
                        known[3],
                        ("cloudwatch.amazonaws.com", policies.alarm_arn(known[1], known[2], known[3], "*")),
                    )
                )
            ),
            opts=self.child(),
        )
        self.subscriptions = [
            aws.sns.TopicSubscription(
                f"{name}-alerts-to-{email}",
                topic=self.topic.arn,
                protocol="email",
                endpoint=email,
                opts=self.child(),
            )
            for email in args.emails
        ]
        self.ref = AlertsRef(topic_arn=self.topic.arn, key_arn=self.key.arn)
        self.finish({"topicArn": self.topic.arn})
