"""How servers are launched: this one, those that others made, and any command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

APP = "tests.conformance.probe:app"
IN_PYTHON = "from tests.conformance.probe import app; "


@dataclass(frozen=True)
class Launch:
    """A command line as a template.

    Its words may hold `{address}` (`127.0.0.1:PORT` or `unix:PATH`), `{host}`, `{port}`, `{path}`, `{app}` (the module
    and name of the application), `{python}` and `{bin}` (the interpreter and the commands of its environment).
    """

    tcp: Sequence[str]
    unix: Sequence[str]
    """Empty if the server does not listen on Unix sockets."""
    brief: Sequence[str] = ()
    """Words that set short timeouts and low limits, put where the template says `{brief}`, or else at its end."""
    offers: frozenset[str] = frozenset()
    """The options that `brief` sets."""
    package: str = ""
    """The distribution whose version is told."""
    width: int = 64
    """Connections that are opened at the same time; servers with a thread for each get no more than they can take."""

    def command(self, transport: str, brief: bool, names: dict[str, str]) -> list[str]:
        """The words to start with; none if the server does not offer the transport."""
        words = list(self.unix if transport == "unix" else self.tcp)
        if not words:
            return []
        options = list(self.brief) if brief else []
        if "{brief}" not in " ".join(words):
            words += options
        filled = {**names, "brief": ", ".join(options)}
        return [word.format(**filled) for word in words]


def own() -> Launch:
    """This server."""
    start = ["{python}", "-m", "wsgi_server", "--bind", "{address}", "{app}"]
    brief = {
        "header-timeout": "1s",
        "body-timeout": "1s",
        "body-min-rate": "10000",
        "write-timeout": "1s",
        "keep-alive": "1s",
        "max-body-size": "1000000",
    }
    return Launch(
        start,
        start,
        [word for name, value in brief.items() for word in (f"--{name}", value)],
        frozenset(["header_deadline", *(name.replace("-", "_") for name in brief)]),
        "wsgi-server",
        200,
    )


def given(command: str) -> Launch:
    """A command line of the user's. Without `{address}` or `{path}` in it, it is taken for one without Unix sockets."""
    words = shlex.split(command)
    has_unix = any("{address}" in word or "{path}" in word for word in words)
    has_tcp = any("{address}" in word or "{port}" in word for word in words)
    return Launch(words if has_tcp else (), words if has_unix else ())


GUNICORN = [
    "{bin}/gunicorn", "--worker-class", "gthread", "--threads", "16", "--no-control-socket",
    "--bind", "{address}", "{app}",
]  # fmt: skip
GRANIAN = [
    "{bin}/granian", "--interface", "wsgi", "--http", "1", "--blocking-threads", "16", "--backpressure", "1024",
    "--no-access-log", "--log-level", "error", "{app}",
]  # fmt: skip
UWSGI = [
    "{bin}/uwsgi",
    "--master",
    "--threads",
    "16",
    "--die-on-term",
    "--need-app",
    "--disable-logging",
    "--listen",
    "100",
]
WAITRESS = "import waitress; waitress.serve(app, {place}, threads=16, connection_limit=1000, **dict({{brief}}))"
CHEROOT = (
    "import cheroot.wsgi; server = cheroot.wsgi.Server({place}, app, numthreads=16, request_queue_size=128);"
    " [setattr(server, name, value) for name, value in dict({{brief}}).items()]; server.start()"
)

FASTWSGI = (
    "import fastwsgi; [setattr(fastwsgi.server, name, value) for name, value in dict({{brief}}).items()];"
    " fastwsgi.run(wsgi_app=app, {place})"
)


def in_python(template: str, tcp: str, unix: str) -> tuple[list[str], list[str]]:
    """Servers that are started by a line of Python; `{place}` in it is where they listen."""
    return tuple(  # type: ignore[return-value]
        ["{python}", "-c", IN_PYTHON + template.format(place=place)] if place else [] for place in (tcp, unix)
    )


PEERS = {
    "gunicorn": Launch(
        GUNICORN, GUNICORN, ["--keep-alive", "1"], frozenset(["keep_alive"]), "gunicorn"
    ),
    "waitress": Launch(
        *in_python(WAITRESS, "host='127.0.0.1', port={port}", "unix_socket='{path}'"),
        ["channel_timeout=1", "cleanup_interval=1", "max_request_body_size=1000000"],
        frozenset(["keep_alive", "header_timeout", "body_timeout", "max_body_size"]),
        "waitress",
    ),
    "granian": Launch(
        [*GRANIAN, "--host", "127.0.0.1", "--port", "{port}"],
        [*GRANIAN, "--uds", "{path}"],
        ["--http1-header-read-timeout", "1000"],
        frozenset(["header_timeout", "header_deadline", "keep_alive"]),
        "granian",
    ),
    "cheroot": Launch(
        *in_python(CHEROOT, "('127.0.0.1', {port})", "'{path}'"),
        ["timeout=1", "max_request_body_size=1000000"],
        frozenset(["keep_alive", "header_timeout", "body_timeout", "write_timeout", "max_body_size"]),
        "cheroot",
    ),
    # Its HTTP router listens with TCP only; what its workers themselves speak is meant for a proxy.
    "uwsgi": Launch(
        [*UWSGI, "--http", "127.0.0.1:{port}", "--http-keepalive", "--http-auto-chunked", "--http-chunked-input",
         "--module", "{app}"],
        (),
        ["--http-timeout", "1", "--http-headers-timeout", "1", "--socket-timeout", "1", "--limit-post", "1000000"],
        frozenset(["header_timeout", "body_timeout", "max_body_size", "keep_alive"]),
        "uwsgi",
    ),
    "bjoern": Launch(
        *in_python("import bjoern; bjoern.run(app, {place})", "'127.0.0.1', {port}", "'unix:{path}'"),
        package="bjoern",
    ),
    "fastwsgi": Launch(
        *in_python(FASTWSGI, "host='127.0.0.1', port={port}", ""),
        ["max_content_length=1000000"],
        frozenset(["max_body_size"]),
        "fastwsgi",
    ),
}  # fmt: skip


def python_of(environment: Path | None) -> Path:
    """The interpreter of an environment, or this one."""
    return Path(sys.executable) if environment is None else environment / "bin" / "python"
