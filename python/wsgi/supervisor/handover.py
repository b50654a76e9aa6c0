"""The queue by which workers hand idle connections over to each other: a pair of Unix sockets that all of them inherit.

A worker that is drained sends to one end, and workers that serve receive from the other (`_core.Run.retire`). Messages
of two versions of this package may meet in it; each carries the version of its format.
"""

from __future__ import annotations

import socket

from wsgi.errors import StartupError

__all__ = ["HandoverQueue", "open_handover"]


class HandoverQueue:
    """Both ends of the queue. A connection that is in it stays open until every process has closed them.

    Parameters:
        sender, receiver: connected Unix sockets that keep messages apart.
    """

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self._ends = (sender, receiver)

    @classmethod
    def from_descriptors(cls, sender: int, receiver: int) -> HandoverQueue:
        """The queue that the former program of this process has opened; it owns the descriptors from now on."""
        return cls(socket.socket(fileno=sender), socket.socket(fileno=receiver))

    @property
    def descriptors(self) -> tuple[int, int]:
        """The sending and the receiving descriptor, as `_core.Server.start` takes them."""
        sender, receiver = self._ends
        return sender.fileno(), receiver.fileno()

    def close(self) -> None:
        """Closes both ends in this process."""
        for end in self._ends:
            end.close()


def open_handover() -> HandoverQueue:
    """Opens a queue.

    Raises:
        StartupError: the system has no descriptors left.
    """
    # macOS has no SOCK_SEQPACKET.
    kinds = [kind for name in ("SOCK_SEQPACKET", "SOCK_DGRAM") if (kind := getattr(socket, name, None)) is not None]
    problem = ""
    for kind in kinds:
        try:
            sender, receiver = socket.socketpair(socket.AF_UNIX, kind)
        except OSError as error:
            problem = error.strerror or str(error)
            continue
        for end in (sender, receiver):
            end.setblocking(False)
        return HandoverQueue(sender, receiver)
    raise StartupError(f"cannot start workers: {problem}; raise the limit of open files (ulimit -n)")
