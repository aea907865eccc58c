"""One AWS account in one process.

`Cloud.client(service, principal)` hands out real boto3 clients: botocore checks the parameters against AWS's own
service models, then the call comes here, where it is authorised against the caller's IAM policies, recorded, and
answered: by a strict service model of our own where one is registered, by moto otherwise. Nothing leaves the process.

One cloud is open at a time (moto's stores are global to the process): use it as a context manager or `close()` it.
"""

from __future__ import annotations

import json
import os
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace, TracebackType
from typing import Any, ClassVar, Protocol

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ParamValidationError
from greenlet import GreenletExit
from moto import mock_aws
from moto.iam import models as moto_iam

from . import bucket_policies
from .clock import Clock
from .credentials import OPERATOR, SECRET, access_key
from .errors import AwsError, NotModelledError
from .iam import Authorizer
from .param_check import Checks

ACCOUNT_ID = "123456789012"  # moto's default account; AWS's own example number
AT_ONCE = {"autoscaling", "cloudwatch", "dynamodb", "sqs"}  # called thousands of times a day; models of ours answer
FORGET_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Call:
    """One API call of a role, as CloudTrail would show it."""

    at: float
    principal: str
    service: str
    operation: str
    params: Mapping[str, Any] = field(repr=False)
    error: str | None = None  # the AWS error code, None when it succeeded


class ServiceModel(Protocol):
    """A service of our own: `call` answers in the shape of the boto3 response or raises `AwsError`.

    An operation that the model does not know raises `NotModelledError`, unless the model says (by `handles`) that moto
    may answer it. Answering None leaves this one call to moto.
    """

    def handles(self, operation: str) -> bool: ...

    def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any] | None: ...


