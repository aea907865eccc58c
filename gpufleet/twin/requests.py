"""What calls, runs of functions and bytes through a NAT gateway add to the bill, counted as they happen.

Charged to whoever makes them: every call of a role, and what producers send (the operator's other calls are people
looking: a few cents a month at most). Refused calls are not charged, but DynamoDB's and S3's failed conditions are.
Not charged: SNS (0.50 dollars a million), KMS requests (0.03 a ten thousand), the requests that copy weights, events of
AWS services, storage.
Sources: DynamoDB developer guide, "Read and write operations" (4 KB a read unit, half of it if eventually consistent; 1
KB a write unit; twice as much in a transaction; a failed condition is charged as a write; an item that is not there is
charged as a small one); SQS pricing ("every 64 KB chunk of a payload is billed as 1 request"); Lambda developer guide,
"Understanding billing" (initialisation and run, by the millisecond); CloudWatch Logs API reference, PutLogEvents (26
bytes beside each event).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import prices
from .cloud import OPERATOR, Call, Cloud
from .services.dynamodb import DynamoDbModel
from .services.dynamodb_reads import key_names
from .services.function_admin import Function
from .services.function_host import Invocation
from .usage import Usage

CHUNK_BYTES = 65_536
EVENT_BYTES = 26
GB = 1e9  # of logs and of what a NAT gateway processes
_WRITES = ("PutItem", "UpdateItem", "DeleteItem")
_FAILED_CONDITIONS = ("ConditionalCheckFailedException", "TransactionCanceledException")


@dataclass
class Assumed:
    """What the twin assumes where its own virtual time says nothing: a knob each.

    A function's own work takes no virtual time, so each run is charged `run_s` and `call_s` for each AWS call beyond
    the time it slept (a warm call from a small function takes 20 to 100 ms), and `init_s` in a new environment.
    `platform_bytes`: Lambda's own START, END and REPORT lines of a run.
    """

    run_s: float = 0.1
    call_s: float = 0.05
    init_s: float = 1.0
    platform_bytes: int = 360


class Requests:
    """Counts into `usage`. `assumed` holds the knobs."""

    def __init__(self, cloud: Cloud, usage: Usage) -> None:
        self.assumed = Assumed()
        self._cloud = cloud
        self._usage = usage
        charges = cloud.charges
        for operation in (
            "GetQueueAttributes", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility",
            "ChangeMessageVisibilityBatch", "SendMessage", "SendMessageBatch",
        ):  # fmt: skip
            charges[("sqs", operation)] = self._queue
        charges[("dynamodb", "GetItem")] = self._read_item
        charges[("dynamodb", "Query")] = self._query
        charges[("dynamodb", "BatchGetItem")] = self._batch_get
        charges[("dynamodb", "TransactWriteItems")] = self._transact
        charges.update({("dynamodb", operation): self._write for operation in _WRITES})
        charges[("s3", "PutObject")] = charges[("s3", "ListObjectsV2")] = self._put_object
        charges[("s3", "GetObject")] = charges[("s3", "HeadObject")] = self._get_object
        charges[("cloudwatch", "PutMetricData")] = self._metrics
        charges[("cloudwatch", "GetMetricData")] = self._read_metrics
        charges[("ce", "GetCostAndUsage")] = self._cost_explorer

    # -- SQS ----------------------------------------------------------------------------------------------------

    def _queue(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        sends = call.operation.startswith("SendMessage")
        if call.error or (call.principal == OPERATOR and not sends):
            return
        size = 0
        if sends:
            entries = call.params.get("Entries") or (call.params,)
            size = sum(_text_bytes(entry["MessageBody"]) for entry in entries)
        elif answer and call.operation == "ReceiveMessage":
            size = sum(_text_bytes(message["Body"]) for message in answer.get("Messages", ()))
        name = call.params["QueueUrl"].rsplit("/", 1)[-1]
        self._usage.add("queue-requests", name, max(1, math.ceil(size / CHUNK_BYTES)), prices.SQS_USD_PER_REQUEST)

    # -- DynamoDB -----------------------------------------------------------------------------------------------

    def _read_item(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if answer is not None and call.principal != OPERATOR:
            found = answer.get("Item")
            self._reads(call.params["TableName"], _read_units(found), call.params.get("ConsistentRead"))

    def _query(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        """The items that a query looks at count together, also those that a filter then takes out: what is left is
        taken for all of them here."""
        if answer is not None and call.principal != OPERATOR:
            size = sum(item_bytes(item) for item in answer.get("Items", ()))
            self._reads(call.params["TableName"], _blocks(size, 4096), call.params.get("ConsistentRead"))

    def _batch_get(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if answer is None or call.principal == OPERATOR:
            return
        for table, request in call.params["RequestItems"].items():
            found = answer["Responses"].get(table, ())
            missing = len(request["Keys"]) - len(found)
            units = sum(_read_units(item) for item in found) + missing
            self._reads(table, units, request.get("ConsistentRead"))

    def _reads(self, table: str, units: int, consistent: bool | None) -> None:
        name = table.rsplit("/", 1)[-1]
        self._usage.add("table-reads", name, units if consistent else units / 2, prices.DYNAMODB_USD_PER_READ)

    def _write(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if call.principal != OPERATOR and call.error in (None, *_FAILED_CONDITIONS):
            self._writes(call.params, 1)

    def _transact(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if call.principal != OPERATOR and call.error in (None, *_FAILED_CONDITIONS):
            for entry in call.params["TransactItems"]:
                for touched in entry.values():
                    self._writes(touched, 2)

    def _writes(self, params: Mapping[str, Any], times: int) -> None:
        """AWS charges the larger of the item before and after; here it is the one after (for a deletion the least)."""
        size = item_bytes(params["Item"]) if "Item" in params else self._stored_bytes(params)
        name = params["TableName"].rsplit("/", 1)[-1]
        self._usage.add("table-writes", name, times * _blocks(size, 1024), prices.DYNAMODB_USD_PER_WRITE)

    def _stored_bytes(self, params: Mapping[str, Any]) -> int:
        model: DynamoDbModel = self._cloud.service("dynamodb")
        table = model.table(params["TableName"])
        item = model.stored(params["TableName"], [params["Key"][name] for name in key_names(table)]) if table else None
        return 0 if item is None else sum(len(k) + _value_bytes(v.type, v.value) for k, v in item.attrs.items())

    # -- S3, CloudWatch, Cost Explorer --------------------------------------------------------------------------

    def _put_object(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if call.principal != OPERATOR and call.error in (None, "PreconditionFailed"):
            self._usage.add("object-puts", call.params["Bucket"], 1, prices.S3_USD_PER_PUT)

    def _get_object(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if call.principal != OPERATOR and not call.error:
            self._usage.add("object-gets", call.params["Bucket"], 1, prices.S3_USD_PER_GET)

    def _metrics(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        if call.error:
            return
        namespace = call.params["Namespace"]
        if call.principal != OPERATOR:
            self._usage.add("metric-requests", namespace, 1, prices.CLOUDWATCH_USD_PER_REQUEST)
        for datum in call.params["MetricData"]:
            dimensions = sorted(f"{one['Name']}={one['Value']}" for one in datum.get("Dimensions", ()))
            metric = "/".join([namespace, datum["MetricName"], *dimensions])
            self._usage.hourly("metrics", metric, prices.METRIC_USD_PER_MONTH / prices.MONTH_HOURS)

    def _read_metrics(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        """Each metric asked for is charged as a request; expressions over them are not."""
        if call.principal != OPERATOR and not call.error:
            metrics = sum("MetricStat" in query for query in call.params["MetricDataQueries"])
            self._usage.add("metric-requests", "GetMetricData", metrics, prices.CLOUDWATCH_USD_PER_REQUEST)

    def _cost_explorer(self, call: Call, answer: Mapping[str, Any] | None) -> None:
        """Each page asked for, by whomever: an operator's question costs as much."""
        if not call.error:
            self._usage.add("cost-explorer", "GetCostAndUsage", 1, prices.COST_EXPLORER_USD_PER_REQUEST)

    # -- Lambda -------------------------------------------------------------------------------------------------

    def run(self, function: Function, invocation: Invocation, logged: bool) -> None:
        """A function's run has ended."""
        assumed, settings = self.assumed, function.settings
        calls = invocation.process.calls if invocation.process else 0
        seconds = invocation.ended - invocation.started + assumed.run_s + assumed.call_s * calls
        seconds = min(seconds, float(settings["Timeout"]))
        if invocation.cold:
            seconds += assumed.init_s
        billed = math.ceil(seconds * 1000) / 1000
        architecture = settings["Architectures"][0]
        self._usage.add("function-requests", function.name, 1, prices.LAMBDA_USD_PER_REQUEST)
        self._usage.add(
            f"function-time-{architecture}",
            function.name,
            billed * settings["MemorySize"] / 1024,
            prices.LAMBDA_USD_PER_GB_S[architecture],
        )
        if logged:
            size = assumed.platform_bytes
            size += sum(len(json.dumps(one["record"])) + EVENT_BYTES for one in invocation.records)
            self._usage.add("logs", function.name, size / GB, prices.LOGS_USD_PER_GB)


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _blocks(size: int, block: int) -> int:
    return max(1, -(-size // block))


def _read_units(item: Mapping[str, Any] | None) -> int:
    return _blocks(item_bytes(item), 4096) if item else 1


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """The size of an item as boto3's client spells it ("DynamoDB item sizes and formats")."""
    return sum(len(name) + _value_bytes(*next(iter(value.items()))) for name, value in item.items())


def _value_bytes(kind: str, value: Any) -> int:  # noqa: PLR0911 - one for each kind of value
    if kind == "S":
        return _text_bytes(value)
    if kind == "N":
        return len(str(value)) // 2 + 1  # a byte for two digits, and one
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "M":
        return 3 + sum(len(name) + 1 + _inner_bytes(one) for name, one in value.items())
    if kind == "L":
        return 3 + sum(1 + _inner_bytes(one) for one in value)
    if kind in ("SS", "NS", "BS"):
        return sum(_value_bytes(kind[0], one) for one in value)
    return len(value)  # binary


def _inner_bytes(value: Any) -> int:
    """A value inside a map or list: as boto3 spells it, or as moto stores it."""
    return _value_bytes(value.type, value.value) if hasattr(value, "type") else _value_bytes(*next(iter(value.items())))
