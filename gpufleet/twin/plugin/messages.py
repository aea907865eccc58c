"""Resource properties between the engine's messages and the handlers' plain values.

What the handlers know beyond the program's own inputs travels in the inputs that `Check` answers, and so lies in the
stack's state: `__defaults` (the names that the provider chose, as the real provider notes them) and `__files` (the
SHA-256 of each file or archive: the file of an earlier deployment may be gone by the next one).

Handlers see no secrets, only values. What was sent as one is marked again in the answer, also where it appears twice:
`tagsAll` repeats `tags`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import struct_pb2

from ..handlers import Handler
from ..wire import as_secret, is_secret, plain, wire

_DEFAULTS, _FILES, _UNFINISHED = "__defaults", "__files", "__unfinished"
_COPIES = {"tagsAll": "tags"}


@dataclass
class Properties:
    """A resource's inputs or state: `values` as handlers take them, and what travels beside them."""

    values: dict[str, Any]
    auto_named: bool = False
    unfinished: bool = False  # exists, but its creation did not end
    files: dict[str, struct_pb2.Value] = field(default_factory=dict)  # as the engine sent them
    sent: tuple[struct_pb2.Struct, ...] = ()  # messages whose secrets stay secrets


def read(kind: Handler, struct: struct_pb2.Struct) -> Properties:
    """The properties in a message of the engine."""
    own = struct_pb2.Struct()
    own.CopyFrom(struct)
    files = {name: own.fields.pop(name) for name in list(own.fields) if _is_file(kind, name)}
    hidden = {name: own.fields.pop(name) for name in list(own.fields) if name.startswith("__")}
    values, _ = plain(own)
    noted = plain(hidden[_FILES].struct_value)[0] if _FILES in hidden else {}
    for name, file in files.items():
        values[name] = _file(name, file, noted.get(name))
    named = kind.naming.prop if kind.naming else ""
    defaults = [item.string_value for item in hidden[_DEFAULTS].list_value.values] if _DEFAULTS in hidden else []
    return Properties(values, named in defaults, _UNFINISHED in hidden, files, (struct,))


def write(kind: Handler, values: Mapping[str, Any], beside: Properties) -> struct_pb2.Struct:
    """The message for the engine: `values`, the files and secrets of `beside` as they came, and what else is to be
    remembered."""
    struct = wire({name: value for name, value in values.items() if not _is_file(kind, name)})
    for sent in beside.sent:
        _mark_secrets(struct, sent)
    hashes = {}
    for name, value in values.items():
        if _is_file(kind, name) and name in beside.files:
            struct.fields[name].CopyFrom(beside.files[name])
            hashes[name] = value["sha256"]
    if hashes:
        struct.update({_FILES: hashes})
    if beside.auto_named and kind.naming:
        struct.update({_DEFAULTS: [kind.naming.prop]})
    if beside.unfinished:
        struct.update({_UNFINISHED: True})
    return struct


def _file(name: str, sent: struct_pb2.Value, sha256: str | None) -> dict[str, Any]:
    if sha256 is None:
        return plain(struct_pb2.Struct(fields={name: sent}))[0][name]
    fields = sent.struct_value.fields
    if is_secret(sent):
        fields = fields["value"].struct_value.fields
    where = {key: value.string_value for key, value in fields.items() if key in ("path", "text")}
    return {**where, "sha256": sha256}


def _is_file(kind: Handler, name: str) -> bool:
    return name in kind.props and kind.props[name].kind == "asset"


def _mark_secrets(struct: struct_pb2.Struct, sent: struct_pb2.Struct) -> None:
    """Mark what is a secret in `sent` at the same place in `struct`; a list with a secret in it is one as a whole."""
    for name, value in struct.fields.items():
        source = sent.fields.get(_COPIES.get(name, name))
        if source is None or is_secret(value):
            continue
        both = value.HasField("struct_value") and source.HasField("struct_value")
        if both and not is_secret(source):
            _mark_secrets(value.struct_value, source.struct_value)
        elif plain(struct_pb2.Struct(fields={name: source}))[1]:
            value.CopyFrom(as_secret(value))
