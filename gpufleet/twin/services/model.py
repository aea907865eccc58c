"""What every service model of the twin has in common: one method per operation, known parameters, refusal by name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from ..cloud import unknown_operation
from ..errors import NotModelledError

if TYPE_CHECKING:
    from ..cloud import Cloud

Answer = dict[str, Any]
Operation = Callable[[Any, dict[str, Any], str], Answer]


def operation(*parameters: str) -> Callable[[Operation], Operation]:
    """Mark a method `create_queue(self, params, principal)` as the operation `CreateQueue` that knows `parameters`."""

    def mark(method: Operation) -> Operation:
        method.twin_parameters = frozenset(parameters)  # type: ignore[attr-defined]
        return method

    return mark


class Model:
    """Base of a service model. `service` is boto3's name; methods marked by `@operation` are all that it answers."""

    service: ClassVar[str]
    _operations: ClassVar[dict[str, Operation]] = {}

    def __init_subclass__(cls) -> None:
        cls._operations = {
            "".join(part.capitalize() for part in name.split("_")): method
            for name in dir(cls)
            if hasattr(method := getattr(cls, name), "twin_parameters")
        }

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.clock = cloud.clock
        self.random = cloud.random

    def handles(self, operation: str) -> bool:
        return True

    def call(self, operation: str, params: dict[str, Any], principal: str) -> Answer:
        """Answer one call. Raises `NotModelledError` for an operation or a parameter that the model does not know."""
        method = self._operations.get(operation)
        if method is None:
            raise unknown_operation(self.service, operation)
        refuse_unknown(f"{self.service}:{operation}", params, method.twin_parameters)  # type: ignore[attr-defined]
        return method(self, params, principal)

    def arn(self, resource: str, *, region: str | None = None) -> str:
        place = self.cloud.region if region is None else region
        return f"arn:aws:{self.service}:{place}:{self.cloud.account_id}:{resource}"

    def new_id(self) -> str:
        """A random identifier that is the same in every run with the same seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def now_utc(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)


def refuse_unknown(where: str, given: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    """Raise `NotModelledError` naming what of `given` the twin does not know."""
    unknown = sorted(set(given) - known)
    if unknown:
        raise NotModelledError(f"the twin does not model {', '.join(unknown)} of {where}")


def iso(at: float) -> str:
    """Unix seconds as AWS writes them in events: 2026-11-22T10:00:00.000Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def unix(value: Any) -> float:
    """A timestamp as boto3 takes it (datetime, number or ISO text), in unix seconds."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return float(value)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: list[dict[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or []}
