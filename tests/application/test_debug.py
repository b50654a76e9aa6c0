"""The page that developers see: it shows what helps, hides what is secret, and never fails."""

from __future__ import annotations

import base64
import builtins
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn

import httpx
import pytest

from wsgi.application import MultiDict, Request, Response, WSGIApplication
from wsgi.application.debug import traceback_page
from wsgi.application.debug.frames import calls
from wsgi.application.debug.redaction import REDACTED, Redactor, is_sensitive
from wsgi.application.middleware import GzipMiddleware, SecurityHeadersMiddleware
from wsgi.application.templates import Templates

app = WSGIApplication(debug=True, middleware=[SecurityHeadersMiddleware(), GzipMiddleware()])


@app.get("/orders/<int:number>")
def order(request: Request, number: int) -> str:
    return str(1 / (number - number))


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_browser_gets_a_page(client: httpx.Client) -> None:
    response = client.get("/orders/7?coupon=summer", headers=BROWSER)
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for text in (
        "<h1>ZeroDivisionError</h1>",
        "division by zero",
        "test_debug.py",
        "route <b>order</b>",
        "coupon",
        "summer",
    ):
        assert text in response.text


@pytest.mark.parametrize("accept", ["*/*", "text/plain", "application/json", "image/png"])
def test_other_clients_get_text(client: httpx.Client, accept: str) -> None:
    response = client.get("/orders/7", headers={"Accept": accept})
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.text.startswith("GET /orders/7\n\nTraceback (most recent call last):\n")
    assert response.text.endswith("ZeroDivisionError: division by zero\n")


