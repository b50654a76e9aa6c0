"""The page about an error."""

from __future__ import annotations

import contextlib
import linecache
import os
import platform
import traceback
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby, islice
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType

from wsgi.application.debug.frames import MOST_CALLS, calls, chain, ends, group
from wsgi.application.debug.redaction import REDACTED, Redactor, is_sensitive
from wsgi.application.debug.style import STYLE
from wsgi.application.request import Request

__all__ = ["page", "report"]

_AROUND = 5  # lines of source before and after the one that runs
_MOST_LOCALS = 40
_LONGEST_MESSAGE = 4000  # characters
_LONGEST_REPORT = 200_000  # characters, the last ones


def report(error: BaseException, request: Request, redactor: Redactor) -> str:
    """The report as text; of a deep traceback, the innermost calls."""
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-MOST_CALLS)
    # Source lines have the names of values, messages may have the values.
    shown = (redactor.text(line) if _is_call(line) else redactor.data(line) for line in lines)
    return f"{request.method} {_path(request, redactor)}\n\n{''.join(shown)[-_LONGEST_REPORT:]}"


def _is_call(line: str) -> bool:
    # In an exception group, bars precede it.
    return line.lstrip(" |").startswith("File ")


def page(error: BaseException, request: Request, redactor: Redactor) -> str:
    """The report as self-contained HTML."""
    name, path = escape(type(error).__qualname__), escape(_path(request, redactor))
    route = f" · route <b>{escape(request.route)}</b>" if request.route else ""
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name} at {path}</title><style>{STYLE}</style></head><body>",
            f'<p class="request"><b>{escape(request.method)}</b> {path}{route}</p>',
            *_errors(error, redactor, set()),
            *_request(request, redactor),
            '<details class="plain"><summary>As text</summary>',
            f"<pre>{escape(report(error, request, redactor))}</pre></details>",
            f"<footer>Python {escape(platform.python_version())} · This page is shown because the application runs with"
            " <code>debug=True</code>, which is for development alone.</footer></body></html>",
        )
    )


def _path(request: Request, redactor: Redactor) -> str:
    return redactor.text(request.path)


def _errors(error: BaseException, redactor: Redactor, seen: set[int]) -> Iterator[str]:
    """An error, those before it, and those inside it."""
    for link, following in chain(error, seen):
        if link:
            yield f'<p class="link">{link}</p>'
        yield from ('<section class="error">', _heading(following, redactor, 1 if len(seen) == 1 else 2))
        yield from _traceback(following.__traceback__, redactor)
        members = group(following)
        for number, member in enumerate(members, 1):
            if inside := "".join(_errors(member, redactor, seen)):
                yield f'<details class="member" open><summary>{number} of {len(members)} in this group</summary>'
                yield f"{inside}</details>"
        yield "</section>"


def _heading(error: BaseException, redactor: Redactor, level: int) -> str:
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    # The interpreter's formatting includes the location of a SyntaxError and notes, and handles messages that raise.
    message = "".join(traceback.format_exception_only(kind, error)).strip()
    message = message.removeprefix(name).removeprefix(":").strip()
    # Cut after the secrets are out, for half a secret is not known as one.
    message = redactor.data(message[: 10 * _LONGEST_MESSAGE])
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}…"
    return f'<h{level}>{escape(name)}</h{level}><pre class="message">{escape(message)}</pre>'


def _traceback(trace: TracebackType | None, redactor: Redactor) -> Iterator[str]:
    first, left_out, last = ends(calls(trace))
    places: set[tuple[object, int]] = set()  # what recursion comes back to is opened once
    for part in (first, last):
        for is_library, run in groupby(part, key=lambda call: call.is_library):
            traces = [call.trace for call in run]
            if is_library:
                count = f"{len(traces)} library calls" if len(traces) > 1 else "1 library call"
                yield f'<details class="library"><summary>{count}, in {escape(_module(traces[0]))}</summary>'
                yield from (_call(trace, redactor) for trace in traces)
                yield "</details>"
            else:
                for trace in traces:
                    variables = _locals(trace, redactor, is_open=not places)
                    place = (trace.tb_frame.f_code, trace.tb_lineno)
                    yield _call(trace, redactor, variables, is_open=place not in places)
                    places.add(place)
        if left_out and part is first:
            yield f'<p class="left-out">… {left_out} more calls …</p>'


