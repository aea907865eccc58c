"""The provider plugin and secrets: what the engine sends as a secret comes back as one, wherever it appears."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime.proto import provider_pb2

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.plugin.provider import TwinProvider
from gpufleet.twin.services import standard
from gpufleet.twin.wire import as_secret, is_secret, wire

URN = "urn:pulumi:dev::small::aws:sqs/queue:Queue::hidden"
OPEN, HIDDEN = {"team": "ml"}, {"password": "hunter2"}


@pytest.fixture
def provider() -> Iterator[TwinProvider]:
    with Cloud(1_790_000_000.0) as cloud:
        standard.install(cloud)
        found = TwinProvider(cloud, "7.51.1")
        configured = found.Configure(provider_pb2.ConfigureRequest(args=wire({"region": cloud.region})), None)
        assert configured.acceptSecrets
        yield found


def inputs(**more: Any) -> struct_pb2.Struct:
    struct = wire({"name": "hidden", "tags": {**OPEN, **HIDDEN}, **more})
    tags = struct.fields["tags"].struct_value
    tags.fields["password"].CopyFrom(as_secret(tags.fields["password"]))
    return struct


def secrets(fields: Mapping[str, struct_pb2.Value], path: str = "") -> set[str]:
    """Paths of the values that are marked as secrets."""
    found: set[str] = set()
    for name, value in fields.items():
        if is_secret(value):
            found.add(f"{path}{name}")
        elif value.HasField("struct_value"):
            found |= secrets(value.struct_value.fields, f"{path}{name}.")
    return found


def test_a_secret_tag_is_one_in_every_answer(provider: TwinProvider) -> None:
    checked = provider.Check(provider_pb2.CheckRequest(urn=URN, news=inputs()), None).inputs
    assert secrets(checked.fields) == {"tags.password"}
    made = provider.Create(provider_pb2.CreateRequest(urn=URN, properties=checked), None)
    both = {"tags.password", "tagsAll.password"}  # the copy that AWS reports beside them
    assert secrets(made.properties.fields) == both
    read = provider.Read(
        provider_pb2.ReadRequest(urn=URN, id=made.id, inputs=checked, properties=made.properties), None
    )
    assert (secrets(read.inputs.fields), secrets(read.properties.fields)) == ({"tags.password"}, both)
    wanted = provider.Check(provider_pb2.CheckRequest(urn=URN, olds=checked, news=inputs(delaySeconds=5)), None).inputs
    change = provider_pb2.UpdateRequest(
        urn=URN, id=made.id, olds=made.properties, old_inputs=checked, news=wanted, preview=True
    )
    assert secrets(provider.Update(change, None).properties.fields) == both
    change.preview = False
    assert secrets(provider.Update(change, None).properties.fields) == both


def test_nothing_that_is_no_secret_becomes_one(provider: TwinProvider) -> None:
    news = wire({"name": "plain", "tags": OPEN})
    checked = provider.Check(provider_pb2.CheckRequest(urn=URN, news=news), None).inputs
    made = provider.Create(provider_pb2.CreateRequest(urn=URN, properties=checked), None)
    assert secrets(made.properties.fields) == set()


def test_a_whole_property_and_a_list_with_a_secret_in_it(provider: TwinProvider) -> None:
    urn = "urn:pulumi:dev::small::aws:cloudwatch/metricAlarm:MetricAlarm::a"
    news = wire({"name": "a", "alarmDescription": "hunter2", "alarmActions": ["arn:aws:sns:us-east-1:123456789012:t"]})
    news.fields["alarmDescription"].CopyFrom(as_secret(news.fields["alarmDescription"]))
    actions = news.fields["alarmActions"].list_value.values
    actions[0].CopyFrom(as_secret(actions[0]))
    checked = provider.Check(provider_pb2.CheckRequest(urn=urn, news=news), None).inputs
    assert secrets(checked.fields) == {"alarmDescription", "alarmActions"}


def test_a_secret_file_is_read_and_stays_secret(provider: TwinProvider, tmp_path: Path) -> None:
    code = tmp_path / "code.zip"
    code.write_bytes(b"zip")
    asset = {"4dabf18193072939515e22adb298388d": "0def7320c3a5731c473e5ecbe6d01bc7", "path": str(code)}
    urn = "urn:pulumi:dev::small::aws:lambda/function:Function::f"
    news = wire({"name": "f", "role": "arn:aws:iam::123456789012:role/r", "code": asset})
    news.fields["code"].CopyFrom(as_secret(news.fields["code"]))
    first = provider.Check(provider_pb2.CheckRequest(urn=urn, news=news), None).inputs
    again = provider.Check(provider_pb2.CheckRequest(urn=urn, olds=first, news=first), None).inputs
    assert json_format.MessageToDict(first) == json_format.MessageToDict(again)
    assert secrets(first.fields) == {"code"}


def test_an_answer_to_a_secret_question_is_secret(provider: TwinProvider) -> None:
    token = "aws:index/getRegion:getRegion"
    args = wire({"region": "us-east-1"})
    assert (
        secrets(getattr(provider.Invoke(provider_pb2.InvokeRequest(tok=token, args=args), None), "return").fields)
        == set()
    )
    args.fields["region"].CopyFrom(as_secret(args.fields["region"]))
    answer = getattr(provider.Invoke(provider_pb2.InvokeRequest(tok=token, args=args), None), "return").fields
    assert secrets(answer) == set(answer)
