"""The short way for the two reads that functions make at every look: a few whole rows, and a whole partition.

moto parses the expressions anew, copies and measures each item (does the answer get too large?) and takes milliseconds.
What this module does not understand (projections, filters, indexes, pages, mistakes) it leaves to moto by answering
None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.utilities import dynamo_to_dict

FEW = 40  # items of 400 KB, the most that an item may have, are less than the 16 MB of a batch
PAGE_BYTES = 1_000_000  # of a query; as JSON no item is shorter than DynamoDB counts it
_PLAIN = {"S", "N", "BOOL", "NULL"}
_PARTITION = re.compile(r"\s*(\w+)\s*=\s*(:\w+)\s*$")


def key_names(table: Any) -> list[str]:
    """The table's key attributes: one, or two."""
    return [name for name in (table.hash_key_attr, table.range_key_attr) if name]


def batch_get(tables: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any] | None:
    """A few whole rows of one table, by key."""
    if set(params) != {"RequestItems"} or len(params["RequestItems"]) != 1:
        return None
    ((name, request),) = params["RequestItems"].items()
    table, keys = tables.get(name), request["Keys"]
    if table is None or not set(request) <= {"Keys", "ConsistentRead"} or len(keys) > FEW:
        return None
    names = key_names(table)
    if any(set(key) != set(names) or key in keys[:number] for number, key in enumerate(keys)):
        return None
    found = [table.get_item(*(DynamoType(key[name]) for name in names)) for key in keys]
    return {"Responses": {name: [_row(item) for item in found if item is not None]}, "UnprocessedKeys": {}}


def query(table: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """A whole partition, if it fits on one page."""
    if set(params) - {"ConsistentRead"} != {"TableName", "KeyConditionExpression", "ExpressionAttributeValues"}:
        return None
    wanted, values = _PARTITION.match(params["KeyConditionExpression"]), params["ExpressionAttributeValues"]
    if not table.has_range_key or wanted is None or wanted[1] != table.hash_key_attr or set(values) != {wanted[2]}:
        return None
    key = DynamoType(values[wanted[2]])
    items = list(table.items[key].values()) if key in table.items else []
    if any(item.range_key.type != "S" for item in items):
        return None
    rows = [_row(item) for item in sorted(items, key=lambda item: item.range_key.value)]
    try:
        if len(json.dumps(rows)) > PAGE_BYTES:
            return None
    except TypeError:  # binary attributes
        return None
    return {"Items": rows, "Count": len(rows), "ScannedCount": len(rows)}


def _row(item: Any) -> dict[str, Any]:
    return {
        name: {value.type: value.value} if value.type in _PLAIN else dynamo_to_dict(value)
        for name, value in item.attrs.items()
    }
