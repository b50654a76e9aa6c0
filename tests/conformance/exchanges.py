"""Cases that are one request to a behaviour of the probe, and checks of what comes back.

Behind the request another is sent, which asks for the end: a response that was framed wrongly shifts the answer to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.conformance.catalogue import LAST, Entry
from tests.conformance.judge import CRASH, HANG, MALFORMED, STAYS_OPEN, WRONG, Miss, parse, says_close
from tests.conformance.misbehaviours import SECRET
from tests.conformance.replay import Subject
from tests.conformance.wire import Exchange, Script, Transcript
from tests.support import ProtocolError, Response

IMF_DATE = re.compile(
    "(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    "[0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


@dataclass
class Answer:
    """What came of a request."""

    transcript: Transcript
    method: str
    lines: list[str]
    """What the application told."""

    @cached_property
    def parsed(self) -> tuple[list[Response], ProtocolError | None]:
        """The responses, and what broke the last."""
        return parse(self.transcript, [self.method])

    @property
    def response(self) -> Response:
        """The response to the request.

        Raises:
            Complaint: there is none.
        """
        responses, error = self.parsed
        if not responses:
            raise Complaint(MALFORMED if self.transcript.received else WRONG, str(error or "no response"))
        return responses[0]

    @property
    def told(self) -> list[str]:
        """What the behaviour told, without the calls themselves."""
        return [line for line in self.lines if not line.startswith(("run ", "call "))]

    @property
    def json(self) -> Any:
        """The content of the response, read as JSON."""
        if self.response.status != 200:
            raise Complaint(WRONG, f"status {self.response.status}")
        return json.loads(self.response.body)


class Complaint(Exception):
    """A check failed."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.miss = Miss(kind, text)


Check = Callable[[Answer], None]


@dataclass(frozen=True)
class ProbeCase(Entry):
    """One request and what must hold for its answer."""

    request: bytes
    checks: tuple[Check, ...]
    closes: bool = False
    """Whether the request asks for the end itself, so that nothing follows it."""

    def run(self, subject: Subject) -> Miss | None:
        """Sends the request and gives how it was missed."""
        subject.revive()
        subject.journal.take()
        script = Script([self.request], follow=[] if self.closes else [LAST])
        if subject.pipelined and not self.closes:
            script = Script([self.request + LAST])
        try:
            (transcript,) = Exchange(subject.address, subject.patience).run([script])
        except OSError:
            subject.revive()
            return Miss(CRASH, "the server ended or stopped accepting")
        if subject.revive():
            return Miss(CRASH, "the server ended")
        answer = Answer(transcript, self.request.split(b" ", 1)[0].decode(), subject.journal.take())
        if transcript.hung or (transcript.stalled and not transcript.received):
            return Miss(HANG, "no answer and no end")
        try:
            for check in self.checks:
                check(answer)
        except Complaint as complaint:
            return complaint.miss
        except (ValueError, KeyError, TypeError) as error:
            return Miss(WRONG, f"{type(error).__name__}: {error}: {answer.transcript.received[:200]!r}")
        return None


def demand(condition: bool, text: str, kind: str = WRONG) -> None:
    """Complains unless the condition holds."""
    if not condition:
        raise Complaint(kind, text)


def either(*checks: Sequence[Check]) -> Check:
    """One of several lists of checks must pass; the complaint says how each failed, and is of the last one's kind."""

    def check(answer: Answer) -> None:
        misses = []
        for alternative in checks:
            try:
                for each in alternative:
                    each(answer)
            except Complaint as complaint:
                misses.append(complaint.miss)
            except ValueError as error:
                misses.append(Miss(WRONG, str(error)))
            else:
                return
        raise Complaint(misses[-1].kind, "; and ".join(miss.text for miss in misses))

    return check


def status(*codes: int) -> Check:
    """The response has one of the statuses."""
    return lambda answer: demand(
        answer.response.status in codes, f"status {answer.response.status}, expected {' or '.join(map(str, codes))}"
    )


def body(content: bytes) -> Check:
    """The response has this content."""
    return lambda answer: demand(
        answer.response.body == content, f"content {answer.response.body[:80]!r}, expected {content[:80]!r}"
    )


