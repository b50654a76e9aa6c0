"""The requests of `content` answered by Bottle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from bottle import Bottle, HTTPResponse, redirect, request, response, static_file  # type: ignore[import-untyped]

from tests.frameworks.apps import content

app = Bottle()


def index() -> str:
    return "<h1>Hello from Bottle</h1>"


def greet() -> str:
    response.content_type = "text/plain; charset=utf-8"
    return f"Hello, {request.query.getunicode('name')}!"


def page(title: str) -> str:
    response.content_type = "text/plain; charset=utf-8"
    return title


def form() -> dict[str, str]:
    return dict(request.forms.decode())


def echo() -> dict[str, Any]:
    return {"received": request.json}


def cookies() -> dict[str, str]:
    return dict(request.cookies)


def set_cookies() -> str:
    response.set_cookie("theme", "dark", max_age=3600)
    response.set_cookie("session", "s3ss10n", httponly=True)
    return "set"


def old() -> None:
    redirect("/new", 302)


def post_old() -> None:
    redirect("/new", 303)


def new() -> str:
    return "here now"


def upload() -> dict[str, object]:
    file = request.files["file"]
    return {
        "note": request.forms.getunicode("note"),
        "filename": file.raw_filename,
        **content.digest(file.file.read),
    }


def raw() -> dict[str, object]:
    return {"length": request.content_length, **content.digest(request.body.read)}


def lines(count: int) -> Iterator[bytes]:
    response.content_type = "text/plain"
    return content.lines(count)


def download() -> Any:
    folder, name = os.path.split(content.download())
    return static_file(name, root=folder, mimetype="application/octet-stream")


def where() -> dict[str, str]:
    return {"url": urljoin(request.url, "/new"), "scheme": request.urlparts.scheme, "client": request.remote_addr}


def delete(name: str) -> Any:
    return HTTPResponse(status=204)


def boom() -> str:
    raise RuntimeError(content.SECRET)


def late() -> Iterator[bytes]:
    response.content_type = "text/plain"
    return content.failing()


for method, path, view in (
    ("GET", "/", index),
    ("GET", "/greet", greet),
    ("GET", "/pages/<title>", page),
    ("POST", "/form", form),
    ("POST", "/json", echo),
    ("GET", "/cookies", cookies),
    ("POST", "/cookies", set_cookies),
    ("GET", "/old", old),
    ("POST", "/old", post_old),
    ("GET", "/new", new),
    ("POST", "/upload", upload),
    ("PUT", "/raw", raw),
    ("POST", "/raw", raw),
    ("GET", "/lines/<count:int>", lines),
    ("GET", "/download", download),
    ("GET", "/where", where),
    ("DELETE", "/things/<name>", delete),
    ("GET", "/boom", boom),
    ("GET", "/late", late),
):
    app.route(path, method, view)
