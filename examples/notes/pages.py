"""The notes as pages: list, search, read, write, delete; upload and download of attachments."""

from __future__ import annotations

from wsgi.application import FileResponse, Group, HandlerResult, NotFound, Request, redirect

from . import validation
from .database import Attachment, Note
from .members import database, member, members_only
from .rendering import tell, templates

pages = Group("/notes", middleware=[members_only])


@pages.get("", name="notes")
def list_notes(request: Request) -> HandlerResult:
    search = request.query.get("q", "").strip()
    found = database(request).notes(member(request), search, page_number(request))
    return templates.response(request, "notes.html", found=found, search=search)


@pages.get("/new")
def new_note(request: Request) -> HandlerResult:
    return templates.response(request, "edit.html", note=None, typed={}, problems={})


@pages.post("/new")
def add_note(request: Request) -> HandlerResult:
    typed, problems = _typed_note(request)
    if problems:
        return templates.response(request, "edit.html", note=None, typed=typed, problems=problems, status=422)
    note_id = database(request).add_note(member(request), typed["title"], typed["text"])
    tell(request, "The note is saved.")
    return redirect(request.url_for("note", note_id=note_id))


@pages.get("/<int:note_id>", name="note")
def show_note(request: Request, note_id: int) -> HandlerResult:
    return _note_page(request, _own_note(request, note_id))


@pages.get("/<int:note_id>/edit")
def edit_note(request: Request, note_id: int) -> HandlerResult:
    note = _own_note(request, note_id)
    typed = {"title": note.title, "text": note.text}
    return templates.response(request, "edit.html", note=note, typed=typed, problems={})


@pages.post("/<int:note_id>/edit")
def change_note(request: Request, note_id: int) -> HandlerResult:
    note = _own_note(request, note_id)
    typed, problems = _typed_note(request)
    if problems:
        return templates.response(request, "edit.html", note=note, typed=typed, problems=problems, status=422)
    database(request).change_note(member(request), note.id, typed["title"], typed["text"])
    tell(request, "The note is saved.")
    return redirect(request.url_for("note", note_id=note.id))


@pages.get("/<int:note_id>/remove")
def ask_to_remove_note(request: Request, note_id: int) -> HandlerResult:
    return templates.response(request, "remove.html", note=_own_note(request, note_id), attachment=None)


@pages.post("/<int:note_id>/remove")
def remove_note(request: Request, note_id: int) -> HandlerResult:
    note = _own_note(request, note_id)
    database(request).remove_note(member(request), note.id)
    tell(request, "The note is deleted.")
    return redirect(request.url_for("notes"))


@pages.post("/<int:note_id>/attachments")
def add_attachment(request: Request, note_id: int) -> HandlerResult:
    note = _own_note(request, note_id)
    file = request.files.get("file")
    if not file:
        problem = "Choose a file first."
    elif file.size > validation.FILE_SIZE:
        problem = f"A file has at most {validation.FILE_SIZE // 2**20} MiB."
    elif note.attachments >= validation.FILES_OF_NOTE:
        problem = f"A note has at most {validation.FILES_OF_NOTE} files."
    else:
        database(request).add_attachment(note, file.safe_filename, file.size, file.save)
        tell(request, "The file is attached.")
        return redirect(request.url_for("note", note_id=note.id))
    return _note_page(request, note, problems={"file": problem}, status=422)


@pages.get("/<int:note_id>/attachments/<int:attachment_id>", name="attachment")
def download(request: Request, note_id: int, attachment_id: int) -> HandlerResult:
    attachment = _own_attachment(request, note_id, attachment_id)
    # Always a download, never shown inline: an uploaded page must not run with the origin of this site.
    return FileResponse(
        database(request).path(attachment),
        media_type="application/octet-stream",
        filename=attachment.filename,
        inline=False,
    )


@pages.get("/<int:note_id>/attachments/<int:attachment_id>/remove")
def ask_to_remove_attachment(request: Request, note_id: int, attachment_id: int) -> HandlerResult:
    attachment = _own_attachment(request, note_id, attachment_id)
    return templates.response(request, "remove.html", note=_own_note(request, note_id), attachment=attachment)


@pages.post("/<int:note_id>/attachments/<int:attachment_id>/remove")
def remove_attachment(request: Request, note_id: int, attachment_id: int) -> HandlerResult:
    attachment = _own_attachment(request, note_id, attachment_id)
    database(request).remove_attachment(attachment)
    tell(request, "The file is deleted.")
    return redirect(request.url_for("note", note_id=note_id))


def page_number(request: Request) -> int:
    """Returns the number of the page that the query asks for, 1 if it has no valid number."""
    text = request.query.get("page", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 1


def _own_note(request: Request, note_id: int) -> Note:
    note = database(request).note(member(request), note_id)
    if note is None:
        raise NotFound("You have no such note.")
    return note


def _own_attachment(request: Request, note_id: int, attachment_id: int) -> Attachment:
    attachment = database(request).attachment(member(request), note_id, attachment_id)
    if attachment is None:
        raise NotFound("You have no such file.")
    return attachment


def _typed_note(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the note of a form, and a message for each field that needs another value."""
    title = validation.clean_line(request.form.get("title", ""))
    text = validation.clean_text(request.form.get("text", ""))
    return {"title": title, "text": text}, validation.note_problems(title, text)


def _note_page(
    request: Request, note: Note, *, problems: dict[str, str] | None = None, status: int = 200
) -> HandlerResult:
    attachments = database(request).attachments(member(request), note.id)
    return templates.response(
        request, "note.html", note=note, attachments=attachments, typed={}, problems=problems or {}, status=status
    )
