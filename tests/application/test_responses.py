"""What handlers may return, and how it leaves."""

from __future__ import annotations

import dataclasses
import http
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.application.switchboard import Direct, direct, servers_only
from tests.server.recording import eventually
from wsgi.application import (
    EventStreamResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    ServerSentEvent,
    StreamingResponse,
    WSGIApplication,
    redirect,
)
from wsgi.application.errors import ResponseError

SECRET = "s3cret"
METHODS = ("GET", "POST")
app = WSGIApplication()


class Content:
    """Pieces that count their closes."""

    begun = 0
    closed = 0
    lock = threading.Lock()

    def __init__(self, pieces: Iterator[str | bytes]) -> None:
        self.pieces = pieces
        with self.lock:
            Content.begun += 1

    def __iter__(self) -> Iterator[str | bytes]:
        return self.pieces

    def close(self) -> None:
        with self.lock:
            Content.closed += 1


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 65536


def gone_wrong() -> Iterator[str]:
    yield "a"
    raise ValueError(SECRET)


@dataclasses.dataclass
class Point:
    x: int
    y: int


RESULTS: dict[str, Callable[[], Any]] = {
    "text": lambda: "é",
    "empty-text": lambda: "",
    "bytes": lambda: b"\xff",
    "empty-bytes": lambda: b"",
    "dict": lambda: {"a": "é", "b": [1, None]},
    "list": lambda: [1, 2],
    "empty-list": list,
    "pair": lambda: ("made", 201),
    "pair-of-status-object": lambda: ("made", http.HTTPStatus.CREATED),
    "triple": lambda: ({"a": 1}, 202, {"X-Thing": "1"}),
    "triple-of-pairs": lambda: ("", 200, [("X-Thing", "1"), ("X-Thing", "2")]),
    "triple-with-type": lambda: ("<p>", 200, {"Content-Type": "text/html"}),
    "response-in-pair": lambda: (HTMLResponse("<p>"), 201),
    "no-content": lambda: ("", 204),
    "not-modified": lambda: Response("x", 304, {"ETag": '"a"'}),
    "reset-content": lambda: Response("x", 205),
    "generator": lambda: (piece for piece in ("a", "", "é")),
    "generator-of-bytes": lambda: (piece for piece in (b"a", b"\xff")),
    "empty-generator": lambda: iter(()),
    "stream": lambda: StreamingResponse(["a", b"b"], 201, {"X-Thing": "1"}, media_type="text/csv"),
    "stream-with-length": lambda: StreamingResponse([b"abc"], headers={"Content-Length": "3"}),
    "stream-reset-content": lambda: StreamingResponse(Content(iter(["x"])), 205, {"Content-Length": "1"}),
    "reset-content-with-length": lambda: Response("x", 205, {"content-length": "1"}),
    "stream-not-modified": lambda: StreamingResponse(Content(iter(["x"])), 304),
    "plain": lambda: PlainTextResponse("é"),
    "html": lambda: HTMLResponse("<p>é"),
    "json": lambda: JSONResponse({"a": 1}),
    "json-null": lambda: JSONResponse(None),
    "json-problem": lambda: JSONResponse({}, 400, media_type="application/problem+json"),
    "json-rich": lambda: JSONResponse(
        {
            "date": date(2020, 1, 2),
            "time": datetime(2020, 1, 2, tzinfo=timezone.utc),
            "id": uuid.UUID(int=1),
            "decimal": Decimal("1.10"),
            "point": Point(1, 2),
        }
    ),
    "bare": Response,
    "typed": lambda: Response(b"x", media_type="image/png"),
    "redirect": lambda: redirect("/elsewhere"),
    "redirect-308": lambda: RedirectResponse("/elsewhere?a=1#b", 308),
    "unknown-status": lambda: Response("x", 299),
    "wrong-length": lambda: Response("four", headers={"Content-Length": "99"}),
    "empty-wrong-length": lambda: Response(b"", headers={"Content-Length": "99"}),
    "lone-surrogate": lambda: {"a": "\ud800"},
    "events": lambda: EventStreamResponse(["a\nb", {"c": 1}, ServerSentEvent("d", event="e", id="1", retry=5)]),
    "counted": lambda: StreamingResponse(Content(iter(["a", "b"]))),
    "endless": lambda: StreamingResponse(Content(endless())),
    "gone-wrong": lambda: StreamingResponse(Content(gone_wrong())),
}


