"""What a handler sees of a request."""

from __future__ import annotations

import codecs
import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.application.switchboard import Direct, direct
from wsgi.application import BadRequest, MissingField, Request, WSGIApplication
from wsgi.application.request import Limits

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
app = WSGIApplication(limits=Limits(body=100_000))


def show(request: Request, **parameters: Any) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "root_path": request.root_path,
        "scheme": request.scheme,
        "host": request.host,
        "url": request.url,
        "base_url": request.base_url,
        "query_string": request.query_string,
        "query": {name: request.query.get_all(name) for name in request.query},
        "content_type": request.content_type,
        "media_type": request.media_type,
        "content_length": request.content_length,
        "is_json": request.is_json,
        "wants_json": request.wants_json,
        "route": request.route,
        "parameters": dict(request.parameters),
        "client": None if request.client is None else [request.client.host, request.client.port],
    }


app.add_route("/", show, methods=METHODS, name="root")
app.add_route("/show/<path:rest>", show, methods=METHODS)


@app.get("/headers")
def headers(request: Request) -> dict[str, Any]:
    return {name.lower(): value for name, value in request.headers.items()}


@app.get("/cookies")
def cookies(request: Request) -> dict[str, str]:
    return request.cookies


@app.route("/body", methods=METHODS)
def body(request: Request) -> bytes:
    # Twice: what was read once is still there.
    assert request.body == request.body
    return request.body


@app.post("/text")
def text(request: Request) -> str:
    return f"{request.charset}:{request.text}"


@app.route("/json", methods=METHODS)
def as_json(request: Request) -> tuple[dict[str, Any], int]:
    return {"value": request.json()}, 200


@app.post("/stream/<int:size>")
def stream(request: Request, size: int) -> dict[str, Any]:
    pieces = []
    while piece := request.stream.read(size):
        pieces.append(len(piece))
    return {"pieces": pieces, "after": len(request.stream.read())}


@app.post("/stream/whole")
def stream_whole(request: Request) -> bytes:
    return request.stream.read()


@app.post("/stream/lines")
def stream_lines(request: Request) -> list[str]:
    first = request.stream.readline()
    return [line.decode() for line in [first, *request.stream]]


@app.post("/stream/limited-line")
def stream_limited_line(request: Request) -> list[str]:
    return [
        request.stream.readline(3).decode(),
        request.stream.readline(3).decode(),
        request.stream.readline().decode(),
    ]


@app.post("/ignored")
def ignored(request: Request) -> str:
    return "not read"


@app.get("/accepts")
def accepts(request: Request) -> dict[str, Any]:
    return {
        "type": request.accepts("text/html", "application/json"),
        "encoding": request.accepts_encoding("br", "gzip"),
        "language": request.accepts_language("de", "en"),
    }


@app.get("/state")
def state(request: Request) -> dict[str, Any]:
    before = getattr(request.state, "user", None)
    request.state.user = "ada"
    return {"before": before, "after": request.state.user, "app": request.app.state.setting}


app.state.setting = "from the application"


@app.get("/connected")
def connected(request: Request) -> dict[str, Any]:
    return {"disconnected": request.is_disconnected()}


@app.get("/session")
def session(request: Request) -> str:
    try:
        return str(request.session)
    except Exception as error:
        return str(error)


@app.get("/url/<name>", name="thing")
def url(request: Request, name: str) -> dict[str, Any]:
    return {"url": request.url_for("thing", name=name, q="a b")}


def shown(client: httpx.Client, target: str, **options: Any) -> dict[str, Any]:
    response = client.request(options.pop("method", "GET"), target, **options)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


# Method, path and URL.


@pytest.mark.parametrize("method", METHODS)
def test_method_is_as_sent(client: httpx.Client, method: str) -> None:
    assert shown(client, "/", method=method)["method"] == method


