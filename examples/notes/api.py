"""The notes as JSON, for programs with a token: `Authorization: Bearer TOKEN`. Errors are those of RFC 9457.

No cookie counts here, so there is nothing that another site could make a browser do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsgi.application import (
    Group,
    HandlerResult,
    HTTPError,
    InternalServerError,
    NotFound,
    Request,
    Response,
    StreamingResponse,
    Unauthorized,
    UnprocessableContent,
    problem_response,
)
from wsgi.application.response import encode_json

from . import validation
from .database import Note, User
from .members import database
from .pages import page_number

api = Group("/api")


@api.middleware
def token_holders_only(request: Request, call_next: Callable[[Request], Response]) -> HandlerResult:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    user = database(request).user_of_key("token", token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise Unauthorized("The request needs the token of an account.", challenge='Bearer realm="notes"')
    request.state.holder = user
    response = call_next(request)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@api.get("/notes", name="api_notes")
def list_notes(request: Request) -> HandlerResult:
    found = database(request).notes(_holder(request), request.query.get("q", ""), page_number(request))
    notes = [_shown(request, note) for note in found.notes]
    return {"notes": notes, "page": found.number, "pages": found.pages, "total": found.total}


@api.get("/notes/export")
def export_notes(request: Request) -> HandlerResult:
    # Read while they are sent: the connection is released after the response, not when this function returns.
    notes = request.enter_context(database(request).every_note(_holder(request)))
    lines = (encode_json(_shown(request, note)) + b"\n" for note in notes)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@api.post("/notes")
def add_note(request: Request) -> HandlerResult:
    title, text = _sent_note(request, {"title": "", "text": ""})
    note = _own_note(request, database(request).add_note(_holder(request), title, text))
    return _shown(request, note), 201, {"Location": request.url_for("api_note", note_id=note.id)}


@api.get("/notes/<int:note_id>", name="api_note")
def show_note(request: Request, note_id: int) -> HandlerResult:
    return _shown(request, _own_note(request, note_id))


@api.patch("/notes/<int:note_id>")
def change_note(request: Request, note_id: int) -> HandlerResult:
    note = _own_note(request, note_id)
    title, text = _sent_note(request, {"title": note.title, "text": note.text})
    database(request).change_note(_holder(request), note.id, title, text)
    return _shown(request, _own_note(request, note_id))


@api.delete("/notes/<int:note_id>")
def remove_note(request: Request, note_id: int) -> HandlerResult:
    database(request).remove_note(_holder(request), _own_note(request, note_id).id)
    return Response(status=204)


@api.error_handler(HTTPError)
def show_problem(request: Request, error: HTTPError) -> HandlerResult:
    return problem_response(error)


@api.error_handler(500)
def show_failure(request: Request, error: Exception) -> HandlerResult:
    return problem_response(InternalServerError())


def _holder(request: Request) -> User:
    user: User = request.state.holder
    return user


def _own_note(request: Request, note_id: int) -> Note:
    note = database(request).note(_holder(request), note_id)
    if note is None:
        raise NotFound("You have no such note.")
    return note


def _shown(request: Request, note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "url": request.url_for("api_note", note_id=note.id),
        "title": note.title,
        "text": note.text,
        "created": note.created,
        "changed": note.changed,
        "attachments": note.attachments,
    }


def _sent_note(request: Request, before: dict[str, str]) -> tuple[str, str]:
    """Returns title and text of the body; missing members keep their value.

    Raises:
        UnprocessableContent: with a member `errors` that has a message for each field.
    """
    sent = request.json()
    if not isinstance(sent, dict):
        raise UnprocessableContent("The body must be an object.")
    errors = {name: "There is no such member to set." for name in sent if name not in before}
    errors |= {name: "This must be a string." for name in before if not isinstance(sent.get(name, ""), str)}
    if not errors:
        values = before | sent
        title, text = validation.clean_line(values["title"]), validation.clean_text(values["text"])
        errors = validation.note_problems(title, text)
        if not errors:
            return title, text
    raise UnprocessableContent("The note cannot be stored so.", errors=errors)
