"""`receive` and `send`: awaitable callables to the specification, and coroutine functions to those that ask."""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from typing import Any

import asgiref.sync
import pytest

from tests.asgi.conftest import Serve
from tests.asgi.frames import Socket
from tests.asgi.talking import GET, Receive, Scope, Send, answer
from tests.support import RawClient


@pytest.fixture
def callables(served: Serve) -> list[Any]:
    """The `receive` and `send` of a request and of a WebSocket."""
    given: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend([receive, send])
        if scope["type"] == "http":
            await answer(send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    with served(app) as server:
        with RawClient(server.addresses[0]) as client:
            client.send(GET)
            assert client.receive().status == 200
        with Socket(server.addresses[0]) as socket:
            assert socket.receive().status == 403
    assert [function.__name__ for function in given] == ["receive", "send"] * 2
    return given


def test_receive_and_send_are_coroutine_functions_to_asyncio(callables: list[Any]) -> None:
    with warnings.catch_warnings():
        # Python 3.14 wants inspect to be asked.
        warnings.simplefilter("ignore", DeprecationWarning)
        assert all(asyncio.iscoroutinefunction(function) for function in callables)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="inspect has a mark since Python 3.12")
def test_receive_and_send_are_coroutine_functions_to_inspect(callables: list[Any]) -> None:
    assert all(inspect.iscoroutinefunction(function) for function in callables)


def test_receive_and_send_are_coroutine_functions_to_asgiref(callables: list[Any]) -> None:
    assert all(asgiref.sync.iscoroutinefunction(function) for function in callables)
    # Consumers of Django Channels make such ones of `send`; what warns here is an error in these tests.
    for function in callables:
        asgiref.sync.async_to_sync(function)


def test_what_receive_and_send_return_is_a_coroutine_to_asyncio(callables: list[Any]) -> None:
    receive, send = callables[:2]
    for awaitable in (receive(), send({"type": "http.response.body"})):
        assert asyncio.iscoroutine(awaitable)
        assert inspect.isawaitable(awaitable)
        awaitable.close()


def test_arguments_of_receive_and_send_are_those_of_the_specification(callables: list[Any]) -> None:
    receive, send = callables[:2]
    for wrong in (lambda: receive(1), send, lambda: send({}, {})):
        with pytest.raises(TypeError):
            wrong()