@app.route("/result/<name>", methods=METHODS)
def result(request: Request, name: str) -> Any:
    return RESULTS[name]()


@app.get("/counts")
def counts(request: Request) -> dict[str, int]:
    return {"begun": Content.begun, "closed": Content.closed}


@app.get("/cookies")
def cookies(request: Request) -> Response:
    response = PlainTextResponse("x")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", max_age=60, http_only=True, secure=True, same_site="Strict", domain="example.com")
    response.delete_cookie("c", path="/x")
    return response


def answer(make: Callable[[], Any], method: str = "GET") -> httpx.Response:
    """What a handler that returns `make()` answers, without a server."""
    own = WSGIApplication()

    def handler(request: Request) -> Any:
        return make()

    own.add_route("/", handler, methods=METHODS)
    with direct(own) as client:
        return client.request(method, "/")


# Kinds of results.


@pytest.mark.parametrize(
    ("name", "status", "content_type", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", "é".encode()),
        ("empty-text", 200, "text/plain; charset=utf-8", b""),
        ("bytes", 200, "application/octet-stream", b"\xff"),
        ("dict", 200, "application/json", '{"a":"é","b":[1,null]}'.encode()),
        ("list", 200, "application/json", b"[1,2]"),
        ("empty-list", 200, "application/json", b"[]"),
        ("pair", 201, "text/plain; charset=utf-8", b"made"),
        ("pair-of-status-object", 201, "text/plain; charset=utf-8", b"made"),
        ("triple", 202, "application/json", b'{"a":1}'),
        ("triple-with-type", 200, "text/html", b"<p>"),
        ("response-in-pair", 201, "text/html; charset=utf-8", b"<p>"),
        ("generator", 200, "text/plain; charset=utf-8", "aé".encode()),
        ("generator-of-bytes", 200, None, b"a\xff"),
        ("empty-generator", 200, None, b""),
        ("stream", 201, "text/csv; charset=utf-8", b"ab"),
        ("stream-with-length", 200, None, b"abc"),
        ("plain", 200, "text/plain; charset=utf-8", "é".encode()),
        ("html", 200, "text/html; charset=utf-8", "<p>é".encode()),
        ("json", 200, "application/json", b'{"a":1}'),
        ("json-null", 200, "application/json", b"null"),
        ("json-problem", 400, "application/problem+json", b"{}"),
        ("typed", 200, "image/png", b"x"),
        ("unknown-status", 299, "text/plain; charset=utf-8", b"x"),
    ],
)
def test_result_becomes_a_response(
    client: httpx.Client, name: str, status: int, content_type: str | None, body: bytes
) -> None:
    response = client.get(f"/result/{name}")
    assert response.status_code == status
    assert response.content == body
    assert content_type in (None, response.headers["Content-Type"])


# RFC 9112 §6: a body at hand has a length, so that connections stay open.
@pytest.mark.parametrize("name", ["text", "empty-text", "bytes", "dict", "html", "redirect", "bare", "reset-content"])
def test_response_at_hand_says_its_length(client: httpx.Client, name: str) -> None:
    response = client.get(f"/result/{name}")
    assert response.headers.get_list("Content-Length") == [str(len(response.content))]


# RFC 9110 §9.3.2: the fields of GET, and no content.
@pytest.mark.parametrize(
    "name", ["text", "bytes", "dict", "generator", "stream", "html", "redirect", "pair", "events", "stream-with-length"]
)
def test_head_is_answered_like_get_without_content(client: httpx.Client, name: str) -> None:
    # gunicorn and waitress frame a streamed answer to HEAD as they like; the application's own fields are compared.
    hidden = {"date", "server", "via", "connection", "transfer-encoding", "keep-alive"}
    got, head = client.get(f"/result/{name}"), client.head(f"/result/{name}")
    assert head.status_code == got.status_code
    assert head.content == b""
    own = [{n: v for n, v in response.headers.items() if n not in hidden} for response in (got, head)]
    if name in ("generator", "stream", "events"):
        own = [{n: v for n, v in fields.items() if n != "content-length"} for fields in own]
    assert own[0] == own[1]


