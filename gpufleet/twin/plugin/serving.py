"""How a plugin of the engine lives: it prints its port, serves, and goes when whoever started it has gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

_LOOK_S = 0.5
_LIMIT = 400 * 1024 * 1024  # bytes of one message: what the engine itself allows
_WORKERS = 32  # the engine's operations in flight at once, by default 16 on a large machine


def serve(add: Callable[[grpc.Server], object]) -> None:
    """Serve what `add` puts on a server, until the engine's signal or the end of the process that started this one."""
    ended = threading.Event()
    # The engine starts plugins in process groups of their own (a Ctrl-C at the terminal is for it alone), asks them to
    # end with SIGINT, and waits five seconds for that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    parent = os.getppid()
    options = [("grpc.max_receive_message_length", _LIMIT), ("grpc.max_send_message_length", _LIMIT)]
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=options)
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    while os.getppid() == parent and not ended.wait(_LOOK_S):
        pass
    server.stop(grace=None)
    os._exit(0)  # a call may still wait for an answer of an engine that has gone
