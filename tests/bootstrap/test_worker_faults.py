"""Power loss at every step, drains, notices, lost leases, and random mixtures of them."""

from __future__ import annotations

import random
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_clock import START
from worker_world import TERMINATE_HOOK, Node, World


def finish(world: World, most_s: float = 7200) -> None:
    assert world.clock.run(world.ended, most_s), [each for node in world.nodes for each in node.logs[-10:]]


@pytest.mark.parametrize(
    ("kind", "moment"),
    [(kind, moment) for kind in ("fine", "poison", "expired") for moment in ("before", "after")]
    + [("failing", "after")],
)
def test_power_loss_at_every_step_of_a_job(kind: str, moment: str) -> None:
    for step in count(1):
        world = World()
        world.answers["failing"] = 500
        body = {"poison": {"max_tokens": -1}, "expired": {"expires_at": world.clock.now - 1}}.get(kind, {})
        job = world.send(kind, **body)
        first = world.node(kill_at=(step, moment)).start()
        world.clock.run(lambda first=first, world=world: not first.alive or world.ended(), 3600)
        if len(first.steps) < step:
            assert step > 4, "the sweep saw the whole job"
            break
        died_at = world.clock.now
        world.node().start()
        finish(world)
        world.check(failed=[job] * (kind in ("poison", "failing")), expired=[job] * (kind == "expired"))
        if kind == "fine":  # I4: runnable again within a lease, a poll and the job's own time
            assert world.clock.now - died_at < 120 + 20 + 20 + 10


def test_stop_drains_finishing_what_fits() -> None:
    world = World()
    world.answers["long"] = 250.0
    for prompt in ("long", "short"):
        world.send(prompt)
    node = world.node().start()
    world.clock.run(lambda: node.most_running == 2, 60)
    stopped_at = world.clock.now
    node.stop()
    world.clock.run(lambda: "draining" in str(node.logs), 5)
    world.send("later")
    assert world.clock.run(node.done, 400)
    assert world.clock.now - stopped_at < 270
    assert node.status["work"] == 0
    assert [each.body for each in world.queue.live()] == ['{"prompt": "later"}']
    assert world.queue.live()[0].visible_at <= world.clock.now


def test_drain_hands_back_what_does_not_fit_and_ends_in_time() -> None:
    world = World(drain_s=60, mute_heartbeats=False)
    world.answers["long"] = 2000.0
    job = world.send("long")
    node = world.node().start()
    world.clock.run(lambda: bool(node.running), 60)
    stopped_at = world.clock.now
    node.stop()
    assert world.clock.run(node.done, 300)
    assert world.clock.now - stopped_at <= 60 + 25
    assert world.queue.live()[0].visible_at <= world.clock.now, "visible at once"
    assert world.job(job)["lease_until"] == 0
    assert node.heartbeat()["state"] == "draining"
    assert node.heartbeat()["busy"] == 0
    world.node().start()
    finish(world)
    world.check()
    assert world.job(job)["failures"] == 0


def test_a_second_stop_hands_back_at_once() -> None:
    world = World()
    world.answers["long"] = 2000.0
    world.send("long")
    node = world.node().start()
    world.clock.run(lambda: bool(node.running), 60)
    node.stop()
    world.clock.run(most_s=5)
    node.stop()
    assert world.clock.run(node.done, 30)


def test_messages_that_arrive_after_the_stop_are_released() -> None:
    world = World()
    node = world.node().start()
    world.clock.run(lambda: world.clock.now % 10 > 5 and "sqs.receive_message" in node.steps, 60)
    node.stop()
    world.send("late")
    assert world.clock.run(node.done, 60)
    assert node.most_running == 0
    late = world.queue.live()[0]
    assert (late.receives, late.visible_at <= world.clock.now) == (1, True)


@pytest.mark.parametrize("left_s", [120, 39, 5, 0])
def test_spot_notice_with_little_time(left_s: float) -> None:
    world = World()
    world.answers["long"] = 500.0
    jobs = [world.send(prompt) for prompt in ("long", "short", "long")]
    node = world.node().start()
    world.clock.run(lambda: node.most_running == 3, 60)
    node.spot_at = world.clock.now + left_s
    world.clock.run(node.done, left_s)
    node.kill()
    if left_s >= 39:
        assert node.done(), "handed back before the machine was taken"
        assert all(each.visible_at <= world.clock.now for each in world.queue.live())
    if left_s == 120:
        assert world.job(jobs[1])["status"] == "completed"
    world.node().start()
    finish(world)
    world.check()
    assert all(world.job(job)["failures"] == 0 for job in jobs)


def test_terminating_drains_tells_the_group_it_still_works_and_completes_the_hook() -> None:
    world = World()
    world.answers["long"] = 200.0
    world.send("long")
    node = world.node().start()
    world.clock.run(lambda: bool(node.running), 60)
    node.target_state, node.waits_at = "Terminated", TERMINATE_HOOK
    node.group = "inference-asg-dev-on-demand"
    assert world.clock.run(node.done, 300)
    world.check()
    beats = [hook for hook in node.hook_calls if hook[1] == "heartbeat"]
    assert 5 <= len(beats) <= 7
    assert node.hook_calls[-1] == (TERMINATE_HOOK, "CONTINUE")


