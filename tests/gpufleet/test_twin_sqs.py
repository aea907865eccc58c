"""The queue does what SQS does, also where that surprises: what a worker gets wrong shows here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_services import ACCOUNT, START, ServicesAccount, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError
from gpufleet.twin.services.sqs import SqsModel

HOUR = 3600.0


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        account = ServicesAccount(cloud)
        account.services.sqs.counter_lag_s = 0.0
        yield account


def counts(account: ServicesAccount, url: str) -> tuple[int, int, int]:
    """(visible, in flight, delayed)"""
    found = account.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    names = ("", "NotVisible", "Delayed")
    return tuple(int(found[f"ApproximateNumberOfMessages{name}"]) for name in names)  # type: ignore[return-value]


def receive(account: ServicesAccount, url: str, **params: Any) -> dict[str, Any]:
    found = account.sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"], **params)["Messages"]
    assert len(found) == 1
    return found[0]


# -- queues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ({"MessageRetentionPeriod": "59"}, "InvalidAttributeValue"),
        ({"MessageRetentionPeriod": "1209601"}, "InvalidAttributeValue"),
        ({"DelaySeconds": "901"}, "InvalidAttributeValue"),
        ({"ReceiveMessageWaitTimeSeconds": "21"}, "InvalidAttributeValue"),
        ({"MaximumMessageSize": "1048577"}, "InvalidAttributeValue"),
        ({"VisibilityTimeout": "soon"}, "InvalidAttributeValue"),
        ({"SqsManagedSseEnabled": "true", "KmsMasterKeyId": "alias/x"}, "InvalidAttributeValue"),
        ({"Colour": "red"}, "InvalidAttributeName"),
        ({"Policy": "{"}, "InvalidAttributeValue"),
        ({"Policy": '{"Statement": [{"Effect": "Allow"}]}'}, "InvalidAttributeValue"),
        ({"RedrivePolicy": '{"maxReceiveCount": 3}'}, "InvalidAttributeValue"),
        ({"RedrivePolicy": '{"deadLetterTargetArn": "arn:x", "maxReceiveCount": 0}'}, "InvalidAttributeValue"),
        ({"RedrivePolicy": '{"deadLetterTargetArn": "arn:x", "maxReceiveCount": 5}'}, "InvalidParameterValue"),
        ({"RedriveAllowPolicy": '{"redrivePermission": "some"}'}, "InvalidAttributeValue"),
        ({"RedriveAllowPolicy": '{"redrivePermission": "byQueue"}'}, "InvalidAttributeValue"),
    ],
)  # fmt: skip
def test_attributes_sqs_refuses(account: ServicesAccount, attributes: dict[str, str], code: str) -> None:
    with refused(code):
        account.queue("jobs", **attributes)
    assert account.sqs.list_queues().get("QueueUrls", []) == []


def test_fifo_is_refused_by_name(account: ServicesAccount) -> None:
    with pytest.raises(NotModelledError, match="FIFO"):
        account.queue("jobs.fifo", FifoQueue="true")


def test_every_attribute_and_tag_reads_back(account: ServicesAccount) -> None:
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"
    wanted = {
        "VisibilityTimeout": "120", "MessageRetentionPeriod": "864000", "DelaySeconds": "3",
        "MaximumMessageSize": "2048", "ReceiveMessageWaitTimeSeconds": "20", "SqsManagedSseEnabled": "true",
        "RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn]}),
    }  # fmt: skip
    made = account.sqs.create_queue(QueueName="dlq", Attributes=wanted, tags={"stack": "dev"})["QueueUrl"]
    found = account.sqs.get_queue_attributes(QueueUrl=made, AttributeNames=["All"])["Attributes"]
    assert wanted.items() <= found.items()
    assert account.sqs.list_queue_tags(QueueUrl=made)["Tags"] == {"stack": "dev"}
    account.sqs.set_queue_attributes(QueueUrl=made, Attributes={"RedriveAllowPolicy": "", "VisibilityTimeout": "60"})
    found = account.sqs.get_queue_attributes(QueueUrl=made, AttributeNames=["All"])["Attributes"]
    assert "RedriveAllowPolicy" not in found
    assert found["VisibilityTimeout"] == "60"


def test_the_same_name_with_other_attributes_is_refused(account: ServicesAccount) -> None:
    url = account.queue("jobs", VisibilityTimeout="60")
    assert account.queue("jobs", VisibilityTimeout="60") == url
    with refused("QueueAlreadyExists", "VisibilityTimeout"):
        account.queue("jobs", VisibilityTimeout="61")


def test_a_queue_that_is_not_there_has_its_own_exception(account: ServicesAccount) -> None:
    with pytest.raises(account.sqs.exceptions.QueueDoesNotExist) as caught:
        account.sqs.get_queue_url(QueueName="nothing")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_dead_letter_queue_may_refuse_its_sources(account: ServicesAccount) -> None:
    account.queue("dlq", RedriveAllowPolicy='{"redrivePermission": "denyAll"}')
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dlq", "maxReceiveCount": 5}
    with refused("InvalidParameterValue", "RedriveAllowPolicy"):
        account.queue("jobs", RedrivePolicy=json.dumps(redrive))


def test_purge_is_guarded_for_a_minute(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    account.sqs.purge_queue(QueueUrl=url)
    assert counts(account, url) == (0, 0, 0)
    with refused("AWS.SimpleQueueService.PurgeQueueInProgress"):
        account.sqs.purge_queue(QueueUrl=url)
    account.clock.run_for(60)
    account.sqs.purge_queue(QueueUrl=url)


# -- messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"MessageBody": "x" * 1025}, "InvalidParameterValue"),
        ({"MessageBody": "x" * 1000, "MessageAttributes": {"k": {"DataType": "String", "StringValue": "v" * 50}}},
         "InvalidParameterValue"),
        ({"MessageBody": "\x0b"}, "InvalidMessageContents"),
        ({"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageDeduplicationId": "1"}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"AWS.x": {"DataType": "String", "StringValue": "v"}}},
         "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageAttributes": {"k": {"DataType": "Text", "StringValue": "v"}}},
         "InvalidParameterValue"),
    ],
)  # fmt: skip
def test_messages_sqs_refuses(account: ServicesAccount, message: dict[str, Any], code: str) -> None:
    url = account.queue("jobs", MaximumMessageSize="1024")
    with refused(code):
        account.sqs.send_message(QueueUrl=url, **message)


def test_a_message_carries_its_attributes_digests_and_counts(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    attributes = {"job_id": {"DataType": "String", "StringValue": "j-1"}}
    sent = account.sqs.send_message(QueueUrl=url, MessageBody="hello", MessageAttributes=attributes)
    assert sent["MD5OfMessageBody"] == "5d41402abc4b2a76b9719d911017c592"
    account.clock.run_for(5)
    assert "MessageAttributes" not in receive(account, url)  # attributes come only when asked for
    account.clock.run_for(31)
    got = receive(account, url, MessageAttributeNames=["All"])
    assert got["MessageAttributes"] == attributes
    assert got["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert got["Attributes"]["ApproximateReceiveCount"] == "2"
    assert got["Attributes"]["SentTimestamp"] == str(int(START * 1000))
    assert got["Attributes"]["ApproximateFirstReceiveTimestamp"] == str(int((START + 5) * 1000))


def test_a_hidden_message_comes_back_and_the_old_handle_deletes_nothing(account: ServicesAccount) -> None:
    url = account.queue("jobs", VisibilityTimeout="30")
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    first = receive(account, url)
    assert counts(account, url) == (0, 1, 0)
    account.clock.run_for(30)
    second = receive(account, url)
    account.sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])  # 200, and the message stays
    assert counts(account, url) == (0, 1, 0)
    with pytest.raises(account.sqs.exceptions.MessageNotInflight):
        account.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=9)
    account.sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    account.sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])  # deleting twice succeeds
    assert counts(account, url) == (0, 0, 0)
    with refused("InvalidParameterValue", "does not exist"):
        account.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=9)
    with refused("ReceiptHandleIsInvalid"):
        account.sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")


def test_visibility_extends_from_now_is_capped_at_12_hours_and_0_releases(account: ServicesAccount) -> None:
    url = account.queue("jobs", VisibilityTimeout="30")
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    handle = receive(account, url)["ReceiptHandle"]
    for _ in range(3):
        account.clock.run_for(25)
        account.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=30)
    assert counts(account, url) == (0, 1, 0)
    with refused("InvalidParameterValue", "43200"):
        account.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=43_200 - 74)
    account.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert receive(account, url)["Attributes"]["ApproximateReceiveCount"] == "2"  # a release costs a receive


def test_the_receive_after_the_last_allowed_one_moves_it_to_the_dead_letters_with_its_age(
    account: ServicesAccount,
) -> None:
    dead = account.queue("dlq", MessageRetentionPeriod="200")
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dlq", "maxReceiveCount": 2}
    url = account.queue("jobs", VisibilityTimeout="10", RedrivePolicy=json.dumps(redrive))
    sent = account.sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        receive(account, url)
        account.clock.run_for(10)
    assert "Messages" not in account.sqs.receive_message(QueueUrl=url)
    assert counts(account, dead) == (1, 0, 0)
    got = receive(account, dead)
    assert got["MessageId"] == sent["MessageId"]
    assert got["Attributes"]["SentTimestamp"] == str(int(START * 1000))
    account.clock.run_for(200 - 20)  # the retention of the dead-letter queue counts from the first sending
    assert counts(account, dead) == (0, 0, 0)


def test_retention_expires_messages_even_in_flight_and_is_heard(account: ServicesAccount) -> None:
    lost: list[str] = []
    account.services.sqs.observers.on_expire.append(lambda name, message: lost.append(f"{name} {message.body}"))
    url = account.queue("jobs", MessageRetentionPeriod="60", VisibilityTimeout="300")
    account.sqs.send_message(QueueUrl=url, MessageBody="a")
    receive(account, url)
    account.clock.run_for(61)
    assert counts(account, url) == (0, 0, 0)
    assert lost == ["jobs a"]


def test_a_delayed_message_is_counted_as_delayed(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    account.sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=60)
    assert counts(account, url) == (0, 0, 1)
    account.clock.run_for(60)
    assert counts(account, url) == (1, 0, 0)


def test_counts_lag_but_are_never_negative(account: ServicesAccount) -> None:
    account.services.sqs.counter_lag_s = 5.0
    url = account.queue("jobs")
    seen: Counter[int] = Counter()
    for _ in range(200):
        account.clock.run_for(1)
        account.sqs.send_message(QueueUrl=url, MessageBody="x")
        visible, in_flight, delayed = counts(account, url)
        assert visible >= 0
        assert (in_flight, delayed) == (0, 0)
        seen[account.services.sqs.named("jobs").queue.counts()[0] - visible] += 1
    assert {1, 2, 3, 4} <= set(seen)
    assert max(seen) <= 7
    account.clock.run_for(10)
    assert counts(account, url)[0] == 200


# -- long polls -----------------------------------------------------------------------------------------------


def test_a_long_poll_ends_when_a_message_comes_or_when_its_wait_is_over(account: ServicesAccount) -> None:
    url, seen = account.queue("jobs"), []

    def poll() -> None:
        for _ in range(2):
            got = account.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", [])
            seen.append((account.clock.now() - START, len(got)))

    account.clock.spawn("poll", poll)
    account.clock.after(7, lambda: account.sqs.send_message(QueueUrl=url, MessageBody="x"))
    account.clock.run_for(100)
    assert seen == [(7, 1), (27, 0)]


def test_a_long_poll_sees_a_message_whose_hiding_ends(account: ServicesAccount) -> None:
    url, seen = account.queue("jobs", VisibilityTimeout="12"), []
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    receive(account, url)

    def poll() -> None:
        seen.append(len(account.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", [])))
        seen.append(account.clock.now() - START)

    account.clock.spawn("poll", poll)
    account.clock.run_for(30)
    assert seen == [1, 12]


def test_ten_messages_wake_ten_polls_at_once(account: ServicesAccount) -> None:
    url, seen = account.queue("jobs"), []

    def poll() -> None:
        got = account.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
        seen.append((account.clock.now() - START, got[0]["Body"]))

    for index in range(10):
        account.clock.spawn(f"poll {index}", poll)
    entries = [{"Id": str(i), "MessageBody": str(i)} for i in range(10)]
    account.clock.after(3, lambda: account.sqs.send_message_batch(QueueUrl=url, Entries=entries))
    account.clock.run_for(60)
    assert {at for at, _ in seen} == {3}
    assert sorted(body for _, body in seen) == [str(i) for i in range(10)]


def test_a_dead_client_s_poll_may_still_swallow_a_message_until_its_visibility_ends(account: ServicesAccount) -> None:
    account.services.sqs.orphan_probability = 1.0
    url = account.queue("jobs", VisibilityTimeout="40")
    process = account.clock.spawn("poll", lambda: account.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
    account.clock.run_for(2)
    process.kill()
    account.clock.run_for(1)
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    account.clock.run_for(1)
    assert counts(account, url) == (0, 1, 0)
    account.clock.run_for(40)
    assert counts(account, url) == (1, 0, 0)


def test_a_message_is_not_lost_on_the_waiter_that_dies_as_it_is_called(account: ServicesAccount) -> None:
    url, got = account.queue("jobs"), []

    def poll() -> None:
        got.append(account.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", []))

    processes = [account.clock.spawn(f"poll {i}", poll) for i in range(2)]
    account.clock.run_for(1)
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    queue = account.services.sqs.named("jobs").queue
    called = [p for p in processes if p not in [w for e in queue._waiters for w in e._waiters]]
    called[0].kill()
    account.clock.run_for(1)
    assert [len(messages) for messages in got] == [1]


# -- batches --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([str(i) for i in range(11)], "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"),
        (["a", "a"], "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        ([], "AWS.SimpleQueueService.EmptyBatchRequest"),
        (["a b"], "AWS.SimpleQueueService.InvalidBatchEntryId"),
    ],
)
def test_batches_sqs_refuses_whole(account: ServicesAccount, ids: list[str], code: str) -> None:
    url = account.queue("jobs")
    with refused(code):
        account.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": i, "MessageBody": "x"} for i in ids])
    with refused(code):
        account.sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": i, "ReceiptHandle": "x"} for i in ids])
    assert counts(account, url) == (0, 0, 0)


def test_a_batch_is_limited_to_a_mebibyte(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    with refused("AWS.SimpleQueueService.BatchRequestTooLong"):
        entries = [{"Id": str(i), "MessageBody": "x" * 300_000} for i in range(4)]
        account.sqs.send_message_batch(QueueUrl=url, Entries=entries)


def test_an_entry_that_fails_is_listed_and_the_others_go_through(account: ServicesAccount) -> None:
    url = account.queue("jobs", MaximumMessageSize="1024")
    entries = [{"Id": "good", "MessageBody": "x"}, {"Id": "big", "MessageBody": "x" * 2000}]
    answer = account.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(e["Id"], e["SenderFault"], e["Code"]) for e in answer["Failed"]] == [
        ("big", True, "InvalidParameterValue")
    ]
    account.services.sqs.batch_failure_probability = 1.0
    failed = account.sqs.send_message_batch(QueueUrl=url, Entries=entries[:1])["Failed"]
    assert [(e["Code"], e["SenderFault"]) for e in failed] == [("InternalError", False)]


# -- what standard queues do not promise ----------------------------------------------------------------------


def test_order_is_mostly_but_not_strictly_first_in_first_out(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    for index in range(200):
        account.sqs.send_message(QueueUrl=url, MessageBody=str(index))
    order = [int(body) for body in account.bodies(url)]
    assert sorted(order) == list(range(200))
    assert order != sorted(order)
    assert max(abs(place - index) for place, index in enumerate(order)) <= 16


def test_a_message_can_be_delivered_twice_at_once_and_come_back_after_its_deletion(account: ServicesAccount) -> None:
    account.services.sqs.duplicate_probability = 1.0
    url = account.queue("jobs", VisibilityTimeout="300")
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    first, second = receive(account, url), receive(account, url)
    assert first["MessageId"] == second["MessageId"]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]
    account.services.sqs.duplicate_probability = 0.0
    account.services.sqs.reappear_probability = 1.0
    account.sqs.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    assert counts(account, url)[0] == 0
    account.clock.run_for(31)
    assert receive(account, url)["MessageId"] == first["MessageId"]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "receive", "delete", "release", "extend", "wait"]), st.integers(0, 40)),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_message_is_always_in_exactly_one_place(steps: list[tuple[str, int]]) -> None:
    with Cloud(START) as cloud:
        model = SqsModel(cloud)
        model.counter_lag_s = 0
        redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dlq", "maxReceiveCount": 3}
        dead = model.call("CreateQueue", {"QueueName": "dlq"}, "operator")["QueueUrl"]
        attributes = {"VisibilityTimeout": "20", "RedrivePolicy": json.dumps(redrive)}
        url = model.call("CreateQueue", {"QueueName": "jobs", "Attributes": attributes}, "operator")["QueueUrl"]
        sent = deleted = 0
        held: list[str] = []
        for step, number in steps:
            if step == "send":
                model.call("SendMessage", {"QueueUrl": url, "MessageBody": "x", "DelaySeconds": number % 3}, "operator")
                sent += 1
            elif step == "receive":
                answer = model.call("ReceiveMessage", {"QueueUrl": url, "MaxNumberOfMessages": 3}, "operator")
                held += [m["ReceiptHandle"] for m in answer.get("Messages", [])]
            elif step == "wait":
                cloud.clock.run_for(number)
            elif held:
                handle = held[number % len(held)]
                before = len(model.named("jobs").queue.messages)
                with suppress(AwsError):  # a stale handle
                    if step == "delete":
                        model.call("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": handle}, "operator")
                    else:
                        timeout = 0 if step == "release" else 30
                        params = {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": timeout}
                        model.call("ChangeMessageVisibility", params, "operator")
                if step == "delete":
                    deleted += before - len(model.named("jobs").queue.messages)
            here, there = model.named("jobs").queue, model.named("dlq").queue
            assert sum(here.counts()) == len(here.messages)
            assert sum(there.counts()) == len(there.messages)
            assert sent == deleted + len(here.messages) + len(there.messages)
            assert min(here.counts()) >= 0
        assert dead


# -- policy and metrics ---------------------------------------------------------------------------------------


def test_a_queue_policy_can_deny_a_role_that_its_own_policies_allow(account: ServicesAccount) -> None:
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"
    url = account.queue("jobs")
    account.role("worker", {"Effect": "Allow", "Action": "sqs:*", "Resource": arn})
    worker = account.cloud.client("sqs", "worker")
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn}
    insecure = {**statement, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    account.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [insecure]})})
    worker.send_message(QueueUrl=url, MessageBody="x")  # calls are made over TLS
    account.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [statement]})})
    with refused("AccessDenied"):
        worker.send_message(QueueUrl=url, MessageBody="x")


def test_metrics_stop_for_an_inactive_queue_and_return_late(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    watch = account.services.cloudwatch

    def newest() -> float:
        points = watch.store.series[("AWS/SQS", "ApproximateNumberOfMessagesVisible", (("QueueName", "jobs"),))]
        return max(points) * 60.0

    account.clock.run_for(5 * HOUR)
    assert account.clock.now() - newest() <= 60
    account.clock.run_for(5 * HOUR)  # nobody touched the queue: inactive six hours after the last action
    last = newest()
    assert 3.9 * HOUR <= account.clock.now() - last <= 4.1 * HOUR
    account.sqs.send_message(QueueUrl=url, MessageBody="x")
    account.clock.run_for(16 * 60)
    assert newest() > last
    assert watch.latest("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "jobs"}) == 1
    assert watch.latest("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", {"QueueName": "jobs"}) is None


def test_the_age_of_the_oldest_message_is_blind_to_poison(account: ServicesAccount) -> None:
    url = account.queue("jobs", VisibilityTimeout="0")
    account.sqs.send_message(QueueUrl=url, MessageBody="poison")
    account.clock.run_for(100)
    account.sqs.send_message(QueueUrl=url, MessageBody="healthy", DelaySeconds=900)
    queue = account.services.sqs.named("jobs").queue
    assert queue.oldest_age() == 100
    for _ in range(3):
        receive(account, url)
    account.clock.run_for(5)
    assert queue.oldest_age() == 5


def test_one_receive_never_holds_a_message_twice(account: ServicesAccount) -> None:
    url = account.sqs.create_queue(QueueName="peek")["QueueUrl"]
    account.sqs.send_message(QueueUrl=url, MessageBody="only one")
    answer = account.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    assert len(answer["Messages"]) == 1
    assert counts(account, url) == (1, 0, 0)


def test_a_wrong_parameter_never_reaches_the_model(account: ServicesAccount) -> None:
    """Calls of this service are answered before botocore has built a request: its checks must still be made."""
    sqs, calls = account.cloud.client("sqs"), len(account.cloud.calls)
    for wrong in ({}, {"QueueUrl": 7}, {"QueueUrl": "q", "Maximum": 1}):
        with pytest.raises(ParamValidationError):
            sqs.receive_message(**wrong)
    assert len(account.cloud.calls) == calls
