"""What every AWS component shares: its scope (stack, tags, boundary), its names, and where it is deployed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pulumi
import pulumi_aws as aws

from ..naming import Names
from . import policies


@dataclass(frozen=True)
class Scope:
    """What the components of one deployment have in common.

    `stack` goes into every name and tag. `tags` are the user's own, on every resource that can carry tags.
    `permissions_boundary` is the ARN of the policy that bounds every role made here. `protect` keeps queues, tables and
    results from being deleted or replaced: Pulumi refuses, and so does DynamoDB. `log_retention_days` as CloudWatch
    Logs takes them.
    """

    stack: str
    tags: Mapping[str, str] = field(default_factory=dict)
    permissions_boundary: pulumi.Input[str] | None = None
    protect: bool = False
    log_retention_days: int = 30


class Account:
    """Partition, region and account id of the provider that a component is deployed with, each asked for when used."""

    def __init__(self, parent: pulumi.Resource) -> None:
        self._options = pulumi.InvokeOutputOptions(parent=parent)

    @cached_property
    def id(self) -> pulumi.Output[str]:
        return aws.get_caller_identity_output(opts=self._options).account_id

    @cached_property
    def region(self) -> pulumi.Output[str]:
        return aws.get_region_output(opts=self._options).region

    @cached_property
    def partition(self) -> pulumi.Output[str]:
        return aws.get_partition_output(opts=self._options).partition

    @property
    def wires(self) -> dict[str, pulumi.Output[str]]:
        """The three as keyword arguments of the ARN builders in `policies`."""
        return {"partition": self.partition, "region": self.region, "account_id": self.id}


class AwsComponent(pulumi.ComponentResource):
    """A component whose `component` is the `{component}` of every name and tag below it.

    Children are called `<component>-<kind>` in Pulumi and `<component>-<kind>-<stack>` in AWS (`names`).
    """

    def __init__(
        self,
        token: str,
        component: str,
        scope: Scope,
        summary: Mapping[str, Any],
        opts: pulumi.ResourceOptions | None,
        suffix: str = "",
    ) -> None:
        self.names = Names(component, scope.stack)  # first: a name that cannot be used registers nothing
        super().__init__(f"gpu-inference:aws:{token}", f"{component}{suffix}", dict(summary), opts)
        self.tags = self.names.tags(scope.tags)
        self._component = component
        self._scope = scope

    def child(self, **options: Any) -> pulumi.ResourceOptions:
        """Options of a child. The caller's are not merged in: its parent and aliases are the component's own."""
        return pulumi.ResourceOptions(parent=self, **options)

    def finish(self, outputs: Mapping[str, pulumi.Input[Any]]) -> None:
        """Register `outputs`: what an operator types or reads, under the names a program exports them by."""
        self.outputs = dict(outputs)
        self.register_outputs(self.outputs)

    def role(self, thing: str, service: str, description: str) -> aws.iam.Role:
        """A role that only `service` can take, within the scope's permissions boundary."""
        return aws.iam.Role(
            f"{self._component}-{thing}",
            name=self.names.role(thing),
            description=description,
            assume_role_policy=json.dumps(policies.assume_role(service)),
            permissions_boundary=self._scope.permissions_boundary,
            tags=self.tags,
            opts=self.child(),
        )


def rendered(build: Callable[..., Any], **wires: pulumi.Input[Any]) -> pulumi.Output[str]:
    """The JSON of `build(**wires)` once every wire is known."""
    return pulumi.Output.all(**wires).apply(lambda known: json.dumps(build(**known)))
