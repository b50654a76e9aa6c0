"""The options user and group: who the application runs as, what it may do, what it cannot get back."""

from __future__ import annotations

import ast
import os
import pwd
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.sandbox import needs_sandbox, words
from tests.support import PATIENCE, Command, RawClient, environment
from wsgi.errors import ConfigError
from wsgi.privileges import find_identity, give_file

GET = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
import os, time
from pathlib import Path

IMPORTED_BY = os.getuid()

def tries():
    for change in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setresuid(-1, 0, -1), lambda: os.setgid(0),
                   lambda: os.setegid(0), lambda: os.setgroups([0])):
        try:
            change()
        except PermissionError:
            continue
        yield "regained"

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    ids = [*os.getresuid(), *os.getresgid(), sorted(os.getgroups())]
    names = [os.environ.get(name) for name in ("HOME", "USER")]
    return [repr([os.getpid(), IMPORTED_BY, ids, list(tries()), *names]).encode()]
"""

MODES = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["single", "workers"])


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory with an application that every user may read."""
    with tempfile.TemporaryDirectory(prefix="w") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "who.py").write_text(APP)
        yield folder


def ask(address: str) -> list[object]:
    with RawClient(address) as client:
        client.send(GET % b"/")
        response = client.receive()
    assert response.status == 200
    found = ast.literal_eval(response.body.decode())
    assert isinstance(found, list)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def privileged_port() -> int:
    """A port below 1024 that is free."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


def refused(*arguments: str, cwd: Path, start: list[str] | None = None) -> str:
    """The single line of a start that fails."""
    done = subprocess.run(
        [*(words() if start is None else start), "who:app", "--port", "0", *arguments],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 1), done.stderr
    (line,) = done.stderr.splitlines()
    return line


# -- who the application is -------------------------------------------------------------------------------------------


@needs_sandbox
@MODES
def test_application_is_the_user_from_its_import_on_and_never_root_again(workers: tuple[str, ...], site: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    place = f"127.0.0.1:{privileged_port()}"
    arguments = ("who:app", "--user", "nobody", "--bind", place, *workers)
    with Command(*arguments, cwd=site, start=words()) as command:
        pid, imported_by, ids, regained, home, name = ask(command.address)
        assert imported_by == nobody.pw_uid
        assert ids == [*[nobody.pw_uid] * 3, *[nobody.pw_gid] * 3, [nobody.pw_gid]]
        assert regained == []
        assert (home, name) == (nobody.pw_dir, "nobody")
        # The supervisor stays as it was started.
        assert os.stat(f"/proc/{command.process.pid}").st_uid == (0 if workers else nobody.pw_uid)
        assert (pid == command.process.pid) is not bool(workers)
        assert command.stop() == 0


@needs_sandbox
def test_group_replaces_that_of_the_user_and_user_may_be_a_number(site: Path) -> None:
    with Command("who:app", "--user", "12345", "--group", "daemon", cwd=site, start=words()) as command:
        _, _, ids, regained, _, _ = ask(command.address)
        assert ids == [12345, 12345, 12345, 1, 1, 1, [1]]
        assert regained == []


@needs_sandbox
def test_group_alone_leaves_the_user(site: Path) -> None:
    with Command("who:app", "--group", "daemon", "--workers", "1", cwd=site, start=words()) as command:
        assert ask(command.address)[2] == [0, 0, 0, 1, 1, 1, [1]]


@needs_sandbox
def test_worker_of_a_reload_is_the_user_too(site: Path) -> None:
    with Command("who:app", "--user", "nobody", "--workers", "1", cwd=site, start=words()) as command:
        first = ask(command.address)
        command.process.send_signal(signal.SIGHUP)
        wait_until(lambda: ask(command.address)[0] != first[0])
        assert ask(command.address)[1:] == first[1:]
        assert command.stop() == 0


@needs_sandbox
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=["reload", "upgrade"])
def test_files_and_privileged_port_of_a_changed_configuration_are_the_users(number: int, site: Path) -> None:
    nobody, toml, log, unix = pwd.getpwnam("nobody"), site / "site.toml", site / "new.log", site / "new.socket"
    binds = [f"127.0.0.1:{privileged_port()}", "127.0.0.1:0", f"unix:{unix}"]
    toml.write_text(f'user = "nobody"\nworkers = 1\nbind = {binds[1:2]}\n')
    with Command("who:app", "--config", "site.toml", cwd=site, start=words()) as command:
        first = ask(command.address)
        toml.write_text(f'user = "nobody"\nworkers = 1\nbind = {binds}\naccess_log = "new.log"\n')
        command.process.send_signal(number)
        wait_until(lambda: ask(command.address)[0] != first[0])
        for address in (f"unix:{unix}", f"http://{binds[0]}"):
            assert ask(address)[1:] == first[1:]
        assert log.stat().st_uid == unix.stat().st_uid == nobody.pw_uid
        log.rename(site / "old.log")
        command.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        wait_until(lambda: log.stat().st_uid == nobody.pw_uid)
        assert command.stop() == 0


@needs_sandbox
def test_user_that_the_process_is_already_changes_nothing(site: Path) -> None:
    start = words(user="nobody")
    with Command("who:app", "--user", "nobody", cwd=site, start=start) as command:
        assert ask(command.address)[1] == pwd.getpwnam("nobody").pw_uid


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "group", "message"),
    [
        (
            "nosuchuser",
            None,
            "user: there is no user 'nosuchuser' (from --user); make it, or give its number and group",
        ),
        (None, "nosuchgroup", "group: there is no group 'nosuchgroup' (from --group); make it, or give its number"),
        (
            "99999999999",
            "1",
            "user: there is no user '99999999999' (from --user); make it, or give its number and group",
        ),
        ("4294967295", "1", "user: there is no user '4294967295' (from --user); make it, or give its number and group"),
        (None, "4294967295", "group: there is no group '4294967295' (from --group); make it, or give its number"),
        ("54321", None, "user: 54321 has no entry in the system's database of users (from --user); give group too"),
    ],
)
def test_user_or_group_that_does_not_exist_is_refused(user: str | None, group: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_identity(user, group, lambda name: f"--{name}")
    assert str(caught.value) == message


@needs_sandbox
@MODES
def test_process_that_may_not_become_the_user_is_refused_in_one_line(workers: tuple[str, ...], site: Path) -> None:
    line = refused("--user", "nobody", *workers, cwd=site, start=words(user="daemon"))
    assert line == (
        "wsgi: cannot run as user 'nobody': Operation not permitted; start the server as root, or leave out user and "
        "group and set them in the service manager"
    )


@needs_sandbox
def test_process_that_could_become_root_again_is_refused(site: Path) -> None:
    capabilities = ("--inh-caps", "+setuid,+setgid", "--ambient-caps", "+setuid,+setgid")
    line = refused("--user", "nobody", cwd=site, start=words(user="daemon", drop=capabilities))
    assert line.startswith("wsgi: cannot run as user 'nobody': the process keeps rights of the user that started it; ")
    line = refused("--group", "nogroup", cwd=site, start=words(user="daemon", drop=capabilities))
    assert line.startswith("wsgi: cannot run as group 'nogroup': the process keeps rights")
    line = refused("--user", "nobody", "--workers", "2", cwd=site, start=words(user="daemon", drop=capabilities))
    assert line.startswith("wsgi: cannot run as user 'nobody': the process keeps rights of the user that started it; ")


@needs_sandbox
@MODES
def test_directory_that_the_user_may_not_read_is_refused_in_one_line(workers: tuple[str, ...], site: Path) -> None:
    closed = site / "closed"
    closed.mkdir(0o700)
    (closed / "who.py").write_text(APP)
    line = refused("--user", "nobody", "--app-dir", "closed", *workers, cwd=site)
    assert line == (
        f"wsgi: app_dir: user 'nobody' may not read '{closed}'; change its owner or mode, or that of a directory "
        "above it"
    )


@needs_sandbox
def test_pidfile_that_a_single_process_could_not_write_is_refused_in_one_line(site: Path) -> None:
    line = refused("--user", "nobody", "--pidfile", "a.pid", cwd=site)
    assert line.startswith(f"wsgi: pidfile: user 'nobody' may not write '{site}'")
    assert not (site / "a.pid").exists()


@needs_sandbox
def test_log_that_the_user_could_not_open_again_is_refused_in_one_line(site: Path) -> None:
    (site / "log").mkdir(0o700)
    line = refused("--user", "nobody", "--access-log", "log/access", cwd=site)
    assert line.startswith("wsgi: access_log: user 'nobody' may not write 'log/access'")


@needs_sandbox
def test_application_of_no_interface_is_refused_in_one_line_after_the_change_of_user(site: Path) -> None:
    (site / "who.py").write_text("def app(a, b, c, d): pass\n")
    assert "app" in refused("--user", "nobody", cwd=site)


# -- files ------------------------------------------------------------------------------------------------------------


@needs_sandbox
@MODES
def test_socket_and_log_that_root_made_are_the_users(workers: tuple[str, ...], site: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    log, place = site / "access.log", site / "a.sock"
    arguments = ("--user", "nobody", "--bind", "unix:a.sock", "--socket-mode", "660", "--access-log", "access.log")
    with Command("who:app", *arguments, *workers, cwd=site, start=words()) as command:
        assert ask(f"unix:{place}")
        for path in (log, place):
            assert (path.stat().st_uid, path.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        assert command.stop() == 0


@needs_sandbox
def test_log_is_opened_again_after_it_was_moved_where_the_user_may_make_no_file(site: Path) -> None:
    log = site / "access.log"
    arguments = ("--user", "nobody", "--workers", "1", "--access-log", "access.log")
    with Command("who:app", *arguments, cwd=site, start=words()) as command:
        ask(command.address)
        wait_until(lambda: log.read_text().count("\n") == 1)
        log.rename(site / "moved")
        command.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: log.exists() and log.stat().st_uid == pwd.getpwnam("nobody").pw_uid)
        wait_until(lambda: (ask(command.address), log.read_text())[1])
        assert command.stop() == 0


@needs_sandbox
def test_log_that_another_user_made_a_link_of_is_not_followed(site: Path) -> None:
    log, target = site / "access.log", site / "made-by-root"
    arguments = ("--user", "nobody", "--workers", "1", "--access-log", "access.log")
    with Command("who:app", *arguments, cwd=site, start=words()) as command:
        log.unlink()
        log.symlink_to(target)
        os.lchown(log, pwd.getpwnam("nobody").pw_uid, -1)
        command.process.send_signal(signal.SIGUSR1)
        command.stderr.wait_for("the access log is not reopened: access_log: 'access.log' is a symbolic link")
        assert ask(command.address)
        assert command.stop() == 0
    assert not target.exists()
    line = refused("--user", "nobody", "--access-log", "access.log", cwd=site)
    assert line == "wsgi: access_log: 'access.log' is a symbolic link that another user made: remove it"


@needs_sandbox
@pytest.mark.parametrize("workers", [(), ("--workers", "1"), ("--workers", "1", "--preload")])
def test_hooks_of_a_worker_and_their_modules_are_the_users(workers: tuple[str, ...], site: Path) -> None:
    (site / "hooks.py").write_text(
        "import os, sys\n"
        "print('hooks imported by', os.getuid(), file=sys.stderr)\n"
        "def tell(*args): print('hook called by', os.getuid(), file=sys.stderr)\n"
    )
    moments = "".join(f'{name} = "hooks:tell"\n' for name in ("after_fork", "loaded", "worker_exit"))
    (site / "site.toml").write_text(f"[hooks]\n{moments}")
    with Command("who:app", "--user", "nobody", "-c", "site.toml", *workers, cwd=site, start=words()) as command:
        assert ask(command.address)
        assert command.stop() == 0
    said = {line for line in command.stderr.seen if line.startswith("hook")}
    uid = pwd.getpwnam("nobody").pw_uid
    assert said == {f"hooks imported by {uid}", f"hook called by {uid}"}


@needs_sandbox
def test_pidfile_of_a_supervisor_stays_roots(site: Path) -> None:
    pidfile = site / "a.pid"
    with Command(
        "who:app", "--user", "nobody", "--workers", "1", "--pidfile", "a.pid", cwd=site, start=words()
    ) as command:
        assert pidfile.read_text() == f"{command.process.pid}\n"
        assert pidfile.stat().st_uid == 0
        assert command.stop() == 0
    assert not pidfile.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_file_that_could_be_anothers_is_not_given_away(tmp_path: Path) -> None:
    identity = find_identity("12345", "12345", str)
    assert identity is not None
    paths = {name: tmp_path / name for name in ("plain", "linked", "other", "foreign", "link")}
    for name in ("plain", "linked", "foreign"):
        paths[name].touch()
    paths["other"].hardlink_to(paths["linked"])
    paths["link"].symlink_to(paths["plain"])
    os.chown(paths["foreign"], 1, 1)
    for name in ("linked", "link", "foreign"):
        give_file(str(paths[name]), identity, stat.S_ISREG)
    assert [paths[name].lstat().st_uid for name in ("plain", "linked", "link", "foreign")] == [0, 0, 0, 1]
    # Of another kind.
    give_file(str(paths["plain"]), identity, stat.S_ISSOCK)
    assert paths["plain"].stat().st_uid == 0
    give_file(str(paths["plain"]), identity, stat.S_ISREG)
    assert paths["plain"].stat().st_uid == 12345
