"""Ctrl-C and SIGTERM at every moment: what runs is finished, nothing new begins, and the exit code says so."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import PATIENCE, Command, RawClient, Response, environment

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"

APP = """
import os, select, socket

def gate():
    # The test is at the other end: it sees who is inside, and closes to let go.
    return socket.create_connection(("127.0.0.1", int(os.environ["GATE"])))

def pieces(count):
    yield b"first "
    with gate() as held:
        held.recv(1)
    for number in range(count):
        yield b"%d " % number

def app(environ, start_response):
    path = environ["PATH_INFO"]
    fields = [("Content-Type", "text/plain")]
    if path == "/hold":
        with gate() as held:
            held.recv(1)
    if path == "/compute":
        with gate() as held:
            while not select.select([held], [], [], 0)[0]:
                pass
    if path == "/stream":
        start_response("200 OK", fields)
        return pieces(100)
    if path == "/large":
        start_response("200 OK", fields)
        return [b"x" * 8_000_000]
    body = environ["wsgi.input"].read()
    start_response("200 OK", fields)
    return [b"done " + str(len(body)).encode()]
"""


@dataclass
class Site:
    """The running application, and the gates its requests wait before."""

    command: Command
    gates: socket.socket
    clients: contextlib.ExitStack
    _held: list[socket.socket] = field(default_factory=list)

    def connect(self, *parts: bytes) -> RawClient:
        """A new connection that has sent something."""
        client = self.clients.enter_context(RawClient(self.command.address))
        client.send(*parts)
        return client

    def idle(self) -> RawClient:
        """A connection that has been answered and could ask again."""
        client = self.connect(GET % b"/")
        assert client.receive().status == 200
        return client

    def hold(self, path: bytes = b"/hold") -> RawClient:
        """A connection whose request is inside of the application."""
        client = self.connect(GET % path)
        self.wait_inside()
        return client

    def wait_inside(self) -> None:
        """Returns once one more request waits before its gate."""
        self._held.append(self.clients.enter_context(self.gates.accept()[0]))

    def let_go(self) -> None:
        """Opens the gates of all that wait."""
        while self._held:
            self._held.pop().close()

    def signal(self, number: int) -> None:
        """Sends a signal, and returns when the stop has begun: connections that idle are closed then."""
        with self.idle() as idle:
            self.command.process.send_signal(number)
            idle.expect_end()

    def exit_code(self) -> int:
        """Waits for the end of the process."""
        return self.command.process.wait(PATIENCE)


@contextlib.contextmanager
def serving(folder: Path, *options: str, program: str | None = None) -> Iterator[Site]:
    (folder / "site_app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as gates, contextlib.ExitStack() as clients:
        gates.settimeout(PATIENCE)
        env = {"GATE": str(gates.getsockname()[1])}
        if program is None:
            command = Command("site_app:app", *options, cwd=folder, env=env)
        else:
            (folder / "program.py").write_text(program)
            command = Command(cwd=folder, env=env, start=[sys.executable, "program.py"])
        with command:
            yield Site(command, gates, clients)
        errors = command.stderr.seen[command.stderr.seen.index(command.banner) + 1 :]
        assert not any("Traceback" in line or "defect" in line for line in errors), errors


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The application served by the command."""
    with serving(tmp_path) as site:
        yield site


both = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


def only(client: RawClient, method: str = "GET") -> Response:
    """The one response that comes before the end of the connection, which the client closes then as well."""
    with client:
        (response,) = client.responses(method)
    return response


def last(client: RawClient, method: str = "GET") -> bytes:
    """The content of a response that says that it is its connection's last one (RFC 9112 §9.6)."""
    response = only(client, method)
    assert (response.status, response["Connection"]) == (200, "close")
    return response.body


# -- moments ----------------------------------------------------------------------------------------------------------


@both
def test_signal_at_once_ends_with_0(number: int, site: Site) -> None:
    assert site.command.stop(number) == 0
    assert site.command.stderr.seen == [site.command.banner]


EARLY = """
import io, random, signal, sys
from wsgi.server import WSGIServer

class Banner(io.StringIO):
    # Said at the end of the start: the signal comes within the next moments, before or after the wait has begun.
    def flush(self):
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-5))

random.seed(1)
sys.stderr = Banner()
server = WSGIServer(port=0, app=print, threads=1)
signal.signal(signal.SIGALRM, lambda number, frame: server.shutdown())
for _ in range(60):
    server.serve_forever()
# The interpreter flushes it once more at its end, where nobody hears signals.
sys.stderr = sys.__stderr__
"""


