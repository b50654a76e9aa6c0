"""Holds what came of a wire case against what it may come to.

Three things are looked at: the responses, parsed to the letter; the calls that they echo, and where the stream ends.
The calls that the application logged are compared by whoever ran the case (`replay.py`), with what is found here.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.conformance.catalogue import LAST_CALL, SERVED, Outcome, WireCase
from tests.conformance.wire import Transcript
from tests.support import ProtocolError, Response, ResponseReader

ANY_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\r\n")
"""A server may say HTTP/1.0 (RFC 9110 §6.2)."""

LET_THROUGH = "let through"
LOST = "refused or lost"
STATUS = "another status"
SILENT = "closed without an answer"
STAYS_OPEN = "not closed"
MALFORMED = "malformed response"
HANG = "hung"
CRASH = "crashed"
WRONG = "wrong answer"


@dataclass(frozen=True)
class Miss:
    """How a server missed a case."""

    kind: str
    """One of the classes above."""
    text: str
    """What was expected and what came."""


@dataclass(frozen=True)
class Rules:
    """How strictly a server is judged."""

    reads: bool
    """The application reads every body to its end."""
    streams: bool = True
    """The application may run before its request is whole."""
    strict: bool = False
    """Only what this server promises will do: no alternative, no early close, `Connection: close` before every end."""


@dataclass
class Fit:
    """The transcript is one of those allowed, if these calls were made."""

    made: Counter[str]
    """The calls that the answers prove."""
    may: Counter[str] = field(default_factory=Counter)
    """Calls that may have been made besides."""


def parse(transcript: Transcript, methods: Sequence[str]) -> tuple[list[Response], ProtocolError | None]:
    """The responses to requests with `methods` (further ones are taken for answers to GET), and what broke the last."""
    stream = io.BytesIO(transcript.received)
    reader = ResponseReader(lambda: stream.read(1 << 16), ANY_STATUS_LINE)
    responses: list[Response] = []
    try:
        while not reader.has_ended():
            responses.append(reader.receive(methods[len(responses)] if len(responses) < len(methods) else "GET"))
    except ProtocolError as error:
        return responses, error
    return responses, None


def judge(case: WireCase, transcript: Transcript, rules: Rules) -> Fit | Miss:
    """Says whether the transcript fits one of the outcomes, and else how it misses the first."""
    for outcome in case.outcomes[:1] if rules.strict else case.outcomes:
        fit = _Match(case, outcome, transcript, rules).fit()
        if fit is not None:
            return fit
    return _miss(case, transcript)


def without_body(call: str) -> str:
    """Method and path of a call."""
    return " ".join(call.split(" ")[:2])


def says_close(response: Response) -> bool:
    """Whether the response announces that it is the last."""
    return "close" in ", ".join(response.values("Connection")).lower()


class _Match:
    """One outcome against the transcript."""

    def __init__(self, case: WireCase, outcome: Outcome, transcript: Transcript, rules: Rules) -> None:
        self.case, self.outcome, self.transcript, self.rules = case, outcome, transcript, rules
        calls = [*outcome.calls, LAST_CALL] if outcome.end == "clean" else list(outcome.calls)
        self.calls = calls if rules.reads else [without_body(call) for call in calls]
        self.responses, self.error = parse(transcript, [call.split(" ")[0] for call in calls])

    def fit(self) -> Fit | None:
        if self.error or self.transcript.stalled:
            return None
        answered = 0
        while answered < min(len(self.calls), len(self.responses)) and self._answers(answered):
            answered += 1
        made = Counter(f"call {call}" for call in self.calls[:answered] if call != SERVED)
        rest = self.responses[answered:]
        may = self._may()
        ends = self._ends_early(answered, rest) if answered < len(self.calls) else self._ends(rest)
        return Fit(made, may) if ends else None

    def _answers(self, number: int) -> bool:
        call, response = self.calls[number], self.responses[number]
        if call == SERVED:
            return response.status < 400
        echo = "" if call.startswith("HEAD ") else call
        return response.status == 200 and response.body.decode("latin-1") == echo

    def _may(self) -> Counter[str]:
        """The call whose body broke, where the application runs before that is known."""
        if not (self.rules.streams and self.case.breaks_in_body(self.outcome)):
            return Counter()
        return Counter(["failed" if self.rules.reads else f"call {self.case.broken}"])

    def _ends(self, rest: list[Response]) -> bool:
        end = self.outcome.end
        statuses = [response.status for response in rest]
        said = not self.rules.strict or all(says_close(response) for response in self.responses[-1:])
        if end == "clean":
            return not rest
        if end == "close":
            return not rest and said
        if self.rules.streams and self.case.breaks_in_body(self.outcome) and self._broke(rest):
            return said or self.case.is_cut
        if end == "open":
            return not rest or (not self.rules.strict and len(rest) == 1 and 400 <= statuses[0] < 500)
        return statuses == [int(end)] and said

    def _broke(self, rest: list[Response]) -> bool:
        """The end of a request whose application ran already: it answers, or fails, or neither."""
        if rest and not self.rules.reads and rest[0].body.decode("latin-1") == self.case.broken:
            rest = rest[1:]
        if self.rules.strict and not self.case.is_cut and not rest:
            return not self.rules.reads
        wanted = self.outcome.end if self.rules.strict and self.outcome.end.isdigit() else ""
        return len(rest) <= 1 and all(
            response.status == int(wanted) if wanted else response.status >= 400 for response in rest
        )

    def _ends_early(self, answered: int, rest: list[Response]) -> bool:
        """A server may close behind any response that says so, and need not say so where a body was left unread."""
        if answered == 0 or rest:
            return False
        announced = says_close(self.responses[answered - 1])
        if self.rules.strict:
            # An expected body that is not read is never asked for, and may come or not.
            may_be_unread = self.rules.streams or self.case.section == "expect"
            return announced and may_be_unread and not self.rules.reads
        return announced or not self.rules.reads


def _miss(case: WireCase, transcript: Transcript) -> Miss:
    first = case.outcomes[0]
    methods = [call.split(" ")[0] for call in first.calls]
    responses, error = parse(transcript, methods)
    served = [response for response in responses if response.status == 200]
    refused = [response.status for response in responses if response.status != 200]
    came = [f"200 {response.body.decode('latin-1')[:60]}" if response.status == 200 else str(response.status)
            for response in responses]  # fmt: skip
    came.append(f"({error})"[:160] if error else "no end" if transcript.stalled else "end")
    wanted = [*(call[:60] for call in first.calls), first.end]
    known = {without_body(call) for call in first.calls} | ({"GET /last"} if first.end == "clean" else set())
    is_strange = any(without_body(response.body.decode("latin-1")) not in known for response in served if response.body)
    if error:
        kind = MALFORMED
    elif is_strange or len(served) > len(first.calls) + (first.end == "clean"):
        kind = LET_THROUGH
    elif transcript.hung:
        kind = HANG
    elif transcript.stalled:
        kind = STAYS_OPEN if responses else HANG
    elif len(served) < len(first.calls):
        kind = LOST
    elif refused and first.end.isdigit():
        kind = STATUS
    elif first.end.isdigit():
        kind = SILENT
    else:
        kind = WRONG if not refused else LOST
    return Miss(kind, f"expected {', '.join(wanted)}; came {', '.join(came)}")
