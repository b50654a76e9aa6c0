"""The requests of `content` answered by Flask."""

from __future__ import annotations

from typing import Any

import flask
from flask import Flask, Response, redirect, request, send_file, url_for

from tests.frameworks.apps import content

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "<h1>Hello from Flask</h1>"


@app.get("/greet")
def greet() -> Response:
    return Response(f"Hello, {request.args['name']}!", mimetype="text/plain")


@app.get("/pages/<title>")
def page(title: str) -> Response:
    return Response(title, mimetype="text/plain")


@app.post("/form")
def form() -> dict[str, str]:
    return request.form.to_dict()


@app.post("/json")
def echo() -> dict[str, Any]:
    return {"received": request.get_json()}


@app.get("/cookies")
def cookies() -> dict[str, str]:
    return request.cookies.to_dict()


@app.post("/cookies")
def set_cookies() -> Response:
    response = Response("set")
    response.set_cookie("theme", "dark", max_age=3600)
    response.set_cookie("session", "s3ss10n", httponly=True)
    return response


@app.get("/old")
def old() -> Any:
    return redirect(url_for("new"), 302)


@app.post("/old")
def post_old() -> Any:
    return redirect(url_for("new"), 303)


@app.get("/new")
def new() -> str:
    return "here now"


@app.post("/upload")
def upload() -> dict[str, object]:
    file = request.files["file"]
    return {"note": request.form["note"], "filename": file.filename, **content.digest(file.stream.read)}


@app.route("/raw", methods=["PUT", "POST"])
def raw() -> dict[str, object]:
    return {"length": request.content_length, **content.digest(request.stream.read)}


@app.get("/lines/<int:count>")
def lines(count: int) -> Response:
    return Response(content.lines(count), mimetype="text/plain")


@app.get("/download")
def download() -> Response:
    return send_file(content.download(), mimetype="application/octet-stream")


@app.get("/where")
def where() -> dict[str, Any]:
    return {"url": url_for("new", _external=True), "scheme": request.scheme, "client": request.remote_addr}


@app.delete("/things/<name>")
def delete(name: str) -> tuple[str, int]:
    return "", 204


@app.get("/boom")
def boom() -> str:
    raise RuntimeError(content.SECRET)


@app.get("/late")
def late() -> Response:
    return flask.Response(content.failing(), mimetype="text/plain")