def test_signal_at_any_moment_of_a_start_is_heard() -> None:
    # A handler of Python's runs when the main thread next runs Python: a wait that begins just then must not delay it.
    done = subprocess.run(
        [sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@both
def test_signal_while_idle_closes_idle_connections_and_ends_with_0(number: int, site: Site) -> None:
    idle = [site.idle() for _ in range(5)] + [site.connect() for _ in range(5)]
    site.command.process.send_signal(number)
    for client in idle:
        client.expect_end()
    assert site.exit_code() == 0


@both
@pytest.mark.parametrize("path", [b"/hold", b"/compute"])
def test_signal_while_a_request_is_inside_lets_it_finish(number: int, path: bytes, site: Site) -> None:
    client = site.hold(path)
    site.signal(number)
    assert site.command.process.poll() is None
    site.let_go()
    assert last(client) == b"done 0"
    assert site.exit_code() == 0


@both
def test_signal_while_requests_are_queued_lets_them_all_finish(number: int, tmp_path: Path) -> None:
    with serving(tmp_path, "--threads", "2") as site:
        inside = [site.hold() for _ in range(1)]
        idle = site.idle()
        inside.append(site.hold())
        queued = [site.connect(GET % b"/") for _ in range(20)]
        site.command.process.send_signal(number)
        idle.expect_end()
        site.let_go()
        for client in (*inside, *queued):
            assert last(client) == b"done 0"
        assert site.exit_code() == 0


ARRIVALS: dict[str, list[bytes]] = {
    "half a head": [b"GET / HTTP/1.1\r\nHo", b"st: a\r\n\r\n"],
    "half a small body": [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500, b"x" * 500],
    "half a large body": [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000,
        b"x" * 100_000,
    ],
    "half a chunk": [
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + b"x" * 100,
        b"x" * 3996 + b"\r\n0\r\n\r\n",
    ],
}


@both
@pytest.mark.parametrize("parts", ARRIVALS.values(), ids=ARRIVALS)
def test_signal_while_a_request_arrives_lets_it_arrive(number: int, parts: list[bytes], site: Site) -> None:
    client = site.connect(parts[0])
    # Both have been noticed by the time that the idle one is answered and closed.
    site.signal(number)
    client.send(parts[1])
    assert last(client, "POST").startswith(b"done ")
    assert site.exit_code() == 0


@both
def test_signal_while_a_response_is_streamed_lets_it_stream_to_its_end(number: int, site: Site) -> None:
    client = site.hold(b"/stream")
    site.signal(number)
    site.let_go()
    # The head was gone before the stop began: it may say keep-alive, but then comes the end.
    assert only(client).body == b"first " + b"".join(b"%d " % number for number in range(100))
    assert site.exit_code() == 0


@both
def test_signal_while_a_client_reads_slowly_lets_it_read_everything(number: int, site: Site) -> None:
    client = site.connect()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.send(GET % b"/large")
    select.select([client.socket], [], [], PATIENCE)
    site.signal(number)
    assert len(only(client).body) == 8_000_000
    assert site.exit_code() == 0


@both
def test_signal_turns_new_clients_away_while_the_last_requests_finish(number: int, site: Site) -> None:
    # Better refused, so that they or their balancer turn elsewhere, than reset in the end.
    client = site.hold()
    site.signal(number)
    # The idle connection may have been closed a moment before the door; who slips in then is answered.
    for _ in range(1000):
        try:
            late = site.connect(GET % b"/")
        except ConnectionRefusedError:
            break
        assert last(late) == b"done 0"
    else:
        pytest.fail("new clients are let in for ever")
    site.let_go()
    assert last(client) == b"done 0"
    assert site.exit_code() == 0


def test_pipelined_requests_behind_the_running_one_are_not_lost_silently(site: Site) -> None:
    client = site.connect((GET % b"/hold") + (GET % b"/"))
    site.wait_inside()
    site.signal(signal.SIGTERM)
    site.let_go()
    # RFC 9112 §9.6: what the server does not answer, it announces by closing after the last answer.
    assert last(client) == b"done 0"
    assert site.exit_code() == 0


# -- impatience -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_stops_at_once(first: int, second: int, site: Site) -> None:
    client = site.hold()
    site.signal(first)
    assert site.command.process.poll() is None
    site.command.process.send_signal(second)
    assert only(client).status == 503
    # Not 0: a request was given up.
    assert site.exit_code() == 1


def test_graceful_timeout_ends_the_patience_and_names_the_thread(tmp_path: Path) -> None:
    with serving(tmp_path, "--threads", "1", "--graceful-timeout", "200ms") as site:
        client = site.hold()
        site.command.process.send_signal(signal.SIGTERM)
        assert only(client).status == 503
        site.command.stderr.wait_for(f"wsgi-worker-0 in app ({tmp_path / 'site_app.py'}, line ")
        assert site.exit_code() == 1


def test_graceful_timeout_of_a_client_that_does_not_read_ends_the_patience(tmp_path: Path) -> None:
    with serving(tmp_path, "--graceful-timeout", "200ms") as site:
        client = site.connect()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(GET % b"/large")
        select.select([client.socket], [], [], PATIENCE)
        site.command.process.send_signal(signal.SIGTERM)
        # No thread is inside of the application, so nothing is stuck.
        assert site.exit_code() == 0


def test_graceful_timeout_of_0_waits_for_nobody(tmp_path: Path) -> None:
    with serving(tmp_path, "--graceful-timeout", "0") as site:
        client = site.hold()
        site.command.process.send_signal(signal.SIGTERM)
        assert only(client).status == 503
        assert site.exit_code() == 1


# -- programs of their own --------------------------------------------------------------------------------------------

HANDLERS_AFTER = """
import signal
from site_app import app
from wsgi.server import WSGIServer

server = WSGIServer(port=0, app=app)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
server.serve_forever()
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
print("after", flush=True)
server.serve_forever()
"""


@both
def test_handlers_are_put_back_when_the_run_is_over(number: int, tmp_path: Path) -> None:
    with serving(tmp_path, program=HANDLERS_AFTER) as site:
        site.command.process.send_signal(number)
        site.command.stdout.wait_for("after")
        # A second run, with handlers of its own.
        site.command.stderr.wait_for("Serving HTTP")
        assert site.idle()
        site.command.process.send_signal(number)
        assert site.exit_code() == 0


OWN_HANDLER = """
import signal
from site_app import app
from wsgi.server import WSGIServer

def mine(number, frame):
    print("mine", signal.Signals(number).name, flush=True)

signal.signal(signal.{name}, mine)
WSGIServer(port=0, app=app).serve_forever()
"""

OTHER = {"SIGINT": signal.SIGTERM, "SIGTERM": signal.SIGINT}


@pytest.mark.parametrize("name", OTHER)
def test_handler_of_the_program_is_respected(name: str, tmp_path: Path) -> None:
    with serving(tmp_path, program=OWN_HANDLER.format(name=name)) as site:
        for _ in range(2):
            site.command.process.send_signal(signal.Signals[name])
            site.command.stdout.wait_for(f"mine {name}")
            # The program wanted to be asked, and nothing else.
            assert site.idle()
        site.command.process.send_signal(OTHER[name])
        assert site.exit_code() == 0


IGNORED = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from site_app import app
from wsgi.server import WSGIServer

WSGIServer(port=0, app=app).serve_forever()
"""


def test_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    # As in a shell's background job.
    with serving(tmp_path, program=IGNORED) as site:
        site.command.process.send_signal(signal.SIGINT)
        assert site.idle()
        assert site.command.stop(signal.SIGTERM) == 0


EXITING = """
import signal, sys
from site_app import app
from wsgi.server import WSGIServer

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
WSGIServer(port=0, app=app).serve_forever()
"""


def test_handler_that_exits_gets_its_exit_code_after_the_last_request(tmp_path: Path) -> None:
    with serving(tmp_path, program=EXITING) as site:
        client = site.hold()
        site.signal(signal.SIGTERM)
        site.let_go()
        assert last(client) == b"done 0"
        assert site.exit_code() == 7


OTHER_THREAD = """
import sys, threading
from site_app import app
from wsgi.server import WSGIServer

server = WSGIServer(port=0, app=app)
thread = threading.Thread(target=server.serve_forever)
thread.start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
server.shutdown()
thread.join()
"""


def test_signal_is_the_programs_own_where_the_server_runs_in_another_thread(tmp_path: Path) -> None:
    with serving(tmp_path, program=OTHER_THREAD) as site:
        client = site.hold()
        site.signal(signal.SIGINT)
        site.command.stdout.wait_for("interrupted")
        site.let_go()
        assert last(client) == b"done 0"
        assert site.exit_code() == 0


CONTEXT = """
import sys, threading
from site_app import app
from wsgi.server import WSGIServer

with WSGIServer(port=0, app=app) as server:
    print(f"WSGIServer: Serving HTTP on {server.addresses[0]} (in the background)", file=sys.stderr, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("closed", flush=True)
"""


def test_signal_in_a_context_is_the_programs_own(tmp_path: Path) -> None:
    with serving(tmp_path, program=CONTEXT) as site:
        client = site.hold()
        site.signal(signal.SIGINT)
        site.command.stdout.wait_for("interrupted")
        site.let_go()
        assert last(client) == b"done 0"
        site.command.stdout.wait_for("closed")
        assert site.exit_code() == 0


SERVE = """
from site_app import app
from wsgi.server import serve

serve(app, port=0)
print("closed", flush=True)
"""


@both
def test_function_that_serves_returns_after_a_signal(number: int, tmp_path: Path) -> None:
    with serving(tmp_path, program=SERVE) as site:
        client = site.hold()
        site.signal(number)
        site.let_go()
        assert last(client) == b"done 0"
        site.command.stdout.wait_for("closed")
        assert site.exit_code() == 0


# -- signals that ask for no stop -------------------------------------------------------------------------------------


LINES = {
    "SIGHUP": "SIGHUP reopened the logs; without worker processes the application is not loaded again",
    "SIGUSR2": "SIGUSR2 was ignored: the server has no worker processes to restart",
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("loop", [None, "asyncio", "auto"], ids=["WSGI", "asyncio", "auto"])
def test_signal_for_worker_processes_stops_nothing_and_leaves_a_line(
    name: str, loop: str | None, tmp_path: Path
) -> None:
    (tmp_path / "site.py").write_text(ASYNC_APP)
    target = ("./site.py", "--loop", loop) if loop else ("wsgiref.simple_server:demo_app",)
    with Command(*target, cwd=tmp_path) as command:
        command.process.send_signal(signal.Signals[name])
        warning = command.stderr.wait_for(LINES[name])
        assert " WARNING " in warning
        with RawClient(command.address) as client:
            client.send(GET % b"/")
            assert client.receive().status == 200
        assert command.stop() == 0


ASYNC_APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
"""


SLOW_START = """
import sys
{before}
print("importing", flush=True)
sys.stdin.readline()

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
@pytest.mark.parametrize(
    ("before", "heard"),
    [
        ("", "SIGHUP reopened the logs"),
        ("import signal; signal.signal(signal.SIGHUP, lambda *_: print('mine', file=sys.stderr, flush=True))", "mine"),
        ("import faulthandler, signal; faulthandler.register(signal.SIGHUP)", "most recent call first"),
    ],
)
def test_signal_while_the_application_is_imported_does_not_end_the_process(
    name: str, before: str, heard: str, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(SLOW_START.format(before=before))
    with subprocess.Popen(
        [sys.executable, "-m", "wsgi_server", "slow:app", "--port", "0"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "importing\n"
            process.send_signal(getattr(signal, name))
            process.stdin.write("\n")
            process.stdin.flush()
            # From here on it is heard by whoever has asked for it.
            assert any("Serving HTTP" in line for line in process.stderr)
            process.send_signal(signal.SIGHUP)
            assert any(heard in line for line in process.stderr)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_hangup_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    # As below nohup.
    program = IGNORED.replace("SIGINT", "SIGHUP")
    with serving(tmp_path, program=program) as site:
        site.command.process.send_signal(signal.SIGHUP)
        assert site.idle()
        assert site.command.stop(signal.SIGTERM) == 0
    assert not any("SIGHUP" in line for line in site.command.stderr.seen)


OTHERS = """
import faulthandler, signal, sys
from site_app import app
from wsgi.server import WSGIServer

signal.signal(signal.SIGHUP, lambda number, frame: print("mine", flush=True))
# Python knows nothing of this handler.
faulthandler.register(signal.SIGUSR2, file=sys.stdout)
WSGIServer(port=0, app=app).serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of handlers that are not Python's")
def test_other_handlers_of_the_program_are_respected(tmp_path: Path) -> None:
    with serving(tmp_path, program=OTHERS) as site:
        site.command.process.send_signal(signal.SIGHUP)
        site.command.stdout.wait_for("mine")
        site.command.process.send_signal(signal.SIGUSR2)
        site.command.stdout.wait_for("most recent call first")
        assert site.command.stop(signal.SIGTERM) == 0


def logged(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_access_log_is_reopened_after_it_was_moved(tmp_path: Path) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with serving(tmp_path, "--access-log", "access.log", "--access-log-format", "%U") as site:
        count = 0
        for _ in range(3):
            for _ in range(50):
                client = site.connect(GET % b"/%d" % count)
                assert client.receive().status == 200
                count += 1
            log.rename(moved)
            site.command.process.send_signal(signal.SIGUSR1)
            site.command.stderr.wait_for(f"the access log {log} was reopened")
            found = tmp_path / f"kept.{count}"
            moved.rename(found)
        assert site.command.stop() == 0
    lines = [line for number in (50, 100, 150) for line in logged(tmp_path / f"kept.{number}")] + logged(log)
    assert lines == [f"/{number}" for number in range(150)]


def test_access_log_that_cannot_be_reopened_goes_on_in_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with serving(tmp_path, "--access-log", "logs/access.log", "--access-log-format", "%U") as site:
        folder.rename(tmp_path / "moved")
        site.command.process.send_signal(signal.SIGUSR1)
        line = site.command.stderr.wait_for("cannot reopen the access log ")
        assert f"{folder / 'access.log'}: No such file or directory" in line
        assert site.connect(GET % b"/after").receive().status == 200
        assert site.command.stop() == 0
    assert logged(tmp_path / "moved" / "access.log") == ["/after"]


def test_signal_to_reopen_without_a_log_file_does_no_harm(site: Site) -> None:
    site.command.process.send_signal(signal.SIGUSR1)
    assert site.idle()
    assert site.command.stop() == 0


# -- standard streams that are closed ---------------------------------------------------------------------------------

DESCRIPTORS = """
import json, os, sys

def app(environ, start_response):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    environ["wsgi.errors"].write("to wsgi.errors")
    found = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([found, [sys.stdin is None, sys.stdout is None, sys.stderr is None]]).encode()]
"""

ASYNC_DESCRIPTORS = """
import json, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    found = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps([found, [False] * 3]).encode()})
"""

PROGRAM_WITHOUT_STREAMS = """
import sys
from site_app import app
from wsgi.server import WSGIServer

WSGIServer("127.0.0.1", int(sys.argv[1]), app).serve_forever()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are looked up in /proc")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("kind", ["WSGI", "asyncio", "auto", "program"])
def test_closed_standard_stream_never_becomes_a_socket(closed: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(ASYNC_DESCRIPTORS if kind in ("asyncio", "auto") else DESCRIPTORS)
    (tmp_path / "program.py").write_text(PROGRAM_WITHOUT_STREAMS)
    # Chosen by the system a moment ago: without streams the server could not say what it was given.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "wsgi_server", "site_app:app", "--port", str(port), "--access-log", "-"]
    if kind == "program":
        command = [sys.executable, "program.py", str(port)]
    elif kind != "WSGI":
        command += ["--loop", kind]
    closing = " ".join(f"{number}>&-" for number in closed)
    line = f'exec "$@" {closing}'
    process = subprocess.Popen(
        ["/bin/sh", "-c", line, "sh", *command],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = connected(f"http://127.0.0.1:{port}", process)
        with client:
            client.send(GET % b"/")
            response = client.receive()
        assert response.status == 200
        found, missing = json.loads(response.body)
        assert found == ["/dev/null"] * 3
        assert kind == "program" or missing == [False] * 3
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def connected(address: str, process: subprocess.Popen[bytes]) -> RawClient:
    """A client of a server that is just starting."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            return RawClient(address)
        pause.wait(0.02)
    pytest.fail(f"no server at {address}, exit code {process.poll()}")
