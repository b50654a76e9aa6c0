"""Header fields, and the grammars that they share (RFC 9110)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Union

__all__ = [
    "EnvironHeaders",
    "Headers",
    "HeadersLike",
    "entity_tags",
    "http_date",
    "is_token",
    "list_items",
    "parse_http_date",
    "parse_options",
    "preferred_coding",
    "preferred_language",
    "preferred_media_type",
]

HeadersLike = Union[Mapping[str, str], Iterable[tuple[str, str]], "Headers"]
"""The types that fields may be given as: a mapping, pairs, or `Headers`."""

# RFC 9110 §5.6.2 and §5.5: a token; any visible character, space and tab.
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
is_token = re.compile(_TOKEN).fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
# RFC 9110 §5.6.4 and §5.6.6: a quoted string, and a parameter with a token or one of these.
_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*(?:"({_QUOTED})(?:"|$)|([^;"]*))').finditer
# A string without the backslash before what it quotes; `re.sub` would call a function for each.
_UNESCAPED = re.compile(r"(?s)\\?(.[^\\]*)").findall
_LIST_ITEM = re.compile(rf'(?:[^,"]+|"{_QUOTED}"?)+').finditer

# What is read of a field. A client sends a tenth of it, and a server may take fields of a megabyte, each byte of which
# would cost time.
_LONGEST_FIELD = 8192  # characters
_MOST_ITEMS = 64  # members of a list
_MOST_PARAMETERS = 32  # of one value
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)").fullmatch


class Headers:
    """The fields of a response, in their order; names are case-insensitive, and may occur several times.

    Not thread-safe; a response belongs to one thread.

    Parameters:
        fields: what to begin with.

    Raises:
        ValueError: a name that is no token, or a value with control characters or beyond latin-1 (RFC 9110 §5). The
            message has the name, never the value.
    """

    __slots__ = ("fields",)

    fields: list[tuple[str, str]]
    """The name-value pairs, as `start_response` takes them."""

    def __init__(self, fields: HeadersLike | None = None) -> None:
        self.fields = []
        if fields is not None:
            for name, value in _pairs(fields):
                self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Adds a field and leaves others of that name alone."""
        self.fields.append(_checked(name, value))

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a name."""
        name = name.lower()
        for field, value in self.fields:
            if field.lower() == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        name = name.lower()
        return [value for field, value in self.fields if field.lower() == name]

    def setdefault(self, name: str, value: str) -> str:
        """The first value of a name, which becomes `value` if there is none."""
        found = self.get(name)
        if found is None:
            self.add(name, value)
            return value
        return found

    def update(self, fields: HeadersLike) -> None:
        """Replaces the fields of the given names; a name given several times gets all its new values."""
        checked = [_checked(name, value) for name, value in _pairs(fields)]
        for name, _ in checked:
            self.discard(name)
        self.fields.extend(checked)

    def discard(self, name: str) -> None:
        """Removes every field of a name, if there is any."""
        name = name.lower()
        self.fields[:] = [pair for pair in self.fields if pair[0].lower() != name]

    def vary(self, *names: str) -> None:
        """Adds request fields that the response depends on to `Vary` (RFC 9110 §12.5.5), each once."""
        standing = [item for value in self.get_all("Vary") for item in list_items(value)]
        known = {item.lower() for item in standing}
        if "*" in known:
            return
        standing += [name for name in names if name.lower() not in known]
        self["Vary"] = ", ".join(standing)

    def items(self) -> list[tuple[str, str]]:
        """All pairs, in order."""
        return list(self.fields)

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, value: str) -> None:
        pair = _checked(name, value)
        lower = name.lower()
        for index, (field, _) in enumerate(self.fields):
            if field.lower() == lower:
                rest = [pair for pair in self.fields[index + 1 :] if pair[0].lower() != lower]
                self.fields[index:] = [pair, *rest]
                return
        self.fields.append(pair)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.discard(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.fields))

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(n.lower(), v) for n, v in self.fields] == [(n.lower(), v) for n, v in other.fields]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # Values may be secrets (cookies), and a repr ends up in logs.
        return f"<Headers {', '.join(self)}>"


def _pairs(fields: HeadersLike) -> Iterable[tuple[str, str]]:
    if isinstance(fields, (Mapping, Headers)):
        return fields.items()
    return fields


def _checked(name: str, value: str) -> tuple[str, str]:
    if not isinstance(name, str) or not is_token(name):
        raise ValueError(f"not the name of a header field: {name!r:.100}")
    if not isinstance(value, str):
        raise ValueError(f"the value of the header field {name} must be str, not {type(value).__name__}")
    if not _VALUE(value):
        raise ValueError(f"the value of the header field {name} holds a control character or one beyond latin-1")
    return name, value


class EnvironHeaders(Mapping[str, str]):
    """The fields of a request, read from a WSGI environ; names are case-insensitive.

    Several fields of a name are one value, joined by commas, as the server joined them (PEP 3333).
    """

    __slots__ = ("_environ",)

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        # `_` and `-` are the same in an environ: a name with `_` is never what a client meant.
        key = name.upper().replace("-", "_")
        if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            value = self._environ.get(key)
            if not value:  # PEP 3333: it may be empty or missing.
                raise KeyError(name)
        else:
            value = self._environ.get(f"HTTP_{key}")
            if value is None:
                raise KeyError(name)
        return str(value)

    def __iter__(self) -> Iterator[str]:
        for key, value in self._environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").title()
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
                yield key.replace("_", "-").title()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<EnvironHeaders {', '.join(self)}>"


def list_items(value: str) -> list[str]:
    """The members of a comma-separated field value (RFC 9110 §5.6.1); commas in quoted strings do not separate.

    Of a longer value the first 64 members within 8192 characters are read.
    """
    found = islice(_LIST_ITEM(_cut(value)), _MOST_ITEMS)
    return [item for item in (match[0].strip() for match in found) if item]


def _cut(value: str) -> str:
    """As much of a list as is read."""
    return value if len(value) <= _LONGEST_FIELD else value[:_LONGEST_FIELD].rpartition(",")[0]


def parse_options(value: str) -> tuple[str, dict[str, str]]:
    """A value and its parameters: `text/html; charset="utf-8"` gives `("text/html", {"charset": "utf-8"})`.

    The value and the parameters' names come in lower case; of a repeated parameter the first counts. Of a longer value
    the first 32 parameters within 8192 characters are read.
    """
    value = value[:_LONGEST_FIELD]
    head, _, _ = value.partition(";")
    options: dict[str, str] = {}
    for match in islice(_PARAMETER(value, len(head)), _MOST_PARAMETERS):
        name, quoted, token = match.groups("")
        options.setdefault(name.lower(), "".join(_UNESCAPED(quoted)) if quoted else token.strip())
    return head.strip().lower(), options


def entity_tags(value: str) -> list[str]:
    """The entity tags of `If-Match` or `If-None-Match` (RFC 9110 §13.1), weak ones with their `W/`, or `["*"]`."""
    return ["*"] if value.strip() == "*" else _ENTITY_TAG.findall(_cut(value))


def http_date(moment: float | datetime | None = None) -> str:
    """An IMF-fixdate (RFC 9110 §5.6.7).

    Parameters:
        moment: seconds since the epoch, or a datetime (one without a zone is UTC); default: now.
    """
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return formatdate(time.time() if moment is None else moment, usegmt=True)


def parse_http_date(value: str) -> float | None:
    """Seconds since the epoch of an HTTP date, or None if it is invalid (RFC 9110 §5.6.7)."""
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


# Content negotiation (RFC 9110 §12.5). Every preference has a weight; an offer gets the weight of the most specific
# preference that matches it; the offer of the greatest weight wins, the first of equals; weight 0 excludes.


# Several offers are compared for one answer, and browsers send the same fields again and again.
@lru_cache(maxsize=64)
def _preferences(field: str) -> tuple[tuple[str, dict[str, str], float], ...]:
    preferences = []
    for item in list_items(field):
        value, options = parse_options(item)
        weight = options.pop("q", "1")
        # Clients name a charset that hardly any type has (`application/json;charset=utf-8`); all is UTF-8 here.
        options.pop("charset", None)
        # A weight that is none cannot be guessed; the preference is passed over.
        if _WEIGHT(weight):
            preferences.append((value, options, float(weight)))
    return tuple(preferences)


def _preferred(field: str, offers: Sequence[str], specificity: Callable[[str, dict[str, str], str], int]) -> str | None:
    preferences = _preferences(_cut(field))
    best, best_weight = None, 0.0
    for offer in offers:
        matches = [(specificity(value, options, offer), weight) for value, options, weight in preferences]
        rank, weight = max(matches, key=lambda match: match[0], default=(0, 0.0))
        if rank and weight > best_weight:
            best, best_weight = offer, weight
    return best


# The offers are an application's own, and few.
_parsed_offer = lru_cache(maxsize=64)(parse_options)


def _media_range(value: str, options: dict[str, str], offer: str) -> int:
    media_type, parameters = _parsed_offer(offer)
    if value == media_type:
        if not options:
            return 3
        return 4 + len(options) if all(parameters.get(k, "").lower() == v.lower() for k, v in options.items()) else 0
    if value == "*/*":
        return 1
    return 2 if value.endswith("/*") and media_type.startswith(value[:-1]) else 0


def preferred_media_type(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offer that a client prefers (RFC 9110 §12.5.1); None if it accepts none.

    Parameters:
        accept: the value of `Accept`; without one, everything is welcome.
        offers: media types, the server's own favourite first.
    """
    if not (accept and accept.strip()):
        return offers[0] if offers else None
    return _preferred(accept, offers, _media_range)


