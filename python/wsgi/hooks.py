"""Hooks: functions of the site that are called at moments of the processes' lives.

They are named in the configuration file, `ready = "site_hooks:ready"` in the table `[hooks]`, or defined in a
configuration file of gunicorn. Each gets objects with `pid`, `age`, `cfg` and `log`: that of the supervisor, and for a
moment of a worker also that of the worker.

One rule decides what an exception does. A hook that is called before something prevents it: `starting` the start,
`before_fork` that fork, `after_fork` and `loaded` that worker, `reload` the reload. One that is called after something
is logged, and nothing else changes.

The supervisor imports only the functions of its own moments, and those must not import the application; a worker
imports the others after the fork. What the supervisor has imported from the application's directory is dropped from
`sys.modules`, so that workers import it anew after a reload.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from wsgi.errors import ConfigError, HookError, LoadError
from wsgi.loading import load
from wsgi.logging import LOGGER_NAME, report
from wsgi.suggest import did_you_mean

__all__ = [
    "MOMENTS",
    "Hook",
    "Hooks",
    "Moment",
    "ProcessInfo",
    "count_ages_from",
    "mistake",
    "modules_dropped",
    "read_table",
    "timed_out",
]


# No dataclass: that module is large, and every start imports this one.
class Moment(NamedTuple):
    """When a hook is called.

    Parameters:
        is_of_worker: it is called in a worker; otherwise in the supervisor, or in the process that serves alone.
        prevents: what an exception of the hook prevents; "" if it only is logged.
        arguments: the names of the objects that the hook gets.
        of_gunicorn: gunicorn's name of the moment.
    """

    is_of_worker: bool
    prevents: str
    arguments: tuple[str, ...]
    of_gunicorn: str


_SERVER, _WORKER, _BOTH = ("server",), ("worker",), ("server", "worker")

MOMENTS = {
    "starting": Moment(False, "the start", _SERVER, "on_starting"),
    "ready": Moment(False, "", _SERVER, "when_ready"),
    "before_fork": Moment(False, "the fork", _BOTH, "pre_fork"),
    "after_fork": Moment(True, "the worker", _BOTH, "post_fork"),
    "loaded": Moment(True, "the worker", _WORKER, "post_worker_init"),
    "interrupted": Moment(True, "", _WORKER, "worker_int"),
    "timed_out": Moment(True, "", _WORKER, "worker_abort"),
    "worker_exit": Moment(True, "", _BOTH, "worker_exit"),
    "child_exit": Moment(False, "", _BOTH, "child_exit"),
    "reload": Moment(False, "the reload", _SERVER, "on_reload"),
    "exit": Moment(False, "", _SERVER, "on_exit"),
}
"""All moments by name, in the order of a server's life."""

_NOT_HERE = "imports the application, which a supervisor must not: put the function into another module"
# Counts the workers of this process, over all readings of the file.
_ages = [itertools.count(1)]
# The hooks of the worker that this process is.
_in_this_worker: list[Hooks] = []
# `module:function`.
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Hook(NamedTuple):
    """A function that is called at a moment.

    Parameters:
        label: where it was named, for messages.
        function: the function, or its name as `module:function`.
    """

    label: str
    function: str | Callable[..., object]


def read_table(table: Mapping[str, object], path: str) -> dict[str, Hook]:
    """Reads the table `[hooks]` of a TOML file.

    Raises:
        ConfigError: a moment has an unknown name, or a value is not `module:function`.
    """
    hooks = {}
    for name, value in table.items():
        if name not in MOMENTS:
            known = did_you_mean(name, MOMENTS) or f": known are {', '.join(MOMENTS)}"
            raise ConfigError(f"unknown hook {name!r} in {path!r}{known}")
        if not isinstance(value, str) or not _FUNCTION.fullmatch(value):
            shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
            raise ConfigError(f"the hook {name} must be 'module:function', not {shown} (from {path}: hooks.{name})")
        hooks[name] = Hook(f"{name} ({value})", value)
    return hooks


