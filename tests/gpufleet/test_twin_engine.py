"""The built-in engine on small programs: what it plans, does, refuses, remembers and recovers from."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import components
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.engine import ConfigError, Engine, ProgramError, UpError, UpResult
from gpufleet.twin.errors import AwsError
from gpufleet.twin.handlers.properties import UNKNOWN
from gpufleet.twin.services import standard
from gpufleet.twin.stack_config import load
from gpufleet.twin.state import Resource, State, deletion_order

HEAD = """
import json
import pulumi, pulumi_aws as aws
config = pulumi.Config()
p = aws.Provider("p", region="us-east-1", default_tags={"tags": {"team": "ml"}})
opts = lambda **more: pulumi.ResourceOptions(provider=p, **more)
"""


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(1_790_000_000.0) as cloud:
        standard.install(cloud)
        yield cloud


@pytest.fixture
def engine(cloud: Cloud) -> Engine:
    return Engine(cloud)


@pytest.fixture
def up(engine: Engine, tmp_path: Path) -> Callable[..., UpResult]:
    """Write the program and run it."""
    (tmp_path / "Pulumi.yaml").write_text(
        "name: small\nruntime: python\nconfig:\n  pulumi:disable-default-providers: {value: [aws]}\n"
        "  size: {type: integer, default: 30}\n"
    )
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  small:zone: Europe/Berlin\n")

    def run(body: str, *, head: str = HEAD, preview: bool = False, **overrides: Any) -> UpResult:
        (tmp_path / "__main__.py").write_text(head + textwrap.dedent(body))
        return (engine.preview if preview else engine.up)(tmp_path, "dev", overrides)

    return run


def ops(result: UpResult) -> list[tuple[str, str]]:
    return [(step.op, step.name) for step in result.changes]


QUEUE = 'q = aws.sqs.Queue("q", name="jobs", visibility_timeout_seconds=config.require_int("size"), opts=opts())\n'


def test_create_nothing_update_delete(cloud: Cloud, engine: Engine, up: Callable[..., UpResult]) -> None:
    body = QUEUE + 'pulumi.export("url", q.url)\n'
    first = up(body)
    assert first.counts == {"create": 2}
    assert first.outputs == {"url": "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"}
    assert up(body).counts == {"same": 2}
    edit = up(body, size="60")
    assert ops(edit) == [("update", "q")]
    (change,) = edit.changes[0].diff
    assert (change.path, change.old, change.new) == ("visibilityTimeoutSeconds", 30, 60)
    sqs = cloud.client("sqs")
    live = sqs.get_queue_attributes(QueueUrl=first.outputs["url"], AttributeNames=["All"])["Attributes"]
    assert live["VisibilityTimeout"] == "60"
    assert sqs.list_queue_tags(QueueUrl=first.outputs["url"])["Tags"] == {"team": "ml"}
    assert ops(up("pass\n")) == [("delete", "q")]
    assert sqs.list_queues().get("QueueUrls", []) == []
    engine.destroy()
    assert engine.state.resources == {}


def test_state_goes_to_json_and_back(cloud: Cloud, engine: Engine, up: Callable[..., UpResult], tmp_path: Path) -> None:
    up(QUEUE)
    later = Engine(cloud, State.from_json(json.dumps(json.loads(engine.state.to_json()))))
    assert later.up(tmp_path, "dev").counts == {"same": 2}


def test_a_made_name_is_created_before_the_old_is_deleted(up: Callable[..., UpResult], cloud: Cloud) -> None:
    seen: list[str] = []
    body = 't = aws.ec2.SecurityGroup("g", description={!r}, vpc_id={!r}, opts=opts())\npulumi.export("id", t.id)\n'
    vpc = cloud.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    first = up(body.format("one", vpc))
    client = cloud.client("ec2")
    client.meta.events.register("provide-client-params.ec2", lambda model, **_: seen.append(model.name))
    second = up(body.format("two", vpc))
    assert ops(second) == [("replace", "g")]
    assert first.outputs["id"] != second.outputs["id"]
    assert seen.index("CreateSecurityGroup") < seen.index("DeleteSecurityGroup")


def test_a_fixed_name_is_deleted_first_together_with_what_hangs_on_it(
    up: Callable[..., UpResult], cloud: Cloud
) -> None:
    body = """
    q = aws.sqs.Queue("q", name="jobs", opts=opts(replace_on_changes=["delaySeconds"]), delay_seconds={})
    aws.sqs.QueuePolicy("policy", queue_url=q.url, opts=opts(), policy=q.arn.apply(lambda arn: json.dumps(
        {{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage",
        "Resource": arn}}]}})))
    """
    up(body.format(0))
    calls: list[str] = []
    for name in ("DeleteQueue", "CreateQueue", "SetQueueAttributes"):
        cloud.charges[("sqs", name)] = lambda call, answer: calls.append(call.operation)
    cloud.clock.run_for(120)
    assert ops(up(body.format(1))) == [("replace", "q"), ("replace", "policy")]
    assert calls == ["SetQueueAttributes", "DeleteQueue", "CreateQueue", "SetQueueAttributes"]


def test_ignored_changes_keep_the_old_value(up: Callable[..., UpResult]) -> None:
    body = 'aws.sqs.Queue("q", name="jobs", delay_seconds={}, tags={}, opts=opts(ignore_changes={}))\n'
    up(body.format(1, {"a": "1"}, []))
    assert up(body.format(2, {"a": "1"}, ["delaySeconds"])).counts == {"same": 2}
    assert up(body.format(2, {"a": "2"}, ["delaySeconds", "tags.a"])).counts == {"same": 2}
    assert ops(up(body.format(2, {"a": "2"}, []))) == [("update", "q")]


def test_protection_refuses_deletion_and_replacement(up: Callable[..., UpResult], engine: Engine, cloud: Cloud) -> None:
    body = 'aws.sqs.Queue("q", name={!r}, opts=opts(protect=True))\n'
    up(body.format("jobs"))
    for attempt in ("pass\n", body.format("other")):
        with pytest.raises(UpError, match=r"q \(aws:sqs/queue:Queue\) cannot be (deleted|replaced) because it is prot"):
            up(attempt)
    with pytest.raises(UpError, match="protected"):
        engine.destroy()
    assert len(cloud.client("sqs").list_queues()["QueueUrls"]) == 1
    engine.unprotect()
    assert engine.destroy().counts == {"delete": 2}


def test_aliases_rename_without_touching_anything(up: Callable[..., UpResult]) -> None:
    component = """
    class Box(pulumi.ComponentResource):
        def __init__(self, name, opts=None):
            super().__init__("my:index:Box", name, {{}}, opts)
            aws.sqs.Queue(f"{{name}}-q", name="jobs", opts=pulumi.ResourceOptions(parent=self))
    Box({!r}, pulumi.ResourceOptions(provider=p, aliases={}))
    """
    up(component.format("old", []))
    assert up(component.format("new", '[pulumi.Alias(name="old")]')).counts == {"same": 3}
    assert up(component.format("new", [])).counts == {"same": 3}


def test_urns_are_the_engine_s(up: Callable[..., UpResult], engine: Engine) -> None:
    up("""
    class Box(pulumi.ComponentResource):
        def __init__(self, kind, name, opts):
            super().__init__(kind, name, {}, opts)
    outer = Box("my:index:Outer", "outer", opts())
    inner = Box("my:index:Inner", "inner", pulumi.ResourceOptions(parent=outer))
    aws.sqs.Queue("q", opts=pulumi.ResourceOptions(parent=inner))
    """)
    assert "urn:pulumi:dev::small::my:index:Outer$my:index:Inner$aws:sqs/queue:Queue::q" in engine.state.resources


def test_a_failure_names_the_resource_and_the_next_up_carries_on(
    up: Callable[..., UpResult], engine: Engine, cloud: Cloud
) -> None:
    body = """
    a = aws.sqs.Queue("a", name="a", opts=opts())
    b = aws.sqs.Queue("b", name="b", visibility_timeout_seconds={}, opts=opts(depends_on=[a]))
    c = aws.sqs.Queue("c", name="c", tags={{"of": b.name}}, opts=opts())
    pulumi.export("upper", c.name.apply(str.upper))
    """
    up('aws.sqs.Queue("former", name="former", opts=opts())\n')
    with pytest.raises(
        UpError, match=r"deploying b \(aws:sqs/queue:Queue\) failed: CreateQueue: InvalidAttributeValue"
    ):
        up(body.format(99_999))
    names = sorted(url.rsplit("/", 1)[1] for url in cloud.client("sqs").list_queues()["QueueUrls"])
    assert names == ["a", "former"]  # nothing after the failure, nothing deleted
    assert ops(up(body.format(9))) == [("create", "b"), ("create", "c"), ("delete", "former")]
    assert engine.state.outputs == {"upper": "C"}


def test_a_creation_that_did_not_finish_is_replaced(
    up: Callable[..., UpResult], cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = 'b = aws.s3.Bucket("b", bucket="half-made", opts=opts())\n'
    real, failing = cloud.call, ["PutBucketTagging"]

    def call(service: str, operation: str, *rest: Any) -> Any:
        if operation in failing:
            failing.remove(operation)
            raise AwsError("SlowDown", "Reduce your request rate.", 503)
        return real(service, operation, *rest)

    monkeypatch.setattr(cloud, "call", call)
    with pytest.raises(UpError, match=r"deploying b \(aws:s3/bucket:Bucket\) failed: PutBucketTagging: SlowDown"):
        up(body)
    assert ops(up(body)) == [("replace", "b")]
    assert cloud.client("s3").get_bucket_tagging(Bucket="half-made")["TagSet"] == [{"Key": "team", "Value": "ml"}]


def test_a_deletion_that_failed_is_made_up_for(up: Callable[..., UpResult], engine: Engine, cloud: Cloud) -> None:
    up('aws.s3.Bucket("b", bucket="kept", opts=opts())\n')
    cloud.client("s3").put_object(Bucket="kept", Key="k", Body=b"x")
    with pytest.raises(UpError, match=r"deleting b \(aws:s3/bucket:Bucket\) failed: DeleteBucket: BucketNotEmpty"):
        up("pass\n")
    cloud.client("s3").delete_object(Bucket="kept", Key="k")
    assert ops(up("pass\n")) == [("delete", "b")]


def test_drift_is_seen_and_the_next_up_puts_it_right(up: Callable[..., UpResult], engine: Engine, cloud: Cloud) -> None:
    body = QUEUE + 'aws.sqs.Queue("other", name="other", opts=opts(ignore_changes=["delaySeconds"]))\n'
    up(body)
    assert engine.refresh() == []
    sqs, base = cloud.client("sqs"), "https://sqs.us-east-1.amazonaws.com/123456789012"
    sqs.set_queue_attributes(QueueUrl=f"{base}/jobs", Attributes={"VisibilityTimeout": "77"})
    sqs.tag_queue(QueueUrl=f"{base}/jobs", Tags={"mine": "x"})
    sqs.set_queue_attributes(QueueUrl=f"{base}/other", Attributes={"DelaySeconds": "5"})
    drifts = engine.refresh(preview_only=True)
    assert [(d.urn.rsplit("::", 1)[1], d.path, d.state, d.live) for d in drifts] == [
        ("q", "visibilityTimeoutSeconds", 30, 77),
        ("q", "tags", {"team": "ml"}, {"team": "ml", "mine": "x"}),
    ]
    assert up(body).counts == {"same": 3}  # the state was left alone
    assert len(engine.refresh()) == 2
    assert ops(up(body)) == [("update", "q")]
    assert engine.refresh() == []
    sqs.delete_queue(QueueUrl=f"{base}/jobs")
    assert [(d.path, d.live) for d in engine.refresh()] == [("", None)]
    cloud.clock.run_for(61)
    assert ops(up(body)) == [("create", "q")]


def test_a_preview_touches_nothing_and_leaves_unknown_what_is_unknown(
    up: Callable[..., UpResult], engine: Engine, cloud: Cloud
) -> None:
    body = """
    q = aws.sqs.Queue("q", name="jobs", opts=opts())
    b = aws.s3.Bucket("b", tags={"queue": q.arn}, opts=opts())
    pulumi.export("name", q.name)
    pulumi.export("arn", q.arn)
    """
    plan = up(body, preview=True)
    assert plan.counts == {"create": 3}
    assert plan.outputs == {"name": "jobs", "arn": UNKNOWN}
    assert engine.state.resources == {}
    assert cloud.client("sqs").list_queues().get("QueueUrls", []) == []
    done = up(body)
    assert [(s.op, s.urn) for s in plan.steps] == [(s.op, s.urn) for s in done.steps]
    assert up(body, preview=True).counts == {"same": 3}


def test_a_preview_shows_an_update_that_changes_outputs_as_unknown_downstream(up: Callable[..., UpResult]) -> None:
    body = """
    t = aws.ec2.LaunchTemplate("t", name="t", image_id="ami-{}", opts=opts())
    aws.sqs.Queue("q", name="q", tags={{"version": t.latest_version.apply(str)}}, opts=opts())
    """
    up(body.format(1))
    assert ops(up(body.format(2), preview=True)) == [("update", "t"), ("update", "q")]
    result = up(body.format(2))
    assert [change.new for change in result.changes[1].diff] == [{"team": "ml", "version": "2"}]


def test_secrets_stay_marked(up: Callable[..., UpResult], engine: Engine) -> None:
    result = up("""
    q = aws.sqs.Queue("q", name="jobs", tags={"token": pulumi.Output.secret("s3cret")}, opts=opts())
    assert pulumi.runtime.sync_await._sync_await(q.tags.is_secret())
    """)
    (queue,) = [r for r in engine.state.resources.values() if r.name == "q"]
    assert queue.secrets == ["tags"]
    assert result.counts == {"create": 2}


def test_the_default_provider_is_refused(up: Callable[..., UpResult]) -> None:
    with pytest.raises(UpError, match=r"Default provider for 'aws' disabled\. 'lonely' must use an explicit provider"):
        up('import pulumi_aws as aws\naws.sqs.Queue("lonely")\n', head="")
    with pytest.raises(ProgramError, match="Default provider for 'aws' disabled"):
        up("import pulumi_aws as aws\naws.get_caller_identity()\n", head="")


def test_two_resources_of_one_name_are_refused(up: Callable[..., UpResult]) -> None:
    with pytest.raises(UpError, match="duplicate resource URN"):
        up('aws.sqs.Queue("q", name="a", opts=opts())\naws.sqs.Queue("q", name="b", opts=opts())\n')


def test_what_the_twin_does_not_know_is_refused_by_name(up: Callable[..., UpResult]) -> None:
    with pytest.raises(UpError, match="does not model the resource type aws:rds/instance:Instance"):
        up('aws.rds.Instance("db", instance_class="x", opts=opts())\n')
    with pytest.raises(UpError, match="does not model contentBasedDeduplication of aws:sqs/queue:Queue"):
        up('aws.sqs.Queue("q", content_based_deduplication=True, opts=opts())\n')


def test_an_existing_queue_is_imported_or_read(up: Callable[..., UpResult], cloud: Cloud, engine: Engine) -> None:
    url = cloud.client("sqs").create_queue(QueueName="jobs", tags={"team": "ml"})["QueueUrl"]
    cloud.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "262144"})
    body = 'aws.sqs.Queue("q", name={!r}, delay_seconds={}, sqs_managed_sse_enabled=True, opts=opts(import_={!r}))\n'
    result = up(body.format("jobs", 1, url))
    assert [step.op for step in result.steps if step.name == "q"] == ["import", "update"], "what differs is put right"
    assert [change.path for change in result.steps[-1].diff] == ["delaySeconds"]
    assert up(body.format("jobs", 1, url)).counts == {"same": 2}
    with pytest.raises(UpError, match=r"may not be replaced; .* name: 'jobs' => 'tasks'"):
        up(body.format("tasks", 1, url))
    result = up(f'q = aws.sqs.Queue.get("r", {url!r}, opts=opts())\npulumi.export("arn", q.arn)\n'
                 'aws.sqs.Queue("q", name="jobs", opts=opts(retain_on_delete=True))\n')  # fmt: skip
    assert result.outputs["arn"].endswith(":jobs")
    engine.destroy()
    assert cloud.client("sqs").list_queues()["QueueUrls"] == [url]


def test_a_program_s_own_error_is_its_message(up: Callable[..., UpResult]) -> None:
    with pytest.raises(ProgramError) as told:
        up('raise pulumi.RunError("two settings are wrong")\n')
    assert str(told.value) == "two settings are wrong"
    with pytest.raises(ProgramError, match=r"ZeroDivisionError: division by zero \(__main__.py, line 8\)"):
        up("\n1 / 0\n")
    assert up('pulumi.log.warn("mind the gap")\npulumi.info("hello")\n').log == (
        ("warning", "mind the gap"),
        ("info", "hello"),
    )


def test_configuration_reaches_the_program(up: Callable[..., UpResult], tmp_path: Path) -> None:
    body = """
    import os
    pulumi.export("all", {
        "size": config.get_int("size"),
        "zone": config.get("zone"),
        "model": config.get_object("model"),
        "region": pulumi.Config("aws").get("region"),
        "env": sorted(json.loads(os.environ["PULUMI_CONFIG"])),
    })
    """
    given = {"model.slots": "4", "model.at": "18:00", "aws:region": "us-east-1", "size": "7"}
    seen = up(body, **given).outputs["all"]
    assert seen == {
        "size": 7,
        "zone": "Europe/Berlin",
        "model": {"slots": 4, "at": "18:00"},
        "region": "us-east-1",
        "env": ["aws:region", "pulumi:disable-default-providers", "small:model", "small:size", "small:zone"],
    }
    assert up(body).outputs["all"]["size"] == 30
    assert "PULUMI_CONFIG" not in os.environ
    with pytest.raises(ConfigError, match=r"there is no Pulumi\.qa\.yaml; the stacks here are: dev"):
        load(tmp_path, "qa")
    with pytest.raises(ConfigError, match=r"cannot set zone\.x"):
        load(tmp_path, "dev", {"zone.x": "1"})
    (tmp_path / "Pulumi.dev.yaml").unlink()
    assert load(tmp_path, "any", {"size": "8"}).values["small:size"] == "8"


def test_two_programs_with_a_package_of_the_same_name(
    up: Callable[..., UpResult], tmp_path: Path, cloud: Cloud
) -> None:
    (tmp_path / "components.py").write_text("NAME = 'theirs'\n")
    assert up('import components\npulumi.export("n", components.NAME)\n').outputs == {"n": "theirs"}
    assert sys.modules["components"] is components


def test_deletion_order_is_dependents_first() -> None:
    def resource(urn: str, *needs: str) -> Resource:
        return Resource(urn, "t", urn, True, dependencies=list(needs))

    chain = [resource("d", "a"), resource("a"), resource("c", "b"), resource("b", "a")]
    order = [r.urn for r in deletion_order(chain)]
    assert order.index("c") < order.index("b") < order.index("a")
    assert order.index("d") < order.index("a")
