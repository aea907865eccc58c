"""What others change behind Pulumi's back: an operator's changes are seen and put right, the autoscaler's are its own,
and a stopped fleet stays stopped whatever is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from desk import Desk, Done
from drifts import DRIFTS
from running import HOUR, REFRESH, STACK, configure, deployed, groups, in_service, served

from gpufleet.operations import resume

pytestmark = pytest.mark.engine

MINUTE = 60.0
CAP = 2
BUDGET_USD = 150
GONE = "MetricAlarm inference-oldest-message"
NOTHING_ELSE = "nothing but what was changed"


def test_drift_of_a_living_stack(desk: Desk, subtests: pytest.Subtests) -> None:
    outputs = deployed(desk, {"maxGpuInstances": CAP, "monthlyBudgetUsd": BUDGET_USD})
    with subtests.test("an operator's changes are seen, named and put right"):
        seen_and_put_right(desk, outputs)
    with subtests.test("what the autoscaler does is no drift"):
        at_work(desk, outputs)
        desk.pulumi(*REFRESH)
    with subtests.test("what the guard does is no drift"):
        stopped(desk, outputs)
        desk.pulumi(*REFRESH)
    with subtests.test("no deployment starts a stopped fleet"):
        deployments_of_a_stopped_fleet(desk, outputs)
    with subtests.test("after the resume the waiting jobs are served"):
        resumed(desk, outputs)


def seen_and_put_right(desk: Desk, outputs: Mapping[str, Any]) -> None:
    before = [drift.look(desk.client, outputs) for drift in DRIFTS]
    for drift in DRIFTS:
        drift.make(desk.client, outputs)
    desk.client("cloudwatch").delete_alarms(AlarmNames=[f"inference-oldest-message-{STACK}"])
    for drift, value in zip(DRIFTS, before, strict=True):
        assert drift.look(desk.client, outputs) != value, f"{drift.resource}: {drift.prop} was not changed"

    refreshed = desk.pulumi(*REFRESH, code=None)
    assert refreshed.code
    assert "no changes were expected" in refreshed.err
    seen = shown(refreshed)
    assert seen.pop(GONE) == ("delete", set())
    assert seen.keys() == {drift.resource for drift in DRIFTS}, NOTHING_ELSE
    for drift in DRIFTS:
        assert drift.prop in seen[drift.resource][1], drift.resource

    repair = desk.up(STACK, "--refresh").changes
    # A group names the template's version, and to put a template right is to make a new one.
    assert repair.keys() == {drift.resource for drift in DRIFTS} | {GONE, "Group inference-asg-spot"}, NOTHING_ELSE
    assert repair.pop(GONE) == ("create", ())
    assert {op for op, _ in repair.values()} == {"update"}
    for drift, value in zip(DRIFTS, before, strict=True):
        assert drift.look(desk.client, outputs) == value, f"{drift.resource}: {drift.prop} was not put right"
    desk.pulumi(*REFRESH)


def shown(done: Done) -> dict[str, tuple[str, set[str]]]:
    """What a refresh found: "Type name" -> (operation, properties)."""
    found = (event["resOutputsEvent"]["metadata"] for event in done.events if "resOutputsEvent" in event)
    return {
        f"{one['type'].rsplit(':', 1)[-1]} {one['urn'].rsplit('::', 1)[-1]}": (
            one["op"],
            set(one["detailedDiff"] or {}),
        )
        for one in found
        if one["op"] not in ("same", "refresh")
    }


def at_work(desk: Desk, outputs: Mapping[str, Any]) -> None:
    """Both instances serve, and more jobs wait than they can take."""
    world = desk.world
    world.run_for(MINUTE)
    world.traffic.send(outputs["queueUrl"], 40, service_s=100)
    assert world.run_until(lambda: len(in_service(desk)) == CAP, limit_s=HOUR)
    assert sum(group["DesiredCapacity"] for group in groups(desk, outputs)) == CAP


def stopped(desk: Desk, outputs: Mapping[str, Any]) -> None:
    """AWS Budgets says that more than the budget is spent; the guard stops the fleet."""
    budgets = desk.world.services.budgets
    budgets.figure = lambda: BUDGET_USD + 1.0
    budgets.refresh_now()
    assert desk.world.run_until(lambda: latched(desk, outputs), limit_s=10 * MINUTE, step_s=1)
    assert desk.world.run_until(lambda: not desk.world.instances(), limit_s=HOUR)
    assert suspended(desk, outputs) == STOPPED


STOPPED = [{"AZRebalance", "AlarmNotification", "Launch", "ScheduledActions"}] * 2


def latched(desk: Desk, outputs: Mapping[str, Any]) -> bool:
    row = desk.client("dynamodb").get_item(
        TableName=outputs["controlTable"], Key={"pk": {"S": "latch"}}, ConsistentRead=True
    )
    return "Item" in row and row["Item"]["latched"]["BOOL"]


def suspended(desk: Desk, outputs: Mapping[str, Any]) -> list[set[str]]:
    return [{one["ProcessName"] for one in group["SuspendedProcesses"]} for group in groups(desk, outputs)]


def deployments_of_a_stopped_fleet(desk: Desk, outputs: Mapping[str, Any]) -> None:
    """Nothing happens to the fleet for 20 minutes after each, though jobs wait and, at last, cap and budget would let
    them be served."""
    world, launched = desk.world, len(desk.world.machines.instances)
    assert desk.up(STACK).changes == {}
    assert desk.up(STACK, "--refresh").changes == {}
    configure(desk, {"maxGpuInstances": CAP + 1, "monthlyBudgetUsd": 1000})
    edit = desk.up(STACK).changes
    assert edit["Group inference-asg-spot"] == edit["Group inference-asg-on-demand"] == ("update", ("maxSize",))
    assert desk.outputs(STACK)["fleetState"].startswith("stopped: Launch is suspended in ")

    world.traffic.send(outputs["queueUrl"], 6, service_s=60)
    for _ in range(20):
        world.run_for(MINUTE)
        assert not world.instances()
        assert [group["DesiredCapacity"] for group in groups(desk, outputs)] == [0, 0]
        assert suspended(desk, outputs) == STOPPED
    assert len(world.machines.instances) == launched
    assert latched(desk, outputs)
    assert world.snapshot().backlog > 6


def resumed(desk: Desk, outputs: Mapping[str, Any]) -> None:
    world = desk.world
    resume.resume(desk.client("dynamodb"), outputs["controlTable"], by="operator", at=world.now())
    assert world.run_until(lambda: served(desk), limit_s=HOUR, step_s=30)
    assert suspended(desk, outputs) == [{"AZRebalance"}] * 2
    account = world.account()
    assert account.in_order
    assert account.completed == account.sent
    assert world.work_killed_s == 0
    assert world.services.functions.failures == []
    # The state was refreshed while the fleet was stopped; that must not come back.
    assert desk.up(STACK, "--refresh").changes == {}
    assert suspended(desk, outputs) == [{"AZRebalance"}] * 2
