"""HTTP requests and answers as values, and the body of a request as it was before the transport wrapped it."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict

from ..errors import AwsError

CHUNKED = "aws-chunked"


@dataclass(frozen=True)
class HttpRequest:
    """One request. `path` and `query` as they came (percent-encoded); `body` unwrapped by `unwrapped`."""

    method: str
    path: str
    query: str
    headers: HTTPMessage
    body: bytes = b""

    @property
    def content_type(self) -> str:
        return (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()

    def query_values(self) -> MultiDict[str, str]:
        return MultiDict(parse_qsl(self.query, keep_blank_values=True))

    def form_values(self) -> MultiDict[str, str]:
        return MultiDict(parse_qsl(self.body.decode(), keep_blank_values=True))

    def inflated(self) -> HttpRequest:
        """The request with its body as it was before the client compressed it. Raises `AwsError`."""
        if (self.headers.get("Content-Encoding") or "").lower() != "gzip":
            return self
        try:
            body = gzip.decompress(self.body)
        except (OSError, EOFError, zlib.error) as error:
            raise AwsError("SerializationException", f"The body of the request is no gzip: {error}") from error
        headers = copy.copy(self.headers)
        del headers["Content-Encoding"]
        return replace(self, body=body, headers=headers)


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> HttpAnswer:
        return cls(status, {"Content-Type": "application/json"}, json.dumps(value).encode() + b"\n")


def unwrapped(headers: HTTPMessage, body: bytes) -> bytes:
    """The payload of an upload in S3's own chunks; what its trailer says (checksums) becomes headers.

    Source: S3 API reference, "Signature calculation: transferring a payload in multiple chunks". Chunk signatures are
    not verified: nothing is secret on the loopback. Raises `ValueError` for a body that is cut off.
    """
    encodings = [each.strip() for each in (headers.get("Content-Encoding") or "").split(",") if each.strip()]
    if CHUNKED not in encodings and not (headers.get("X-Amz-Content-Sha256") or "").startswith("STREAMING-"):
        return body
    payload, at = bytearray(), 0
    while True:
        end = body.find(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16) if end >= 0 else 1
        at = end + 2
        if size == 0:
            break
        if end < 0 or at + size > len(body):
            raise ValueError(f"an upload in chunks is cut off after {len(payload)} bytes")
        payload += body[at : at + size]
        at += size + 2
    for line in body[at:].split(b"\r\n"):
        name, found, value = line.decode().partition(":")
        if found and name.strip().lower().startswith("x-amz-checksum-"):
            headers[name.strip()] = value.strip()
    _forget(headers, "Content-Encoding", "X-Amz-Content-Sha256", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer")
    kept = [each for each in encodings if each != CHUNKED]
    if kept:
        headers["Content-Encoding"] = ",".join(kept)
    return bytes(payload)


def _forget(headers: HTTPMessage, *names: str) -> None:
    for name in names:
        del headers[name]  # no error when it is not there
