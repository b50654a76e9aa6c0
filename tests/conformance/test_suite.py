"""The suite itself: against servers that are wrong on purpose it must say so, and say what is wrong."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance import judge
from tests.conformance.__main__ import main
from tests.conformance.catalogue import wire_cases
from tests.conformance.exchanges import ProbeCase
from tests.conformance.journal import Journal
from tests.conformance.judge import Miss, Rules
from tests.conformance.replay import Subject, replay
from tests.conformance.report import BEGIN, END, markdown, written_into
from tests.conformance.scripts import SCRIPTS, ScriptCase
from tests.conformance.suite import PROBES, Score

PATIENCE = 0.2
"""Short: these servers are to be lost patience with."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Tell = Callable[[str], None]
Handler = Callable[[socket.socket, Tell], None]
CASES = {case.id: case for case in wire_cases()}


@contextlib.contextmanager
def serving(handler: Handler, folder: Path) -> Iterator[Subject]:
    """A server that gives each connection to the handler, in a thread of its own, and closes it behind."""

    def take(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            handler(connection, tell)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                thread = threading.Thread(target=take, args=[connection], daemon=True)
                thread.start()
                threads.append(thread)

    def tell(line: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(line.encode("latin-1"), str(journal.path))

    threads: list[threading.Thread] = []
    with Journal(folder / "journal") as journal, socket.create_server(("127.0.0.1", 0), backlog=500) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        port = listener.getsockname()[1]
        yield Subject(f"http://127.0.0.1:{port}", journal, Rules(reads=True), PATIENCE)
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()


class Naive:
    """A server that works with friendly clients, and lets those through who are not.

    Parameters:
        answer: makes the response from what would be echoed.
        calls: how often the application is called for each request.
        closes: whether the connection is closed where it must be.
        hasty: whether what one read gives is taken for a whole request.
    """

    def __init__(
        self, *, answer: Callable[[bytes], bytes] = lambda echo: OK % (len(echo), echo), calls: int = 1,
        closes: bool = True, hasty: bool = False,
    ) -> None:  # fmt: skip
        self.answer, self.calls, self.closes, self.hasty = answer, calls, closes, hasty

    def __call__(self, connection: socket.socket, tell: Tell) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = connection.recv(65536)
                if not piece:
                    return
                data += piece
                if self.hasty and b"\r\n\r\n" not in data:
                    connection.sendall(REFUSAL)
                    return
            head, _, data = data.partition(b"\r\n\r\n")
            # What int() takes: signs, underscores, white space.
            found = re.search(rb"(?i)content-length:(.*)", head)
            try:
                size = int(found[1]) if found else 0
            except ValueError:
                connection.sendall(REFUSAL)
                return
            while len(data) < size:
                data += connection.recv(65536) or b"\0" * size
            body, data = data[:size], data[size:]
            words = head.decode("latin-1").split(" ")
            if len(words) < 3:
                connection.sendall(REFUSAL)
                return
            method, path = words[:2]
            call = f"{method} {path} {len(body)} {zlib.crc32(body):08x}"
            for _ in range(self.calls):
                tell(f"call {call}")
            connection.sendall(self.answer(call.encode("latin-1")))
            if b"connection: close" in head.lower():
                if not self.closes:
                    connection.recv(65536)
                return


def silent(connection: socket.socket, tell: Tell) -> None:
    connection.recv(65536)


def stubborn(connection: socket.socket, tell: Tell) -> None:
    """Answers everything in the same way, and goes on until the client leaves."""
    while connection.recv(65536):
        connection.sendall(OK % (5, b"wrong"))


def deaf(connection: socket.socket, tell: Tell) -> None:
    """Takes everything and never answers, whatever the client does."""
    connection.settimeout(4 * PATIENCE)
    while connection.recv(65536):
        pass
    threading.Event().wait(4 * PATIENCE)


def missed(handler: Handler, folder: Path, *names: str, splits: int = 3) -> dict[str, Miss]:
    with serving(handler, folder) as subject:
        return replay(subject, [CASES[name] for name in names], splits)


def test_server_that_is_right_in_a_case_passes_it(tmp_path: Path) -> None:
    names = ["get", "get-then-next", "content-length", "content-length-letters", "connection-close", "pipelined-25"]
    assert missed(Naive(), tmp_path, *names) == {}


# What the naive server lets through, and what a flaw adds to it.
FLAWS: dict[str, tuple[Handler, str, str]] = {
    "sign-in-length": (Naive(), "content-length-plus", judge.LET_THROUGH),
    "both-framings": (Naive(), "both-framings", judge.LET_THROUGH),
    "chunks-as-a-request": (Naive(), "chunked", judge.LOST),
    "space-before-colon": (Naive(), "space-before-colon", judge.LET_THROUGH),
    "host-twice": (Naive(), "host-twice", judge.LET_THROUGH),
    "short-body-as-a-whole-one": (Naive(), "content-length-short", judge.LET_THROUGH),
    "answer-without-a-call": (Naive(calls=0), "get", judge.LOST),
    "two-calls-for-one-answer": (Naive(calls=2), "get", judge.LET_THROUGH),
    "cut-requests": (Naive(hasty=True), "get", judge.LOST),
    "left-open": (Naive(closes=False), "get", judge.STAYS_OPEN),
    "bare-lf-in-answer": (Naive(answer=lambda echo: b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), "get", judge.MALFORMED),
    "answer-cut-short": (Naive(answer=lambda echo: OK % (9999, echo)), "connection-close", judge.MALFORMED),
    "no-answer": (silent, "host-missing", judge.SILENT),
    "nothing-at-all": (deaf, "get", judge.HANG),
    "another-status": (Naive(answer=lambda echo: REFUSAL), "request-line-of-8191-bytes", judge.STATUS),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_flaw_is_found_and_named(flaw: str, tmp_path: Path) -> None:
    handler, name, kind = FLAWS[flaw]
    found = missed(handler, tmp_path, name)
    assert [miss.kind for miss in found.values()] == [kind], found


def test_flaw_that_only_a_cut_shows_is_found_there(tmp_path: Path) -> None:
    found = missed(Naive(hasty=True), tmp_path, "get")
    assert found["get"].text.startswith(("byte by byte: ", "split at "))


def test_flaw_of_one_case_is_not_blamed_on_another(tmp_path: Path) -> None:
    class Selective(Naive):
        def __call__(self, connection: socket.socket, tell: Tell) -> None:
            def told(line: str) -> None:
                for _ in range(2 if line.startswith("call PUT ") else 1):
                    tell(line)

            super().__call__(connection, told)

    names = ["get", "put-with-body", "patch-with-body", "content-length"]
    assert list(missed(Selective(), tmp_path, *names)) == ["put-with-body"]


def test_every_wire_case_can_be_missed(tmp_path: Path) -> None:
    missed_by: set[str] = set()
    for handler in (silent, stubborn):
        missed_by |= set(missed(handler, tmp_path, *CASES, splits=0))
    assert set(CASES) - missed_by == set()


@pytest.mark.parametrize("case", [*PROBES, *(case for case in SCRIPTS if not case.linux)], ids=lambda case: case.id)
def test_every_other_case_can_be_missed(case: ProbeCase | ScriptCase, tmp_path: Path) -> None:
    for handler in (silent, stubborn, deaf):
        with serving(handler, tmp_path) as subject:
            if case.run(subject) is not None:
                return
    pytest.fail("no wrong server misses it")


def test_command_line_fails_with_a_server_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = '{python} -c "from wsgiref.simple_server import make_server as m; from tests.conformance.probe import app;'
    wrong += " m('127.0.0.1', {port}, app).serve_forever()\""
    assert main(["--server", wrong, "--only", "both-framings", "--splits", "0", "--patience", "0.5"]) == 1
    report = capsys.readouterr().out
    assert "both-framings (RFC 9112 §6.1): Both framings are refused" in report


def test_command_line_fails_with_a_server_that_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", "{python} -c 'raise SystemExit(\"no {port}\")'", "--only", "get"]) == 1
    assert "did not start" in capsys.readouterr().out


def test_tables_count_rules_and_promises_apart_and_name_what_was_missed() -> None:
    score = Score("a server", not_offered={"limit-body": "max_body_size"})
    score.add("tcp", "get", Miss(judge.LOST, "expected more"))
    score.add("tcp", "bare-lf", Miss(judge.LET_THROUGH, "expected less"))
    rules, promises = markdown([score]).split("### Promises beyond them")
    cases = [case for case in CASES.values() if case.section == "request-line"]
    count = sum(not case.promise for case in cases)
    assert f"| request-line | {count} | {count - 1}/{count} |" in rules
    count = sum(case.promise for case in cases)
    assert f"| request-line | {count} | {count - 1}/{count} |" in promises
    assert "(1 n/o)" in rules
    assert "- **a server** (1): `get`" in promises


def test_page_keeps_all_but_its_tables() -> None:
    assert written_into(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="no <!-- scores -->"):
        written_into("a", "new")
