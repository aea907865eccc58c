"""Errors on the wire: the same code, message, status and class of exception at a boto3 caller as in this process."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from ..errors import AwsError, NotModelledError
from .messages import HttpAnswer
from .protocol import REQUEST_ID, Dialect

NOT_MODELLED = "NotModelled"  # codes of the twin's own, not of AWS
BROKEN = "TwinFailure"


def refusal(error: Exception, dialect: Dialect) -> HttpAnswer:
    """Any exception as an answer: AWS's refusals as AWS writes them, a gap of the twin as 501, anything else as 500.

    501, not 500, for a gap: SDKs repeat what failed with 500, and a gap stays a gap.
    """
    if isinstance(error, NotModelledError):
        error = AwsError(NOT_MODELLED, str(error), 501)
    elif not isinstance(error, AwsError):
        error = AwsError(BROKEN, f"the embedded cloud failed: {type(error).__name__}: {error}", 500)
    if dialect.protocol == "json":
        return _json(error, dialect)
    if dialect.protocol == "rest-json":
        return _rest_json(error)
    return _xml(error, dialect)


def _json(error: AwsError, dialect: Dialect) -> HttpAnswer:
    headers = {"Content-Type": f"application/x-amz-json-{dialect.version}", "x-amzn-RequestId": REQUEST_ID}
    if dialect.query_compatible:
        # The name of the shape goes into the body, the code of the old protocol into a header.
        headers["x-amzn-query-error"] = f"{error.code};{_side(error)}"
    body = {**error.fields, "__type": error.modelled or error.code, "message": error.message}
    return HttpAnswer(error.status, headers, _text(body))


def _rest_json(error: AwsError) -> HttpAnswer:
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code, "x-amzn-RequestId": REQUEST_ID}
    body = {"Type": "User" if error.status < 500 else "Service", **error.fields, "Message": error.message}
    return HttpAnswer(error.status, headers, _text({**body, "message": error.message}))


def _xml(error: AwsError, dialect: Dialect) -> HttpAnswer:
    inside = f"<Code>{_escaped(error.code)}</Code><Message>{_escaped(error.message)}</Message>" + "".join(
        f"<{name}>{_escaped(str(value))}</{name}>" for name, value in error.fields.items()
    )
    if dialect.protocol == "ec2":
        text = f"<Response><Errors><Error>{inside}</Error></Errors><RequestID>{REQUEST_ID}</RequestID></Response>"
    elif dialect.protocol == "rest-xml" and dialect.service in ("s3", ""):
        text = f"<Error>{inside}<RequestId>{REQUEST_ID}</RequestId></Error>"
    else:
        namespace = f' xmlns="{dialect.namespace}"' if dialect.namespace else ""
        inside = f"<Type>{_side(error)}</Type>{inside}"
        text = f"<ErrorResponse{namespace}><Error>{inside}</Error><RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return HttpAnswer(error.status, {"Content-Type": "text/xml", "x-amzn-RequestId": REQUEST_ID}, body)


def _side(error: AwsError) -> str:
    return "Sender" if error.status < 500 else "Receiver"


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


def _text(body: dict[str, Any]) -> bytes:
    return json.dumps(body, default=_plain).encode()


def _plain(value: Any) -> Any:
    return value.timestamp() if isinstance(value, datetime) else str(value)