def test_url_is_put_together_from_host_path_and_query(client: httpx.Client) -> None:
    found = shown(client, "/show/a%20b/%C3%A9?q=a%20b&r=%C3%A9", headers={"Host": "example.com:8080"})
    assert found["path"] == "/show/a b/é"
    assert found["root_path"] == ""
    assert found["scheme"] == "http"
    assert found["host"] == "example.com:8080"
    assert found["query_string"] == "q=a%20b&r=%C3%A9"
    assert found["url"] == "http://example.com:8080/show/a%20b/%C3%A9?q=a%20b&r=%C3%A9"
    assert found["base_url"].rstrip("/") == "http://example.com:8080"
    assert found["parameters"] == {"rest": "a b/é"}
    assert found["route"] == "show"


def test_url_without_query_has_no_question_mark(client: httpx.Client) -> None:
    assert shown(client, "/", headers={"Host": "a"})["url"] == "http://a/"


# RFC 9110 §7.2, RFC 3986 §3.2.2.
@pytest.mark.parametrize("host", ["[::1]", "[::1]:8000", "127.0.0.1", "EXAMPLE.com", "xn--bcher-kva.example"])
def test_host_of_every_kind_is_kept(client: httpx.Client, host: str) -> None:
    found = shown(client, "/show/x", headers={"Host": host})
    assert found["host"].lower() == host.lower()
    assert found["url"].lower() == f"http://{host.lower()}/show/x"


def test_request_without_host_takes_the_servers_name() -> None:
    # RFC 9112 §3.2: HTTP/1.0 knows no Host; PEP 3333, "URL Reconstruction".
    for name, port, expected in (
        ("testserver", "80", "http://testserver/"),
        ("testserver", "8080", "http://testserver:8080/"),
        ("127.0.0.1", "8080", "http://127.0.0.1:8080/"),
        ("::1", "8080", "http://[::1]:8080/"),
        ("::1", "80", "http://[::1]/"),
    ):
        with direct(app, SERVER_NAME=name, SERVER_PORT=port) as client:
            assert shown(_without_host(client), "/")["url"] == expected


def _without_host(client: httpx.Client) -> httpx.Client:
    transport: Any = client._transport
    inner = transport.app

    def app_without_host(environ: dict[str, Any], start_response: Any) -> Any:
        del environ["HTTP_HOST"]
        return inner(environ, start_response)

    transport.app = app_without_host
    return client


def test_script_name_is_the_root_path() -> None:
    with direct(app, SCRIPT_NAME="/outer/app") as client:
        found = shown(client, "/show/x?y=1", headers={"Host": "a"})
    assert (found["root_path"], found["path"]) == ("/outer/app", "/show/x")
    assert found["url"] == "http://a/outer/app/show/x?y=1"
    assert found["base_url"].rstrip("/") == "http://a/outer/app"


def test_url_for_in_a_request_has_the_root_path() -> None:
    with direct(app, SCRIPT_NAME="/outer/ä".encode().decode("latin-1")) as client:
        assert shown(client, "/url/x")["url"] == "/outer/%C3%A4/url/x?q=a+b"


def test_url_for_in_a_request_without_root_path_is_a_path(client: httpx.Client) -> None:
    assert shown(client, "/url/a%20b")["url"] == "/url/a%20b?q=a+b"


def test_https_is_the_scheme_where_the_server_says_so() -> None:
    with direct(app, {"wsgi.url_scheme": "https", "SERVER_PORT": "443"}) as client:
        found = shown(client, "/", headers={"Host": "a"})
    assert (found["scheme"], found["url"]) == ("https", "https://a/")


def test_client_is_where_the_request_came_from(client: httpx.Client) -> None:
    host, port = shown(client, "/")["client"]
    assert host == "127.0.0.1"
    assert port is None or 0 < port < 65536


def test_client_is_none_where_the_server_does_not_tell() -> None:
    # RFC 3875 §4.1.8 has an address always; Unix sockets have none, and servers leave it empty.
    with direct(app, REMOTE_ADDR="", REMOTE_PORT="") as client:
        assert shown(client, "/")["client"] is None


