"""Kept connections across a reload: clients that never try again must not notice it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.asgi.frames import CLOSE, TEXT, Socket, closing, frame
from tests.server.proxying import v1, v2
from tests.supervisor.test_processes import GET, Site, children, wait_until
from tests.support import PATIENCE, RawClient, Response, has_ipv6
from wsgi.errors import StartupError
from wsgi.supervisor.handover import open_handover

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

POST = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

APP = """
import contextlib, os, time
from pathlib import Path

FILES = []
HERE = Path(__file__).parent
VERSION = (HERE / "version").read_text()
exec((HERE / "at_import").read_text())

def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)

def app(environ, start_response):
    length = len(environ["wsgi.input"].read())
    client = environ["REMOTE_ADDR"] + " " + environ.get("REMOTE_PORT", "-")
    start_response("200 OK", [
        ("X-Client", client), ("X-Port", environ["SERVER_PORT"]), ("X-Length", str(length)),
    ])
    if environ["PATH_INFO"] == "/stream":
        def stream():
            yield b"begin"
            wait_for("go")
            yield b" end"
        return stream()
    if environ["PATH_INFO"] == "/hold":
        (HERE / "held").write_text(str(os.getpid()))
        wait_for("go")
    if environ["PATH_INFO"] == "/exhaust":
        with contextlib.suppress(OSError):
            while True:
                FILES.append(os.open("/dev/null", os.O_RDONLY))
    if environ["PATH_INFO"] == "/free":
        for file in FILES:
            os.close(file)
    return [f"{VERSION} {os.getpid()} True".encode()]
"""

ASGI_APP = """
import asyncio, os
from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "version").read_text()
exec((HERE / "at_import").read_text())

async def wait_for(name):
    while not (HERE / name).exists():
        await asyncio.sleep(0.01)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["type"] != "http":
        raise NotImplementedError
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message["body"])
        more = message["more_body"]
    address, port = scope["client"] or ("", "-")
    fields = {"X-Client": f"{address} {port}", "X-Port": str(scope["server"][1]), "X-Length": str(length)}
    if scope["path"] == "/events":
        fields["Content-Type"] = "text/event-stream"
    if scope["path"] == "/hold":
        (HERE / "held").write_text(str(os.getpid()))
        await wait_for("go")
    fields = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})
        await wait_for("go")
        await send({"type": "http.response.body", "body": b" end"})
        return
    if scope["path"] == "/events":
        await send({"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.body", "body": f"{VERSION} {os.getpid()} True".encode()})
