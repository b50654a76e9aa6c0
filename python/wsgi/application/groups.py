"""Declares routes, middleware and error handlers of an application and of its groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from wsgi.application.errors import HTTPError, RouteError
from wsgi.application.mount import WSGIApp
from wsgi.application.request import Request
from wsgi.application.response import HandlerResult, Response, describe
from wsgi.application.routing import Route, caller, mistaken_call
from wsgi.application.static import StaticFiles

if TYPE_CHECKING:
    from typing import Concatenate

__all__ = ["CallNext", "Declaration", "ErrorHandler", "Group", "Handler", "Middleware", "Routes"]

CallNext = Callable[[Request], Response]
Middleware = Callable[[Request, CallNext], HandlerResult]
ErrorHandler = Callable[[Request, Any], HandlerResult]

Handler = TypeVar("Handler", bound="Callable[Concatenate[Request, ...], HandlerResult]")
MiddlewareFunction = TypeVar("MiddlewareFunction", bound=Middleware)
ErrorFunction = TypeVar("ErrorFunction", bound=ErrorHandler)


class Routes:
    """The common base of an application and a group: declares routes, middleware and error handlers.

    Declarations are refused after the first request.

    Thread-safety: declare in one thread; any number of threads may serve.
    """

    def __init__(self, middleware: Iterable[Middleware]) -> None:
        self._middleware: list[Middleware] = []
        for function in middleware:
            self._add_middleware(function)
        self._error_handlers: dict[int | type[Exception], ErrorHandler] = {}

    # Routes

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",), name: str | None = None
    ) -> Callable[[Handler], Handler]:
        """Declares that the function below answers a path.

        Parameters:
            path: begins with `/`; parameters are `<name>`, `<int:i>`, `<float:x>`, `<uuid:key>`, `<path:rest>`, or of a
                kind that the application brought; they reach the handler as keyword arguments.
            methods: those it answers; `GET` brings `HEAD` along.
            name: for `url_for`; default: the function's.

        Raises:
            RouteError: the path is malformed or taken, or the function cannot take its parameters.
        """
        _check_path(path)

        def declare(handler: Handler) -> Handler:
            self.add_route(path, handler, methods=methods, name=name)
            return handler

        return declare

    def get(self, path: str, *, name: str | None = None) -> Callable[[Handler], Handler]:
        """`route` for GET and HEAD."""
        return self.route(path, name=name)

    def post(self, path: str, *, name: str | None = None) -> Callable[[Handler], Handler]:
        """`route` for POST."""
        return self.route(path, methods=("POST",), name=name)

    def put(self, path: str, *, name: str | None = None) -> Callable[[Handler], Handler]:
        """`route` for PUT."""
        return self.route(path, methods=("PUT",), name=name)

    def patch(self, path: str, *, name: str | None = None) -> Callable[[Handler], Handler]:
        """`route` for PATCH."""
        return self.route(path, methods=("PATCH",), name=name)

    def delete(self, path: str, *, name: str | None = None) -> Callable[[Handler], Handler]:
        """`route` for DELETE."""
        return self.route(path, methods=("DELETE",), name=name)

    def add_route(
        self,
        path: str,
        handler: Callable[..., HandlerResult],
        *,
        methods: Iterable[str] = ("GET",),
        name: str | None = None,
    ) -> None:
        """`route` as a call."""
        origin = caller()
        _check_path(path)
        if isinstance(methods, str):
            raise RouteError(
                f"the methods of {path!r} must be several strings, not one: [{methods!r}] (declared at {origin})"
            )
        own_name = getattr(handler, "__name__", path)
        methods = frozenset(map(str.upper, methods))
        self._declare_here(Declaration(path, handler, methods, name or own_name, name is not None, origin, ()))

    def static(
        self,
        prefix: str,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        max_age: int | None = None,
        index: str | None = None,
    ) -> None:
        """Serves the files of a directory; `url_for(name, path="css/site.css")` leads to one.

        Parameters:
            prefix: the path above them, for example `/static`.
            directory: their directory; a relative path is relative to the working directory, so use
                `Path(__file__).parent / "static"`.
            name: for `url_for`; default: the prefix without its slashes.
            max_age: seconds that clients may keep a file without asking.
            index: the file served for a directory, for example `index.html`.

        Raises:
            RouteError: as for `route`.
            NotADirectoryError: there is no such directory.
        """
        _check_path(prefix)
        files = StaticFiles(directory, max_age=max_age, index=index)
        prefix = prefix.rstrip("/")
        get = frozenset({"GET"})
        own_name = name or prefix.strip("/") or "static"
        path = f"{prefix}/<path:path>"
        self._declare_here(Declaration(path, files, get, own_name, name is not None, caller(), ()))
        if index is not None:
            self._declare_here(Declaration(f"{prefix}/", files, get, own_name, False, caller(), ()))

    def mount(self, prefix: str, app: WSGIApp) -> None:
        """Hands everything below a path to another WSGI application, which sees itself at its root.

        Routes take precedence. Middleware handles its responses like any other.

        Parameters:
            prefix: the path, without parameters.
            app: any WSGI application.

        Raises:
            RouteError: the prefix has parameters or is taken.
        """
        _check_path(prefix)
        self._declare_here(Declaration(prefix, app, None, prefix, False, caller(), ()))

    # Middleware and errors

    def middleware(self, function: MiddlewareFunction) -> MiddlewareFunction:
        """Declares a middleware: `function(request, call_next)`, which calls `call_next(request)` for the response.

        The first to be declared is the outermost. `call_next` never raises: an error inside is a response by then, with
        the exception as its `error`. Middleware does not see errors at the start of sending, such as a
        deleted file.
        """
        self.add_middleware(function)
        return function

    def add_middleware(self, middleware: Middleware) -> None:
        """`middleware` as a call, for those that are objects."""
        self._refuse_when_serving()
        self._add_middleware(middleware)

    def _add_middleware(self, middleware: Middleware) -> None:
        if not callable(middleware) or isinstance(middleware, type):
            raise TypeError(f"a middleware is called with (request, call_next), which {middleware!r:.100} cannot be")
        mistake = mistaken_call(middleware, "request, call_next", None, None)
        if mistake:
            raise TypeError(f"{describe(middleware)}, a middleware, {mistake}")
        self._middleware.append(middleware)

    def error_handler(self, key: int | type[Exception]) -> Callable[[ErrorFunction], ErrorFunction]:
        """Declares that the function below answers an error: `function(request, error)`.

        The innermost group's handler is looked for first, the application's last; in each, one for the exception's
        class or the nearest above it goes before one for its status, and that before one for `HTTPError` or what is
        above.

        Parameters:
            key: a status from 400 to 599, or a class of exceptions. A handler for 500
                also gets unhandled exceptions after they are logged, except in debug mode.

        Raises:
            ValueError: there is such a handler already, or the key is no status.
        """
        if isinstance(key, int) and not 400 <= key <= 599:
            raise ValueError(f"an error handler takes a status from 400 to 599, not {key}")
        if not isinstance(key, int) and not (isinstance(key, type) and issubclass(key, Exception)):
            raise TypeError(f"an error handler takes a status or a class of exceptions, not {key!r:.100}")

        def declare(function: ErrorFunction) -> ErrorFunction:
            self._refuse_when_serving()
            if key in self._error_handlers:
                raise ValueError(f"there is an error handler for {key!r} already")
            mistake = mistaken_call(function, "request, error", None, None)
            if mistake:
                raise TypeError(f"{describe(function)}, for errors, {mistake}")
            self._error_handlers[key] = function
            return function

        return declare

    def _handler_for(self, error: Exception) -> ErrorHandler | None:
        handlers = self._error_handlers
        if not handlers:
            return None
        classes: list[Any] = [kind for kind in type(error).__mro__ if issubclass(kind, Exception)]
        if isinstance(error, HTTPError):
            classes.insert(classes.index(HTTPError), error.status)
        return next((handlers[key] for key in classes if key in handlers), None)

    # Groups

    def include(self, group: Group) -> None:
        """Takes in the routes of a group, those that it gets later included.

        Raises:
            RouteError: one of its routes is in conflict with another.
        """
        self._refuse_when_serving()
        if not isinstance(group, Group):
            raise TypeError(f"only a Group can be included, not {group!r:.100}; other applications are mounted")
        if group is self or group in self._parents():
            raise RouteError(f"a group cannot be a part of itself (declared at {caller()})")
        for declaration in group._declarations:
            self._declare_here(declaration.within(group))
        group._including.append(self)

    def _parents(self) -> Iterator[Routes]:
        return iter(())

    def _declare_here(self, declaration: Declaration) -> None:
        self._refuse_when_serving()
        try:
            self._declare(declaration)
        except RouteError as error:
            raise RouteError(f"{error} (declared at {declaration.origin})") from None

    def _declare(self, declaration: Declaration) -> None:
        raise NotImplementedError

    def _refuse_when_serving(self) -> None:
        raise NotImplementedError


def _check_path(path: object) -> None:
    if not isinstance(path, str):
        raise RouteError(f"a path must be str, not {path!r:.100}: write @app.get('/path') (declared at {caller()})")


class Declaration(NamedTuple):
    """A route, or a mounted application (without methods), as it was declared."""

    path: str
    target: Callable[..., Any]
    methods: frozenset[str] | None
    name: str
    named: bool
    """On purpose, and not after the handler."""
    origin: str
    groups: tuple[Group, ...]
    """Those around it, the innermost first."""

    def within(self, group: Group) -> Declaration:
        """The same as a part of a group."""
        return self._replace(path=group.prefix + self.path, groups=(*self.groups, group))


class Group(Routes):
    """Routes with a common prefix, and middleware and error handlers of their own.

    If the prefix has no parameters, both also apply to requests below it that have no route, or none for their method.

        users = Group("/users")

        @users.get("")
        def index(request): ...

        @users.get("/<int:i>")
        def user(request, i): ...

        app.include(users)

    Parameters:
        prefix: begins with `/` and does not end with one; it may hold parameters. Empty: none.
        middleware: the outermost first.

    Raises:
        RouteError: the prefix is malformed.
    """

    def __init__(self, prefix: str = "", *, middleware: Iterable[Middleware] = ()) -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise RouteError(f"the prefix {prefix!r} must begin with '/' and not end with it (declared at {caller()})")
        super().__init__(middleware)
        self.prefix = prefix
        self._declarations: list[Declaration] = []
        self._including: list[Routes] = []

    def _parents(self) -> Iterator[Routes]:
        return chain(self._including, *(parent._parents() for parent in self._including))

    def _declare(self, declaration: Declaration) -> None:
        if declaration.methods is not None:
            # Checked here already, as far as possible without the converters of the application.
            path, target, methods = self.prefix + declaration.path, declaration.target, declaration.methods
            Route(path, target, methods, declaration.name, declaration.origin, (), None)
        for parent in self._including:
            parent._declare(declaration.within(self))
        self._declarations.append(declaration)

    def _refuse_when_serving(self) -> None:
        for parent in self._including:
            parent._refuse_when_serving()
