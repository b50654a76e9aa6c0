"""What happens at the same time: requests that wait hold up nobody, and what cannot run yet is queued within bounds."""

from __future__ import annotations

import contextlib
import itertools
import queue
import select
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.server import crowd
from tests.support import PATIENCE, Command, RawClient, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from wsgi.server import WSGIServer

ROOT = Path(__file__).parents[2]

LARGE = b"0123456789abcdef" * (1 << 19)
"""More than a system keeps for a client that has set its receive buffer small."""


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def answer(start_response: StartResponse, text: str) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


class Gates:
    """An application whose requests for `/hold/…` stay inside until their gate is opened; all others pass.

    As a context it opens every gate at the end, so that a test that fails does not wait for the server's stop.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._entered: queue.Queue[str] = queue.Queue()
        self._gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._over = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.ran.append(path)
        if path.startswith("/hold"):
            self.pass_through(path)
        return answer(start_response, path)

    def __enter__(self) -> Gates:
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        for path in list(self._gates):
            self.open(path)

    def pass_through(self, path: str) -> None:
        """Waits before the gate."""
        self._entered.put(path)
        gate = self._gates[path]
        assert self._over or gate.wait(PATIENCE)

    def open(self, *paths: str) -> None:
        """Lets the requests for these paths go on."""
        for path in paths:
            self._gates[path].set()

    def wait_inside(self, *paths: str) -> None:
        """Returns once a request for each of these paths is inside."""
        found = sorted(self._entered.get(timeout=PATIENCE) for _ in paths)
        assert found == sorted(paths)


class Clients(contextlib.ExitStack):
    """Connections to one server, closed together."""

    def __init__(self, server: WSGIServer) -> None:
        super().__init__()
        self._address = server.addresses[0]

    def connect(self) -> RawClient:
        return self.enter_context(RawClient(self._address))

    def ask(self, *paths: str) -> list[RawClient]:
        """A new connection for each path, which has sent a request for it."""
        clients = [self.connect() for _ in paths]
        for client, path in zip(clients, paths, strict=True):
            client.send(get(path))
        return clients


def has_answer(client: RawClient) -> bool:
    """Whether something has come, without waiting."""
    return bool(select.select([client.socket], [], [], 0)[0])


def answered(clients: list[RawClient], count: int) -> list[RawClient]:
    """Waits until exactly `count` of the clients have an answer, and gives those."""
    found: list[RawClient] = []
    while len(found) < count:
        left = [client for client in clients if client not in found]
        ready, _, _ = select.select([client.socket for client in left], [], [], PATIENCE)
        assert ready, f"{len(found)} of {count} answers came"
        found += [client for client in left if client.socket in ready]
    assert len(found) == count
    return found


def held(count: int) -> list[str]:
    return [f"/hold/{number}" for number in range(count)]


# -- requests that wait -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_others_are_answered_while_all_threads_but_one_are_inside(threads: int) -> None:
    paths = held(threads - 1)
    with serve(gates := Gates(), threads=threads) as server, gates, Clients(server) as clients:
        waiting = clients.ask(*paths)
        gates.wait_inside(*paths)
        others = [clients.connect() for _ in range(5)]
        for number in range(20):
            for other in others:
                other.send(get(f"/{number}"))
            assert [other.receive().body for other in others] == [f"/{number}".encode()] * 5
        assert not any(map(has_answer, waiting))
        gates.open(*paths)
        assert [client.receive().body.decode() for client in waiting] == paths


def test_requests_that_come_together_with_one_that_waits_are_answered_meanwhile() -> None:
    with serve(gates := Gates(), threads=2) as server, gates, Clients(server) as clients:
        for turn in range(10):
            slow, *quick = clients.ask(f"/hold/{turn}", *(f"/{number}" for number in range(10)))
            assert [client.receive().body for client in quick] == [f"/{number}".encode() for number in range(10)]
            assert not has_answer(slow)
            gates.open(f"/hold/{turn}")
            assert slow.receive().status == 200


def test_answer_made_before_a_call_that_waits_leaves_before_that_call_ends() -> None:
    # Answers may leave together, but not at the price of waiting for the application.
    gates, calls = Gates(), itertools.count()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Whichever of the two runs first is the quick one: nobody knows the order in which they are taken.
        if environ["PATH_INFO"] == "/either" and next(calls):
            gates.pass_through("/hold/second")
        return gates(environ, start_response)

    with serve(app, threads=1) as server, gates, Clients(server) as clients:
        (opening,) = clients.ask("/hold/first")
        gates.wait_inside("/hold/first")
        pair = clients.ask("/either", "/either")
        gates.open("/hold/first")
        assert opening.receive().status == 200
        (quick,) = answered(pair, 1)
        assert quick.receive().status == 200
        gates.wait_inside("/hold/second")
        gates.open("/hold/second")
        (slow,) = (client for client in pair if client is not quick)
        assert slow.receive().status == 200


@pytest.mark.parametrize("threads", [2, 8, 16])
def test_requests_that_wait_for_each_other_meet(threads: int) -> None:
    # Only if as many calls as there are threads really run side by side does anybody pass the barrier. At first the
    # server cannot know that these requests wait; later it has learned it.
    barrier = threading.Barrier(threads)
    names: list[set[str]] = []
    together: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        together.append(threading.current_thread().name)
        if barrier.wait(PATIENCE) == 0:
            names.append(set(together))
            together.clear()
        barrier.wait(PATIENCE)
        return answer(start_response, "met")

    rounds = 12
    with serve(app, threads=threads) as server, Clients(server) as clients:
        everybody = [clients.connect() for _ in range(threads)]
        for _ in range(rounds):
            for client in everybody:
                client.send(get("/meet"))
            assert [client.receive().body for client in everybody] == [b"met"] * threads
    # One worker more sees to the network meanwhile, and it is not always the same.
    assert [len(met) for met in names] == [threads] * rounds
    assert set().union(*names) <= {f"wsgi-worker-{number}" for number in range(threads + 1)}


def test_requests_that_wait_for_each_other_meet_among_quick_ones() -> None:
    barrier = threading.Barrier(7)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/meet":
            barrier.wait(PATIENCE)
        return answer(start_response, environ["PATH_INFO"])

    with serve(app, threads=8) as server, Clients(server) as clients:
        meeting, quick = [clients.connect() for _ in range(7)], [clients.connect() for _ in range(20)]
        for number in range(10):
            for client in meeting[:-1]:
                client.send(get("/meet"))
            for client in quick:
                client.send(get(f"/{number}"))
            assert [client.receive().body for client in quick] == [f"/{number}".encode()] * 20
            assert not any(map(has_answer, meeting))
            meeting[-1].send(get("/meet"))
            assert [client.receive().body for client in meeting] == [b"/meet"] * 7


# -- threads ----------------------------------------------------------------------------------------------------------


def test_requests_run_in_threads_of_python_with_names() -> None:
    found: list[threading.Thread] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found.append(threading.current_thread())
        return answer(start_response, "")

    with serve(app, threads=3) as server, Clients(server) as clients:
        for client in clients.ask(*["/"] * 30):
            client.receive()
        # Real ones, which debuggers and profilers know, and not stand-ins made up for a foreign thread.
        assert {type(thread) for thread in found} == {threading.Thread}
        assert {thread.name for thread in found} <= {f"wsgi-worker-{number}" for number in range(4)}
        assert set(found) <= set(threading.enumerate())
        # A request that never ends must not keep the program from ending.
        assert all(thread.daemon for thread in found)
    assert not any(thread.is_alive() for thread in found)


def test_thread_locals_last_as_long_as_their_worker() -> None:
    local = threading.local()
    barrier = threading.Barrier(4)
    counts: defaultdict[str, list[int]] = defaultdict(list)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        local.count = getattr(local, "count", 0) + 1
        counts[threading.current_thread().name].append(local.count)
        # All four at once, so that every worker gets its share.
        barrier.wait(PATIENCE)
        return answer(start_response, "")

    with serve(app, threads=4) as server, Clients(server) as clients:
        for _ in range(10):
            for client in clients.ask(*["/"] * 4):
                client.receive()
    assert set(counts) <= {f"wsgi-worker-{number}" for number in range(5)}
    assert all(seen == list(range(1, len(seen) + 1)) for seen in counts.values())
    assert sum(map(len, counts.values())) == 40


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_worker_survives_whatever_its_application_raises(error: type[BaseException]) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/raise":
            raise error("on purpose")
        return answer(start_response, threading.current_thread().name)

    with serve(app, threads=1) as server, Clients(server) as clients:
        for _ in range(5):
            raising, sound = clients.ask("/raise", "/")
            assert raising.receive().status == 500
            assert sound.receive().body == b"wsgi-worker-0"


@pytest.mark.parametrize(("threads", "expected"), [(1, False), (2, True), (16, True)])
def test_multithread_is_true_where_it_is(threads: int, expected: bool) -> None:
    # PEP 3333: whether "the application object may be simultaneously invoked by another thread in the same process".
    found: list[tuple[Any, ...]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found.append((environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]))
        return answer(start_response, "")

    with serve(app, threads=threads) as server, Clients(server) as clients:
        for client in clients.ask("/", "/"):
            client.receive()
    assert found == [(expected, False, False)] * 2


# -- one thread -------------------------------------------------------------------------------------------------------


def test_one_thread_runs_one_request_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inside.append(1)
        most.append(len(inside))
        # Gives the others every chance to come in.
        threading.Event().wait(0.001)
        inside.pop()
        return answer(start_response, environ["PATH_INFO"])

    with serve(app, threads=1) as server, Clients(server) as clients:
        paths = [f"/{number}" for number in range(50)]
        assert [client.receive().body.decode() for client in clients.ask(*paths)] == paths
    assert most == [1] * 50


def test_one_thread_serves_a_crowd() -> None:
    with serve(crowd.app, threads=1) as server:
        crowd.Crowd(server.addresses[0], "one", 50, 20).run()


SLOW_REQUESTS = {
    "head": [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Le", b"ngth: 2\r\n\r\nab"],
    "body": [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"x" * 100, b"x" * 59_900],
    "chunked body": [
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + b"x" * 0x80000,
        b"x" * 0x80000 + b"\r\n0\r\n\r\n",
    ],
}


@pytest.mark.parametrize("parts", SLOW_REQUESTS.values(), ids=SLOW_REQUESTS)
def test_request_that_comes_slowly_holds_no_thread(parts: list[bytes]) -> None:
    with serve(crowd.app, threads=1) as server, Clients(server) as clients:
        slow = [clients.connect() for _ in range(20)]
        for client in slow:
            client.send(parts[0])
        (quick,) = clients.ask("/quick?1")
        assert quick.receive().body == b"page 1"
        for client in slow:
            client.send(parts[1])
            assert client.receive("POST").status == 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A large file."""
    (tmp_path / "large").write_bytes(LARGE)
    return tmp_path / "large"


