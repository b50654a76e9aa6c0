"""Tells WSGI applications from ASGI ones by their call signature.

    def app(environ, start_response)             WSGI (PEP 3333)
    async def app(scope, receive, send)          ASGI 3, the single callable
    def app(scope) -> async (receive, send)      ASGI 2, the double callable

1. The option `interface` decides where it is not `auto`.
2. Else the signature of the callable decides: how many positional arguments it takes, and whether it returns a
   coroutine. The signature of an object is that of its `__call__`, of a class that of `__init__` or `__new__`, of a
   `functools.partial` the remaining parameters of its function. A signature that fits no interface is refused.
3. Else, for a wrapper that takes `(*args)`, the function recorded by `functools.wraps` decides if it is clearly WSGI or
   ASGI 2.
4. Else a trial call decides: the application is called once with an ASGI scope, `receive` and `send`. An ASGI
   application returns a coroutine, which is closed before it runs. A WSGI application does not take three arguments;
   the call usually fails before any of its code runs. Any other outcome of the call means WSGI, too.
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
# Limit of nested wrappers, because a wrapper may wrap itself.
_MAX_DEPTH = 50
# The markers of `inspect.markcoroutinefunction` and asgiref for functions that return coroutines without `async def`.
_MARKS = ("_is_coroutine_marker", "_is_coroutine")


class _Call(NamedTuple):
    """The signature of a call."""

    required: tuple[str, ...]
    """The names of the required positional parameters."""
    most: float
    """The maximum number of positional arguments."""
    is_async: bool
    """Whether it returns a coroutine."""


def choose(app: Any, wanted: str) -> str:
    """Returns the interface of an application: `WSGI`, `ASGI2` or `ASGI3`.

    Parameters:
        app: the application. If neither the option nor the signature decides, it is called once.
        wanted: `auto` to detect the interface, or `wsgi` or `asgi`.

    Raises:
        TypeError: it is not callable, or, with `auto`, its signature fits no interface.
    """
    if not callable(app):
        raise TypeError(f"an application must be callable, not {type(app).__name__}")
    if wanted == "wsgi":
        return WSGI
    call, inside = _inspect(app)
    found, likely = _classify(call), _classify(inside)
    if wanted == "asgi":
        return ASGI2 if (found or likely) == ASGI2 else ASGI3
    if found is not None:
        return found
    if call is not None and (call.most < 2 or len(call.required) > 3 or call.is_async):
        raise TypeError(_mismatch(call))
    return likely if likely in (WSGI, ASGI2) else _trial_call(app, likely or WSGI)


def _classify(call: _Call | None) -> str | None:
    """The interface that a signature belongs to, None if it fits several."""
    if call is None:
        return None
    if call.is_async:
        return ASGI3 if len(call.required) <= 3 <= call.most else None
    if len(call.required) in (2, 3):
        return WSGI if len(call.required) == 2 else ASGI3
    if call.required == ("scope",) and call.most < math.inf:
        return ASGI2
    return WSGI if call.most == 2 else None


def _mismatch(call: _Call) -> str:
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


def _inspect(app: Any) -> tuple[_Call | None, _Call | None]:
    """The signature of `app`, and that of the function it wraps; None for an unknown one."""
    seen, inside = _call_of(app), None
    for _ in range(_MAX_DEPTH):
        app = _wrapped(app)
        if app is None:
            break
        inside = _call_of(app)
        if _classify(inside) is not None:
            break
    return seen, inside


def _wrapped(app: Any) -> Any:
    """The function recorded by `functools.wraps`, None if there is none."""
    for _ in range(_MAX_DEPTH):
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
    for _ in range(_MAX_DEPTH):
        marked = marked or _is_marked(app)
        if isinstance(app, functools.partial):
            bound += len(app.args)
            names.update(app.keywords)
            app = app.func
        elif isinstance(app, type):
            # `await app(scope, receive, send)` also works with an awaitable instance.
            is_async = marked or hasattr(app, "__await__")
            return _signature(_constructor(app), bound + 1, names, is_async)
        elif _code(app) is not None:
            bound += _is_bound(app)
            return _signature(app, bound, names, marked)
        elif (callee := _callee(app)) is not None:
            app = callee
        else:
            break
    return _Call((), math.inf, True) if marked else None


def _callee(app: Any) -> Any:
    """The callable that Python calls for an object: `__call__` of its class, bound if it is a descriptor."""
    for kind in type(app).__mro__:
        if "__call__" in vars(kind):
            found = vars(kind)["__call__"]
            bind = getattr(type(found), "__get__", None)
            try:
                return found if bind is None else bind(found, app, type(app))
            except Exception:  # an empty slot, or application code that raised
                return None
    return None


def _constructor(kind: type) -> Any:
    """The function that receives the arguments when a class is called."""
    if _code(type(kind).__call__) is not None:
        # A metaclass with a `__call__` of its own.
        return type(kind).__call__
    for base in kind.__mro__[:-1]:
        for name in ("__init__", "__new__"):
            if name in vars(base):
                made = vars(base)[name]
                return made.__func__ if isinstance(made, staticmethod) else made
    return _no_parameters


def _no_parameters(self: object) -> None:
    """The signature of a class without `__init__` and `__new__`."""


def _is_bound(function: Any) -> bool:
    return getattr(function, "__func__", None) is not None and getattr(function, "__self__", None) is not None


def _is_marked(function: Any) -> bool:
    function = getattr(function, "__func__", function)
    # By the dictionaries, because mocks and proxies have every attribute.
    namespaces = [getattr(function, "__dict__", {}), *(vars(kind) for kind in type(function).__mro__)]
    return any(names.get(mark) for names in namespaces if isinstance(names, Mapping) for mark in _MARKS)


def _code(function: Any) -> CodeType | None:
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    # Not by `isinstance`, which a mock answers for the class that it replaces.
    return code if type(code) is CodeType else None


def _signature(function: Any, bound: int, names: set[str], is_async: bool) -> _Call | None:
    """The signature without the parameters that are bound by position or by name."""
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


def _trial_argument(*arguments: object) -> None:
    # An ASGI application calls neither before its coroutine runs, so this call is that of `start_response`.
    raise TypeError("this is a trial call without a request; set interface=wsgi or interface=asgi to avoid it")


def _trial_call(app: Callable[..., Any], likely: str) -> str:
    """Calls an application like ASGI does; returns `likely` if it raises an exception unrelated to the arguments."""
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
        given = app(scope, _trial_argument, _trial_argument)
    except (TypeError, ValueError, LookupError):
        return WSGI
    except (Exception, SystemExit):
        return likely
    if not hasattr(type(given), "__await__"):
        return WSGI
    close = getattr(given, "close", None)
    if close is not None:
        # No code of the coroutine has run.
        close()
    return ASGI3