def test_client_port_that_is_no_number_is_none() -> None:
    with direct(app, REMOTE_ADDR="::1", REMOTE_PORT="") as client:
        assert shown(client, "/")["client"] == ["::1", None]


# RFC 9110 §7.2 and RFC 9112 §3.2: a Host that is none is a bad request; it must not reach the URLs of pages.
@pytest.mark.parametrize("host", ["a b", "a/b", "a?b", "user@a", 'a"', "<a>", "a:x", "[::1", "a,b/", "\xe9"])
def test_host_that_is_none_is_a_bad_request(host: str) -> None:
    with direct(app, HTTP_HOST=host) as client:
        assert client.get("/").status_code == 400
        assert client.get("/body").status_code == 200


# PEP 3333, "Unicode Issues": paths arrive as latin-1; those that are not UTF-8 cannot be understood.
@pytest.mark.parametrize("target", [b"/show/%FF", b"/show/%C3", b"/show/%ED%A0%80", b"/%FF", b"/nowhere/%FF"])
def test_path_that_is_not_utf_8_is_a_bad_request(client: httpx.Client, target: bytes) -> None:
    assert client.get("/", extensions={"target": target}).status_code == 400


# Query.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", {}),
        (b"a=1", {"a": ["1"]}),
        (b"a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        (b"a=", {"a": [""]}),
        (b"a", {"a": [""]}),
        (b"=x", {"": ["x"]}),
        (b"&&a=1&", {"a": ["1"]}),
        (b"a=b+c%2B", {"a": ["b c+"]}),
        (b"a%20b=%C3%A9", {"a b": ["é"]}),
        (b"a=1;b=2", {"a": ["1;b=2"]}),
        (b"a=b=c", {"a": ["b=c"]}),
        # A percent sign that begins no octet stands for itself, as in every browser (WHATWG URL, "percent-decode").
        (b"a=100%", {"a": ["100%"]}),
        (b"a=%zz", {"a": ["%zz"]}),
    ],
)
def test_query_is_decoded(client: httpx.Client, query: bytes, expected: dict[str, list[str]]) -> None:
    found = shown(client, "/", extensions={"target": b"/?" + query})
    assert found["query"] == expected
    assert found["query_string"] == query.decode("latin-1")


@pytest.mark.parametrize("query", [b"a=%FF", b"%C3=1", b"a=%ED%A0%80"])
def test_query_that_is_not_utf_8_is_a_bad_request(client: httpx.Client, query: bytes) -> None:
    assert client.get("/", extensions={"target": b"/?" + query}).status_code == 400


def test_query_of_raw_octets_is_read_as_utf_8() -> None:
    # RFC 3986 §2 allows none of these; servers differ in what they let through.
    with direct(app, QUERY_STRING="a=\xc3\xa9") as client:
        assert client.get("/").json()["query"] == {"a": ["é"]}
    with direct(app, QUERY_STRING="a=\xff") as client:
        assert client.get("/").status_code == 400


def test_query_with_many_fields_is_read_up_to_the_limit(client: httpx.Client) -> None:
    response = client.get("/", extensions={"target": b"/?" + b"&".join([b"a"] * 1000)})
    assert response.json()["query"] == {"a": [""] * 1000}
    response = client.get("/", extensions={"target": b"/?" + b"&".join([b"a"] * 1001)})
    assert response.status_code in (400, 413)


# Header fields and cookies.


def test_header_fields_are_a_mapping_without_case(client: httpx.Client) -> None:
    found = shown(client, "/headers", headers=[("X-One", "1"), ("X-ONE", "2"), ("x-Empty", "")])
    # RFC 9110 §5.3: several fields of a name are joined by commas.
    assert found["x-one"].replace(" ", "") == "1,2"
    assert found.get("x-empty", "") == ""
    assert "content-type" not in found


