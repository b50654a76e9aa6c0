"""The command `wsgi`: what it prints, how it ends, how it starts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

import wsgi
from tests.support import PATIENCE, Command, RawClient, run
from wsgi.settings import OPTIONS

ROOT = Path(__file__).parents[2]

HELLO = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""
SCRIPT = Path(sysconfig.get_path("scripts")) / "wsgi"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with hello.py in it."""
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


def test_version_is_that_of_the_crate_and_of_the_distribution(site: Path) -> None:
    manifest = (ROOT / "Cargo.toml").read_text("utf-8")
    found = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)
    assert found is not None
    assert wsgi.__version__ == found[1]
    done = run("--version", cwd=site)
    assert (done.stdout, done.stderr, done.returncode) == (f"wsgi-server {wsgi.__version__}\n", "", 0)


def test_help_is_grouped_and_names_the_variables(site: Path) -> None:
    done = run("--help", cwd=site, env={"COLUMNS": "100"})
    assert (done.stderr, done.returncode) == ("", 0)
    headings = re.findall(r"^(\w+):$", done.stdout, re.MULTILINE)
    assert headings == list(dict.fromkeys(option.group for option in OPTIONS.values()))
    assert "(default 8000; WSGI_PORT or PORT)" in " ".join(done.stdout.split())
    assert max(len(line) for line in done.stdout.splitlines()) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: MODULE:APP"),
        (["hello:app", "--thread", "4"], "unknown option '--thread': did you mean '--threads'?"),
        (["--max-body=4", "hello:app"], "unknown option '--max-body': did you mean '--max-body-size'?"),
        (["hello:app", "--frobnicate"], "unknown option '--frobnicate'"),
        (["hello:app", "--processes", "4"],
            "unknown option '--processes': --workers N starts worker processes, and a supervisor that restarts them"),
        (["-s:80", "hello:app"], "unknown option '-s:80': --bind HOST:PORT or --bind unix:PATH sets the address"),
        (["hello:app", "--uds=/x"], "unknown option '--uds': --bind unix:PATH sets a Unix socket"),
        (["hello:app", "other:app"], "unexpected argument 'other:app': the command serves one application"),
        (["hello:app", "--port"], "argument --port: expected one argument"),
    ],
)  # fmt: skip
def test_command_line_that_cannot_be_understood_ends_with_2_and_one_line(
    arguments: Sequence[str], message: str, site: Path
) -> None:
    done = run(*arguments, cwd=site)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == f"wsgi: {message} (wsgi --help lists the options)\n"


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["hello:app", "--backlog", "0"], {}, "backlog must be {range}, not '0' (from --backlog)"),
        (["hello:app", "--backlog", "-1"], {}, "backlog must be {range}, not '-1' (from --backlog)"),
        (["hello:app"], {"PORT": "x"}, "port must be a whole number from 0 to 65535, not 'x' (from PORT)"),
        (["hello:app", "--config", "no"], {}, "config: cannot read 'no' (from --config): No such file or directory"),
        (["hello:app", "--app-dir", "no"], {}, "app_dir must be a directory that exists, not 'no' (from --app-dir)"),
        (["hello:ap"], {}, "cannot import 'ap' from 'hello.py': did you mean 'app'?"),
        (["helo:app"], {}, "cannot find the module 'helo' in '{site}': did you mean 'hello'?"),
    ],
)
def test_start_that_fails_ends_with_1_and_one_line(
    arguments: Sequence[str], env: dict[str, str], message: str, site: Path
) -> None:
    done = run(*arguments, cwd=site, env=env)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == f"wsgi: {message.format(site=site, range=OPTIONS['backlog'].type.requirement)}\n"


SELF_SERVING = """
from wsgi.server import WSGIServer, serve
from wsgi.application import WSGIApplication

app = WSGIApplication()

@app.route("/")
def index(request):
    return "right"

app.run(port=1)
serve(app, port=1)
server = WSGIServer("127.0.0.1", 0, app)
port = server.server_port
server.serve_forever()
WSGIServer("127.0.0.1", port, app).run()

def make():
    serve(app, port=1)
    return app
"""


