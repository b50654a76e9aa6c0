"""Reads a configuration file of gunicorn, a Python program, and translates its settings to those of this server.

A setting that has no counterpart is listed. One that has the value of gunicorn's default, or that does nothing more
than this server does anyway, is not. Other names of the file are its own variables.

Where the file leaves a setting out, gunicorn's default counts if another one would change what the site may rely on:
one worker process at least, one request at a time in each of them (threads), and with PORT, every IPv4 interface.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from wsgi.errors import ConfigError
from wsgi.hooks import MOMENTS, Hook, mistake, modules_dropped
from wsgi.other_servers import counterpart, family

__all__ = ["GunicornConfig", "read"]

# What does the same here under another name, with the same values.
_SAME = {
    "accesslog": "access_log",
    "asgi_lifespan": "lifespan",
    "asgi_loop": "loop",
    "backlog": "backlog",
    "certfile": "certfile",
    "chdir": "chdir",
    "graceful_timeout": "graceful_timeout",
    "group": "group",
    "keepalive": "keep_alive",
    "keyfile": "keyfile",
    "limit_request_fields": "max_header_fields",
    "loglevel": "log_level",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "pidfile": "pidfile",
    "preload_app": "preload",
    "proc_name": "process_name",
    "reload": "reload",
    "reuse_port": "reuse_port",
    "root_path": "root_path",
    "umask": "umask",
    "user": "user",
    "websocket_max_message_size": "websocket_max_message",
    "workers": "workers",
}  # fmt: skip

# Those of them that are off by default there.
_OFF = ("max_requests", "max_requests_jitter", "preload_app", "reload", "reuse_port", "umask")

# gunicorn's defaults of the settings that are listed if they have another value.
_DEFAULTS: dict[str, object] = {
    "ca_certs": None, "casefold_http_method": False, "cert_reqs": 0, "check_config": False, "ciphers": None,
    "daemon": False, "dirty_apps": [], "dirty_graceful_timeout": 30, "dirty_threads": 1, "dirty_timeout": 300,
    "dirty_workers": 0, "do_handshake_on_connect": False, "dogstatsd_tags": "", "enable_backlog_metric": False,
    "errorlog": "-", "forwarder_headers": "SCRIPT_NAME,PATH_INFO", "header_map": "drop", "http2_cleartext": "off",
    "http2_initial_window_size": 65535, "http2_max_concurrent_streams": 100, "http2_max_frame_size": 16384,
    "http2_max_header_list_size": 65536, "http_protocols": "h1", "logconfig": None, "logconfig_dict": {},
    "logconfig_json": None, "logger_class": "gunicorn.glogging.Logger", "paste": None,
    "permit_obsolete_folding": False, "permit_unconventional_http_method": False,
    "permit_unconventional_http_version": False, "print_config": False, "protocol": "http",
    "raw_paste_global_conf": [], "spew": False, "ssl_version": 2, "statsd_host": None, "statsd_prefix": "",
    "strip_header_spaces": False, "suppress_ragged_eofs": True, "syslog": False,
    "syslog_addr": "udp://localhost:514", "syslog_facility": "user", "syslog_prefix": None, "tmp_upload_dir": None,
    "uwsgi_allow_ips": "127.0.0.1,::1",
}  # fmt: skip

# Where the setting's name is not that of its flag, or the flag has no row in the table of flags.
_TEXTS = {
    "check_config": "give the flag --check-config",
    "dirty_apps": "not supported: background jobs; use a task queue",
    "errorlog": "messages go to standard error: redirect it (2>>FILE), or configure the logger 'wsgi.server'",
    "logconfig_dict": "the application configures logging; messages go to the logger 'wsgi.server'",
    "print_config": "give the flag --check-config",
    "proxy_allow_ips": "--trusted-proxies names the proxies",
    "ssl_context": "TLS is not configurable by a function",
    "tmp_upload_dir": "the variable TMPDIR names the directory of temporary files",
}

# gunicorn's hooks without a counterpart.
_OTHER_HOOKS = {
    "dirty_post_fork": "background jobs are not supported",
    "dirty_worker_exit": "background jobs are not supported",
    "dirty_worker_init": "background jobs are not supported",
    "nworkers_changed": "no hook is called when signals change the number of workers",
    "on_dirty_starting": "background jobs are not supported",
    "post_request": "use middleware in the application, or the access log",
    "pre_request": "use middleware in the application, or the access log",
    "ssl_context": _TEXTS["ssl_context"],
}

_HOOKS = {moment.of_gunicorn: name for name, moment in MOMENTS.items()}

_SYNC = ("sync", "gunicorn.workers.sync.SyncWorker")
_THREADED = ("gthread", "gunicorn.workers.gthread.ThreadWorker")
_ASGI = ("asgi", "gunicorn.workers.gasgi.ASGIWorker")
_UVICORN = tuple(
    f"{module}.Uvicorn{kind}Worker" for module in ("uvicorn.workers", "uvicorn_worker") for kind in ("", "H11")
)
_GREEN = ("gevent", "eventlet", "tornado", "aiohttp")
_LOCAL = "127.0.0.1,::1"
_CONNECTIONS = 1000
_SECURE = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}

# Atoms of the access log: `%(h)s`. Of these letters the directive is `%` with the same letter.
_ATOM = re.compile(r"%\(([^)]*)\)s")
_SAME_ATOMS = frozenset("hlutrmUqHsbBDT")
_ATOMS = {"f": "%{Referer}i", "a": "%{User-Agent}i", "M": "%{ms}T"}

# The directories and variables of the configuration that this process has now, for those of the next one.
_path_entries: list[str] = []
_former_values: dict[str, str | None] = {}


class GunicornConfig:
    """What a configuration file of gunicorn says.

    Attributes:
        path: the file.
        values: the settings in it, by gunicorn's names.
        options: values of this server's options, each with gunicorn's name of it.
        defaults: values for options that neither the file nor anything else sets.
        application: the application's name, or None.
        environ: variables for the application.
        python_path: directories to import from.
        hooks: by the names of their moments.
        notes: lines on what differs, each by the option that would change it.
        unknown: the settings that have no counterpart, each with what to do instead.
    """

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = dict(values)
        self.options: dict[str, tuple[object, str]] = {}
        self.defaults: dict[str, object] = {"workers": 1}
        self.application: str | None = None
        self.environ: dict[str, str] = {}
        self.python_path: tuple[str, ...] = ()
        self.hooks: dict[str, Hook] = {}
        self.notes: dict[str, str] = {}
        self.unknown: list[str] = []

    def apply(self) -> None:
        """Gives this process the variables and directories of the file, and takes those of the former one back."""
        for name, value in _former_values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _former_values.clear()
        for entry in _path_entries:
            if entry in sys.path:
                sys.path.remove(entry)
        _path_entries[:] = [entry for entry in self.python_path if entry not in sys.path]
        sys.path[:0] = _path_entries
        for name, value in self.environ.items():
            _former_values[name] = os.environ.get(name)
            os.environ[name] = value

    def __getattr__(self, name: str) -> Any:
        """The settings of the file, for its hooks: `worker.cfg.bind`."""
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        if name in _DEFAULTS:
            return _DEFAULTS[name]
        raise AttributeError(f"cfg has the settings that the file gives; {name!r} is not among them")


def read(path: str, origin: str, app_dir: str, options: Container[str], environ: Mapping[str, str]) -> GunicornConfig:
    """Runs a file and translates its settings.

    Parameters:
        path: the file.
        origin: what named it, for messages.
        app_dir: the directory that the file may import from.
        options: the names of this server's options.
        environ: the environment, for gunicorn's own variables.

    Raises:
        ConfigError: the file cannot be read, it raised, or a value has a wrong type. `__cause__` is the exception of
            the file, with a traceback that begins there.
    """
    values = _run(path, origin, Path(os.path.abspath(app_dir)))
    return _Translation(GunicornConfig(path, values), options, environ).translate()


def _run(path: str, origin: str, directory: Path) -> dict[str, Any]:
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"config: cannot read {path!r} (from {origin}): {error.strerror}") from None
    module = ModuleType("__config__")
    module.__file__ = path
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"config: {path!r} is not Python (from {origin}): {text}{where}") from None
    # Some libraries look a class's module up there.
    sys.modules["__config__"] = module
    try:
        with _first_on_path(directory), modules_dropped(directory):
            exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code is not code:
            frames = frames.tb_next
        error.__traceback__ = frames
        line = frames.tb_lineno if frames is not None else 0
        text = " ".join(traceback.format_exception_only(type(error), error)[-1].split())
        raise ConfigError(f"config: {path!r} raised {text[:160]} (line {line})") from error
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


@contextmanager
def _first_on_path(directory: Path) -> Iterator[None]:
    entry = str(directory)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


class _Translation:
    """Translates the settings of one file."""

    def __init__(self, config: GunicornConfig, options: Container[str], environ: Mapping[str, str]) -> None:
        self._config = config
        self._values = config.values
        self._options = options
        self._environ = environ

    def translate(self) -> GunicornConfig:
        special: dict[str, Callable[[Any], None]] = {
            "access_log_format": self._set_access_log_format,
            "bind": self._set_bind,
            "limit_request_field_size": self._set_limit_request_field_size,
            "limit_request_line": self._set_limit_request_line,
            "pythonpath": self._set_pythonpath,
            "raw_env": self._set_raw_env,
            "wsgi_app": self._set_wsgi_app,
        }
        for name, value in self._values.items():
            if name in special:
                special[name](value)
            elif name in _HOOKS:
                self._set_hook(name, value)
            elif name in _OTHER_HOOKS:
                if callable(value):
                    self._has_none(name, _OTHER_HOOKS[name])
            elif name in _SAME:
                self._set_same(name, value)
            elif name in _DEFAULTS and not self._is_default(name, value):
                self._has_none(name)
        self._set_concurrency()
        self._set_proxies()
        if self._environ.get("PORT"):
            self._config.defaults["host"] = "0.0.0.0"
        return self._config

    # What happens to a setting.

    def _give(self, option: str, value: object, theirs: str) -> None:
        if option in self._options:
            self._config.options[option] = (value, theirs)
        else:
            self._has_none(theirs)

    def _has_none(self, theirs: str, text: str = "") -> None:
        if not text:
            flag = "--" + theirs.replace("_", "-")
            found = counterpart(flag, self._options) or family(flag, self._options)
            text = _TEXTS.get(theirs) or found[2:] or "it has no counterpart"
        self._config.unknown.append(f"{theirs}: {text}")

    def _wrong(self, theirs: str, need: str) -> ConfigError:
        value = self._values[theirs]
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        return ConfigError(f"{theirs} must be {need}, not {shown} (from {self._config.path}: {theirs})")

    def _is_default(self, name: str, value: object) -> bool:
        default = _DEFAULTS[name]
        # None and "" mean "not set" for all of them; False too, where the default is no switch.
        return value == default or value is None or value == "" or (not value and not isinstance(default, (bool, int)))

    # The settings, by gunicorn's names.

    def _set_same(self, name: str, value: Any) -> None:
        if value is None or value == "":
            return
        if name in ("user", "group"):
            own = os.geteuid() if name == "user" else os.getegid()
            is_default, value = value in (own, str(own)), str(value)
        elif name == "chdir":
            is_default = os.path.abspath(str(value)) == os.getcwd()
        else:
            is_default = name in _OFF and value in (0, "0", False)
            # It does nothing alone.
            is_default |= name == "max_requests_jitter" and not self._values.get("max_requests")
        if not is_default:
            self._give(_SAME[name], value, name)

    def _set_wsgi_app(self, value: Any) -> None:
        if value is not None and not isinstance(value, str):
            raise self._wrong("wsgi_app", "the name of an application")
        self._config.application = value or None

    def _set_bind(self, value: Any) -> None:
        addresses = [value] if isinstance(value, str) else value
        if not isinstance(addresses, (list, tuple)) or not all(isinstance(item, str) for item in addresses):
            raise self._wrong("bind", "an address or a list of addresses")
        parts = [part.strip() for item in addresses for part in item.split(",") if part.strip()]
        if parts:
            self._give("bind", [_address(part) for part in parts], "bind")

    def _set_raw_env(self, value: Any) -> None:
        items = [value] if isinstance(value, str) else value or ()
        # A name and a value, and no NUL character, which no variable can have.
        is_valid = isinstance(items, (list, tuple)) and all(
            isinstance(item, str) and re.fullmatch("[^=\0]+=[^\0]*", item) for item in items
        )
        if not is_valid:
            # The values may be secret.
            raise ConfigError(f"raw_env must be a list of 'NAME=value' (from {self._config.path}: raw_env)")
        self._config.environ = dict(item.split("=", 1) for item in items)

    def _set_pythonpath(self, value: Any) -> None:
        if value is not None and not isinstance(value, str):
            raise self._wrong("pythonpath", "directories separated by commas")
        parts = [part.strip() for part in (value or "").split(",")]
        base = os.path.join(os.getcwd(), str(self._values.get("chdir") or ""))
        self._config.python_path = tuple(os.path.normpath(os.path.join(base, part)) for part in parts if part)

    def _set_access_log_format(self, value: Any) -> None:
        if not isinstance(value, str):
            raise self._wrong("access_log_format", "text")
        missing = [found[0] for found in _ATOM.finditer(value) if _directive(found[1]) is None]
        if missing:
            text = f"{' '.join(missing)} has no counterpart; docs/access-log.md lists the directives that exist"
            self._has_none("access_log_format", text)
            return
        ours = _ATOM.sub(lambda found: _directive(found[1]) or "", value)
        self._give("access_log_format", ours, "access_log_format")

    def _set_limit_request_line(self, value: Any) -> None:
        # 0 is no limit there.
        self._give("max_request_line", 16 << 20 if value == 0 else value, "limit_request_line")

    def _set_limit_request_field_size(self, value: Any) -> None:
        # Theirs is of one field, ours of all together.
        if not isinstance(value, int):
            raise self._wrong("limit_request_field_size", "a whole number")
        self._give("max_header_size", 256 << 20 if value == 0 else max(value, 65_536), "limit_request_field_size")

    def _set_hook(self, name: str, value: Any) -> None:
        if value is None:
            return
        code = getattr(value, "__code__", None)
        line = f", line {code.co_firstlineno}" if code is not None else ""
        problem = mistake(_HOOKS[name], value)
        if problem:
            raise ConfigError(f"{name} {problem} (from {self._config.path}{line})")
        self._config.hooks[_HOOKS[name]] = Hook(f"{name} ({self._config.path})", value)

    def _set_concurrency(self) -> None:
        """worker_class, threads, timeout and worker_connections, which depend on each other."""
        given = self._values.get("worker_class") or "sync"
        if not isinstance(given, (str, type)):
            raise self._wrong("worker_class", "the name of a class")
        name = given if isinstance(given, str) else f"{given.__module__}.{given.__qualname__}"
        threads = self._values.get("threads")
        if name in (*_SYNC, *_THREADED):
            is_sync = name in _SYNC and threads in (None, 1, "1")
            if threads is None:
                self._config.defaults["threads"] = 1
            else:
                self._give("threads", threads, "threads")
            self._set_timeout(is_sync=is_sync)
            connections = self._values.get("worker_connections")
            if connections not in (None, _CONNECTIONS) and not is_sync:
                self._has_none("worker_connections", "max_connections limits the connections of all workers")
            return
        self._set_timeout(is_sync=False)
        if name in (*_ASGI, *_UVICORN):
            return
        if any(word in name for word in _GREEN):
            text = "there are no green threads: threads = N sets the number of requests at a time in each worker"
        else:
            text = "there are no worker classes: leave it out; options replace what your class sets (docs/migration.md)"
        self._has_none("worker_class", f"{name}: {text}")
        if threads is not None:
            self._give("threads", threads, "threads")

    def _set_timeout(self, *, is_sync: bool) -> None:
        value = self._values.get("timeout")
        if not value or value == "0":
            return
        if is_sync:
            self._give("request_timeout", value, "timeout")
            if "request_timeout_action" in self._options and "request_timeout" in self._options:
                self._config.options["request_timeout_action"] = ("recycle", "timeout")
        else:
            self._config.notes["request_timeout"] = (
                "timeout is not used: for workers other than sync it limits how long the worker may hang, not a request"
            )

    def _set_proxies(self) -> None:
        value = self._values.get("forwarded_allow_ips")
        theirs = "forwarded_allow_ips"
        if value is None:
            value, theirs = self._environ.get("FORWARDED_ALLOW_IPS"), "forwarded_allow_ips, FORWARDED_ALLOW_IPS"
        protocol = self._values.get("proxy_protocol")
        proxies = self._networks(value, "forwarded_allow_ips")
        if protocol and protocol != "off":
            self._give("proxy_protocol", "any" if protocol in (True, "auto") else protocol, "proxy_protocol")
            proxies += self._networks(self._values.get("proxy_allow_ips", _LOCAL), "proxy_allow_ips")
        if proxies:
            # gunicorn trusts every peer of a Unix socket.
            self._give("trusted_proxies", list(dict.fromkeys([*proxies, "unix"])), theirs)
        elif value is None:
            self._config.notes["trusted_proxies"] = (
                "forwarded_allow_ips is not set: the server does not use X-Forwarded-Proto and passes it on; "
                f"forwarded_allow_ips = {_LOCAL!r} is gunicorn's default"
            )
        fields = self._values.get("secure_scheme_headers")
        if isinstance(fields, dict) and fields and proxies:
            given = {str(name).upper(): word for name, word in fields.items()}
            is_known = all(_SECURE.get(name) == word for name, word in given.items())
            if not is_known or "X-FORWARDED-PROTO" not in given:
                self._has_none("secure_scheme_headers", "only X-Forwarded-Proto: https is known here")

    def _networks(self, value: Any, theirs: str) -> list[str]:
        if not value:
            return []
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise self._wrong(theirs, "addresses separated by commas")
        return [item.strip() for item in items if item.strip()]


def _directive(atom: str) -> str | None:
    """The directive of the access log for an atom of gunicorn's, None if there is none."""
    if atom in _SAME_ATOMS:
        return f"%{atom}"
    field = re.fullmatch(r"\{([\w-]+)\}i", atom)
    return f"%{{{field[1]}}}i" if field else _ATOMS.get(atom)


def _address(text: str) -> str:
    """An address of gunicorn's in the notation of `bind`."""
    for prefix in ("unix://", "unix:", "tcp://", "fd://"):
        if text.startswith(prefix):
            rest = text[len(prefix) :]
            return (
                f"unix:{rest}" if prefix.startswith("unix") else f"fd://{rest}" if prefix == "fd://" else _address(rest)
            )
    host, colon, port = text.rpartition(":")
    is_address = bool(colon) and not (text.startswith("[") and text.endswith("]"))
    if not is_address:
        return f"{text}:8000"
    return f"{host}:{port}"
