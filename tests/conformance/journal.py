"""What the probe application says of its calls, gathered from a datagram socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

QUIET = 0.004
"""Seconds of silence after which no more calls are expected of requests that got no answer."""
FENCE = "fence"


class Journal:
    """Receives the lines that the probe sends to the socket at `path`, whichever process it runs in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._lines: list[str] = []
        self._fences = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._send(b"")
        self._thread.join()
        self._socket.close()
        self.path.unlink()

    def _receive(self) -> None:
        while data := self._socket.recv(1 << 18):
            line = data.decode("latin-1")
            with self._changed:
                if line == FENCE:
                    self._fences += 1
                else:
                    self._lines.append(line)
                self._changed.notify_all()

    def _send(self, data: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(data, str(self.path))

    def _catch_up(self) -> None:
        """Returns when all has been read that was sent before: datagrams keep their order."""
        with self._changed:
            wanted = self._fences + 1
        self._send(FENCE.encode())
        with self._changed:
            while self._fences < wanted:
                self._changed.wait()

    @property
    def lines(self) -> list[str]:
        """What has come since the last `take`."""
        self._catch_up()
        with self._changed:
            return list(self._lines)

    def forget(self) -> None:
        """Forgets what has come."""
        with self._changed:
            self._lines.clear()

    def take(self) -> list[str]:
        """Waits until nothing more comes, gives what came and forgets it."""
        with self._changed:
            while self._changed.wait(QUIET):
                pass
        self._catch_up()
        with self._changed:
            taken, self._lines = self._lines, []
        return taken

    def wait_for(self, condition: Callable[[list[str]], bool], patience: float) -> bool:
        """Waits until the lines satisfy `condition`; gives whether they do."""
        end = time.monotonic() + patience
        with self._changed:
            while not condition(self._lines):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return condition(self._lines)
        return True
