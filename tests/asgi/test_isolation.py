"""What an ASGI application sees of a request is what was sent, whatever it did with the requests before."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.asgi.conftest import Serve, needs_uvloop
from tests.asgi.frames import TEXT, Socket, frame
from tests.asgi.talking import Message, Receive, Scope, Send, body, start
from tests.isolation import PROXIED, VARIABLE, Crowd, Records, Sent, digest, mark, marks_of
from tests.support import serve

STATE = {"shared": "by all"}


@dataclass
class Application:
    """Records what it sees, and then does to it what the request's habit says."""

    records: Records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        given = {"receive": receive, "send": send, **scope}
        path = scope["path"].removeprefix(scope["root_path"])
        sent, seen = self.records.begin(path, deepcopy(dict(scope)), marks_of(given))
        mark(given, sent.identifier)
        if sent.habit != "unread":
            seen.digest = digest(await self._read(receive))
        if sent.habit == "keep":
            seen.misled = await self._mislead(scope)
            self.records.kept.append((sent.identifier, (scope, receive, send, deepcopy(dict(scope)))))
        # The others' turn.
        for _ in range(3):
            await asyncio.sleep(0)
        seen.contexts.append(VARIABLE.get())
        if sent.habit == "raise":
            raise RuntimeError(f"raised by {sent.identifier}")
        if sent.habit == "hint":
            await send({"type": "http.response.early_hint", "links": [sent.hint.encode()]})
        if sent.habit == "clear":
            clear(scope)
        if sent.habit == "overwrite":
            overwrite(scope, sent.identifier)
        await self._answer(sent, send)
        seen.contexts.append(VARIABLE.get())

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"].update(STATE)
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    async def _read(self, receive: Receive) -> bytes:
        pieces = []
        while True:
            message = await receive()
            pieces.append(message["body"])
            if not message["more_body"]:
                return b"".join(pieces)

    async def _answer(self, sent: Sent, send: Send) -> None:
        fields = [(name.encode(), value.encode()) for name, value in sent.answer_fields]
        if sent.is_whole:
            fields.append((b"content-length", str(sum(map(len, sent.pieces))).encode()))
        await send(start(200, *fields))
        for number, piece in enumerate(sent.pieces):
            if number and sent.habit == "break":
                raise RuntimeError(f"broken off by {sent.identifier}")
            await send(body(piece, more=True))
            await asyncio.sleep(0)
        await send(body())

    async def _mislead(self, scope: Scope) -> list[str]:
        """Uses what earlier requests were given; what it does must not reach this one."""
        misled = []
        for identifier, (kept, receive, send, _) in self.records.over():
            if kept is scope or kept["headers"] is scope["headers"]:
                misled.append(f"was given the objects of {identifier}")
            if (message := await receive())["type"] != "http.disconnect":
                misled.append(f"received {message} for {identifier}")
            for what in (start(200, (b"x-foreign", identifier.encode())), body(f"foreign {identifier}".encode())):
                await attempt(send, what)
        return misled


async def attempt(send: Send, message: Message) -> None:
    """Sends what is too late."""
    try:
        await send(message)
    except (OSError, RuntimeError):
        return


def nested(scope: Scope) -> list[Any]:
    """All that can be changed in a scope, the scope at last."""
    return [*(value for value in scope.values() if isinstance(value, dict | list)), scope]


def clear(scope: Scope) -> None:
    """Takes everything out of a scope and what is in it."""
    for value in nested(scope):
        value.clear()


def overwrite(scope: Scope, identifier: str) -> None:
    """Replaces everything in a scope and adds to it."""
    for value in nested(scope):
        if isinstance(value, list):
            value[:] = [(b"x-foreign", identifier.encode())]
        else:
            for name in [*value, "foreign"]:
                value[name] = identifier


def expected(sent: Sent, server_port: int) -> dict[str, Any]:
    """What must be the scope of a request."""
    lines = [*sent.fields, *sent.framing, *sent.proxied]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.prefix + sent.path,
        "raw_path": sent.prefix.encode() + sent.raw_path,
        "query_string": sent.query,
        "root_path": sent.prefix,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in lines],
        "client": ("192.0.2.1", 0) if sent.prefix else ("127.0.0.1", sent.port),
        "server": ("127.0.0.1", server_port),
        "extensions": {"http.response.early_hint": {}},
        "state": STATE,
    }


@dataclass
class Run:
    """What came of the requests of one crowd."""

    records: Records
    server_port: int
    seed: str


@pytest.fixture(scope="module", params=["direct", "proxied"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return PROXIED if request.param == "proxied" else {}


@pytest.fixture(scope="module", params=["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def run(request: pytest.FixtureRequest, options: dict[str, Any]) -> Run:
    """Everything that is looked at: the same requests for every test."""
    records = Records()
    crowd = Crowd(records, is_proxied=bool(options))
    with serve(Application(records), loop=request.param, lifespan="on", **options) as server:
        crowd.run(server.addresses[0])
        port = server.server_port
    return Run(records, port, f"repeat it with ISOLATION_SEED={crowd.seed}")


def test_scope_and_body_are_those_that_were_sent(run: Run) -> None:
    assert run.records.misdescribed(lambda sent: expected(sent, run.server_port)) == [], run.seed


def test_response_is_for_the_client_that_asked(run: Run) -> None:
    assert run.records.problems == [], run.seed


def test_context_variables_begin_anew_with_every_request(run: Run) -> None:
    assert run.records.confused_contexts() == [], run.seed


def test_attributes_set_on_objects_of_one_request_are_not_found_by_another(run: Run) -> None:
    assert run.records.marked() == [], run.seed


def test_kept_scope_stays_that_of_its_request(run: Run) -> None:
    assert run.records.kept
    for identifier, (scope, _, _, copy) in run.records.kept:
        assert scope == copy, (identifier, run.seed)


def test_websocket_hears_its_own_client_and_no_other(served: Serve) -> None:
    scopes: list[tuple[Scope, Any, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append((scope, deepcopy(dict(scope)), VARIABLE.get()))
        identifier = scope["query_string"].decode()
        VARIABLE.set(identifier)
        overwrite(scope, "foreign")
        await receive()
        await send({"type": "websocket.accept", "headers": [(b"x-id", identifier.encode())]})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{VARIABLE.get()} {message['text']}"})

    with served(app) as server, ExitStack() as stack:
        opened = []
        for number in range(10):
            lines = [b"X-A: of%d" % number, b"Sec-WebSocket-Extensions: permessage-deflate"]
            client = stack.enter_context(Socket(server.addresses[0], *lines, path=b"/?ws%d" % number))
            assert client.opened()["X-Id"] == f"ws{number}"
            opened.append(client)
        for turn in range(3):
            for number, client in enumerate(opened):
                client.send(frame(TEXT, b"%d.%d" % (number, turn)))
            for number, client in enumerate(opened):
                assert client.read_frame().payload == b"ws%d %d.%d" % (number, number, turn)
        for number, (_, seen, context) in enumerate(scopes):
            assert context == ""
            assert seen["query_string"] == b"ws%d" % number
            assert [value for name, value in seen["headers"] if name == b"x-a"] == [b"of%d" % number]
            assert b"foreign" not in dict(seen["headers"]).values()