def page(function: Callable[[], object], *, accept: str = "text/html", **environ: Any) -> str:
    """The page about what a function raises."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT": accept, **environ}
    try:
        function()
    except BaseException as error:
        response = traceback_page(error, Request(environ, app))
    assert (response.status, type(response)) == (500, Response)
    return response.body.decode()


def raises(**values: object) -> Callable[[], NoReturn]:
    """A function that has these local variables when it raises."""
    source = "".join(f"    {name} = values[{name!r}]\n" for name in values)
    namespace: dict[str, Any] = {"values": values}
    exec(compile(f"def call():\n{source}    raise LookupError", "<made for a test>", "exec"), namespace)
    function: Callable[[], NoReturn] = namespace["call"]
    return function


def shown(name: str, value: object) -> str:
    """How a local variable appears."""
    (found,) = re.findall(rf'<th scope="row">{name}</th><td>(.*?)</td>', page(raises(**{name: value})), re.DOTALL)
    text: str = found
    return text


def test_value_is_escaped() -> None:
    assert shown("name", "<script>alert('&')</script>") == (
        "<code>&quot;&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;&quot;</code>"
    )


def test_nothing_that_a_client_sends_becomes_markup() -> None:
    evil = "<script>alert(1)</script>"

    def call() -> NoReturn:
        raise ValueError(evil)

    text = page(call, PATH_INFO=f"/{evil}", QUERY_STRING=f"{evil}={evil}", HTTP_X_A=evil, HTTP_COOKIE=f"{evil}={evil}")
    assert "<script" not in text


SECRET = "tr0ub4dor-and-3"


@dataclass
class Account:
    name: str
    password: str


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", SECRET),
        ("db_passwd", SECRET),
        ("PASSWORD", SECRET),
        ("pwd", SECRET),
        ("passphrase", SECRET),
        ("client_secret", SECRET),
        ("access_token", SECRET),
        ("apiKey", SECRET),
        ("signing_key", SECRET.encode()),
        ("session_id", SECRET),
        ("cookies", {"a": SECRET}),
        ("authorization", f"Bearer {SECRET}"),
        ("credentials", ("ann", SECRET)),
        *((name, SECRET) for name in ("pw", "otp", "pin", "jwt", "bearer", "dsn", "cvv", "card_number", "passcode")),
        ("form", {"user": "ann", "password": SECRET}),
        ("form", {"inner": [{"Password": SECRET}]}),
        ("environ", {"HTTP_COOKIE": f"id={SECRET}", "HTTP_AUTHORIZATION": f"Basic {SECRET}"}),
        ("headers", [("Host", "x"), ("Cookie", f"id={SECRET}")]),
        ("account", Account("ann", SECRET)),
        ("accounts", {1: [Account("ann", SECRET)]}),
        ("thing", SimpleNamespace(token=SECRET)),
        ("body", f"user=ann&password={SECRET}&x=1"),
        ("body", f'{{"user": "ann", "password": "{SECRET}"}}'.encode()),
        ("url", f"https://ann:{SECRET}@db.example/x"),
        ("values", Mapping),
    ],
)
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_secret_by_its_name_is_not_shown(name: str, value: object, accept: str) -> None:
    assert SECRET not in page(raises(**{name: value}), accept=accept)


def test_secret_is_not_shown_under_another_name_or_in_the_message() -> None:
    password = "-".join(["tr0ub4dor", "and", "3"])

    def call() -> NoReturn:
        text, nested = password, {"x": [f"({password})"]}
        raise ValueError(f"{text} {nested}")

    def outer(password: str) -> NoReturn:
        call()

    for accept in ("text/html", "text/plain"):
        text = page(lambda: outer(password), accept=accept)
        assert "ValueError" in text
        assert SECRET not in text


@pytest.mark.parametrize(
    "message",
    [
        "{'user': 'ann', 'password': 'SECRET'}",
        "bad rows: [{'id': 1, 'token': 'SECRET'}]",
        "{'outer': {'api_key': 'SECRET'}}",
        'cannot read {"password": "SECRET"}',
        "login failed: user=ann&password=SECRET&x=1",
        "password: SECRET",
        "MultiDict([('user', 'ann'), ('password', 'SECRET')])",
        "cannot connect to postgres://ann:SECRET@db/shop",
    ],
)
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_secret_in_a_message_is_not_shown(message: str, accept: str) -> None:
    # No variable and no line of the source holds it: what stands before it tells.
    def call() -> NoReturn:
        raise ValueError(message.replace("SECRET", "-".join(["tr0ub4dor", "and", "3"])))

    text = page(call, accept=accept)
    assert "ValueError" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "holder",
    [
        {"password": SECRET},
        {"password": SECRET.encode()},
        {"outer": {"password": SECRET}},
        {"rows": [{"id": 1, "password": SECRET}]},
        [({"password": SECRET},)],
        MultiDict([("password", SECRET)]),
    ],
    ids=lambda holder: f"{type(holder).__name__}-{len(str(holder))}",
)
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_secret_of_a_container_is_not_shown_in_the_message(holder: object, accept: str) -> None:
    def call() -> NoReturn:
        raise ValueError(f"cannot log in with tr0ub4dor{'-and-'}3")

    def outer(values: object) -> NoReturn:
        call()

    assert SECRET not in page(lambda: outer(holder), accept=accept)


class Proxy(Mapping[str, Any]):
    """What `f_locals` gives from Python 3.13 on (PEP 667): no dict."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values_ = values

    def __getitem__(self, name: str) -> Any:
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def test_secret_among_variables_that_are_no_dict_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def proxied(trace: TracebackType | None) -> list[Any]:
        frames = [call.trace.tb_frame for call in calls(trace)]
        return [
            SimpleNamespace(trace=SimpleNamespace(tb_frame=SimpleNamespace(f_locals=Proxy(frame.f_locals))))
            for frame in frames
        ]

    def outer(password: str) -> NoReturn:
        raise ValueError(f"cannot log in with {password}")

    monkeypatch.setattr("wsgi.application.debug.calls", proxied)
    assert SECRET not in page(lambda: outer("-".join(["tr0ub4dor", "and", "3"])), accept="text/plain")


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
@pytest.mark.parametrize("user", ["ann", ""])
def test_basic_credentials_are_not_shown_decoded(accept: str, user: str) -> None:
    # RFC 7617 §2.
    sent = base64.b64encode(f"{user}:{SECRET}".encode()).decode()

    def call() -> NoReturn:
        whole = base64.b64decode(sent).decode()
        last = whole.partition(":")[2]
        raise ValueError(f"no such user: {whole} ({last})")

    text = page(call, accept=accept, HTTP_AUTHORIZATION=f"Basic {sent}")
    assert "no such user" in text
    assert SECRET not in text
    assert sent not in text


@pytest.mark.parametrize("field", ["Basic", "Basic ", "Basic !", "Basic é", "Basic /w==", "Bearer a b c", "x" * 5000])
def test_authorization_that_is_malformed_does_not_break_the_page(field: str) -> None:
    assert "LookupError</h1>" in page(raises(), HTTP_AUTHORIZATION=field)


def test_secret_that_is_a_number_is_not_shown_in_the_message() -> None:
    def outer(token: int) -> NoReturn:
        raise ValueError(f"cannot log in with {token}")

    assert "98765432" not in page(lambda: outer(98765432))


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_secret_of_the_form_is_not_shown(accept: str) -> None:
    own = WSGIApplication(debug=True)

    @own.post("/")
    def login(request: Request) -> str:
        raise ValueError(f"no such user: {request.form['user']} with {request.form['password']}, {request.form!r}")

    client = own.test_client(raise_errors=False)
    text = client.post("/", data={"user": "ann", "password": SECRET}, headers={"Accept": accept}).text
    assert "no such user: ann" in text
    assert SECRET not in text


