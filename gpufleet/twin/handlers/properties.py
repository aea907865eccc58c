"""What a resource property is: how it is compared, applied, and written in AWS's own words.

A handler declares its properties as `name -> Prop` (Pulumi's wire names). From that table alone follow: which names are
refused, what counts as a change, whether a change replaces the resource, what is drift, and the request to AWS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from types import MappingProxyType
from typing import Any

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # Pulumi's wire value for "known only after the update"


@dataclass(frozen=True)
class Prop:
    """One input property.

    `api`: its name in the AWS request (None: the wire name with a capital). `replace`: a change replaces the resource.
    `default`: what AWS or the provider takes when the program says nothing. `computed`: the program may leave it to
    AWS, so its absence is never a change. `kind`: "json" (text compared as JSON), "set" (order means nothing), "flag"
    and "number" (a boolean and a number that Pulumi carries as text), "tags" and "pairs" (an object that AWS writes as
    a list of Key/Value or Name/Value), "time" (a moment as text), "key" (a KMS key by its id or ARN), "asset" (a file
    or archive, compared by content).
    `fields`: the properties of an object, or with `many` of each object in a list. `kept`: why the twin does not apply
    it, as a sentence (it is kept in the state and answered from there).
    """

    api: str | None = None
    replace: bool = False
    default: Any = None
    computed: bool = False
    kind: str = ""
    fields: Mapping[str, Prop] | None = None
    many: bool = False
    kept: str = ""

    def name(self, wire: str) -> str:
        return self.api if self.api is not None else wire[0].upper() + wire[1:]


Fields = Mapping[str, Prop]


@dataclass(frozen=True)
class Change:
    """One property that differs: `path` as Pulumi writes it (`a.b[0].c`), both values, and whether it replaces."""

    path: str
    old: Any
    new: Any
    replace: bool = False

    @property
    def top(self) -> str:
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


def table(fields: Fields) -> Fields:
    """A handler's own table, read-only."""
    return MappingProxyType(dict(fields))


def names(text: str, **options: Any) -> dict[str, Prop]:
    """The same `Prop` for each of the words in `text`."""
    return {word: Prop(**options) for word in text.split()}


def block(fields: Fields, **options: Any) -> Prop:
    return Prop(fields=fields, **options)


def blocks(fields: Fields, **options: Any) -> Prop:
    return Prop(fields=fields, many=True, **options)


# -- comparing ----------------------------------------------------------------------------------------------------


