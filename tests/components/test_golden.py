"""The resource graph of every stack file, as reviewed. A change of it is a change of what `pulumi up` does.

After an intended change: `GOLDEN=write .venv/bin/python -m pytest tests/components/test_golden.py`, then read the diff.
A URN that is gone means a resource deleted and made anew, unless it has an alias.
"""

from __future__ import annotations

import json
import os

import golden
import pytest


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_the_graph_is_the_reviewed_one(stack, graph):
    file = golden.FOLDER / f"{stack}.json"
    seen = golden.document(graph(stack))
    if os.environ.get("GOLDEN") == "write":
        golden.FOLDER.mkdir(exist_ok=True)
        file.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    reviewed = json.loads(file.read_text(encoding="utf-8"))
    gone, new = sorted(reviewed.keys() - seen.keys()), sorted(seen.keys() - reviewed.keys())
    assert (gone, new) == ([], []), "URNs changed: a rename without an alias replaces the resource"
    changed = {urn: (reviewed[urn], seen[urn]) for urn in seen if reviewed[urn] != seen[urn]}
    assert changed == {}