def test_wrong_length_is_set_right(client: httpx.Client) -> None:
    for name, length in (("wrong-length", "4"), ("empty-wrong-length", "0")):
        assert client.get(f"/result/{name}").headers.get_list("Content-Length") == [length]


# RFC 9110 §15.3.5 and §15.4.5.
@pytest.mark.parametrize(("name", "status"), [("no-content", 204), ("not-modified", 304), ("stream-not-modified", 304)])
def test_response_without_content_has_no_type_and_no_body(client: httpx.Client, name: str, status: int) -> None:
    response = client.get(f"/result/{name}")
    assert response.status_code == status
    assert response.content == b""
    assert "Content-Type" not in response.headers
    if name == "not-modified":
        assert response.headers["ETag"] == '"a"'


def test_204_has_no_length() -> None:
    # RFC 9110 §8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of … 204".
    assert "Content-Length" not in answer(lambda: Response("x", 204, {"Content-Length": "1"})).headers


@pytest.mark.parametrize("name", ["reset-content", "reset-content-with-length", "stream-reset-content"])
@pytest.mark.parametrize("method", METHODS)
def test_reset_content_has_no_content_and_says_so(client: httpx.Client, method: str, name: str) -> None:
    # RFC 9110 §15.3.6. A client would wait for what a length promises.
    response = client.request(method, f"/result/{name}")
    assert (response.status_code, response.content) == (205, b"")
    assert response.headers.get_list("Content-Length") == ["0"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_body_that_is_set_later_is_sent_as_if_it_was_given(method: str) -> None:
    def sent(body: Any) -> httpx.Response:
        def make() -> Response:
            response = PlainTextResponse("before", headers={"X-A": "1"})
            response.body = body
            return response

        return answer(make, method)

    for body in ("aé", "aé".encode()):
        answered = sent(body)
        assert answered.headers["Content-Length"] == "3"
        assert answered.content == (b"" if method == "HEAD" else "aé".encode())
    for other in (None, 5, ["x"]):
        # Before anything was sent, and not in the midst of it.
        assert sent(other).status_code == 500


def test_empty_response_is_a_response(client: httpx.Client) -> None:
    for name in ("bare", "empty-bytes"):
        response = client.get(f"/result/{name}")
        assert (response.status_code, response.content) == (200, b"")


def test_fields_of_a_triple_are_added(client: httpx.Client) -> None:
    assert client.get("/result/triple").headers["X-Thing"] == "1"
    assert client.get("/result/triple-of-pairs").headers.get_list("X-Thing") == ["1", "2"]


def test_json_takes_dates_uuids_decimals_and_dataclasses(client: httpx.Client) -> None:
    assert client.get("/result/json-rich").json() == {
        "date": "2020-01-02",
        "time": "2020-01-02T00:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
        "decimal": "1.10",
        "point": {"x": 1, "y": 2},
    }


def test_json_with_a_lone_surrogate_is_sent_escaped(client: httpx.Client) -> None:
    assert client.get("/result/lone-surrogate").content == rb'{"a":"\ud800"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, {(1, 2): 3}, Point])
def test_json_of_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        JSONResponse(value)


def test_text_is_never_a_page(client: httpx.Client) -> None:
    # What is echoed must not be run by a browser.
    assert client.get("/result/text").headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        1.5,
        True,
        object(),
        Response,
        ("x",),
        ("x", 200, {}, 1),
        ("x", "200 OK"),
        ("x", None),
        ("x", 99),
        ("x", 1000),
        ("x", 200, 5),
        (None, 200),
        (("x", 200), 200),
        bytearray(b"x"),
        {1, 2},
    ],
    ids=lambda value: type(value).__name__ if type(value) is object else repr(value),
)
def test_unknown_result_names_handler_and_place(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    own = WSGIApplication()

    @own.get("/")
    def peculiar(request: Request) -> Any:
        return value

    with direct(own) as client:
        assert client.get("/").status_code == 500
    error = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert len(error) == 1
    assert isinstance(error[0], ResponseError)
    assert "peculiar" in str(error[0])
    assert f"{__file__}:{peculiar.__code__.co_firstlineno}" in str(error[0])


# Status.


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 1000, -200, "200", None, 2.5, "200 OK"])
def test_status_out_of_range_is_refused(status: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="status"):
        Response("x", status)


