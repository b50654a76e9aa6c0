"""Files: what is sent of them and when, what is never sent, and that no descriptor stays behind."""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import httpx
import pytest

from tests.application.switchboard import direct
from wsgi.application.app import WSGIApplication
from wsgi.application.errors import Forbidden, HTTPError, NotFound, RouteError
from wsgi.application.files import FileResponse
from wsgi.application.groups import Group
from wsgi.application.headers import http_date
from wsgi.application.request import Request
from wsgi.application.response import Response
from wsgi.application.static import StaticFiles

app = WSGIApplication()

CONTENT = random.Random(3).randbytes(200_000)
CHANGED = 1_000_000_000.5
DATE = "Sun, 09 Sep 2001 01:46:40 GMT"
EARLIER = "Sun, 09 Sep 2001 01:46:39 GMT"
LATER = "Sun, 09 Sep 2001 01:46:41 GMT"


@app.get("/file")
def file(request: Request) -> Response:
    query = request.query
    max_age = query.get("max_age")
    return FileResponse(
        query["path"],
        filename=query.get("filename"),
        inline="attachment" not in query,
        max_age=int(max_age) if max_age else None,
        media_type=query.get("media_type"),
        etag="no_etag" not in query,
    )


@app.get("/memory")
def memory(request: Request) -> Response:
    return FileResponse(io.BytesIO(CONTENT), media_type="text/plain")


@app.get("/temporary")
def temporary(request: Request) -> Response:
    made = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the response
    made.write(CONTENT)
    return FileResponse(made)


class Pipe(io.RawIOBase):
    """A file that cannot seek, and gives little at a time."""

    def __init__(self, content: bytes) -> None:
        self._left = content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        piece, self._left = self._left[:777], self._left[777:]
        return piece


@app.get("/pipe")
def pipe(request: Request) -> Response:
    source: Any = Pipe(CONTENT)
    return FileResponse(source)


@app.get("/vanishing")
def vanishing(request: Request) -> Response:
    response = FileResponse(request.query["path"])
    os.unlink(request.query["path"])
    return response


@app.post("/file")
def posted(request: Request) -> Response:
    return FileResponse(request.query["path"])


@app.get("/missing-page")
def missing_page(request: Request) -> tuple[Response, int]:
    return FileResponse(request.query["path"]), 404


@app.get("/folder/<path:path>")
def folder(request: Request, path: str) -> Response:
    return StaticFiles(request.query["directory"], index=request.query.get("index"), max_age=60)(request, path)


