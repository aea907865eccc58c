"""The rule of the resource handlers, type by type: every declared property is applied, or refused, or listed with its
reason as taken but not applied; every other one is refused by name. And the rule itself can fail.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from twin_handler_cases import CASES, Case, filled, prerequisites
from twin_inputs import PROVIDER, faults, seen_from_outside, unseen
from twin_rare_inputs import RARE, Rare

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError
from gpufleet.twin.handlers import HANDLERS, Asked, Handler, handler
from gpufleet.twin.handlers.autoscaling import LifecycleHook
from gpufleet.twin.handlers.properties import Fields, Prop, canonical
from gpufleet.twin.handlers.reference import kept_properties, properties_page
from gpufleet.twin.handlers.sqs import Queue
from gpufleet.twin.world import World

# A creation may leave these out unnoticed: AWS, or the provider, takes the same value by itself.
SAME_BY_ITSELF = {
    ("aws:ec2/eip:Eip", "domain"), ("aws:sqs/queue:Queue", "sqsManagedSseEnabled"),
    ("aws:lambda/function:Function", "sourceCodeHash"), ("aws:cloudwatch/logGroup:LogGroup", "logGroupClass"),
    ("aws:kms/key:Key", "multiRegion"), ("aws:budgets/budget:Budget", "accountId"),
    ("aws:budgets/budget:Budget", "limitUnit"), ("aws:autoscaling/group:Group", "desiredCapacity"),
    # now and then: any zone may come up
    ("aws:ec2/subnet:Subnet", "availabilityZone"), ("aws:ec2/subnet:Subnet", "availabilityZoneId"),
    # the one group that is adopted, and keeps its tags when it is given up
    ("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "tags"),
}  # fmt: skip
IN_AWS = [case for case in CASES if case.type != PROVIDER]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud).services.functions.account_concurrency = 1000
        yield cloud


@pytest.fixture(scope="module")
def known(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return prerequisites(cloud, tmp_path_factory.mktemp("files"))


def named(case: Case | Rare) -> str:
    return (
        f"{case.type.rsplit(':', 1)[-1]}{getattr(case, 'label', '') or '-'.join(getattr(case, 'refused', '').split())}"
    )


def checked(kind: Handler, cloud: Cloud, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return kind.check(cloud, inputs, Asked("thing", random.Random(1)))


def removed(kind: Handler, cloud: Cloud, identifier: str, inputs: Mapping[str, Any]) -> None:
    kind.delete(cloud, identifier, {**inputs, **seen_from_outside(kind, cloud, identifier, inputs)})


# -- every property is applied --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", IN_AWS, ids=named)
def test_creation_and_updates_apply_every_input(case: Case, cloud: Cloud, known: dict[str, Any]) -> None:
    kind = handler(case.type)
    inputs = checked(kind, cloud, filled(case.inputs, known))
    identifier = kind.make(cloud, dict(inputs))
    assert faults(cloud, case.type, identifier, inputs) == []
    for update in filled(list(case.updates), known):
        news = checked(kind, cloud, {**inputs, **update})
        changed = {change.top for change in kind.diff(inputs, news).changes}
        identifier, _ = kind.update(cloud, identifier, inputs, news, changed)
        assert faults(cloud, case.type, identifier, news) == []
        inputs = news
    removed(kind, cloud, identifier, inputs)


@pytest.mark.parametrize("case", RARE, ids=named)
def test_a_rare_input_is_applied_or_refused(case: Rare, cloud: Cloud, known: dict[str, Any]) -> None:
    kind, usual = handler(case.type), next(one for one in CASES if one.type == case.type)
    wanted = filled({**usual.inputs, **case.inputs}, known)
    if case.refused:
        with pytest.raises((NotModelledError, AwsError, ClientError), match=re.escape(case.refused)):
            kind.make(cloud, checked(kind, cloud, wanted))
        return
    inputs = checked(kind, cloud, wanted)
    identifier = kind.make(cloud, dict(inputs))
    assert faults(cloud, case.type, identifier, inputs) == []
    removed(kind, cloud, identifier, inputs)


def paths(fields: Fields, value: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every property that `value` sets, as a path."""
    for name, item in value.items():
        yield f"{path}{name}"
        prop = fields.get(name)
        for one in item if isinstance(item, list) else [item]:
            if prop is not None and prop.fields is not None and isinstance(one, dict):
                yield from paths(prop.fields, one, f"{path}{name}.")


def declared(fields: Fields, path: str = "") -> Iterator[str]:
    """Every property of a table that is to be applied, as a path."""
    for name, prop in fields.items():
        if not prop.kept and name != "region":
            yield f"{path}{name}"
            yield from declared(prop.fields or {}, f"{path}{name}.")


@pytest.mark.parametrize("type_", sorted(set(HANDLERS) - {PROVIDER}))
def test_every_declared_property_is_tried(type_: str) -> None:
    props = handler(type_).props
    tried = [case.inputs for case in (*CASES, *RARE) if case.type == type_]
    tried += [update for case in CASES if case.type == type_ for update in case.updates]
    assert set(declared(props)) <= {path for inputs in tried for path in paths(props, inputs)}


# -- every other property is refused --------------------------------------------------------------------------------


