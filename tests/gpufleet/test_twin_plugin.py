"""The provider plugin plans as the engine asks it: checks, differences, previews, and what travels in the state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2
from twin_handler_cases import trust
from twin_plugin import ACCOUNT, Engine, archive, values

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.handlers import handler
from gpufleet.twin.handlers.properties import UNKNOWN
from gpufleet.twin.plugin import messages
from gpufleet.twin.plugin.provider import TwinProvider
from gpufleet.twin.wire import is_secret, wire
from gpufleet.twin.world import World

QUEUE, TABLE, FUNCTION = "aws:sqs/queue:Queue", "aws:dynamodb/table:Table", "aws:lambda/function:Function"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
KIND = provider_pb2.PropertyDiff


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(1_790_000_000.0) as cloud:
        World(cloud)
        yield cloud


@pytest.fixture
def engine(cloud: Cloud) -> Engine:
    return Engine(TwinProvider(cloud, "7.0.0"))


# -- checking -------------------------------------------------------------------------------------------------------


def test_a_name_is_chosen_once_and_kept_over_updates_but_not_by_a_replacement(engine: Engine) -> None:
    first = engine.Check(QUEUE, "jobs", news={}, randomSeed=b"one").inputs
    name = values(first)["name"]
    assert name.startswith("jobs-")
    assert values(first)["__defaults"] == ["name"]
    assert values(engine.Check(QUEUE, "jobs", news={}, randomSeed=b"one").inputs)["name"] == name

    update = engine.Check(QUEUE, "jobs", news={"delaySeconds": 5}, olds=first, randomSeed=b"two").inputs
    assert values(update) == {"name": name, "delaySeconds": 5, "__defaults": ["name"]}
    replacement = engine.Check(QUEUE, "jobs", news={"delaySeconds": 5}, randomSeed=b"two").inputs
    assert values(replacement)["name"] not in ("", name)


def test_a_given_name_is_no_choice_of_ours(engine: Engine) -> None:
    given = engine.Check(QUEUE, "jobs", news={"name": "mine"}).inputs
    assert values(given) == {"name": "mine"}
    taken_back = engine.Check(QUEUE, "jobs", news={}, olds=given, randomSeed=b"one").inputs
    assert values(taken_back)["name"].startswith("jobs-")


def test_a_provider_s_default_tags_are_on_its_resources(engine: Engine) -> None:
    engine.Configure(args={"region": "us-east-1", "defaultTags": json.dumps({"tags": {"team": "ml", "a": "0"}})})
    checked = engine.Check(QUEUE, news={"name": "q", "tags": {"a": "1"}}).inputs
    assert values(checked)["tags"] == {"team": "ml", "a": "1"}
    policy = engine.Check("aws:sqs/queuePolicy:QueuePolicy", news={"queueUrl": "u", "policy": "{}"}).inputs
    assert "tags" not in values(policy)


@pytest.mark.parametrize(
    ("news", "reason"),
    [
        ({"nonsense": 1}, "the twin does not model nonsense of aws:sqs/queue:Queue"),
        ({"region": "eu-west-1"}, "the twin serves us-east-1, thing asks for eu-west-1"),
    ],
)
def test_what_cannot_be_is_a_failed_check(engine: Engine, news: dict[str, Any], reason: str) -> None:
    (failure,) = engine.Check(QUEUE, news=news).failures
    assert failure.reason == reason


# -- files ----------------------------------------------------------------------------------------------------------


def test_files_are_compared_by_content_also_when_the_old_one_is_gone(engine: Engine, tmp_path: Path) -> None:
    def checked(name: str, body: str) -> struct_pb2.Struct:
        news = {"name": "f", "role": "r", "code": archive(tmp_path / name, body)}
        return engine.Check(FUNCTION, news=news).inputs

    old = checked("old.zip", "x = 1")
    assert old.fields["code"].struct_value.fields["path"].string_value == str(tmp_path / "old.zip")
    assert list(old.fields["__files"].struct_value.fields) == ["code"]
    same, other = checked("same.zip", "x = 1"), checked("other.zip", "x = 2")
    for file in tmp_path.iterdir():
        file.unlink()
    assert engine.Diff(FUNCTION, old_inputs=old, news=same, olds=old).changes == provider_pb2.DiffResponse.DIFF_NONE
    changed = engine.Diff(FUNCTION, old_inputs=old, news=other, olds=old)
    assert {path: one.kind for path, one in changed.detailedDiff.items()} == {"code": KIND.UPDATE}


def test_a_file_stays_in_the_state_as_the_program_gave_it(engine: Engine, cloud: Cloud, tmp_path: Path) -> None:
    cloud.client("iam").create_role(RoleName="runs", AssumeRolePolicyDocument=trust("lambda.amazonaws.com"))
    news = {"name": "f", "role": f"arn:aws:iam::{ACCOUNT}:role/runs", "runtime": "python3.13", "handler": "main.x",
            "code": archive(tmp_path / "code.zip", "x = 1")}  # fmt: skip
    inputs = engine.Check(FUNCTION, news=news).inputs
    made = engine.Create(FUNCTION, properties=inputs)
    assert made.properties.fields["code"] == inputs.fields["code"]
    read = engine.Read(FUNCTION, id=made.id, inputs=inputs, properties=made.properties)
    assert read.inputs.fields["code"] == inputs.fields["code"]
    assert read.inputs.fields["__files"] == inputs.fields["__files"]
    engine.Delete(FUNCTION, id=made.id, old_inputs=inputs, properties=made.properties)


# -- what travels in the state --------------------------------------------------------------------------------------


def test_what_is_noted_beside_the_inputs_comes_back(tmp_path: Path) -> None:
    kind = handler(FUNCTION)
    sent = wire({"name": "f", "code": archive(tmp_path / "code.zip", "x = 1")})
    read = messages.read(kind, sent)
    assert read.values["code"].keys() == {"path", "sha256"}
    assert (read.auto_named, read.unfinished) == (False, False)
    read.auto_named = read.unfinished = True
    written = messages.write(kind, read.values, read)
    (tmp_path / "code.zip").unlink()
    again = messages.read(kind, written)
    assert (again.values, again.auto_named, again.unfinished) == (read.values, True, True)
    assert written.fields["code"] == sent.fields["code"]


def test_secrets_stay_secrets_wherever_they_come_back(engine: Engine) -> None:
    sent = wire({"name": "q", "kmsMasterKeyId": "key", "tags": {"a": "1"}}, secrets=("kmsMasterKeyId",))
    sent.fields["tags"].struct_value.update({"b": wire({"b": "2"}, secrets=("b",))["b"]})
    checked = engine.Check(QUEUE, news=sent).inputs
    assert is_secret(checked.fields["kmsMasterKeyId"])
    tags = checked.fields["tags"].struct_value.fields
    assert [is_secret(tags[name]) for name in ("a", "b")] == [False, True]
    assert values(checked) == {"name": "q", "kmsMasterKeyId": "key", "tags": {"a": "1", "b": "2"}}
    kind = handler(QUEUE)
    state = messages.write(kind, {"tags": {"a": "1"}, "tagsAll": {"b": "2"}, "url": "u"}, messages.read(kind, sent))
    assert is_secret(state.fields["tagsAll"].struct_value.fields["b"])
    assert not is_secret(state.fields["url"])


# -- comparing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "old", "new", "kinds"),
    [
        (QUEUE, {"name": "q"}, {"name": "q", "visibilityTimeoutSeconds": 30}, {}),  # AWS's own default
        (QUEUE, {}, {"kmsMasterKeyId": "k"}, {"kmsMasterKeyId": KIND.ADD}),
        (QUEUE, {"kmsMasterKeyId": "k"}, {}, {"kmsMasterKeyId": KIND.DELETE}),
        (QUEUE, {"delaySeconds": 1}, {"delaySeconds": 2}, {"delaySeconds": KIND.UPDATE}),
        (QUEUE, {"name": "one"}, {"name": "two"}, {"name": KIND.UPDATE_REPLACE}),
        (TABLE, {"hashKey": "a"}, {"hashKey": "a", "rangeKey": "b"}, {"rangeKey": KIND.ADD_REPLACE}),
        (TABLE, {"hashKey": "a", "rangeKey": "b"}, {"hashKey": "a"}, {"rangeKey": KIND.DELETE_REPLACE}),
        (TABLE, {"ttl": {"attributeName": "a", "enabled": True}}, {"ttl": {"attributeName": "b", "enabled": True}},
         {"ttl.attributeName": KIND.UPDATE}),
    ],
)  # fmt: skip
def test_kinds_of_difference(
    engine: Engine, type_: str, old: dict[str, Any], new: dict[str, Any], kinds: dict[str, Any]
) -> None:
    found = engine.Diff(type_, old_inputs=old, news=new, olds=old)
    assert found.hasDetailedDiff
    assert {path: one.kind for path, one in found.detailedDiff.items()} == kinds
    assert all(one.inputDiff for one in found.detailedDiff.values())
    assert list(found.diffs) == [path.split(".")[0] for path in kinds]
    assert list(found.replaces) == [path for path, kind in kinds.items() if "REPLACE" in KIND.Kind.Name(kind)]
    wanted = provider_pb2.DiffResponse.DIFF_SOME if kinds else provider_pb2.DiffResponse.DIFF_NONE
    assert found.changes == wanted


def test_what_keeps_its_given_name_is_deleted_before_it_is_replaced(engine: Engine) -> None:
    old, new = {"name": "t", "hashKey": "a"}, {"name": "t", "hashKey": "b"}
    assert engine.Diff(TABLE, old_inputs=old, news=new, olds=old).deleteBeforeReplace
    chosen = {**new, "__defaults": ["name"]}
    assert not engine.Diff(TABLE, old_inputs=old, news=chosen, olds=old).deleteBeforeReplace
    fresh = {"name": "t", "hashKey": "a", "tags": {"a": "1"}}
    assert not engine.Diff(TABLE, old_inputs=old, news=fresh, olds=old).deleteBeforeReplace, "nothing is replaced"


def test_ignored_changes_are_none(engine: Engine) -> None:
    old = {"name": "q", "delaySeconds": 1, "tags": {"a": "1", "b": "1"}}
    new = {"name": "q", "delaySeconds": 2, "tags": {"a": "2", "b": "2"}}
    asked = {"old_inputs": old, "news": new, "olds": old}
    assert not engine.Diff(QUEUE, **asked, ignoreChanges=["delaySeconds", "tags"]).diffs
    assert list(engine.Diff(QUEUE, **asked, ignoreChanges=["delaySeconds", 'tags["a"]']).diffs) == ["tags"]


# -- previews -------------------------------------------------------------------------------------------------------


def test_a_preview_of_a_creation_makes_nothing_and_passes_on_what_is_unknown(engine: Engine, cloud: Cloud) -> None:
    inputs = engine.Check(QUEUE, "planned", news={"kmsMasterKeyId": UNKNOWN, "tags": UNKNOWN}).inputs
    planned = engine.Create(QUEUE, "planned", properties=inputs, preview=True)
    assert planned.id == ""
    assert {name: value for name, value in values(planned.properties).items() if value == UNKNOWN} == {
        "kmsMasterKeyId": UNKNOWN,
        "tags": UNKNOWN,
    }
    assert "arn" not in values(planned.properties), "it is known only afterwards"
    assert cloud.client("sqs").list_queues(QueueNamePrefix="planned").get("QueueUrls", []) == []


def test_a_preview_of_an_update_changes_nothing_and_forgets_what_the_update_decides(engine: Engine) -> None:
    olds = {"name": "t", "imageId": "ami-1"}
    state = {**olds, "arn": "arn:t", "latestVersion": 1, "defaultVersion": 1}
    news = {"name": "t", "imageId": UNKNOWN}
    assert list(engine.Diff(TEMPLATE, old_inputs=olds, news=news, olds=state).diffs) == ["imageId"]
    planned = engine.Update(TEMPLATE, id="lt-1", old_inputs=olds, news=news, olds=state, preview=True)
    assert values(planned.properties) == {"name": "t", "imageId": UNKNOWN, "arn": "arn:t"}
