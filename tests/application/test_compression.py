"""Responses leave compressed where that helps."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from wsgi.application import (
    EventStreamResponse,
    FileResponse,
    PlainTextResponse,
    Request,
    Response,
    StreamingResponse,
    WSGIApplication,
)
from wsgi.application.middleware import GzipMiddleware

TEXT = "All work and no play. " * 200
GZIP = {"Accept-Encoding": "gzip"}

app = WSGIApplication(middleware=[GzipMiddleware()])


@app.get("/text")
def text(request: Request) -> PlainTextResponse:
    return PlainTextResponse(TEXT, headers={"ETag": '"v1"', "Vary": "Cookie", "Accept-Ranges": "bytes"})


@app.get("/stream")
def stream(request: Request) -> StreamingResponse:
    pieces: list[str | bytes] = ["Grüße", "", b" an ", "alle"]
    return StreamingResponse(iter(pieces))


@app.get("/file")
def file(request: Request) -> FileResponse:
    return FileResponse(Path(__file__))


@app.get("/events")
def events(request: Request) -> EventStreamResponse:
    return EventStreamResponse(iter(["one"]))


def mounted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 Quite OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(TEXT)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [TEXT.encode()]


app.mount("/mounted", mounted)


def test_text_is_compressed_for_who_accepts_it(client: httpx.Client) -> None:
    response = client.get("/text", headers=GZIP)
    assert response.text == TEXT
    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) < len(TEXT) // 10
    # RFC 9110 §8.8.3.3: other bytes cannot have the same strong tag.
    assert response.headers["ETag"] == 'W/"v1"'
    assert response.headers["Vary"] == "Cookie, Accept-Encoding"
    assert "Accept-Ranges" not in response.headers


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "gzip;q=0.5, identity", "*;q=0", ""])
def test_text_stays_for_who_does_not_but_varies(client: httpx.Client, accepted: str) -> None:
    response = client.get("/text", headers={"Accept-Encoding": accepted})
    assert response.text == TEXT
    assert "Content-Encoding" not in response.headers
    assert response.headers["Content-Length"] == str(len(TEXT))
    assert response.headers["ETag"] == '"v1"'
    assert response.headers["Vary"] == "Cookie, Accept-Encoding"


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.8", "*", "x-gzip", "GZIP", "gzip, identity;q=0.5"])
def test_weights_are_heeded(client: httpx.Client, accepted: str) -> None:
    assert client.get("/text", headers={"Accept-Encoding": accepted}).headers["Content-Encoding"] == "gzip"


def test_head_has_the_fields_of_get(client: httpx.Client) -> None:
    for path in ("/text", "/stream", "/mounted"):
        got, head = client.get(path, headers=GZIP), client.head(path, headers=GZIP)
        assert head.content == b""
        names = ("Content-Encoding", "Content-Length", "Vary", "ETag")
        assert [head.headers.get(name) for name in names] == [got.headers.get(name) for name in names]


def test_stream_is_compressed(client: httpx.Client) -> None:
    response = client.get("/stream", headers=GZIP)
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.text == "Grüße an alle"


def test_mounted_application_is_compressed(client: httpx.Client) -> None:
    response = client.get("/mounted", headers=GZIP)
    assert (response.headers["Content-Encoding"], response.text) == ("gzip", TEXT)


@pytest.mark.parametrize("path", ["/file", "/events"])
def test_files_and_event_streams_stay(client: httpx.Client, path: str) -> None:
    response = client.get(path, headers=GZIP)
    assert response.status_code == 200
    assert "Content-Encoding" not in response.headers


def answer(response: Response, **options: Any) -> Response:
    app = WSGIApplication()
    request = Request({"REQUEST_METHOD": "GET", "HTTP_ACCEPT_ENCODING": "gzip"}, app)
    return GzipMiddleware(**options)(request, lambda request: response)


@pytest.mark.parametrize(
    "response",
    [
        Response(TEXT[:1023]),
        Response(TEXT, 206),
        Response(TEXT, 204),
        Response(TEXT, 205),
        Response(TEXT, 304),
        Response(TEXT, headers={"Content-Encoding": "br"}),
        Response(TEXT, headers={"Cache-Control": "max-age=5, No-Transform"}),
        Response(TEXT.encode(), media_type="image/png"),
        Response(TEXT.encode(), media_type="application/zip"),
        Response(TEXT.encode()),
        Response(),
        StreamingResponse([b"x"], headers={"Content-Length": "1"}),
        StreamingResponse([b"x"], media_type="video/mp4"),
    ],
    ids=lambda response: f"{response.status} {dict(response.headers.items())}",
)
def test_what_would_not_gain_or_must_not_change_stays(response: Response) -> None:
    body, headers = response.body, response.headers.items()
    assert answer(response).body == body
    assert response.headers.items() == headers


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/problem+json; charset=x", "image/svg+xml", "TEXT/CSS", "font/ttf"]
)
def test_types_that_compress_are_compressed(media_type: str) -> None:
    response = answer(Response(TEXT.encode(), media_type=media_type))
    assert gzip.decompress(response.body) == TEXT.encode()


def test_options_say_what_is_compressed() -> None:
    options: dict[str, Any] = {"minimum_size": 10, "level": 1, "media_types": ["application/x-maps", "audio/*"]}
    assert answer(Response(b"m" * 10, media_type="application/x-maps"), **options).headers["Content-Encoding"]
    assert answer(Response(b"m" * 10, media_type="audio/midi"), **options).headers["Content-Encoding"]
    assert "Content-Encoding" not in answer(Response("m" * 10), **options).headers


def test_weak_tag_stays_weak() -> None:
    assert answer(Response(TEXT, headers={"ETag": 'W/"a"'})).headers["ETag"] == 'W/"a"'


@pytest.mark.parametrize("level", [0, 10, -1])
def test_level_that_does_not_exist_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match="level"):
        GzipMiddleware(level=level)


class Pieces:
    """Pieces that know how many were asked for, and whether they were closed."""

    def __init__(self) -> None:
        self.asked = self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in (b"first ", b"second ", b"third"):
            self.asked += 1
            yield piece

    def close(self) -> None:
        self.closed += 1


def sent(pieces: Pieces) -> Any:
    response = answer(StreamingResponse(pieces))
    return response({"REQUEST_METHOD": "GET"}, lambda status, headers: None)


def test_stream_withholds_no_piece() -> None:
    pieces = Pieces()
    content = sent(pieces)
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    seen = []
    for number, piece in enumerate(content, 1):
        seen.append(reader.decompress(piece))
        assert pieces.asked == min(number, 3)
    assert seen == [b"first ", b"second ", b"third", b""]
    assert reader.eof


@pytest.mark.parametrize("read", [0, 1, 10])
def test_stream_is_closed_however_much_was_read(read: int) -> None:
    pieces = Pieces()
    content = sent(pieces)
    for _, _ in zip(range(read), content, strict=False):
        pass
    content.close()
    assert pieces.closed == 1