def tables(fields: Fields, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a table has fields: at its top, and in each block within."""
    yield path
    for name, prop in fields.items():
        if prop.fields is not None:
            yield from tables(prop.fields, (*path, name))


@pytest.mark.parametrize("type_", sorted(HANDLERS))
def test_an_unknown_property_is_refused_by_its_path(type_: str, cloud: Cloud) -> None:
    kind = handler(type_)
    for path in tables(kind.props):
        fields, value, blocks = kind.props, {"nonsense": 1}, []
        for name in path:
            blocks.append(fields[name])
            fields = fields[name].fields or {}
        for name, prop in zip(reversed(path), reversed(blocks), strict=True):
            value = {name: [value] if prop.many else value}
        with pytest.raises(NotModelledError) as refused:
            checked(kind, cloud, {"region": cloud.region, **value})
        assert str(refused.value) == f"the twin does not model {'.'.join((*path, 'nonsense'))} of {type_}"


# -- the rule can fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", IN_AWS, ids=named)
def test_a_creation_that_drops_an_input_is_noticed(case: Case, cloud: Cloud, known: dict[str, Any]) -> None:
    """Each input in turn is kept from the creation, which then fails, or whose fault the rule names."""
    kind = handler(case.type)
    inputs = checked(kind, cloud, filled(case.inputs, known))
    for name, value in inputs.items():
        prop = kind.props[name]
        if prop.kept or canonical(prop, value) == canonical(prop, None) or (case.type, name) in SAME_BY_ITSELF:
            continue
        try:
            identifier = kind.make(cloud, {one: kept for one, kept in inputs.items() if one != name})
        except (KeyError, TypeError, AwsError, BotoCoreError, ClientError, NotModelledError):
            continue  # what cannot be made without it
        live = seen_from_outside(kind, cloud, identifier, inputs)
        removed(kind, cloud, identifier, inputs)
        assert list(unseen(kind.props, {name: value}, live)), f"{case.type}: {name} is applied in vain"


def forget(monkeypatch: pytest.MonkeyPatch, kind: type[Handler], name: str) -> None:
    """Let the creation of `kind` overlook the property `name`."""
    make = kind.make

    def forgetful(self: Handler, cloud: Any, inputs: dict[str, Any]) -> str:
        return make(self, cloud, {one: value for one, value in inputs.items() if one != name})

    monkeypatch.setattr(kind, "make", forgetful)


def test_a_queue_without_its_visibility_timeout_is_noticed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, Queue, "visibilityTimeoutSeconds")
    inputs = {"name": "forgotten", "visibilityTimeoutSeconds": 120, "delaySeconds": 1}
    identifier, _ = Queue().create(cloud, inputs)
    assert faults(cloud, Queue.type, identifier, inputs) == ["visibilityTimeoutSeconds"]


def test_a_hook_without_its_deadline_is_noticed(
    cloud: Cloud, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(monkeypatch, LifecycleHook, "heartbeatTimeout")
    inputs = {"name": "short", "autoscalingGroupName": "made", "heartbeatTimeout": 600,
              "lifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING"}  # fmt: skip
    identifier, _ = LifecycleHook().create(cloud, inputs)
    assert faults(cloud, LifecycleHook.type, identifier, inputs) == ["heartbeatTimeout"]


def test_an_update_that_does_nothing_is_noticed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "modify", lambda self, cloud, identifier, olds, news, changed: None)
    olds, news = {"name": "lazy", "delaySeconds": 1}, {"name": "lazy", "delaySeconds": 2}
    identifier, _ = Queue().create(cloud, olds)
    Queue().update(cloud, identifier, olds, news, {"delaySeconds"})
    assert faults(cloud, Queue.type, identifier, news) == ["delaySeconds"]


def test_a_handler_that_answers_its_inputs_back_is_noticed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "look", lambda self, cloud, identifier, inputs: dict(inputs))
    inputs = {"name": "parrot", "delaySeconds": 5}
    identifier, outputs = Queue().create(cloud, inputs)
    assert outputs["delaySeconds"] == 5
    assert faults(cloud, Queue.type, identifier, inputs) == ["name", "delaySeconds"]


def test_a_property_that_nobody_handles_is_noticed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "props", {**Queue.props, "fifoQueue": Prop(default=False)})
    inputs = checked(Queue(), cloud, {"name": "plain", "fifoQueue": True})
    identifier, _ = Queue().create(cloud, inputs)
    assert faults(cloud, Queue.type, identifier, inputs) == ["fifoQueue"]


# -- what is taken but not applied ----------------------------------------------------------------------------------


def test_every_property_that_is_not_applied_has_its_reason() -> None:
    found = list(kept_properties())
    assert found
    for type_, name, reason in found:
        assert len(reason.split()) >= 4, f"{type_}.{name}: {reason!r} is no sentence"
        assert reason[0].isupper(), f"{type_}.{name}"
        assert reason.endswith("."), f"{type_}.{name}"


def test_the_page_has_every_property_of_every_type() -> None:
    rows = [row for row in properties_page().splitlines() if row.startswith("| `")]
    for type_, kind in HANDLERS.items():
        for name, prop in kind.props.items():
            (row,) = (row for row in rows if row.startswith(f"| `{type_}` |") and f"`{name}`" in row)
            assert row.count("|") == (4 if prop.kept else 3), f"{type_}.{name} stands in the wrong table"
            assert prop.kept in row
