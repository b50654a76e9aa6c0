"""WebSockets of real frameworks, talked to by real clients."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from tests.support import PATIENCE, Command

ROOT = Path(__file__).parents[2]
LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
FRAMEWORKS = ["fastapi", "litestar", "quart"]
# No empty bytes: Quart looks for text then.
CONTENTS: list[str | bytes] = [
    "",
    "hello",
    "\u20ac" * 50_000,
    b"\0",
    random.Random(5).randbytes(700_000),
    "a" * 100_000,
]


@pytest.fixture(scope="module", params=[(name, loop) for name in FRAMEWORKS for loop in LOOPS], ids="-".join)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    name, loop = request.param
    with Command(f"tests.asgi.apps.{name}_site:app", "--loop", loop, cwd=ROOT) as command:
        yield command.address.replace("http:", "ws:")
        assert command.stop() == 0
    seen = "\n".join(command.stderr.seen)
    assert "Traceback" not in seen
    assert "ERROR" not in seen


async def by_websockets(address: str, talk: Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[None]]) -> int:
    async with websockets.connect(f"{address}/socket", max_size=None, proxy=None) as client:

        async def ask(content: Any) -> Any:
            await client.send(content)
            return await client.recv()

        await talk(ask)
        await (await client.ping())
    assert client.close_code is not None
    return client.close_code


async def by_websockets_without_compression(address: str, talk: Callable[..., Awaitable[None]]) -> int:
    async with websockets.connect(f"{address}/socket", max_size=None, compression=None, proxy=None) as client:

        async def ask(content: Any) -> Any:
            # In fragments.
            await client.send([content[at : at + 1000] for at in range(0, len(content), 1000)] or content)
            return await client.recv()

        await talk(ask)
    assert client.close_code is not None
    return client.close_code


async def by_aiohttp(address: str, talk: Callable[..., Awaitable[None]]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/socket", compress=15, max_msg_size=0) as client,
    ):

        async def ask(content: Any) -> Any:
            await (client.send_str(content) if isinstance(content, str) else client.send_bytes(content))
            return (await client.receive(PATIENCE)).data

        await talk(ask)
        await client.ping()
        await client.close()
        assert client.close_code is not None
        return client.close_code


@pytest.mark.parametrize("client", [by_websockets, by_websockets_without_compression, by_aiohttp])
def test_messages_come_back(address: str, client: Callable[..., Awaitable[int]]) -> None:
    async def talk(ask: Callable[[Any], Awaitable[Any]]) -> None:
        for content in CONTENTS:
            assert await ask(content) == content

    async def main() -> int:
        return await asyncio.wait_for(client(address, talk), 2 * PATIENCE)

    assert asyncio.run(main()) == 1000


def test_handshake_without_a_route_is_refused(address: str) -> None:
    async def main() -> int:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(f"{address}/nowhere", proxy=None)
        return caught.value.response.status_code

    assert asyncio.run(main()) in (403, 404)


def test_many_clients_talk_at_once(address: str) -> None:
    async def one(number: int) -> None:
        async with websockets.connect(f"{address}/socket", proxy=None) as client:
            for turn in range(10):
                await client.send(f"{number} {turn}")
                assert await client.recv() == f"{number} {turn}"

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(main())
