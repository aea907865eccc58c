"""Recover: make a stack's state whole again after a `pulumi up` that was killed.

Pulumi notes each creation before it begins. What was under way when the CLI died stays in the state as a pending
operation: the resource may exist or not, and its id is not known. A plain `up` would create it a second time.

So: look for each of them in the account, take what exists into the state under its id, and forget the rest. This
edits the state as `pulumi stack export` and `import` give it: `pulumi refresh --import-pending-creates` of 3.259 drops
the resource instead of importing it, as it drops every pending operation that is not a creation.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .existing import SETTINGS, UnclearError

_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - how Pulumi marks special values in a state, the key of
_PROVIDER = "pulumi:providers:"


class RecoverError(Exception):
    """The stack stays as it is: why, and what to do about it."""


@dataclass(frozen=True)
class Interrupted:
    """One operation that was under way: `doing` is creating, updating, deleting, ...; `resource` as in the state."""

    doing: str
    resource: Mapping[str, Any]

    @property
    def urn(self) -> str:
        return self.resource["urn"]

    @property
    def type(self) -> str:
        return self.resource["type"]

    @property
    def label(self) -> str:
        return f"{self.type} {self.urn.split('::', 3)[3]}"

    @property
    def inputs(self) -> dict[str, Any]:
        """Without what the state keeps as a secret."""
        given = self.resource.get("inputs", {})
        return {name: value for name, value in given.items() if not (isinstance(value, dict) and _SECRET in value)}


@dataclass
class Plan:
    """What is to happen to each interrupted operation, by URN."""

    exists: dict[str, str] = field(default_factory=dict)  # its id: taken into the state
    second: dict[str, str] = field(default_factory=dict)  # its id, beside the one that the state has: `up` deletes it
    never_made: list[str] = field(default_factory=list)  # forgotten; `up` makes it
    repeated: list[str] = field(default_factory=list)  # nothing of its own in AWS: forgotten; `up` does it again
    looked_at: list[str] = field(default_factory=list)  # updates and deletions: a refresh shows how far they came
    unclear: dict[str, str] = field(default_factory=dict)  # why; nothing may change then

    @property
    def found(self) -> dict[str, str]:
        return {**self.exists, **self.second}

    @property
    def refreshed(self) -> list[str]:
        return [*self.found, *self.looked_at]


# -- the pure part: a state document, and what was found --------------------------------------------------------------


def interrupted(document: Mapping[str, Any]) -> list[Interrupted]:
    """The pending operations of an exported state, one for each resource: later ones repeat those of earlier kills."""
    pending = document["deployment"].get("pending_operations") or []
    operations = [Interrupted(one["type"], one["resource"]) for one in pending]
    return list({one.urn: one for one in operations}.values())


def planned(
    document: Mapping[str, Any], ids: Callable[[Interrupted], list[str]], given: Mapping[str, str] | None = None
) -> Plan:
    """What to do about each interrupted operation.

    `ids` looks for a resource and answers the ids that fit, or raises `UnclearError`; `given` are ids that the user
    names by URN ("" for never made). An id that the state already has for a resource of that type is not another's.
    Raises `RecoverError` if `given` names what was not being created.
    """
    plan, given = Plan(), dict(given or {})
    there = [one for one in _resources(document) if not one.get("pendingReplacement")]
    held, kept = {(one["type"], one.get("id")) for one in there}, {one["urn"] for one in there}
    for one in interrupted(document):
        if one.doing != "creating":
            plan.looked_at += [one.urn] if one.urn in kept and one.doing != "reading" else []
            continue
        try:
            found = [given.pop(one.urn)] if one.urn in given else _found(one, ids, held)
        except UnclearError as error:
            plan.unclear[one.urn] = f"{error}; does it exist? --id '{one.urn}=<id>', or nothing after = if it does not"
            continue
        if found is None:
            plan.repeated.append(one.urn)
        elif found in ([], [""]):
            plan.never_made.append(one.urn)
        else:
            (plan.second if one.urn in kept else plan.exists)[one.urn] = found[0]
    if given:
        raise RecoverError(f"--id names what was not being created: {', '.join(given)}")
    _refuse_shared(plan, {one.urn: one.type for one in interrupted(document)})
    return plan


def _found(one: Interrupted, ids: Callable[[Interrupted], list[str]], held: set[tuple[str, Any]]) -> list[str] | None:
    """The id of an interrupted creation, none if it was never made; None for what is nothing of its own."""
    if one.type in SETTINGS or one.type.startswith(_PROVIDER) or not one.resource.get("custom"):
        return None
    if one.resource.get("id"):
        return [one.resource["id"]]  # the creation had ended, and only the note of that is missing
    found = [identifier for identifier in ids(one) if (one.type, identifier) not in held]
    if len(found) > 1:
        raise UnclearError(f"{len(found)} of them fit, {', '.join(found)}")
    return found


def _refuse_shared(plan: Plan, types: Mapping[str, str]) -> None:
    """Two resources cannot be the same thing."""
    times = Counter((types[urn], identifier) for urn, identifier in plan.found.items())
    for urn, identifier in plan.found.items():
        if times[types[urn], identifier] > 1:
            plan.unclear[urn] = f"{identifier} fits several; name each one's: --id '{urn}=<id>'"


def recovered(document: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The state with what exists in it, and no pending operations.

    What the state has already, because it was being replaced or a later `up` made another one, stays; the second one is
    marked as what Pulumi has yet to delete. What was deleted to be made again is followed by its successor.
    """
    after = copy.deepcopy(dict(document))
    resources: list[dict[str, Any]] = _resources(after)
    for one in interrupted(after):
        if one.urn not in plan.found:
            continue
        made = {**one.resource, "id": plan.found[one.urn]}
        # With outputs a refresh reads by the id; without any, the provider would take the id for one to import by,
        # which is written in other ways (pulumi-terraform-bridge, Provider.Read).
        made.setdefault("outputs", {**made.get("inputs", {}), "id": made["id"]})
        if one.urn in plan.second:
            resources.append({**made, "delete": True, "protect": False})
            continue
        deleted = [n for n, old in enumerate(resources) if old["urn"] == one.urn and old.get("pendingReplacement")]
        place = deleted[0] if deleted else len(resources)
        resources[place : place + 1] = [made]
    after["deployment"] = {**after["deployment"], "resources": resources}
    after["deployment"].pop("pending_operations", None)
    return after


