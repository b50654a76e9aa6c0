"""The server inside of a program: started, stopped and started again, from wherever the program likes."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import falcon.asgi
import pytest

from tests.support import PATIENCE, RawClient, Response, environment, run, serve
from wsgi.server import WSGIRequestHandler, WSGIServer, demo_app, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def named(name: str) -> WSGIApplication:
    """An application that answers with its name."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [name.encode()]

    return app


hello = named("hello")


def get(address: str, path: str = "/") -> Response:
    """Asks on a connection of its own, which must end after the answer."""
    with RawClient(address) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        (response,) = client.responses("GET")
    return response


def is_listening(address: tuple[str, int] | str) -> bool:
    """Whether somebody accepts connections at `(host, port)`."""
    assert isinstance(address, tuple)
    try:
        socket.create_connection(address, PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def made(app: WSGIApplication | None = hello, **options: Any) -> Iterator[WSGIServer]:
    """A server that does not serve yet, closed at the end."""
    server = WSGIServer(port=0, app=app, **options)
    try:
        yield server
    finally:
        server.server_close()


class Thread(threading.Thread):
    """A thread that gives back what its function returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._problem: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._function()
        except BaseException as problem:
            self._problem = problem

    def finish(self) -> None:
        """Waits for the end of the function."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the call does not return"
        if self._problem is not None:
            raise self._problem


class Held:
    """An application whose requests stay inside until they are let go."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.inside.release()
        assert self.go.wait(PATIENCE)
        return hello(environ, start_response)

    def wait_inside(self) -> None:
        """Returns once one more request is inside."""
        assert self.inside.acquire(timeout=PATIENCE)


# -- serve_forever and shutdown ---------------------------------------------------------------------------------------


def test_server_serves_in_any_thread_until_it_is_shut_down(capsys: pytest.CaptureFixture[str]) -> None:
    with made() as server:
        thread = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        thread.finish()
        banner = f"WSGIServer: Serving HTTP on {server.addresses[0]} (WSGI, up to 16 threads, pid {os.getpid()})\n"
        assert capsys.readouterr().err == banner


def test_server_serves_again_after_a_shutdown_on_the_same_port() -> None:
    with made() as server:
        addresses = server.addresses
        for turn in range(5):
            server.set_app(named(f"turn {turn}"))
            thread = Thread(server.serve_forever)
            assert get(server.addresses[0]).body == f"turn {turn}".encode()
            server.shutdown()
            thread.finish()
        assert server.addresses == addresses


def test_client_that_comes_between_two_runs_is_answered_by_the_second() -> None:
    with made() as server:
        for _ in range(3):
            with RawClient(server.addresses[0]) as early:
                early.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                thread = Thread(server.serve_forever)
                assert early.receive().body == b"hello"
            server.shutdown()
            thread.finish()


def test_shutdown_without_a_run_is_nothing() -> None:
    with made() as server:
        server.shutdown()
        thread = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        server.shutdown()
        thread.finish()
        server.shutdown()


def test_shutdown_by_the_application_answers_its_request_first() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        server.shutdown()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (piece for piece in (b"good", b"bye"))

    with made(app) as server:
        for _ in range(2):
            thread = Thread(server.serve_forever)
            with RawClient(server.addresses[0]) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                (response,) = client.responses("GET")
            assert (response.body, response["Connection"]) == (b"goodbye", "close")
            thread.finish()


def test_shutdown_by_a_signal_handler_of_the_program_ends_the_run() -> None:
    def ask_and_signal() -> None:
        assert get(server.addresses[0]).body == b"hello"
        os.kill(os.getpid(), signal.SIGUSR1)

    with made() as server:
        before = signal.signal(signal.SIGUSR1, lambda number, frame: server.shutdown())
        try:
            thread = Thread(ask_and_signal)
            # The handler runs in this thread, in the midst of the wait.
            server.serve_forever()
            thread.finish()
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_exception_of_a_signal_handler_ends_the_run_and_comes_through() -> None:
    class Alarm(Exception):
        pass

    def raise_alarm(number: int, frame: object) -> None:
        raise Alarm

    def ask_and_signal() -> None:
        assert get(server.addresses[0]).body == b"hello"
        os.kill(os.getpid(), signal.SIGUSR1)

    with made() as server:
        before = signal.signal(signal.SIGUSR1, raise_alarm)
        try:
            thread = Thread(ask_and_signal)
            with pytest.raises(Alarm):
                server.serve_forever()
            thread.finish()
        finally:
            signal.signal(signal.SIGUSR1, before)
        # All is tidy: it can serve again.
        again = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        again.finish()


def test_exception_of_a_signal_handler_in_the_midst_of_a_start_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alarm(Exception):
        pass

    start = threading.Thread.start

    def start_interrupted(thread: threading.Thread) -> None:
        start(thread)
        monkeypatch.undo()
        try:
            raise Alarm
        except Alarm:
            # As `threading` does: the thread has taken itself out of the list of those that begin.
            del dict[threading.Thread, object]()[thread]

    with made() as server:
        monkeypatch.setattr(threading.Thread, "start", start_interrupted)
        with pytest.raises(Alarm):
            server.serve_forever()
        again = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        again.finish()


def test_shutdown_finishes_what_runs_and_closes_what_idles() -> None:
    with made(held := Held(), threads=2) as server, RawClient(server.addresses[0]) as idle:
        thread = Thread(server.serve_forever)
        with RawClient(server.addresses[0]) as running, RawClient(server.addresses[0]) as queued:
            for client in (running, idle, queued):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            held.wait_inside()
            held.wait_inside()
            with RawClient(server.addresses[0]) as silent:
                server.shutdown()
                # Nobody waits for those that have not asked.
                silent.expect_end()
            assert thread.is_alive()
            held.go.set()
            for client in (running, idle, queued):
                (response,) = client.responses("GET")
                # RFC 9112 §9.6: who closes says so in the last response.
                assert (response.status, response["Connection"]) == (200, "close")
        thread.finish()


def test_requests_that_wait_for_a_thread_are_answered_by_a_stop() -> None:
    with made(held := Held(), threads=1) as server:
        thread = Thread(server.serve_forever)
        clients = [RawClient(server.addresses[0]) for _ in range(20)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        held.wait_inside()
        server.shutdown()
        held.go.set()
        for client in clients:
            with client:
                (response,) = client.responses("GET")
                assert response.status == 200
        thread.finish()


def test_stop_gives_up_at_last_and_names_the_stuck_thread(caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    server = WSGIServer(port=0, app=held, threads=1, graceful_timeout=0.05)
    with RawClient(server.addresses[0]) as client:
        with server:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            held.wait_inside()
        try:
            assert server.stuck == ("wsgi-worker-0",)
            assert any("wsgi-worker-0" in message for message in caplog.messages)
            # The client is not left waiting.
            (response,) = client.responses("GET")
            assert response.status == 503
        finally:
            (worker,) = (thread for thread in threading.enumerate() if thread.name == "wsgi-worker-0")
            held.go.set()
            worker.join(PATIENCE)
    # It comes home late, and does no harm.
    assert not worker.is_alive()


@pytest.mark.parametrize("start", [WSGIServer.serve_forever, WSGIServer.handle_request, WSGIServer.__enter__])
def test_start_of_a_running_server_is_refused_and_harms_nothing(start: Callable[[WSGIServer], object]) -> None:
    with made() as server:
        thread = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        with pytest.raises(RuntimeError, match="running"):
            start(server)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        thread.finish()


@pytest.mark.parametrize("start", [WSGIServer.serve_forever, WSGIServer.handle_request, WSGIServer.__enter__])
def test_start_without_an_application_or_after_the_close_is_refused(start: Callable[[WSGIServer], object]) -> None:
    with made(None) as server:
        with pytest.raises(RuntimeError, match="application"):
            start(server)
        server.set_app(hello)
        server.server_close()
        with pytest.raises(RuntimeError, match="closed"):
            start(server)


# -- the context ------------------------------------------------------------------------------------------------------


def test_context_serves_until_its_end() -> None:
    with WSGIServer(port=0, app=hello) as server:
        assert get(server.addresses[0]).body == b"hello"
    assert not is_listening(server.server_address)


def fail_after(response: Response) -> None:
    assert response.body == b"hello"
    raise ZeroDivisionError


def test_context_that_ends_with_an_exception_closes_as_well() -> None:
    server = WSGIServer(port=0, app=hello)
    with pytest.raises(ZeroDivisionError), server:
        fail_after(get(server.addresses[0]))
    assert not is_listening(server.server_address)


def let_go_after(idle: RawClient, held: Held) -> None:
    idle.expect_end()
    held.go.set()


def test_context_finishes_what_runs() -> None:
    held = Held()
    with contextlib.ExitStack() as clients:
        with serve(held) as server:
            client, idle = (clients.enter_context(RawClient(server.addresses[0])) for _ in range(2))
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            held.wait_inside()
            # Let go only once the stop has begun, which a connection that idles notices.
            release = Thread(lambda: let_go_after(idle, held))
        (response,) = client.responses("GET")
        assert (response.status, response.body) == (200, b"hello")
        release.finish()


def test_context_can_be_closed_inside() -> None:
    with WSGIServer(port=0, app=hello) as server:
        assert get(server.addresses[0]).body == b"hello"
        server.server_close()
        assert not is_listening(server.server_address)


def test_servers_follow_each_other_on_one_port_at_once() -> None:
    with WSGIServer(port=0, app=named("0")) as server:
        port = server.server_port
    for number in range(1, 6):
        # The connections of the one before are yet in the kernel's memory (TIME_WAIT).
        with WSGIServer(port=port, app=named(str(number))) as server, RawClient(server.addresses[0]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == str(number).encode()


def test_several_servers_in_one_process_keep_to_themselves() -> None:
    with serve(named("a")) as a, serve(named("b"), threads=1) as b:
        with serve(named("c")) as c:
            servers = {"a": a, "b": b, "c": c}
            assert len({server.server_port for server in servers.values()}) == 3
            for _ in range(3):
                for name, server in servers.items():
                    assert get(server.addresses[0]).body == name.encode()
        assert not is_listening(c.server_address)
        for name in "ab":
            assert get(servers[name].addresses[0]).body == name.encode()


def test_server_can_ask_another_of_the_same_process() -> None:
    def relay(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"relayed ", get(inner.addresses[0]).body]

    with serve(hello, threads=1) as inner, serve(relay, threads=1) as outer:
        assert get(outer.addresses[0]).body == b"relayed hello"


# -- server_close -----------------------------------------------------------------------------------------------------


def test_close_while_running_answers_and_then_refuses() -> None:
    with made(held := Held()) as server, RawClient(server.addresses[0]) as client:
        serving = Thread(server.serve_forever)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        held.wait_inside()
        with RawClient(server.addresses[0]) as idle:
            closing = Thread(server.server_close)
            idle.expect_end()
        held.go.set()
        (response,) = client.responses("GET")
        assert response.body == b"hello"
        closing.finish()
        serving.finish()
        assert not is_listening(server.server_address)


def test_close_by_the_application_does_not_wait_for_itself() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        server.server_close()
        return hello(environ, start_response)

    with made(app) as server:
        serving = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        serving.finish()
        assert not is_listening(server.server_address)


def test_close_twice_is_close_once() -> None:
    with made() as server:
        server.server_close()
        server.server_close()
        assert not is_listening(server.server_address)


def test_server_that_nobody_refers_to_lets_its_port_go() -> None:
    server = WSGIServer(port=0, app=hello)
    address = server.server_address
    assert is_listening(address)
    del server
    gc.collect()
    assert not is_listening(address)


# -- handle_request ---------------------------------------------------------------------------------------------------


def test_handle_request_answers_one_and_leaves_the_next_in_the_queue() -> None:
    with made() as server, RawClient(server.addresses[0]) as first, RawClient(server.addresses[0]) as second:
        for client in (first, second):
            # Two requests on the connection: the second one is not this call's, nor anybody's.
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        for client in (first, second):
            server.handle_request()
            response = client.receive()
            assert (response.body, response["Connection"]) == (b"hello", "close")
            client.expect_end()


def test_handle_request_in_a_loop_serves() -> None:
    def ask() -> None:
        for _ in range(5):
            assert get(server.addresses[0]).body == b"hello"

    with made() as server:
        asking = Thread(ask)
        for _ in range(5):
            server.handle_request()
        asking.finish()


@pytest.mark.parametrize("sent", [None, b"", b"GET / HTT"], ids=["nobody", "silence", "half a head"])
def test_handle_request_returns_after_its_timeout(sent: bytes | None) -> None:
    with made(header_timeout=0.2) as server:
        server.timeout = 0.05
        if sent is None:
            server.handle_request()
            return
        with RawClient(server.addresses[0]) as client:
            client.send(sent)
            server.handle_request()
            # Nobody who has not asked is kept waiting either.
            assert b" 200 " not in client.socket.recv(1000)
        server.timeout = None
        # It can be asked again.
        asking = Thread(lambda: get(server.addresses[0]))
        server.handle_request()
        asking.finish()


def test_handle_request_finishes_what_began_before_its_timeout() -> None:
    with made(held := Held()) as server, RawClient(server.addresses[0]) as client:
        server.timeout = 0.05
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

        def let_go() -> None:
            held.wait_inside()
            # Time is the subject: well after the timeout.
            threading.Event().wait(0.2)
            held.go.set()

        releasing = Thread(let_go)
        server.handle_request()
        releasing.finish()
        (response,) = client.responses("GET")
        assert response.body == b"hello"


def test_handle_request_is_ended_by_a_shutdown() -> None:
    with made() as server:
        handling = Thread(server.handle_request)
        # Asked for until it is heard: nobody can tell from outside when the wait has begun.
        for _ in range(2000):
            server.shutdown()
            handling.join(0.01)
            if not handling.is_alive():
                break
        handling.finish()


# -- wsgiref's names --------------------------------------------------------------------------------------------------


def test_make_server_makes_what_it_is_told() -> None:
    class Mine(WSGIServer):
        pass

    with make_server("127.0.0.1", 0, hello) as server:
        assert type(server) is WSGIServer
        assert server.get_app() is hello
        thread = Thread(server.serve_forever)
        assert get(server.addresses[0]).body == b"hello"
        server.shutdown()
        thread.finish()
    with make_server("127.0.0.1", 0, hello, Mine, threads=2) as server:
        assert type(server) is Mine
        assert server.settings.threads == 2


@pytest.mark.parametrize("base", [WSGIRequestHandler, wsgiref.simple_server.WSGIRequestHandler])
@pytest.mark.parametrize("name", ["get_environ", "handle", "parse_request", "send_error"])
def test_handler_class_that_would_be_ignored_is_refused_with_what_does_it_here(base: type, name: str) -> None:
    mine = type("Mine", (base,), {name: lambda self: None, "helper": None})
    with pytest.raises(TypeError, match=rf"^handler_class Mine overrides {name}\(\), which is not called here: "):
        make_server("127.0.0.1", 0, hello, handler_class=mine)
    with pytest.raises(TypeError, match=rf"^handler_class Mine overrides {name}\(\), which is not called here: "):
        WSGIServer(("127.0.0.1", 0), mine)


def test_handler_class_of_wsgiref_that_changes_the_log_is_taken() -> None:
    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        server_version = "mine"

        def log_message(self, format: str, *args: object) -> None:
            raise AssertionError

    with make_server("127.0.0.1", 0, hello, handler_class=Quiet) as server:
        assert type(server) is WSGIServer


@pytest.mark.parametrize("name", ["verify_request", "get_request", "finish_request", "service_actions"])
def test_server_class_that_would_be_ignored_is_refused_with_what_does_it_here(name: str) -> None:
    mine = type("Mine", (WSGIServer,), {name: lambda self: None})
    with pytest.raises(TypeError, match=rf"^server_class Mine overrides {name}\(\), which is not called here: "):
        make_server("127.0.0.1", 0, hello, mine)


def test_server_class_of_wsgiref_is_refused_with_the_right_import() -> None:
    with pytest.raises(TypeError, match=r"WSGIServer must be a subclass of wsgi\.server\.WSGIServer: import "):
        make_server("127.0.0.1", 0, hello, wsgiref.simple_server.WSGIServer)  # type: ignore[arg-type]


def test_socket_of_wsgiref_is_not_there_and_says_what_is() -> None:
    with made() as server, pytest.raises(AttributeError, match="TLS is not supported, use a proxy"):
        _ = server.socket


def test_demo_app_shows_its_environ() -> None:
    with serve(demo_app) as server:
        body = get(server.addresses[0]).body
    assert body.startswith(b"Hello world!\n\n")
    assert b"\nREQUEST_METHOD = 'GET'\n" in body


def test_attributes_tell_where_it_listens() -> None:
    with serve(hello) as server:
        assert isinstance(server.server_address, tuple)
        host, port = server.server_address
        assert (host, port) == ("127.0.0.1", server.server_port)
        assert server.server_name == "127.0.0.1"
        assert server.addresses == (f"http://127.0.0.1:{port}",)
        assert f"127.0.0.1:{port}" in repr(server)
        with socket.socket(fileno=os.dup(server.fileno())) as listener:
            assert listener.getsockname() == (host, port)
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_fileno_announces_clients_to_a_loop_of_the_program() -> None:
    with made() as server, RawClient(server.addresses[0]) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        ready, _, _ = select.select([server], [], [], PATIENCE)
        assert ready == [server]
        server.handle_request()
        assert client.receive().body == b"hello"


def test_base_environ_is_what_every_environ_begins_with() -> None:
    found: list[WSGIEnvironment] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found.append(environ)
        return hello(environ, start_response)

    with made(app) as server:
        server.base_environ["myapp.database"] = found
        server.base_environ["SERVER_NAME"] = "shop.example"
        thread = Thread(server.serve_forever)
        get(server.addresses[0])
        server.shutdown()
        thread.finish()
        assert server.server_name == "shop.example"
    (environ,) = found
    assert environ["myapp.database"] is found
    assert environ["SERVER_NAME"] == "shop.example"
    assert environ["SERVER_PORT"] == str(server.server_port)


def test_application_set_while_running_is_served_from_the_next_start_on() -> None:
    with made(named("old")) as server:
        for expected in (b"old", b"new"):
            thread = Thread(server.serve_forever)
            assert get(server.addresses[0]).body == expected
            server.set_app(new := named("new"))
            assert server.get_app() is new
            assert get(server.addresses[0]).body == expected
            server.shutdown()
            thread.finish()


WSGIREF_PROGRAMS = {
    # As the pages of wsgiref.simple_server show them.
    "serve_forever": """
        with make_server("127.0.0.1", 0, app) as httpd:
            print(httpd.server_port, flush=True)
            httpd.serve_forever()
        """,
    "handle_request": """
        with make_server("127.0.0.1", 0, app) as httpd:
            print(httpd.server_port, flush=True)
            httpd.handle_request()
        """,
    "without with": """
        httpd = make_server("127.0.0.1", 0, app)
        print(httpd.server_port, flush=True)
        httpd.serve_forever()
        """,
    "shutdown from a thread": """
        with make_server("127.0.0.1", 0, app) as httpd:
            print(httpd.server_port, flush=True)
            threading.Thread(target=lambda: (sys.stdin.read(), httpd.shutdown())).start()
            httpd.serve_forever()
        """,
    "classes of the program": """
        class Quiet(WSGIRequestHandler):
            def log_message(self, format, *args): pass
            def log_request(self, code="-", size="-"): super().log_request(code, size)
            def address_string(self): return self.client_address[0]

        class Threading(socketserver.ThreadingMixIn, WSGIServer):
            daemon_threads = False
            def setup_environ(self):
                super().setup_environ()
                self.base_environ["myapp.added"] = "yes"

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello" if environ["myapp.added"] == "yes" else b""]

        with make_server("127.0.0.1", 0, app, server_class=Threading, handler_class=Quiet) as httpd:
            print(httpd.server_port, flush=True)
            httpd.handle_request()
        """,
    "constructor": """
        with WSGIServer(("127.0.0.1", 0), WSGIRequestHandler) as httpd:
            httpd.set_app(app)
            print(httpd.server_port, flush=True)
            httpd.handle_request()
        """,
}


@pytest.mark.parametrize("module", ["wsgiref.simple_server", "wsgi.server"])
@pytest.mark.parametrize("program", WSGIREF_PROGRAMS.values(), ids=WSGIREF_PROGRAMS)
def test_program_written_for_wsgiref_needs_another_import_and_no_more(module: str, program: str) -> None:
    lines = [
        "import socketserver, sys, threading",
        f"from {module} import WSGIRequestHandler, WSGIServer, demo_app, make_server",
        "def app(environ, start_response):",
        '    start_response("200 OK", [("Content-Type", "text/plain")])',
        '    return [b"hello"]',
        textwrap.dedent(program),
        'print("over", flush=True)',
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            # No raw client here: wsgiref answers as HTTP/1.0.
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"".join(iter(lambda: client.recv(1000), b"")).endswith(b"\r\n\r\nhello")
        if "serve_forever" in program and "shutdown" not in program:
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=PATIENCE)
            # wsgiref ends by KeyboardInterrupt, and this server gracefully.
            assert "RuntimeError" not in stderr
            assert module != "wsgi.server" or process.returncode == 0
        else:
            stdout, stderr = process.communicate("", timeout=PATIENCE)
            assert (process.returncode, stdout) == (0, "over\n"), stderr
    finally:
        process.kill()
        process.communicate()


# -- what is no WSGI application --------------------------------------------------------------------------------------


async def asgi_function(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("never called")


class AsgiClass:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("never called")

    async def method(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("never called")


ASGI = {
    "function": asgi_function,
    "instance": AsgiClass(),
    "method": AsgiClass().method,
    "partial": functools.partial(asgi_function),
    "framework": falcon.asgi.App(),
}


@pytest.mark.parametrize("app", ASGI.values(), ids=ASGI)
def test_asgi_application_is_taken_where_the_option_says_wsgi(app: Any) -> None:
    with made(app, interface="wsgi") as server:
        assert server.get_app() is app


@pytest.mark.parametrize("app", [5, "module:app", b"", [], {}, object()], ids=lambda app: type(app).__name__)
def test_what_cannot_be_called_is_refused_with_its_type(app: Any) -> None:
    with pytest.raises(TypeError, match=rf"callable.*{type(app).__name__}"):
        WSGIServer(port=0, app=app)


def test_refused_application_leaves_the_port_alone() -> None:
    with made() as server:
        port = server.server_port
    with pytest.raises(TypeError):
        WSGIServer(port=port, app=cast("Any", 5))
    with WSGIServer(port=port, app=hello):
        pass


class ByClass:
    """PEP 3333, "The Application/Framework Side": a class may be the application, and its instances the response."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.start = start_response

    def __iter__(self) -> Iterator[bytes]:
        self.start("200 OK", [("Content-Type", "text/plain")])
        yield b"hello"


class ByInstance:
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return hello(environ, start_response)

    def method(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return hello(environ, start_response)


def by_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"hello"


CALLABLES = {
    "class": ByClass,
    "instance": ByInstance(),
    "method": ByInstance().method,
    "generator": by_generator,
    "partial": functools.partial(hello),
}


@pytest.mark.parametrize("app", CALLABLES.values(), ids=CALLABLES)
def test_callable_of_every_kind_is_served(app: Any) -> None:
    with serve(app) as server:
        assert get(server.addresses[0]).body == b"hello"


def test_command_refuses_an_application_of_no_interface_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mixed.py").write_text("async def app(environ, start_response): pass\n")
    done = run("mixed:app", "--port", "0", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("", 1)
    assert re.fullmatch(r"wsgi: the application is an async function .* instead of 'async def' .*\n", done.stderr)


# -- the end of the program -------------------------------------------------------------------------------------------

ENDINGS = {
    "without a stop": "",
    "by sys.exit": "sys.exit()",
    "by an exception": "raise SystemExit(0)",
    "with a request inside": "ask('/hold'); inside.acquire()",
    "with a server closed late": "atexit.register(server.server_close)",
    "with a thread of its own": "threading.Thread(target=server.shutdown).start()",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_program_may_end_while_its_server_runs(ending: str) -> None:
    program = """
import atexit, socket, sys, threading
from wsgi.server import WSGIServer

inside = threading.Semaphore(0)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        inside.release()
        threading.Event().wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

connections = []

def ask(path):
    connections.append(socket.create_connection(server.server_address))
    connections[-1].sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())

server = WSGIServer(port=0, app=app)
server.__enter__()
ask("/")
assert b"hello" in connections[0].recv(1000)
"""
    done = subprocess.run(
        [sys.executable, "-c", program + ending],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr, "Fatal" in done.stderr) == (0, False, False), done.stderr


UNSTARTED = {
    "an address in use": (
        "WSGIServer(port=taken, app=app)",
        "{file}:4: cannot listen on 127.0.0.1:{taken}: the address",
    ),
    "a wrong value": (
        "WSGIServer(threads=0, app=app)",
        "{file}:4: threads must be a whole number from 1 to 1024, not 0",
    ),
    "a hook of its own": (
        "sys.excepthook = lambda kind, error, traceback: print(kind.__name__, file=sys.stderr);"
        "WSGIServer(port=taken, app=app)",
        "BindError",
    ),
    "another error": ("1 / 0", "Traceback (most recent call last):"),
}


@pytest.mark.parametrize(("call", "line"), UNSTARTED.values(), ids=UNSTARTED)
def test_program_whose_server_cannot_start_ends_with_one_line_that_says_where(
    call: str, line: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        code = f"import sys\nfrom wsgi.server import WSGIServer, demo_app as app\ntaken = {taken}\n{call}\n"
        program.write_text(code)
        done = subprocess.run(
            [sys.executable, program.name],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            cwd=tmp_path,
            check=False,
        )
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.format(file=program.name, taken=taken) in first
    assert bool(rest) == (call == "1 / 0")
