"""The tables in memory answer as moto's do: the same runs leave the same rows and the same calls."""

from __future__ import annotations

from typing import Any

import pytest
from aws_world import CONTROL, SPOT_GROUP, World
from fleet_control.aws import runtime
from fleet_functions import Functions
from tables import Tables, item_bytes


def story(world: World, functions: Functions) -> list[Any]:
    """A lifted stop, a launch, a lost lease, a boot that fails, figures that another run changed."""
    world.admit(headroom=2.0)
    recorded = {SPOT_GROUP: ["Launch"], "other": ["X"]}
    world.put(CONTROL, pk="latch", latched=False, generation=5, at=world.at - 600, suspended=recorded)
    world.groups[SPOT_GROUP].suspended = {"Launch"}
    functions.controller_config["policy"]["floor"] = 4
    functions.controller(seconds=60)
    world.settle()
    functions.controller(seconds=40)
    world.fails_to_boot(next(iter(world.instances.values())))
    functions.controller(seconds=40)
    world.before["describe_auto_scaling_groups"] = lambda: world.admit(headroom=0.1)
    functions.controller(seconds=24)
    world.before["get_queue_attributes"] = lambda: world.put(CONTROL, pk="scaler#inference-dev", fence=99)
    functions.controller(seconds=24)
    rows = [world.row(CONTROL, name) for name in ("scaler#inference-dev", "latch", "budget")]
    return [rows, world.calls, [line["reason"] for line in world.logs]]


def test_a_story_on_both(world: World, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    on_moto = story(world, functions)
    other = World(Tables())
    for name in ("now", "sleep", "client", "log"):
        monkeypatch.setattr(runtime, name, getattr(other, name))
    again = Functions(other)
    monkeypatch.setattr(runtime, "environ", again.environ)
    assert story(other, again) == on_moto
    assert on_moto[1], "something happened"


def test_an_unknown_expression_is_no_pass() -> None:
    tables = Tables()
    tables.create_table("t")
    for update, condition in (("SET a = if_not_exists(a, :x)", ""), ("SET a = :x", "begins_with(a, :x)")):
        with pytest.raises((AssertionError, KeyError)):
            tables.update_item("t", {"pk": {"S": "1"}}, update, {":x": {"N": "1"}}, condition)


def test_units_are_those_of_the_larger_item() -> None:
    tables = Tables(counts=True)
    tables.create_table("t")
    tables.put_item("t", {"pk": {"S": "1"}, "text": {"S": "x" * 2500}})
    assert tables.write_units == 3
    tables.update_item("t", {"pk": {"S": "1"}}, "SET text = :x", {":x": {"S": ""}})
    assert tables.write_units == 6
    asked = {"Keys": [{"pk": {"S": "1"}}, {"pk": {"S": "none"}}], "ConsistentRead": True}
    tables.batch_get_item({"t": asked})
    assert tables.read_units == 2
    assert item_bytes({"pk": {"S": "abc"}, "n": {"N": "1234"}}) == 2 + 3 + 1 + 4
