"""What the engine remembers of a stack between two runs; plain data that goes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Resource:
    """One resource as last deployed. `inputs` are the checked ones; `secrets` name what must not be shown.

    `auto_named`: the provider chose the name. `broken`: it exists but its creation did not finish, so the next run
    replaces it. `external`: read by the program, never owned.
    """

    urn: str
    type: str
    name: str
    custom: bool
    id: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    provider: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    ignore_changes: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    protect: bool = False
    retain_on_delete: bool = False
    deleted_with: str = ""
    auto_named: bool = False
    broken: bool = False
    external: bool = False

    @property
    def needs(self) -> set[str]:
        """The URNs that must outlive this resource."""
        return {*self.dependencies, *(urn for urns in self.property_dependencies.values() for urn in urns)} | {
            urn for urn in (self.parent, self.provider) if urn
        }


@dataclass
class State:
    """`resources` by URN; `pending`: replaced resources that still have to be deleted; `outputs` of the stack."""

    resources: dict[str, Resource] = field(default_factory=dict)
    pending: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> State:
        data = json.loads(text)
        return State(
            {urn: Resource(**resource) for urn, resource in data["resources"].items()},
            [Resource(**resource) for resource in data["pending"]],
            data["outputs"],
        )

    def copy(self) -> State:
        return State.from_json(self.to_json())

    def rename(self, old: str, new: str) -> None:
        """Give the resource `old` the URN `new`, everywhere."""
        resource = self.resources.pop(old)
        resource.urn = new
        self.resources[new] = resource

        def renamed(urns: Iterable[str]) -> list[str]:
            return [new if urn == old else urn for urn in urns]

        for other in [*self.resources.values(), *self.pending]:
            other.dependencies = renamed(other.dependencies)
            other.property_dependencies = {k: renamed(v) for k, v in other.property_dependencies.items()}
            other.parent, other.provider, other.deleted_with = renamed(
                [other.parent, other.provider, other.deleted_with]
            )


def deletion_order(resources: Iterable[Resource]) -> list[Resource]:
    """Everything before what it needs; otherwise the last one made goes first."""
    left = list(resources)[::-1]
    ordered: list[Resource] = []
    while left:
        wanted = {urn for resource in left for urn in resource.needs if urn != resource.urn}
        free = [resource for resource in left if resource.urn not in wanted] or left[:1]
        ordered.extend(free)
        left = [resource for resource in left if not any(resource is done for done in free)]
    return ordered


def dependents(resources: Mapping[str, Resource], urn: str) -> list[Resource]:
    """The resources with a property that comes from `urn`."""
    return [
        resource
        for resource in resources.values()
        if any(urn in urns for urns in resource.property_dependencies.values())
    ]
