"""The outside world of the functions: environment, clock, AWS clients and log, all replaceable module attributes.

Every other module reaches them as ``runtime.now()``, ``runtime.client("sqs")`` and so on, at the time of the call, so
that a test or the embedded cloud can put its own in their place.
"""

from __future__ import annotations

import functools
import json
import os
import time
from typing import Any

import boto3
from botocore.config import Config

environ = os.environ

# A call that hangs must not eat the run: two attempts of at most 3 s + 8 s stay below the shortest function timeout.
_CONFIG = Config(connect_timeout=3, read_timeout=8, retries={"mode": "standard", "total_max_attempts": 2})


def now() -> float:
    """Unix seconds."""
    return time.time()


def sleep(seconds: float) -> None:
    """Waits ``seconds``; never a negative time."""
    time.sleep(max(0.0, seconds))


@functools.cache
def client(service: str) -> Any:
    """The boto3 client of a service, made once. AWS Budgets and Cost Explorer have their one endpoint in us-east-1."""
    region = {"region_name": "us-east-1"} if service in ("budgets", "ce") else {}
    return boto3.client(service, config=_CONFIG, **region)  # type: ignore[call-overload]


def log(record: dict[str, Any]) -> None:
    """One JSON line on standard output, which the function's log group keeps."""
    print(json.dumps(record, default=str, separators=(",", ":")), flush=True)
