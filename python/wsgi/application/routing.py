"""Routing: finds the handler of a path, and builds the path of a route.

A route's path is text with parameters in it: `/users/<int:user>/notes/<name>.txt`. The router is a tree with one level
for each segment of the path. At every level literal text is tried first, then segments that are text in part, then
parameters, and last a `path` that takes all the rest; where a branch leads nowhere, the next is tried.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isinf
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

from wsgi.application.errors import RouteError
from wsgi.application.headers import is_token
from wsgi.application.response import describe

__all__ = [
    "CONVERTERS",
    "PATH_CHARACTERS",
    "SEGMENT_CHARACTERS",
    "Converter",
    "Route",
    "Router",
    "caller",
    "mistaken_call",
    "parse_path",
]

T = TypeVar("T")

# RFC 3986 §3.3: characters allowed unescaped in a segment, and in a path.
SEGMENT_CHARACTERS = ":@!$&'()*+,;=~"
PATH_CHARACTERS = f"/{SEGMENT_CHARACTERS}"


class Converter(Generic[T]):
    """Converts a part of a path to a value and back. Subclass it for a parameter type of your own:

        class Year(Converter[int]):
            pattern = "[0-9]{4}"

            def parse(self, text: str) -> int:
                return int(text)

        app = WSGIApplication(converters={"year": Year})

    One object serves all threads.
    """

    pattern: ClassVar[str] = "[^/]+"
    """A regular expression; only text that matches all of it is passed to `parse`."""

    matcher: ClassVar[re.Pattern[str]] = re.compile(pattern)

    def __init_subclass__(cls) -> None:
        cls.matcher = re.compile(cls.pattern)
        changed = "pattern" in cls.__dict__ or "parse" in cls.__dict__
        if changed and "convert" not in cls.__dict__ and cls.convert.__module__ == __name__:
            # The short cut of a kind below is not that of its subclass.
            cls.convert = Converter.convert  # type: ignore[method-assign]

    def convert(self, text: str) -> T:
        """`parse` for what matches the pattern.

        Raises:
            ValueError: it does not match, or has no value.
        """
        if not self.matcher.fullmatch(text):
            raise ValueError(text)
        return self.parse(text)

    def parse(self, text: str) -> T:
        """Converts text of a path to a value; default: the text itself.

        Raises:
            ValueError: none; another route may take it.
        """
        return text  # type: ignore[return-value]

    def format(self, value: T) -> str:
        """Converts a value to text of a path.

        Raises:
            ValueError: the value has no text of this kind.
        """
        return str(value)


class StringConverter(Converter[str]):
    """`<name>` or `<str:name>`: one segment, or a part of one."""

    def convert(self, text: str) -> str:
        # The same as the pattern, and a third of its price.
        if not text:
            raise ValueError(text)
        return text


class IntConverter(Converter[int]):
    """`<int:i>`: decimal digits; no sign."""

    pattern = "[0-9]+"

    def convert(self, text: str) -> int:
        # The same as the pattern, and a third of its price.
        if not (text.isdecimal() and text.isascii()):
            raise ValueError(text)
        return int(text)

    def parse(self, text: str) -> int:
        return int(text)


class FloatConverter(Converter[float]):
    """`<float:x>`: decimal digits with an optional fraction; no sign."""

    pattern = r"[0-9]+(?:\.[0-9]+)?"

    def parse(self, text: str) -> float:
        number = float(text)
        if isinf(number):
            raise ValueError(text)
        return number

    def format(self, value: float) -> str:
        # No exponent: `parse` takes none.
        return format(Decimal(str(value if isinstance(value, int) else float(value))), "f")


class UUIDConverter(Converter[UUID]):
    """`<uuid:key>`: the form with hyphens (RFC 9562 §4)."""

    pattern = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

    def parse(self, text: str) -> UUID:
        return UUID(text)


class PathConverter(Converter[str]):
    """`<path:rest>`: all the rest of the path, slashes included; it must come last."""

    pattern = "(?s:.+)"


CONVERTERS: Mapping[str, type[Converter[Any]]] = {
    "str": StringConverter,
    "int": IntConverter,
    "float": FloatConverter,
    "uuid": UUIDConverter,
    "path": PathConverter,
}


class Parameter(NamedTuple):
    """A parameter in a path."""

    name: str
    kind: str
    converter: Converter[Any]


Segment = list[str | Parameter]
"""The text and parameters between two slashes; only text: `[""]` or `["users"]`."""

# Text may be cut between parameters in many ways, and a client can make all of them fail: with these bounds that takes
# some tens of milliseconds at worst.
_MOST_PARAMETERS = 3
_LONGEST_MIXED_SEGMENT = 255

# Identifiers of ASCII, since they become keyword arguments.
_PARAMETER = re.compile(r"<(?:([A-Za-z_][A-Za-z0-9_]*):)?([A-Za-z_][A-Za-z0-9_]*)>")


def parse_path(path: str, converters: Mapping[str, type[Converter[Any]]] | None) -> list[Segment]:
    """The segments of a route's path.

    Parameters:
        path: the path, with its parameters.
        converters: the kinds of parameters; None: any.

    Raises:
        RouteError: it is malformed.
    """
    if not path.startswith("/"):
        raise RouteError(f"the path {path!r} must begin with '/'")
    if "//" in path:
        raise RouteError(f"the path {path!r} has an empty segment")
    if "?" in path or "#" in path:
        raise RouteError(f"the path {path!r} must have no query and no fragment")
    names: set[str] = set()
    segments = []
    for text in path[1:].split("/"):
        segment: Segment = []
        position = 0
        for match in _PARAMETER.finditer(text):
            kind, name = match[1] or "str", match[2]
            converter = CONVERTERS.get(kind, Converter) if converters is None else converters.get(kind)
            if converter is None:
                raise RouteError(
                    f"the path {path!r} names the unknown converter {kind!r};"
                    f" there are {', '.join(sorted(converters or ()))}"
                )
            if name in names:
                raise RouteError(f"the path {path!r} names the parameter {name!r} twice")
            if name == "request":
                raise RouteError(f"the path {path!r} names a parameter 'request', which every handler has already")
            names.add(name)
            if match.start() > position:
                segment.append(text[position : match.start()])
            elif segment:
                raise RouteError(f"the path {path!r} has two parameters with nothing between them")
            segment.append(Parameter(name, kind, converter()))
            if sum(isinstance(part, Parameter) for part in segment) > _MOST_PARAMETERS:
                raise RouteError(f"the path {path!r} has more than {_MOST_PARAMETERS} parameters in one segment")
            position = match.end()
        if position < len(text) or not segment:
            segment.append(text[position:])
        if any(isinstance(part, str) and re.search("[<>{}]", part) for part in segment):
            raise RouteError(f"the path {path!r} is malformed: parameters are written <name> or <converter:name>")
        segments.append(segment)
    for index, segment in enumerate(segments):
        for part in segment:
            last = index == len(segments) - 1 and len(segment) == 1
            if isinstance(part, Parameter) and isinstance(part.converter, PathConverter) and not last:
                raise RouteError(f"the path {path!r} must end with its parameter <{part.kind}:{part.name}>")
    return segments


class Route:
    """A path with its handler.

    Parameters:
        path: the whole path, with its parameters.
        handler: called with the request, and the parameters by name.
        methods: those it answers.
        name: for `url_for`.
        origin: where it was declared, for messages.
        groups: those around it, the innermost first.
        converters: the kinds of parameters; None: any kind, for a look at the rest.

    Raises:
        RouteError: the path is malformed, or the handler cannot be called with what it gives.
    """

    def __init__(
        self,
        path: str,
        handler: Callable[..., Any],
        methods: frozenset[str],
        name: str,
        origin: str,
        groups: tuple[Any, ...],
        converters: Mapping[str, type[Converter[Any]]] | None,
    ) -> None:
        self.path = path
        self.handler = handler
        self.name = name
        self.origin = origin
        self.groups = groups
        self.methods = methods
        if not self.methods:
            raise RouteError(f"the route {path!r} has no methods")
        for method in self.methods:
            if not is_token(method):
                raise RouteError(f"{method!r}, of the route {path!r}, is not the name of a method")
        self.segments = parse_path(path, converters)
        self.parameters = [part for segment in self.segments for part in segment if isinstance(part, Parameter)]
        self.names = tuple(parameter.name for parameter in self.parameters)
        _check_handler(handler, self.names, path)
        self.answer: Callable[[Any], Any] = handler

    def url(self, values: Mapping[str, object]) -> str:
        """The path with values for its parameters; other values become the query.

        Raises:
            RouteError: a value is missing, or does not fit its parameter.
        """
        rest = dict(values)
        texts = []
        for segment in self.segments:
            text = ""
            for part in segment:
                if isinstance(part, str):
                    text += quote(part, safe=SEGMENT_CHARACTERS)
                    continue
                if part.name not in rest:
                    raise RouteError(f"the URL of the route {self.name!r} needs a value for {part.name!r}")
                text += self._format(part, rest.pop(part.name))
            texts.append(text)
        path = f"/{'/'.join(texts)}"
        if path.startswith("//"):
            raise RouteError(f"the URL of the route {self.name!r} would begin with '//' and lead to another host")
        query = {name: value for name, value in rest.items() if value is not None}
        return path + (f"?{urlencode(query, doseq=True)}" if query else "")

    def _format(self, part: Parameter, value: object) -> str:
        try:
            text = part.converter.format(value)
            fits = part.converter.matcher.fullmatch(text)
        except (TypeError, ValueError):
            fits = None
        # Clients remove segments of dots from a URL (RFC 3986 §5.2.4), which would lead to another path.
        if value is None or not fits or {".", ".."} & set(text.split("/")):
            raise RouteError(f"the URL of the route {self.name!r} cannot have {value!r:.100} for {part.name!r}")
        safe = PATH_CHARACTERS if isinstance(part.converter, PathConverter) else SEGMENT_CHARACTERS
        return quote(text, safe=safe)


def _check_handler(handler: Callable[..., Any], names: tuple[str, ...], path: str) -> None:
    if not callable(handler):
        raise RouteError(f"the handler of {path!r} must be callable, not {type(handler).__name__}")
    given = ", ".join(["request", *(f"{name}=…" for name in names)])
    mistake = mistaken_call(handler, given, object(), **dict.fromkeys(names))
    if mistake:
        raise RouteError(f"{describe(handler)} of {path!r} {mistake}")


def mistaken_call(function: object, given: str, /, *arguments: Any, **options: Any) -> str:
    """Why a function cannot be called with these arguments; empty if it can.

    Parameters:
        function: what is to be called.
        given: what it is called with, for the message.
        arguments: as many as it gets by position.
        options: those that it gets by name.
    """
    if not callable(function):
        return "is not callable"
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if any(inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code) for code in (function, called)):
        return "is async; a WSGI application needs an ordinary function"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some callables in C have no signature.
        return ""
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        return f"cannot be called with ({given}): {error}"
    return ""


class _Node:
    """One level of the tree: what may come next."""

    __slots__ = ("literals", "mixed", "rest", "routes", "single")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.mixed: list[tuple[str, re.Pattern[str], list[Converter[Any]], _Node]] = []
        self.single: list[tuple[Converter[Any], _Node]] = []
        self.rest: list[tuple[Converter[Any], _Node]] = []
        self.routes: dict[str, Route] = {}


# Narrower kinds first; those of an application are between the narrow ones and text.
_BREADTH = {UUIDConverter: 0, IntConverter: 1, FloatConverter: 2, StringConverter: 4}


class Router:
    """All routes of an application.

    Routes are added while the application is put together; after that any number of threads may look for them.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._deepest = 0
        self._literal: dict[str, dict[str, Route]] = {}
        self._names: dict[str, tuple[Route, bool]] = {}
        self._ambiguous: dict[str, Route] = {}
        self.routes: list[Route] = []

    def add(self, route: Route, *, named: bool) -> None:
        """Adds a route.

        Parameters:
            route: the route.
            named: whether its name was chosen on purpose.

        Raises:
            RouteError: another route answers there, or has the name.
        """
        node = self._node(route)
        for method in sorted(route.methods):
            other = node.routes.get(method)
            if other is not None and method in other.methods:
                raise RouteError(
                    f"{method} {route.path!r} is answered already by {other.path!r} (declared at {other.origin})"
                )
        taken = self._names.get(route.name)
        if taken and named and taken[1]:
            raise RouteError(
                f"the name {route.name!r} is already the name of {taken[0].path!r} (declared at {taken[0].origin})"
            )
        if not taken or (named and not taken[1]):
            self._names[route.name] = route, named
        elif not taken[1] and taken[0].handler is not route.handler:
            self._ambiguous[route.name] = route
        for method in route.methods:
            node.routes[method] = route
        if "GET" in route.methods:
            # RFC 9110 §9.3.2: HEAD is GET without the content, unless there is a route for HEAD.
            node.routes.setdefault("HEAD", route)
        if not route.names:
            self._literal[route.path] = node.routes
        self._deepest = max(self._deepest, len(route.segments))
        self.routes.append(route)

    def _node(self, route: Route) -> _Node:
        node = self._root
        for segment in route.segments:
            first = segment[0]
            if len(segment) == 1 and isinstance(first, str):
                node = node.literals.setdefault(first, _Node())
            elif len(segment) == 1 and isinstance(first, Parameter):
                branches = node.rest if isinstance(first.converter, PathConverter) else node.single
                node = _branch(branches, first.converter)
            else:
                node = _mixed_branch(node.mixed, segment)
        return node

    def find(self, path: str, method: str) -> tuple[Route | None, list[Any], dict[str, Route]]:
        """The route for a path and a method, the values of its parameters in the path's order, and if there is no
        route, those for other methods.
        """
        routes = self._literal.get(path)
        if routes is not None:
            route = routes.get(method)
            if route is not None:
                return route, [], {}
        values: list[Any] = []
        others: dict[str, Route] = {}
        # What is deeper than any route stays in one piece, which at most the rest of a path can take.
        segments = path.split("/", self._deepest + 1)
        return (None if segments[0] else _find(self._root, segments, 1, method, values, others)), values, others

    def by_name(self, name: str) -> Route:
        """The route of a name.

        Raises:
            RouteError: there is none, or several that have it from their handlers.
        """
        found = self._names.get(name)
        if found is None:
            close = difflib.get_close_matches(name, self._names, 1)
            raise RouteError(f"there is no route named {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        route, named = found
        if name in self._ambiguous and not named:
            raise RouteError(
                f"two routes have the name {name!r} from their handlers, {route.path!r} (declared at {route.origin})"
                f" and {self._ambiguous[name].path!r} (declared at {self._ambiguous[name].origin}): give one a name"
            )
        return route


def _find(
    node: _Node, segments: list[str], index: int, method: str, values: list[Any], others: dict[str, Route]
) -> Route | None:
    """The route below a node for the segments from an index on; gathers its values, or the routes of other methods."""
    if index == len(segments):
        route = node.routes.get(method)
        if route is None:
            others.update(node.routes)
        return route
    segment = segments[index]
    index += 1
    child = node.literals.get(segment)
    if child is not None:
        route = _find(child, segments, index, method, values, others)
        if route is not None:
            return route
    depth = len(values)
    for _, pattern, converters, child in node.mixed:
        match = pattern.fullmatch(segment) if len(segment) <= _LONGEST_MIXED_SEGMENT else None
        if match:
            try:
                values += [converter.parse(match[f"p{at}"]) for at, converter in enumerate(converters)]
            except ValueError:
                continue
            route = _find(child, segments, index, method, values, others)
            if route is not None:
                return route
            del values[depth:]
    for converter, child in node.single:
        try:
            values.append(converter.convert(segment))
        except ValueError:
            continue
        route = _find(child, segments, index, method, values, others)
        if route is not None:
            return route
        del values[depth:]
    for converter, child in node.rest:
        try:
            values.append(converter.convert("/".join(segments[index - 1 :])))
        except ValueError:
            continue
        route = _find(child, segments, len(segments), method, values, others)
        if route is not None:
            return route
        del values[depth:]
    return None


def _branch(branches: list[tuple[Converter[Any], _Node]], converter: Converter[Any]) -> _Node:
    """The node of a parameter of this kind, inserted in the order of the kinds."""
    for other, node in branches:
        if type(other) is type(converter):
            return node
    node = _Node()
    branches.append((converter, node))
    branches.sort(key=lambda branch: _BREADTH.get(type(branch[0]), 3))
    return node


def _mixed_branch(branches: list[tuple[str, re.Pattern[str], list[Converter[Any]], _Node]], segment: Segment) -> _Node:
    """The node behind a segment of text and parameters; the more text, the earlier it is tried."""
    shape = "".join(part if isinstance(part, str) else f"<{type(part.converter).__qualname__}>" for part in segment)
    for other, _, _, node in branches:
        if other == shape:
            return node
    node = _Node()
    source = ""
    converters: list[Converter[Any]] = []
    for part in segment:
        if isinstance(part, str):
            source += re.escape(part)
        else:
            # By name, because the converter's own pattern may have groups.
            source += f"(?P<p{len(converters)}>{part.converter.pattern})"
            converters.append(part.converter)
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise RouteError(f"the patterns of {shape!r} cannot be combined in one segment: {error}") from None
    branches.append((shape, pattern, converters, node))
    branches.sort(key=lambda branch: -len(re.sub("<[^>]*>", "", branch[0])))
    return node


_PACKAGE = str(Path(__file__).parent)


def caller() -> str:
    """FILE:LINE of the nearest frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
