"""Who may do what: IAM policies evaluated as AWS evaluates them, for the statements that this project writes.

moto cannot judge Auto Scaling or DynamoDB resources (it sees "*"), so the twin evaluates policies itself:
explicit deny, then allow, per action, resource and condition; a permissions boundary must allow as well.
Source: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
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
        rule = self.rules.get((service, operation))
        if rule is None:
            raise refuse(service, operation)
        for need in rule(params, self.account_id, self.region):
            if not self.allows(principal, need):
                raise AwsError(
                    "AccessDeniedException" if service in ("dynamodb", "lambda") else "AccessDenied",
                    f"User: arn:aws:sts::{self.account_id}:assumed-role/{principal} is not authorized to perform: "
                    f"{need.action} on resource: {need.resource} because no identity-based policy allows the action",
                    403,
                )

    def allows(self, principal: str, need: Need) -> bool:
        """Whether the role's policies allow one permission; the question is recorded in `asked`."""
        role = self._principals.get(principal)
        if role is None:
            role = self._principals[principal] = self._load(principal)
        self.asked.setdefault(principal, set()).add(need)
        if need not in role.decided:
            role.decided[need] = self._allowed(role, need)
        return role.decided[need]

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
            statements.extend(_managed(policy))
        boundary = None
        if role.permissions_boundary_arn:
            managed = backend.managed_policies.get(role.permissions_boundary_arn)
            boundary = _managed(managed) if managed else []
        return Principal(statements, boundary)


def _managed(policy: Any) -> list[Statement]:
    """The statements of a managed policy's default version."""
    version = next(v for v in policy.versions if v.version_id == policy.default_version_id)
    return _statements(version.document)


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


@dataclass(frozen=True)
class Caller:
    """Who knocks at a resource that has a policy of its own: an AWS service on behalf of a resource, or a role."""

    service: str | None = None  # "sns.amazonaws.com"
    arn: str | None = None  # of a role
    context: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_service(cls, service: str, source_arn: str, account_id: str) -> Caller:
        context = (("aws:sourcearn", source_arn), ("aws:sourceaccount", account_id), ("aws:securetransport", "true"))
        return cls(service=service, context=context)

    @classmethod
    def of_role(cls, name: str, account_id: str) -> Caller:
        context = (("aws:principalaccount", account_id), ("aws:sourceowner", account_id))
        return cls(arn=f"arn:aws:iam::{account_id}:role/{name}", context=(*context, ("aws:securetransport", "true")))


def resource_policy(document: str | Mapping[str, Any] | None, caller: Caller, action: str, resource: str) -> str | None:
    """What a resource's own policy says about `caller`: "Deny", "Allow" or None (nothing).

    Source: IAM user guide, "Policy evaluation logic": an explicit deny wins; a service principal needs an allow here.
    """
    need = Need(action, resource, caller.context)
    said = {
        s["Effect"]
        for s in (_statements(document) if document else [])
        if _names(s.get("Principal"), caller) and _matches(s, need)
    }
    return "Deny" if "Deny" in said else "Allow" if "Allow" in said else None


def _names(principal: Any, caller: Caller) -> bool:
    if principal is None:
        raise NotModelledError("the twin evaluates resource policies with Principal, not with NotPrincipal")
    if principal == "*":
        return True
    kinds = {kind: [named] if isinstance(named, str) else list(named) for kind, named in principal.items()}
    if caller.service is not None:
        return caller.service in kinds.get("Service", [])
    account = (caller.arn or "").split(":")[4]
    return bool({"*", caller.arn, account, f"arn:aws:iam::{account}:root"} & set(kinds.get("AWS", [])))


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
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


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
        # "If the key is not present [...] StringNotEquals [...] the condition is true" (IAM, condition operators).
        return if_exists or operator.startswith("ForAllValues:") or "Not" in name
    test = _TESTS.get(name.replace("Not", ""))
    if test is None or (name.startswith("Numeric") and "Not" in name):
        raise NotModelledError(f"the twin does not model the IAM condition operator {operator}")
    return any(test(actual, each) for each in wanted) != ("Not" in name)


_TESTS: dict[str, Callable[[str, str], bool]] = {  # (what the request has, what the policy says)
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringLike": lambda actual, wanted: wildcard(wanted, actual),
    "ArnLike": lambda actual, wanted: wildcard(wanted, actual),
    "ArnEquals": lambda actual, wanted: wildcard(wanted, actual),  # "ArnEquals and ArnLike behave identically"
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
    "NumericEquals": lambda actual, wanted: float(actual) == float(wanted),
    "NumericLessThanEquals": lambda actual, wanted: float(actual) <= float(wanted),
}