HERE = Path(__file__).parent
app.static("/static", HERE, max_age=3600)
app.static("/indexed", HERE, index=Path(__file__).name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 200,000 bytes, changed in 2001."""
    made = tmp_path / "file.bin"
    made.write_bytes(CONTENT)
    os.utime(made, (CHANGED, CHANGED))
    return made


@pytest.fixture
def get(client: httpx.Client, path: Path) -> Callable[..., httpx.Response]:
    """Asks for the file, with fields: `get(range="bytes=0-1")`."""

    def get(method: str = "GET", **fields: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        # httpx would take an encoded file apart.
        headers.setdefault("accept-encoding", "identity")
        return client.request(method, "/file", params={"path": str(path)}, headers=headers)

    return get


class Sent:
    """What a response sent to a server of our own, under the validator, before it is read."""

    def __init__(
        self,
        response: FileResponse,
        method: str = "GET",
        file_wrapper: Any = FileWrapper,
        **fields: str,
    ) -> None:
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
        setup_testing_defaults(environ)
        environ.update({f"HTTP_{name.upper()}": value for name, value in fields.items()})
        if file_wrapper is not None:
            environ["wsgi.file_wrapper"] = file_wrapper

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            self.status = int(status[:3])
            self.headers = httpx.Headers(headers)
            return lambda data: None

        self.content: Iterable[bytes] = validator(response)(environ, start_response)

    def close(self) -> None:
        self.content.close()  # type: ignore[attr-defined]

    def read(self) -> bytes:
        try:
            return b"".join(self.content)
        finally:
            self.close()


# Whole files


def test_file_is_sent_with_what_clients_need(get: Callable[..., httpx.Response]) -> None:
    answer = get()
    assert (answer.status_code, answer.content == CONTENT) == (200, True)
    assert answer.headers["content-length"] == "200000"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["last-modified"] == DATE
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"].startswith('"')
    assert not {"content-disposition", "cache-control", "content-range"} & set(answer.headers)


def test_head_has_the_fields_of_get(get: Callable[..., httpx.Response]) -> None:
    # RFC 9110 §9.3.2; §14.2: no ranges.
    answer, head = get(), get("HEAD", range="bytes=0-1")
    kept = {"date", "connection", "server", "keep-alive"}
    assert head.status_code == 200
    assert {k: v for k, v in head.headers.items() if k not in kept} == {
        k: v for k, v in answer.headers.items() if k not in kept
    }


def test_empty_file_is_sent(get: Callable[..., httpx.Response], path: Path) -> None:
    path.write_bytes(b"")
    for fields in ({}, {"range": "bytes=0-"}, {"range": "bytes=-5"}):
        answer = get(**fields)
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("route", ["/memory", "/temporary"])
def test_open_file_is_sent_from_its_beginning(client: httpx.Client, route: str) -> None:
    answer = client.get(route)
    assert (answer.content == CONTENT, answer.headers["content-length"]) == (True, "200000")
    part = client.get(route, headers={"Range": "bytes=100000-100009"})
    assert (part.status_code, part.content) == (206, CONTENT[100_000:100_010])
    assert client.get(route, headers={"Range": "bytes=-10"}).content == CONTENT[-10:]
    assert client.head(route).headers["content-length"] == "200000"


def test_file_that_cannot_seek_is_streamed(client: httpx.Client) -> None:
    answer = client.get("/pipe", headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content == CONTENT) == (200, True)
    assert "accept-ranges" not in answer.headers


def test_file_for_post_knows_no_conditions(client: httpx.Client, path: Path) -> None:
    # RFC 9110 §13.2.1: conditions are about what the method does, which is done.
    headers = {"If-None-Match": "*", "Range": "bytes=0-1"}
    answer = client.post("/file", params={"path": str(path)}, headers=headers)
    assert (answer.status_code, answer.content == CONTENT) == (200, True)


def test_file_of_another_status_knows_no_conditions(client: httpx.Client, path: Path) -> None:
    # RFC 9110 §13.2.1.
    headers = {"If-None-Match": "*", "If-Match": '"x"', "Range": "bytes=0-1"}
    answer = client.get("/missing-page", params={"path": str(path)}, headers=headers)
    assert (answer.status_code, answer.content == CONTENT, "accept-ranges" in answer.headers) == (404, True, False)


def test_file_that_vanished_before_it_was_sent_is_not_found(client: httpx.Client, path: Path) -> None:
    assert client.get("/vanishing", params={"path": str(path)}).status_code == 404


# Ranges


@pytest.mark.parametrize(
    ("field", "start", "stop"),
    [
        # RFC 9110 §14.1.2.
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=-500", 199_500, 200_000),
        ("bytes=199500-", 199_500, 200_000),
        ("bytes=0-", 0, 200_000),
        ("bytes=199999-199999", 199_999, 200_000),
        ("bytes=199999-999999", 199_999, 200_000),
        ("bytes=0-99999999999999999999999999", 0, 200_000),
        ("bytes=-999999", 0, 200_000),
        (f"bytes=-{'9' * 5000}", 0, 200_000),
        ("bytes=00000000000000000000000000007-7", 7, 8),
        ("BYTES=1-2", 1, 3),
        # RFC 9110 §5.6.1.2: empty members of a list count for nothing.
        ("bytes=, 1-2 ,", 1, 3),
        ("bytes=65536-131071", 65_536, 131_072),
    ],
)
def test_range_is_answered_with_that_part(
    get: Callable[..., httpx.Response], field: str, start: int, stop: int
) -> None:
    answer = get(range=field)
    assert (answer.status_code, answer.content == CONTENT[start:stop]) == (206, True)
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/200000"
    assert answer.headers["content-length"] == str(stop - start)
    # RFC 9110 §15.3.7.
    assert {"etag", "last-modified", "content-type"} <= set(answer.headers)


@pytest.mark.parametrize(
    "field",
    [
        *("bytes=0-1,5-6", "bytes=500-499", "bytes=", "bytes", "bytes=-", "bytes=a-b", "bytes=0-1x", "bytes=0x1-2"),
        *("bytes=+1-2", "bytes=1 - 2", "bytes=1--2", "bytes=--2", "bytes:0-1", "lines=0-1", "0-1", "", "bytes=1_0-20"),
        *("bytes=0-1;q=1", "bytes=0-1=2", "bytes=٣-٤".encode().decode("latin-1")),
    ],
)
def test_range_that_is_none_or_several_is_answered_with_everything(field: str, path: Path) -> None:
    # RFC 9110 §14.2: it may be ignored.
    sent = Sent(FileResponse(path), range=field)
    assert (sent.status, sent.read() == CONTENT, "content-range" in sent.headers) == (200, True, False)


@pytest.mark.parametrize("field", ["bytes=200000-", "bytes=200000-300000", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_range_that_cannot_be_had_is_refused_with_the_length(get: Callable[..., httpx.Response], field: str) -> None:
    # RFC 9110 §15.5.17.
    answer = get(range=field)
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */200000")
    assert answer.text == "Range Not Satisfiable\n"
    assert not {"etag", "last-modified", "accept-ranges"} & set(answer.headers)


@pytest.mark.parametrize("file_wrapper", [FileWrapper, None])
@pytest.mark.parametrize("field", ["", "bytes=0-0", "bytes=100-70000", "bytes=150000-", "bytes=-1"])
def test_part_is_the_same_with_and_without_file_wrapper(file_wrapper: Any, field: str, path: Path) -> None:
    expected = {"": CONTENT, "bytes=0-0": CONTENT[:1], "bytes=100-70000": CONTENT[100:70_001]}
    expected |= {"bytes=150000-": CONTENT[150_000:], "bytes=-1": CONTENT[-1:]}
    sent = Sent(FileResponse(path), file_wrapper=file_wrapper, range=field)
    assert sent.read() == expected[field]


@pytest.mark.parametrize(
    ("field", "position"), [("", 0), ("bytes=0-", 0), ("bytes=150000-", 150_000), ("bytes=-5", 199_995)]
)
def test_what_goes_to_the_end_can_be_sent_by_the_kernel(field: str, position: int, path: Path) -> None:
    wrapped: list[tuple[Any, int]] = []

    def file_wrapper(file: Any, size: int) -> FileWrapper:
        wrapped.append((file, os.lseek(file.fileno(), 0, os.SEEK_CUR)))
        return FileWrapper(file, size)

    assert Sent(FileResponse(path), file_wrapper=file_wrapper, range=field).read() == CONTENT[position:]
    assert wrapped[0][1] == position


def test_what_ends_before_the_end_has_no_descriptor(path: Path) -> None:
    # A server that sends up to the end of the descriptor would send too much.
    wrapped: list[object] = []

    def file_wrapper(file: Any, size: int) -> FileWrapper:
        wrapped.append(file)
        return FileWrapper(file, size)

    Sent(FileResponse(path), file_wrapper=file_wrapper, range="bytes=0-1").read()
    assert not hasattr(wrapped[0], "fileno")


def test_open_file_is_read_and_not_sent_from_its_descriptor(tmp_path: Path) -> None:
    # The descriptor of a compressed file, or of one with a buffer, has another content.
    with gzip.open(tmp_path / "a.gz", "wb") as made:
        made.write(b"content" * 100)
    wrapped: list[object] = []

    def file_wrapper(file: Any, size: int) -> FileWrapper:
        wrapped.append(file)
        return FileWrapper(file, size)

    response = FileResponse(gzip.open(tmp_path / "a.gz"))  # type: ignore[arg-type]  # noqa: SIM115
    assert Sent(response, file_wrapper=file_wrapper).read() == b"content" * 100
    assert not hasattr(wrapped[0], "fileno")


@pytest.mark.parametrize(
    ("field", "start", "stop"),
    [("", 0, 200_000), ("bytes=3-", 3, 200_000), ("bytes=3-100000", 3, 100_001), ("bytes=-9", 199_991, 200_000)],
)
def test_servers_send_the_file_their_own_way(
    connect: Callable[..., httpx.Client], field: str, start: int, stop: int, path: Path
) -> None:
    # Without the validator, a server meets its own file wrapper again, and may let the kernel send.
    client = connect("app", validated=False)
    for _ in range(2):
        answer = client.get("/file", params={"path": str(path)}, headers={"Range": field} if field else {})
        assert (answer.headers["content-length"], answer.content == CONTENT[start:stop]) == (str(stop - start), True)
        # The connection is as good as before.
        assert client.head("/file", params={"path": str(path)}).headers["content-length"] == "200000"
    assert client.get("/memory", headers={"Range": field} if field else {}).content == CONTENT[start:stop]


# Conditions (RFC 9110 §13)


def etag_of(path: Path) -> str:
    sent = Sent(FileResponse(path), "HEAD")
    sent.read()
    return sent.headers["etag"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # §13.1.2: weak comparison.
        ({"if_none_match": "{etag}"}, 304),
        ({"if_none_match": "W/{etag}"}, 304),
        ({"if_none_match": '"x", {etag}'}, 304),
        ({"if_none_match": '"a,b",{etag},"y"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": "nonsense"}, 200),
        ({"if_none_match": ""}, 200),
        # §13.1.3; If-None-Match goes before it.
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_modified_since": "Sunday, 09-Sep-01 01:46:40 GMT"}, 304),
        ({"if_modified_since": "Sun Sep  9 01:46:40 2001"}, 304),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "1000000000"}, 200),
        ({"if_none_match": '"x"', "if_modified_since": LATER}, 200),
        ({"if_none_match": "{etag}", "if_modified_since": EARLIER}, 304),
        # §13.1.1: strong comparison.
        ({"if_match": "{etag}"}, 200),
        ({"if_match": '"x",{etag}'}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_match": "W/{etag}"}, 412),
        ({"if_match": ""}, 412),
        # §13.1.4; If-Match goes before it.
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": EARLIER}, 412),
        ({"if_unmodified_since": "yesterday"}, 200),
        ({"if_match": "{etag}", "if_unmodified_since": EARLIER}, 200),
        ({"if_match": '"x"', "if_unmodified_since": LATER}, 412),
        # §13.2.2: in this order.
        ({"if_match": '"x"', "if_none_match": "{etag}"}, 412),
        ({"if_match": "{etag}", "if_none_match": "{etag}"}, 304),
        ({"if_unmodified_since": DATE, "if_modified_since": DATE}, 304),
        ({"if_none_match": "{etag}", "range": "bytes=0-1"}, 304),
        ({"if_match": '"x"', "range": "bytes=999999-"}, 412),
    ],
)
def test_condition_decides(
    method: str, fields: dict[str, str], status: int, path: Path, descriptors: Callable[[], int]
) -> None:
    etag = etag_of(path)
    sent = Sent(FileResponse(path), method, **{name: value.replace("{etag}", etag) for name, value in fields.items()})
    body = sent.read()
    assert sent.status == status
    if method == "HEAD" or status == 304:
        assert body == b""
    else:
        assert body == (CONTENT if status == 200 else b"Precondition Failed\n")


def test_conditions_hold_through_servers(get: Callable[..., httpx.Response]) -> None:
    first = get()
    etag = first.headers["etag"]
    again = get(if_none_match=etag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert get(if_modified_since=first.headers["last-modified"]).status_code == 304
    assert get("HEAD", if_none_match=etag).status_code == 304
    failed = get(if_match='"other"')
    assert (failed.status_code, failed.text) == (412, "Precondition Failed\n")


def test_304_says_what_caches_need_and_no_more(path: Path) -> None:
    # RFC 9110 §15.4.5.
    response = FileResponse(path, max_age=60, filename="a.bin", headers={"Vary": "Cookie", "Content-Language": "en"})
    response.set_cookie("seen", "yes")
    sent = Sent(response, if_none_match="*")
    sent.read()
    names = {"etag", "cache-control", "vary", "set-cookie", "x-content-type-options"}
    assert (sent.status, set(sent.headers)) == (304, names)
    # Without an ETag, the date is what a cache compares.
    sent = Sent(FileResponse(path, etag=False), if_modified_since=DATE)
    sent.read()
    assert (sent.status, set(sent.headers)) == (304, {"last-modified", "x-content-type-options"})


def test_refusal_keeps_what_is_not_about_the_file(path: Path) -> None:
    response = FileResponse(path, max_age=60, headers={"Access-Control-Allow-Origin": "*", "Content-Encoding": "x"})
    sent = Sent(response, range="bytes=200000-")
    assert sent.read() == b"Range Not Satisfiable\n"
    assert sent.headers["access-control-allow-origin"] == "*"
    assert sent.headers["content-type"] == "text/plain; charset=utf-8"
    assert not {"cache-control", "content-encoding", "etag"} & set(sent.headers)


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        # §13.1.5: strong comparison, exact date.
        ("{etag}", 206),
        ("W/{etag}", 200),
        ('"x"', 200),
        (DATE, 206),
        (LATER, 200),
        (EARLIER, 200),
        ("yesterday", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("wanted", ["bytes=0-1", "bytes=999999-"])
def test_if_range_decides_between_part_and_whole(if_range: str, status: int, wanted: str, path: Path) -> None:
    sent = Sent(FileResponse(path), range=wanted, if_range=if_range.replace("{etag}", etag_of(path)))
    sent.read()
    # A range that cannot be had is no error if it is not about this file.
    assert sent.status == (416 if status == 206 and wanted == "bytes=999999-" else status)


def test_if_range_by_date_waits_until_its_second_is_over(path: Path) -> None:
    # RFC 9110 §8.8.2.2: two versions of one second have one date.
    now = time.time()
    os.utime(path, (now, now))
    sent = Sent(FileResponse(path), range="bytes=0-1", if_range=http_date(now))
    sent.read()
    assert sent.status == 200


def test_date_in_the_future_is_not_sent(path: Path) -> None:
    # RFC 9110 §8.8.2.1.
    os.utime(path, (4_000_000_000, 4_000_000_000))
    sent = Sent(FileResponse(path), "HEAD")
    sent.read()
    assert sent.headers["last-modified"] in (http_date(), http_date(time.time() - 1))


def test_validators_of_the_application_are_used(path: Path) -> None:
    headers = {"ETag": 'W/"mine"', "Last-Modified": EARLIER}
    for fields, status in [
        ({"if_none_match": '"mine"'}, 304),
        ({"if_match": '"mine"'}, 412),
        ({"if_modified_since": EARLIER}, 304),
        ({"range": "bytes=0-1", "if_range": 'W/"mine"'}, 200),
        ({"range": "bytes=0-1", "if_range": EARLIER}, 206),
    ]:
        sent = Sent(FileResponse(path, headers=headers), **fields)
        sent.read()
        assert (sent.status, sent.headers.get_list("etag") in (['W/"mine"'], [])) == (status, True)


@pytest.mark.parametrize("change", ["content", "size", "replaced"])
def test_etag_changes_with_the_file(change: str, path: Path, tmp_path: Path) -> None:
    before = etag_of(path)
    assert etag_of(path) == before
    if change == "content":
        path.write_bytes(CONTENT)
    elif change == "size":
        path.write_bytes(CONTENT[1:])
        os.utime(path, (CHANGED, CHANGED))
    else:
        (tmp_path / "other").write_bytes(CONTENT)
        os.utime(tmp_path / "other", (CHANGED, CHANGED))
        os.replace(tmp_path / "other", path)
    assert etag_of(path) != before


def test_response_without_etag_has_none(client: httpx.Client, path: Path) -> None:
    answer = client.get("/file", params={"path": str(path), "no_etag": "1"})
    assert ("etag" in answer.headers, "last-modified" in answer.headers) == (False, True)


# Fields


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.TXT", "text/plain; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.html.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.js.br", "application/octet-stream"),
        ("a.unheard", "application/octet-stream"),
        ("a", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("data:text,html", "application/octet-stream"),
    ],
)
def test_media_type_follows_from_the_name(name: str, media_type: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    response = FileResponse(tmp_path / name)
    assert (response.headers["content-type"], "content-encoding" in response.headers) == (media_type, False)
    assert FileResponse(io.BytesIO(), filename=name).headers["content-type"] == media_type


def test_media_type_that_is_given_is_used(path: Path) -> None:
    assert FileResponse(path, media_type="image/png").headers["content-type"] == "image/png"
    assert FileResponse(path, media_type="text/csv").headers["content-type"] == "text/csv; charset=utf-8"
    latin = "text/csv; charset=iso-8859-1"
    assert FileResponse(path, media_type=latin).headers["content-type"] == latin
    headers = {"content-type": "a/b", "x-content-type-options": "x", "cache-control": "no-store"}
    given = FileResponse(path, headers=headers, max_age=5, media_type="c/d")
    assert dict(given.headers.items()) == headers


@pytest.mark.parametrize(
    ("options", "disposition"),
    [
        # RFC 6266 §4, Appendix D.
        ({}, None),
        ({"inline": False}, 'attachment; filename="file.bin"'),
        ({"filename": "report.pdf"}, 'inline; filename="report.pdf"'),
        ({"filename": "a b;c.pdf", "inline": False}, 'attachment; filename="a b;c.pdf"'),
        ({"filename": "Ä €.pdf"}, "inline; filename=\"_ _.pdf\"; filename*=UTF-8''%C3%84%20%E2%82%AC.pdf"),
        ({"filename": 'a"b.pdf'}, "inline; filename=\"a_b.pdf\"; filename*=UTF-8''a%22b.pdf"),
        ({"filename": "100%41.pdf"}, "inline; filename=\"100_41.pdf\"; filename*=UTF-8''100%2541.pdf"),
        ({"filename": "a\\b/c.pdf"}, 'inline; filename="a_b_c.pdf"'),
        ({"filename": "a\r\nSet-Cookie: x=1\0\x85.pdf"}, 'inline; filename="aSet-Cookie: x=1.pdf"'),
        ({"filename": "\ud800.pdf"}, "inline; filename=\"_.pdf\"; filename*=UTF-8''%3F.pdf"),
        ({"filename": "\r\n", "inline": False}, "attachment"),
    ],
)
def test_content_disposition_names_the_file(options: dict[str, Any], disposition: str | None, path: Path) -> None:
    assert FileResponse(path, **options).headers.get("Content-Disposition") == disposition


def test_attachment_goes_through_servers(client: httpx.Client, path: Path) -> None:
    query = {"path": str(path), "filename": 'ü".txt', "attachment": "1", "max_age": "60"}
    answer = client.get("/file", params=query)
    assert answer.headers["content-disposition"] == "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%22.txt"
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_mistakes_of_the_program_are_refused_at_once(path: Path) -> None:
    with pytest.raises(TypeError, match="opened in binary mode, not StringIO"):
        FileResponse(io.StringIO())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not bytes"):
        FileResponse(b"content")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_age"):
        FileResponse(path, max_age=-1)
    with pytest.raises(ValueError, match="closed"):
        Sent(FileResponse(closed_file()))


def closed_file() -> IO[bytes]:
    made = io.BytesIO()
    made.close()
    return made


@pytest.mark.parametrize("status", [204, 205, 304])
def test_status_without_content_sends_none(status: int, path: Path) -> None:
    for source in (path, io.BytesIO(b"x")):
        sent = Sent(FileResponse(source, status=status))
        assert (sent.read(), sent.status) == (b"", status)
        assert not isinstance(source, io.BytesIO) or source.closed


# What is no file to be served


@pytest.mark.parametrize("kind", ["missing", "directory", "below a file", "NUL", "long", "loop", "surrogate", "empty"])
def test_what_is_no_file_is_not_found(kind: str, path: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    paths: dict[str, str | Path] = {
        "missing": tmp_path / "missing",
        "directory": tmp_path,
        "below a file": path / "x",
        "NUL": f"{path}\0",
        "long": tmp_path / ("x" * 5000),
        "loop": tmp_path / "loop",
        "surrogate": f"{tmp_path}/\ud800",
        "empty": "",
    }
    with pytest.raises(NotFound) as caught:
        FileResponse(paths[kind])
    # The client learns nothing of the disk.
    assert str(tmp_path) not in str(caught.value)


def test_special_files_are_neither_opened_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # Its path must be short.
        name = tempfile.mktemp(dir="/tmp")
        listener.bind(name)
        try:
            for path in (tmp_path / "fifo", "/dev/null", name):
                with pytest.raises(NotFound):
                    FileResponse(path)
        finally:
            os.unlink(name)


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_file_that_became_something_else_is_not_found(kind: str, path: Path, descriptors: Callable[[], int]) -> None:
    response = FileResponse(path)
    path.unlink()
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(NotFound):
        Sent(response)
    assert descriptors() == 0


def test_length_is_that_of_the_file_that_is_sent(path: Path, tmp_path: Path) -> None:
    response = FileResponse(path)
    (tmp_path / "other").write_bytes(b"other")
    os.replace(tmp_path / "other", path)
    sent = Sent(response)
    assert (sent.read(), sent.headers["content-length"]) == (b"other", "5")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_forbidden(path: Path) -> None:
    path.chmod(0)
    with pytest.raises(Forbidden):
        Sent(FileResponse(path))


@pytest.mark.parametrize(("error", "kind"), [(PermissionError, Forbidden), (FileNotFoundError, NotFound)])
def test_refusal_of_the_system_becomes_a_status(
    error: type[OSError], kind: type[HTTPError], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = FileResponse(path)

    def refuse(*_: object) -> None:
        raise error(2, "refused")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind):
        Sent(response)


def test_trouble_of_the_system_stays_what_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    response = FileResponse(path)

    def exhausted(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        Sent(response)


# Descriptors


def test_response_holds_no_descriptor_before_it_is_sent(path: Path, descriptors: Callable[[], int]) -> None:
    response = FileResponse(path)
    assert (descriptors(), response.status) == (0, 200)


@pytest.mark.parametrize("file_wrapper", [FileWrapper, None])
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GET", {}),
        ("HEAD", {}),
        ("GET", {"range": "bytes=5-6"}),
        ("GET", {"range": "bytes=5-"}),
        ("GET", {"range": "bytes=999999-"}),
        ("GET", {"if_none_match": "*"}),
        ("GET", {"if_match": '"x"'}),
    ],
)
@pytest.mark.parametrize("reading", ["all", "some", "nothing"])
def test_descriptor_is_closed_however_it_ends(
    method: str, fields: dict[str, str], file_wrapper: Any, reading: str, path: Path, descriptors: Callable[[], int]
) -> None:
    sources: list[Any] = [path, Counted(CONTENT)]
    for source in sources:
        sent = Sent(FileResponse(source), method, file_wrapper, **fields)
        if reading != "nothing":
            iterator = iter(sent.content)
            next(iterator, None)
            if reading == "all":
                b"".join(iterator)
        sent.close()
        assert descriptors() == 0
        assert not isinstance(source, Counted) or source.closes == 1


class Counted(io.BytesIO):
    """Counts how often it is closed."""

    closes = 0

    def close(self) -> None:
        self.closes += 1
        super().close()


def test_descriptor_is_closed_if_the_server_refuses_the_head(path: Path, descriptors: Callable[[], int]) -> None:
    def refuse(status: str, headers: list[tuple[str, str]]) -> None:
        raise ConnectionError

    for fields in ({}, {"HTTP_IF_NONE_MATCH": "*"}, {"HTTP_RANGE": "bytes=999999-"}):
        with pytest.raises(ConnectionError):
            FileResponse(path)({"REQUEST_METHOD": "GET", **fields}, refuse)
        assert descriptors() == 0


def test_response_that_middleware_replaces_leaks_nothing(path: Path, descriptors: Callable[[], int]) -> None:
    replacing = WSGIApplication()

    @replacing.middleware
    def replace(request: Request, call_next: Callable[[Request], Response]) -> str:
        call_next(request)
        return "replaced"

    @replacing.get("/")
    def index(request: Request) -> Response:
        return FileResponse(path)

    with direct(replacing) as client:
        assert client.get("/").text == "replaced"
    assert descriptors() == 0


@pytest.mark.parametrize("end", ["sent", "replaced", "raised", "in another status"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_open_file_is_closed_whatever_middleware_does(end: str, method: str) -> None:
    file, own = Counted(CONTENT), WSGIApplication()
    own.add_route("/", lambda request: FileResponse(file))

    @own.middleware
    def changes(request: Request, call_next: Callable[[Request], Response]) -> Response:
        response = call_next(request)
        if end == "replaced":
            return Response("replaced")
        if end == "raised":
            raise NotFound
        if end == "in another status":
            response.status = 304
        return response

    with direct(own) as client:
        client.request(method, "/")
    assert (file.closed, file.closes) == (True, 1)


def test_file_can_be_sent_again(path: Path) -> None:
    response = FileResponse(path)
    assert [Sent(response).read() == CONTENT, Sent(response, range="bytes=0-1").read()] == [True, CONTENT[:2]]
    again = Sent(response)
    assert (again.headers["content-length"], again.read() == CONTENT) == ("200000", True)


# Directories


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory to serve, and secrets beside it."""
    root = tmp_path / "public"
    for name in ("index.html", "css/site.css", "sub/index.html", "empty/x", ".git/config", ".env", "sub/.hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name in (".well-known/security.txt", "sub/.well-known/x", "ü €.txt", "a b+c%41.txt", "back\\slash", "..."):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "public-too").mkdir()
    (tmp_path / "public-too" / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out-dir").symlink_to(tmp_path)
    (root / "out-beside").symlink_to(tmp_path / "public-too")
    (root / "in").symlink_to("css/site.css")
    (root / "git").symlink_to(".git")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("index.html", "index.html"),
        ("css/site.css", "css/site.css"),
        ("in", "css/site.css"),
        (".well-known/security.txt", ".well-known/security.txt"),
        ("%C3%BC%20%E2%82%AC.txt", "ü €.txt"),
        ("a%20b+c%2541.txt", "a b+c%41.txt"),
        ("css%2Fsite.css", "css/site.css"),
    ],
)
def test_file_of_a_directory_is_served(client: httpx.Client, tree: Path, url: str, content: str) -> None:
    answer = raw(client, tree, url)
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, content, "max-age=60")


