r"""Reads a file of environment variables: the option `env_file`.

    # a comment
    DATABASE_URL=postgresql://db/site     # a comment behind a value begins with a space
    export TITLE="two words\nand a second line"
    PATTERN='taken as it is: \n $HOME'

A value is one line. Within double quotes `\n`, `\r`, `\t`, `\\`, `\"` and `\$` are escapes. Everything else stands for
itself: variables are not expanded.
"""

from __future__ import annotations

import re

from wsgi.errors import ConfigError

__all__ = ["read_env_file"]

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE_QUOTED = re.compile("'([^']*)'")
_COMMENT = re.compile(r"[ \t]#.*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def read_env_file(path: str, origin: str) -> dict[str, str]:
    """Reads the variables of a file. The last one of a name counts.

    Parameters:
        path: the file, in UTF-8.
        origin: what named it, for messages.

    Raises:
        ConfigError: the file cannot be read, or a line is wrong; the message has no text of the file, which may be a
            secret.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigError(f"env_file: cannot read {path!r} (from {origin}): {error.strerror}") from None
    variables = {}
    # Some editors put a byte order mark first.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            variable = _parse(line)
        except ValueError as problem:
            raise ConfigError(f"env_file: {path}:{number}: {problem} (from {origin})") from None
        if variable is not None:
            variables[variable[0]] = variable[1]
    return variables


def _parse(line: bytes) -> tuple[str, str] | None:
    """Gives name and value; None for an empty line or a comment."""
    try:
        text = line.decode("utf-8").strip(" \t\r")
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8 text") from None
    if not text or text.startswith("#"):
        return None
    if "\0" in text:
        raise ValueError("the line has a NUL character")
    name, equals, value = re.sub("^export[ \t]+", "", text).partition("=")
    if not equals:
        raise ValueError("the line is not KEY=VALUE")
    if not _NAME.fullmatch(name):
        raise ValueError("the name before = must consist of letters, digits and _, without a space")
    return name, _value(value)


def _value(text: str) -> str:
    if not text.lstrip(" \t").startswith(("'", '"')):
        # Before the spaces are removed: a # directly behind = is part of the value.
        return _COMMENT.sub("", text).strip(" \t")
    text = text.lstrip(" \t")
    is_double = text.startswith('"')
    found = (_DOUBLE_QUOTED if is_double else _SINGLE_QUOTED).match(text)
    if found is None:
        raise ValueError("the quote has no end in its line")
    if _COMMENT.sub("", text[found.end() :]).strip(" \t"):
        raise ValueError("there is text behind the closing quote")
    value = found[1]
    return re.sub(r"\\([nrt\\\"$])", lambda escape: _ESCAPES.get(escape[1], escape[1]), value) if is_double else value
