"""The request, read from a WSGI environ (PEP 3333) and only as far as a handler asks."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from contextlib import AbstractContextManager
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from wsgi.application.charsets import codec_of
from wsgi.application.cookies import parse_cookies
from wsgi.application.errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from wsgi.application.forms import read_form
from wsgi.application.headers import (
    EnvironHeaders,
    parse_options,
    preferred_coding,
    preferred_language,
    preferred_media_type,
)
from wsgi.application.lazy import lazy
from wsgi.application.limits import Limits
from wsgi.application.multidict import MultiDict
from wsgi.application.response import StartResponse
from wsgi.application.routing import PATH_CHARACTERS, Route
from wsgi.application.session import Session
from wsgi.application.uploads import UploadedFile
from wsgi.application.urlencoded import encoder, split_pairs

__all__ = ["Application", "Client", "Limits", "Request", "State", "decoded"]

T = TypeVar("T")

_encoded_path = encoder(PATH_CHARACTERS)
# The query came as bytes, which need not be ASCII.
_encoded_query = encoder(f"{PATH_CHARACTERS}?%[]", "latin-1")

_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
# Only such a number can be larger than any float: an exponent of three digits, or hundreds of digits.
_LARGE_NUMBER = re.compile(r"[0-9][eE]\+?0*[1-9][0-9]{2}|[0-9]{200}").search
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Closable(Protocol):
    """What holds something until it is closed."""

    def close(self) -> object:
        """Lets go."""
        ...


class _Callback:
    """A function that is called when the request is over."""

    __slots__ = ("close",)

    def __init__(self, close: Callable[[], object]) -> None:
        self.close = close


class Client(NamedTuple):
    """The address of the client: the peer of the connection."""

    host: str
    port: int | None


class State(SimpleNamespace):
    """A namespace for data of the application or of a request."""


class Application(Protocol):
    """The application that a request belongs to, as far as handlers and middleware use it: a `WSGIApplication`."""

    debug: bool
    limits: Limits
    state: State

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers another request (PEP 3333)."""
        ...

    def url_for(self, name: str, /, **parameters: object) -> str:
        """The path of a route; see `WSGIApplication.url_for`."""
        ...


