"""Starts a server with the probe, waits until it serves, starts it again if it dies, and ends it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.conformance.journal import Journal
from tests.conformance.judge import ANY_STATUS_LINE, Rules
from tests.conformance.replay import Subject
from tests.conformance.servers import APP, Launch
from tests.support import RawClient, connect, environment

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds until a server that does not answer counts as not started."""


class NotStarted(Exception):
    """The server did not begin to serve; the text is the end of what it said."""


class Target:
    """A running server. As a context it is ended with all its processes.

    Parameters:
        launch: how it is started.
        python: the interpreter of its environment.
        transport: `tcp` or `unix`.
        reads: whether the probe reads every body.
        brief: whether it has short timeouts and low limits.
    """

    def __init__(
        self, launch: Launch, python: Path, transport: str, *, reads: bool = True, brief: bool = False
    ) -> None:
        self.launch, self.python, self.transport, self.reads, self.brief = launch, python, transport, reads, brief
        self.deaths = 0
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def __enter__(self) -> Target:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance")))
        self.journal = self._stack.enter_context(Journal(folder / "journal"))
        self._log = self._stack.enter_context((folder / "log").open("w+b"))
        self._path = folder / "socket"
        try:
            self._start()
        except BaseException:
            self._end()
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._stack.close()

    def subject(self, rules: Rules, patience: float) -> Subject:
        """What the cases are run against."""
        assert self._process is not None
        return Subject(
            self.address, self.journal, rules, patience, self.launch.width, pid=self._process.pid, revive=self.revive
        )

    def revive(self) -> bool:
        """Starts the server again if it has ended or does not listen any more; gives whether it had to."""
        if self._process is not None and self._process.poll() is None and self._listens():
            return False
        self.deaths += 1
        self._end()
        self._start()
        return True

    def _listens(self) -> bool:
        try:
            connect(self.address, START).close()
        except OSError:
            return False
        return True

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1] if self._port is None else self._port
        self._port = port
        self._path.unlink(missing_ok=True)
        address = f"unix:{self._path}" if self.transport == "unix" else f"127.0.0.1:{port}"
        self.address = address if self.transport == "unix" else f"http://{address}"
        names = {
            "address": address,
            "host": "127.0.0.1",
            "port": str(port),
            "path": str(self._path),
            "app": APP,
            "python": str(self.python),
            "bin": str(self.python.parent),
        }
        variables = {
            "PYTHONPATH": str(ROOT),
            "PROBE_JOURNAL": str(self.journal.path),
            "PROBE_READS": "1" if self.reads else "0",
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
        }
        # A session of its own, so that it can be ended with the processes that it forked.
        self._process = subprocess.Popen(
            self.launch.command(self.transport, self.brief, names),
            cwd=ROOT,
            env=environment(**variables),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._wait_until_serving()
        self.journal.take()

    def _wait_until_serving(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START
        for attempt in itertools.count():
            if time.monotonic() > end or self._process.poll() is not None:
                raise NotStarted(self._said())
            try:
                with RawClient(self.address, 2.0, ANY_STATUS_LINE) as client:
                    client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    # Some answer only when the client has left, some not any more.
                    if attempt % 2:
                        client.end()
                    if client.receive().status == 200:
                        return
            except (OSError, AssertionError):
                time.sleep(0.05)

    def _said(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace")

    def _end(self) -> None:
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3.0)
        self._process = None
