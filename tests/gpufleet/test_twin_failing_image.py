"""An image that never boots, deployed to a fleet of ten with jobs waiting all day: what it costs, who is told, and what
happens when a good version comes. On the embedded cloud, by its own bill.
"""

from __future__ import annotations

from typing import Any

import pytest
from twin_scaling import HOUR, MINUTE, machine_usd, provisioned, send, served

from gpufleet.demo.stage import Stage

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]

CAP, JOBS = 10, 600
ALARM, PEOPLE = "inference-failed-boots-dev", "ml-oncall@example.com"


def model(version: str) -> dict[str, Any]:
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm@sha256:{version * 64}"
    return {"weights": "s3://acme-models-dev/llama-3.1-8b-instruct/", "image": image, "slots": 8}


def held(stage: Stage) -> bool:
    return stage.client("cloudwatch").describe_alarms(AlarmNames=[ALARM])["MetricAlarms"][0]["StateValue"] == "ALARM"


def test_an_image_that_never_boots_costs_two_dollars_a_day_at_most(subtests: pytest.Subtests) -> None:
    """Spot is as dear as on-demand that day."""
    edits = {"maxGpuInstances": CAP, "gpuInstanceTypes": ["g5.xlarge"], "alertEmails": [PEOPLE]}
    with provisioned(model=model("0"), **edits) as stage:
        world = stage.world
        world.market.jump(10, stage.now())
        world.services.sns.confirm(PEOPLE)
        world.fail_next_boots(1_000_000)
        send(stage, JOBS)
        silent = []
        with subtests.test("at most two dollars a day"):
            for _ in range(24):
                world.run_for(HOUR)
                silent += [] if held(stage) else [stage.now()]
            assert 0 < machine_usd(stage) <= 2
            assert 3 <= len(world.machines.instances) <= CAP
        with subtests.test("all the while the jobs waited, and the budget had room"):
            assert stage.backlog() == JOBS
            assert not stage.latch().get("latched")
            assert stage.figures()["headroom_usd"] > CAP * stage.figures()["launch_usd"]
        with subtests.test("people are told once, and the alarm stays on"):
            assert silent == []
            subjects = [mail["subject"] for mail in world.services.sns.outbox]
            assert subjects.count(f'ALARM: "{ALARM}" in us-east-1') == 1
        with subtests.test("a good version is tried at once, takes the whole load, and the alarm goes off"):
            world.fail_next_boots(0)
            stage.up(model=model("1"))
            assert world.run_until(lambda: stage.running() > 3, limit_s=15 * MINUTE)
            assert world.run_until(lambda: served(stage), limit_s=HOUR)
            assert not held(stage)
            assert world.account().in_order
