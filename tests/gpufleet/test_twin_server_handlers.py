"""Every resource handler over AWS's wire protocols: the same life as in process, and the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_twin_handlers import test_functions_of_the_provider as functions_of_the_provider
from test_twin_handlers import test_life_of_a_resource as life_of_a_resource
from twin_handler_cases import CASES, Case, prerequisites
from twin_wire import Compared, over_the_wire

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.plugin.remote import RemoteAccount
from gpufleet.twin.server import dispatch
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Cloud(1_790_000_000.0) as cloud:
        world = World(cloud)
        world.services.functions.account_concurrency = 1000
        with Endpoint(world) as endpoint:
            yield endpoint


@pytest.fixture(scope="module")
def compared() -> Iterator[Compared]:
    compared, real = Compared(), dispatch.answer
    dispatch.answer = compared.answer
    yield compared
    dispatch.answer = real


@pytest.fixture(scope="module")
def remote(endpoint: Endpoint, compared: Compared) -> RemoteAccount:
    return compared.watch(over_the_wire(endpoint, lambda: RemoteAccount(endpoint.url)))


@pytest.fixture(scope="module")
def known(endpoint: Endpoint, remote: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return over_the_wire(endpoint, lambda: prerequisites(remote, tmp_path_factory.mktemp("files")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type.rsplit(':', 1)[-1]}{case.label}")
def test_life_of_a_resource(
    case: Case, endpoint: Endpoint, remote: Any, known: dict[str, Any], compared: Compared
) -> None:
    compared.forget()
    over_the_wire(endpoint, lambda: life_of_a_resource(case, remote, known))
    assert compared.differences == []
    assert compared.compared or case.type == "pulumi:providers:aws"  # a provider is nothing in the account


def test_functions_of_the_provider(endpoint: Endpoint, remote: Any, compared: Compared) -> None:
    compared.forget()
    over_the_wire(endpoint, lambda: functions_of_the_provider(remote))
    assert compared.differences == []
    assert ("ssm", "GetParameter") in compared.compared
