"""The account behind an endpoint of the embedded cloud, as resource handlers see it (`handlers.account.Account`).

A process of its own uses it: it imports neither moto nor the cloud, only boto3.
"""

from __future__ import annotations

import json
import random
import threading
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

ADVANCE_LIMIT_S = 3600.0  # real seconds one request may take: a month of virtual time is minutes of work


class RemoteError(RuntimeError):
    """The endpoint does not answer, or what it was asked for failed inside it."""


class RemoteAccount:
    """The operator's view over AWS's wire protocols.

    Args: `url` of the endpoint; `region` checked against the server's when given; `seed` of the names made up here.
    Raises `RemoteError` when the endpoint does not answer or serves another region.
    """

    def __init__(self, url: str, region: str | None = None, seed: int | bytes = 0) -> None:
        self.url = url.rstrip("/")
        self.random = random.Random(seed)  # noqa: S311 - reproducible names, no secret
        served = self._ask("GET", "now")
        self.account_id: str = served["accountId"]
        self.region: str = served["region"]
        if region is not None and region != self.region:
            raise RemoteError(f"the embedded cloud at {url} serves {self.region}, not {region}: start one for {region}")
        self._session = boto3.Session(
            aws_access_key_id="TWINoperator",
            aws_secret_access_key="twin",  # noqa: S106 - not a secret: it only lets botocore sign
            region_name=self.region,
        )
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()  # a session makes one client at a time; clients themselves may be shared

    def client(self, service: str) -> Any:
        """The operator's boto3 client of `service`."""
        with self._making:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.url,
                    config=Config(
                        retries={"total_max_attempts": 1},
                        parameter_validation=True,
                        user_agent="twin",
                        read_timeout=ADVANCE_LIMIT_S,  # an invocation or a deletion may let hours of virtual time pass
                        s3={"addressing_style": "path"},
                        ignore_configured_endpoint_urls=True,
                    ),
                )
            return self._clients[service]

    def now(self) -> float:
        """The cloud's time, unix seconds."""
        return float(self._ask("GET", "now")["now"])

    def wait(self, seconds: float) -> None:
        """Let `seconds` of the cloud's time pass, for everything in it."""
        self._ask("POST", "advance", {"seconds": seconds})

    def status(self) -> dict[str, Any]:
        """What `GET /_twin/status` answers."""
        return self._ask("GET", "status")

    def _ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/_twin/{what}", data=data, method=method)  # noqa: S310 - the twin's own address
        try:
            with urlopen(request, timeout=ADVANCE_LIMIT_S) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            with error:
                text = error.read().decode(errors="replace").strip()
            raise RemoteError(f"{method} /_twin/{what} of the embedded cloud: {text}") from error
        except OSError as error:
            raise RemoteError(
                f"the embedded cloud does not answer at {self.url} ({error}): start it with `gpufleet twin start`"
            ) from error
