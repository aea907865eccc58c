"""Every input that the project's program sets is applied by a handler and seen again in the live resource, or it is
listed as taken but not applied. The same for every resource type: test_twin_inputs_by_type.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twin_handler_cases import policy
from twin_inputs import PROVIDER, faults, seen_from_outside

from gpufleet.twin import deployment
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import Engine, UpError
from gpufleet.twin.handlers import Provider, handler
from gpufleet.twin.handlers.autoscaling import LifecycleHook
from gpufleet.twin.handlers.properties import canonical
from gpufleet.twin.program import Registered, Registration
from gpufleet.twin.state import Resource
from gpufleet.twin.world import World

ROOT = Path(__file__).resolve().parents[2]
START = 1_790_000_000.0
OTHER_SETTINGS = {
    "spot": False,
    "advanced.sessionManager": True,
    "permissionsBoundary": "arn:aws:iam::123456789012:policy/bound",
    "ami": "ami-0123456789abcdef0",
    "alertEmails": ["ml-oncall@example.com"],
    "tags": {"cost-center": "ml"},
    "advanced.logRetentionDays": 90,
    "drainSeconds": 600,
}
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dev": ("dev", "us-east-1", {}),
    "prod": ("prod", "us-east-1", {}),
    "staging": ("staging", "us-east-1", {}),
    "another region, spot only, dry run": (
        "staging",
        "eu-central-1",
        {"aws:region": "eu-central-1", "onDemandFallback": False, "advanced.dryRun": True},
    ),
    "given network, on-demand only, sessions, boundary, image": ("dev", "us-east-1", OTHER_SETTINGS),
}
# What the program sets and the embedded cloud takes without applying it. Whoever adds one decides that it may be so.
TAKEN = {
    ("aws:autoscaling/group:Group", "forceDelete"),
    ("aws:autoscaling/group:Group", "waitForCapacityTimeout"),
    ("aws:ec2/launchTemplate:LaunchTemplate", "updateDefaultVersion"),
    ("aws:kms/key:Key", "deletionWindowInDays"),
    ("aws:s3/bucket:Bucket", "bucketPrefix"),
    (PROVIDER, "skipCredentialsValidation"),
    (PROVIDER, "skipMetadataApiCheck"),
    (PROVIDER, "skipRegionValidation"),
}

Asked = dict[str, dict[str, Any]]  # by URN, the inputs as the program gives them


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    seen: Asked = {}
    register = deployment.Run.register

    def recorded(run: deployment.Run, wanted: Registration) -> Registered:
        seen[wanted.urn] = dict(wanted.inputs)
        return register(run, wanted)

    monkeypatch.setattr(deployment.Run, "register", recorded)
    return seen


def deployed(cloud: Cloud, variant: str) -> list[Resource]:
    stack, _, overrides = VARIANTS[variant]
    World(cloud)
    if overrides is OTHER_SETTINGS:
        cloud.client("iam").create_policy(PolicyName="bound", PolicyDocument=policy("*"))
        ec2 = cloud.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24")["Subnet"]["SubnetId"] for n in (1, 2)]
        overrides = {**overrides, "network": {"vpcId": vpc, "privateSubnetIds": made}}
    engine = Engine(cloud)
    engine.up(ROOT, stack, overrides)
    return [one for one in engine.state.resources.values() if one.custom]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_input_of_the_program_is_applied(variant: str, asked: Asked) -> None:
    with Cloud(START, region=VARIANTS[variant][1]) as cloud:
        resources = deployed(cloud, variant)
        (provider,) = (one for one in resources if one.type == PROVIDER)
        others = [one for one in resources if one is not provider]
        found = {f"{one.type} {one.name}": faults(cloud, one.type, one.id, one.inputs) for one in others}
        assert {name: paths for name, paths in found.items() if paths} == {}
        for one in others:
            check_provider(cloud, provider, one)
    for one in resources:
        check_nothing_is_lost(asked[one.urn], one)
    assert {(one.type, name) for one in resources for name in asked[one.urn] if handler(one.type).props[name].kept} <= (
        TAKEN
    )


def check_nothing_is_lost(asked: dict[str, Any], one: Resource) -> None:
    """What the program says reaches the handler: a check adds a name and the provider's tags, and takes nothing."""
    kind = handler(one.type)
    for name, value in asked.items():
        if name == "tags" and kind.taggable:
            assert one.inputs[name].items() >= value.items(), one.name
        else:
            assert canonical(kind.props[name], one.inputs[name]) == canonical(kind.props[name], value), (one.name, name)


def check_provider(cloud: Cloud, provider: Resource, one: Resource) -> None:
    """What the provider is told shows on the resources: its region and its tags."""
    kind = handler(one.type)
    live = seen_from_outside(kind, cloud, one.id, one.inputs)
    tags = Provider.default_tags(provider.inputs)
    assert tags
    if kind.taggable:
        assert live["tags"].items() >= tags.items(), one.name
    region = str(live.get("arn", "")).split(":")[3:4]
    assert region in ([], [""], [provider.inputs["region"]]), one.name


def test_a_group_without_its_hooks_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LifecycleHook, "make", lambda self, cloud, inputs: inputs["name"])
    with Cloud(START) as cloud:
        World(cloud)
        with pytest.raises(UpError, match=r"inference-launch-hook-\S+ \(.*gone right after its creation"):
            Engine(cloud).up(ROOT, "dev")