def as_list(environ: WSGIEnvironment, file: Path) -> Iterable[bytes]:
    return [LARGE]


def as_pieces(environ: WSGIEnvironment, file: Path) -> Iterable[bytes]:
    return [LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)]


def as_file(environ: WSGIEnvironment, file: Path) -> Iterable[bytes]:
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file.open("rb"))
    return wrapped


@pytest.mark.parametrize("make", [as_list, as_pieces, as_file])
def test_response_that_is_read_slowly_holds_no_thread(
    make: Callable[[WSGIEnvironment, Path], Iterable[bytes]], file: Path
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/large":
            return answer(start_response, "quick")
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(LARGE)))])
        return make(environ, file)

    with serve(app, threads=1) as server, Clients(server) as clients:
        slow = [clients.connect() for _ in range(3)]
        for client in slow:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.send(get("/large"))
            # The response has begun; of the rest most is not taken.
            select.select([client.socket], [], [], PATIENCE)
        (quick,) = clients.ask("/")
        assert quick.receive().body == b"quick"
        for client in slow:
            assert client.receive().body == LARGE


# -- the queue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_requests_beyond_the_threads_are_answered_when_one_is_free(threads: int) -> None:
    paths = held(threads)
    with serve(gates := Gates(), threads=threads) as server, gates, Clients(server) as clients:
        inside = clients.ask(*paths)
        gates.wait_inside(*paths)
        later = clients.ask(*(f"/{number}" for number in range(30)))
        assert sorted(gates.ran) == sorted(paths)
        gates.open(*paths)
        for client in (*inside, *later):
            assert client.receive().status == 200
    assert Counter(gates.ran) == Counter([*paths, *(f"/{number}" for number in range(30))])