class Cloud:
    """The account, its region, its clock, its random numbers and its services.

    Args: `start` unix seconds of virtual time; `seed` makes every run with the same inputs the same; `keep_calls_s`:
    for how long calls, logs and what else only grows are kept, in seconds (None: for good), see `forget_after`.
    `faults`, if given, sees every call of a role before it is answered and may raise `AwsError` (throttling, outages).
    `charges` hears, by (service, operation), of each call once it is answered: the call and what was answered (None:
    moto answers it, it was refused, or its caller died waiting).
    """

    _open: ClassVar[Cloud | None] = None

    def __init__(
        self, start: float, region: str = "us-east-1", seed: int = 0, keep_calls_s: float | None = None
    ) -> None:
        self.clock = Clock(start)
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - reproducible simulation, no secret
        self.account_id = ACCOUNT_ID
        self.region = region
        self.authorizer = Authorizer(self.account_id, region)
        self.calls: list[Call] = []
        self.faults: list[Callable[[Call], None]] = []
        self.charges: dict[tuple[str, str], Callable[[Call, Mapping[str, Any] | None], None]] = {}
        self.on_forget: list[Callable[[float], object]] = [self._forget_calls]
        self._keep_s: float | None = None
        self._services: dict[str, ServiceModel] = {}
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._checks: dict[str, Checks] = {}
        if Cloud._open is not None:
            raise RuntimeError("another Cloud is open: moto's stores are global to the process; close() that one first")
        self._mock = mock_aws(config={"core": {"mock_credentials": False}, "iam": {"load_aws_managed_policies": True}})
        self._mock.start()
        Cloud._open = self
        if keep_calls_s is not None:
            self.forget_after(keep_calls_s)

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._mock is not None:
            self._mock.stop()
            self._mock = None
            Cloud._open = None

    # -- services ---------------------------------------------------------------------------------------------

    def register(self, service: str, model: ServiceModel) -> None:
        """Let `model` answer the calls of `service` (boto3's name: "sqs", "autoscaling", "events", ...)."""
        self._services[service] = model

    def service(self, service: str) -> Any:
        return self._services[service]

    # -- calls ------------------------------------------------------------------------------------------------

    def client(self, service: str, principal: str = OPERATOR, region: str | None = None) -> Any:
        """A boto3 client that acts as `principal`: `operator` (may do everything) or the name of a role."""
        key = (service, principal, region or self.region)
        if key not in self._clients:
            self._clients[key] = self._new_client(*key)
        return self._clients[key]

    def call(self, service: str, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any] | None:
        """Authorise, record and answer one call; None means that moto is to answer it.

        Raises `AwsError` as AWS would, `NotModelledError` for what the twin cannot judge or answer.
        """
        model = self._services.get(service)
        try:
            if principal != OPERATOR:
                process = self.clock.process()
                if process is not None:
                    process.calls += 1
                for fault in self.faults:
                    fault(Call(self.clock.now(), principal, service, operation, params))
                self.authorizer.check(principal, service, operation, params)
            elif service == "iam":
                self.authorizer.forget()  # the operator may be about to change a policy
            answer = model.call(operation, params, principal) if model and model.handles(operation) else None
        except AwsError as error:
            self._record(principal, service, operation, params, error.code, None)
            raise
        except GreenletExit:  # the caller died in a long poll; what it asked for was asked
            self._charge(Call(self.clock.now(), principal, service, operation, params), None)
            raise
        except Exception as error:
            # A gap or a fault of the twin. The caller may swallow it (a worker that fails safe), the clock must not.
            if self.clock.in_process():
                self.clock.at(self.clock.now(), _surface, error)
            raise
        self._record(principal, service, operation, params, None, answer)
        return answer

    def forget_after(self, seconds: float) -> None:
        """From now on, throw away every hour what is older than `seconds`: recorded calls, logs of functions and nodes,
        points of metrics. For simulations of weeks; whatever listens in `on_forget` is told the oldest moment to keep.
        """
        if self._keep_s is None:
            self.clock.after(FORGET_EVERY_S, self._forget)
        self._keep_s = seconds

    def chances(self, name: str) -> random.Random:
        """Random numbers of its own for the thing `name`: the same ones in whatever order things were made."""
        return random.Random(f"{self.seed} {name}")  # noqa: S311 - reproducible simulation, no secret

    def now(self) -> float:
        return self.clock.now()

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass: for the calling process, or for everything when the caller is not one."""
        if self.clock.in_process():
            self.clock.sleep(seconds)
        else:
            self.clock.run_for(seconds)

    def calls_of(self, principal: str) -> Iterable[Call]:
        return (call for call in self.calls if call.principal == principal)

    # -- inside -----------------------------------------------------------------------------------------------

    def _record(
        self,
        principal: str,
        service: str,
        operation: str,
        params: dict[str, Any],
        error: str | None,
        answer: dict[str, Any] | None,
    ) -> None:
        if principal == OPERATOR and (service, operation) not in self.charges:
            return
        call = Call(self.clock.now(), principal, service, operation, params, error)
        if principal != OPERATOR:
            self.calls.append(call)
        self._charge(call, answer)

    def _charge(self, call: Call, answer: dict[str, Any] | None) -> None:
        charge = self.charges.get((call.service, call.operation))
        if charge is not None:
            charge(call, answer)

    def _forget(self) -> None:
        assert self._keep_s is not None  # noqa: S101 - set before this was first asked for
        oldest = self.clock.now() - self._keep_s
        for forget in self.on_forget:
            forget(oldest)
        self.clock.after(FORGET_EVERY_S, self._forget)

    def _forget_calls(self, oldest: float) -> None:
        del self.calls[: bisect_left(self.calls, oldest, key=lambda call: call.at)]

    def _new_client(self, service: str, principal: str, region: str) -> Any:
        client = _session().client(
            service,
            aws_access_key_id=access_key(principal),
            aws_secret_access_key=SECRET,
            region_name=region,
            # A user agent of one word: botocore builds its long one anew for every call.
            config=Config(
                retries={"total_max_attempts": 1},
                parameter_validation=True,
                user_agent="twin",
                ignore_configured_endpoint_urls=True,  # of a shell that talks to another embedded cloud
            ),
        )

        def keep_params(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
            context["twin_params"] = dict(params)

        def answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]] | None:
            params = context.get("twin_params", {})
            return _as_response(lambda: self.call(service, model.name, params, principal))

        client.meta.events.register_first(f"provide-client-params.{service}", keep_params)
        client.meta.events.register_first(f"before-call.{service}", answer)
        if service in AT_ONCE:
            self._answer_at_once(client, service, principal)
        return client

    def _answer_at_once(self, client: Any, service: str, principal: str) -> None:
        """Botocore checks the parameters and makes the exceptions, but builds no request that nobody reads: that takes
        half of a call's time."""
        whole, check = client._make_api_call, client._serializer._param_validator.validate  # noqa: SLF001
        checks = self._checks.setdefault(service, Checks())

        def call(operation: str, params: dict[str, Any]) -> Any:
            model = self._services.get(service)
            if model is None or not model.handles(operation):
                return whole(operation, params)
            shape = client.meta.service_model.operation_model(operation)
            given = dict(params)
            if not checks.passes(shape.input_shape, params):
                built = client._emit_api_params(api_params=params, operation_model=shape, context={})  # noqa: SLF001
                faults = check(built, shape.input_shape)
                if faults.has_errors():
                    raise ParamValidationError(report=faults.generate_report())
            answer = _as_response(lambda: self.call(service, operation, given, principal))
            if answer is None:
                raise NotModelledError(f"the model of {service} handles {operation} and leaves it to moto")
            http, parsed = answer
            if http.status_code >= 300:
                code = parsed["Error"].get("QueryErrorCode") or parsed["Error"]["Code"]
                raise client.exceptions.from_code(code)(parsed, operation)
            return parsed

        client._make_api_call = call  # noqa: SLF001


