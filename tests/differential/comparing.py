"""Holds our reading of a case against the others', and names what differs by the rows of docs/differential.md.

Two rules, and no third. What we take, at least one of the others takes, with the same method, target, body and end, and
keeps the connection open if we do. What we refuse although another takes it is refused for a reason that the page
explains.

Habits of the others that the page explains are taken off a request before they are asked again, so that they hide
nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.differential import parsers
from tests.differential.parsers import OTHERS, Message, Reading, Refusal

PAGE = Path(__file__).parents[2] / "docs" / "differential.md"

KNOWN_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"}
KNOWN_METHOD = b"POST"
"""What stands for a method that not every parser knows."""
FRAMING_FIELD = re.compile(rb"(?im)^(connection|content-length|transfer-encoding)(?=:)")


def _known_method(request: bytes) -> bytes:
    method, space, rest = request.partition(b" ")
    return request if method.removeprefix(b"\r\n") in KNOWN_METHODS else KNOWN_METHOD + space + rest


def _without_upgrade(request: bytes) -> bytes:
    head, empty, body = request.partition(b"\r\n\r\n")
    return re.sub(rb"(?i)\r\nUpgrade:", b"\r\nXpgrade:", head) + empty + body


def _without_proxy_connection(request: bytes) -> bytes:
    head, empty, body = request.partition(b"\r\n\r\n")
    return re.sub(rb"(?i)\r\nProxy-Connection:", b"\r\nXroxy-Connection:", head) + empty + body


def _with_short_length(request: bytes) -> bytes:
    head, empty, body = request.partition(b"\r\n\r\n")
    return re.sub(rb"(?i)(\r\nContent-Length:[ \t]*)0+(?=[0-9])", rb"\1", head) + empty + body


def _without_empty_line(request: bytes) -> bytes:
    return request.removeprefix(b"\r\n")


def _trimmed(request: bytes) -> bytes:
    head, empty, body = request.partition(b"\r\n\r\n")
    return re.sub(rb"[ \t]+(?=\r\n)", b"", head + b"\r\n")[:-2] + empty + body


def _with_chunks(request: bytes, change: Callable[[bytes, bytes, bytes], bytes]) -> bytes:
    """A chunked request that is known to be well-formed, with each size, extension and what follows them changed."""
    head, empty, body = request.partition(b"\r\n\r\n")
    if not re.search(rb"(?i)\r\nTransfer-Encoding:", head):
        return request
    changed = head + empty
    while size_line := re.match(rb"([0-9a-fA-F]+)([^\r]*)\r\n", body):
        size = int(size_line[1], 16)
        end = size_line.end() + size + 2 if size else len(body)
        changed += change(size_line[1], size_line[2], body[size_line.end() : end])
        body = body[end:]
    return changed


def _without_extensions(request: bytes) -> bytes:
    return _with_chunks(request, lambda size, _, rest: size + b"\r\n" + rest)


def _without_zeros(request: bytes) -> bytes:
    return _with_chunks(request, lambda size, more, rest: b"%x" % int(size, 16) + more + b"\r\n" + rest)


def _without_framing_trailers(request: bytes) -> bytes:
    def change(size: bytes, more: bytes, rest: bytes) -> bytes:
        trailers = FRAMING_FIELD.sub(lambda name: b"X" + name[0][1:], rest) if int(size, 16) == 0 else rest
        return size + more + b"\r\n" + trailers

    return _with_chunks(request, change)


@dataclass(frozen=True)
class Habit:
    """What another parser does to a request that is sound, and how to ask it without that."""

    name: str
    of: str
    taken_off: Callable[[bytes], bytes]


HABITS = [
    Habit("other methods", "httptools", _known_method),
    Habit("upgrade", "httptools", _without_upgrade),
    Habit("Proxy-Connection", "httptools", _without_proxy_connection),
    Habit("white space at a line's end", "httptools", _trimmed),
    Habit("chunk extensions", "httptools", _without_extensions),
    Habit("framing fields in trailers", "httptools", _without_framing_trailers),
    Habit("empty line before a request", "h11", _without_empty_line),
    Habit("chunk extensions", "h11", _without_extensions),
    Habit("lengths of many digits", "h11", _with_short_length),
    Habit("chunk sizes of many digits", "h11", _without_zeros),
    Habit("framing fields in trailers", "h11", _without_framing_trailers),
]
NO_KEEP_ALIVE = ("keep-alive on HTTP/1.0", "h11")
"""h11 never keeps such a connection; no change of the request would make it."""


@dataclass(frozen=True)
class Difference:
    """A class of disagreement."""

    ours: str
    """The name of our refusal, or of a habit of the other."""
    other: str
    explained: bool = True
    """`False`: it is neither, so that the page cannot explain it."""


def _disagreement(name: str, request: bytes, rest: bytes, ours: Message) -> str | None:
    """What `name` makes of a request that we take, if it is something else."""
    theirs = OTHERS[name](request + rest)
    if isinstance(theirs, Refusal):
        return f"refused: {theirs.reason}"
    # A method that was replaced is not the request's any more.
    method = ours.method if request.removeprefix(b"\r\n").startswith(ours.method + b" ") else KNOWN_METHOD
    if (theirs.method, theirs.target, theirs.body) != (method, ours.target, ours.body):
        return "another request"
    if theirs.length != len(request):
        return "another end"
    return "closed" if ours.persistent and not theirs.persistent else None


def _of_taken(name: str, request: bytes, rest: bytes, ours: Message) -> list[Difference]:
    """How `name` differs about a request that we take: the habits that explain it, or what it says in spite of them."""
    found = []

    def ask(request: bytes) -> str | None:
        reason = _disagreement(name, request, rest, ours)
        if reason == "closed" and name == "h11" and b" HTTP/1.0\r\n" in request:
            found.append(Difference(*NO_KEEP_ALIVE))
            return None
        return reason

    reason = ask(request)
    if reason is None:
        return found
    habits = [habit for habit in HABITS if habit.of == name and habit.taken_off(request) != request]
    for habit in habits:
        if ask(habit.taken_off(request)) is None:
            return [*found, Difference(habit.name, name)]
    for habit in habits:
        request = habit.taken_off(request)
    left = ask(request)
    if left is None:
        return [*found, *(Difference(habit.name, name) for habit in habits)]
    return [Difference(f"taken by us, but {left}", name, explained=False)]


def differences(case: bytes, ours: Reading) -> Iterator[Difference]:
    """Every disagreement about one case."""
    for start, message in ours.messages:
        request, rest = case[start : start + message.length], case[start + message.length :]
        found = [difference for name in OTHERS for difference in _of_taken(name, request, rest, message)]
        if sum(not difference.explained for difference in found) == len(OTHERS):
            yield Difference("taken by us alone", "both", explained=False)
        yield from found
    if ours.end not in ("clean", "close"):
        rest = case[ours.consumed :]
        for name, parse in OTHERS.items():
            asked = _without_upgrade(rest) if name == "httptools" else rest
            if isinstance(parse(asked), Message):
                yield Difference(ours.end, name, explained=ours.end != "open")


def explained() -> set[tuple[str, str]]:
    """The rows of the page: a refusal or a habit, and whom it divides us from."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    found = set()
    for subject, h11, httptools in rows:
        for name, cell in (("h11", h11), ("httptools", httptools)):
            if cell.strip() in ("takes", "habit"):
                found.add((subject.strip().strip("`"), name))
    return found


def compare(cases: Iterable[bytes]) -> dict[Difference, bytes]:
    """Every class of disagreement that the cases show, with the shortest case of each."""
    cases = list(cases)
    found: dict[Difference, bytes] = {}
    for case, reading in zip(cases, parsers.ours(cases), strict=True):
        for difference in differences(case, reading):
            if difference not in found or len(case) < len(found[difference]):
                found[difference] = case
    return found
