"""The rule of the resource handlers, as a function: which inputs does a live resource not show?

It is read as after `pulumi import`, by its id and nothing else: a handler that answers its inputs back shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.handlers import Handler, handler
from gpufleet.twin.handlers.properties import Fields, canonical

PROVIDER = "pulumi:providers:aws"  # nothing in AWS: its settings act on the others

# What `pulumi import` takes where it is not the id itself.
IMPORTED_BY: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "aws:ec2/route:Route": lambda one: f"{one['routeTableId']}_{one['destinationCidrBlock']}",
    "aws:cloudwatch/eventTarget:EventTarget": lambda one: f"{one['rule']}/{one['targetId']}",
    "aws:autoscaling/lifecycleHook:LifecycleHook": lambda one: f"{one['autoscalingGroupName']}/{one['name']}",
    "aws:autoscaling/policy:Policy": lambda one: f"{one['autoscalingGroupName']}/{one['name']}",
    "aws:lambda/permission:Permission": lambda one: f"{one['function']}/{one['statementId']}",
}
# S3 does not say in which of the three forms a body came: `read` is asked for it in the program's form, with a wrong
# body. What comes back right is the object's.
WRONG_BODIES = {"source": {"path": "elsewhere", "sha256": "0" * 64}, "content": "wrong", "contentBase64": "d3Jvbmc="}


def seen_from_outside(kind: Handler, cloud: Cloud, identifier: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The live properties, by what `pulumi import` knows."""
    asked = IMPORTED_BY[kind.type](inputs) if kind.type in IMPORTED_BY else identifier
    found, needed = kind.imported(asked)
    assert found == identifier
    if kind.type.endswith(":BucketObjectv2"):
        needed = {name: wrong for name, wrong in WRONG_BODIES.items() if name in inputs}
    return kind.read(cloud, identifier, needed) or {}


def unseen(fields: Fields, wanted: Mapping[str, Any], live: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths in `wanted` that are neither so in `live` nor listed as not applied."""
    for name, value in wanted.items():
        prop, there, here = fields[name], live.get(name), f"{path}{name}"
        if prop.kept:
            continue
        if prop.fields is None or prop.kind == "set":
            if canonical(prop, there) != canonical(prop, value):
                yield here
        elif not prop.many:
            yield from unseen(prop.fields, value, there or {}, f"{here}.")
        elif len(value) != len(there or []):
            yield here
        else:
            for number, (one, other) in enumerate(zip(value, there or [], strict=True)):
                yield from unseen(prop.fields, one, other, f"{here}[{number}].")


def faults(cloud: Cloud, type_: str, identifier: str, inputs: Mapping[str, Any]) -> list[str]:
    """What of the checked `inputs` the live resource does not show."""
    kind = handler(type_)
    return list(unseen(kind.props, inputs, seen_from_outside(kind, cloud, identifier, inputs)))
