"""What a stop does with what does not end by itself: responses, threads, the process. And what it says."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.recording import eventually, is_refused, time_to_cut
from tests.support import PATIENCE, Command, ProtocolError, RawClient

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"

APP = """
import atexit, concurrent.futures, threading, time

forever = threading.Event()

class Pieces:
    def __init__(self, wait):
        self.wait = wait

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(self.wait)
        return b"piece"

    def close(self):
        print("closed", flush=True)

class Nothing(Pieces):
    def __next__(self):
        time.sleep(self.wait)
        return b""

def waiting():
    forever.wait()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    kind = "text/event-stream" if path in ("/events", "/quiet-events", "/slow-events") else "text/plain"
    write = start_response("200 OK", [("Content-Type", kind)])
    if path in ("/endless", "/events"):
        return Pieces(0.01)
    if path == "/quiet-events":
        return Nothing(0.01)
    if path == "/slow-events":
        return Pieces(2)
    if path == "/large":
        return Pieces.__new__(Large)
    if path == "/write":
        try:
            while True:
                write(b"piece")
                time.sleep(0.01)
        except ConnectionError as error:
            print("write raised", type(error).__name__, flush=True)
            raise
    if path == "/upload":
        write(b"begun")
        environ["wsgi.input"].read()
    if path == "/hang":
        print("inside", flush=True)
        forever.wait()
    if path == "/finish":
        print("inside", flush=True)
        time.sleep(1)
    if path == "/thread":
        threading.Thread(target=waiting, name="reaper", daemon=False).start()
    if path == "/short-thread":
        threading.Thread(target=lambda: (time.sleep(0.5), print("thread done", flush=True)), daemon=False).start()
    if path == "/executor":
        concurrent.futures.ThreadPoolExecutor(thread_name_prefix="pool").submit(waiting)
    if path == "/atexit":
        atexit.register(waiting)
    return [b"done"]

class Large(Pieces):
    def __next__(self):
        return b"x" * 1_000_000
