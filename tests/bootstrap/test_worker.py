"""What a worker does with jobs, when all goes well and when it does not."""

from __future__ import annotations

import json

import pytest
from worker_world import World


def serve(world: World, most_s: float = 7200) -> None:
    assert world.clock.run(world.ended, most_s), world.nodes[0].logs[-20:]


def test_jobs_of_every_form_complete_with_result_and_bill() -> None:
    world = World()
    plain = world.send("hello", max_tokens=50)
    world.send(raw=json.dumps({"job_id": "chat-1", "request": {"messages": [{"content": "hi"}], "stream": True}}))
    world.accepted[-1:] = ["chat-1"]
    world.node().start()
    serve(world)
    world.check()
    assert world.result("chat-1")["response"]["choices"][0]["text"] == "answer to hi"
    row = world.job(plain)
    assert row["bill"] == {"prompt_tokens": 5, "completion_tokens": 7, "seconds": 20}
    assert row["result"] == f"results/{plain}.json"
    assert row["owner"] == world.nodes[0].id
    assert row["attempts"] == 1


def test_four_calls_for_a_short_job() -> None:
    world = World()
    world.node().start()
    world.clock.run(lambda: world.clock.now % 40 > 39, 200)
    world.answers["short"] = 3.0
    before = len(world.nodes[0].steps)
    world.send("short")
    serve(world)
    calls = [step for step in world.nodes[0].steps[before:] if step not in ("sqs.receive_message", "beat")]
    assert calls == ["dynamodb.update_item", "s3.put_object", "dynamodb.update_item", "sqs.delete_message"]


def test_pulls_for_free_slots_only() -> None:
    world = World()
    for _ in range(12):
        world.send()
    world.node().start()
    world.clock.run(lambda: world.nodes[0].most_running == 4, 60)
    world.clock.run(most_s=5)
    assert sum(each.hidden for each in world.queue.stored) == 4
    serve(world)
    assert world.nodes[0].most_running == 4
    world.check()


def test_a_job_longer_than_many_leases_stays_hidden() -> None:
    world = World()
    world.answers["long"] = 1500.0
    world.send("long")
    world.node().start()
    world.node().start()
    serve(world)
    world.check()
    assert world.queue.stored[0].receives == 1
    assert world.job(world.accepted[0])["attempts"] == 1


def test_does_not_pull_before_the_model_answers() -> None:
    world = World(mute_heartbeats=False)
    world.send()
    node = world.node(boot_s=400).start()
    world.clock.run(most_s=390)
    assert "sqs.receive_message" not in node.steps
    assert node.heartbeat() == {}
    serve(world)
    world.check()
    world.clock.run(most_s=20)
    beat = node.heartbeat()
    assert 400 <= beat["cold_start_s"] <= 410
    assert beat["launched_at"] == node.booted_at()


def test_heartbeat_row_tells_what_the_worker_does() -> None:
    world = World(mute_heartbeats=False)
    for _ in range(3):
        world.send()
    node = world.node().start()
    world.clock.run(most_s=15)
    assert (node.heartbeat()["state"], node.heartbeat()["busy"], node.heartbeat()["slots"]) == ("ready", 3, 4)
    serve(world)
    world.clock.run(most_s=11)
    beat = node.heartbeat()
    assert (beat["busy"], beat["completed"], beat["worked_s"]) == (0, 3, 60)
    assert world.clock.now - beat["at"] <= 10
    assert beat["expires"] >= beat["at"] + 86_400
    # A new process on the same instance goes on counting: the controller takes differences.
    node.stop()
    world.clock.run(node.done, 60)
    node.status.clear()
    node.start()
    world.send()
    serve(world)
    world.clock.run(most_s=11)
    assert node.heartbeat()["completed"] == 4
    assert node.heartbeat()["cold_start_s"] == beat["cold_start_s"]