def _module(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", trace.tb_frame.f_code.co_filename))


def _call(trace: TracebackType, redactor: Redactor, variables: str = "", *, is_open: bool = False) -> str:
    directory, name = os.path.split(_short(trace.tb_frame.f_code.co_filename))
    return (
        f'<details class="call"{" open" * is_open}><summary><b>{escape(_name(trace))}</b> <span class="place">'
        f"{escape(os.path.join(directory, ''))}<i>{escape(name)}:{trace.tb_lineno}</i></span></summary>"
        f"{_source(trace, redactor)}{variables}</details>"
    )


def _name(trace: TracebackType) -> str:
    code = trace.tb_frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11
    # Jinja renames what it makes of a template, and leaves the long name.
    return name if name.endswith(code.co_name) else code.co_name


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def _source(trace: TracebackType, redactor: Redactor) -> str:
    filename, current = trace.tb_frame.f_code.co_filename, trace.tb_lineno or 0
    lines: list[str] = []
    with contextlib.suppress(Exception):  # a custom loader may raise
        linecache.checkcache(filename)
        lines = linecache.getlines(filename, trace.tb_frame.f_globals)
    first = max(1, current - _AROUND)
    shown = []
    for number, line in enumerate(map(str.rstrip, lines[first - 1 : current + _AROUND]), first):
        if number != current:
            shown.append(f"<li>{escape(redactor.text(line))}</li>")
            continue
        start, end = _columns(trace, line)
        before, culprit, after = (escape(redactor.text(part)) for part in (line[:start], line[start:end], line[end:]))
        shown.append(f'<li class="current">{before}<mark>{culprit}</mark>{after}</li>')
    return f'<ol class="source" start="{first}">{"".join(shown)}</ol>' if shown else '<p class="none">no source</p>'


def _columns(trace: TracebackType, line: str) -> tuple[int, int]:
    """The columns of the evaluated expression in its line (PEP 657, from Python 3.11)."""
    indent = len(line) - len(line.lstrip())
    code = trace.tb_frame.f_code
    positions = getattr(code, "co_positions", None)
    # A template has lines, but the columns are those of the code that was made of it.
    if positions is not None and trace.tb_lasti >= 0 and code.co_filename.endswith(".py"):
        start_line, end_line, start, end = next(islice(positions(), trace.tb_lasti // 2, None), (None,) * 4)
        if start_line == trace.tb_lineno and start is not None and end is not None:
            encoded = line.encode()  # the columns count bytes of UTF-8
            last = len(line) if end_line != start_line else len(encoded[:end].decode(errors="replace"))
            return len(encoded[:start].decode(errors="replace")), last
    return indent, len(line)


def _locals(trace: TracebackType, redactor: Redactor, *, is_open: bool) -> str:
    # The other names of a module or a template would hide its data.
    names = [
        name
        for name, value in trace.tb_frame.f_locals.items()
        if not name.startswith("__") and not isinstance(value, (ModuleType, FunctionType, type))
    ]
    if not names:
        return ""
    shown = [(name, redactor.value(name, trace.tb_frame.f_locals[name])) for name in names[:_MOST_LOCALS]]
    if len(names) > _MOST_LOCALS:
        shown.append(("…", f"{len(names) - _MOST_LOCALS} more"))
    return f'<details class="locals"{" open" * is_open}><summary>Local variables</summary>{_table(shown)}</details>'


def _request(request: Request, redactor: Redactor) -> Iterator[str]:
    def shown(pairs: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
        return [(name, _plain(name, value, redactor)) for name, value in islice(pairs, _MOST_LOCALS)]

    yield '<section class="about"><h2>Request</h2>'
    try:
        query = shown(request.query.pairs())
    except Exception as error:
        query = [("malformed", type(error).__name__)]
    cookies = [(name, REDACTED) for name in request.cookies]
    for title, pairs in (
        ("Path parameters", shown(request.parameters.items())),
        ("Query", query),
        ("Headers", shown(request.headers.items())),
        ("Cookies", cookies),
    ):
        if pairs:
            yield f"<h3>{title}</h3>{_table(pairs)}"
    yield "</section>"


def _plain(name: str, value: object, redactor: Redactor) -> str:
    # Fields are text: they need no quotes.
    return redactor.data(value) if isinstance(value, str) and not is_sensitive(name) else redactor.value(name, value)


def _table(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{_value(value)}</td></tr>' for name, value in pairs)
    return f'<div class="scroll"><table>{rows}</table></div>'


def _value(value: str) -> str:
    return f"<em>{REDACTED}</em>" if value == REDACTED else f"<code>{escape(value)}</code>"
