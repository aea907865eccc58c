"""The account that handlers act on, as much of it as they see.

Both drivers offer it: `gpufleet.twin.cloud.Cloud` in the same process, `gpufleet.twin.plugin.remote.RemoteAccount` over
the embedded cloud's endpoint.
"""

from __future__ import annotations

import random
from typing import Any, Protocol


class Account(Protocol):
    """An AWS account and region, as its operator sees it. Times are unix seconds, durations seconds, both virtual."""

    account_id: str
    region: str
    random: random.Random

    def client(self, service: str) -> Any:
        """The operator's boto3 client of `service`."""
        ...

    def now(self) -> float:
        """The cloud's time."""
        ...

    def wait(self, seconds: float) -> None:
        """Let `seconds` of the cloud's time pass."""
        ...