@pytest.mark.parametrize("password", ["hun@ter2hunter2", "a@b@hunter2", "hunter2@"])
def test_password_of_a_url_may_hold_at_signs(password: str) -> None:
    # RFC 3986 §3.2.1 does not allow it, and people write it.
    text = Redactor().text(f"postgres://ann:{password}@db.example/shop and http://other.example/a@b")
    assert text == f"postgres://{REDACTED}@db.example/shop and http://other.example/a@b"


class Gone(Mapping[str, str]):
    """Like a shelf that is closed, or a row of a database that is away."""

    def __getitem__(self, name: str) -> str:
        raise RuntimeError("away")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("away")

    def __len__(self) -> int:
        return 10**9


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_mapping_that_fails_does_not_hide_the_error(accept: str) -> None:
    text = page(raises(shelf=Gone(), outer={"inner": Gone()}, password=SECRET), accept=accept)
    assert "LookupError" in text
    assert "RuntimeError was raised" not in text
    assert "and then" not in text
    assert SECRET not in text


def test_mapping_that_knows_the_world_is_not_read() -> None:
    read: list[str] = []

    class Database(Gone):
        def __iter__(self) -> Iterator[str]:
            read.append("row")
            return iter(())

    page(raises(database=Database()))
    assert read == []


def test_secrets_of_the_request_are_not_shown() -> None:
    environ = {
        "HTTP_COOKIE": "id=cookie-value-1; theme=cookie-value-2",
        "HTTP_AUTHORIZATION": "Bearer authorization-value",
        "HTTP_X_API_KEY": "api-key-value",
        "HTTP_X_CSRF_TOKEN": "csrf-value",
        "HTTP_PROXY_AUTHORIZATION": "Basic proxy-value",
        "HTTP_REFERER": "https://a.example/?token=referer-value",
        "QUERY_STRING": "access_token=query-value&q=shown-1",
        "HTTP_USER_AGENT": "shown-2",
    }

    def call() -> NoReturn:
        field, local = environ["HTTP_AUTHORIZATION"], "id=cookie-value-1"
        raise ValueError(f"{field} {local}")

    text = page(call, **environ)
    assert "shown-1" in text
    assert "shown-2" in text
    assert "theme" in text
    assert re.findall(r"[a-z]+-value(?:-\d)?", text.replace("cookie-value-1&quot;", "")) == []


def test_environment_of_the_process_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SETTING", "value of the environment")
    assert "value of the environment" not in page(raises())


@pytest.mark.parametrize(
    "name", ["author", "authors", "monitor", "compass", "passed", "number", "pinned", "spin", "cards", "options"]
)
def test_harmless_name_is_shown(name: str) -> None:
    assert shown(name, "Ann") == "<code>&#x27;Ann&#x27;</code>"
    assert not is_sensitive(name)


def failing(error: type[BaseException]) -> object:
    class Failing:
        def __repr__(self) -> str:
            raise error

    return Failing()


class FailingDict(dict[str, str]):
    def items(self) -> NoReturn:
        raise LookupError


@pytest.mark.parametrize("value", [failing(LookupError), failing(RecursionError), FailingDict(a="b")])
def test_value_whose_repr_fails_is_named_by_its_type(value: object) -> None:
    assert re.search(rf"{type(value).__name__} whose repr raised \w+Error", shown("value", value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x" * 10**7, "… (10000000 in all)"),
        (b"x" * 10**7, "… (10000000 in all)"),
        (list(range(10**6)), "… 999980 more]"),
        ({n: n for n in range(10**5)}, "… 99980 more}"),
        ([["x" * 500] * 10] * 10, " characters)"),
        (10**5000, "whose repr raised ValueError"),
    ],
    ids=["text", "bytes", "list", "dict", "nested", "int"],
)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 prints integers of any length")
def test_huge_value_is_cut(value: object, expected: str) -> None:
    text = shown("value", value)
    assert expected.removesuffix("]").removesuffix("}").removesuffix(")") in text or len(text) > 1000
    assert len(text) < 3000


def test_value_that_holds_itself_is_cut() -> None:
    value: list[object] = []
    value.append(value)
    assert shown("value", value) == "<code>[[[[… 1 more]]]]</code>"


def test_containers_look_as_they_do_in_python() -> None:
    value = [(1,), (1, 2), {3}, frozenset({4}), {"a": None}, (), [], {}]
    assert Redactor().value("value", value) == "[(1), (1, 2), {3}, frozenset({4}), {'a': None}, (), [], {}]"


def test_causes_and_contexts_are_shown_the_last_error_first() -> None:
    def call() -> NoReturn:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise LookupError("second")  # noqa: B904 - the context is the point
        except LookupError as error:
            raise ValueError("third") from error

    text = page(call)
    assert re.findall(r'<(?:pre class="message"|p class="link")>(.*?)</', text) == [
        "third",
        "was caused by",
        "second",
        "was raised while this was handled",
        "&#x27;first&#x27;",
    ]
    assert text.count("<h1>") == 1