@pytest.mark.parametrize("threads", [1, 3])
def test_requests_beyond_the_queue_are_refused_at_once(threads: int) -> None:
    paths = held(threads)
    with serve(gates := Gates(), threads=threads, queue_limit=5) as server, gates, Clients(server) as clients:
        inside = clients.ask(*paths)
        gates.wait_inside(*paths)
        later = clients.ask(*(f"/{number}" for number in range(20)))
        # While every thread is inside the application.
        refused = answered(later, 15)
        for client in refused:
            (response,) = client.responses("GET")
            # RFC 9110 §15.6.4, §10.2.3.
            assert response.status == 503
            assert int(response["Retry-After"]) > 0
            assert response["Connection"] == "close"
        gates.open(*paths)
        for client in (*inside, *(client for client in later if client not in refused)):
            assert client.receive().status == 200
        # And all is well again.
        for client in clients.ask("/", "/"):
            assert client.receive().status == 200
    # A refused request has not been run.
    assert len(gates.ran) == threads + 5 + 2


def test_refusal_of_head_has_no_content() -> None:
    # RFC 9110 §9.3.2.
    with serve(gates := Gates(), threads=1, queue_limit=1) as server, gates, Clients(server) as clients:
        clients.ask("/hold/0")
        gates.wait_inside("/hold/0")
        later = [clients.connect() for _ in range(5)]
        for client in later:
            client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in answered(later, 4):
            (response,) = client.responses("HEAD")
            assert response.status == 503
        gates.open("/hold/0")


