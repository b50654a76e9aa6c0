"""What the workers of each generation serve, and with which options: a reload reads all of it again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from wsgi._core import Page
from wsgi.errors import WSGIServerError
from wsgi.logging import report
from wsgi.settings import Settings
from wsgi.supervisor.channel import WorkerEnd
from wsgi.supervisor.handover import HandoverQueue

__all__ = ["Configuration", "Configurations", "PassedSocket", "UnreadableConfiguration", "report_addresses"]

PassedSocket = tuple[str, int, tuple[int, int] | None]
"""A listening socket that outlives the program: what it was opened for, descriptor, device and inode of its file."""


class UnreadableConfiguration(WSGIServerError):
    """A configuration cannot be used; the message is one line."""


@dataclass(frozen=True)
class Configuration:
    """What the workers of one generation serve.

    Parameters:
        settings: their options.
        addresses: where they listen.
        close: closes the listening sockets in this process; those that another configuration shares stay open.
        reopen_logs: reopens the access log of this process, which workers inherit.
        sockets: gives the listening sockets.
        serve: what a worker or a template does, with its way to the supervisor, the page of counters and the queue of
            connections; returns the exit code.
    """

    settings: Settings
    addresses: Iterable[str]
    close: Callable[[], object]
    reopen_logs: Callable[[], object]
    sockets: Callable[[], list[PassedSocket]]
    serve: Callable[[WorkerEnd, Page, HandoverQueue], int]


class Configurations:
    """The configurations that workers may be started with.

    Parameters:
        first: that of the first generation.
        reread: reads flags, environment and file again, and opens what is new, while everything else stays open; None
            if the workers serve what the program has in memory.
        generation: the first one's number.
        environ: the environment of the start, which the program of an upgrade gets; default: that of the process.
        named_sockets: name and descriptor of each socket that systemd has passed at the start.
    """

    def __init__(
        self,
        first: Configuration,
        reread: Callable[[], Configuration] | None = None,
        generation: int = 1,
        *,
        environ: Mapping[str, str] = os.environ,
        named_sockets: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.environ = environ
        self.named_sockets = list(named_sockets)
        self.current = first
        """That of the generation that serves."""
        self.is_command = reread is not None
        self._reread = reread
        self._by_generation = {generation: first}

    def __getitem__(self, generation: int) -> Configuration:
        """That of a generation whose workers are started, or are restarted if a reload fails."""
        return self._by_generation[generation]

    def read(self) -> Configuration:
        """Reads the configuration as it is now.

        Raises:
            UnreadableConfiguration: it cannot be used; nothing has changed.
        """
        assert self._reread is not None
        try:
            return self._reread()
        except (WSGIServerError, OSError, TypeError, ValueError) as error:
            raise UnreadableConfiguration(str(error)) from error
        except MemoryError:
            raise UnreadableConfiguration("out of memory") from None

    def add(self, generation: int, configuration: Configuration) -> None:
        """Workers of this generation are to be started with it."""
        self._by_generation[generation] = configuration

    def keep(self, generations: Iterable[int], serving: int) -> Configuration | None:
        """Closes what no generation needs any more. Gives the configuration that was replaced, if one was.

        Parameters:
            generations: those whose workers may be started.
            serving: the one that serves.
        """
        wanted = set(generations)
        for generation in [one for one in self._by_generation if one not in wanted]:
            self._by_generation.pop(generation).close()
        former, self.current = self.current, self._by_generation[serving]
        return former if former is not self.current else None

    def close(self) -> None:
        """Closes every listening socket in this process."""
        for configuration in self._by_generation.values():
            configuration.close()

    def close_others(self, configuration: Configuration) -> None:
        """Closes, in a worker, the sockets that its configuration has not: it would never accept their clients."""
        for other in self._by_generation.values():
            if other is not configuration:
                other.close()

    def reopen_logs(self) -> None:
        """Reopens the access logs of this process."""
        for configuration in self._by_generation.values():
            configuration.reopen_logs()


def report_addresses(former: Configuration, current: Configuration) -> list[str]:
    """Logs which addresses a reload has added and removed; gives the latter."""
    before, after = list(former.addresses), list(current.addresses)
    added = [address for address in after if address not in before]
    removed = [address for address in before if address not in after]
    if added:
        report(logging.INFO, f"listening on {', '.join(added)}")
    if removed:
        report(logging.INFO, f"no longer listening on {', '.join(removed)}")
    return removed
