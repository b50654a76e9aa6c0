"""The application as a whole: how it is imported, run, and called from many threads."""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import io
import json
import logging
import pkgutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import wsgi.application
from tests import clients
from tests.application.switchboard import direct
from tests.support import PATIENCE, Command, RawClient, environment
from wsgi.application import Forbidden, PlainTextResponse, Request, Response, WSGIApplication
from wsgi.application.middleware import SessionMiddleware

PACKAGE = Path(wsgi.application.__file__).parent
THREADS = 16

app = WSGIApplication()


@app.middleware
def stamped(request: Request, call_next: Callable[[Request], Response]) -> Response:
    request.state.stamp = request.headers.get("X-Stamp", "")
    response = call_next(request)
    response.headers["X-Stamp"] = request.state.stamp
    return response


@app.post("/echo/<int:number>/<path:rest>")
def echo(request: Request, number: int, rest: str) -> dict[str, Any]:
    return {
        "number": number,
        "rest": rest,
        "query": request.query.get("q"),
        "cookie": request.cookies.get("c"),
        "stamp": request.state.stamp,
        "json": request.json(),
        "url": request.url_for("echo", number=number, rest=rest),
    }


# Importing.


def modules() -> list[str]:
    return ["wsgi.application", *(found.name for found in pkgutil.walk_packages([str(PACKAGE)], "wsgi.application."))]


def loaded_by(statement: str) -> set[str]:
    """The names of all modules that a new interpreter holds after a statement."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_loads_nothing_of_the_server() -> None:
    loaded = loaded_by("import wsgi.application")
    ours = {name for name in loaded if name == "wsgi" or name.startswith("wsgi.")}
    assert {name for name in ours if name != "wsgi" and not name.startswith("wsgi.application")} == set()
    assert not loaded & {"wsgi._core", "wsgi.server", "jinja2", "itsdangerous", "asyncio", "ssl"}
    assert "wsgi.application.debug" not in loaded
    assert "wsgi.application.testing" not in loaded


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_nothing_of_the_server(path: Path) -> None:
    imported = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: a relative import"
            imported.append(node.module or "")
    ours = [name for name in imported if name.partition(".")[0] in ("wsgi", "wsgi_server")]
    assert [name for name in ours if not name.startswith("wsgi.application")] == []


@pytest.mark.parametrize("name", modules())
def test_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    offered = module.__all__
    assert len(set(offered)) == len(offered)
    assert [missing for missing in offered if not hasattr(module, missing)] == []


def test_public_names_are_those_of_all() -> None:
    names = {
        name
        for name, value in vars(wsgi.application).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert names == set(wsgi.application.__all__)


@pytest.mark.parametrize(
    "name",
    [
        *("WSGIApplication", "Group", "Request", "Response", "PlainTextResponse", "HTMLResponse", "JSONResponse"),
        *("RedirectResponse", "StreamingResponse", "FileResponse", "EventStreamResponse", "ServerSentEvent"),
        *("HTTPError", "abort", "redirect", "Headers", "MultiDict", "UploadedFile", "Limits", "Converter"),
    ],
)
def test_name_of_the_contract_is_offered(name: str) -> None:
    assert name in wsgi.application.__all__
    assert getattr(wsgi.application, name).__module__.startswith("wsgi.application.")


def test_smallest_program_answers() -> None:
    own = WSGIApplication()

    @own.route("/")
    def index(request: Request) -> Response:
        return PlainTextResponse(body="Hello, world!")

    with direct(own) as client:
        assert client.get("/").text == "Hello, world!"


# Running.

PROGRAM = """
from wsgi.application import WSGIApplication

app = WSGIApplication()

@app.get("/")
def index(request):
    return "served by " + request.environ["SERVER_SOFTWARE"].partition("/")[0]

if __name__ == "__main__":
    app.run(port=0, threads=2)
