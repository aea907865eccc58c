"""Whatever goes wrong in a call of the engine, told in one sentence: what was tried, and what AWS or the twin said."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, struct_pb2
from pulumi.runtime.proto import provider_pb2, status_pb2

from ..handlers import PartlyMade, explained

_UNKNOWN = grpc.StatusCode.UNKNOWN  # what the engine shows as it is


class Unfinished(Exception):  # noqa: N818 - says what happened; the cause is the error
    """A resource exists, but its creation did not end. `properties` go into the stack's state with it."""

    def __init__(self, cause: PartlyMade, properties: struct_pb2.Struct) -> None:
        super().__init__(str(cause))
        self.cause, self.properties = cause, properties


def told(doing: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a method of the protocol, which takes the request alone, end in a sentence instead of a traceback."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, request: Any, context: Any) -> Any:
            try:
                return method(self, request)
            except Unfinished as error:
                reason = f"{doing} failed: {explained(error.cause)}"
                failed = provider_pb2.ErrorResourceInitFailed(
                    id=error.cause.id, properties=error.properties, reasons=[reason]
                )
            except Exception as error:
                context.abort(_UNKNOWN, f"{doing} failed: {explained(error)}")
                raise
            detail = any_pb2.Any()
            detail.Pack(failed)
            status = status_pb2.Status(code=_UNKNOWN.value[0], message=reason, details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            return context.abort(_UNKNOWN, reason)

        return call

    return decorate
