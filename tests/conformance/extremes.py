"""Conversations of the section `limits`: what is too much, too slow, or too many.

A rule that no standard puts a number on is tested far beyond any sensible one: a server may draw its line where it
likes, but it must have one.
"""

from __future__ import annotations

import contextlib
import threading
import time

from tests.conformance.exchanges import demand, get
from tests.conformance.judge import HANG, LET_THROUGH, WRONG
from tests.conformance.scripts import PIECE, Talk, ends, refuses, script, send_what_is_taken
from tests.support import RawClient

POST = b"POST /app/reads HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MOST = 8 << 20
"""Bytes of something endless that a client sends before it gives up."""


def without_end(talk: Talk, start: bytes, piece: bytes, *statuses: int) -> None:
    """Something endless is refused, or the connection closed, before it has cost the server much."""
    sent, end = 0, time.monotonic() + 4 * talk.subject.patience
    with talk.client() as client:
        client.send(start)
        while (
            sent < MOST and time.monotonic() < end and not client.has_something() and send_what_is_taken(client, piece)
        ):
            sent += len(piece)
        demand(sent < MOST and time.monotonic() < end, f"{sent >> 10} KiB were taken without an answer", LET_THROUGH)
        with contextlib.suppress(ConnectionError):
            refuses(client, *statuses)
    demand(not [line for line in talk.subject.journal.lines if line.startswith("read ")], "it was served", LET_THROUGH)
    talk.still_serves()


@script("limit-request-line-endless", "limits", "RFC 9112 §3", "A request line without end is refused before its end.")
def request_line_endless(talk: Talk) -> None:
    without_end(talk, b"GET /", PIECE, 400, 414, 431)


@script("limit-method-endless", "limits", "RFC 9112 §3", "A method without end is refused before its end.")
def method_endless(talk: Talk) -> None:
    without_end(talk, b"G", PIECE.upper(), 400, 414, 431, 501)


