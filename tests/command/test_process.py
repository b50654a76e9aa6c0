"""The process of the command: umask, directory, environment, pidfile, name, limits; and bare surroundings."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.sandbox import needs_sandbox, words
from tests.support import PATIENCE, Command, RawClient, environment, run
from wsgi.env_file import read_env_file
from wsgi.errors import ConfigError
from wsgi.pidfile import PidFile
from wsgi.resources import connection_limit, memory_limit, open_files_limit
from wsgi.settings import Settings

GET = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
import os
from pathlib import Path

HERE = Path(__file__).parent
START = os.getcwd()

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/write":
        Path(query).write_text("made")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/length":
        return [str(len(environ["wsgi.input"].read())).encode()]
    if path == "/variable":
        return [os.environ.get(query, "none").encode()]
    return [START.encode()]
"""

MODES = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["single", "workers"])


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory with an application that every user may read."""
    with tempfile.TemporaryDirectory(prefix="w") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "hello.py").write_text(APP)
        yield folder


def ask(address: str, path: bytes = b"/") -> str:
    with RawClient(address) as client:
        client.send(GET % path)
        response = client.receive()
    assert response.status == 200
    return response.body.decode()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def refused(*arguments: str, cwd: Path, **variables: str) -> str:
    """The single line of a start that fails."""
    done = run("hello:app", "--port", "0", *arguments, cwd=cwd, env=variables)
    assert (done.stdout, done.returncode) == ("", 1), done.stderr
    (line,) = done.stderr.splitlines()
    return line


# -- umask and chdir --------------------------------------------------------------------------------------------------


@MODES
def test_umask_applies_to_the_sockets_the_logs_and_the_files_of_the_application(
    workers: tuple[str, ...], site: Path
) -> None:
    arguments = ("--umask", "27", "--bind", "unix:a.sock", "--access-log", "log")
    with Command("hello:app", *arguments, *workers, cwd=site):
        ask(f"unix:{site}/a.sock", b"/write?file")
        modes = [path.stat().st_mode & 0o777 for path in (site / "a.sock", site / "log", site / "file")]
        assert modes == [0o750, 0o640, 0o640]


@pytest.mark.parametrize("text", ["8", "1000", "rw", "-1", ""])
def test_umask_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="umask must be an octal mask from 0 to 777, such as 027"):
        Settings.from_command({"umask": text}, {})


@MODES
def test_chdir_comes_before_the_import_and_app_dir_is_relative_to_it(workers: tuple[str, ...], site: Path) -> None:
    start = site / "start"
    (site / "base" / "code").mkdir(parents=True)
    start.mkdir()
    (site / "hello.py").rename(site / "base" / "code" / "hello.py")
    # Named relative to the directory of the start.
    (start / "a.toml").write_text('chdir = "../base"\n')
    (start / "a.env").write_text("GREETING=hi\n")
    files = ("--config", "a.toml", "--env-file", "a.env")
    arguments = ("--app-dir", "code", "--access-log", "log", "--pidfile", "a.pid", *files, *workers)
    with Command("hello:app", *arguments, cwd=start) as command:
        assert ask(command.address) == str((site / "base").resolve())
        assert ask(command.address, b"/variable?GREETING") == "hi"
        assert (site / "base" / "a.pid").exists()
        assert (site / "base" / "log").exists()
        assert command.stop() == 0


def test_directory_that_does_not_exist_is_refused_in_one_line(site: Path) -> None:
    assert refused("--chdir", "no", cwd=site) == "wsgi: chdir must be a directory that exists, not 'no' (from --chdir)"
    (site / "code").mkdir()
    line = refused("--chdir", "code", "--app-dir", "code", cwd=site)
    assert line == "wsgi: app_dir must be a directory that exists, not 'code' (from --app-dir)"


# -- env_file ---------------------------------------------------------------------------------------------------------


def read(folder: Path, content: str | bytes) -> dict[str, str]:
    path = folder / "a.env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_env_file(str(path), "--env-file")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("  A=b  ", "b"),
        ("export A=b", "b"),
        ("export\tA=b", "b"),
        ("A= b", "b"),
        ("A=b c", "b c"),
        ("A=b=c", "b=c"),
        ("A=b # c", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", "#c"),
        ("A= # c", ""),
        ("A='b # c'", "b # c"),
        ("A='b' # c", "b"),
        (r"A='b\n$C'", r"b\n$C"),
        (r'A="b\n\t\\\"\$C $D \x"', 'b\n\t\\"$C $D \\x'),
        (r"A=b\n", r"b\n"),
        ("A=$HOME", "$HOME"),
        ("A=b'c", "b'c"),
        ("A=ä\u2028b", "ä\u2028b"),
        ("A=b\r", "b"),
        ("\ufeffA=b", "b"),
        ("A=a\nA=b", "b"),
        ("# A=a\n\n \t\nA=b", "b"),
    ],
)
def test_env_file_right_line_gives_its_value(line: str, value: str, tmp_path: Path) -> None:
    assert read(tmp_path, line) == {"A": value}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"secret", "the line is not KEY=VALUE"),
        (b"export secret", "the line is not KEY=VALUE"),
        (b"A =secret", "the name before = must consist of letters, digits and _, without a space"),
        (b"1A=secret", "the name before = must"),
        (b"A-B=secret", "the name before = must"),
        (b"=secret", "the name before = must"),
        (b"A='secret", "the quote has no end in its line"),
        (b'A="secret\\"', "the quote has no end in its line"),
        (b'A="secret" more', "there is text behind the closing quote"),
        (b"A='secret'more", "there is text behind the closing quote"),
        (b"A=secret\xff", "the line is not UTF-8 text"),
        (b"A=secret\0", "the line has a NUL character"),
    ],
)
def test_env_file_wrong_line_is_named_without_its_text(line: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, b"B=1\n\n" + line + b"\nC=2\n")
    message = str(caught.value)
    assert message.startswith(f"env_file: {tmp_path}/a.env:3: {problem}")
    assert message.endswith(" (from --env-file)")
    assert "secret" not in message


def test_env_file_that_cannot_be_read_is_refused_in_one_line(site: Path) -> None:
    line = refused("--env-file", "no", cwd=site)
    assert line == "wsgi: env_file: cannot read 'no' (from --env-file): No such file or directory"


@MODES
def test_env_file_sets_variables_of_the_application_and_the_real_ones_win(workers: tuple[str, ...], site: Path) -> None:
    (site / "a.env").write_text("FROM_FILE=file\nFROM_BOTH=file\nEMPTY=file\n")
    variables = {"FROM_BOTH": "real", "EMPTY": "", "WSGI_ENV_FILE": "a.env"}
    with Command("hello:app", *workers, cwd=site, env=variables) as command:
        found = [ask(command.address, b"/variable?" + name) for name in (b"FROM_FILE", b"FROM_BOTH", b"EMPTY")]
        assert found == ["file", "real", ""]


def test_env_file_is_read_before_the_variables_of_options(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    (tmp_path / "a.toml").write_text("backlog = 7\n")
    path.write_text(f"WSGI_THREADS=3\nPORT=5000\nWSGI_KEEP_ALIVE=1\nWSGI_CONFIG={tmp_path}/a.toml\n")
    settings = Settings.from_command({"env_file": str(path)}, {"WSGI_KEEP_ALIVE": "2"})
    assert (settings.threads, settings.port, settings.keep_alive, settings.backlog) == (3, 5000, 2.0, 7)
    assert settings.origin("threads") == f"{path}: WSGI_THREADS"
    assert settings.origin("keep_alive") == "WSGI_KEEP_ALIVE"
    path.write_text("WSGI_THREADS=x\n")
    with pytest.raises(ConfigError, match=rf"threads must be .* \(from {path}: WSGI_THREADS\)"):
        Settings.from_command({"env_file": str(path)}, {})


# -- pidfile ----------------------------------------------------------------------------------------------------------


@MODES
def test_pidfile_has_the_number_of_the_process_that_takes_signals_as_long_as_it_serves(
    workers: tuple[str, ...], site: Path
) -> None:
    pidfile = site / "a.pid"
    (site / "hello.py").write_text(APP.replace("START = os.getcwd()", "START = str(Path('a.pid').exists())"))
    with Command("hello:app", "--umask", "77", "--pidfile", "a.pid", *workers, cwd=site) as command:
        assert pidfile.read_text() == f"{command.process.pid}\n"
        assert workers or ask(command.address) == "False"
        assert pidfile.stat().st_mode & 0o777 == 0o644
        assert os.listdir(site).count("a.pid") == len([name for name in os.listdir(site) if ".pid" in name])
        if workers:
            command.process.send_signal(signal.SIGHUP)
            command.stderr.wait_for("generation 2 serves")
            assert pidfile.read_text() == f"{command.process.pid}\n"
        assert command.stop() == 0
    assert not pidfile.exists()


@MODES
def test_pidfile_of_a_live_server_refuses_another_and_stays(workers: tuple[str, ...], site: Path) -> None:
    arguments = ("--pidfile", "a.pid", *workers)
    with Command("hello:app", *arguments, cwd=site) as command:
        line = refused(*arguments, cwd=site)
        number = command.process.pid
        assert line == (
            f"wsgi: pidfile: 'a.pid' belongs to process {number}, which runs; stop it, or choose another path"
        )
        assert (site / "a.pid").read_text() == f"{number}\n"


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(PATIENCE)
    return process.pid


def test_pidfile_that_is_stale_is_replaced(site: Path) -> None:
    for content in (f"{ended_process()}\n", "", "4194305", str(10**30)):
        (site / "a.pid").write_text(content)
        with Command("hello:app", "--pidfile", "a.pid", cwd=site) as command:
            assert (site / "a.pid").read_text() == f"{command.process.pid}\n"
            assert command.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_pidfile_older_than_the_process_with_its_number_is_stale(tmp_path: Path) -> None:
    # As after a restart of the machine, or in a new container: the number is another process's now.
    path = tmp_path / "a.pid"
    path.write_text(str(os.getppid()))
    with pytest.raises(ConfigError, match="belongs to process"):
        PidFile(str(path))
    os.utime(path, (1, 1))
    PidFile(str(path))


def test_pidfile_with_the_own_number_is_stale(tmp_path: Path) -> None:
    (tmp_path / "a.pid").write_text(str(os.getpid()))
    PidFile(str(tmp_path / "a.pid")).write()


def test_pidfile_that_is_another_processs_by_the_end_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    pidfile = PidFile(str(path))
    pidfile.write()
    path.write_text(str(os.getppid()))
    pidfile.remove()
    assert path.exists()


def test_pidfile_that_another_process_has_taken_since_the_start_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    pidfile = PidFile(str(path))
    path.write_text(str(os.getppid()))
    with pytest.raises(ConfigError, match="belongs to process"):
        pidfile.write()
    assert os.listdir(tmp_path) == ["a.pid"]


@MODES
def test_pidfile_that_another_process_takes_during_the_start_ends_it(workers: tuple[str, ...], site: Path) -> None:
    # Process 1 lives, and has for long.
    (site / "hello.py").write_text(APP + "Path('a.pid').write_text('1')\n")
    done = run("hello:app", "--port", "0", "--pidfile", "a.pid", *workers, cwd=site)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("wsgi: pidfile: 'a.pid' belongs to process 1, which runs; ")
    assert "Traceback" not in done.stderr
    assert (site / "a.pid").read_text() == "1"


def test_pidfile_in_a_child_is_neither_written_nor_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    pidfile = PidFile(str(path))
    pidfile.write()
    child = os.fork()
    if child == 0:
        pidfile.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    pidfile.remove()
    assert not path.exists()


@pytest.mark.parametrize(
    ("prepare", "path", "problem"),
    [
        (lambda site: None, "no/a.pid", "the directory of 'no/a.pid' does not exist; make it, or choose another path"),
        (
            lambda site: (site / "a.pid").write_text("my diary"),
            "a.pid",
            "'a.pid' exists and holds no process number; remove it, or choose another path",
        ),
        (lambda site: (site / "a.pid").mkdir(), "a.pid", "cannot read 'a.pid': Is a directory"),
    ],
    ids=["no directory", "other content", "directory"],
)
def test_pidfile_that_cannot_be_written_is_refused_in_one_line(
    prepare: Callable[[Path], object], path: str, problem: str, site: Path
) -> None:
    prepare(site)
    assert refused("--pidfile", path, cwd=site) == f"wsgi: pidfile: {problem}"


# -- the name ---------------------------------------------------------------------------------------------------------


def test_process_name_is_that_of_the_supervisor_and_the_workers(site: Path) -> None:
    pytest.importorskip("setproctitle", reason="setproctitle is not installed here")
    with Command("hello:app", "--process-name", "shop", "--workers", "1", cwd=site) as command:
        pid = command.process.pid
        assert Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") == "shop"
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        wait_until(lambda: Path(f"/proc/{worker}/cmdline").read_text().rstrip("\0") == "shop worker")


@MODES
def test_process_name_without_its_package_is_said_once(workers: tuple[str, ...], site: Path) -> None:
    hidden = site / "hidden"
    hidden.mkdir()
    (hidden / "setproctitle.py").write_text("raise ImportError\n")
    variables = {"PYTHONPATH": str(hidden)}
    with Command("hello:app", "--process-name", "shop", *workers, cwd=site, env=variables) as command:
        assert ask(command.address)
        assert command.stop() == 0
    lines = [line for line in command.stderr.seen if "process_name" in line]
    assert [re.sub(".*WARNING ", "", line) for line in lines] == [
        "process_name has no effect without the package setproctitle: pip install setproctitle"
    ]


# -- limits -----------------------------------------------------------------------------------------------------------

LIMITED = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh", sys.executable, "-m", "wsgi_server")


@pytest.mark.parametrize(
    ("arguments", "level", "text"),
    [
        ((), "INFO", "160 can be open, not 10000"),
        (("--max-connections", "200"), "WARNING", "160 can be open, not 200"),
        (("--max-connections", "321", "--workers", "2"), "WARNING", "320 can be open, not 321"),
    ],
    ids=["default", "given", "workers"],
)
def test_limit_of_open_files_that_keeps_connections_out_is_said_at_start(
    arguments: tuple[str, ...], level: str, text: str, site: Path
) -> None:
    with Command("hello:app", *arguments, cwd=site, start=LIMITED) as command:
        (line,) = [line for line in command.stderr.seen if "max_connections" in line]
        assert f"{level} max_connections: {text}, because the limit of open files is 256; raise it" in line


def test_limit_of_open_files_that_is_enough_is_not_said(site: Path) -> None:
    with Command("hello:app", "--max-connections", "160", cwd=site, start=LIMITED) as command:
        assert not any("max_connections" in line for line in command.stderr.seen)
    files = open_files_limit()
    assert files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert connection_limit(1, 1) is None


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "1000"}, 1000),
        ("0::/a/b", {"a/b/memory.max": "500", "a/memory.max": "1000"}, 500),
        ("0::/a", {"a/memory.max": "max"}, None),
        ("3:cpu,memory:/a\n2:pids:/b", {"memory/a/memory.limit_in_bytes": "700"}, 700),
        ("3:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("", {}, None),
    ],
)
def test_memory_limit_is_the_lowest_of_the_cgroups_around(
    groups: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory_limit(tmp_path, tmp_path / "cgroup") == limit


# -- bare surroundings ------------------------------------------------------------------------------------------------

NO_HOME = ("env", "--unset=HOME", "--unset=TMPDIR", sys.executable, "-m", "wsgi_server")


@needs_sandbox
@MODES
def test_server_works_as_nobody_on_a_read_only_root_without_tmp_and_home(workers: tuple[str, ...], site: Path) -> None:
    start = words(*NO_HOME, user="nobody", read_only=True)
    with Command("hello:app", "--body-buffer", "1k", *workers, cwd=site, start=start) as command:
        assert ask(command.address) == str(site)
        status = Path(f"/proc/{command.process.pid}/status").read_text()
        assert re.search(r"^Uid:\t65534\t", status, re.MULTILINE)
        with RawClient(command.address) as client:
            # Of known length, which needs no file.
            client.send(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x" * 100_000)
            assert client.receive().body == b"100000"
            # One that needs a file is answered with an error, and costs no other request.
            chunks = b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n" + b"x" * 200_000 + b"\r\n0\r\n\r\n"
            client.send(b"POST /length HTTP/1.1\r\nHost: a\r\n" + chunks)
            assert client.receive().status == 500
        with RawClient(command.address) as client:
            client.send(GET % b"/write?/tmp/file")
            assert client.receive().status == 500
        assert ask(command.address) == str(site)
        assert command.stop() == 0
    assert any("temporary file" in line for line in command.stderr.seen)


@needs_sandbox
@MODES
def test_server_works_as_process_1(workers: tuple[str, ...], site: Path) -> None:
    with Command("hello:app", "--pidfile", "a.pid", *workers, cwd=site, start=words(first=True)) as command:
        assert command.banner.endswith("pid 1)")
        assert (site / "a.pid").read_text() == "1\n"
        assert ask(command.address) == str(site)
        # `unshare` waits for it.
        pid = command.process.pid
        (inner,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert command.process.wait(PATIENCE) == 0
    assert not (site / "a.pid").exists()


@needs_sandbox
def test_pidfile_of_a_former_container_is_replaced_by_process_1(site: Path) -> None:
    (site / "a.pid").write_text("1\n")
    with Command("hello:app", "--pidfile", "a.pid", cwd=site, start=words(first=True)) as command:
        assert ask(command.address) == str(site)
        pid = command.process.pid
        (inner,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert command.process.wait(PATIENCE) == 0


def test_check_config_says_the_limits(site: Path) -> None:
    done = subprocess.run(
        [*LIMITED, "hello:app", "--check-config"], cwd=site, env=environment(), capture_output=True, text=True,
        check=True, timeout=PATIENCE,
    )  # fmt: skip
    rows = [re.split("  +", line) for line in done.stdout.splitlines()]
    assert ["open_files_limit", "256", "process"] in rows
    assert any(row[0] == "memory_limit" for row in rows)


# -- the options ------------------------------------------------------------------------------------------------------


def test_options_of_the_process_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('user = 1000\ngroup = "www-data"\numask = 0o27\nprocess_name = "shop"\npidfile = "/run/a.pid"\n')
    settings = Settings.from_command({"config": str(path)}, {})
    assert (settings.user, settings.group, settings.umask) == ("1000", "www-data", 0o27)
    assert (settings.process_name, settings.pidfile, settings.chdir) == ("shop", "/run/a.pid", ".")
    assert settings.shown("umask") == "027"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("user = -1", "user must be the name or the number of a user, not -1"),
        ("user = true", "user must be the name or the number of a user, not True"),
        ("group = 4294967295", "group must be the name or the number of a group, not 4294967295"),
        ('user = "a b"', "user must be the name or the number of a user, not 'a b'"),
        ('user = ""', "user must be the name or the number of a user, not ''"),
        ("umask = 512", "umask must be an octal mask from 0 to 0o777, such as 0o027"),
        ('process_name = "a\\nb"', "process_name must be one line of text"),
        ('env_file = "a.env"', "unknown key 'env_file' in "),
        ('chdir = ""', "chdir must be a directory that exists, not ''"),
    ],
)
def test_option_of_the_process_wrong_value_is_refused(line: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(line)
    with pytest.raises(ConfigError) as caught:
        Settings.from_command({"config": f"{tmp_path}/a.toml"}, {})
    assert str(caught.value).startswith(problem)
