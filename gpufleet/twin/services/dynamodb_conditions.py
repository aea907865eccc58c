"""Condition expressions, made into functions once: whether one surely holds for an item.

moto parses a condition anew for each call, which takes a millisecond. Here are comparisons of attributes and values,
attribute_exists and attribute_not_exists, AND, OR, NOT and parentheses; for the rest, for values of different types and
for a condition that does not hold, moto is asked: it has the last word, and the words.
Source: DynamoDB developer guide, "Condition and filter expressions, operators, and functions".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

Values = Mapping[str, Any]  # ":name" -> moto's DynamoType
Attributes = Mapping[str, Any]  # of the item, likewise; empty if there is none
Condition = Callable[[Attributes, Values], bool]
Operand = Callable[[Attributes, Values], Any]
_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>()]|[#:]?\w+)")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_WORDS = {"AND", "OR", "NOT", "BETWEEN", "IN"}


class Unsuited(Exception):  # noqa: N818 - a signal, not an error: moto takes over
    """This condition is not for the short way."""


@lru_cache(maxsize=256)
def compiled(expression: str, names: tuple[tuple[str, str], ...]) -> Condition:
    """The condition as a function of item and values; it may raise `Unsuited`, as this may."""
    reader = _Reader(_tokens(expression), dict(names))
    condition = reader.either()
    if reader.tokens:
        raise Unsuited
    return condition


def _tokens(expression: str) -> list[str]:
    found, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise Unsuited
        found.append(match[1])
        at = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens that are left."""

    def __init__(self, tokens: list[str], names: Mapping[str, str]) -> None:
        self.tokens = tokens
        self._names = names

    def either(self) -> Condition:
        left = self._both()
        while self._take("OR"):
            left = _or(left, self._both())
        return left

    def _both(self) -> Condition:
        left = self._one()
        while self._take("AND"):
            left = _and(left, self._one())
        return left

    def _one(self) -> Condition:
        if self._take("NOT"):
            return _not(self._one())
        if self._take("("):
            inside = self.either()
            self._need(")")
            return inside
        word = self._next()
        if word in ("attribute_exists", "attribute_not_exists"):
            self._need("(")
            name = self._attribute(self._next())
            self._need(")")
            return _there(name, word == "attribute_exists")
        left, sign = self._operand(word), self._next()
        if sign not in _COMPARE:
            raise Unsuited
        return _comparison(sign, left, self._operand(self._next()))

    def _operand(self, word: str) -> Operand:
        if word.startswith(":"):
            return lambda item, values: values[word]
        name = self._attribute(word)
        return lambda item, values: item.get(name)

    def _attribute(self, word: str) -> str:
        if not re.fullmatch(r"#?\w+", word) or word.upper() in _WORDS:
            raise Unsuited
        return self._names.get(word, word)

    def _next(self) -> str:
        if not self.tokens:
            raise Unsuited
        return self.tokens.pop(0)

    def _need(self, token: str) -> None:
        if self._next() != token:
            raise Unsuited

    def _take(self, token: str) -> bool:
        if self.tokens and self.tokens[0].upper() == token:
            self.tokens.pop(0)
            return True
        return False


def _or(left: Condition, right: Condition) -> Condition:
    return lambda item, values: left(item, values) or right(item, values)


def _and(left: Condition, right: Condition) -> Condition:
    return lambda item, values: left(item, values) and right(item, values)


def _not(inside: Condition) -> Condition:
    return lambda item, values: not inside(item, values)


def _there(name: str, wanted: bool) -> Condition:
    return lambda item, values: (name in item) is wanted


def _comparison(sign: str, left: Operand, right: Operand) -> Condition:
    compare = _COMPARE[sign]

    def holds(item: Attributes, values: Values) -> bool:
        a, b = left(item, values), right(item, values)
        if a is None and b is None:
            raise Unsuited
        if a is None or b is None:  # an attribute that is not there is unlike everything, and not less nor more
            return sign == "<>"
        if a.type != b.type or a.type not in ("S", "N", "BOOL"):
            raise Unsuited
        return compare(a.cast_value, b.cast_value)

    return holds
