"""The application: declares routes, and takes a request through them.

The life of a request is `WSGIApplication._serve`: a `Request` is made of the environ; the application's middleware
runs around `_dispatch`, which finds the route; the middleware of its groups runs around the handler; the `Response`
sends itself. Every step turns an error into a response at once, so that the step around it always sees a response.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wsgi.application import mount
from wsgi.application.errors import (
    BadRequest,
    HTTPError,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    ResponseError,
    RouteError,
)
from wsgi.application.groups import CallNext, Declaration, ErrorHandler, Group, Middleware, Routes
from wsgi.application.problems import error_response
from wsgi.application.request import Limits, Request, State, decoded
from wsgi.application.response import (
    Content,
    HandlerResult,
    RedirectResponse,
    Response,
    StartResponse,
    as_response,
    close_content,
    describe,
)
from wsgi.application.routing import CONVERTERS, Converter, Route, Router, caller, parse_path

if TYPE_CHECKING:
    from wsgi.application.testing import TestClient

__all__ = ["WSGIApplication"]

ERRORS = "wsgi.application.errors"
"""The key of an environ under which whoever tests the application lays a list for the errors that nobody expected."""

_log = logging.getLogger("wsgi.application")


class WSGIApplication(Routes):
    """A WSGI application (PEP 3333).

        app = WSGIApplication()

        @app.route("/")
        def index(request):
            return PlainTextResponse(body="Hello, world!")

    Parameters:
        debug: whether errors show their traceback to the client, with source and variables: for development alone.
        middleware: what every request goes through, the outermost first.
        converters: further kinds of path parameters, by the name they have in paths.
        limits: how much of a request is taken.
    """

    def __init__(
        self,
        *,
        debug: bool = False,
        middleware: Iterable[Middleware] = (),
        converters: Mapping[str, type[Converter[Any]]] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(middleware)
        self.debug = debug
        self.limits = limits
        self.state = State()
        self._converters = {**CONVERTERS, **(converters or {})}
        self._router = Router()
        self._mounts: list[tuple[str, CallNext, tuple[Group, ...]]] = []
        self._areas: dict[str, tuple[Group, ...]] = {}
        self._astray: dict[tuple[Group, ...], CallNext] = {}
        self._building = threading.Lock()
        self._serving = False
        self._answer: CallNext = self._build_and_answer
        self._wsgi: mount.WSGIApp = self._serve

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request (PEP 3333); any number of threads may call it at once."""
        return self._wsgi(environ, start_response)

    def wrap(self, middleware: Callable[..., mount.WSGIApp], /, *arguments: Any, **options: Any) -> None:
        """Puts a WSGI middleware around the whole application: `app.wrap(ProxyFix, x_for=1)`.

        Parameters:
            middleware: called with the WSGI application that it wraps, and the rest.
            arguments: what else it takes.
            options: what else it takes by name.

        Raises:
            RuntimeError: the application has begun to serve.
        """
        self._refuse_when_serving()
        self._wsgi = middleware(self._wsgi, *arguments, **options)

    def url_for(self, name: str, /, **parameters: object) -> str:
        """The path of a route below the application; `Request.url_for` puts the application's own path before it.

        Parameters:
            name: the route's.
            parameters: those of the path; others become the query, None ones are left out.

        Raises:
            RouteError: no such route, or a parameter is missing or does not fit.
        """
        return self._router.by_name(name).url(parameters)

    def test_client(self, **options: Any) -> TestClient:
        """A client that calls this application without a server; see `TestClient` for the options."""
        from wsgi.application.testing import TestClient

        return TestClient(self, **options)

    def run(self, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serves until it is stopped, with the server of `wsgi.server`.

        Parameters:
            host: where to listen; `0.0.0.0` for every address.
            port: where to listen.
            options: what `wsgi.server.serve` takes.

        Raises:
            RuntimeError: that server is not installed.
            SystemExit: the server cannot start; a line in the log says why.
        """
        try:
            # By name: the application knows no server, and runs on any.
            server = importlib.import_module("wsgi.server")
        except ImportError as error:
            raise RuntimeError(
                "app.run() needs the server of the package wsgi-server; any other WSGI server can serve the application"
            ) from error
        server.serve(self, host=host, port=port, **options)

    # Putting it together

    def _declare(self, declaration: Declaration) -> None:
        if declaration.methods is None:
            self._mount(declaration)
            return
        path, target, name = declaration.path, declaration.target, declaration.name
        groups = declaration.groups
        route = Route(path, target, declaration.methods, name, declaration.origin, groups, self._converters)
        self._router.add(route, named=declaration.named)
        prefix = ""
        for index, group in reversed(list(enumerate(groups))):
            prefix += group.prefix
            if prefix and "<" not in prefix:
                self._areas.setdefault(prefix, groups[index:])

    def _mount(self, declaration: Declaration) -> None:
        prefix = declaration.path.rstrip("/")
        if any(not isinstance(part, str) for segment in parse_path(prefix or "/", None) for part in segment):
            raise RouteError(f"the path {prefix!r} of a mounted application must have no parameters")
        if any(prefix == other for other, _, _ in self._mounts):
            raise RouteError(f"another application is mounted at {prefix!r} already")
        if not callable(declaration.target):
            raise RouteError(f"what is mounted at {prefix!r} must be a WSGI application")
        app = declaration.target

        def answer(request: Request) -> Response:
            environ = dict(request.environ)
            path = environ.get("PATH_INFO", "")
            # The prefix as the environ has it: UTF-8 in latin-1 (PEP 3333).
            shift = len(prefix.encode())
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + path[:shift]
            environ["PATH_INFO"] = path[shift:]
            environ["wsgi.input"] = request.unread_input()
            return mount.call(app, environ)

        self._mounts.append((prefix, answer, declaration.groups))
        # The longest first, so that one may stand below another.
        self._mounts.sort(key=lambda mounted: -len(mounted[0]))

    def _refuse_when_serving(self) -> None:
        if self._serving:
            raise RuntimeError(
                f"the application has begun to serve: declare everything before its first request (at {caller()})"
            )

    def _build_and_answer(self, request: Request) -> Response:
        """Stands in for the steps of a request until the first one comes, when everything has been declared."""
        with self._building:
            if not self._serving:
                self._serving = True
                routes = self._router.routes
                for route in routes:
                    route.answer = self._within(route.groups, _handler_step(route), route.handler)
                self._mounts = [
                    (prefix, self._within(groups, answer, answer), groups) for prefix, answer, groups in self._mounts
                ]
                for groups in {(), *(route.groups for route in routes), *self._areas.values()}:
                    self._astray[groups] = self._within(groups, self._answer_astray, self)
                self._answer = self._around(self._dispatch, (self,))
        return self._answer(request)

    def _within(
        self, groups: tuple[Group, ...], step: Callable[[Request], HandlerResult], author: Callable[..., Any]
    ) -> CallNext:
        """A step in its groups: with their error handlers and their middleware."""
        return self._around(self._guarded(step, groups, author), groups)

    def _around(self, step: CallNext, scopes: tuple[Routes, ...]) -> CallNext:
        """The middleware of these scopes around a step; the innermost scope comes first."""
        for index, scope in enumerate(scopes):
            groups = tuple(other for other in scopes[index:] if isinstance(other, Group))
            for middleware in reversed(scope._middleware):
                step = self._guarded(_middleware_step(middleware, step), groups, middleware)
        return step

    def _guarded(
        self, step: Callable[[Request], HandlerResult], groups: tuple[Group, ...], author: Callable[..., Any]
    ) -> CallNext:
        """A step whose result becomes a response, and whose errors do."""
        failed = self._failed

        def guard(request: Request) -> Response:
            try:
                result = step(request)
                response = result if isinstance(result, Response) else as_response(result, author)
            except Exception as error:
                response = failed(request, error, groups)
            if response.holds and response not in request.opened:
                # A middleware may put another one in its place, or other content into it.
                content = getattr(response, "content", None)
                request.keep(response, *([content] if isinstance(content, Content) else ()))
            return response

        return guard

    # Serving

    def _serve(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ, self)
        try:
            response = self._answer(request)
            try:
                if response.sent:
                    raise ResponseError(
                        f"{response!r} was sent before: a handler makes a new response for each request"
                    )
                response.sent = True
                content = response(environ, start_response)
            except Exception as error:
                # It could not even begin: a file that vanished, fields that the server refuses.
                response = self._instead_of(response, request, error)
                response.sent = True
                content = response(environ, _again(start_response))
        except BaseException as error:
            request.failure = error
            self._close(request)
            raise
        if request.opened:
            # What is sent is closed by the server.
            sent = (response, getattr(response, "content", None))
            # What streams may open more while it does.
            if isinstance(content, Content) or any(thing not in sent for thing in request.opened):
                request.failure, response.error = response.error, None
                return _Closing(content, request, sent)
        # An error knows the frames it came through, and with them the request and this response.
        response.error = None
        request.is_over = True
        return content

    def _close(self, request: Request, sent: tuple[object, ...] = ()) -> None:
        """Closes what was opened for a request, the last first. What one raises is logged, and keeps no other open."""
        try:
            while request.opened:
                thing = request.opened.pop()
                try:
                    if thing not in sent:
                        thing.close()
                except Exception as error:
                    self._report(request, error, "what was opened for it could not be closed")
        finally:
            if request.opened:
                self._close(request, sent)
            request.is_over = True
            request.failure = None

    def _dispatch(self, request: Request) -> Response:
        """Finds the route and takes the request there."""
        environ = request.environ
        try:
            path = environ.get("PATH_INFO") or "/"
            if not path.isascii():
                path = decoded(path)
            route, values, others = self._router.find(path, environ["REQUEST_METHOD"])
            if route is None:
                request.other_routes = others
                return self._elsewhere(request, path)
        except UnicodeError:
            refusal = BadRequest("the path is not UTF-8")
            return self._failed(request, refusal, self._groups_above(request.path))
        except Exception as error:
            return self._failed(request, error, self._groups_above(request.path))
        request.route = route.name
        if values:
            request.parameters = dict(zip(route.names, values))  # noqa: B905 - as many by construction
        return route.answer(request)  # type: ignore[no-any-return]

    def _elsewhere(self, request: Request, path: str) -> Response:
        """Where a request goes that has no route: to a mounted application, or else astray in the groups it is in."""
        for other in request.other_routes.values():
            return self._astray[other.groups](request)
        for prefix, answer, _ in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                return answer(request)
        return self._astray[self._groups_above(path)](request)

    def _groups_above(self, path: str) -> tuple[Group, ...]:
        """The groups whose prefix a path has."""
        prefixes = [prefix for prefix in self._areas if f"{path}/".startswith(f"{prefix}/")]
        return self._areas[max(prefixes, key=len)] if prefixes else ()

    def _answer_astray(self, request: Request) -> Response:
        """What to say where nothing answers."""
        path, method = request.path, request.method
        if request.other_routes:
            allowed = {*request.other_routes, "OPTIONS"}
            if method == "OPTIONS":
                return Response(status=204, headers={"Allow": ", ".join(sorted(allowed))})
            raise MethodNotAllowed(allowed=allowed)
        if method == "OPTIONS" and path == "*":
            # RFC 9110 §9.3.7: about the server as a whole.
            return Response(status=204)
        other = path[:-1] if path.endswith("/") else f"{path}/"
        # A path that begins with two slashes would lead to another host.
        route, _, others = self._router.find(other, method)
        if not other.startswith("//") and (route or others):
            return RedirectResponse(request.moved_to(other), 308)
        raise NotFound

    def _failed(self, request: Request, error: Exception, groups: tuple[Group, ...]) -> Response:
        """The response to an error."""
        known = isinstance(error, HTTPError)
        handler: ErrorHandler | None = None
        for scope in (*groups, self):
            handler = scope._handler_for(error)
            if handler:
                break
        if not known and not handler:
            self._report(request, error)
            if not self.debug:
                handlers = (scope._error_handlers.get(500) for scope in (*groups, self))
                handler = next(filter(None, handlers), None)
        try:
            response = self._error_response(request, error, handler)
        except HTTPError as another:
            # A handler may find something else to be wrong with the request.
            response = error_response(request, another)
        except Exception as another:
            response = self._plain_response(request, error, another, describe(handler) if handler else "its answer")
        response.error = error
        if known:
            # One that is raised again and again, from a name in a module, would gather tracebacks.
            error.__traceback__ = None
        return response

    def _instead_of(self, response: Response, request: Request, error: Exception) -> Response:
        """What is sent in place of a response that cannot be."""
        answered = response.error
        if isinstance(answered, HTTPError) and not isinstance(error, HTTPError):
            return self._plain_response(request, answered, error, repr(response))
        response = self._failed(request, error, ())
        return error_response(request, InternalServerError()) if response.sent else response

    def _plain_response(self, request: Request, error: BaseException, failure: Exception, what: str) -> Response:
        """The answer to an error whose own answer failed: with its status, so that a 404 stays one."""
        plain: HTTPError = InternalServerError()
        if isinstance(error, HTTPError):
            # Only its text: what else it brought may be what the other answer failed at.
            plain = HTTPError(error.status, str(error.detail), headers=error.headers)
        self._report(request, failure, f"{what} failed to answer {plain.status} {plain.title}")
        if not self.debug:
            return error_response(request, plain)
        from wsgi.application.debug import traceback_page

        _put_before(failure, error)
        page = traceback_page(failure, request)
        page.status = plain.status
        page.headers.update([pair for pair in plain.headers.items() if pair[0].lower() != "content-type"])
        return page

    def _report(self, request: Request, error: Exception, what: str = "") -> None:
        """Logs an error that nobody expected, for those who run the application and those who test it."""
        # `dictConfig` switches off every logger made before it unless told otherwise: a level is the way to ask for
        # silence.
        _log.disabled = False
        path = ascii(request.environ.get("PATH_INFO", ""))
        _log.error("%s %s failed%s", request.method, path, f": {what}" if what else "", exc_info=error)
        request.environ.get(ERRORS, []).append(error)

    def _error_response(self, request: Request, error: Exception, handler: ErrorHandler | None) -> Response:
        if handler:
            return as_response(handler(request, error), handler)
        if isinstance(error, HTTPError):
            return error_response(request, error)
        if self.debug:
            from wsgi.application.debug import traceback_page

            return traceback_page(error, request)
        return error_response(request, InternalServerError())


def _handler_step(route: Route) -> Callable[[Request], HandlerResult]:
    handler = route.handler
    return (lambda request: handler(request, **request.parameters)) if route.names else handler


def _middleware_step(middleware: Middleware, call_next: CallNext) -> Callable[[Request], HandlerResult]:
    return lambda request: middleware(request, call_next)


def _again(start_response: StartResponse) -> StartResponse:
    """Replaces what may have been started (PEP 3333, "The start_response() Callable")."""
    return lambda status, headers: start_response(status, headers, sys.exc_info())


def _put_before(later: BaseException, earlier: BaseException) -> None:
    """Makes an exception the context of another, if it is not yet among those."""
    seen: list[BaseException] = []
    while later is not earlier and later not in seen:
        seen.append(later)
        following = later.__cause__ or later.__context__
        if following is None:
            later.__context__ = earlier
            return
        later = following


class _Closing:
    """Content that takes along what else was opened for the request when it has been sent."""

    __slots__ = ("_content", "_request", "_sent")

    def __init__(self, content: Iterable[bytes], request: Request, sent: tuple[object, ...]) -> None:
        self._content = content
        self._request = request
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        try:
            # Not `yield from`, which would close an iterator a second time.
            for piece in self._content:  # noqa: UP028
                yield piece
        except Exception as error:
            self._request.failure = error
            if self._request.app.debug and isinstance(self._content, Content):
                _log.warning(
                    "%s %s: %s was raised by a stream, which runs after the handler and all middleware have returned;"
                    " what it reads must stay open until then: close it by request.on_close() or enter_context()",
                    self._request.method,
                    ascii(self._request.environ.get("PATH_INFO", "")),
                    type(error).__name__,
                )
            raise

    def close(self) -> None:
        try:
            close_content(self._content)
        finally:
            self._request.app._close(self._request, self._sent)
