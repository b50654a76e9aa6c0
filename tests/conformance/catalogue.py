"""The cases that are bytes: files of `tests/corpus`, what they must come to, and which rule says so."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

CORPUS = Path(__file__).parents[1] / "corpus"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""Sent behind a case that must leave the connection in step, or refuse it: served in the first case alone."""
LAST_CALL = "GET /last 0 00000000"
PIPELINED = ("get-then-next", "pipelined-25", "pipelined-mixed-framing", "content-length-zero-then-byte")
"""Cases of requests that are sent without waiting for answers."""
SERVED = "served"
"""Stands for a request that the server answers itself, without the application."""


@dataclass(frozen=True)
class Entry:
    """What every case has, whatever it is made of."""

    id: str
    section: str
    rule: str
    """The document and section that says so."""
    promise: bool
    """Whether this server promises more than the rule asks for; what others do about it is then no fault."""
    sentence: str


@dataclass(frozen=True)
class Outcome:
    """One thing that a case may come to."""

    calls: tuple[str, ...]
    """Each as `METHOD PATH LENGTH CRC32`, or `served`."""
    end: str
    """How the connection stands: `clean`, `open`, `close`, or the status of a refusal."""


@dataclass(frozen=True)
class WireCase(Entry):
    """Bytes that a client sends on one connection."""

    content: bytes
    outcomes: tuple[Outcome, ...]
    """What is allowed. The first is what this server does."""

    @property
    def is_cut(self) -> bool:
        """Whether the client leaves amid a request."""
        return self.outcomes[0].end == "open"

    @property
    def is_refused(self) -> bool:
        """Whether the first request is refused."""
        return not self.outcomes[0].calls and self.outcomes[0].end.isdigit()

    def breaks_in_body(self, outcome: Outcome) -> bool:
        """Whether what is wrong is only seen behind a valid head, when the application may run already."""
        return not outcome.calls and (self.section == "chunked" or (self.is_cut and b"\r\n\r\n" in self.content))

    @property
    def broken(self) -> str:
        """Method and path of the request whose body is broken."""
        method, path, _ = self.content.decode("latin-1").split(" ", 2)
        return f"{method} {path}"

    def requests(self, pipelined: bool) -> tuple[bytes, list[bytes]]:
        """What is sent at once, and what is sent in turn behind it, each when the answer to what came before is there.

        Parameters:
            pipelined: whether all is sent at once. A server that cannot take that is otherwise tested for it by the
                cases that are about it, and not by all.
        """
        if self.outcomes[0].end in ("open", "close"):
            return self.content, []
        if pipelined:
            return self.content + LAST, []
        if self.outcomes[0].end == "clean" and self.content.endswith(NEXT) and self.id not in PIPELINED:
            return self.content.removesuffix(NEXT), [NEXT, LAST]
        return self.content, [LAST]


def decoded(call: str) -> str:
    """A call as the application sees it: its path is percent-decoded (PEP 3333)."""
    if call == SERVED:
        return call
    method, path, body = call.split(" ", 2)
    return f"{method} {unquote_to_bytes(path).decode('latin-1')} {body}"


def outcome(text: str) -> Outcome:
    """Reads `CALL > CALL > END`: without an end the connection is clean; the name of a refusal is not needed here."""
    calls = text.split(" > ")
    end = calls[-1].split(" ")[0]
    if end in ("close", "open") or (end.isdigit() and calls[-1].count(" ") < 2):
        calls.pop()
    else:
        end = "clean"
    return Outcome(tuple(decoded(call) for call in calls), end)


def wire_cases() -> list[WireCase]:
    """Every case of the corpus in the order of its table."""
    with (CORPUS / "cases.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        WireCase(
            row["case"],
            row["section"],
            row["rule"],
            row["kind"] == "promise",
            row["sentence"],
            (CORPUS / f"{row['case']}.http").read_bytes(),
            tuple(outcome(text) for text in (row["outcome"], *row["also allowed"].split(" | ")) if text),
        )
        for row in rows
    ]
