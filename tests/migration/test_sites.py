"""The configuration files of docs/migration.md, of a Django site and of a FastAPI site, as they stand."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.test_processes import wait_until
from tests.support import Command, RawClient, Response
from wsgi.settings import OPTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")

# Settings of the files, and their options, which may not exist here yet: then they are warnings.
LATER = {"max_requests": "max_requests", "max_requests_jitter": "max_requests_jitter", "proc_name": "process_name"}
MISSING = {name for name, option in LATER.items() if option not in OPTIONS}

SETTINGS = """
SECRET_KEY = "for the test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
"""

URLS = """
import os
from django.http import JsonResponse
from django.urls import path

def index(request):
    return JsonResponse({"pid": os.getpid(), "scheme": request.scheme, "client": request.META["REMOTE_ADDR"]})

urlpatterns = [path("", index)]
"""

# The settings' module is named by raw_env only.
WSGI = """
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""

PROMETHEUS = """
from pathlib import Path
def mark_process_dead(pid):
    with (Path(__file__).parent / "dead").open("a") as file:
        print(pid, file=file)
"""

MAIN = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request

@asynccontextmanager
async def lifespan(app):
    app.state.began = os.getpid()
    yield

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def index(request: Request):
    return {"pid": os.getpid(), "began": app.state.began, "scheme": request.url.scheme, "client": request.client.host}
"""


def configuration(heading: str) -> str:
    """The configuration file below a heading of the page."""
    found = re.search(r"```python\n# gunicorn.conf.py\n(.*?)```", PAGE.partition(f"### {heading}\n")[2], re.DOTALL)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def served(folder: Path, *arguments: str, **env: str) -> Iterator[Command]:
    given = {name for name in MISSING if f"\n{name} = " in (folder / "gunicorn.conf.py").read_text()}
    unknown = ["--config-unknown", "warn"] if given else []
    start = ["-c", "gunicorn.conf.py", *unknown, "--port", "0", *arguments]
    with Command(*start, cwd=folder, env={"WEB_CONCURRENCY": "2", **env}) as command:
        yield command
        command.stop()
    warned = re.findall(r" WARNING gunicorn\.conf\.py: (\w+):", "\n".join(command.stderr.seen))
    assert set(warned) == given


def get(command: Command) -> Response:
    with RawClient(command.address) as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        )
        return client.receive()


@pytest.fixture
def django(tmp_path: Path) -> Path:
    pytest.importorskip("django", reason="Django is not installed")
    folder = tmp_path / "django"
    (folder / "mysite").mkdir(parents=True)
    (folder / "elsewhere" / "prometheus_client").mkdir(parents=True)
    for name, text in (("__init__", ""), ("settings", SETTINGS), ("urls", URLS), ("wsgi", WSGI)):
        (folder / "mysite" / f"{name}.py").write_text(text)
    (folder / "elsewhere" / "prometheus_client" / "__init__.py").write_text("")
    (folder / "elsewhere" / "prometheus_client" / "multiprocess.py").write_text(PROMETHEUS)
    (folder / "gunicorn.conf.py").write_text(configuration("A Django site"))
    return folder


def test_configuration_of_a_django_site_serves_it_unchanged(django: Path) -> None:
    elsewhere = django / "elsewhere"
    with served(django, PYTHONPATH=str(elsewhere)) as command:
        response = get(command)
        found = json.loads(response.body)
        assert (response.status, found["scheme"], found["client"]) == (200, "https", "192.0.2.1")
        command.stderr.wait_for("Server is ready")
        command.stdout.wait_for("192.0.2.1 - - [")
        workers = {found["pid"]}
        command.stop()
        spawned = {int(pid) for line in command.stderr.seen for pid in re.findall(r"spawned \(pid: (\d+)\)", line)}
    assert workers <= spawned
    assert len(spawned) == 2
    assert {int(line) for line in (elsewhere / "prometheus_client" / "dead").read_text().split()} == spawned


def test_configuration_of_a_django_site_reloads_it(django: Path) -> None:
    elsewhere = django / "elsewhere"
    dead = elsewhere / "prometheus_client" / "dead"
    with served(django, PYTHONPATH=str(elsewhere)) as command:
        assert "scheme" in json.loads(get(command).body)
        (django / "mysite" / "urls.py").write_text(URLS.replace('"scheme"', '"way"'))
        command.process.send_signal(signal.SIGHUP)
        wait_until(lambda: dead.exists() and len(dead.read_text().split()) == 2)
        assert "way" in json.loads(get(command).body)


def test_configuration_of_a_fastapi_site_serves_it_unchanged(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    folder = tmp_path / "fastapi"
    folder.mkdir()
    (folder / "main.py").write_text(MAIN)
    (folder / "gunicorn.conf.py").write_text(configuration("A FastAPI site"))
    with served(folder, "main:app") as command:
        found = json.loads(get(command).body)
        assert (found["scheme"], found["client"]) == ("https", "192.0.2.1")
        assert found["pid"] == found["began"] != os.getpid()
        assert json.loads(command.stdout.wait_for("workers")) == {"workers": 2, "bind": "127.0.0.1:8000"}
        command.stop()
        assert any("timeout is not used: for workers other than sync" in line for line in command.stderr.seen)
