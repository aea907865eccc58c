"""The kinds of fields that settings are made of: a type, its checks, and the words for a user who breaks it."""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

from annotated_types import Ge, GroupedMetadata, Le, MaxLen, MinLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from .. import catalog, naming
from .faults import closest

_LOG_DAYS: Final = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731)  # CloudWatch Logs
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TAG_CHARACTERS: Final = re.compile(r"[\w\s.:/=+\-@]*")


@dataclass(frozen=True)
class Rule(GroupedMetadata):
    """What a field must be, as a phrase; an example or a way to get one; and the checks that make it so."""

    text: str
    fix: str
    checks: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[object]:
        return iter(self.checks)


def broken(text: str, fix: str) -> PydanticCustomError:
    """The error of a validator whose message is more exact than the field's own rule."""
    return PydanticCustomError("rule", "{rule}", {"rule": text, "fix": fix})


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number")
    return value


def whole(least: int, most: int, fix: str) -> Rule:
    """A whole number within bounds; "5" is one, true and 2.5 are not."""
    return Rule(
        f"must be a whole number from {least} to {most}", fix, (Ge(least), Le(most), BeforeValidator(_not_bool))
    )


def number(least: float, most: float, fix: str) -> Rule:
    """A number within bounds, which neither infinity nor NaN is."""
    rule = f"must be a number from {least:.9g} to {most:.9g}"
    return Rule(rule, fix, (Ge(least), Le(most), BeforeValidator(_not_bool)))


def text(pattern: str, rule: str, fix: str) -> Rule:
    """A string of one shape; `pattern` must match all of it."""
    return Rule(rule, fix, tuple(StringConstraints(pattern=rf"^(?:{pattern})$")))


def one_of(names: tuple[str, ...], what: str) -> Rule:
    """One of a few words."""
    rule = f"must be one of {', '.join(names)}"

    def check(value: str) -> str:
        if value not in names:
            near = closest(value, names)
            raise broken(rule, f"did you mean {near}?" if near else f"choose a {what}")
        return value

    enum = WithJsonSchema({"type": "string", "enum": list(names)})
    return Rule(rule, f"choose a {what}", (AfterValidator(check), enum))


def each_once(least: int, most: int, rule: str, fix: str) -> Rule:
    """A list within a length, without repetition."""
    return Rule(rule, fix, (MinLen(least), MaxLen(most), AfterValidator(_unique)))


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise broken("must name each entry once", f"remove the second {twice[0]}")
    return values


def _gpu_instance_type(value: str) -> str:
    if value not in catalog.GPU_TYPES:
        near = closest(value, catalog.GPU_TYPES)
        raise broken(
            f"must be GPU instance types of the catalogue; {value} is not one",
            f"did you mean {near}?" if near else "see docs/configuration.md for the types",
        )
    return value


def _weekday(value: str) -> str:
    name = value.strip().lower()
    for day in _WEEKDAYS:
        if name in (day, day[:3]):
            return day[:3]
    near = closest(name[:3], [day[:3] for day in _WEEKDAYS])
    raise broken(f"must be weekdays; {value} is not one", f"did you mean {near}?" if near else "mon to sun")


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())  # reads a folder, so once


def checked_time_zone(value: str) -> str:
    zones = _zones()
    if value not in zones:
        near = closest(value, zones)
        raise broken("must be an IANA time zone", f"did you mean {near}?" if near else "for example Europe/Berlin")
    return value


def checked_server_args(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value or not value.isprintable():
            raise broken(
                "must be printable words, none of them empty", "give each argument and each value as one entry"
            )
    if sum(map(len, values)) > 4096:
        raise broken("must be 4096 characters at most in all", "bake long settings into the image")
    return values


def checked_log_days(value: int) -> int:
    if value not in _LOG_DAYS:
        nearest = min(_LOG_DAYS, key=lambda days: abs(days - value))
        raise broken(f"must be one of {', '.join(map(str, _LOG_DAYS))}", f"the nearest is {nearest}")
    return value


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > 40:
        raise broken("must be 40 tags at most (AWS allows 50, some are ours)", "remove some")
    for key, value in tags.items():
        if key in naming.RESERVED_TAGS:
            raise broken(f"must not set {key}, which is ours: budget and guard find the fleet by it", f"remove {key}")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise broken(
                "keys must have 1 to 128 characters and values 256 at most", f"shorten {key[:20] or 'the key'}"
            )
        if key.lower().startswith("aws:"):
            raise broken("must not begin with aws:, which is AWS's own", f"rename {key[:40]}")
        if not _TAG_CHARACTERS.fullmatch(key + value):
            raise broken("must be letters, digits, spaces and . : / = + - @ _", f"rewrite {key[:40]}")
    return MappingProxyType(dict(tags))


Word = Annotated[str, BeforeValidator(_as_text), Rule("must be a word", "put it in quotes")]
Flag = Annotated[bool, Rule("must be true or false", "true or false")]
DayName = Annotated[str, AfterValidator(_weekday)]
GpuTypeName = Annotated[
    str, AfterValidator(_gpu_instance_type), WithJsonSchema({"type": "string", "enum": list(catalog.GPU_TYPES)})
]
Email = Annotated[
    str,
    text(
        r"[^@\s,;<>]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+",
        "must be an e-mail address",
        "for example ml-oncall@example.com",
    ),
]
SubnetId = Annotated[
    str,
    text(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})", "must be a subnet's id", "aws ec2 describe-subnets lists them"),
]
