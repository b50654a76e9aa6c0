"""The application: declares routes and dispatches requests to them.

`WSGIApplication._serve` handles a request: it makes a `Request` of the environ; the application's middleware runs
around `_dispatch`, which finds the route; the middleware of its groups runs around the handler; the `Response` is a
WSGI application that sends itself. Each step converts exceptions into responses, so that middleware always gets a
response.
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
    UNHANDLED_ERRORS,
    BadRequest,
    HTTPError,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    ResponseError,
    RouteError,
)
from wsgi.application.groups import CallNext, Declaration, ErrorHandler, Group, Middleware, Routes
from wsgi.application.limits import Limits
from wsgi.application.problems import error_response
from wsgi.application.request import Request, State, decoded
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

_log = logging.getLogger("wsgi.application")


class WSGIApplication(Routes):
    """A WSGI application (PEP 3333).

        app = WSGIApplication()

        @app.route("/")
        def index(request):
            return PlainTextResponse(body="Hello, world!")

    Parameters:
        debug: whether error pages show the traceback with source and variables. For development only.
        middleware: middleware of all requests, the outermost first.
        converters: additional converters of path parameters, by their names in paths.
        limits: how much of a request is read.
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
        self._groups_by_prefix: dict[str, tuple[Group, ...]] = {}
        self._unrouted: dict[tuple[Group, ...], CallNext] = {}
        self._build_lock = threading.Lock()
        self._serving = False
        self._answer: CallNext = self._build_and_answer
        self._wsgi: mount.WSGIApp = self._serve

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request (PEP 3333); any number of threads may call it at once."""
        return self._wsgi(environ, start_response)

    def wrap(self, middleware: Callable[..., mount.WSGIApp], /, *arguments: Any, **options: Any) -> None:
        """Wraps the whole application in a WSGI middleware: `app.wrap(ProxyFix, x_for=1)`.

        Parameters:
            middleware: called with the WSGI application to wrap, `arguments` and `options`.
            arguments: further positional arguments.
            options: further keyword arguments.

        Raises:
            RuntimeError: the application has begun to serve.
        """
        self._refuse_when_serving()
        self._wsgi = middleware(self._wsgi, *arguments, **options)

    def url_for(self, name: str, /, **parameters: object) -> str:
        """The path of a route below the application; `Request.url_for` puts the application's own path before it.

        Parameters:
            name: the name of the route.
            parameters: values of the path parameters; others become the query, None is left out.

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
            SystemExit: the server cannot start; the reason is logged.
        """
        try:
            # By name: the application does not depend on the server, and runs on any.
            server = importlib.import_module("wsgi.server")
        except ImportError as error:
            raise RuntimeError(
                "app.run() needs the server of the package wsgi-server; any other WSGI server can serve the application"
            ) from error
        server.serve(self, host=host, port=port, **options)

    # Building

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
                self._groups_by_prefix.setdefault(prefix, groups[index:])

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
        # The longest first, so that one may be mounted below another.
        self._mounts.sort(key=lambda mounted: -len(mounted[0]))

    def _refuse_when_serving(self) -> None:
        if self._serving:
            raise RuntimeError(
                f"the application has begun to serve: declare everything before its first request (at {caller()})"
            )

    def _build_and_answer(self, request: Request) -> Response:
        """Builds the chain of steps at the first request, when declarations are complete, and answers it."""
        with self._build_lock:
            if not self._serving:
                self._serving = True
                routes = self._router.routes
                for route in routes:
                    route.answer = self._in_groups(route.groups, _handler_step(route), route.handler)
                self._mounts = [
                    (prefix, self._in_groups(groups, answer, answer), groups) for prefix, answer, groups in self._mounts
                ]
                for groups in {(), *(route.groups for route in routes), *self._groups_by_prefix.values()}:
                    self._unrouted[groups] = self._in_groups(groups, self._answer_unrouted, self)
                self._answer = self._with_middleware(self._dispatch, (self,))
        return self._answer(request)

    def _in_groups(
        self, groups: tuple[Group, ...], step: Callable[[Request], HandlerResult], function: Callable[..., Any]
    ) -> CallNext:
        """Wraps a step in the error handlers and the middleware of its groups."""
        return self._with_middleware(self._with_error_handling(step, groups, function), groups)

    def _with_middleware(self, step: CallNext, scopes: tuple[Routes, ...]) -> CallNext:
        """Wraps a step in the middleware of these scopes; the innermost scope comes first."""
        for index, scope in enumerate(scopes):
            groups = tuple(other for other in scopes[index:] if isinstance(other, Group))
            for middleware in reversed(scope._middleware):
                step = self._with_error_handling(_middleware_step(middleware, step), groups, middleware)
        return step

    def _with_error_handling(
        self, step: Callable[[Request], HandlerResult], groups: tuple[Group, ...], function: Callable[..., Any]
    ) -> CallNext:
        """Wraps a step so that its result, and any exception, becomes a response."""
        failed = self._failed

        def guard(request: Request) -> Response:
            try:
                result = step(request)
                response = result if isinstance(result, Response) else as_response(result, function)
            except Exception as error:
                response = failed(request, error, groups)
            if response.holds and response not in request.opened:
                # A middleware may replace the response or its content.
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
                # Sending failed at once: a file was deleted, the server refused a field.
                response = self._replacement_of(response, request, error)
                response.sent = True
                content = response(environ, _restarting(start_response))
        except BaseException as error:
            request.failure = error
            self._close(request)
            raise
        if request.opened:
            # The server closes what is sent.
            sent = (response, getattr(response, "content", None))
            # A stream may open more while it is sent.
            if isinstance(content, Content) or any(thing not in sent for thing in request.opened):
                request.failure, response.error = response.error, None
                return _Closing(self, content, request, sent)
        # The traceback refers to the request and this response by its frames: break the cycle.
        response.error = None
        request.is_over = True
        return content

    def _close(self, request: Request, sent: tuple[object, ...] = ()) -> None:
        """Closes what was opened for a request, the last first. Exceptions are logged and do not stop the others."""
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
        """Finds the route of a request and answers it."""
        environ = request.environ
        try:
            path = environ.get("PATH_INFO") or "/"
            if not path.isascii():
                path = decoded(path)
            route, values, others = self._router.find(path, environ["REQUEST_METHOD"])
            if route is None:
                request.other_routes = others
                return self._answer_without_route(request, path)
        except UnicodeError:
            refusal = BadRequest("the path is not UTF-8")
            return self._failed(request, refusal, self._groups_of_path(request.path))
        except Exception as error:
            return self._failed(request, error, self._groups_of_path(request.path))
        request.route = route.name
        if values:
            request.parameters = dict(zip(route.names, values))  # noqa: B905 - as many by construction
        return route.answer(request)  # type: ignore[no-any-return]

    def _answer_without_route(self, request: Request, path: str) -> Response:
        """Answers a request without a route: by a mounted application, else by 404 or 405 in the groups of its path."""
        for other in request.other_routes.values():
            return self._unrouted[other.groups](request)
        for prefix, answer, _ in self._mounts:
            if path == prefix or path.startswith(f"{prefix}/"):
                return answer(request)
        return self._unrouted[self._groups_of_path(path)](request)

    def _groups_of_path(self, path: str) -> tuple[Group, ...]:
        """The groups whose prefix matches a path."""
        prefixes = [prefix for prefix in self._groups_by_prefix if f"{path}/".startswith(f"{prefix}/")]
        return self._groups_by_prefix[max(prefixes, key=len)] if prefixes else ()

    def _answer_unrouted(self, request: Request) -> Response:
        """Answers OPTIONS, redirects a missing or extra slash, or raises 404 or 405."""
        path, method = request.path, request.method
        if request.other_routes:
            allowed = {*request.other_routes, "OPTIONS"}
            if method == "OPTIONS":
                return Response(status=204, headers={"Allow": ", ".join(sorted(allowed))})
            raise MethodNotAllowed(allowed=allowed)
        if method == "OPTIONS" and path == "*":
            # RFC 9110 §9.3.7: the request concerns the server as a whole.
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
            # A handler may raise another error for the request.
            response = error_response(request, another)
        except Exception as another:
            response = self._plain_response(request, error, another, describe(handler) if handler else "its answer")
        response.error = error
        if known:
            # An exception object that is raised repeatedly would accumulate tracebacks.
            error.__traceback__ = None
        return response

    def _replacement_of(self, response: Response, request: Request, error: Exception) -> Response:
        """The response in place of one that cannot be sent."""
        answered = response.error
        if isinstance(answered, HTTPError) and not isinstance(error, HTTPError):
            return self._plain_response(request, answered, error, repr(response))
        response = self._failed(request, error, ())
        return error_response(request, InternalServerError()) if response.sent else response

    def _plain_response(self, request: Request, error: BaseException, failure: Exception, what: str) -> Response:
        """The plain answer to an error whose error page failed. It keeps the status, so that a 404 stays one."""
        plain: HTTPError = InternalServerError()
        if isinstance(error, HTTPError):
            # Only its text: its other content may be what the failed page could not render.
            plain = HTTPError(error.status, str(error.detail), headers=error.headers)
        self._report(request, failure, f"{what} failed to answer {plain.status} {plain.title}")
        if not self.debug:
            return error_response(request, plain)
        from wsgi.application.debug import traceback_page

        _chain_context(failure, error)
        page = traceback_page(failure, request)
        page.status = plain.status
        page.headers.update([pair for pair in plain.headers.items() if pair[0].lower() != "content-type"])
        return page

    def _report(self, request: Request, error: Exception, what: str = "") -> None:
        """Logs an unhandled exception, and hands it to a test client."""
        # `dictConfig` disables all existing loggers by default; a level silences the logger.
        _log.disabled = False
        path = ascii(request.environ.get("PATH_INFO", ""))
        _log.error("%s %s failed%s", request.method, path, f": {what}" if what else "", exc_info=error)
        request.environ.get(UNHANDLED_ERRORS, []).append(error)

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


def _restarting(start_response: StartResponse) -> StartResponse:
    """Replaces what may have been started (PEP 3333, "The start_response() Callable")."""
    return lambda status, headers: start_response(status, headers, sys.exc_info())


def _chain_context(later: BaseException, earlier: BaseException) -> None:
    """Appends an exception to the context chain of another, unless it is in there."""
    seen: list[BaseException] = []
    while later is not earlier and later not in seen:
        seen.append(later)
        following = later.__cause__ or later.__context__
        if following is None:
            later.__context__ = earlier
            return
        later = following


class _Closing:
    """Content that, when closed, also closes what was opened for the request."""

    __slots__ = ("_app", "_content", "_request", "_sent")

    def __init__(
        self, app: WSGIApplication, content: Iterable[bytes], request: Request, sent: tuple[object, ...]
    ) -> None:
        self._app = app
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
            if self._app.debug and isinstance(self._content, Content):
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
            self._app._close(self._request, self._sent)