def test_content_type_is_split_into_its_parts(client: httpx.Client) -> None:
    found = shown(client, "/", method="POST", content=b"x", headers={"Content-Type": "Text/Plain; Charset=UTF-8"})
    assert found["content_type"] == "Text/Plain; Charset=UTF-8"
    assert found["media_type"] == "text/plain"
    assert found["content_length"] == 1


def test_request_without_content_has_no_content_type(client: httpx.Client) -> None:
    found = shown(client, "/")
    assert (found["content_type"], found["media_type"]) == ("", "")
    assert found["content_length"] in (None, 0)


@pytest.mark.parametrize("value", ["x", "-1", "1.0", "+5", "0x10", "\u00b2", "1_0", "9" * 5000])
def test_content_length_that_is_no_number_is_a_bad_request(value: str) -> None:
    # RFC 9110 §8.6: digits only. Servers refuse it; where one does not, it must not become a 500.
    with direct(app, validated=False, CONTENT_LENGTH=value) as client:
        assert client.post("/body").status_code in (400, 413)
        assert client.post("/ignored").status_code == 200


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "1"}),
        ("no equals; =noname; ok=1", {"ok": "1"}),
        ('q="quoted"; ;;', {"q": "quoted"}),
        ("", {}),
    ],
)
def test_cookies_are_read_leniently(client: httpx.Client, field: str, expected: dict[str, str]) -> None:
    assert shown(client, "/cookies", headers={"Cookie": field}) == expected


def test_request_without_cookies_has_none(client: httpx.Client) -> None:
    assert shown(client, "/cookies") == {}


# Bodies.


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_body_is_complete(client: httpx.Client, method: str) -> None:
    content = bytes(range(256)) * 200
    assert client.request(method, "/body", content=content).content == content


def test_body_that_was_not_sent_is_empty(client: httpx.Client) -> None:
    assert client.get("/body").content == b""
    assert client.post("/body").content == b""


def test_body_that_nobody_reads_does_no_harm(client: httpx.Client) -> None:
    for _ in range(2):
        assert client.post("/ignored", content=b"x" * 50_000).text == "not read"


def test_body_at_the_limit_is_taken(client: httpx.Client) -> None:
    assert client.post("/body", content=b"x" * 100_000).status_code == 200


# RFC 9110 §15.5.14.
@pytest.mark.parametrize("path", ["/body", "/text", "/json"])
def test_body_above_the_limit_is_too_large(client: httpx.Client, path: str) -> None:
    response = client.post(path, content=b'"' + b"x" * 100_000 + b'"', headers={"Content-Type": "application/json"})
    assert response.status_code == 413


# gunicorn closes the connection without saying so.
@pytest.mark.parametrize("backend", ["direct", "wsgi", "waitress"], indirect=True)
def test_request_after_one_that_was_too_large_is_answered(client: httpx.Client) -> None:
    for _ in range(2):
        assert client.post("/body", content=b"x" * 100_001).status_code == 413
        assert client.post("/body", content=b"small").content == b"small"


