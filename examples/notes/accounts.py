"""The welcome page, registration, login and logout, and the account with its API tokens."""

from __future__ import annotations

from wsgi.application import Group, HandlerResult, Request, redirect

from . import validation
from .database import NameTaken
from .members import current_user, database, log_in, log_out, member, members_only
from .passwords import hash_password, is_password
from .rendering import tell, templates

visitors = Group()
account = Group("/account", middleware=[members_only])


@visitors.get("/")
def welcome(request: Request) -> HandlerResult:
    if current_user(request) is not None:
        return redirect(request.url_for("notes"))
    return templates.response(request, "welcome.html")


@visitors.get("/register")
def register(request: Request) -> HandlerResult:
    return templates.response(request, "register.html", typed={}, problems={})


@visitors.post("/register")
def add_user(request: Request) -> HandlerResult:
    name = validation.clean_line(request.form.get("name", ""))
    password = request.form.get("password", "")
    problems = validation.account_problems(name, password, request.form.get("repeated", ""))
    if not problems:
        try:
            user = database(request).add_user(name, hash_password(password))
        except NameTaken:
            problems = {"name": "Somebody has this name already."}
        else:
            log_in(request, user)
            tell(request, f"Welcome, {user.name}.")
            return redirect(request.url_for("notes"))
    return templates.response(request, "register.html", typed={"name": name}, problems=problems, status=422)


@visitors.get("/login")
def login(request: Request) -> HandlerResult:
    return templates.response(request, "login.html", typed={}, problems={}, next=request.query.get("next", ""))


@visitors.post("/login")
def check_login(request: Request) -> HandlerResult:
    name = validation.clean_line(request.form.get("name", ""))
    target = request.form.get("next", "")
    found = database(request).user_and_password(name)
    # The same work and the same answer whether the user exists or not, so that account names cannot be probed.
    if not is_password(request.form.get("password", ""), found[1] if found else None) or found is None:
        problems = {"password": "This is not the name and the password of an account."}
        return templates.response(
            request, "login.html", typed={"name": name}, problems=problems, next=target, status=422
        )
    log_in(request, found[0])
    return redirect(target if _is_here(target) else request.url_for("notes"))


@visitors.post("/logout")
def logout(request: Request) -> HandlerResult:
    log_out(request)
    tell(request, "You are logged out.")
    return redirect(request.url_for("welcome"))


@account.get("", name="account")
def show_account(request: Request) -> HandlerResult:
    return _account_page(request)


@account.post("/tokens")
def add_token(request: Request) -> HandlerResult:
    label = validation.clean_line(request.form.get("label", ""))
    if not 1 <= len(label) <= validation.LABEL_LENGTH:
        problems = {"label": f"A token needs a name of at most {validation.LABEL_LENGTH} characters."}
        return _account_page(request, typed={"label": label}, problems=problems, status=422)
    # Shown in this response only: the database has its digest.
    return _account_page(request, token=database(request).add_key(member(request), "token", label))


@account.post("/tokens/<int:token_id>/remove")
def remove_token(request: Request, token_id: int) -> HandlerResult:
    database(request).remove_token(member(request), token_id)
    tell(request, "The token does not work any more.")
    return redirect(request.url_for("account"))


def _account_page(
    request: Request,
    *,
    token: str = "",
    typed: dict[str, str] | None = None,
    problems: dict[str, str] | None = None,
    status: int = 200,
) -> HandlerResult:
    tokens = database(request).tokens(member(request))
    return templates.response(
        request, "account.html", tokens=tokens, token=token, typed=typed or {}, problems=problems or {}, status=status
    )


def _is_here(target: str) -> bool:
    """Whether a redirect target is a path of this site; browsers read `\\` as `/`."""
    return target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
