"""The exceptions: one family, public names, what each is besides."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.support import serve
from wsgi import errors
from wsgi.errors import BindError, WSGIServerError

ALSO: dict[str, type[Exception]] = {
    "BindError": OSError,
    "BodyTimeout": TimeoutError,
    "ClientDisconnected": ConnectionError,
    "ConfigError": ValueError,
    "HookError": WSGIServerError,
    "LoadError": WSGIServerError,
    "MalformedBody": OSError,
    "RequestBodyError": OSError,
    "StartupError": WSGIServerError,
    "WSGIServerError": Exception,
}


def test_errors_public_names_are_these() -> None:
    assert errors.__all__ == sorted([*ALSO, "RequestTimeout"])


def test_request_timeout_is_no_exception_that_applications_catch() -> None:
    error = errors.RequestTimeout()
    assert not isinstance(error, Exception)
    assert str(error) == "the request took longer than request_timeout"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(("name", "base"), ALSO.items())
def test_error_is_of_the_family_and_of_its_built_in_kind(name: str, base: type[Exception]) -> None:
    error = getattr(errors, name)("what is wrong")
    assert isinstance(error, WSGIServerError)
    assert isinstance(error, base)
    assert str(error) == "what is wrong"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))


@pytest.mark.parametrize("number", [98, None])
def test_bind_error_says_its_line_and_keeps_the_number(number: int | None) -> None:
    error = pickle.loads(pickle.dumps(BindError("port 8000 is in use", number)))
    assert (str(error), error.errno, error.strerror) == ("port 8000 is in use", number, "port 8000 is in use")


# What is no UTF-8 on a command line is there as lone surrogates.
@pytest.mark.parametrize("option", [{"access_log": "-", "access_log_format": "\udcff"}, {"bind": ["unix:/\udcff"]}])
def test_option_that_is_no_utf_8_is_named_without_the_text_of_a_codec(option: dict[str, Any]) -> None:
    with (
        pytest.raises(ValueError, match=r"^[a-z_]+ must be UTF-8 text, not "),
        serve(lambda environ, start_response: [], **option),
    ):
        pass
