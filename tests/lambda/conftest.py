"""The functions on a small AWS: a world put in the place of their runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aws_world import World
from fleet_control.aws import runtime
from fleet_functions import Functions
from moto import mock_aws


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    """One DynamoDB client on moto for all tests: making a client takes longer than most of them."""
    with mock_aws():
        yield boto3.client("dynamodb", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def world(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    one = World(dynamodb)
    for name in ("now", "sleep", "client", "log"):
        monkeypatch.setattr(runtime, name, getattr(one, name))
    return one


@pytest.fixture
def functions(world: World, monkeypatch: pytest.MonkeyPatch) -> Functions:
    one = Functions(world)
    monkeypatch.setattr(runtime, "environ", one.environ)
    return one
