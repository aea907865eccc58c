"""Which operation of a REST service a request asks for: by method, path, and what the operation needs to be there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from moto.core.model import OperationModel, ServiceModel

from .messages import HttpRequest

_LABEL = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True)
class Route:
    """`literals`: query parameters with the value they must have ("" : any); `needs`: required query parameters and
    headers, which tell operations on one path apart (UploadPart, CopyObject)."""

    operation: OperationModel
    method: str
    pattern: re.Pattern[str]
    labels: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]
    needed_values: tuple[str, ...]
    needed_headers: tuple[str, ...]
    fixed_length: int

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The most demanding route wins, then the one with the longest literal path, then what is not deprecated."""
        demands = len(self.literals) + len(self.needed_values) + len(self.needed_headers)
        return demands, self.fixed_length, not self.operation.deprecated


def find(service: ServiceModel, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
    """The operation and the values of the path's labels; None when no operation fits."""
    values = request.query_values()
    for route in routes(service):
        if route.method != request.method or not (matched := route.pattern.fullmatch(request.path)):
            continue
        if any(values.get(key) is None or (value and values[key] != value) for key, value in route.literals):
            continue
        if all(key in values for key in route.needed_values) and all(
            h in request.headers for h in route.needed_headers
        ):
            return route.operation, dict(zip(route.labels, map(unquote, matched.groups()), strict=True))
    return None


@cache
def routes(service: ServiceModel) -> tuple[Route, ...]:
    names: Any = service.operation_names  # pyright takes botocore's cached properties for what computes them
    made = [_route(service.operation_model(name)) for name in names]
    return tuple(sorted(made, key=lambda route: route.rank, reverse=True))


def _route(operation: OperationModel) -> Route:
    trait: Any = operation.http_trait
    shape: Any = operation.input_shape
    labels, pattern, at = [], "", 0
    for label in _LABEL.finditer(trait.path):
        pattern += re.escape(trait.path[at : label.start()])
        name = label[1]
        labels.append(name.removesuffix("+"))
        pattern += "(.+)" if name.endswith("+") else "([^/]+)"
        at = label.end()
    pattern += re.escape(trait.path[at:])
    if not pattern.endswith("(.+)"):
        pattern = pattern.removesuffix("/") + "/?"
    return Route(
        operation, trait.method, re.compile(pattern), tuple(labels), tuple(trait.query_args.items()),
        tuple(shape.required_query_args) if shape else (), tuple(shape.required_headers) if shape else (),
        len(_LABEL.sub("", trait.path)),
    )  # fmt: skip
