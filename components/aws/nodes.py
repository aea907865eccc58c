"""What runs on a fleet's instances: the shipped worker beside a model server, or something of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pulumi
import pulumi_aws as aws

from .. import payloads
from ..naming import Names
from . import policies, user_data
from .base import Account
from .refs import QueueRef


class ModelLike(Protocol):
    """`weights` is `s3://bucket/prefix/`, `image` ends in a digest, `slots` is how many jobs run at once.

    `port` is where the model server answers on the loopback.
    """

    @property
    def weights(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def server_args(self) -> Sequence[str]: ...
    @property
    def slots(self) -> int: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Model:
    """A model by hand, for programs that have no settings of their own (see `ModelLike`)."""

    weights: str
    image: str
    slots: int
    server_args: Sequence[str] = ()
    port: int = 8000  # vLLM's


@dataclass(frozen=True)
class NodePlace:
    """What a fleet tells its node: who it is and how long things may take (seconds)."""

    parent: pulumi.Resource
    names: Names
    account: Account
    groups: Sequence[str]
    boot_deadline_s: int
    drain_s: int


@dataclass(frozen=True)
class NodeParts:
    """What a node needs of its fleet: the script, the role's statements, and whether it completes lifecycle hooks.

    `job_timeout_s` is the longest a job may take, None if only the node's maker knows.
    """

    user_data: pulumi.Input[str]
    statements: pulumi.Input[Sequence[policies.Statement]] | None
    uses_hooks: bool
    needs_allowance: bool
    jobs_table: pulumi.Input[str] | None = None
    jobs_table_arn: pulumi.Input[str] | None = None
    job_timeout_s: int | None = None
    depends_on: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True)
class ModelNode:
    """The shipped worker serving `queue` from a model server on the same instance.

    `lease_s` is how long a job stays with a worker that stopped talking; `job_timeout_s` ends a job that hangs.
    `allowance`: leave when the guard has been silent for ten minutes; False only for a fleet whose scaler is
    `Unlimited`, where nobody extends it. `statements` are added to the role (a weights bucket's own key, for example).
    """

    model: ModelLike
    queue: QueueRef
    lease_s: int = 120
    job_timeout_s: int = 900
    allowance: bool = True
    statements: Sequence[policies.Statement] = ()

    def __post_init__(self) -> None:
        needed = ("dead_letter_url", "dead_letter_arn", "jobs_table", "jobs_table_arn", "bucket", "bucket_arn")
        missing = [name for name in needed if getattr(self.queue, name) is None]
        if missing:
            raise ValueError(
                f"ModelNode.queue has no {', '.join(missing)}: the shipped worker needs them, use an InferenceQueue, "
                "or bring your own worker with CustomNode"
            )
        if "@sha256:" not in self.model.image:
            raise ValueError(f"model image {self.model.image!r}: pin it by digest (...@sha256:...)")
        if not self.model.weights.startswith("s3://"):
            raise ValueError(f"model weights {self.model.weights!r}: give an s3:// prefix")
        if self.model.slots < 1:
            raise ValueError(f"model slots is {self.model.slots}: at least 1")

    def build(self, place: NodePlace) -> NodeParts:
        """The node's files in the bucket, its role's statements, and its user data."""
        payload, queue = payloads.node_zip(), self.queue
        files = aws.s3.BucketObjectv2(
            f"{place.names.component}-node-payload",
            bucket=queue.bucket,
            key=f"node/{place.names.fleet}/{payload.sha256}.zip",
            source=pulumi.FileAsset(str(payload.path)),
            content_type="application/zip",
            opts=pulumi.ResourceOptions(parent=place.parent),
        )
        wires = {"url": queue.url, "dead_letters": queue.dead_letter_url, "jobs": queue.jobs_table}
        script = pulumi.Output.all(region=place.account.region, bucket=queue.bucket, key=files.key, **wires).apply(
            lambda known: user_data.render(
                payloads.user_data_template(),
                self._config(place, known),
                f"s3://{known['bucket']}/{known['key']}",
                payload.sha256,
            )
        )
        statements = pulumi.Output.all(
            queue_arn=queue.arn,
            dead_letter_arn=queue.dead_letter_arn,
            jobs_table_arn=queue.jobs_table_arn,
            bucket_arn=queue.bucket_arn,
            partition=place.account.partition,
        ).apply(lambda known: self._statements(place, **known))
        return NodeParts(
            user_data=script,
            statements=statements,
            uses_hooks=True,
            needs_allowance=self.allowance,
            jobs_table=queue.jobs_table,
            jobs_table_arn=queue.jobs_table_arn,
            job_timeout_s=self.job_timeout_s,
            depends_on=[files],
        )

    def _statements(self, place: NodePlace, partition: str, **arns: str) -> list[policies.Statement]:
        return [
            *policies.node_worker(**arns, node_files=f"node/{place.names.fleet}"),
            *policies.node_model(partition, self.model.weights, self.model.image),
            *self.statements,
        ]

    def _config(self, place: NodePlace, known: dict[str, Any]) -> dict[str, Any]:
        """/etc/inference/node.json."""
        return {
            "region": known["region"],
            "stack": place.names.stack,
            "fleet": place.names.fleet,
            "groups": list(place.groups),
            "launch_hook": place.names.launch_hook,
            "terminate_hook": place.names.terminate_hook,
            "queue_url": known["url"],
            "dead_letter_url": known["dead_letters"],
            "jobs_table": known["jobs"],
            "bucket": known["bucket"],
            "lease_s": self.lease_s,
            "drain_s": place.drain_s,
            "boot_deadline_s": place.boot_deadline_s,
            "allowance": self.allowance,
            "max_receive_count": self.queue.max_receive_count,
            "job_timeout_s": self.job_timeout_s,
            "model": {
                "weights": self.model.weights,
                "image": self.model.image,
                "server_args": list(self.model.server_args),
                "slots": self.model.slots,
                "port": self.model.port,
            },
        }


@dataclass(frozen=True)
class CustomNode:
    """The user's own node. It serves the queue by itself; the scaler sees it through SQS only.

    `user_data` is the script, unencoded. `statements` are its role's whole policy. With `completes_hooks` the node
    calls CompleteLifecycleAction itself, on both hooks (the role allows it); without, the fleet has no hooks: an
    instance counts as soon as it runs and is terminated without a drain. The guard's allowance does not reach it.
    """

    user_data: pulumi.Input[str]
    statements: pulumi.Input[Sequence[policies.Statement]] | None = None
    completes_hooks: bool = False

    def build(self, place: NodePlace) -> NodeParts:
        """The user's script and statements as they are."""
        del place
        return NodeParts(
            user_data=pulumi.Output.from_input(self.user_data).apply(user_data.checked),
            statements=self.statements,
            uses_hooks=self.completes_hooks,
            needs_allowance=False,
        )
