"""The stub of a model server, in the shape of vLLM's OpenAI-compatible one: health, completions, chat completions.

It answers after a service time. What it does wrong is scripted in `Behaviour`, shared by all nodes of a world.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock, Event

TOKENS_PER_S = 25.0  # one stream of an 8B model on an A10G-class GPU; only the ratio to the job's time matters here
MEAN_SERVICE_S = 20.0
SPREAD = 0.4  # sigma of the lognormal service time
CANARY_S = 0.5
Reply = tuple[int, dict[str, str], bytes]


def service_seconds(request: Mapping[str, Any], rng: random.Random) -> float:
    """How long a request holds its slot: by its `max_tokens` if it names them, else around 20 s, lognormal."""
    tokens = request.get("max_tokens") or request.get("max_completion_tokens")
    if tokens == 1:
        return CANARY_S
    if tokens:
        return tokens / TOKENS_PER_S * rng.uniform(0.9, 1.1)
    return rng.lognormvariate(math.log(MEAN_SERVICE_S) - SPREAD**2 / 2, SPREAD)


@dataclass
class Behaviour:
    """Knobs. Instance ids in the sets; `cold_start_s()` draws launch to a loaded model (150-240 s); `refuse(request)`
    answers an HTTP status to fail a request with, or None."""

    rng: random.Random
    service_seconds: Callable[[Mapping[str, Any], random.Random], float] = service_seconds
    refuse: Callable[[Mapping[str, Any]], int | None] = lambda request: None
    error_rate: float = 0.0
    unhealthy: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    never_loads: int = 0  # so many of the next boots never get their model loaded

    def cold_start_s(self) -> float:
        return self.rng.uniform(150, 240)


class ModelServer:
    """The server of one node. `in_flight`: when each job in work began (canaries are no jobs)."""

    def __init__(self, clock: Clock, behaviour: Behaviour, instance_id: str, seed: int) -> None:
        self._clock = clock
        self._behaviour = behaviour
        self._instance = instance_id
        self._rng = random.Random(seed)  # noqa: S311 - reproducible simulation
        self._down: Event | None = None
        self._count = 0
        self.in_flight: dict[int, float] = {}
        self.served_s = 0.0

    def start(self) -> None:
        """Listen: the model is loaded."""
        self._down = self._clock.event()

    def stop(self) -> None:
        """Stop listening; requests in work see their connection reset."""
        if self._down is not None:
            self._down.set()
            self._down = None

    def request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Reply:
        """One HTTP request. Raises ConnectionRefusedError, ConnectionResetError or TimeoutError as a socket would."""
        if self._down is None:
            raise ConnectionRefusedError("[Errno 111] Connection refused")
        if self._instance in self._behaviour.unhealthy:
            return _error(503, "the engine is dead")
        if (method, path) == ("GET", "/health"):
            return 200, {}, b""
        if method != "POST" or path not in ("/v1/completions", "/v1/chat/completions"):
            return _error(404, f"no route {method} {path}")
        try:
            given = json.loads(body or b"")
            text = given["prompt"] if path == "/v1/completions" else json.dumps(given["messages"])
        except (ValueError, KeyError, TypeError):
            return _error(400, "the body lacks prompt or messages")
        return self._complete(path, given, str(text), timeout_s)

    def _complete(self, path: str, given: dict[str, Any], text: str, timeout_s: float) -> Reply:
        down = self._down
        assert down is not None  # noqa: S101 - checked by the caller
        status = self._behaviour.refuse(given)
        if status is not None:
            return _error(status, "scripted refusal")
        hung = self._instance in self._behaviour.hung
        seconds = math.inf if hung else self._behaviour.service_seconds(given, self._rng)
        self._count += 1
        number, began = self._count, self._clock.now()
        if given.get("max_tokens") != 1:
            self.in_flight[number] = began
        try:
            if down.wait(min(seconds, timeout_s)):
                raise ConnectionResetError("[Errno 104] Connection reset by peer")
            if seconds > timeout_s:
                raise TimeoutError("timed out")
        finally:
            self.served_s += self._clock.now() - began if number in self.in_flight else 0.0
            self.in_flight.pop(number, None)
        if self._rng.random() < self._behaviour.error_rate:
            return _error(500, "scripted error")
        return self._answer(path, given, text, number)

    def _answer(self, path: str, given: dict[str, Any], text: str, number: int) -> Reply:
        used = {"prompt_tokens": len(text) // 4 + 1, "completion_tokens": int(given.get("max_tokens") or 128)}
        used["total_tokens"] = used["prompt_tokens"] + used["completion_tokens"]
        content = f"answer to {text[:40]}"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        chat = path == "/v1/chat/completions"
        choice.update({"message": {"role": "assistant", "content": content}} if chat else {"text": content})
        document = {
            "id": f"cmpl-{self._instance}-{number}",
            "object": "chat.completion" if chat else "text_completion",
            "model": "twin",
            "choices": [choice],
            "usage": used,
        }
        return 200, {"content-type": "application/json"}, json.dumps(document).encode()


def _error(status: int, message: str) -> Reply:
    return status, {"content-type": "application/json"}, json.dumps({"error": {"message": message}}).encode()
