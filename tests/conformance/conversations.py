"""Conversations of the sections `connection`, `expect` and `disconnects`."""

from __future__ import annotations

from tests.conformance.catalogue import LAST, NEXT
from tests.conformance.exchanges import demand, get
from tests.conformance.judge import LET_THROUGH, MALFORMED, WRONG, says_close
from tests.conformance.scripts import PIECE, Talk, ends, in_step, refuses, reset, script, send_what_is_taken

POST = b"POST /e HTTP/1.1\r\nHost: a\r\n"
HELLO_CALL = "call POST /e 5 3610a686"
EXPECT = b"Expect: 100-continue\r\n"

# -- connection --------------------------------------------------------------------------------------------------------


@script(
    "connection-many-in-turn",
    "connection",
    "RFC 9112 §9.3",
    "A hundred requests in turn use one connection, or each end is announced.",
)
def many_in_turn(talk: Talk) -> None:
    with talk.client() as client:
        for _ in range(100):
            client.send(NEXT)
            response = client.receive()
            demand(response.body.startswith(b"GET /next"), f"the answer was {response.body[:80]!r}")
            if says_close(response) or response.version == "HTTP/1.0":
                ends(client)
                return
        in_step(client, response)


@script("connection-persists", "connection", "RFC 9112 §9.3", "HTTP/1.1 connections persist by default.", promise=True)
def persists(talk: Talk) -> None:
    with talk.client() as client:
        client.send(NEXT)
        demand(not says_close(client.receive()), "the first response says Connection: close")
        client.send(NEXT)
        client.receive()


@script("connection-order", "connection", "RFC 9112 §9.3.2", "A quick request behind a slow one waits for its turn.")
def order(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("slow") + NEXT)
        first = client.receive()
        demand(first.body == b"slow", f"the first answer was {first.body[:80]!r}")
        if not says_close(first):
            second = client.receive()
            demand(second.body.startswith(b"GET /next"), f"the second answer was {second.body[:80]!r}")


@script(
    "connection-garbage-behind-slow",
    "connection",
    "RFC 9112 §9.3.2",
    "Garbage behind a slow request leaves its answer whole.",
)
def garbage_behind_slow(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("slow") + b"BAD\r\n\r\n")
        demand(client.receive().body == b"slow", "the first answer is not whole")
        refuses(client, 400)