def test_context_that_was_suppressed_is_not_shown() -> None:
    def call() -> NoReturn:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("seen") from None

    assert page(call).count('<section class="error">') == 1


def test_chain_that_leads_back_to_itself_ends() -> None:
    def call() -> NoReturn:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    assert page(call).count('<section class="error">') == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_group_shows_its_members() -> None:
    def call() -> NoReturn:
        # By its name, for the sake of type checkers on Python 3.10.
        group = getattr(builtins, "ExceptionGroup")  # noqa: B009
        raise group("outer", [OSError("shallow"), group("inner", [KeyError("deep")])])

    text = page(call)
    for part in ("outer", "1 of 2 in this group", "shallow", "2 of 2 in this group", "inner", "1 of 1", "deep"):
        assert part in text


def test_syntax_error_shows_its_place() -> None:
    text = page(lambda: compile("a = 1 +* 2", "settings.py", "exec"))
    for part in ("<h1>SyntaxError</h1>", "settings.py", "line 1", "a = 1 +* 2"):
        assert part in text


def even(number: int) -> int:
    return odd(number + 1)


def odd(number: int) -> int:
    return even(number + 1)


def test_deep_recursion_is_cut() -> None:
    for accept in ("text/html", "text/plain"):
        text = page(lambda: even(0), accept=accept)
        assert "RecursionError" in text
        assert len(text) < 200_000
    assert re.search(r"… \d{3,} more calls …", page(lambda: even(0)))


def test_calls_of_the_application_are_open_and_those_of_libraries_folded() -> None:
    def call() -> None:
        import json

        json.loads("{")

    text = page(call)
    assert re.search(r'<details class="library"><summary>3 library calls, in json', text)
    (opened, *_), folded = re.findall(r'<details class="call" open><summary><b>(.*?)</b>', text), "raw_decode"
    assert opened.endswith("call")
    assert f'<details class="call"><summary><b>JSONDecoder.{folded}</b>' in text or sys.version_info < (3, 11)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know columns")
def test_expression_that_failed_is_marked() -> None:
    def call() -> None:
        zero = 0
        print("größer", 1 / zero)

    assert "<mark>1 / zero</mark>" in page(call)


def test_path_beyond_ascii_is_readable() -> None:
    assert "/größe" in page(raises(), PATH_INFO="/größe".encode().decode("latin-1"))


@pytest.mark.parametrize("environ", [{"QUERY_STRING": "%ff=%ff"}, {"HTTP_ACCEPT": ";;q=,"}, {"PATH_INFO": "/\xff\x00"}])
def test_malformed_request_does_not_break_the_page(environ: dict[str, str]) -> None:
    assert "LookupError" in page(raises(), **environ)


def test_page_that_cannot_be_made_says_so() -> None:
    class Broken(Exception):
        __cause__ = property(lambda self: 1 / 0)

    assert traceback_page(Broken(), Request({}, app)).body.startswith(b"Broken was raised, and then ")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise LookupError


def test_error_without_a_message_that_can_be_printed_is_named() -> None:
    def call() -> NoReturn:
        raise Unprintable

    assert "Unprintable</h1>" in page(call)


def test_error_in_a_template_shows_the_template(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>\n{{ note.text.title }}\n")
    text = page(lambda: Templates(tmp_path).render("page.html", note={"word": "x"}, password=SECRET))
    assert "UndefinedError</h1>" in text
    assert '<li class="current"><mark>{{ note.text.title }}</mark></li>' in text
    assert "{&#x27;word&#x27;: &#x27;x&#x27;}" in text
    assert SECRET not in text


def test_functions_classes_and_modules_do_not_hide_the_variables() -> None:
    text = page(raises(function=page, kind=Account, module=sys, number=77))
    names = re.findall(r'<th scope="row">(\w+)</th>', text)
    assert "number" in names
    assert not {"function", "kind", "module"} & set(names)


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_message_that_has_no_utf8_is_escaped(accept: str) -> None:
    def call() -> NoReturn:
        raise ValueError("\ud800" + chr(0) + "é")

    assert "\\ud800\0é" in page(call, accept=accept)


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_huge_message_is_cut(accept: str) -> None:
    def call() -> NoReturn:
        raise ValueError("x" * 10**7)

    assert len(page(call, accept=accept)) < 300_000


def test_source_that_is_not_there_is_no_trouble() -> None:
    assert "no source" in page(raises(x=1))


def test_local_variables_of_libraries_are_not_shown() -> None:
    text = page(lambda: re.compile("("))
    assert "library calls" in text or "library call" in text
    assert ">pattern<" not in text


def test_redacted_is_marked() -> None:
    assert shown("password", "x") == f"<em>{REDACTED}</em>"
