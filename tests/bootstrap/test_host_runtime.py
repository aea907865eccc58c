"""The production runtime: real threads, real sockets (loopback), real signals."""

# ruff: noqa: S603 - runs this interpreter only
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from inference_worker import config as node_config
from inference_worker import work
from inference_worker.aws.metadata import InstanceMetadata
from inference_worker.runtime import HostRuntime
from strict_sqs import StrictQueue
from worker_world import World, document

BOOTSTRAP = Path(__file__).parents[2] / "bootstrap"


class ModelServer(BaseHTTPRequestHandler):
    """Answers after 50 ms."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        pass

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Served-By", "stub")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.reply(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if payload.get("prompt") == "hang up":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            return
        time.sleep(0.05)
        usage = {"prompt_tokens": 3, "completion_tokens": 4}
        self.reply(200, json.dumps({"choices": [{"text": "ok"}], "usage": usage}).encode())


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelServer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


class RealClock:
    """What the strict queue asks of a clock, in real time."""

    @property
    def now(self) -> float:
        return time.time()

    def pause(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.02))


class Locked:
    """One call at a time, as a service would serialise them; a poll that finds nothing does not hold the lock."""

    def __init__(self, inner: StrictQueue) -> None:
        self._inner = inner
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            if name == "receive_message":
                arguments["WaitTimeSeconds"] = 0
                time.sleep(0.02)
            with self._lock:
                return getattr(self._inner, name)(**arguments)

        return call


class LoopbackRuntime(HostRuntime):
    """The host's runtime, with the cloud's ends replaced."""

    def __init__(self, world: World, sqs: Any) -> None:
        super().__init__()
        self.instance = world.node()
        self.sqs = sqs
        self.records: list[dict[str, Any]] = []
        self.stop: Any = None

    def client(self, service: str) -> Any:
        return self.sqs if service == "sqs" else super().client(service)

    def http(self, method: str, url: str, headers: Any, body: bytes | None, timeout_s: float) -> Any:
        if "169.254.169.254" in url:
            return self.instance.http(method, url, headers, body, timeout_s)
        return super().http(method, url, headers, body, timeout_s)

    def log(self, record: Any) -> None:
        self.records.append(dict(record))

    def on_stop(self, callback: Any) -> None:
        self.stop = callback


def test_real_threads_serve_and_drain(port: int) -> None:
    world = World()
    config = node_config.parse(document(jobs_table=world.table, bucket=world.bucket, model={"port": port, "slots": 8}))
    queue = StrictQueue(RealClock(), config.queue_url, config.dead_letter_url, 10)  # type: ignore[arg-type]
    runtime = LoopbackRuntime(world, Locked(queue))
    jobs = [queue.send_message(config.queue_url, json.dumps({"prompt": f"job {n}"}))["MessageId"] for n in range(24)]
    status: list[int] = []
    worker = threading.Thread(target=lambda: status.append(work.run(config, runtime)))
    worker.start()
    end = time.time() + 15
    while queue.live() and time.time() < end:
        time.sleep(0.02)
    assert not queue.live(), runtime.records[-5:]
    runtime.stop()
    worker.join(10)
    assert status == [0]
    rows = [world.job(job) for job in jobs]
    assert {row["status"] for row in rows} == {"completed"}
    assert all(row["bill"]["completion_tokens"] == 4 and row["bill"]["seconds"] >= 0.05 for row in rows)
    assert runtime.records[-1] == {"event": "drained", "completed": 24, "held": 0}


def test_http_tells_refused_from_broken(port: int) -> None:
    runtime = HostRuntime()
    status, headers, _ = runtime.http("GET", f"http://127.0.0.1:{port}/health", {}, None, 2)
    assert (status, headers["x-served-by"]) == (200, "stub")
    assert runtime.http("GET", f"http://127.0.0.1:{port}/none", {}, None, 2)[0] == 404
    with pytest.raises(ConnectionRefusedError):
        runtime.http("GET", "http://127.0.0.1:9/", {}, None, 2)
    with pytest.raises(OSError, match="IncompleteRead"):
        runtime.http("POST", f"http://127.0.0.1:{port}/v1/completions", {}, b'{"prompt": "hang up"}', 2)


def test_run_reports_status_and_time_out() -> None:
    runtime = HostRuntime()
    assert runtime.run(["sh", "-c", "exit 3"], 5) == 3
    assert runtime.run(["sleep", "5"], 0.05) == 124


def test_booted_in_the_past() -> None:
    runtime = HostRuntime()
    assert 0 < runtime.booted_at() < runtime.now()


def test_a_signal_reaches_the_callback_though_the_main_thread_waits() -> None:
    script = """
import os, signal, sys, threading
from inference_worker.runtime import HostRuntime
runtime = HostRuntime()
stopped = runtime.event()
runtime.on_stop(stopped.set)
runtime.log({"event": "up"})
sys.exit(0 if stopped.wait(20) else 1)
"""
    environment = {**os.environ, "PYTHONPATH": str(BOOTSTRAP)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout
        assert json.loads(child.stdout.readline()) == {"event": "up"}
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


def test_the_program_says_what_is_wrong_with_its_configuration(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "inference_worker", "work", "--config", str(tmp_path / "none.json")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(BOOTSTRAP)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert "cannot be read" in json.loads(done.stdout)["problem"]
    assert done.stderr == ""


def test_a_refreshed_metadata_token_is_used_for_hours() -> None:
    world = World()
    instance = world.node()
    metadata = InstanceMetadata(instance)
    for _ in range(10):
        assert metadata.instance_id() == instance.id
    assert len(instance.tokens) == 1
    world.clock.now += 21_600
    assert not metadata.leaving()
    assert len(instance.tokens) == 2
