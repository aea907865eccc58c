"""Instances that are replaced while jobs keep coming: of an old launch template version, dead ones, hung ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twin_pools import HOUR, MINUTE, Pools

from gpufleet.twin.services.machines import Instance

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

NEW = {"model.serverArgs": ["--max-model-len", "4096", "--max-num-seqs", "8"]}  # it is in the nodes' user data
JOB_TIMEOUT_S = 120.0
LOADED_S = 12 * MINUTE  # until two instances serve, and what had to wait for them is done


def loaded(pools: Pools, seconds: float, per_minute: float = 4.5) -> list[Instance]:
    """Jobs for so long; the instances in service once things have settled."""
    pools.steady(per_minute, LOADED_S + seconds)
    pools.world.run_for(LOADED_S)
    serving = pools.in_service()
    assert len(serving) == 2
    assert pools.at_work() >= 2
    return serving


@pytest.mark.parametrize(
    ("cap", "per_minute", "within_s"),
    [
        pytest.param(4, 4.5, 12 * MINUTE, id="room"),  # two boots, one after the other
        pytest.param(2, 5.4, 50 * MINUTE, id="full cap", marks=pytest.mark.long),  # half an hour without an idle moment
    ],
)
def test_a_new_template_version_rolls_through_under_load(cap: int, per_minute: float, within_s: float) -> None:
    with Pools(cap=cap) as pools:
        world = pools.world
        old = {one.id for one in loaded(pools, within_s, per_minute)}
        edited_at = pools.now()
        assert "inference-node" in {step.name for step in pools.up(**NEW).changes}
        assert world.run_until(lambda: not old & {one.id for one in world.instances()}, limit_s=within_s)
        serving = pools.in_service()
        assert serving, "somebody serves all the time"
        assert all(NEW["model.serverArgs"][1] in one.spec.user_data for one in pools.launched(edited_at))
        world.run_until(pools.began + LOADED_S + within_s)
        assert world.run_until(pools.home, limit_s=HOUR)
        pools.check()
        assert set(pools.attempts().values()) == {1}, "no job was interrupted"


# -- health ------------------------------------------------------------------------------------------------------------


def dies(pools: Pools, victim: Instance) -> None:
    """Nothing runs on it any more; its group does not notice."""
    pools.world.nodes.nodes[victim.id].die()


def engine_hangs(pools: Pools, victim: Instance) -> None:
    """Its model server takes requests and answers none; its worker says so after the jobs' timeout, by silence."""
    pools.world.behaviour.hung.add(victim.id)


class Deaf:
    """A client of SQS that receives nothing any more."""

    def __init__(self, pools: Pools, client: Any) -> None:
        self._clock, self._client = pools.cloud.clock, client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def receive_message(self, **_: Any) -> dict[str, Any]:
        self._clock.sleep(20)
        return {}


def goes_deaf(pools: Pools, victim: Instance) -> None:
    """Its worker reports every ten seconds that it is well, and takes no job."""
    client = pools.world.nodes.nodes[victim.id].aws("sqs")
    client._client = Deaf(pools, client._client)


@pytest.mark.parametrize(
    ("fails", "noticed_s", "begun_again"),
    [
        pytest.param(dies, 200.0, 2, id="dead"),  # three silent minutes
        pytest.param(engine_hangs, JOB_TIMEOUT_S + 220.0, 2, id="hung engine", marks=pytest.mark.long),
        pytest.param(goes_deaf, JOB_TIMEOUT_S + 360.0, 0, id="deaf worker"),  # and five minutes and until a job waits
    ],
)
def test_a_node_that_serves_nothing_is_replaced_and_its_jobs_are_done(
    fails: Callable[[Pools, Instance], None], noticed_s: float, begun_again: int
) -> None:
    with Pools(cap=3, edits={"advanced.jobTimeoutSeconds": int(JOB_TIMEOUT_S)}) as pools:
        world = pools.world
        victim, _ = loaded(pools, 15 * MINUTE)
        failed_at = pools.now()
        fails(pools, victim)
        assert world.run_until(lambda: victim.id in pools.drained(), limit_s=noticed_s)
        assert world.run_until(lambda: victim.state == "terminated", limit_s=8 * MINUTE)
        assert world.run_until(lambda: bool(pools.launched(failed_at)), limit_s=5 * MINUTE)
        world.run_until(failed_at + 15 * MINUTE)
        assert world.run_until(pools.home, limit_s=HOUR)
        pools.check()
        assert list(pools.replaced()) == [victim.id]
        assert sorted(pools.attempts().values())[-3:] == [1] * (3 - begun_again) + [2] * begun_again
