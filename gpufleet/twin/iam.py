"""Who may do what: IAM policies evaluated as AWS evaluates them, for the statements that this project writes.

moto cannot judge Auto Scaling or DynamoDB resources (it sees "*"), so the twin evaluates policies itself:
explicit deny, then allow, per action, resource and condition; a permissions boundary must allow as well.
Source: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from moto.iam.models import iam_backends

from .errors import AwsError, NotModelledError
from .iam_resources import RULES, Need, Rule, refuse

Statement = Mapping[str, Any]


@dataclass
class Principal:
    """A role's policies, ready for evaluation."""

    statements: list[Statement]
    boundary: list[Statement] | None = None
    decided: dict[Need, bool] = field(default_factory=dict)  # the same few calls come again and again


class Authorizer:
    """Answers for every call of a role: allowed, or AWS's AccessDenied with the same words.

    `asked` records what was needed by whom (role -> set of `Need`): tests hold the policies against it.
    `rules` says which permissions a call needs; service models add what only they know.
    """

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region
        self.rules: dict[tuple[str, str], Rule] = dict(RULES)
        self.asked: dict[str, set[Need]] = {}
        self._principals: dict[str, Principal] = {}

    def forget(self) -> None:
        """Read the policies again at the next call (a policy may have changed)."""
        self._principals.clear()

    def check(self, principal: str, service: str, operation: str, params: Mapping[str, Any]) -> None:
        """Raise `AwsError` AccessDenied unless the role's policies allow the call on every resource it touches."""
        role = self._principals.get(principal)
        if role is None:
            role = self._principals[principal] = self._load(principal)
        rule = self.rules.get((service, operation))
        if rule is None:
            raise refuse(service, operation)
        for need in rule(params, self.account_id, self.region):
            self.asked.setdefault(principal, set()).add(need)
            if need not in role.decided:
                role.decided[need] = self._allowed(role, need)
            if not role.decided[need]:
                raise AwsError(
                    "AccessDeniedException" if service in ("dynamodb", "lambda") else "AccessDenied",
                    f"User: arn:aws:sts::{self.account_id}:assumed-role/{principal} is not authorized to perform: "
                    f"{need.action} on resource: {need.resource} because no identity-based policy allows the action",
                    403,
                )

    def _allowed(self, role: Principal, need: Need) -> bool:
        if not evaluate(role.statements, need):
            return False
        return role.boundary is None or evaluate(role.boundary, need)

    def _load(self, name: str) -> Principal:
        backend: Any = iam_backends[self.account_id]["aws"]
        role = next((role for role in backend.roles.values() if role.name == name), None)
        if role is None:
            raise AwsError("InvalidClientTokenId", f"The role {name} does not exist.", 403)
        statements = [s for text in role.policies.values() for s in _statements(text)]
        for policy in role.managed_policies.values():
            statements.extend(_statements(policy.document))
        boundary = None
        if role.permissions_boundary:
            managed = backend.managed_policies.get(role.permissions_boundary)
            boundary = _statements(managed.document) if managed else []
        return Principal(statements, boundary)


def _statements(document: str | Mapping[str, Any]) -> list[Statement]:
    parsed = json.loads(unquote(document)) if isinstance(document, str) else document
    found = parsed["Statement"]
    return found if isinstance(found, list) else [found]


def evaluate(statements: Iterable[Statement], need: Need) -> bool:
    """True when some statement allows `need` and none denies it."""
    matching = [s for s in statements if _matches(s, need)]
    if any(s["Effect"] == "Deny" for s in matching):
        return False
    return any(s["Effect"] == "Allow" for s in matching)


def _matches(statement: Statement, need: Need) -> bool:
    actions, resources = _listed(statement, "Action"), _listed(statement, "Resource")
    return (
        any(wildcard(pattern.lower(), need.action.lower()) for pattern in actions)
        and any(wildcard(pattern, need.resource) for pattern in resources)
        and _conditions_hold(statement.get("Condition", {}), dict(need.context))
    )


def _listed(statement: Statement, key: str) -> list[str]:
    if key not in statement:
        raise NotModelledError(f"the twin evaluates statements with {key}, not with Not{key}")
    value = statement[key]
    return [value] if isinstance(value, str) else list(value)


def wildcard(pattern: str, value: str) -> bool:
    """IAM's match: `*` any run of characters, `?` one; nothing else is special."""
    return re.fullmatch(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    for operator, keys in conditions.items():
        for key, expected in keys.items():
            wanted = [expected] if isinstance(expected, (str, int, bool)) else list(expected)
            if not _condition_holds(operator, context.get(key.lower()), [str(w) for w in wanted]):
                return False
    return True


def _condition_holds(operator: str, actual: str | None, wanted: list[str]) -> bool:
    if_exists = operator.endswith("IfExists")
    name = operator.removesuffix("IfExists").removeprefix("ForAllValues:").removeprefix("ForAnyValue:")
    if actual is None:
        return if_exists or operator.startswith("ForAllValues:")
    match name:
        case "StringEquals" | "ArnEquals":
            return actual in wanted
        case "StringLike" | "ArnLike":
            return any(wildcard(w, actual) for w in wanted)
        case "StringNotEquals":
            return actual not in wanted
        case "Bool":
            return actual.lower() in {w.lower() for w in wanted}
        case "NumericEquals":
            return any(float(actual) == float(w) for w in wanted)
        case _:
            raise NotModelledError(f"the twin does not model the IAM condition operator {operator}")
