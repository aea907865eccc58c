"""The short way to moto's engine answers as the long one does, and expired rows go late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twin_services import START, ServicesAccount, allow, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import AwsError, NotModelledError

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