def preferred_coding(accept_encoding: str | None, offers: Sequence[str]) -> str | None:
    """The content coding that a client prefers (RFC 9110 §12.5.3); None if it has to be sent as it is.

    Parameters:
        accept_encoding: the value of `Accept-Encoding`; without one, nothing is encoded.
        offers: content codings, the server's own favourite first.
    """
    if not accept_encoding:
        return None

    def specificity(value: str, options: dict[str, str], offer: str) -> int:
        return 2 if value == offer or (value, offer) == ("x-gzip", "gzip") else int(value == "*")

    return _preferred(accept_encoding, offers, specificity)


def preferred_language(accept_language: str | None, offers: Sequence[str]) -> str | None:
    """The language that a client prefers (RFC 9110 §12.5.4); None if it understands none.

    A preference for `en` matches the offer `en-GB` (RFC 4647 §3.3.1), and one for `en-GB` the offer `en`, less well.

    Parameters:
        accept_language: the value of `Accept-Language`; without one, every language will do.
        offers: language tags, the server's own favourite first.
    """
    if not (accept_language and accept_language.strip()):
        return offers[0] if offers else None

    def specificity(value: str, options: dict[str, str], offer: str) -> int:
        tag = offer.lower()
        if tag == value:
            return 1000
        if tag.startswith(f"{value}-"):
            return 100 + len(value)
        return 2 if value.startswith(f"{tag}-") else int(value == "*")

    return _preferred(accept_language, offers, specificity)
