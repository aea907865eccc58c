"""One request, answered: by the in-process cloud, with the same authorisation, faults and recording as everywhere.

What a service model of ours answers is written here; what moto answers is moto's own bytes, for the very request.
"""

from __future__ import annotations

import logging
from http.client import HTTPMessage

from botocore.awsrequest import AWSPreparedRequest
from moto.core.models import botocore_stubber

from ..cloud import Cloud
from ..errors import AwsError, NotModelledError
from .callers import caller_of, check
from .messages import HttpAnswer, HttpRequest
from .protocol import ApiCall, Dialect, dialect_of, read, write
from .refusals import refusal

log = logging.getLogger("gpufleet.twin.server")
_HOP = {"host", "connection", "expect", "accept-encoding", "transfer-encoding", "content-length", "keep-alive"}


def answer(cloud: Cloud, request: HttpRequest) -> HttpAnswer:
    """Answer one AWS request; every exception becomes an answer, so that the server stays up."""
    dialect = Dialect("", "rest-xml")
    try:
        dialect = dialect_of(request, None)
        caller = caller_of(request, cloud.region)
        dialect = dialect_of(request, caller.service)
        check(caller, cloud.region)
        if caller.service != "s3":  # an object may be compressed, a request may be too (PutMetricData above 10 KB)
            request = request.inflated()
        call = read(request, dialect)
        own = cloud.call(call.service, call.operation, call.params, caller.principal)
        return _of_moto(cloud, call, request) if own is None else write(call, own)
    except AwsError as error:
        return refusal(error, dialect)
    except NotModelledError as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        return refusal(error, dialect)
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(error, dialect)


def _of_moto(cloud: Cloud, call: ApiCall, request: HttpRequest) -> HttpAnswer:
    """moto answers the request as if it had come to AWS's own address."""
    address = cloud.client(call.service).meta.endpoint_url
    url = address.rstrip("/") + request.path + (f"?{request.query}" if request.query else "")
    headers = HTTPMessage()
    for name, value in request.headers.items():
        if name.lower() not in _HOP:
            headers[name] = value
    headers["Content-Length"] = str(len(request.body))
    found = botocore_stubber.process_request(AWSPreparedRequest(request.method, url, headers, request.body, False))
    if found is None or (found[0] == 404 and found[2] == "Not yet implemented"):
        raise NotModelledError(f"the twin does not model {call.service}:{call.operation}")
    status, answered, body = found
    body = body.encode() if isinstance(body, str) else bytes(body or b"")
    return HttpAnswer(int(status), {str(k): str(v) for k, v in dict(answered).items()}, body)
