"""Who runs where: the server on one processor, whoever asks on another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Processors, or none where everybody runs anywhere.

    Figures of the one and the other say different things: pinned, a server cannot gain by a second processor, and pays
    nothing for handing work to a thread that runs there.
    """

    server: int | None = None
    client: int | None = None

    @classmethod
    def pinned(cls) -> Placement:
        """The first and the last processor that we may use.

        Raises:
            SystemExit: there is but one, or no taskset.
        """
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) < 2:
            raise SystemExit("benchmarks: pinning needs two processors: use --unpinned")
        if not shutil.which("taskset"):
            raise SystemExit("benchmarks: taskset is missing: install the package util-linux, or use --unpinned")
        return cls(processors[0], processors[-1])

    def settle(self) -> None:
        """Puts this process, and what it starts from now on, where clients run."""
        if self.client is not None:
            os.sched_setaffinity(0, {self.client})

    def of_server(self, command: Sequence[str]) -> list[str]:
        prefix = [] if self.server is None else ["taskset", "-c", str(self.server)]
        return [*prefix, *command]

    def __str__(self) -> str:
        if self.server is None:
            return "unpinned"
        return "pinned: the server has one processor, the load generator another"
