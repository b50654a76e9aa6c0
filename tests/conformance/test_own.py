"""This server against every case, in this process: no alternative, no early close, nothing beside what it promises.

`make conformance` runs the same cases against the command, split at every offset.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests.asgi.talking import Receive, Scope, Send, read
from tests.asgi.talking import answer as asgi_answer
from tests.conformance.__main__ import main
from tests.conformance.arrivals import of_environ, of_scope, requests
from tests.conformance.catalogue import LAST, wire_cases
from tests.conformance.exchanges import ProbeCase
from tests.conformance.journal import Journal
from tests.conformance.judge import Rules, parse
from tests.conformance.probe import Probe
from tests.conformance.replay import SEED, Subject, replay
from tests.conformance.scripts import SCRIPTS, ScriptCase
from tests.conformance.suite import PROBES, entries
from tests.conformance.wire import Exchange, Script
from tests.server.recording import STREAMING, Environ, Start, answer, listening
from tests.support import PATIENCE, RawClient

SPLITS = 6
"""Offsets drawn for each wire case."""

# How the server is set up: transport, whether the application reads, whether bodies are streamed.
SETTINGS = {
    "tcp": ("tcp", True, False),
    "tcp-unread": ("tcp", False, False),
    "tcp-streamed": ("tcp", True, True),
    "tcp-streamed-unread": ("tcp", False, True),
    "unix": ("unix", True, False),
    "tls": ("tls", True, False),
    "unix-unread": ("unix", False, False),
    "unix-streamed": ("unix", True, True),
}
# Short enough to wait for, long beside the steps of a case.
BRIEF = {
    "header_timeout": 0.5,
    "body_timeout": 0.5,
    "body_min_rate": 10_000,
    "write_timeout": 0.5,
    "keep_alive": 0.5,
    "max_body_size": 1_000_000,
}


@contextlib.contextmanager
def served(
    folder: Path, transport: str, options: dict[str, Any], *, reads: bool = True, streams: bool = False
) -> Iterator[Subject]:
    """A server with the probe, judged strictly."""
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / "journal"))
        server = stack.enter_context(listening(transport, Probe(str(journal.path), reads), folder, **options))
        yield Subject(server.addresses[0], journal, Rules(reads, streams, strict=True), PATIENCE, pipelined=True)


def in_setting(folder: Path, setting: str) -> contextlib.AbstractContextManager[Subject]:
    """A server in one of the settings."""
    transport, reads, streams = SETTINGS[setting]
    # As much as may be buffered: nothing is then seen by the application before it is complete.
    options = {**STREAMING, "stream_chunked": True} if streams else {"body_buffer": 1 << 30}
    return served(folder, transport, options, reads=reads, streams=streams)


def shown(missed: dict[str, Any]) -> str:
    return "\n".join(f"{case_id}: {miss.kind}: {miss.text}" for case_id, miss in missed.items())


@pytest.mark.parametrize("setting", SETTINGS)
def test_wire_cases_are_met_however_they_are_cut(setting: str, tmp_path: Path) -> None:
    with in_setting(tmp_path, setting) as subject:
        missed = replay(subject, wire_cases(), SPLITS)
    assert not missed, shown(missed)


# -- What the application is given -------------------------------------------------------------------------------------

ACCEPTED = [case for case in wire_cases() if case.outcomes[0].calls]


@dataclass
class Given:
    """An application, by WSGI or by ASGI, that keeps what it is given."""

    kept: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)

    def wsgi(self, environ: Environ, start_response: Start) -> list[bytes]:
        """The application by WSGI."""
        self.kept.append((of_environ(environ), environ["wsgi.input"].read()))
        return answer(start_response)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application by ASGI."""
        # Awaited by nobody else: of one connection, and one after the other.
        self.kept.append((of_scope(scope), await read(receive)))
        await asgi_answer(send)


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_accepted_cases_reach_the_application_as_they_were_sent(interface: str, tmp_path: Path) -> None:
    given = Given()
    options: dict[str, Any] = {} if interface == "wsgi" else {"interface": "asgi", "lifespan": "off"}
    wrong: dict[str, str] = {}
    with listening("tcp", getattr(given, interface), tmp_path, **options) as server:
        # Each thrice: what the server learns from one request must not show in the next.
        for case in sorted(ACCEPTED * 3, key=lambda case: case.id):
            outcome = case.outcomes[0]
            last = LAST if outcome.end == "clean" else b""
            sent = requests(case.content + last, len(outcome.calls) + bool(last))
            if interface == "asgi" and any(name.lower() == b"upgrade" for each in sent for name, _ in each.fields):
                # Meant for WebSockets, and answered by the server if it is no sound handshake.
                continue
            with RawClient(server.addresses[0]) as client:
                client.send(case.content + last)
                for at, request in enumerate(sent):
                    # A scope has methods in upper case only.
                    refused = interface == "asgi" and request.method != request.method.upper()
                    assert client.receive(request.method.decode()).status == (501 if refused else 200), case.id
                    if refused:
                        client.expect_end()
                        del sent[at:]
                        break
            wanted = [(getattr(each, "variables" if interface == "wsgi" else "scope")(), each.body) for each in sent]
            if given.kept != wanted:
                wrong[case.id] = f"sent {wanted}, arrived {given.kept}"
            given.kept.clear()
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())


