"""Cookies, read leniently and written strictly (RFC 6265)."""

from __future__ import annotations

import random
import string
from datetime import datetime, timezone
from http.cookies import SimpleCookie
from typing import Any

import pytest

from wsgi.application.cookies import format_cookie, parse_cookies

SECRET = "s3cret"
OCTETS = [chr(code) for code in range(0x21, 0x7F) if chr(code) not in '",;\\']

# Reading: RFC 6265 §5.4 and §4.2.


@pytest.mark.parametrize(
    ("field", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        ("a=1 ;\tb=2 ", {"a": "1", "b": "2"}),
        (";;a=1;;", {"a": "1"}),
        ("a=", {"a": ""}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a", {}),
        ("a; b=2", {"b": "2"}),
        ("=x; b=2", {"b": "2"}),
        ("=", {}),
        ('a="1"', {"a": "1"}),
        ('a=""', {"a": ""}),
        ('a="', {"a": '"'}),
        ('a="1; b=2"', {"a": '"1', "b": '2"'}),
        # §5.4: the cookie with the longer path stands first, so the first counts.
        ("a=1; a=2", {"a": "1"}),
        ("A=1; a=2", {"A": "1", "a": "2"}),
        # No member is special to a reader, whatever SimpleCookie believes.
        ("$Version=1; a=2; Path=/x", {"$Version": "1", "a": "2", "Path": "/x"}),
        ("a=1, b=2", {"a": "1, b=2"}),
        ("a{=1; b=2", {"a{": "1", "b": "2"}),
        ("a=x y; b=2", {"a": "x y", "b": "2"}),
        # PEP 3333 gives bytes as latin-1; what clients send is UTF-8.
        ("a=\xc3\xa9", {"a": "é"}),
        ("a=\xe9", {"a": "\ufffd"}),
    ],
)
def test_cookie_field_is_read_leniently(field: str, cookies: dict[str, str]) -> None:
    assert parse_cookies(field) == cookies


def test_random_cookies_survive_the_round_trip() -> None:
    random_source = random.Random(6265)
    names = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
    for _ in range(500):
        cookies = {
            "".join(random_source.choices(names, k=random_source.randint(1, 8))): "".join(
                random_source.choices(OCTETS, k=random_source.randrange(20))
            )
            for _ in range(random_source.randrange(6))
        }
        pairs = [format_cookie(name, value, path=None, same_site=None) for name, value in cookies.items()]
        assert parse_cookies("; ".join(pairs)) == cookies


def test_random_text_is_read_without_failing() -> None:
    random_source = random.Random(6266)
    alphabet = 'ab=;," \t\\\0\x7f\xff\xc3\xa9'
    for _ in range(5000):
        text = "".join(random_source.choices(alphabet, k=random_source.randrange(30)))
        for name, value in parse_cookies(text).items():
            assert name
            assert ";" not in name + value


def test_every_split_of_a_field_is_read_as_its_parts() -> None:
    # Whatever stands on either side of a semicolon, the sides do not touch each other.
    field = 'a=1; b="2"; c; =d; e==; f=\xc3\xa9'
    for index in (place for place, character in enumerate(field) if character == ";"):
        left, right = parse_cookies(field[:index]), parse_cookies(field[index + 1 :])
        assert {**right, **left} == parse_cookies(field)


@pytest.mark.parametrize("piece", [";", "a=;", "=", " ", 'a="', "a=1; "])
def test_long_hostile_field_is_read_in_linear_time(piece: str) -> None:
    parse_cookies(piece * (65536 // len(piece)))


# Writing: RFC 6265 §4.1.1, and RFC 6265bis for SameSite, the prefixes and Partitioned.


def test_cookie_without_options_has_safe_defaults() -> None:
    assert format_cookie("a", "1") == "a=1; Path=/; SameSite=Lax"


def test_cookie_with_every_attribute_says_them_all() -> None:
    written = format_cookie(
        "a",
        "1",
        max_age=60,
        expires=datetime(1994, 11, 6, 8, 49, 37, tzinfo=timezone.utc),
        path="/x",
        domain="example.com",
        secure=True,
        http_only=True,
        same_site="None",
        partitioned=True,
    )
    head, *attributes = written.split("; ")
    assert head == "a=1"
    assert sorted(attributes) == sorted(
        [
            "Max-Age=60",
            "Expires=Sun, 06 Nov 1994 08:49:37 GMT",
            "Path=/x",
            "Domain=example.com",
            "Secure",
            "HttpOnly",
            "SameSite=None",
            "Partitioned",
        ]
    )


def test_cookie_is_understood_by_the_standard_library() -> None:
    morsel = SimpleCookie(format_cookie("a", "1", max_age=5, http_only=True, secure=True, same_site="Strict"))["a"]
    assert (morsel.value, morsel["max-age"], morsel["samesite"]) == ("1", "5", "Strict")
    assert morsel["secure"]
    assert morsel["httponly"]


def test_max_age_of_zero_is_said() -> None:
    assert "Max-Age=0" in format_cookie("a", max_age=0)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "a,b", "é", "a\n", "a\r\nSet-Cookie: x", '"a"', "a\0"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a cookie"):
        format_cookie(name, "1")


@pytest.mark.parametrize("end", [" ", ";", ",", '"', "\\", "\n", "\r\nX: y", "\0", "\x7f", "é", "€"])
def test_bad_value_is_refused_without_being_shown(end: str) -> None:
    with pytest.raises(ValueError, match="thing") as caught:
        format_cookie("thing", SECRET + end)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("attribute", ["path", "domain"])
@pytest.mark.parametrize("value", ["/; HttpOnly", "/\n", "/\r\nX: y", "/\0", "/é"])
def test_bad_attribute_is_refused(attribute: str, value: str) -> None:
    options: dict[str, Any] = {attribute: value}
    with pytest.raises(ValueError, match=attribute):
        format_cookie("a", "1", **options)


@pytest.mark.parametrize("same_site", ["lax", "", "None; Secure", "strict"])
def test_unknown_same_site_is_refused(same_site: Any) -> None:
    with pytest.raises(ValueError, match="same_site"):
        format_cookie("a", "1", same_site=same_site)


# Browsers drop these without a word.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a", {"same_site": "None"}),
        ("a", {"partitioned": True}),
        ("__Secure-a", {}),
        ("__Host-a", {}),
        ("__Host-a", {"secure": True, "path": "/x"}),
        ("__Host-a", {"secure": True, "domain": "example.com"}),
    ],
)
def test_cookie_that_browsers_would_drop_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the cookie"):
        format_cookie(name, "1", **options)


def test_cookies_with_prefixes_that_keep_their_promise_are_written() -> None:
    assert format_cookie("__Host-a", "1", secure=True).startswith("__Host-a=1; Path=/; Secure")
    assert format_cookie("__Secure-a", "1", secure=True, path="/x").startswith("__Secure-a=1; Path=/x; Secure")