def test_status_set_later_out_of_range_does_not_leave() -> None:
    def make() -> Response:
        response = Response("x")
        response.status = 42
        return response

    try:
        answered = answer(make)
    except (ValueError, KeyError):
        return
    assert answered.status_code == 500


def test_status_without_registered_phrase_has_a_phrase(client: httpx.Client) -> None:
    # RFC 9110 §15: treated as x00 of its class; the line must be well-formed for PEP 3333: a code, a space, a reason.
    assert client.get("/result/unknown-status").reason_phrase != ""


# Fields.


def test_header_injection_is_refused_without_the_value(caplog: pytest.LogCaptureFixture) -> None:
    answered = answer(lambda: ("x", 200, {"X-Thing": f"{SECRET}\r\nSet-Cookie: a=1"}))
    assert answered.status_code == 500
    assert "Set-Cookie" not in answered.headers
    assert SECRET not in answered.text
    assert "X-Thing" in caplog.text
    messages = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert not any(SECRET in message for message in messages)


def test_fields_of_one_response_do_not_stay_in_the_next() -> None:
    own = WSGIApplication()
    shared = {"X-Thing": "1"}

    @own.get("/")
    def handler(request: Request) -> Response:
        response = Response("x", headers=shared)
        response.headers.add("X-Other", "2")
        return response

    with direct(own) as client:
        for _ in range(2):
            assert client.get("/").headers.get_list("X-Other") == ["2"]
    assert shared == {"X-Thing": "1"}


def test_response_that_was_sent_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    # Middleware has written into it what was meant for the visitor before: cookies, for example.
    shared = HTMLResponse("<p>", headers={"X-Thing": "1"})
    assert answer(lambda: shared).content == b"<p>"
    assert answer(lambda: shared).status_code == 500
    assert "makes a new response for each request" in caplog.text


@pytest.mark.parametrize("body", [None, 1, ["x"], bytearray(b"x"), object()])
def test_body_of_another_type_is_refused(body: Any) -> None:
    with pytest.raises(TypeError, match="str or bytes"):
        Response(body)


def test_response_is_a_wsgi_application() -> None:
    transport = Direct(HTMLResponse("<p>", 201))
    response = transport.handle_request(httpx.Request("GET", "http://testserver/"))
    assert (response.status_code, response.read()) == (201, b"<p>")


def test_subclass_in_two_lines_has_its_media_type() -> None:
    class CSVResponse(Response):
        media_type = "text/csv"

    assert CSVResponse("a,b").headers["Content-Type"].startswith("text/csv")
    assert CSVResponse("a,b", media_type="text/plain").headers["Content-Type"].startswith("text/plain")
    assert CSVResponse("a", headers={"content-type": "a/b"}).headers.get_all("Content-Type") == ["a/b"]


def test_response_answers_no_error_at_first() -> None:
    assert Response().error is None


def test_repr_does_not_show_the_body() -> None:
    assert SECRET not in repr(Response(SECRET))


# Cookies: RFC 6265 §4.1.


