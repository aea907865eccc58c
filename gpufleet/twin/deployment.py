"""One run of a program against the state: what happens to each resource, decided as Pulumi's engine decides it.

Same, update, replace or create, one registration after the other; afterwards what the program no longer names is
deleted. Sources: Pulumi's documentation, "How Pulumi works" and "Resource options".
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .cloud import Cloud
from .errors import AwsError, NotModelledError
from .handlers import Asked, Handler, PartlyMade, Provider, explained, handler, ignoring, invoke
from .handlers.properties import UNKNOWN, Change, has_unknown
from .program import Registered, Registration
from .stack_config import StackConfig
from .state import Resource, State, deletion_order, dependents

_PROVIDERS = "pulumi:providers:"


class UpError(Exception):
    """An operation failed: the message names the resource, what was tried, and what AWS said."""


@dataclass(frozen=True)
class Step:
    """One thing that happened to one resource. `op`: same, create, update, replace, delete, read or import."""

    op: str
    urn: str
    type: str
    name: str
    diff: tuple[Change, ...] = ()


class Run:
    """A deployment in progress (`preview`: nothing is touched, and what is only known afterwards stays unknown)."""

    def __init__(
        self,
        cloud: Cloud,
        state: State,
        config: StackConfig,
        *,
        preview: bool,
        on_step: Callable[[Step], object] | None = None,
    ) -> None:
        self.cloud, self.state, self.config, self.preview = cloud, state, config, preview
        self.steps: list[Step] = []
        self.logged: list[tuple[str, str]] = []
        self.outputs: dict[str, Any] = {}
        self.failure: UpError | None = None
        self._on_step = on_step
        self._seen: set[str] = set()
        self._aliases: dict[str, tuple[str, ...]] = {}  # urn -> its earlier urns, for its children
        self._displaced: dict[str, Resource] = {}  # deleted because something under them was replaced
        self._random = cloud.random
        if preview:
            self._random = random.Random()  # noqa: S311 - names in a plan
            self._random.setstate(cloud.random.getstate())

    # -- what the program calls ---------------------------------------------------------------------------------

    def register(self, wanted: Registration) -> Registered:
        """Bring one resource to where the program wants it. After a failure nothing more is done."""
        if self.failure is not None:
            return Registered(failed=True)
        try:
            if wanted.urn in self._seen:
                raise UpError(f"duplicate resource URN {wanted.urn}: give each resource its own name")
            self._seen.add(wanted.urn)
            old = self._old(wanted)
            if wanted.read_id:
                return self._external(wanted)
            return self._custom(wanted, old) if wanted.custom else self._component(wanted, old)
        except Exception as error:
            self.failure = _failure(wanted.name, wanted.type, error)
            return Registered(failed=True)

    def invoke(self, token: str, args: dict[str, Any], provider: str) -> dict[str, Any]:
        if not provider:
            self._refuse_default_provider(token, token)
        return invoke(self.cloud, token, args)

    def stack_outputs(self, outputs: dict[str, Any]) -> None:
        self.outputs = outputs

    def log(self, severity: str, message: str) -> None:
        self.logged.append((severity, message))

    # -- afterwards ---------------------------------------------------------------------------------------------

    def delete_the_rest(self) -> None:
        """Delete what was replaced, and what the program no longer names. Raises `UpError`."""
        gone = [resource for urn, resource in self.state.resources.items() if urn not in self._seen]
        self.delete_all([*self.state.pending, *gone])

    def delete_all(self, resources: list[Resource]) -> None:
        for resource in resources:
            self._refuse_protected(resource, "deleted")
        going = {resource.urn for resource in resources}
        for resource in deletion_order(resources):
            keep = resource.external or resource.retain_on_delete or resource.deleted_with in going
            replaced = any(resource is other for other in self.state.pending)
            if resource.custom and not keep and not self.preview:
                try:
                    handler(resource.type).delete(self.cloud, resource.id, {**resource.inputs, **resource.outputs})
                except Exception as error:
                    raise _failure(resource.name, resource.type, error, "deleting") from error
            if replaced:
                self.state.pending = [other for other in self.state.pending if other is not resource]
            else:
                self.state.resources.pop(resource.urn, None)
                self._step("delete", resource)

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(step.op for step in self.steps))

    # -- one resource -------------------------------------------------------------------------------------------

    def _component(self, wanted: Registration, old: Resource | None) -> Registered:
        op = "create" if old is None else "same" if old.inputs == wanted.inputs else "update"
        resource = _resource(wanted, wanted.inputs)
        self._keep(resource)
        self._step(op, resource)
        return Registered(outputs={})

    def _external(self, wanted: Registration) -> Registered:
        kind = handler(wanted.type)
        outputs = kind.read(self.cloud, wanted.read_id, wanted.inputs)
        if outputs is None:
            raise AwsError("NotFound", f"{wanted.type} {wanted.read_id} does not exist")
        resource = replace(_resource(wanted, wanted.inputs), id=wanted.read_id, outputs=outputs, external=True)
        self._keep(resource)
        self._step("read", resource)
        return self._registered(kind, resource)

    def _custom(self, wanted: Registration, old: Resource | None) -> Registered:
        kind = handler(wanted.type)
        news = ignoring(old.inputs, dict(wanted.inputs), list(wanted.ignore_changes)) if old else dict(wanted.inputs)
        asked = Asked(
            wanted.name,
            self._random,
            self._default_tags(wanted),
            old.inputs if old else None,
            old.auto_named if old else False,
        )
        inputs = kind.check(self.cloud, news, asked)
        auto_named = kind.names_itself(news) or bool(old and old.auto_named and kind.kept_name(old.inputs, inputs))
        resource = replace(_resource(wanted, inputs), auto_named=auto_named)
        imported = old is None and bool(wanted.import_id) and wanted.urn not in self._displaced
        if imported:
            old = self._import(kind, wanted, resource)
            resource.inputs = inputs = ignoring(old.inputs, inputs, list(wanted.ignore_changes))
        if old is None:
            return self._create(kind, resource)
        resource.id, resource.outputs = old.id, old.outputs
        diff = kind.diff(old.inputs, inputs, auto_named)
        changes = tuple(
            replace(change, replace=change.replace or _named_by(wanted.replace_on_changes, change.path))
            for change in diff.changes
        )
        if old.broken or any(change.replace for change in changes):
            self._refuse_imported(wanted, changes)
            first = wanted.delete_before_replace if wanted.delete_before_replace is not None else diff.delete_first
            fresh = replace(resource, inputs=kind.check(self.cloud, news, replace(asked, olds=None)), id="")
            return self._replace(kind, old, fresh, changes, delete_first=first or old.broken)
        if changes:
            return self._update(kind, old, resource, changes)
        self._keep(resource)
        if not imported:
            self._step("same", resource)
        return self._registered(kind, resource)

    def _create(self, kind: Handler, resource: Resource, changes: tuple[Change, ...] = ()) -> Registered:
        op = "replace" if changes or resource.urn in self._displaced else "create"
        resource.outputs = dict(resource.inputs)
        if not self.preview:
            try:
                resource.id, resource.outputs = kind.create(self.cloud, dict(resource.inputs))
            except PartlyMade as error:
                resource.id, resource.broken = error.id, True
                self._keep(resource)
                raise
        self._keep(resource)
        self._step(op, resource, changes)
        return self._registered(kind, resource)

    def _update(self, kind: Handler, old: Resource, resource: Resource, changes: tuple[Change, ...]) -> Registered:
        if self.preview:
            planned = {**old.outputs, **resource.inputs}
            resource.outputs = {k: v for k, v in planned.items() if k not in kind.unsettled}
        else:
            changed = {change.top for change in changes}
            resource.id, resource.outputs = kind.update(
                self.cloud, old.id, dict(old.inputs), dict(resource.inputs), changed
            )
        self._keep(resource)
        self._step("update", resource, changes)
        return self._registered(kind, resource)

    def _replace(
        self, kind: Handler, old: Resource, resource: Resource, changes: tuple[Change, ...], *, delete_first: bool
    ) -> Registered:
        self._refuse_protected(old, "replaced")
        resource.broken = False
        changes = changes or (Change("", "unfinished", "created again", True),)
        if not delete_first:
            self.state.pending.append(self.state.resources.pop(old.urn))
            return self._create(kind, resource, changes)
        above = self._replaced_with(old.urn, set())
        for dependent in above:
            self._refuse_protected(dependent, "replaced")
        for gone in deletion_order([*above, old]):
            if not self.preview:
                handler(gone.type).delete(self.cloud, gone.id, {**gone.inputs, **gone.outputs})
            self.state.resources.pop(gone.urn)
            self._displaced[gone.urn] = gone
        return self._create(kind, resource, changes)

    def _replaced_with(self, urn: str, known: set[str]) -> list[Resource]:
        """What cannot stay while `urn` is away: dependents whose property from it can only be set at creation."""
        found: list[Resource] = []
        for resource in dependents(self.state.resources, urn):
            props = handler(resource.type).props if resource.custom else {}
            fixed = any(urn in deps and name in props and props[name].replace
                        for name, deps in resource.property_dependencies.items())  # fmt: skip
            if fixed and resource.urn not in known | self._seen:
                known.add(resource.urn)
                found.extend([resource, *self._replaced_with(resource.urn, known)])
        return found

    def _import(self, kind: Handler, wanted: Registration, resource: Resource) -> Resource:
        """Take it into the state as it is; what the program has otherwise is an update that follows."""
        identifier, given = kind.imported(wanted.import_id)
        outputs = kind.read(self.cloud, identifier, {**resource.inputs, **given})
        if outputs is None:
            raise AwsError("NotFound", f"there is no {wanted.type} {wanted.import_id} to import")
        found = replace(resource, id=identifier, inputs=kind.inputs_of(outputs, resource.inputs), outputs=outputs)
        self._keep(found)
        self._step("import", found)
        return found

    # -- details ------------------------------------------------------------------------------------------------

    def _old(self, wanted: Registration) -> Resource | None:
        """The resource in the state, under this URN or an earlier one (aliases; a parent's count for its children)."""
        aliases = [*wanted.aliases]
        for earlier in self._aliases.get(wanted.parent, ()):
            parent_name, name = wanted.parent.rsplit("::", 1)[1], wanted.name
            if name.startswith(parent_name):
                name = earlier.rsplit("::", 1)[1] + name.removeprefix(parent_name)
            head, above = earlier.rsplit("::", 2)[0], earlier.split("::")[2]
            aliases.append(f"{head}::{above}${wanted.type}::{name}")
        self._aliases[wanted.urn] = tuple(aliases)
        if wanted.urn not in self.state.resources:
            for alias in aliases:
                if alias in self.state.resources and alias not in self._seen:
                    self.state.rename(alias, wanted.urn)
                    break
        return self.state.resources.get(wanted.urn)

    def _default_tags(self, wanted: Registration) -> dict[str, str]:
        if wanted.type.startswith(_PROVIDERS):
            return {}
        if not wanted.provider:
            self._refuse_default_provider(wanted.type, wanted.name)
            region = self.config.values.get("aws:region", self.cloud.region)
            if region != self.cloud.region:
                raise NotModelledError(f"the twin serves {self.cloud.region}, aws:region is {region}")
            return {}
        provider = self.state.resources.get(wanted.provider.rsplit("::", 1)[0])
        return Provider.default_tags(provider.inputs) if provider else {}

    def _refuse_default_provider(self, token: str, name: str) -> None:
        package = token.split(":", 1)[0]
        if self.config.needs_explicit_provider(package):
            raise UpError(f"Default provider for '{package}' disabled. '{name}' must use an explicit provider.")

    @staticmethod
    def _refuse_imported(wanted: Registration, changes: tuple[Change, ...]) -> None:
        """What the program names by its id cannot become another one."""
        if wanted.import_id:
            text = "; ".join(f"{change.path}: {change.old!r} => {change.new!r}" for change in changes if change.replace)
            raise UpError(
                f"{wanted.name} ({wanted.type}): previously-imported resources that still specify an ID may not be "
                f"replaced; please remove the `import` declaration from your program; {text}"
            )

    @staticmethod
    def _refuse_protected(resource: Resource, done: str) -> None:
        if resource.protect:
            raise UpError(
                f"{resource.name} ({resource.type}) cannot be {done} because it is protected. "
                "To unprotect it, remove the `protect` flag from the program and run `up` first"
            )

    def _keep(self, resource: Resource) -> None:
        self.state.resources.pop(resource.urn, None)
        self.state.resources[resource.urn] = resource

    def _step(self, op: str, resource: Resource, changes: tuple[Change, ...] = ()) -> None:
        step = Step(op, resource.urn, resource.type, resource.name, changes)
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def _registered(self, kind: Handler, resource: Resource) -> Registered:
        """Files stay with the program; unknown values are left out, so that they stay unknown."""
        outputs = {
            name: value
            for name, value in resource.outputs.items()
            if not (name in kind.props and kind.props[name].kind == "asset") and not has_unknown(value)
        }
        if not self.preview:
            unset = {name: None for name in kind.props if name not in resource.outputs}
            outputs = {**unset, **outputs}
        return Registered(resource.id, outputs, tuple(resource.secrets))


def _resource(wanted: Registration, inputs: dict[str, Any]) -> Resource:
    return Resource(
        urn=wanted.urn,
        type=wanted.type,
        name=wanted.name,
        custom=wanted.custom,
        inputs=inputs,
        parent=wanted.parent,
        provider=wanted.provider.rsplit("::", 1)[0] if wanted.provider else "",
        dependencies=list(wanted.dependencies),
        property_dependencies={name: list(urns) for name, urns in wanted.property_dependencies.items()},
        ignore_changes=list(wanted.ignore_changes),
        secrets=list(wanted.secrets),
        protect=wanted.protect,
        retain_on_delete=wanted.retain_on_delete,
        deleted_with=wanted.deleted_with,
    )


def _named_by(paths: tuple[str, ...], path: str) -> bool:
    return any(own in ("*", path) or path.startswith((f"{own}.", f"{own}[")) for own in paths)


def _failure(name: str, type_: str, error: Exception, doing: str = "deploying") -> UpError:
    """The one message for whatever went wrong with a resource."""
    if isinstance(error, UpError):
        return error
    cause = error.cause if isinstance(error, PartlyMade) else error
    failure = UpError(f"{doing} {name} ({type_}) failed: {explained(cause)}")
    failure.__cause__ = cause
    return failure


__all__ = ["UNKNOWN", "Run", "Step", "UpError"]
