"""Formats values for the debug page: short, without raising, and without values whose names mark them as secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

__all__ = ["REDACTED", "Redactor", "is_sensitive", "is_surely_secret"]

REDACTED = "[redacted]"

_SURE = (
    r"passw(?:or)?d|pass_?(?:phrase|code)|(?<![a-z])(?:pass|pw|otp|pin|cvv|dsn|card)(?![a-z])|pwd|secret|token|credential|bearer|jwt|credit_?card"
    r"|(?:api|private|signing)[_-]?key"
)
# `author` is none of them, `authorization` is.
_SENSITIVE = rf"{_SURE}|key|cookie|session|csrf|signature|auth(?!or(?!i))"

_LONGEST = 1000  # characters of one value
_READ = 4 * _LONGEST  # what is looked at: secrets are taken out before the rest is cut
_MOST = 20  # members of a container
_DEEPEST = 3  # containers inside one another
_SHORTEST_SECRET = 6  # characters; shorter text is part of many words

_PAIR = re.compile(
    # `password='x'`, `"token": "x"`, `('Cookie', 'x')`, `secret=x&`
    rf"""((?:{_SENSITIVE})[\w.-]{{0,40}}(?:['"]?\s*[=:]|['"]\s*,)\s*)"""
    r"""([bru]{0,2}'(?:\\.|[^'\\])*'?|[bru]{0,2}"(?:\\.|[^"\\])*"?|[^\s,;&)\]}>]+)""",
    re.IGNORECASE,
)
_CREDENTIALS_OF_URL = re.compile(r"(?<=://)[^/\s'\"]+(?=@)")

is_sensitive: Callable[[str], object] = re.compile(_SENSITIVE, re.IGNORECASE).search
"""Whether something of this name may be a secret."""

is_surely_secret: Callable[[str], object] = re.compile(_SURE, re.IGNORECASE).search
"""Whether a value of this name is a secret in any context; `key` alone may be that of a dictionary."""


class Redactor:
    """Turns values into text.

    Parameters:
        secrets: values that must not be shown under any name. Those of less than six characters cannot be told from
            the text around them.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        found |= {repr(secret)[1:-1] for secret in found}
        longest_first = sorted(found, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if found else None

    def text(self, text: str) -> str:
        """Text without the secrets that are known."""
        text = _CREDENTIALS_OF_URL.sub(REDACTED, text)
        return text if self._secrets is None else self._secrets.sub(REDACTED, text)

    def data(self, text: str) -> str:
        """Text without known secrets, and without the values of `password=…` and the like."""
        return _PAIR.sub(rf"\1{REDACTED}", self.text(text))

    def value(self, name: str, value: object) -> str:
        """The repr of what has that name, cut where it is long; never fails."""
        if is_sensitive(name):
            return REDACTED
        text = self._shown(value, _DEEPEST)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"

    def _shown(self, value: Any, depth: int) -> str:
        try:
            if isinstance(value, (str, bytes, bytearray)):
                return self.data(repr(value[:_READ])) + (f"… ({len(value)} in all)" if len(value) > _READ else "")
            most = _MOST if depth > 0 else 0
            if isinstance(value, dict):
                members = [
                    f"{self._shown(key, depth - 1)}: {self._member(key, member, depth)}"
                    for key, member in islice(value.items(), most)
                ]
                prefix = "" if type(value) is dict else type(value).__name__
                return f"{prefix}{{{_joined(members, len(value))}}}"
            if type(value) in _BRACKETS:
                opening, closing = _BRACKETS[type(value)]
                if most and type(value) is tuple and len(value) == 2:
                    members = [self._shown(value[0], depth - 1), self._member(value[0], value[1], depth)]
                else:
                    members = [self._shown(member, depth - 1) for member in islice(value, most)]
                return f"{opening}{_joined(members, len(value))}{closing}"
            return self.data(repr(value)[:_READ])
        except Exception as error:
            return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"

    def _member(self, name: object, value: object, depth: int) -> str:
        return REDACTED if isinstance(name, str) and is_sensitive(name) else self._shown(value, depth - 1)


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def _joined(members: list[str], size: int) -> str:
    return ", ".join([*members, f"… {size - len(members)} more"] if size > len(members) else members)
