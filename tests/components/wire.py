"""What the AWS SDK says a resource's inputs are: names in wire spelling, nested ones too."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin

import pulumi_aws as aws
from pulumi import _types


@cache
def args_class(type_: str) -> type:
    """`aws:sqs/queue:Queue` -> `pulumi_aws.sqs.QueueArgs`; the class that the SDK itself checks arguments with."""
    module, name = type_.split(":")[1].split("/", maxsplit=1)[0], type_.rsplit(":", 1)[-1]
    resource = getattr(getattr(aws, {"lambda": "lambda_"}.get(module, module)), name)
    code = sys.modules[resource.__module__]
    found = getattr(code, f"{name}InitArgs", None) or getattr(code, f"{name}Args")  # Init: where a block has the name
    assert isinstance(found, type)
    return found


def input_names(type_: str) -> set[str]:
    """The inputs that a resource type takes."""
    return set(_types.input_type_py_to_pulumi_names(args_class(type_)).values())


def unknown_inputs(type_: str, inputs: dict[str, Any]) -> list[str]:
    """Paths in `inputs` that the resource type does not know."""
    return list(_unknown("", args_class(type_), inputs))


def _unknown(path: str, expected: Any, value: Any) -> Iterator[str]:
    if get_origin(expected) is Union:  # Input[X]: X, or X to come
        expected = get_args(expected)[0]
    if isinstance(value, list) and get_origin(expected) is Sequence:
        for number, one in enumerate(value):
            yield from _unknown(f"{path}[{number}]", get_args(expected)[0], one)
    elif isinstance(value, dict) and isinstance(expected, type) and _types.is_input_type(expected):
        types = _types.input_type_types(expected)
        names = set(_types.input_type_py_to_pulumi_names(expected).values())
        for key, one in value.items():
            here = f"{path}.{key}".lstrip(".")
            if key not in names:
                yield here
            else:
                yield from _unknown(here, types.get(key), one)
