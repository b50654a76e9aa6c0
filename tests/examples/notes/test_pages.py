"""The notes without a browser: what pages say, what they refuse, and what they never let anybody do."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest

from examples.notes.database import Database, User
from tests.clients import client
from tests.examples.notes.site import PASSWORD, ROOT, Visitor, shown, start, titles
from tests.support import PATIENCE, Command, RawClient, environment

New = Callable[[], Visitor]

MEMBERS_PAGES = ["/notes", "/notes/new", "/notes/1", "/notes/1/edit", "/notes/1/remove", "/account"]


def test_welcome_offers_registration_and_login(visitor: New) -> None:
    answer = visitor().get("/")
    assert answer.status_code == 200
    assert 'href="/register"' in answer.text
    assert 'href="/login"' in answer.text


def test_every_page_carries_the_security_fields(visitor: New, member: New) -> None:
    for somebody, path in [
        (visitor(), "/"),
        (visitor(), "/missing"),
        (member(), "/notes"),
        (visitor(), "/static/notes.css"),
    ]:
        fields = somebody.get(path).headers
        assert "default-src 'none'" in fields["Content-Security-Policy"]
        assert "script-src" not in fields["Content-Security-Policy"]
        assert fields["X-Content-Type-Options"] == "nosniff"
        assert fields["X-Frame-Options"] == "DENY"
        assert fields["Referrer-Policy"] == "same-origin"


def test_pages_of_members_are_not_stored(member: New) -> None:
    assert member().get("/notes").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", MEMBERS_PAGES)
def test_pages_of_members_send_visitors_to_the_login(visitor: New, path: str) -> None:
    answer = visitor().get(path)
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"/login?next={path.replace('/', '%2F')}"


# Accounts


def test_registration_logs_in(visitor: New, new_name: Callable[[], str]) -> None:
    name = new_name()
    somebody = visitor().register(name)
    assert f"Welcome, {name}." in shown(somebody.get("/notes"))
    # Once is enough.
    assert "Welcome" not in shown(somebody.get("/notes"))


@pytest.mark.parametrize(
    ("name", "password", "repeated", "problem"),
    [
        ("x", PASSWORD, PASSWORD, "2 to 40 letters"),
        ("a b", PASSWORD, PASSWORD, "2 to 40 letters"),
        ("<script>", PASSWORD, PASSWORD, "2 to 40 letters"),
        ("ada", "short", "short", "at least 10 characters"),
        ("ada", "x" * 1001, "x" * 1001, "at most 1000 characters"),
        ("ada", PASSWORD, "something else", "not the same password"),
    ],
)
def test_registration_says_what_is_wrong_and_keeps_the_name(
    visitor: New, name: str, password: str, repeated: str, problem: str
) -> None:
    answer = visitor().post("/register", {"name": name, "password": password, "repeated": repeated})
    assert answer.status_code == 422
    assert problem in shown(answer)
    assert f'value="{name.replace("<", "&lt;").replace(">", "&gt;")}"' in answer.text
    assert password not in answer.text


def test_registration_refuses_a_name_that_differs_only_in_case(visitor: New, new_name: Callable[[], str]) -> None:
    name = new_name()
    visitor().register(name)
    answer = visitor().post("/register", {"name": name.upper(), "password": PASSWORD, "repeated": PASSWORD})
    assert answer.status_code == 422
    assert "has this name already" in shown(answer)


def test_login_leads_back_to_where_the_visitor_was_going(visitor: New, add_user: Callable[[], User]) -> None:
    answer = visitor().log_in(add_user().name, target="/notes?q=milk&page=1")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/notes?q=milk&page=1")


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "/\\evil.example/", "notes", "/\t/evil.example", "javascript:1"],
)
def test_login_leads_to_no_other_site(visitor: New, add_user: Callable[[], User], target: str) -> None:
    assert visitor().log_in(add_user().name, target=target).headers["Location"] == "/notes"


def test_login_says_the_same_for_a_wrong_password_and_an_unknown_name(
    visitor: New, new_name: Callable[[], str]
) -> None:
    name = new_name()
    visitor().register(name)
    wrong, unknown = visitor().log_in(name, "wrong password"), visitor().log_in(new_name())
    assert wrong.status_code == unknown.status_code == 422
    problems = [re.findall(r'class="problem"[^>]*>([^<]*)<', answer.text) for answer in (wrong, unknown)]
    assert problems == [["This is not the name and the password of an account."]] * 2


def test_login_takes_nothing_over_from_the_session_before(visitor: New, new_name: Callable[[], str]) -> None:
    name = new_name()
    visitor().register(name)
    somebody = visitor()
    token = somebody.csrf_token()
    fields = {"csrf_token": token, "name": name, "password": PASSWORD}
    assert somebody.http.post("/login", data=fields).status_code == 303
    assert somebody.http.post("/notes/new", data={"csrf_token": token, "title": "x"}).status_code == 403


def test_logout_makes_copies_of_the_cookie_worthless(visitor: New, member: New) -> None:
    somebody, thief = member(), visitor()
    thief.http.cookies = dict(somebody.http.cookies)
    assert thief.get("/notes").status_code == 200
    assert somebody.post("/logout").headers["Location"] == "/"
    assert "You are logged out." in shown(somebody.get("/"))
    assert somebody.get("/notes").status_code == 303
    assert thief.get("/notes").status_code == 303


def test_cookie_is_for_this_site_alone(visitor: New) -> None:
    cookie = visitor().get("/login").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_cookie_is_for_https_alone_where_the_site_is(tmp_path: Path) -> None:
    with start(tmp_path, NOTES_HTTPS="1") as command, client(command.address) as http:
        assert "Secure" in http.get("/login").headers["Set-Cookie"]


@pytest.mark.parametrize("cookie", ["", "x", "e30.x.y", "eyJrZXkiOiJ4In0.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb"])
def test_forged_cookie_is_no_login(visitor: New, cookie: str) -> None:
    answer = visitor().get("/notes", headers={"Cookie": f"notes={cookie}"})
    assert answer.status_code == 303


# Cross-site requests


def test_form_without_a_token_is_refused(member: New) -> None:
    answer = member().http.post("/notes/new", data={"title": "x"})
    assert answer.status_code == 403
    assert "CSRF token is missing" in shown(answer)


@pytest.mark.parametrize("token", ["x", "A" * 88, "☃", ""])
def test_form_with_a_wrong_token_is_refused(member: New, token: str) -> None:
    somebody = member()
    assert somebody.http.post("/notes/new", data={"csrf_token": token, "title": "x"}).status_code == 403
    assert titles(somebody.get("/notes")) == []


def test_form_with_the_token_of_somebody_else_is_refused(member: New) -> None:
    token = member().csrf_token()
    assert member().http.post("/notes/new", data={"csrf_token": token, "title": "x"}).status_code == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://other.localhost"},
    ],
    ids=str,
)
def test_form_from_another_site_is_refused_even_with_the_token(member: New, fields: dict[str, str]) -> None:
    somebody = member()
    answer = somebody.post("/notes/new", {"title": "x"}, headers=fields)
    assert answer.status_code == 403
    assert "another site" in shown(answer)
    assert titles(somebody.get("/notes")) == []


def test_form_from_this_site_is_taken(member: New) -> None:
    somebody = member()
    fields = {"Origin": somebody.address, "Sec-Fetch-Site": "same-origin"}
    assert somebody.post("/notes/new", {"title": "x"}, headers=fields).status_code == 303


# Notes


def test_note_is_written_shown_changed_and_removed(member: New) -> None:
    somebody = member()
    note = somebody.add_note("  Groceries ", "milk\r\nbread\r\n")
    page = somebody.get(note)
    assert "<h1>Groceries</h1>" in page.text
    assert "milk\nbread</div>" in page.text
    answer = somebody.post(f"{note}/edit", {"title": "Shopping", "text": "\n  butter"})
    assert (answer.status_code, answer.headers["Location"]) == (303, note)
    assert titles(somebody.get("/notes")) == ["Shopping"]
    # The first line end of a text area is not its content: one must be written for it.
    assert ">\n\n  butter</textarea>" in somebody.get(f"{note}/edit").text
    question = somebody.get(f"{note}/remove")
    assert "Delete “Shopping”?" in shown(question)
    assert titles(somebody.get("/notes")) == ["Shopping"]
    assert somebody.post(f"{note}/remove").headers["Location"] == "/notes"
    assert somebody.get(note).status_code == 404
    assert "Nothing here yet." in shown(somebody.get("/notes"))


def test_note_that_cannot_stand_is_shown_again_as_it_was_typed(member: New) -> None:
    somebody = member()
    for title, text, problem in [
        ("   ", "kept <b>", "A note needs a title."),
        ("t" * 201, "kept <b>", "at most 200 characters; this one has 201"),
        ("a\x00b", "kept <b>", "control characters"),
        ("title", "kept <b>" + "x" * 100_000, "at most 100,000 characters"),
    ]:
        answer = somebody.post("/notes/new", {"title": title, "text": text})
        assert answer.status_code == 422
        assert problem in shown(answer)
        assert "kept &lt;b&gt;" in answer.text
        assert 'aria-invalid="true"' in answer.text
    assert titles(somebody.get("/notes")) == []


STRINGS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE notes; --",
    "{{ 7 * 7 }}",
    "</textarea><script>alert(1)</script>",
    "javascript:alert(1)",
    "ñandú 日本 🙂",
]


@pytest.mark.parametrize("string", STRINGS)
def test_strings_are_shown_as_they_are_and_do_nothing(member: New, string: str) -> None:
    somebody = member()
    note = somebody.add_note(string, f"{string}\n{string}")
    for path in ["/notes", note, f"{note}/edit", f"{note}/remove"]:
        page = somebody.get(path)
        assert "<script" not in page.text
        assert "<img src=x" not in page.text
        assert 'href="javascript' not in page.text
    assert titles(somebody.get("/notes")) == [string]
    assert f"{string} {string}" in shown(somebody.get(note))
    assert titles(somebody.get("/notes", params={"q": string})) == [string]
    # And in the error page.
    assert "<script" not in somebody.get(f"/{string}").text


def test_links_in_a_note_can_be_followed(member: New) -> None:
    somebody = member()
    note = somebody.add_note("links", 'see https://example.org/a?b=1&c=2 and https://x/"onmouseover=alert(1)')
    text = somebody.get(note).text
    assert 'href="https://example.org/a?b=1&amp;c=2"' in text
    assert ' onmouseover="' not in text
    assert '"onmouseover' not in text


def test_search_finds_words_wherever_and_however_they_are_written(member: New) -> None:
    somebody = member()
    somebody.add_note("Groceries", "milk\nÄpfel")
    somebody.add_note("Plan", "100% of snake_case")
    somebody.add_note("Other", "100 snakes in case \\ of need")
    for query, expected in {
        "MILK": ["Groceries"],
        "äPFEL groc": ["Groceries"],
        "milk plan": [],
        "100%": ["Plan"],
        "%": ["Plan"],
        "_": ["Plan"],
        "snake_case": ["Plan"],
        "\\": ["Other"],
        "100 snake": ["Other", "Plan"],
        "' OR 1=1 --": [],
        "\x00": ["Other", "Plan", "Groceries"],
        "mi\x00zz": [],
        "  ": ["Other", "Plan", "Groceries"],
    }.items():
        assert titles(somebody.get("/notes", params={"q": query})) == expected, query
    assert "No note has “unicorn” in it." in shown(somebody.get("/notes?q=unicorn"))


def test_list_has_pages(member: New) -> None:
    somebody = member()
    for number in range(1, 26):
        somebody.add_note(f"number {number}")
    assert titles(somebody.get("/notes")) == [f"number {number}" for number in range(25, 13, -1)]
    assert titles(somebody.get("/notes?page=2")) == [f"number {number}" for number in range(13, 1, -1)]
    last = somebody.get("/notes?q=number&page=3")
    assert titles(last) == ["number 1"]
    assert "Page 3 of 3" in shown(last)
    assert 'rel="prev" href="/notes?q=number&amp;page=2"' in last.text
    assert 'rel="next"' not in last.text
    for page, expected in {"99": "3", "0": "1", "-1": "1", "x": "1", "٣": "3", "9" * 30: "1", "": "1"}.items():
        assert f"Page {expected} of 3" in shown(somebody.get("/notes", params={"page": page})), page


def test_notes_of_others_are_not_found(member: New) -> None:
    owner, other = member(), member()
    note = owner.add_note("secret")
    owner.attach(note, "secret.txt", b"secret")
    (file,) = owner.links(note, f"{note}/attachments/[0-9]+")
    mine = other.add_note("mine")
    borrowed = f"{mine}/attachments/{file.rpartition('/')[2]}"
    for path in [note, f"{note}/edit", f"{note}/remove", file, f"{file}/remove", borrowed, f"{borrowed}/remove"]:
        assert other.get(path).status_code == 404, path
    for path in [f"{note}/edit", f"{note}/remove", f"{file}/remove", f"{borrowed}/remove"]:
        assert other.post(path, {"title": "stolen"}).status_code == 404, path
    assert other.attach(note, "x", b"x").status_code == 404
    assert titles(other.get("/notes?q=secret")) == []
    assert titles(owner.get("/notes")) == ["secret"]
    assert owner.get(file).content == b"secret"


@pytest.mark.parametrize("number", ["0", "999999", "9" * 19, "9" * 30, "9" * 5000, "-1", "1.0", "x", "٣"])
def test_notes_that_do_not_exist_are_not_found(member: New, number: str) -> None:
    assert member().get(f"/notes/{number}").status_code == 404


# Attachments


@pytest.mark.parametrize(
    ("sent", "offered"),
    [
        ("plain.txt", "plain.txt"),
        ("Übersicht für 日本 🙂.pdf", "Übersicht für 日本 🙂.pdf"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/shadow", "shadow"),
        ("a;b='c'.txt", "a;b='c'.txt"),
        ("<b>.html", "_b_.html"),
        ("..", "upload"),
        ("x" * 400 + ".txt", "x" * 251 + ".txt"),
    ],
    ids=range(9),
)
def test_file_comes_back_byte_for_byte_under_its_name(member: New, sent: str, offered: str) -> None:
    somebody = member()
    note = somebody.add_note("files")
    content = bytes(range(256)) * 700
    assert somebody.attach(note, sent, content).status_code == 303
    (file,) = somebody.links(note, f"{note}/attachments/[0-9]+")
    answer = somebody.get(file)
    assert answer.content == content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    kind, _, rest = answer.headers["Content-Disposition"].partition(";")
    assert kind == "attachment"
    extended = re.search(r"filename\*=(?:UTF-8|utf-8)''([^;]+)", rest)
    plain = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;"]+)', rest)
    if extended:
        assert unquote(extended[1]) == offered
    else:
        assert plain is not None
        assert offered.isascii()
        assert (plain[1] or plain[2]) == offered
    assert offered in shown(somebody.get(note))


def test_part_of_a_file_can_be_asked_for(member: New) -> None:
    somebody = member()
    note = somebody.add_note("files")
    somebody.attach(note, "x.bin", b"0123456789")
    (file,) = somebody.links(note, f"{note}/attachments/[0-9]+")
    answer = somebody.get(file, headers={"Range": "bytes=3-5"})
    assert (answer.status_code, answer.content) == (206, b"345")


def test_files_lie_under_names_that_nobody_chose(tmp_path: Path) -> None:
    with start(tmp_path / "data") as command, Visitor(command.address) as somebody:
        note = somebody.register("ada").add_note("files")
        somebody.attach(note, "../../evil.html", b"content")
        (stored,) = (tmp_path / "data" / "attachments").iterdir()
        assert re.fullmatch("[0-9a-f]{32}", stored.name)
        assert {entry.name for entry in tmp_path.iterdir()} == {"data"}
        (file,) = somebody.links(note, f"{note}/attachments/[0-9]+")
        assert "Delete “evil.html”?" in shown(somebody.get(f"{file}/remove"))
        assert somebody.post(f"{file}/remove").headers["Location"] == note
        assert somebody.get(file).status_code == 404
        assert list((tmp_path / "data" / "attachments").iterdir()) == []
        # A note takes its files with it.
        somebody.attach(note, "again", b"content")
        somebody.post(f"{note}/remove")
        assert list((tmp_path / "data" / "attachments").iterdir()) == []


def test_upload_without_a_file_is_explained(member: New) -> None:
    somebody = member()
    note = somebody.add_note("files")
    for files in [{"file": ("", b"")}, {"other": ("x", b"x")}]:
        answer = somebody.post(f"{note}/attachments", files=files)
        assert answer.status_code == 422
        assert "Choose a file first." in shown(answer)


def test_upload_that_is_too_large_is_explained_and_not_kept(member: New) -> None:
    somebody = member()
    note = somebody.add_note("files")
    just, far = 10 * 2**20, 12 * 2**20
    assert somebody.attach(note, "just.bin", bytes(just)).status_code == 303
    answer = somebody.attach(note, "over.bin", bytes(just + 1))
    assert answer.status_code == 422
    assert "A file has at most 10 MiB." in shown(answer)
    answer = somebody.attach(note, "far.bin", bytes(far))
    assert answer.status_code == 413
    assert "<h1>Content Too Large</h1>" in answer.text
    assert len(somebody.links(note, f"{note}/attachments/[0-9]+")) == 1


def test_note_has_at_most_twenty_files(member: New) -> None:
    somebody = member()
    note = somebody.add_note("files")
    for number in range(20):
        assert somebody.attach(note, f"{number}.txt", b"x").status_code == 303
    assert "at most 20 files" in shown(somebody.attach(note, "21.txt", b"x"))


# Errors and static files


def test_missing_page_is_a_page(visitor: New) -> None:
    answer = visitor().get("/missing")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "There is nothing here." in shown(answer)


@pytest.mark.parametrize("path", ["/%ff", "/api/%ff", "/notes/%ff", "/static/%ff", "/login?q=%ff"])
def test_path_that_is_no_text_is_refused(member: New, path: str) -> None:
    assert member().get(path).status_code in (400, 404)


def test_wrong_method_says_which_are_right(member: New) -> None:
    somebody = member()
    answer = somebody.http.put("/notes/new", headers={"X-CSRF-Token": somebody.csrf_token()})
    assert answer.status_code == 405
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(("file", "media_type"), [("notes.css", "text/css"), ("favicon.svg", "image/svg+xml")])
def test_static_files_are_served_and_revalidated(visitor: New, file: str, media_type: str) -> None:
    somebody = visitor()
    answer = somebody.get(f"/static/{file}")
    assert answer.content == (ROOT / "examples/notes/static" / file).read_bytes()
    assert answer.headers["Content-Type"].startswith(media_type)
    assert "Set-Cookie" not in answer.headers
    again = somebody.get(f"/static/{file}", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["/static/../__init__.py", "/static/%2e%2e/__init__.py", "/static/..%2f__init__.py"])
def test_static_files_are_those_of_their_directory(server: Command, path: str) -> None:
    with RawClient(server.address) as http:
        http.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        (answer,) = http.responses("GET")
        assert answer.status in (400, 404)


@pytest.mark.parametrize("debug", [False, True])
def test_failure_is_a_page_and_a_traceback_in_the_log(tmp_path: Path, debug: bool) -> None:
    with start(tmp_path, f"tests.examples.notes.failing:create_app(debug={debug})") as command:
        with client(command.address) as http:
            answer = http.get("/fail", headers={"Accept": "text/html"})
        assert answer.status_code == 500
        assert ("ZeroDivisionError" in answer.text) is debug
        assert ("Something broke on our side." in shown(answer)) is not debug
        assert "never shown never shown" not in answer.text
        command.stop()
    log = "\n".join(command.stderr.seen)
    assert log.count("ZeroDivisionError") == 1
    assert "Traceback" in log


# What lies on the disk, and the commands


def test_many_may_write_at_once(database: Database, add_user: Callable[[], User]) -> None:
    user = add_user()

    def write(number: int) -> list[int]:
        return [database.add_note(user, f"{number}.{count}", "") for count in range(20)]

    with ThreadPoolExecutor(8) as pool:
        numbers = [note for notes in pool.map(write, range(8)) for note in notes]
    assert len(set(numbers)) == 160
    assert database.notes(user).total == 160


def test_failed_write_leaves_nothing_behind(database: Database, add_user: Callable[[], User], data: Path) -> None:
    user = add_user()
    note = database.note(user, database.add_note(user, "note", ""))
    assert note is not None
    before = set((data / "attachments").iterdir())

    def save(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        database.add_attachment(note, "x", 4, save)
    assert set((data / "attachments").iterdir()) == before
    assert database.attachments(user, note.id) == []


def test_module_serves_by_itself(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "examples.notes", "serve"]
    with Command(cwd=ROOT, env={"NOTES_DATA": str(tmp_path)}, start=words) as command, client(command.address) as http:
        assert http.get("/").status_code == 200
        assert command.stop() == 0


def test_data_directory_is_private_and_keeps_its_key(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    with start(data) as command, Visitor(command.address) as somebody:
        somebody.register("ada").add_note("kept")
        cookies = dict(somebody.http.cookies)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "secret-key").stat().st_mode) == 0o600
    assert len((data / "secret-key").read_text().strip()) >= 43
    assert (data / ".gitignore").read_text() == "*\n"
    for variables, status in [({}, 200), ({"NOTES_SECRET_KEY": "another key, long enough"}, 303)]:
        with start(data, **variables) as command, Visitor(command.address) as somebody:
            somebody.http.cookies.update(cookies)
            assert somebody.get("/notes").status_code == status


def test_password_is_stored_as_a_salted_hash(tmp_path: Path) -> None:
    with start(tmp_path) as command:
        for name in ("ada", "bob"):
            with Visitor(command.address) as somebody:
                somebody.register(name)
    connection = sqlite3.connect(tmp_path / "notes.sqlite3")
    stored = [password for (password,) in connection.execute("SELECT password FROM users")]
    connection.close()
    assert len(set(stored)) == 2
    assert all(re.fullmatch(r"scrypt\$16384\$8\$5\$[0-9a-f]{32}\$[0-9a-f]{64}", password) for password in stored)
    assert all(PASSWORD.encode() not in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


def run_add_user(data: Path, name: str, password: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.notes", "add-user", name],
        cwd=ROOT,
        env=environment(NOTES_DATA=str(data)),
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_command_adds_a_user_who_can_log_in(tmp_path: Path) -> None:
    done = run_add_user(tmp_path, "ada", PASSWORD)
    assert (done.returncode, done.stderr) == (0, "")
    assert run_add_user(tmp_path, "Ada", PASSWORD).stderr == "Somebody has this name already.\n"
    assert run_add_user(tmp_path, "bob", "short").returncode == 1
    with start(tmp_path) as command, Visitor(command.address) as somebody:
        assert somebody.log_in("ADA").headers["Location"] == "/notes"
