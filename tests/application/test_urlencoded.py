"""Percent-encoding, there and back: as `urllib.parse` does it, and within a bound."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl, quote

import pytest

from tests.application.switchboard import direct
from wsgi.application import BadRequest, Request, WSGIApplication
from wsgi.application.urlencoded import encoder, split_pairs

PIECES = [
    *"ab=&+% \r\n\0/?",
    "%",
    "%4",
    "%41",
    "%3d",
    "%3D",
    "%26",
    "%25",
    "%0a",
    "%0D",
    "%FF",
    "%c3%A9",
    "%%",
    "é",
    "=",
]


@pytest.mark.parametrize("seed", range(50))
def test_pairs_are_those_of_the_standard_library(seed: int) -> None:
    chosen = random.Random(seed)
    for _ in range(100):
        text = "".join(chosen.choices(PIECES, k=chosen.randrange(20)))
        expected = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
        pairs = split_pairs(text.encode("latin-1"), "it")
        assert [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs] == expected


@pytest.mark.parametrize("safe", ["", "/:@", "%?[]/"])
def test_text_is_encoded_as_by_the_standard_library(safe: str) -> None:
    everything = "".join(map(chr, range(0x180))) + "日本\U0001f600"
    assert encoder(safe)(everything) == quote(everything, safe=safe)
    latin = "".join(map(chr, range(0x100)))
    assert encoder(safe, "latin-1")(latin) == quote(latin, safe=safe, encoding="latin-1")


def test_percent_signs_without_an_escape_are_taken_up_to_a_bound() -> None:
    assert split_pairs(b"a=" + b"%" * 1000, "it") == [(b"a", b"%" * 1000)]
    with pytest.raises(BadRequest, match="the query has more than 1000 percent signs"):
        split_pairs(b"a=" + b"%" * 1001, "the query")


@pytest.mark.parametrize(
    ("path", "options", "status", "detail"),
    [
        ("/query?" + "%" * 1001, {}, 400, "the query has more than 1000 percent signs that begin no escape"),
        ("/form", {"data": {"a": "x"}, "files": {"f": ("a" + ";" * 14, b"")}}, 200, "1"),
        ("/form", {"data": {"a": "x"}, "files": {"f": ("a" + ";" * 15, b"")}}, 413, "more than 16 semicolons"),
    ],
)
def test_refusal_says_what_was_too_much(path: str, options: dict[str, object], status: int, detail: str) -> None:
    app = WSGIApplication()
    app.get("/query")(lambda request: str(len(request.query)))

    @app.post("/form")
    def form(request: Request) -> str:
        return str(len(request.form))

    with direct(app) as client:
        target = path.encode()
        response = client.request(
            "GET" if "?" in path else "POST",
            "/",
            extensions={"target": target},
            **options,  # type: ignore[arg-type]
        )
    assert response.status_code == status
    assert detail in response.text


@pytest.mark.parametrize(("number", "status"), [("1e308", 200), ("-1.5E+0307", 200), ("1e309", 400), ("1E0400", 400)])
@pytest.mark.parametrize("around", ["{}", "[1.5, {}]", '{{"a": "1e999", "b": {}}}'])
def test_number_too_large_for_a_float_is_refused_wherever_it_stands(around: str, number: str, status: int) -> None:
    app = WSGIApplication()
    app.post("/")(lambda request: str(request.json()))
    with direct(app) as client:
        response = client.post("/", content=around.format(number), headers={"Content-Type": "application/json"})
    assert response.status_code == status


@pytest.mark.parametrize(("digits", "status"), [(300, 200), (400, 400)])
def test_number_of_many_digits_is_refused_where_it_is_too_large(digits: int, status: int) -> None:
    app = WSGIApplication()
    app.post("/")(lambda request: str(request.json()))
    with direct(app) as client:
        body = "1" * digits + ".0"
        response = client.post("/", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status