@script("limit-value-endless", "limits", "RFC 6585 §5", "A field value without end is refused before its end.")
def value_endless(talk: Talk) -> None:
    without_end(talk, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", PIECE, 400, 413, 431)


@script("limit-name-endless", "limits", "RFC 6585 §5", "A field name without end is refused before its end.")
def name_endless(talk: Talk) -> None:
    without_end(talk, b"GET / HTTP/1.1\r\nHost: a\r\nX", PIECE, 400, 413, 431)


@script("limit-fields-endless", "limits", "RFC 6585 §5", "Fields without end are refused before their end.")
def fields_endless(talk: Talk) -> None:
    without_end(talk, b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n" * 10_000, 400, 413, 431)


@script(
    "limit-extension-endless", "limits", "RFC 9112 §7.1.1", "A chunk extension without end is refused before its end."
)
def extension_endless(talk: Talk) -> None:
    without_end(talk, CHUNKED + b"5;a=", PIECE, 400, 413, 431, 500)


@script(
    "limit-extensions-endless",
    "limits",
    "RFC 9112 §7.1.1",
    "Chunks of one byte with large extensions are refused at some point.",
    promise=True,
)
def extensions_endless(talk: Talk) -> None:
    without_end(talk, CHUNKED, (b"1;" + b"a" * 8000 + b"\r\nx\r\n") * 8, 400, 413, 431, 500)


@script("limit-size-endless", "limits", "RFC 9112 §7.1", "A chunk size of zeros without end is refused before its end.")
def size_endless(talk: Talk) -> None:
    without_end(talk, CHUNKED, b"0" * 65_536, 400, 413, 431, 500)


@script("limit-trailer-endless", "limits", "RFC 9112 §7.1.2", "A trailer without end is refused before its end.")
def trailer_endless(talk: Talk) -> None:
    without_end(talk, CHUNKED + b"0\r\nX: ", PIECE, 400, 413, 431, 500)


@script("limit-trailers-endless", "limits", "RFC 9112 §7.1.2", "Trailers without end are refused before their end.")
def trailers_endless(talk: Talk) -> None:
    without_end(talk, CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000, 400, 413, 431, 500)


@script(
    "limit-empty-lines-endless",
    "limits",
    "RFC 9112 §2.2",
    "Empty lines without end are refused at some point.",
    promise=True,
)
def empty_lines_endless(talk: Talk) -> None:
    without_end(talk, b"", b"\r\n" * 32_768, 400, 408, 413, 431)


@script(
    "limit-body",
    "limits",
    "RFC 9110 §15.5.14",
    "A length over the limit is refused at once, and a client that still sends can read it.",
    needs="max_body_size",
)
def body_too_large(talk: Talk) -> None:
    with talk.client() as client:
        client.send(POST + b"Content-Length: 100000000\r\n\r\n")
        for _ in range(16):
            if not send_what_is_taken(client, PIECE):
                break
        demand(client.receive().status == 413, "not refused with 413")
        ends(client)
    demand(not [line for line in talk.subject.journal.lines if line.startswith("read ")], "it was served", LET_THROUGH)


@script(
    "limit-body-chunked", "limits", "RFC 9110 §15.5.14", "Chunks over the limit are refused.", needs="max_body_size"
)
def chunked_too_large(talk: Talk) -> None:
    with talk.client() as client:
        client.send(CHUNKED)
        for _ in range(100):
            if not send_what_is_taken(client, b"10000\r\n" + PIECE + b"\r\n"):
                break
        demand(client.receive().status == 413, "not refused with 413")
        ends(client)
    demand(not [line for line in talk.subject.journal.lines if line.startswith("read ")], "it was served", LET_THROUGH)


# -- time --------------------------------------------------------------------------------------------------------------


@script("time-silent", "limits", "RFC 9110 §15.5.9", "A client that never sends is let go.", needs="header_timeout")
def silent(talk: Talk) -> None:
    with talk.client() as client:
        refuses(client, 408)


@script(
    "time-head-stalls",
    "limits",
    "RFC 9110 §15.5.9",
    "A client that stops amid its head is let go.",
    needs="header_timeout",
)
def head_stalls(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHos")
        refuses(client, 400, 408)


def drips(client: RawClient, piece: bytes, patience: float) -> bool:
    """Sends the piece again and again; gives whether the server ended it."""
    end = time.monotonic() + patience
    client.socket.settimeout(0.1)
    pause = threading.Event()
    while time.monotonic() < end:
        if not send_what_is_taken(client, piece):
            return True
        with contextlib.suppress(TimeoutError):
            if client.has_ended() or client.receive_head():
                return True
        pause.wait(0.01)
    return False


@script(
    "time-head-drips",
    "limits",
    "RFC 9110 §15.5.9",
    "A head that comes a byte at a time has a deadline as a whole.",
    needs="header_deadline",
)
def head_drips(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        demand(drips(client, b"y", talk.subject.patience), "it was never ended", HANG)


@script(
    "time-body-stalls",
    "limits",
    "RFC 9110 §15.5.9",
    "A client that stops amid its body is let go, and the application learns of it.",
    needs="body_timeout",
)
def body_stalls(talk: Talk) -> None:
    with talk.client() as client:
        client.send(POST + b"Content-Length: 10\r\n\r\nhello")
        refuses(client, 400, 408, 500)
    demand(not [line for line in talk.subject.journal.lines if line.startswith("read ")], "it was served", LET_THROUGH)


@script(
    "time-body-drips",
    "limits",
    "RFC 9110 §15.5.9",
    "A body that comes a byte at a time is too slow at some point.",
    needs="body_min_rate",
)
def body_drips(talk: Talk) -> None:
    with talk.client() as client:
        client.send(POST + b"Content-Length: 100000\r\n\r\n")
        demand(drips(client, b"y", talk.subject.patience), "it was never ended", HANG)


@script(
    "time-client-does-not-read",
    "limits",
    "RFC 9112 §9.5",
    "A client that does not read its answer is let go.",
    needs="write_timeout",
)
def client_does_not_read(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("endless"))
        talk.wait_for("close", "the application is held up for ever")
        demand(not client.has_ended(), "nothing was sent", WRONG)