def test_idle_hours_cost_few_calls() -> None:
    world = World(mute_heartbeats=False)
    node = world.node().start()
    world.clock.run(most_s=3600)
    assert len(node.steps) < 3600 / 10 + 3600 / 20 + 60


def test_heartbeat_trouble_never_stops_the_worker() -> None:
    world = World(mute_heartbeats=False)
    world.fault = lambda node, operation: "before" if operation == "beat" else None
    node = world.node().start()
    world.clock.run(most_s=120)
    assert any(log["event"] == "heartbeat-failed" for log in node.logs)
    world.send()
    serve(world)
    world.check()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("not json", "not JSON"),
        ("[1]", "object"),
        ("{}", "either 'prompt' or 'request'"),
        ('{"prompt": 5}', "prompt must be"),
        ('{"prompt": "x", "max_tokens": 0}', "max_tokens"),
        ('{"request": {"input": 1}}', "messages"),
        ('{"prompt": "x", "job_id": "../other"}', "job_id"),
        ('{"prompt": "x", "expires_at": "soon"}', "expires_at"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_poison_fails_once_with_its_reason_and_neighbours_complete(raw: str, reason: str) -> None:
    world = World()
    poison = world.send(raw=raw)
    world.send("fine")
    world.node().start()
    serve(world)
    world.check(failed=[poison])
    assert reason in world.job(poison)["reason"]
    assert reason in world.queue.dead[0].attributes["reason"]["StringValue"]
    assert world.queue.dead[0].body == raw


def test_a_request_the_model_refuses_fails_at_once() -> None:
    world = World()
    world.answers["too long"] = 400
    job = world.send("too long")
    world.node().start()
    serve(world, 60)
    world.check(failed=[job])
    assert "400" in world.job(job)["reason"]


@pytest.mark.parametrize("how", [500, 503, 429, "cut-short", "hangs"])
def test_three_breakdowns_under_one_job_fail_it(how: int | str) -> None:
    world = World(job_timeout_s=60)
    world.answers["bad"] = how
    bad = world.send("bad")
    world.send("good")
    node = world.node().start()
    serve(world)
    world.check(failed=[bad])
    assert world.job(bad)["failures"] == 3
    assert [log["event"] for log in node.logs].count("model-failed") == 2


def test_a_breakdown_that_passes_is_forgiven() -> None:
    world = World()
    tries = iter([500, 500, 20.0])
    world.answers["shaky"] = lambda node: next(tries)
    world.send("shaky")
    world.node().start()
    serve(world)
    world.check()
    assert world.job(world.accepted[0])["failures"] == 2


def test_the_job_that_kills_the_engine_dies_alone() -> None:
    """Its neighbours fall with it once; after that each suspect runs by itself."""
    world = World()
    world.answers["killer"] = "kills-engine"
    jobs = [world.send("killer" if place == 1 else f"fine {place}") for place in range(8)]
    world.node().start()
    world.node().start()
    serve(world)
    world.check(failed=[jobs[1]])
    assert max(world.job(job)["failures"] for job in jobs if job != jobs[1]) == 1


def test_a_server_that_does_not_listen_is_nobodys_failure() -> None:
    world = World()
    for _ in range(6):
        world.send()
    node = world.node().start()
    world.clock.run(lambda: node.most_running > 0, 60)
    node.engine_dies(down_s=900)
    serve(world)
    world.check()
    assert max(world.job(job)["failures"] for job in world.accepted) <= 1
    assert max(each.receives for each in world.queue.stored) <= 3


def test_expired_jobs_end_without_work() -> None:
    world = World()
    late = world.send("late", expires_at=world.clock.now - 1)
    fine = world.send("fine", expires_at=world.clock.now + 3600)
    node = world.node().start()
    serve(world)
    world.check(expired=[late])
    assert world.job(fine)["status"] == "completed"
    assert node.most_running == 1
    assert world.job(late)["bill"]["seconds"] == 0


def test_a_live_owner_keeps_its_job() -> None:
    world = World()
    world.put_row("job#taken", "job", status="running", owner="i-other", attempts=1, lease_until=world.clock.now + 100)
    world.send(job_id="taken")
    node = world.node().start()
    world.clock.run(most_s=60)
    assert node.most_running == 0
    assert world.job("taken")["owner"] == "i-other"
    serve(world)
    world.check()


def test_a_stored_result_is_adopted_not_generated_again() -> None:
    world = World()
    node = world.node()
    done = world.send()

    def fault(at: object, operation: str) -> str | None:
        # The store of statuses is gone from the moment the result is written, for ten minutes.
        results = "s3.put_object" in node.steps
        return "before" if results and operation == "dynamodb.update_item" and world.clock.now < limit else None

    limit = world.clock.now + 600
    world.fault = fault
    node.start()
    serve(world)
    world.check()
    assert node.steps.count("s3.put_object") == 1
    assert world.job(done)["bill"]["seconds"] == 20


def test_the_same_message_on_two_workers_gives_one_result_and_one_bill() -> None:
    world = World()
    world.queue.duplicate = lambda stored: stored.receives == 1
    world.send()
    world.node().start()
    world.node().start()
    serve(world)
    world.check()


def test_a_copy_and_a_redelivery_of_a_finished_job_are_deleted_quietly() -> None:
    world = World()
    world.send(job_id="once")
    world.queue.reappear = lambda stored: stored.receives == 1
    node = world.node().start()
    world.clock.run(lambda: world.job("once").get("status") == "completed", 120)
    world.send(job_id="once")
    serve(world)
    world.check()
    assert node.steps.count("s3.put_object") == 1


def test_ten_interruptions_and_more_never_dead_letter_a_healthy_job() -> None:
    world = World()
    world.answers["long"] = 100.0
    job = world.send("long")
    for _ in range(25):
        node = world.node().start()
        world.clock.run(lambda node=node: bool(node.running), 600)
        node.spot_at = world.clock.now + 20
        assert world.clock.run(node.done, 120)
    world.node().start()
    serve(world)
    world.check()
    assert world.job(job)["failures"] == 0
    assert len(world.queue.stored) > 2, "copies were sent"


def test_power_loss_over_and_over_never_dead_letters_a_healthy_job() -> None:
    world = World()
    job = world.send()
    for _ in range(25):
        node = world.node().start()
        world.clock.run(lambda node=node: bool(node.running), 900)
        node.kill()
    world.node().start()
    serve(world)
    world.check()
    assert world.job(job)["failures"] == 0


def test_queue_refusals_are_backed_off_and_survived() -> None:
    world = World()
    node = world.node()
    end = world.clock.now + 600
    world.fault = lambda at, operation: (
        "before" if operation == "sqs.receive_message" and world.clock.now < end else None
    )
    node.start()
    world.clock.run(most_s=590)
    assert 8 <= node.steps.count("sqs.receive_message") <= 20
    world.send()
    serve(world)
    world.check()


def test_stores_down_keep_the_messages_and_do_not_spin() -> None:
    world = World()
    jobs = [world.send() for _ in range(20)]
    end = world.clock.now + 900
    world.fault = lambda node, operation: (
        "before" if operation in ("dynamodb.update_item", "s3.put_object") and world.clock.now < end else None
    )
    node = world.node().start()
    world.clock.run(most_s=900)
    assert node.steps.count("sqs.receive_message") < 60
    serve(world)
    world.check()
    assert max(world.job(job)["failures"] for job in jobs) == 0


def test_delete_refused_for_long_leaves_a_finished_job_finished() -> None:
    world = World()
    world.send()
    end = world.clock.now + 300
    world.fault = lambda node, operation: (
        "before" if operation == "sqs.delete_message" and world.clock.now < end else None
    )
    node = world.node().start()
    serve(world)
    world.check()
    assert node.steps.count("s3.put_object") == 1
