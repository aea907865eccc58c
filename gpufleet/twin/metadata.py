"""The instance metadata service, version 2: a session token first, 401 without one, 404 for what is not there.

Sources: EC2 user guide, "Use the Instance Metadata Service" and "Spot Instance interruption notices"; Auto Scaling user
guide, "Retrieve the target lifecycle state through instance metadata".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from .clock import Clock
from .services.machines import Instance
from .services.model import iso

Reply = tuple[int, dict[str, str], bytes]
LONGEST_TOKEN_S = 21_600


class InstanceMetadata:
    """The metadata of one instance. `target_state()` answers the target lifecycle state, None outside a group."""

    def __init__(self, clock: Clock, instance: Instance, region: str, target_state: Callable[[], str | None]) -> None:
        self._clock = clock
        self._instance = instance
        self._region = region
        self._target_state = target_state
        self._tokens: dict[str, float] = {}

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        given = {name.lower(): value for name, value in headers.items()}
        if path == "/latest/api/token":
            return self._new_token(method, given)
        token = given.get("x-aws-ec2-metadata-token", "")
        if self._tokens.get(token, 0.0) <= self._clock.now():
            return 401, {}, b"401 - Unauthorized"
        value = self._value(path) if method == "GET" else None
        return (404, {}, b"404 - Not Found") if value is None else (200, {}, value.encode())

    def _new_token(self, method: str, headers: Mapping[str, str]) -> Reply:
        ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if method != "PUT":
            return 405, {}, b"405 - Not Allowed"
        if not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TOKEN_S:
            return 400, {}, b"400 - Bad Request"
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = self._clock.now() + int(ttl)
        return 200, {"x-aws-ec2-metadata-token-ttl-seconds": ttl}, token.encode()

    def _value(self, path: str) -> str | None:
        instance, notice = self._instance, None
        if instance.interruption_at is not None:
            when = iso(instance.interruption_at)[:19] + "Z"  # to the second, as EC2 writes it
            notice = json.dumps({"action": "terminate", "time": when})
        values = {
            "instance-id": instance.id,
            "instance-type": instance.type,
            "instance-life-cycle": "spot" if instance.spot else "on-demand",
            "placement/availability-zone": instance.zone,
            "placement/region": self._region,
            "autoscaling/target-lifecycle-state": self._target_state(),
            "spot/instance-action": notice,
        }
        return values.get(path.removeprefix("/latest/meta-data/"))