def in_pieces(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


# RFC 9112 §7.1. All three servers hand a chunked body over whole or say `wsgi.input_terminated`.
def test_chunked_body_is_complete(client: httpx.Client) -> None:
    assert client.post("/body", content=in_pieces(b"one", b"two", b"x" * 10_000)).content == b"onetwo" + b"x" * 10_000


def test_chunked_body_above_the_limit_is_too_large(client: httpx.Client) -> None:
    assert client.post("/body", content=in_pieces(*[b"x" * 10_000] * 11)).status_code == 413


def test_chunked_json_is_read(client: httpx.Client) -> None:
    response = client.post("/json", content=in_pieces(b"[1", b",2]"), headers={"Content-Type": "application/json"})
    assert response.json() == {"value": [1, 2]}


def test_input_without_length_and_without_end_is_not_read() -> None:
    # PEP 3333: where CONTENT_LENGTH is missing and nothing promises an end, there is nothing to be read.
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("this would block for ever")

        readline = read  # type: ignore[assignment]

    with direct(app, {"wsgi.input": Endless(), "wsgi.input_terminated": False}, validated=False) as client:
        assert client.get("/body").content == b""


def test_body_that_ends_too_early_is_a_bad_request() -> None:
    with direct(app, {"CONTENT_LENGTH": "10", "wsgi.input": io.BytesIO(b"short")}) as client:
        assert client.post("/body").status_code == 400


# Text: RFC 9110 §8.3.2.
@pytest.mark.parametrize(
    ("content_type", "content", "expected"),
    [
        ("text/plain", "é€".encode(), "utf-8:é€"),
        ("text/plain; charset=utf-8", "é€".encode(), "utf-8:é€"),
        ("text/plain; charset=ISO-8859-1", b"\xe9", "iso-8859-1:é"),
        ('text/plain; charset="windows-1252"', b"\x80", "windows-1252:€"),
        ("text/plain; charset=latin-1; charset=utf-8", b"\xe9", "latin-1:é"),
    ],
)
def test_text_is_decoded_by_its_charset(client: httpx.Client, content_type: str, content: bytes, expected: str) -> None:
    response = client.post("/text", content=content, headers={"Content-Type": content_type})
    assert response.status_code == 200, response.text
    assert response.text.lower() == expected


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("text/plain", b"\xff", {400}),
        ("text/plain; charset=ascii", b"\xe9", {400}),
        # No character of this charset.
        ("text/plain; charset=windows-1252", b"\x81", {400}),
        ("text/plain; charset=nonsense", b"x", {415}),
        # Python's codecs that are no character sets, or none that the web has.
        ("text/plain; charset=hex", b"41", {415}),
        ("text/plain; charset=zlib", b"x", {415}),
        ("text/plain; charset=idna", b"xn--\xff", {415}),
        ("text/plain; charset=undefined", b"x", {415}),
        ("text/plain; charset=unicode-escape", b"x", {415}),
        ("text/plain; charset=utf-7", b"x", {415}),
        # Quadratic: a body within the limits would take hours.
        ("text/plain; charset=punycode", b"ab-" + b"a" * 90_000, {415}),
        ("text/plain; charset=", b"x", {200, 400, 415}),
        ("text/plain; charset=\xff", b"x", {400, 415}),
        ("text/plain; charset=utf-8\x00", b"x", {400, 415}),
    ],
)
def test_text_that_cannot_be_decoded_is_the_clients_fault(content_type: str, content: bytes, status: set[int]) -> None:
    with direct(app, validated=False) as client:
        headers = [(b"Content-Type", content_type.encode("latin-1"))]
        assert client.post("/text", content=content, headers=headers).status_code in status


