"""What every resource handler can do: check, diff, create, read, update, delete.

A handler is one Pulumi resource type. It acts only through boto3 clients of the operator, as the real provider does,
and does not know who drives it: the built-in engine (`gpufleet.twin.engine`) or the real one.
Sources: the behaviour of pulumi-aws 7.51 and of the Terraform provider under it (names, ids, defaults, what replaces).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import AwsError, NotModelledError
from .account import Account
from .properties import (
    UNKNOWN,
    Change,
    Prop,
    canonical,
    differences,
    has_unknown,
    keep_old,
    undeclared,
)

STEERS_DELETION = "It only steers the deletion, and is read then."  # why AWS does not show a property

Inputs = dict[str, Any]
Outputs = dict[str, Any]


class PartlyMade(Exception):  # noqa: N818 - says what happened; the cause is the error
    """The resource exists (`id`), but `cause` kept it from being finished."""

    def __init__(self, identifier: str, cause: Exception) -> None:
        super().__init__(str(cause))
        self.id = identifier
        self.cause = cause


@contextmanager
def finishing(identifier: str) -> Iterator[None]:
    """After the first call of a creation: an error from here on leaves a resource that exists."""
    try:
        yield
    except (ClientError, AwsError) as error:
        raise PartlyMade(identifier, error) from error


@dataclass(frozen=True)
class Naming:
    """How a physical name comes about: `prop` as given, or from `prefix_prop`, or `<resource name>-<7 hex digits>`."""

    prop: str = "name"
    prefix_prop: str | None = "namePrefix"
    limit: int = 255
    lead: str = ""  # what AWS wants in front of every name


@dataclass(frozen=True)
class Asked:
    """Who asks for a check: the resource's name in the program, the provider's default tags, the state before."""

    name: str
    random: random.Random
    default_tags: Mapping[str, str] = field(default_factory=dict)
    olds: Mapping[str, Any] | None = None
    auto_named: bool = False  # the old name was chosen here, not by the program


@dataclass(frozen=True)
class Diff:
    """`changes`, and what they mean: nothing, an update, or a replacement (which deletes first when names collide)."""

    changes: tuple[Change, ...] = ()
    delete_first: bool = False

    @property
    def replaces(self) -> bool:
        return any(change.replace for change in self.changes)


class Handler:
    """One resource type. Subclasses declare the table and implement `make`, `look`, `modify`, `retag` and `remove`."""

    type: ClassVar[str] = ""
    props: ClassVar[Mapping[str, Prop]] = {}
    outputs: ClassVar[str] = ""  # names that `look` answers beyond the inputs
    unsettled: ClassVar[tuple[str, ...]] = ()  # outputs that any update may change
    naming: ClassVar[Naming | None] = None
    taggable: ClassVar[bool] = False
    delete_first: ClassVar[bool] = False  # a second one beside the first cannot exist
    gone: ClassVar[tuple[str, ...]] = ()  # error codes that mean "does not exist"

    def __init_subclass__(cls) -> None:
        extra: dict[str, Prop] = {}
        if cls.taggable and "tags" not in cls.props:
            extra["tags"] = Prop()
        if cls.naming is not None and cls.naming.prefix_prop and cls.naming.prefix_prop not in cls.props:
            extra[cls.naming.prefix_prop] = Prop(api="", replace=True, computed=True, kept="It only chooses the name.")
        if "region" not in cls.props:
            extra["region"] = Prop(api="", replace=True, computed=True)
        cls.props = {**cls.props, **extra}

    # -- what an engine calls -----------------------------------------------------------------------------------

    def check(self, cloud: Account, news: Mapping[str, Any], asked: Asked) -> Inputs:
        """The inputs as the resource will have them: named, tagged, and nothing in them that the twin cannot apply.

        Raises `NotModelledError` naming the properties the twin does not know, `AwsError` for what AWS would refuse.
        """
        unknown = sorted(undeclared(self.props, news))
        if unknown:
            raise NotModelledError(f"the twin does not model {', '.join(unknown)} of {self.type}")
        inputs = {key: value for key, value in news.items() if value is not None}
        if inputs.get("region", cloud.region) not in (cloud.region, UNKNOWN):
            raise NotModelledError(f"the twin serves {cloud.region}, {asked.name} asks for {inputs['region']}")
        if self.taggable and (asked.default_tags or inputs.get("tags")) and inputs.get("tags") != UNKNOWN:
            inputs["tags"] = {**asked.default_tags, **(inputs.get("tags") or {})}
        if self.naming is not None:
            self._name(self.naming, inputs, asked)
        if not has_unknown(inputs):
            self.rules(inputs)
        return inputs

    def diff(self, olds: Mapping[str, Any], news: Mapping[str, Any], auto_named: bool = False) -> Diff:
        """How to get from the inputs `olds` to the checked inputs `news` (ignored changes already taken out)."""
        changes = tuple(differences(self.props, olds, news))
        same_name = (
            self.naming is not None
            and not auto_named
            and olds.get(self.naming.prop) == news.get(self.naming.prop)
            and news.get(self.naming.prop) not in (None, UNKNOWN)
        )
        return Diff(changes, self.delete_first or same_name)

    def create(self, cloud: Account, inputs: Inputs) -> tuple[str, Outputs]:
        """Make it; answers (id, outputs). Raises botocore's `ClientError`, or `PartlyMade` once something exists."""
        identifier = self.make(cloud, inputs)
        with finishing(identifier):
            outputs = self.read(cloud, identifier, inputs)
            if outputs is None:
                raise AwsError("NotFound", f"{self.type} {identifier} is gone right after its creation")
            return identifier, outputs

    def read(self, cloud: Account, identifier: str, inputs: Mapping[str, Any]) -> Outputs | None:
        """The resource as it is now, None when it is gone. `inputs` lend what AWS does not tell (kept properties)."""
        try:
            live = self.look(cloud, identifier, dict(inputs))
        except (ClientError, AwsError) as error:
            if not self.is_gone(error):
                raise
            return None
        if live is None:
            return None
        kept = {name: inputs[name] for name, prop in self.props.items() if prop.kept and inputs.get(name) is not None}
        outputs = {"region": cloud.region, **kept, **{k: v for k, v in live.items() if v is not None}}
        if self.taggable:
            outputs["tagsAll"] = outputs.get("tags", {})
        return outputs

    def update(
        self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]
    ) -> tuple[str, Outputs]:
        """Apply the properties `changed` (top-level names); answers (id, outputs)."""
        if "tags" in changed and self.taggable:
            before, after = olds.get("tags") or {}, news.get("tags") or {}
            gone = sorted(set(before) - set(after))
            new = {key: value for key, value in after.items() if before.get(key) != value}
            self.retag(cloud, identifier, new, gone)
            changed = changed - {"tags"}
        if any(not self.props[name].kept for name in changed):
            identifier = self.modify(cloud, identifier, olds, news, changed) or identifier
        outputs = self.read(cloud, identifier, news)
        if outputs is None:
            raise AwsError("NotFound", f"{self.type} {identifier} does not exist any more")
        return identifier, outputs

    def delete(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        """Remove it; something that is gone already is fine."""
        try:
            self.remove(cloud, identifier, outputs)
        except (ClientError, AwsError) as error:
            if not self.is_gone(error):
                raise

    def inputs_of(self, outputs: Mapping[str, Any], known: Mapping[str, Any]) -> Inputs:
        """The inputs that would describe the live `outputs`: what `known` names, and what is not as by default."""
        return {
            name: outputs[name]
            for name, prop in self.props.items()
            if outputs.get(name) is not None
            and (name in known or not (prop.computed or prop.kept or canonical(prop, outputs[name]) == _rest(prop)))
        }

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        """The id, and the inputs that `read` needs, for what the user gives to `pulumi import`."""
        return identifier, {}

    # -- what a resource type brings --------------------------------------------------------------------------------

    def rules(self, inputs: Inputs) -> None:
        """Raise `AwsError` for what AWS refuses and nobody behind the client checks."""

    def make(self, cloud: Account, inputs: Inputs) -> str:
        """Create; answers the id."""
        raise NotModelledError(f"the twin does not create {self.type}")

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        """The live properties (inputs and outputs), None or a `gone` error when it does not exist."""
        raise NotModelledError(f"the twin does not read {self.type}")

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> str | None:
        """Apply the changed properties; answers a new id if it has one."""
        raise NotModelledError(f"the twin does not update {', '.join(sorted(changed))} of {self.type}")

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        """Set the tags `new` and take the tags `gone` off."""
        raise NotModelledError(f"the twin does not retag {self.type}")

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        """Delete."""
        raise NotModelledError(f"the twin does not delete {self.type}")

    # -- inside -----------------------------------------------------------------------------------------------------

    def is_gone(self, error: Exception) -> bool:
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", "")
        else:
            code = getattr(error, "code", "")
        return code in self.gone

    def _name(self, naming: Naming, inputs: Inputs, asked: Asked) -> None:
        if inputs.get(naming.prop) is not None:
            return
        prefix = inputs.get(naming.prefix_prop) if naming.prefix_prop else None
        if prefix == UNKNOWN:
            inputs[naming.prop] = UNKNOWN
            return
        lead = prefix if prefix is not None else f"{naming.lead}{asked.name}-"
        old = (asked.olds or {}).get(naming.prop)
        if asked.auto_named and old and str(old).startswith(lead):
            inputs[naming.prop] = old
            return
        # With a prefix the provider under Pulumi adds its own, longer suffix; Pulumi's has seven hex digits.
        suffix = (
            f"{asked.random.getrandbits(104):026x}" if prefix is not None else f"{asked.random.getrandbits(28):07x}"
        )
        inputs[naming.prop] = (lead + suffix)[: naming.limit]

    def kept_name(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> bool:
        return self.naming is not None and olds.get(self.naming.prop) == news.get(self.naming.prop)

    def names_itself(self, news: Mapping[str, Any]) -> bool:
        """True when the program leaves the name to the provider."""
        return self.naming is not None and news.get(self.naming.prop) is None


def explained(error: BaseException) -> str:
    """One sentence for whatever went wrong: what AWS said, or what the twin does not model."""
    if isinstance(error, PartlyMade):
        return explained(error.cause)
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        return f"{error.operation_name}: {told.get('Code')}: {told.get('Message')}"
    if isinstance(error, (AwsError, NotModelledError, BotoCoreError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def split_import(kind: str, identifier: str, separator: str, form: str) -> list[str]:
    """The parts of an id as `pulumi import` takes it for `kind`; `form` shows the right one. Raises `AwsError`."""
    parts = identifier.split(separator)
    if len(parts) != len(form.split(separator)) or not all(parts):
        raise AwsError("InvalidImportId", f"{kind} is imported by {form}, not by {identifier}")
    return parts


def _rest(prop: Prop) -> Any:
    """The canonical value of a property that nobody set."""
    return canonical(prop, None)


def ignoring(olds: Mapping[str, Any], news: Inputs, paths: list[str]) -> Inputs:
    """`news` with every ignored path as it is in `olds`."""
    for path in paths:
        news = keep_old(path, dict(olds), news)
    return news