def region_of(document: Mapping[str, Any], one: Interrupted) -> str | None:
    """The region that the resource, or its provider, names."""
    urn = str(one.resource.get("provider", "")).rpartition("::")[0]
    provider = next((kept for kept in _resources(document) if kept["urn"] == urn), {})
    return one.inputs.get("region") or provider.get("inputs", {}).get("region")


def accounts(document: Mapping[str, Any]) -> set[str]:
    """The AWS accounts that the stack's resources are in, as far as their ARNs tell."""
    arns = (str(one.get("outputs", {}).get("arn", "")).split(":") for one in _resources(document))
    return {parts[4] for parts in arns if len(parts) > 5 and parts[4].isdigit()}


def _resources(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return document["deployment"].get("resources") or []


def lines(document: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """The plan as a table: a line for each operation, and what it is about."""
    told = {
        **{urn: ("exists", identifier) for urn, identifier in plan.exists.items()},
        **{urn: ("a second", f"{identifier}, which up deletes") for urn, identifier in plan.second.items()},
        **dict.fromkeys(plan.never_made, ("never made", "up makes it")),
        **dict.fromkeys(plan.looked_at, ("refresh", "to see how far it came")),
        **{urn: ("UNCLEAR", why) for urn, why in plan.unclear.items()},
    }
    operations = interrupted(document)
    width = max((len(one.label) for one in operations), default=0)
    for one in operations:
        owner = SETTINGS.get(one.type)
        again = f"up sets it on its {owner} again" if owner else "up repeats it"
        what, about = told.get(one.urn) or ("forgotten", again)
        yield f"{what:<11} {one.label:<{width}} {about}"


# -- the CLI ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """A stack, by the `pulumi` on PATH, in the project's folder `project`; backend and secrets as the user has them."""

    name: str
    project: Path

    def exported(self) -> dict[str, Any]:
        return json.loads(self._run("export", "stack", "export"))

    def replace(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Put the state `after` in the place of `before`. Refused while the stack is locked or has changed."""
        if self.exported() != before:
            raise RecoverError(f"the state of {self.name} has just changed: somebody works on it; look again")
        self._run("change the state of", "stack", "import", told=json.dumps(after))

    def refresh(self, urns: list[str]) -> None:
        """Read these resources anew, and nothing else."""
        targets = [word for urn in urns for word in ("--target", urn)]
        try:
            self._run("refresh", "refresh", "--yes", "--skip-preview", *targets)
        except RecoverError as error:
            raise RecoverError(
                f"{error}\nThe state has what was found; now: pulumi refresh --stack {self.name}"
            ) from None

    def _run(self, doing: str, *words: str, told: str | None = None) -> str:
        pulumi = shutil.which("pulumi")
        if pulumi is None:
            raise RecoverError("there is no pulumi on PATH")
        done = subprocess.run(  # noqa: S603 - the user's own CLI
            [pulumi, *words, "--stack", self.name, "--non-interactive", "--color", "never"],
            cwd=self.project,
            input=told or "",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).replace(
                "pulumi cancel", f"pulumi cancel --stack {self.name}"
            )
            raise RecoverError(f"pulumi could not {doing} {self.name}: {said}")
        return done.stdout
