"""Reads raw values into the fields of the models, noting every fault on the way instead of stopping at the first."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ..clouds import Cloud
from .faults import Fault, closest, shown
from .kinds import Rule
from .sources import NAMESPACE

_NOT_SET: Final = "(not set)"


class Reader:
    """Reads the fields of one model and of the models inside it, noting every fault on the way."""

    def __init__(self, cloud: Cloud, encrypted: frozenset[str]) -> None:
        self._cloud = cloud
        self._encrypted = encrypted
        self.faults: list[Fault] = []
        self.missing: list[Fault] = []

    def fields(self, model: type[BaseModel], raw: Mapping[Any, Any], path: str) -> dict[str, Any]:
        """The sound values by field name; models inside as dicts, lists of models as lists of dicts."""
        keys = {name: self._key(name, field) for name, field in model.model_fields.items() if not field.exclude}
        for key in raw:
            if key not in keys.values():
                near = closest(str(key), keys.values()) if isinstance(key, str) else None
                fix = f"did you mean {path}{near}?" if near else f"the keys here are {', '.join(keys.values())}"
                self._fault(path + shown(key), raw[key], "is not a setting", fix)
        values: dict[str, Any] = {}
        for name, key in keys.items():
            field = model.model_fields[name]
            if key in raw:
                self._value(values, name, field, raw[key], path + key)
            elif field.is_required():
                rule, fix = rule_of(field)
                self.missing.append(Fault(path + key, _NOT_SET, f"is required: it {rule}", fix))
            else:
                values[name] = _as_dict(field.get_default(call_default_factory=True))
        return values

    def _key(self, name: str, field: FieldInfo) -> str:
        return self._cloud.region_key if name == "region" else field.alias or name

    def _fault(self, key: str, value: object, rule: str, fix: str) -> None:
        self.faults.append(Fault(key, shown(value), rule, fix))

    def _value(self, values: dict[str, Any], name: str, field: FieldInfo, value: Any, key: str) -> None:
        """Put the sound value of one field into `values`, or note its faults."""
        before = len(self.faults) + len(self.missing)
        model, many = _inner(field)
        value = _decoded(field, value)
        rule, fix = rule_of(field)
        if key in self._encrypted or _is_encrypted(value):
            plain = f"pulumi config set --plaintext {key if ':' in key else NAMESPACE + ':' + key}"
            self._fault(key, "[encrypted]", "must be plain: settings hold no secrets and are checked before use", plain)
        elif value is None:
            self._fault(key, "(empty)", "has no value", f"remove the line, or give it one: it {rule}")
        elif model is None:
            self._plain(values, name, field, value, key)
        elif many and isinstance(value, Sequence) and not isinstance(value, str):
            items = [self._item(model, item, f"{key}[{index}]") for index, item in enumerate(value)]
            if before == len(self.faults) + len(self.missing):
                values[name] = items
        elif not many and isinstance(value, Mapping):
            values[name] = self.fields(model, value, f"{key}.")
        else:
            self._fault(key, value, rule, fix)

    def _item(self, model: type[BaseModel], item: Any, key: str) -> dict[str, Any]:
        if isinstance(item, Mapping) and not _is_encrypted(item):
            return self.fields(model, item, f"{key}.")
        keys = ", ".join(field.alias or name for name, field in model.model_fields.items())
        self._fault(key, item, f"must be a map with the keys {keys}", "see docs/configuration.md")
        return {}

    def _plain(self, values: dict[str, Any], name: str, field: FieldInfo, value: Any, key: str) -> None:
        try:
            values[name] = _adapter(field).validate_python(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if any(one["loc"] for one in found):  # a faulty item also makes its list look too short
                found = [one for one in found if one["loc"]]
            for one in found:
                place = "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in one["loc"])
                rule, fix = rule_of(field, inside=bool(place))
                context = one.get("ctx", {})
                if one["type"] == "rule":
                    rule, fix = context["rule"], context["fix"]
                self._fault(key + place.removesuffix(".[key]"), one["input"], rule, fix)


def _as_dict(value: Any) -> Any:
    """A default as `Reader.fields` returns values: models as dicts."""
    return {name: getattr(value, name) for name in type(value).model_fields} if isinstance(value, BaseModel) else value


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"secure"} and isinstance(value["secure"], str)


def _decoded(field: FieldInfo, value: Any) -> Any:
    """Lists and maps reach a program, and files written by `pulumi config set`, as JSON text."""
    if not isinstance(value, str) or not _is_structured(field.annotation):
        return value
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return decoded if isinstance(decoded, list | dict) else value


def _parts(annotation: Any) -> Iterator[Any]:
    """The annotation and all that is inside it: `Annotated`, unions and item types unfolded."""
    yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


def _is_structured(annotation: Any) -> bool:
    kinds = (tuple, Mapping)
    for part in _parts(annotation):
        origin = typing.get_origin(part) or part
        if isinstance(origin, type) and origin is not types.NoneType and issubclass(origin, (*kinds, BaseModel)):
            return True
    return False


def _inner(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The model inside a field, and whether the field is a list of them."""
    parts = list(_parts(field.annotation))
    model = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
    return model, any(typing.get_origin(part) is tuple for part in parts)


def rule_of(field: FieldInfo, inside: bool = False) -> tuple[str, str]:
    """What a field must be and how to get there; `inside`: what one of its items must be."""
    own, items = list(field.metadata), list(_parts(field.annotation))
    for part in [*items, *own] if inside else [*own, *items]:
        if isinstance(part, Rule):
            return part.text, part.fix
    model, _ = _inner(field)
    if model is None:
        return "must be text", "put it in quotes"
    keys = ", ".join(inner.alias or name for name, inner in model.model_fields.items() if inner.is_required())
    return f"must be a map with {keys}" if keys else "must be a map of settings", "see docs/configuration.md"


@functools.cache
def _adapter_for(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    return _adapter_for(field.rebuild_annotation())
