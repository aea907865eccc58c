"""The node's user data: the template of `bootstrap/node/`, filled in. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LIMIT_BYTES = 16_384  # EC2's limit, before base64
_MARKER = re.compile(r"@@([A-Z0-9_]+)@@")


def render(template: str, config: Mapping[str, Any], payload_uri: str, payload_sha256: str) -> str:
    """The script that a node runs at its first boot.

    `config` becomes /etc/inference/node.json, `payload_uri` (s3://bucket/key) the zip that the script fetches and
    checks against `payload_sha256` (hex). Nothing secret belongs in it: whoever may describe instances can read it.

    Raises `ValueError` for a marker that this function does not know, for one that the template lacks, for a value that
    does not fit a shell line, and for a script over 16,384 bytes.
    """
    values = {
        "NODE_JSON": json.dumps(config, indent=1, sort_keys=True),
        "PAYLOAD_URI": payload_uri,
        "PAYLOAD_SHA256": payload_sha256,
    }
    found = set(_MARKER.findall(template))
    unknown = sorted(found - values.keys())
    missing = sorted(values.keys() - found)
    if unknown or missing:
        raise ValueError(
            "user data template: "
            + "; ".join(
                [f"unknown marker @@{name}@@" for name in unknown]
                + [f"marker @@{name}@@ is missing" for name in missing]
            )
        )
    for name in ("PAYLOAD_URI", "PAYLOAD_SHA256"):
        if not re.fullmatch(r"[A-Za-z0-9._:/-]+", values[name]):
            raise ValueError(f"user data: {name} {values[name]!r} has characters that do not belong in a shell line")
    return checked(_MARKER.sub(lambda match: values[match.group(1)], template))


def checked(script: str) -> str:
    """`script` as it is; `ValueError` if EC2 would refuse it for its size."""
    size = len(script.encode("utf-8"))
    if size > LIMIT_BYTES:
        raise ValueError(
            f"user data is {size} bytes, EC2 takes {LIMIT_BYTES}: shorten the model's server arguments, "
            "or move files into the node payload"
        )
    return script
