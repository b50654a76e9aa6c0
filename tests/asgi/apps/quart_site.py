"""The application in Quart."""

from __future__ import annotations

from quart import Quart, Response, request, send_file, websocket

from tests.asgi.apps.shared import DOWNLOAD, State

state = State()
app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None


@app.before_serving
async def start() -> None:
    state.started = "yes"


@app.get("/hello")
async def hello() -> str:
    return "hello"


@app.get("/sync")
def sync() -> str:
    return "hello"


@app.get("/started")
async def started() -> str:
    return state.started


@app.post("/echo")
async def echo() -> Response:
    return Response(await request.get_data())


@app.post("/upload")
async def upload() -> str:
    return str(len((await request.files)["file"].read()))


@app.get("/stream")
async def stream() -> Response:
    return Response(state.lines())


@app.get("/events")
async def events() -> Response:
    response = Response(state.events(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.get("/quiet")
async def quiet() -> Response:
    response = Response(state.quiet(), content_type="text/event-stream")
    response.timeout = None
    return response


@app.get("/never")
async def never() -> str:
    await state.never()
    return "never"


@app.get("/open")
async def opened() -> str:
    return str(state.open)


@app.get("/download")
async def download() -> Response:
    return await send_file(DOWNLOAD)


@app.post("/background")
async def background() -> str:
    app.add_background_task(state.finish)
    return "later"


@app.get("/done")
async def done() -> str:
    return str(state.done)


@app.get("/meet")
async def meet() -> str:
    return await state.meet()


@app.websocket("/socket")
async def socket() -> None:
    while True:
        await websocket.send(await websocket.receive())