def mistake(name: str, function: object) -> str:
    """What is wrong with a function as the hook of a moment, as text that follows its name; "" if nothing is.

    Parameters:
        name: the name of the moment.
        function: what is to be called.
    """
    import inspect  # large, and only hooks need it

    arguments = MOMENTS[name].arguments
    need = f"must be a function of ({', '.join(arguments)})"
    if not callable(function):
        return f"{need}, and is of type {type(function).__name__}"
    if inspect.iscoroutinefunction(function):
        return f"{need} without async: no event loop runs when it is called"
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return need
    except ValueError:
        # Some builtins have no signature.
        pass
    return ""


class ProcessInfo:
    """What a hook gets: a supervisor or a worker.

    Parameters:
        pid: its process id; None for a worker that is not forked yet.
        age: 0 for the supervisor; 1 for the first worker that was started, and so on.
        cfg: the settings.
    """

    def __init__(self, pid: int | None, age: int, cfg: object) -> None:
        self.pid = pid
        self.age = age
        self.cfg = cfg

    @property
    def log(self) -> logging.Logger:
        """The logger of the server."""
        logger = logging.getLogger(LOGGER_NAME)
        # `dictConfig` disables all existing loggers by default.
        logger.disabled = False
        return logger

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"hooks get objects with pid, age, cfg and log; {name!r} does not exist here")

    def __repr__(self) -> str:
        return f"<process {self.pid}>"


class Hooks:
    """The hooks of one reading of the configuration file, for the process that has read it and the workers that are
    forked from it. Every method is for the main thread; `call` may be called from any thread.

    Parameters:
        hooks: by the names of their moments.
        cfg: the settings, for the hooks.
        app_dir: the directory to import from.
    """

    def __init__(self, hooks: Mapping[str, Hook] | None = None, cfg: object = None, app_dir: str = ".") -> None:
        self._hooks = dict(hooks or {})
        self._app_dir = Path(app_dir)
        self._functions: dict[str, Callable[..., object]] = {}
        self._server = ProcessInfo(os.getpid(), 0, cfg)
        self._worker = ProcessInfo(os.getpid(), 0, cfg)
        self._workers: dict[int, ProcessInfo] = {}

    def load(self, target: str | None) -> None:
        """Imports the functions that are called in this process before it imports the application.

        Parameters:
            target: the application, which this supervisor must not import; None if this process serves alone.

        Raises:
            HookError: a function cannot be imported, or imports the application.
        """
        if target is None:
            self._functions = self._import(is_of_worker=False)
            return
        before = set(sys.modules)
        with modules_dropped(self._app_dir):
            self._functions = self._import(is_of_worker=False, target=target)
            if _is_imported(target, self._app_dir, before):
                names = ", ".join(self._functions)
                raise HookError(f"the hooks {names}: one of their modules {_NOT_HERE}")

    def load_worker(self) -> None:
        """Imports those of a worker, too, in a process that serves alone: their modules may be the application's.

        Raises:
            HookError: a function cannot be imported.
        """
        self._functions = self._functions | self._import(is_of_worker=True)

    def call(self, name: str) -> None:
        """Calls the hook of a moment.

        Raises:
            HookError: the hook raised, and precedes something that it thereby prevents.
        """
        self._call(name, self._worker)

    def begin_reload(self) -> bool:
        """Calls the hook `reload`. Gives whether the reload may begin; if not, that is logged."""
        return self._may_go_on("reload")

    def begin_worker(self) -> str:
        """Calls the hook `before_fork`. Gives the reason if no worker must be forked now, else ""; that is logged."""
        self._worker = ProcessInfo(None, next(_ages[0]), self._server.cfg)
        return "" if self._may_go_on("before_fork") else "the hook before_fork raised"

    @property
    def age(self) -> int:
        """The age of the worker whose fork began last."""
        return self._worker.age

    def forked(self, pid: int, age: int) -> None:
        """Notes the process id of a worker that was forked, for the hook `child_exit`.

        Parameters:
            age: as it was when the fork began. With a template others may have begun since.
        """
        if "child_exit" in self._functions:
            self._workers[pid] = ProcessInfo(pid, age, self._server.cfg)

    def child_exit(self, pid: int) -> None:
        """Calls the hook `child_exit` for a worker that has ended."""
        worker = self._workers.pop(pid, None)
        if worker is not None:
            self._call("child_exit", worker)

    @contextmanager
    def in_worker(self, age: int) -> Iterator[None]:
        """The life of a worker, from its fork to its end.

        Parameters:
            age: its number in the order of starts.

        Raises:
            HookError: a function cannot be imported, or the hook `after_fork` raised.
        """
        self._worker = ProcessInfo(os.getpid(), age, self._server.cfg)
        self._functions = self._import(is_of_worker=True)
        _in_this_worker[:] = [self]
        self.call("after_fork")
        try:
            yield
        finally:
            _in_this_worker.clear()
            self.call("worker_exit")

    def _import(self, *, is_of_worker: bool, target: str = "") -> dict[str, Callable[..., object]]:
        functions: dict[str, Callable[..., object]] = {}
        for name, hook in self._hooks.items():
            function: Any = hook.function
            if MOMENTS[name].is_of_worker != is_of_worker:
                continue
            if isinstance(function, str):
                if target and _is_inside(function, target):
                    raise HookError(f"the hook {name}: its module {_NOT_HERE}")
                try:
                    function = load(function, self._app_dir)
                except LoadError as error:
                    raise HookError(f"the hook {name}: {error}") from error.__cause__
                if problem := mistake(name, function):
                    raise HookError(f"the hook {name} {problem} (from {hook.function})")
            functions[name] = function
        return functions

    def _may_go_on(self, name: str) -> bool:
        try:
            self.call(name)
        except HookError as error:
            report(logging.ERROR, str(error), error.__cause__)
            return False
        return True

    def _call(self, name: str, worker: ProcessInfo) -> None:
        function = self._functions.get(name)
        if function is None:
            return
        moment = MOMENTS[name]
        try:
            function(*(self._server if argument == "server" else worker for argument in moment.arguments))
        except (Exception, SystemExit) as error:
            # The first frame is this function's.
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            line = f"the hook {self._hooks[name].label} raised {type(error).__name__}"
            if moment.prevents:
                raise HookError(f"{line}, which prevents {moment.prevents}") from error
            report(logging.ERROR, line, error)