def differences(props: Fields, old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[Change]:
    """What must change to get from `old` to `new`, property by property in the order of the table."""
    changes: list[Change] = []
    for name, prop in props.items():
        before, after = old.get(name), new.get(name)
        if not (after is None and prop.computed):
            changes.extend(_difference(prop, before, after, f"{path}{name}"))
    return changes


def _difference(prop: Prop, before: Any, after: Any, path: str) -> list[Change]:
    if prop.fields is not None and UNKNOWN not in (before, after) and prop.kind != "set":
        if not prop.many:
            nested = differences(prop.fields, before or {}, after or {}, f"{path}.")
        elif len(before or []) != len(after or []):
            nested = [Change(path, before, after)]
        else:
            pairs = enumerate(zip(before or [], after or [], strict=True))
            nested = [c for i, (b, a) in pairs for c in differences(prop.fields, b, a, f"{path}[{i}].")]
        return [Change(c.path, c.old, c.new, c.replace or prop.replace) for c in nested]
    if canonical(prop, before) == canonical(prop, after):
        return []
    return [Change(path, before, after, prop.replace)]


def canonical(prop: Prop, value: Any) -> Any:
    """`value` in the one form in which equal things are equal; nothing and emptiness are the default."""
    if value is None or value in ("", [], {}):
        value = prop.default
    if value is None or value == UNKNOWN:
        return value
    if prop.fields is not None:
        items = [_canonical_object(prop.fields, item) for item in (value if prop.many else [value])]
        if prop.many:
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if prop.kind == "set" else items
        return items[0] or None
    return _CANONICAL.get(prop.kind, lambda same: same)(value)


_CANONICAL: dict[str, Callable[[Any], Any]] = {
    "json": lambda value: json.loads(value) if isinstance(value, str) else value,
    "set": sorted,
    "flag": lambda value: str(value).lower(),
    "number": float,
    "key": lambda value: value.rsplit("/", 1)[-1],
    "asset": lambda value: value.get("sha256") if isinstance(value, dict) else value,
}


def _canonical_object(fields: Fields, value: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: canonical(prop, value.get(name)) for name, prop in fields.items()}
    return {name: item for name, item in found.items() if item is not None}


def undeclared(props: Fields, value: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """The paths in `value` that the table does not know."""
    for name, item in value.items():
        prop = props.get(name)
        if prop is None:
            yield f"{path}{name}"
        elif prop.fields is not None:
            for nested in item if isinstance(item, list) else [item]:
                if isinstance(nested, dict):
                    yield from undeclared(prop.fields, nested, f"{path}{name}.")


def has_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return value == UNKNOWN


# -- paths (ignoreChanges) ------------------------------------------------------------------------------------------


def keep_old(path: str, old: Any, new: Any) -> Any:
    """`new` with the value at `path` as in `old` (absent there: absent): how an engine treats an ignored change."""
    keys = [k if k is not None else n for k, n in _segments(path)]
    return _keep(keys, old, new)


def _segments(path: str) -> list[tuple[str | None, int]]:
    return [
        (quoted or plain or ("*" if star else None), int(index or 0))
        for quoted, star, index, plain in re.findall(r'\["([^"]+)"\]|\[?(\*)\]?|\[(\d+)\]|([^.\[\]*]+)', path)
    ]


def _keep(keys: list[str | int], old: Any, new: Any) -> Any:
    head, rest = keys[0], keys[1:]
    if head == "*":
        for key in range(len(new)) if isinstance(new, list) else list({**(old or {}), **(new or {})}):
            new = _keep([key, *rest], old, new)
        return new
    if isinstance(head, int):
        if not isinstance(new, list) or head >= len(new) or not isinstance(old, list) or head >= len(old):
            return new
        return [_merged(rest, old[i], item) if i == head else item for i, item in enumerate(new)]
    if not isinstance(new, dict):
        return new
    result, before = dict(new), old if isinstance(old, dict) else {}
    if rest and head in new:
        result[head] = _keep(rest, before.get(head), new[head])
    elif head in before:
        result[head] = before[head] if not rest else new.get(head)
    elif not rest:
        result.pop(head, None)
    return {key: item for key, item in result.items() if item is not None}


def _merged(rest: list[str | int], old: Any, new: Any) -> Any:
    return _keep(rest, old, new) if rest else old


# -- AWS's words ----------------------------------------------------------------------------------------------------


def to_api(fields: Fields, value: Mapping[str, Any]) -> dict[str, Any]:
    """The request parameters for `value`. Kept properties and those with an empty `api` are left out."""
    return {
        prop.name(name): _to_api(prop, value[name])
        for name, prop in fields.items()
        if value.get(name) is not None and not prop.kept and prop.api != ""
    }


def _to_api(prop: Prop, value: Any) -> Any:
    if prop.fields is not None:
        return [to_api(prop.fields, item) for item in value] if prop.many else to_api(prop.fields, value)
    match prop.kind:
        case "flag":
            return str(value).lower() == "true"
        case "number":
            return float(value)
        case "tags":
            return as_list(value)
        case "pairs":
            return as_list(value, "Name")
        case _:
            return value


def from_api(fields: Fields, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The wire properties that an answer of AWS holds (the reverse of `to_api`)."""
    return {
        name: _from_api(prop, answer[prop.name(name)])
        for name, prop in fields.items()
        if prop.api != "" and answer.get(prop.name(name)) is not None
    }


def _from_api(prop: Prop, value: Any) -> Any:
    if prop.fields is not None:
        return [from_api(prop.fields, item) for item in value] if prop.many else from_api(prop.fields, value)
    return _FROM_API.get(prop.kind, lambda same: same)(value)


def as_list(tags: Mapping[str, str] | None, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: k, value: v} for k, v in sorted((tags or {}).items())]


def as_dict(tags: Iterable[Mapping[str, str]] | None, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Tags as an object, without AWS's own (`aws:...`)."""
    return {t[key]: t[value] for t in tags or [] if not t[key].startswith("aws:")}


_FROM_API: dict[str, Callable[[Any], Any]] = {
    "flag": lambda value: str(value).lower(),
    "number": lambda value: f"{value:g}",
    "tags": as_dict,
    "pairs": lambda value: as_dict(value, "Name"),
    "json": lambda value: value if isinstance(value, str) else json.dumps(value),
    "time": lambda value: value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
}
