"""The other names of wsgiref: a program written for `wsgiref.simple_server` imports them from `wsgi.server`.

The server's core reads requests and sends responses, so a handler class is not used. The overrides of a subclass are
checked when the server is made: those of the log on standard error are accepted, because the server writes no such log;
others that would have no effect are refused with the replacement.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["WSGIRequestHandler", "check_handler", "check_server", "demo_app"]

_LIBRARY_MODULES = ("http.server", "socketserver", "wsgiref.simple_server", __name__)
_MIDDLEWARE = "wrap the application in a middleware"
# Overrides that have an effect in wsgiref and none here, with their replacement.
_HANDLER = {
    "get_environ": f"the server builds the environ; {_MIDDLEWARE}, or change base_environ",
    "get_stderr": "wsgi.errors is sys.stderr",
    "handle": _MIDDLEWARE,
    "handle_one_request": _MIDDLEWARE,
    "parse_request": f"the server parses requests; {_MIDDLEWARE}",
    "handle_expect_100": "the server answers Expect: 100-continue",
    "setup": "the server owns the connections",
    "finish": "the server owns the connections",
    "send_error": "the server answers malformed requests",
}
_SERVER = {
    "verify_request": f"{_MIDDLEWARE} that refuses clients by REMOTE_ADDR",
    "get_request": "the server accepts connections; TLS is not supported, use a proxy",
    "finish_request": _MIDDLEWARE,
    "service_actions": "start a thread for periodic work",
}


class WSGIRequestHandler:
    """Replaces wsgiref's class of that name, as the base of a `handler_class`. No method is called: requests are logged
    by the option `access_log`, which is off by default.
    """

    def log_message(self, format: str, *args: Any) -> None:
        """Not called."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Not called."""

    def log_error(self, format: str, *args: Any) -> None:
        """Not called."""

    def address_string(self) -> str:
        """Not called."""
        return ""


def check_handler(handler_class: object) -> None:
    """Checks a handler class.

    Raises:
        TypeError: it is no class, or overrides a method that has an effect in wsgiref and none here.
    """
    if not isinstance(handler_class, type):
        raise TypeError(f"handler_class must be a class, not {type(handler_class).__name__}")
    _check("handler_class", handler_class, _HANDLER)


def check_server(server_class: type) -> None:
    """Checks a subclass of the server, as `check_handler` does for handlers."""
    _check("server_class", server_class, _SERVER)


def _check(role: str, made: type, replacements: dict[str, str]) -> None:
    for base in made.__mro__:
        if base.__module__ in (*_LIBRARY_MODULES, "wsgi.server"):
            continue
        for name in vars(base):
            if name in replacements:
                hint = replacements[name]
                raise TypeError(f"{role} {made.__name__} overrides {name}(), which is not called here: {hint}")


def demo_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A WSGI application that shows its environ."""
    lines = ["Hello world!", "", *(f"{name} = {value!r}" for name, value in sorted(environ.items()))]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return ["\n".join(lines).encode("utf-8", "backslashreplace")]
