"""The short way for the one S3 call that is made for every job: a small PutObject, written once.

moto answers it too, but over its HTTP layer, which takes ten times as long. The object is put where moto keeps it, so
that every other call (moto's) sees it. A PutObject with parameters that workers do not use is left to moto.
"""

from __future__ import annotations

from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends

from ..cloud import Cloud
from ..errors import AwsError

KNOWN = {"Bucket", "Key", "Body", "ContentType", "IfNoneMatch"}
MAX_BYTES = 5 * 1024**3  # "Uploading objects": a single PUT takes up to 5 GB


class S3Model:
    """Registered as `s3`; what it does not answer itself goes to moto."""

    service = "s3"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def handles(self, operation: str) -> bool:
        return operation == "PutObject"

    def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any] | None:
        """Put the object, or answer None: moto takes the call. Raises `AwsError` as S3 would."""
        body = params.get("Body", b"")
        if set(params) - KNOWN or not isinstance(body, bytes) or len(body) > MAX_BYTES:
            return None
        name, key = params["Bucket"], params["Key"]
        backend = s3_backends[self._cloud.account_id]["aws"]
        try:
            bucket = backend.get_bucket(name)
        except MissingBucket:
            raise AwsError("NoSuchBucket", "The specified bucket does not exist", 404) from None
        if bucket.get_permission("s3:PutObject", f"arn:aws:s3:::{name}/{key}") == PermissionResult.DENIED:
            raise AwsError("AccessDenied", "Access Denied", 403)
        if params.get("IfNoneMatch") == "*" and backend.get_object(name, key) is not None:
            # S3 user guide, "Conditional writes": 412 when the key exists already.
            raise AwsError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        stored = backend.put_object(name, key, body)
        stored.set_metadata({"Content-Type": params["ContentType"]} if "ContentType" in params else {})
        stored.set_acl(bucket.acl)
        return {"ETag": stored.etag}
