"""Options: names, values, origins, precedence."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsgi import option_types
from wsgi.cli import main
from wsgi.errors import ConfigError
from wsgi.other_servers import COUNTERPARTS, FAMILIES, counterpart, family
from wsgi.settings import OPTIONS, Settings, hint

ROOT = Path(__file__).parents[2]


def keyword(name: str, value: object) -> object:
    return getattr(Settings.from_keywords(**{name: value}), name)


def command(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, toml: Path | None = None
) -> Settings:
    chosen = dict(flags or {})
    if toml is not None:
        chosen["config"] = str(toml)
    return Settings.from_command(chosen, environ or {})


def variable(name: str, text: str) -> object:
    return getattr(command(environ={f"WSGI_{name.upper()}": text}), name)


def test_settings_nothing_given_hold_the_documented_defaults() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in OPTIONS} == {
        "host": "127.0.0.1",
        "port": 8000,
        "bind": (),
        "socket_mode": None,
        "backlog": 2048,
        "reuse_port": False,
        "certfile": (),
        "keyfile": (),
        "key_password_file": None,
        "client_ca": None,
        "client_verify": "none",
        "tls_min": "1.2",
        "interface": "auto",
        "lifespan": "auto",
        "loop": "auto",
        "root_path": "",
        "pathsend": False,
        "threads": 16,
        "max_connections": 10_000,
        "queue_limit": 1000,
        "queue_timeout": 30.0,
        "workers": None,
        "boot_timeout": 60.0,
        "preload": False,
        "max_requests": 0,
        "max_requests_jitter": 0,
        "max_age": 0.0,
        "max_memory": 0,
        "user": None,
        "group": None,
        "umask": None,
        "chdir": ".",
        "pidfile": None,
        "process_name": None,
        "env_file": None,
        "max_request_line": 8190,
        "max_header_fields": 100,
        "max_header_size": 65_536,
        "max_body_size": 1 << 30,
        "body_buffer": 65_536,
        "max_spool_size": 4 << 30,
        "stream_bodies": False,
        "stream_chunked": False,
        "header_timeout": 10.0,
        "body_timeout": 30.0,
        "body_min_rate": 500,
        "write_timeout": 60.0,
        "request_timeout": 0.0,
        "request_timeout_action": "log",
        "keep_alive": 75.0,
        "graceful_timeout": 30.0,
        "trusted_proxies": (),
        "forwarded_hops": 1,
        "forwarded_fields": ("x-forwarded-for", "x-forwarded-proto"),
        "proxy_protocol": "off",
        "websocket_max_message": 16 << 20,
        "websocket_queue_size": 262_144,
        "websocket_memory": 268_435_456,
        "websocket_ping_interval": 20.0,
        "websocket_ping_timeout": 20.0,
        "websocket_compression": True,
        "access_log": None,
        "access_log_format": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
        "access_log_exclude": (),
        "log_level": "info",
        "app_dir": ".",
        "config": None,
        "config_unknown": "error",
        "check_config": False,
    }


@pytest.mark.parametrize("name", list(OPTIONS))
def test_default_every_option_passes_its_own_check(name: str) -> None:
    option = OPTIONS[name]
    assert option.type.from_object(option.default) == option.default


SIZES = [
    *[("0", 0), ("8190", 8190), ("5B", 5), ("64k", 65_536), ("64K", 65_536), ("64 KiB", 65_536)],
    *[("1M", 1 << 20), ("1GiB", 1 << 30), ("2gb", 2 << 30), ("1T", 1 << 40)],
]
TIMES = [("30", 30.0), ("1.5", 1.5), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("10 s", 10.0)]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_size_as_text_counts_bytes_in_steps_of_1024(text: str, size: int) -> None:
    assert keyword("max_body_size", text) == variable("max_body_size", text) == size


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_time_as_text_counts_seconds(text: str, seconds: float) -> None:
    assert keyword("body_timeout", text) == variable("body_timeout", text) == seconds


@pytest.mark.parametrize(("value", "seconds"), [(1, 1.0), (0.25, 0.25)])
def test_time_as_number_is_seconds_and_a_float(value: float, seconds: float) -> None:
    found = keyword("body_timeout", value)
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize("name", ["keep_alive", "graceful_timeout"])
def test_time_zero_is_taken_where_it_has_a_meaning(name: str) -> None:
    assert keyword(name, 0) == variable(name, "0") == 0.0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("socket_mode", 0o660, 0o660),
        ("socket_mode", "660", 0o660),
        ("socket_mode", "0o600", 0o600),
        ("root_path", "/shop/", "/shop"),
        ("access_log", "-", "-"),
        ("access_log", "", None),
        ("access_log", Path("/var/log/a"), "/var/log/a"),
        ("host", "", "0.0.0.0"),
        ("host", "[::1]", "::1"),
        ("host", "fe80::1%eth0", "fe80::1%eth0"),
        ("bind", "localhost:80", ("localhost:80",)),
        ("bind", [":80", "[::]:80", "unix:/run/a.sock", "unix:@a", "fd://3"],
            ("0.0.0.0:80", "[::]:80", "unix:/run/a.sock", "unix:@a", "fd://3")),
        ("access_log_exclude", ("/healthz", "/static/*"), ("/healthz", "/static/*")),
        ("trusted_proxies", "*", ("*",)),
        ("trusted_proxies", ["10.0.0.1", "10.0.0.0/8", "::1", "2001:DB8::/32", "unix", "0.0.0.0/0"],
            ("10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "unix", "0.0.0.0/0")),
        ("trusted_proxies", "::ffff:10.0.0.0/104", ("::ffff:a00:0/104",)),
        ("reuse_port", True, True),
    ],
)  # fmt: skip
def test_keyword_right_value_is_kept_in_one_form(name: str, value: object, expected: object) -> None:
    assert keyword(name, value) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("bind", "a:1, unix:/b", ("a:1", "unix:/b")),
        ("access_log_exclude", "/a,/b*", ("/a", "/b*")),
        ("trusted_proxies", "10.0.0.0/8, ::1,unix", ("10.0.0.0/8", "::1", "unix")),
        *[("reuse_port", word, True) for word in ("1", "true", "YES", "on")],
        *[("reuse_port", word, False) for word in ("0", "False", "no", "off")],
        ("threads", "1024", 1024),
        ("log_level", "WARNING", "warning"),
        ("socket_mode", "0600", 0o600),
    ],
)
def test_variable_right_text_is_read(name: str, text: str, expected: object) -> None:
    assert variable(name, text) == expected


WRONG_KEYWORDS: dict[str, list[object]] = {
    "threads": [0, 1025, -1, True, 4.0, "4", None, []],
    "port": [-1, 65536, "http", False],
    "header_timeout": [0, -1, math.nan, math.inf, True, None, "x", "1e3", "-1", 10**400, "9" * 400],
    "max_body_size": [-1, 1.5, "1.5M", "1X", "", " 1", "k", "\N{FULLWIDTH DIGIT ONE}", True, 1 << 60, "9" * 5000],
    "socket_mode": [0o1000, 660, -1, "888", "66", True],
    "reuse_port": [1, 0, "yes", None],
    "host": ["a b", "a/b", "127.0.0.1:80", "u@a", "[a]", "[::1", "a\n", None, 1],
    "bind": [
        "a",
        "a:",
        "a:x",
        "a:65536",
        "::1:80",
        "unix:",
        "fd://",
        "fd://x y",
        "fd://x:1",
        "fd://-1",
        "fd:3",
        "fd:",
        1,
        [1],
        ["a"],
    ],
    "access_log": ["a\0b", 1],
    "access_log_format": ["", " ", "a\nb", None],
    "trusted_proxies": [
        *[
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/",
            "/8",
            "10.0.0",
            "10.1",
            "::/129",
            "::1/64",
        ],
        *["fe80::1%eth0", "[::1]", "10.0.0.1:80", "localhost", "UNIX", "**", " 10.0.0.1", "10.0.0.1,10.0.0.2", "10/8"],
        *["::ffff:0:0/95", 1, ["10.0.0.0/8", "x"], None],
    ],
    "forwarded_hops": [0, -1, 101, "1", None, True],
    "forwarded_fields": ["", "x-forwarded", "x_forwarded_for", "forwarded-for", ["x-real-ip"], None],
    "proxy_protocol": ["", "on", "3", "v3", True, None],
    "access_log_exclude": ["a", "/a*b", "/a b", ["*"], {"/a": 1}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, wrong in WRONG_KEYWORDS.items() for value in wrong]
)
def test_keyword_wrong_value_is_refused_in_one_line(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_keywords(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert message.endswith(f" (from keyword {name})")
    assert "\n" not in message
    assert len(message) < 300
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxy_protocol": "v1"}, "proxy_protocol needs trusted_proxies (from keyword proxy_protocol)"),
        ({"forwarded_hops": 2}, "forwarded_hops needs trusted_proxies (from keyword forwarded_hops)"),
        ({"forwarded_fields": ["Forwarded"]}, "forwarded_fields needs trusted_proxies (from keyword forwarded_fields)"),
        (
            {"trusted_proxies": "*", "forwarded_fields": ["x-forwarded-for", "forwarded"]},
            "forwarded_fields must be forwarded or x-forwarded fields, not both forwarded and x-forwarded-for "
            "(from keyword forwarded_fields): a client could forge the ones that its proxy does not set",
        ),
    ],
)
def test_options_of_proxies_that_say_nothing_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_keywords(**options)
    assert str(caught.value) == message


def test_options_of_proxies_are_read_from_every_place(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text('trusted_proxies = ["10.0.0.0/8", "unix"]\nforwarded_fields = ["Forwarded"]\n')
    settings = command({"forwarded_hops": "2"}, {"WSGI_PROXY_PROTOCOL": "ANY"}, toml)
    found = {name: settings.shown(name) for name in OPTIONS if OPTIONS[name].group == "Proxies"}
    assert found == {
        "trusted_proxies": "10.0.0.0/8, unix",
        "forwarded_hops": "2",
        "forwarded_fields": "forwarded",
        "proxy_protocol": "any",
    }


def test_keyword_number_too_long_to_print_is_refused_all_the_same() -> None:
    with pytest.raises(ConfigError, match=r"^threads must be .*, not a value of type int"):
        Settings.from_keywords(threads=10**5000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("threads", text) for text in ("0", "+5", "1_000", " 4", "4 ", "0x4", "four", "9" * 5000)],
        ("threads", "\N{FULLWIDTH DIGIT FOUR}"),
        ("reuse_port", "maybe"),
        ("socket_mode", "rw"),
        ("log_level", "loud"),
        ("bind", "a:1,b"),
        ("app_dir", "/nonexistent/directory"),
    ],
)
def test_variable_wrong_text_is_refused_with_its_origin(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} must be .* \(from WSGI_{name.upper()}\)$"):
        variable(name, text)


def from_file(tmp_path: Path) -> Settings:
    toml = tmp_path / "a.toml"
    toml.write_text("threads = 0\n")
    return command(toml=toml)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (lambda tmp_path: command({"threads": "0"}), "'0' (from --threads)"),
        (lambda tmp_path: command(environ={"WSGI_THREADS": "0"}), "'0' (from WSGI_THREADS)"),
        (from_file, "0 (from {tmp_path}/a.toml: threads)"),
        (lambda tmp_path: Settings.from_keywords(threads=0), "0 (from keyword threads)"),
    ],
    ids=["flag", "variable", "file", "keyword"],
)
def test_wrong_value_message_names_option_requirement_what_was_given_and_origin(
    make: Callable[[Path], Settings], given: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(tmp_path)
    expected = f"threads must be a whole number from 1 to 1024, not {given.format(tmp_path=tmp_path)}"
    assert str(caught.value) == expected


def test_origins_higher_one_wins(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("threads = 2\nbacklog = 2\nqueue_limit = 2\nport = 2\n")
    environ = {"WSGI_THREADS": "3", "WSGI_BACKLOG": "3", "PORT": "4"}
    settings = command({"threads": "4"}, environ, toml)
    found = {name: (getattr(settings, name), settings.origin(name)) for name in OPTIONS}
    assert found["threads"] == (4, "--threads")
    assert found["backlog"] == (3, "WSGI_BACKLOG")
    assert found["queue_limit"] == (2, f"{toml}: queue_limit")
    assert found["port"] == (2, f"{toml}: port")
    assert found["keep_alive"] == (75.0, "default")
    assert found["config"] == (str(toml), "--config")


@pytest.mark.parametrize(
    ("environ", "port", "origin"),
    [
        ({"PORT": "5000"}, 5000, "PORT"),
        ({"PORT": "5000", "WSGI_PORT": "6000"}, 6000, "WSGI_PORT"),
        ({"PORT": "5000", "WSGI_PORT": ""}, 5000, "PORT"),
        ({"PORT": ""}, 8000, "default"),
    ],
)
def test_port_variable_of_the_platform_stands_below_our_own(environ: dict[str, str], port: int, origin: str) -> None:
    settings = command(environ=environ)
    assert (settings.port, settings.origin("port")) == (port, origin)


def test_keywords_never_read_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGI_THREADS", "3")
    monkeypatch.setenv("PORT", "5000")
    assert Settings.from_keywords() == Settings()


@pytest.mark.parametrize(
    ("options", "addresses"),
    [
        ({}, ("127.0.0.1:8000",)),
        ({"host": "::1", "port": 0}, ("[::1]:0",)),
        ({"host": "", "port": 80}, ("0.0.0.0:80",)),
        ({"bind": ["a:1", "unix:/b"]}, ("a:1", "unix:/b")),
        # A caller with defaults of its own passes them along.
        ({"bind": ["a:1"], "host": "127.0.0.1", "port": 8000}, ("a:1",)),
        ({"bind": [], "port": 1}, ("127.0.0.1:1",)),
    ],
)
def test_addresses_are_bind_or_else_host_and_port(options: dict[str, Any], addresses: tuple[str, ...]) -> None:
    assert Settings.from_keywords(**options).addresses == addresses


def test_bind_beside_port_of_the_same_origin_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bind replaces host and port, .* \(from --bind and --port\)"):
        command({"bind": ["a:1"], "port": "8000"})


def test_bind_in_the_file_gives_way_to_a_port_flag(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text('bind = ["unix:/run/a.sock"]\n')
    settings = command({"port": "8000"}, toml=toml)
    assert settings.addresses == ("127.0.0.1:8000",)
    assert settings.origin("bind") == f"{toml}: bind, replaced by --port"


def test_bind_flag_stands_above_the_port_of_the_platform() -> None:
    settings = command({"bind": ["a:1"]}, {"PORT": "5000"})
    assert settings.addresses == ("a:1",)
    assert settings.origin("port") == "PORT, replaced by --bind"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thread", "unknown option 'thread': did you mean 'threads'?"),
        ("max_body", "unknown option 'max_body': did you mean 'max_body_size'?"),
        ("frobnicate", "unknown option 'frobnicate'"),
        (
            "url_prefix",
            "unknown option 'url_prefix': --root-path sets the path prefix of the application",
        ),
        ("app_dir", "unknown option 'app_dir' (only the wsgi command has it)"),
    ],
)
def test_keyword_unknown_name_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        Settings.from_keywords(**{name: 1})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("thread = 1", "unknown key 'thread' in {toml!r}: did you mean 'threads'?"),
        ("max-body-size = 1", "unknown key 'max-body-size' in {toml!r}: did you mean 'max_body_size'?"),
        ("check_config = true", "unknown key 'check_config' in {toml!r} (it cannot be set in a file)"),
        ("processes = 2", "unknown key 'processes' in {toml!r}: --workers N starts worker processes"),
        (
            "[tool.wsgi]\nport = 1",
            "{toml!r} has a table [tool] (from --config): put options at the top of the file, outside of any table",
        ),
        ("[port]\nport = 1", "{toml!r} has a table [port] (from --config): put options at the top of the file"),
        ("[[bind]]\nport = 1", "{toml!r} has a table [bind] (from --config): put options at the top of the file"),
        ("port = ", "config: {toml!r} is not TOML (from --config): "),
        ("port = 1\nport = 2", "config: {toml!r} is not TOML (from --config): "),
        (
            "port = 2026-01-01",
            "port must be a whole number from 0 to 65535, not datetime.date(2026, 1, 1) (from {toml}: port)",
        ),
    ],
)
def test_file_wrong_content_is_refused_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(content + "\n")
    with pytest.raises(ConfigError) as caught:
        command(toml=toml)
    assert str(caught.value).startswith(message.format(toml=str(toml)))
    assert "\n" not in str(caught.value)


def test_file_wrong_value_below_a_flag_is_refused_all_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("threads = 0\n")
    with pytest.raises(ConfigError, match="threads must be"):
        command({"threads": "4"}, toml=toml)


def test_file_gives_values_of_its_own_types(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("""
        host = "::1"
        port = 0
        socket_mode = 0o660
        reuse_port = true
        max_body_size = "10M"
        body_buffer = 1000
        header_timeout = 1.5
        keep_alive = "2m"
        access_log = "-"
        access_log_exclude = ["/healthz"]
        log_level = "debug"
    """)
    settings = command(toml=toml)
    assert (settings.host, settings.port, settings.socket_mode, settings.reuse_port) == ("::1", 0, 0o660, True)
    assert (settings.max_body_size, settings.body_buffer) == (10 << 20, 1000)
    assert (settings.header_timeout, settings.keep_alive) == (1.5, 120.0)
    assert (settings.access_log, settings.access_log_exclude, settings.log_level) == ("-", ("/healthz",), "debug")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
def test_file_from_an_editor_of_another_system_is_read(mark: bytes, tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_bytes(mark + "# ä\r\nthreads = 3\r\n".encode())
    assert command(toml=toml).threads == 3


def test_file_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_bytes("threads = 3\n# ä\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        command(toml=toml)
    assert str(caught.value) == (
        f"config: {str(toml)!r} is not UTF-8 text (from --config): save it as UTF-8; "
        "the first wrong byte is 0xe4 in line 2"
    )


@pytest.mark.parametrize(
    "name", ["host", "bind", "access_log_format", "access_log_exclude", "trusted_proxies", "threads"]
)
def test_variable_that_is_not_utf8_is_refused_with_its_origin(name: str) -> None:
    variable_name = f"WSGI_{name.upper()}"
    with pytest.raises(ConfigError) as caught:
        command(environ={variable_name: "unix:/\udcff"})
    assert str(caught.value) == f"{name} must be UTF-8 text, not 'unix:/\\udcff' (from {variable_name})"


def test_path_that_is_not_utf8_is_taken() -> None:
    assert variable("access_log", "/log/\udcff") == "/log/\udcff"


def test_variables_of_a_kubernetes_service_are_no_options() -> None:
    environ = {
        "WSGI_PORT": "tcp://10.0.0.1:80",
        "WSGI_SERVICE_HOST": "10.0.0.1",
        "WSGI_SERVICE_PORT": "80",
        "WSGI_SERVICE_PORT_HTTP": "80",
        "WSGI_PORT_80_TCP": "tcp://10.0.0.1:80",
        "WSGI_PORT_80_TCP_ADDR": "10.0.0.1",
        "WSGI_PORT_80_TCP_PORT": "80",
        "WSGI_PORT_80_TCP_PROTO": "tcp",
        "WSGI_MY_SITE_PORT": "udp://10.0.0.2:53",
        "WSGI_MY_SITE_SERVICE_HOST": "10.0.0.2",
        "WSGI_MY_SITE_PORT_53_UDP": "udp://10.0.0.2:53",
        "PORT": "5000",
    }
    warnings: list[str] = []
    settings = Settings.from_command({}, environ, warnings.append)
    assert (settings.port, settings.origin("port")) == (5000, "PORT")
    assert warnings == ["WSGI_PORT is ignored: it is the link that Kubernetes sets for a service of that name"]


def test_variable_of_another_option_is_never_a_link() -> None:
    with pytest.raises(ConfigError, match="bind must be"):
        command(environ={"WSGI_BIND": "tcp://0.0.0.0:80"})


def test_flag_that_may_be_repeated_is_refused_as_one_value() -> None:
    with pytest.raises(ConfigError) as caught:
        command({"bind": ["fd:3"]})
    assert str(caught.value) == (
        "bind must be HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N or fd://NAME, with or without https:// in front of it, "
        "not 'fd:3' (from --bind)"
    )


@pytest.mark.parametrize("flag", [*COUNTERPARTS, *FAMILIES])
def test_option_of_another_server_every_text_names_options_that_exist_or_has_one_behind_it_that_does(flag: str) -> None:
    ours = {option.flag for option in OPTIONS.values()} | {"--version"}
    texts = COUNTERPARTS.get(flag) or FAMILIES[flag]
    assert all(len(text) < 140 for text in texts)
    assert set(re.findall(r"--[a-z][a-z-]+", texts[-1])) <= ours
    answer = counterpart(flag, OPTIONS) or family(flag, OPTIONS)
    assert answer[2:] in texts
    assert set(re.findall(r"--[a-z][a-z-]+", answer)) <= ours


def test_option_of_another_server_with_a_counterpart_that_comes_later_names_it_once_it_exists() -> None:
    without = {name for name in OPTIONS if name != "reload"}
    assert counterpart("--use-reloader", without).startswith(": files are not watched")
    assert counterpart("--use-reloader", {*OPTIONS, "reload"}).startswith(": --reload restarts the workers")


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ("-k gevent", "-k"),
        ("--worker_class", "--worker-class"),
        ("--Processes", "--processes"),
        ("--SSL_CA_CERTS", "--ca-certs"),
    ],
)
def test_option_of_another_server_is_known_in_other_spellings(given: str, same: str) -> None:
    assert hint(given, OPTIONS) == hint(same, OPTIONS) != ""


def test_hint_similar_name_comes_before_a_family() -> None:
    assert hint("--log-levle", ["log-level"], "--") == ": did you mean '--log-level'?"
    assert hint("--log-levle", []).startswith(": messages go to the logger")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_file_unreadable_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    if content is not None:
        toml.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^config: .*a\.toml.* \(from WSGI_CONFIG\): .+$"):
        command(environ={"WSGI_CONFIG": str(toml)})


def test_variable_unknown_name_is_warned_of_with_the_nearest() -> None:
    warnings: list[str] = []
    Settings.from_command({}, {"WSGI_THREAD": "1", "WSGI_THREADS": "2", "OTHER": "x"}, warnings.append)
    assert warnings == ["unknown option in the environment: WSGI_THREAD: did you mean 'WSGI_THREADS'?"]


@pytest.mark.parametrize("name", ["port", "nonsense"])
def test_settings_assignment_is_refused(name: str) -> None:
    settings = Settings()
    with pytest.raises(AttributeError):
        setattr(settings, name, 1)
    assert settings.port == 8000


def test_settings_same_values_are_equal_and_hash_alike() -> None:
    one, two = Settings.from_keywords(threads=4), Settings.from_keywords(threads=4)
    assert (one, hash(one)) == (two, hash(two))
    assert one != Settings()
    assert one != 4
    assert repr(one) == "Settings(threads=4)"


@pytest.mark.parametrize("name", list(OPTIONS))
def test_option_every_row_is_whole(name: str) -> None:
    option = OPTIONS[name]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    assert option.name == name
    assert option.flag == "--" + name.replace("_", "-")
    assert not option.help.endswith(".")
    assert option.type.requirement
    assert option.type.show(option.default)


@pytest.mark.parametrize(
    ("option_type", "value", "shown"),
    [
        (option_types.Size(0, 1 << 50), 65_536, "64 KiB"),
        (option_types.Size(0, 1 << 50), 8190, "8190 B"),
        (option_types.Rate(0, 1 << 50), 500, "500 B/s"),
        (option_types.Seconds(0.001, 1e9), 0.5, "500 ms"),
        (option_types.Seconds(0.001, 1e9), 1.5, "1.5 s"),
        (option_types.Seconds(0.001, 1e9), 75.0, "75 s"),
        (option_types.Mode(), 0o660, "660"),
        (option_types.Boolean(), True, "yes"),
        (option_types.Path(), None, "off"),
    ],
)
def test_option_type_shows_a_value_in_the_notation_of_the_command_line(
    option_type: option_types.OptionType[Any], value: object, shown: str
) -> None:
    assert option_type.show(value) == shown


def test_options_page_says_what_the_table_says() -> None:
    namespace: dict[str, Any] = {"__name__": "options", "__file__": str(ROOT / "docs" / "options.py")}
    exec((ROOT / "docs" / "options.py").read_text("utf-8"), namespace)
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == namespace["page"](), "run 'make docs'"


def test_help_every_option_stands_in_it_with_its_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    text = capsys.readouterr().out
    for option in OPTIONS.values():
        assert f"  {option.flag}" in text or f"  {option.short} {option.type.metavar}, {option.flag}" in text
        if option.variable is not None:
            assert option.variable in text
            assert f"(default {option.type.show(option.default)}; {option.variable}" in text
    assert argparse.SUPPRESS not in text
