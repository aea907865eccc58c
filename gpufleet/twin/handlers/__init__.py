"""Resource handlers: what the AWS provider does for each Pulumi type, acting on the twin through boto3.

`handler(type)` answers the handler of a type; `invoke(cloud, token, args)` a provider function. Both refuse by name
what the twin does not model.
"""

from __future__ import annotations

from ..errors import NotModelledError
from . import (
    autoscaling,
    budgets,
    cloudwatch,
    dynamodb,
    events,
    functions,
    iam,
    kms,
    launch_templates,
    network,
    provider,
    routes,
    s3,
    s3_objects,
    security_groups,
    sns,
    sqs,
)
from .base import Asked, Diff, Handler, Inputs, Outputs, PartlyMade, explained, ignoring
from .invokes import invoke
from .provider import Provider

_MODULES = (
    autoscaling, budgets, cloudwatch, dynamodb, events, functions, iam, kms, launch_templates, network, provider,
    routes, s3, s3_objects, security_groups, sns, sqs,
)  # fmt: skip
HANDLERS: dict[str, Handler] = {cls.type: cls() for module in _MODULES for cls in module.HANDLERS}


def handler(type_: str) -> Handler:
    """The handler of a Pulumi type. Raises `NotModelledError` for one that the twin does not know."""
    found = HANDLERS.get(type_)
    if found is None:
        raise NotModelledError(f"the twin does not model the resource type {type_}")
    return found


__all__ = [
    "HANDLERS", "Asked", "Diff", "Handler", "Inputs", "Outputs", "PartlyMade", "Provider", "explained", "handler",
    "ignoring", "invoke",
]  # fmt: skip
