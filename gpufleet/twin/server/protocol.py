"""AWS's wire protocols, by botocore's service models: a request becomes a call, an answer or an error becomes bytes.

Which protocol a request speaks is read from its headers, as a server must: `X-Amz-Target` (json), a form with `Action`
(query, ec2), else REST. The work on shapes is moto's (`moto.core.parse`, `moto.core.serialize`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import OperationNotFoundError
from botocore.utils import parse_timestamp
from botocore.validate import ParamValidator
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.serialize import SerializationContext, get_serializer_class

from ..errors import AwsError, NotModelledError
from . import routes
from .messages import HttpAnswer, HttpRequest

REQUEST_ID = "twin"
FORM = "application/x-www-form-urlencoded"
# Parameters of S3 that the transport adds: a checksum, a length. In process they never reach a service model.
_TRANSPORT = {
    "s3": {"ChecksumAlgorithm", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1",
           "ChecksumSHA256", "ContentLength", "ContentMD5"},
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How a request is spoken, known before its operation is: what an error needs in order to be understood."""

    service: str
    protocol: str  # json, query, ec2, rest-json, rest-xml
    query_compatible: bool = False
    version: str = "1.1"
    namespace: str = ""


@dataclass(frozen=True)
class ApiCall:
    service: str
    model: OperationModel
    dialect: Dialect
    params: dict[str, Any]

    @property
    def operation(self) -> str:
        return str(self.model.name)


@cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service, in moto's classes. Raises `NotModelledError` for a service AWS does not have."""
    try:
        return ServiceModel(_loader().load_service_model(service, "service-2"), service)
    except UnknownServiceError as error:
        raise NotModelledError(f"the twin knows no service {service}") from error


@cache
def _loader() -> Loader:
    return Loader()


def dialect_of(request: HttpRequest, service: str | None) -> Dialect:
    """The protocol of a request to `service` (None: the signature did not say). Raises `NotModelledError`."""
    if request.headers.get("Smithy-Protocol") == "rpc-v2-cbor":
        raise NotModelledError("the twin does not speak CBOR: let the client use JSON or query")
    spoken = "json" if "X-Amz-Target" in request.headers else "query" if request.content_type == FORM else "rest-xml"
    if service is None:
        return Dialect("", spoken)
    model = service_model(service)
    offered = model.metadata.get("protocols") or [model.metadata["protocol"]]
    if spoken not in offered:
        # ec2 looks like query, and REST services do not announce themselves at all.
        likely = ("ec2", "rest-json", "rest-xml") if spoken == "query" else ("rest-json", "rest-xml", "query", "ec2")
        found = [protocol for protocol in likely if protocol in offered]
        if not found:
            raise NotModelledError(f"the twin speaks {' and '.join(offered)} with {service}, not {spoken}")
        spoken = found[0]
    return Dialect(
        service,
        spoken,
        "awsQueryCompatible" in model.metadata,
        str(model.metadata.get("jsonVersion", "1.1")),
        str(model.metadata.get("xmlNamespace", "")),
    )


def read(request: HttpRequest, dialect: Dialect) -> ApiCall:
    """What a request asks for, with its parameters as a boto3 caller in this process would have given them.

    Raises `AwsError` for an unknown operation or parameters that do not fit the model.
    """
    model = service_model(dialect.service)
    operation, labels = _operation(model, request, dialect)
    values = request.query_values()
    if dialect.protocol in ("query", "ec2"):
        values.update(request.form_values())
    parser = PROTOCOL_PARSERS[dialect.protocol](operation, timestamp_parser=parse_timestamp)
    try:
        parsed = parser.parse(
            {"body": request.body, "headers": request.headers, "method": request.method, "url_params": labels,
             "url_path": request.path, "values": values}  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise AwsError("SerializationException", f"The request of {operation.name} cannot be read: {error}") from error
    params = _given(operation, parsed or {}, _TRANSPORT.get(dialect.service, set()))
    if operation.input_shape is not None:
        report = ParamValidator().validate(params, operation.input_shape)
        if report.has_errors():
            code = "ValidationError" if dialect.protocol in ("query", "ec2") else "ValidationException"
            raise AwsError(code, report.generate_report())
    return ApiCall(dialect.service, operation, dialect, params)


def _operation(model: ServiceModel, request: HttpRequest, dialect: Dialect) -> tuple[OperationModel, dict[str, str]]:
    labels: dict[str, str] = {}
    if dialect.protocol.startswith("rest"):
        found = routes.find(model, request)
        name = f"{request.method} {request.path}"
        if found is not None:
            return found
    elif dialect.protocol == "json":
        name = (request.headers.get("X-Amz-Target") or "").rpartition(".")[2]
    else:
        name = request.form_values().get("Action") or request.query_values().get("Action") or ""
    try:
        return model.operation_model(name), labels
    except OperationNotFoundError as error:
        code = "UnknownOperationException" if dialect.protocol == "json" else "InvalidAction"
        raise AwsError(code, f"{dialect.service} has no operation {name!r}") from error


def _given(operation: OperationModel, parsed: dict[str, Any], transport: set[str]) -> dict[str, Any]:
    """Without what the parser answers for a header or query parameter that was not there, and the transport's own."""
    shape: Any = operation.input_shape
    members = {} if shape is None else shape.members
    return {
        name: value
        for name, value in parsed.items()
        if value is not None
        and name not in transport
        and not (value in ([], {}) and "location" in members[name].serialization)
    }


def write(call: ApiCall, answer: dict[str, Any]) -> HttpAnswer:
    """The answer of a service model as the call's protocol writes it."""
    make = get_serializer_class(call.service, call.dialect.protocol)
    serializer = make(call.model, SerializationContext(REQUEST_ID))
    written = serializer.serialize(_readable(call.model, answer))
    body = written["body"]
    if isinstance(body, str):
        # XML readers turn a bare carriage return into a line feed; in JSON it is escaped already.
        body = body.replace("\r", "&#13;").encode() if "json" not in call.dialect.protocol else body.encode()
    headers = {**written["headers"], "x-amzn-RequestId": REQUEST_ID}
    if call.dialect.protocol == "json":  # moto goes by the service's first protocol, not by the one that is spoken
        headers["Content-Type"] = f"application/x-amz-json-{call.dialect.version}"
    return HttpAnswer(_status(call.model, answer) or written["status_code"], headers, body)


def _status(model: OperationModel, answer: dict[str, Any]) -> int | None:
    """The HTTP status, where the answer says it as one of its members (Lambda's Invoke)."""
    shape: Any = model.output_shape
    members = {} if shape is None else shape.members
    said = [answer.get(name) for name, m in members.items() if m.serialization.get("location") == "statusCode"]
    return said[0] if said else None


def _readable(model: OperationModel, answer: dict[str, Any]) -> dict[str, Any]:
    """Streams read: what boto3 callers in this process get as an object with `read()`."""
    shape: Any = model.output_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    body = answer.get(payload) if payload else None
    if not hasattr(body, "read"):
        return answer
    return {**answer, payload: body.read()}  # type: ignore[union-attr]