def test_a_scale_in_waits_for_a_job_that_outlasts_a_stop_s_drain_and_keeps_the_hook_waiting() -> None:
    """The shortest drain's hook waits 90 s: the group hears of the drain in time though every other call fails and
    jobs that end in between wake the worker up."""
    world = World(drain_s=30)
    for prompt, seconds in (("long", 2000.0), ("ends", 29.0), ("and ends", 84.0), ("again", 139.0)):
        world.answers[prompt] = seconds
        world.send(prompt)
    node = world.node().start()
    world.clock.run(lambda: len(node.running) == 4, 60)
    told_at, calls = [world.clock.now], 0

    def fault(at: Node, operation: str) -> str | None:
        nonlocal calls
        if operation != "autoscaling.record_lifecycle_action_heartbeat":
            return None
        calls += 1
        if calls % 2:
            return "before"
        told_at.append(world.clock.now)
        return None

    world.fault = fault
    node.target_state, node.waits_at = "Terminated", TERMINATE_HOOK
    assert world.clock.run(node.done, 2100)
    world.check()
    assert {world.job(job)["attempts"] for job in world.accepted} == {1}
    assert max(later - sooner for sooner, later in pairwise(told_at)) < 90
    assert world.clock.now - told_at[-1] < 90


@pytest.mark.parametrize(
    ("config", "seconds_left"),
    [
        pytest.param({"job_timeout_s": 900}, 900, id="no job takes longer"),
        pytest.param({"job_timeout_s": 120}, 120, id="nor here, though a stop would give it more time"),
        pytest.param({"job_timeout_s": 40_000}, 30_000, id="no group waits longer"),
        pytest.param({"job_timeout_s": 900, "allowance": False}, 300, id="a stop could not cut it short"),
    ],
)
def test_how_long_a_scale_in_waits(config: dict[str, Any], seconds_left: float) -> None:
    world = World(**config)
    node = world.node().start()
    world.clock.run(most_s=60)
    node.target_state = "Terminated"
    world.clock.run(most_s=10)
    assert [log["seconds_left"] for log in node.logs if log["event"] == "drain"] == [seconds_left]


def test_the_hook_may_start_to_wait_later_than_announced() -> None:
    world = World()
    node = world.node().start()
    world.clock.run(most_s=60)
    node.target_state = "Terminated"
    world.clock.run(most_s=30)
    node.waits_at = TERMINATE_HOOK
    assert world.clock.run(node.done, 60)
    assert node.hook_calls == [(TERMINATE_HOOK, "CONTINUE")]


@pytest.mark.parametrize("fault", [401, 500, 503, "hang"])
def test_metadata_trouble_is_never_a_notice(fault: int | str) -> None:
    world = World()
    node = world.node().start()
    world.clock.run(most_s=60)
    node.metadata_fault = fault
    world.clock.run(most_s=600)
    world.send()
    finish(world)
    assert not node.done()
    assert sum(log["event"] == "no-metadata" for log in node.logs) == 1
    node.metadata_fault = None
    node.tokens.append("rotated")  # the old token is refused from now on
    node.spot_at = world.clock.now + 100
    assert world.clock.run(node.done, 100)


def test_a_lost_lease_is_never_released_and_the_first_finisher_counts() -> None:
    world = World()
    world.answers["long"] = lambda node: 300.0 if node is first else 310.0
    job = world.send("long")
    first = world.node().start()
    world.clock.run(lambda: bool(first.running), 60)
    received_at = world.clock.now
    cut_off = ("sqs.change_message_visibility_batch", "sqs.receive_message")
    world.fault = lambda node, operation: "before" if node is first and operation in cut_off else None
    second = world.node().start()
    assert world.clock.run(lambda: bool(second.running), 400), "the message came back"
    lost = [log["at"] for log in first.logs if log["event"] == "lease-lost"]
    assert lost, "the worker knows"
    assert lost[0] + START - received_at < 100, "before the message came back, not after"
    finish(world)
    world.clock.run(most_s=400)
    world.check()
    assert world.job(job)["bill"]["seconds"] == 300
    assert "sqs.change_message_visibility" not in first.steps


def test_a_lost_lease_whose_model_breaks_touches_nothing() -> None:
    world = World()
    world.answers["long"] = 300.0
    job = world.send("long")
    first = world.node().start()
    world.clock.run(lambda: bool(first.running), 60)
    cut_off = ("sqs.change_message_visibility_batch", "sqs.receive_message")
    world.fault = lambda node, operation: "before" if node is first and operation in cut_off else None
    second = world.node().start()
    world.clock.run(lambda: bool(second.running), 400)
    first.engine_dies()
    finish(world)
    world.check()
    assert world.job(job)["failures"] == 0
    assert world.job(job)["owner"] == second.id
    assert "sqs.change_message_visibility" not in first.steps


