"""The quick checks of the twin never say yes where the slow ones say no, and say yes to what is called all day."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.dynamodb.comparisons import create_condition_expression_parser
from moto.dynamodb.exceptions import InvalidConditionExpression
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from twin_services import START, ServicesAccount

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.param_check import Checks
from gpufleet.twin.services.dynamodb_conditions import Unsuited, compiled
from gpufleet.twin.services.metrics import MetricStore, Point, key_of


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Cloud(START) as cloud:
        yield cloud


# -- parameters ------------------------------------------------------------------------------------------------

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
NESTED = {"M": {"k": {"L": [{"N": "1"}, {"NULL": True}, {"SS": ["x"]}]}}}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("dynamodb", "GetItem", {"TableName": "t", "Key": KEY, "ConsistentRead": True}),
    ("dynamodb", "PutItem", {"TableName": "t", "Item": {**KEY, "v": NESTED, "b": {"B": b"x"}}}),
    ("dynamodb", "BatchGetItem", {"RequestItems": {"t": {"Keys": [KEY], "ConsistentRead": False}}}),
    ("dynamodb", "UpdateItem", {
        "TableName": "t", "Key": KEY, "UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"N": "1"}},
        "ExpressionAttributeNames": {"#a": "a"}, "ReturnValues": "ALL_NEW",
    }),
    ("dynamodb", "TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "t", "Item": KEY}}]}),
    ("sqs", "ReceiveMessage", {"QueueUrl": "u", "MaxNumberOfMessages": 3, "AttributeNames": ["All"]}),
    ("sqs", "SendMessageBatch", {"QueueUrl": "u", "Entries": [{"Id": "1", "MessageBody": "x", "DelaySeconds": 0}]}),
    ("cloudwatch", "PutMetricData", {
        "Namespace": "N",
        "MetricData": [{"MetricName": "M", "Value": 1, "Dimensions": [{"Name": "a", "Value": "b"}]}],
    }),
    ("autoscaling", "SetDesiredCapacity", {"AutoScalingGroupName": "g", "DesiredCapacity": 0}),
    ("autoscaling", "DescribeAutoScalingGroups", {"AutoScalingGroupNames": ["g"]}),
]  # fmt: skip


def shape(cloud: Cloud, service: str, operation: str) -> Any:
    return cloud.client(service).meta.service_model.operation_model(operation).input_shape


@pytest.mark.parametrize(("service", "operation", "params"), CALLS)
def test_calls_of_every_day_pass_at_once(cloud: Cloud, service: str, operation: str, params: dict[str, Any]) -> None:
    assert Checks().passes(shape(cloud, service, operation), params)


WRONG: list[Any] = [None, 1, -1, 1.5, "", "x", b"x", True, [], {}, ["x"], {"x": 1}, {"S": 1}, {"S": "a", "N": "1"}]


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        for rest in paths(each):
            yield (key, *rest)


def spoiled(params: dict[str, Any], path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """A copy in which something else stands at `path`; `change` a callable edits the thing there instead."""
    changed = copy.deepcopy(params)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    if callable(change):
        change(place[path[-1]] if path else place)
    else:
        place[path[-1]] = change
    return changed


def add_unknown(value: Any) -> None:
    if isinstance(value, dict):
        value["Nonsense"] = "x"


@pytest.mark.parametrize(("service", "operation", "params"), CALLS)
def test_what_passes_passes_botocore_too(cloud: Cloud, service: str, operation: str, params: dict[str, Any]) -> None:
    """Every part of the call replaced by every wrong thing, left out, or with a part too many."""
    wanted, checks = shape(cloud, service, operation), Checks()
    refused = 0
    for path in paths(params):
        variants = [spoiled(params, path, add_unknown)]
        if path:
            variants += [spoiled(params, path, each) for each in WRONG]
            variants.append(spoiled(params, path[:-1], lambda place, last=path[-1]: place.pop(last)))
        for variant in variants:
            ok = not ParamValidator().validate(variant, wanted).has_errors()
            refused += not ok
            assert ok or not checks.passes(wanted, variant), (path, variant)
    assert refused > 5


def test_a_wrong_call_is_refused_in_botocore_s_words(cloud: Cloud) -> None:
    account = ServicesAccount(cloud)
    with pytest.raises(ParamValidationError, match='Missing required parameter in input: "QueueUrl"'):
        account.sqs.receive_message()
    with pytest.raises(ParamValidationError, match='Unknown parameter in input: "Nonsense"'):
        account.sqs.receive_message(QueueUrl="u", Nonsense=1)


# -- conditions ------------------------------------------------------------------------------------------------

ATTRIBUTES = ("a", "b", "c")
plain_values = st.one_of(
    st.builds(lambda n: {"N": str(n)}, st.integers(-2, 2)),
    st.builds(lambda s: {"S": s}, st.sampled_from(["", "x", "y"])),
    st.builds(lambda b: {"BOOL": b}, st.booleans()),
)
operands = st.sampled_from(["a", "b", "#c", ":one", ":two"])
comparisons = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    operands, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), operands,
)  # fmt: skip
existence = st.builds(
    lambda word, name: f"{word}({name})",
    st.sampled_from(["attribute_exists", "attribute_not_exists"]), st.sampled_from(["a", "b", "#c"]),
)  # fmt: skip
expressions = st.recursive(
    comparisons | existence,
    lambda inner: st.one_of(
        st.builds(lambda left, word, right: f"{left} {word} {right}", inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds(lambda inside: f"({inside})", inner),
        st.builds(lambda inside: f"NOT {inside}", inner),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(expressions, st.dictionaries(st.sampled_from(ATTRIBUTES), plain_values), plain_values, plain_values)
def test_a_condition_that_holds_here_holds_for_moto(
    expression: str, attributes: dict[str, Any], one: dict[str, Any], two: dict[str, Any]
) -> None:
    names, values = {"#c": "c"}, {":one": one, ":two": two}
    item: Any = Item(DynamoType({"S": "k"}), None, attributes)
    try:
        holds = compiled(expression, (("#c", "c"),))(item.attrs, {k: DynamoType(v) for k, v in values.items()})
    except Unsuited:
        return
    try:
        theirs = bool(create_condition_expression_parser(expression, names, values).parse().expr(item))
    except (TypeError, ValueError, InvalidConditionExpression):
        return  # values of different types, redundant parentheses: only what moto took once goes the short way
    assert holds == theirs


@pytest.mark.parametrize(
    "expression",
    ["a BETWEEN :one AND :two", "a IN (:one)", "begins_with(a, :one)", "size(a) > :one", "a.b = :one", "a[0] = :one",
     "a =", "(a = :one", "a = :one )", "contains(a, :one)", "a ! :one", ""],
)  # fmt: skip
def test_other_conditions_are_left_to_moto(expression: str) -> None:
    with pytest.raises(Unsuited):
        compiled(expression, ())({}, {":one": DynamoType({"N": "1"}), ":two": DynamoType({"N": "2"})})


def test_values_of_different_types_are_left_to_moto() -> None:
    condition = compiled("a < :one", ())
    with pytest.raises(Unsuited):
        condition({"a": DynamoType({"S": "x"})}, {":one": DynamoType({"N": "1"})})


# -- points of metrics -----------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 40), max_size=12), st.integers(0, 20), st.integers(1, 20), st.sampled_from([1, 2, 5, 30]))
def test_statistics_of_any_period_are_those_of_its_minutes(
    minutes: set[int], first: int, length: int, period: int
) -> None:
    store, key = MetricStore(), key_of("N", "M", {})
    for minute in minutes:
        store.put(key, minute * 60.0, Point(minute, 1, minute, minute))
    start, end = first * 60.0, (first + length) * 60.0
    expected: dict[float, float] = {}
    at = first
    while at < first + length:
        inside = [minute for minute in minutes if at <= minute < at + period]
        if inside:
            expected[at * 60.0] = float(sum(inside))
        at += period
    assert store.read(key, "Sum", period * 60, start, end) == expected
