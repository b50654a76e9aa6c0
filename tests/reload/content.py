"""What the reloaded applications of both interfaces share: how their import behaves, and what they answer with.

A response carries the number of its request, the pid of the worker and the generation of the application. Only the
standard library is imported, because other servers serve these applications, too.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

FOLDER = "RELOAD_TEST_FOLDER"
"""The variable that names the folder below."""
NEXT = "next"
"""The file with the next import's mode and generation."""
IMPORTS = "imports"
"""The file in which each import leaves its mode, generation and pid in a line."""
LEDGER = "ledger"
"""The file in which each run of the application leaves the number of its request in a line."""

PLAIN = "text/plain"
PIECES = 20
"""Lines of a stream, each sent as a chunk."""
PIECE_SECONDS = 0.05
"""Between two lines of a stream."""
SLOW_SECONDS = 0.2
"""What a slow response takes to begin, and the answer to a slow WebSocket message."""
IMPORT_SECONDS = 1.0
"""What a slow import takes."""
HANG_SECONDS = 600.0


class Site:
    """The application's side of a run, made once by each import.

    Raises:
        RuntimeError: this import is to fail.
    """

    def __init__(self) -> None:
        folder = Path(os.environ[FOLDER])
        mode, generation = (folder / NEXT).read_text().split()
        append(folder / IMPORTS, f"{mode} {generation} {os.getpid()}\n")
        if mode == "fail":
            raise RuntimeError("this import is to fail")
        time.sleep({"slow": IMPORT_SECONDS, "hang": HANG_SECONDS}.get(mode, 0))
        self.generation = int(generation)
        # Every write goes to the end of the file, whole, from any process (O_APPEND).
        self._ledger = os.open(folder / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, number: str) -> None:
        """Records that the application runs for a request or a message."""
        os.write(self._ledger, f"{number}\n".encode())

    def mark(self, number: str) -> str:
        """What a response begins with. The pid is read each time: an application may be imported before a fork."""
        return f"{number} {os.getpid()} {self.generation}"


def append(path: Path, text: str) -> None:
    """Adds text to a file in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(text.encode())


def digest(body: bytes) -> str:
    """A body in short."""
    return f"{len(body)} {zlib.crc32(body):08x}"
