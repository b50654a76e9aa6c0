"""Pages from templates."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import jinja2
import pytest

from wsgi.application import Request, Response, WSGIApplication
from wsgi.application.middleware import CSRFMiddleware, SessionMiddleware
from wsgi.application.templates import Templates

app = WSGIApplication(middleware=[SessionMiddleware("a key for the tests, of 32 bytes"), CSRFMiddleware()])
pages = Templates([], app=app)
pages.environment.loader = jinja2.DictLoader(
    {
        "greet.html": "<p>{{ name }} <a href=\"{{ url_for('greet', name=name) }}\">{{ request.method }}</a>",
        "form.html": '<input name="csrf_token" value="{{ csrf_token() }}">',
    }
)


@app.get("/greet/<name>")
def greet(request: Request, name: str) -> Response:
    return pages.response(request, "greet.html", name=name, status=203, headers={"X-A": "b"})


@app.route("/form", methods=["GET", "POST"])
def form(request: Request) -> Response:
    return pages.response(request, "form.html")


def test_page_knows_request_and_escapes(client: httpx.Client) -> None:
    response = client.get("/greet/<b>")
    assert (response.status_code, response.headers["X-A"]) == (203, "b")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.text == '<p>&lt;b&gt; <a href="/greet/%3Cb%3E">GET</a>'


def test_form_with_the_token_of_its_page_is_taken(client: httpx.Client) -> None:
    token = client.get("/form").text.partition('value="')[2].removesuffix('">')
    assert client.post("/form", data={"csrf_token": token}).status_code == 200


def templates(directory: Path, **files: str) -> Templates:
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return Templates(directory)


def test_url_has_the_path_that_the_application_is_mounted_at() -> None:
    assert 'href="/shop/greet/Ann"' in app.test_client(root_path="/shop").get("/greet/Ann").text


@pytest.mark.parametrize("name", ["a_html", "a_htm", "a_xml", "a_svg", "a_html_j2", "A_HTML"])
def test_markup_is_escaped(tmp_path: Path, name: str) -> None:
    assert templates(tmp_path, **{name: "{{ x }}"}).render(name.replace("_", "."), x="<&'") == "&lt;&amp;&#39;"


def test_text_is_not_escaped(tmp_path: Path) -> None:
    assert templates(tmp_path, a_txt="{{ x }}").render("a.txt", x="<&") == "<&"


def test_template_from_a_string_is_escaped(tmp_path: Path) -> None:
    assert Templates(tmp_path).environment.from_string("{{ x }}").render(x="<") == "&lt;"


def test_missing_variable_is_an_error(tmp_path: Path) -> None:
    pages = templates(tmp_path, a_html="{{ nam }}", b_html="{% if nam is defined %}x{% endif %}{{ nam|default('?') }}")
    with pytest.raises(jinja2.UndefinedError, match="'nam' is undefined"):
        pages.render("a.html", name="Ann")
    assert pages.render("b.html") == "?"


def test_missing_template_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(jinja2.TemplateNotFound, match=r"a\.html"):
        Templates(tmp_path).render("a.html")


@pytest.mark.parametrize("name", ["../a.html", "/etc/hostname", "x/../../a.html"])
def test_template_outside_the_directory_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.html").write_text("secret")
    (tmp_path / "inner").mkdir()
    with pytest.raises(jinja2.TemplateNotFound):
        Templates(tmp_path / "inner").render(name)


def test_several_directories_are_searched_in_order(tmp_path: Path) -> None:
    for place in ("own", "shared"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.html").write_text(place)
    (tmp_path / "shared" / "b.html").write_text("b")
    pages = Templates([tmp_path / "own", tmp_path / "shared"])
    assert (pages.render("a.html"), pages.render("b.html")) == ("own", "b")


def test_variables_may_have_any_name_and_win_over_the_mapping(tmp_path: Path) -> None:
    pages = templates(tmp_path, a_html="{{ name }} {{ self_ }} {{ b }}")
    request = Request({}, app)
    response = pages.response(request, "a.html", {"name": "x", "b": 1}, name="Ann", self_="s")
    assert response.body == b"Ann s 1"


def test_globals_are_known_everywhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{{ site }}")
    assert Templates(tmp_path, globals={"site": "Notes"}).render("a.html") == "Notes"


def test_url_without_request_is_that_of_the_application(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{{ url_for('greet', name='Ann') }}")
    assert Templates(tmp_path, app=app).render("a.html") == "/greet/Ann"
    with pytest.raises(RuntimeError, match="url_for needs a request"):
        Templates(tmp_path).render("a.html")


def test_token_without_request_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="csrf_token needs a request"):
        templates(tmp_path, a_html="{{ csrf_token() }}").render("a.html")


@pytest.mark.parametrize(
    ("app", "reloads"), [(WSGIApplication(debug=True), True), (WSGIApplication(), False), (None, True)]
)
def test_changed_templates_are_read_again_in_debug_mode(
    tmp_path: Path, app: WSGIApplication | None, reloads: bool
) -> None:
    assert Templates(tmp_path, app=app).environment.auto_reload is reloads


def test_missing_jinja_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"pip install 'wsgi-server\[templates\]'"):
        Templates(tmp_path)