def test_accepted_cases_hold_every_part_that_can_be_lost() -> None:
    # Else the test above could not fail for it.
    sent = [request for case in ACCEPTED for request in requests(case.content, len(case.outcomes[0].calls))]
    names = [name for request in sent for name, _ in request.fields]
    assert any(b"_" in name for name in names)
    # A name with an underscore is dropped, whatever else it has.
    assert set(b"!#$%&'*+-.^`|~") <= {byte for name in names if b"_" not in name for byte in name}
    assert any(request.method != request.method.upper() for request in sent)
    assert any(request.authority for request in sent)
    assert any(request.query for request in sent)
    assert any(request.path != unquote_to_bytes(request.path) for request in sent)
    assert any(b"chunked" in value and request.body for request in sent for _, value in request.fields)
    assert any(len({name.lower() for name, _ in request.fields}) < len(request.fields) for request in sent)
    assert any(byte > 0x7F for request in sent for _, value in request.fields for byte in value)


# Cases of processor time and of /proc belong to `make conformance`, where the server has a process of its own.
CONVERSATIONS = [case for case in SCRIPTS if not case.linux]


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streamed"])
@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_probes_and_conversations_are_met(transport: str, streams: bool, tmp_path: Path) -> None:
    options = STREAMING if streams else {}
    cases: list[ProbeCase | ScriptCase] = [*PROBES, *(case for case in CONVERSATIONS if not case.needs)]
    with served(tmp_path, transport, options) as subject:
        missed = {case.id: miss for case in cases if (miss := case.run(subject)) is not None}
    assert not missed, shown(missed)


def test_conversations_with_short_times_are_met(tmp_path: Path) -> None:
    cases = [case for case in CONVERSATIONS if case.needs]
    with served(tmp_path, "tcp", BRIEF) as subject:
        missed = {case.id: miss for case in cases if (miss := case.run(subject)) is not None}
    assert not missed, shown(missed)


def test_command_line_tests_a_server_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    only = ["get", "both-framings", "response-list", "environ-dict", "expect-waits", "limit-body"]
    command = "{python} -m wsgi_server --bind {address} {app}"
    assert main([*(word for name in only for word in ("--only", name)), "--splits", "1"]) == 0
    assert main(["--server", command, "--only", "get", "--only", "time-silent", "--splits", "1"]) == 0
    report = capsys.readouterr().out
    assert "not offered: time-silent (header_timeout)" in report


# -- Bytes that nobody has thought of ----------------------------------------------------------------------------------


def mutated(draw: random.Random, content: bytes) -> bytes:
    """`content` with a byte changed, some taken out, put in or repeated, or with its end cut off."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.randrange(len(data) + 1)
        size = draw.choice([1, 2, 10])
        change = draw.randrange(5)
        if change == 0:
            data[at : at + 1] = draw.choices(b"\r\n \t:;0,\0\xffaG", k=1)
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at:at] = bytes(draw.choices(b"\r\n :0a,", k=size))
        elif change == 3:
            data[at:at] = data[max(0, at - 20) : at]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("setting", SETTINGS)
def test_mutated_cases_are_answered_strictly_or_refused(
    setting: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(SEED)
    small = [case.content for case in wire_cases() if len(case.content) < 3000]
    with in_setting(tmp_path, setting) as subject:
        for _ in range(500):
            content = mutated(draw, b"".join(draw.choices(small, k=draw.choice([1, 2, 3]))))
            at = draw.randrange(len(content) + 1)
            script = Script([content[:at], content[at:]], leaves=True)
            (transcript,) = Exchange(subject.address, subject.patience).run([script])
            assert not transcript.stalled, content
            calls = [line.split(" ")[1] for line in subject.journal.lines if line.startswith(("call ", "run "))]
            subject.journal.forget()
            responses, error = parse(transcript, calls)
            if error is not None and b"HEAD " in content:
                # A refused request makes no call that would tell its method: the refusal of HEAD has no content.
                responses, error = parse(transcript, [*calls, "HEAD"])
            assert error is None, content
            assert {response.status for response in responses} <= {200, 400, 413, 414, 417, 431, 501, 505}, content
    # Nothing that a client sends is an error of the server or of the application.
    assert not [record for record in caplog.records if "/app/" not in record.getMessage()]


# -- The catalogue -----------------------------------------------------------------------------------------------------


def test_cases_have_ids_rules_and_sentences_of_their_own() -> None:
    found = entries()
    assert len({entry.id for entry in found}) == len(found)
    for entry in found:
        assert entry.rule.startswith(("RFC ", "PEP 3333")), entry.id
        assert entry.sentence.endswith("."), entry.id
