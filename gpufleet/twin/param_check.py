"""Whether parameters are surely in order, told quickly.

botocore's own check walks the service model anew for each call, a seventh of a simulated day's time. Here each shape
becomes a function, once. It may say no where botocore would say yes, never the other way round: whoever asks then asks
botocore, which also has the words for what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

Check = Callable[[Any], bool]
_SIMPLE: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "blob": (bytes, bytearray, str),
    "timestamp": (datetime, int, float),
}
_NUMBERS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "long": (int,),
    "float": (float, Decimal, int),
    "double": (float, Decimal, int),
}


class Checks:
    """The checks of one service's shapes, made as they are needed."""

    def __init__(self) -> None:
        self._made: dict[str, Check] = {}

    def passes(self, shape: Any, value: Any) -> bool:
        """Whether `value` is surely what botocore's `shape` asks for."""
        return self._of(shape)(value)

    def _of(self, shape: Any) -> Check:
        made = self._made.get(shape.name)
        if made is None:
            # A shape may hold itself: what asks for it meanwhile looks it up when it is used.
            self._made[shape.name] = partial(self._later, shape.name)
            made = self._made[shape.name] = self._make(shape)
        return made

    def _later(self, name: str, value: Any) -> bool:
        return self._made[name](value)

    def _make(self, shape: Any) -> Check:
        kind, least = shape.type_name, shape.metadata.get("min", 0)
        check: Check = _unsure
        if shape.serialization.get("jsonvalue") or getattr(shape, "is_document_type", False):
            pass
        elif kind == "structure":
            members = {name: self._of(member) for name, member in shape.members.items()}
            required = tuple(shape.metadata.get("required", ()))
            check = partial(_structure, members, required, bool(shape.is_tagged_union))
        elif kind == "list":
            check = partial(_list, self._of(shape.member), least)
        elif kind == "map":
            check = partial(_map, self._of(shape.key), self._of(shape.value))
        elif kind == "string":  # in a host's name it may not be empty
            check = partial(_string, max(least, 1) if shape.serialization.get("hostLabel") else least)
        elif kind in _NUMBERS:
            check = partial(_number, _NUMBERS[kind], shape.metadata.get("min"))
        elif kind in _SIMPLE:
            check = partial(_instance, _SIMPLE[kind])
        return check


def _unsure(value: Any) -> bool:
    return False


def _instance(kinds: tuple[type, ...], value: Any) -> bool:
    return isinstance(value, kinds)


def _string(least: int, value: Any) -> bool:
    return isinstance(value, str) and len(value) >= least


def _number(kinds: tuple[type, ...], least: float | None, value: Any) -> bool:
    return isinstance(value, kinds) and (least is None or value >= least)


def _structure(members: dict[str, Check], required: tuple[str, ...], is_union: bool, value: Any) -> bool:
    if not isinstance(value, dict) or (is_union and len(value) != 1):
        return False
    for name in required:
        if name not in value:
            return False
    for name, inside in value.items():
        check = members.get(name)
        if check is None or not check(inside):
            return False
    return True


def _list(check: Check, least: int, value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) >= least and all(map(check, value))


def _map(key: Check, inside: Check, value: Any) -> bool:
    return isinstance(value, dict) and all(map(key, value)) and all(map(inside, value.values()))