NEVER = [
    *("../secret", "css/../../secret", "..%2Fsecret", "%2e%2e/secret", "%2e%2e%2fsecret", "..%5Csecret", "..\\secret"),
    *("css/../index.html", "./index.html", "css//site.css", "/etc/passwd", "%2Fetc%2Fpasswd", "//etc/passwd"),
    *("%252e%252e/secret", "..%00/secret", "index.html%00", "index.html%00.txt", "%00", "back%5Cslash", "..."),
    *("out", "out-dir/secret", "out-dir/", "out-beside/secret", "loop", "git/config", "fifo"),
    *(".git/config", ".env", "sub/.hidden", "sub/.well-known/x", ".", "..", ".well-known/../secret", ".WELL-KNOWN/x"),
    *("missing", "css", "css/", "index.html/", "css/site.css/x", "index.html/..", "x" * 300, "x/" * 2000, "%0A", "%20"),
    *("..;/secret", "C:/secret", "file:///etc/passwd", "~/.bashrc", "~root", "$HOME", "*", "css/*", "index.html "),
]


@pytest.mark.parametrize("url", NEVER)
def test_what_is_not_served_is_not_found(client: httpx.Client, tree: Path, url: str) -> None:
    answer = raw(client, tree, url)
    assert (answer.status_code, "secret" in answer.text.replace(url, "")) in [(404, False), (400, False)]


