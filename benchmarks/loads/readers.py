"""A large file for many slow readers: is a worker held for each, and does memory grow?"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import browser, client
from benchmarks.loads.load import MIB, Load, LoadError, Target, milliseconds_since

FILE_SIZE = 1024**3


@dataclass(frozen=True)
class SlowReaders(Load):
    """Readers of `benchmarks.apps.plain:file`, and a quick request now and then beside them.

    Parameters:
        count: how many readers.
        piece: bytes that each takes at a time.
        pause: seconds between.
        patience: seconds within which a quick request must be answered.
    """

    count: int = 100
    piece: int = 65_536
    pause: float = 0.1
    patience: float = 3.0

    def prepare(self, folder: Path) -> dict[str, str]:
        """Makes a file that is all hole."""
        path = folder / "file"
        path.touch()
        os.truncate(path, FILE_SIZE)
        return {"BENCHMARK_FILE": str(path)}

    def run(self, target: Target) -> dict[str, float]:
        self._hello(target)
        before = peak = target.memory_mib()
        times: list[float] = []
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for _ in range(self.count):
                selector.register(stack.enter_context(self._reader(target)), selectors.EVENT_READ)
            end = time.monotonic() + target.seconds
            received = 0
            while time.monotonic() < end:
                for key, _ in selector.select(timeout=0):
                    assert isinstance(key.fileobj, socket.socket)
                    data = len(key.fileobj.recv(self.piece))
                    if not data:
                        raise LoadError("a reader's connection was closed")
                    received += data
                times.append(self._hello(target))
                peak = max(peak, target.memory_mib())
                time.sleep(self.pause)
        if not received:
            raise LoadError("no reader received anything")
        return {"served_ms": max(times), "growth_mib": peak - before, "read_mib": received / MIB}

    def _reader(self, target: Target) -> socket.socket:
        reader = socket.socket()
        # Before connecting: the window that is offered first is made from it.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.piece)
        reader.settimeout(self.patience)
        reader.connect(("127.0.0.1", target.port))
        reader.sendall(browser.request("/file"))
        return reader

    def _hello(self, target: Target) -> float:
        """Milliseconds until a new client has its answer."""
        begun = time.monotonic()
        try:
            client.exchange(target.port, browser.request(), self.patience)
        except OSError as error:
            raise LoadError(f"a quick request was not answered within {self.patience:.0f} s") from error
        return milliseconds_since(begun)
