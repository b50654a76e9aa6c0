"""Which interface an application has is found out by looking at it, and can be said where that fails."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asgi.conftest import Serve
from tests.asgi.talking import answer
from tests.support import RawClient, serve
from wsgi.interface import ASGI2, ASGI3, WSGI, choose
from wsgi.server import WSGIServer


async def function(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"asgi")


def by_return(scope: Any, receive: Any, send: Any) -> Any:
    return function(scope, receive, send)


class Instance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)

    @classmethod
    async def of_class(cls, scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)

    @staticmethod
    async def static(scope: Any, receive: Any, send: Any) -> None:
        await function(scope, receive, send)

    def by_return(self, scope: Any, receive: Any, send: Any, more: int = 0) -> Any:
        return function(scope, receive, send)


class ByReturn:
    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return function(scope, receive, send)


class Awaited:
    """Frameworks have endpoints like this."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.arguments = scope, receive, send

    def __await__(self) -> Iterator[Any]:
        return function(*self.arguments).__await__()


class Double:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await function(self.scope, receive, send)


def double(scope: Any) -> Any:
    return functools.partial(function, scope)


def decorated(app: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(app)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return app(*args, **kwargs)

    return wrapper


async def with_more(prefix: bytes, scope: Any, receive: Any, send: Any) -> None:
    await function(scope, receive, send)


def by_return_with_more(prefix: bytes, scope: Any, receive: Any, send: Any) -> Any:
    return function(scope, receive, send)


def by_return_with_site(scope: Any, receive: Any, send: Any, site: bytes) -> Any:
    return function(scope, receive, send)


class Slotted:
    """What a well-known error tracker wraps around applications: `__call__` is in a slot of the instance."""

    __slots__ = ("__call__",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.__call__ = call


class Proxy:
    """Shows nothing of what is inside, and answers for every attribute of it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._app(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


class ByProperty:
    def __init__(self, app: Any) -> None:
        self._app = app

    @property
    def __call__(self) -> Any:
        return self._app


class ByMetaclass(type):
    def __call__(cls, scope: Any, receive: Any, send: Any) -> Any:
        return function(scope, receive, send)


class Made(metaclass=ByMetaclass):
    pass


def shown_as_nothing(app: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that says nothing of what is inside."""

    def wrapper(*args: Any) -> Any:
        return app(*args)

    return wrapper


SINGLE = {
    "slot": Slotted(Instance().method),
    "slot that returns a coroutine": Slotted(shown_as_nothing(function)),
    "proxy": Proxy(function),
    "proxy of an instance": Proxy(ByReturn()),
    "property": ByProperty(function),
    "metaclass": Made,
    "nothing shown": shown_as_nothing(function),
    "mock": unittest.mock.MagicMock(side_effect=function),
    "async mock": unittest.mock.AsyncMock(side_effect=function),
    "mock of a function": unittest.mock.MagicMock(spec=function, side_effect=function),
    "function": function,
    "function that returns a coroutine": by_return,
    "instance": Instance(),
    "instance that returns a coroutine": ByReturn(),
    "method": Instance().method,
    "method that returns a coroutine": Instance().by_return,
    "class method": Instance.of_class,
    "static method": Instance.static,
    "awaited class": Awaited,
    "partial": functools.partial(with_more, b"x"),
    "partial by name": functools.partial(by_return_with_site, site=b"x"),
    "partial of partial": functools.partial(functools.partial(by_return_with_more, b"x")),
    "partial of an instance": functools.partial(Instance()),
    "decorated": decorated(function),
    "decorated twice": decorated(decorated(by_return)),
    "decorated partial": decorated(functools.partial(with_more, b"x")),
}
TWICE = {"double class": Double, "double function": double, "decorated double": decorated(double)}


@pytest.mark.parametrize("app", SINGLE.values(), ids=SINGLE)
def test_single_callable_is_served_as_asgi3(served: Serve, app: Any) -> None:
    assert choose(app, "auto") == ASGI3
    check(served, app)


@pytest.mark.parametrize("app", TWICE.values(), ids=TWICE)
def test_double_callable_is_served_as_asgi2(served: Serve, app: Any) -> None:
    assert choose(app, "auto") == choose(app, "asgi") == ASGI2
    check(served, app)


def check(served: Serve, app: Any, **options: Any) -> None:
    with served(app, **options) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive().body == b"asgi"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="marks came with Python 3.12")
def test_marked_function_is_a_coroutine_function(served: Serve) -> None:
    calls = []

    def app(*args: Any) -> Any:
        calls.append(args)
        return function(*args)

    inspect.markcoroutinefunction(app)  # type: ignore[attr-defined, unused-ignore]
    assert choose(app, "auto") == ASGI3
    assert calls == []
    check(served, app)


class WSGIClass:
    def __init__(self, environ: Any, start_response: Any) -> None:
        self.start = start_response

    def __iter__(self) -> Iterator[bytes]:
        self.start("200 OK", [])
        yield b"wsgi"

    def call(self, environ: Any, start_response: Any) -> Any:
        raise AssertionError


def wsgi_function(environ: Any, start_response: Any, more: Any = None) -> list[bytes]:
    start_response("200 OK", [])
    return [b"wsgi"]


@functools.wraps(function)
def wsgi_around_a_coroutine(environ: Any, start_response: Any) -> list[bytes]:
    return wsgi_function(environ, start_response)


@functools.wraps(function)
def variadic_around_a_coroutine(*args: Any) -> list[bytes]:
    environ, start_response = args
    return wsgi_function(environ, start_response)


class WSGIByNew:
    def __new__(cls, environ: Any, start_response: Any) -> Any:
        return wsgi_function(environ, start_response)


class NothingButAttributes:
    """Answers for every attribute, marks and wrapped functions included."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any) -> Any:
        return wsgi_function(*args)


@pytest.mark.parametrize(
    "app",
    [
        wsgi_function,
        WSGIClass,
        WSGIByNew,
        functools.partial(lambda site, environ, start_response: wsgi_function(environ, start_response), "site"),
        decorated(wsgi_function),
        wsgi_around_a_coroutine,
        variadic_around_a_coroutine,
        Slotted(wsgi_function),
        Proxy(wsgi_function),
        ByProperty(wsgi_function),
        NothingButAttributes(),
        unittest.mock.MagicMock(side_effect=wsgi_function),
        unittest.mock.create_autospec(wsgi_function, side_effect=wsgi_function),
        shown_as_nothing(wsgi_function),
        lambda environ, start_response=None: wsgi_function(environ, start_response),
    ],
)
def test_wsgi_application_stays_one(app: Any) -> None:
    assert choose(app, "auto") == choose(app, "wsgi") == WSGI
    with serve(app) as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive().body == b"wsgi"


def test_wrapper_of_itself_is_judged_all_the_same() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return wsgi_function(environ, start_response)

    app.__wrapped__ = app  # type: ignore[attr-defined]
    assert choose(app, "auto") == WSGI


def test_interface_that_is_given_wins_without_a_call(served: Serve) -> None:
    calls = []

    def hidden(*args: Any) -> Any:
        calls.append(args)
        return wsgi_function(*args) if len(args) == 2 else function(*args)

    with serve(hidden, interface="wsgi") as server:
        assert calls == []
        with RawClient(server.addresses[0]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"wsgi"
    calls.clear()
    assert choose(hidden, "asgi") == ASGI3
    assert calls == []
    check(served, hidden, interface="asgi")
    for app in (function, double, Instance(), Awaited):
        assert choose(app, "wsgi") == WSGI


def test_interface_that_no_signature_tells_is_found_by_one_call_that_runs_nothing() -> None:
    calls: list[str] = []

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        calls.append("asgi")

    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        calls.append("wsgi")
        return []

    assert choose(shown_as_nothing(asgi), "auto") == ASGI3
    assert choose(shown_as_nothing(wsgi), "auto") == WSGI
    assert calls == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyError])
def test_trial_call_that_raises_means_wsgi(error: type[BaseException]) -> None:
    def app(*args: Any) -> Any:
        raise error

    assert choose(app, "auto") == WSGI


async def async_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (async_wsgi, "an async function with the required parameters (environ, start_response), .*: write 'def'"),
        (lambda: None, "a callable with the required parameters (none), .*: a class or a factory must be called"),
        (Instance, "a callable with the required parameters (none), .*: a class or a factory must be called"),
        (lambda request: None, "a callable with the required parameters (request), .* skips this check"),
        (lambda a, b, c, d: None, "a callable with the required parameters (a, b, c, d), .* skips this check"),
    ],
)
def test_signature_that_fits_no_interface_is_refused_in_one_line(app: Any, words: str) -> None:
    pattern = words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(TypeError, match=pattern) as caught:
        WSGIServer(port=0, app=app)
    assert "\n" not in str(caught.value)
    assert "interface=" in str(caught.value)
    # The option skips the check.
    assert choose(app, "wsgi") == WSGI


def test_wsgi_application_where_asgi_is_wanted_fails_by_its_own_call(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        served(wsgi_function, interface="asgi") as server,
        RawClient(server.addresses[0]) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.receive().status == 500
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TypeError)


def test_interface_of_real_frameworks_is_found() -> None:
    names = ["bottle", "django.core.handlers.asgi", "falcon.asgi", "fastapi", "flask", "quart"]
    # By their names: not all of them have types.
    bottle, django, falcon, fastapi, flask, quart = (__import__(name) for name in names)
    handlers = django.core.handlers
    importlib.import_module("django.core.handlers.wsgi")
    for app in (flask.Flask("a"), bottle.Bottle(), falcon.App()):
        assert choose(app, "auto") == WSGI, app
    for app in (
        fastapi.FastAPI(),
        quart.Quart("a"),
        # Made without its logging, which would change the root logger of this process.
        *([__import__("litestar").Litestar(logging_config=None)] if importlib.util.find_spec("litestar") else []),
        falcon.asgi.App(),
    ):
        assert choose(app, "auto") == ASGI3, app
    # Made without their settings: only their classes are looked at.
    assert choose(object.__new__(handlers.wsgi.WSGIHandler), "auto") == WSGI
    assert choose(object.__new__(handlers.asgi.ASGIHandler), "auto") == ASGI3
