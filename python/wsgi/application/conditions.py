"""Conditional and range requests, evaluated for a file (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
import time
from typing import Any

from wsgi.application.headers import entity_tags, list_items, parse_http_date

__all__ = ["evaluate", "if_range", "wanted_range"]

# RFC 9110 §14.1.2: first and last position, or how many from the end.
_RANGE = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)").fullmatch


def evaluate(environ: dict[str, Any], etag: str | None, changed: str | None) -> int:
    """The result of the conditions of a GET or HEAD: 200, 304 or 412 (RFC 9110 §13.2.2, steps 1 to 4)."""
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:
        # RFC 9110 §13.1.1: the strong comparison.
        tags = entity_tags(if_match)
        if tags != ["*"] and (etag is None or etag.startswith("W/") or etag not in tags):
            return 412
    elif _is_newer(changed, environ.get("HTTP_IF_UNMODIFIED_SINCE")) is True:
        return 412
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:
        # RFC 9110 §13.1.2: the weak comparison.
        tags = entity_tags(if_none_match)
        if tags == ["*"] or (etag is not None and _opaque(etag) in map(_opaque, tags)):
            return 304
    elif _is_newer(changed, environ.get("HTTP_IF_MODIFIED_SINCE")) is False:
        return 304
    return 200


def _is_newer(changed: str | None, than: str | None) -> bool | None:
    """Whether one date is after another; None, which decides nothing, if one of them is missing or no date."""
    if not changed or not than:
        return None
    moment, limit = parse_http_date(changed), parse_http_date(than)
    return None if moment is None or limit is None else moment > limit


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def if_range(environ: dict[str, Any], etag: str | None, changed: str | None) -> bool:
    """Whether a range may be sent: the client's part is of this very file (RFC 9110 §13.1.5)."""
    value = environ.get("HTTP_IF_RANGE")
    if value is None:
        return True
    value = value.strip()
    if value.startswith(('"', "W/")):
        return bool(value == etag and not value.startswith("W/"))
    moment = parse_http_date(changed) if changed else None
    # RFC 9110 §8.8.2.2: a date distinguishes two versions only after its second is over.
    return moment is not None and parse_http_date(value) == moment and moment + 1 <= time.time()


def wanted_range(field: str, size: int) -> tuple[int, int] | None:
    """The part that a `Range` field asks for (RFC 9110 §14.1.2, §14.2); None: everything is to be sent.

    It goes from its first position to the one behind its last; there is nothing between them if it cannot be had.

    Several ranges are answered with everything, as the RFC permits: they cost more than they save. So is any range of
    an empty file, of which no part can be named.
    """
    unit, equals, ranges = field.partition("=")
    if not equals or unit.strip().lower() != "bytes" or not size:
        return None
    items = list_items(ranges)
    match = _RANGE(items[0]) if len(items) == 1 else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(0, size - _number(suffix)), size
    start = _number(first)
    if last and _number(last) < start:
        return None
    return start, min(_number(last) + 1, size) if last else size


def _number(digits: str) -> int:
    # No file size has more than 19 digits, and int() refuses thousands of digits.
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else 10**19
