"""The account behind an endpoint of the embedded cloud, as resource handlers see it (`handlers.account.Account`).

A process of its own uses it: it imports neither moto nor the cloud, only boto3.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import boto3
from botocore.config import Config

from ..credentials import OPERATOR, SECRET, access_key
from ..server.client import ServerError, call

_PATIENCE_S = 3600.0  # real seconds for one call: an invocation or a deletion may let hours of virtual time pass


class RemoteAccount:
    """The operator's view over AWS's wire protocols.

    Args: `url` of the endpoint; `region` checked against the server's when given; `seed` of the names made up here.
    Raises `ServerError` when the endpoint does not answer or serves another region.
    """

    def __init__(self, url: str, region: str | None = None, seed: int | bytes = 0) -> None:
        self.url = url.rstrip("/")
        self.random = random.Random(seed)  # noqa: S311 - reproducible names, no secret
        served = call(self.url, "now")
        self.account_id: str = served["accountId"]
        self.region: str = served["region"]
        if region is not None and region != self.region:
            raise ServerError(f"the embedded cloud at {url} serves {self.region}, not {region}: start one for {region}")
        self._session = boto3.Session(
            aws_access_key_id=access_key(OPERATOR),
            aws_secret_access_key=SECRET,
            region_name=self.region,
        )
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()  # a session makes one client at a time; clients themselves may be shared

    def client(self, service: str) -> Any:
        """The operator's boto3 client of `service`."""
        with self._making:
            if service not in self._clients:
                config = Config(
                    retries={"total_max_attempts": 1},
                    parameter_validation=True,
                    user_agent="twin",
                    read_timeout=_PATIENCE_S,
                    proxies={},  # the loopback is reached directly, whatever the environment says
                    s3={"addressing_style": "path"},
                )
                self._clients[service] = self._session.client(service, endpoint_url=self.url, config=config)
            return self._clients[service]

    def now(self) -> float:
        """The cloud's time, unix seconds."""
        return float(call(self.url, "now")["now"])

    def wait(self, seconds: float) -> None:
        """Let `seconds` of the cloud's time pass, for everything in it."""
        call(self.url, "advance", {"seconds": seconds})
