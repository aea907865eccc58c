"""The keeper on a queue that keeps SQS's rules: old jobs get a new life, young ones are left as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_world import QUEUE
from fleet_control.aws import queue_keeper, runtime
from fleet_functions import Context, Functions

DAY = 86_400
LIMIT = 10


class Queue:
    """Messages with SQS's rules: hidden until a time, a new receipt for each receive, ten entries to a batch."""

    def __init__(self, functions: Functions) -> None:
        self.world = functions.world
        self.messages: dict[str, dict[str, Any]] = {}
        self.fail: set[tuple[str, str]] = set()
        self.sent = 0
        functions.environ["FLEET_CONTROL_CONFIG"] = json.dumps(
            {"stack": "dev", "queue_url": QUEUE, "resend_after_s": 5 * DAY, "max_receive_count": LIMIT}
        )
        self.limit, self.dead = LIMIT, list[str]()

    def add(self, body: str, age_days: float, attributes: dict[str, Any] | None = None) -> str:
        name = f"m-{self.sent}"
        self.sent += 1
        sent = self.world.at - age_days * DAY
        self.messages[name] = {"body": body, "sent": sent, "until": 0.0, "receives": 0, "attributes": attributes or {}}
        return name

    def receive_message(self, **request: Any) -> dict[str, Any]:
        self.world.at += 0.02
        found = []
        for name, one in list(self.messages.items()):
            if one["until"] <= self.world.at and one["receives"] >= self.limit:
                self.dead.append(self.messages.pop(name)["body"])
            elif one["until"] <= self.world.at and len(found) < request["MaxNumberOfMessages"]:
                one["until"], one["receives"] = self.world.at + request["VisibilityTimeout"], one["receives"] + 1
                row = {"MessageId": name, "ReceiptHandle": f"{name}/{one['receives']}", "Body": one["body"]}
                row["Attributes"] = {"SentTimestamp": str(int(one["sent"] * 1000))}
                row["Attributes"]["ApproximateReceiveCount"] = str(one["receives"])
                row |= {"MessageAttributes": one["attributes"]} if one["attributes"] else {}
                found.append(row)
        return {"Messages": found} if found else {}

    def _batch(self, step: str, entries: list[dict[str, Any]], apply: Any, name_of: Any) -> dict[str, Any]:
        assert 1 <= len(entries) <= 10
        assert len({one["Id"] for one in entries}) == len(entries)
        done: dict[str, Any] = {"Successful": [], "Failed": []}
        for one in entries:
            if (step, name_of(one)) in self.fail:
                done["Failed"].append({"Id": one["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                apply(one)
                done["Successful"].append({"Id": one["Id"]})
        return done

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        def send(one: dict[str, Any]) -> None:
            self.add(one["MessageBody"], 0, one["MessageAttributes"])

        return self._batch("send", Entries, send, lambda one: one["MessageBody"])

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        def delete(one: dict[str, Any]) -> None:
            del self.messages[one["ReceiptHandle"].split("/")[0]]

        return self._batch("delete", Entries, delete, lambda one: one["ReceiptHandle"].split("/")[0])

    def change_message_visibility_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        def change(one: dict[str, Any]) -> None:
            name, receives = one["ReceiptHandle"].split("/")
            if self.messages[name]["receives"] == int(receives):
                self.messages[name]["until"] = self.world.at + one["VisibilityTimeout"]

        return self._batch("release", Entries, change, lambda one: one["ReceiptHandle"].split("/")[0])


@pytest.fixture
def queue(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Queue:
    one = Queue(functions)
    monkeypatch.setattr(runtime, "client", lambda service: one)
    return one


def run(queue: Queue, seconds: float = 300) -> str:
    return queue_keeper.handler({}, Context(queue.world, seconds))["body"]


def test_old_messages_are_sent_anew_with_their_job_id_and_young_ones_released(queue: Queue) -> None:
    old = queue.add('{"prompt": "a"}', 5.1)
    named = queue.add('{"prompt": "b", "job_id": "mine"}', 9)
    copied = queue.add('{"prompt": "c"}', 6, {"job_id": {"DataType": "String", "StringValue": "first"}})
    young = [queue.add(f'{{"prompt": "{n}"}}', 4.9) for n in range(25)]
    assert run(queue) == "3 sent anew, 28 released"
    assert not {old, named, copied} & set(queue.messages)
    copies = {one["body"]: one for name, one in queue.messages.items() if name not in young}
    assert copies['{"prompt": "a"}']["attributes"]["job_id"]["StringValue"] == old
    assert copies['{"prompt": "b", "job_id": "mine"}']["attributes"]["job_id"]["StringValue"] == "mine"
    assert copies['{"prompt": "c"}']["attributes"]["job_id"]["StringValue"] == "first"
    assert all(one["sent"] >= queue.world.at - 10 for one in copies.values()), "a new retention"
    assert all(one["until"] <= queue.world.at for one in queue.messages.values()), "nothing stays hidden"
    assert {queue.messages[name]["receives"] for name in young} == {1}


def test_nine_daily_passes_stay_below_the_receive_limit(queue: Queue) -> None:
    queue.add('{"prompt": "a", "job_id": "j"}', 0)
    for _ in range(31):
        run(queue)
        assert max(one["receives"] for one in queue.messages.values()) < 10
        queue.world.at += DAY
        assert len(queue.messages) == 1, "a month of stop, and the job is still there once"
        assert min(one["sent"] for one in queue.messages.values()) > queue.world.at - 10 * DAY


@pytest.mark.parametrize(("limit", "passes_a_day"), [(10, 3), (3, 1)])
def test_waiting_makes_no_dead_letter_whatever_the_limit_and_the_retries(
    functions: Functions, queue: Queue, limit: int, passes_a_day: int
) -> None:
    """A pass that fails on one message is retried by Lambda: three passes a day cost every message three receives."""
    queue.limit = limit
    config = json.loads(functions.environ["FLEET_CONTROL_CONFIG"]) | {"max_receive_count": limit}
    functions.environ["FLEET_CONTROL_CONFIG"] = json.dumps(config)
    queue.add('{"prompt": "a", "job_id": "j"}', 0)
    for _ in range(9 * passes_a_day):
        run(queue)
        queue.world.at += DAY / passes_a_day
    assert (queue.dead, len(queue.messages)) == ([], 1)


def test_a_copy_that_is_not_accepted_leaves_the_original(queue: Queue) -> None:
    names = [queue.add(f"{n}", 6) for n in range(3)]
    queue.fail = {("send", "1")}
    with pytest.raises(RuntimeError, match=r"2 sent anew, .* 1 faults, the first: send m-1"):
        run(queue)
    assert names[1] in queue.messages
    assert queue.messages[names[1]]["until"] <= queue.world.at


def test_a_delete_that_fails_leaves_two_messages_of_one_job(queue: Queue) -> None:
    name = queue.add('{"prompt": "a"}', 6)
    queue.fail = {("delete", name)}
    with pytest.raises(RuntimeError, match="delete m-0"):
        run(queue)
    copy = next(one for other, one in queue.messages.items() if other != name)
    assert copy["attributes"]["job_id"]["StringValue"] == name, "the workers settle it by the job id"


def test_a_pass_ends_in_time_to_release_what_it_holds(queue: Queue) -> None:
    for n in range(200):
        queue.add(f"{n}", 1)
    began = queue.world.at
    run(queue, seconds=60.1)
    assert queue.world.at - began < 60
    assert all(one["until"] <= queue.world.at for one in queue.messages.values())


def test_a_body_that_is_no_json_keeps_its_message_id(queue: Queue) -> None:
    name = queue.add("hello", 6)
    run(queue)
    assert next(iter(queue.messages.values()))["attributes"]["job_id"]["StringValue"] == name