"""

# The command, after a change of what it imports.
LAUNCHER = "import sys; %s; from wsgi.cli import main; sys.exit(main())"
TINY_QUEUE = LAUNCHER % (
    "import wsgi.supervisor.handover as handover; real = handover.socket.socketpair; "
    "tiny = lambda pair: (pair[0].setsockopt(1, 7, 1), pair)[1]; "
    "handover.socket.socketpair = lambda *kind: tiny(real(*kind)) if kind else real()"
)
DATAGRAMS = LAUNCHER % "import socket; del socket.SOCK_SEQPACKET"
FOUR_SHARDS = LAUNCHER % "import wsgi.server; wsgi.server._shards = lambda: 4"


@pytest.fixture(params=["WSGI", "ASGI"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """An application of either interface."""
    return Site(tmp_path, APP if request.param == "WSGI" else ASGI_APP)


@pytest.fixture
def wsgi_site(tmp_path: Path) -> Site:
    return Site(tmp_path, APP)


@pytest.fixture
def asgi_site(tmp_path: Path) -> Site:
    return Site(tmp_path, ASGI_APP)


class KeptClient(RawClient):
    """A client that keeps its connection and never connects again."""

    def __enter__(self) -> KeptClient:
        return self

    def kept(self) -> Response:
        """Reads a response that leaves the connection open."""
        response = self.receive()
        assert (response.status, response.values("Connection")) == (200, [])
        return response

    def ask(self, request: bytes = GET % b"/") -> tuple[str, int]:
        """Version and pid of the worker that answers."""
        self.send(request)
        version, pid, _ = self.kept().body.decode().split()
        return version, int(pid)


@contextlib.contextmanager
def kept_clients(address: str, count: int) -> Iterator[list[KeptClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(KeptClient(address)) for _ in range(count)]


def reload(site: Site, version: str) -> None:
    """Reloads, and waits until the former workers have ended. Sends no request."""
    site.version(version)
    before, wanted = set(site.answering()), len(site.answering())
    site.signal(signal.SIGHUP)
    wait_until(lambda: not before & set(site.answering()) and len(site.answering()) == wanted)
    site.wait_for_lines("serves (", wanted)


def begin_reload(site: Site, version: str) -> set[int]:
    """Reloads, and waits until the former workers accept no more; they have something to finish. Gives those."""
    site.version(version)
    before = set(site.answering())
    site.signal(signal.SIGHUP)
    site.wait_for_lines("serves (", len(before))
    wait_until(lambda: site.ask()[0] == version and not is_listening(before))
    return before & set(site.answering())


def is_listening(pids: set[int]) -> bool:
    """Whether one of the processes polls a listening socket."""
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line}
    for pid in pids:
        with contextlib.suppress(OSError):
            for info in Path(f"/proc/{pid}/fdinfo").iterdir():
                inodes = re.findall(r"^tfd:.* ino:([0-9a-f]+)", info.read_text(), re.MULTILINE)
                if listening & {str(int(inode, 16)) for inode in inodes}:
                    return True
    return False


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("family", ["TCP", "Unix"])
def test_kept_connections_live_through_reloads(site: Site, family: str) -> None:
    where = ["--bind", f"unix:{site.folder}/socket"] if family == "Unix" else []
    with site.served("--workers", "2", *where) as command, kept_clients(command.address, 50) as clients:
        # Half of them ask before the first reload, and half after it.
        for client in clients[::2]:
            assert client.ask()[0] == "one"
        for number in range(5):
            reload(site, str(number))
            answers = [client.ask() for client in clients]
            assert {version for version, _ in answers} == {str(number)}
            assert {pid for _, pid in answers} <= set(site.answering())
        assert command.stop() == 0
        for client in clients:
            client.expect_end()


def test_kept_connections_live_through_reloads_of_a_worker_with_several_pollers(wsgi_site: Site) -> None:
    site = wsgi_site
    start = [sys.executable, "-c", FOUR_SHARDS]
    with site.served("--workers", "1", start=start) as command, kept_clients(command.address, 20) as clients:
        for number in range(3):
            reload(site, str(number))
            assert {client.ask()[0] for client in clients} == {str(number)}
        assert command.stop() == 0


def test_requests_at_any_moment_of_reloads_are_answered(site: Site) -> None:
    faults: list[str] = []
    is_over = threading.Event()
    answered = [0] * 6

    def one(client: KeptClient) -> None:
        client.ask()

    def pair(client: KeptClient) -> None:
        client.send(2 * (GET % b"/"))
        client.kept()
        client.kept()

    def halves(client: KeptClient) -> None:
        client.send(b"GET / HTTP/1.1\r\nHo", b"st: a\r\n\r\n")
        client.kept()

    def post(client: KeptClient) -> None:
        client.send(POST % (b"/", 16384), bytes(16384))
        assert client.kept()["X-Length"] == "16384"

    def keep_asking(number: int, client: KeptClient, ask: Callable[[KeptClient], None]) -> None:
        pause = threading.Event()
        while not is_over.is_set():
            try:
                ask(client)
            except (AssertionError, OSError) as error:
                faults.append(f"{ask.__name__}: {error!r}")
                return
            answered[number] += 1
            # Connections that idle for different times.
            pause.wait((answered[number] % 5) / 1000)

    with site.served("--workers", "2") as command, kept_clients(command.address, 6) as clients:
        asks = [one, one, one, pair, halves, post]
        threads = [
            threading.Thread(target=keep_asking, args=[number, client, ask])
            for number, (client, ask) in enumerate(zip(clients, asks, strict=True))
        ]
        for thread in threads:
            thread.start()
        for number in range(5):
            before = list(answered)
            reload(site, str(number))
            wait_until(lambda: faults or all(now > then for now, then in zip(answered, before, strict=True)))  # noqa: B023
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert faults == []
        assert {client.ask()[0] for client in clients} == {"4"}
        assert command.stop() == 0


def test_head_that_has_begun_goes_on_in_the_successor(site: Site) -> None:
    with site.served("--workers", "1") as command, kept_clients(command.address, 2) as (fresh, used):
        used.ask()
        request = GET % b"/"
        for client in (fresh, used):
            client.send(request[:20])
        # A later connection is served: what was sent before has been read.
        site.ask()
        reload(site, "two")
        for client in (fresh, used):
            assert client.ask(request[20:])[0] == "two"
        assert command.stop() == 0


def test_upload_and_stream_end_in_the_former_worker_and_their_connections_go_on(site: Site) -> None:
    with site.served("--workers", "1") as command, kept_clients(command.address, 3) as (upload, stream, held):
        (former,) = site.answering()
        upload.send(POST % (b"/", 100_000), bytes(50_000))
        stream.send(GET % b"/stream")
        head = stream.receive_head()
        assert (head.status, head.values("Connection")) == (200, [])
        held.send(GET % b"/hold")
        wait_until((site.folder / "held").exists)
        assert begin_reload(site, "two") == {former}
        upload.send(bytes(50_000))
        assert upload.kept()["X-Length"] == "100000"
        # Its connection is with the successor, and the former worker still runs.
        assert upload.ask()[0] == "two"
        assert former in site.answering()
        site.let_go()
        assert held.kept().body.decode().split()[:2] == ["one", str(former)]
        assert stream._body(head, "GET") == b"begin end"
        wait_until(lambda: former not in site.answering())
        for client in (upload, stream, held):
            assert client.ask()[0] == "two"
        assert command.stop() == 0


@pytest.mark.parametrize("launcher", [TINY_QUEUE, DATAGRAMS], ids=["tiny", "datagrams"])
def test_other_queue_loses_nothing(site: Site, launcher: str) -> None:
    start = [sys.executable, "-c", launcher]
    options = ["--workers", "2", "--header-timeout", "60"]
    with site.served(*options, start=start) as command, kept_clients(command.address, 100) as clients:
        for number in range(3):
            reload(site, str(number))
            assert {client.ask()[0] for client in clients} == {str(number)}
        assert "are closed" not in "".join(command.stderr.seen)
        assert command.stop() == 0


def test_successor_that_is_killed_loses_only_its_own_connections(site: Site) -> None:
    with site.served("--workers", "2") as command, kept_clients(command.address, 40) as clients:
        reload(site, "two")
        where = [client.ask()[1] for client in clients]
        victim = where[0]
        os.kill(victim, signal.SIGKILL)
        command.stderr.wait_for(f"worker {victim} was killed by SIGKILL")
        for client, pid in zip(clients, where, strict=True):
            if pid == victim:
                client.expect_end()
            else:
                assert client.ask() == ("two", pid)
        assert command.stop() == 0


def test_connections_in_the_queue_outlive_workers_that_are_killed(site: Site) -> None:
    with site.served("--workers", "2") as command, kept_clients(command.address, 20) as clients:
        before = set(site.answering())
        # The former workers hand over, and no successor takes anything.
        site.at_import("import os, signal, threading, time\nfrom wsgi import server\n"
                       "def announce(self, run, real=server.WSGIServer._announce):\n"
                       "    real(self, run)\n"
                       "    os.kill(os.getpid(), signal.SIGSTOP)\n"
                       "server.WSGIServer._announce = announce\n")  # fmt: skip
        site.version("two")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(site.answering()) == 2 and not before & set(site.answering()))
        site.at_import("")
        for pid in site.answering():
            os.kill(pid, signal.SIGKILL)
        assert {client.ask()[0] for client in clients if not client.has_something() or not client.has_ended()} == {
            "two"
        }
        assert command.stop() == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_client_and_listener_are_the_same_after_a_reload(site: Site, host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    place = f"[{host}]:0" if ":" in host else f"{host}:0"
    with site.served("--workers", "1", "--bind", place, "--bind", place) as command:
        for address in command.addresses:
            with KeptClient(address) as client:
                before = client.ask()
                reload(site, before[0] + "x")
                client.send(GET % b"/")
                response = client.kept()
                own, port = client.socket.getsockname()[:2]
                assert response["X-Client"] == f"{own} {port}"
                assert response["X-Port"] == address.rpartition(":")[2]
        assert command.stop() == 0


def test_client_named_by_the_proxy_protocol_is_the_same_after_a_reload(site: Site) -> None:
    options = ["--workers", "1", "--proxy-protocol", "any", "--trusted-proxies", "127.0.0.1"]
    with (
        site.served(*options) as command,
        kept_clients(command.address, 4) as (used, named, half, silent),
    ):
        used.send(v1("192.0.2.1") + GET % b"/")
        assert used.kept()["X-Client"] == "192.0.2.1 4711"
        named.send(v2("192.0.2.2"))
        header = v2("192.0.2.3")
        half.send(header[:20])
        with KeptClient(command.address) as later:
            later.send(v1("192.0.2.9") + GET % b"/")
            later.kept()
        reload(site, "two")
        half.send(header[20:])
        silent.send(v1("192.0.2.4"))
        for number, client in enumerate((used, named, half, silent), 1):
            client.send(GET % b"/")
            response = client.kept()
            assert (response["X-Client"], response.body[:4]) == (f"192.0.2.{number} 4711", b"two ")
        assert command.stop() == 0


def test_full_workers_keep_connections_at_a_reload(site: Site) -> None:
    with site.served("--workers", "1", "--max-connections", "5") as command:
        with kept_clients(command.address, 5) as clients:
            for number in range(3):
                for client in clients:
                    client.ask()
                reload(site, str(number))
            assert {client.ask()[0] for client in clients} == {"2"}
        assert command.stop() == 0


def test_worker_less_hands_its_connections_over(site: Site) -> None:
    with site.served("--workers", "2") as command, kept_clients(command.address, 20) as clients:
        for client in clients:
            client.ask()
        site.signal(signal.SIGTTOU)
        wait_until(lambda: len(site.answering()) == 1)
        assert {client.ask()[1] for client in clients} == set(site.answering())
        assert command.stop() == 0


def test_stop_during_a_reload_finishes_requests_and_closes(site: Site) -> None:
    with site.served("--workers", "1") as command, kept_clients(command.address, 5) as (held, *idle):
        held.send(GET % b"/hold")
        wait_until((site.folder / "held").exists)
        (former,) = begin_reload(site, "two")
        site.signal(signal.SIGTERM)
        for client in idle:
            client.expect_end()
        site.let_go()
        # The former worker may answer a moment before it learns of the stop: then nothing tells of the close.
        response = held.receive()
        assert (response.status, response.body.decode().split()[1]) == (200, str(former))
        held.expect_end()
        assert command.process.wait(PATIENCE) == 0


def test_request_that_outlasts_the_graceful_timeout_is_refused(site: Site) -> None:
    options = ["--workers", "1", "--threads", "1", "--graceful-timeout", "0.5"]
    with site.served(*options) as command, kept_clients(command.address, 2) as (held, idle):
        idle.ask()
        held.send(GET % b"/hold")
        wait_until((site.folder / "held").exists)
        reload(site, "two")
        assert held.receive().status == 503
        held.expect_end()
        assert idle.ask()[0] == "two"
        assert command.stop() == 0


def test_worker_without_descriptors_takes_connections_over_when_some_are_free(wsgi_site: Site) -> None:
    site = wsgi_site
    site.at_import("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))")
    with site.served("--workers", "1") as command, kept_clients(command.address, 2) as (held, other):
        held.send(GET % b"/hold")
        wait_until((site.folder / "held").exists)
        (former,) = begin_reload(site, "two")
        assert other.ask(GET % b"/exhaust")[0] == "two"
        site.let_go()
        held.kept()
        wait_until(lambda: former not in site.answering())
        command.stderr.wait_for("cannot take connections over from another worker: Too many open files")
        held.send(GET % b"/")
        assert not held.has_something()
        other.ask(GET % b"/free")
        assert held.kept().body.startswith(b"two ")
        assert command.stop() == 0


def test_websocket_and_event_stream_end_at_a_reload(asgi_site: Site) -> None:
    site = asgi_site
    with site.served("--workers", "1") as command, KeptClient(command.address) as events:
        with Socket(command.address) as websocket:
            websocket.opened()
            websocket.send(frame(TEXT, b"hello"))
            assert websocket.read_frame().payload == b"hello"
            events.send(GET % b"/events")
            head = events.receive_head()
            assert head.status == 200
            site.version("two")
            site.signal(signal.SIGHUP)
            found = websocket.read_frame()
            assert (found.opcode, found.payload[:2]) == (CLOSE, struct.pack("!H", 1012))
            websocket.send(closing(1012))
            websocket.expect_end()
        assert events._body(head, "GET") == b"data: 1\n\n"
        wait_until(lambda: len(site.answering()) == 1)
        assert command.stop() == 0


def test_reloads_leave_no_descriptor_in_any_process(site: Site) -> None:
    with site.served("--workers", "2") as command:
        with kept_clients(command.address, 20) as clients:
            for client in clients:
                client.ask()
            for number in range(3):
                reload(site, str(number))
                for client in clients:
                    client.ask()
        site.ask()
        supervisor = command.process.pid
        wait_until(lambda: len({descriptors(pid) for pid in site.answering()}) == 1)
        # A worker that has never had one of them.
        site.signal(signal.SIGTTIN)
        wait_until(lambda: len(children(supervisor)) == 3)
        command.stderr.wait_for("serves (")
        wait_until(lambda: len({descriptors(pid) for pid in site.answering()}) == 1)
        before = descriptors(supervisor)
        reload(site, "last")
        wait_until(lambda: descriptors(supervisor) == before)
        assert command.stop() == 0


def test_queue_is_refused_in_one_line_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*kind: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("socket.socketpair", refuse)
    with pytest.raises(StartupError, match=r"^cannot start workers: Too many open files; raise the limit"):
        open_handover()


def test_queue_never_blocks_and_closes_its_ends() -> None:
    queue = open_handover()
    ends = queue.descriptors
    assert [os.get_blocking(end) for end in ends] == [False, False]
    assert [os.get_inheritable(end) for end in ends] == [False, False]
    queue.close()
    assert queue.descriptors == (-1, -1)