def count_ages_from(age: int) -> None:
    """The next worker has this age, because the former program of this process has started others."""
    _ages[:] = [itertools.count(age)]


def timed_out() -> None:
    """Calls the hook `timed_out`, if this process is a worker. For the core, which calls it when a request has taken
    too long and the worker is to be replaced. May be called from any thread.
    """
    for hooks in _in_this_worker:
        hooks.call("timed_out")


def _is_inside(function: str, target: str) -> bool:
    """Whether the module of a function is that of the application, or within it."""
    return f"{function.partition(':')[0]}.".startswith(f"{target.partition(':')[0]}.")


def _is_imported(target: str, app_dir: Path, before: set[str]) -> bool:
    """Whether the application's module is among those that were imported since `before`."""
    name = target.partition(":")[0]
    file = os.path.realpath(app_dir / name)
    new = {module: getattr(sys.modules[module], "__file__", None) for module in set(sys.modules) - before}
    return name in new or any(path and os.path.realpath(path) == file for path in new.values())


@contextmanager
def modules_dropped(directory: Path) -> Iterator[None]:
    """Drops the modules of a directory that are imported meanwhile from `sys.modules`. Extension modules stay, because
    they cannot be imported twice, and so do installed packages.
    """
    before = set(sys.modules)
    inside, own = os.path.realpath(directory) + os.sep, os.path.realpath(os.path.dirname(__file__)) + os.sep
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            path = os.path.realpath(file) if isinstance(file, str) and file.endswith(".py") else ""
            if path.startswith(inside) and not path.startswith(own) and "site-packages" not in path:
                del sys.modules[name]
