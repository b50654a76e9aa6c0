"""The application that every server under test serves: it tells a datagram socket of each call, and echoes it.

It runs in the server's interpreter, so it needs nothing but the standard library.

Environment:
    PROBE_JOURNAL: the path of the datagram socket.
    PROBE_READS: `1` if every body is read to its end, `0` if none is touched.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterable
from typing import Any

from tests.conformance.behaviours import Environ, Start
from tests.conformance.misbehaviours import ALL

PREFIX = "/app/"


class Probe:
    """The application.

    Parameters:
        journal: the path of the datagram socket.
        reads: whether bodies are read to their end.
    """

    def __init__(self, journal: str, reads: bool) -> None:
        self.journal = journal
        self.reads = reads

    def tell(self, line: str) -> None:
        """Sends a line; it has arrived when this returns."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(line.encode("latin-1", "backslashreplace"), self.journal)

    def __call__(self, environ: Environ, start_response: Start) -> Any:
        path = environ.get("PATH_INFO", "")
        if path.startswith(PREFIX):
            self.tell(f"run {environ['REQUEST_METHOD']} {path}")
            return ALL[path[len(PREFIX) :]](environ, start_response, self.tell)
        return self.echo(f"{environ['REQUEST_METHOD']} {path}", environ, start_response)

    def echo(self, call: str, environ: Environ, start_response: Start) -> Iterable[bytes]:
        """Logs a call once its body was read to the end, or at once where it is not read, and answers with the same."""
        if self.reads:
            try:
                body = environ["wsgi.input"].read()
            except BaseException as error:
                self.tell(f"failed {call} {type(error).__name__}")
                raise
            call += f" {len(body)} {zlib.crc32(body):08x}"
        self.tell(f"call {call}")
        content = call.encode("latin-1", "backslashreplace")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(content)))])
        return [content]


app = Probe(os.environ.get("PROBE_JOURNAL", ""), os.environ.get("PROBE_READS") != "0")
