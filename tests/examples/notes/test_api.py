"""The notes as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.notes import create_app
from tests.clients import client
from tests.examples.notes.site import Visitor, titles
from tests.support import Command

New = Callable[[], Visitor]


@pytest.fixture
def somebody(member: New) -> Visitor:
    return member()


@pytest.fixture
def api(server: Command, somebody: Visitor) -> Iterator[httpx.Client]:
    """A program that holds a token of `somebody`."""
    with client(server.address) as http:
        http.headers["Authorization"] = f"Bearer {somebody.token()}"
        yield http


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an error (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["title"]
    return found


def test_note_is_created_read_changed_and_removed(api: httpx.Client, somebody: Visitor) -> None:
    created = api.post("/api/notes", json={"title": " Groceries ", "text": "milk\r\nbread"})
    assert created.status_code == 201
    note = created.json()
    assert (note["title"], note["text"], note["attachments"]) == ("Groceries", "milk\nbread", 0)
    assert created.headers["Location"] == note["url"]
    assert api.get(note["url"]).json() == note
    changed = api.patch(note["url"], json={"title": "Shopping"}).json()
    assert (changed["title"], changed["text"]) == ("Shopping", "milk\nbread")
    assert changed["changed"] >= note["changed"] == note["created"]
    assert titles(somebody.get("/notes")) == ["Shopping"]
    removed = api.delete(note["url"])
    assert (removed.status_code, removed.content) == (204, b"")
    problem(api.get(note["url"]), 404)


def test_list_has_pages_and_a_search(api: httpx.Client) -> None:
    assert api.get("/api/notes").json() == {"notes": [], "page": 1, "pages": 1, "total": 0}
    for number in range(14):
        api.post("/api/notes", json={"title": f"number {number}"})
    second = api.get("/api/notes?page=2").json()
    assert [note["title"] for note in second["notes"]] == ["number 1", "number 0"]
    assert (second["page"], second["pages"], second["total"]) == (2, 2, 14)
    assert [note["title"] for note in api.get("/api/notes?q=13").json()["notes"]] == ["number 13"]


def test_export_has_every_note_a_line(api: httpx.Client) -> None:
    made = [
        api.post("/api/notes", json={"title": f"Note {number}", "text": "x" * 1000}).json() for number in range(200)
    ]
    for _ in range(3):
        exported = api.get("/api/notes/export")
        assert exported.headers["Content-Type"] == "application/x-ndjson"
        assert [json.loads(line) for line in exported.text.splitlines()] == made


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer ☃"], ids=repr)
def test_request_without_a_token_is_refused(server: Command, authorization: str | None) -> None:
    with client(server.address) as http:
        fields = [] if authorization is None else [(b"Authorization", authorization.encode())]
        answer = http.get("/api/notes", headers=fields)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="notes"'


def test_login_of_a_browser_does_not_count(somebody: Visitor) -> None:
    problem(somebody.http.post("/api/notes", json={"title": "x"}), 401)
    problem(somebody.get("/api/notes"), 401)


def test_token_that_was_revoked_is_refused(api: httpx.Client, somebody: Visitor) -> None:
    assert api.get("/api/notes").status_code == 200
    page = somebody.get("/account").text
    (path,) = {part.partition('"')[0] for part in page.split('action="') if part.startswith("/account/tokens/")}
    assert somebody.post(path).status_code == 303
    problem(api.get("/api/notes"), 401)


def test_token_of_somebody_else_cannot_be_revoked(api: httpx.Client, somebody: Visitor, member: New) -> None:
    page = somebody.get("/account").text
    (path,) = {part.partition('"')[0] for part in page.split('action="') if part.startswith("/account/tokens/")}
    member().post(path)
    assert api.get("/api/notes").status_code == 200


def test_token_is_shown_once(somebody: Visitor) -> None:
    token = somebody.token()
    assert token not in somebody.get("/account").text


def test_notes_of_others_are_not_found(api: httpx.Client, member: New) -> None:
    path = f"/api{member().add_note('secret')}"
    for method in ("GET", "PATCH", "DELETE"):
        problem(api.request(method, path, json={"title": "stolen"} if method == "PATCH" else None), 404)
    assert api.get("/api/notes").json()["total"] == 0


@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ({}, {"title"}),
        ({"title": "  "}, {"title"}),
        ({"title": 1}, {"title"}),
        ({"title": None, "text": []}, {"title", "text"}),
        ({"title": "x" * 201, "text": "y" * 100_001}, {"title", "text"}),
        ({"title": "\ud800"}, {"title"}),
        ({"title": "a\x00b", "text": "\x1b"}, {"title", "text"}),
        ({"title": "x", "id": 7}, {"id"}),
    ],
    ids=range(8),
)
def test_note_that_cannot_stand_is_explained_by_field(
    api: httpx.Client, sent: dict[str, object], errors: set[str]
) -> None:
    # Not by httpx, which cannot send half a surrogate pair.
    answer = api.post("/api/notes", content=json.dumps(sent), headers={"Content-Type": "application/json"})
    assert set(problem(answer, 422)["errors"]) == errors
    assert api.get("/api/notes").json()["total"] == 0


def test_body_that_is_no_object_is_refused(api: httpx.Client) -> None:
    for body in ("[]", "1", "null", '"x"'):
        answer = api.post("/api/notes", content=body, headers={"Content-Type": "application/json"})
        problem(answer, 422)


@pytest.mark.parametrize(
    "body", ["", "{", "{'a': 1}", "[" * 100_000, '{"title": NaN}', b'{"title": "\xff"}'], ids=range(6)
)
def test_body_that_is_no_json_is_refused(api: httpx.Client, body: str | bytes) -> None:
    problem(api.post("/api/notes", content=body, headers={"Content-Type": "application/json"}), 400)


def test_body_of_another_type_is_refused(api: httpx.Client) -> None:
    problem(api.post("/api/notes", data={"title": "x"}), 415)
    problem(api.post("/api/notes", content=b"{}", headers={"Content-Type": "text/plain"}), 415)


def test_body_that_is_too_large_is_refused(api: httpx.Client) -> None:
    problem(api.post("/api/notes", json={"title": "x", "text": "y" * 2**20}), 413)


def test_missing_path_and_wrong_method_are_problems(api: httpx.Client) -> None:
    problem(api.get("/api/missing"), 404)
    problem(api.get("/api/notes/x"), 404)
    answer = api.put("/api/notes", json={})
    problem(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_failure_is_a_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Twice: the groups of the example belong to every application that is made of them.
    for directory in (tmp_path / "one", tmp_path / "two"):
        app = create_app(directory)
        app.state.database.close()
        del app.state.database
        answer = app.test_client(raise_errors=False).get("/api/notes", headers={"Authorization": "Bearer x"})
        assert answer.status == 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json() == {"type": "about:blank", "status": 500, "title": "Internal Server Error"}
    assert [record.name for record in caplog.records] == ["wsgi.application"] * 2
