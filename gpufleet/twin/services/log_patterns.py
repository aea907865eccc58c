"""Filter patterns of CloudWatch Logs, as much of them as people type: terms, phrases, one equality on JSON.

Source: CloudWatch Logs user guide, "Filter pattern syntax": terms are joined by AND and are case sensitive; in
`{ $.event = "decision" }` the value is a string in quotes or a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ..errors import NotModelledError

Matches = Callable[[str, dict[str, Any]], bool]  # (the line, what its JSON holds)
_TERMS = re.compile(r'\s*|\s*(?:"[^"]*"|\w+)(?:\s+(?:"[^"]*"|\w+))*\s*')
_EQUALITY = re.compile(r'\{\s*\$((?:\.\w+)+)\s*=\s*(?:"([^"*]*)"|(-?\d+(?:\.\d+)?))\s*\}')


def matcher(pattern: str) -> Matches:
    """The test that `pattern` stands for. Raises `NotModelledError` for anything but terms and one equality."""
    if _TERMS.fullmatch(pattern):
        terms = [phrase or word for phrase, word in re.findall(r'"([^"]*)"|(\w+)', pattern)]
        return lambda line, record: all(term in line for term in terms)
    found = _EQUALITY.fullmatch(pattern.strip())
    if found is None:
        raise NotModelledError(
            f"the twin does not model the filter pattern {pattern!r}: it knows terms, phrases in double quotes, and "
            '{ $.name = "text" } or { $.name = 1 }'
        )
    path, text, number = found.groups()
    names, wanted = path[1:].split("."), json.loads(number) if number is not None else text
    return lambda line, record: _at(record, names) == wanted


def _at(record: Any, names: list[str]) -> Any:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return None if isinstance(record, bool) else record
