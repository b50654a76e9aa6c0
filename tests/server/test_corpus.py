"""Replays the wire corpus against a live server: each file whole, byte by byte, and in two at offsets that are drawn.

A file is what a client sends on one connection. `accept/expect.tsv` says which requests it holds and how the connection
stands behind them; `refuse/expect.tsv` says with which status its first request is refused. However the bytes are cut,
the application must see the same calls. `tests/wire.rs` replays the same files through the parser alone.
"""

from __future__ import annotations

import contextlib
import errno
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from tests.server.recording import NEXT, STREAMING, Environ, Start, answer, listening
from tests.support import RawClient, Response

CORPUS = Path(__file__).parents[1] / "corpus"
SEED = 9112
SPLITS = 6
"""Offsets drawn for each file."""
LARGE = 20_000
"""Files above this size are cut into single bytes whole on one server only: a system call for each takes its time."""


@dataclass(frozen=True)
class Case:
    """A file of the corpus and what it must come to."""

    name: str
    content: bytes
    calls: list[str]
    """Each as `METHOD PATH LENGTH CRC32`."""
    end: str
    """`clean`, `open`, `close`, or the status of a refusal."""


def rows(folder: str) -> list[list[str]]:
    lines = (CORPUS / folder / "expect.tsv").read_text().splitlines()[1:]
    return [line.split("\t") for line in lines if line]


def decoded(request: str) -> str:
    """A request of the corpus as the application sees it: its path is percent-decoded (PEP 3333)."""
    method, path, body = request.split(" ", 2)
    return f"{method} {unquote_to_bytes(path).decode('latin-1')} {body}"


def load() -> dict[str, Case]:
    cases = {}
    for name, end, *requests in rows("accept"):
        status = end.split(" ")[0]
        calls = [decoded(request) for request in requests]
        cases[f"accept/{name}"] = Case(name, (CORPUS / "accept" / f"{name}.http").read_bytes(), calls, status)
    for name, status, _ in rows("refuse"):
        content = (CORPUS / "refuse" / f"{name}.http").read_bytes()
        # A sentinel behind what is refused: it must never run.
        cases[f"refuse/{name}"] = Case(name, content + NEXT, [], status)
    return cases


CASES = load()


@dataclass
class Log:
    """Logs each call once its body was read to the end, or, where it does not read, at once. Echoes what it logs."""

    reads: bool
    calls: list[str] = field(default_factory=list)

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        if self.reads:
            body = environ["wsgi.input"].read()
            call += f" {len(body)} {zlib.crc32(body):08x}"
        self.calls.append(call)
        return answer(start_response, call.encode("latin-1"))


@dataclass
class Live:
    """A server of one kind with its log."""

    kind: str
    address: str
    log: Log
    streams: bool
    """The application runs before the body is complete, so that it may see the beginning of what is refused later."""


# How the server is set up: transport, whether the application reads, whether bodies are streamed.
SERVERS = {
    "tcp": ("tcp", True, False),
    "tcp-unread": ("tcp", False, False),
    "tcp-streamed": ("tcp", True, True),
    "tcp-streamed-unread": ("tcp", False, True),
    "unix": ("unix", True, False),
    "unix-streamed": ("unix", True, True),
}


@pytest.fixture(scope="module", params=SERVERS)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    transport, reads, streams = SERVERS[request.param]
    log = Log(reads)
    # As much as may be buffered: nothing is then seen by the application before it is complete.
    options = {**STREAMING, "stream_chunked": True} if streams else {"body_buffer": 1 << 30}
    with listening(transport, log, tmp_path_factory.mktemp("corpus"), **options) as server:
        yield Live(request.param, server.addresses[0], log, streams)


@contextlib.contextmanager
def may_be_closed() -> Iterator[None]:
    """A client that asks for the close has itself to blame if it goes on sending (RFC 9112 §9.6). In all other cases a
    server that closes must listen a while longer.
    """
    try:
        yield
    except ConnectionError:
        pass
    except OSError as error:
        # So says shutdown() after a reset.
        if error.errno != errno.ENOTCONN:
            raise


def replay(live: Live, case: Case, parts: Iterable[bytes]) -> None:
    """Sends a case in `parts` and holds what comes back, and what the application saw, against the expectation."""
    live.log.calls.clear()
    methods = [call.split(" ", 1)[0] for call in case.calls]
    responses: list[Response] = []
    with RawClient(live.address) as client:
        with may_be_closed() if case.end == "close" else contextlib.nullcontext():
            client.send(*parts)
            client.end()
        while not client.has_ended():
            assert len(responses) <= len(methods), "more responses than requests"
            responses.append(client.receive(methods[len(responses)] if len(responses) < len(methods) else "GET"))
    calls = list(live.log.calls)
    echoes = [response.body.decode("latin-1") for response in responses]
    for call, echo, method in zip(calls, echoes, methods, strict=False):
        assert echo == ("" if method == "HEAD" else call)
    if live.streams and not live.log.reads:
        check_prefix(case, calls, responses)
    else:
        check_whole(case, calls, responses, live)


