"""Server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wsgi.application.headers import HeadersLike
from wsgi.application.response import Content, StreamingResponse, encode_json

__all__ = ["EventStreamResponse", "ServerSentEvent"]

# No other line break counts in an event stream.
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of an event stream (WHATWG HTML §9.2).

    Parameters:
        data: text, or a JSON value; None for an event that only sets `id` or `retry`, or a comment.
        event: its type; clients take `message` for None.
        id: sent back by a client that reconnects (`Last-Event-ID`).
        retry: milliseconds until a client that lost its connection comes back.
        comment: read by no client; keeps proxies from closing a silent stream.

    Raises:
        ValueError: a line break in `event` or `id`, which would forge another field.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        for name in ("event", "id"):
            if re.search(r"[\r\n\0]", getattr(self, name) or ""):
                raise ValueError(f"the {name} of a server-sent event must be one line without NUL")

    def encode(self) -> bytes:
        """The event as it is sent."""
        lines = []
        if self.comment is not None:
            lines += [f": {line}" for line in _LINE_BREAK.split(self.comment)]
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry is not None:
            lines.append(f"retry: {int(self.retry)}")
        if self.data is not None:
            data = self.data if isinstance(self.data, str) else encode_json(self.data).decode()
            lines += [f"data: {line}" for line in _LINE_BREAK.split(data)]
        return "".join(f"{line}\n" for line in [*lines, ""]).encode()


class EventStreamResponse(StreamingResponse):
    """Server-sent events (WHATWG HTML §9.2).

    Parameters:
        events: `ServerSentEvent`s, or the data of one each: text, or a JSON value.
        status: default 200.
        headers: further fields.
    """

    __slots__ = ()
    media_type = "text/event-stream"

    def __init__(
        self, events: Iterable[ServerSentEvent | Any], status: int = 200, headers: HeadersLike | None = None
    ) -> None:
        super().__init__(Content(map(_encode, events), events), status, headers)
        self.headers.setdefault("Cache-Control", "no-store")
        # nginx would hold events back otherwise.
        self.headers.setdefault("X-Accel-Buffering", "no")


def _encode(event: ServerSentEvent | Any) -> bytes:
    return (event if isinstance(event, ServerSentEvent) else ServerSentEvent(event)).encode()
