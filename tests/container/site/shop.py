"""An application that needs a package, and that takes its time for one of its answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bottle import Bottle  # type: ignore[import-untyped]

app = Bottle()


def front() -> str:
    return "The shop is open.\n"


def slow() -> Iterator[bytes]:
    yield b"first\n"
    time.sleep(2)
    yield b"last\n"


app.route("/", callback=front)
app.route("/slow", callback=slow)
