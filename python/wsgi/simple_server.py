"""The rest of wsgiref's names: a program written for `wsgiref.simple_server` takes them from `wsgi.server`.

The server's core reads requests and sends responses, so a handler class is not used for that. What a subclass asks for
is judged when the server is made: silencing or changing the log on standard error is taken, since nothing is written
there; what would be lost is refused with the name of what does it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["WSGIRequestHandler", "check_handler", "check_server", "demo_app"]

_THEIRS = ("http.server", "socketserver", "wsgiref.simple_server", __name__)
_MIDDLEWARE = "wrap the application in a middleware"
# What a subclass may override there and would wait for in vain here.
_HANDLER = {
    "get_environ": f"the server builds the environ; {_MIDDLEWARE}, or change base_environ",
    "get_stderr": "wsgi.errors is sys.stderr",
    "handle": _MIDDLEWARE,
    "handle_one_request": _MIDDLEWARE,
    "parse_request": f"the server parses requests; {_MIDDLEWARE}",
    "handle_expect_100": "the server answers Expect: 100-continue",
    "setup": "the server has the connections",
    "finish": "the server has the connections",
    "send_error": "the server answers malformed requests",
}
_SERVER = {
    "verify_request": f"{_MIDDLEWARE} that refuses clients by REMOTE_ADDR",
    "get_request": "the server accepts connections; there is no TLS here, a proxy does it",
    "finish_request": _MIDDLEWARE,
    "service_actions": "start a thread for what is to be done from time to time",
}


class WSGIRequestHandler:
    """Stands for wsgiref's class of that name, as the base of a program's own `handler_class`. No method is called:
    requests are logged by the option `access_log`, which is off by default.
    """

    def log_message(self, format: str, *args: Any) -> None:
        """Is not called."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Is not called."""

    def log_error(self, format: str, *args: Any) -> None:
        """Is not called."""

    def address_string(self) -> str:
        """Is not called."""
        return ""


def check_handler(handler_class: object) -> None:
    """Judges a handler class.

    Raises:
        TypeError: it is no class, or overrides a method that has a meaning for wsgiref and none here.
    """
    if not isinstance(handler_class, type):
        raise TypeError(f"handler_class must be a class, not {type(handler_class).__name__}")
    _check("handler_class", handler_class, _HANDLER)


def check_server(server_class: type) -> None:
    """Judges a subclass of the server, as `check_handler` does for handlers."""
    _check("server_class", server_class, _SERVER)


def _check(role: str, made: type, words: dict[str, str]) -> None:
    for base in made.__mro__:
        if base.__module__ in (*_THEIRS, "wsgi.server"):
            continue
        for name in vars(base):
            if name in words:
                raise TypeError(f"{role} {made.__name__} overrides {name}(), which is not called here: {words[name]}")


def demo_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A WSGI application that shows its environ."""
    lines = ["Hello world!", "", *(f"{name} = {value!r}" for name, value in sorted(environ.items()))]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return ["\n".join(lines).encode("utf-8", "backslashreplace")]
