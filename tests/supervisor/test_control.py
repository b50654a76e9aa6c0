"""`wsgi reload` and `wsgi stop`: what they wait for, print and return."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, is_running, site, wait_until
from tests.support import PATIENCE, Command, environment, run

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the commands need Linux")


def begin(site: Site, *arguments: str) -> subprocess.Popen[str]:
    """A command that runs meanwhile."""
    return subprocess.Popen(
        [sys.executable, "-m", "wsgi_server", *arguments],
        cwd=site.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def control(site: Site, name: str, *arguments: str) -> tuple[int, str]:
    """Runs a command for the site's server, and gives its exit code and its one line."""
    done = run(name, str(site.command.process.pid), *arguments, cwd=site.folder)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert (done.returncode == 0) == bool(done.stdout)
    return done.returncode, line


def test_reload_waits_for_the_new_generation(site: Site) -> None:
    with site.served("--workers", "2") as command:
        pid = command.process.pid
        site.at_import("time.sleep(0.3)")
        assert control(site, "reload") == (0, f"process {pid} has reloaded")
        command.stderr.wait_for("generation 2 serves")
        (site.folder / "pidfile").write_text(f"{pid}\n")
        done = run("reload", "--pidfile", "pidfile", cwd=site.folder)
        assert (done.returncode, done.stderr) == (0, "")
        command.stderr.wait_for("generation 3 serves")
        assert command.stop() == 0


def test_reload_that_fails_is_told_apart_from_later_ones(site: Site) -> None:
    failed = "has failed: its log says why"
    with site.served("--workers", "1") as command:
        pid = command.process.pid
        for _ in range(2):
            site.at_import("raise LookupError('no settings')")
            assert control(site, "reload") == (1, f"wsgi reload: the reload of process {pid} {failed}")
            site.at_import("")
            assert control(site, "reload")[0] == 0
        assert command.stop() == 0


def test_reload_with_a_wrong_configuration_fails(site: Site) -> None:
    toml = site.folder / "site.toml"
    toml.write_text("workers = 1\nport = 0")
    with site.served("--config", "site.toml") as command:
        toml.write_text("workers = 'many'")
        assert control(site, "reload")[0] == 1
        command.stderr.wait_for("reload failed: workers must be")
        toml.write_text("workers = 1\nport = 0")
        assert control(site, "reload")[0] == 0
        assert command.stop() == 0