class Request:
    """One request.

    Not thread-safe; it belongs to the thread that serves it, until its response has been sent.

    Parameters:
        environ: the WSGI environ.
        app: the application that answers.
    """

    def __init__(self, environ: dict[str, Any], app: Application) -> None:
        self.environ = environ
        self.app = app

    parameters: Mapping[str, Any] = _NO_PARAMETERS
    """The values of the path parameters, by name."""

    other_routes: Mapping[str, Route] = {}
    """Where no route was found: those of the path for other methods."""

    route: str | None = None
    """The name of the route that was found."""

    # What was asked for

    @property
    def method(self) -> str:
        """The method, as the client wrote it."""
        return cast("str", self.environ["REQUEST_METHOD"])

    @lazy
    def path(self) -> str:
        """The path below the application, decoded; it begins with `/`.

        One that is not UTF-8 is refused with 400 before any handler; error handlers see it with replacement characters.
        """
        return decoded(self.environ.get("PATH_INFO", ""), "replace") or "/"

    @lazy
    def root_path(self) -> str:
        """The path of the application itself (`SCRIPT_NAME`), decoded; empty at the root."""
        return decoded(self.environ.get("SCRIPT_NAME", ""), "replace").rstrip("/")

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return cast("str", self.environ["wsgi.url_scheme"])

    @lazy
    def host(self) -> str:
        """Host and port as the client named them; the port only where it is not the scheme's own.

        The client chooses it: compare it with your own names where that matters.

        Raises:
            BadRequest: it is no host.
        """
        host = self.environ.get("HTTP_HOST")
        if not host:
            name = self.environ["SERVER_NAME"]
            host = f"{f'[{name}]' if ':' in name else name}:{self.environ['SERVER_PORT']}"
        if not _HOST(host):
            raise BadRequest("the Host field is not a host name with an optional port")
        return cast("str", host).removesuffix(_DEFAULT_PORTS.get(self.scheme, "")).removesuffix(":")

    @property
    def base_url(self) -> str:
        """Scheme, host and path of the application, without a slash at the end."""
        return f"{self.scheme}://{self.host}{_encoded_path(self.root_path)}"

    @property
    def url(self) -> str:
        """The complete URL, as far as it is sent to a server."""
        query = f"?{self.query_string}" if self.query_string else ""
        return f"{self.base_url}{_encoded_path(self.path)}{query}"

    @property
    def query_string(self) -> str:
        """The query as it came, without the `?`."""
        return cast("str", self.environ.get("QUERY_STRING", ""))

    @lazy
    def query(self) -> MultiDict[str]:
        """The query's fields, blank values kept.

        Raises:
            BadRequest: it is not UTF-8, or has more than `Limits.fields` fields.
        """
        return MultiDict(_parse_query(self.query_string, self.app.limits.fields))

    @lazy
    def headers(self) -> EnvironHeaders:
        """The fields of the head, by name without case."""
        return EnvironHeaders(self.environ)

    @lazy
    def cookies(self) -> dict[str, str]:
        """The cookies that came."""
        return parse_cookies(self.environ.get("HTTP_COOKIE", ""))

    @property
    def client(self) -> Client | None:
        """The peer of the connection; None where it has no address (a Unix socket)."""
        host, port = self.environ.get("REMOTE_ADDR"), str(self.environ.get("REMOTE_PORT", ""))
        return Client(host, int(port) if port.isdecimal() else None) if host else None

    def is_disconnected(self) -> bool:
        """Whether the client has disconnected, on servers that report it; False on others."""
        ask = self.environ.get("wsgi.client_disconnected") or self.environ.get("waitress.client_disconnected")
        return bool(ask and ask())

    # What came with it

    @property
    def content_type(self) -> str:
        """The value of `Content-Type`, empty without one."""
        return cast("str", self.environ.get("CONTENT_TYPE") or "")

    @property
    def media_type(self) -> str:
        """The media type in lower case without its parameters, empty without one."""
        return parse_options(self.content_type)[0]

    @property
    def charset(self) -> str:
        """The charset that the client named, in lower case; `utf-8` if it named none."""
        return parse_options(self.content_type)[1].get("charset", "utf-8").lower()

    @property
    def content_length(self) -> int | None:
        """The length of the body in bytes; None if it is not known beforehand, or there is none.

        Raises:
            BadRequest: it is no number.
        """
        value = self.environ.get("CONTENT_LENGTH")
        if not value:
            return None
        if not (value.isascii() and value.isdecimal() and len(value) < 19):
            raise BadRequest("the Content-Length field is not the number of a length")
        return int(value)

    @lazy
    def stream(self) -> io.BufferedIOBase:
        """The body as a binary file, for what is too large to be read whole. It ends where the body ends.

        Raises:
            RuntimeError: a form was read from it before.
        """
        if "_form" in self.__dict__:
            raise RuntimeError("the body of this request was read as a form")
        return self._open()

    def _open(self) -> io.BufferedIOBase:
        if "_body" in self.__dict__:
            return io.BytesIO(self._body)
        return io.BufferedReader(_Body(self.environ, self.content_length), 64 * 1024)

    def unread_input(self) -> Any:
        """`wsgi.input` for another application that is to read the body.

        Raises:
            RuntimeError: it was read as a stream or a form before, and cannot be had again.
        """
        if "_body" in self.__dict__:
            return io.BytesIO(self._body)
        if "stream" in self.__dict__ or "_form" in self.__dict__:
            raise RuntimeError(
                "a middleware read the body of this request as a stream or a form, and the mounted application cannot"
                " have it any more"
            )
        return self.environ["wsgi.input"]

    @property
    def body(self) -> bytes:
        """The whole body.

        Raises:
            ContentTooLarge: it has more than `Limits.body` bytes.
            BadRequest: it did not arrive whole.
            RuntimeError: it was read as a stream or a form before.
        """
        return self._body

    @lazy
    def _body(self) -> bytes:
        if "stream" in self.__dict__ or "_form" in self.__dict__:
            raise RuntimeError("the body of this request was read as a stream or a form")
        limit, length = self.app.limits.body, self.content_length
        if length is None or length <= limit:
            body = _Body(self.environ, length).read_whole(limit)
            if body is not None:
                return body
        raise ContentTooLarge(f"the body must not be longer than {limit} bytes")

    @property
    def text(self) -> str:
        """The body as text, in the charset that `Content-Type` names, UTF-8 by default.

        Raises:
            BadRequest: it is not in that charset.
            UnsupportedMediaType: a charset that is none of UTF-8, ASCII, Latin-1 and Windows-1252.
        """
        codec = codec_of(self.charset, "the body")
        try:
            return self.body.decode(codec)
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not {self.charset}: byte {error.start} cannot be decoded") from None

    @property
    def is_json(self) -> bool:
        """Whether the media type of the body is JSON (RFC 8259, RFC 6839 §3.1)."""
        media_type = self.media_type
        return media_type == "application/json" or media_type.endswith("+json")

    def json(self) -> Any:
        """The body's JSON.

        Raises:
            UnsupportedMediaType: `Content-Type` is not JSON.
            BadRequest: it is not JSON, with the place where it ceases to be.
        """
        if not self.is_json:
            raise UnsupportedMediaType(
                f"the body must be JSON with Content-Type: application/json, not {self.media_type or 'untyped'!r:.50}"
            )
        return self._json

    @lazy
    def _json(self) -> Any:
        try:
            # RFC 8259 §8.1: always UTF-8, and a byte order mark may be ignored.
            text = self.body.decode("utf-8-sig")
            # A function of Python for each number takes ten times as long as the rest.
            parse_float = _finite if _LARGE_NUMBER(text) else None
            return json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not JSON: byte {error.start} is not UTF-8") from None
        except json.JSONDecodeError as error:
            raise BadRequest(
                f"the body is not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}"
            ) from None
        except RecursionError:
            raise BadRequest("the body is not JSON that can be read: it is nested too deeply") from None
        except ValueError as error:
            # An integer of thousands of digits, NaN.
            raise BadRequest(f"the body is not JSON that can be read: {error}") from None

    @property
    def form(self) -> MultiDict[str]:
        """The fields of a form (`application/x-www-form-urlencoded` or `multipart/form-data`).

        Raises:
            UnsupportedMediaType: the body is no form.
            BadRequest: it is malformed.
            ContentTooLarge: it passes one of `Limits`.
        """
        return self._form[0]

    @property
    def files(self) -> MultiDict[UploadedFile]:
        """The files of a form; they are closed when the response has been sent.

        Raises:
            HTTPError: as for `form`.
        """
        return self._form[1]

    @lazy
    def _form(self) -> tuple[MultiDict[str], MultiDict[UploadedFile]]:
        if "stream" in self.__dict__ and "_body" not in self.__dict__:
            raise RuntimeError("the body of this request was read as a stream")
        form, files = read_form(self._open(), self.content_type, self.content_length, self.app.limits)
        self.keep(*(file for _, file in files.pairs()))
        return form, files

    # Content negotiation

    def accepts(self, *media_types: str) -> str | None:
        """The media type that the client prefers among those offered, the first of equals; None if it accepts none."""
        return preferred_media_type(self.environ.get("HTTP_ACCEPT"), media_types)

    def accepts_encoding(self, *codings: str) -> str | None:
        """The content coding that the client prefers among those offered; None: send it as it is."""
        return preferred_coding(self.environ.get("HTTP_ACCEPT_ENCODING"), codings)

    def accepts_language(self, *tags: str) -> str | None:
        """The language that the client prefers among those offered; None if it understands none."""
        return preferred_language(self.environ.get("HTTP_ACCEPT_LANGUAGE"), tags)

    @property
    def wants_json(self) -> bool:
        """Whether the client prefers JSON to a page: by its Accept field, or because it sent JSON and accepts JSON."""
        kinds = ("application/json", "application/problem+json")
        if self.is_json:
            return self.accepts(*kinds, "text/html", "text/plain") in kinds
        return self.accepts("text/plain", "text/html", *kinds) in kinds

    # What is closed with it

    opened: MutableSequence[Closable] = cast("MutableSequence[Closable]", ())
    """What has to be closed when the response has been sent: files that came, streams that a middleware replaced."""

    is_over = False
    """Whether all of that has been closed."""

    failure: BaseException | None = None
    """The exception that the response answers, or that ended its stream."""

    def keep(self, *things: Closable) -> None:
        """Closes these when the response has been sent, the last first.

        Raises:
            RuntimeError: it was sent, and the rest closed.
        """
        if self.is_over:
            raise RuntimeError("the response has been sent: nothing is closed with this request any more")
        if not self.opened:
            self.opened = []
        self.opened.extend(things)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Calls a function when the response has been sent or given up: for what handlers, middleware and streams use.

        It is called once, after the response's content was closed, also when the handler failed, the client left, or a
        middleware answered with something else. Of several, the last one registered is called first. What it raises is
        logged, and keeps no other from being called. A file is sent in pieces then, not by the kernel.

        Parameters:
            callback: called without arguments, in the thread that closes the response.

        Raises:
            TypeError: it cannot be called.
            RuntimeError: the response has been sent.
        """
        if not callable(callback):
            raise TypeError(f"on_close takes a function without parameters, not {callback!r:.100}")
        self.keep(_Callback(callback))

    def enter_context(self, manager: AbstractContextManager[T]) -> T:
        """Enters a context manager, and returns its value; it is exited when `on_close` callbacks run.

            database = request.enter_context(closing(connect()))

        On exit it gets the exception that the response answers, or that its stream ended with, if there is one; it
        cannot suppress that.

        Parameters:
            manager: as for `with`.

        Raises:
            TypeError: it is no context manager.
            RuntimeError: the response has been sent.
        """
        kind = type(manager)
        try:
            enter, leave = kind.__enter__, kind.__exit__
        except AttributeError:
            raise TypeError(f"enter_context takes a context manager, not {manager!r:.100}") from None
        if self.is_over:
            self.keep()

        def close() -> None:
            error = self.failure
            leave(manager, type(error) if error else None, error, error.__traceback__ if error else None)

        value = enter(manager)
        self.keep(_Callback(close))
        return value

    # What goes along with it

    @lazy
    def state(self) -> State:
        """Things that handlers and middleware leave for one another."""
        return State()

    @lazy
    def session(self) -> Session:
        """The session of this client.

        Raises:
            RuntimeError: the application has no `SessionMiddleware`.
        """
        raise RuntimeError("request.session needs SessionMiddleware: app.add_middleware(SessionMiddleware(secret_key))")

    def moved_to(self, path: str) -> str:
        """Another path below the application as a URL from the root of the host, with this request's query."""
        query = _encoded_query(self.query_string)
        return _encoded_path(self.root_path + path) + (f"?{query}" if query else "")

    def url_for(self, name: str, /, **parameters: object) -> str:
        """The path of a route from the root of the host; see `WSGIApplication.url_for`."""
        return _encoded_path(self.root_path) + self.app.url_for(name, **parameters)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.environ.get('PATH_INFO', '')!r}>"


