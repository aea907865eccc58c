"""What a job asks for, counted: the estimate that the budget charges for each completed job bounds it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from components import costs
from gpufleet.demo.stage import Stage

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).resolve().parents[2]
JOBS = 240
NODE = "inference-node-dev"


def test_a_job_asks_for_no_more_than_it_is_charged_for_and_for_not_much_less() -> None:
    """A day's queue worked off by one node of eight slots, jobs of 20 s: each slot's turn is a receive of its own."""
    with Stage(ROOT, "dev", {}, "us-east-1", 1) as stage:
        stage.up()
        stage.watch()
        stage.world.traffic.send(stage.outputs["queueUrl"], JOBS, service_s=20)
        assert stage.world.run_until(lambda: len(stage.world.account().completed) == JOBS, limit_s=7200)
        calls = Counter(call.operation for call in stage.cloud.calls if call.principal == NODE and call.error is None)
        beats = sum(call.service == "dynamodb" and call.operation == "PutItem" for call in stage.cloud.calls)
    assert beats > 0, "heartbeats are PutItem, and belong to the node and not to its jobs"

    queue = 1 + sum(calls[name] for name in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibilityBatch")) / JOBS
    keeper = 4 / 10  # receive, release, send and delete, ten messages to a request
    assert 0.6 * costs.JOB_QUEUE_REQUESTS <= queue + keeper <= costs.JOB_QUEUE_REQUESTS
    assert 2 / 3 * costs.JOB_TABLE_WRITES <= calls["UpdateItem"] / JOBS <= costs.JOB_TABLE_WRITES
    assert calls["PutObject"] / JOBS == costs.JOB_STORE_WRITES
    assert calls["ReceiveMessage"] <= JOBS * 1.1, "polls that find nothing are few while there is work"