def raw(client: httpx.Client, tree: Path, url: str, **query: str) -> httpx.Response:
    """Asks for a path below the tree, which no client has tidied up."""
    parameters = httpx.QueryParams({"directory": str(tree), **query})
    target = f"/folder/{url}?{parameters}".replace(" ", "%20").encode()
    return client.get("/folder/x", extensions={"target": target})


def test_every_path_stays_in_the_directory(tree: Path) -> None:
    dice = random.Random(11)
    static = StaticFiles(tree, index="index.html")
    pieces = [
        "..",
        ".",
        "/",
        "\\",
        "\0",
        "out",
        "out-dir",
        "secret",
        "css",
        "public",
        "~",
        " ",
        "\udc80",
        "%2e",
        "é",
        "index.html",
    ]
    served = 0
    for _ in range(3000):
        path = "".join(dice.choice(pieces) for _ in range(dice.randint(1, 6)))
        try:
            response = static(asked("/"), path)
        except NotFound:
            continue
        served += 1
        assert b"secret" not in Sent(response).read() if isinstance(response, FileResponse) else True
    assert served


def asked(path: str) -> Request:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": ""}
    return Request(environ, WSGIApplication())


@pytest.mark.parametrize("url", ["%FF", "%C3", "a%80b"])
def test_name_that_is_not_utf8_is_refused(client: httpx.Client, tree: Path, url: str) -> None:
    assert raw(client, tree, url).status_code in (400, 404)


