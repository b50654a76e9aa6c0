"""Notes: a small but complete site, with pages, forms, files, accounts and a JSON API.

From the project's root, run it with `wsgi 'examples.notes:create_app()'` and open http://127.0.0.1:8000. To read it,
begin here, then `pages.py`; every other file is named after what it holds. README.md says more.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from wsgi.application import Group, HandlerResult, HTTPError, Limits, Request, WSGIApplication
from wsgi.application.middleware.csrf import CSRFMiddleware
from wsgi.application.middleware.security import SecurityHeadersMiddleware
from wsgi.application.middleware.sessions import SessionMiddleware

from . import validation
from .accounts import account, visitors
from .api import api
from .database import LOGIN_DAYS, Database
from .pages import pages
from .rendering import templates

__all__ = ["create_app", "data_directory"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Styles, pictures and forms of this site only; no scripts."""


def create_app(data: Path | None = None, *, secret_key: str | None = None, debug: bool = False) -> WSGIApplication:
    """Makes the application.

    Parameters:
        data: the directory of the database, the attachments and the secret key, made if it is missing; default: what
            the variable NOTES_DATA names, or else `notes-data` where the server was started.
        secret_key: what signs the session cookies; default: the variable NOTES_SECRET_KEY, or else a key that is made
            once and kept in the data directory.
        debug: show the traceback of an error to the visitor, for development only.

    The variable NOTES_HTTPS=1 says that browsers reach the site by https alone.
    """
    data = data_directory(data)
    https = os.environ.get("NOTES_HTTPS") == "1"
    app = WSGIApplication(
        debug=debug,
        # More than the limit of a file, so that the form can report a file that is too large.
        limits=Limits(body=2**20, form=validation.FILE_SIZE + 2**20),
        middleware=[
            SecurityHeadersMiddleware(
                content_security_policy=CONTENT_SECURITY_POLICY,
                referrer_policy="same-origin",
                hsts=365 * 24 * 3600 if https else None,
            ),
            SessionMiddleware(
                secret_key or os.environ.get("NOTES_SECRET_KEY") or _kept_secret_key(data),
                cookie="notes",
                max_age=LOGIN_DAYS * 24 * 3600,
                secure=https or None,
            ),
        ],
    )
    app.state.database = Database(data)
    site = Group(middleware=[CSRFMiddleware()])
    for group in (visitors, account, pages):
        site.include(group)
    app.include(site)
    app.include(api)
    app.static("/static", Path(__file__).parent / "static", name="static")
    app.error_handler(HTTPError)(show_error)
    app.error_handler(500)(show_failure)
    return app


def data_directory(data: Path | None = None) -> Path:
    """Returns the data directory, created if it is missing and excluded from version control."""
    data = data or Path(os.environ.get("NOTES_DATA") or "notes-data")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (data / ".gitignore").exists():
        (data / ".gitignore").write_text("*\n", "utf-8")
    return data


def show_error(request: Request, error: HTTPError) -> HandlerResult:
    return templates.response(request, "error.html", error=error, status=error.status, headers=error.headers)


def show_failure(request: Request, error: Exception) -> HandlerResult:
    # Uses neither session nor database, because either may be what failed.
    return templates.response(request, "failure.html", status=500)


def _kept_secret_key(data: Path) -> str:
    path = data / "secret-key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(key := secrets.token_urlsafe(48))
    return key
