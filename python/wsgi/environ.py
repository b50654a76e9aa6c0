"""What every request's environ begins with."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from wsgi import __version__, _core
from wsgi.logging import flush_error, write_error
from wsgi.settings import Settings

__all__ = ["ErrorStream", "base_environ"]


class ErrorStream:
    """`wsgi.errors`: what `sys.stderr` is at that moment, and the process's standard error where that cannot take the
    text or leads back here, as after `sys.stderr = environ["wsgi.errors"]`. All requests share one, which takes no
    attributes."""

    __slots__ = ()

    def write(self, text: str) -> int:
        """Writes text; only one that is no str raises."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors: write() takes a str, not {type(text).__name__}")
        write_error(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands what was written to the system."""
        flush_error()


def base_environ(place: tuple[str, int] | str, settings: Settings) -> dict[str, Any]:
    """What every environ of one listener begins with (PEP 3333, RFC 3875).

    Parameters:
        place: where the listener is: `(host, port)`, or a Unix socket's path.
        settings: the server's options.
    """
    # A Unix socket has neither name nor port, which PEP 3333 wants all the same, and not empty.
    name, port = ("localhost", 80) if isinstance(place, str) else place
    if name in ("0.0.0.0", "::"):
        name = socket.gethostname()
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
        "SERVER_SOFTWARE": f"wsgi-server/{__version__}",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": ErrorStream(),
        "wsgi.multithread": settings.threads > 1,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _core.FileWrapper,
        "wsgi.input_terminated": True,
    }
