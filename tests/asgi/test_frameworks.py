"""Real frameworks as the command serves them, asked by real clients."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import async_client, client, curl, needs_curl
from tests.server.recording import eventually, reset
from tests.support import Command, RawClient

ROOT = Path(__file__).parents[2]
# Litestar needs what does not install on free-threaded Pythons before 3.14.
FRAMEWORKS = ["django", "fastapi", *(["litestar"] if importlib.util.find_spec("litestar") else []), "quart"]
LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


@dataclass
class Site:
    """A framework's running application."""

    name: str
    address: str
    download: bytes
    """What `/download` gives."""


@pytest.fixture(scope="module", params=[(name, loop) for name in FRAMEWORKS for loop in LOOPS], ids="-".join)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name, loop = request.param
    download = random.Random(name).randbytes(3_000_001)
    file = tmp_path_factory.mktemp(name) / "download.bin"
    file.write_bytes(download)
    with Command(f"tests.asgi.apps.{name}_site:app", "--loop", loop, cwd=ROOT, env={"DOWNLOAD": str(file)}) as command:
        assert f"(ASGI on {loop}, pid " in command.banner
        yield Site(name, command.address, download)
        assert command.stop() == 0
    seen = "\n".join(command.stderr.seen)
    assert "Traceback" not in seen
    assert "ERROR" not in seen


def test_pages_are_served_over_one_connection(site: Site) -> None:
    with client(site.address) as http:
        for path in ("/hello", "/sync", "/hello"):
            response = http.get(path)
            assert (response.status_code, response.text) == (200, "hello")
        assert http.get("/nothing").status_code == 404
        assert http.head("/hello").content == b""


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
def test_body_is_read_whole(site: Site, size: int) -> None:
    content = random.Random(size).randbytes(size)

    def pieces() -> Iterator[bytes]:
        for at in range(0, size, 50_000):
            yield content[at : at + 50_000]

    with client(site.address) as http:
        assert http.post("/echo", content=content).content == content
        assert http.post("/echo", content=pieces()).content == content


def test_uploaded_file_arrives(site: Site) -> None:
    content = random.Random(3).randbytes(2_000_000)
    with client(site.address) as http:
        response = http.post("/upload", files={"file": ("a.bin", content)})
    assert response.text == str(len(content))


def test_stream_arrives_in_pieces(site: Site) -> None:
    with client(site.address) as http, http.stream("GET", "/stream") as response:
        assert "".join(response.iter_text()) == "".join(f"line {number}\n" for number in range(100))


def test_events_arrive_while_the_stream_goes_on(site: Site) -> None:
    with client(site.address) as http, http.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert [next(lines) for _ in range(3)] == ["data: 0", "", "data: 1"]
    # The stream has no end: its generator ends with its client.
    with client(site.address) as http:
        for _ in range(10_000):
            if http.get("/open").text == "0":
                break
        assert http.get("/open").text == "0"


def nothing_is_open(site: Site) -> bool:
    with client(site.address) as http:
        return http.get("/open").text == "0"


@pytest.mark.parametrize("leaves", [lambda raw: raw.socket.close(), reset], ids=["close", "reset"])
def test_stream_that_has_nothing_to_send_begins_at_once_and_ends_soon_after_its_client_left(
    site: Site, leaves: Callable[[RawClient], None]
) -> None:
    raw = RawClient(site.address)
    raw.send(b"GET /quiet HTTP/1.1\r\nHost: a\r\n\r\n")
    head = raw.receive_head()
    assert (head.status, head["Transfer-Encoding"]) == (200, "chunked")
    assert not nothing_is_open(site)
    leaves(raw)
    eventually(lambda: nothing_is_open(site), "the stream ends")


# That no error is logged of it is seen when the site stops.
def test_request_without_an_answer_ends_soon_after_its_client_left(site: Site) -> None:
    if site.name not in ("django", "quart"):
        pytest.skip(f"{site.name} does not listen for the disconnect while a handler runs")
    raw = RawClient(site.address)
    raw.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: not nothing_is_open(site), "the handler begins")
    raw.socket.close()
    eventually(lambda: nothing_is_open(site), "the handler ends")


@needs_curl
def test_file_is_downloaded(site: Site) -> None:
    answer = curl(f"{site.address}/download")
    assert (answer.exit_code, answer.status) == (0, 200)
    assert answer.body == site.download


def test_work_after_the_response_is_done(site: Site) -> None:
    with client(site.address) as http:
        before = int(http.get("/done").text)
        assert http.post("/background").status_code == 200
        for _ in range(10_000):
            if int(http.get("/done").text) > before:
                break
        assert int(http.get("/done").text) == before + 1


def test_lifespan_has_begun(site: Site) -> None:
    if site.name == "django":
        pytest.skip("Django's handler takes no part in the lifespan protocol")
    with client(site.address) as http:
        assert http.get("/started").text == "yes"


def test_many_clients_wait_side_by_side(site: Site) -> None:
    async def ask() -> list[str]:
        async with async_client(site.address) as http:
            return [response.text for response in await asyncio.gather(*(http.get("/meet") for _ in range(20)))]

    # Each waits until all have come: one after the other, none would ever be answered.
    assert asyncio.run(ask()) == ["met"] * 20


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("name", "options"), [("wrapped", ()), ("plain", ()), ("plain", ("--pathsend",))])
def test_file_of_starlette_is_whole_behind_middleware_and_by_its_path(
    loop: str, name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    content = random.Random(4).randbytes(300_000)
    file = tmp_path / "download.bin"
    file.write_bytes(content)
    app = f"tests.asgi.apps.starlette_site:{name}"
    with Command(app, "--loop", loop, *options, cwd=ROOT, env={"DOWNLOAD": str(file)}) as command:
        with client(command.address) as http:
            response = http.get("/download")
            assert (response.status_code, response.content) == (200, content)
            assert http.get("/offered").text == ("yes" if options else "no")
        assert command.stop() == 0
    assert "Traceback" not in "\n".join(command.stderr.seen)