# JSON: RFC 8259.


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"])
def test_json_is_read(client: httpx.Client, media_type: str) -> None:
    document = {"a": [1, 2.5, None, True, "é€𝄞"], "": {}}
    content = json.dumps(document, ensure_ascii=False).encode()
    response = client.post("/json", content=content, headers={"Content-Type": media_type})
    assert response.json() == {"value": document}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"{]",
        b"nul",
        b"'a'",
        b'{"a": 1,}',
        b"1 2",
        b"[" * 50_000,
        b'{"a":' * 15_000,
        b"[" * 40_000 + b"]" * 40_000,
        b'"\xff"',
        b"\xff\xfe",
        b'"\x00"',
        # RFC 8259 §6: "Numeric values that cannot be represented in the grammar below (such as Infinity and NaN)".
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        # Beyond a double, and so nothing that could be written again.
        b"1e999",
        # Python refuses to convert so long a number, with a ValueError of its own.
        b"9" * 5000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_malformed_json_is_a_bad_request(client: httpx.Client, content: bytes) -> None:
    response = client.post("/json", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    # The parser's own words must not show the body back.
    assert "Traceback" not in response.text


def test_json_with_byte_order_mark_is_read_or_refused(client: httpx.Client) -> None:
    # RFC 8259 §8.1: a parser MAY ignore the mark rather than treating it as an error.
    response = client.post("/json", content=b'\xef\xbb\xbf{"a":1}', headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400)


def test_json_with_a_repeated_charset_is_read_by_one_of_them(client: httpx.Client) -> None:
    for content_type in (
        "application/json; charset=utf-8; charset=utf-8",
        "application/json; charset=utf-8; charset=x",
    ):
        response = client.post("/json", content=b'"x"', headers={"Content-Type": content_type})
        assert response.status_code in (200, 400, 415)


def test_json_with_surrogates_does_not_break_the_answer(client: httpx.Client) -> None:
    # RFC 8259 §8.2: unpaired surrogates; the echo must survive or be refused.
    response = client.post("/json", content=rb'"\ud800"', headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400)


def test_json_with_repeated_names_takes_the_last(client: httpx.Client) -> None:
    # RFC 8259 §4: "many implementations report the last name/value pair only".
    response = client.post("/json", content=b'{"a":1,"a":2}', headers={"Content-Type": "application/json"})
    assert response.json() == {"value": {"a": 2}}


# RFC 9110 §15.5.16.
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"])
def test_json_under_another_media_type_is_unsupported(client: httpx.Client, media_type: str) -> None:
    response = client.post("/json", content=b"{}", headers={"Content-Type": media_type})
    assert response.status_code == 415


def test_json_without_media_type_is_unsupported(client: httpx.Client) -> None:
    assert client.post("/json", content=b"{}").status_code == 415


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/json", True),
        ("application/problem+json", True),
        ("APPLICATION/JSON;x=1", True),
        ("text/plain", False),
        ("", False),
    ],
)
def test_is_json_tells_by_the_media_type(client: httpx.Client, media_type: str, expected: bool) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    assert shown(client, "/", method="POST", content=b"{}", headers=headers)["is_json"] is expected


@pytest.mark.parametrize(
    ("accept", "content_type", "expected"),
    [
        ("application/json", "", True),
        ("application/json, text/html;q=0.9", "", True),
        ("text/html, application/json;q=0.9", "", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", False),
        ("*/*", "application/json", True),
        ("*/*", "", False),
        ("*/*", "application/x-www-form-urlencoded", False),
        ("text/plain", "application/json", False),
    ],
)
def test_wants_json_tells_by_accept_and_then_by_what_was_sent(
    client: httpx.Client, accept: str, content_type: str, expected: bool
) -> None:
    headers = {"Accept": accept, **({"Content-Type": content_type} if content_type else {})}
    assert shown(client, "/", method="POST", content=b"{}", headers=headers)["wants_json"] is expected


# Streams.


def test_stream_is_read_in_pieces(client: httpx.Client) -> None:
    found = shown(client, "/stream/400", method="POST", content=b"x" * 1000)
    assert sum(found["pieces"]) == 1000
    assert max(found["pieces"]) <= 400
    assert found["after"] == 0


def test_stream_is_read_whole_and_no_further(client: httpx.Client) -> None:
    assert client.post("/stream/whole", content=b"abc").content == b"abc"
    assert client.post("/stream/whole").content == b""


def test_stream_is_read_by_lines(client: httpx.Client) -> None:
    assert client.post("/stream/lines", content=b"one\ntwo\n\nlast").json() == ["one\n", "two\n", "\n", "last"]


def test_stream_line_has_a_limit(client: httpx.Client) -> None:
    assert client.post("/stream/limited-line", content=b"abcde\nf").json() == ["abc", "de\n", "f"]


def test_chunked_stream_is_read_in_pieces(client: httpx.Client) -> None:
    found = shown(client, "/stream/400", method="POST", content=in_pieces(b"x" * 600, b"y" * 400))
    assert sum(found["pieces"]) == 1000


def test_stream_is_not_bound_by_the_limit_of_the_body(client: httpx.Client) -> None:
    # Whoever streams does so because it is large.
    assert len(client.post("/stream/whole", content=b"x" * 200_000).content) == 200_000


# Negotiation.


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {"type": "text/html", "language": "de"}),
        ({"Accept": "application/json"}, {"type": "application/json"}),
        ({"Accept": "text/*;q=0.1, application/json;q=0.2"}, {"type": "application/json"}),
        ({"Accept": "image/png"}, {"type": None}),
        ({"Accept-Encoding": "gzip, br;q=0.5"}, {"encoding": "gzip"}),
        ({"Accept-Encoding": "identity"}, {"encoding": None}),
        ({"Accept-Language": "en-GB, de;q=0.1"}, {"language": "en"}),
        ({"Accept-Language": "fr"}, {"language": None}),
    ],
)
def test_best_offer_is_chosen(client: httpx.Client, headers: dict[str, str], expected: dict[str, Any]) -> None:
    found = shown(client, "/accepts", headers=headers)
    assert expected.items() <= found.items()


