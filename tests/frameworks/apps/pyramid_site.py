"""The requests of `content` answered by Pyramid."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.httpexceptions import HTTPFound, HTTPSeeOther  # type: ignore[import-untyped]
from pyramid.response import FileResponse, Response  # type: ignore[import-untyped]

from tests.frameworks.apps import content


def index(request: Any) -> Any:
    return Response("<h1>Hello from Pyramid</h1>")


def greet(request: Any) -> Any:
    return Response(f"Hello, {request.GET['name']}!", content_type="text/plain")


def page(request: Any) -> Any:
    return Response(request.matchdict["title"], content_type="text/plain")


def form(request: Any) -> Any:
    return dict(request.POST)


def echo(request: Any) -> Any:
    return {"received": request.json_body}


def cookies(request: Any) -> Any:
    return dict(request.cookies)


def set_cookies(request: Any) -> Any:
    response = Response("set")
    response.set_cookie("theme", "dark", max_age=3600)
    response.set_cookie("session", "s3ss10n", httponly=True)
    return response


def old(request: Any) -> Any:
    return HTTPFound("/new")


def post_old(request: Any) -> Any:
    return HTTPSeeOther("/new")


def new(request: Any) -> Any:
    return Response("here now", content_type="text/plain")


def upload(request: Any) -> Any:
    file = request.POST["file"]
    return {"note": request.POST["note"], "filename": file.filename, **content.digest(file.file.read)}


def raw(request: Any) -> Any:
    return {"length": request.content_length, **content.digest(request.body_file.read)}


def lines(request: Any) -> Any:
    return Response(app_iter=content.lines(int(request.matchdict["count"])), content_type="text/plain")


def download(request: Any) -> Any:
    return FileResponse(content.download(), request, content_type="application/octet-stream")


def where(request: Any) -> Any:
    return {"url": request.route_url("/new"), "scheme": request.scheme, "client": request.client_addr}


def delete(request: Any) -> Any:
    return Response(status=204)


def boom(request: Any) -> Any:
    raise RuntimeError(content.SECRET)


def late(request: Any) -> Any:
    return Response(app_iter=content.failing(), content_type="text/plain")


VIEWS: tuple[tuple[Any, str, Any], ...] = (
    ("GET", "/", index),
    ("GET", "/greet", greet),
    ("GET", "/pages/{title}", page),
    ("POST", "/form", form),
    ("POST", "/json", echo),
    ("GET", "/cookies", cookies),
    ("POST", "/cookies", set_cookies),
    ("GET", "/old", old),
    ("POST", "/old", post_old),
    ("GET", "/new", new),
    ("POST", "/upload", upload),
    (("PUT", "POST"), "/raw", raw),
    ("GET", "/lines/{count}", lines),
    ("GET", "/download", download),
    ("GET", "/where", where),
    ("DELETE", "/things/{name}", delete),
    ("GET", "/boom", boom),
    ("GET", "/late", late),
)


def make() -> Any:
    with Configurator() as config:
        # Two views may share a route, but the route is made once.
        for path in dict.fromkeys(path for _, path, _ in VIEWS):
            config.add_route(path, path)
        for method, path, view in VIEWS:
            config.add_view(view, route_name=path, request_method=method, renderer="json")
        return config.make_wsgi_app()


app = make()
