"""The part of the environ that all requests of a listener share."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from wsgi import __version__, _core
from wsgi.logging import flush_error, write_error
from wsgi.settings import Settings

__all__ = ["ErrorStream", "base_environ"]


class ErrorStream:
    """`wsgi.errors`: writes to the current `sys.stderr`, and to the process's standard error if that fails or leads
    back here, as after `sys.stderr = environ["wsgi.errors"]`. All requests share one object, to which no attributes can
    be added.

    Thread-safety: may be used from any thread.
    """

    __slots__ = ()

    def write(self, text: str) -> int:
        """Writes text, and returns its length.

        Raises:
            TypeError: `text` is not a str. Nothing else is raised.
        """
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors: write() takes a str, not {type(text).__name__}")
        write_error(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes what was written."""
        flush_error()


def base_environ(place: tuple[str, int] | str, scheme: str, settings: Settings) -> dict[str, Any]:
    """The part of the environ that all requests of one listener share (PEP 3333, RFC 3875). Each run adds
    `wsgi.multiprocess`.

    Parameters:
        place: the address of the listener: `(host, port)`, or the path of a Unix socket.
        scheme: `https` if its clients speak TLS, else `http`.
        settings: the server's options.
    """
    # PEP 3333 requires a name and a port that are not empty; a Unix socket has neither.
    name, port = ("localhost", 443 if scheme == "https" else 80) if isinstance(place, str) else place
    if name in ("0.0.0.0", "::"):
        name = socket.gethostname()
    secure = {"HTTPS": "on"} if scheme == "https" else {}
    return {
        **secure,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_NAME": name,
        "SERVER_PORT": str(port),
        "SERVER_SOFTWARE": f"wsgi-server/{__version__}",
        # PEP 3333: the bytes of the path, as characters.
        "SCRIPT_NAME": settings.root_path.encode("utf-8").decode("latin-1"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": ErrorStream(),
        "wsgi.multithread": settings.threads > 1,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _core.FileWrapper,
        "wsgi.input_terminated": True,
    }
