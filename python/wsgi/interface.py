"""Tells WSGI applications from ASGI ones, by how they want to be called.

    def app(environ, start_response)             WSGI (PEP 3333)
    async def app(scope, receive, send)          ASGI 3, the single callable
    def app(scope) -> async (receive, send)      ASGI 2, the double callable

What decides is looked up, never called: whether a call gives a coroutine, and how many positional arguments it needs.
Objects are judged by `__call__`, classes by `__init__`, what `functools.partial` and `functools.wraps` made by what is
inside.
"""

from __future__ import annotations

import functools
from types import CodeType
from typing import Any

__all__ = ["ASGI2", "ASGI3", "WSGI", "choose"]

WSGI, ASGI2, ASGI3 = "WSGI", "ASGI 2", "ASGI 3"

# A coroutine function's code is marked so; the inspect module would cost start-up time.
_CO_COROUTINE = 0x80
# Wrappers around one another at most: what wraps itself has no inside.
_DEEPEST = 50
# How `inspect.markcoroutinefunction` and asgiref mark functions that give coroutines without being such functions.
_MARKS = ("_is_coroutine_marker", "_is_coroutine")


def choose(app: Any, wanted: str) -> str:
    """Gives the interface of an application: `WSGI`, `ASGI2` or `ASGI3`.

    Parameters:
        app: the application.
        wanted: `auto` to find out, `wsgi` or `asgi` to say so.

    Raises:
        TypeError: it cannot be called, or it is an ASGI application where WSGI is wanted.
    """
    if not callable(app):
        raise TypeError(f"an application must be callable, not {type(app).__name__}")
    found = _judge(app)
    if wanted == "wsgi" and found != WSGI:
        why = "its call gives a coroutine" if found == ASGI3 else "it is called with the scope alone"
        raise TypeError(f"this is an {found} application ({why}), but interface=wsgi was asked for")
    if wanted == "asgi" and found == WSGI:
        # What cannot be told apart by looking is called in the way of today.
        return ASGI3
    return WSGI if wanted == "wsgi" else found


def _judge(app: Any) -> str:
    bound, names = 0, set[str]()
    for _ in range(_DEEPEST):
        if isinstance(app, functools.partial):
            bound += len(app.args)
            names.update(app.keywords)
            app = app.func
        elif not isinstance(app, type) and _is_coroutine_function(app):
            return ASGI3
        elif (inner := getattr(app, "__wrapped__", None)) is not None and callable(inner):
            app = inner
        else:
            break
    if isinstance(app, type):
        # An instance that can be awaited answers by that: `await app(scope, receive, send)`.
        if hasattr(app, "__await__"):
            return ASGI3
        needed = _needed(getattr(app, "__init__", None), bound + 1, names)
    elif _code(app) is not None:
        needed = _needed(app, bound + (getattr(app, "__self__", None) is not None), names)
    else:
        call = type(app).__call__
        if _is_coroutine_function(call):
            return ASGI3
        needed = _needed(call, bound + 1, names)
    if len(needed) == 3:
        return ASGI3
    return ASGI2 if needed == ("scope",) else WSGI


def _is_coroutine_function(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if any(getattr(function, mark, None) is not None for mark in _MARKS):
        return True
    code = _code(function)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def _code(function: Any) -> CodeType | None:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code if isinstance(code, CodeType) else None


def _needed(function: Any, bound: int, names: set[str]) -> tuple[str, ...]:
    """The positional parameters that a call must still give: those without a default, a binding or a keyword."""
    for _ in range(_DEEPEST):
        function = getattr(function, "__wrapped__", function)
    code = _code(function)
    if code is None:
        return ()
    defaults = len(getattr(getattr(function, "__func__", function), "__defaults__", None) or ())
    required = code.co_varnames[: code.co_argcount - defaults]
    return tuple(name for name in required[bound:] if name not in names)
