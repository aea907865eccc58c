"""DynamoDB items to and from plain Python values, and the two errors every caller tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

_reader = TypeDeserializer()


def read(item: Mapping[str, Any] | None) -> dict[str, Any]:
    """A stored item as plain values; numbers as int where they are whole, else float. No item: an empty dict."""
    return {name: _plain(_reader.deserialize(value)) for name, value in (item or {}).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(one) for one in value]
    if hasattr(value, "to_integral_value"):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def write(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as DynamoDB attributes."""
    return {name: attribute(value) for name, value in values.items()}


def attribute(value: Any) -> dict[str, Any]:
    """One plain value as a DynamoDB attribute. Floats keep 15 digits, which DynamoDB stores exactly."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, (int, float)):
        return {"N": f"{value:.15g}"}
    if isinstance(value, Mapping):
        return {"M": write(value)}
    return {"L": [attribute(one) for one in value]}


def error_code(error: ClientError) -> str:
    """The service's own code of an error, such as ``ConditionalCheckFailedException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def refused(error: ClientError) -> bool:
    """Whether a conditional write was refused by its condition."""
    return error_code(error) == "ConditionalCheckFailedException"
