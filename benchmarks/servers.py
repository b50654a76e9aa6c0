"""The servers that are measured, and how each is started."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT

WSGI, ASGI = "wsgi", "asgi"
GROUPS = (WSGI, ASGI)
OURS = "wsgi"

# Names in braces are filled in by `Server.start`.
_EMBEDDED = ("{python}", "-m", "benchmarks.embedded")


@dataclass(frozen=True)
class Server:
    """A server, with the settings that its own documentation gives for production where there are any.

    Parameters:
        name: in tables and on the command line.
        group: the interface it is measured with.
        package: what it is installed as; the floor has none.
        command: how it is started.
        threads: how many it gets for applications that are quick. One where threads only fight for the interpreter;
            as many as connections where a kept connection holds one.
        access_log: what turns the access log on; none if it is not measured with one.
        closing: words of the command, and what stands for them where each request has a connection of its own.
    """

    name: str
    group: str
    package: str
    command: Sequence[str]
    threads: int = 1
    access_log: Sequence[str] = ()
    closing: Mapping[str, str] = field(default_factory=dict)

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def start(
        self, target: str, port: int, threads: int | None = None, access_log: bool = False, closes: bool = False
    ) -> list[str]:
        """The command line.

        Parameters:
            target: MODULE:APP.
            port: where to listen.
            threads: for applications that wait; the server's own number for those that are quick.
            access_log: whether requests are logged.
            closes: whether each request has a connection of its own.
        """
        scripts = Path(sys.executable).parent
        words = {"bin": scripts, "python": sys.executable, "root": ROOT, "target": target, "port": port}
        command = [*self.command, *(self.access_log if access_log else ())]
        command = [self.closing.get(word, word) if closes else word for word in command]
        return [word.format(**words, threads=threads or self.threads) for word in command]


SERVERS = [
    # As it comes: 16 threads at most is its default.
    Server(
        OURS, WSGI, "wsgi",
        ("{bin}/wsgi", "--app-dir", "{root}", "--port", "{port}", "--threads", "{threads}", "{target}"),
        threads=16, access_log=("--access-log", "-"),
    ),
    Server("fastwsgi", WSGI, "fastwsgi", (*_EMBEDDED, "fastwsgi", "{target}", "{port}", "{threads}")),
    Server("bjoern", WSGI, "bjoern", (*_EMBEDDED, "bjoern", "{target}", "{port}", "{threads}")),
    Server(
        "uwsgi", WSGI, "uwsgidecorators",
        (
            "{bin}/uwsgi", "--http11-socket", "127.0.0.1:{port}", "--chdir", "{root}", "--module", "{target}",
            "--master", "--die-on-term", "--enable-threads", "--threads", "{threads}", "--listen", "2048",
            "--need-app", "--disable-logging", "--buffer-size", "32768", "--so-keepalive",
        ),
        # It keeps all connections, or none without saying so.
        threads=64, closing={"--http11-socket": "--http-socket", "--so-keepalive": "--add-header=Connection: close"},
    ),
    Server(
        "granian", WSGI, "granian",
        (
            "{bin}/granian", "--interface", "wsgi", "--port", "{port}", "--blocking-threads", "{threads}",
            "--backlog", "12000", "--backpressure", "12000", "--log-level", "error", "--working-dir", "{root}",
            "{target}",
        ),
        access_log=("--access-log",),
    ),
    Server("cheroot", WSGI, "cheroot", (*_EMBEDDED, "cheroot", "{target}", "{port}", "{threads}"), threads=10),
    Server("waitress", WSGI, "waitress", (*_EMBEDDED, "waitress", "{target}", "{port}", "{threads}"), threads=4),
    Server(
        "gunicorn", WSGI, "gunicorn",
        (
            "{bin}/gunicorn", "-k", "gthread", "--threads", "{threads}", "-b", "127.0.0.1:{port}",
            "--keep-alive", "75", "--no-control-socket", "--chdir", "{root}", "{target}",
        ),
        threads=4, access_log=("--access-logfile", "-"),
    ),
    Server(OURS, ASGI, "wsgi", ("{bin}/wsgi", "--app-dir", "{root}", "--port", "{port}", "{target}")),
    Server(
        "uvicorn", ASGI, "uvicorn",
        (
            "{bin}/uvicorn", "--loop", "uvloop", "--http", "httptools", "--port", "{port}", "--no-access-log",
            "--log-level", "error", "--app-dir", "{root}", "{target}",
        ),
    ),
    Server(
        "granian", ASGI, "granian",
        (
            "{bin}/granian", "--interface", "asgi", "--loop", "uvloop", "--port", "{port}", "--log-level", "error",
            "--working-dir", "{root}", "{target}",
        ),
    ),
]  # fmt: skip


def servers(group: str, names: Sequence[str] = ()) -> list[Server]:
    """The servers of a group, in the order of the table; those that are named, if any are."""
    return [server for server in SERVERS if server.group == group and (not names or server.name in names)]