def test_request_that_waits_too_long_for_a_thread_is_refused() -> None:
    # Every thread stays inside: the refusal must not wait for one.
    with serve(gates := Gates(), threads=2, queue_timeout=0.1) as server, gates, Clients(server) as clients:
        paths = held(2)
        inside = clients.ask(*paths)
        gates.wait_inside(*paths)
        for client in clients.ask("/1", "/2", "/3"):
            (response,) = client.responses("GET")
            assert response.status == 503
            assert int(response["Retry-After"]) > 0
        gates.open(*paths)
        for client in inside:
            assert client.receive().status == 200
    assert sorted(gates.ran) == paths


@pytest.mark.parametrize("threads", [1, 3])
def test_refusal_of_a_request_that_waits_too_long_is_in_time_with_every_thread_inside(threads: int) -> None:
    with serve(gates := Gates(), threads=threads, queue_timeout=0.4) as server, gates, Clients(server) as clients:
        paths = held(threads)
        inside = clients.ask(*paths)
        gates.wait_inside(*paths)
        for _ in range(2):
            asked = time.monotonic()
            (client,) = clients.ask("/late")
            (response,) = client.responses("GET")
            # Time is the subject. The bound leaves a busy machine a second, where it took five.
            assert (response.status, 0.4 <= time.monotonic() - asked < 1.4) == (503, True)
        gates.open(*paths)
        for client in inside:
            assert client.receive().status == 200


def test_request_whose_client_has_gone_meanwhile_is_not_run() -> None:
    with serve(gates := Gates(), threads=1) as server, gates, Clients(server) as clients:
        (inside,) = clients.ask("/hold/0")
        gates.wait_inside("/hold/0")
        with RawClient(server.addresses[0]) as departing:
            departing.send(get("/departed"))
        (staying,) = clients.ask("/staying")
        # Time is the subject: only after a second in the queue is a request worth a look.
        threading.Event().wait(1.2)
        gates.open("/hold/0")
        assert inside.receive().status == 200
        assert staying.receive().status == 200
    assert gates.ran == ["/hold/0", "/staying"]


def test_idle_connections_keep_nobody_out() -> None:
    with serve(Gates(), threads=1, max_connections=20) as server, Clients(server) as clients:
        idle = [clients.connect() for _ in range(20)]
        for client in idle:
            client.send(get("/"))
            client.receive()
        for number in range(20):
            (other,) = clients.ask(f"/{number}")
            assert other.receive().body == f"/{number}".encode()


# -- the interpreter's lock -------------------------------------------------------------------------------------------

BACKGROUND = """
import threading

go, counted = threading.Event(), threading.Event()

def count():
    go.wait()
    for number in range(300_000):
        pass
    print("counted", flush=True)
    counted.set()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/start":
        threading.Thread(target=count, daemon=True).start()
    if environ["PATH_INFO"] == "/go":
        go.set()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"counted" if counted.is_set() else b"counting"]
"""


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Command]:
    """An application with a thread of its own."""
    (tmp_path / "background.py").write_text(BACKGROUND)
    with Command("background:app", cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(get("/start"))
            client.receive()
        yield command


def test_background_thread_of_the_application_goes_on_while_the_server_is_idle(background: Command) -> None:
    with RawClient(background.address) as client:
        client.send(get("/go"))
        client.receive()
        # Nothing more is asked: only if the server, waiting for it, lets go of the interpreter does the thread get on.
        background.stdout.wait_for("counted")


def test_background_thread_of_the_application_goes_on_while_the_server_is_busy(background: Command) -> None:
    with connections(background.address, 8) as clients:
        clients[0].send(get("/go"))
        clients[0].receive()
        for _ in range(100_000):
            for client in clients:
                client.send(get("/"))
            if b"counted" in [client.receive().body for client in clients]:
                break
        else:
            pytest.fail("the thread never came to its end")
        background.stdout.wait_for("counted")


@contextlib.contextmanager
def connections(address: str, count: int) -> Iterator[list[RawClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RawClient(address)) for _ in range(count)]


def test_program_goes_on_while_a_request_is_read_and_a_response_written() -> None:
    # Both of them wait for their clients, each in a worker thread.
    with serve(streaming, threads=2) as server, Clients(server) as clients:
        reading, writing = clients.connect(), clients.connect()
        reading.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", b"x" * 100_000)
        writing.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        writing.send(get("/endless"))
        select.select([writing.socket], [], [], PATIENCE)
        # This very thread needs the interpreter as well.
        assert sum(range(100_000)) == 4_999_950_000
        reading.send(b"x" * 100_000)
        assert reading.receive().body == b"200000"


def streaming(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/endless":
        return answer(start_response, str(len(environ["wsgi.input"].read())))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return itertools.repeat(b"x" * 65536, 1000)
