"""Bucket policies judged with their conditions.

moto applies a statement of a bucket policy whatever its Condition says, so that the usual "deny what does not come over
TLS" would deny everything. Every call in the twin comes over TLS.
"""

from __future__ import annotations

import json
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from .iam import evaluate
from .iam_resources import Need

_EVERYONE = ("*", {"AWS": "*"}, {"AWS": ["*"]})
_ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def permission(policy: bytes | str | None, action: str, resource: str) -> PermissionResult:
    """What a bucket policy says to anybody's `action` on `resource` over TLS; statements for named principals say
    nothing (the twin's callers are judged by their own policies)."""
    if policy is None:
        return PermissionResult.NEUTRAL
    document = json.loads(policy)
    found = document["Statement"]
    statements = [s for s in (found if isinstance(found, list) else [found]) if s.get("Principal") in _EVERYONE]
    need = Need(action, resource, (("aws:securetransport", "true"),))
    if not evaluate([_ALLOW_ALL, *(s for s in statements if s["Effect"] == "Deny")], need):
        return PermissionResult.DENIED
    return PermissionResult.PERMITTED if evaluate(statements, need) else PermissionResult.NEUTRAL


def _get_permission(bucket: Any, action: str, resource: str) -> PermissionResult:
    return permission(bucket.policy, action, resource)


def install() -> None:
    """Let moto's buckets ask here."""
    FakeBucket.get_permission = _get_permission  # type: ignore[method-assign]