def test_index_stands_for_its_directory(client: httpx.Client, tree: Path) -> None:
    answer = raw(client, tree, "sub/", index="index.html")
    assert (answer.status_code, answer.text) == (200, "sub/index.html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for url in ("empty", "empty/", "css/"):
        assert raw(client, tree, url, index="index.html").status_code == 404


def test_directory_without_slash_is_redirected_to_its_index(client: httpx.Client, tree: Path) -> None:
    answer = raw(client, tree, "sub", index="index.html")
    location = httpx.URL(answer.headers["location"])
    assert (answer.status_code, location.path) == (308, "/folder/sub/")
    # The query goes along.
    assert dict(location.params) == {"directory": str(tree), "index": "index.html"}


def test_index_that_leaves_the_directory_is_not_found(tree: Path, tmp_path: Path) -> None:
    (tree / "css" / "index.html").symlink_to(tmp_path / "secret")
    with pytest.raises(NotFound):
        StaticFiles(tree, index="index.html")(asked("/css/"), "css/")


def test_redirection_to_a_directory_encodes_a_query_that_came_as_bytes_once(tree: Path) -> None:
    # RFC 3986 §2.5.
    own = WSGIApplication()
    own.static("/files", tree, index="index.html")
    with direct(own) as client:
        response = client.get("/", extensions={"target": b"/files/sub?q=\xc3\xa9&r=%20"})
    assert response.headers["Location"] == "/files/sub/?q=%C3%A9&r=%20"


def test_redirection_to_a_directory_encodes_its_name(tree: Path) -> None:
    (tree / "ü%41").mkdir()
    (tree / "ü%41" / "i").write_text("")
    response = StaticFiles(tree, index="i")(asked("/ü%41"), "ü%41")
    assert response.headers["Location"] == "/%C3%BC%2541/"


def test_declared_directory_is_served(client: httpx.Client) -> None:
    answer = client.get(f"/static/{Path(__file__).name}")
    assert (answer.status_code, answer.text) == (200, Path(__file__).read_text())
    assert answer.headers["cache-control"] == "max-age=3600"
    assert client.head(f"/static/{Path(__file__).name}").headers["content-length"] == str(Path(__file__).stat().st_size)
    assert [client.get(path).status_code for path in ("/static/", "/static", "/static/..")] == [404, 404, 404]
    assert client.post(f"/static/{Path(__file__).name}").status_code == 405
    assert app.url_for("static", path="a b/c.css") == "/static/a%20b/c.css"


def test_declared_directory_with_an_index_is_served_at_its_root(client: httpx.Client) -> None:
    assert client.get("/indexed/").text == Path(__file__).read_text()
    redirected = client.get("/indexed")
    assert (redirected.status_code, redirected.headers["location"]) == (308, "/indexed/")


def test_directories_of_two_groups_need_no_names(tree: Path) -> None:
    own, groups = WSGIApplication(), [Group("/a"), Group("/b")]
    for group in groups:
        group.static("/static", tree, index="index.html")
        own.include(group)
    with direct(own) as client:
        for prefix in ("/a", "/b"):
            assert client.get(f"{prefix}/static/css/site.css").status_code == 200
    with pytest.raises(RouteError, match="'static'"):
        own.url_for("static", path="css/site.css")


def test_directory_that_does_not_exist_is_refused_at_declaration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NotADirectoryError, match=f"does not exist: {directory}"):
            WSGIApplication().static("/static", directory)
    with pytest.raises(ValueError, match="max_age"):
        WSGIApplication().static("/static", tmp_path, max_age=-1)


def test_directory_behind_a_link_is_served(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tree)
    response = StaticFiles(tmp_path / "current")(asked("/in"), "in")
    assert isinstance(response, FileResponse)
    assert Sent(response).read() == b"css/site.css"


def test_root_of_the_file_system_can_be_served() -> None:
    path = Path(__file__).resolve()
    if any(part.startswith(".") for part in path.parts):
        pytest.skip("these tests lie below a hidden directory")
    assert isinstance(StaticFiles("/")(asked("/"), str(path)[1:]), FileResponse)


def test_file_is_opened_without_following_it_into_children(path: Path) -> None:
    # PEP 446: what a child process inherits stays open there.
    wrapped: list[Any] = []

    def file_wrapper(file: Any, size: int) -> FileWrapper:
        wrapped.append((os.get_inheritable(file.fileno()), stat.S_ISREG(os.fstat(file.fileno()).st_mode)))
        return FileWrapper(file, size)

    Sent(FileResponse(path), file_wrapper=file_wrapper).read()
    assert wrapped == [(False, True)]
