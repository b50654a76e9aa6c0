"""WSGI applications without a framework: what is measured is the server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HELLO = b"Hello, world!"
TEN_KIB = b"x" * 10_240
ONE_MB = b"x" * 1_000_000
CHUNK = b"a piece of a response\n"
CHUNKS = 100


def answer(start_response: StartResponse, content: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
    return [content]


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return answer(start_response, HELLO)


def ten_kib(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return answer(start_response, TEN_KIB)


def one_mb(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return answer(start_response, ONE_MB)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return answer(start_response, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))


def generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Pieces as fast as they are taken, without a Content-Length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(CHUNKS):
        yield CHUNK


def slow_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """A piece each 50 ms that says when it was made, by the machine's monotonic clock in nanoseconds."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(20):
        yield b"%d\n" % time.monotonic_ns()
        time.sleep(0.05)


def sleeping(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(0.01)
    return answer(start_response, HELLO)


def mixed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Sleeps for `/sleep`, and for nothing else."""
    return (sleeping if environ["PATH_INFO"] == "/sleep" else hello)(environ, start_response)


def computing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Computes for a millisecond of the thread's own time, however many threads there are."""
    end = time.thread_time_ns() + 1_000_000
    while time.thread_time_ns() < end:
        pass
    return answer(start_response, HELLO)


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The file that BENCHMARK_FILE names for `/file`, by the server's wrapper if it has one; else hello."""
    if environ["PATH_INFO"] != "/file":
        return hello(environ, start_response)
    opened = open(os.environ["BENCHMARK_FILE"], "rb")  # noqa: SIM115 - the wrapper closes it
    size = os.fstat(opened.fileno()).st_size
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(opened, 65_536) if wrapper else iter(lambda: opened.read(65_536), b"")
