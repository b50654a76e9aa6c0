"""The application in Django, by its ASGI handler."""

from __future__ import annotations

import asyncio
from typing import Any

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import FileResponse, HttpResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from tests.asgi.apps.shared import DOWNLOAD, State

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
)
django.setup()
state = State()
kept: set[asyncio.Task[None]] = set()


async def hello(request: Any) -> Any:
    return HttpResponse("hello")


def sync(request: Any) -> Any:
    return HttpResponse("hello")


async def echo(request: Any) -> Any:
    return HttpResponse(request.body)


async def upload(request: Any) -> Any:
    return HttpResponse(str(request.FILES["file"].size))


async def stream(request: Any) -> Any:
    return StreamingHttpResponse(state.lines())


async def events(request: Any) -> Any:
    return StreamingHttpResponse(state.events(), content_type="text/event-stream")


async def quiet(request: Any) -> Any:
    return StreamingHttpResponse(state.quiet(), content_type="text/event-stream")


async def never(request: Any) -> Any:
    await state.never()
    return HttpResponse("never")


async def opened(request: Any) -> Any:
    return HttpResponse(str(state.open))


def download(request: Any) -> Any:
    return FileResponse(open(DOWNLOAD, "rb"))


async def background(request: Any) -> Any:
    kept.add(asyncio.create_task(state.finish()))
    return HttpResponse("later")


async def done(request: Any) -> Any:
    return HttpResponse(str(state.done))


async def meet(request: Any) -> Any:
    return HttpResponse(await state.meet())


urlpatterns = [
    path("hello", hello),
    path("sync", sync),
    path("echo", echo),
    path("upload", upload),
    path("stream", stream),
    path("events", events),
    path("quiet", quiet),
    path("never", never),
    path("open", opened),
    path("download", download),
    path("background", background),
    path("done", done),
    path("meet", meet),
]

app = get_asgi_application()
