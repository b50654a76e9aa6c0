"""What every request's environ begins with."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from typing import Any

from wsgi import __version__, _core
from wsgi.settings import Settings

__all__ = ["ErrorStream", "base_environ"]


class ErrorStream:
    """`wsgi.errors`: what `sys.stderr` is at that moment, which tests and daemons replace."""

    def write(self, text: str) -> int:
        """Writes text; what the stream cannot encode is escaped, because an error report must not fail itself."""
        if sys.stderr is not None:
            try:
                sys.stderr.write(text)
            except UnicodeEncodeError:
                sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands what was written to the system."""
        if sys.stderr is not None:
            sys.stderr.flush()


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
