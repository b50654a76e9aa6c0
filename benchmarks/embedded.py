"""Starts one of the servers that are libraries and have no command of their own.

python -m benchmarks.embedded SERVER MODULE:APP PORT THREADS
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 2048


def fastwsgi(app: Any, port: int, threads: int) -> None:
    library: Any = importlib.import_module("fastwsgi")
    library.run(wsgi_app=app, host=HOST, port=port, loglevel=0)


def bjoern(app: Any, port: int, threads: int) -> None:
    library: Any = importlib.import_module("bjoern")
    library.run(app, HOST, port)


def waitress(app: Any, port: int, threads: int) -> None:
    library: Any = importlib.import_module("waitress")
    library.serve(app, host=HOST, port=port, threads=threads, connection_limit=12_000, backlog=BACKLOG)


def cheroot(app: Any, port: int, threads: int) -> None:
    library: Any = importlib.import_module("cheroot.wsgi")
    library.Server((HOST, port), app, numthreads=threads, request_queue_size=BACKLOG).start()


SERVERS: dict[str, Callable[[Any, int, int], None]] = {
    "fastwsgi": fastwsgi,
    "bjoern": bjoern,
    "waitress": waitress,
    "cheroot": cheroot,
}


def main(server: str, target: str, port: str, threads: str) -> None:
    module, _, name = target.partition(":")
    SERVERS[server](getattr(importlib.import_module(module), name), int(port), int(threads))


if __name__ == "__main__":
    main(*sys.argv[1:])
