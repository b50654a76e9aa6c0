"""The servers that can be reloaded by a signal, and one of them running."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.victim import children
from tests.reload.content import FOLDER, IMPORTS
from tests.support import PATIENCE, ProtocolError, RawClient, environment

__all__ = ["SERVERS", "Running", "Server", "offered_options"]

ROOT = Path(__file__).parents[2]
SITES = {"wsgi": "tests.reload.site:app", "asgi": "tests.reload.asgi_site:app"}
"""The applications, by interface."""
WORKERS = 2
THREADS = 8
BOOT_TIMEOUT_SECONDS = 4
RECYCLING = "--max-requests"
"""The option that replaces workers after a number of requests."""
_BANNER = re.compile(r"Serving HTTP on (http://[^ ,]+)")
_READY = "serves ("


@dataclass(frozen=True)
class Server:
    """How a server is started with two workers.

    Parameters:
        package: the distribution that has it.
        commands: the words behind the program's name, by interface, with `{app}`, `{port}` and `{unix}` in them.
        sockets: interfaces with which it serves WebSockets.
        resizes: whether SIGTTIN and SIGTTOU change the number of workers.
        upgrades: whether SIGUSR2 executes a new program in place.
        keeps_former: whether a reload whose import fails keeps the former workers, so that it can be required.
        note: what a page says of it.
    """

    package: str
    commands: dict[str, str]
    sockets: frozenset[str] = frozenset({"asgi"})
    resizes: bool = False
    upgrades: bool = False
    keeps_former: bool = False
    note: str = ""


def can_upgrade() -> bool:
    """Whether this server executes a new program on SIGUSR2."""
    return importlib.util.find_spec("wsgi.supervisor.upgrade") is not None


SERVERS = {
    "wsgi": Server(
        "wsgi-server",
        dict.fromkeys(
            SITES,
            f"{{app}} --workers {WORKERS} --threads {THREADS} --boot-timeout {BOOT_TIMEOUT_SECONDS} "
            "--bind 127.0.0.1:0 --bind unix:{unix}",
        ),
        resizes=True,
        upgrades=can_upgrade(),
        keeps_former=True,
    ),
    "gunicorn": Server(
        "gunicorn",
        {
            "wsgi": f"{{app}} --workers {WORKERS} --worker-class gthread --threads {THREADS} --keep-alive 75 "
            "--bind 127.0.0.1:{port} --bind unix:{unix}"
        },
        resizes=True,
        note="threads, `--keep-alive 75`",
    ),
    "granian": Server(
        "granian",
        {
            interface: f"{{app}} --interface {interface} --workers {WORKERS} --host 127.0.0.1 --port {{port}} "
            "--workers-kill-timeout 30" + (f" --blocking-threads {THREADS}" if interface == "wsgi" else "")
            for interface in SITES
        },
        note="`--workers-kill-timeout 30`",
    ),
    "uvicorn": Server(
        "uvicorn",
        {"asgi": f"{{app}} --workers {WORKERS} --host 127.0.0.1 --port {{port}} --timeout-keep-alive 75"},
        resizes=True,
        note="`--timeout-keep-alive 75`",
    ),
}


def offered_options() -> str:
    """What `wsgi --help` says."""
    command = [sys.executable, "-m", "wsgi_server", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout


class Running:
    """A server with an application that can be reloaded.

    Parameters:
        name: its key in `SERVERS`.
        interface: `wsgi` or `asgi`.
        folder: what the application and this program tell each other by.
        python: the interpreter of the environment that has the server.
        options: more words for its command line.
    """

    def __init__(
        self, name: str, interface: str, folder: Path, python: str = sys.executable, options: Sequence[str] = ()
    ) -> None:
        server = SERVERS[name]
        self.folder = folder
        self.keeps_former = server.keeps_former
        self.recycles = RECYCLING in options
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command, path = server.commands[interface], folder / "socket"
        self._announces_address = "{port}" not in command
        self.address = f"http://127.0.0.1:{port}"
        self.unix = f"unix:{path}" if "{unix}" in command else ""
        program = "wsgi_server" if name == "wsgi" else name
        words = [word.format(app=SITES[interface], port=port, unix=path) for word in command.split()]
        self._command = [python, "-m", program, *words, *options]
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Starts it, also again after it has ended.

        Raises:
            AssertionError: it does not answer in time.
        """
        (self.folder / IMPORTS).write_text("")
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = environment(PYTHONPATH=path, **{FOLDER: str(self.folder)})
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end, pause = time.monotonic() + PATIENCE, threading.Event()
        while not self._answers():
            if time.monotonic() > end or self.has_ended():
                self.stop()
                raise AssertionError(f"{self._command} does not answer: {self.log()}")
            pause.wait(0.05)

    def _answers(self) -> bool:
        if self._announces_address:
            log = self.log()
            found = _BANNER.search(log)
            # Until then a worker has not all of its threads.
            if found is None or log.count(_READY) < WORKERS:
                return False
            self.address = found[1]
        elif len((self.folder / IMPORTS).read_text().splitlines()) < WORKERS:
            return False
        with contextlib.suppress(OSError, ProtocolError), RawClient(self.address, 5) as client:
            client.send(b"GET /quick?0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.receive().status == 200
        return False

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._process.pid

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text("utf-8", "replace")

    def has_ended(self) -> bool:
        """Whether the supervisor has ended."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Sends a signal to the supervisor."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ends it, at once if it does not end in time."""
        workers = children(self.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            workers += children(self.pid)
            self._process.kill()
            self._process.wait()
        for pid in workers:
            with contextlib.suppress(OSError):
                if str(self.folder) in Path(f"/proc/{pid}/environ").read_text("utf-8", "replace"):
                    os.kill(pid, signal.SIGKILL)
