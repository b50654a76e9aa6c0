"""Every framework answers every client as its own documentation says. The requests are listed in `apps.content`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import requests

from tests.clients import async_client, client, curl, needs_curl, opened_connections, session
from tests.frameworks.apps import content
from tests.frameworks.conftest import Site
from tests.support import PATIENCE, RawClient

WORDS = ["plain", "Zoë", "Ελλάδα", "日本語", "🐍", "two words", "a&b=c", "50%", "1+1", "semi;colon", "q?u#e"]
"""What a path segment or a query may hold once it is decoded."""

SIZES = {"empty": 0, "one": 1, "buffered": 60_000, "beyond the buffer": 70_001, "large": 3_000_001}
"""Lengths of bodies below and above `body_buffer`, which is 64 KiB."""


def blob(size: int) -> bytes:
    """The same unpredictable bytes at every run."""
    return random.Random(size).randbytes(size)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pieces(body: bytes, size: int = 50_000) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


@needs_curl
def test_page_is_served_to_curl(site: Site) -> None:
    answer = curl(f"{site.address}/")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert answer.body.decode() == f"<h1>Hello from {site.name}</h1>"
    assert answer["Content-Type"].startswith("text/html")
    assert answer["Content-Length"] == str(len(answer.body))
    # RFC 9110 §6.6.1: an origin server with a clock says when; one line each, whatever the framework adds.
    assert len(answer.values("Date")) == 1
    assert len(answer.values("Server")) == 1


@needs_curl
def test_head_gives_the_fields_of_get_and_no_content(site: Site) -> None:
    # RFC 9110 §9.3.2.
    got, head = curl(f"{site.address}/"), curl("--head", f"{site.address}/")
    assert (head.exit_code, head.status) == (0, 200)
    for name in ("Content-Type", "Content-Length"):
        assert head.values(name) == got.values(name)


def test_head_leaves_the_connection_in_step(site: Site) -> None:
    with session() as http:
        for _ in range(3):
            assert http.head(f"{site.address}/").text == ""
            assert site.name in http.get(f"{site.address}/").text
        assert opened_connections(http, site.address) == 1


@pytest.mark.parametrize("word", WORDS)
def test_path_outside_ascii_arrives_decoded(word: str, site: Site) -> None:
    # PEP 3333, "Unicode Issues": PATH_INFO is the bytes of the decoded path, seen as latin-1.
    with session() as http:
        answer = http.get(f"{site.address}/pages/{quote(word, safe='')}")
    assert (answer.status_code, answer.content.decode()) == (200, word)


@pytest.mark.parametrize("word", [*WORDS, ""])
def test_query_outside_ascii_arrives_decoded(word: str, site: Site) -> None:
    with client(site.address) as http:
        answer = http.get("/greet", params={"name": word})
    assert (answer.status_code, answer.content.decode()) == (200, f"Hello, {word}!")


FORM = {"name": "Zoë", "city": "São Paulo", "text": "a&b=c+d %41\r\nnext line", "empty": "x" * 5000}


@needs_curl
def test_form_from_curl_arrives_field_by_field(site: Site) -> None:
    fields = [word for name, value in FORM.items() for word in ("--data-urlencode", f"{name}={value}")]
    answer = curl(*fields, f"{site.address}/form")
    assert (answer.exit_code, answer.status, json.loads(answer.body)) == (0, 200, FORM)


def test_form_from_requests_arrives_field_by_field(site: Site) -> None:
    with session() as http:
        assert http.post(f"{site.address}/form", data=FORM).json() == FORM


def test_form_from_httpx_arrives_field_by_field(site: Site) -> None:
    with client(site.address) as http:
        assert http.post("/form", data=FORM).json() == FORM


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, "Zoë 🐍", [], {"long": "x" * 90_000}])
def test_json_comes_back_unchanged(value: object, site: Site) -> None:
    with session() as http:
        answer = http.post(f"{site.address}/json", json=value)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == {"received": value}


def test_cookies_are_kept_and_sent_back(site: Site) -> None:
    with session() as http:
        assert http.get(f"{site.address}/cookies").json() == {}
        http.post(f"{site.address}/cookies")
        assert http.get(f"{site.address}/cookies").json() == {"theme": "dark", "session": "s3ss10n"}


@needs_curl
def test_cookies_leave_in_a_line_each(site: Site) -> None:
    # RFC 6265 §3: Set-Cookie lines cannot be joined.
    lines = curl("--request", "POST", f"{site.address}/cookies").values("Set-Cookie")
    assert sorted(line.split(";")[0] for line in lines) == ["session=s3ss10n", "theme=dark"]
    assert any("Max-Age=3600" in line for line in lines if line.startswith("theme="))
    assert any("HttpOnly" in line for line in lines if line.startswith("session="))


@needs_curl
def test_cookie_jar_of_curl_works(site: Site, tmp_path: Path) -> None:
    jar = str(tmp_path / "jar")
    curl("--cookie-jar", jar, "--request", "POST", f"{site.address}/cookies")
    answer = curl("--cookie", jar, f"{site.address}/cookies")
    assert json.loads(answer.body) == {"theme": "dark", "session": "s3ss10n"}


@needs_curl
def test_redirect_is_followed_by_curl(site: Site) -> None:
    answer = curl("--location", f"{site.address}/old")
    assert [int(line.split(" ")[1]) for line, _ in answer.heads] == [302, 200]
    assert answer.body == b"here now"


@pytest.mark.parametrize(("method", "status"), [("GET", 302), ("POST", 303)])
def test_redirect_is_followed_by_requests_with_get(method: str, status: int, site: Site) -> None:
    with session() as http:
        answer = http.request(method, f"{site.address}/old", data=b"x=1" if method == "POST" else None)
    assert [step.status_code for step in answer.history] == [status]
    assert (answer.request.method, answer.url, answer.text) == ("GET", f"{site.address}/new", "here now")


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_multipart_upload_from_requests_arrives_whole(size: int, site: Site) -> None:
    body = blob(size)
    with session() as http:
        files = {"file": ("data.bin", body, "application/octet-stream")}
        answer = http.post(f"{site.address}/upload", data={"note": "Grüße"}, files=files)
    assert answer.json() == {"note": "Grüße", "filename": "data.bin", "size": size, "sha256": sha256(body)}


@needs_curl
@pytest.mark.parametrize("size", [0, 3_000_001])
def test_multipart_upload_from_curl_arrives_whole(size: int, site: Site, tmp_path: Path) -> None:
    body = blob(size)
    (tmp_path / "data.bin").write_bytes(body)
    answer = curl("--form", "note=hi", "--form", f"file=@{tmp_path}/data.bin", f"{site.address}/upload")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert json.loads(answer.body) == {"note": "hi", "filename": "data.bin", "size": size, "sha256": sha256(body)}


@needs_curl
def test_multipart_upload_in_chunks_arrives_whole(site: Site, tmp_path: Path) -> None:
    # RFC 9112 §7.1; frameworks that parse forms by CONTENT_LENGTH see them as well.
    body = blob(200_000)
    (tmp_path / "data.bin").write_bytes(body)
    form = ("--form", "note=hi", "--form", f"file=@{tmp_path}/data.bin")
    answer = curl("--header", "Transfer-Encoding: chunked", *form, f"{site.address}/upload")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert json.loads(answer.body) == {"note": "hi", "filename": "data.bin", "size": 200_000, "sha256": sha256(body)}


def put_requests(site: Site, body: bytes, chunked: bool) -> object:
    with session() as http:
        return http.put(f"{site.address}/raw", data=pieces(body) if chunked else body).json()


def put_httpx(site: Site, body: bytes, chunked: bool) -> object:
    with client(site.address) as http:
        return http.put("/raw", content=pieces(body) if chunked else body).json()


def put_curl(site: Site, body: bytes, chunked: bool) -> object:
    # curl knows no length where it uploads its standard input.
    how = ["--upload-file", "-"] if chunked else ["--request", "PUT", "--data-binary", "@-"]
    answer = curl(*how, f"{site.address}/raw", stdin=body)
    assert (answer.exit_code, answer.status) == (0, 200)
    return json.loads(answer.body)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("put", [put_requests, put_httpx, pytest.param(put_curl, marks=needs_curl)])
def test_raw_upload_arrives_whole(
    put: Callable[[Site, bytes, bool], object], size: int, chunked: bool, site: Site
) -> None:
    body = blob(size)
    assert put(site, body, chunked) == {"length": size, "size": size, "sha256": sha256(body)}


@needs_curl
@pytest.mark.parametrize("size", [10, 70_001])
def test_expecting_client_is_asked_to_go_on(size: int, site: Site) -> None:
    # RFC 9110 §10.1.1.
    body = blob(size)
    answer = curl("--header", "Expect: 100-continue", "--data-binary", "@-", f"{site.address}/raw", stdin=body)
    assert [line for line, _ in answer.heads] == ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]
    assert json.loads(answer.body)["sha256"] == sha256(body)


LINES = b"".join(content.lines(20_000))


@needs_curl
def test_generator_is_streamed_to_curl(site: Site) -> None:
    answer = curl(f"{site.address}/lines/20000")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert answer["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer
    assert answer.body == LINES


@needs_curl
def test_generator_for_an_old_client_ends_with_the_connection(site: Site) -> None:
    # RFC 9112 §6.1: no transfer coding for HTTP/1.0.
    answer = curl("--http1.0", f"{site.address}/lines/20000")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert "Transfer-Encoding" not in answer
    assert answer.body == LINES


def test_generator_is_read_bit_by_bit_by_requests(site: Site) -> None:
    with session() as http:
        with http.get(f"{site.address}/lines/20000", stream=True) as answer:
            assert b"".join(answer.iter_content(1000)) == LINES
        # Read to its end, the connection is used again.
        http.get(f"{site.address}/new")
        assert opened_connections(http, site.address) == 1


def test_generator_that_the_client_leaves_harms_nobody(site: Site) -> None:
    with client(site.address) as http:
        with http.stream("GET", "/lines/2000000") as answer:
            assert next(answer.iter_bytes()).startswith(b"line 0")
        assert http.get("/new").text == "here now"


@needs_curl
def test_file_is_given_whole(site: Site) -> None:
    answer = curl(f"{site.address}/download")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert answer["Content-Length"] == str(len(site.download))
    assert sha256(answer.body) == sha256(site.download)


def test_file_is_announced_to_head_and_not_sent(site: Site) -> None:
    with client(site.address) as http:
        # Falcon wants HEAD said, which this resource does not do.
        status = 405 if site.name == "Falcon" else 200
        answer = http.head("/download")
        assert (answer.status_code, answer.content) == (status, b"")
        if status == 200:
            assert answer.headers["Content-Length"] == str(len(site.download))
        assert http.get("/new").text == "here now"


@pytest.mark.parametrize("path", ["/nothing", "/%E2%82%AC", "/pages", "/new/", "/a/../b"])
def test_unknown_path_is_404_and_the_connection_stays(path: str, site: Site) -> None:
    with RawClient(site.address) as http:
        # Raw, because clients tidy such paths up.
        http.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert http.receive().status == 404
        http.send(b"GET /new HTTP/1.1\r\nHost: a\r\n\r\n")
        assert http.receive().body == b"here now"


def test_deleting_answers_204_without_content(site: Site) -> None:
    # RFC 9110 §8.6, §15.3.5: no content, and no field that speaks of its length.
    with RawClient(site.address) as http:
        http.send(b"DELETE /things/7 HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = http.receive("DELETE")
        assert (answer.status, "Content-Length" in answer, "Transfer-Encoding" in answer) == (204, False, False)
        http.send(b"GET /new HTTP/1.1\r\nHost: a\r\n\r\n")
        assert http.receive().body == b"here now"


@needs_curl
def test_failure_is_500_and_its_details_stay_inside(site: Site) -> None:
    answer = curl(f"{site.address}/boom")
    assert (answer.exit_code, answer.status) == (0, 500)
    received = f"{answer.heads} {answer.body!r}"
    for detail in (content.SECRET, "swordfish", "Traceback", "RuntimeError", ".py"):
        assert detail not in received
    assert curl(f"{site.address}/new").body == b"here now"


def test_failure_amid_the_content_cannot_be_taken_for_the_end(site: Site) -> None:
    # RFC 9112 §8: chunked content without its last chunk is incomplete.
    with session() as http, pytest.raises(requests.exceptions.ChunkedEncodingError):
        http.get(f"{site.address}/late")
    with client(site.address) as other:
        with pytest.raises(httpx.RemoteProtocolError):
            other.get("/late")
        assert other.get("/new").text == "here now"


@needs_curl
def test_failure_amid_the_content_is_a_partial_file_to_curl(site: Site) -> None:
    answer = curl(f"{site.address}/late")
    assert (answer.exit_code, answer.status) == (18, 200)
    assert answer.body == b"".join(content.lines(1))
    assert "swordfish" not in f"{answer.heads}"


def test_urls_are_made_from_the_host_that_the_client_asked(site: Site) -> None:
    # PEP 3333, "URL Reconstruction".
    with client(site.address) as http:
        found = http.get("/where").json()
        assert found == {"url": f"{site.address}/new", "scheme": "http", "client": "127.0.0.1"}
        found = http.get("/where", headers={"Host": "shop.example:81"}).json()
        assert found == {"url": "http://shop.example:81/new", "scheme": "http", "client": "127.0.0.1"}


FORGED = {
    "Forwarded": "for=1.2.3.4;proto=https;host=evil.example",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Scheme": "https",
    "X-Real-IP": "1.2.3.4",
    "Remote-Addr": "1.2.3.4",
}
BELIEVED = {"Bottle": ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"], "Pyramid": ["X-Forwarded-For"]}
"""Fields that a framework itself takes for true, whoever sent them."""


def test_client_cannot_speak_for_a_proxy(site: Site) -> None:
    fields = {name: value for name, value in FORGED.items() if name not in BELIEVED.get(site.name, [])}
    with client(site.address) as http:
        found = http.get("/where", headers=fields).json()
    assert found == {"url": f"{site.address}/new", "scheme": "http", "client": "127.0.0.1"}


def test_session_keeps_one_connection_for_everything(site: Site) -> None:
    body = blob(100_000)
    with session() as http:
        for number in range(10):
            assert http.get(f"{site.address}/greet", params={"name": str(number)}).text == f"Hello, {number}!"
            assert http.post(f"{site.address}/form", data={"n": str(number)}).json() == {"n": str(number)}
            assert http.put(f"{site.address}/raw", data=body).json()["sha256"] == sha256(body)
            assert http.put(f"{site.address}/raw", data=pieces(body)).json()["sha256"] == sha256(body)
            assert http.get(f"{site.address}/nothing").status_code == 404
            assert http.get(f"{site.address}/lines/10").content == b"".join(content.lines(10))
        assert opened_connections(http, site.address) == 1


CONNECTIONS = 50


def all_at_once(site: Site, task: Callable[[httpx.AsyncClient, int, Meeting], Awaitable[None]]) -> None:
    """Runs `task` on so many connections at the same time, each with a client of its own."""

    async def one(number: int, meeting: Meeting) -> None:
        async with async_client(site.address) as http:
            await task(http, number, meeting)

    async def run() -> None:
        meeting = Meeting()
        await asyncio.wait_for(asyncio.gather(*(one(number, meeting) for number in range(CONNECTIONS))), PATIENCE)

    asyncio.run(run())


class Meeting:
    """Where the tasks wait until all are there."""

    def __init__(self) -> None:
        self._missing = CONNECTIONS
        self._complete = asyncio.Event()

    async def join(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


def test_fifty_connections_at_once_are_kept_apart(site: Site) -> None:
    async def converse(http: httpx.AsyncClient, number: int, meeting: Meeting) -> None:
        body = random.Random(number).randbytes(2000 + number)

        async def halting() -> AsyncIterator[bytes]:
            yield body[:1000]
            # From here on every connection has a request under way.
            await meeting.join()
            yield body[1000:]

        found = await http.put("/raw", content=halting())
        assert found.json() == {"length": len(body), "size": len(body), "sha256": sha256(body)}
        for step in range(4):
            name = f"{number}/{step}"
            assert (await http.get("/greet", params={"name": name})).text == f"Hello, {name}!"
            assert (await http.post("/form", data={"name": name})).json() == {"name": name}
            assert (await http.get(f"/lines/{number}")).content == b"".join(content.lines(number))

    all_at_once(site, converse)


def test_fifty_streams_at_once_are_read_side_by_side(site: Site) -> None:
    async def read(http: httpx.AsyncClient, number: int, meeting: Meeting) -> None:
        async with http.stream("GET", f"/lines/{500 + number}") as answer:
            await meeting.join()
            assert await answer.aread() == b"".join(content.lines(500 + number))

    all_at_once(site, read)
