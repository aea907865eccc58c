"""The model server on this node: health, canary, answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .runtime import Runtime

HEALTH_TIMEOUT_S = 5.0
FRESH_S = 5.0
CANARY_TIMEOUT_S = 60.0  # a first answer may wait for graph capture; a hung engine never answers
RETRYABLE = frozenset({408, 409, 425, 429})  # the server is busy or gave up; the request itself is fine


class RefusedError(Exception):
    """The server will never serve this request (over-long prompt, unknown model, bad parameters)."""


class FailedError(Exception):
    """The server broke down, or took too long, while it held this request."""


class AwayError(Exception):
    """Nobody listened: the request never reached the server, so it cannot be to blame."""


@dataclass(frozen=True)
class Answer:
    """The server's answer, and the tokens it says it used."""

    response: Mapping[str, Any]
    prompt_tokens: int
    completion_tokens: int


class Model:
    """The model server at `port` of the loopback interface. `timeout_s` bounds one job."""

    def __init__(self, runtime: Runtime, port: int, timeout_s: float) -> None:
        self._runtime = runtime
        self._base = f"http://127.0.0.1:{port}"
        self._timeout_s = timeout_s
        self._answered_at = float("-inf")
        self.proven = False

    def serves(self) -> bool:
        """Whether work may be pulled. Asks at most every 5 s; after a breakdown a canary must come back first, as one
        dead engine would otherwise fail a whole queue. `proven` is the last finding."""
        if self.proven and self._runtime.now() - self._answered_at < FRESH_S:
            return True
        self.proven = self.healthy() and (self.proven or self.canary())
        self._answered_at = self._runtime.now()
        return self.proven

    def healthy(self) -> bool:
        try:
            return self._runtime.http("GET", f"{self._base}/health", {}, None, HEALTH_TIMEOUT_S)[0] == 200
        except OSError:
            return False

    def canary(self) -> bool:
        """Whether a one-token completion comes back: a hung engine still says it is healthy."""
        try:
            self._post("/v1/completions", {"prompt": "ping", "max_tokens": 1}, CANARY_TIMEOUT_S)
        except (RefusedError, FailedError, AwayError):
            return False
        return True

    def answer(self, path: str, payload: Mapping[str, Any]) -> Answer:
        """Return the answer to `payload`; raise RefusedError, FailedError or AwayError."""
        try:
            response = self._post(path, payload, self._timeout_s)
        except (FailedError, AwayError):
            self.proven = False
            raise
        usage = response.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Answer(response, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))

    def _post(self, path: str, payload: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        body = json.dumps(payload).encode()
        headers = {"content-type": "application/json"}
        try:
            status, _, answer = self._runtime.http("POST", self._base + path, headers, body, timeout_s)
        except ConnectionRefusedError as problem:
            raise AwayError("the model server does not listen") from problem
        except OSError as problem:
            raise FailedError(f"no answer from the model server: {problem!r}") from problem
        if status != 200:
            text = answer[:500].decode("utf-8", "replace")
            refused = 400 <= status < 500 and status not in RETRYABLE
            raise (RefusedError if refused else FailedError)(f"the model server answered {status}: {text}")
        try:
            document = json.loads(answer)
        except ValueError as problem:
            raise FailedError("the model server's answer is cut short") from problem
        if not isinstance(document, dict):
            raise FailedError("the model server's answer is not an object")
        return document


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
