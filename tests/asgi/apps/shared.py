"""What the frameworks' applications do alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

DOWNLOAD = os.environ.get("DOWNLOAD", __file__)


class State:
    """What happens in one application."""

    def __init__(self) -> None:
        self.started = "no"
        self.open = 0
        self.done = 0
        self._waiting = 0
        self._met = asyncio.Event()

    async def meet(self) -> str:
        """Waits until twenty have come."""
        self._waiting += 1
        if self._waiting % 20 == 0:
            self._met.set()
            self._met = asyncio.Event()
        else:
            await self._met.wait()
        return "met"

    async def finish(self) -> None:
        """Some work after a response."""
        await asyncio.sleep(0.01)
        self.done += 1

    async def lines(self) -> AsyncIterator[bytes]:
        """A stream with an end."""
        for number in range(100):
            yield b"line %d\n" % number
            if number % 10 == 0:
                await asyncio.sleep(0)

    async def events(self) -> AsyncIterator[bytes]:
        """A stream without one."""
        self.open += 1
        try:
            number = 0
            while True:
                yield b"data: %d\n\n" % number
                number += 1
                await asyncio.sleep(0.005)
        finally:
            self.open -= 1

    async def quiet(self) -> AsyncIterator[bytes]:
        """A stream that has nothing to send."""
        self.open += 1
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            self.open -= 1

    async def never(self) -> None:
        """A handler that has no answer."""
        self.open += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
