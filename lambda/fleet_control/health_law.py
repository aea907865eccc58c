"""Which instances in service are dead or hung. Pure: no clock, no I/O, standard library only.

The law in a page
-----------------
*Dead*: in service, and no sign of life of its worker for three minutes. A worker writes one every ten seconds as long
as its model answers, so a model server that hangs for good is dead too, once its jobs have run into their timeout.
While every instance is silent at once, the fault is more likely in what they all report to: then only the longest
silent one counts as dead, and a cold start later, if they still are, the next.

*Hung*: its worker reports, but for longer than any job may take, and five minutes, it has completed nothing although
it held work or jobs waited; and either it did not even work on anything in that time (every job in a slot ends at its
timeout, whatever it is), or others completed jobs meanwhile. A long job keeps nobody under suspicion: it ends
within its timeout. A queue full of jobs that cannot be done condemns nobody: then nobody completes anything, which
is the alarm's business.

Both are replaced one at a time, a cold start apart, through their drain: what they still do they may finish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SILENT_S = 180.0
MARGIN_S = 300.0


@dataclass(frozen=True)
class Node:
    """One instance in service. ``heard_at``: its worker's last sign of life, or when it came into service.

    ``busy``: slots in use; ``completed`` and ``worked_s``: running counts of its worker. Times are unix seconds.
    """

    id: str
    launched_at: float
    heard_at: float
    busy: int = 0
    completed: float = 0.0
    worked_s: float = 0.0


@dataclass(frozen=True)
class Mark:
    """The counts of a node, and of all ``others`` together, when it last completed something or had nothing to do."""

    since: float
    completed: float
    worked_s: float
    others: float


def marks(
    nodes: Iterable[Node], before: Mapping[str, Mark], visible: int, completed: float, at: float
) -> dict[str, Mark]:
    """The marks after a look at unix time ``at``, of the nodes that have work or should have.

    ``visible``: messages that wait to be received; ``completed``: the running count of the whole fleet.
    """
    result = {}
    for node in nodes:
        if node.busy <= 0 and visible <= 0:
            continue
        known = before.get(node.id)
        if known is None or known.completed != node.completed or known.since > at:
            known = Mark(at, node.completed, node.worked_s, completed - node.completed)
        result[node.id] = known
    return result


@dataclass(frozen=True)
class Limits:
    """``cold_start_s``: a younger node is not expected to be heard, and replacements are so far apart.
    ``job_timeout_s``: the longest a job may take; None if nobody knows, then none is hung."""

    cold_start_s: float
    job_timeout_s: float | None

    def due(self, replaced_at: float, at: float) -> bool:
        """Whether the next node may be replaced, one having been at ``replaced_at``."""
        return not replaced_at <= at < replaced_at + self.cold_start_s


def sick(
    nodes: Iterable[Node],
    marked: Mapping[str, Mark],
    completed: float,
    replaced_at: float,
    at: float,
    limits: Limits,
) -> dict[str, str]:
    """Ids of dead and hung nodes with the reason, in the order in which they should be replaced.

    ``completed``: the running count of the whole fleet; ``replaced_at``: when one was last replaced.
    """
    job_timeout_s = limits.job_timeout_s
    listed = sorted(nodes, key=lambda node: (node.heard_at, node.id))
    silent = [node for node in listed if at - node.heard_at > SILENT_S and at - node.launched_at > limits.cold_start_s]
    dead = silent
    if len(silent) == len(listed):
        dead = silent[:1] if limits.due(replaced_at, at) else []
    found = {node.id: f"its worker has been silent for {at - node.heard_at:.0f} s" for node in dead}
    for node in listed:
        mark = marked.get(node.id)
        if node in silent or mark is None or job_timeout_s is None or at - mark.since <= job_timeout_s + MARGIN_S:
            continue
        others = completed - node.completed - mark.others
        barren = f"it has completed nothing for {at - mark.since:.0f} s"
        if others > 0:
            found[node.id] = f"{barren}, others {others:.0f} jobs"
        elif node.busy > 0 and node.worked_s <= mark.worked_s:
            found[node.id] = f"{barren} and holds {node.busy}, job timeout {job_timeout_s:.0f} s"
    return found


def replace_now(found: Mapping[str, str], replaced_at: float, at: float, limits: Limits) -> str | None:
    """The node to replace at this look: the first of ``found``, a cold start after the one before; None if none is."""
    return next(iter(found)) if found and limits.due(replaced_at, at) else None
