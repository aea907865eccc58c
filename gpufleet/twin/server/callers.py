"""Who calls, and which service: read from a request's signature, and refused as AWS refuses.

The signature itself is not verified: the endpoint listens on the loopback only, and its secret is no secret.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..credentials import KEY_PREFIX
from ..errors import AwsError
from .messages import HttpRequest

_BOTO_NAMES = {  # where the name in the signature is not the one of boto3
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
    "states": "stepfunctions",
    "elasticloadbalancing": "elbv2",
}
_GLOBAL = {"iam", "sts", "budgets", "s3", "ce", "pricing", "organizations", "route53", "cloudfront"}
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
HINT = 'the embedded cloud takes the variables of: eval "$(gpufleet twin env)"'


class Caller(NamedTuple):
    """What a signature says: the access key, the region, and the service as boto3 calls it."""

    key: str
    region: str
    service: str

    @property
    def principal(self) -> str:
        """`operator`, or the name of a role."""
        return self.key.removeprefix(KEY_PREFIX)


def caller_of(request: HttpRequest, region: str) -> Caller:
    """Read the signature's credentials, from the header or from a presigned URL (old ones name no region: `region`).

    Raises `AwsError` MissingAuthenticationToken.
    """
    text = request.headers.get("Authorization") or ""
    if not text and request.query:
        values = request.query_values()
        if "AWSAccessKeyId" in values:  # signature version 2, which botocore still makes for objects in us-east-1
            return Caller(values["AWSAccessKeyId"], region, "s3")
        text = "Credential=" + values.get("X-Amz-Credential", "")
    found = _CREDENTIAL.search(text)
    if found is None:
        raise AwsError("MissingAuthenticationToken", f"Request is missing Authentication Token: {HINT}", 403)
    key, _, scope, signed = found.groups()
    return Caller(key, scope, _BOTO_NAMES.get(signed, signed))


def check(caller: Caller, region: str) -> None:
    """Raise `AwsError` InvalidClientTokenId for a key that is not the twin's, SignatureDoesNotMatch for a region that
    it does not serve. Whether a role exists is found out when it is authorised."""
    if not caller.key.startswith(KEY_PREFIX) or caller.key == KEY_PREFIX:
        raise AwsError(
            "InvalidClientTokenId", f"The security token included in the request is invalid: {caller.key}: {HINT}", 403
        )
    if caller.region != region and not (caller.service in _GLOBAL and caller.region in ("us-east-1", "aws-global")):
        raise AwsError(
            "SignatureDoesNotMatch",
            f"Credential should be scoped to a valid region, not '{caller.region}': the embedded cloud serves {region}",
            403,
        )
