"""`ready`, `watchdog`, `admit`, the configuration and the commands that units start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inference_worker import __main__ as program
from inference_worker import node
from inference_worker.config import ConfigError, load, parse
from worker_world import LAUNCH_HOOK, TERMINATE_HOOK, Node, World, document

ALLOWANCE = ("fleet#inference-dev", "allowance")


def granted(world: World, seconds: float) -> None:
    world.put_row(*ALLOWANCE, until=world.clock.now + seconds, at=world.clock.now)


@pytest.mark.parametrize("group", ["inference-asg-dev", "inference-asg-dev-on-demand"])
def test_ready_completes_the_launch_once_the_model_answers(group: str) -> None:
    world = World(mute_heartbeats=False)
    instance = world.node(boot_s=300)
    instance.group, instance.waits_at = group, LAUNCH_HOOK
    instance.start("ready")
    world.clock.run(most_s=299)
    assert instance.hook_calls == []
    world.clock.run(lambda: "ready" in instance.status, 30)
    assert instance.hook_calls == [(LAUNCH_HOOK, "CONTINUE")]
    assert instance.status["ready"] == 0
    assert 300 <= instance.heartbeat()["cold_start_s"] <= 310
    assert instance.heartbeat()["launched_at"] == instance.booted_at()


def test_health_without_an_answer_is_not_ready() -> None:
    world = World()
    world.answers["ping"] = "hangs"
    instance = world.node()
    instance.waits_at = LAUNCH_HOOK
    healthy_only = instance._answer
    instance._answer = lambda path, payload, timeout_s: (500, {}, b"")  # type: ignore[method-assign]
    instance.start("ready", "work")
    world.send()
    world.clock.run(most_s=600)
    assert instance.hook_calls == []
    assert "sqs.receive_message" not in instance.steps
    instance._answer = healthy_only  # type: ignore[method-assign]
    world.clock.run(world.ended, 60)
    assert instance.hook_calls == [(LAUNCH_HOOK, "CONTINUE")]


def test_past_the_boot_deadline_the_launch_is_abandoned() -> None:
    world = World()
    instance = world.node(boot_s=5000)
    instance.waits_at = LAUNCH_HOOK
    instance.start("ready")
    world.clock.run(lambda: "ready" in instance.status, 920)
    assert instance.hook_calls == [(LAUNCH_HOOK, "ABANDON")]
    assert instance.status["ready"] == 1
    assert instance.terminated == []


def test_a_spot_notice_during_the_boot_is_told_at_once_and_is_no_cold_start() -> None:
    """What boots and is taken away has not failed to boot: its row says why it leaves."""
    world = World(mute_heartbeats=False)
    instance = world.node(boot_s=300)
    instance.waits_at = LAUNCH_HOOK
    instance.start("ready")
    world.clock.run(most_s=100)
    assert instance.heartbeat() == {}
    instance.spot_at = world.clock.now + 120
    world.clock.run(lambda: bool(instance.heartbeat()), 11)
    row = instance.heartbeat()
    assert (row["state"], row["cold_start_s"], row["launched_at"]) == ("draining", 0, instance.booted_at())
    world.clock.run(most_s=100)
    assert [step for step in instance.steps if step == "beat"] == ["beat"], "told once"


def test_terminated_during_the_boot_it_does_not_wait_for_the_hooks_timeout() -> None:
    """The worker, which completes the hook later on, does not run yet."""
    world = World()
    instance = world.node(boot_s=300)
    instance.waits_at = LAUNCH_HOOK
    instance.start("ready")
    world.clock.run(most_s=100)
    instance.target_state, instance.waits_at = "Terminated", TERMINATE_HOOK
    world.clock.run(lambda: "ready" in instance.status, 30)
    assert instance.hook_calls == [(TERMINATE_HOOK, "CONTINUE")]
    assert instance.status["ready"] == 1


def test_metadata_trouble_during_the_boot_holds_nothing_up() -> None:
    world = World(mute_heartbeats=False)
    instance = world.node(boot_s=300)
    instance.waits_at = LAUNCH_HOOK
    instance.start("ready")
    world.clock.run(most_s=100)
    instance.metadata_fault = 500
    world.clock.run(lambda: "ready" in instance.status, 240)
    assert instance.hook_calls == [(LAUNCH_HOOK, "CONTINUE")]


def test_without_a_launch_hook_a_broken_box_terminates_itself() -> None:
    world = World(launch_hook=None)
    instance = world.node(boot_s=5000).start("ready")
    world.clock.run(lambda: "ready" in instance.status, 920)
    assert instance.terminated == [True]


def test_a_valid_allowance_keeps_the_node_and_its_end_drains_and_terminates_it() -> None:
    world = World()
    granted(world, 600)
    world.answers["long"] = 100.0
    instance = world.node().start("watchdog", "work")
    world.clock.run(most_s=500)
    world.send("long")
    world.clock.run(lambda: "watchdog" in instance.status, 400)
    assert world.clock.now - instance.booted_at() < 600 - 75 + 30 + 100 + 30
    assert instance.commands == [["systemctl", "stop", "worker.service"]]
    assert instance.terminated == [True]
    assert instance.hook_calls == [(TERMINATE_HOOK, "CONTINUE")]
    world.check()


def leaving_with(seconds: float) -> tuple[World, Node]:
    """A node that its group takes away just as a job of so many seconds has begun, with the allowance a stop leaves."""
    world = World()
    granted(world, 600)
    world.answers["long"] = seconds
    world.send("long")
    instance = world.node().start("watchdog", "work")
    world.clock.run(lambda: bool(instance.running), 60)
    instance.target_state, instance.waits_at = "Terminated", TERMINATE_HOOK
    return world, instance


@pytest.mark.parametrize("seconds", [284.0, 800.0])
def test_a_stop_s_drain_is_as_long_as_the_allowance_that_the_guard_leaves(seconds: float) -> None:
    """The guard cuts it to the drain time and 60 s; the watchdog begins 75 s before, a look late at most."""
    world, instance = leaving_with(seconds)
    told_at = world.clock.now
    granted(world, 300 + 60)
    world.clock.run(instance.done, 400)
    assert instance.hook_calls[-1] == (TERMINATE_HOOK, "CONTINUE")
    if seconds < 300:
        world.check()
    else:
        assert 285 <= world.clock.now - told_at < 285 + 30 + 10
        (waiting,) = world.queue.live()
        assert waiting.visible_at <= world.clock.now, "handed back, not left to its lease"


def test_a_scale_in_goes_on_if_the_stop_is_taken_back_in_time() -> None:
    world, instance = leaving_with(800.0)
    granted(world, 300 + 60)
    world.clock.run(most_s=280)
    while not instance.done():
        granted(world, 600)
        world.clock.run(instance.done, 60)
    world.check()
    assert world.job(world.accepted[0])["attempts"] == 1


def test_without_a_guard_a_scale_in_s_drain_ends_with_the_allowance() -> None:
    """The last word was just before: what is committed, drain + 600 + 150 s, has 375 s to spare."""
    world, instance = leaving_with(2000.0)
    granted(world, 600)
    last_word = world.clock.now
    world.clock.run(instance.done, 1000)
    assert world.clock.now - last_word < 600 - 75 + 30 + 120
    assert len(world.queue.live()) == 1


def test_an_extended_allowance_is_seen() -> None:
    world = World()
    granted(world, 600)
    instance = world.node().start("watchdog")
    for _ in range(10):
        world.clock.run(most_s=300)
        granted(world, 600)
    assert instance.terminated == []


def test_without_an_allowance_row_the_node_leaves_before_anything_starts() -> None:
    world = World()
    instance = world.node().start("admit")
    world.clock.run(lambda: "admit" in instance.status, 60)
    assert instance.terminated == [True]


def test_admit_lets_a_granted_node_and_an_unreadable_table_pass() -> None:
    world = World()
    granted(world, 600)
    first = world.node().start("admit")
    world.fault = lambda node, operation: "before" if node is second else None
    second = world.node().start("admit")
    world.clock.run(most_s=60)
    assert (first.status, second.status) == ({"admit": 0}, {"admit": 0})
    assert (first.terminated, second.terminated) == ([], [])


def test_unreadable_for_ten_minutes_counts_as_over_but_a_short_outage_does_not() -> None:
    world = World()
    granted(world, 100_000)
    instance = world.node().start("watchdog")
    down = (world.clock.now + 100, world.clock.now + 600)
    world.fault = lambda node, operation: "before" if down[0] < world.clock.now < down[1] else None
    world.clock.run(most_s=3600)
    assert instance.terminated == []
    world.fault = lambda node, operation: "before" if operation == "dynamodb.get_item" else None
    world.clock.run(most_s=590)
    assert instance.terminated == []
    world.clock.run(most_s=120)
    assert instance.terminated == [True]


def test_an_allowance_that_cannot_be_read_again_is_over_when_it_was_said_to_end() -> None:
    """A dead guard, and then a table out of reach: the budget pays for the ten minutes that were granted, no more."""
    world = World()
    granted(world, 600)
    instance = world.node().start("watchdog")
    world.clock.run(most_s=560)
    world.fault = lambda node, operation: "before" if operation == "dynamodb.get_item" else None
    world.clock.run(most_s=100)
    assert instance.terminated == [True]


def test_a_refused_termination_is_tried_again_and_at_last_the_machine_is_powered_off() -> None:
    world = World()
    instance = world.node()
    world.fault = lambda node, operation: "before" if operation.startswith("autoscaling") else None
    instance.start("watchdog")
    world.clock.run(most_s=900)
    assert ["systemctl", "poweroff"] in instance.commands
    assert "watchdog" not in instance.status
    world.fault = lambda node, operation: None
    world.clock.run(most_s=120)
    assert instance.terminated == [True]


def test_at_the_groups_minimum_the_instance_goes_without_a_decrement() -> None:
    world = World()
    instance = world.node()
    instance.at_minimum = True
    instance.start("watchdog")
    world.clock.run(lambda: "watchdog" in instance.status, 120)
    assert instance.terminated == [False]


def test_a_fleet_without_allowance_is_not_watched() -> None:
    world = World(allowance=False)
    instance = world.node().start("watchdog", "admit")
    world.clock.run(most_s=10)
    assert instance.status == {"watchdog": 0, "admit": 0}
    assert instance.steps == []


def test_every_fault_of_the_configuration_is_named_at_once(tmp_path: Path) -> None:
    wrong = document(lease_s=5, allowance="yes", region="", queue_url="inference-queue", model={"image": "vllm:latest"})
    del wrong["bucket"]
    wrong["leese_s"] = 120
    with pytest.raises(ConfigError) as raised:
        parse(wrong)
    for key in ("lease_s: 5", "allowance", "region", "queue_url", "model.image", "bucket: missing", "leese_s: unknown"):
        assert key in str(raised.value)
    path = tmp_path / "node.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(path))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not JSON"):
        load(str(path))


def test_a_command_with_a_wrong_configuration_ends_with_78(tmp_path: Path) -> None:
    world = World()
    instance = world.node()
    path = tmp_path / "node.json"
    path.write_text("{}", encoding="utf-8")
    assert program.main(["work", "--config", str(path)], instance) == 78
    assert "queue_url: missing" in instance.logs[0]["problem"]


def test_install_writes_the_nodes_own_time_limits(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps(document(drain_s=1800)), encoding="utf-8")
    assert program.main(["install", "--config", str(path), "--units", str(tmp_path)], World().node()) == 0
    worker = (tmp_path / "worker.service.d/node.conf").read_text(encoding="utf-8")
    assert "TimeoutStopSec=1910\n" in worker
    assert 'Environment="AWS_DEFAULT_REGION=us-east-1"' in worker


def test_model_arguments_reach_docker_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--speculative-config", '{"method": "ngram", "x": "$HOME %i"}', "it's"]
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:" + "1" * 64
    path = tmp_path / "node.json"
    path.write_text(json.dumps(document(model={"server_args": arguments, "image": image})), encoding="utf-8")
    monkeypatch.setattr(node, "DOCKER_DIR", str(tmp_path))
    instance = World().node()
    assert program.main(["serve", "--config", str(path)], instance) == 0
    argv = instance.commands[0]
    assert argv[:2] == ["docker", "--config"]
    assert argv[-len(arguments) :] == arguments
    assert argv[argv.index("--gpus") + 1] == "all"
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert image in argv
    login = tmp_path / "config.json"
    assert login.stat().st_mode & 0o777 == 0o600
    assert json.loads(login.read_text(encoding="utf-8"))["auths"][image.split("/", maxsplit=1)[0]]["auth"]
    program.main(["weights", "--config", str(path)], instance)
    assert instance.commands[1][:4] == ["aws", "s3", "sync", "s3://acme-models/llama/"]