def values(name: str, *wanted: str) -> Check:
    """The response has exactly these lines of a field."""
    return lambda answer: demand(
        answer.response.values(name) == list(wanted),
        f"{name} is {answer.response.values(name)}, expected {list(wanted)}",
    )


def lacks(name: str) -> Check:
    """The response has no such field."""
    return values(name)


def without(name: str, value: str) -> Check:
    """The response has no such field with this value."""
    return lambda answer: demand(value not in answer.response.values(name), f"{name}: {value} was sent")


def told(*lines: str) -> Check:
    """The behaviour told exactly this."""
    return lambda answer: demand(answer.told == list(lines), f"told {answer.told}, expected {list(lines)}")


def in_step(answer: Answer) -> None:
    """Every response is well-formed, and the next request was answered behind this one, or the connection closed."""
    responses, error = answer.parsed
    demand(error is None, f"{error}", MALFORMED)
    demand(not answer.transcript.stalled, "the connection is still open", STAYS_OPEN)
    demand(1 <= len(responses) <= 2, f"{len(responses)} responses to two requests", MALFORMED)
    if len(responses) == 2:
        demand(responses[1].body.startswith(b"GET /last"), f"the next answer was {responses[1].body[:80]!r}", MALFORMED)


def cut_short(answer: Answer) -> None:
    """The response began and visibly broke off: no client can take it for a whole one."""
    responses, error = answer.parsed
    demand(not answer.transcript.stalled, "the connection is still open", STAYS_OPEN)
    demand(error is not None, f"a whole response of {len(responses[0].body) if responses else 0} bytes", WRONG)


def failed(answer: Answer) -> None:
    """The client learns of the failure by 500, without a word of the application's."""
    status(500)(answer)
    in_step(answer)
    discreet(answer)


def discreet(answer: Answer) -> None:
    """Nothing of the application's error reaches the client."""
    received = answer.transcript.received
    demand(SECRET.encode() not in received and b"Traceback" not in received, "the error is shown to the client")


def well_formed(answer: Answer) -> None:
    """What came parses, is in step, and nothing was injected."""
    in_step(answer)
    lacks("X-Injected")(answer)


def refuses_or(*checks: Check) -> Check:
    """500, or these checks."""
    return either([failed], [well_formed, *checks])


def closed_or_failed(answer: Answer) -> None:
    """500, or an end without an answer, and no interim response passed for a final one."""
    if answer.transcript.received:
        failed(answer)


def shown(key: str, *wanted: str | None) -> Check:
    """An environ variable has one of the values; None is its absence."""

    def check(answer: Answer) -> None:
        value = answer.json["environ"].get(key)
        demand(value in wanted, f"{key} is {value!r}, expected {' or '.join(map(repr, wanted))}")

    return check


def fact(key: str, wanted: Any) -> Check:
    """Something that the application found out about its environ."""
    return lambda answer: demand(
        answer.json["facts"][key] == wanted, f"{key}: {answer.json['facts'][key]!r}, expected {wanted!r}"
    )


def gives(wanted: Any) -> Check:
    """The content, read as JSON, is this."""
    return lambda answer: demand(answer.json == wanted, f"gave {answer.json!r}, expected {wanted!r}")


def dated(answer: Answer) -> None:
    """There is one Date, in the one format that is sent."""
    (date,) = answer.response.values("Date") if len(answer.response.values("Date")) == 1 else ("",)
    demand(bool(IMF_DATE.fullmatch(date)), f"Date is {answer.response.values('Date')}")


def announced(answer: Answer) -> None:
    """A response that is the last on its connection says so."""
    responses, _ = answer.parsed
    demand(says_close(responses[-1]), "the last response does not say Connection: close")


def get(path: str, *lines: str, method: str = "GET", version: str = "1.1", content: bytes = b"") -> bytes:
    """A request to a behaviour."""
    length = [f"Content-Length: {len(content)}"] if content else []
    head = [f"{method} /app/{path} HTTP/{version}", "Host: a", *lines, *length, "", ""]
    return "\r\n".join(head).encode("latin-1") + content
