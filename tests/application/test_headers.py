"""Header fields and the grammars they share (RFC 9110 §5, §12.5)."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from wsgi.application.headers import (
    EnvironHeaders,
    Headers,
    entity_tags,
    http_date,
    list_items,
    parse_http_date,
    parse_options,
    preferred_coding,
    preferred_language,
    preferred_media_type,
)
from wsgi.application.multidict import MultiDict

SECRET = "s3cret"
TOKEN = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters

# Fields of a response.


def test_field_name_is_found_without_regard_to_case() -> None:
    headers = Headers({"Content-Type": "text/plain"})
    assert headers["content-TYPE"] == "text/plain"
    assert "CONTENT-type" in headers
    assert headers.get("X-Missing") is None
    assert headers.get("X-Missing", "other") == "other"


def test_missing_name_raises_key_error_with_the_name() -> None:
    with pytest.raises(KeyError, match="X-Missing"):
        Headers()["X-Missing"]
    with pytest.raises(KeyError, match="X-Missing"):
        del Headers()["X-Missing"]


def test_added_fields_stand_beside_each_other_in_order() -> None:
    headers = Headers([("Set-Cookie", "a=1"), ("X", "1")])
    headers.add("set-cookie", "b=2")
    assert headers.get_all("SET-COOKIE") == ["a=1", "b=2"]
    assert headers["Set-Cookie"] == "a=1"
    assert headers.items() == [("Set-Cookie", "a=1"), ("X", "1"), ("set-cookie", "b=2")]


def test_assignment_replaces_every_field_of_that_name_and_keeps_its_place() -> None:
    headers = Headers([("A", "1"), ("b", "2"), ("a", "3"), ("C", "4")])
    headers["a"] = "new"
    assert headers.get_all("A") == ["new"]
    assert [value for _, value in headers.items()] == ["new", "2", "4"]


def test_deletion_removes_every_field_of_that_name() -> None:
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    del headers["a"]
    assert headers.items() == [("B", "2")]


def test_setdefault_leaves_what_is_there() -> None:
    headers = Headers({"A": "1"})
    headers.setdefault("a", "2")
    headers.setdefault("B", "3")
    assert headers.items() == [("A", "1"), ("B", "3")]


@pytest.mark.parametrize("fields", [{"a": "2", "B": "3"}, [("a", "2"), ("B", "3")], Headers({"a": "2", "B": "3"})])
def test_update_takes_mappings_pairs_and_headers(fields: Any) -> None:
    headers = Headers([("A", "1"), ("A", "0")])
    headers.update(fields)
    assert headers.get_all("A") == ["2"]
    assert headers["b"] == "3"


def test_update_with_a_name_twice_keeps_both_values() -> None:
    headers = Headers({"Set-Cookie": "old=1"})
    headers.update([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_update_that_is_refused_changes_nothing() -> None:
    headers = Headers({"A": "1"})
    with pytest.raises(ValueError, match="header field B"):
        headers.update([("A", "2"), ("B", "\n")])
    assert headers.items() == [("A", "1")]


def test_headers_are_equal_whatever_the_case_of_their_names() -> None:
    assert Headers({"A": "1"}) == Headers([("a", "1")])
    assert Headers({"A": "x"}) != Headers([("a", "X")])


# RFC 9110 §5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
@pytest.mark.parametrize("value", [f"{SECRET}\r\nX: y", f"{SECRET}\n", f"{SECRET}\r", f"{SECRET}\0", f"{SECRET}\x7f"])
@pytest.mark.parametrize("way", ["init", "add", "set", "setdefault", "update"])
def test_value_with_control_character_is_refused_without_being_shown(way: str, value: str) -> None:
    headers = Headers()
    ways: dict[str, Callable[[], object]] = {
        "init": lambda: Headers({"X-Thing": value}),
        "add": lambda: headers.add("X-Thing", value),
        "set": lambda: headers.__setitem__("X-Thing", value),
        "setdefault": lambda: headers.setdefault("X-Thing", value),
        "update": lambda: headers.update({"X-Thing": value}),
    }
    with pytest.raises(ValueError, match="X-Thing") as caught:
        ways[way]()
    assert SECRET not in str(caught.value)
    assert headers.items() == []


def test_value_beyond_latin_1_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="X-Thing") as caught:
        Headers({"X-Thing": f"{SECRET}€"})
    assert SECRET not in str(caught.value)


def test_value_in_latin_1_and_with_tab_is_taken() -> None:
    assert Headers({"X": "a\té"})["x"] == "a\té"


# RFC 9110 §5.1: a field name is a token.
@pytest.mark.parametrize("name", ["", "a b", "a:", "a\n", "é", "a\r\nb", "a\0", "(a)", "a/b", "\u212a"])
def test_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a header field"):
        Headers({name: "x"})


@pytest.mark.parametrize("value", [1, b"x", None, ["x"]])
def test_value_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="X-Thing"):
        Headers({"X-Thing": value})


def test_repr_does_not_show_values() -> None:
    headers = Headers({"Set-Cookie": SECRET})
    assert SECRET not in repr(headers)
    assert "Set-Cookie" in repr(headers)


def test_vary_names_each_field_once() -> None:
    headers = Headers({"Vary": "Accept"})
    headers.vary("accept", "Cookie")
    headers.vary("Cookie")
    assert headers.get_all("Vary") == ["Accept, Cookie"]


def test_vary_star_stays_alone() -> None:
    headers = Headers({"Vary": "*"})
    headers.vary("Cookie")
    assert headers.get_all("Vary") == ["*"]


def test_headers_behave_as_a_list_of_pairs_under_random_operations() -> None:
    random_source = random.Random(9110)
    names = ["Accept", "ACCEPT", "accept", "X-A", "x-a", "B"]
    for _ in range(200):
        headers, model = Headers(), list[tuple[str, str]]()
        for _ in range(30):
            name, value = random_source.choice(names), str(random_source.randrange(100))
            same = [pair for pair in model if pair[0].lower() == name.lower()]
            operation = random_source.choice(["add", "set", "delete", "setdefault", "get"])
            if operation == "add" or (operation == "setdefault" and not same):
                headers.add(name, value) if operation == "add" else headers.setdefault(name, value)
                model.append((name, value))
            elif operation == "set":
                headers[name] = value
                place = model.index(same[0]) if same else len(model)
                model = [pair for pair in model if pair not in same or pair is same[0]] if same else model
                model[place : place + bool(same)] = [(name, value)]
            elif operation == "delete" and same:
                del headers[name]
                model = [pair for pair in model if pair[0].lower() != name.lower()]
            assert headers.get_all(name) == [v for n, v in model if n.lower() == name.lower()]
        assert sorted(headers.items()) == sorted(model)


# Fields of a request.


def test_environ_fields_are_found_by_their_names_without_regard_to_case() -> None:
    headers = EnvironHeaders({"HTTP_X_FORWARDED_FOR": "a", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "3"})
    assert headers["x-forwarded-FOR"] == "a"
    assert headers["Content-Type"] == "text/plain"
    assert headers["content-length"] == "3"
    assert "X-Forwarded-For" in headers
    assert headers.get("Accept") is None


# PEP 3333: CONTENT_TYPE and CONTENT_LENGTH "may be empty or missing".
@pytest.mark.parametrize("environ", [{}, {"CONTENT_TYPE": "", "CONTENT_LENGTH": ""}])
def test_environ_without_content_has_no_content_fields(environ: dict[str, Any]) -> None:
    headers = EnvironHeaders(environ)
    assert "Content-Type" not in headers
    assert "Content-Length" not in headers
    assert list(headers) == []
    assert len(headers) == 0


def test_environ_variables_that_are_no_fields_are_not_shown() -> None:
    headers = EnvironHeaders({"REQUEST_METHOD": "GET", "HTTP_HOST": "a", "wsgi.input": None, "SERVER_NAME": "x"})
    assert dict(headers) == {"Host": "a"}
    with pytest.raises(KeyError, match="Request-Method"):
        headers["Request-Method"]


# Several values of a name.


def test_multi_dict_gives_the_first_value_and_all_values() -> None:
    values = MultiDict([("a", "1"), ("b", "2"), ("a", "3")])
    assert values["a"] == "1"
    assert values.get_all("a") == ["1", "3"]
    assert values.get_all("c") == []
    assert values.get("c") is None
    assert list(values) == ["a", "b"]
    assert dict(values) == {"a": "1", "b": "2"}
    assert len(values) == 2
    with pytest.raises(KeyError, match="c"):
        values["c"]


def test_multi_dict_hands_out_copies() -> None:
    values = MultiDict([("a", "1")])
    values.get_all("a").append("2")
    assert values.get_all("a") == ["1"]


# Grammar.


# RFC 9110 §5.6.1.2: empty elements are to be ignored; commas inside quoted strings do not separate.
@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("", []),
        (",", []),
        (" , ,", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a ,, b ,", ["a", "b"]),
        ('a;x="1,2", b', ['a;x="1,2"', "b"]),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        ('"never closed, b', ['"never closed, b']),
    ],
)
def test_list_is_split_at_commas_outside_of_quotes(value: str, items: list[str]) -> None:
    assert list_items(value) == items


# RFC 9110 §5.6.6, §8.3.1.
@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("", ("", {})),
        ("text/html", ("text/html", {})),
        ("Text/HTML; Charset=UTF-8", ("text/html", {"charset": "UTF-8"})),
        ('text/html;charset="utf-8"', ("text/html", {"charset": "utf-8"})),
        ("text/html ; charset = utf-8 ", ("text/html", {"charset": "utf-8"})),
        (r'form-data; name="a\"b"; filename="c;d.txt"', ("form-data", {"name": 'a"b', "filename": "c;d.txt"})),
        ("a/b; x=1; x=2", ("a/b", {"x": "1"})),
        ("a/b;", ("a/b", {})),
        ("a/b; ;x=1", ("a/b", {"x": "1"})),
        ("a/b; x", ("a/b", {})),
        ('a/b; x=""', ("a/b", {"x": ""})),
    ],
)
def test_parameters_are_read(value: str, parsed: tuple[str, dict[str, str]]) -> None:
    assert parse_options(value) == parsed


def test_random_parameters_survive_the_round_trip() -> None:
    random_source = random.Random(5666)
    printable = [chr(code) for code in (9, *range(0x20, 0x7F), *range(0xA1, 0x100))]
    for _ in range(500):
        options: dict[str, str] = {}
        for _ in range(random_source.randrange(4)):
            name = "".join(random_source.choices(string.ascii_lowercase + string.digits + "-", k=5))
            options[name] = "".join(random_source.choices(printable, k=random_source.randrange(12)))
        written = "a/b"
        for name, option in options.items():
            quoted = option.replace("\\", "\\\\").replace('"', '\\"')
            written += f'; {name}="{quoted}"'
        assert parse_options(written) == ("a/b", options)


def test_random_text_is_parsed_without_failing() -> None:
    random_source = random.Random(9112)
    alphabet = 'ab=;,"\\ \t/*q0.19-W'
    for _ in range(3000):
        text = "".join(random_source.choices(alphabet, k=random_source.randrange(25)))
        list_items(text)
        parse_options(text)
        entity_tags(text)
        preferred_media_type(text, ["a/b", "b/a"])
        preferred_coding(text, ["a"])
        preferred_language(text, ["a-b"])


@pytest.mark.parametrize("piece", ["; ", ";a=", '"', ',"', "\\", ';a="\\', " ", "W/", ";\t;", "a;q=0,"])
@pytest.mark.parametrize("parse", [list_items, parse_options, entity_tags])
def test_long_hostile_value_is_parsed_in_linear_time(parse: Any, piece: str) -> None:
    # 64 KiB is what a server may let through; quadratic time would take minutes and meet the time limit.
    for value in (piece * (65536 // len(piece)), "a" + piece * (65536 // len(piece)), ";a" + " " * 65536):
        parse(value)


# RFC 9110 §8.8.3 and §13.1.
@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("*", ["*"]),
        (" * ", ["*"]),
        ('"a"', ['"a"']),
        ('"a", W/"b"', ['"a"', 'W/"b"']),
        ('"a,b" , "c"', ['"a,b"', '"c"']),
        ('""', ['""']),
        ("a", []),
        ("", []),
    ],
)
def test_entity_tags_are_read(value: str, tags: list[str]) -> None:
    assert entity_tags(value) == tags


# RFC 9110 §5.6.7.
def test_http_date_is_an_imf_fixdate() -> None:
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert http_date(datetime(1994, 11, 6, 8, 49, 37)) == "Sun, 06 Nov 1994 08:49:37 GMT"
    zone = timezone(timedelta(hours=2))
    assert http_date(datetime(1994, 11, 6, 10, 49, 37, tzinfo=zone)) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_each_of_the_three_date_formats_is_read(value: str) -> None:
    assert parse_http_date(value) == 784111777


@pytest.mark.parametrize(
    "value", ["", "x", "0", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 99999999999 08:49:37 GMT"]
)
def test_what_is_no_date_is_none(value: str) -> None:
    assert parse_http_date(value) is None


# Content negotiation: RFC 9110 §12.5.


@pytest.mark.parametrize(
    ("accept", "offers", "best"),
    [
        (None, ["text/html", "application/json"], "text/html"),
        ("", ["text/html"], "text/html"),
        (None, [], None),
        ("*/*", ["text/html", "application/json"], "text/html"),
        ("application/json", ["text/html", "application/json"], "application/json"),
        ("Application/JSON", ["text/html", "application/json"], "application/json"),
        ("text/*", ["application/json", "text/html"], "text/html"),
        ("application/json;q=0.5, text/html;q=0.6", ["application/json", "text/html"], "text/html"),
        ("application/json, text/html", ["text/html", "application/json"], "text/html"),
        # §12.5.1: the most specific range counts, whatever its place and weight.
        ("text/*;q=0.9, text/html;q=0.1, a/b;q=0.5", ["text/html", "a/b"], "a/b"),
        ("*/*, text/html;q=0", ["text/html"], None),
        ("text/html;q=0, */*;q=0.1", ["text/html", "text/plain"], "text/plain"),
        # The example of §12.5.1.
        ("text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5",
         ["text/html", "image/jpeg"], "image/jpeg"),
        ("text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5",
         ["text/plain;format=fixed", "text/plain", "text/plain;format=flowed"], "text/plain;format=flowed"),
        ("image/png", ["text/html"], None),
        ("text/html;level=1", ["text/html"], None),
        ("text/html;level=1;q=0.2, text/html;q=0.1, a/b;q=0.15", ["text/html;level=1", "a/b"], "text/html;level=1"),
        ("text/html;q=1.000", ["text/html"], "text/html"),
        ("text/html;q=0.000", ["text/html"], None),
        (",,text/html ,", ["text/html"], "text/html"),
        ("text/html;Q=0.1, a/b;q=0.2", ["text/html", "a/b"], "a/b"),
        # RFC 8259 §11: JSON has no charset, and clients say one all the same.
        ("application/json;charset=utf-8", ["text/html", "application/json"], "application/json"),
        ("application/json; charset=UTF-8; q=0.5, text/html;q=0.1", ["text/html", "application/json"],
         "application/json"),
        ("text/html;charset=utf-8;level=1", ["text/html"], None),
        # What browsers send.
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ["application/json", "text/html"],
         "text/html"),
    ],
)  # fmt: skip
def test_media_type_is_chosen_by_specificity_and_weight(
    accept: str | None, offers: list[str], best: str | None
) -> None:
    assert preferred_media_type(accept, offers) == best


@pytest.mark.parametrize("weight", ["2", "-1", "x", "", "0.1234", "1.1", "nan", "inf", "1e0"])
def test_malformed_weight_does_not_win(weight: str) -> None:
    assert preferred_media_type(f"a/b;q={weight}, c/d;q=0.1", ["a/b", "c/d"]) == "c/d"


@pytest.mark.parametrize(
    ("accept", "offers", "best"),
    [
        (None, ["gzip"], None),
        ("", ["gzip"], None),
        ("gzip", ["gzip"], "gzip"),
        ("GZIP", ["gzip"], "gzip"),
        ("x-gzip", ["gzip"], "gzip"),
        ("*", ["gzip"], "gzip"),
        ("*;q=0.5, gzip;q=0", ["gzip", "br"], "br"),
        ("gzip;q=0", ["gzip"], None),
        ("br;q=0.5, gzip;q=0.8", ["br", "gzip"], "gzip"),
        ("identity", ["gzip"], None),
        ("deflate, br", ["gzip"], None),
    ],
)
def test_coding_is_chosen_by_weight(accept: str | None, offers: list[str], best: str | None) -> None:
    assert preferred_coding(accept, offers) == best


@pytest.mark.parametrize(
    ("accept", "offers", "best"),
    [
        (None, ["de", "en"], "de"),
        ("en", ["de", "en"], "en"),
        ("en", ["de", "en-GB"], "en-GB"),
        ("EN-gb", ["de", "en-GB"], "en-GB"),
        ("en-US, de;q=0.5", ["de", "en"], "en"),
        ("da, en-gb;q=0.8, en;q=0.7", ["en-US", "en-GB", "fr"], "en-GB"),
        ("de;q=0, *", ["de", "fr"], "fr"),
        ("es", ["de"], None),
        ("d", ["de"], None),
    ],
)
def test_language_is_chosen_by_weight_and_range(accept: str | None, offers: list[str], best: str | None) -> None:
    assert preferred_language(accept, offers) == best
