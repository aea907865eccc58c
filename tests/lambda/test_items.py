"""Stored rows as plain values: as boto3 reads them, with numbers that JSON and arithmetic understand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from fleet_control.aws.items import read, write
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.decimals(-(10**9), 10**9, places=3), st.just(Decimal("1E+20")))
SCALARS = st.one_of(st.none(), st.booleans(), st.text(max_size=5), NUMBERS)
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one, max_size=3))
SETS = st.sets(st.text(min_size=1), min_size=1) | st.sets(st.integers(-(10**30), 10**30), min_size=1)


def as_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_plain(one) for name, one in value.items()}
    if isinstance(value, (list, set)):
        return [as_plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


@given(st.dictionaries(st.text(min_size=1), VALUES | SETS, max_size=4))
def test_a_row_reads_as_boto3_reads_it(row: dict[str, Any]) -> None:
    stored = {name: TypeSerializer().serialize(value) for name, value in row.items()}
    expected = {name: as_plain(TypeDeserializer().deserialize(value)) for name, value in stored.items()}
    seen = read(stored)
    ordered = [
        {k: sorted(map(repr, v)) if isinstance(row[k], set) else v for k, v in one.items()} for one in (seen, expected)
    ]
    assert ordered[0] == ordered[1]
    assert {name: type(value) for name, value in seen.items()} == {n: type(v) for n, v in expected.items()}


def test_what_is_written_reads_as_it_was() -> None:
    row = {"at": 1793664245.669, "busy": 3, "on": True, "none": None, "name": "i-1", "more": {"list": [1, 2.5, "x"]}}
    assert read(write(row)) == row
    assert read(None) == {}
