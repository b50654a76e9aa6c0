"""What a supervisor survives: a log that is not read, its own stops, and whatever a worker does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, children, is_running, site, wait_until
from tests.support import PATIENCE, ProtocolError, RawClient, environment
from wsgi.supervisor.recycling import private_memory

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

COMMAND = [sys.executable, "-m", "wsgi_server", "site_app:app", "--port", "0"]


# -- a log that is not read -------------------------------------------------------------------------------------------


def test_supervisor_whose_standard_error_is_full_reaps_and_restarts(site: Site) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*COMMAND, "--workers", "2"], cwd=site.folder, env=environment(), stderr=writer)
    seen = ""

    def has_logged(text: str) -> bool:
        nonlocal seen
        while select.select([reader], [], [], 0)[0]:
            seen += os.read(reader, 65536).decode()
        return text in seen

    try:
        wait_until(lambda: has_logged("Serving HTTP") and seen.count("serves (") == 2)
        # A description of its own: to write to it does not block.
        filler = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filler, b"x\n")
        os.close(filler)
        for _ in range(3):
            victim = children(process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(partial(has_gone, victim, process.pid))
            wait_until(lambda: len(children(process.pid)) == 2)
        has_logged("")
        os.kill(children(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: has_logged("lines were dropped, because standard error was blocked"))
    finally:
        process.send_signal(signal.SIGQUIT)
        assert process.wait(PATIENCE) == 0
        os.close(writer)
        os.close(reader)


def has_gone(pid: int, parent: int) -> bool:
    return pid not in children(parent)


# -- a supervisor that was stopped ------------------------------------------------------------------------------------


def test_supervisor_that_was_stopped_does_not_count_that_time_against_a_worker(site: Site) -> None:
    site.at_import("while not (HERE / 'go').exists(): time.sleep(0.01)")
    process = subprocess.Popen(
        [*COMMAND, "--workers", "1", "--boot-timeout", "2"],
        cwd=site.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    imports = site.folder / "imports"
    wait_until(lambda: imports.exists() and imports.read_text().endswith("\n"))
    process.send_signal(signal.SIGSTOP)
    threading.Event().wait(2.5)
    process.send_signal(signal.SIGCONT)
    threading.Event().wait(0.5)
    site.let_go()
    lines = []
    for line in iter(process.stderr.readline, ""):
        lines.append(line)
        if "Serving HTTP" in line:
            break
    process.terminate()
    lines += process.stderr.readlines()
    assert process.wait(PATIENCE) == 0, lines
    process.stderr.close()
    assert not any("boot_timeout" in line for line in lines)
    assert len(imports.read_text().split()) == 1


# -- workers ----------------------------------------------------------------------------------------------------------

DEEDS = {
    "exits": "os._exit(3)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "kills-itself": "os.kill(os.getpid(), signal.SIGKILL)",
    "closes-everything": "os.closerange(3, 100)",
    "writes-into-everything": (
        "for number in range(3, 100):\n"
        "    try:\n"
        "        os.set_blocking(number, False); os.write(number, bytes(range(256)))\n"
        "    except OSError: pass"
    ),
    "reads-from-everything": (
        "for number in range(3, 100):\n"
        "    try:\n"
        "        os.set_blocking(number, False); os.read(number, 4096)\n"
        "    except OSError: pass"
    ),
    "forks": ("for _ in range(5):\n    if os.fork() == 0:\n        time.sleep(60); os._exit(0)"),
    "blocks-signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "asks-for-too-much-memory": "bytearray(1 << 50)",
    "changes-its-group": "os.setpgid(0, 0)",
    "ignores-its-children": "signal.SIGCHLD and subprocess.Popen(['true'])",
}

DOING_APP = """
import os, signal, subprocess, time
from pathlib import Path
HERE = Path(__file__).parent
VERSION = (HERE / "version").read_text()
DEED = (HERE / "deed").read_text()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/do":
        (HERE / "doer").write_text(str(os.getpid()))
        try:
            exec(DEED)
        finally:
            (HERE / "done").write_text("")
    start_response("200 OK", [])
    return [f"{VERSION} {os.getpid()} {environ['wsgi.multiprocess']}".encode()]
"""


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["imported", "preloaded"])
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_worker_that_misbehaves_harms_neither_the_others_nor_the_supervisor(
    site: Site, deed: str, options: list[str]
) -> None:
    (site.folder / "site_app.py").write_text(DOING_APP)
    (site.folder / "deed").write_text(deed)
    with site.served("--workers", "2", "--graceful-timeout", "1", *options) as command:
        before = site.answering()
        doer, done = site.folder / "doer", site.folder / "done"
        forked: list[int] = []
        with RawClient(command.address) as client:
            client.send(b"GET /do HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: done.exists() or (doer.exists() and not is_running(int(doer.read_text() or 1))))
        try:
            forked = children(int(doer.read_text()))
            # The other one answers, and the one that misbehaved or its successor.
            wait_until(lambda: answers(site))
            site.reload("two")
            assert len(os.listdir(f"/proc/{command.process.pid}/task")) == 1
            # What it has forked may go on, and hold its standard error.
            site.signal(signal.SIGTERM)
            assert command.process.wait(PATIENCE) in (0, 1)
        finally:
            for pid in forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not any(is_running(pid) for pid in before)


def answers(site: Site) -> bool:
    with contextlib.suppress(ProtocolError, OSError, AssertionError):
        return site.ask()[0] == "one"
    return False


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--preload", "--max-memory", "1G", "--max-requests", "1000"]])
def test_supervisor_takes_at_most_ten_megabytes_for_itself(site: Site, options: list[str]) -> None:
    site.at_import("import asyncio, http.client, json, sqlite3")
    with site.served("--workers", "2", *options) as command:
        site.reload("two")
        supervisor = Path(f"/proc/{command.process.pid}")
        used = private_memory(supervisor)
        assert used > 0
        assert used <= 10 << 20, re.findall(r".*(?:Pss|Private).*", (supervisor / "smaps_rollup").read_text())
