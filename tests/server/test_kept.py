"""What an application keeps of a request is that request's for ever: the server uses such objects again only where
nobody can notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.server.recording import Environ, Start, answer
from tests.support import RawClient, serve

REQUESTS = 5

KEPT: dict[str, Callable[[Environ, Start], Any]] = {
    "environ": lambda environ, start_response: environ,
    "input": lambda environ, start_response: environ["wsgi.input"],
    "a method of the input": lambda environ, start_response: environ["wsgi.input"].read,
    "start_response": lambda environ, start_response: start_response,
    "early_hints": lambda environ, start_response: environ["wsgi.early_hints"],
    "client_disconnected": lambda environ, start_response: environ["wsgi.client_disconnected"],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_serves_no_other_request(name: str) -> None:
    kept: list[Any] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        kept.append(KEPT[name](environ, start_response))
        return answer(start_response, environ["wsgi.input"].read(3))

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for number in range(REQUESTS):
            http.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%d..%d" % (number, number))
            assert http.receive("POST").body == b"%d.." % number
        assert len({id(thing) for thing in kept}) == REQUESTS
        for number, thing in enumerate(kept):
            if name == "environ":
                assert thing["wsgi.input"].read() == b"%d" % number
            elif name == "input":
                assert thing.read() == b"%d" % number
            elif name == "a method of the input":
                assert thing() == b"%d" % number
            elif name == "start_response":
                # The first call was answered long ago.
                with pytest.raises(AssertionError, match="called before"):
                    thing("200 OK", [])
            elif name == "early_hints":
                thing([("Link", "</a>")])
            else:
                assert thing() is False
        # Nothing of that reached the client, for whom another request is answered.
        http.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert http.receive().body == b""


def test_write_that_is_kept_speaks_to_no_other_request() -> None:
    kept: list[Callable[[bytes], object]] = []

    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        for write in kept:
            with pytest.raises(RuntimeError, match="over"):
                write(b"of an earlier response")
        kept.append(start_response("200 OK", [("Content-Length", "2")]))
        return [b"ok"]

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for _ in range(REQUESTS):
            http.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert http.receive().body == b"ok"


def test_nothing_of_one_body_is_left_to_the_next_request() -> None:
    def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
        return answer(start_response, environ["wsgi.input"].read() if environ["QUERY_STRING"] else b"unread")

    with serve(app, threads=1) as server, RawClient(server.addresses[0]) as http:
        for size in (10, 100_000, 10_000_000):
            http.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, b"x" * size)
            assert http.receive("POST").body == b"unread"
            http.send(b"GET /?read HTTP/1.1\r\nHost: a\r\n\r\n")
            assert http.receive().body == b""