def decoded(text: str, errors: str = "strict") -> str:
    """Text that PEP 3333 gives as latin-1, as the UTF-8 that it is.

    Raises:
        UnicodeError: it is none, and `errors` is "strict".
    """
    return text if text.isascii() else text.encode("latin-1", errors).decode("utf-8", errors)


def _parse_query(query: str, limit: int) -> list[tuple[str, str]]:
    if query.count("&") >= limit and query:
        raise BadRequest(f"the query has more than {limit} fields")
    try:
        # What was not percent-encoded as it should be came as bytes.
        pairs = split_pairs(query.encode("latin-1"), "the query")
        return [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeError:
        raise BadRequest("the query is not UTF-8") from None


def _refuse_constant(name: str) -> None:
    # RFC 8259 §6: JSON has no NaN and Infinity, though Python's parser accepts them.
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text:.40} is too large")
    return number


class _Body(io.RawIOBase):
    """`wsgi.input`, never read past the end of the body: not every server stops there (PEP 3333)."""

    def __init__(self, environ: dict[str, Any], length: int | None) -> None:
        self._input = environ["wsgi.input"]
        # Where the length is not known, only a server that promises an end can be read.
        ends = environ.get("wsgi.input_terminated")
        self._length = length
        self._left = length if length is not None else None if ends else 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def read_whole(self, limit: int) -> bytes | None:
        """All that comes; None if it is more than the limit."""
        pieces: list[bytes] = []
        size = 0
        while piece := self._read(limit + 1 - size):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                return None
        return b"".join(pieces)

    def _read(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
            if not size:
                return b""
        try:
            piece: bytes = self._input.read(size)
        except OSError as error:
            # The client broke off, was too slow, or sent nonsense: the servers differ in what they raise.
            raise BadRequest("the body did not arrive whole") from error
        if self._left is not None:
            self._left -= len(piece)
            if not piece:
                raise BadRequest(f"the body ended {self._left} bytes short of the {self._length} that were announced")
        return piece
