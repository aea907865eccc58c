"""The instance metadata service, version 2 only."""

from __future__ import annotations

import json
from datetime import datetime

from ..ports import UnavailableError
from ..runtime import Runtime

BASE = "http://169.254.169.254/latest"
TIMEOUT_S = 2.0
TOKEN_S = 21_600  # the longest a token may live
RENEW_EARLY_S = 60


class InstanceMetadata:
    """Notices, and who this instance is. Only 404 means "there is none"; all else unexpected is UnavailableError."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._token = ""
        self._token_until = 0.0

    def instance_id(self) -> str:
        found = self._get("meta-data/instance-id")
        if not found:
            raise UnavailableError("instance metadata: no instance id")
        return found

    def reclaim_at(self) -> float | None:
        notice = self._get("meta-data/spot/instance-action")
        if notice is None:
            return None
        try:
            document = json.loads(notice)
            if document["action"] not in ("terminate", "stop", "hibernate"):
                return None
            return datetime.fromisoformat(document["time"].replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise UnavailableError(f"instance metadata: spot notice not understood: {notice[:200]}") from problem

    def leaving(self) -> bool:
        return self._get("meta-data/autoscaling/target-lifecycle-state") == "Terminated"

    def _get(self, path: str) -> str | None:
        for fresh in (False, True):
            status, body = self._ask("GET", path, {"x-aws-ec2-metadata-token": self._valid_token(fresh=fresh)})
            if status == 200:
                return body
            if status == 404:
                return None
            if status != 401:
                break
        raise UnavailableError(f"instance metadata: {path} answered {status}")

    def _valid_token(self, *, fresh: bool) -> str:
        now = self._runtime.now()
        if fresh or now >= self._token_until:
            status, token = self._ask("PUT", "api/token", {"x-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)})
            if status != 200:
                raise UnavailableError(f"instance metadata: no token: answered {status}")
            self._token, self._token_until = token, now + TOKEN_S - RENEW_EARLY_S
        return self._token

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        try:
            status, _, body = self._runtime.http(method, f"{BASE}/{path}", headers, None, TIMEOUT_S)
        except OSError as problem:
            raise UnavailableError(f"instance metadata: {path}: {problem!r}") from problem
        return status, body.decode("utf-8", "replace").strip()
