"""DynamoDB: moto's own engine, reached without HTTP for the calls that functions and workers make all the time.

Everything else (tables, tags, time to live, backups) is answered by moto over its usual path. Expired items go the way
they go on AWS: within two days after `expires` ("How it works: DynamoDB Time to Live"), here at a daily sweep.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError, ServiceException
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.responses import DynamoHandler

from ..errors import AwsError, NotModelledError
from . import dynamodb_reads, dynamodb_updates
from .dynamodb_reads import key_names

if TYPE_CHECKING:
    from ..cloud import Cloud

DIRECT = {
    "GetItem": "get_item",
    "PutItem": "put_item",
    "UpdateItem": "update_item",
    "DeleteItem": "delete_item",
    "Query": "query",
    "BatchGetItem": "batch_get_item",
    "TransactWriteItems": "transact_write_items",
}
SWEEP_S = 24 * 3600.0


class DynamoDbModel:
    """Knob: `sweep_s`, the time between two removals of expired items. `expired` counts what they removed."""

    service = "dynamodb"

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.sweep_s = SWEEP_S
        self.expired = 0
        self._accepted: set[tuple[Any, ...]] = set()  # shapes of UpdateItem that moto has found in order
        self._handler: Any = DynamoHandler()
        self._handler.current_account = cloud.account_id
        self._handler.region = cloud.region
        cloud.clock.after(self.sweep_s, self._sweep)

    def handles(self, operation: str) -> bool:
        return operation in DIRECT

    def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any]:
        """Answer one of the `DIRECT` operations. Raises `AwsError` as DynamoDB would."""
        self._handler.body = params
        act = getattr(self._handler, DIRECT[operation])
        try:
            if operation == "Query":
                return self._query(params, act)
            if operation == "BatchGetItem":
                return self._batch_get(params, act)
            if operation == "TransactWriteItems":
                return self._transact(params, act)
            if operation == "UpdateItem":
                return self._update(params, act)
            return act().result
        except (JsonRESTError, ServiceException) as error:
            raise _as_aws(error) from error
        except TypeError as error:  # moto compares values of different types; on AWS such a comparison is false
            raise NotModelledError(f"moto cannot answer this dynamodb:{operation}: {error}") from error

    def table(self, name: str) -> Any:
        """moto's table of that name or ARN, None if there is none."""
        return self._tables.get(name.rsplit("/", 1)[-1])

    def stored(self, table: str, key: list[dict[str, Any]]) -> Any:
        """moto's item with the values of the key attributes `key`, None if there is none."""
        found, values = self.table(table), [DynamoType(value) for value in key]
        return found.get_item(*values) if found is not None and values[0] in found.items else None

    @cached_property
    def _tables(self) -> dict[str, Any]:
        return dynamodb_backends[self.cloud.account_id][self.cloud.region].tables

    def _query(self, params: dict[str, Any], act: Callable[[], Any]) -> dict[str, Any]:
        """moto looks through (and sorts) the whole table; only the partitions that the call names can hold answers."""
        table = self._tables.get(params["TableName"].rsplit("/", 1)[-1])
        if table is None or "IndexName" in params or not table.has_range_key:
            return act().result
        answer = dynamodb_reads.query(table, params)
        if answer is not None:
            return answer
        named = [
            DynamoType(v) for v in params.get("ExpressionAttributeValues", {}).values() if v.keys() & {"S", "N", "B"}
        ]
        table.all_items = lambda: [
            item for key in set(named) if key in table.items for item in table.items[key].values()
        ]
        try:
            return act().result
        finally:
            del table.all_items

    def _batch_get(self, params: dict[str, Any], act: Callable[[], Any]) -> dict[str, Any]:
        return dynamodb_reads.batch_get(self._tables, params) or act().result

    def _update(self, params: dict[str, Any], act: Callable[[], Any]) -> dict[str, Any]:
        """moto judges the first call of each shape, and every one that the short way leaves to it."""
        key = dynamodb_updates.shape(params)
        table = self._tables.get(params["TableName"].rsplit("/", 1)[-1])
        answer = dynamodb_updates.apply(table, params) if table is not None and key in self._accepted else None
        if answer is None:
            answer = act().result
            answer.pop("ConsumedCapacity", None)  # nobody asked for it
            self._accepted.add(key)
        return answer

    def _transact(self, params: dict[str, Any], act: Callable[[], Any]) -> dict[str, Any]:
        """moto copies whole tables to be able to go back; here only the items that the transaction touches."""
        before = [self._touched(next(iter(entry.values()))) for entry in params["TransactItems"]]
        tables = {id(table): table for table, *_ in before if table is not None}.values()
        for table in tables:
            table.__deepcopy__ = lambda memo, same=table: same
        try:
            return act().result
        except Exception:
            for table, hash_key, range_key, item in before:
                if table is not None:
                    _put_back(table, hash_key, range_key, item)
            raise
        finally:
            for table in tables:
                del table.__deepcopy__

    def _touched(self, entry: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
        """(table, hash key, range key, a copy of the item) that an entry of a transaction is about."""
        table = self._tables.get(entry["TableName"].rsplit("/", 1)[-1])
        keys = entry.get("Key") or entry.get("Item") or {}
        names = [] if table is None else key_names(table)
        if table is None or any(name not in keys for name in names):
            return None, None, None, None  # moto says what is wrong with it
        hash_key, range_key = DynamoType(keys[names[0]]), DynamoType(keys[names[1]]) if len(names) > 1 else None
        return table, hash_key, range_key, copy.deepcopy(table.get_item(hash_key, range_key))

    def _sweep(self) -> None:
        now = self.cloud.clock.now()
        for table in self._tables.values():
            if table.ttl.get("TimeToLiveStatus") == "ENABLED":
                self.expired += _remove_expired(table, table.ttl["AttributeName"], now)
        self.cloud.clock.after(self.sweep_s, self._sweep)


def _remove_expired(table: Any, attribute: str, now: float) -> int:
    """Only a number in the past counts, and not one more than five years old (same page of the guide)."""
    removed = 0
    for hash_key, under in list(table.items.items()):
        ranged = table.has_range_key
        for range_key, item in list(under.items()) if ranged else [(None, under)]:
            value = item.attrs.get(attribute)
            if value is not None and value.type == "N" and now - 5 * 365 * 86_400 < float(value.value) < now:
                if ranged:
                    del under[range_key]
                else:
                    del table.items[hash_key]
                removed += 1
    return removed


def _put_back(table: Any, hash_key: Any, range_key: Any, item: Any) -> None:
    under, key = (table.items, hash_key) if range_key is None else (table.items[hash_key], range_key)
    if item is None:
        under.pop(key, None)
    else:
        under[key] = item


def _as_aws(error: Exception) -> AwsError:
    if isinstance(error, ServiceException):
        return AwsError(error.code, error.message)
    assert isinstance(error, JsonRESTError)  # noqa: S101 - narrows for the type checker
    described = json.loads(error.description)
    fields = {key: value for key, value in described.items() if key in ("CancellationReasons", "Item")}
    return AwsError(str(error.error_type).split("#")[-1], str(error.message), fields=fields)
