"""Asks the control API of a running embedded cloud, past any proxy that the environment names."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

HEALTH_S = 5.0  # answered even while the cloud is busy


class ServerError(Exception):
    """The server does not answer, or could not do what it was asked; the message holds its own words."""


def call(url: str, what: str, body: dict[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
    """GET `/_twin/<what>`, or POST with `body`. Waits `timeout` real seconds, by default as long as it takes."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=timeout)
    method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
    try:
        connection.request(method, f"/_twin/{what}", data)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        raise ServerError(f"the embedded cloud at {url} does not answer: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise ServerError(f"the embedded cloud at {url} could not {what}: {found.get('error', found)}")
    return found


def is_healthy(url: str) -> bool:
    try:
        return bool(call(url, "health", timeout=HEALTH_S))
    except ServerError:
        return False
