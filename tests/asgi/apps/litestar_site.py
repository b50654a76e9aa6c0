"""The application in Litestar."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, WebSocket, get, head, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import File, Response, Stream

from tests.asgi.apps.shared import DOWNLOAD, State

state = State()


async def start(app: Litestar) -> None:
    state.started = "yes"


@get("/hello", media_type=MediaType.TEXT)
async def hello() -> str:
    return "hello"


@head("/hello", media_type=MediaType.TEXT)
async def hello_head() -> None:
    return None


@get("/sync", media_type=MediaType.TEXT, sync_to_thread=True)
def sync() -> str:
    return "hello"


@get("/started", media_type=MediaType.TEXT)
async def started() -> str:
    return state.started


@post("/echo")
async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(await request.body(), media_type="application/octet-stream")


@post("/upload", media_type=MediaType.TEXT)
async def upload(data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)]) -> str:
    return str(len(await data["file"].read()))


@get("/stream")
async def stream() -> Stream:
    return Stream(state.lines())


@get("/events")
async def events() -> Stream:
    return Stream(state.events(), media_type="text/event-stream")


@get("/quiet")
async def quiet() -> Stream:
    return Stream(state.quiet(), media_type="text/event-stream")


@get("/open", media_type=MediaType.TEXT)
async def opened() -> str:
    return str(state.open)


@get("/download")
async def download() -> File:
    return File(DOWNLOAD)


@post("/background", media_type=MediaType.TEXT, status_code=200)
async def background() -> Response[str]:
    return Response("later", background=BackgroundTask(state.finish))


@get("/done", media_type=MediaType.TEXT)
async def done() -> str:
    return str(state.done)


@get("/meet", media_type=MediaType.TEXT)
async def meet() -> str:
    return await state.meet()


@websocket("/socket")
async def echo_socket(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        text, content = message.get("text"), message.get("bytes")
        if text is not None:
            await socket.send_text(text)
        elif content is not None:
            await socket.send_bytes(content)


app = Litestar(
    [
        echo_socket,
        hello,
        hello_head,
        sync,
        started,
        echo,
        upload,
        stream,
        events,
        quiet,
        opened,
        download,
        background,
        done,
        meet,
    ],
    on_startup=[start],
    request_max_body_size=None,
)
