"""What the components hand over is what functions and nodes read: the deployed documents, parsed by their readers."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date

import golden
import pytest
from fleet_control.aws import accounting
from fleet_control.aws import config as functions
from fleet_control.aws.controller import LAST_STOP_S
from fleet_control.spend_prices import Reservation
from harness import Graph
from inference_worker import config as node

from components import catalog, payloads
from components.aws import spending

OTHER_BILLING = {"dedicatedAccount": True, "advanced": {"reconcileDaily": False}}
STACKS = ["dev", "staging", "prod"]


@pytest.mark.parametrize("stack", STACKS)
def test_each_function_finds_the_configuration_it_reads(stack, graph):
    environments = {
        one.name: one.inputs["environment"]["variables"] for one in graph(stack).of_type("aws:lambda/function:Function")
    }
    controller = functions.controller(environments["inference-controller"])
    guard = functions.guard(environments["inference-scale-to-zero"])
    keeper = functions.keeper(environments["inference-keeper"])
    assert controller.fleet == guard.fleets[0].fleet == f"inference-{stack}"
    assert controller.groups == {"spot": f"inference-asg-{stack}", "on-demand": f"inference-asg-{stack}-on-demand"}
    assert guard.fleets[0].groups == tuple(controller.groups.values())
    assert controller.control_table == guard.control_table == f"inference-control-{stack}"
    assert controller.jobs_table == guard.fleets[0].jobs_table == f"inference-jobs-{stack}"
    assert controller.unlimited_reason is None
    assert controller.policy.cap == guard.fleets[0].cap
    assert controller.job_timeout_s == 900
    assert keeper.queue_url == controller.queue_url
    assert guard.budget_name == f"inference-budget-{stack}"


@pytest.mark.parametrize("stack", STACKS)
def test_prices_cover_every_type_of_the_fleet_and_the_dearest_is_dearest(stack, graph):
    one = graph(stack)
    environment = one.named("inference-scale-to-zero", "lambda/function:").inputs["environment"]["variables"]
    guard = functions.guard(environment)
    for group in one.of_type("aws:autoscaling/group:Group"):
        overrides = group.inputs["mixedInstancesPolicy"]["launchTemplate"]["overrides"]
        assert {override["instanceType"] for override in overrides} == set(guard.prices_usd_per_hour)
    assert guard.dearest_usd_per_hour >= max(guard.prices_usd_per_hour.values())
    assert set(guard.gpus) == set(guard.prices_usd_per_hour)
    for kind, usd in guard.prices_usd_per_hour.items():
        assert usd <= guard.dearest_by_gpus[guard.gpus[kind]] <= guard.dearest_usd_per_hour
    assert guard.monthly_usd > guard.fixed_usd_per_month > guard.stopped_usd_per_month > 0
    assert 0 < guard.per_job_usd < guard.per_boot_usd
    assert date.fromisoformat(guard.prices_as_of) == catalog.PRICES.as_of


def guard_of(graph: Graph) -> functions.GuardConfig:
    made = graph.named("inference-scale-to-zero", "lambda/function:")
    return functions.guard(made.inputs["environment"]["variables"])


def test_a_run_of_the_guard_is_over_when_others_count_on_it(graph):
    """The meter, for the latch to be written; the controller, for nothing to be suspended after a resume."""
    timeout_s = graph("dev").named("inference-scale-to-zero", "lambda/function:").inputs["timeout"]
    assert timeout_s <= accounting.WRITTEN_S < LAST_STOP_S


def test_the_guard_is_told_whose_the_account_is_and_whether_to_ask_cost_explorer(graph):
    usual, other = guard_of(graph("dev")), guard_of(graph("dev", **OTHER_BILLING))
    assert (usual.dedicated_account, usual.reconcile_daily) == (False, True)
    assert (other.dedicated_account, other.reconcile_daily) == (True, False)
    alarm, daily = 0.10 * 744 / 730, 0.31  # the alarm on the account's charges comes, Cost Explorer goes
    assert other.fixed_usd_per_month - usual.fixed_usd_per_month == pytest.approx(alarm - daily)


def test_a_price_of_ones_own_raises_the_dearest_of_its_kind_and_a_type_of_ones_own_has_no_number_of_gpus():
    """Whoever corrects a price upwards has seen more than the catalogue; an unknown type may have any number."""
    own = spending.Spending(600, 50, 40, 0, 0, prices_usd_per_hour={"g6.xlarge": 99.0, "g99.xlarge": 2.0})
    told = spending.money(own, [], "us-east-1")
    assert told["dearest_by_gpus"]["1"] == told["dearest_usd_per_hour"] == 99.0
    assert told["dearest_by_gpus"]["4"] == catalog.dearest_by_gpus("us-east-1")[4]
    assert told["gpus"] == {"g6.xlarge": 1}
    assert told["prices_usd_per_hour"]["g99.xlarge"] == 2.0


@pytest.mark.parametrize("stack", STACKS)
def test_a_node_finds_the_configuration_it_reads(stack, graph):
    (template,) = graph(stack).of_type("aws:ec2/launchTemplate:LaunchTemplate")
    config = node.parse(golden.node_config(template.inputs["userData"]))
    assert config.fleet == f"inference-{stack}"
    assert config.groups == (f"inference-asg-{stack}", f"inference-asg-{stack}-on-demand")
    hooks = graph(stack).of_type("aws:autoscaling/lifecycleHook:LifecycleHook")
    assert {hook.inputs["name"] for hook in hooks} == {config.launch_hook, config.terminate_hook}
    for hook in hooks:
        launching = hook.inputs["lifecycleTransition"].endswith("LAUNCHING")
        assert hook.inputs["heartbeatTimeout"] > (config.boot_deadline_s if launching else config.drain_s)
        assert hook.inputs["defaultResult"] == ("ABANDON" if launching else "CONTINUE")


def test_every_handler_is_in_the_zip(graph):
    one = graph("dev")
    with zipfile.ZipFile(io.BytesIO(payloads.function_zip().path.read_bytes())) as archive:
        names = set(archive.namelist())
    for function in one.of_type("aws:lambda/function:Function"):
        module = function.inputs["handler"].removesuffix(".handler")
        assert module.replace(".", "/") + ".py" in names
        assert function.inputs["sourceCodeHash"] == payloads.function_zip().sha256_base64
        assert json.loads(function.inputs["environment"]["variables"]["FLEET_CONTROL_CONFIG"])


def test_the_node_fetches_the_payload_that_was_stored(graph):
    (stored,) = graph("dev").of_type("aws:s3/bucketObjectv2:BucketObjectv2")
    assert stored.inputs["key"] == f"node/inference-dev/{payloads.node_zip().sha256}.zip"
    assert stored.inputs["source"] == {"file": payloads.node_zip().path.name}


RESERVED = {"id": "cr-0123456789abcdef0", "instanceType": "g6.xlarge", "instances": 2}


def test_the_functions_are_told_what_is_reserved_and_what_comes_first(graph):
    one = graph("prod", capacityReservation=RESERVED, onDemandFallback=False)
    environments = {
        made.name: made.inputs["environment"]["variables"] for made in one.of_type("aws:lambda/function:Function")
    }
    policy = functions.controller(environments["inference-controller"]).policy
    assert (policy.on_demand_base, policy.on_demand_fallback) == (2, False)
    guard = functions.guard(environments["inference-scale-to-zero"])
    assert guard.fleets[0].reservation == Reservation("cr-0123456789abcdef0", "g6.xlarge", 2)
    assert "g6.xlarge" in guard.prices_usd_per_hour
    assert one.outputs["budget"].startswith("$3,000.00 a month (UTC), $")
    assert one.outputs["budget"].endswith(" of it fixed, $1,197.54 reserved")


def test_without_a_reservation_nothing_is_told_of_one(graph):
    one = graph("prod", onDemandBase=3)
    environments = {
        made.name: made.inputs["environment"]["variables"] for made in one.of_type("aws:lambda/function:Function")
    }
    policy = functions.controller(environments["inference-controller"]).policy
    assert (policy.on_demand_base, policy.on_demand_fallback) == (3, True)
    assert functions.guard(environments["inference-scale-to-zero"]).fleets[0].reservation is None
    assert "reserved" not in one.outputs["budget"]
