"""Cost Explorer's filter expressions as predicates over the lines of the bill.

Sources: Cost Management API reference, "Expression", "DimensionValues", "TagValues"; the words of the refusals as users
report them (aws/aws-sdk-java#1645, aws-samples/aws-cost-explorer-report#27, aws/aws-sdk#696).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..bill_lines import Line
from ..errors import AwsError, NotModelledError
from .model import refuse_unknown

Predicate = Callable[[Line], bool]
TagsOf = Callable[[Line], Mapping[str, str]]
_ROOTS = {"And", "Or", "Not", "Tags", "Dimensions", "CostCategories"}
_SERVICES = {
    "Amazon Elastic Compute Cloud - Compute": ("spot", "on-demand", "reserved"),
    "EC2 - Other": ("disk", "nat", "nat-bytes"),
    "Amazon Virtual Private Cloud": ("address",),
    "AWS Key Management Service": ("key",),
    "AmazonCloudWatch": ("alarm", "metrics", "metric-requests", "logs"),
    "AWS Lambda": ("function-requests", "function-time-arm64", "function-time-x86_64"),
    "Amazon DynamoDB": ("table-reads", "table-writes"),
    "Amazon Simple Queue Service": ("queue-requests",),
    "Amazon Simple Storage Service": ("object-puts", "object-gets"),
    "AWS Cost Explorer": ("cost-explorer",),
    "Amazon Relational Database Service": ("foreign",),  # what others in the account run
}
SERVICE_OF = {kind: service for service, kinds in _SERVICES.items() for kind in kinds}


def invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)


def tag_keys(expression: Mapping[str, Any]) -> set[str]:
    """The tags that an expression asks about."""
    inner = [*expression.get("And", ()), *expression.get("Or", ()), *filter(None, [expression.get("Not")])]
    own = {expression["Tags"]["Key"]} if "Tags" in expression else set()
    return own.union(*map(tag_keys, inner))


def predicate(
    expression: Mapping[str, Any], tags_of: TagsOf, active: Collection[str], account: str, region: str
) -> Predicate:
    """Which lines the expression takes. `active`: the keys of cost allocation tags that count; lines do not carry
    others. Raises `AwsError` as Cost Explorer would, `NotModelledError` for what the twin cannot filter by."""
    refuse_unknown("a filter of ce:GetCostAndUsage", expression, _ROOTS)
    if len(expression) != 1:
        raise invalid(
            "Expression has zero or more than one roots. Only one root operator is allowed for each expression: "
            '"and", "or", "not", "tag" or "dimensionValue"'
        )
    ((root, body),) = expression.items()
    if root == "CostCategories":
        raise NotModelledError("the twin does not model cost categories")
    if root == "Tags":
        return _tags(body, tags_of, active)
    if root == "Dimensions":
        return _dimension(body, account, region)
    if root == "Not":
        inside = predicate(body, tags_of, active, account, region)
        return lambda line: not inside(line)
    if len(body) < 2:
        raise invalid(f"{root} expression must have at least 2 operands")
    operands = [predicate(each, tags_of, active, account, region) for each in body]
    return _all(operands) if root == "And" else _any(operands)


def _all(operands: Iterable[Predicate]) -> Predicate:
    return lambda line: all(operand(line) for operand in operands)


def _any(operands: Iterable[Predicate]) -> Predicate:
    return lambda line: any(operand(line) for operand in operands)


def _options(body: Mapping[str, Any], known: set[str]) -> list[str]:
    given = body.get("MatchOptions") or ["EQUALS"]
    unknown = sorted(set(given) - known)
    if unknown:
        raise NotModelledError(f"the twin does not model the match option {', '.join(unknown)} of Cost Explorer")
    return given


def _tags(body: Mapping[str, Any], tags_of: TagsOf, active: Collection[str]) -> Predicate:
    refuse_unknown("Tags of a filter of ce:GetCostAndUsage", body, {"Key", "Values", "MatchOptions"})
    key, values = body.get("Key", ""), body.get("Values") or []
    options = _options(body, {"EQUALS", "CASE_SENSITIVE", "ABSENT"})
    if "ABSENT" in options:
        if values:
            raise invalid("Values must be empty if the match option is ABSENT")
        return lambda line: key not in active or key not in tags_of(line)
    if not values:
        raise invalid("Values must not be empty")
    return lambda line: key in active and tags_of(line).get(key) in values


def _dimension(body: Mapping[str, Any], account: str, region: str) -> Predicate:
    refuse_unknown("Dimensions of a filter of ce:GetCostAndUsage", body, {"Key", "Values", "MatchOptions"})
    key, values = body.get("Key", ""), body.get("Values") or []
    _options(body, {"EQUALS", "CASE_SENSITIVE"})
    if key == "RESOURCE_ID":
        raise invalid("Dimension RESOURCE_ID is not allowed.")
    if not values:
        raise invalid("Values must not be empty")
    match key:
        case "SERVICE":
            return lambda line: SERVICE_OF[line.kind] in values
        case "REGION":
            return lambda line: region in values
        case "LINKED_ACCOUNT":
            return lambda line: account in values
        case "RECORD_TYPE":  # no credits, refunds or taxes here
            return lambda line: "Usage" in values
    raise NotModelledError(f"the twin does not model the dimension {key} of Cost Explorer")
