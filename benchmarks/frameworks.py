"""Measures `wsgi.application` beside other frameworks, in one process and without a server.

    python -m benchmarks.frameworks [--rounds 15] [--calls 4000] [--frameworks wsgi,falcon] [--json FILE]

One request is: an environ built, the application called, its body joined, `close()` called. Every round runs every
framework once, so that whatever else the machine does hits all of them alike. Time is the thread's CPU time.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PATHS = {"hello": "/", "JSON": "/json", "int parameter": "/users/42"}
EXPECTED = {"hello": b"Hello, world!", "JSON": {"message": "Hello, world!"}, "int parameter": b"42"}

# What a server gives for a browser's request.
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_LANGUAGE": "en-US,en;q=0.5",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_COOKIE": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "HTTP_UPGRADE_INSECURE_REQUESTS": "1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def wsgi() -> WSGIApp:
    from wsgi.application import JSONResponse, PlainTextResponse, Request, WSGIApplication

    app = WSGIApplication()

    @app.route("/")
    def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(body="Hello, world!")

    @app.route("/json")
    def message(request: Request) -> JSONResponse:
        return JSONResponse(body={"message": "Hello, world!"})

    @app.route("/users/<int:user>")
    def user(request: Request, user: int) -> PlainTextResponse:
        return PlainTextResponse(body=str(user))

    return app


def falcon() -> WSGIApp:
    import falcon

    class Hello:
        def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
            response.content_type = falcon.MEDIA_TEXT
            response.text = "Hello, world!"

    class Message:
        def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
            response.media = {"message": "Hello, world!"}

    class User:
        def on_get(self, request: falcon.Request, response: falcon.Response, user: int) -> None:
            response.content_type = falcon.MEDIA_TEXT
            response.text = str(user)

    app = falcon.App()
    app.add_route("/", Hello())
    app.add_route("/json", Message())
    app.add_route("/users/{user:int}", User())
    return app


def bottle() -> WSGIApp:
    import bottle  # type: ignore[import-untyped]

    app = bottle.Bottle()

    @app.route("/")  # type: ignore[untyped-decorator]
    def hello() -> str:
        bottle.response.content_type = "text/plain; charset=utf-8"
        return "Hello, world!"

    @app.route("/json")  # type: ignore[untyped-decorator]
    def message() -> dict[str, str]:
        return {"message": "Hello, world!"}

    @app.route("/users/<user:int>")  # type: ignore[untyped-decorator]
    def user(user: int) -> str:
        bottle.response.content_type = "text/plain; charset=utf-8"
        return str(user)

    return app  # type: ignore[no-any-return]


def flask() -> WSGIApp:
    import flask

    app = flask.Flask(__name__)

    @app.route("/")
    def hello() -> flask.Response:
        return flask.Response("Hello, world!", mimetype="text/plain")

    @app.route("/json")
    def message() -> flask.Response:
        return flask.jsonify(message="Hello, world!")

    @app.route("/users/<int:user>")
    def user(user: int) -> flask.Response:
        return flask.Response(str(user), mimetype="text/plain")

    return app.wsgi_app


FRAMEWORKS: dict[str, Callable[[], WSGIApp]] = {"wsgi": wsgi, "falcon": falcon, "bottle": bottle, "flask": flask}


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
    if status != "200 OK":
        raise SystemExit(f"benchmarks: a framework answered {status}")


def request(app: WSGIApp, path: str, errors: io.StringIO) -> bytes:
    environ = ENVIRON.copy()
    environ["PATH_INFO"] = path
    environ["wsgi.input"] = io.BytesIO()
    environ["wsgi.errors"] = errors
    content = app(environ, start_response)
    body = b"".join(content)
    close = getattr(content, "close", None)
    if close is not None:
        close()
    return body


def check(name: str, app: WSGIApp) -> None:
    for kind, path in PATHS.items():
        body = request(app, path, io.StringIO())
        if (json.loads(body) if kind == "JSON" else body) != EXPECTED[kind]:
            raise SystemExit(f"benchmarks: {name} answered {kind} with {body!r:.100}")


def sample(app: WSGIApp, path: str, calls: int) -> float:
    """Microseconds for each call."""
    errors = io.StringIO()
    gc.collect()
    begun = time.thread_time_ns()
    for _ in range(calls):
        request(app, path, errors)
    return (time.thread_time_ns() - begun) / calls / 1000


def table(times: dict[str, dict[str, list[float]]]) -> str:
    """Medians, and how they compare with the first framework's: the median of the ratios of each round."""
    first = next(iter(times.values()))
    lines = ["| CPU µs per request (ratio) | " + " | ".join(PATHS) + " |", "|---" * (len(PATHS) + 1) + "|"]
    for name, kinds in times.items():
        cells = []
        for kind, samples in kinds.items():
            ratio = statistics.median(sample / other for sample, other in zip(samples, first[kind], strict=True))
            cells.append(f"{statistics.median(samples):.2f} ({ratio:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="how often each framework is measured (default 15)")
    parser.add_argument("--calls", type=int, default=4000, help="requests a measurement (default 4000)")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="which, with commas between")
    parser.add_argument("--json", type=Path, help="a file for all measurements")
    options = parser.parse_args(arguments)
    names = options.frameworks.split(",")
    if unknown := [name for name in names if name not in FRAMEWORKS]:
        parser.error(f"unknown framework {unknown[0]!r}; there are {', '.join(FRAMEWORKS)}")
    if options.rounds < 1 or options.calls < 1:
        parser.error("--rounds and --calls must be at least 1")
    apps = {name: FRAMEWORKS[name]() for name in names}
    for name, app in apps.items():
        check(name, app)
    times: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in PATHS} for name in names}
    for _ in range(options.rounds):
        for kind, path in PATHS.items():
            for name, app in apps.items():
                times[name][kind].append(sample(app, path, options.calls))
    print(table(times))
    if options.json:
        options.json.write_text(json.dumps(times, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
