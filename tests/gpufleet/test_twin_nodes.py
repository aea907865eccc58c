"""Nodes of the twin: from user data to a running payload, metadata, model server, and how they end."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from twin_account import START
from twin_fleet import Fleet, tiny_payload

from gpufleet.twin.clock import Clock
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.metadata import InstanceMetadata
from gpufleet.twin.model_server import Behaviour, ModelServer
from gpufleet.twin.payload import read_units
from gpufleet.twin.services.machines import Instance, LaunchSpec


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(START, seed=1) as cloud:
        yield cloud


def booted(cloud: Cloud, **modules: str) -> Fleet:
    """A fleet of one node that runs commands of the test's own."""
    fleet = Fleet(cloud, tiny_payload(**modules))
    fleet.desire(1)
    fleet.world.run_for(120)
    return fleet


# -- boot -----------------------------------------------------------------------------------------------------------


def test_units_run_with_the_nodes_configuration_and_role(cloud: Cloud) -> None:
    fleet = booted(
        cloud,
        hello='runtime.log({"event": "hello", "fleet": config["fleet"], "up_s": runtime.now() - runtime.booted_at()})\n'
        'runtime.client("sqs").get_queue_attributes(QueueUrl=config["queue_url"], AttributeNames=["All"])',
    )
    (hello,) = fleet.events("hello")
    assert hello["fleet"] == "inference-dev"
    assert 50 < hello["up_s"] < 80  # EC2's start and cloud-init
    calls = {(call.service, call.operation) for call in cloud.calls_of("inference-node-dev")}
    assert calls == {("s3", "GetObject"), ("sqs", "GetQueueAttributes")}


def test_each_node_has_modules_of_its_own(cloud: Cloud) -> None:
    fleet = Fleet(
        cloud,
        tiny_payload(
            counter='run.seen = getattr(run, "seen", 0) + 1\nruntime.log({"event": "seen", "times": run.seen})'
        ),
    )
    fleet.desire(3)
    fleet.world.run_for(120)
    assert [record["times"] for record in fleet.events("seen")] == [1, 1, 1]


def test_a_payload_that_is_not_the_one_named_abandons_the_launch(cloud: Cloud) -> None:
    fleet = Fleet(cloud, tiny_payload(hello="runtime.log({'event': 'hello'})"))
    cloud.client("s3").put_object(Bucket=fleet.bucket, Key=f"node/{fleet.sha256}.zip", Body=b"something else")
    fleet.desire(1)
    fleet.world.run_for(120)
    assert fleet.events("hello") == []
    assert fleet.events("set-up-failed")
    last = fleet.aws.describe_scaling_activities(AutoScalingGroupName="inference-asg-dev")["Activities"]
    assert any("ABANDON Result" in activity.get("StatusMessage", "") for activity in last)


def test_without_permission_to_fetch_the_payload_no_unit_runs(cloud: Cloud) -> None:
    fleet = Fleet(cloud, tiny_payload(hello="runtime.log({'event': 'hello'})"))
    fleet.put_policy(without="results")
    fleet.desire(1)
    fleet.world.run_for(240)
    assert len(fleet.events("payload-not-fetched")) == 5
    assert fleet.events("hello") == []


def test_a_node_with_user_data_of_its_own_is_a_black_box(cloud: Cloud) -> None:
    fleet = Fleet(cloud, tiny_payload(hello="runtime.log({'event': 'hello'})"))
    cloud.client("ec2").create_launch_template_version(
        LaunchTemplateName="inference-node-dev",
        LaunchTemplateData={"ImageId": "ami-2", "InstanceType": "g5.xlarge", "UserData": "ZWNobw=="},
    )
    fleet.desire(1)
    fleet.world.run_for(600)
    assert fleet.events("custom-node")
    assert fleet.states() == ["Pending:Wait"]  # nobody completes the hook
    fleet.world.run_for(700)
    assert fleet.aws.describe_scaling_activities(AutoScalingGroupName="inference-asg-dev")["Activities"][0]


def test_units_restart_as_they_say(cloud: Cloud) -> None:
    fleet = booted(
        cloud,
        crashes='runtime.log({"event": "try"})\nraise ValueError("no")',
        done='runtime.log({"event": "done"})\nreturn 0',
        wrong='runtime.log({"event": "wrong"})\nreturn 78',
    )
    assert len(fleet.events("try")) > 5
    assert len(fleet.events("process-died")) == len(fleet.events("try"))
    assert len(fleet.events("done")) == len(fleet.events("wrong")) == 1


def test_threads_locks_and_events_work_together(cloud: Cloud) -> None:
    fleet = booted(
        cloud,
        work="""\
lock, done, order = runtime.lock(), runtime.event(), []
def hold(name):
    with lock:
        order.append(name)
        runtime.sleep(5)
        order.append(name)
    if len(order) == 4:
        done.set()
runtime.spawn("a", lambda: hold("a"))
runtime.spawn("b", lambda: hold("b"))
def broken():
    raise KeyError("x")
runtime.spawn("c", broken)
runtime.log({"event": "waited", "in_time": done.wait(30), "order": "".join(order)})""",
    )
    assert fleet.events("waited") == [{"event": "waited", "in_time": True, "order": "aabb"}]
    assert [record["thread"] for record in fleet.events("thread-died")] == ["c"]


STOPPER = """\
runtime.sleep(5)
status = runtime.run(["systemctl", "stop", "worker.service"], 60)
runtime.log({"event": "stopped", "status": status})"""


def test_stop_waits_for_the_process(cloud: Cloud) -> None:
    worker = """\
stop = runtime.event()
runtime.on_stop(stop.set)
stop.wait(9999)
runtime.sleep(20)
runtime.log({"event": "drained"})"""
    fleet = booted(cloud, worker=worker, watchdog=STOPPER)
    assert fleet.events("drained")
    assert fleet.events("stopped") == [{"event": "stopped", "status": 0}]


