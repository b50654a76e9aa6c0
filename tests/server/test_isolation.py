"""What a WSGI application sees of a request is what was sent, whatever it did with the requests before."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.isolation import PROXIED, VARIABLE, Crowd, Records, Sent, digest, mark, marks_of
from tests.server.recording import Environ, Start
from tests.support import serve
from wsgi import __version__

OTHERS = {
    "wsgi.client_disconnected",
    "wsgi.early_hints",
    "wsgi.errors",
    "wsgi.file_wrapper",
    "wsgi.input",
    "wsgi.input_terminated",
    "wsgi.multiprocess",
    "wsgi.multithread",
    "wsgi.run_once",
    "wsgi.version",
}
"""What is no text in an environ."""
FEW = 100
"""Bytes that are read of a body before the environ is kept."""


@dataclass
class Application:
    """Records what it sees, and then does to it what the request's habit says."""

    records: Records

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        sent, seen = self.records.begin(environ["PATH_INFO"], described(environ), marks_of(environ))
        errors = environ["wsgi.errors"]
        errors.write(f"errors of {sent.identifier}\n")
        body = b""
        if sent.habit == "keep":
            body = environ["wsgi.input"].read(FEW)
            seen.misled = self._mislead(environ)
            self.records.kept.append((sent.identifier, (environ, start_response, dict(environ))))
        elif sent.habit != "unread":
            body = b"".join(iter(lambda: environ["wsgi.input"].read(1000), b""))
        seen.digest = digest(sent.body if sent.habit == "keep" and body == sent.body[:FEW] else body)
        mark(environ, sent.identifier)
        # The others' turn.
        threading.Event().wait(0.0005)
        seen.contexts.append(VARIABLE.get())
        if sent.habit == "raise":
            raise RuntimeError(f"raised by {sent.identifier}")
        if sent.habit == "hint":
            environ["wsgi.early_hints"]([("Link", sent.hint)])
        if sent.habit == "clear":
            environ.clear()
        if sent.habit == "overwrite":
            for name in [*environ, "HTTP_X_FOREIGN", "foreign"]:
                environ[name] = sent.identifier
        length = [("Content-Length", str(sum(map(len, sent.pieces))))] if sent.is_whole else []
        start_response("200 OK", [*sent.answer_fields, *length])
        return answer(sent) if sent.habit == "break" or not sent.is_whole else [b"".join(sent.pieces)]

    def _mislead(self, environ: Environ) -> list[str]:
        """Uses what earlier requests were given; what it does must not reach this one."""
        misled = []
        for identifier, (kept, start_response, _) in self.records.over():
            if kept["wsgi.input"] is environ["wsgi.input"] or kept is environ:
                misled.append(f"was given the objects of {identifier}")
            with contextlib.suppress(AssertionError):
                start_response("200 OK", [("X-Foreign", identifier)])
                misled.append(f"could begin a response for {identifier}")
            kept["wsgi.early_hints"]([("Link", f"</foreign-{identifier}>")])
        return misled


def answer(sent: Sent) -> Iterator[bytes]:
    """The pieces, the second of which may not come."""
    for number, piece in enumerate(sent.pieces):
        if number and sent.habit == "break":
            raise RuntimeError(f"broken off by {sent.identifier}")
        yield piece


def described(environ: Environ) -> dict[str, Any]:
    """The text of an environ, and the names of everything else."""
    text = {name: value for name, value in environ.items() if isinstance(value, str)}
    return {**text, "others": set(environ) - set(text)}


def expected(sent: Sent, server_port: int) -> dict[str, Any]:
    """What must be found in the environ of a request."""
    raw = sent.raw_path.decode() + (f"?{sent.query.decode()}" if sent.query else "")
    made = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "PATH_INFO": sent.path,
        "QUERY_STRING": sent.query.decode(),
        "RAW_URI": raw,
        "REQUEST_URI": raw,
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": sent.method,
        "SCRIPT_NAME": sent.prefix,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server_port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"wsgi-server/{__version__}",
        "wsgi.url_scheme": "http",
        "others": OTHERS,
    }
    if sent.prefix:
        made["REMOTE_ADDR"] = "192.0.2.1"
    else:
        made["REMOTE_PORT"] = str(sent.port)
    if sent.body:
        made["CONTENT_LENGTH"] = str(len(sent.body))
    for name, value in [*sent.fields, *sent.proxied]:
        key = "HTTP_" + name.upper().replace("-", "_")
        key = "CONTENT_TYPE" if key == "HTTP_CONTENT_TYPE" else key
        separator = "; " if key == "HTTP_COOKIE" else ","
        made[key] = f"{made[key]}{separator}{value}" if key in made else value
    return made


@dataclass
class Run:
    """What came of the requests of one crowd."""

    records: Records
    server_port: int
    errors: str
    """What was written to `wsgi.errors`, and by the server."""
    seed: str


@pytest.fixture(scope="module", params=["direct", "proxied", "one thread"])
def run(request: pytest.FixtureRequest) -> Run:
    """Everything that is looked at: the same requests for every test."""
    records = Records()
    is_proxied = request.param == "proxied"
    crowd = Crowd(records, is_proxied)
    options: dict[str, Any] = {"threads": 1 if request.param == "one thread" else 4, **(PROXIED if is_proxied else {})}
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), serve(Application(records), **options) as server:
        crowd.run(server.addresses[0])
        port = server.server_port
    return Run(records, port, errors.getvalue(), f"repeat it with ISOLATION_SEED={crowd.seed}")


def test_environ_and_body_are_those_that_were_sent(run: Run) -> None:
    assert run.records.misdescribed(lambda sent: expected(sent, run.server_port)) == [], run.seed


def test_response_is_for_the_client_that_asked(run: Run) -> None:
    assert run.records.problems == [], run.seed


def test_context_variables_begin_anew_with_every_request(run: Run) -> None:
    assert run.records.confused_contexts() == [], run.seed


def test_attributes_set_on_objects_of_one_request_are_not_found_by_another(run: Run) -> None:
    assert run.records.marked() == [], run.seed


def test_errors_holds_each_line_once_and_whole(run: Run) -> None:
    lines = [line for line in run.errors.splitlines() if "errors of" in line]
    assert sorted(lines) == sorted(f"errors of {identifier}" for identifier in run.records.sent), run.seed


def test_kept_environ_and_input_stay_those_of_their_request(run: Run) -> None:
    assert run.records.kept
    for identifier, (environ, _, copy) in run.records.kept:
        sent = run.records.sent[identifier]
        assert environ == copy, (identifier, run.seed)
        assert environ["wsgi.input"].read() == sent.body[FEW:], (identifier, run.seed)
