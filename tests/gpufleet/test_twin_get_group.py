"""The provider's function that reads a group: every field of the real answer, in process and through the plugin."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from pulumi_aws.autoscaling.get_group import GetGroupResult
from twin_account import START, Account
from twin_plugin import Engine, values
from twin_wire import over_the_wire

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError
from gpufleet.twin.handlers import invoke
from gpufleet.twin.plugin.provider import TwinProvider
from gpufleet.twin.plugin.remote import RemoteAccount
from gpufleet.twin.server.endpoint import Endpoint
from gpufleet.twin.world import World

TOKEN = "aws:autoscaling/getGroup:getGroup"


@pytest.fixture
def world() -> Iterator[World]:
    with Cloud(START, seed=1) as cloud:
        yield World(cloud)


@pytest.fixture
def account(world: World) -> Account:
    account = Account(world.cloud, world)
    account.make_spot_group(DesiredCapacity=1, Tags=[{"Key": "a", "Value": "b", "PropagateAtLaunch": True}])
    account.aws.suspend_processes(AutoScalingGroupName="spot", ScalingProcesses=["Launch", "AZRebalance"])
    return account


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def test_it_has_every_field_of_the_real_answer(account: Account) -> None:
    real = set(inspect.signature(GetGroupResult.__init__).parameters) - {"__self__"}
    assert invoke(account.cloud, TOKEN, {"name": "spot"}).keys() == {camel(name) for name in real}


def test_it_says_what_the_group_is(account: Account) -> None:
    found = invoke(account.cloud, TOKEN, {"name": "spot"})
    assert found["suspendedProcesses"] == ["AZRebalance", "Launch"]
    assert (found["minSize"], found["maxSize"], found["desiredCapacity"]) == (0, 10, 1)
    assert found["tags"] == [{"key": "a", "value": "b", "propagateAtLaunch": True}]
    assert found["launchTemplates"] == []
    (mixed,) = found["mixedInstancesPolicies"]
    assert [one["instanceType"] for one in mixed["launchTemplates"][0]["overrides"]] == ["g5.xlarge", "g6.xlarge"]
    assert mixed["instancesDistributions"][0]["spotAllocationStrategy"] == "price-capacity-optimized"
    account.make_group()
    (template,) = invoke(account.cloud, TOKEN, {"name": "fleet"})["launchTemplates"]
    assert template["id"] == account.template


def test_the_real_result_takes_it(account: Account) -> None:
    found = invoke(account.cloud, TOKEN, {"name": "spot"})
    real = set(inspect.signature(GetGroupResult.__init__).parameters) - {"__self__"}
    result = GetGroupResult(**{name: found[camel(name)] for name in real})
    assert list(result.suspended_processes) == ["AZRebalance", "Launch"]


def test_a_group_that_is_not_there_fails(account: Account) -> None:
    with pytest.raises(AwsError, match=r"reading Auto Scaling Group \(none\)"):
        invoke(account.cloud, TOKEN, {"name": "none"})


def test_what_it_does_not_know_is_refused_by_name(account: Account) -> None:
    with pytest.raises(NotModelledError, match="filters of getGroup"):
        invoke(account.cloud, TOKEN, {"name": "spot", "filters": []})
    with pytest.raises(NotModelledError, match="serves us-east-1"):
        invoke(account.cloud, TOKEN, {"name": "spot", "region": "eu-west-1"})


def test_the_engine_gets_it_through_the_plugin(account: Account, world: World) -> None:
    own = invoke(account.cloud, TOKEN, {"name": "spot"})

    def ask(**args: Any) -> Any:
        engine = Engine(TwinProvider(RemoteAccount(endpoint.url), version("pulumi_aws")))
        return engine.Invoke(tok=TOKEN, args=args)

    with Endpoint(world) as endpoint:
        found = over_the_wire(endpoint, lambda: ask(name="spot"))
        assert values(getattr(found, "return")) == own
        missing = over_the_wire(endpoint, lambda: ask(name="none"))
    assert "reading Auto Scaling Group (none)" in missing.failures[0].reason
