"""The options of the server: one table, from which everything else about them comes.

An attribute of `Settings` is a row. It makes the flag `--max-body-size`, the keyword `max_body_size`, the variable
`WSGI_MAX_BODY_SIZE`, the TOML key `max_body_size`, the help text, the page docs/options.md and the type that a checker
sees. A new option is a new row and nothing else here.

A flag stands above a variable, a variable above the file, the file above the default. A fallback variable, such as
PORT, is one that other programs share: it stands just above the default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar, overload

from wsgi.errors import ConfigError
from wsgi.foreign import counterpart
from wsgi.names import nearest
from wsgi.values import (
    Bind,
    Boolean,
    Choice,
    Directory,
    Format,
    Host,
    Integer,
    Kind,
    Many,
    Mode,
    Network,
    Path,
    Pattern,
    Rate,
    Seconds,
    Size,
)

__all__ = ["OPTIONS", "Option", "Settings"]

T = TypeVar("T")

# Where an option may come from. A command is the `wsgi` program: its flag, variable and file, but no keyword.
EVERYWHERE, COMMAND, FLAG_AND_VARIABLE, FLAG = "everywhere", "command", "flag and variable", "flag"

# A year: far beyond use, and well inside what the clocks of every system can add.
YEAR = 31_536_000.0
X_FORWARDED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")
COMBINED = '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"'


class Option(Generic[T]):
    """A row of the table. On `Settings` it is the option, on an instance its value, which cannot be assigned.

    Parameters:
        kind: how a value is read, judged and shown.
        default: the value where none is given.
        group: the heading in the help.
        help: one sentence in lower case, without default and range.
        given: where the option may come from.
        fallback: a variable that other programs share, read where nothing else says.
    """

    name = ""

    def __init__(
        self,
        kind: Kind[T],
        default: T,
        group: str,
        help: str,
        *,
        given: str = EVERYWHERE,
        fallback: str | None = None,
    ) -> None:
        self.kind = kind
        self.default = default
        self.group = group
        self.help = help
        self.given = given
        self.fallback = fallback

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def flag(self) -> str:
        """The flag, such as `--max-body-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str | None:
        """The variable, such as `WSGI_MAX_BODY_SIZE`."""
        return None if self.given == FLAG else "WSGI_" + self.name.upper()

    @property
    def in_file(self) -> bool:
        """Whether a TOML file may set it."""
        return self.given in (EVERYWHERE, COMMAND)

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
    """Where a value came from: `rank` decides which of two wins, `text` tells the reader."""

    __slots__ = ("rank", "text")

    DEFAULT, FALLBACK, FILE, VARIABLE, GIVEN = range(5)

    def __init__(self, rank: int, text: str) -> None:
        self.rank = rank
        self.text = text


_BY_DEFAULT = Origin(Origin.DEFAULT, "default")


class Settings:
    """Every option with its value. Made by `from_keywords` or `from_command`, and not changed after that.

    Attributes hold sizes in bytes, times in seconds as floats, repeated values as tuples.
    """

    __slots__ = ("_origins", "_values")

    # fmt: off
    # listening
    host = Option(Host(), "127.0.0.1", "Listening",
        "name or address to listen on; 0.0.0.0 is every IPv4 interface, :: every interface, localhost both loopbacks")
    port = Option(Integer(0, 65535), 8000, "Listening",
        "TCP port; 0 takes a free one", fallback="PORT")
    bind = Option(Many(Bind()), (), "Listening",
        "address to listen on instead of host and port; a socket that is already open is fd://N, a descriptor that the "
        "command takes over and closes; may be repeated")
    socket_mode = Option(Mode(), None, "Listening",
        "permissions of Unix sockets; a given mode is applied as it is, the default passes through the umask")
    backlog = Option(Integer(1, (1 << 31) - 1), 2048, "Listening",
        "connections the system keeps waiting to be accepted")
    reuse_port = Option(Boolean(), False, "Listening",
        "let several servers share a port (SO_REUSEPORT)")

    # application
    interface = Option(Choice("auto", "wsgi", "asgi"), "auto", "Application",
        "how the application is called; auto decides by its signature, and where that says nothing by one trial call")
    lifespan = Option(Choice("auto", "on", "off"), "auto", "Application",
        "tell an ASGI application of start and stop; with on it must take part, with auto it may")
    loop = Option(Choice("auto", "asyncio", "uvloop"), "auto", "Application",
        "event loop of an ASGI application; auto takes uvloop where it is installed")
    pathsend = Option(Boolean(), False, "Application",
        "let ASGI applications send files by their path (http.response.pathsend); middleware that reads or changes "
        "response bodies, such as Starlette's BaseHTTPMiddleware, does not see such files")

    # concurrency
    threads = Option(Integer(1, 1024), 16, "Concurrency",
        "threads for a WSGI application: the most requests that run at the same time; above 1 there is one thread more")
    max_connections = Option(Integer(1, 10_000_000), 10_000, "Concurrency",
        "most open connections, in no more than five eighths of the files the process may open; beyond them a new one "
        "takes the place of an idle or a slow one, or waits in the backlog; WebSockets take seven eighths of them "
        "at most, and further handshakes are answered 503")
    queue_limit = Option(Integer(1, 10_000_000), 1000, "Concurrency",
        "most requests waiting for a thread, or for an ASGI application's answer; beyond them the answer is 503")
    queue_timeout = Option(Seconds(0.001, YEAR), 30.0, "Concurrency",
        "longest wait of a request for a thread; after it the answer is 503")

    # limits
    max_request_line = Option(Size(64, 16 << 20), 8190, "Limits",
        "longest request line; beyond it the answer is 414")
    max_header_fields = Option(Integer(1, 65_536), 100, "Limits",
        "most header fields in a request; beyond them the answer is 431")
    max_header_size = Option(Size(256, 256 << 20), 65_536, "Limits",
        "longest header of a request; beyond it the answer is 431")
    max_body_size = Option(Size(0, 1 << 50), 1 << 30, "Limits",
        "longest request body; beyond it the answer is 413")
    body_buffer = Option(Size(0, 1 << 30), 65_536, "Limits",
        "request bodies up to this size are kept in memory, and those of known length up to 128 times as large while "
        "all of them take no more than 1024 times it; others go to a temporary file")
    max_spool_size = Option(Size(0, 1 << 50), 4 << 30, "Limits",
        "most bytes in temporary files, all requests together; beyond them, slow clients lose theirs to others, and "
        "if there are none, a body is answered 503")
    stream_bodies = Option(Boolean(), False, "Limits",
        "hand request bodies above body_buffer to the application as they arrive; a slow client then holds a thread "
        "until others wait for one")
    stream_chunked = Option(Boolean(), False, "Limits",
        "hand chunked request bodies to a WSGI application as they arrive, without CONTENT_LENGTH")

    # time
    header_timeout = Option(Seconds(0.001, YEAR), 10.0, "Time",
        "longest time for the whole head of a request")
    body_timeout = Option(Seconds(0.001, YEAR), 30.0, "Time",
        "longest time without a byte of the request body, or of a WebSocket message that has begun")
    body_min_rate = Option(Rate(0, 1 << 40), 500, "Time",
        "slowest request body or WebSocket message; a faster one gets at most body_timeout ahead of it; 0 allows any")
    write_timeout = Option(Seconds(0.001, YEAR), 60.0, "Time",
        "longest time in which the client takes no byte of the response")
    keep_alive = Option(Seconds(0.001, YEAR, zero="no keep-alive"), 75.0, "Time",
        "longest idle time of a connection between requests; 0 closes after each response")
    graceful_timeout = Option(Seconds(0.001, YEAR, zero="at once"), 30.0, "Time",
        "longest time for a stop: for running requests, an ASGI application's lifespan and the application's threads; "
        "responses that are unfinished after half of it are cut; 0 ends everything at once")

    # proxies
    trusted_proxies = Option(Many(Network()), (), "Proxies",
        "proxies whose word about clients counts; may be repeated")
    forwarded_hops = Option(Integer(1, 100), 1, "Proxies",
        "proxies that a request passes: the most elements that are read in the fields of trusted ones, from the right")
    forwarded_fields = Option(
        Many(Choice("forwarded", *X_FORWARDED, metavar="FIELD")), ("x-forwarded-for", "x-forwarded-proto"), "Proxies",
        "field that the trusted proxies write, replacing or extending what the client sent; the others are hidden from "
        "the application; may be repeated")
    proxy_protocol = Option(Choice("off", "v1", "v2", "any"), "off", "Proxies",
        "version of the PROXY protocol; every connection must then come from a trusted proxy and begin with its header")

    # websockets
    websocket_max_message = Option(Size(1, 1 << 40), 16 << 20, "WebSockets",
        "longest message from a client, expanded; beyond it the conversation ends with 1009")
    websocket_queue_size = Option(Size(1, 1 << 40), 256 << 10, "WebSockets",
        "memory for messages of one connection that wait for the application; beyond it no more are read")
    websocket_memory = Option(Size(1, 1 << 40), 256 << 20, "WebSockets",
        "memory for messages, waiting and unfinished, of all connections; beyond it those that hold most of it for "
        "longest end with 1013")
    websocket_ping_interval = Option(Seconds(0.001, YEAR, zero="no pings"), 20.0, "WebSockets",
        "silence after which a client is pinged")
    websocket_ping_timeout = Option(Seconds(0.001, YEAR), 20.0, "WebSockets",
        "longest wait for the answer to a ping; after it the conversation ends with 1011")
    websocket_compression = Option(Boolean(), True, "WebSockets",
        "agree on compression with clients that offer it (permessage-deflate)")

    # logging
    access_log = Option(Path(), None, "Logging",
        "file for the access log; - is standard output, an empty path switches it off")
    access_log_format = Option(Format(), COMBINED, "Logging",
        "format of the access log, in the notation of Apache's LogFormat; the default is the combined format")
    access_log_exclude = Option(Many(Pattern()), (), "Logging",
        "request path that is not logged; with * at its end every path that begins so; may be repeated")
    log_level = Option(Choice("debug", "info", "warning", "error", "critical"), "info", "Logging",
        "least severe message the server reports, and the application's loggers unless it configures logging itself",
        given=COMMAND)

    # the command
    app_dir = Option(Directory(), ".", "Command",
        "directory the application is imported from", given=COMMAND)
    config = Option(Path(), None, "Command",
        "TOML file with options", given=FLAG_AND_VARIABLE)
    check_config = Option(Boolean(), False, "Command",
        "import the application, print every option with its origin, and end without listening", given=FLAG)
    # fmt: on

    _values: dict[str, Any]
    _origins: dict[str, Origin]

    def __init__(self) -> None:
        self._values = {name: option.default for name, option in OPTIONS.items()}
        self._origins = dict.fromkeys(OPTIONS, _BY_DEFAULT)

    @classmethod
    def from_keywords(cls, **options: object) -> Settings:
        """Settings of a program that makes its own server: keywords above defaults, no file and no variables.

        Raises:
            TypeError: an option has an unknown name.
            ConfigError: an option has a wrong value.
        """
        settings = cls()
        allowed = [name for name, option in OPTIONS.items() if option.given == EVERYWHERE]
        for name, value in options.items():
            if name not in allowed:
                where = " (the wsgi command has it, a program does not)" if name in OPTIONS else ""
                raise TypeError(f"unknown option {name!r}{where}{_hint(name, allowed)}")
            option = OPTIONS[name]
            settings._set(option, value, Origin(Origin.GIVEN, f"keyword {name}"), option.kind.from_object)
            if settings._values[name] == option.default:
                # A caller with defaults of its own passes them along; that must not count as a choice beside `bind`.
                settings._origins[name] = _BY_DEFAULT
        settings._settle_addresses()
        settings._check_proxies()
        return settings

    @classmethod
    def from_command(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        warn: Callable[[str], object] = lambda message: None,
    ) -> Settings:
        """Settings of the `wsgi` command: flags, variables, the TOML file, defaults.

        Parameters:
            flags: the flags that were given, by option name: text, a list of texts where the flag may be repeated, or a
                bool where it takes no value.
            environ: the variables, those of the process by default. An empty one counts as not set.
            warn: takes one line for each `WSGI_*` variable that is no option, and one where Kubernetes has set that of
                an option as the link to a service. The other variables of such a service are passed over.

        Raises:
            ConfigError: a value, a TOML key or the file is wrong.
        """
        settings = cls()
        environ = os.environ if environ is None else environ
        flags = {} if flags is None else flags
        for option in OPTIONS.values():
            kind = option.kind
            if option.name in flags:
                given = flags[option.name]
                read: Callable[[Any], object] = kind.from_text if isinstance(given, str) else kind.from_object
                settings._set(option, given, Origin(Origin.GIVEN, option.flag), read)
                continue
            for variable, rank in ((option.variable, Origin.VARIABLE), (option.fallback, Origin.FALLBACK)):
                if variable and environ.get(variable):
                    if _is_link(variable, environ):
                        warn(f"{variable} is ignored: Kubernetes sets it for a service of that name, as a link to it")
                        continue
                    settings._set(option, environ[variable], Origin(rank, variable), kind.from_text)
                    break
        if settings.config is not None:
            settings._read_file(settings.config)
        settings._settle_addresses()
        settings._check_proxies()
        known = [option.variable for option in OPTIONS.values() if option.variable]
        for variable in sorted(environ):
            if variable.startswith("WSGI_") and variable not in known and not _is_link(variable, environ):
                hint = _hint(variable[5:], [name[5:] for name in known], prefix="WSGI_")
                warn(f"unknown option in the environment: {variable}{hint}")
        return settings

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where to listen, each as `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `fd://N`."""
        return self.bind or (Bind.join(self.host, self.port),)

    def origin(self, name: str) -> str:
        """Where the value of the option `name` came from, such as `--port`, `WSGI_PORT`, `app.toml: port`."""
        return self._origins[name].text

    def shown(self, name: str) -> str:
        """The value of the option `name` as a person would write it."""
        return str(OPTIONS[name].kind.show(self._values[name]))

    def _set(self, option: Option[Any], value: Any, origin: Origin, read: Callable[[Any], object]) -> None:
        """Sets one option, if `origin` stands above what set it so far. A wrong value is refused either way."""
        if not isinstance(option.kind, (Directory, Path)) and _is_undecodable(value):
            raise ConfigError(f"{option.name} must be UTF-8 text, not {_brief(value)} (from {origin.text})")
        try:
            result = read(value)
        except ValueError:
            kind = option.kind
            # A flag that may be repeated has its texts in a list.
            as_text = read == kind.from_text or origin.text == option.flag
            need = kind.requirement if as_text else kind.typed_requirement or kind.requirement
            value = value[0] if as_text and isinstance(value, list) and len(value) == 1 else value
            raise ConfigError(f"{option.name} must be {need}, not {_brief(value)} (from {origin.text})") from None
        if origin.rank > self._origins[option.name].rank:
            self._values[option.name] = result
            self._origins[option.name] = origin

    def _read_file(self, path: str) -> None:
        allowed = [name for name, option in OPTIONS.items() if option.in_file]
        for key, value in _toml(path, self._origins["config"].text).items():
            is_table = isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict))
            if is_table:
                raise ConfigError(
                    f"{path!r} has a table [{_shortened(key)}] (from {self._origins['config'].text}): options stand at "
                    "the top of the file, outside of any table"
                )
            if key not in allowed:
                where = " (it has no place in a file)" if key in OPTIONS else ""
                raise ConfigError(f"unknown key {_brief(key)} in {path!r}{where}{_hint(key, allowed)}")
            option = OPTIONS[key]
            self._set(option, value, Origin(Origin.FILE, f"{path}: {key}"), option.kind.from_object)

    def _settle_addresses(self) -> None:
        """Lets either `bind` or `host` and `port` stand, by their origins."""
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

    def _check_proxies(self) -> None:
        """Refuses options about proxies that could not mean what they say."""
        others = [name for name in self.forwarded_fields if name in X_FORWARDED]
        if others and len(others) < len(self.forwarded_fields):
            told = f"both forwarded and {others[0]} (from {self._origins['forwarded_fields'].text})"
            raise ConfigError(
                f"forwarded_fields must be forwarded or x-forwarded fields, not {told}: a client could write the ones "
                "that its proxy does not"
            )
        if self.trusted_proxies:
            return
        for name in ("forwarded_hops", "forwarded_fields", "proxy_protocol"):
            if self._values[name] != OPTIONS[name].default:
                raise ConfigError(f"{name} needs trusted_proxies (from {self._origins[name].text})")

    def __repr__(self) -> str:
        given = (f"{name}={self._values[name]!r}" for name in OPTIONS if self._origins[name] is not _BY_DEFAULT)
        return f"Settings({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.values()))


OPTIONS: dict[str, Option[Any]] = {name: row for name, row in vars(Settings).items() if isinstance(row, Option)}
"""The rows of the table by name, in the order of the help."""


# What Kubernetes sets for a service called wsgi, or wsgi- and anything: WSGI_PORT=tcp://10.0.0.1:80, WSGI_SERVICE_HOST,
# WSGI_SERVICE_PORT_HTTP, WSGI_PORT_80_TCP_ADDR.
_LINK = re.compile(r"(?:tcp|udp|sctp)://")
_LINK_NAME = re.compile(r"WSGI_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")


def _is_link(variable: str, environ: Mapping[str, str]) -> bool:
    return bool(_LINK_NAME.fullmatch(variable) or (variable.endswith("_PORT") and _LINK.match(environ[variable])))


def _hint(name: str, known: list[str], prefix: str = "") -> str:
    """What to say of an unknown name: what does the same here, or which name is near."""
    return counterpart("--" + name) or nearest(name, known, prefix)


def _is_undecodable(value: object) -> bool:
    """Whether text from the command line or the environment holds bytes that are not UTF-8."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(text, str) and re.search("[\ud800-\udfff]", text) for text in texts)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 and text.isprintable() else _brief(text)


def _brief(value: object) -> str:
    """What was given, escaped and cut for one line."""
    try:
        text = repr(value)
    except Exception:
        # An integer of more than 4300 digits has no repr, and a foreign object may have a broken one.
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _toml(path: str, origin: str) -> dict[str, Any]:
    # Most starts have no file, so the parser is imported here.
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
