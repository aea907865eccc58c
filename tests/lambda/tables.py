# ruff: noqa: N803 - the fake takes the arguments that AWS takes
"""The part of DynamoDB that the functions use, in memory: for tests with many thousands of calls.

Strict: an expression it does not know fails the test. It also counts request units as AWS bills them (DynamoDB
developer guide, "Read and write operations": a consistent read takes 1 unit per 4 KB, a write 1 per KB of the larger of
the item before and after; a query reads the sum of its items).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]


def item_bytes(item: Item) -> int:
    """Size of an item as billed: names and values, numbers at two digits a byte."""

    def of(value: Any) -> int:
        (kind, inner), *_ = value.items()
        if kind == "N":
            return len(inner) // 2 + 2
        if kind == "M":
            return 3 + sum(1 + len(name) + of(one) for name, one in inner.items())
        if kind == "L":
            return 3 + sum(1 + of(one) for one in inner)
        return len(inner.encode()) if kind == "S" else 1

    return sum(len(name) + of(value) for name, value in item.items())


class Tables:
    """A DynamoDB client. `read_units` and `write_units` add up what was asked, if it `counts`. Stored values are never
    changed in place, so what is handed out are plain copies of the outermost level."""

    def __init__(self, counts: bool = False) -> None:
        self.rows: dict[str, dict[tuple[str, ...], Item]] = {}
        self.counts = counts
        self.read_units = self.write_units = 0

    def _units(self, size: Callable[[Any], int], what: Any, unit: int) -> int:
        return math.ceil(max(1, size(what)) / unit) if self.counts else 0

    def list_tables(self) -> dict[str, Any]:
        return {"TableNames": list(self.rows)}

    def create_table(self, TableName: str, **_: Any) -> None:
        self.rows[TableName] = {}

    def put_item(
        self,
        TableName: str,
        Item: Item,
        ConditionExpression: str = "",
        ExpressionAttributeNames: dict[str, str] | None = None,
        ExpressionAttributeValues: Item | None = None,
    ) -> None:
        before = self.rows[TableName].get(_key(Item), {})
        _require("PutItem", before, ConditionExpression, ExpressionAttributeNames, ExpressionAttributeValues)
        self._write(TableName, _key(Item), dict(Item))

    def delete_item(self, TableName: str, Key: Item) -> None:
        self.rows[TableName].pop(_key(Key), None)

    def get_item(self, TableName: str, Key: Item, **_: Any) -> dict[str, Any]:
        found = self.rows[TableName].get(_key(Key))
        return {"Item": dict(found)} if found else {}

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for table, asked in RequestItems.items():
            assert asked["ConsistentRead"]
            items = [self.rows[table].get(_key(key)) for key in asked["Keys"]]
            self.read_units += sum(self._units(item_bytes, item or {}, 4096) for item in items)
            found[table] = [dict(item) for item in items if item]
        return {"Responses": found, "UnprocessedKeys": {}}

    def query(
        self, TableName: str, KeyConditionExpression: str, ExpressionAttributeValues: Item, ConsistentRead: bool
    ) -> dict[str, Any]:
        assert (KeyConditionExpression, ConsistentRead) == ("pk = :pk", True)
        wanted = ExpressionAttributeValues[":pk"]["S"]
        found = [item for key, item in sorted(self.rows[TableName].items()) if key[0] == wanted]
        self.read_units += self._units(lambda items: sum(map(item_bytes, items)), found, 4096)
        return {"Items": [dict(item) for item in found]}

    def update_item(
        self,
        TableName: str,
        Key: Item,
        UpdateExpression: str,
        ExpressionAttributeValues: Item | None = None,
        ConditionExpression: str = "",
        ExpressionAttributeNames: dict[str, str] | None = None,
        ReturnValues: str = "NONE",
    ) -> dict[str, Any]:
        names, values = ExpressionAttributeNames or {}, ExpressionAttributeValues or {}
        before = self.rows[TableName].get(_key(Key), {})
        _require("UpdateItem", before, ConditionExpression, names, values)
        after = dict(before or Key)
        parts = re.split(r"\b(SET|ADD|REMOVE) ", UpdateExpression)
        assert not parts[0]
        for verb, clauses in zip(parts[1::2], parts[2::2], strict=True):
            for clause in clauses.strip().split(", "):
                _apply(after, verb, clause, names, values)
        self._write(TableName, _key(Key), after)
        return {"Attributes": dict(after)} if ReturnValues == "ALL_NEW" else {}

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> None:
        """All or none: every condition is checked before anything is written."""
        codes = []
        for each in TransactItems:
            ((verb, asked),) = each.items()
            before = self.rows[asked["TableName"]].get(_key(asked.get("Item") or asked["Key"]), {})
            given = (asked.get(f"ExpressionAttribute{kind}") for kind in ("Names", "Values"))
            try:
                _require(verb, before, asked.get("ConditionExpression", ""), *given)
                codes.append("None")
            except ClientError:
                codes.append("ConditionalCheckFailed")
        if set(codes) != {"None"}:
            told = {"Error": {"Code": "TransactionCanceledException", "Message": ", ".join(codes)}}
            reasons: Any = {"CancellationReasons": [{"Code": code} for code in codes]}
            raise ClientError({**told, **reasons}, "TransactWriteItems")
        for each in TransactItems:
            ((verb, asked),) = each.items()
            {"Put": self.put_item, "Update": self.update_item}[verb](**asked)

    def _write(self, table: str, key: tuple[str, ...], item: Item) -> None:
        both = (self.rows[table].get(key, {}), item)
        self.write_units += self._units(lambda items: max(map(item_bytes, items)), both, 1024)
        self.rows[table][key] = item


def _key(item: Item) -> tuple[str, ...]:
    return tuple(item[name]["S"] for name in ("pk", "sk") if name in item)


def _plain(value: Item) -> Any:
    kind, inner = next(iter(value.items()))
    return Decimal(inner) if kind == "N" else inner


def _require(
    operation: str, item: Item, condition: str, names: dict[str, str] | None = None, values: Item | None = None
) -> None:
    if not all(_holds(item, clause, names or {}, values or {}) for clause in condition.split(" AND ") if clause):
        raise ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, operation)


def _names(path: str, names: dict[str, str]) -> list[str]:
    return [names[part] if part.startswith("#") else part for part in path.split(".")]


def _found(item: Item, path: list[str]) -> Item | None:
    """The value at a path; None if there is none."""
    inner: Any = {"M": item}
    for name in path:
        inner = inner.get("M", {}).get(name)
        if inner is None:
            return None
    return inner


def _holds(item: Item, clause: str, names: dict[str, str], values: Item) -> bool:
    if match := re.fullmatch(r"attribute_(not_)?exists\(([#\w.]+)\)", clause):
        return (_found(item, _names(match[2], names)) is None) == bool(match[1])
    match = re.fullmatch(r"([#\w.]+) (=|>=|<=|>|<) (:\w+)", clause)
    assert match, clause
    found = _found(item, _names(match[1], names))
    if found is None:
        return False
    left, right = _plain(found), _plain(values[match[3]])
    compare = {"=": operator.eq, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
    return compare[match[2]](left, right)


def _apply(item: Item, verb: str, clause: str, names: dict[str, str], values: Item) -> None:
    if verb == "REMOVE":
        _set(item, _names(clause, names), None)
    elif verb == "ADD":
        path, value = clause.split(" ")
        total = _plain(_found(item, _names(path, names)) or {"N": "0"}) + _plain(values[value])
        _set(item, _names(path, names), {"N": str(total)})
    elif match := re.fullmatch(r"([#\w.]+) = (:\w+)", clause):
        _set(item, _names(match[1], names), values[match[2]])
    else:
        match = re.fullmatch(r"(\w+) = \1 - (:\w+)", clause)
        assert match, clause
        item[match[1]] = {"N": str(_plain(item[match[1]]) - _plain(values[match[2]]))}


def _set(item: Item, path: list[str], value: Item | None) -> None:
    """Sets (None: removes) what is at a path, by copies of the maps on the way. A map that is not there is refused."""
    name, *rest = path
    if rest:
        if "M" not in item.get(name, {}):
            told = "The document path provided in the update expression is invalid for update"
            raise ClientError({"Error": {"Code": "ValidationException", "Message": told}}, "UpdateItem")
        inner = dict(item[name]["M"])
        _set(inner, rest, value)
        value = {"M": inner}
    if value is None:
        item.pop(name, None)
    else:
        item[name] = value
