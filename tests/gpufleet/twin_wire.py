"""An endpoint for tests: the cloud answers on the main thread while the callers run in another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from gpufleet.twin.plugin.remote import RemoteAccount
from gpufleet.twin.server import dispatch, protocol
from gpufleet.twin.server.callers import caller_of
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.server.messages import HttpAnswer, HttpRequest

T = TypeVar("T")
READS = ("Describe", "Get", "List", "Head")


def over_the_wire(endpoint: Endpoint, act: Callable[[], T]) -> T:
    """Run `act()` in another thread while `endpoint` serves here; answers or raises what `act` does."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["answer"] = act()
        except BaseException as error:
            outcome["error"] = error

    caller = threading.Thread(target=run)
    caller.start()
    endpoint.serve(lambda: not caller.is_alive(), poll_s=0.001)
    caller.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["answer"]


class Compared:
    """Holds every reading call that comes over the wire against the same call in process.

    `answer` stands in for `dispatch.answer` (main thread): it asks the cloud in process first. `watch` hears what the
    remote caller got. `compared` is which operations (service, name) were, `differences` what was not the same.
    """

    def __init__(self) -> None:
        self.compared: set[tuple[str, str]] = set()
        self.differences: list[tuple[str, Any, Any]] = []
        self._expected: Any = None

    def forget(self) -> None:
        self.compared.clear()
        self.differences.clear()

    def answer(self, cloud: Any, request: HttpRequest, real: Callable[..., HttpAnswer] = dispatch.answer) -> HttpAnswer:
        dialect = protocol.dialect_of(request, caller_of(request, cloud.region).service)
        call = protocol.read(request, dialect)
        self._expected = None
        if call.operation.startswith(READS):
            method = getattr(cloud.client(call.service), xform_name(call.operation))
            try:
                self._expected = told(method(**call.params))
            except ClientError as error:
                self._expected = told(error.response)
        return real(cloud, request)

    def watch(self, remote: RemoteAccount) -> RemoteAccount:
        make = remote.client

        def client(service: str) -> Any:
            made = make(service)
            made.meta.events.register_last("after-call", self._hear, unique_id="compared")
            return made

        remote.client = client  # type: ignore[method-assign]
        return remote

    def _hear(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        name = (model.service_model.service_name, model.name)
        if self._expected is not None:
            self.compared.add(name)
            if told(parsed) != self._expected:
                self.differences.append((".".join(name), told(parsed), self._expected))


def told(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what the transport adds; of an error code, message and status."""
    if "Error" in answer:
        error, status = answer["Error"], answer["ResponseMetadata"]["HTTPStatusCode"]
        return {"Code": error["Code"], "Message": error.get("Message"), "status": status}
    return {k: v for k, v in answer.items() if k != "ResponseMetadata" and not isinstance(v, StreamingBody)}
