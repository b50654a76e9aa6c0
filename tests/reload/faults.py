"""What can be wrong with the answer to a request, one name for each."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["Fault", "Loss", "Lost"]


class Fault(enum.Enum):
    """How a request, a connection or a message was lost, as a client sees it."""

    REFUSED = "refused"
    """No connection was made."""
    RESET = "reset"
    """The connection was reset before the first byte of the response, or after the last."""
    UNANSWERED = "unanswered"
    """The stream ended before the first byte of the response."""
    SHORT = "short"
    """The stream ended within the response, or a WebSocket without a Close frame."""
    DOUBLED = "doubled"
    """There was more than one response to a request."""
    MIXED_UP = "mixed up"
    """The response belongs to another request, or its parts to several, or are not in order."""
    CLOSED_IDLE = "closed idle"
    """An idle connection ended whose last response did not announce it by `Connection: close`."""
    LOST_ON_REUSE = "lost on reuse"
    """A connection that had answered before ended in the moment of the next request."""
    DROPPED_MESSAGE = "dropped message"
    """A WebSocket was closed before a message that the server had received was answered."""
    WRONG_CLOSE = "wrong close"
    """A WebSocket was closed with another status than 1001 and 1012."""
    MALFORMED = "malformed"
    """What came is no response."""
    FAILED = "failed"
    """The status is not 200."""
    LATE = "late"
    """There was no response within the time that a client waits."""
    RUN_TWICE = "run twice"
    """The application ran more than once for a request."""


class Lost(Exception):
    """One loss.

    Parameters:
        fault: its name.
        detail: what was seen.
    """

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault


class Loss(NamedTuple):
    """What losses are counted by."""

    kind: str
    """The kind of client."""
    fault: Fault
    event: str
    """What had happened last."""