def check_whole(case: Case, calls: list[str], responses: list[Response], live: Live) -> None:
    """Every request that is complete was called for once, in order, and none besides."""
    assert calls == (case.calls if live.log.reads else [without_body(call) for call in case.calls])
    statuses = [response.status for response in responses]
    wanted = [200] * len(case.calls) + ([int(case.end)] if case.end.isdigit() else [])
    # A client that leaves amid a body it streams gets what the server makes of the application's error, or nothing.
    assert statuses == wanted or (live.streams and case.end == "open" and statuses == [*wanted, 400])
    if case.end == "close" or case.end.isdigit():
        assert responses[-1]["Connection"] == "close"


def check_prefix(case: Case, calls: list[str], responses: list[Response]) -> None:
    """An application that answers without reading may cost the connection, but never shifts where a request begins."""
    known = [without_body(call) for call in case.calls]
    assert calls[: len(known)] == known[: len(calls)]
    # Behind the requests that are whole, at most the one whose body breaks off or breaks the rules.
    assert len(calls) <= len(known) + 1
    assert not [call for call in calls[len(known) :] if call == "GET /next"]
    if len(calls) < len(known):
        assert responses[-1]["Connection"] == "close"


def without_body(call: str) -> str:
    return " ".join(call.split(" ")[:2])


@pytest.mark.parametrize("name", CASES)
def test_case_whole(name: str, live: Live) -> None:
    replay(live, CASES[name], [CASES[name].content])


@pytest.mark.parametrize("name", CASES)
def test_case_byte_by_byte(name: str, live: Live) -> None:
    content = CASES[name].content
    if len(content) > LARGE and live.kind != "tcp":
        # The middle in one piece: the ends are where something is decided.
        parts = [content[:1000], content[1000:-1000], content[-1000:]]
        replay(live, CASES[name], [*singly(parts[0]), parts[1], *singly(parts[2])])
    else:
        replay(live, CASES[name], singly(content))


def singly(content: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in content]


@pytest.mark.parametrize("name", CASES)
def test_case_split_in_two(name: str, live: Live) -> None:
    content = CASES[name].content
    draw = random.Random(f"{SEED} {name}")
    for at in sorted(draw.sample(range(1, len(content)), min(SPLITS, len(content) - 1))):
        replay(live, CASES[name], [content[:at], content[at:]])


def mutated(draw: random.Random, content: bytes) -> bytes:
    """`content` with a byte changed, some taken out, put in or repeated, or with its end cut off."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.randrange(len(data) + 1)
        size = draw.choice([1, 2, 10])
        change = draw.randrange(5)
        if change == 0:
            data[at : at + 1] = draw.choices(b"\r\n \t:;0,\0\xffaG", k=1)
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at:at] = bytes(draw.choices(b"\r\n :0a,", k=size))
        elif change == 3:
            data[at:at] = data[max(0, at - 20) : at]
        else:
            del data[at:]
    return bytes(data)


def test_mutated_cases_are_answered_strictly_or_refused(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    draw = random.Random(SEED)
    small = [case.content for case in CASES.values() if len(case.content) < 3000]
    for _ in range(500):
        content = mutated(draw, b"".join(draw.choices(small, k=draw.choice([1, 2, 3]))))
        at = draw.randrange(len(content) + 1)
        live.log.calls.clear()
        responses = 0
        with RawClient(live.address) as client:
            # It is not known here whether the client has asked for a close.
            with may_be_closed():
                client.send(content[:at], content[at:])
                client.end()
            while not client.has_ended():
                calls = live.log.calls
                response = client.receive(calls[responses].split(" ")[0] if responses < len(calls) else "GET")
                assert response.status in {200, 400, 413, 414, 417, 431, 501, 505}, content
                responses += 1
    # Nothing that a client sends is an error of the server or of the application.
    assert not caplog.records


@pytest.mark.parametrize("folder", ["accept", "refuse"])
def test_corpus_files_and_expectations_are_the_same(folder: str) -> None:
    files = {path.stem for path in (CORPUS / folder).glob("*.http")}
    assert files == {row[0] for row in rows(folder)}
    assert files
