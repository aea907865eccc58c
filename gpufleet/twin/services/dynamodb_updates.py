"""The short way for an UpdateItem that moto has already accepted once: same table, same expressions, other values.

moto parses and validates an update expression anew for each call, which takes a millisecond; workers and functions make
thousands of calls of a few shapes. What this module does not understand (nested paths, sets, a failed condition,
a wrong type) it leaves to moto by answering None, before anything was changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.utilities import dynamo_to_dict

from .dynamodb_conditions import Unsuited, compiled

SURELY_SMALL = 300_000  # bytes; an item may have 400 KB
Operand = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]  # (the item's attributes, the call's values)
Change = tuple[str, Operand | None]  # attribute and its new value; None: it is removed
_NAME = r"#?\w+"
_SIMPLE = rf":\w+|{_NAME}|if_not_exists\s*\(\s*{_NAME}\s*,\s*:\w+\s*\)"
_SET = re.compile(rf"({_NAME})\s*=\s*({_SIMPLE})(?:\s*([+-])\s*({_SIMPLE}))?$")
_ADD = re.compile(rf"({_NAME})\s+(:\w+)$")
_KNOWN = {
    "TableName", "Key", "UpdateExpression", "ConditionExpression", "ExpressionAttributeNames",
    "ExpressionAttributeValues", "ReturnValues", "ReturnValuesOnConditionCheckFailure",
}  # fmt: skip


def shape(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two calls must have in common for the first one's acceptance by moto to hold for the second."""
    names, values = params.get("ExpressionAttributeNames") or {}, params.get("ExpressionAttributeValues") or {}
    kinds = tuple(sorted((key, next(iter(value))) for key, value in values.items()))
    return (
        params["TableName"], params.get("UpdateExpression"), params.get("ConditionExpression"),
        tuple(sorted(names.items())), kinds, tuple(sorted(params)), tuple(sorted(params["Key"])),
    )  # fmt: skip


def apply(table: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Carry out the update and answer as moto does, or answer None and change nothing."""
    returned = params.get("ReturnValues", "NONE")
    if set(params) - _KNOWN or returned not in ("NONE", "ALL_NEW", "ALL_OLD") or table.stream_shard is not None:
        return None
    names, values = params.get("ExpressionAttributeNames") or {}, params.get("ExpressionAttributeValues") or {}
    try:
        changes = _compiled(params.get("UpdateExpression") or "", tuple(sorted(names.items())))
        keys = [DynamoType(params["Key"][name]) for name in (table.hash_key_attr, table.range_key_attr) if name]
        item: Any = table.get_item(*keys) if keys[0] in table.items else None
        typed = {key: DynamoType(value) for key, value in values.items()}
        condition = params.get("ConditionExpression")
        if condition and not compiled(condition, tuple(sorted(names.items())))(item.attrs if item else {}, typed):
            return None
        present = item is not None
        if item is None:  # an update makes the item that is not there yet
            item = Item(keys[0], keys[1] if len(keys) > 1 else None, dict(params["Key"]))
        new = [(name, operand and operand(item.attrs, typed)) for name, operand in changes]
        if item.size() + sum(value.size() for _, value in new if value is not None) > SURELY_SMALL:
            return None
    except Unsuited:
        return None
    if not present:
        table.put_item(params["Key"])
        item = table.get_item(*keys)
    old = (dynamo_to_dict(dict(item.attrs)) if present else {}) if returned == "ALL_OLD" else None
    for name, value in new:
        if value is None:
            item.attrs.pop(name, None)
        else:  # past moto's own way, which measures the whole item for each attribute
            dict.__setitem__(item.attrs, name, value)
    if returned == "NONE":
        return {}
    return {"Attributes": old if old is not None else dynamo_to_dict(dict(item.attrs))}


@lru_cache(maxsize=256)
def _compiled(expression: str, names: tuple[tuple[str, str], ...]) -> tuple[Change, ...]:
    parts = re.split(r"\b(SET|REMOVE|ADD|DELETE)\b", expression.strip(), flags=re.IGNORECASE)
    if parts[0].strip() or "DELETE" in (part.upper() for part in parts[1::2]):
        raise Unsuited
    changes: list[Change] = []
    for clause, body in zip(parts[1::2], parts[2::2], strict=True):
        actions = re.split(r",(?![^(]*\))", body)
        changes.extend(_change(clause.upper(), action.strip(), dict(names)) for action in actions)
    return tuple(changes)


def _change(clause: str, action: str, names: Mapping[str, str]) -> Change:
    if clause == "REMOVE":
        if not re.fullmatch(_NAME, action):
            raise Unsuited
        return names.get(action, action), None
    match = (_SET if clause == "SET" else _ADD).match(action)
    if not match:
        raise Unsuited
    name = names.get(match[1], match[1])
    if clause == "ADD":
        return name, _sum(_or_zero(name), _value(match[2]), 1)
    left = _operand(match[2], names)
    return name, left if not match[3] else _sum(left, _operand(match[4], names), 1 if match[3] == "+" else -1)


def _operand(text: str, names: Mapping[str, str]) -> Operand:
    if text.startswith(":"):
        return _value(text)
    function = re.fullmatch(rf"if_not_exists\s*\(\s*({_NAME})\s*,\s*(:\w+)\s*\)", text)
    if function:
        name, default = names.get(function[1], function[1]), _value(function[2])
        return lambda item, values: item[name] if name in item else default(item, values)
    return _attribute(names.get(text, text))


def _value(name: str) -> Operand:
    return lambda item, values: values[name]


def _attribute(name: str) -> Operand:
    def read(item: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        if name not in item:
            raise Unsuited
        return item[name]

    return read


def _or_zero(name: str) -> Operand:
    return lambda item, values: item[name] if name in item else DynamoType({"N": "0"})


def _sum(left: Operand, right: Operand, sign: int) -> Operand:
    def add(item: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        a, b = left(item, values), right(item, values)
        if a.type != "N" or b.type != "N":
            raise Unsuited
        total = Decimal(str(a.value)) + sign * Decimal(str(b.value))
        return DynamoType({"N": f"{total.normalize():f}"})

    return add
