"""CloudWatch metric math: the part that alarms of this project use, the rest refused by name.

A value is a number or a time series (timestamp -> number). Operators + - * /, comparisons, AND, OR; functions IF and
FILL (with a number or REPEAT). Source: CloudWatch user guide, "Using metric math": missing points count as 0 in
arithmetic, a point that would divide by zero is dropped; comparisons and IF work where their operands have points.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import AwsError, NotModelledError

Series = dict[float, float]
Value = float | Series
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(>=|<=|==|!=|&&|\|\||[-+*/<>(),]))")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip


def identifiers(expression: str) -> set[str]:
    """The metric ids an expression refers to (they start with a lower-case letter)."""
    return {token for token in _tokens(expression) if re.fullmatch(r"[a-z]\w*", token)}


def evaluate(expression: str, series: Mapping[str, Value], timeline: Sequence[float]) -> Series:
    """The time series an expression stands for over the points of `timeline`.

    Raises `AwsError` ValidationError for an expression that is none or refers to an unknown id.
    """
    parser = _Parser(_tokens(expression), series, timeline, expression)
    value = parser.either()
    parser.end()
    if isinstance(value, dict):
        return value
    return dict.fromkeys(timeline, value)


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise _invalid(expression)
        tokens.append(match[1] or match[2] or match[3])
        at = match.end()
    return tokens


def _invalid(expression: str, why: str = "syntax") -> AwsError:
    return AwsError("ValidationError", f"Error in expression '{expression}': {why}")


@dataclass
class _Parser:
    tokens: list[str]
    series: Mapping[str, Value]
    timeline: Sequence[float]
    expression: str
    at: int = 0

    def either(self) -> Value:
        value = self.both()
        while self._take("OR", "||"):
            value = _logic(lambda a, b: a or b, value, self.both())
        return value

    def both(self) -> Value:
        value = self.comparison()
        while self._take("AND", "&&"):
            value = _logic(lambda a, b: a and b, value, self.comparison())
        return value

    def comparison(self) -> Value:
        value = self.sum()
        symbol = self._take(*_COMPARE)
        if symbol:
            compare = _COMPARE[symbol]
            value = _where_both(lambda a, b: float(compare(a, b)), value, self.sum())
        return value

    def sum(self) -> Value:
        value = self.product()
        while symbol := self._take("+", "-"):
            value = _arithmetic(_ARITHMETIC[symbol], value, self.product())
        return value

    def product(self) -> Value:
        value = self.unary()
        while symbol := self._take("*", "/"):
            value = _arithmetic(_ARITHMETIC[symbol], value, self.unary())
        return value

    def unary(self) -> Value:
        if self._take("-"):
            return _arithmetic(operator.sub, 0.0, self.unary())
        return self.primary()

    def primary(self) -> Value:
        word = self._next()
        if word == "(":
            value = self.either()
            self._expect(")")
            return value
        if word[0].isdigit():
            return float(word)
        if word[0].isupper():
            return self.function(word)
        if word not in self.series:
            raise _invalid(self.expression, f"unknown id {word}")
        return self.series[word]

    def function(self, name: str) -> Value:
        if name not in ("IF", "FILL"):
            raise NotModelledError(f"the twin does not model the metric math function {name}")
        self._expect("(")
        first = self.either()
        self._expect(",")
        if name == "FILL":
            if self._take("REPEAT"):
                self._expect(")")
                return _repeat(first, self.timeline)
            value = self.either()
            self._expect(")")
            return _fill(first, value, self.timeline)
        yes = self.either()
        no = self.either() if self._take(",") else None
        self._expect(")")
        return _choose(first, yes, no)

    def end(self) -> None:
        if self.at != len(self.tokens):
            raise _invalid(self.expression)

    def _take(self, *wanted: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def _next(self) -> str:
        if self.at >= len(self.tokens):
            raise _invalid(self.expression)
        self.at += 1
        return self.tokens[self.at - 1]

    def _expect(self, token: str) -> None:
        if self._take(token) is None:
            raise _invalid(self.expression, f"expected {token}")


def _arithmetic(act: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if not isinstance(left, dict) and not isinstance(right, dict):
        return act(left, right)
    points = sorted({*(left if isinstance(left, dict) else ()), *(right if isinstance(right, dict) else ())})
    result: Series = {}
    for at in points:
        a = left.get(at, 0.0) if isinstance(left, dict) else left
        b = right.get(at, 0.0) if isinstance(right, dict) else right
        if act is operator.truediv and b == 0:
            continue
        result[at] = act(a, b)
    return result


def _where_both(act: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if not isinstance(left, dict) and not isinstance(right, dict):
        return act(left, right)
    result: Series = {}
    for at in sorted(left if isinstance(left, dict) else right if isinstance(right, dict) else ()):
        a = left.get(at) if isinstance(left, dict) else left
        b = right.get(at) if isinstance(right, dict) else right
        if a is not None and b is not None:
            result[at] = act(a, b)
    return result


def _logic(act: Callable[[bool, bool], bool], left: Value, right: Value) -> Value:
    return _where_both(lambda a, b: float(act(bool(a), bool(b))), left, right)


def _choose(condition: Value, yes: Value, no: Value | None) -> Value:
    if not isinstance(condition, dict):
        chosen = yes if condition else no
        return {} if chosen is None else chosen
    result: Series = {}
    for at, holds in condition.items():
        chosen = yes if holds else no
        value = chosen.get(at) if isinstance(chosen, dict) else chosen
        if value is not None:
            result[at] = value
    return result


def _fill(series: Value, value: Value, timeline: Sequence[float]) -> Value:
    if not isinstance(series, dict):
        return series
    filled = {at: series.get(at, value.get(at) if isinstance(value, dict) else value) for at in timeline}
    return {at: found for at, found in filled.items() if found is not None}


def _repeat(series: Value, timeline: Sequence[float]) -> Value:
    if not isinstance(series, dict):
        return series
    filled: Series = {}
    last: float | None = None
    for at in timeline:
        last = series.get(at, last)
        if last is not None:
            filled[at] = last
    return filled
