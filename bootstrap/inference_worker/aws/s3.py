"""Results on S3: `results/<job id>.json`, written once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from ..ports import UnavailableError
from .errors import asking, code

# Without s3:ListBucket S3 answers a missing key with AccessDenied. Reading it as "missing" is safe: the write that
# follows is refused when there is a result after all.
MISSING = frozenset({"NoSuchKey", "404", "AccessDenied", "403"})
EXISTS = frozenset({"PreconditionFailed", "412"})


class S3Results:
    """ResultStore in `bucket`."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._s3 = client
        self._bucket = bucket

    def key(self, job_id: str) -> str:
        return f"results/{job_id}.json"

    def put(self, job_id: str, document: Mapping[str, Any]) -> bool:
        body = json.dumps(document, separators=(",", ":")).encode()
        with asking("result"):
            try:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=self.key(job_id),
                    Body=body,
                    ContentType="application/json",
                    IfNoneMatch="*",
                )
            except ClientError as problem:
                if code(problem) in EXISTS:
                    return False
                raise
        return True

    def get(self, job_id: str) -> dict[str, Any] | None:
        with asking("read result"):
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=self.key(job_id))["Body"].read()
            except ClientError as problem:
                if code(problem) in MISSING:
                    return None
                raise
        try:
            return json.loads(body)
        except ValueError as problem:
            raise UnavailableError(f"read result: {self.key(job_id)} is not JSON") from problem
