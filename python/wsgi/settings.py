"""The options of the server, defined in one table.

Each option is an attribute of `Settings`. It defines the flag `--max-body-size`, the keyword `max_body_size`, the
variable `WSGI_MAX_BODY_SIZE`, the TOML key `max_body_size`, the help text, the entry in docs/options.md and the type
that a checker sees. A new option is a new attribute and nothing else here.

A flag overrides a variable, a variable overrides the file, the file overrides the default. A fallback variable, such
as PORT, is shared with other programs and overrides only the default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from wsgi.env_file import read_env_file
from wsgi.errors import ConfigError
from wsgi.option_types import (
    Account,
    Bind,
    Boolean,
    Choice,
    Directory,
    File,
    Format,
    Host,
    Integer,
    ListOf,
    Mode,
    Network,
    OptionType,
    Path,
    Pattern,
    Prefix,
    Rate,
    Seconds,
    Size,
    Text,
    Umask,
    Workers,
)
from wsgi.other_servers import counterpart, family
from wsgi.suggest import did_you_mean

if TYPE_CHECKING:
    from wsgi.gunicorn_config import GunicornConfig
    from wsgi.hooks import Hook, Hooks

__all__ = ["OPTIONS", "Option", "Settings", "hint"]

T = TypeVar("T")

# The sources of an option. COMMAND means those of the `wsgi` command: flag, variable and file, but no keyword.
EVERYWHERE, COMMAND, FLAG_AND_VARIABLE, FLAG = "everywhere", "command", "flag and variable", "flag"

# What a reload does with a changed value: the new workers have it; it stays as it is until the server is restarted or
# changes its program; the same if either value is None; sockets that are opened from then on have it.
APPLIED, KEPT, KEPT_IF_NONE, NEW_SOCKETS = "applied", "kept", "kept if none", "new sockets"

# A year: longer than any use, and within the range of every system's clock.
YEAR = 31_536_000.0
X_FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")
COMBINED = '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"'


class Option(Generic[T]):
    """One option: a descriptor that gives the option on `Settings`, and its read-only value on an instance.

    Parameters:
        type: reads, validates and formats values.
        default: the value if none is given.
        group: the heading in the help.
        help: one sentence in lower case, without default and range.
        sources: where a value may come from.
        fallback: a variable shared with other programs, read if no other source gives a value.
        short: a second flag of one letter, such as `-w`.
        reload: what a reload does with a changed value.
    """

    name = ""

    def __init__(
        self,
        type: OptionType[T],
        default: T,
        group: str,
        help: str,
        *,
        sources: str = EVERYWHERE,
        fallback: str | None = None,
        short: str | None = None,
        reload: str = APPLIED,
    ) -> None:
        self.type = type
        self.default = default
        self.group = group
        self.help = help
        self.sources = sources
        self.fallback = fallback
        self.short = short
        self.reload = reload

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def flag(self) -> str:
        """The flag, such as `--max-body-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str | None:
        """The variable, such as `WSGI_MAX_BODY_SIZE`."""
        return None if self.sources == FLAG else "WSGI_" + self.name.upper()

    @property
    def in_file(self) -> bool:
        """Whether a TOML file may set it."""
        return self.sources in (EVERYWHERE, COMMAND)

    @overload
    def __get__(self, instance: None, owner: type[Settings]) -> Option[T]: ...
    @overload
    def __get__(self, instance: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, instance: Settings | None, owner: type[Settings]) -> Option[T] | T:
        if instance is None:
            return self
        value: T = instance._values[self.name]
        return value

    def __set__(self, instance: Settings, value: NoReturn) -> None:
        raise AttributeError(f"settings cannot be changed: {self.name}")


class Origin:
    """Where a value came from. The higher `rank` wins; `text` names it in messages."""

    __slots__ = ("rank", "text")

    DEFAULT, FALLBACK, FILE, VARIABLE, GIVEN = range(5)

    def __init__(self, rank: int, text: str) -> None:
        self.rank = rank
        self.text = text


_BY_DEFAULT = Origin(Origin.DEFAULT, "default")


class Settings:
    """The values of all options. Made by `from_keywords` or `from_command`; immutable.

    Sizes are in bytes, times in seconds as floats, repeated values are tuples.

    Thread-safety: may be read from any thread.
    """

    __slots__ = ("_hooks", "_origins", "_values", "environment", "gunicorn")

    # fmt: off
    # listening
    host = Option(Host(), "127.0.0.1", "Listening",
        "name or address to listen on; 0.0.0.0 is every IPv4 interface, :: every interface, localhost both loopbacks")
    port = Option(Integer(0, 65535), 8000, "Listening",
        "TCP port; 0 lets the system choose a free one", fallback="PORT")
    bind = Option(ListOf(Bind()), (), "Listening",
        "address to listen on, in place of host and port; fd://N is an open socket, whose descriptor the command takes "
        "over and closes, fd://NAME a socket that systemd passes to the command, by its FileDescriptorName; may be "
        "repeated; without bind, host and port the command listens on all sockets that systemd passes", short="-b")
    socket_mode = Option(Mode(), None, "Listening",
        "permissions of Unix sockets; the umask applies to the default only", reload=NEW_SOCKETS)
    backlog = Option(Integer(1, (1 << 31) - 1), 2048, "Listening",
        "maximum number of connections that wait in the kernel to be accepted", reload=NEW_SOCKETS)
    reuse_port = Option(Boolean(), False, "Listening",
        "allow other servers to listen on the same port (SO_REUSEPORT)", reload=NEW_SOCKETS)

    # TLS
    certfile = Option(ListOf(File()), (), "TLS",
        "PEM file with a certificate and those that lead to its authority; the server then speaks HTTPS on every "
        "address without http:// in front; may be repeated: the server name that a client asks for selects one, the "
        "first is the default")
    keyfile = Option(ListOf(File()), (), "TLS",
        "PEM file with the private key of a certificate, the n-th for the n-th certfile; without it the certfile holds "
        "the key, too; may be repeated")
    key_password_file = Option(Path(), None, "TLS",
        "file whose first line is the password of encrypted private keys")
    client_ca = Option(Path(), None, "TLS",
        "PEM file with the authorities of client certificates")
    client_verify = Option(Choice("none", "optional", "required"), "none", "TLS",
        "ask clients for a certificate; required refuses those without a valid one, optional only those with an "
        "invalid one")
    tls_min = Option(Choice("1.2", "1.3"), "1.2", "TLS",
        "minimum version of TLS")

    # application
    interface = Option(Choice("auto", "wsgi", "asgi"), "auto", "Application",
        "interface of the application; auto decides by its signature, or by one trial call where that fits several")
    lifespan = Option(Choice("auto", "on", "off"), "auto", "Application",
        "send startup and shutdown events to an ASGI application; on requires that it supports them, auto does not")
    loop = Option(Choice("auto", "asyncio", "uvloop"), "auto", "Application",
        "event loop of an ASGI application; auto selects uvloop if it is installed")
    root_path = Option(Prefix(), "", "Application",
        "prefix of the path that a proxy removes from every request: SCRIPT_NAME of a WSGI application, root_path of "
        "an ASGI one; the x-forwarded-prefix of a trusted proxy replaces it")
    pathsend = Option(Boolean(), False, "Application",
        "offer ASGI applications to send files by path (http.response.pathsend); middleware that reads or changes "
        "response bodies, such as Starlette's BaseHTTPMiddleware, does not see these files")

    # concurrency
    threads = Option(Integer(1, 1024), 16, "Concurrency",
        "maximum number of requests that a WSGI application handles at the same time, each in a thread; above 1, "
        "one more thread is started")
    max_connections = Option(Integer(1, 10_000_000), 10_000, "Concurrency",
        "maximum number of open connections of all workers together; each process has at most five eighths of its "
        "limit of open files; when reached, a new connection replaces an idle or slow one, or waits in the backlog; "
        "WebSockets may use seven eighths of them, and further handshakes get 503")
    queue_limit = Option(Integer(1, 10_000_000), 1000, "Concurrency",
        "maximum number of requests that wait for a thread, or for the response of an ASGI application to begin, in "
        "all workers together; further requests get 503")
    queue_timeout = Option(Seconds(0.001, YEAR), 30.0, "Concurrency",
        "maximum time that a request waits for a thread; then it gets 503")

    # processes
    workers = Option(Workers(), None, "Processes",
        "number of worker processes, which a supervisor starts and restarts, or auto: one for each processor that may "
        "be used; none: one process serves, without a supervisor", fallback="WEB_CONCURRENCY", short="-w",
        reload=KEPT_IF_NONE)
    boot_timeout = Option(Seconds(0.001, YEAR), 60.0, "Processes",
        "maximum time from the start of a worker process until it serves, and of a template until it has imported the "
        "application; a slower one is killed and counts as failed")

    preload = Option(Boolean(), False, "Processes",
        "import the application once in a template process for each generation, from which workers are forked, so that "
        "they share its memory; needs Linux; docs/deployment.md says what a fork shares", sources=COMMAND,
        reload=KEPT)
    max_requests = Option(Integer(0, 1 << 53), 0, "Processes",
        "number of requests after which a worker process is replaced, one worker at a time, its successor first; "
        "0: never")
    max_requests_jitter = Option(Integer(0, 1 << 53), 0, "Processes",
        "maximum number that is added to max_requests, drawn at random for each worker; 0: a tenth of max_requests")
    max_age = Option(Seconds(1.0, YEAR, zero="never"), 0.0, "Processes",
        "time after which a worker process is replaced, plus up to a tenth, drawn at random for each worker; 0: never")
    max_memory = Option(Size(0, 1 << 50), 0, "Processes",
        "private memory of a worker process beyond which it is replaced, plus up to a tenth, drawn at random for each "
        "worker; it is measured once a second and does not count what other processes share; 0: never")

    # process
    user = Option(Account("USER", "user"), None, "Process",
        "user that the application runs as, with its groups; workers change to it before they import the application, "
        "a single process when it listens; needs a start as root", sources=COMMAND, reload=KEPT)
    group = Option(Account("GROUP", "group"), None, "Process",
        "group that the application runs as, in place of the primary group of user; without user the only group",
        sources=COMMAND, reload=KEPT)
    umask = Option(Umask(), None, "Process",
        "permissions that new files, Unix sockets and logs do not get", sources=COMMAND, reload=KEPT)
    chdir = Option(Directory(), ".", "Process",
        "directory to change to before anything but config and env_file is opened; app_dir and all other paths are "
        "relative to it", sources=COMMAND, reload=KEPT)
    pidfile = Option(Path(), None, "Process",
        "file with the number of the server's process (of the supervisor, with workers): written when the server "
        "serves, removed at its end; the start is refused while the process in it runs", sources=COMMAND,
        reload=KEPT)
    process_name = Option(Text("NAME", "one line of text", r"[^\x00-\x1f\x7f]{1,200}"), None, "Process",
        "name of the processes in ps and top, which needs the package setproctitle; a worker's ends with 'worker'",
        sources=COMMAND, reload=KEPT)
    env_file = Option(Path(), None, "Process",
        "file with lines KEY=VALUE that become variables of the environment, also of options, unless they are set "
        "already", sources=FLAG_AND_VARIABLE, reload=KEPT)

    # limits
    max_request_line = Option(Size(64, 16 << 20), 8190, "Limits",
        "maximum length of the request line; longer ones get 414")
    max_header_fields = Option(Integer(1, 65_536), 100, "Limits",
        "maximum number of header fields; requests with more get 431")
    max_header_size = Option(Size(256, 256 << 20), 65_536, "Limits",
        "maximum size of the header section; larger requests get 431")
    max_body_size = Option(Size(0, 1 << 50), 1 << 30, "Limits",
        "maximum size of a request body; larger ones get 413")
    body_buffer = Option(Size(0, 1 << 30), 65_536, "Limits",
        "request bodies up to this size are kept in memory; larger ones of known length too, up to 128 times this size "
        "each and 1024 times this size in total; all others go to a temporary file")
    max_spool_size = Option(Size(0, 1 << 50), 4 << 30, "Limits",
        "maximum total size of temporary files of all workers together; when reached, a request or response of a slow "
        "client of the same worker is ended to free its space; if none is slow, the request that needs space gets 503")
    stream_bodies = Option(Boolean(), False, "Limits",
        "pass request bodies of known length larger than body_buffer to a WSGI application as they arrive; a slow "
        "client then occupies a thread until other requests wait for one")
    stream_chunked = Option(Boolean(), False, "Limits",
        "pass chunked request bodies to a WSGI application as they arrive, without CONTENT_LENGTH; an application that "
        "reads only what CONTENT_LENGTH announces, as Django does, reads them as empty")

    # time
    header_timeout = Option(Seconds(0.001, YEAR), 10.0, "Time",
        "maximum time to receive the request line and header section")
    body_timeout = Option(Seconds(0.001, YEAR), 30.0, "Time",
        "maximum time without a byte of a request body, or of a WebSocket message that has begun")
    body_min_rate = Option(Rate(0, 1 << 40), 500, "Time",
        "minimum average rate of a request body or WebSocket message; a faster start is credited with at most "
        "body_timeout; 0 allows any rate")
    write_timeout = Option(Seconds(0.001, YEAR), 60.0, "Time",
        "maximum time in which the client accepts no byte of the response")
    request_timeout = Option(Seconds(0.01, YEAR, zero="off"), 0.0, "Time",
        "maximum time from the call of the application to the head of its response, and then between pieces; what "
        "follows is request_timeout_action; WebSockets and event streams have no limit, and neither time in which the "
        "client is waited for nor time without a processor counts")
    request_timeout_action = Option(Choice("log", "interrupt", "recycle"), "log", "Time",
        "what is done with a request over request_timeout: log writes the stacks of all threads to the log; interrupt "
        "also answers 504 and raises wsgi.errors.RequestTimeout in its thread, or cancels its task; recycle also "
        "answers 504 and replaces the worker process, once its other requests are done")
    keep_alive = Option(Seconds(0.001, YEAR, zero="no keep-alive"), 75.0, "Time",
        "maximum idle time of a connection between requests; 0 closes it after each response")
    graceful_timeout = Option(Seconds(0.001, YEAR, zero="at once"), 30.0, "Time",
        "maximum time of a stop, for running requests, an ASGI application's lifespan and the application's threads; "
        "responses unfinished after half of it are cut off; 0 ends everything at once")

    # proxies
    trusted_proxies = Option(ListOf(Network()), (), "Proxies",
        "address or network of a proxy that is trusted to name client, scheme and host; may be repeated")
    forwarded_hops = Option(Integer(1, 100), 1, "Proxies",
        "number of trusted proxies that a request passes: the maximum number of elements read from the right of their "
        "fields")
    forwarded_fields = Option(
        ListOf(Choice("forwarded", *X_FORWARDED, metavar="FIELD")), ("x-forwarded-for", "x-forwarded-proto"), "Proxies",
        "field that the trusted proxies set, replacing or extending what the client sent; the others are hidden from "
        "the application; may be repeated")
    proxy_protocol = Option(Choice("off", "v1", "v2", "any"), "off", "Proxies",
        "version of the PROXY protocol; unless off, every connection must come from a trusted proxy and begin with its "
        "header")

    # websockets
    websocket_max_message = Option(Size(1, 1 << 40), 16 << 20, "WebSockets",
        "maximum size of a message from a client, after decompression; larger ones close the connection with 1009")
    websocket_queue_size = Option(Size(1, 1 << 40), 256 << 10, "WebSockets",
        "maximum size of messages of one connection that wait for the application; when reached, reading pauses")
    websocket_memory = Option(Size(1, 1 << 40), 256 << 20, "WebSockets",
        "maximum memory of waiting and unfinished messages of all connections; when reached, the connections that have "
        "held most of it for longest are closed with 1013")
    websocket_ping_interval = Option(Seconds(0.001, YEAR, zero="no pings"), 20.0, "WebSockets",
        "time without data from the client after which a ping is sent")
    websocket_ping_timeout = Option(Seconds(0.001, YEAR), 20.0, "WebSockets",
        "maximum time to wait for the answer to a ping; then the connection is closed with 1011")
    websocket_compression = Option(Boolean(), True, "WebSockets",
        "compress messages for clients that support it (permessage-deflate)")

    # logging
    access_log = Option(Path(), None, "Logging",
        "file for the access log; - is standard output, an empty path disables it")
    access_log_format = Option(Format(), COMBINED, "Logging",
        "format of the access log, in the notation of Apache's LogFormat; the default is the combined format")
    access_log_exclude = Option(ListOf(Pattern()), (), "Logging",
        "request path without access log lines; a * at the end matches any continuation; may be repeated")
    log_level = Option(Choice("debug", "info", "warning", "error", "critical"), "info", "Logging",
        "minimum level of logged messages, also those of the application unless it configures logging itself",
        sources=COMMAND)

    # the command
    app_dir = Option(Directory(), ".", "Command",
        "directory the application is imported from", sources=COMMAND)
    config = Option(Path(), None, "Command",
        "TOML file with options, or a configuration file of gunicorn, whose name ends with .py",
        sources=FLAG_AND_VARIABLE, short="-c")
    config_unknown = Option(Choice("error", "warn"), "error", "Command",
        "what to do about a key of the file that is unknown, or a setting of gunicorn that has no counterpart",
        sources=FLAG_AND_VARIABLE)
    check_config = Option(Boolean(), False, "Command",
        "import the application, print every option with its origin, and exit without listening", sources=FLAG)
    # fmt: on

    environment: dict[str, str]
    """The variables of `env_file` that the environment did not have, for the process to set."""
    _values: dict[str, Any]
    _origins: dict[str, Origin]

    def __init__(self) -> None:
        self._values = {name: option.default for name, option in OPTIONS.items()}
        self._origins = dict.fromkeys(OPTIONS, _BY_DEFAULT)
        self._hooks: Hooks | None = None
        self.gunicorn: GunicornConfig | None = None
        """What a configuration file of gunicorn says beside the options."""
        self.environment = {}

    @classmethod
    def from_keywords(cls, **options: object) -> Settings:
        """Settings of a program that makes its own server: keywords override defaults; no file and no variables.

        Raises:
            TypeError: an option has an unknown name.
            ConfigError: an option has a wrong value.
        """
        settings = cls()
        allowed = [name for name, option in OPTIONS.items() if option.sources == EVERYWHERE]
        for name, value in options.items():
            if name not in allowed:
                where = " (only the wsgi command has it)" if name in OPTIONS else ""
                raise TypeError(f"unknown option {name!r}{where}{hint(name, allowed)}")
            option = OPTIONS[name]
            settings._set(option, value, Origin(Origin.GIVEN, f"keyword {name}"), option.type.from_object)
            if settings._values[name] == option.default:
                # A caller may pass its own defaults for `host` and `port` together with `bind`, which is no conflict.
                settings._origins[name] = _BY_DEFAULT
        settings._settle_addresses()
        settings._use_sockets(())
        settings._check_proxies()
        settings._check_workers()
        settings._check_request_timeout()
        settings._check_tls()
        return settings

    @classmethod
    def from_command(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        warn: Callable[[str], object] = lambda message: None,
        sockets: Sequence[tuple[str, int]] = (),
    ) -> Settings:
        """Settings of the `wsgi` command: flags, variables, the files, defaults.

        Parameters:
            flags: the given flags by option name: a str, a list of str for a repeatable flag, a bool for a flag without
                value.
            environ: the environment; default: that of the process. Empty variables count as not set.
            warn: called with one line for each `WSGI_*` variable that is no option, and for each variable of an option
                that Kubernetes has set as a service link. Other variables of such a service are ignored.
            sockets: name and descriptor of each socket that systemd has passed.

        Raises:
            ConfigError: a value, a TOML key or a file is wrong, or a directory does not exist.
        """
        settings = cls()
        environ = os.environ if environ is None else environ
        flags = {} if flags is None else flags
        # First, because other options may be among the variables of the file.
        environ = settings._with_env_file(flags, environ)
        for option in OPTIONS.values():
            kind = option.type
            if option.name in flags:
                given = flags[option.name]
                read: Callable[[Any], object] = kind.from_text if isinstance(given, str) else kind.from_object
                settings._set(option, given, Origin(Origin.GIVEN, option.flag), read)
                continue
            for variable, rank in ((option.variable, Origin.VARIABLE), (option.fallback, Origin.FALLBACK)):
                if variable and environ.get(variable):
                    if _is_link(variable, environ):
                        warn(f"{variable} is ignored: it is the link that Kubernetes sets for a service of that name")
                        continue
                    text = f"{settings.env_file}: {variable}" if variable in settings.environment else variable
                    settings._set(option, environ[variable], Origin(rank, text), kind.from_text)
                    break
        if settings.config is not None:
            hooks = settings._read_file(settings.config, environ, warn)
            if hooks:
                from wsgi.hooks import Hooks  # most files have none

                settings._hooks = Hooks(hooks, settings.gunicorn or settings, settings.app_dir)
        settings._settle_addresses()
        settings._use_sockets(sockets)
        settings._check_proxies()
        settings._check_workers()
        settings._check_directories()
        settings._check_request_timeout()
        settings._check_tls()
        known = [option.variable for option in OPTIONS.values() if option.variable]
        for variable in sorted(environ):
            if variable.startswith("WSGI_") and variable not in known and not _is_link(variable, environ):
                suggestion = hint(variable[5:], [name[5:] for name in known], prefix="WSGI_")
                warn(f"unknown option in the environment: {variable}{suggestion}")
        return settings

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to listen on, as `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `fd://N`."""
        return self.bind or (Bind.join(self.host, self.port),)

    def call_hook(self, name: str) -> None:
        """Calls the hook of a moment, if the configuration file names one.

        Raises:
            HookError: the hook raised, and precedes something that it thereby prevents.
        """
        if self._hooks is not None:
            self._hooks.call(name)

    @property
    def hooks(self) -> Hooks:
        """The hooks of the configuration file."""
        if self._hooks is None:
            from wsgi.hooks import Hooks  # a program's server does not need it

            self._hooks = Hooks()
        return self._hooks

    def listening_on(self, addresses: Iterable[str]) -> Settings:
        """These settings with other addresses to listen on, as `addresses` has them."""
        settings = self._copy()
        settings._values["bind"] = tuple(addresses)
        return settings

    def _copy(self) -> Settings:
        settings = Settings()
        settings._values, settings._origins = dict(self._values), dict(self._origins)
        settings._hooks, settings.gunicorn, settings.environment = self._hooks, self.gunicorn, dict(self.environment)
        return settings

    def reloaded(self, former: Settings) -> tuple[Settings, list[str]]:
        """These settings as a running server can apply them, and a line for each kind of change that it cannot.

        Parameters:
            former: the settings that the server runs with.
        """
        settings = self._copy()
        kept, new_sockets = [], []
        for name, option in OPTIONS.items():
            before, after = former._values[name], self._values[name]
            if before == after:
                continue
            if option.reload == KEPT or (option.reload == KEPT_IF_NONE and None in (before, after)):
                settings._values[name], settings._origins[name] = before, former._origins[name]
                kept.append(name)
            elif option.reload == NEW_SOCKETS:
                new_sockets.append(name)
        notes = []
        if kept:
            notes.append(f"a reload does not change {', '.join(kept)}: send SIGUSR2 or restart the server for that")
        if new_sockets:
            notes.append(f"{', '.join(new_sockets)}: changed for sockets that are opened from now on")
        return settings, notes

    def origin(self, name: str) -> str:
        """Where the value of the option `name` came from, such as `--port`, `WSGI_PORT`, `app.toml: port`."""
        return self._origins[name].text

    def shown(self, name: str) -> str:
        """The value of the option `name` in the notation of the command line."""
        return str(OPTIONS[name].type.show(self._values[name]))

    def _set(self, option: Option[Any], value: Any, origin: Origin, read: Callable[[Any], object]) -> None:
        """Sets one option if `origin` has a higher rank than the current one. A wrong value is refused either way."""
        if not isinstance(option.type, (Directory, Path)) and _is_undecodable(value):
            raise ConfigError(f"{option.name} must be UTF-8 text, not {_brief(value)} (from {origin.text})")
        try:
            result = read(value)
        except ValueError:
            kind = option.type
            # The value of a repeatable flag is a list of str.
            as_text = read == kind.from_text or origin.text == option.flag
            need = kind.requirement if as_text else kind.typed_requirement or kind.requirement
            value = value[0] if as_text and isinstance(value, list) and len(value) == 1 else value
            raise ConfigError(f"{option.name} must be {need}, not {_brief(value)} (from {origin.text})") from None
        if origin.rank > self._origins[option.name].rank:
            self._values[option.name] = result
            self._origins[option.name] = origin

    def _read_file(self, path: str, environ: Mapping[str, str], warn: Callable[[str], object]) -> Mapping[str, Hook]:
        """Reads the options of a file; gives its hooks."""
        if path.endswith(".py"):
            return self._read_gunicorn(path, environ, warn)
        allowed = [name for name, option in OPTIONS.items() if option.in_file]
        hooks: Mapping[str, Hook] = {}
        for key, value in _toml(path, self._origins["config"].text).items():
            is_table = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
            if key == "hooks" and isinstance(value, dict):
                from wsgi.hooks import read_table  # most files have none

                hooks = read_table(value, path)
                continue
            if is_table:
                raise ConfigError(
                    f"{path!r} has a table [{_shortened(key)}] (from {self._origins['config'].text}): put options at "
                    "the top of the file, outside of any table"
                )
            if key not in allowed:
                where = " (it cannot be set in a file)" if key in OPTIONS else ""
                line = f"unknown key {_brief(key)} in {path!r}{where}{hint(key, allowed)}"
                if self.config_unknown == "error":
                    raise ConfigError(line)
                warn(line)
                continue
            option = OPTIONS[key]
            self._set(option, value, Origin(Origin.FILE, f"{path}: {key}"), option.type.from_object)
        return hooks

    def _read_gunicorn(
        self, path: str, environ: Mapping[str, str], warn: Callable[[str], object]
    ) -> Mapping[str, Hook]:
        from wsgi.gunicorn_config import read  # most starts have no such file

        self.gunicorn = found = read(path, self._origins["config"].text, self.app_dir, OPTIONS, environ)
        if found.unknown and self.config_unknown == "error":
            raise ConfigError(
                f"{path!r} has settings without a counterpart: {'; '.join(found.unknown)}. Remove them, or use "
                "--config-unknown warn"
            )
        for line in found.unknown:
            warn(f"{path}: {line}")
        for name, (value, theirs) in found.options.items():
            option = OPTIONS[name]
            # Text is often that of a variable: os.environ.get("THREADS", 4).
            as_text = isinstance(value, str)
            convert: Callable[[Any], object] = option.type.from_text if as_text else option.type.from_object
            self._set(option, value, Origin(Origin.FILE, f"{path}: {theirs}"), convert)
        for name, value in found.defaults.items():
            option = OPTIONS[name]
            self._set(option, value, Origin(Origin.FALLBACK, f"{path}: gunicorn's default"), option.type.from_object)
        for name in [name for name in found.notes if name in OPTIONS and self._origins[name] is not _BY_DEFAULT]:
            del found.notes[name]
        return found.hooks

    def _with_env_file(self, flags: Mapping[str, object], environ: Mapping[str, str]) -> Mapping[str, str]:
        """The environment with the variables of `env_file` that it does not have."""
        option = OPTIONS["env_file"]
        assert option.variable is not None
        if option.name in flags:
            self._set(option, flags[option.name], Origin(Origin.GIVEN, option.flag), option.type.from_text)
        elif text := environ.get(option.variable):
            self._set(option, text, Origin(Origin.VARIABLE, option.variable), option.type.from_text)
        if self.env_file is None:
            return environ
        found = read_env_file(self.env_file, self._origins[option.name].text)
        self.environment = {name: value for name, value in found.items() if name not in environ}
        return {**self.environment, **environ}

    def _use_sockets(self, sockets: Sequence[tuple[str, int]]) -> None:
        """Puts the sockets of systemd in the place of names, and of the default address."""
        is_default = all(self._origins[name].rank <= Origin.FALLBACK for name in ("host", "port"))
        if sockets and not self.bind and is_default:
            self._values["bind"] = tuple(f"fd://{number}" for _, number in sockets)
            self._origins["bind"] = Origin(Origin.FALLBACK, "LISTEN_FDS")
            for name in ("host", "port"):
                origin = self._origins[name]
                self._origins[name] = Origin(origin.rank, f"{origin.text}, replaced by LISTEN_FDS")
            return
        addresses: list[str] = []
        for address in self.bind:
            scheme, is_passed, label = address.rpartition("fd://")
            if not is_passed or label.isdecimal():
                addresses.append(address)
                continue
            named = [f"{scheme}fd://{number}" for name, number in sockets if name == label]
            if not named:
                names = ", ".join(dict.fromkeys(name for name, _ in sockets)) or "no sockets"
                raise ConfigError(
                    f"bind: systemd passed no socket named {label!r} (from {self._origins['bind'].text}), but {names}; "
                    f"set FileDescriptorName={label} in the socket unit, and start the command by its service"
                )
            addresses += named
        if self.bind:
            self._values["bind"] = tuple(addresses)

    def _check_directories(self) -> None:
        """Refuses directories that do not exist."""
        for name, path in (("chdir", self.chdir), ("app_dir", os.path.join(self.chdir, self.app_dir))):
            if not os.path.isdir(path):
                given = _brief(self._values[name])
                raise ConfigError(
                    f"{name} must be {OPTIONS[name].type.requirement}, not {given} (from {self._origins[name].text})"
                )

    def _settle_addresses(self) -> None:
        """Uses either `bind` or `host` and `port`, by the rank of their origins."""
        if not self.bind:
            return
        bind = self._origins["bind"]
        above = [self._origins[name] for name in ("host", "port") if self._origins[name].rank >= bind.rank]
        if any(origin.rank == bind.rank for origin in above):
            given = " and ".join(origin.text for origin in above)
            raise ConfigError(f"bind replaces host and port, but both were given (from {bind.text} and {given})")
        if above:
            self._values["bind"] = ()
            self._origins["bind"] = Origin(bind.rank, f"{bind.text}, replaced by {above[0].text}")
            return
        for name in ("host", "port"):
            origin = self._origins[name]
            self._origins[name] = Origin(origin.rank, f"{origin.text}, replaced by {bind.text}")

    def _check_tls(self) -> None:
        """Refuses combinations of TLS options that are incomplete or have no effect."""
        secure = next((address for address in self.addresses if address.startswith("https://")), None)
        if not self.certfile:
            for name in ("keyfile", "key_password_file", "client_ca", "client_verify", "tls_min"):
                if self._values[name] != OPTIONS[name].default:
                    raise ConfigError(f"{name} needs certfile (from {self._origins[name].text})")
            if secure is not None:
                raise ConfigError(f"bind {secure} needs certfile (from {self._origins['bind'].text})")
        if self.keyfile and len(self.keyfile) != len(self.certfile):
            counts = f"{len(self.keyfile)} for {len(self.certfile)} certfile"
            raise ConfigError(
                f"keyfile: one is needed for each certfile, not {counts} (from {self._origins['keyfile'].text})"
            )
        if (self.client_verify == "none") != (self.client_ca is None):
            given, missing = ("client_ca", "client_verify") if self.client_ca else ("client_verify", "client_ca")
            raise ConfigError(f"{given} needs {missing} (from {self._origins[given].text})")

    def _check_proxies(self) -> None:
        """Refuses combinations of proxy options that are unsafe or have no effect."""
        others = [name for name in self.forwarded_fields if name in X_FORWARDED]
        if others and len(others) < len(self.forwarded_fields):
            both = f"both forwarded and {others[0]} (from {self._origins['forwarded_fields'].text})"
            raise ConfigError(
                f"forwarded_fields must be forwarded or x-forwarded fields, not {both}: a client could forge the "
                "ones that its proxy does not set"
            )
        if self.trusted_proxies:
            return
        for name in ("forwarded_hops", "forwarded_fields", "proxy_protocol"):
            if self._values[name] != OPTIONS[name].default:
                raise ConfigError(f"{name} needs trusted_proxies (from {self._origins[name].text})")

    def _check_workers(self) -> None:
        """Refuses options that have no effect without a supervisor."""
        needs = dict.fromkeys(("preload", "max_requests", "max_age", "max_memory"), "workers")
        for name, need in {**needs, "max_requests_jitter": "max_requests"}.items():
            if self._values[name] != OPTIONS[name].default and self._values[need] == OPTIONS[need].default:
                raise ConfigError(f"{name} needs {need} (from {self._origins[name].text})")

    def _check_request_timeout(self) -> None:
        """Refuses actions that have no effect or cannot be carried out."""
        action, origin = self.request_timeout_action, self._origins["request_timeout_action"].text
        if action == OPTIONS["request_timeout_action"].default:
            return
        if not self.request_timeout:
            raise ConfigError(f"request_timeout_action needs request_timeout (from {origin})")
        if action == "recycle" and self.workers is None:
            raise ConfigError(
                f"request_timeout_action recycle needs workers (from {origin}): only a supervisor can replace a "
                "process; one worker is enough"
            )

    def __repr__(self) -> str:
        given = (f"{name}={self._values[name]!r}" for name in OPTIONS if self._origins[name] is not _BY_DEFAULT)
        return f"Settings({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.values()))


OPTIONS: dict[str, Option[Any]] = {name: row for name, row in vars(Settings).items() if isinstance(row, Option)}
"""All options by name, in the order of the help."""


# Variables that Kubernetes sets for a service called wsgi or wsgi-*: WSGI_PORT=tcp://10.0.0.1:80, WSGI_SERVICE_HOST,
# WSGI_SERVICE_PORT_HTTP, WSGI_PORT_80_TCP_ADDR.
_LINK = re.compile(r"(?:tcp|udp|sctp)://")
_LINK_NAME = re.compile(r"WSGI_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")


def _is_link(variable: str, environ: Mapping[str, str]) -> bool:
    return bool(_LINK_NAME.fullmatch(variable) or (variable.endswith("_PORT") and _LINK.match(environ[variable])))


def hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """What to add to the unknown name of an option: what does the same here, or the closest name.

    Parameters:
        name: the name, or a flag as given.
        known: the names without the prefix that all of them share.
        prefix: put before the closest name in the answer.
    """
    flag = name if name.startswith("-") else "--" + name
    return counterpart(flag, OPTIONS) or did_you_mean(name.lstrip("-"), known, prefix) or family(flag, OPTIONS)


def _is_undecodable(value: object) -> bool:
    """Whether text from the command line or the environment has bytes that are not UTF-8."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(text, str) and re.search("[\ud800-\udfff]", text) for text in texts)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 and text.isprintable() else _brief(text)


def _brief(value: object) -> str:
    """The given value, escaped and shortened to fit one line."""
    try:
        text = repr(value)
    except Exception:
        # An integer of more than 4300 digits has no repr, and the repr of any object may raise.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _toml(path: str, origin: str) -> dict[str, Any]:
    # Imported here, because most starts have no file.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ConfigError(f"config: cannot read {path!r} (from {origin}): {error.strerror}") from None
    try:
        # Some editors put a byte order mark first.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"config: {path!r} is not UTF-8 text (from {origin}): save it as UTF-8; the first wrong byte is "
            f"{content[error.start]:#04x} in line {line}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"config: {path!r} is not TOML (from {origin}): {_brief(str(error))}") from None