"""


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Command]:
    (folder / "site_app.py").write_text(APP)
    with Command("site_app:app", "--access-log", "-", "--access-log-format", "%m %U %s %X", *options, cwd=folder) as it:
        yield it


def ask(command: Command, path: bytes) -> RawClient:
    client = RawClient(command.address)
    client.send(GET % path)
    return client


def cut(client: RawClient) -> None:
    """Reads the rest of a response that was begun and does not come to its end."""
    with client, pytest.raises((ProtocolError, ConnectionResetError)):
        client.receive()


# -- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/endless", b"/write"])
def test_endless_response_is_cut_after_half_of_the_time_and_the_stop_succeeds(path: bytes, tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "2") as command:
        client = ask(command, path)
        assert client.receive_head().status == 200
        assert time_to_cut(command, client) >= 1
        assert command.process.wait(PATIENCE) == 0
        command.stdout.wait_for("closed" if path == b"/endless" else "write raised ClientDisconnected")
        command.stderr.wait_for(f"cut 1 response, unfinished after half of graceful_timeout: GET {path.decode()}")
    # The status that was begun, and that the response did not leave whole.
    assert f"GET {path.decode()} 200 X" in command.stdout.seen
    assert not any("failed" in line or "Traceback" in line for line in command.stderr.seen)


def test_event_stream_is_cut_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "60") as command:
        client = ask(command, b"/events")
        assert client.receive_head().status == 200
        assert time_to_cut(command, client) < PATIENCE
        assert command.process.wait(PATIENCE) == 0
        command.stdout.wait_for("closed")
        command.stderr.wait_for("stopping: ended 1 event stream: GET /events")


def test_event_stream_without_an_event_is_refused_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "60") as command:
        client = ask(command, b"/quiet-events")
        # Another request is answered after that one has begun.
        with ask(command, b"/") as other:
            assert other.receive().status == 200
        command.process.send_signal(signal.SIGTERM)
        with client:
            response = client.receive()
            assert (response.status, response["Connection"], response["Retry-After"]) == (503, "close", "1")
        assert command.process.wait(PATIENCE) == 0
        command.stdout.wait_for("closed")


def test_stream_that_was_cut_has_the_rest_of_the_time_for_its_end(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "60") as command:
        client = ask(command, b"/slow-events")
        command.process.send_signal(signal.SIGTERM)
        command.stderr.wait_for("stopping: ended 1 event stream: GET /slow-events")
        # Its client knows, and its thread is inside of the application for longer than the last steps of a stop take.
        with client:
            client.socket.recv(65536)
        assert "waiting up to 60 s for 1 request (GET /slow-events)" in command.stderr.wait_for("stopping: waiting")
        assert command.process.wait(PATIENCE) == 0
        command.stdout.wait_for("closed")
    assert not any("gave up" in line for line in command.stderr.seen)


def test_response_that_waits_for_its_client_is_cut(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "2") as command:
        client = ask(command, b"/large")
        assert client.receive_head().status == 200
        command.process.send_signal(signal.SIGTERM)
        # The client reads nothing: the application waits for it, more than a megabyte ahead.
        assert command.process.wait(PATIENCE) == 0
        client.socket.close()


def test_request_body_that_never_ends_does_not_hold_a_cut_response(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "2", "--stream-chunked") as command:
        client = RawClient(command.address)
        client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert client.receive_head().status == 200
        command.process.send_signal(signal.SIGTERM)
        cut(client)
        assert command.process.wait(PATIENCE) == 0
        assert not any("failed" in line for line in command.stderr.seen)


def test_request_that_takes_more_than_half_of_the_time_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "1.5") as command:
        client = ask(command, b"/finish")
        command.stdout.wait_for("inside")
        command.process.send_signal(signal.SIGTERM)
        with client:
            assert client.receive().body == b"done"
        assert command.process.wait(PATIENCE) == 0


def test_unanswered_request_gets_503_at_the_end_and_a_line_of_the_log(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "500ms", "--threads", "1") as command:
        client = ask(command, b"/hang")
        command.stdout.wait_for("inside")
        queued = ask(command, b"/queued")
        # The door closes behind it.
        command.process.send_signal(signal.SIGTERM)
        for asked in (client, queued):
            with asked:
                (response,) = asked.responses("GET")
                assert (response.status, response.body) == (503, b"The server is stopping.\n")
        assert command.process.wait(PATIENCE) == 1
        command.stderr.wait_for("stopped with 2 connections unfinished after the graceful timeout: GET /hang")
        command.stderr.wait_for("wsgi-worker-0 in wait (")
    assert {"GET /hang 503 +", "GET /queued 503 +"} <= set(command.stdout.seen)


# -- threads and the process ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/thread", "reaper in wait ("), (b"/executor", "pool_0 in wait ("), (b"/atexit", "MainThread in")],
)
def test_thread_of_the_application_does_not_hold_the_process(path: bytes, name: str, tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "1") as command:
        with ask(command, path) as client:
            assert client.receive().body == b"done"
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(PATIENCE) == 1
        command.stderr.wait_for(f"gave up waiting after the graceful timeout for {name}")
    # What was logged before is not lost.
    assert f"GET {path.decode()} 200 +" in command.stdout.seen


def test_thread_that_ends_in_time_is_waited_for(tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "15") as command:
        with ask(command, b"/short-thread") as client:
            assert client.receive().body == b"done"
        command.process.send_signal(signal.SIGTERM)
        command.stdout.wait_for("thread done")
        assert command.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_wait_for_a_thread(number: int, tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "60") as command:
        with ask(command, b"/thread") as client:
            assert client.receive().body == b"done"
        command.process.send_signal(signal.SIGTERM)
        # It hears the second one from the beginning of the stop to the end of the process.
        eventually(lambda: is_refused(command.address), "the door closes")
        line = command.stderr.wait_for("stopping: waiting")
        assert "waiting up to 60 s for 1 thread: reaper in wait (" in line
        assert line.endswith("; send a second signal to end at once")
        command.process.send_signal(number)
        assert command.process.wait(PATIENCE) == 1
        command.stderr.wait_for("gave up waiting when asked to end at once for reaper in wait (")
        assert not any("Traceback" in line for line in command.stderr.seen)


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "again"), [(signal.SIGINT, "press Ctrl-C again"), (signal.SIGTERM, "send a second signal")]
)
def test_signal_says_at_once_what_the_stop_waits_for(number: int, again: str, tmp_path: Path) -> None:
    with running(tmp_path, "--graceful-timeout", "60") as command:
        client = ask(command, b"/hang")
        command.stdout.wait_for("inside")
        command.process.send_signal(number)
        line = command.stderr.wait_for("stopping: ")
        assert line == f"WSGIServer: stopping: waiting up to 60 s for 1 request (GET /hang); {again} to end at once"
        command.process.send_signal(number)
        with client:
            assert client.receive().status == 503
        line = command.stderr.wait_for("stopped with")
        assert line.endswith("stopped with 1 connection unfinished when it was to end at once: GET /hang")
        assert command.process.wait(PATIENCE) == 1


PROGRAM = """
import sys
from site_app import app
from wsgi.server import WSGIServer

WSGIServer(port=0, app=app, graceful_timeout=60).serve_forever()
print("after", flush=True)
"""


def test_program_of_its_own_gets_the_same_word_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APP)
    (tmp_path / "program.py").write_text(PROGRAM)

    with Command(cwd=tmp_path, start=[sys.executable, "program.py"]) as command:
        client = ask(command, b"/hang")
        command.stdout.wait_for("inside")
        command.process.send_signal(signal.SIGINT)
        command.stderr.wait_for("waiting up to 60 s for 1 request (GET /hang); press Ctrl-C again to end at once")
        command.process.send_signal(signal.SIGINT)
        with client:
            assert client.receive().status == 503
        command.stdout.wait_for("after")
        # The thread inside of the application is a daemon.
        assert command.process.wait(PATIENCE) == 0
