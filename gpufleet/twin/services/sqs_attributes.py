"""Queue attributes and message contents: what SQS accepts.

Sources: API reference of `CreateQueue`, `SetQueueAttributes` and `SendMessage`; developer guide "Message metadata".
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError, NotModelledError

RANGES = {  # API reference of CreateQueue
    "DelaySeconds": (0, 900),
    "MaximumMessageSize": (1024, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, 43_200),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400),
}
DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
KNOWN = {*RANGES, "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "SqsManagedSseEnabled"}
READ_ONLY = {
    "QueueArn", "CreatedTimestamp", "LastModifiedTimestamp",
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed",
}  # fmt: skip
FIFO = {"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}
_UNSUPPORTED_CHARACTERS = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def invalid_value(name: str, value: str, reason: str = "") -> AwsError:
    why = f" Reason: {reason}" if reason else ""
    return AwsError("InvalidAttributeValue", f"Invalid value for the parameter {name}: {value!r}.{why}")


def check_attributes(given: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """The attributes of a queue after `given` was set on `present`. Raises `AwsError` for what SQS refuses."""
    merged = dict(present)
    for name, value in given.items():
        if name in FIFO:
            raise NotModelledError(f"the twin models standard queues, not the FIFO attribute {name}")
        if name not in KNOWN:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name}.")
        if value == "" and name in ("Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId"):
            merged.pop(name, None)  # an empty document takes the policy away
            continue
        _check_one(name, value)
        merged[name] = value
    return _one_encryption(given, merged)


def _check_one(name: str, value: str) -> None:
    if name in RANGES:
        low, high = RANGES[name]
        if not value.isdigit() or not low <= int(value) <= high:
            raise invalid_value(name, value, f"must be between {low} and {high}.")
    elif name == "SqsManagedSseEnabled":
        if value not in ("true", "false"):
            raise invalid_value(name, value)
    elif name == "Policy":
        _check_policy(value)
    elif name == "RedrivePolicy":
        parse_redrive(value)
    elif name == "RedriveAllowPolicy":
        parse_redrive_allow(value)


def _one_encryption(given: Mapping[str, str], merged: dict[str, str]) -> dict[str, str]:
    """SSE-SQS or SSE-KMS, not both (API reference of SetQueueAttributes); SSE-SQS is the default of new queues."""
    if given.get("KmsMasterKeyId") and given.get("SqsManagedSseEnabled") == "true":
        raise invalid_value(
            "SqsManagedSseEnabled", "true", "You can use one type of server-side encryption (SSE) at one time."
        )
    if given.get("KmsMasterKeyId"):
        merged["SqsManagedSseEnabled"] = "false"
    elif given.get("SqsManagedSseEnabled") == "true":
        merged.pop("KmsMasterKeyId", None)
    return merged


def _document(name: str, value: str) -> dict[str, Any]:
    try:
        document = json.loads(value)
    except json.JSONDecodeError as error:
        raise invalid_value(name, value, "not valid JSON.") from error
    if not isinstance(document, dict):
        raise invalid_value(name, value, "not a JSON object.")
    return document


def _check_policy(value: str) -> None:
    statements = _document("Policy", value).get("Statement")
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, dict) or not {"Effect", "Principal", "Action", "Resource"} <= set(statement):
            raise invalid_value("Policy", value, "each statement has Effect, Principal, Action and Resource.")


def parse_redrive(value: str) -> tuple[str, int]:
    """(ARN of the dead-letter queue, maxReceiveCount); 1 to 1000 ("Configure a dead-letter queue")."""
    document = _document("RedrivePolicy", value)
    try:
        target, most = str(document["deadLetterTargetArn"]), int(document["maxReceiveCount"])
    except (KeyError, TypeError, ValueError) as error:
        raise invalid_value("RedrivePolicy", value, "needs deadLetterTargetArn and maxReceiveCount.") from error
    if set(document) != {"deadLetterTargetArn", "maxReceiveCount"}:
        raise invalid_value("RedrivePolicy", value, "unknown key.")
    if not 1 <= most <= 1000:
        raise invalid_value("RedrivePolicy", value, "maxReceiveCount must be between 1 and 1000.")
    return target, most


def parse_redrive_allow(value: str) -> tuple[str, list[str]]:
    """(redrivePermission, sourceQueueArns): at most 10 sources, and only with byQueue (SetQueueAttributes)."""
    document = _document("RedriveAllowPolicy", value)
    permission, sources = document.get("redrivePermission"), document.get("sourceQueueArns", [])
    if permission not in ("allowAll", "denyAll", "byQueue"):
        raise invalid_value("RedriveAllowPolicy", value, "redrivePermission is allowAll, denyAll or byQueue.")
    if (permission == "byQueue") != bool(sources) or len(sources) > 10:
        raise invalid_value("RedriveAllowPolicy", value, "byQueue, and only it, takes 1 to 10 sourceQueueArns.")
    return permission, list(sources)


def check_message(entry: Mapping[str, Any], limit: int) -> None:
    """Raise `AwsError` for a message SQS refuses. `entry` is shaped as the parameters of SendMessage."""
    body, attributes = entry["MessageBody"], entry.get("MessageAttributes") or {}
    if not body:
        raise AwsError("MissingParameter", "The request must contain the parameter MessageBody.")
    if _UNSUPPORTED_CHARACTERS.search(body):
        raise AwsError("InvalidMessageContents", "Invalid binary character was found in the message body.")
    if "MessageDeduplicationId" in entry:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {entry['MessageDeduplicationId']} for parameter MessageDeduplicationId is invalid. "
            "Reason: The request includes a parameter that is not valid for this queue type.",
        )
    if "MessageSystemAttributes" in entry:
        raise NotModelledError("the twin does not model MessageSystemAttributes of sqs:SendMessage")
    if not 0 <= entry.get("DelaySeconds", 0) <= 900:
        raise AwsError(
            "InvalidParameterValue",
            f"Value {entry['DelaySeconds']} for parameter DelaySeconds is invalid. "
            "Reason: DelaySeconds must be >= 0 and <= 900.",
        )
    _check_message_attributes(attributes)
    if message_size(body, attributes) > limit:
        raise AwsError(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes.",
        )


def _check_message_attributes(attributes: Mapping[str, Any]) -> None:
    if len(attributes) > 10:  # "Each message can have up to 10 attributes"
        raise AwsError("InvalidParameterValue", "Number of message attributes must be at most 10.")
    for name, value in attributes.items():
        kind = value["DataType"].split(".")[0]
        if not re.fullmatch(r"(?!(?i:aws|amazon)\.)(?!\.)[\w.-]{1,256}(?<!\.)", name, re.ASCII) or ".." in name:
            raise AwsError("InvalidParameterValue", f"Message attribute name {name!r} is invalid.")
        if kind not in ("String", "Number", "Binary"):
            raise AwsError("InvalidParameterValue", f"The type of message attribute {name!r} is invalid.")
        if not value.get("BinaryValue" if kind == "Binary" else "StringValue"):
            raise AwsError("InvalidParameterValue", f"Message attribute {name!r} must contain a non-empty value.")


def message_size(body: str, attributes: Mapping[str, Any]) -> int:
    """Bytes that count against the limit: the body and each attribute's name, type and value."""
    size = len(body.encode())
    for name, value in attributes.items():
        size += len(name.encode()) + len(value["DataType"]) + len(_attribute_bytes(value))
    return size


def _attribute_bytes(value: Mapping[str, Any]) -> bytes:
    return bytes(value["BinaryValue"]) if value["DataType"].startswith("Binary") else value["StringValue"].encode()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Any]) -> str:
    """Developer guide, "Calculating the MD5 message digest for message attributes"."""
    encoded = b""
    for name in sorted(attributes):
        value = attributes[name]
        kind = b"\x02" if value["DataType"].startswith("Binary") else b"\x01"
        for part in (name.encode(), value["DataType"].encode()):
            encoded += struct.pack(">I", len(part)) + part
        data = _attribute_bytes(value)
        encoded += kind + struct.pack(">I", len(data)) + data
    return md5(encoded)