def test_entries_of_a_batch_fail_on_their_own() -> None:
    world = World()
    world.answers["long"] = 200.0
    for _ in range(4):
        world.send("long")
    failures = iter(["InternalError", None, None] * 100)
    world.queue.fail_entry = lambda operation: next(failures)
    world.node().start()
    finish(world)
    world.check()
    assert [each.receives for each in world.queue.stored] == [1, 1, 1, 1]


def test_a_delivery_the_queue_no_longer_knows_is_lost_at_once() -> None:
    world = World()
    world.answers["long"] = 200.0
    world.send("long")
    node = world.node().start()
    world.queue.fail_entry = lambda operation: "ReceiptHandleIsInvalid"
    world.clock.run(lambda: "sqs.change_message_visibility_batch" in node.steps, 60)
    world.clock.run(most_s=1)
    assert [log["event"] for log in node.logs].count("lease-lost") == 1
    node.engine_dies()
    world.clock.run(most_s=20)
    assert "sqs.change_message_visibility" not in node.steps


def test_an_extension_under_way_never_prolongs_a_back_off() -> None:
    world = World()
    world.answers["long"] = 200.0
    world.send("long")
    node = world.node().start()
    delays = {"sqs.change_message_visibility_batch": 10.0}
    world.fault = lambda at, operation: "before" if at.broken and "receive" in operation else delays.get(operation)
    world.clock.run(lambda: "sqs.change_message_visibility_batch" in node.steps, 60)
    node.broken = True
    node.engine_dies()
    assert world.clock.run(lambda: "sqs.change_message_visibility" in node.steps, 60)
    released_at = world.clock.now
    world.clock.run(most_s=20)
    assert 10 < world.queue.stored[0].visible_at - released_at <= 25


def test_an_extension_under_way_never_hides_a_released_message() -> None:
    world = World(drain_s=45)
    world.answers["long"] = 2000.0
    for _ in range(4):
        world.send("long")
    node = world.node().start()
    world.fault = lambda at, operation: 20.0 if operation == "sqs.change_message_visibility_batch" else None
    world.clock.run(lambda: bool(node.running), 60)
    node.stop()
    assert world.clock.run(node.done, 300)
    world.clock.run(most_s=60)
    assert all(each.visible_at <= world.clock.now for each in world.queue.live())


def test_a_dead_thread_drains_the_worker_and_asks_for_a_restart() -> None:
    world = World()
    node = world.node()
    node.start()
    world.clock.run(most_s=30)
    world.queue.receive_message = lambda **arguments: 1 / 0  # type: ignore[method-assign]
    assert world.clock.run(node.done, 60)
    assert node.status["work"] == 1


OPERATIONS = (
    "sqs.receive_message",
    "sqs.delete_message",
    "sqs.change_message_visibility",
    "sqs.change_message_visibility_batch",
    "sqs.send_message",
    "dynamodb.update_item",
    "dynamodb.get_item",
    "s3.put_object",
    "s3.get_object",
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    faults=st.dictionaries(st.sampled_from(OPERATIONS), st.floats(0, 0.4), max_size=5),
    duplicates=st.floats(0, 0.3),
    reappearing=st.floats(0, 0.3),
    kills=st.lists(st.integers(3, 60), max_size=3),
    notices=st.lists(st.integers(20, 400), max_size=2),
    jobs=st.lists(st.sampled_from(["short", "long", "expired", "poison", "refused"]), min_size=1, max_size=6),
)
def test_whatever_happens_every_job_ends_exactly_once(
    seed: int,
    faults: dict[str, float],
    duplicates: float,
    reappearing: float,
    kills: list[int],
    notices: list[int],
    jobs: list[str],
) -> None:
    world = World(seed, max_receive_count=6)
    rng = random.Random(seed)
    quiet_at = world.clock.now + 1500

    def fault(node: Node, operation: str) -> str | float | None:
        if world.clock.now > quiet_at or rng.random() >= faults.get(operation, 0):
            return None
        return rng.choice(["before", "after", 5.0, 70.0])

    world.fault = fault
    # Each at most twice for a message: at any rate, SQS itself would dead-letter what it keeps handing out again.
    world.queue.duplicate = lambda stored: stored.receives <= 2 and rng.random() < duplicates
    world.queue.reappear = lambda stored: stored.receives <= 2 and rng.random() < reappearing
    world.answers |= {"long": 300.0, "refused": 400}
    bodies = {"expired": {"expires_at": world.clock.now - 1}, "poison": {"max_tokens": "many"}}
    names = {kind: [world.send(kind, **bodies.get(kind, {})) for each in jobs if each == kind] for kind in set(jobs)}
    for step in kills:
        world.node(kill_at=(step, rng.choice(["before", "after"]))).start()
    for after in notices:
        node = world.node().start()
        world.clock.at(world.clock.now + after, lambda node=node: setattr(node, "spot_at", world.clock.now + 60))
    world.node().start()
    finish(world, 20_000)
    world.clock.run(most_s=400)
    world.check(failed=names.get("poison", []) + names.get("refused", []), expired=names.get("expired", []))
