"""Every example runs as its docstring says, and does what it says it does."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import random
import re
import shlex
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets

from tests.clients import client, curl, needs_curl, session
from tests.support import Command, RawClient, has_ipv6

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPT = Path(sysconfig.get_path("scripts")) / "wsgi"

PORT = "http://127.0.0.1:8000"
"""Where the docstrings suppose the server to be."""


def commands(example: str) -> list[list[str]]:
    """The command lines that an example's docstring holds, split into words."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / example).read_text("utf-8"))) or ""
    return [shlex.split(line) for line in re.findall(r"`((?:wsgi|python|curl) [^`]+)`", docstring)]


@contextmanager
def running(example: str) -> Iterator[Command]:
    """The example, started as it says from the project's root, on a free port wherever that can be said."""
    program, *arguments = commands(example)[0]
    if program == "wsgi":
        with Command(*arguments, cwd=ROOT, start=[str(SCRIPT)]) as command:
            yield command
        return
    try:
        command = Command("--port", "8000", cwd=ROOT, start=[sys.executable, *arguments])
    except AssertionError as problem:
        # Its port is its own to choose. Where somebody else has it, the command serves the same application.
        if "in use" not in str(problem):
            raise
        command = Command(*arguments, cwd=ROOT, start=[str(SCRIPT)])
    with command:
        yield command


def suggested(example: str, command: Command, **replaced: str) -> list[str]:
    """The arguments of the curl command that an example suggests, for the server that runs."""
    (words,) = (words for words in commands(example) if words[0] == "curl")
    assert any(word.startswith(PORT) for word in words)
    return [replaced.get(word.partition(".")[0], word).replace(PORT, command.address) for word in words[1:]]


def look_at_app(command: Command) -> None:
    with session() as http:
        for address in command.addresses:
            answer = http.get(f"{address}/")
            assert (answer.status_code, answer.text) == (200, "Hello, world!\n")
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert "<h1>Hello, world!</h1>" in http.get(f"{address}/page").text
            assert http.get(f"{address}/json").json() == {"message": "Hello, world!"}
            assert http.get(f"{address}/u/42").json() == {"user": 42}
            assert http.get(f"{address}/u/me").status_code == 404
            assert http.post(f"{address}/").headers["Allow"] == "GET, HEAD, OPTIONS"
            assert http.head(f"{address}/").headers["Content-Length"] == "14"


def look_at_chat(command: Command) -> None:
    with client(command.address) as http:
        assert "new WebSocket" in http.get("/").text
        assert http.get("/else").status_code == 404

    async def talk() -> list[str | bytes]:
        address = f"{command.address.replace('http:', 'ws:')}/chat"
        async with websockets.connect(address, proxy=None) as first:
            heard = [await first.recv()]
            async with websockets.connect(address, proxy=None) as second:
                heard += [await second.recv(), await first.recv()]
                await second.send("Hello, <first>!")
                heard += [await second.recv(), await first.recv()]
            return [*heard, await first.recv()]

    came, left, said = "* a guest joined ({} here)", "* a guest left ({} here)", "Hello, <first>!"
    assert asyncio.run(talk()) == [came.format(1), came.format(2), came.format(2), said, said, left.format(1)]


def look_at_django(command: Command) -> None:
    with session() as http:
        assert http.get(f"{command.address}/").text == "Hello from Django, stranger!\n"
        assert http.get(f"{command.address}/", params={"name": "Zoë"}).text == "Hello from Django, Zoë!\n"
        answer = http.get(f"{command.address}/echo/日本")
        assert answer.json() == {"method": "GET", "path": "/echo/日本", "length": 0}
        assert http.get(f"{command.address}/else").status_code == 404


def look_at_fastapi(command: Command) -> None:
    body = random.Random(8).randbytes(3_000_001)
    with client(command.address) as http:
        assert http.get("/").json() == {"message": "Hello, stranger!"}
        assert http.get("/", params={"name": "Zoë"}).json() == {"message": "Hello, Zoë!"}
        assert http.get("/wait/0.01").json() == {"waited": 0.01}
        assert http.get("/wait/soon").status_code == 422
        assert http.put("/digest", content=body).json() == {
            "sha256": hashlib.sha256(body).hexdigest(),
            "size": len(body),
        }
        assert http.get("/count").text == "data: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert http.get("/openapi.json").json()["info"]["title"] == "Greetings"


