"""The control table: latch, ledger, and what the scaler remembers between two runs."""

from __future__ import annotations

import pulumi_aws as aws

from .base import AwsComponent


def control_table(parent: AwsComponent, *, protect: bool) -> aws.dynamodb.Table:
    """The control table as a child of `parent`: on-demand capacity, encrypted, restorable to any second of 35 days."""
    return aws.dynamodb.Table(
        f"{parent.names.component}-control",
        name=parent.names.control_table,
        billing_mode="PAY_PER_REQUEST",
        hash_key="pk",
        attributes=[{"name": "pk", "type": "S"}],
        ttl={"enabled": True, "attribute_name": "expires"},
        point_in_time_recovery={"enabled": True},
        server_side_encryption={"enabled": True},
        deletion_protection_enabled=protect,
        tags=parent.tags,
        opts=parent.child(protect=protect),
    )