def test_stop_gives_up_on_a_process_that_hangs(cloud: Cloud) -> None:
    worker = """\
runtime.on_stop(lambda: None)
runtime.sleep(9999)
runtime.log({"event": "drained"})"""
    fleet = booted(cloud, worker=worker, watchdog=STOPPER)
    fleet.world.run_for(120)
    assert fleet.events("stopped") == [{"event": "stopped", "status": 124}]
    assert fleet.events("drained") == []


def test_a_dead_node_does_nothing_more(cloud: Cloud) -> None:
    fleet = booted(
        cloud,
        work="""\
try:
    runtime.sleep(9999)
finally:
    runtime.client("sqs").send_message(QueueUrl=config["queue_url"], MessageBody="from the grave")""",
    )
    cloud.client("ec2").terminate_instances(InstanceIds=fleet.ids())
    fleet.world.run_for(60)
    assert fleet.world.services.sqs.named("inference-queue-dev").queue.counts() == (0, 0, 0)


def test_power_off_terminates_the_instance(cloud: Cloud) -> None:
    fleet = booted(cloud, work='runtime.run(["systemctl", "poweroff"], 60)')
    (node,) = fleet.world.nodes.nodes.values()
    assert node.instance.ended_by == "host"


def test_a_command_that_is_not_modelled_is_refused_by_name(cloud: Cloud) -> None:
    with pytest.raises(NotModelledError, match="nvidia-smi"):
        booted(cloud, work='runtime.run(["nvidia-smi"], 60)')


def test_units_are_read_from_the_payload() -> None:
    units = {unit.name: unit for unit in read_units(tiny_payload(work="pass"))}
    assert units["work.service"].command == "work"
    assert units["work.service"].no_restart == {78}
    assert units["work.service"].restart_s == 5


# -- metadata -------------------------------------------------------------------------------------------------------


def metadata(clock: Clock, **changed: object) -> tuple[InstanceMetadata, Instance]:
    spec = LaunchSpec("ami-1", "", None, {}, (), shutdown_terminates=True)
    instance = Instance("i-1", "g5.xlarge", "us-east-1a", "subnet-1", True, spec, clock.now())
    for name, value in changed.items():
        setattr(instance, name, value)
    return InstanceMetadata(clock, instance, "us-east-1", lambda: "Terminated"), instance


def test_metadata_needs_a_token_that_is_still_valid() -> None:
    clock = Clock(START)
    imds, _ = metadata(clock)
    path = "/latest/meta-data/instance-id"
    assert imds.request("GET", path, {})[0] == 401
    assert imds.request("PUT", "/latest/api/token", {})[0] == 400
    assert imds.request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21601"})[0] == 400
    status, _, token = imds.request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    assert status == 200
    headers = {"X-aws-ec2-metadata-token": token.decode()}
    assert imds.request("GET", path, headers)[::2] == (200, b"i-1")
    assert imds.request("GET", "/latest/meta-data/mood", headers)[0] == 404
    clock.run_for(61)
    assert imds.request("GET", path, headers)[0] == 401


def test_metadata_shows_notices_only_once_they_are_there() -> None:
    clock = Clock(START)
    imds, instance = metadata(clock)
    _, _, token = imds.request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "600"})
    headers = {"x-aws-ec2-metadata-token": token.decode()}
    assert imds.request("GET", "/latest/meta-data/spot/instance-action", headers)[0] == 404
    instance.interruption_at = START + 120
    status, _, body = imds.request("GET", "/latest/meta-data/spot/instance-action", headers)
    assert (status, body) == (200, b'{"action": "terminate", "time": "2026-11-01T12:02:00Z"}')
    assert imds.request("GET", "/latest/meta-data/autoscaling/target-lifecycle-state", headers)[2] == b"Terminated"


# -- model server -----------------------------------------------------------------------------------------------------


def ask(server: ModelServer, clock: Clock, body: bytes, timeout_s: float = 600.0) -> tuple[object, float]:
    """One completion in a process of its own: (reply or error, seconds it took)."""
    outcome: list[tuple[object, float]] = []

    def run() -> None:
        began = clock.now()
        try:
            reply: object = server.request("POST", "/v1/completions", body, timeout_s)
        except OSError as error:
            reply = error
        outcome.append((reply, clock.now() - began))

    clock.spawn("client", run)
    clock.run_for(3600)
    return outcome[0]


def test_model_server_takes_its_time_and_fails_as_scripted() -> None:
    clock, behaviour = Clock(START), Behaviour(random.Random(1))
    server = ModelServer(clock, behaviour, "i-1", 1)
    job = b'{"prompt": "hi", "max_tokens": 250}'
    assert isinstance(ask(server, clock, job)[0], ConnectionRefusedError)
    server.start()
    reply, took = ask(server, clock, job)
    assert reply[0] == 200  # type: ignore[index]
    assert 9 <= took <= 11
    assert isinstance(ask(server, clock, job, timeout_s=5)[0], TimeoutError)
    assert ask(server, clock, b"{}")[0][0] == 400  # type: ignore[index]
    behaviour.refuse = lambda request: 413 if request["max_tokens"] == 250 else None
    assert ask(server, clock, job)[0][0] == 413  # type: ignore[index]
    behaviour.hung.add("i-1")
    assert server.request("GET", "/health", None, 5)[0] == 200
    reply, took = ask(server, clock, b'{"prompt": "hi", "max_tokens": 1}', timeout_s=60)
    assert isinstance(reply, TimeoutError)
    assert took == 60
    behaviour.unhealthy.add("i-1")
    assert server.request("GET", "/health", None, 5)[0] == 503
