"""A FastAPI application. Run it with `wsgi --app-dir examples fastapi_app:app`.

Or from Python: `python examples/fastapi_app.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    # Opened before the first request, closed after the last one.
    yield {"greeting": "Hello"}


app = FastAPI(title="Greetings", lifespan=lifespan)


@app.get("/")
async def greet(request: Request, name: str = "stranger") -> dict[str, str]:
    return {"message": f"{request.state.greeting}, {name}!"}


@app.get("/wait/{seconds}")
async def wait(seconds: float) -> dict[str, float]:
    await asyncio.sleep(min(seconds, 10))
    return {"waited": seconds}


@app.put("/digest")
async def digest(request: Request) -> dict[str, str | int]:
    """Reads a body of any size as it arrives."""
    checksum, size = hashlib.sha256(), 0
    async for piece in request.stream():
        checksum.update(piece)
        size += len(piece)
    return {"sha256": checksum.hexdigest(), "size": size}


@app.get("/count")
async def count() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for number in range(1, 4):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")


if __name__ == "__main__":
    from wsgi.server import WSGIServer

    WSGIServer("localhost", 8000, app).serve_forever()