def test_cookies_are_set_and_deleted(client: httpx.Client) -> None:
    first, second, third = client.get("/cookies").headers.get_list("Set-Cookie")
    assert first == "a=1; Path=/; SameSite=Lax"
    assert second.startswith("b=2; ")
    assert set(second.split("; ")[1:]) == {
        *("Max-Age=60", "Domain=example.com", "Path=/", "Secure", "HttpOnly", "SameSite=Strict")
    }
    assert third.startswith("c=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    assert "Path=/x" in third.split("; ")


@pytest.mark.parametrize(
    ("name", "value"), [("a b", "x"), ("", "x"), ("thing", f"{SECRET};"), ("thing", f"{SECRET}\n")]
)
def test_bad_cookie_is_refused_without_the_value(name: str, value: str) -> None:
    response = Response()
    with pytest.raises(ValueError, match="cookie") as caught:
        response.set_cookie(name, value)
    assert SECRET not in str(caught.value)
    assert "Set-Cookie" not in response.headers


def test_cookie_with_prefix_can_be_deleted() -> None:
    response = Response()
    response.delete_cookie("__Host-a")
    assert "Secure" in response.headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        ({"partitioned": True}, {"Secure", "Partitioned", "SameSite=Lax"}),
        ({"same_site": "None"}, {"Secure", "SameSite=None"}),
        ({"same_site": "Strict", "domain": "example.com"}, {"SameSite=Strict", "Domain=example.com"}),
        ({"same_site": None}, set()),
        ({"secure": True}, {"Secure", "SameSite=Lax"}),
    ],
)
def test_cookie_is_deleted_with_the_attributes_it_was_set_with(options: dict[str, Any], attributes: set[str]) -> None:
    # Browsers keep partitioned cookies apart, and take none for other sites that is not secure.
    response = Response()
    response.delete_cookie("a", **options)
    said = set(response.headers["Set-Cookie"].split("; "))
    assert said - attributes == {"a=", "Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Path=/"}
    assert attributes <= said


# Streams.


def test_stream_has_no_length(client: httpx.Client) -> None:
    response = client.get("/result/generator")
    assert "Content-Length" not in response.headers


