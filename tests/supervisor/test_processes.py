"""A supervisor with real processes: starts, stops, reloads, and what a worker may do without harm to the others."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import PATIENCE, Command, ProtocolError, RawClient, environment, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
import os, signal, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent
with open(HERE / "imports", "a") as imports:
    print(os.getpid(), file=imports)
VERSION = (HERE / "version").read_text()
exec((HERE / "at_import").read_text())

def wait_for(name):
    while not (HERE / name).exists():
        time.sleep(0.01)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        os._exit(3)
    if path == "/hold":
        (HERE / "held").write_text(str(os.getpid()))
        wait_for("go")
    if path == "/close":
        os.closerange(3, 100)
    if path == "/fork":
        # The child has every descriptor of its parent.
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{VERSION} {os.getpid()} {environ['wsgi.multiprocess']}".encode()]
"""

ASGI_APP = """
import os
from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "version").read_text()
exec((HERE / "at_import").read_text())

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if (HERE / "fail").exists():
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        with open(HERE / "imports", "a") as imports:
            print(os.getpid(), file=imports)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{VERSION} {os.getpid()} True".encode()})
"""


def wait_until(condition: Callable[[], object]) -> None:
    """Polls a condition."""
    end = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        pause.wait(0.01)


def children(pid: int) -> list[int]:
    """The processes that this one has started and that are not reaped, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Site:
    """A directory with an application, and the command that serves it."""

    def __init__(self, folder: Path, app: str = APP) -> None:
        self.folder = folder
        self.lines: list[str] = []
        (folder / "site_app.py").write_text(app)
        (folder / "at_import").write_text("")
        self.version("one")

    def version(self, text: str) -> None:
        """Changes what the next import of the application answers."""
        (self.folder / "version").write_text(text)

    def at_import(self, code: str) -> None:
        """Changes what the next import of the application does."""
        (self.folder / "at_import").write_text(code)

    @contextlib.contextmanager
    def served(self, *options: str, start: Sequence[str] = (sys.executable, "-m", "wsgi_server")) -> Iterator[Command]:
        """Runs the command until the end of the block."""
        with Command("site_app:app", *options, cwd=self.folder, start=start) as command:
            self.command = command
            wanted = int(found[1]) if (found := re.search(r"\((\d+) worker", command.banner)) else 1
            wait_until(lambda: len(self.answering()) >= 1)
            self.wait_for_lines("serves (", wanted, command.stderr.seen)
            yield command

    def wait_for_lines(self, text: str, count: int, seen: Sequence[str] = ()) -> None:
        """Waits for so many lines with `text`, those in `seen` included."""
        for _ in range(count - sum(text in line for line in seen)):
            self.command.stderr.wait_for(text)

    def answering(self) -> list[int]:
        """The workers that are alive."""
        return [pid for pid in children(self.command.process.pid) if is_running(pid)]

    def ask(self, path: bytes = b"/") -> tuple[str, int]:
        """The version and the pid of a worker that answers."""
        with RawClient(self.command.address) as client:
            client.send(LAST % path)
            response = client.receive()
        assert response.status == 200
        version, pid, multiprocess = response.body.decode().split()
        assert multiprocess == "True"
        return version, int(pid)

    def hold(self) -> tuple[RawClient, int]:
        """A client whose request is inside the application, and the worker that it is in."""
        client = RawClient(self.command.address)
        client.send(LAST % b"/hold")
        held = self.folder / "held"
        wait_until(lambda: held.exists() and held.read_text())
        pid = int(held.read_text())
        held.unlink()
        return client, pid

    def let_go(self) -> None:
        (self.folder / "go").write_text("")

    def signal(self, number: int) -> None:
        """Sends a signal to the supervisor."""
        self.command.process.send_signal(number)

    def reload(self, version: str) -> None:
        """Reloads, and waits until every worker has the new version."""
        self.version(version)
        before = self.answering()
        self.signal(signal.SIGHUP)
        wait_until(lambda: not set(before) & set(self.answering()))
        assert self.ask()[0] == version


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A WSGI application."""
    return Site(tmp_path)


# -- starts -----------------------------------------------------------------------------------------------------------


