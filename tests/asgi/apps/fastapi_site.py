"""The application in FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, File, Request, Response, UploadFile, WebSocket
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from tests.asgi.apps.shared import DOWNLOAD, State

state = State()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"started": "yes"}


app = FastAPI(lifespan=lifespan, default_response_class=PlainTextResponse)


@app.api_route("/hello", methods=["GET", "HEAD"])
async def hello() -> str:
    return "hello"


@app.get("/sync")
def sync() -> str:
    return "hello"


@app.get("/started")
async def started(request: Request) -> str:
    return str(request.state.started)


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body())


@app.post("/upload")
async def upload(file: UploadFile = File()) -> str:  # noqa: B008
    return str(len(await file.read()))


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(state.lines())


@app.get("/events")
async def events() -> StreamingResponse:
    return StreamingResponse(state.events(), media_type="text/event-stream")


@app.get("/quiet")
async def quiet() -> StreamingResponse:
    return StreamingResponse(state.quiet(), media_type="text/event-stream")


@app.get("/open")
async def opened() -> str:
    return str(state.open)


@app.get("/download")
async def download() -> FileResponse:
    return FileResponse(DOWNLOAD)


@app.post("/background")
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(state.finish)
    return "later"


@app.get("/done")
async def done() -> str:
    return str(state.done)


@app.get("/meet")
async def meet() -> str:
    return await state.meet()


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])
