"""The exceptions of this package.

    WSGIServerError
    ├── ConfigError        (ValueError)            an option has a wrong value
    ├── LoadError                                  the application cannot be imported
    ├── BindError          (OSError)               an address cannot be listened on
    ├── StartupError                               an application cannot be run, or failed to start (ASGI)
    └── RequestBodyError   (OSError)               reading `wsgi.input` cannot go on
        ├── ClientDisconnected  (ConnectionError)  the client left too early; ASGI's `send` raises it as well
        ├── BodyTimeout         (TimeoutError)     the body came too slowly
        └── MalformedBody                          the body breaks the rules of its framing

The first four end a start; each message is one line that says what is wrong, where, and how to mend it. The others are
raised inside an application that reads a request body. They are OSErrors, since that is what frameworks expect of a
stream that fails, and need not be caught: the server answers or closes as the case asks.
"""

from __future__ import annotations

__all__ = [
    "BindError",
    "BodyTimeout",
    "ClientDisconnected",
    "ConfigError",
    "LoadError",
    "MalformedBody",
    "RequestBodyError",
    "StartupError",
    "WSGIServerError",
]


class WSGIServerError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(WSGIServerError, ValueError):
    """An option has a value the server cannot work with; the message names the option, its origin and the need."""


class LoadError(WSGIServerError):
    """The application could not be loaded.

    `__cause__` is the application's own exception where its code raised one, with a traceback that begins at the
    application's first frame; it is None where nothing of the application ran (a mistyped name).
    """


class BindError(WSGIServerError, OSError):
    """An address could not be bound or listened on.

    Parameters:
        message: the whole line for the reader; it is what `str()` gives.
        errno: the system's error number, None where no system call failed.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.strerror = message

    def __str__(self) -> str:
        # OSError would put "[Errno N]" in front of a line that already says it in words.
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[BindError], tuple[str, int | None]]:
        # OSError pickles its args alone, which would lose the number.
        return type(self), (str(self), self.errno)


class StartupError(WSGIServerError):
    """An ASGI application said by `lifespan.startup.failed` that it cannot start, or failed to say that it did; or the
    process is one in which no server can run, because its threads are greenlets."""


class RequestBodyError(WSGIServerError, OSError):
    """The request body cannot be read to its end: what was read must not be taken for the whole."""


class ClientDisconnected(RequestBodyError, ConnectionError):
    """The client closed or reset the connection before its request body or its response was complete, or the server cut
    the response because it is stopping."""


class BodyTimeout(RequestBodyError, TimeoutError):
    """The request body came more slowly than `body_timeout` and `body_min_rate` allow."""


class MalformedBody(RequestBodyError):
    """A streamed request body broke a rule of its framing (RFC 9112 §7.1) or a limit."""