# The rest.


def test_state_is_the_requests_own(client: httpx.Client) -> None:
    for _ in range(2):
        found = shown(client, "/state")
        assert found == {"before": None, "after": "ada", "app": "from the application"}


def test_state_that_was_never_set_is_an_attribute_error() -> None:
    assert not hasattr(WSGIApplication().state, "missing")
    with pytest.raises(AttributeError, match="missing"):
        _ = WSGIApplication().state.missing


def test_client_that_waits_is_not_disconnected(client: httpx.Client) -> None:
    assert shown(client, "/connected") == {"disconnected": False}


def test_client_that_left_is_disconnected_where_the_server_tells() -> None:
    with direct(app, {"wsgi.client_disconnected": lambda: True}) as client:
        assert shown(client, "/connected") == {"disconnected": True}


def test_session_without_middleware_says_what_is_missing(client: httpx.Client) -> None:
    assert "SessionMiddleware" in client.get("/session").text


def test_broken_utf_8_in_a_header_does_not_fail(client: httpx.Client) -> None:
    response = client.get("/headers", headers=[(b"X-Raw", b"\xff\xfe")])
    assert response.status_code == 200
    assert response.json()["x-raw"] == "\xff\xfe"


def test_bad_request_raised_by_reading_can_be_caught() -> None:
    own = WSGIApplication()

    @own.post("/")
    def handler(request: Request) -> str:
        with pytest.raises(BadRequest) as caught:
            request.json()
        return caught.value.detail

    with direct(own) as client:
        response = client.post("/", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    assert response.text != ""


def test_environ_is_the_servers_own() -> None:
    own = WSGIApplication()
    seen: list[dict[str, Any]] = []

    @own.get("/")
    def handler(request: Request) -> str:
        seen.append(request.environ)
        return ""

    with direct(own, {"x.thing": "here"}) as client:
        client.get("/")
    assert seen[0]["x.thing"] == "here"


def test_limits_cannot_be_changed() -> None:
    limits: Any = Limits()
    assert limits.body == 16 * 1024 * 1024
    with pytest.raises(AttributeError):
        limits.body = 1


def test_random_requests_are_answered_and_never_fail(caplog: pytest.LogCaptureFixture) -> None:
    random_source = random.Random(3333)
    hostile = [
        "",
        "\x00",
        "%",
        "%zz",
        "\xff",
        "\xc3\xa9",
        "a",
        "/",
        "//",
        "..",
        ";",
        "=",
        "&",
        ",",
        '"',
        "\\",
        " ",
        "\t",
        "*",
        "q=",
        "1e9",
    ]
    types = [
        "application/json",
        "text/plain",
        "charset=",
        "utf-8",
        "utf-16",
        "hex",
        "idna",
        "+json",
        "multipart/form-data",
        "boundary=",
    ]
    contents = ["{", "}", "[", "]", '"', ":", ",", "1", "e9", "null", "\\u", "d800", "\xff", "\xed\xa0\x80", "-", "NaN"]
    fields = [
        "HTTP_ACCEPT",
        "HTTP_ACCEPT_ENCODING",
        "HTTP_ACCEPT_LANGUAGE",
        "HTTP_COOKIE",
        "HTTP_HOST",
        "HTTP_X",
        "REMOTE_PORT",
    ]
    paths = [
        "/",
        "/show/",
        "/headers",
        "/cookies",
        "/body",
        "/text",
        "/json",
        "/accepts",
        "/url/",
        "/stream/",
        "/connected",
    ]

    def mixed(*stocks: list[str]) -> str:
        stock = [piece for stock in stocks for piece in stock]
        return "".join(random_source.choices(stock, k=random_source.randrange(8)))

    for _ in range(3000):
        content = mixed(contents, hostile).encode("latin-1")
        variables = {
            "REQUEST_METHOD": random_source.choice([*METHODS, "HEAD", "OPTIONS", "get", "X"]),
            "SCRIPT_NAME": random_source.choice(["", "", "/a", "/\xff", "/%?#"]),
            "PATH_INFO": random_source.choice(["", *paths]) + mixed(hostile),
            "QUERY_STRING": mixed(hostile),
            "CONTENT_TYPE": random_source.choice(["", *types]) + mixed(types, hostile),
            "CONTENT_LENGTH": random_source.choice([str(len(content)), "", "0", str(len(content) + 1), mixed(hostile)]),
            "wsgi.input": io.BytesIO(content),
            **{field: mixed(hostile, types) for field in random_source.sample(fields, 3)},
        }
        status, headers, body = Direct(app, variables, validated=False).answer()
        assert re.fullmatch("[2-4][0-9]{2} [ -~]+", status), (status, variables, caplog.text)
        for name, value in headers:
            assert re.fullmatch("[!-~]+", name)
            assert not re.search(r"[\x00-\x08\x0a-\x1f]", value)
        assert b"Traceback" not in body


def test_charset_that_is_not_known_is_not_looked_for() -> None:
    # Python keeps every name that it did not find, for ever.
    asked: list[str] = []
    search = asked.append
    codecs.register(search)
    try:
        with direct(app) as client:
            for number in range(3):
                headers = {"Content-Type": f"text/plain; charset=unheard-of-{number}"}
                assert client.post("/text", content=b"x", headers=headers).status_code == 415
    finally:
        codecs.unregister(search)
    assert asked == []


@pytest.mark.parametrize("part", ["query", "form", "files"])
def test_field_that_is_missing_is_a_bad_request_and_a_key_error(part: str) -> None:
    own = WSGIApplication()

    @own.post("/caught")
    def caught(request: Request) -> str:
        fields = getattr(request, part)
        assert (fields.get("name"), "name" in fields) == (None, False)
        with pytest.raises(MissingField) as missing:
            fields["name"]
        return ", ".join(sorted(kind.__name__ for kind in (BadRequest, KeyError) if isinstance(missing.value, kind)))

    @own.post("/raised")
    def raised(request: Request) -> str:
        return str(getattr(request, part)["name"])

    with direct(own) as client:
        assert client.post("/caught", data={"other": "x"}).text == "BadRequest, KeyError"
        response = client.post("/raised", data={"other": "x"})
    assert response.status_code == 400
    assert "'name' is missing" in response.text


@pytest.mark.parametrize("limit", ["body", "form", "fields", "spool"])
@pytest.mark.parametrize("value", [-1, 1.5, "10", None])
def test_limit_that_is_none_is_refused(limit: str, value: Any) -> None:
    with pytest.raises(ValueError, match=limit):
        Limits(**{limit: value})
    assert getattr(Limits(**{limit: 0}), limit) == 0
