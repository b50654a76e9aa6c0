"""systemd: sockets that it passes, messages that it takes, its watchdog. A stand-in plays the service manager."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.command.manager import HasDescriptor, Manager
from tests.support import PATIENCE, RawClient, environment
from wsgi.errors import ConfigError
from wsgi.settings import Settings
from wsgi.systemd import Notifier, forget, take_sockets, watchdog_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd exists on Linux only")

GET = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
import os, signal, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent
exec((HERE / "at_import").read_text())
TOLD = ("LISTEN_", "NOTIFY_", "WATCHDOG_")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stop-clocks":
        # Holds the interpreter, as a defective extension does.
        import ctypes
        start_response("200 OK", [])
        (HERE / "held").write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(30)
    child = subprocess.run(["env"], capture_output=True, text=True).stdout.splitlines()
    told = [name for name in [*os.environ, *child] if name.startswith(TOLD)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {told}".encode()]
"""

ASGI_APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with applications."""
    (tmp_path / "hello.py").write_text(APP)
    (tmp_path / "loop.py").write_text(ASGI_APP)
    (tmp_path / "at_import").write_text("")
    return tmp_path


@pytest.fixture
def manager() -> Iterator[Manager]:
    """The stand-in for systemd."""
    with Manager() as made:
        yield made


@pytest.fixture
def web() -> Iterator[socket.socket]:
    """A listening socket, as a socket unit opens it."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def ask(address: str, path: bytes = b"/") -> str:
    with RawClient(address) as client:
        client.send(GET % path)
        response = client.receive()
    assert response.status == 200
    return response.body.decode()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def answers_differently(address: str, former: str) -> bool:
    return ask(address) != former


def url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def refused(
    site: Path, *arguments: str, sockets: Sequence[HasDescriptor] = (), env: Mapping[str, str] | None = None
) -> str:
    """The single line of a start that fails."""
    with Manager() as manager:
        done = subprocess.run(
            [*manager.start_words(sockets), "hello:app", *arguments],
            cwd=site,
            env=environment(NOTIFY_SOCKET=manager.address, **(env or {})),
            pass_fds=[end.fileno() for end in sockets],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert manager.receive(0) is None
    assert (done.stdout, done.returncode) == ("", 1)
    (line,) = done.stderr.splitlines()
    return line


# -- sockets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["single", "workers"])
def test_sockets_passed_without_bind_are_all_listened_on(
    workers: tuple[str, ...], site: Path, manager: Manager, web: socket.socket
) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        path = site / "a.sock"
        unix.bind(str(path))
        unix.listen()
        # PORT is shared with other programs, and does not stand above what systemd passes.
        with manager.command("hello:app", *workers, cwd=site, sockets=[web, unix], PORT="1") as command:
            assert command.addresses == [url(web), f"unix:{path}"]
            for address in command.addresses:
                # Neither the application nor what it starts is told.
                assert ask(address).endswith(" []")
            assert command.stop() == 0
        # systemd keeps its socket.
        assert path.exists()


def test_socket_named_in_bind_is_listened_on_and_the_others_are_closed_with_one_line(
    site: Path, manager: Manager, web: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as admin:
        names = {"LISTEN_FDNAMES": "web:admin"}
        arguments = ("hello:app", "--bind", "fd://admin", "--bind", "127.0.0.1:0")
        with manager.command(*arguments, cwd=site, sockets=[web, admin], **names) as command:
            assert command.addresses[0] == url(admin)
            assert ask(command.addresses[0])
            (line,) = [line for line in command.stderr.seen if "not used" in line]
            assert "web (descriptor 3)" in line
            assert "admin" not in line
            links = [os.readlink(entry) for entry in Path(f"/proc/{command.process.pid}/fd").iterdir()]
            assert f"socket:[{os.fstat(admin.fileno()).st_ino}]" in links
            assert f"socket:[{os.fstat(web.fileno()).st_ino}]" not in links


def test_sockets_of_one_name_are_all_meant_by_it() -> None:
    settings = Settings.from_command({"bind": ["fd://web"]}, {}, sockets=[("web", 3), ("x", 4), ("web", 5)])
    assert settings.addresses == ("fd://3", "fd://5")


def test_port_flag_stands_above_passed_sockets() -> None:
    settings = Settings.from_command({"port": "80"}, {}, sockets=[("web", 3)])
    assert settings.addresses == ("127.0.0.1:80",)


def test_passed_sockets_are_shown_as_the_origin_of_the_addresses() -> None:
    settings = Settings.from_command({}, {"PORT": "80"}, sockets=[("web", 3)])
    assert (settings.addresses, settings.origin("bind")) == (("fd://3",), "LISTEN_FDS")
    assert settings.origin("port") == "PORT, replaced by LISTEN_FDS"


def test_name_that_systemd_did_not_pass_is_refused_with_those_that_it_did() -> None:
    with pytest.raises(
        ConfigError, match=r"no socket named 'wbe' \(from --bind\), but web, x; .*FileDescriptorName=wbe"
    ):
        Settings.from_command({"bind": ["fd://wbe"]}, {}, sockets=[("web", 3), ("x", 4)])
    with pytest.raises(ConfigError, match=r"no socket named 'web' .* no sockets"):
        Settings.from_keywords(bind=["fd://web"])


def test_sockets_of_another_process_are_ignored_with_one_line(site: Path, manager: Manager, web: socket.socket) -> None:
    with manager.command("hello:app", "--port", "0", cwd=site, sockets=[web], LISTEN_PID="1") as command:
        (line,) = [line for line in command.stderr.seen if "LISTEN_FDS" in line]
        assert "is ignored: it is for process 1 (LISTEN_PID), and this is process" in line
        assert ask(command.address).endswith(" []")


def test_variables_of_no_process_are_ignored_and_removed() -> None:
    lines: list[str] = []
    assert take_sockets({"LISTEN_FDS": "1"}, lines.append) == []
    assert len(lines) == 1
    variables = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "1", "A": "1"}
    forget(variables)
    assert variables == {"A": "1"}


@pytest.mark.parametrize("count", ["x", "-1", "1e3", "²"])
def test_number_of_sockets_that_is_none_is_refused(count: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS must be a number"):
        take_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}, print)


