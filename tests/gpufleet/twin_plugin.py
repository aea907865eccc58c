"""A provider plugin asked as the engine asks it, message by message, without an engine."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import struct_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2

from gpufleet.twin.wire import plain, wire

ACCOUNT = "123456789012"


class Refused(Exception):  # noqa: N818 - what a call ended with
    """The status that a call was ended with."""


class Context:
    """The part of gRPC's context that a provider uses."""

    def __init__(self) -> None:
        self.trailing: dict[str, bytes] = {}

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = dict(metadata)

    def abort(self, code: grpc.StatusCode, text: str) -> None:
        assert code is grpc.StatusCode.UNKNOWN
        raise Refused(text)


def urn(type_: str, name: str = "thing") -> str:
    return f"urn:pulumi:dev::gpu-inference::gpu-inference:aws:InferenceQueue${type_}::{name}"


class Engine:
    """Asks a provider what the engine asks, with plain values or messages of an earlier answer."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    def __getattr__(self, method: str) -> Any:
        request = getattr(provider_pb2, {"CheckConfig": "CheckRequest", "DiffConfig": "DiffRequest"}.get(
            method, f"{method}Request"))  # fmt: skip

        def call(type_: str = "", name: str = "thing", **fields: Any) -> Any:
            given = {key: _message(value) for key, value in fields.items()}
            if type_:
                given["urn"] = urn(type_, name)
            return getattr(self.provider, method)(request(**given), Context())

        return call


def _message(value: Any) -> Any:
    return wire(value) if isinstance(value, dict) else value


def values(struct: struct_pb2.Struct) -> dict[str, Any]:
    return plain(struct)[0]


def archive(path: Path, body: str) -> dict[str, Any]:
    """A zip on disk, as the engine names it in a message."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("main.py"), body)
    path.write_bytes(buffer.getvalue())
    return {rpc._special_sig_key: rpc._special_archive_sig, "path": str(path)}