"""


def test_run_serves_with_our_server_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with Command(cwd=tmp_path, start=(sys.executable, "-W", "error", "program.py")) as command:
        assert "up to 2 threads" in command.banner
        with clients.client(command.address) as client:
            assert client.get("/").text == "served by wsgi-server"
        assert command.stop() == 0


def test_command_serves_an_application(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with Command("program:app", cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            (response,) = client.responses("GET")
        assert response.body == b"served by wsgi-server"


def test_run_without_a_server_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wsgi.server", None)
    with pytest.raises(RuntimeError, match="wsgi-server"):
        WSGIApplication().run(port=0)


def test_test_client_calls_the_application() -> None:
    own = WSGIApplication()
    own.get("/")(lambda request: "called")
    assert own.test_client().get("/").text == "called"


def test_static_files_have_urls_and_are_served(tmp_path: Path) -> None:
    (tmp_path / "css").mkdir()
    (tmp_path / "css" / "site.css").write_text("body {}")
    own = WSGIApplication()
    own.static("/static", tmp_path)
    own.static("/other", tmp_path, name="second")
    assert own.url_for("static", path="css/site.css") == "/static/css/site.css"
    assert own.url_for("second", path="css/site.css") == "/other/css/site.css"
    with direct(own) as client:
        assert client.get("/static/css/site.css").text == "body {}"
        assert client.get("/static/none").status_code == 404


# Threads.


def test_many_threads_do_not_meet_in_one_application(client: httpx.Client) -> None:
    def ask(number: int) -> None:
        for turn in range(10):
            word = f"{number}-{turn}"
            response = client.post(
                f"/echo/{number}/a/{word}",
                params={"q": word},
                json={"word": word},
                headers={"X-Stamp": word, "Cookie": f"c={word}"},
            )
            assert response.headers["X-Stamp"] == word
            assert response.json() == {
                "number": number,
                "rest": f"a/{word}",
                "query": word,
                "cookie": word,
                "stamp": word,
                "json": {"word": word},
                "url": f"/echo/{number}/a/{word}",
            }

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))


def test_first_requests_at_the_same_moment_find_one_application() -> None:
    for _ in range(20):
        own = WSGIApplication()
        barrier = threading.Barrier(THREADS)

        @own.middleware
        def once(request: Request, call_next: Callable[[Request], Response]) -> Response:
            response = call_next(request)
            response.headers.add("X-Once", "1")
            return response

        @own.get("/<name>")
        def handler(request: Request, name: str) -> str:
            return name

        def ask(number: int, own: WSGIApplication = own, barrier: threading.Barrier = barrier) -> None:
            with direct(own) as client:
                barrier.wait(PATIENCE)
                response = client.get(f"/{number}")
            assert response.text == str(number)
            assert response.headers.get_list("X-Once") == ["1"]

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, range(THREADS)))


def test_applications_do_not_share_anything() -> None:
    one, two = WSGIApplication(), WSGIApplication()
    one.get("/")(lambda request: "one")
    one.state.thing = 1
    one.error_handler(404)(lambda request, error: ("one", 404))
    assert not hasattr(two.state, "thing")
    with direct(two) as client:
        assert client.get("/").status_code == 404
        assert client.get("/").text != "one"


# Memory.

KEY = "a key for the tests, of 32 bytes"


@pytest.mark.parametrize(
    ("path", "cookie"),
    [
        ("/text", ""),
        ("/stream", ""),
        ("/form", ""),
        ("/nowhere", ""),
        ("/forbidden", ""),
        ("/fails", ""),
        ("/handled", ""),
        ("/stream-fails", ""),
        ("/mounted", ""),
        ("/read", ""),
        ("/read", "session=forged.and.wrong"),
        ("/read", "session="),
        ("/write", ""),
        ("/write", "session=forged.and.wrong"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_request_is_gone_when_its_response_is_closed(
    method: str, path: str, cookie: str, caplog: pytest.LogCaptureFixture
) -> None:
    # What only the cyclic collector finds lives until it comes, and with each request its body.
    caplog.set_level(logging.CRITICAL, "wsgi.application")
    own = WSGIApplication(middleware=[SessionMiddleware(KEY)])
    seen: list[weakref.ref[Request]] = []

    @own.middleware
    def sees(request: Request, call_next: Callable[[Request], Response]) -> Response:
        seen.append(weakref.ref(request))
        assert request.body == b"a=1"
        return call_next(request)

    def handled(request: Request) -> str:
        raise LookupError

    def forbidden(request: Request) -> str:
        raise Forbidden

    def fails(request: Request) -> str:
        raise ValueError

    def stream(request: Request) -> Iterator[str]:
        yield request.path
        yield request.method

    def stream_fails(request: Request) -> Iterator[str]:
        yield request.path
        raise ValueError

    def read(request: Request) -> str:
        return str(request.session.get("a"))

    def write(request: Request) -> str:
        request.session["a"] = "b"
        return "written"

    for handler in (handled, forbidden, fails, stream, stream_fails, read, write):
        own.add_route(f"/{handler.__name__.replace('_', '-')}", handler, methods=["POST"])
    own.add_route("/text", lambda request: request.text, methods=["POST"])
    own.add_route("/form", lambda request: request.form["a"], methods=["POST"])
    own.mount("/mounted", WSGIApplication())
    own.error_handler(LookupError)(lambda request, error: ("handled", 400))

    def ask() -> None:
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": "3",
            "HTTP_COOKIE": cookie,
            "wsgi.input": io.BytesIO(b"a=1"),
            "wsgi.url_scheme": "http",
        }
        content: Any = own(environ, lambda status, headers, exc_info=None: None)
        with contextlib.suppress(ValueError):
            list(content)
        if hasattr(content, "close"):
            content.close()

    gc.disable()
    try:
        ask()
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()
