"""Tells WSGI applications from ASGI ones, by how they want to be called.

    def app(environ, start_response)             WSGI (PEP 3333)
    async def app(scope, receive, send)          ASGI 3, the single callable
    def app(scope) -> async (receive, send)      ASGI 2, the double callable

1. The option `interface` decides where it is not `auto`.
2. Else the signature of what is called decides: how many positional arguments it takes, and whether it gives a
   coroutine. Objects are judged by the `__call__` that Python would call, classes by `__init__` or `__new__`,
   `functools.partial` by what is left of its function's. A signature that fits no interface is refused.
3. Else, where a wrapper takes `(*args)`, what `functools.wraps` says is inside it decides if that is plainly WSGI or
   ASGI 2.
4. Else a trial call decides: the application is called once with an ASGI scope, `receive` and `send`. ASGI applications
   give a coroutine, which is closed before it runs. WSGI applications refuse three arguments, mostly before any code of
   theirs runs; whatever else comes of the call means WSGI, too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["ASGI2", "ASGI3", "WSGI", "choose"]

WSGI, ASGI2, ASGI3 = "WSGI", "ASGI 2", "ASGI 3"

# Flags of a function's code; the inspect module, which has names for them, would cost start-up time.
_CO_VARARGS, _CO_COROUTINE = 0x04, 0x80
# Wrappers around one another at most: what wraps itself has no inside.
_DEEPEST = 50
# How `inspect.markcoroutinefunction` and asgiref mark functions that give coroutines without being such functions.
_MARKS = ("_is_coroutine_marker", "_is_coroutine")


class _Call(NamedTuple):
    """What can be seen of a call."""

    required: tuple[str, ...]
    """The positional parameters that must be given."""
    most: float
    """How many arguments can be given."""
    is_async: bool
    """Whether it gives a coroutine."""


def choose(app: Any, wanted: str) -> str:
    """Gives the interface of an application: `WSGI`, `ASGI2` or `ASGI3`.

    Parameters:
        app: the application. Where neither option nor signature decides, it is called once.
        wanted: `auto` to find out, `wsgi` or `asgi` to say so.

    Raises:
        TypeError: it cannot be called, or, with `auto`, not in the way of any interface.
    """
    if not callable(app):
        raise TypeError(f"an application must be callable, not {type(app).__name__}")
    if wanted == "wsgi":
        return WSGI
    call, inside = _see(app)
    found, likely = _judge(call), _judge(inside)
    if wanted == "asgi":
        return ASGI2 if (found or likely) == ASGI2 else ASGI3
    if found is not None:
        return found
    if call is not None and (call.most < 2 or len(call.required) > 3 or call.is_async):
        raise TypeError(_misfit(call))
    return likely if likely in (WSGI, ASGI2) else _try(app, likely or WSGI)


def _judge(call: _Call | None) -> str | None:
    """The interface that a call has, None where what is seen of it says nothing."""
    if call is None:
        return None
    if call.is_async:
        return ASGI3 if len(call.required) <= 3 <= call.most else None
    if len(call.required) in (2, 3):
        return WSGI if len(call.required) == 2 else ASGI3
    if call.required == ("scope",) and call.most < math.inf:
        return ASGI2
    return WSGI if call.most == 2 else None


def _misfit(call: _Call) -> str:
    kind = "an async function" if call.is_async else "a callable"
    parameters = ", ".join(call.required) or "none"
    hint = ""
    if call.is_async and len(call.required) == 2:
        hint = ": write 'def' instead of 'async def'"
    elif not call.required and not call.is_async:
        hint = ": a class or a factory must be called, as in 'hello:create_app()'"
    return (
        f"the application is {kind} with the required parameters ({parameters}), but WSGI calls a plain function with "
        f"(environ, start_response) and ASGI an async one with (scope, receive, send){hint} "
        "(interface=wsgi or interface=asgi skips this check)"
    )


def _see(app: Any) -> tuple[_Call | None, _Call | None]:
    """What can be seen of a call of `app`, and of what it wraps."""
    seen, inside = _call_of(app), None
    for _ in range(_DEEPEST):
        app = _wrapped(app)
        if app is None:
            break
        inside = _call_of(app)
        if _judge(inside) is not None:
            break
    return seen, inside


def _wrapped(app: Any) -> Any:
    """What `functools.wraps` says is inside, None where it says nothing."""
    for _ in range(_DEEPEST):
        inner = getattr(app, "__wrapped__", None)
        if inner is not None and callable(inner):
            return inner
        if isinstance(app, functools.partial):
            app = app.func
        elif isinstance(app, type) or (app := _callee(app)) is None:
            return None
    return None


def _call_of(app: Any) -> _Call | None:
    bound, names, marked = 0, set[str](), False
    for _ in range(_DEEPEST):
        marked = marked or _is_marked(app)
        if isinstance(app, functools.partial):
            bound += len(app.args)
            names.update(app.keywords)
            app = app.func
        elif isinstance(app, type):
            # An instance that can be awaited answers by that: `await app(scope, receive, send)`.
            is_async = marked or hasattr(app, "__await__")
            return _signature(_maker(app), bound + 1, names, is_async)
        elif _code(app) is not None:
            bound += _is_bound(app)
            return _signature(app, bound, names, marked)
        elif (callee := _callee(app)) is not None:
            app = callee
        else:
            break
    return _Call((), math.inf, True) if marked else None


def _callee(app: Any) -> Any:
    """What Python calls when it calls an object: `__call__` as its class has it, be it a slot or another descriptor."""
    for kind in type(app).__mro__:
        if "__call__" in vars(kind):
            found = vars(kind)["__call__"]
            bind = getattr(type(found), "__get__", None)
            try:
                return found if bind is None else bind(found, app, type(app))
            except Exception:  # an empty slot, or code of the application's own
                return None
    return None


def _maker(kind: type) -> Any:
    """What gets the arguments of a call of a class."""
    if _code(type(kind).__call__) is not None:
        # A metaclass of the application's own.
        return type(kind).__call__
    for base in kind.__mro__[:-1]:
        for name in ("__init__", "__new__"):
            if name in vars(base):
                made = vars(base)[name]
                return made.__func__ if isinstance(made, staticmethod) else made
    return _takes_nothing


def _takes_nothing(self: object) -> None:
    """Stands for the `__init__` of a class that has none."""


def _is_bound(function: Any) -> bool:
    return getattr(function, "__func__", None) is not None and getattr(function, "__self__", None) is not None


def _is_marked(function: Any) -> bool:
    function = getattr(function, "__func__", function)
    # By the dictionaries, since mocks and proxies answer for every attribute.
    places = [getattr(function, "__dict__", {}), *(vars(kind) for kind in type(function).__mro__)]
    return any(place.get(mark) for place in places if isinstance(place, Mapping) for mark in _MARKS)


def _code(function: Any) -> CodeType | None:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    # By its type alone: a mock says of itself that it is an instance of what it stands for.
    return code if type(code) is CodeType else None


def _signature(function: Any, bound: int, names: set[str], is_async: bool) -> _Call | None:
    """What a call must give beyond what is bound, by position or by name."""
    code = _code(function)
    if code is None:
        return _Call((), math.inf, True) if is_async else None
    defaults = len(getattr(getattr(function, "__func__", function), "__defaults__", None) or ())
    free = [name for name in code.co_varnames[: code.co_argcount][bound:] if name not in names]
    given = set(code.co_varnames[: code.co_argcount - defaults])
    return _Call(
        tuple(name for name in free if name in given),
        math.inf if code.co_flags & _CO_VARARGS else len(free),
        is_async or bool(code.co_flags & _CO_COROUTINE),
    )


def _unused(*arguments: object) -> None:
    # An ASGI application calls neither before its coroutine runs, so this one is called as `start_response`.
    raise TypeError("this is a trial call without a request: interface=wsgi or interface=asgi does without it")


def _try(app: Callable[..., Any], likely: str) -> str:
    """Calls an application in ASGI's way; `likely` counts where it raises something that is not about the arguments."""
    scope: dict[str, object] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": None,
    }
    try:
        given = app(scope, _unused, _unused)
    except (TypeError, ValueError, LookupError):
        return WSGI
    except (Exception, SystemExit):
        return likely
    if not hasattr(type(given), "__await__"):
        return WSGI
    close = getattr(given, "close", None)
    if close is not None:
        # Not one step of it has run.
        close()
    return ASGI3
