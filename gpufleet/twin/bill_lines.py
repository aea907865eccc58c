"""One item of a bill."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """What it is (an instance id, a gateway id, the name of a function, ...), its kind, and dollars.

    Kinds: spot, on-demand, reserved, disk; nat, address, key, alarm; function-requests, function-time-arm64,
    function-time-x86_64, table-reads, table-writes, queue-requests, object-puts, object-gets, metrics, metric-requests,
    logs, cost-explorer, nat-bytes; foreign (of the account, not of the stack).
    """

    item: str
    kind: str
    usd: float
