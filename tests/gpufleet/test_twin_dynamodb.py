"""The short way to moto's engine answers as the long one does, and expired rows go late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.dynamodb.models.utilities import dynamo_to_dict
from twin_services import START, ServicesAccount, allow, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError
from gpufleet.twin.services import dynamodb_reads

KEYS = ("pk", "sk")


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        account = ServicesAccount(cloud)
        make_table(cloud, "jobs")
        yield account


def make_table(cloud: Cloud, name: str) -> None:
    cloud.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(KEYS, ("HASH", "RANGE"), strict=True)],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in KEYS],
    )


def row(pk: str, sk: str, **numbers: float) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}, **{k: {"N": str(v)} for k, v in numbers.items()}}


def test_the_calls_of_functions_and_workers(account: ServicesAccount) -> None:
    db = account.cloud.client("dynamodb")
    for index in range(30):
        db.put_item(TableName="jobs", Item=row(f"fleet#{index % 3}", f"instance#{index:02}", at=index))
    key = row("fleet#0", "instance#03")
    assert db.get_item(TableName="jobs", Key=key, ConsistentRead=True)["Item"]["at"] == {"N": "3"}
    found = db.query(
        TableName="jobs", KeyConditionExpression="pk = :p AND begins_with(sk, :s)",
        ExpressionAttributeValues={":p": {"S": "fleet#0"}, ":s": {"S": "instance#0"}},
    )  # fmt: skip
    assert [item["sk"]["S"] for item in found["Items"]] == ["instance#00", "instance#03", "instance#06", "instance#09"]
    updated = db.update_item(
        TableName="jobs", Key=key, UpdateExpression="SET fence = if_not_exists(fence, :zero) + :one",
        ExpressionAttributeValues={":zero": {"N": "0"}, ":one": {"N": "1"}}, ReturnValues="ALL_NEW",
    )  # fmt: skip
    assert updated["Attributes"]["fence"] == {"N": "1"}
    got = db.batch_get_item(RequestItems={"jobs": {"Keys": [key, row("fleet#1", "none")]}})["Responses"]["jobs"]
    assert [item["sk"]["S"] for item in got] == ["instance#03"]
    old = db.delete_item(TableName="jobs", Key=key, ReturnValues="ALL_OLD")["Attributes"]
    assert old["fence"] == {"N": "1"}
    assert "Item" not in db.get_item(TableName="jobs", Key=key)


def test_a_failed_condition_has_its_exception_and_shows_the_old_row(account: ServicesAccount) -> None:
    db = account.cloud.client("dynamodb")
    db.put_item(TableName="jobs", Item=row("job#1", "job", lease=5))
    with pytest.raises(db.exceptions.ConditionalCheckFailedException) as caught:
        db.put_item(
            TableName="jobs", Item=row("job#1", "job"), ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )  # fmt: skip
    assert caught.value.response["Item"]["lease"] == {"N": "5"}


def test_a_transaction_is_all_or_nothing_and_says_which_condition_failed(account: ServicesAccount) -> None:
    db = account.cloud.client("dynamodb")
    db.put_item(TableName="jobs", Item=row("latch", "x", generation=1))
    touch = {
        "TableName": "jobs", "Key": row("latch", "x"), "UpdateExpression": "SET generation = generation + :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }  # fmt: skip
    new = {"TableName": "jobs", "Item": row("job#2", "job"), "ConditionExpression": "attribute_not_exists(pk)"}
    taken = {**new, "Item": row("latch", "x")}
    with pytest.raises(db.exceptions.TransactionCanceledException) as caught:
        db.transact_write_items(TransactItems=[{"Put": new}, {"Put": taken}])
    codes = [reason["Code"] for reason in caught.value.response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert "Item" not in db.get_item(TableName="jobs", Key=row("job#2", "job"))
    db.put_item(TableName="jobs", Item=row("job#3", "job"))
    third = {**new, "Item": row("job#3", "job")}
    with pytest.raises(db.exceptions.TransactionCanceledException):
        db.transact_write_items(TransactItems=[{"Update": touch}, {"Put": third}])
    assert db.get_item(TableName="jobs", Key=row("latch", "x"))["Item"]["generation"] == {"N": "1"}
    db.transact_write_items(TransactItems=[{"Update": touch}, {"Put": new}])
    assert db.get_item(TableName="jobs", Key=row("latch", "x"))["Item"]["generation"] == {"N": "2"}


def test_refusals_carry_dynamodb_s_codes(account: ServicesAccount) -> None:
    db = account.cloud.client("dynamodb")
    with refused("ResourceNotFoundException"):
        db.get_item(TableName="other", Key=row("a", "b"))
    with refused("ValidationException", "unused in expressions"):
        values = {":a": {"N": "1"}, ":b": {"N": "2"}}
        db.update_item(
            TableName="jobs", Key=row("a", "b"), UpdateExpression="SET x = :a", ExpressionAttributeValues=values
        )
    account.role("reader", allow("dynamodb:GetItem"))
    reader = account.cloud.client("dynamodb", "reader")
    reader.get_item(TableName="jobs", Key=row("a", "b"))
    with refused("AccessDeniedException", "dynamodb:PutItem"):
        reader.put_item(TableName="jobs", Item=row("a", "b"))


def test_expired_rows_go_late_and_only_where_time_to_live_is_on(account: ServicesAccount) -> None:
    make_table(account.cloud, "kept")
    db = account.cloud.client("dynamodb")
    db.update_time_to_live(TableName="jobs", TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    for table in ("jobs", "kept"):
        db.put_item(TableName=table, Item=row("old", "x", expires=START + 60))
        db.put_item(TableName=table, Item=row("young", "x", expires=START + 10 * 86_400))
        db.put_item(TableName=table, Item=row("ancient", "x", expires=START - 6 * 365 * 86_400))
    account.clock.run_for(3600)
    assert "Item" in db.get_item(TableName="jobs", Key=row("old", "x"))  # expired, and still there
    account.clock.run_for(48 * 3600)
    assert "Item" not in db.get_item(TableName="jobs", Key=row("old", "x"))
    assert "Item" in db.get_item(TableName="jobs", Key=row("young", "x"))
    assert "Item" in db.get_item(TableName="jobs", Key=row("ancient", "x"))
    assert "Item" in db.get_item(TableName="kept", Key=row("old", "x"))


ATTRIBUTES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.integers(-9, 9).map(lambda n: {"N": str(n)}), st.sampled_from([{"S": "x"}, {"BOOL": True}]))
UPDATES = st.sampled_from([
    "SET a = :x", "SET a = :x, b = :y", "SET a = b + :y", "SET a = if_not_exists(c, :x) + :y", "SET #n = a - :y",
    "ADD a :y", "REMOVE a, c", "SET a = :x REMOVE b ADD c :y", "SET a = :x, a = :y", "SET pk = :x", "SET a = b",
])  # fmt: skip
CONDITIONS = st.sampled_from([None, "attribute_exists(a)", "a = :x", "attribute_not_exists(b) OR b > :y", "c <> :x"])


@given(st.lists(st.tuples(UPDATES, CONDITIONS, VALUES, VALUES, st.integers(0, 1)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_short_way_of_an_update_answers_as_moto_does(account: ServicesAccount, steps: list[Any]) -> None:
    model = account.services.dynamodb
    names = {"quick": "jobs", "plain": "plain"}
    if "plain" not in model._tables:
        make_table(account.cloud, "plain")
    for table in names.values():
        for sk in ("0", "1"):
            model.call("DeleteItem", {"TableName": table, "Key": row("r", sk)}, "operator")
    for update, condition, x, y, sk in steps:
        seen = []
        for table in names.values():
            text = update + (condition or "")
            values = {k: v for k, v in ((":x", x), (":y", y)) if k in text}
            params = {
                "TableName": table,
                "Key": row("r", str(sk)),
                "UpdateExpression": update,
                "ReturnValues": "ALL_NEW",
            }
            params |= {"ConditionExpression": condition} if condition else {}
            params |= {"ExpressionAttributeValues": values} if values else {}
            params |= {"ExpressionAttributeNames": {"#n": "a"}} if "#n" in update else {}
            if table == "plain":
                model._accepted.clear()  # always the long way
            try:
                seen.append(model.call("UpdateItem", params, "operator"))
            except (AwsError, NotModelledError) as error:
                seen.append(str(error))
        assert seen[0] == seen[1]


def test_moto_judges_only_the_first_update_of_a_shape(
    account: ServicesAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = account.services.dynamodb, []
    db = account.cloud.client("dynamodb")
    db.put_item(TableName="jobs", Item=row("r", "0"))
    judge = model._handler.update_item
    monkeypatch.setattr(model._handler, "update_item", lambda: (asked.append(1), judge())[1])
    for number in range(5):
        values = {":x": {"N": str(number)}}
        db.update_item(
            TableName="jobs", Key=row("r", "0"), UpdateExpression="SET a = :x", ExpressionAttributeValues=values
        )
    assert len(asked) == 1
    assert db.get_item(TableName="jobs", Key=row("r", "0"))["Item"]["a"] == {"N": "4"}


def other_rows() -> list[dict[str, Any]]:
    more = {"more": {"M": {"list": {"L": [{"N": "1"}, {"S": "x"}, {"NULL": True}]}}}, "flag": {"BOOL": True}}
    return [{**row("p", str(number), at=number), **more} for number in (7, 3, 12)] + [row("q", "1")]


def batch(*keys: dict[str, Any], table: str = "jobs", **more: Any) -> dict[str, Any]:
    return {"RequestItems": {table: {"Keys": list(keys), **more}}}


PARTITION = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "p"}}}
READS = {
    "a partition": ("Query", {"TableName": "jobs", **PARTITION, "ConsistentRead": True}),
    "none": ("Query", {"TableName": "jobs", **PARTITION, "ExpressionAttributeValues": {":p": {"S": "z"}}}),
    "not by the key": ("Query", {"TableName": "jobs", **PARTITION, "KeyConditionExpression": "sk = :p"}),
    "backwards": ("Query", {"TableName": "jobs", **PARTITION, "ScanIndexForward": False}),
    "a page": ("Query", {"TableName": "jobs", **PARTITION, "Limit": 2}),
    "too much for a page": ("Query", {"TableName": "large", **PARTITION}),
    "a few rows": ("BatchGetItem", batch(row("p", "12"), row("z", "0"), row("p", "3"))),
    "one twice": ("BatchGetItem", batch(row("p", "12"), row("p", "12"))),
    "half a key": ("BatchGetItem", batch({"pk": {"S": "p"}})),
    "no such table": ("BatchGetItem", batch(row("p", "12"), table="other")),
    "some attributes": ("BatchGetItem", batch(row("p", "12"), ProjectionExpression="sk")),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "params"), READS.values(), ids=READS)
def test_the_short_way_of_a_read_answers_as_moto_does(
    account: ServicesAccount, monkeypatch: pytest.MonkeyPatch, operation: str, params: dict[str, Any]
) -> None:
    model = account.services.dynamodb
    make_table(account.cloud, "large")
    for each in other_rows():
        model.call("PutItem", {"TableName": "jobs", "Item": each}, "operator")
    for number in range(4):
        large = {**row("p", str(number)), "text": {"S": "x" * 350_000}}
        model.call("PutItem", {"TableName": "large", "Item": large}, "operator")

    def answer() -> Any:
        try:
            found = model.call(operation, params, "operator")
        except AwsError as error:
            return error.code, error.message
        return {key: found.get(key) for key in ("Items", "Count", "Responses", "LastEvaluatedKey", "UnprocessedKeys")}

    quick = answer()
    monkeypatch.setattr(dynamodb_reads, "query", lambda *_: None)
    monkeypatch.setattr(dynamodb_reads, "batch_get", lambda *_: None)
    assert quick == dynamo_to_dict(answer())


@pytest.mark.parametrize("which", ["a partition", "a few rows"])
def test_a_partition_and_a_few_rows_are_read_without_moto(
    account: ServicesAccount, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    operation, params = READS[which]
    model, asked = account.services.dynamodb, []
    name = {"Query": "query", "BatchGetItem": "batch_get_item"}[operation]
    monkeypatch.setattr(model._handler, name, lambda: asked.append(operation))
    assert model.call(operation, params, "operator")
    assert asked == []