def test_workers_import_the_application_and_the_supervisor_does_not(site: Site) -> None:
    with site.served("--workers", "2") as command:
        assert command.banner.endswith(f"(2 workers, pid {command.process.pid})")
        imported = sorted(int(line) for line in (site.folder / "imports").read_text().split())
        assert imported == site.answering()
        assert len(imported) == 2
        # A process with one thread can fork safely.
        assert len(os.listdir(f"/proc/{command.process.pid}/task")) == 1
        assert site.ask()[1] in imported
        assert command.stop() == 0


def test_workers_share_a_unix_socket_whose_file_is_the_supervisors(site: Site) -> None:
    path = site.folder / "socket"
    with site.served("--workers", "2", "--bind", f"unix:{path}") as command:
        site.reload("two")
        assert command.stop() == 0
    assert not path.exists()


def test_workers_serve_asgi_with_a_lifespan_each(tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    with site.served("--workers", "2") as command:
        wait_until(lambda: len((site.folder / "imports").read_text().split()) == 2)
        assert site.ask()[1] in site.answering()
        site.reload("two")
        assert command.stop() == 0


@pytest.mark.parametrize("workers", ["1", "4"])
def test_first_start_that_fails_shows_the_error_once_and_ends_with_1(site: Site, workers: str) -> None:
    site.at_import("raise LookupError('no settings')")
    done = run("site_app:app", "--workers", workers, "--port", "0", cwd=site.folder)
    assert done.returncode == 1
    assert done.stderr.splitlines().count("LookupError: no settings") == 1
    assert done.stderr.splitlines()[-1].endswith("no worker could start: the server ends")


def test_lifespan_that_fails_at_the_first_start_ends_with_1(tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    (site.folder / "fail").write_text("")
    done = run("site_app:app", "--workers", "2", "--port", "0", cwd=site.folder)
    assert done.returncode == 1
    assert done.stderr.count("no database") == 1


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "513"])
def test_wrong_number_of_workers_is_refused_in_one_line(site: Site, value: str) -> None:
    done = run("site_app:app", f"--workers={value}", cwd=site.folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "workers must be a whole number from 1 to 512, auto or none" in done.stderr


def test_check_config_imports_the_application_and_shows_workers(site: Site) -> None:
    done = run("site_app:app", "--check-config", cwd=site.folder, env={"WEB_CONCURRENCY": "3"})
    assert re.search(r"^workers +3 +WEB_CONCURRENCY$", done.stdout, re.MULTILINE)
    assert (site.folder / "imports").exists()


def importing(site: Site) -> tuple[subprocess.Popen[str], int]:
    """The command with one worker, which has begun to import the application."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wsgi_server", "site_app:app", "--workers", "1", "--port", "0"],
        cwd=site.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    imports = site.folder / "imports"
    wait_until(lambda: imports.exists() and imports.read_text().endswith("\n"))
    return process, int(imports.read_text())


def test_signals_for_the_server_do_not_end_a_worker_that_imports(site: Site) -> None:
    site.at_import("while not (HERE / 'go').exists(): time.sleep(0.01)")
    process, worker = importing(site)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        os.kill(worker, number)
    site.let_go()
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any("Serving HTTP" in line for line in lines)
    process.terminate()
    assert process.wait(PATIENCE) == 0
    process.stderr.close()
    assert (site.folder / "imports").read_text().split() == [str(worker)]


def test_interrupt_before_anything_is_served_ends_with_130(site: Site) -> None:
    site.at_import("time.sleep(60)")
    process, worker = importing(site)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert process.stderr is not None
    process.stderr.close()
    assert not is_running(worker)


# -- workers that end -------------------------------------------------------------------------------------------------


def test_worker_that_exits_is_named_and_replaced(site: Site) -> None:
    with site.served("--workers", "2") as command:
        before = site.answering()
        with RawClient(command.address) as client:
            client.send(GET % b"/exit")
            client.expect_end()
        line = command.stderr.wait_for("exited with status 3")
        assert "; it is replaced" in line
        assert any(f"worker {pid} " in line for pid in before)
        command.stderr.wait_for("serves (")
        assert len(site.answering()) == 2


def test_worker_that_is_killed_is_named_and_replaced(site: Site) -> None:
    with site.served("--workers", "2") as command:
        victim, other = site.answering()
        os.kill(victim, signal.SIGKILL)
        command.stderr.wait_for(f"worker {victim} was killed by SIGKILL; it is replaced")
        command.stderr.wait_for("serves (")
        assert other in site.answering()
        assert len(site.answering()) == 2


def test_worker_that_closes_descriptors_harms_no_other(site: Site) -> None:
    with site.served("--workers", "2", "--graceful-timeout", "0.5") as command:
        with RawClient(command.address) as client, contextlib.suppress(ProtocolError, OSError):
            client.send(LAST % b"/close")
            client.receive()
        for _ in range(20):
            with contextlib.suppress(ProtocolError, OSError):
                site.ask()
        assert command.process.poll() is None
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("generation 2 serves")
        assert command.stop() in (0, 1)


def test_worker_whose_child_keeps_its_channel_open_is_replaced(site: Site) -> None:
    with site.served("--workers", "1") as command:
        (worker,) = site.answering()
        descriptors = len(os.listdir(f"/proc/{command.process.pid}/fd"))
        site.ask(b"/fork")
        (orphan,) = children(worker)
        try:
            os.kill(worker, signal.SIGKILL)
            command.stderr.wait_for("was killed by SIGKILL")
            command.stderr.wait_for("serves (")
            assert len(os.listdir(f"/proc/{command.process.pid}/fd")) == descriptors
        finally:
            os.kill(orphan, signal.SIGKILL)
        assert command.stop() == 0


def test_worker_that_is_stopped_is_killed_after_its_time(site: Site) -> None:
    with site.served("--workers", "2", "--graceful-timeout", "0.1") as command:
        victim, _ = site.answering()
        os.kill(victim, signal.SIGSTOP)
        site.signal(signal.SIGHUP)
        command.stderr.wait_for(f"worker {victim} had not ended after 8 s and was killed")
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0


def test_worker_that_blocks_signals_is_reloaded_and_stopped(site: Site) -> None:
    site.at_import("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())")
    with site.served("--workers", "2") as command:
        site.reload("two")
        assert command.stop() == 0


def test_worker_with_a_handler_of_its_own_is_reloaded_and_stopped(site: Site) -> None:
    site.at_import("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with site.served("--workers", "1") as command:
        site.reload("two")
        assert command.stop() == 0


# -- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_lets_requests_finish_and_refuses_new_clients(site: Site, number: int) -> None:
    with site.served("--workers", "2") as command:
        client, _ = site.hold()
        site.signal(number)

        def is_refused() -> bool:
            try:
                RawClient(command.address).socket.close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(is_refused)
        site.let_go()
        with client:
            assert client.receive().status == 200
        assert command.process.wait(PATIENCE) == 0


def test_stop_that_reaches_every_process_lets_requests_finish(site: Site) -> None:
    # A service manager signals the supervisor and its workers at the same time.
    with site.served("--workers", "2") as command:
        client, worker = site.hold()
        os.kill(worker, signal.SIGTERM)
        site.signal(signal.SIGTERM)
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: len(site.answering()) == 1)
        site.let_go()
        with client:
            assert client.receive().status == 200
        assert command.process.wait(PATIENCE) == 0


def test_second_stop_ends_at_once_with_1(site: Site) -> None:
    with site.served("--workers", "2") as command:
        client, _ = site.hold()
        site.signal(signal.SIGTERM)
        command.stderr.wait_for("stopping: waiting up to")
        site.signal(signal.SIGTERM)
        assert command.process.wait(PATIENCE) == 1
        client.socket.close()


def test_quit_ends_at_once_with_0(site: Site) -> None:
    with site.served("--workers", "2") as command:
        client, worker = site.hold()
        site.signal(signal.SIGQUIT)
        assert command.process.wait(PATIENCE) == 0
        assert not is_running(worker)
        client.socket.close()


def test_supervisor_that_is_killed_leaves_workers_that_finish_and_end(site: Site) -> None:
    with site.served("--workers", "2") as command:
        client, _ = site.hold()
        workers = site.answering()
        command.process.kill()
        command.stderr.wait_for("stops: its supervisor has gone")
        command.stderr.wait_for("stops: its supervisor has gone")
        site.let_go()
        with client:
            assert client.receive().status == 200
        wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_supervisor_that_is_killed_leaves_a_worker_that_answers_the_backlog(site: Site) -> None:
    with site.served("--workers", "1") as command, contextlib.ExitStack() as stack:
        (worker,) = site.answering()
        os.kill(worker, signal.SIGSTOP)
        clients = [stack.enter_context(RawClient(command.address)) for _ in range(5)]
        for client in clients:
            client.send(LAST % b"/")
        command.process.kill()
        command.process.wait()
        os.kill(worker, signal.SIGCONT)
        for client in clients:
            assert client.receive().status == 200
        command.stderr.wait_for(f"worker {worker} stops: its supervisor has gone")
        wait_until(lambda: not is_running(worker))


# -- reloads ----------------------------------------------------------------------------------------------------------


def test_reload_serves_the_new_version_and_finishes_old_requests(site: Site) -> None:
    with site.served("--workers", "2") as command:
        client, worker = site.hold()
        idle = set(site.answering()) - {worker}
        site.version("two")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("generation 2 serves")
        wait_until(lambda: len(site.answering()) == 3 and not idle & set(site.answering()))
        assert worker in site.answering()
        assert site.ask()[0] == "two"
        site.let_go()
        with client:
            assert client.receive().body.decode().split()[:2] == ["one", str(worker)]
        assert command.stop() == 0


def test_reload_answers_a_client_that_has_connected_and_not_asked_yet(site: Site) -> None:
    with site.served("--workers", "1") as command, RawClient(command.address) as client:
        # This connection was accepted before the next one.
        assert site.ask()[0] == "one"
        site.version("two")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("generation 2 serves")
        wait_until(lambda: len(site.answering()) == 1)
        client.send(LAST % b"/")
        assert client.receive().body.startswith(b"two ")
        assert command.stop() == 0


def test_reload_works_under_nohup(site: Site) -> None:
    with site.served("--workers", "1", start=["nohup", sys.executable, "-m", "wsgi_server"]) as command:
        site.reload("two")
        assert command.stop() == 0


def test_reload_that_fails_keeps_the_former_workers_and_shows_the_error_once(site: Site) -> None:
    with site.served("--workers", "2") as command:
        before = site.answering()
        site.at_import("raise LookupError('no settings')")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("reload failed: ")
        assert site.answering() == before
        assert site.ask()[0] == "one"
        site.at_import("")
        site.reload("two")
        assert command.stop() == 0
    assert command.stderr.seen.count("LookupError: no settings") == 1


def test_reload_that_hangs_keeps_the_former_workers(site: Site) -> None:
    with site.served("--workers", "2", "--boot-timeout", "1") as command:
        before = site.answering()
        site.at_import("time.sleep(60)")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("did not serve within boot_timeout (1 s) and was killed")
        wait_until(lambda: site.answering() == before)
        assert command.stop() == 0


def test_reload_during_a_reload_serves_the_last_version(site: Site) -> None:
    with site.served("--workers", "2") as command:
        before = site.answering()
        site.version("two")
        site.at_import("time.sleep(60)")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(site.answering()) == 3)
        site.at_import("")
        site.version("three")
        site.signal(signal.SIGHUP)
        wait_until(lambda: not set(before) & set(site.answering()) and len(site.answering()) == 2)
        assert site.ask()[0] == "three"
        assert command.stop() == 0


def test_signals_change_the_number_of_workers(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.signal(signal.SIGTTIN)
        command.stderr.wait_for("2 workers are wanted now")
        wait_until(lambda: len(site.answering()) == 2)
        command.stderr.wait_for("serves (")
        site.signal(signal.SIGTTOU)
        wait_until(lambda: len(site.answering()) == 1)
        site.signal(signal.SIGTTOU)
        command.stderr.wait_for("workers wanted: 1; there can be 1 to 512")
        assert site.ask()[0] == "one"


def test_logs_are_reopened_in_every_process(site: Site) -> None:
    log = site.folder / "access.log"
    with site.served("--workers", "2", "--access-log", str(log)) as command:
        site.ask()
        wait_until(lambda: "GET / " in log.read_text())
        log.rename(site.folder / "access.log.1")
        site.signal(signal.SIGUSR1)
        workers = set(site.answering())

        def are_logged() -> bool:
            workers.discard(site.ask()[1])
            return not workers and log.exists() and "GET / " in log.read_text()

        wait_until(are_logged)
        # The supervisor's own copy is the one that later workers inherit.
        site.reload("two")
        size = len(log.read_text())
        site.ask()
        wait_until(lambda: len(log.read_text()) > size)
        old = (site.folder / "access.log.1").read_text()
        assert command.stop() == 0
    assert (site.folder / "access.log.1").read_text() == old


def test_reloads_lose_no_request_of_a_new_connection(site: Site) -> None:
    faults: list[str] = []
    answered = 0
    is_over = threading.Event()

    def ask() -> None:
        nonlocal answered
        while not is_over.is_set():
            try:
                site.ask()
                answered += 1
            except (AssertionError, OSError) as error:
                faults.append(repr(error))

    with site.served("--workers", "2") as command:
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        for number in range(5):
            site.reload(str(number))
        is_over.set()
        for client in clients:
            client.join(PATIENCE)
        assert command.stop() == 0
    assert faults == []
    assert answered > 50


def test_many_reloads_leave_no_process_and_no_descriptor(site: Site) -> None:
    with site.served("--workers", "2") as command:
        site.reload("warm")
        supervisor = command.process.pid
        # The former generation drains; its channels are closed once it has ended.
        wait_until(lambda: len(children(supervisor)) == 2)
        before = os.listdir(f"/proc/{supervisor}/fd")
        for number in range(2, 52):
            site.signal(signal.SIGHUP)
            command.stderr.wait_for(f"generation {number + 1} serves")
        wait_until(lambda: len(children(supervisor)) == 2)
        wait_until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) == len(before))
        assert command.stop() == 0


def test_idle_supervisor_does_not_wake(site: Site) -> None:
    with site.served("--workers", "2") as command:
        status = Path(f"/proc/{command.process.pid}/status")

        def switches() -> str:
            return " ".join(re.findall(r"ctxt_switches:\s+(\d+)", status.read_text()))

        # What the start has left to do ends by itself.
        pause = threading.Event()
        last = [""]

        def is_settled() -> bool:
            before, last[0] = last[0], switches()
            pause.wait(0.3)
            return before == last[0]

        wait_until(is_settled)
        before = switches()
        pause.wait(1)
        assert switches() == before


# -- terminals and containers -----------------------------------------------------------------------------------------

LAUNCHER = """
import ctypes, os, sys
# PR_SET_CHILD_SUBREAPER, which exec keeps: orphans come to this process, as to the first one of a container.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "wsgi_server", *sys.argv[1:]])
"""


def test_supervisor_reaps_processes_that_are_not_its_own(site: Site) -> None:
    site.at_import("subprocess.run(['sh', '-c', 'sleep 0.5 & echo $! >orphan'], cwd=HERE)")
    with site.served("--workers", "1", start=[sys.executable, "-c", LAUNCHER]) as command:
        orphan = int((site.folder / "orphan").read_text())
        wait_until(lambda: not Path(f"/proc/{orphan}").exists())
        assert command.stop() == 0


@contextlib.contextmanager
def at_a_terminal(
    site: Site, *options: str, start: Sequence[str] = ("-m", "wsgi_server")
) -> Iterator[tuple[int, int, Callable[[str], None]]]:
    """The command at a terminal of its own: its pid, the terminal, and a wait for a text in what it writes."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(site.folder)
        arguments = [sys.executable, *start, "site_app:app", *options, "--port", "0"]
        os.execve(sys.executable, arguments, environment())
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + PATIENCE
        while text not in seen:
            assert time.monotonic() < end, seen
            seen += os.read(terminal, 65536).decode()
        seen = seen.partition(text)[2]

    try:
        yield pid, terminal, wait_for
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def exit_code(pid: int) -> int:
    """Waits for the end of a child."""
    codes = []

    def has_ended() -> bool:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes.append(os.waitstatus_to_exitcode(status))
        return bool(ended)

    wait_until(has_ended)
    return codes[0]


def test_interrupt_at_a_terminal_ends_in_order(site: Site) -> None:
    with at_a_terminal(site, "--workers", "2") as (pid, terminal, wait_for):
        wait_for("serves (")
        wait_for("serves (")
        os.write(terminal, b"\x03")
        assert exit_code(pid) == 0
        os.close(terminal)


def test_terminal_that_closes_ends_the_server(site: Site) -> None:
    with at_a_terminal(site, "--workers", "2") as (pid, terminal, wait_for):
        wait_for("serves (")
        wait_for("serves (")
        workers = children(pid)
        os.close(terminal)
        assert exit_code(pid) == 0
        assert not any(is_running(worker) for worker in workers)


LEADER = """
import os, signal, subprocess, sys
# The leader of a session gets the hang-up of its terminal; a job in the background does not.
signal.signal(signal.SIGHUP, signal.SIG_IGN)
def begin():
    os.setpgid(0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
command = [sys.executable, "-m", "wsgi_server", "site_app:app", "--workers", "1", "--port", "0"]
with open("log", "w") as log:
    job = subprocess.Popen(command, preexec_fn=begin, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
with open("pid.new", "w") as file:
    file.write(str(job.pid))
os.rename("pid.new", "pid")
job.wait()
"""


def test_reload_of_a_job_whose_terminal_has_long_been_closed_reloads(site: Site) -> None:
    leader, terminal = pty.fork()
    if leader == 0:
        os.chdir(site.folder)
        os.execve(sys.executable, [sys.executable, "-c", LEADER], environment())
    log = site.folder / "log"
    try:
        wait_until(lambda: (site.folder / "pid").exists() and "serves (" in log.read_text())
        job = int((site.folder / "pid").read_text())
        os.close(terminal)
        closed = time.monotonic()
        wait_until(lambda: time.monotonic() - closed > 2.5)
        os.kill(job, signal.SIGHUP)
        wait_until(lambda: "generation 2 serves" in log.read_text())
        assert "the terminal was closed" not in log.read_text()
        os.kill(job, signal.SIGTERM)
        assert exit_code(leader) == 0
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(leader, signal.SIGKILL)
            os.waitpid(leader, 0)


# -- programs ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import atexit, os, signal, sys, threading
from wsgi.server import WSGIServer

def app(environ, start_response):
    start_response("200 OK", [])
    return [f"program {os.getpid()} {environ['wsgi.multiprocess']}".encode()]

atexit.register(lambda: print("exit", os.getpid(), flush=True))
server = WSGIServer(port=0, app=app, workers=2)
server.serve_forever()
print("returned", os.getpid(), flush=True)
"""


def test_program_with_workers_returns_once_and_runs_exit_handlers_in_each(site: Site) -> None:
    (site.folder / "program.py").write_text(PROGRAM)
    with Command(cwd=site.folder, start=[sys.executable, "program.py"]) as command:
        site.command = command
        # A program logs no lines about its workers by default: one whose threads run has begun to serve.
        wait_until(lambda: [len(os.listdir(f"/proc/{pid}/task")) > 10 for pid in site.answering()] == [True, True])
        workers = site.answering()
        assert site.ask()[1] in workers
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("restart the program to load its application again")
        assert command.stop() == 0
    pid = command.process.pid
    assert [line for line in command.stdout.seen if line.startswith("returned")] == [f"returned {pid}"]
    assert sorted(command.stdout.seen) == sorted([f"returned {pid}", *(f"exit {one}" for one in (pid, *workers))])


def test_program_that_calls_the_command_goes_on_in_the_supervisor_only(site: Site) -> None:
    (site.folder / "program.py").write_text(
        "import atexit, os\n"
        "from wsgi.cli import main\n"
        "atexit.register(lambda: print('exit', os.getpid(), flush=True))\n"
        "print('returned', main(['site_app:app', '--workers', '2', '--port', '0']), os.getpid(), flush=True)\n"
    )
    with Command(cwd=site.folder, start=[sys.executable, "program.py"]) as command:
        site.command = command
        site.wait_for_lines("serves (", 2, command.stderr.seen)
        workers = site.answering()
        assert command.stop() == 0
    pid = command.process.pid
    assert sorted(command.stdout.seen) == sorted([f"returned 0 {pid}", *(f"exit {one}" for one in (pid, *workers))])


def program(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    head = "import threading, time\nfrom wsgi.server import *\nfrom wsgi.server import serve\n"
    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
    return subprocess.run(
        [sys.executable, "-c", head + app + body],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_program_with_other_threads_is_refused_by_their_names(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
        "serve(app, port=0, workers=2)",
    )
    assert done.returncode == 1
    assert "not safe while other threads run (poller)" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "call",
    [
        "WSGIServer(port=0, app=app, workers=2).handle_request()",
        "with WSGIServer(port=0, app=app, workers=2): pass",
        "make_server('127.0.0.1', 0, app, workers=1).handle_request()",
    ],
)
def test_program_that_serves_in_its_own_process_with_workers_is_refused(tmp_path: Path, call: str) -> None:
    done = program(tmp_path, call)
    assert done.returncode == 1
    assert "RuntimeError: the option workers needs serve_forever() or run()" in done.stderr.splitlines()[-1]


def test_program_can_stop_its_workers_and_serve_again(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "import signal\n"
        "server = WSGIServer(port=0, app=app, workers=1)\n"
        "signal.signal(signal.SIGALRM, lambda *_: server.shutdown())\n"
        "for _ in range(2):\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.7)\n"
        "    server.serve_forever()\n"
        "print('done', signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
    )
    assert (done.returncode, done.stdout) == (0, "done True\n"), done.stderr


def test_program_with_a_default_timeout_of_sockets_keeps_its_workers(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "import signal, socket\n"
        "socket.setdefaulttimeout(0.2)\n"
        "server = WSGIServer(port=0, app=app, workers=1)\n"
        "signal.signal(signal.SIGALRM, lambda *_: server.shutdown())\n"
        "signal.setitimer(signal.ITIMER_REAL, 1.5)\n"
        "server.serve_forever()",
    )
    assert done.returncode == 0
    assert "supervisor has gone" not in done.stderr
    assert "replaced" not in done.stderr


def test_program_whose_handler_raises_ends_after_its_requests(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "import signal, sys\n"
        "signal.signal(signal.SIGALRM, lambda *_: sys.exit(7))\n"
        "signal.setitimer(signal.ITIMER_REAL, 1)\n"
        "print('once')\n"
        "WSGIServer(port=0, app=app, workers=2).serve_forever()",
    )
    assert (done.returncode, done.stdout) == (7, "once\n"), done.stderr
    assert "supervisor has gone" not in done.stderr


def test_program_whose_handler_reaps_workers_ends(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "import os, signal\n"
        "def reap(*_):\n"
        "    try:\n"
        "        while os.waitpid(-1, os.WNOHANG)[0]: pass\n"
        "    except ChildProcessError: pass\n"
        "signal.signal(signal.SIGCHLD, reap)\n"
        "server = WSGIServer(port=0, app=app, workers=2)\n"
        "signal.signal(signal.SIGALRM, lambda *_: server.shutdown())\n"
        "signal.setitimer(signal.ITIMER_REAL, 1)\n"
        "server.serve_forever()\n"
        "print('returned')",
    )
    assert "returned" in done.stdout, done.stderr


def test_program_whose_workers_cannot_start_is_told(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
        "serve(app, port=0, workers=1)",
    )
    assert done.returncode == 1
    assert done.stderr.count("no database") == 1
    assert done.stderr.splitlines()[-1].endswith("no worker could start: its error is above")


def test_build_without_an_interpreter_lock_starts_one_worker(tmp_path: Path) -> None:
    done = program(
        tmp_path,
        "import signal, sys\n"
        "sys._is_gil_enabled = lambda: False\n"
        "server = WSGIServer(port=0, app=app, workers=4)\n"
        "signal.signal(signal.SIGALRM, lambda *_: server.shutdown())\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.7)\n"
        "server.serve_forever()",
    )
    assert done.returncode == 0
    assert "workers: one is started, not 4" in done.stderr
    assert "(1 worker, pid" in done.stderr