@script(
    "connection-refusal-announces-close",
    "connection",
    "RFC 9112 §9.6",
    "A refusal says Connection: close.",
    promise=True,
)
def refusal_announces_close(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")
        demand(says_close(client.receive()), "no Connection: close")


@script(
    "connection-close-is-announced",
    "connection",
    "RFC 9112 §9.6",
    "The answer to Connection: close says the same.",
    promise=True,
)
def close_is_announced(talk: Talk) -> None:
    with talk.client() as client:
        client.send(LAST)
        demand(says_close(client.receive()), "no Connection: close")
        ends(client)


@script(
    "connection-http10-keep-alive",
    "connection",
    "RFC 9112 §9.3",
    "HTTP/1.0 with keep-alive is told that the connection stays, or it closes.",
)
def http10_keep_alive(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = client.receive()
        options = ", ".join(response.values("Connection")).lower()
        if "keep-alive" in options:
            in_step(client, response)
        else:
            ends(client)


@script("connection-http10-closes", "connection", "RFC 9112 §9.3", "HTTP/1.0 without keep-alive is closed.")
def http10_closes(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET /e HTTP/1.0\r\n\r\n")
        client.receive()
        ends(client)


@script(
    "connection-idle-ends-silently",
    "connection",
    "RFC 9112 §9.5",
    "An idle connection ends without a byte.",
    needs="keep_alive",
)
def idle_ends_silently(talk: Talk) -> None:
    with talk.client() as client:
        client.send(NEXT)
        demand(not says_close(client.receive()), "the connection does not persist")
        ends(client)


@script(
    "connection-unread-body",
    "connection",
    "RFC 9112 §9.3",
    "A body of 300 KB that nobody reads is drained, or its response is the last.",
)
def unread_body(talk: Talk) -> None:
    body = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000
    with talk.client() as client:
        send_what_is_taken(client, get("ignores", method="POST", content=body))
        response = client.receive()
        demand(response.status in (200, 413), f"status {response.status}")
        if response.status == 200:
            in_step(client, response, may_close=True)
    demand(talk.count("call GET /next 0 00000000") == 0, "a request inside the body was served", LET_THROUGH)


@script(
    "connection-partly-read-body",
    "connection",
    "RFC 9112 §9.3",
    "The rest of a body that is read in part is no request.",
)
def partly_read_body(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("reads-partly", method="POST", content=b"abc" + NEXT))
        response = client.receive()
        demand(response.status == 200, f"status {response.status}")
        in_step(client, response, may_close=True)
    demand(talk.count("call GET /next 0 00000000") == 0, "a request inside the body was served", LET_THROUGH)


@script(
    "connection-streams",
    "response",
    "PEP 3333, Buffering and Streaming",
    "An item leaves before the next is asked for.",
)
def streams(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("in-two-steps"))
        received = b""
        while b"one" not in received:
            piece = client.socket.recv(65536)
            demand(bool(piece), "the stream ended", MALFORMED)
            received += piece
        demand(talk.count("second step") == 0, "the first item came only behind the second")


# -- expect ------------------------------------------------------------------------------------------------------------


def waits_for_100(talk: Talk, head: bytes, content: bytes) -> None:
    with talk.client() as client:
        client.send(head)
        # The interim response, or the final one of a server that does not read the body.
        demand(not client.has_ended(), "the server closed", WRONG)
        interim = client.receive_head()
        demand(interim.status == 100, f"status {interim.status} instead of 100")
        client.send(content)
        response = client.receive()
        demand(response.status == 200, f"status {response.status}")
        in_step(client, response)
    demand(talk.count(HELLO_CALL) == 1, "the application did not get the body")


@script("expect-waits", "expect", "RFC 9110 §10.1.1", "A client that waits for 100 gets it before its body.")
def expect_waits(talk: Talk) -> None:
    waits_for_100(talk, POST + EXPECT + b"Content-Length: 5\r\n\r\n", b"hello")


@script("expect-waits-any-case", "expect", "RFC 9110 §10.1.1", "The expectation is compared without case.")
def expect_waits_any_case(talk: Talk) -> None:
    waits_for_100(talk, POST + b"expect: 100-Continue\r\nContent-Length: 5\r\n\r\n", b"hello")


@script("expect-waits-chunked", "expect", "RFC 9110 §10.1.1", "A client with a chunked body gets its 100, too.")
def expect_waits_chunked(talk: Talk) -> None:
    waits_for_100(talk, POST + EXPECT + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n")


@script("expect-sent-at-once", "expect", "RFC 9110 §10.1.1", "A body that comes with its head gets one 100 at most.")
def expect_sent_at_once(talk: Talk) -> None:
    with talk.client() as client:
        client.send(POST + EXPECT + b"Content-Length: 5\r\n\r\nhello")
        response = client.receive()
        demand(response.status == 200, f"status {response.status}")
        demand([each.status for each in response.interim] in ([], [100]), "more than one interim response")


@script("expect-http10", "expect", "RFC 9110 §10.1.1", "HTTP/1.0 never gets a 100.")
def expect_http10(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /e HTTP/1.0\r\n" + EXPECT + b"Content-Length: 5\r\n\r\nhello")
        response = client.receive()
        demand(response.status == 200 and not response.interim, f"{response.status} after {response.interim}")


@script("expect-get", "expect", "RFC 9110 §10.1.1", "An expectation without a body does not hang.")
def expect_get(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"GET /e HTTP/1.1\r\nHost: a\r\n" + EXPECT + b"\r\n")
        demand(client.receive().status == 200, "not served")


@script(
    "expect-unread",
    "expect",
    "RFC 9110 §10.1.1",
    "An application that does not read answers without the body, and nothing behind it is misread.",
)
def expect_unread(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /app/ignores HTTP/1.1\r\nHost: a\r\n" + EXPECT + b"Content-Length: 31\r\n\r\n")
        demand(not client.has_ended(), "the server closed", WRONG)
        head = client.receive_head()
        if head.status == 100:
            client.send(NEXT)
            head = client.receive()
        else:
            # A client that got its answer may still send the body, which is no request.
            send_what_is_taken(client, NEXT)
        demand(head.status == 200, f"status {head.status}")
    talk.still_serves()
    demand(talk.count("call GET /next 0 00000000") == 0, "the body was served as a request", LET_THROUGH)


@script("expect-two-hosts", "expect", "RFC 9110 §10.1.1", "Nobody is told to continue with a request that is refused.")
def expect_refused(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /e HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + EXPECT + b"Content-Length: 5\r\n\r\n")
        response = client.receive()
        demand(response.status == 400, f"status {response.status}")
        demand(not response.interim, "the client was told to continue")


@script(
    "expect-too-large", "expect", "RFC 9110 §10.1.1", "Nobody is told to send what is too large.", needs="max_body_size"
)
def expect_too_large(talk: Talk) -> None:
    with talk.client() as client:
        client.send(POST + EXPECT + b"Content-Length: 100000000\r\n\r\n")
        response = client.receive()
        demand(response.status == 413, f"status {response.status}")
        demand(not response.interim, "the client was told to continue")


# -- disconnects -------------------------------------------------------------------------------------------------------


@script(
    "disconnect-half-close",
    "disconnects",
    "RFC 9112 §9.6",
    "A client that closes its side behind its request gets the whole answer.",
    promise=True,
)
def half_close(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("slow"))
        client.end()
        demand(client.receive().body == b"slow", "no whole answer")
        ends(client)


@script(
    "disconnect-half-close-large",
    "disconnects",
    "RFC 9112 §9.6",
    "A large answer is whole for a client that closed its side.",
    promise=True,
)
def half_close_large(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("generator-large"))
        client.end()
        demand(len(client.receive().body) == 4 << 20, "no whole answer")


@script(
    "disconnect-reset-in-upload",
    "disconnects",
    "RFC 9112 §8",
    "A client that resets amid its body is an error to the application, and no more.",
)
def reset_in_upload(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /app/reads HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + PIECE)
        reset(client)
    talk.still_serves()
    lines = talk.subject.journal.take()
    demand(not [line for line in lines if line.startswith("read ")], "the body was read as a whole one", LET_THROUGH)


@script(
    "disconnect-leaves-in-upload",
    "disconnects",
    "RFC 9112 §8",
    "A client that leaves amid its body is an error to the application, and no more.",
)
def leaves_in_upload(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /app/reads HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + PIECE)
        client.end()
        while not client.has_ended():
            demand(client.receive().status >= 400, "a body that broke off was answered")
    talk.still_serves()
    lines = talk.subject.journal.take()
    demand(not [line for line in lines if line.startswith("read ")], "the body was read as a whole one", LET_THROUGH)


@script(
    "disconnect-before-answer",
    "disconnects",
    "PEP 3333, Specification Details",
    "close() is called once for a client that has gone.",
)
def before_answer(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("gone"))
        reset(client)
    talk.wait_for("run GET /app/gone", "the application was not called")
    talk.wait_for("close", "close() was not called")
    talk.still_serves()
    demand(talk.count("close") == 1, f"close() was called {talk.count('close')} times")


@script(
    "disconnect-amid-answer",
    "disconnects",
    "PEP 3333, Specification Details",
    "close() is called once for a client that leaves amid its answer.",
)
def amid_answer(talk: Talk) -> None:
    with talk.client() as client:
        client.send(get("endless"))
        client.socket.recv(1000)
        reset(client)
    talk.wait_for("close", "close() was not called")
    talk.still_serves()
    demand(talk.count("close") == 1, f"close() was called {talk.count('close')} times")


@script(
    "disconnect-refusal-is-read",
    "disconnects",
    "RFC 9112 §9.6",
    "A client that still sends can read why it was refused.",
)
def refusal_is_read(talk: Talk) -> None:
    with talk.client() as client:
        client.send(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        for _ in range(16):
            if not send_what_is_taken(client, PIECE):
                break
        try:
            response = client.receive()
        except ConnectionError:
            demand(False, "the refusal was lost in a reset")
        else:
            demand(response.status == 400, f"status {response.status}")


@script(
    "disconnect-connections-without-a-byte",
    "disconnects",
    "RFC 9112 §8",
    "A hundred connections that come and go without a byte do no harm.",
)
def without_a_byte(talk: Talk) -> None:
    for _ in range(50):
        with talk.client() as client:
            client.end()
        with talk.client() as client:
            reset(client)
    talk.still_serves()
    called = [line for line in talk.subject.journal.lines if "/after" not in line]
    demand(not called, f"the application was called: {called}")


@script("disconnect-others-go-on", "disconnects", "RFC 9110 §3.3", "A client amid its upload does not hold up another.")
def others_go_on(talk: Talk) -> None:
    with talk.client() as slow:
        slow.send(b"POST /app/reads HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        talk.still_serves()
        slow.send(b"world")
        demand(slow.receive().status == 200, "the slow one was not served")
