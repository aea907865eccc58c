"""The queue of jobs, and everything that remembers them: dead letters, job table, results, and the keeper."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from . import alarms, policies
from .base import AwsComponent, Scope, rendered
from .control_function import ControlFunction, ControlFunctionArgs
from .refs import AlertsRef, QueueRef

_DAY_S = 86_400


@dataclass(frozen=True)
class InferenceQueueArgs:
    """Policy numbers are seconds unless said otherwise.

    `visibility_s` is the worker's lease: its heartbeat extends it, so it is short. `retention_s` and the keeper's
    `resend_after_s` belong together: the keeper renews a message long before SQS would drop it, also while a fleet is
    stopped for the rest of a month. A dead letter keeps the time it was first sent at, hence its longer retention.
    Interruptions count as receives: `max_receive_count` is generous, the worker's own failure counter finds poison.
    """

    scope: Scope
    oldest_message_alarm_s: int
    alerts: AlertsRef | None = None
    visibility_s: int = 120
    max_receive_count: int = 10
    retention_s: int = 10 * _DAY_S
    dead_letter_retention_s: int = 14 * _DAY_S
    resend_after_s: int = 5 * _DAY_S
    max_message_bytes: int = 262_144
    noncurrent_days: int = 30

    def __post_init__(self) -> None:
        rules = (
            (30 <= self.visibility_s <= 43_200, "visibility_s", "SQS takes up to 43200; below 30 a heartbeat is late"),
            (60 <= self.retention_s <= 14 * _DAY_S, "retention_s", "SQS takes 60 to 1209600"),
            (
                self.retention_s < self.dead_letter_retention_s <= 14 * _DAY_S,
                "dead_letter_retention_s",
                "a dead letter keeps its first date: longer than retention_s, at most 1209600",
            ),
            (
                0 < self.resend_after_s <= self.retention_s - 2 * _DAY_S,
                "resend_after_s",
                "the keeper runs daily: two days less than retention_s leave it a second chance",
            ),
            (
                3 <= self.max_receive_count <= 1000,
                "max_receive_count",
                "SQS takes up to 1000; below 3 no receive is left in which a message near the limit could be copied",
            ),
            (1024 <= self.max_message_bytes <= 1_048_576, "max_message_bytes", "SQS takes 1024 to 1048576"),
        )
        faults = [f"{name} is {getattr(self, name)}: {rule}" for holds, name, rule in rules if not holds]
        if faults:
            raise ValueError("InferenceQueueArgs: " + "; ".join(faults))


class InferenceQueue(AwsComponent):
    """`gpu-inference:aws:InferenceQueue`: queue, dead-letter queue, job table, result bucket, keeper, two alarms.

    Does not: create jobs or read results (any client with SQS and S3 does), or make room for more than
    `max_message_bytes` a job. Fails: a job received `max_receive_count` times goes to the dead-letter queue and raises
    an alarm; nothing is dropped while the keeper runs once in `retention_s - resend_after_s`.
    """

    def __init__(self, name: str, args: InferenceQueueArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "InferenceQueue",
            name,
            args.scope,
            {
                "visibilityS": args.visibility_s,
                "retentionS": args.retention_s,
                "maxReceiveCount": args.max_receive_count,
            },
            opts,
        )
        self._make_queues(args)
        self._make_jobs_table(args)
        self._make_bucket(args)
        self._make_keeper(args)
        self.alarms = [
            alarms.alarm(self, f"{name}-{kind}", plan, self.names.alarm(kind), args.alerts, self.tags)
            for kind, plan in (
                ("dead-letters", alarms.dead_letters(self.dead_letters.name, "jobs in the dead-letter queue")),
                ("oldest-message", alarms.oldest_message(self.queue.name, args.oldest_message_alarm_s)),
            )
        ]
        self.ref = QueueRef(
            url=self.queue.url,
            arn=self.queue.arn,
            name=self.queue.name,
            dead_letter_url=self.dead_letters.url,
            dead_letter_arn=self.dead_letters.arn,
            jobs_table=self.jobs.name,
            jobs_table_arn=self.jobs.arn,
            bucket=self.bucket.bucket,
            bucket_arn=self.bucket.arn,
            max_receive_count=args.max_receive_count,
        )
        self.finish(
            {
                "queueUrl": self.queue.url,
                "deadLetterQueueUrl": self.dead_letters.url,
                "jobsTable": self.jobs.name,
                "resultsBucket": self.bucket.bucket,
            }
        )

    def _make_queues(self, args: InferenceQueueArgs) -> None:
        name = self._component
        self.dead_letters = aws.sqs.Queue(
            f"{name}-dlq",
            name=self.names.dead_letters,
            message_retention_seconds=args.dead_letter_retention_s,
            max_message_size=args.max_message_bytes,
            sqs_managed_sse_enabled=True,
            tags=self.tags,
            opts=self.child(protect=args.scope.protect),
        )
        self.queue = aws.sqs.Queue(
            f"{name}-queue",
            name=self.names.queue,
            visibility_timeout_seconds=args.visibility_s,
            message_retention_seconds=args.retention_s,
            max_message_size=args.max_message_bytes,
            receive_wait_time_seconds=20,  # the longest poll: fewest empty receives
            redrive_policy=rendered(
                lambda arn: {"deadLetterTargetArn": arn, "maxReceiveCount": args.max_receive_count},
                arn=self.dead_letters.arn,
            ),
            sqs_managed_sse_enabled=True,
            tags=self.tags,
            opts=self.child(protect=args.scope.protect),
        )
        self.redrive_allow_policy = aws.sqs.RedriveAllowPolicy(
            f"{name}-dlq-sources",
            queue_url=self.dead_letters.url,
            redrive_allow_policy=rendered(
                lambda arn: {"redrivePermission": "byQueue", "sourceQueueArns": [arn]}, arn=self.queue.arn
            ),
            opts=self.child(),
        )
        self.queue_policies = [
            aws.sqs.QueuePolicy(
                f"{name}-{kind}-policy",
                queue_url=queue.url,
                policy=rendered(policies.tls_only_queue, queue_arn=queue.arn),
                opts=self.child(),
            )
            for kind, queue in (("queue", self.queue), ("dlq", self.dead_letters))
        ]

    def _make_jobs_table(self, args: InferenceQueueArgs) -> None:
        self.jobs = aws.dynamodb.Table(
            f"{self._component}-jobs",
            name=self.names.jobs_table,
            billing_mode="PAY_PER_REQUEST",
            hash_key="pk",
            range_key="sk",
            attributes=[{"name": "pk", "type": "S"}, {"name": "sk", "type": "S"}],
            ttl={"enabled": True, "attribute_name": "expires"},
            point_in_time_recovery={"enabled": True},
            server_side_encryption={"enabled": True},
            deletion_protection_enabled=args.scope.protect,
            tags=self.tags,
            opts=self.child(protect=args.scope.protect),
        )

    def _make_bucket(self, args: InferenceQueueArgs) -> None:
        """S3 names are global: a prefix, and AWS completes it. Versioned: an overwritten result can be brought back."""
        name = self._component
        self.bucket = aws.s3.Bucket(
            f"{name}-results",
            bucket_prefix=self.names.results_bucket_prefix,
            tags=self.tags,
            opts=self.child(protect=args.scope.protect),
        )
        self.bucket_public_access = aws.s3.BucketPublicAccessBlock(
            f"{name}-results-private",
            bucket=self.bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.child(),
        )
        self.bucket_ownership = aws.s3.BucketOwnershipControls(
            f"{name}-results-ownership",
            bucket=self.bucket.bucket,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=self.child(),
        )
        self.bucket_encryption = aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-results-encryption",
            bucket=self.bucket.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=self.child(),
        )
        self.bucket_versioning = aws.s3.BucketVersioning(
            f"{name}-results-versioning",
            bucket=self.bucket.bucket,
            versioning_configuration={"status": "Enabled"},
            opts=self.child(),
        )
        self.bucket_lifecycle = aws.s3.BucketLifecycleConfiguration(
            f"{name}-results-lifecycle",
            bucket=self.bucket.bucket,
            rules=[
                {
                    "id": "tidy",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "noncurrent_version_expiration": {"noncurrent_days": args.noncurrent_days},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                }
            ],
            opts=self.child(depends_on=[self.bucket_versioning]),
        )
        self.bucket_policy = aws.s3.BucketPolicy(
            f"{name}-results-policy",
            bucket=self.bucket.bucket,
            policy=rendered(policies.tls_only_bucket, bucket_arn=self.bucket.arn),
            opts=self.child(depends_on=[self.bucket_public_access]),
        )

    def _make_keeper(self, args: InferenceQueueArgs) -> None:
        self.keeper = ControlFunction(
            self._component,
            ControlFunctionArgs(
                scope=args.scope,
                kind="keeper",
                handler="fleet_control.aws.queue_keeper.handler",
                description="Re-sends jobs that have waited for days, before SQS drops them",
                config=self.queue.url.apply(
                    lambda url: {
                        "stack": args.scope.stack,
                        "queue_url": url,
                        "resend_after_s": args.resend_after_s,
                        "max_receive_count": args.max_receive_count,
                    }
                ),
                statements=self.queue.arn.apply(policies.keeper),
                schedule="rate(1 day)",
                timeout_s=300,
                max_event_age_s=21_600,
                retries=2,
                alerts=args.alerts,
            ),
            self.child(),
        )
