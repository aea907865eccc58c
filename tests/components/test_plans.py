"""The pure plans: launch template, groups, hooks, network, money."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.aws import Spending, fleet_plans, spending
from components.aws.network import subnets


def test_the_launch_template_can_be_used_in_a_mixed_group():
    """Auto Scaling refuses a template with market options in a mixed-instances group; spot belongs to the group."""
    plan = fleet_plans.launch_template(
        image_id="ami-1", instance_profile_arn="arn", security_group_id="sg-1", disk_gb=150, tags={"a": "b"}
    )
    assert "instance_market_options" not in plan
    assert "spot" not in json.dumps(plan)


def test_a_node_needs_session_tokens_for_its_metadata_and_has_no_public_address():
    plan = fleet_plans.launch_template(
        image_id="ami-1", instance_profile_arn="arn", security_group_id="sg-1", disk_gb=150, tags={}
    )
    assert plan["metadata_options"]["http_tokens"] == "required"
    assert plan["metadata_options"]["http_put_response_hop_limit"] == 1
    assert [one["associate_public_ip_address"] for one in plan["network_interfaces"]] == ["false"]
    assert plan["instance_initiated_shutdown_behavior"] == "terminate"
    (disk,) = plan["block_device_mappings"]
    assert (disk["ebs"]["encrypted"], disk["ebs"]["volume_type"]) == ("true", "gp3")


def test_nothing_reaches_a_node_and_it_speaks_https_only():
    rules = fleet_plans.security_group_rules()
    assert rules["ingress"] == []
    assert [(rule["protocol"], rule["from_port"], rule["to_port"]) for rule in rules["egress"]] == [("tcp", 443, 443)]


@pytest.mark.parametrize(("spot", "percentage"), [(True, 0), (False, 100)])
def test_a_group_is_all_spot_or_all_on_demand(spot, percentage):
    """AWS's defaults would make a spot group all on-demand."""
    plan = fleet_plans.mixed_instances("lt-1", "1", ["g5.xlarge", "g6.xlarge"], spot=spot)
    distribution = plan["instances_distribution"]
    assert distribution["on_demand_base_capacity"] == 0
    assert distribution["on_demand_percentage_above_base_capacity"] == percentage
    assert distribution.get("spot_allocation_strategy") == ("price-capacity-optimized" if spot else None)
    assert plan["launch_template"]["overrides"] == [{"instance_type": "g5.xlarge"}, {"instance_type": "g6.xlarge"}]


@given(st.integers(1, 1000))
def test_a_group_leaves_its_size_to_the_law(cap):
    plan = fleet_plans.group(cap)
    assert (plan["min_size"], plan["max_size"]) == (0, cap)
    assert "desired_capacity" not in plan
    assert plan["protect_from_scale_in"] is True
    assert plan["capacity_rebalance"] is False
    assert plan["suspended_processes"] == ["AZRebalance"]
    assert set(fleet_plans.OWNED_BY_THE_LAWS) == {"suspendedProcesses", "desiredCapacity"}


@given(st.integers(1, 7140), st.integers(60, 7140))
def test_hooks_outlast_the_work_they_wait_for_and_fit_auto_scaling(drain, deadline):
    for hook, work in ((fleet_plans.terminate_hook(drain), drain), (fleet_plans.launch_hook(deadline), deadline)):
        assert work < hook["heartbeat_timeout"]
        assert 30 <= hook["heartbeat_timeout"] <= 7200


def test_a_node_that_never_answers_is_given_up_and_a_drain_that_never_ends_lets_go():
    assert fleet_plans.launch_hook(900)["default_result"] == "ABANDON"
    assert fleet_plans.terminate_hook(300)["default_result"] == "CONTINUE"


def test_the_image_is_for_the_processors_of_the_fleet():
    assert "/x86_64/" in fleet_plans.image_parameter(["g5.xlarge", "g6.xlarge"])
    assert "/arm64/" in fleet_plans.image_parameter(["g5g.xlarge"])
    assert "/x86_64/" in fleet_plans.image_parameter(["g99.xlarge"])
    with pytest.raises(ValueError, match="arm64 and x86_64"):
        fleet_plans.image_parameter(["g5.xlarge", "g5g.xlarge"])


@given(st.integers(16, 21), st.integers(1, 6))
def test_subnets_lie_in_the_network_and_never_overlap(length, zones):
    network = ipaddress.IPv4Network(f"10.0.0.0/{length}")
    plan = subnets(str(network), zones)
    parts = [ipaddress.IPv4Network(one) for one in (*plan.private, plan.public)]
    assert len(plan.private) == zones
    assert all(part.subnet_of(network) and part.prefixlen <= 28 for part in parts)
    assert not [1 for a in parts for b in parts if a is not b and a.overlaps(b)]


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "10.0.0.0/28", "10.0.0.1/16", "no network"])
def test_a_network_that_cannot_be_cut_is_refused(cidr):
    with pytest.raises(ValueError, match=r"."):
        subnets(cidr, 3)


