"""The notes in a real browser, with JavaScript and without.

NOTES_SCREENSHOTS=DIRECTORY keeps a picture of every page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from examples.notes.database import Database, User
from examples.notes.passwords import hash_password
from tests.examples.notes.site import PASSWORD, Visitor, start
from tests.support import PATIENCE, Command

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SCREENSHOTS = os.environ.get("NOTES_SCREENSHOTS")


class Tab:
    """A page of a fresh browser profile that remembers everything that went wrong.

    Parameters:
        context: the profile.
        address: the site.
    """

    def __init__(self, context: Any, address: str) -> None:
        self.address = address
        self.page = context.new_page()
        self.refusals: list[tuple[int, str]] = []
        """Responses of 400 and more, with their paths."""
        self.problems: list[str] = []
        """What no page may ever cause."""
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def _said(self, kind: str, text: str) -> None:
        # The browser reports refusals, too; `refusals` has them more exactly.
        if not text.startswith("Failed to load resource: the server responded with a status of"):
            self.problems.append(f"{kind}: {text}")

    def _failed(self, request: Any) -> None:
        # A download ends the navigation that asked for it; a tab's icon is not waited for before the next navigation.
        excused = re.fullmatch(r"/notes/\d+/attachments/\d+|/static/favicon\.svg", urlsplit(request.url).path)
        if not (excused and request.failure == "net::ERR_ABORTED"):
            self.problems.append(f"{request.url}: {request.failure}")

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self.refusals.append((response.status, urlsplit(response.url).path))

    @property
    def path(self) -> str:
        """Where the page is, with its query."""
        parts = urlsplit(self.page.url)
        return str(parts.path) + (f"?{parts.query}" if parts.query else "")

    def go(self, path: str) -> None:
        self.page.goto(self.address + path)

    def fill(self, **fields: str) -> None:
        """Types into fields by their labels; `_` stands for a space."""
        for label, text in fields.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).fill(text)

    def loads(self, target: Any) -> None:
        """Clicks, and waits until the next page is there with everything it needs."""
        with self.page.expect_event("load"):
            target.click()

    def press(self, name: str) -> None:
        self.loads(self.page.get_by_role("button", name=name, exact=True))

    def follow(self, name: str) -> None:
        self.loads(self.page.get_by_role("link", name=name, exact=True).first)

    def download(self, name: str) -> Any:
        """Follows a link to a file."""
        with self.page.expect_download() as waiting:
            self.page.get_by_role("link", name=name, exact=True).click()
        return waiting.value

    def sees(self, text: str) -> None:
        """Waits until the text can be seen."""
        playwright.expect(self.page.get_by_text(text).first).to_be_visible()

    def sees_heading(self, text: str) -> None:
        playwright.expect(self.page.get_by_role("heading", name=text, exact=True).first).to_be_visible()

    def log_in(self, user: User) -> None:
        self.go("/login")
        self.fill(Name=user.name, Password=PASSWORD)
        self.press("Log in")
        self.sees_heading("Your notes")

    def attach(self, file: Path) -> None:
        self.page.get_by_label("Attach a file").set_input_files(file)
        self.press("Upload")
        self.sees("The file is attached.")


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, and holds every one to have caused no problem at the end."""
    tabs: list[Tab] = []
    contexts: list[Any] = []

    def open_tab(command: Command, **options: Any) -> Tab:
        context = browser.new_context(locale="en-GB", **options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        tabs.append(Tab(context, command.address))
        return tabs[-1]

    yield open_tab
    for context in contexts:
        context.close()
    assert [problem for tab in tabs for problem in tab.problems] == []


@pytest.fixture(params=[True, False], ids=["javascript", "no-javascript"])
def tab(request: pytest.FixtureRequest, server: Command, open_tab: Callable[..., Tab]) -> Tab:
    return open_tab(server, java_script_enabled=request.param)


def test_first_visit_leads_to_a_first_note(tab: Tab, new_name: Callable[[], str]) -> None:
    name = new_name()
    tab.go("/")
    tab.sees_heading("A quiet place for what you want to keep.")
    tab.loads(tab.page.get_by_role("main").get_by_role("link", name="Register"))
    # One thing after another: every mistake is named beside its field, and what was typed stays.
    tab.page.get_by_label("Name", exact=True).fill(name)
    tab.page.get_by_label("Password", exact=True).fill(PASSWORD)
    tab.page.get_by_label("Password, once more", exact=True).fill("something else")
    tab.press("Register")
    tab.sees("This is not the same password.")
    playwright.expect(tab.page.get_by_label("Password, once more", exact=True)).to_be_focused()
    playwright.expect(tab.page.get_by_label("Name", exact=True)).to_have_value(name)
    tab.page.get_by_label("Password", exact=True).fill(PASSWORD)
    tab.page.get_by_label("Password, once more", exact=True).fill(PASSWORD)
    tab.press("Register")
    tab.sees(f"Welcome, {name}.")
    tab.sees("Nothing here yet.")
    tab.follow("Write your first note")
    tab.fill(Title="   ", Text="kept <b>as it is</b>")
    tab.press("Save")
    tab.sees("A note needs a title.")
    playwright.expect(tab.page.get_by_label("Text", exact=True)).to_have_value("kept <b>as it is</b>")
    tab.fill(Title="Ünïcode & <i>tags</i>")
    tab.press("Save")
    tab.sees("The note is saved.")
    tab.sees_heading("Ünïcode & <i>tags</i>")
    tab.sees("kept <b>as it is</b>")
    assert tab.refusals == [(422, "/register"), (422, "/notes/new")]


def test_note_is_edited_found_and_deleted(tab: Tab, add_user: Callable[[], User]) -> None:
    tab.log_in(add_user())
    for title, text in [("Groceries", "milk\n  bread"), ("Reading list", "Middlemarch"), ("Ideas", "100% cotton")]:
        tab.go("/notes/new")
        tab.fill(Title=title, Text=text)
        tab.press("Save")
    tab.follow("← Your notes")
    assert tab.page.locator("ol.notes h2").all_inner_texts() == ["Ideas", "Reading list", "Groceries"]
    tab.follow("Groceries")
    tab.follow("Edit")
    playwright.expect(tab.page.get_by_label("Text", exact=True)).to_have_value("milk\n  bread")
    tab.fill(Text="milk\n  butter")
    tab.press("Save")
    tab.sees("The note is saved.")
    assert tab.page.locator(".note .text").inner_text() == "milk\n  butter"
    tab.follow("← Your notes")
    # Pressing Enter searches.
    tab.page.get_by_role("searchbox").fill("BUTTER")
    with tab.page.expect_event("load"):
        tab.page.get_by_role("searchbox").press("Enter")
    tab.sees("1 note with “BUTTER”.")
    assert tab.path == "/notes?q=BUTTER"
    assert tab.page.locator("ol.notes h2").all_inner_texts() == ["Groceries"]
    tab.page.get_by_role("searchbox").fill("%")
    tab.press("Search")
    tab.sees("1 note with “%”.")
    assert tab.page.locator("ol.notes h2").all_inner_texts() == ["Ideas"]
    tab.page.get_by_role("searchbox").fill("<unicorn>")
    tab.press("Search")
    tab.sees("No note has “<unicorn>” in it.")
    tab.follow("Show all notes")
    tab.follow("Reading list")
    address = tab.path
    tab.follow("Delete")
    tab.sees_heading("Delete “Reading list”?")
    tab.follow("Keep it")
    tab.sees_heading("Reading list")
    tab.follow("Delete")
    tab.press("Delete")
    tab.sees("The note is deleted.")
    assert tab.page.locator("ol.notes h2").all_inner_texts() == ["Groceries", "Ideas"]
    assert tab.refusals == []
    tab.go(address)
    tab.sees_heading("There is nothing here.")
    assert tab.refusals == [(404, address)]


def test_file_goes_up_and_comes_down_the_same(tab: Tab, add_user: Callable[[], User], tmp_path: Path) -> None:
    name, content = "Übersicht «日本» 🙂 100%.bin", os.urandom(300_000)
    (tmp_path / name).write_bytes(content)
    tab.log_in(add_user())
    tab.go("/notes/new")
    tab.fill(Title="With a file")
    tab.press("Save")
    tab.attach(tmp_path / name)
    tab.sees("293 KiB")
    download = tab.download(name)
    assert download.suggested_filename == name
    download.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == content
    tab.follow(f"Delete {name}")
    tab.sees_heading(f"Delete “{name}”?")
    tab.press("Delete")
    tab.sees("The file is deleted.")
    playwright.expect(tab.page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    assert tab.refusals == []


def test_uploaded_page_is_saved_and_does_not_run(tab: Tab, add_user: Callable[[], User], tmp_path: Path) -> None:
    (tmp_path / "evil.html").write_text("<script>document.title = 'owned'</script>")
    tab.log_in(add_user())
    tab.go("/notes/new")
    tab.fill(Title="Trap", Text="<script>document.title = 'owned'</script>")
    tab.press("Save")
    tab.attach(tmp_path / "evil.html")
    assert tab.download("evil.html").suggested_filename == "evil.html"
    assert tab.page.title() == "Trap · Notes"


def test_logout_closes_the_door_and_login_opens_it(tab: Tab, add_user: Callable[[], User]) -> None:
    user = add_user()
    tab.log_in(user)
    tab.go("/notes/new")
    tab.fill(Title="Mine")
    tab.press("Save")
    note = tab.path
    tab.press("Log out")
    tab.sees("You are logged out.")
    tab.page.go_back()
    # Nothing of it is kept: the browser asks again, and is sent to the login.
    playwright.expect(tab.page.get_by_role("heading", name="Log in")).to_be_visible()
    tab.go(note)
    assert tab.path == f"/login?next={note.replace('/', '%2F')}"
    tab.fill(Name=user.name, Password="wrong password")
    tab.press("Log in")
    tab.sees("This is not the name and the password of an account.")
    playwright.expect(tab.page.get_by_label("Name", exact=True)).to_have_value(user.name)
    playwright.expect(tab.page.get_by_label("Password", exact=True)).to_have_value("")
    tab.fill(Password=PASSWORD)
    tab.press("Log in")
    tab.sees_heading("Mine")
    assert tab.path == note
    assert tab.refusals == [(422, "/login")]


def test_token_of_the_account_opens_the_api(tab: Tab, add_user: Callable[[], User]) -> None:
    tab.log_in(add_user())
    tab.go("/account")
    tab.page.get_by_label("Name of a new token").fill("backup")
    tab.press("Make a token")
    token = tab.page.locator("#token").inner_text()
    with Visitor(tab.address) as program:
        program.http.headers["Authorization"] = f"Bearer {token}"
        assert program.http.post("/api/notes", json={"title": "By a program"}).status_code == 201
        tab.go("/notes")
        tab.sees("By a program")
        tab.go("/account")
        tab.press("Revoke backup")
        tab.sees("The token does not work any more.")
        assert program.get("/api/notes").status_code == 401


def test_site_can_be_used_by_keyboard(server: Command, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(server)
    tab.go("/")
    tab.page.keyboard.press("Tab")
    skip = tab.page.get_by_role("link", name="Skip to the content")
    playwright.expect(skip).to_be_focused()
    playwright.expect(skip).to_be_in_viewport()
    seen = []
    for _ in range(5):
        tab.page.keyboard.press("Tab")
        focused = tab.page.evaluate(
            "() => [document.activeElement.innerText.trim(), getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.append(tuple(focused))
    assert seen == [(name, "solid") for name in ("Notes", "Log in", "Register", "Register", "Log in")]


@pytest.mark.parametrize("debug", [False, True], ids=["production", "debug"])
def test_failure_has_a_page(tmp_path: Path, open_tab: Callable[..., Tab], debug: bool) -> None:
    with start(tmp_path, f"tests.examples.notes.failing:create_app(debug={debug})") as command:
        for scheme in ("light", "dark"):
            tab = open_tab(command, color_scheme=scheme)
            tab.go("/fail")
            if debug:
                tab.sees("ZeroDivisionError")
                playwright.expect(tab.page.get_by_text("amount / share").first).to_be_visible()
                assert "never shown never shown" not in tab.page.content()
            else:
                tab.sees_heading("Something broke on our side.")
                assert "ZeroDivisionError" not in tab.page.content()
            picture(tab, f"failure-{'debug' if debug else 'production'}-{scheme}")
            assert tab.refusals == [(500, "/fail")]


def picture(tab: Tab, name: str) -> None:
    """Keeps a picture if somebody wants them."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


LONG = "A title that goes on for quite a while, because some people put the whole note into it"
TEXT = """The morning was clear, and the path along the river dry for the first time in weeks. To bring next time:

  * the good boots
  * a thermos
  * https://example.org/maps/valley?zoom=12 printed

Averyveryverylongwordwithoutanyplacetobreakitwhichmustnotmakethepagewiderthanthescreenofaphoneitisreadon."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen(
    tmp_path: Path,
    server: Command,
    database: Database,
    open_tab: Callable[..., Tab],
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    name = f"marguerite-yourcenar.{scheme}.{width}"
    (tmp_path / "Übersicht der Wanderwege im Oberland 2026.pdf").write_bytes(bytes(2_400_000))
    tab = open_tab(server, viewport={"width": width, "height": 844}, color_scheme=scheme)

    def look(at: str) -> None:
        picture(tab, f"{at}-{width}-{scheme}")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, at

    tab.go("/")
    look("welcome")
    tab.go("/register")
    tab.page.get_by_label("Name", exact=True).fill("x")
    tab.page.get_by_label("Password", exact=True).fill("short")
    tab.page.get_by_label("Password, once more", exact=True).fill("short")
    tab.press("Register")
    look("register")
    user = database.add_user(name, hash_password(PASSWORD))
    tab.go("/login")
    tab.fill(Name=name, Password="wrong password")
    tab.press("Log in")
    look("login")
    tab.log_in(user)
    look("empty")
    tab.go("/notes/new")
    look("new")
    tab.fill(Title=" ", Text="Kept.")
    tab.press("Save")
    look("invalid")
    for number in range(1, 12):
        database.add_note(user, f"Walk number {number}" if number % 4 else LONG, TEXT if number % 3 else "")
    for title in ("Groceries", "Along the river"):
        note = database.add_note(user, title, TEXT)
    tab.go(f"/notes/{note}")
    look("note")
    tab.attach(next(tmp_path.iterdir()))
    look("attached")
    tab.follow("Delete")
    look("remove")
    tab.go("/notes")
    look("notes")
    tab.go("/notes?q=river&page=2")
    look("search")
    tab.go("/notes?q=unicorn")
    look("nothing-found")
    tab.go("/account")
    tab.page.get_by_label("Name of a new token").fill("backup at home")
    tab.press("Make a token")
    look("account")
    tab.go("/missing")
    look("missing")
    tab.press("Log out")
    tab.sees("You are logged out.")
