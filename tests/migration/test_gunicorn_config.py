"""A configuration file of gunicorn: how it is run, and what its settings become."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import run
from wsgi import gunicorn_config
from wsgi.errors import ConfigError
from wsgi.gunicorn_config import GunicornConfig, read
from wsgi.hooks import MOMENTS
from wsgi.loading import explained
from wsgi.server import WSGIServer
from wsgi.settings import OPTIONS, Settings

# Options that this server may not have yet: a setting is translated once its option exists.
LATER = {
    "certfile", "chdir", "group", "keyfile", "max_requests", "max_requests_jitter", "pidfile", "preload",
    "process_name", "reload", "request_timeout", "request_timeout_action", "root_path", "umask", "user",
}  # fmt: skip
ALL = {*OPTIONS, *LATER}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gunicorn.conf.py"


def translated(config: Path, text: str, *, options: set[str] | None = None, **environ: str) -> GunicornConfig:
    config.write_text(text)
    return read(str(config), "--config", str(config.parent), ALL if options is None else options, environ)


def command(config: Path, text: str, flags: dict[str, object] | None = None, **environ: str) -> Settings:
    config.write_text(text)
    return Settings.from_command({"config": str(config), **(flags or {})}, environ)


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("bind = '0.0.0.0:80'", {"bind": ["0.0.0.0:80"]}),
        ("bind = '127.0.0.1'", {"bind": ["127.0.0.1:8000"]}),
        ("bind = ':9000'", {"bind": [":9000"]}),
        ("bind = '[::1]'", {"bind": ["[::1]:8000"]}),
        ("bind = ['[::1]:1', 'unix:/run/a.sock', 'unix:///run/b.sock', 'fd://3', 'tcp://a:2']",
            {"bind": ["[::1]:1", "unix:/run/a.sock", "unix:/run/b.sock", "fd://3", "a:2"]}),
        ("bind = 'a:1, b:2'", {"bind": ["a:1", "b:2"]}),
        ("workers = 3", {"workers": 3}),
        ("threads = 4", {"threads": 4}),
        ("worker_class = 'gthread'\nthreads = 4", {"threads": 4}),
        ("worker_class = 'uvicorn.workers.UvicornWorker'\nthreads = 4", {}),
        ("worker_class = 'uvicorn_worker.UvicornH11Worker'", {}),
        ("worker_class = 'asgi'\nasgi_loop = 'uvloop'\nasgi_lifespan = 'off'", {"loop": "uvloop", "lifespan": "off"}),
        ("timeout = 60", {"request_timeout": 60, "request_timeout_action": "recycle"}),
        ("timeout = 0", {}),
        ("timeout = 60\nthreads = 2", {"threads": 2}),
        ("timeout = 60\nworker_class = 'uvicorn.workers.UvicornWorker'", {}),
        ("graceful_timeout = 20\nkeepalive = 5", {"graceful_timeout": 20, "keep_alive": 5}),
        ("max_requests = 1000\nmax_requests_jitter = 50", {"max_requests": 1000, "max_requests_jitter": 50}),
        ("max_requests = 0\npreload_app = False\numask = 0\nreload = False\nreuse_port = False", {}),
        ("max_requests_jitter = 50", {}),
        ("preload_app = True", {"preload": True}),
        ("pidfile = '/run/site.pid'\nproc_name = 'site'", {"pidfile": "/run/site.pid", "process_name": "site"}),
        ("user = 'nobody'\ngroup = 'nogroup'\numask = 0o007", {"user": "nobody", "group": "nogroup", "umask": 7}),
        ("import os\nuser = os.geteuid()\ngroup = os.getegid()\nchdir = os.getcwd()", {}),
        ("accesslog = '-'\nloglevel = 'debug'", {"access_log": "-", "log_level": "debug"}),
        ("errorlog = '-'\naccesslog = None\ncapture_output = True", {}),
        ("access_log_format = '%(h)s 100%% \"%(r)s\" %(s)s %(M)s %({x-id}i)s \"%(f)s\" \"%(a)s\"'",
            {"access_log_format": '%h 100%% "%r" %s %{ms}T %{x-id}i "%{Referer}i" "%{User-Agent}i"'}),
        ("limit_request_line = 0\nlimit_request_fields = 50", {"max_request_line": 16 << 20, "max_header_fields": 50}),
        ("limit_request_field_size = 8190", {"max_header_size": 65_536}),
        ("limit_request_field_size = 100_000", {"max_header_size": 100_000}),
        ("forwarded_allow_ips = '*'", {"trusted_proxies": ["*", "unix"]}),
        ("forwarded_allow_ips = '10.0.0.1, ::1'", {"trusted_proxies": ["10.0.0.1", "::1", "unix"]}),
        ("forwarded_allow_ips = ''", {}),
        ("proxy_protocol = True", {"proxy_protocol": "any", "trusted_proxies": ["127.0.0.1", "::1", "unix"]}),
        ("proxy_protocol = 'v2'\nproxy_allow_ips = '10.0.0.1'",
            {"proxy_protocol": "v2", "trusted_proxies": ["10.0.0.1", "unix"]}),
        ("forwarded_allow_ips = '*'\nsecure_scheme_headers = {'X-Forwarded-Proto': 'https'}",
            {"trusted_proxies": ["*", "unix"]}),
        ("backlog = 64\nreuse_port = True", {"backlog": 64, "reuse_port": True}),
        ("worker_connections = 1000\nworker_tmp_dir = '/dev/shm'", {}),
        ("worker_connections = 50", {}),
        ("certfile = 'a.pem'\nkeyfile = 'b.pem'", {"certfile": "a.pem", "keyfile": "b.pem"}),
        ("daemon = False\nspew = False\ntmp_upload_dir = None\nkeyfile = None\ncheck_config = False", {}),
        ("import multiprocessing\ncount = 7\ndef helper(): pass\ntimeouts = []", {}),
    ],
)  # fmt: skip
def test_setting_with_a_counterpart_is_translated(line: str, ours: dict[str, object], config: Path) -> None:
    found = translated(config, line)
    assert {name: value for name, (value, _) in found.options.items()} == ours
    assert found.unknown == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("daemon = True", "daemon: there is no background mode; use a service manager"),
        ("worker_class = 'gevent'", "worker_class: gevent: there are no green threads: threads = N sets"),
        ("worker_class = 'egg:gunicorn#eventlet'", "worker_class: egg:gunicorn#eventlet: there are no green threads"),
        ("worker_class = 'site.workers.Mine'", "worker_class: site.workers.Mine: there are no worker classes"),
        ("class Mine: pass\nworker_class = Mine", "worker_class: __config__.Mine: there are no worker classes"),
        ("access_log_format = '%(h)s %(L)s %(p)s'", "access_log_format: %(L)s %(p)s has no counterpart"),
        ("errorlog = '/var/log/site.log'", "errorlog: messages go to standard error: redirect it"),
        ("logconfig_dict = {'version': 1}", "logconfig_dict: the application configures logging"),
        ("logger_class = 'site.Logger'", "logger_class: messages go to the logger 'wsgi.server'"),
        ("logconfig = 'log.ini'", "logconfig: messages go to the logger 'wsgi.server'"),
        ("statsd_host = 'localhost:8125'", "statsd_host: metrics are not supported"),
        ("syslog = True", "syslog: messages go to the logger 'wsgi.server'"),
        ("paste = 'site.ini'", "paste: --config names a TOML file"),
        ("ssl_version = 5", "ssl_version: "),
        ("spew = True", "spew: the server has no debug mode"),
        ("tmp_upload_dir = '/tmp'", "tmp_upload_dir: the variable TMPDIR"),
        ("http_protocols = 'h1,h2'", "http_protocols: HTTP/1.1 is the only supported version"),
        ("forwarded_allow_ips = '*'\nsecure_scheme_headers = {'X-Secure': 'on'}",
            "secure_scheme_headers: only X-Forwarded-Proto: https is known"),
        ("threads = 2\nworker_connections = 50", "worker_connections: max_connections limits the connections of all"),
        ("def pre_request(worker, req): pass", "pre_request: use middleware"),
        ("def ssl_context(config, default): pass", "ssl_context: TLS is not configurable"),
        ("dirty_workers = 2", "dirty_workers: not supported: background jobs"),
    ],
)  # fmt: skip
def test_setting_without_a_counterpart_is_listed(line: str, said: str, config: Path) -> None:
    (found,) = translated(config, line).unknown
    assert found.startswith(said)


def test_setting_whose_option_does_not_exist_is_listed(config: Path) -> None:
    options = ALL - LATER
    found = translated(config, "timeout = 60\nmax_requests = 5\npreload_app = True\nuser = 'a'\n", options=options)
    assert [line.partition(":")[0] for line in found.unknown] == ["max_requests", "preload_app", "user", "timeout"]
    assert found.options == {}


@pytest.mark.parametrize("line", ["timeout = 60\nthreads = 2", "timeout = 60\nworker_class = 'asgi'"])
def test_timeout_of_workers_that_are_not_sync_is_a_note(line: str, config: Path) -> None:
    found = translated(config, line, FORWARDED_ALLOW_IPS="*")
    assert found.notes == {
        "request_timeout": "timeout is not used: for workers other than sync it limits how long the worker may hang, "
        "not a request"
    }


def test_every_setting_of_the_installed_gunicorn_is_known(config: Path) -> None:
    theirs = pytest.importorskip("gunicorn.config", reason="gunicorn is not installed").KNOWN_SETTINGS
    source = Path(gunicorn_config.__file__).read_text("utf-8")
    hooks = {moment.of_gunicorn for moment in MOMENTS.values()}
    unknown = [setting.name for setting in theirs if setting.name not in hooks and f'"{setting.name}"' not in source]
    # What follows does nothing here.
    assert set(unknown) <= NEEDLESS


NEEDLESS = {
    "asgi_disconnect_grace_period", "capture_output", "config", "control_socket", "control_socket_disable",
    "control_socket_mode", "default_proc_name", "disable_redirect_access_to_syslog", "enable_stdio_inheritance",
    "http_parser", "initgroups", "pre_exec", "reload_engine", "reload_extra_files", "sendfile", "worker_tmp_dir",
}  # fmt: skip


def test_defaults_of_the_installed_gunicorn_are_listed_as_nothing(config: Path) -> None:
    theirs = pytest.importorskip("gunicorn.config", reason="gunicorn is not installed").KNOWN_SETTINGS
    lines = []
    for setting in theirs:
        if isinstance(setting.default, (str, int, list, dict, type(None))) and setting.name != "config":
            value = int(setting.default) if isinstance(setting.default, int) else setting.default
            lines.append(f"{setting.name} = {value!r}")
    assert len(lines) > 60
    found = translated(config, "\n".join(lines))
    assert found.unknown == []


VALUES = [
    None,
    True,
    0,
    1,
    -1,
    10**30,
    1.5,
    "",
    "x",
    "\0",
    "a\nb",
    b"x",
    [],
    [1],
    ["x", None],
    {},
    {"a": []},
    (),
    object(),
]
SETTINGS = sorted(
    {
        *re.findall(r'"([a-z][a-z0-9_]+)"', Path(gunicorn_config.__file__).read_text("utf-8")),
        *(moment.of_gunicorn for moment in MOMENTS.values()),
    }
)


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_of_any_type_is_taken_or_refused_in_one_line(name: str, config: Path) -> None:
    for number, value in enumerate(VALUES):
        config.write_text(f"import tests.migration.test_gunicorn_config as t\n{name} = t.VALUES[{number}]\n")
        error = refusal(config)
        assert error is None or ("\n" not in str(error) and error.__cause__ is None), (value, error)


def refusal(config: Path) -> ConfigError | None:
    try:
        Settings.from_command({"config": str(config), "config_unknown": "warn"}, {})
    except ConfigError as error:
        return error
    return None


# -- Origins, precedence and defaults ----------------------------------------------------------------------------------


def test_values_have_their_origin_and_rank_below_flags_and_variables(config: Path) -> None:
    settings = command(
        config,
        "bind = '127.0.0.1:1'\nkeepalive = 5\ngraceful_timeout = 9\n",
        {"keep_alive": "7"},
        WSGI_GRACEFUL_TIMEOUT="8",
    )
    assert (settings.addresses, settings.origin("bind")) == (("127.0.0.1:1",), f"{config}: bind")
    assert (settings.keep_alive, settings.origin("keep_alive")) == (7.0, "--keep-alive")
    assert (settings.graceful_timeout, settings.origin("graceful_timeout")) == (8.0, "WSGI_GRACEFUL_TIMEOUT")


def test_wrong_value_is_refused_with_gunicorns_name_of_it(config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        command(config, "workers = 'many'")
    assert (
        str(caught.value)
        == f"workers must be a whole number from 1 to 512, auto or none, not 'many' (from {config}: workers)"
    )


def test_number_as_text_is_taken_because_variables_are_text(config: Path) -> None:
    settings = command(config, "workers = '2'\nthreads = '4'\nkeepalive = '5'\nreuse_port = 'true'\nbacklog = '64'")
    assert (settings.workers, settings.threads, settings.keep_alive) == (2, 4, 5.0)
    assert (settings.reuse_port, settings.backlog) == (True, 64)


def test_defaults_of_gunicorn_count_where_nothing_else_is_set(config: Path) -> None:
    settings = command(config, "")
    assert (settings.workers, settings.threads, settings.host) == (1, 1, "127.0.0.1")
    assert settings.origin("threads") == f"{config}: gunicorn's default"
    assert command(config, "", WEB_CONCURRENCY="3").workers == 3
    assert command(config, "", {"threads": "5"}).threads == 5
    assert command(config, "worker_class = 'uvicorn.workers.UvicornWorker'").threads == OPTIONS["threads"].default


def test_port_of_the_environment_listens_on_every_interface_as_with_gunicorn(config: Path) -> None:
    assert command(config, "", PORT="5000").addresses == ("0.0.0.0:5000",)
    assert command(config, "bind = '127.0.0.1:1'", PORT="5000").addresses == ("127.0.0.1:1",)


def test_forwarded_allow_ips_of_the_environment_counts_as_with_gunicorn(config: Path) -> None:
    assert command(config, "", FORWARDED_ALLOW_IPS="10.0.0.1").trusted_proxies == ("10.0.0.1", "unix")


def test_proxies_that_are_not_named_are_a_note_unless_they_are_named_elsewhere(config: Path) -> None:
    gunicorn = command(config, "").gunicorn
    assert gunicorn is not None
    assert gunicorn.notes["trusted_proxies"].startswith("forwarded_allow_ips is not set")
    for settings in (
        command(config, "", {"trusted_proxies": ["10.0.0.1"]}),
        command(config, "", WSGI_TRUSTED_PROXIES="10.0.0.1"),
        command(config, "", FORWARDED_ALLOW_IPS="10.0.0.1"),
        command(config, "forwarded_allow_ips = '10.0.0.1'"),
        command(config, "forwarded_allow_ips = ''"),
    ):
        assert settings.gunicorn is not None
        assert settings.gunicorn.notes == {}


def test_unknown_settings_are_an_error_or_warnings(config: Path) -> None:
    text = "daemon = True\nstatsd_host = 'a'\nthreads = 2\n"
    with pytest.raises(ConfigError) as caught:
        command(config, text)
    assert str(caught.value) == (
        f"{str(config)!r} has settings without a counterpart: daemon: there is no background mode; use a service "
        "manager; statsd_host: metrics are not supported. Remove them, or use --config-unknown warn"
    )
    warnings: list[str] = []
    config.write_text(text)
    settings = Settings.from_command({"config": str(config), "config_unknown": "warn"}, {}, warnings.append)
    assert settings.threads == 2
    assert [line.partition(": ")[2].partition(":")[0] for line in warnings] == ["daemon", "statsd_host"]


def test_unknown_key_of_a_toml_file_is_an_error_or_a_warning(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text("thread = 1\nthreads = 2\n")
    warnings: list[str] = []
    settings = Settings.from_command({"config": str(toml)}, {"WSGI_CONFIG_UNKNOWN": "warn"}, warnings.append)
    assert settings.threads == 2
    assert warnings == [f"unknown key 'thread' in {str(toml)!r}: did you mean 'threads'?"]
    with pytest.raises(ConfigError, match="unknown key 'thread'"):
        Settings.from_command({"config": str(toml)}, {})


@pytest.mark.parametrize("atom", "hlutrmUqHsbBDTfaM")
def test_atom_is_translated_as_the_core_says(atom: str, config: Path) -> None:
    ours = translated(config, f"access_log_format = '%({atom})s'").options["access_log_format"][0]
    with pytest.raises(ValueError, match=r"write (.+)$") as caught:
        WSGIServer(port=0, access_log_format=f"%({atom})s")
    assert str(caught.value).rpartition("write ")[2] == ours


# -- The file as a program ---------------------------------------------------------------------------------------------


def test_file_that_raises_is_shown_with_its_line_and_from_its_first_frame_on(config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        command(config, "import os\n\ndef f():\n    return os.environ['NOT_THERE_AT_ALL']\n\nworkers = f()\n")
    assert str(caught.value) == f"config: {str(config)!r} raised KeyError: 'NOT_THERE_AT_ALL' (line 6)"
    shown = explained(caught.value)
    assert shown.splitlines()[1].endswith(f'"{config}", line 6, in <module>')
    assert "gunicorn_config" not in shown
    assert shown.endswith(f"\nwsgi: {caught.value}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"workers = (\n", r"is not Python \(from --config\): '\(' was never closed, line 1"),
        (b"workers = '\xff'\n", "is not Python"),
        (b"workers = 1\0\n", "is not Python"),
        (b"raise SystemExit(3)\n", r"raised SystemExit: 3 \(line 1\)"),
        (b"import not_there_at_all\n", r"raised ModuleNotFoundError: No module named 'not_there_at_all' \(line 1\)"),
    ],
)
def test_file_that_is_wrong_is_refused_in_one_line(content: bytes, said: str, config: Path) -> None:
    config.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        Settings.from_command({"config": str(config)}, {})
    assert "\n" not in str(caught.value)


def test_file_that_is_missing_is_refused_in_one_line(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .* No such file"):
        Settings.from_command({"config": str(config)}, {})


def test_file_may_import_from_the_directory_of_the_application_and_leaves_nothing_behind(config: Path) -> None:
    (config.parent / "beside_the_config.py").write_text("count = 4\n")
    before = list(sys.path)
    found = translated(config, "from beside_the_config import count\nworkers = count\n")
    assert found.options["workers"][0] == 4
    assert "beside_the_config" not in sys.modules
    assert sys.path == before
    # Read again at a reload.
    (config.parent / "beside_the_config.py").write_text("count = 55\n")
    assert translated(config, config.read_text()).options["workers"][0] == 55


def test_variables_and_directories_are_applied_and_taken_back(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.delenv("SHAPE", raising=False)
    path = list(sys.path)
    first = translated(config, "raw_env = ['COLOUR=blue', 'SHAPE=a=b']\npythonpath = '/not/there, /nor/there'\n")
    second = translated(config, "raw_env = 'COLOUR=green'\n")
    nothing = translated(config, "")
    first.apply()
    assert (os.environ["COLOUR"], os.environ["SHAPE"]) == ("blue", "a=b")
    assert sys.path == ["/not/there", "/nor/there", *path]
    second.apply()
    assert os.environ["COLOUR"] == "green"
    assert "SHAPE" not in os.environ
    assert sys.path == path
    nothing.apply()
    assert os.environ["COLOUR"] == "red"


def test_directories_are_relative_to_the_one_that_is_changed_to(config: Path) -> None:
    found = translated(config, "chdir = '/srv/site'\npythonpath = 'lib,/opt/lib'\n")
    assert found.python_path == ("/srv/site/lib", "/opt/lib")


@pytest.mark.parametrize("value", [r"['SECRET=a\0']", "['=SECRET']", "[1]", "5", "{'SECRET': 'SECRET'}"])
def test_raw_env_that_is_wrong_is_refused_without_its_values(value: str, config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        translated(config, f"raw_env = {value}")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ndef post_fork(worker): pass", r"post_fork must be a function of \(server, worker\) \(from .*, line 2\)"),
        ("post_fork = 'site.hooks'", r"post_fork must be a function of .*, and is of type str"),
        ("async def when_ready(server): pass", r"when_ready must be a function of \(server\) without async"),
    ],
)
def test_hook_that_cannot_be_called_is_refused(text: str, said: str, config: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        translated(config, text)


def test_hooks_of_gunicorn_get_the_settings_of_the_file(config: Path) -> None:
    settings = command(config, "workers = 3\nseen = []\ndef on_starting(server):\n    seen.append(server)\n")
    settings.hooks.load("site:app")
    settings.hooks.call("starting")
    assert settings.gunicorn is not None
    (server,) = settings.gunicorn.values["seen"]
    assert (server.pid, server.age, server.cfg.workers, server.cfg.daemon) == (os.getpid(), 0, 3, False)
    assert server.log.name == "wsgi.server"
    for holder, name in ((server, "WORKERS"), (server.cfg, "certfile")):
        with pytest.raises(AttributeError, match=name):
            getattr(holder, name)


def test_application_named_in_the_file_is_known(config: Path) -> None:
    found: Any = translated(config, "wsgi_app = 'site.wsgi:application'")
    assert found.application == "site.wsgi:application"
    assert translated(config, "wsgi_app = None").application is None


def test_check_config_shows_what_came_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text("def app(environ, start_response): pass\n")
    (tmp_path / "g.conf.py").write_text("wsgi_app = 'site_app:app'\nworkers = 3\n")
    ended = run("-c", "g.conf.py", "--check-config", cwd=tmp_path)
    assert ended.returncode == 0
    rows = [line.split(maxsplit=2) for line in ended.stdout.splitlines()]
    assert ["application", "site_app:app", "g.conf.py: wsgi_app"] in rows
    assert ["workers", "3", "g.conf.py: workers"] in rows
    assert ["threads", "1", "g.conf.py: gunicorn's default"] in rows
    named = run("site_app:app", "-c", "g.conf.py", "--check-config", cwd=tmp_path)
    assert named.stdout.splitlines()[0].endswith("command line")


def test_file_and_command_line_without_an_application_end_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("threads = 1\n")
    (tmp_path / "g.conf.py").write_text("threads = 1\n")
    for file in ("site.toml", "g.conf.py"):
        ended = run("-c", file, cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (
            1,
            "wsgi: neither the command line nor the configuration file names an application: write MODULE:APP\n",
        )


def test_file_that_raises_ends_the_command_with_its_traceback_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "g.conf.py").write_text("import os\nworkers = undefined\n")
    ended = run("site:app", "-c", "g.conf.py", cwd=tmp_path)
    assert ended.returncode == 1
    assert [line for line in ended.stderr.splitlines() if not line.startswith("    ")] == [
        "Traceback (most recent call last):",
        '  File "g.conf.py", line 2, in <module>',
        "NameError: name 'undefined' is not defined",
        "wsgi: config: 'g.conf.py' raised NameError: name 'undefined' is not defined (line 2)",
    ]