class Closes:
    """How many streams were begun and closed since this was made, in the process that serves them."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.before = self.counts()

    def counts(self) -> tuple[int, int]:
        found = self.client.get("/counts").json()
        return found["begun"], found["closed"]

    def are(self, number: int) -> bool:
        begun, closed = self.counts()
        return (begun - self.before[0], closed - self.before[1]) == (number, number)


@servers_only
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_stream_is_closed_exactly_once(client: httpx.Client, method: str) -> None:
    closes = Closes(client)
    client.request(method, "/result/counted")

    eventually(lambda: closes.are(1), "one close for one stream")


@servers_only
def test_stream_is_closed_once_when_the_client_leaves(client: httpx.Client) -> None:
    closes = Closes(client)
    with client.stream("GET", "/result/endless") as response:
        assert next(response.iter_raw(65536))

    eventually(lambda: closes.are(1), "one close for one stream whose client left")


@servers_only
def test_stream_that_fails_midway_is_not_taken_for_whole(client: httpx.Client) -> None:
    closes = Closes(client)
    # RFC 9112 §8: an incomplete message must be recognizable: no last chunk.
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/result/gone-wrong")

    eventually(lambda: closes.are(1), "one close for one stream that failed")


def test_stream_of_something_else_is_refused_where_it_is_made() -> None:
    contents: list[Any] = ["text", b"bytes"]
    for content in contents:
        with pytest.raises(TypeError, match="iterable of pieces"):
            StreamingResponse(content)


def test_stream_of_pieces_of_another_type_fails() -> None:
    pieces: Any = [1]
    with pytest.raises(ResponseError, match="str or bytes, not int"):
        answer(lambda: StreamingResponse(pieces))


def test_stream_that_never_began_is_closed_once() -> None:
    Content.begun = Content.closed = 0
    response = StreamingResponse(Content(iter(["a"])))
    content: Any = response({"REQUEST_METHOD": "GET"}, lambda status, headers: None)
    content.close()
    assert Content.closed == 1


def test_stream_that_the_server_refuses_to_begin_is_closed_once() -> None:
    Content.begun = Content.closed = 0

    def refusing(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> None:
        raise ValueError("not this one")

    response = StreamingResponse(Content(iter(["a"])))
    with pytest.raises(ValueError, match="not this one"):
        response({"REQUEST_METHOD": "GET"}, refusing)
    assert Content.closed == 1


@pytest.mark.parametrize("rest", [("bad",), (99,), (200, {"A": "\n"}), (200, 5)], ids=repr)
def test_generator_of_a_tuple_that_is_refused_does_not_begin(rest: Any, caplog: pytest.LogCaptureFixture) -> None:
    begun = []

    def pieces() -> Iterator[str]:
        begun.append(True)
        yield "a"

    assert answer(lambda: (pieces(), *rest)).status_code == 500
    assert begun == []


@pytest.mark.parametrize("pieces", [[None], [None, "x"], ["x", None], [5]])
def test_piece_that_is_none_is_an_error_wherever_it_stands(pieces: Any) -> None:
    with pytest.raises(ResponseError, match="str or bytes"):
        answer(lambda: iter(pieces))


def test_generator_is_closed_when_the_client_leaves() -> None:
    ended = []

    def pieces() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            ended.append(True)

    content: Any = StreamingResponse(pieces())({"REQUEST_METHOD": "GET"}, lambda status, headers: None)
    assert next(iter(content)) == b"a"
    content.close()
    assert ended == [True]


# Server-sent events: WHATWG HTML §9.2.


def test_events_are_written(client: httpx.Client) -> None:
    response = client.get("/result/events")
    assert response.headers["Content-Type"].partition(";")[0] == "text/event-stream"
    assert "no-" in response.headers["Cache-Control"]
    assert parsed(response.text) == [
        {"data": "a\nb"},
        {"data": '{"c":1}'},
        {"data": "d", "event": "e", "id": "1", "retry": "5"},
    ]


def parsed(text: str) -> list[dict[str, str]]:
    """The events of a stream, by the letter of §9.2.6."""
    events: list[dict[str, str]] = []
    event: dict[str, str] = {}
    assert text == "" or text.endswith("\n\n")
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if event:
                events.append(event)
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name == "data" and "data" in event else value
    return events


@pytest.mark.parametrize(
    "data", ["", "a", "a\nb", "a\r\nb", "a\rb", "\n", "a\n", " a", ": x", "id: 1", "é\u2028\x85\x0b"]
)
def test_event_data_of_every_kind_arrives_whole(data: str) -> None:
    written = ServerSentEvent(data).encode().decode()
    assert parsed(written) == [{"data": data.replace("\r\n", "\n").replace("\r", "\n")}]


@pytest.mark.parametrize("value", ["a\nb", "a\r", "\r\n", "a\0"])
def test_line_break_in_event_or_id_is_refused(value: str) -> None:
    for name in ("event", "id"):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"the {name} of a server-sent event"):
            ServerSentEvent("x", **options)


def test_comment_with_line_breaks_stays_a_comment() -> None:
    written = ServerSentEvent(comment="a\ndata: forged\rdata: too").encode().decode()
    assert parsed(written) == []
    assert all(line.startswith(":") for line in written.splitlines() if line)


def test_event_stream_closes_its_source() -> None:
    Content.begun = Content.closed = 0
    content: Any = EventStreamResponse(Content(iter(["a"])))({"REQUEST_METHOD": "GET"}, lambda status, headers: None)
    assert list(content) == [b"data: a\n\n"]
    content.close()
    assert Content.closed == 1


# Redirections: RFC 9110 §10.2.2, §15.4.


def test_redirect_is_a_see_other(client: httpx.Client) -> None:
    response = client.post("/result/redirect")
    assert (response.status_code, response.headers["Location"]) == (303, "/elsewhere")
    response = client.get("/result/redirect-308")
    assert (response.status_code, response.headers["Location"]) == (308, "/elsewhere?a=1#b")


@pytest.mark.parametrize(
    ("location", "quoted"),
    [
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("https://example.com:8080/a?b=c&d=e#f", "https://example.com:8080/a?b=c&d=e#f"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/a\r\nSet-Cookie: x=1", "/a%0D%0ASet-Cookie:%20x=1"),
        ("relative/../path", "relative/../path"),
        ("?only=query", "?only=query"),
        ("", ""),
    ],
)
def test_location_is_a_uri_reference(location: str, quoted: str) -> None:
    assert redirect(location).headers["Location"] == quoted


@pytest.mark.parametrize("status", [200, 204, 300, 304, 305, 306, 400])
def test_status_that_is_no_redirection_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="redirection"):
        RedirectResponse("/", status)


def test_json_body_is_compact_and_utf_8(client: httpx.Client) -> None:
    content = client.get("/result/dict").content
    assert json.loads(content) == {"a": "é", "b": [1, None]}
    assert b" " not in content
