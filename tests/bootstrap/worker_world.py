"""A small cloud for the worker: a strict queue, moto's DynamoDB and S3, instance metadata, a model server, a group.

Nodes run the real entry points. Every call of a node is a step at which it can be delayed, refused, answered too late,
or the node can lose its power.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ReadTimeoutError
from inference_worker import config as node_config
from inference_worker import ready, watchdog, work
from strict_sqs import Stored, StrictQueue, refused
from worker_clock import START, Killed, VirtualClock, VirtualEvent

NAMES = itertools.count(1)
LAUNCH_HOOK, TERMINATE_HOOK = "inference-launch-hook", "inference-terminate-hook"
GROUPS = ["inference-asg-dev", "inference-asg-dev-on-demand"]


@cache
def aws(service: str) -> Any:
    return boto3.client(service, region_name="us-east-1")  # pyright: ignore[reportArgumentType, reportCallIssue]


def document(**changes: Any) -> dict[str, Any]:
    model = {
        "weights": "s3://acme-models/llama/",
        "image": "registry.example/vllm@sha256:" + "0" * 64,
        "server_args": ["--max-model-len", "8192"],
        "slots": 4,
        "port": 8000,
    }
    base = {
        "region": "us-east-1",
        "stack": "dev",
        "fleet": "inference-dev",
        "groups": GROUPS,
        "launch_hook": LAUNCH_HOOK,
        "terminate_hook": TERMINATE_HOOK,
        "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/inference-queue-dev",
        "dead_letter_url": "https://sqs.us-east-1.amazonaws.com/123456789012/inference-dlq-dev",
        "jobs_table": "inference-jobs-dev",
        "bucket": "inference-results-dev-1",
        "lease_s": 120,
        "drain_s": 300,
        "boot_deadline_s": 900,
        "allowance": True,
        "max_receive_count": 10,
        "job_timeout_s": 3000,
        "model": model,
    }
    return {**base, **changes, "model": {**model, **changes.get("model", {})}}


class World:
    """`fault(node, operation)` answers None, "before" (refused), "after" (applied, answer lost) or seconds of delay."""

    def __init__(self, seed: int = 0, *, mute_heartbeats: bool = True, **config: Any) -> None:
        number = next(NAMES)
        self.clock = VirtualClock(seed)
        self.table, self.bucket = f"jobs-{number}", f"results-{number}"
        self.config = node_config.parse(document(jobs_table=self.table, bucket=self.bucket, **config))
        keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
        types = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
        aws("dynamodb").create_table(
            TableName=self.table, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
        )
        aws("s3").create_bucket(Bucket=self.bucket)
        self.queue = StrictQueue(
            self.clock,
            self.config.queue_url,
            self.config.dead_letter_url,
            self.config.max_receive_count,
            before_delete=self._check_delete,
        )
        self.mute_heartbeats = mute_heartbeats
        self.fault: Callable[[Node, str], str | float | None] = lambda node, operation: None
        self.accepted: list[str] = []
        self.violations: list[str] = []
        self.settled: dict[str, list[str]] = {}
        self.answers: dict[str, Any] = {}  # prompt -> seconds of service, or a fault's name
        self.nodes: list[Node] = []

    def send(self, prompt: str = "hello", *, raw: str | None = None, **body: Any) -> str:
        text = raw if raw is not None else json.dumps({"prompt": prompt, **body})
        job = body.get("job_id") or self.queue.send_message(self.config.queue_url, text)["MessageId"]
        if body.get("job_id"):
            self.queue.send_message(self.config.queue_url, text)
        if job not in self.accepted:
            self.accepted.append(job)
        return job

    def node(self, **changes: Any) -> Node:
        self.nodes.append(Node(self, f"i-{len(self.nodes) + 1:017x}", **changes))
        return self.nodes[-1]

    def row(self, key: str, sort: str = "job") -> dict[str, Any] | None:
        """The stored row as plain values."""
        item = aws("dynamodb").get_item(TableName=self.table, Key={"pk": {"S": key}, "sk": {"S": sort}}).get("Item")
        return {name: _plain(value) for name, value in item.items()} if item else None

    def job(self, job_id: str) -> dict[str, Any]:
        return self.row(f"job#{job_id}") or {}

    def put_row(self, key: str, sort: str, **values: float | str) -> None:
        item = {n: {"S": v} if isinstance(v, str) else {"N": repr(v)} for n, v in values.items()}
        aws("dynamodb").put_item(TableName=self.table, Item={"pk": {"S": key}, "sk": {"S": sort}, **item})

    def result(self, job_id: str) -> dict[str, Any]:
        return json.loads(aws("s3").get_object(Bucket=self.bucket, Key=f"results/{job_id}.json")["Body"].read())

    def ended(self) -> bool:
        return not self.queue.live()

    def _check_delete(self, stored: Stored) -> None:
        """I2: whoever deletes has first written the job's end, or sent a copy of the message."""
        job_id = _job_id(stored)
        copies = [each for each in self.queue.live() if each is not stored and _job_id(each) == job_id]
        if not copies and self.job(job_id).get("status") not in ("completed", "failed", "expired"):
            self.violations.append(f"{job_id} was deleted before its end was written")

    def check(self, failed: Sequence[str] = (), expired: Sequence[str] = ()) -> None:
        """The invariants at rest: one end each, results readable, billed once, only failed jobs among the dead."""
        assert self.ended(), [vars(each) for each in self.queue.live()]
        bugs = [log for node in self.nodes for log in node.logs if log["event"] in ("worker-error", "thread-died")]
        assert not bugs + self.violations
        for job in self.accepted:
            row = self.job(job)
            wanted = "failed" if job in failed else "expired" if job in expired else "completed"
            assert row.get("status") == wanted, (job, row)
            assert self.settled.get(job) == [wanted], (job, self.settled.get(job))
            if wanted == "completed":
                assert self.result(job)["bill"] == row["bill"], job
        dead = {each.attributes.get("job_id", {}).get("StringValue") for each in self.queue.dead}
        assert dead == set(failed), [vars(each) for each in self.queue.dead]
        for each in self.queue.dead:
            assert each.attributes["reason"]["StringValue"], "a dead letter says why"


