"""What is asked of servers: an application, and how it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.apps import plain
from benchmarks.loads.idle import IdleConnections
from benchmarks.loads.load import Load
from benchmarks.loads.mix import Mix
from benchmarks.loads.pieces import SlowPieces
from benchmarks.loads.race import Race
from benchmarks.loads.readers import SlowReaders
from benchmarks.loads.websocket import WebSocketEcho
from benchmarks.processes import ROOT
from benchmarks.servers import ASGI, WSGI

_PLAIN = "benchmarks.apps.plain"
_ASGI = "benchmarks.apps.asgi_plain"
_POST = str(ROOT / "benchmarks" / "native" / "post.lua")
_ECHOED = b"x" * 4096


@dataclass(frozen=True)
class Workload:
    """A row of the tables.

    Parameters:
        name: on the command line.
        title: in tables.
        target: MODULE:APP.
        load: how it is asked.
        group: which servers run it.
        threads: how many a server may use; its own number for quick applications if none.
        content: of the response, where it is always the same; the kernel's floor is then measured as well.
        body: of the request that checks the application before it is measured.
        closes: whether each request has a connection of its own.
        access_log: whether requests are logged; servers without an access log do not run it then.
        checked: whether one request shows that the application is there, before it is measured.
        framework: whether the application is a framework's, and has a floor of its own.
    """

    name: str
    title: str
    target: str
    load: Load
    group: str = WSGI
    threads: int | None = None
    content: bytes | None = None
    body: bytes = b""
    closes: bool = False
    access_log: bool = False
    framework: bool = False
    checked: bool = True


WORKLOADS = [
    Workload("hello", "hello", f"{_PLAIN}:hello", Race(), content=plain.HELLO),
    Workload("10k", "10 KiB body", f"{_PLAIN}:ten_kib", Race(), content=plain.TEN_KIB),
    Workload("1m", "1 MB body", f"{_PLAIN}:one_mb", Race(), content=plain.ONE_MB),
    Workload("echo", "POST, 4 KiB echo", f"{_PLAIN}:echo", Race(script=_POST), content=_ECHOED, body=_ECHOED),
    Workload(
        "generator", "generator, 100 pieces", f"{_PLAIN}:generator", Race(), content=plain.CHUNK * plain.CHUNKS
    ),
    Workload("slow-generator", "slow generator", f"{_PLAIN}:slow_generator", SlowPieces()),
    Workload(
        "new-connections", "new connection each", f"{_PLAIN}:hello", Race(fields=("Connection: close",)),
        content=plain.HELLO, closes=True,
    ),
    Workload("flask", "Flask, hello", "benchmarks.apps.flask_site:app", Race(), framework=True),
    Workload("flask-json", "Flask, JSON", "benchmarks.apps.flask_site:app", Race("/json"), framework=True),
    Workload("django", "Django, hello", "benchmarks.apps.django_site:app", Race(), framework=True),
    Workload("sleeping", "sleeping 10 ms", f"{_PLAIN}:sleeping", Race(), threads=64),
    Workload("mix", "32 hello + 32 sleeping", f"{_PLAIN}:mixed", Mix(), threads=64),
    Workload("computing", "computing 1 ms", f"{_PLAIN}:computing", Race(), threads=64),
    Workload("idle", "10,000 idle connections", f"{_PLAIN}:hello", IdleConnections()),
    Workload("readers", "1 GiB, 100 slow readers", f"{_PLAIN}:file", SlowReaders(), threads=4),
    Workload("access-log", "hello, access log", f"{_PLAIN}:hello", Race(), access_log=True),
    Workload("asgi-hello", "ASGI, hello", f"{_ASGI}:hello", Race(), ASGI, content=plain.HELLO),
    Workload("fastapi", "FastAPI, hello", "benchmarks.apps.fastapi_site:app", Race(), ASGI),
    Workload(
        "asgi-echo", "ASGI, POST, 4 KiB echo", f"{_ASGI}:echo", Race(script=_POST), ASGI,
        content=_ECHOED, body=_ECHOED,
    ),
    Workload(
        "asgi-generator", "ASGI, 100 pieces", f"{_ASGI}:generator", Race(), ASGI,
        content=plain.CHUNK * plain.CHUNKS,
    ),
    Workload("websocket", "WebSocket echo", f"{_ASGI}:websocket", WebSocketEcho(), ASGI, checked=False),
]  # fmt: skip


def workloads(group: str, names: Sequence[str] = ()) -> list[Workload]:
    """The workloads of a group, in the order of the table; those that are named, if any are."""
    return [workload for workload in WORKLOADS if workload.group == group and (not names or workload.name in names)]