def _surface(error: Exception) -> None:
    raise error


@cache
def _session() -> boto3.Session:
    """One session for all clients: it keeps the service models it has read, and no settings of the user's."""
    nowhere = (None, [], os.devnull, None)
    own = {"profile": (None, [], None, None), "config_file": nowhere, "credentials_file": nowhere}
    return boto3.Session(botocore_session=botocore.session.Session(own))


def _keep_few_managed_policies() -> None:
    """moto parses all of AWS's managed policies for each partition of each account, a second for every cloud: keep
    those that a node or a function of ours may have attached."""
    kept = ("AmazonSSM", "CloudWatchAgent", "AWSLambda", "AmazonEC2ContainerRegistry", "AmazonEC2RoleforSSM")
    source: Any = moto_iam
    policies = json.loads(source.aws_managed_policies_data)
    source.aws_managed_policies_data = json.dumps({k: v for k, v in policies.items() if k.startswith(kept)})


_keep_few_managed_policies()
bucket_policies.install()
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1300 images nobody asks for, half a second each time


def _as_response(call: Callable[[], dict[str, Any] | None]) -> tuple[Any, dict[str, Any]] | None:
    """Botocore's (http, parsed) pair for an answer or an error of ours; None lets the request go on to moto."""
    try:
        answer = call()
    except AwsError as error:
        described = {"Code": error.code, "Message": error.message}
        if error.modelled:
            described["QueryErrorCode"] = error.modelled  # where botocore looks for the class of the exception
        parsed = {
            **error.fields,
            "Error": described,
            "ResponseMetadata": {"HTTPStatusCode": error.status, "RetryAttempts": 0},
        }
        return SimpleNamespace(status_code=error.status, headers={}), parsed
    if answer is None:
        return None
    metadata = {"HTTPStatusCode": 200, "RetryAttempts": 0, "RequestId": "twin"}
    return SimpleNamespace(status_code=200, headers={}), {**answer, "ResponseMetadata": metadata}


def unknown_operation(service: str, operation: str) -> NotModelledError:
    """The refusal every service model raises for an operation it does not know."""
    return NotModelledError(f"the twin does not model {service}:{operation}")