def test_descriptor_that_is_closed_is_refused_in_one_line(site: Path, web: socket.socket) -> None:
    line = refused(site, sockets=[web], env={"LISTEN_FDS": "2"})
    assert line.startswith("wsgi: LISTEN_FDS: descriptor 4 is not open (Bad file descriptor), though 2 were passed; ")


NO_LISTENERS = {
    "datagram": (socket.SOCK_DGRAM, "does not carry a byte stream; open one with SOCK_STREAM (systemd: ListenStream=)"),
    "sequential packets": (socket.SOCK_SEQPACKET, "does not carry a byte stream"),
    "stream that does not listen": (socket.SOCK_STREAM, "not a listening socket; call listen() before it is passed"),
}


@pytest.mark.parametrize(("kind", "problem"), NO_LISTENERS.values(), ids=NO_LISTENERS)
def test_socket_that_no_client_can_connect_to_is_refused_in_one_line(kind: int, problem: str, site: Path) -> None:
    with socket.socket(socket.AF_UNIX, kind) as wrong:
        wrong.bind(str(site / "wrong"))
        if kind == socket.SOCK_SEQPACKET:
            wrong.listen()
        line = refused(site, sockets=[wrong])
    assert line.startswith("wsgi: cannot listen on fd://3: ")
    assert problem in line


def test_descriptor_that_is_no_socket_is_refused_in_one_line(site: Path) -> None:
    with open(os.devnull) as file:
        assert refused(site, sockets=[file]) == "wsgi: cannot listen on fd://3: the descriptor is not a socket"


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_single_process_tells_when_it_serves_and_when_it_stops(is_abstract: bool, site: Path) -> None:
    with Manager(is_abstract=is_abstract) as manager:
        (site / "at_import").write_text("import time; time.sleep(0.2)\n")
        with manager.command("hello:app", cwd=site) as command:
            first = manager.receive()
            assert first is not None
            assert first == {"READY": "1", "STATUS": "WSGI, up to 16 threads"}
            # What was started without a wrapper need not tell its number.
            assert "MAINPID" not in first
            assert ask(command.address).endswith(" []")
            assert command.stop() == 0
        assert manager.receive(0) == {"STOPPING": "1", "STATUS": "stopping"}
        assert manager.receive(0) is None


