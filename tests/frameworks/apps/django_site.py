"""The requests of `content` answered by Django."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from django.http import (  # type: ignore[import-untyped]
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # type: ignore[import-untyped]

from tests.frameworks.apps import content

settings.configure(
    DEBUG=False,
    SECRET_KEY="nothing is signed with it",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    # Between the two lie uploads that Django keeps in memory and those that it writes to a file.
    FILE_UPLOAD_MAX_MEMORY_SIZE=1 << 20,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)

TEXT = "text/plain; charset=utf-8"


def index(request: Any) -> Any:
    return HttpResponse("<h1>Hello from Django</h1>")


def greet(request: Any) -> Any:
    return HttpResponse(f"Hello, {request.GET['name']}!", content_type=TEXT)


def page(request: Any, title: str) -> Any:
    return HttpResponse(title, content_type=TEXT)


def form(request: Any) -> Any:
    return JsonResponse(request.POST.dict())


def echo(request: Any) -> Any:
    return JsonResponse({"received": json.loads(request.body)})


def cookies(request: Any) -> Any:
    if request.method != "POST":
        return JsonResponse(request.COOKIES)
    response = HttpResponse("set")
    response.set_cookie("theme", "dark", max_age=3600)
    response.set_cookie("session", "s3ss10n", httponly=True)
    return response


def old(request: Any) -> Any:
    return HttpResponseRedirect("/new", status=303 if request.method == "POST" else 302)


def new(request: Any) -> Any:
    return HttpResponse("here now", content_type=TEXT)


def upload(request: Any) -> Any:
    file = request.FILES["file"]
    return JsonResponse({"note": request.POST["note"], "filename": file.name, **content.digest(file.read)})


def raw(request: Any) -> Any:
    length = request.META.get("CONTENT_LENGTH")
    return JsonResponse({"length": None if length is None else int(length), **content.digest(request.read)})


def lines(request: Any, count: int) -> Any:
    return StreamingHttpResponse(content.lines(count), content_type=TEXT)


def download(request: Any) -> Any:
    return FileResponse(open(content.download(), "rb"), content_type="application/octet-stream")


def where(request: Any) -> Any:
    client = request.META["REMOTE_ADDR"]
    return JsonResponse({"url": request.build_absolute_uri("/new"), "scheme": request.scheme, "client": client})


def delete(request: Any, name: str) -> Any:
    return HttpResponse(status=204)


def boom(request: Any) -> Any:
    raise RuntimeError(content.SECRET)


def late(request: Any) -> Any:
    return StreamingHttpResponse(content.failing(), content_type=TEXT)


urlpatterns = [
    path("", index),
    path("greet", greet),
    path("pages/<str:title>", page),
    path("form", form),
    path("json", echo),
    path("cookies", cookies),
    path("old", old),
    path("new", new),
    path("upload", upload),
    path("raw", raw),
    path("lines/<int:count>", lines),
    path("download", download),
    path("where", where),
    path("things/<str:name>", delete),
    path("boom", boom),
    path("late", late),
]

app = get_wsgi_application()