def test_reload_during_a_reload_gives_the_result_of_the_later_one(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.at_import("time.sleep(60)")
        with begin(site, "reload", str(command.process.pid)) as first:
            wait_until(lambda: len(site.answering()) == 2)
            site.at_import("")
            assert control(site, "reload")[0] == 0
            assert first.wait(PATIENCE) == 0
        assert command.stop() == 0


def test_reload_after_an_upgrade_counts_on(site: Site) -> None:
    with site.served("--workers", "1") as command:
        assert control(site, "reload")[0] == 0
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("generation 3 serves")
        assert control(site, "reload")[0] == 0
        command.stderr.wait_for("generation 4 serves")
        site.at_import("raise LookupError('no settings')")
        assert control(site, "reload")[0] == 1
        assert command.stop() == 0


def test_reload_during_an_upgrade_is_carried_out_by_the_new_program(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.signal(signal.SIGUSR2)
        command.stderr.wait_for("the new program takes over")
        assert control(site, "reload")[0] == 0
        assert command.stop() == 0


def test_reload_that_takes_too_long_is_given_up_by_the_command_only(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.at_import("time.sleep(1)")
        code, line = control(site, "reload", "--timeout", "200ms")
        assert (code, line.partition("has not")[2]) == (1, " reloaded within 0.2 s: its log may say why")
        command.stderr.wait_for("generation 2 serves")
        assert command.stop() == 0


def test_reload_whose_server_ends_meanwhile_fails(site: Site) -> None:
    with site.served("--workers", "1") as command:
        site.at_import("while not (HERE / 'go').exists(): time.sleep(0.01)")
        pid = command.process.pid
        with begin(site, "reload", str(pid)) as waiting:
            wait_until(lambda: len(site.answering()) == 2)
            command.process.kill()
            command.process.wait()
            _, error = waiting.communicate(timeout=PATIENCE)
            assert (waiting.returncode, error) == (1, f"wsgi reload: process {pid} has ended\n")
        site.let_go()


def test_commands_refuse_what_is_no_supervisor(site: Site) -> None:
    with site.served("--workers", "1") as command:
        (worker,) = site.answering()
        supervisor = command.process.pid
        for name in ("reload", "stop"):
            done = run(name, str(worker), cwd=site.folder)
            expected = f"wsgi {name}: process {worker} is a worker: its supervisor is {supervisor}\n"
            assert (done.returncode, done.stderr) == (1, expected)
        with subprocess.Popen(["sleep", "60"]) as other:
            for name in ("reload", "stop"):
                done = run(name, str(other.pid), cwd=site.folder)
                expected = f"wsgi {name}: process {other.pid} is not a server of this package\n"
                assert (done.returncode, done.stderr) == (1, expected)
            assert other.poll() is None
            other.kill()
        done = run("reload", str(other.pid), cwd=site.folder)
        assert (done.returncode, done.stderr) == (1, f"wsgi reload: there is no process {other.pid}\n")
        assert site.answering() == [worker]
        assert command.stop() == 0


def test_reload_of_a_single_process_is_refused_and_stop_ends_it(site: Site) -> None:
    with Command("site_app:app", cwd=site.folder) as command:
        site.command = command
        pid = command.process.pid
        why = f"process {pid} has no workers to reload: restart it, or start it with --workers"
        assert control(site, "reload") == (1, f"wsgi reload: {why}")
        # Its end is seen although its parent has not reaped it yet.
        assert control(site, "stop") == (0, f"process {pid} has ended")
        assert command.process.wait(PATIENCE) == 0


def test_reload_of_a_program_fails_and_says_why(site: Site) -> None:
    (site.folder / "program.py").write_text(
        "from wsgi.server import WSGIServer\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n"
        "WSGIServer(port=0, app=app, workers=1).serve_forever()\n"
    )
    with Command(cwd=site.folder, start=[sys.executable, "program.py"]) as command:
        site.command = command
        assert control(site, "reload")[0] == 1
        command.stderr.wait_for("reload failed: the logs were reopened; restart the program to load its application")
        assert command.stop() == 0


def test_stop_waits_for_requests(site: Site) -> None:
    with site.served("--workers", "2") as command:
        pid = command.process.pid
        client, worker = site.hold()
        code, line = control(site, "stop", "--timeout", "0.5")
        assert (code, line.partition(";")[0]) == (1, f"wsgi stop: process {pid} has not ended within 0.5 s")
        with begin(site, "stop", str(pid), "--timeout", "1m") as stopping:
            # A second stop does not wait for the request.
            assert stopping.wait(PATIENCE) == 0
        assert command.process.wait(PATIENCE) == 1
        assert not is_running(worker)
        client.socket.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_commands_of_another_user_are_refused(site: Site) -> None:
    with site.served("--workers", "1") as command:
        pid = command.process.pid
        code = (
            "import gettext, locale, os, shutil, sys\nfrom wsgi import control\n"
            "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\n"
            f"sys.exit(control.main(sys.argv[1], ['{pid}']))"
        )
        for name in ("reload", "stop"):
            done = subprocess.run(
                [sys.executable, "-c", code, name],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            why = f"wsgi {name}: no permission for process {pid}: run the command as its user or as root\n"
            assert (done.returncode, done.stderr) == (1, why)
        assert command.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "a process is needed"),
        (["1", "--pidfile", "x"], "PID and --pidfile exclude each other"),
        (["1", "--timeout", "soon"], "--timeout must be"),
        (["1", "2"], "unrecognized arguments: 2"),
        (["1", "--workers", "2"], "unrecognized arguments: --workers 2"),
    ],
)
def test_wrong_command_line_ends_with_the_usage(arguments: list[str], why: str, tmp_path: Path) -> None:
    for name in ("reload", "stop"):
        done = run(name, *arguments, cwd=tmp_path)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith(f"wsgi {name}: {why}")
        assert line.endswith(f"(wsgi {name} PID | --pidfile FILE [--timeout TIME])")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot read 'file': No such file or directory"),
        ("", "the content of 'file' is not the number of a process"),
        ("-1", "the content of 'file' is not the number of a process"),
        ("0", "the content of 'file' is not the number of a process"),
        ("12 13", "the content of 'file' is not the number of a process"),
        ("9" * 50, "the content of 'file' is not the number of a process"),
        ("\xff", "the content of 'file' is not the number of a process"),
        ("2147483647", "there is no process 2147483647"),
    ],
)
def test_pidfile_that_names_no_process_is_refused(content: str | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content, encoding="latin-1")
    done = run("reload", "--pidfile", "file", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"wsgi reload: {why}\n")


def test_modules_of_these_names_are_served(site: Site) -> None:
    (site.folder / "reload.py").write_text("from site_app import app")
    with Command("reload:app", "--workers", "1", cwd=site.folder) as command:
        site.command = command
        assert site.ask()[0] == "one"
        assert command.stop() == 0
    done = run("--port", "0", "reload", cwd=site.folder)
    assert done.returncode == 2
    assert "the command reload comes first; a module of that name is reload:app" in done.stderr


def test_reloads_from_many_commands_at_the_same_time_all_end(site: Site) -> None:
    with site.served("--workers", "1") as command:
        codes: list[int] = []
        threads = [threading.Thread(target=lambda: codes.append(control(site, "reload")[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert codes == [0] * 6
        assert command.stop() == 0
