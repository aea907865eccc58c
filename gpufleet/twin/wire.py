"""Pulumi's wire format: protobuf messages to plain values and back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import struct_pb2
from pulumi.runtime import rpc

_SIG, _SECRET = rpc._special_sig_key, rpc._special_secret_sig  # noqa: SLF001 - Pulumi's wire format has no other name
_ASSET, _ARCHIVE = rpc._special_asset_sig, rpc._special_archive_sig  # noqa: SLF001
_RESOURCE = rpc._special_resource_sig  # noqa: SLF001


def plain(struct: struct_pb2.Struct) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values of a message, and the names of those that hold a secret. Files become `{path, sha256}`."""
    secrets: set[str] = set()
    values = {name: _plain(value, lambda name=name: secrets.add(name)) for name, value in struct.fields.items()}
    return {name: value for name, value in values.items() if value is not None}, tuple(sorted(secrets))


def _plain(value: struct_pb2.Value, secret: Callable[[], object]) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(item, secret) for item in value.list_value.values]
        case "struct_value":
            return _plain_object(dict(value.struct_value.fields), secret)
        case _:
            return None


def _plain_object(fields: dict[str, struct_pb2.Value], secret: Callable[[], object]) -> Any:
    signature = fields[_SIG].string_value if _SIG in fields else ""
    if signature == _SECRET:
        secret()
        return _plain(fields["value"], secret)
    if signature == _RESOURCE:
        return fields["id"].string_value if "id" in fields else fields["urn"].string_value
    found = {name: _plain(value, secret) for name, value in fields.items() if name != _SIG}
    if signature in (_ASSET, _ARCHIVE):
        return _file(found)
    return found


def _file(asset: dict[str, Any]) -> dict[str, Any]:
    if asset.get("text") is not None:
        return {"text": asset["text"], "sha256": hashlib.sha256(asset["text"].encode()).hexdigest()}
    if not asset.get("path") or not Path(asset["path"]).is_file():
        raise ValueError(f"the twin deploys files: {asset.get('path') or sorted(asset)} is not one")
    path = Path(asset["path"]).resolve()
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def wire(values: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> struct_pb2.Struct:
    """A message of plain `values`; those named in `secrets` marked as secret."""
    struct = struct_pb2.Struct()
    struct.update({n: {_SIG: _SECRET, "value": v} if n in secrets else v for n, v in values.items()})
    return struct


def is_secret(value: struct_pb2.Value) -> bool:
    """Whether a value in a message is marked as a secret."""
    fields = value.struct_value.fields if value.HasField("struct_value") else {}
    return _SIG in fields and fields[_SIG].string_value == _SECRET


def as_secret(value: struct_pb2.Value) -> struct_pb2.Value:
    """`value`, marked as a secret."""
    fields = {_SIG: struct_pb2.Value(string_value=_SECRET), "value": value}
    return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
