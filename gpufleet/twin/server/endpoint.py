"""The HTTP server in front of the cloud.

Connections are served by threads of their own, but a cloud belongs to one thread (its clock runs greenlets): they only
read a request, put it into a queue and wait. The owner answers them one by one in `serve()`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

from ..world import World
from . import control, dispatch
from .messages import HttpAnswer, HttpRequest, unwrapped

log = logging.getLogger("gpufleet.twin.server")
MAX_BODY = 64 * 1024 * 1024  # bytes; function code and node payloads are far below
CLOSE_S = 2.0  # real seconds that answers under way have to leave


class Endpoint:
    """Listens on 127.0.0.1 from its creation on; requests are answered while the owner's thread is in `serve()`.

    Args: `port` 0 takes a free one. A context manager; `close()` frees the port and refuses what still waits.
    """

    def __init__(self, world: World, port: int = 0) -> None:
        self.world = world
        self.closed = False
        self._waiting: queue.SimpleQueue[tuple[HttpRequest, Future[HttpAnswer]] | None] = queue.SimpleQueue()
        self._stopping = False
        self._http = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name="twin http")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- the owner's thread -----------------------------------------------------------------------------------

    def serve(self, until: Callable[[], bool] | None = None, poll_s: float = 0.02) -> None:
        """Answer requests until `until()` holds (looked at every `poll_s` seconds of real time) or stop was asked."""
        while not self._stopping and not (until is not None and until()):
            try:
                waiting = self._waiting.get(timeout=poll_s)
            except queue.Empty:
                continue
            if waiting is not None and waiting[1].set_running_or_notify_cancel():
                request, answer = waiting
                answer.set_result(self._answer(request))
        self._stopping = False

    def _answer(self, request: HttpRequest) -> HttpAnswer:
        if not request.path.startswith(control.ROOT):
            return dispatch.answer(self.world.cloud, request)
        try:
            return self._control(request)
        except control.ControlError as error:
            return HttpAnswer.of_json({"error": str(error)}, 400)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return HttpAnswer.of_json({"error": f"{type(error).__name__}: {error}"}, 500)

    def _control(self, request: HttpRequest) -> HttpAnswer:
        match request.method, request.path.removeprefix(control.ROOT):
            case "GET", "status":
                return HttpAnswer.of_json(control.status(self.world))
            case "GET", "now":
                cloud = self.world.cloud
                return HttpAnswer.of_json({"now": cloud.now(), "region": cloud.region, "accountId": cloud.account_id})
            case "POST", "advance":
                return control.advanced(self.world, request)
            case "POST", "stop":
                self.stop()
                return HttpAnswer.of_json({"stopped": True})
        known = "GET health, GET now, GET status, POST advance, POST stop"
        return HttpAnswer.of_json({"error": f"{request.method} {request.path}: /_twin/ knows {known}"}, 404)

    # -- any thread -------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let `serve()` return after the request it is at."""
        self._stopping = True
        self._waiting.put(None)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._http.shutdown()
        self._http.server_close()
        while not self._waiting.empty():
            waiting = self._waiting.get()
            if waiting is not None:
                waiting[1].cancel()
        self._http.hang_up(CLOSE_S)

    def ask(self, request: HttpRequest) -> HttpAnswer:
        """Called by a connection's thread: wait for the owner's answer."""
        if request.method == "GET" and request.path == f"{control.ROOT}health":
            return HttpAnswer.of_json({"ok": True})  # also while the owner is busy
        answer: Future[HttpAnswer] = Future()
        self._waiting.put((request, answer))
        if self.closed:
            answer.cancel()
        try:
            return answer.result()
        except CancelledError:
            return HttpAnswer.of_json({"error": "the embedded cloud has stopped"}, 503)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._open: set[socket.socket] = set()
        self._change = threading.Condition()
        super().__init__(address, _Connection)

    def opened(self, connection: socket.socket) -> None:
        with self._change:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._change:
            self._open.discard(connection)
            self._change.notify_all()

    def hang_up(self, limit_s: float) -> None:
        """End the connections that clients keep open for their next request, once answers under way have left."""
        with self._change:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client has gone meanwhile
                    connection.shutdown(socket.SHUT_RD)
            self._change.wait_for(lambda: not self._open, limit_s)


class _TooLargeError(Exception):
    """The body is longer than the endpoint takes."""


class _Connection(BaseHTTPRequestHandler):
    """Reads requests of one connection and writes their answers."""

    protocol_version = "HTTP/1.1"
    server_version = "twin"
    wbufsize = -1  # header and body leave in one packet: two would wait 40 ms for each other (Nagle)
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.server.closed(self.connection)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client went away

    def handle_expect_100(self) -> bool:
        expected = super().handle_expect_100()
        self.wfile.flush()  # the client holds its body back until it has read this
        return expected

    def _handle(self) -> None:
        try:
            body = self._body()
            parts = urlsplit("//-" + self.path) if self.path.startswith("/") else urlsplit(self.path)
            headers = cast("HTTPMessage", self.headers)
            request = HttpRequest(self.command, parts.path or "/", parts.query, headers, unwrapped(headers, body))
        except _TooLargeError:
            self.close_connection = True  # the rest of the body is not read
            self._send(HttpAnswer.of_json({"error": f"a request body holds at most {MAX_BODY} bytes"}, 413))
            return
        except ValueError as error:
            self.close_connection = True
            self._send(HttpAnswer.of_json({"error": f"this is no HTTP request that can be read: {error}"}, 400))
            return
        self._send(self.server.endpoint.ask(request))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _handle  # noqa: N815 - as the base class calls them

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._chunked_body()
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            raise _TooLargeError
        return self.rfile.read(length)

    def _chunked_body(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline(1024).split(b";")[0], 16):
            if len(body) + size > MAX_BODY:
                raise _TooLargeError
            body += self.rfile.read(size)
            self.rfile.readline(3)
        while self.rfile.readline(65_537).strip():
            pass  # trailers
        return bytes(body)

    def _send(self, answer: HttpAnswer) -> None:
        self.send_response(answer.status)
        length = str(len(answer.body))
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value  # of the body that a GET would get
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD" and answer.status not in (204, 304):
            self.wfile.write(answer.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        log.debug(format, *args)
