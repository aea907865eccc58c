"""The functions on a small AWS: their configuration, and how tests call them."""

from __future__ import annotations

import copy
import json
from typing import Any

from aws_world import CONTROL, FLEET, JOBS, LAUNCH_HOOK, ON_DEMAND_GROUP, QUEUE, SPOT_GROUP, TERMINATE_HOOK, World
from fleet_control.aws import controller, scale_to_zero

CONTROLLER: dict[str, Any] = {
    "stack": "dev",
    "fleet": FLEET,
    "queue_url": QUEUE,
    "spot_group": SPOT_GROUP,
    "on_demand_group": ON_DEMAND_GROUP,
    "jobs_table": JOBS,
    "control_table": CONTROL,
    "budget": {"limit": True},
    "template_id": "lt-1",
    "job_timeout_s": 900,
    "metric_namespace": "GpuInference",
    "dry_run": False,
    "policy": {
        "slots": 8,
        "wait_target_s": 300,
        "service_s": 20,
        "cold_start_s": 240,
        "floor": 0,
        "cap": 4,
        "windows": [],
        "on_demand_base": 0,
        "on_demand_fallback": True,
    },
}
GUARD: dict[str, Any] = {
    "stack": "dev",
    "control_table": CONTROL,
    "monthly_usd": 150.0,
    "warn_percent": 80,
    "resume_on_new_month": True,
    "prices_usd_per_hour": {"g5.xlarge": 1.006},
    "dearest_usd_per_hour": 1.006,
    "gpus": {"g5.xlarge": 1},
    "dearest_by_gpus": {"1": 1.006},
    "prices_as_of": "2026-07-20",
    "fixed_usd_per_month": 37.2,
    "stopped_usd_per_month": 37.2,
    "per_boot_usd": 0.05,
    "per_job_usd": 0.0001,
    "nat_gateways": [],
    "nat_usd_per_gb": 0.045,
    "dedicated_account": False,
    "reconcile_daily": False,
    "account_id": "123456789012",
    "budget_name": "inference-budget-dev",
    "alert_topic_arn": "arn:aws:sns:us-east-1:123456789012:inference-alerts-dev",
    "metric_namespace": "GpuInference",
    "fleets": [
        {
            "fleet": FLEET,
            "spot_group": SPOT_GROUP,
            "on_demand_group": ON_DEMAND_GROUP,
            "launch_hook": LAUNCH_HOOK,
            "terminate_hook": TERMINATE_HOOK,
            "jobs_table": JOBS,
            "cap": 4,
            "drain_s": 300,
            "disk_usd_per_hour": 0.01,
            "reservation": None,
        }
    ],
}


class Context:
    """Lambda's context: how much time is left of ``seconds``."""

    def __init__(self, world: World, seconds: float) -> None:
        self.world, self.until = world, world.at + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self.until - self.world.at) * 1000)


class Functions:
    """The deployed functions: a configuration each, and a way to fire them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.controller_config, self.guard_config = copy.deepcopy(CONTROLLER), copy.deepcopy(GUARD)
        self.environ: dict[str, str] = {}

    def controller(self, seconds: float = 24.0) -> str:
        """One run; the default time is enough for one look only (15 s are kept back, and 10 s pass between two)."""
        self.environ["FLEET_CONTROL_CONFIG"] = json.dumps(self.controller_config)
        return controller.handler({"source": "aws.events"}, Context(self.world, seconds))["body"]

    def guard(self, event: Any = None) -> str:
        self.environ["FLEET_CONTROL_CONFIG"] = json.dumps(self.guard_config)
        event = {"source": "aws.events"} if event is None else event
        return scale_to_zero.handler(event, Context(self.world, 60))["body"]
