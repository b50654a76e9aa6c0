"""Logins in the session, and the middleware that requires one."""

from __future__ import annotations

from collections.abc import Callable

from wsgi.application import HandlerResult, Request, Response, redirect

from .database import Database, User

_KEY = "key"


def database(request: Request) -> Database:
    """Returns the application's database."""
    found: Database = request.app.state.database
    return found


def log_in(request: Request, user: User) -> None:
    """Begins a new session for the user, without the data of the previous one, which others may know."""
    log_out(request)
    request.session[_KEY] = database(request).add_key(user, "browser")


def log_out(request: Request) -> None:
    """Ends the session here and in the database, so that copies of the cookie become invalid."""
    if key := request.session.get(_KEY):
        database(request).remove_key(key)
    request.session.clear()
    request.state.user = None


def current_user(request: Request) -> User | None:
    """Returns the user who is logged in, if any, with one database query per request."""
    if not hasattr(request.state, "user"):
        key = request.session.get(_KEY)
        request.state.user = database(request).user_of_key("browser", key) if key else None
    user: User | None = request.state.user
    return user


def member(request: Request) -> User:
    """Returns the user behind `members_only`, where there always is one."""
    user = current_user(request)
    assert user is not None
    return user


def members_only(request: Request, call_next: Callable[[Request], Response]) -> HandlerResult:
    """Redirects visitors to the login page, and back to the requested page after the login."""
    if current_user(request) is None:
        if request.method not in ("GET", "HEAD"):
            return redirect(request.url_for("login"))
        query = f"?{request.query_string}" if request.query_string else ""
        return redirect(request.url_for("login", next=request.root_path + request.path + query))
    response = call_next(request)
    # After a logout, the Back button must not show pages of members.
    response.headers.setdefault("Cache-Control", "no-store")
    return response