def budget(money: Spending, emails: list[str]) -> dict[str, Any]:
    return spending.budget("inference-budget-dev", "dev", money, emails, "arn:topic", "123456789012")


def test_the_aws_budget_counts_this_stack_without_credits_and_asks_the_guard_at_100_percent():
    """Without `user:` the filter matches nothing and reads $0; credits would hide the spending."""
    plan = budget(Spending(150, 47, 40, 0, 0), ["a@example.com"])
    assert plan["cost_filters"] == [{"name": "TagKeyValue", "values": ["user:gpu-inference-stack$dev"]}]
    assert plan["cost_types"] == {"include_credit": False, "include_refund": False}
    assert plan["limit_amount"] == "150"
    warn, breach = plan["notifications"]
    assert (warn["threshold"], warn["subscriber_email_addresses"]) == (80, ["a@example.com"])
    assert (breach["threshold"], breach["subscriber_sns_topic_arns"]) == (100, ["arn:topic"])


def test_in_a_dedicated_account_the_aws_budget_counts_all_of_that_account_and_of_no_other():
    """No cost allocation tag then, and what carries none counts. A payer account sees its members' cost without it."""
    plan = budget(Spending(150, 47, 40, 0, 0, dedicated_account=True), ["a@example.com"])
    assert plan["cost_filters"] == [{"name": "LinkedAccount", "values": ["123456789012"]}]
    by_tag = budget(Spending(150, 47, 40, 0, 0), ["a@example.com"])
    assert {key: value for key, value in plan.items() if by_tag[key] != value} == {"cost_filters": plan["cost_filters"]}


@given(st.integers(1, 99), st.lists(st.emails(), min_size=0, max_size=10, unique=True), st.booleans())
def test_no_notification_has_more_subscribers_than_aws_budgets_takes(warn, emails, dedicated):
    """One topic and ten addresses each; one too many, and the whole budget is refused."""
    money = Spending(150, 47, 40, 0, 0, warn_percent=warn, dedicated_account=dedicated)
    notifications = budget(money, emails)["notifications"]
    assert [one["threshold"] for one in notifications if one.get("subscriber_sns_topic_arns")] == [100]
    for one in notifications:
        topics, people = one.get("subscriber_sns_topic_arns", []), one.get("subscriber_email_addresses", [])
        assert len(topics) + len(people) >= 1
        assert len(topics) <= 1
        assert len(people) <= 10


def test_a_budget_without_e_mails_still_asks_the_guard():
    plan = budget(Spending(150, 47, 40, 0, 0), [])
    assert [one["threshold"] for one in plan["notifications"]] == [100]


@given(st.floats(1, 1e7))
def test_the_limit_reaches_aws_budgets_to_the_cent(usd):
    plan = budget(Spending(usd, 0, 0, 0, 0), [])
    assert float(plan["limit_amount"]) == pytest.approx(usd, abs=0.005)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"monthly_usd": 40}, "fixed costs alone"),
        ({"fixed_usd_per_month": -1}, "fixed_usd_per_month"),
        ({"stopped_usd_per_month": -1}, "stopped_usd_per_month is -1"),
        ({"stopped_usd_per_month": 48}, "0 to fixed_usd_per_month"),
        ({"per_boot_usd": -1}, "per_boot_usd"),
        ({"per_job_usd": -1}, "per_job_usd"),
        ({"warn_percent": 100}, "warn_percent"),
        ({"prices_usd_per_hour": {"g5.xlarge": 0}}, "never trip"),
    ],
)
def test_a_budget_that_cannot_guard_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Spending(
            **(
                {
                    "monthly_usd": 150,
                    "fixed_usd_per_month": 47,
                    "stopped_usd_per_month": 40,
                    "per_boot_usd": 0,
                    "per_job_usd": 0,
                }
                | wrong
            )
        )


def test_a_reservation_is_used_first_and_a_full_or_cancelled_one_stops_no_launch():
    """`only` would fail every launch then; even zones would leave the reservation's own zone for later."""
    plan = fleet_plans.reserved_capacity("cr-0123456789abcdef0")
    held = plan["capacity_reservation_specification"]
    assert held["capacity_reservation_preference"] == "capacity-reservations-first"
    assert held["capacity_reservation_target"] == {"capacity_reservation_ids": ["cr-0123456789abcdef0"]}
    assert plan["availability_zone_distribution"] == {"capacity_distribution_strategy": "reservations-then-balanced"}
    assert fleet_plans.reserved_first(["g5.xlarge", "g6.xlarge", "g6e.xlarge"], "g6.xlarge") == [
        "g6.xlarge",
        "g5.xlarge",
        "g6e.xlarge",
    ]