def test_program_that_serves_itself_is_served_by_the_command_alone(tmp_path: Path) -> None:
    (tmp_path / "runapp.py").write_text(SELF_SERVING)
    with Command("runapp:make()", cwd=tmp_path) as command:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"right"
        assert command.stop() == 0
    *warnings, banner = command.stderr.seen
    assert banner == command.banner
    places = [("run()", 11), ("serve()", 12), ("serve_forever()", 15), ("run()", 16), ("serve()", 19)]
    for warning, (call, line) in zip(warnings, places, strict=True):
        assert f"WARNING {call} at runapp.py:{line} is ignored while the module is imported" in warning
        assert warning.endswith("put the call under: if __name__ == '__main__'")


def test_server_in_a_thread_of_the_application_is_none_of_the_commands(tmp_path: Path) -> None:
    content = "import threading, urllib.request\nfrom wsgi.server import WSGIServer\n" + HELLO
    content += "inner = WSGIServer('127.0.0.1', 0, app)\nthreading.Thread(target=inner.serve_forever).start()\n"
    content += "assert urllib.request.urlopen(inner.addresses[0], timeout=20).read() == b'hello'\n"
    content += "inner.shutdown()\n"
    (tmp_path / "inner.py").write_text(content)
    with Command("inner:app", cwd=tmp_path) as command:
        # The first such line was that of the inner server.
        command.stderr.wait_for("WSGIServer: Serving HTTP on ")
        assert command.stop() == 0
    assert not any("ignored" in line for line in command.stderr.seen)


def test_program_that_cannot_listen_ends_with_1_and_one_line(tmp_path: Path) -> None:
    program = "import sys\nfrom wsgi.application import WSGIApplication\nWSGIApplication().run(port=int(sys.argv[1]))\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", program, port], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert (done.stdout, done.returncode) == ("", 1)
    assert re.fullmatch(rf".* CRITICAL cannot listen on 127\.0\.0\.1:{port}: the address is in use; .*\n", done.stderr)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to know what is in use")
