"""The notes as a program sees them: a server of its own, and visitors without a browser."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.clients import client
from tests.support import Command

ROOT = Path(__file__).parents[3]

PASSWORD = "correct horse battery"

_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


def start(data: Path, app: str = "examples.notes:create_app()", **variables: str) -> Command:
    """The example's server, with its things in `data`."""
    return Command(app, cwd=ROOT, env={"NOTES_DATA": str(data), **variables})


class Visitor:
    """Somebody with a cookie jar, who sends forms as a browser would."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = client(address)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def csrf_token(self, path: str = "/login") -> str:
        """The token in a form of that page."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None, f"no form on {path}"
        return html.unescape(found[1])

    def post(self, path: str, fields: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        """Sends a form with the session's token."""
        return self.http.post(path, data={"csrf_token": self.csrf_token(), **(fields or {})}, **options)

    def register(self, name: str, password: str = PASSWORD) -> Visitor:
        answer = self.post("/register", {"name": name, "password": password, "repeated": password})
        assert answer.status_code == 303, answer.text
        return self

    def log_in(self, name: str, password: str = PASSWORD, target: str = "") -> httpx.Response:
        return self.post("/login", {"name": name, "password": password, "next": target})

    def add_note(self, title: str, text: str = "") -> str:
        """Writes a note and gives its path."""
        answer = self.post("/notes/new", {"title": title, "text": text})
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def attach(self, note: str, filename: str, content: bytes) -> httpx.Response:
        return self.post(f"{note}/attachments", files={"file": (filename, content, "text/html")})

    def links(self, path: str, pattern: str) -> list[str]:
        """The addresses on a page that have this form."""
        return re.findall(rf'href="({pattern})"', self.get(path).text)

    def token(self) -> str:
        """A new token for the API."""
        found = re.search(r'<code id="token">([^<]+)</code>', self.post("/account/tokens", {"label": "test"}).text)
        assert found is not None
        return found[1]


def shown(answer: httpx.Response) -> str:
    """The text of a page, without its tags and with single spaces."""
    body = re.sub(r"(?s)<head>.*?</head>|<[^>]*>", " ", answer.text)
    return " ".join(html.unescape(body).split())


def titles(answer: httpx.Response) -> list[str]:
    """The titles of the notes in a list."""
    return [html.unescape(title) for title in re.findall(r'<h2><a href="[^"]*">(.*?)</a></h2>', answer.text)]
