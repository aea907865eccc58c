"""Lambda: functions are created, configured, permitted and invoked as on AWS; their code runs in virtual time.

For the operator's eyes: `records` (what functions logged), `failures` (invocation errors with type, message and trace),
`events.lost` (asynchronous events that reached no destination), `lost_records` (log lines a role may not write).
Knob: `account_concurrency`, 10 as in fresh accounts ("Lambda quotas").
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import AwsError
from ..iam import Caller, resource_policy
from ..iam_resources import Need
from .function_access import FunctionAccess
from .function_admin import Function
from .function_events import AsyncEvents
from .function_host import Invocation
from .model import Answer, operation

if TYPE_CHECKING:
    from ..cloud import Cloud

SYNC_LIMIT = 6 * 1024 * 1024  # bytes of a request payload, "Lambda quotas"
ASYNC_LIMIT = 1024 * 1024  # raised from 256 KB in 2025, "Lambda quotas"


class LambdaModel(FunctionAccess):
    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud, self._on_finished)
        self.events = AsyncEvents(cloud, self)
        self.records: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.lost_records: Counter[str] = Counter()
        self.publish: Callable[[str, str, dict[str, str], float], None] | None = None  # CloudWatch, when there is one
        # Hears of every run's end: the function, the run, and whether its log lines were written.
        self.on_run: list[Callable[[Function, Invocation, bool], object]] = []
        cloud.on_forget.append(self._forget)

    # -- invoking ---------------------------------------------------------------------------------------------

    @operation("FunctionName", "InvocationType", "LogType", "Payload", "Qualifier")
    def invoke(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        kind = params.get("InvocationType", "RequestResponse")
        event = self._event(params, SYNC_LIMIT if kind == "RequestResponse" else ASYNC_LIMIT)
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": _body(b"")}
        if kind == "Event":
            self.events.accept(function, event, self.new_id())
            return {"StatusCode": 202, "Payload": _body(b"")}
        if self.throttled(function):
            self.metric("Throttles", function.name)
            raise AwsError("TooManyRequestsException", "Rate Exceeded.", 429)
        invocation = function.host.start(self.new_id(), event)
        self._await(invocation, function.settings["Timeout"])
        answer = {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": _body(invocation.payload)}
        if invocation.error is not None:
            answer["FunctionError"] = "Unhandled"
        if params.get("LogType") == "Tail":
            lines = "\n".join(json.dumps(each["record"]) for each in invocation.records)
            answer["LogResult"] = base64.b64encode(lines.encode()[-4096:]).decode()  # the last 4 KB
        return answer

    def invoke_as_service(self, service: str, source_arn: str, function_arn: str, event: Any) -> str:
        """An asynchronous invocation by another service: the function's policy must allow it. Answers the request id.

        Raises `AwsError` AccessDeniedException or ResourceNotFoundException.
        """
        function = self.named({"FunctionName": function_arn})
        caller = Caller.of_service(service, source_arn, self.cloud.account_id)
        if resource_policy(function.policy_document(), caller, "lambda:InvokeFunction", function.arn) != "Allow":
            raise AwsError(
                "AccessDeniedException",
                f"{service} ({source_arn}) is not authorized to perform: lambda:InvokeFunction on resource: "
                f"{function.arn} because no resource-based policy allows the lambda:InvokeFunction action",
                403,
            )
        request_id = self.new_id()
        self.events.accept(function, event, request_id)
        return request_id

    def throttled(self, function: Function) -> bool:
        """Whether one more invocation would pass the function's reserved or the account's shared concurrency."""
        running = len(function.host.running)
        if function.reserved is not None:
            return running >= function.reserved
        shared = sum(len(f.host.running) for f in self.functions.values() if f.reserved is None)
        reserved = sum(f.reserved or 0 for f in self.functions.values())
        return shared >= self.account_concurrency - reserved

    def metric(self, name: str, function: str, value: float = 1.0) -> None:
        if self.publish is not None:
            self.publish("AWS/Lambda", name, {"FunctionName": function}, value)

    # -- inside -----------------------------------------------------------------------------------------------

    def _event(self, params: dict[str, Any], limit: int) -> Any:
        payload: Any = params.get("Payload") or b"{}"
        data = payload.read() if hasattr(payload, "read") else payload
        data = data.encode() if isinstance(data, str) else bytes(data)
        if len(data) > limit:
            raise AwsError("RequestTooLargeException", f"Request must be smaller than {limit} bytes", 413)
        try:
            return json.loads(data)
        except json.JSONDecodeError as error:
            text = f"Could not parse request body into json: {error}"
            raise AwsError("InvalidRequestContentException", text) from error

    def _await(self, invocation: Invocation, timeout: float) -> None:
        if self.clock.in_process():
            invocation.done.wait()
        else:
            self.clock.run_until_done(invocation.done, invocation.started + timeout + 1)

    def _on_finished(self, name: str, invocation: Invocation) -> None:
        function = self.functions.get(name)
        self.metric("Invocations", name)
        self.metric("Errors", name, 0.0 if invocation.error is None else 1.0)
        self.metric("Duration", name, max(1.0, (invocation.ended - invocation.started) * 1000))
        silent = not invocation.records and invocation.error is None
        logged = function is not None and not silent and self._may_log(function)
        if invocation.error is not None:
            self.failures.append({
                "at": invocation.ended, "function": name, "request_id": invocation.request_id,
                "type": invocation.error["errorType"], "message": invocation.error["errorMessage"],
                "trace": invocation.error["stackTrace"], "logged": logged,
            })  # fmt: skip
        if function is None:  # deleted while it ran
            return
        if logged:
            self.records.extend(invocation.records)
        elif invocation.records:  # the function runs all the same: nobody will read what it said
            self.lost_records[name] += len(invocation.records)
        for heard in self.on_run:
            heard(function, invocation, logged)

    def _forget(self, oldest: float) -> None:
        self.records[:] = [record for record in self.records if record["at"] >= oldest]

    def log_group(self, name: str) -> str:
        """The log group that the function `name` writes to."""
        function = self.functions.get(name)
        given = function.settings.get("LoggingConfig", {}).get("LogGroup") if function else None
        return given or f"/aws/lambda/{name}"

    def _may_log(self, function: Function) -> bool:
        """Log lines are written under the function's role (developer guide, "Sending logs to CloudWatch Logs")."""
        group = self.log_group(function.name)
        arn = f"arn:aws:logs:{self.cloud.region}:{self.cloud.account_id}:log-group:{group}:log-stream:twin"
        allows = self.cloud.authorizer.allows
        return all(allows(function.role, Need(action, arn)) for action in ("logs:CreateLogStream", "logs:PutLogEvents"))


class _Body:
    """The streamed body of an answer: boto3 callers `read()` it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, amt: int | None = None) -> bytes:
        taken = self._data if amt is None else self._data[:amt]
        self._data = self._data[len(taken) :]
        return taken


def _body(data: bytes) -> _Body:
    return _Body(data)
