"""What a kept connection costs on which nothing happens, and whether many of them are in anybody's way."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import browser, client
from benchmarks.loads.load import MIB, Load, LoadError, Target, milliseconds_since

SPARE = 500
"""Descriptors for everything else."""


@dataclass(frozen=True)
class IdleConnections(Load):
    """Connections that had one request answered each and then stay.

    Parameters:
        count: how many.
        patience: seconds after which a server counts as one that takes no more.
    """

    count: int = 10_000
    patience: float = 3.0

    def prepare(self, folder: Path) -> dict[str, str]:
        """Raises this process's limit of open files, and with it that of what it starts."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.count + SPARE
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise LoadError(f"{wanted} open files are needed, and {hard} allowed: raise the limit (ulimit -Hn)")
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return {}

    def run(self, target: Target) -> dict[str, float]:
        with contextlib.ExitStack() as stack:
            # The first ones are not counted: with them comes what a server needs only once.
            few = self.count // 20
            first = self._open(stack, target, few)
            before = target.memory_mib()
            more = self._open(stack, target, self.count - few) if len(first) == few else []
            growth = (target.memory_mib() - before) * MIB
            held = sum(map(_is_open, first + more))
            if not held:
                raise LoadError("not one connection was kept")
            figures = {"held": float(held)}
            if more and held == len(first + more):
                figures["bytes_each"] = growth / len(more)
            if held == self.count:
                begun = time.monotonic()
                client.exchange(target.port, browser.request())
                figures["served_ms"] = milliseconds_since(begun)
            return figures

    def _open(self, stack: contextlib.ExitStack, target: Target, count: int) -> list[socket.socket]:
        """Opens connections until there are enough, or the server answers no more; the stack closes them."""
        held: list[socket.socket] = []
        for _ in range(count):
            try:
                connection = stack.enter_context(client.connect(target.port, self.patience))
                connection.sendall(browser.request())
                with connection.makefile("rb") as stream:
                    if client.read_response(stream).status != 200:
                        raise ConnectionError("a connection was refused")
            except OSError:
                break
            held.append(connection)
        return held


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