class Node:
    """A Runtime: one instance. `kill_at`: (number of a step, "before" or "after" its effect)."""

    def __init__(self, world: World, name: str, kill_at: tuple[int, str] | None = None, boot_s: float = 0) -> None:
        self.world, self.id, self.kill_at = world, name, kill_at
        self.clock = world.clock
        self.alive = True
        self.steps: list[str] = []
        self.logs: list[dict[str, Any]] = []
        self.status: dict[str, int] = {}
        self.stops: list[Callable[[], object]] = []
        self.commands: list[list[str]] = []
        self.group = GROUPS[0]
        self.waits_at: str | None = None
        self.hook_calls: list[tuple[str, str]] = []
        self.terminated: list[bool] = []
        self.at_minimum = False
        self.broken = False  # for tests that switch faults on
        self.spot_at: float | None = None
        self.target_state: str | None = "InService"
        self.metadata_fault: int | str | None = None
        self.tokens: list[str] = []
        self._tasks: list[Any] = []
        self._launched = self.clock.now
        self._engine_died = self.event()
        self._engine_up_at = self.clock.now + boot_s
        self.running: list[str] = []
        self.most_running = 0

    # -- what tests do with it --

    def start(self, *names: str) -> Node:
        for name in names or ("work",):
            entry = {"work": work.run, "ready": ready.run, "watchdog": watchdog.run, "admit": watchdog.admit}[name]
            self.spawn(
                name, lambda name=name, entry=entry: self.status.__setitem__(name, entry(self.world.config, self))
            )
        return self

    def kill(self) -> None:
        self.alive = False
        for task in self._tasks:
            self.clock.at(self.clock.now, lambda task=task: task and not task.dead and task.throw(Killed))

    def stop(self) -> None:
        for callback in self.stops:
            callback()

    def done(self) -> bool:
        return "work" in self.status

    def heartbeat(self) -> dict[str, Any]:
        return self.world.row("fleet#inference-dev", f"instance#{self.id}") or {}

    def engine_dies(self, down_s: float = 30) -> None:
        self._engine_died.set()
        self._engine_died = self.event()
        self._engine_up_at = self.clock.now + down_s

    # -- Runtime --

    def now(self) -> float:
        return self.clock.now

    def booted_at(self) -> float:
        return self._launched

    def sleep(self, seconds: float) -> None:
        self._check()
        self.clock.pause(seconds)
        self._check()

    def spawn(self, name: str, work: Callable[[], object]) -> None:
        def body() -> None:
            try:
                if self.alive:
                    work()
            except Killed:
                pass

        self._tasks = [task for task in self._tasks if not task.dead]
        self._tasks.append(self.clock.spawn(body))

    def event(self) -> VirtualEvent:
        return VirtualEvent(self.clock, self._check)

    def lock(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def log(self, record: Mapping[str, Any]) -> None:
        self.logs.append({"at": self.clock.now - START, **record})

    def on_stop(self, callback: Callable[[], object]) -> None:
        self.stops.append(callback)

    def become(self, argv: Sequence[str]) -> None:
        self.commands.append(list(argv))

    def run(self, argv: Sequence[str], timeout_s: float) -> int:
        self.commands.append(list(argv))
        if list(argv) == ["systemctl", "stop", "worker.service"]:
            self.stop()
            end = self.clock.now + timeout_s
            while self.stops and not self.done() and self.clock.now < end:
                self.sleep(1)
        return 0

    def client(self, service: str) -> Any:
        return Client(self, service)

    def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        self._check()
        if url.startswith("http://169.254.169.254/"):
            return self._metadata(method, url.split("/latest/")[1], headers)
        assert url.startswith("http://127.0.0.1:8000/")
        if self.clock.now < self._engine_up_at:
            raise ConnectionRefusedError(111, "refused")
        path = url.removeprefix("http://127.0.0.1:8000")
        if path == "/health":
            return 200, {}, b""
        return self._answer(path, json.loads(body or b"{}"), timeout_s)

    def _metadata(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if self.metadata_fault == "hang":
            self.sleep(2)
            raise TimeoutError("timed out")
        if self.metadata_fault is not None:
            return int(self.metadata_fault), {}, b"trouble"
        if method == "PUT":
            assert path == "api/token"
            assert int(headers["x-aws-ec2-metadata-token-ttl-seconds"]) <= 21_600
            self.tokens.append(f"token-{len(self.tokens)}")
            return 200, {}, self.tokens[-1].encode()
        if not self.tokens or headers.get("x-aws-ec2-metadata-token") != self.tokens[-1]:
            return 401, {}, b""
        action = self.spot_at and {"action": "terminate", "time": datetime.fromtimestamp(self.spot_at, UTC).isoformat()}
        found = {
            "meta-data/instance-id": self.id,
            "meta-data/spot/instance-action": json.dumps(action).replace("+00:00", "Z") if action else None,
            "meta-data/autoscaling/target-lifecycle-state": self.target_state,
        }[path]
        return (200, {}, found.encode()) if found else (404, {}, b"")

    def _answer(self, path: str, payload: dict[str, Any], timeout_s: float) -> tuple[int, Mapping[str, str], bytes]:
        prompt = payload["prompt"] if path == "/v1/completions" else payload["messages"][0]["content"]
        canary = payload.get("max_tokens") == 1 and prompt == "ping"
        how = 1.0 if canary else self.world.answers.get(prompt, 20.0)
        if callable(how):
            how = how(self)
        died = self._engine_died
        self.running += [] if canary else [prompt]
        self.most_running = max(self.most_running, len(self.running))
        try:
            if died.wait(min(how if isinstance(how, float) else 5.0, timeout_s)):
                raise ConnectionResetError(104, "reset")
        finally:
            if not canary:
                self.running.remove(prompt)
        if how == "kills-engine":
            self.engine_dies()
            raise ConnectionResetError(104, "reset")
        if how == "hangs" or (isinstance(how, float) and how > timeout_s):
            self.sleep(max(0.0, timeout_s - 5.0))
            raise TimeoutError("timed out")
        if how == "cut-short":
            return 200, {}, b'{"choices": [{"te'
        if isinstance(how, int):
            return how, {}, b'{"error": "as scripted"}'
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 7, "total_tokens": len(prompt) + 7}
        return 200, {}, json.dumps({"choices": [{"text": f"answer to {prompt}"}], "usage": usage}).encode()

    # -- steps --

    def _check(self) -> None:
        if not self.alive:
            raise Killed

    def step(self, operation: str, apply: Callable[[], Any]) -> Any:
        self._check()
        if operation == "beat" and self.world.mute_heartbeats:
            return {}
        self.steps.append(operation)
        number = len(self.steps)
        if self.kill_at == (number, "before"):
            self.kill()
            raise Killed
        fault = self.world.fault(self, operation)
        if isinstance(fault, float):
            self.sleep(fault)
        if fault == "before":
            raise refused(operation, "ServiceUnavailable", status=503)
        answer = apply()
        if self.kill_at == (number, "after"):
            self.kill()
            raise Killed
        if fault == "after":
            raise ReadTimeoutError(endpoint_url=operation)
        self._check()
        return answer


class Client:
    """A boto3 client whose every call is a step of its node."""

    def __init__(self, node: Node, service: str) -> None:
        self._node = node
        self._service = service

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            name = "beat" if method == "put_item" else f"{self._service}.{method}"
            return self._node.step(name, lambda: self._apply(method, arguments))

        return call

    def _apply(self, method: str, arguments: dict[str, Any]) -> Any:
        world = self._node.world
        if self._service == "sqs":
            return getattr(world.queue, method)(**arguments)
        if self._service == "autoscaling":
            return self._group(method, arguments)
        answer = getattr(aws(self._service), method)(**arguments)
        status = arguments.get("ExpressionAttributeValues", {}).get(":status")
        if status:
            world.settled.setdefault(arguments["Key"]["pk"]["S"].removeprefix("job#"), []).append(status["S"])
        return answer

    def _group(self, method: str, arguments: dict[str, Any]) -> Any:
        node = self._node
        assert arguments["InstanceId"] == node.id
        if method == "terminate_instance_in_auto_scaling_group":
            if node.at_minimum and arguments["ShouldDecrementDesiredCapacity"]:
                raise refused(method, "ValidationError", "Currently, desiredSize equals minSize (0).")
            node.terminated.append(arguments["ShouldDecrementDesiredCapacity"])
            node.target_state, node.waits_at = "Terminated", TERMINATE_HOOK
            return {}
        at = (arguments["AutoScalingGroupName"], arguments["LifecycleHookName"])
        if at != (node.group, node.waits_at):
            raise refused(method, "ValidationError", f"No active Lifecycle Action found with instance ID {node.id}")
        if method == "complete_lifecycle_action":
            node.hook_calls.append((at[1], arguments["LifecycleActionResult"]))
            node.waits_at = None
        else:
            node.hook_calls.append((at[1], "heartbeat"))
        return {}


def _job_id(stored: Stored) -> str:
    try:
        body = json.loads(stored.body)
    except (ValueError, RecursionError):
        body = {}
    named = body.get("job_id") if isinstance(body, dict) else None
    attribute = stored.attributes.get("job_id", {}).get("StringValue")
    return named if isinstance(named, str) and named[0].isalnum() else attribute or stored.id


def _plain(value: dict[str, Any]) -> Any:
    kind, inner = next(iter(value.items()))
    if kind == "N":
        return float(inner)
    return {name: _plain(each) for name, each in inner.items()} if kind == "M" else inner
