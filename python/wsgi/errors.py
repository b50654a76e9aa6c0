"""The exceptions of this package.

    WSGIServerError
    ├── ConfigError        (ValueError)            an option has a wrong value
    ├── LoadError                                  the application cannot be imported
    │   └── HookError                              a hook cannot be imported, or prevents what it precedes
    ├── BindError          (OSError)               an address cannot be listened on
    ├── StartupError                               the server cannot run, or an ASGI application failed to start
    └── RequestBodyError   (OSError)               reading `wsgi.input` failed
        ├── ClientDisconnected  (ConnectionError)  the client disconnected; ASGI's `send` raises it as well
        ├── BodyTimeout         (TimeoutError)     the body arrived too slowly
        └── MalformedBody                          the framing of the body is malformed

    RequestTimeout         (BaseException)         a WSGI request took longer than `request_timeout`

The first four end a start; each message is one line that says what is wrong, where, and how to mend it. The others are
raised inside an application that reads a request body. They are OSErrors, because frameworks expect those of a failing
stream, and need not be caught: the server then answers or closes the connection. `RequestTimeout` is no
`WSGIServerError`, and no `Exception`: like `KeyboardInterrupt` it may be raised at any line.
"""

from __future__ import annotations

__all__ = [
    "BindError",
    "BodyTimeout",
    "ClientDisconnected",
    "ConfigError",
    "HookError",
    "LoadError",
    "MalformedBody",
    "RequestBodyError",
    "RequestTimeout",
    "StartupError",
    "WSGIServerError",
]


class WSGIServerError(Exception):
    """Base of the exceptions of this package."""


class ConfigError(WSGIServerError, ValueError):
    """An option has an invalid value; the message has the option, the origin of the value and the requirement."""


class LoadError(WSGIServerError):
    """The application could not be loaded.

    `__cause__` is the exception that the application's code raised, with a traceback that begins at the application's
    first frame; None if no application code ran (a mistyped name).
    """


class HookError(LoadError):
    """A hook of the configuration file could not be imported, or it raised and so prevents what it precedes.

    `__cause__` is the exception of the hook, None if none of its code ran.
    """


class BindError(WSGIServerError, OSError):
    """An address cannot be bound or listened on.

    Parameters:
        message: the whole line; `str()` returns it.
        errno: the system's error number, None if no system call failed.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.strerror = message

    def __str__(self) -> str:
        # OSError would put "[Errno N]" in front of the line.
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[BindError], tuple[str, int | None]]:
        # OSError pickles only its args, without the number.
        return type(self), (str(self), self.errno)


class StartupError(WSGIServerError):
    """An ASGI application sent `lifespan.startup.failed`, or no `lifespan.startup.complete` although it must; or the
    server cannot start: no threads or memory are left, or the threads of the process are greenlets."""


class RequestBodyError(WSGIServerError, OSError):
    """The request body cannot be read to its end; what was read so far is incomplete."""


class ClientDisconnected(RequestBodyError, ConnectionError):
    """The client closed or reset the connection before its request body or its response was complete, or the server cut
    off the response because it is stopping."""


class BodyTimeout(RequestBodyError, TimeoutError):
    """The request body arrived more slowly than `body_timeout` and `body_min_rate` allow."""


class MalformedBody(RequestBodyError):
    """A streamed request body broke a rule of its framing (RFC 9112 §7.1) or a limit."""


class RequestTimeout(BaseException):
    """A WSGI request took longer than `request_timeout`, and `request_timeout_action` is `interrupt`.

    Raised in the thread of the request, at whichever line of Python code runs there; a call of C code that blocks comes
    to its end first. The client has been answered already. No `Exception`, so that `except Exception` does not catch
    it; `finally` and context managers clean up as usual. An application that catches it must end its request. It is
    never raised outside of the request.
    """

    def __init__(self, message: str = "the request took longer than request_timeout") -> None:
        super().__init__(message)
