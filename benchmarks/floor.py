"""Floors: what no server can go below.

The kernel's: a program that reads and writes and does nothing else, with a response of the same size. The framework's:
the same application called in a loop, with an environ that is there already.
"""

from __future__ import annotations

import importlib
import io
import statistics
import time
from pathlib import Path

from benchmarks.compiler import compiled
from benchmarks.frameworks import request
from benchmarks.workloads import Workload

KERNEL = "kernel only"
IN_PROCESS = "in process"


def kernel_command(workload: Workload, port: int, folder: Path) -> list[str]:
    """What serves a workload's response without a server.

    Parameters:
        workload: one with a content.
        port: where to listen.
        folder: for the response.
    """
    assert workload.content is not None
    response = folder / "response"
    fields = b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(workload.content)
    fields += b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
    if workload.closes:
        fields += b"Connection: close\r\n"
    response.write_bytes(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + workload.content)
    return [str(compiled("floor")), str(port), str(response), *(["close"] if workload.closes else [])]


def in_process(target: str, path: str, seconds: float) -> float:
    """Processor microseconds for a call of a WSGI application, the median of ten parts of the time given."""
    module, _, name = target.partition(":")
    app = getattr(importlib.import_module(module), name)
    errors = io.StringIO()
    costs = []
    for _ in range(10):
        begun, used, calls = time.monotonic(), time.thread_time_ns(), 0
        while not calls or time.monotonic() - begun < seconds / 10:
            request(app, path, errors)
            calls += 1
        costs.append((time.thread_time_ns() - used) / calls / 1000)
    return statistics.median(costs)
