"""Names that operators type: fixed, legal for their service, never shared by two stacks."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from components import naming
from components.naming import Names

STACKS = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.", min_size=1, max_size=100)  # Pulumi's rule
COMPONENTS = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,2}", fullmatch=True)

# name -> (most characters, characters allowed), from each service's API reference
LIMITS = {
    "queue": (80, r"[A-Za-z0-9_-]+"),
    "dead_letters": (80, r"[A-Za-z0-9_-]+"),
    "jobs_table": (255, r"[A-Za-z0-9_.-]{3,}"),
    "control_table": (255, r"[A-Za-z0-9_.-]{3,}"),
    "results_bucket_prefix": (37, r"[a-z0-9][a-z0-9-]*-"),
    "spot_group": (255, r"[A-Za-z0-9_/-]+"),
    "on_demand_group": (255, r"[A-Za-z0-9_/-]+"),
    "launch_hook": (255, r"[A-Za-z0-9_/-]+"),
    "terminate_hook": (255, r"[A-Za-z0-9_/-]+"),
    "launch_template": (128, r"[A-Za-z0-9()./_-]{3,}"),
    "controller": (64, r"[A-Za-z0-9_-]+"),
    "scale_to_zero": (64, r"[A-Za-z0-9_-]+"),
    "keeper": (64, r"[A-Za-z0-9_-]+"),
    "alerts_topic": (256, r"[A-Za-z0-9_-]+"),
    "budget_topic": (256, r"[A-Za-z0-9_-]+"),
    "budget": (100, r"[^:\\]+"),
    "fleet": (256, r"[A-Za-z0-9 +=._:/@-]+"),
}


def test_the_names_of_the_dev_stack() -> None:
    names = Names("inference", "dev")
    assert {name: getattr(names, name) for name in LIMITS} == {
        "queue": "inference-queue-dev",
        "dead_letters": "inference-dlq-dev",
        "jobs_table": "inference-jobs-dev",
        "control_table": "inference-control-dev",
        "results_bucket_prefix": "inference-results-dev-",
        "spot_group": "inference-asg-dev",
        "on_demand_group": "inference-asg-dev-on-demand",
        "launch_hook": "inference-launch-hook",
        "terminate_hook": "inference-terminate-hook",
        "launch_template": "inference-node-dev",
        "controller": "inference-controller-dev",
        "scale_to_zero": "inference-scale-to-zero-dev",
        "keeper": "inference-keeper-dev",
        "alerts_topic": "inference-alerts-dev",
        "budget_topic": "inference-budget-dev",
        "budget": "inference-budget-dev",
        "fleet": "inference-dev",
    }
    assert names.function_dead_letters("scale-to-zero") == "inference-scale-to-zero-dlq-dev"
    assert names.log_group("keeper") == "/aws/lambda/inference-keeper-dev"
    assert names.role("node") == naming.resource_name("inference", "node", "dev") == "inference-node-dev"
    assert names.alarm("oldest-message") == "inference-oldest-message-dev"
    assert names.schedule("controller") == "inference-controller-dev"


@given(COMPONENTS, STACKS)
def test_every_name_is_legal_for_its_service(component: str, stack: str) -> None:
    assume(not stack.endswith("-on-demand"))
    names = Names(component, stack)
    for name, (most, characters) in LIMITS.items():
        value = getattr(names, name)
        assert len(value) <= most, name
        assert re.fullmatch(characters, value), f"{name}: {value}"
        assert "--" not in value


@given(COMPONENTS, STACKS, STACKS)
def test_two_stacks_never_share_a_name(component: str, one: str, other: str) -> None:
    assume(one != other and not one.endswith("-on-demand") and not other.endswith("-on-demand"))
    first, second = Names(component, one), Names(component, other)
    groups = {first.spot_group, first.on_demand_group, second.spot_group, second.on_demand_group}
    assert len(groups) == 4
    for name in LIMITS.keys() - {"launch_hook", "terminate_hook"}:
        assert getattr(first, name) != getattr(second, name)


@pytest.mark.parametrize(("one", "other"), [("Dev", "dev"), ("my.stack", "my_stack"), ("a--b", "a-b"), ("-a", "a")])
def test_stacks_that_look_alike_to_a_service_still_have_names_of_their_own(one: str, other: str) -> None:
    first, second = Names("inference", one), Names("inference", other)
    assert first.results_bucket_prefix.lower() != second.results_bucket_prefix.lower()
    assert first.queue != second.queue


@pytest.mark.parametrize(
    ("component", "stack", "rule"),
    [
        ("Inference", "dev", "lower-case letters"),
        ("in--ference", "dev", "single hyphens"),
        ("x" * 41, "dev", "40 at most"),
        ("inference", "", "stack's name is empty"),
        ("inference", "dev-on-demand", "must not end in -on-demand"),
    ],
)
def test_names_that_would_collide_or_be_refused_are_refused_at_once(component: str, stack: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Names(component, stack)


def test_tags_of_the_user_come_along_but_ours_win() -> None:
    names = Names("inference", "dev")
    assert names.tags({"team": "ml", naming.STACK_TAG: "other"}) == {
        "team": "ml",
        "gpu-inference-stack": "dev",
        "gpu-inference-component": "inference",
        "managed-by": "pulumi",
    }
    assert names.fleet_tags()["gpu-inference-fleet"] == "inference-dev"
    assert set(names.fleet_tags()) == naming.RESERVED_TAGS
