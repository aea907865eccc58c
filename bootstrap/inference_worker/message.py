"""From the body of a message to a request for the model server. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .ports import Message

# A job id is part of an object key and of a table key.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=@+-]{0,199}")


@dataclass(frozen=True)
class Job:
    """One request: `path` at the model server, `payload` for it; `expires_at` in unix seconds or None."""

    id: str
    path: str
    payload: Mapping[str, Any]
    expires_at: float | None


class PoisonError(Exception):
    """A message that no worker can ever serve. `job_id` is the id to file it under."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(reason)
        self.job_id = job_id
        self.reason = reason


def parse(message: Message) -> Job:
    """Return the job in `message`; raise PoisonError with the reason if there is none.

    Body: a JSON object with `prompt` (text, optionally `max_tokens`) or `request` (a chat or completions body in
    OpenAI's form), and optionally `job_id` and `expires_at`. The id: the body's, else the attribute's of a copy, else
    the message's.
    """
    fallback = message.job_id if message.job_id and JOB_ID.fullmatch(message.job_id) else message.id
    try:
        body = json.loads(message.body)
    except (ValueError, RecursionError) as problem:
        raise PoisonError(fallback, f"the body is not JSON: {problem}") from None
    if not isinstance(body, dict):
        raise PoisonError(fallback, "the body must be a JSON object")
    job_id = body.get("job_id", fallback)
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise PoisonError(fallback, f"job_id {str(job_id)[:80]!r} must be 1 to 200 letters, digits and . _ : = @ + -")
    expires_at = body.get("expires_at")
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int | float)):
        raise PoisonError(job_id, "expires_at must be a number of unix seconds")
    try:
        path, payload = _request(body)
    except ValueError as problem:
        raise PoisonError(job_id, str(problem)) from None
    return Job(job_id, path, payload, expires_at)


def _request(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if ("prompt" in body) == ("request" in body):
        raise ValueError("the body must have either 'prompt' or 'request'")
    if "prompt" in body:
        if not isinstance(body["prompt"], str):
            raise ValueError("prompt must be a text")
        if "max_tokens" not in body:
            return "/v1/completions", {"prompt": body["prompt"]}
        most = body["max_tokens"]
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError("max_tokens must be a whole number above 0")
        return "/v1/completions", {"prompt": body["prompt"], "max_tokens": most}
    request = body["request"]
    if not isinstance(request, dict):
        raise ValueError("request must be an object")
    # The answer is stored whole: a stream would only have to be put together again.
    whole = {key: value for key, value in request.items() if key not in ("stream", "stream_options")}
    if isinstance(request.get("messages"), list):
        return "/v1/chat/completions", whole
    if isinstance(request.get("prompt"), str | list):
        return "/v1/completions", whole
    raise ValueError("request must have 'messages' (chat) or 'prompt' (completions)")