def look_at_flask(command: Command) -> None:
    with session() as http:
        assert "Who are you?" in http.get(f"{command.address}/").text
        answer = http.post(f"{command.address}/", data={"name": "<Zoë>"})
        assert "Hello, &lt;Zoë&gt;!" in answer.text
        assert http.post(f"{command.address}/", data={}).status_code == 400
        assert http.get(f"{command.address}/status").json()["server"].startswith("wsgi-server")


def look_at_streaming(command: Command) -> None:
    with client(command.address) as http:
        assert http.get("/").text == "Try /clock or /numbers.\n"
        numbers = hashlib.sha256(b"".join(b"%d\n" % number for number in range(1_000_000)))
        assert hashlib.sha256(http.get("/numbers").content).digest() == numbers.digest()
        with http.stream("GET", "/clock") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            events = answer.iter_raw()
            # They do not come all together: the first is here while the others are yet to be made.
            assert re.fullmatch(rb"data: \d\d:\d\d:\d\d\n\n", next(events))
        # Leaving in the middle harms nobody.
        assert http.get("/").status_code == 200


def look_at_upload(command: Command) -> None:
    body = random.Random(7).randbytes(5_000_001)
    expected = f"{hashlib.sha256(body).hexdigest()} {len(body)}\n"
    with session() as http:
        assert http.put(f"{command.address}/", data=body).text == expected
        assert (
            http.post(f"{command.address}/", data=(body[at : at + 99_999] for at in range(0, len(body), 99_999))).text
            == expected
        )
        assert http.get(f"{command.address}/").content == (EXAMPLES / "upload.py").read_bytes()


LOOKS: dict[str, Callable[[Command], None]] = {
    "app.py": look_at_app,
    "chat.py": look_at_chat,
    "django_app.py": look_at_django,
    "fastapi_app.py": look_at_fastapi,
    "flask_app.py": look_at_flask,
    "streaming.py": look_at_streaming,
    "upload.py": look_at_upload,
}


def test_examples_are_all_looked_at() -> None:
    assert set(LOOKS) == {file.name for file in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize(("example", "look"), LOOKS.items(), ids=LOOKS)
def test_example_runs_as_it_says(example: str, look: Callable[[Command], None]) -> None:
    with running(example) as command:
        look(command)
        assert command.stop() == 0
        # Nothing but the banner, and the clock whose client has not left in time: no warning, no traceback.
        ended = " INFO stopping: ended 1 event stream: GET /clock"
        assert [line for line in command.stderr.seen if not line.endswith(ended)] == [command.banner]


@needs_curl
def test_streaming_is_seen_by_the_suggested_command() -> None:
    with running("streaming.py") as command:
        answer = curl(*suggested("streaming.py", command))
        assert (answer.exit_code, answer.status) == (0, 200)
        assert re.fullmatch(rb"(data: \d\d:\d\d:\d\d\n\n){10}", answer.body)


@needs_curl
def test_upload_takes_a_file_by_the_suggested_command(tmp_path: Path) -> None:
    body = random.Random(8).randbytes(3_000_000)
    (tmp_path / "some.iso").write_bytes(body)
    with running("upload.py") as command:
        answer = curl(*suggested("upload.py", command, some=str(tmp_path / "some.iso")))
        assert (answer.exit_code, answer.status) == (0, 200)
        assert answer.body.decode() == f"{hashlib.sha256(body).hexdigest()} {len(body)}\n"


def test_upload_that_breaks_off_is_not_praised() -> None:
    with running("upload.py") as command, RawClient(command.address) as http:
        http.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x" * 300_000)
        http.end()
        # The application never hears of it.
        http.expect_end()


@needs_curl
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_app_listens_on_both_loopbacks() -> None:
    with running("app.py") as command:
        if not command.address.endswith(":8000"):
            pytest.skip("port 8000, which this example chooses, belongs to another program")
        assert command.addresses == ["http://127.0.0.1:8000", "http://[::1]:8000"]
        assert curl("http://localhost:8000/").body == b"Hello, world!\n"
        assert curl("--ipv6", "--globoff", "http://[::1]:8000/").body == b"Hello, world!\n"