def test_limit_of_threads_or_memory_is_said_in_one_line(tmp_path: Path) -> None:
    content = """
import resource
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (24 << 20),) * 2)
"""
    (tmp_path / "tight.py").write_text(content + HELLO)
    done = run("tight:app", "--port", "0", "--threads", "200", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("", 1)
    assert re.fullmatch(r"wsgi: cannot start 200 threads: .*; lower --threads, or raise the limits .*\n", done.stderr)


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("more", range(4))
def test_limit_of_open_files_is_said_in_one_line(more: int, kind: str, tmp_path: Path) -> None:
    content = f"""
import os, resource
free = os.open(os.devnull, os.O_RDONLY)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + {more}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
{kind} app(*args): return []
"""
    (tmp_path / "tight.py").write_text(content)
    done = run("tight:app", "--port", "0", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("", 1)
    assert re.fullmatch(r"wsgi: cannot (listen|start) .*Too many open files.*\n", done.stderr)


def test_error_of_the_application_is_shown_from_its_first_frame_on(site: Path) -> None:
    (site / "broken.py").write_text("import near\n")
    (site / "near.py").write_text("1 / 0\n")
    done = run("broken:app", cwd=site)
    assert (done.stdout, done.returncode) == ("", 1)
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{site}/broken.py", line 1, in <module>'
    assert lines[-2:] == [
        "ZeroDivisionError: division by zero",
        "wsgi: cannot load 'broken:app': it raised ZeroDivisionError: division by zero (near.py, line 1)",
    ]
    assert "importlib" not in done.stderr


def test_check_config_prints_every_value_with_its_origin_in_columns(site: Path) -> None:
    (site / "a.toml").write_text('max_body_size = "10M"\n')
    done = run(
        "hello:app", "--check-config", "--config", "a.toml", "--threads", "4",
        cwd=site, env={"WSGI_KEEP_ALIVE": "5", "PORT": "5000"},
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    rows = {line.split()[0]: re.split(r"  +", line)[1:] for line in done.stdout.splitlines()}
    options = [name for name in OPTIONS if name != "check_config"]
    assert list(rows) == ["application", *options, "open_files_limit", "memory_limit"]
    assert rows["application"] == ["hello:app", "command line"]
    assert rows["threads"] == ["4", "--threads"]
    assert rows["keep_alive"] == ["5 s", "WSGI_KEEP_ALIVE"]
    assert rows["max_body_size"] == ["10 MiB", "a.toml: max_body_size"]
    assert rows["port"] == ["5000", "PORT"]
    assert rows["backlog"] == ["2048", "default"]
    # A longer value pushes its own origin aside.
    short = [line for line in done.stdout.splitlines() if len(rows[line.split()[0]][0]) <= 32]
    columns = {line.index(" default") for line in short if line.endswith("  default")}
    assert len(columns) == 1


def test_check_config_with_a_wrong_application_ends_with_1(site: Path) -> None:
    done = run("hello:nothing", "--check-config", cwd=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == "wsgi: cannot import 'nothing' from 'hello.py'\n"


def test_check_config_prints_a_path_that_the_output_cannot_encode(site: Path) -> None:
    done = run(
        "hello:app", "--check-config", cwd=site, env={"WSGI_ACCESS_LOG": "/ä\udcff", "PYTHONIOENCODING": "ascii"}
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "/\\xe4\\udcff" in done.stdout


def test_check_config_listens_nowhere(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("hello:app", "--check-config", "--port", str(taken.getsockname()[1]), cwd=site)
    assert (done.stderr, done.returncode) == ("", 0)


def test_variable_that_is_no_option_is_warned_of(site: Path) -> None:
    done = run("hello:app", "--check-config", cwd=site, env={"WSGI_THREAD": "4"})
    assert done.returncode == 0
    assert done.stderr.endswith(
        " WARNING unknown option in the environment: WSGI_THREAD: did you mean 'WSGI_THREADS'?\n"
    )


def test_import_of_the_command_leaves_the_server_and_heavy_modules_out() -> None:
    def imported(statement: str) -> set[str]:
        program = f"import sys; {statement}; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        return set(done.stdout.split())

    heavy = {"asyncio", "dataclasses", "inspect", "logging", "socket", "ssl", "tomllib", "wsgi._core", "wsgi.server"}
    assert heavy.intersection(imported("import wsgi.cli") - imported("pass")) == set()


STARTS = {
    "script": [str(SCRIPT)],
    "module": [sys.executable, "-m", "wsgi"],
    "module-beside": [sys.executable, "-m", "wsgi_server"],
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_command_serves_until_it_is_stopped(start: Sequence[str], site: Path) -> None:
    with Command("hello:app", cwd=site, start=start) as command:
        assert re.fullmatch(
            r"WSGIServer: Serving HTTP on http://127\.0\.0\.1:[1-9][0-9]* \(WSGI, up to 16 threads, pid [0-9]+\)",
            command.banner,
        )
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            (response,) = client.responses("GET")
        assert (response.status, response.body) == (200, b"hello")
        assert command.stop() == 0
        assert command.stderr.seen == [command.banner]


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_command_stops_quietly_at_a_signal(with_signal: int, site: Path) -> None:
    with Command("hello:app", cwd=site) as command:
        assert command.stop(with_signal) == 0
        assert command.stderr.seen == [command.banner]


def test_command_interrupted_during_the_import_ends_with_130(site: Path) -> None:
    (site / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n")
    done = run("slow:app", cwd=site)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


def test_command_binds_every_address_that_it_is_given(site: Path) -> None:
    with Command("hello:app", "--bind", "127.0.0.1:0", "--bind", "unix:s.sock", cwd=site) as command:
        assert command.addresses[1].endswith("s.sock")
        first = command.addresses[0]
        with RawClient(first) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"hello"
        with RawClient(f"unix:{site / 's.sock'}") as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"hello"


def test_port_in_use_is_said_in_one_line(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("hello:app", "--port", str(port), cwd=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("wsgi: ")
    assert done.stderr.count("\n") == 1
    assert str(port) in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--access-log", "no/such/directory/a.log"], "access_log"),
        (["--access-log", "-", "--access-log-format", "%~"], "%~"),
    ],
)
def test_option_that_only_the_core_can_judge_is_refused_in_one_line(
    arguments: Sequence[str], word: str, site: Path
) -> None:
    done = run("hello:app", "--port", "0", *arguments, cwd=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert re.fullmatch(rf"wsgi: .*{re.escape(word)}.*\n", done.stderr)


def test_users_wsgi_py_that_imports_the_server_is_served(tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text("from wsgi.server import WSGIServer\nassert WSGIServer\n" + HELLO)
    path = os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])
    with Command("wsgi:app", cwd=tmp_path, env={"PYTHONPATH": path}) as command:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"hello"
        assert command.stop() == 0