def test_process_behind_a_wrapper_tells_its_number(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", cwd=site, SYSTEMD_EXEC_PID="1") as command:
        assert manager.wait_for("READY")["MAINPID"] == str(command.process.pid)


def test_asgi_application_is_ready_after_its_lifespan(site: Path, manager: Manager) -> None:
    with manager.command("loop:app", cwd=site) as command:
        assert "ASGI" in manager.wait_for("READY")["STATUS"]
        assert command.stop() == 0
    assert manager.wait_for("STOPPING")


def test_start_that_fails_is_never_ready(site: Path, manager: Manager) -> None:
    (site / "at_import").write_text("raise RuntimeError('no database')\n")
    for workers in ((), ("--workers", "2")):
        done = subprocess.run(
            [*manager.start_words(), "hello:app", "--port", "0", *workers],
            cwd=site, env=environment(NOTIFY_SOCKET=manager.address), capture_output=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 1
    while (message := manager.receive(0)) is not None:
        assert "READY" not in message


def test_supervisor_tells_of_start_reload_and_stop(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "2", cwd=site) as command:
        ready = manager.wait_for("READY")
        assert "generation 1" in ready["STATUS"]
        if "2 of 2 workers serving" not in ready["STATUS"]:
            manager.wait_for("STATUS", "2 of 2 workers serving")
        assert ask(command.address).endswith(" []")
        asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        command.process.send_signal(signal.SIGHUP)
        reloading = manager.wait_for("RELOADING")
        assert asked <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert "READY" not in reloading
        ready = manager.wait_for("READY")
        assert ready["STATUS"] == "2 of 2 workers serving, generation 2"
        assert command.stop() == 0
    stopping = manager.wait_for("STOPPING")
    assert stopping["STATUS"].startswith("stopping: ")
    assert sum("RELOADING" in message for message in manager.seen) == 1
    assert sum("READY" in message for message in manager.seen) == 2


def test_reload_that_fails_is_over_and_told_with_its_reason(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "1", cwd=site) as command:
        manager.wait_for("READY")
        (site / "at_import").write_text("raise RuntimeError('no database')\n")
        command.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        ready = manager.wait_for("READY")
        assert ready["STATUS"].startswith("1 of 1 worker serving, generation 1; the last reload failed: worker ")
        (site / "at_import").write_text("")
        command.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        assert "failed" not in manager.wait_for("READY")["STATUS"]


def test_reload_of_a_single_process_is_answered(site: Path, manager: Manager) -> None:
    # systemd would wait for it (Type=notify-reload).
    with manager.command("hello:app", cwd=site) as command:
        manager.wait_for("READY")
        command.process.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        manager.wait_for("READY")


def test_worker_that_ends_is_told(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "2", cwd=site) as command:
        manager.wait_for("STATUS", "2 of 2")
        os.kill(int(ask(command.address).split()[0]), signal.SIGKILL)
        manager.wait_for("STATUS", "1 of 2 workers serving")
        manager.wait_for("STATUS", "2 of 2 workers serving")


def test_manager_that_has_gone_costs_one_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.WARNING, "wsgi.server")
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready("a")
    notifier.status("b")
    assert [record.getMessage() for record in caplog.records] == [
        "cannot send a message to the service manager (NOTIFY_SOCKET): No such file or directory"
    ]
    # It has come back.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as back:
        back.bind(str(tmp_path / "gone"))
        notifier.status("c\nREADY=1")
        assert back.recv(100) == rb"STATUS=c\nREADY=1"


def test_manager_that_does_not_read_costs_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier = Notifier(str(tmp_path / "deaf"))
        for number in range(10_000):
            if caplog.records:
                break
            notifier.status(str(number))
    (record,) = caplog.records
    assert "timed out" in record.getMessage()


@pytest.mark.parametrize("address", ["relative", "vsock:2:9999"])
def test_address_that_is_no_unix_socket_is_ignored_with_one_line(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(address)
    notifier.ready("a")
    assert ["NOTIFY_SOCKET is ignored" in record.getMessage() for record in caplog.records] == [True]


# -- the watchdog -----------------------------------------------------------------------------------------------------

SERVERS = {"WSGI": ("hello:app",), "ASGI": ("loop:app",), "workers": ("hello:app", "--workers", "2")}


@pytest.mark.parametrize("arguments", SERVERS.values(), ids=SERVERS)
def test_idle_server_feeds_the_watchdog_within_its_interval(
    arguments: tuple[str, ...], site: Path, manager: Manager
) -> None:
    with manager.command(*arguments, cwd=site, WATCHDOG_USEC="1000000"):
        last = manager.wait_for("READY").received
        for _ in range(4):
            fed = manager.wait_for("WATCHDOG", "1").received
            assert fed - last < 1.0
            last = fed


def is_fed_no_more(manager: Manager) -> bool:
    """Whether the watchdog of one second is given up, after a message that may have been on its way."""
    return any(manager.receive(2.0) is None for _ in range(5))


def test_process_whose_interpreter_is_held_does_not_feed_the_watchdog(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", cwd=site, WATCHDOG_USEC="1000000") as command:
        manager.wait_for("WATCHDOG")
        with RawClient(command.address) as client:
            client.send(GET % b"/stop-clocks")
            end = time.monotonic() + PATIENCE
            while not (site / "held").exists():
                assert time.monotonic() < end
                threading.Event().wait(0.01)
            assert is_fed_no_more(manager)
            command.process.kill()


def test_supervisor_without_a_worker_that_lives_does_not_feed_the_watchdog(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "1", cwd=site, WATCHDOG_USEC="1000000") as command:
        manager.wait_for("WATCHDOG")
        worker = int(ask(command.address).split()[0])
        os.kill(worker, signal.SIGSTOP)
        try:
            assert is_fed_no_more(manager)
        finally:
            os.kill(worker, signal.SIGCONT)
        manager.wait_for("WATCHDOG")


def test_stopped_worker_beside_one_that_works_does_not_keep_the_watchdog_hungry(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "2", cwd=site, WATCHDOG_USEC="1000000") as command:
        manager.wait_for("STATUS", "2 of 2")
        worker = int(ask(command.address).split()[0])
        os.kill(worker, signal.SIGSTOP)
        try:
            for _ in range(4):
                manager.wait_for("WATCHDOG")
        finally:
            os.kill(worker, signal.SIGCONT)


def switches(pid: int) -> dict[str, str]:
    """How often each thread of a process and of its children has gone to sleep."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        found[task.name] = status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]
        for child in (task / "children").read_text().split():
            found.update(switches(int(child)))
    return found


@pytest.mark.parametrize("arguments", SERVERS.values(), ids=SERVERS)
def test_server_without_a_watchdog_sleeps_while_it_is_idle(
    arguments: tuple[str, ...], site: Path, manager: Manager
) -> None:
    with manager.command(*arguments, cwd=site) as command:
        manager.wait_for("STATUS", "2 of 2" if "--workers" in arguments else "")
        # What the start has left to do is over soon.
        for _ in range(10):
            before = switches(command.process.pid)
            assert manager.receive(1.0) is None
            if switches(command.process.pid) == before:
                break
        else:
            pytest.fail("threads wake up")


@pytest.mark.parametrize(
    ("interval", "problem"),
    [("1000", "a watchdog interval of 0.001 s is too short to be kept; set WatchdogSec= to 1 s or more"),
     ("x", "WATCHDOG_USEC must be a number of microseconds"), ("0", "WATCHDOG_USEC must be a number of microseconds")],
)  # fmt: skip
def test_watchdog_interval_that_cannot_be_kept_is_refused_in_one_line(interval: str, problem: str, site: Path) -> None:
    line = refused(site, "--port", "0", env={"WATCHDOG_USEC": interval})
    assert line.startswith("wsgi: ")
    assert problem in line


def test_watchdog_of_another_process_is_ignored_with_one_line() -> None:
    lines: list[str] = []
    environ = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": "/a"}
    assert watchdog_seconds(environ, lines.append) is None
    assert len(lines) == 1
    assert "process 1 (WATCHDOG_PID)" in lines[0]
    assert watchdog_seconds({"WATCHDOG_USEC": "2000000", "NOTIFY_SOCKET": "/a"}, lines.append) == 2.0
    assert watchdog_seconds({"WATCHDOG_USEC": "2000000"}, lines.append) is None
    assert "NOTIFY_SOCKET is not set" in lines[1]


# -- changes of a running server --------------------------------------------------------------------------------------


def test_upgrade_keeps_passed_sockets_pidfile_and_manager(site: Path, manager: Manager, web: socket.socket) -> None:
    (site / "site.env").write_text("COLOUR=red\n")
    (site / "at_import").write_text("print('colour', os.environ.get('COLOUR'), os.environ.get('SHAPE'), flush=True)")
    names = {"LISTEN_FDNAMES": "web"}
    options = ("--workers", "1", "--bind", "fd://web", "--pidfile", "a.pid", "--env-file", "site.env")
    with manager.command("hello:app", *options, cwd=site, sockets=[web], **names) as command:
        pid = command.process.pid
        manager.wait_for("READY")
        first = ask(url(web))
        for number, generation, line in ((signal.SIGUSR2, 2, "SHAPE=flat\n"), (signal.SIGHUP, 3, "")):
            (site / "site.env").write_text(f"COLOUR=blue\n{line}")
            command.process.send_signal(number)
            manager.wait_for("RELOADING")
            assert f"generation {generation}" in manager.wait_for("READY")["STATUS"]
            assert (site / "a.pid").read_text() == f"{pid}\n"
            # The former worker may have accepted a last client.
            wait_until(partial(answers_differently, url(web), first))
            first = ask(url(web))
            # The application is told of no socket and of no manager.
            assert first.endswith(" []")
            colour = f"colour blue {'flat' if line else None}"
            assert colour in command.stdout.wait_for(colour)
        assert command.stop() == 0
    assert not (site / "a.pid").exists()


def test_upgrade_whose_pidfile_another_server_has_taken_changes_nothing(site: Path, manager: Manager) -> None:
    with manager.command("hello:app", "--workers", "1", "--pidfile", "a.pid", cwd=site) as command:
        manager.wait_for("READY")
        (site / "a.pid").write_text(f"{os.getpid()}\n")
        command.process.send_signal(signal.SIGUSR2)
        line = command.stderr.wait_for("upgrade failed: ")
        assert f"belongs to process {os.getpid()}, which runs" in line
        assert ask(command.address)
        assert command.stop() == 0
