"""A client that calls an application directly, as a strict server would (PEP 3333)."""

from __future__ import annotations

import io
import json as json_module
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import unquote_to_bytes, urlencode, urljoin, urlsplit

from wsgi.application.errors import UNHANDLED_ERRORS
from wsgi.application.headers import Headers, HeadersLike, parse_options
from wsgi.application.mount import WSGIApp
from wsgi.application.testing.bodies import Fields, Files, encoded, pairs
from wsgi.application.testing.exchange import Exchange
from wsgi.application.testing.jar import CookieJar

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["TestClient", "TestResponse"]

_MOST_REDIRECTS = 20


class TestResponse:
    """What the application answered.

    Attributes:
        status: the status code.
        reason: the phrase beside it.
        headers: the fields.
        body: the whole content, empty for HEAD.
        url: what was asked for, after redirections.
        history: the redirections that were followed, in order.
    """

    __test__ = False  # pytest would take it for tests

    def __init__(self, status: str, headers: Headers, body: bytes, url: str) -> None:
        self.status = int(status[:3])
        self.reason = status[4:]
        self.headers = headers
        self.body = body
        self.url = url
        self.history: list[TestResponse] = []

    @property
    def text(self) -> str:
        """The content as text, in the charset of its `Content-Type`, UTF-8 by default."""
        return self.body.decode(parse_options(self.headers.get("Content-Type") or "")[1].get("charset", "utf-8"))

    def json(self) -> Any:
        """The content, parsed as JSON."""
        return json_module.loads(self.body)

    def __repr__(self) -> str:
        return f"<TestResponse {self.status} {self.reason}>"


class Options(TypedDict, total=False):
    """What `TestClient.request` takes beside method and path."""

    query: str | Fields | None
    headers: HeadersLike | None
    cookies: Mapping[str, str] | None
    json: Any
    data: bytes | str | Fields | None
    files: Files | None
    follow_redirects: bool | None


class TestClient:
    """Sends requests to an application without a server, and keeps cookies.

    It is as strict as a server may be: an application that breaks PEP 3333 fails with an AssertionError. What the
    application raises is raised here.

    Parameters:
        app: the WSGI application.
        headers: fields of every request.
        root_path: where the application is mounted (`SCRIPT_NAME`), such as "/shop".
        base_url: scheme and host of paths.
        raise_errors: whether an unhandled exception, which the application answered with 500, is raised
            here with its own traceback. False shows what a visitor gets.
        follow_redirects: whether redirections to the same host are followed.
    """

    __test__ = False  # pytest would take it for tests

    def __init__(
        self,
        app: WSGIApp,
        *,
        headers: HeadersLike | None = None,
        root_path: str = "",
        base_url: str = "http://localhost",
        raise_errors: bool = True,
        follow_redirects: bool = False,
    ) -> None:
        if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
            raise ValueError(f"root_path begins with a slash and ends without one, unlike {root_path!r}")
        self.app = app
        self.headers = Headers(headers)
        self.root_path = root_path
        self.base_url = base_url.rstrip("/")
        self.raise_errors = raise_errors
        self.follow_redirects = follow_redirects
        self.cookies = CookieJar()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: str | Fields | None = None,
        headers: HeadersLike | None = None,
        cookies: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | str | Fields | None = None,
        files: Files | None = None,
        follow_redirects: bool | None = None,
    ) -> TestResponse:
        """Sends a request and reads the whole answer.

        Parameters:
            method: GET, for example.
            path: the path below `root_path`, with a query if you like; or a URL with host.
            query: fields to add to the query; a list gives several of a name.
            headers: further fields; they replace those of the client.
            cookies: further cookies, for this request.
            json: what to send as JSON, as `JSONResponse` takes it; None: nothing (`data=b"null"` is JSON's).
            data: the fields of a form, or the body itself.
            files: files of a form: a content, or `(filename, content)`, or `(filename, content, media_type)`; a list
                gives several of a name. A content is bytes, text or an open binary file.
            follow_redirects: None: as the client does.

        Raises:
            AssertionError: the application breaks PEP 3333.
            ValueError: neither a path nor a URL, a body given in two ways, or more than 20 redirections.
        """
        body, content_type = encoded(json, data, files)
        fields = Headers(self.headers)
        if content_type:
            fields["Content-Type"] = content_type
        fields.update(headers or ())
        # Not joined, which would take away the dots and slashes that a test may be about.
        url = self.base_url + self.root_path + path if path.startswith("/") else path
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"a path begins with a slash, and a URL with http:// or https://, unlike {path!r}")
        url = url.partition("#")[0]
        if query is not None:
            extra = query if isinstance(query, str) else urlencode(pairs(query), doseq=True)
            url += ("&" if urlsplit(url).query else "?") + extra
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        history: list[TestResponse] = []
        while True:
            response = self._send(method, url, fields, cookies or {}, body)
            response.history = list(history)
            target = urljoin(url, response.headers.get("Location") or "")
            is_redirect = response.status in (301, 302, 303, 307, 308) and "Location" in response.headers
            if not (follow and is_redirect and urlsplit(target)[:2] == urlsplit(url)[:2]):
                return response
            if len(history) == _MOST_REDIRECTS:
                raise ValueError(f"more than {_MOST_REDIRECTS} redirections, the last one to {target}")
            history.append(response)
            url = target
            # RFC 9110 §15.4: 303 asks for GET, and browsers take 301 and 302 after POST for 303.
            if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
                method, body = "GET", b""
                fields.discard("Content-Type")

    def get(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A GET request; for the options see `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A POST request; for the options see `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A PUT request; for the options see `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A PATCH request; for the options see `request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A DELETE request; for the options see `request`."""
        return self.request("DELETE", path, **options)

    def head(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """A HEAD request; for the options see `request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """An OPTIONS request; for the options see `request`."""
        return self.request("OPTIONS", path, **options)

    def _send(self, method: str, url: str, headers: Headers, cookies: Mapping[str, str], body: bytes) -> TestResponse:
        parts = urlsplit(url)
        host, path = parts.hostname or "localhost", parts.path or "/"
        environ = self._environ(method, url, headers, body)
        # Of a name that comes twice, the first counts: what the test gives for this request.
        own = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if field := "; ".join(filter(None, [own, headers.get("Cookie"), self.cookies.field(host, path)])):
            environ["HTTP_COOKIE"] = field
        exchange = Exchange(method)
        exchange.run(self.app, environ)
        for cookie in exchange.headers.get_all("Set-Cookie"):
            self.cookies.store(cookie, host, path)
        errors: list[BaseException] = environ[UNHANDLED_ERRORS]
        if self.raise_errors and errors:
            raise errors[0]
        return TestResponse(exchange.status, exchange.headers, b"".join(exchange.pieces), url)

    def _environ(self, method: str, url: str, headers: Headers, body: bytes) -> dict[str, Any]:
        parts = urlsplit(url)
        path, root = parts.path or "/", self.root_path
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :]
        else:
            root = ""
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        environ: dict[str, Any] = {
            UNHANDLED_ERRORS: [],
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": unquote_to_bytes(root).decode("latin-1"),
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": parts.query.encode().decode("latin-1"),
            "SERVER_NAME": parts.hostname or "localhost",
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "50000",
            "HTTP_HOST": parts.netloc.rpartition("@")[2],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": parts.scheme,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body or method in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = str(len(body))
        for name in headers:
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = ", ".join(headers.get_all(name))
        return environ
