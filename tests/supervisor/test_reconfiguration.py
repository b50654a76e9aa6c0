"""A reload with a changed configuration file: what applies, what is kept, and that a mistake changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.supervisor.test_processes import Site, children, site, wait_until
from tests.support import Command, RawClient

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests read /proc")

LAST = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def write(site: Site, text: str) -> None:
    """Changes the configuration file."""
    (site.folder / "site.toml").write_text(text if "bind" in text else f"{text}\nport = 0")


@contextmanager
def configured(site: Site, text: str, *options: str) -> Iterator[Command]:
    """Serves with a configuration file."""
    write(site, text)
    with site.served("--config", "site.toml", *options) as command:
        yield command


def version_at(address: str) -> str:
    """The version of the application that answers at this address."""
    with RawClient(address) as client:
        client.send(LAST % b"/")
        response = client.receive()
    assert response.status == 200
    return response.body.decode().split()[0]


def is_refused(address: str) -> bool:
    """Whether nothing listens there."""
    try:
        RawClient(address).socket.close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open, by inode."""
    folder = Path(f"/proc/{pid}/fd")
    return {text for number in os.listdir(folder) if (text := os.readlink(folder / number)).startswith("socket:")}


def listening_inodes(pid: int) -> set[str]:
    """The sockets of a process that listen on TCP."""
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line}
    return {text for text in sockets_of(pid) if text[8:-1] in listening}


def reload(site: Site) -> None:
    """Reloads, and waits until only workers of the new generation are left."""
    before = set(site.answering())
    site.signal(signal.SIGHUP)
    wait_until(lambda: not before & set(site.answering()))


def failing_reload(site: Site) -> str:
    """Reloads, and gives the line that says why that failed."""
    before = site.answering()
    site.signal(signal.SIGHUP)
    line = site.command.stderr.wait_for("reload failed: ")
    assert site.answering() == before
    assert site.ask()[0] == "one"
    return line


def test_changed_option_applies_to_the_new_workers(site: Site) -> None:
    with configured(site, "workers = 2\nmax_request_line = 8190") as command:
        path = b"/" + b"x" * 200
        assert site.ask(path)[0] == "one"
        write(site, "workers = 2\nmax_request_line = 100")
        reload(site)
        with RawClient(command.address) as client:
            client.send(LAST % path)
            assert client.receive().status == 414
        assert command.stop() == 0


def test_changed_number_of_workers_applies_once_the_reload_has_succeeded(site: Site) -> None:
    with configured(site, "workers = 3") as command:
        write(site, "workers = 1")
        site.at_import("raise LookupError('no settings')")
        failing_reload(site)
        assert len(site.answering()) == 3
        site.at_import("")
        reload(site)
        wait_until(lambda: len(site.answering()) == 1)
        write(site, "workers = 2")
        reload(site)
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0


def test_number_of_workers_that_signals_have_changed_outlives_a_reload(site: Site) -> None:
    with configured(site, "workers = 1") as command:
        site.signal(signal.SIGTTIN)
        command.stderr.wait_for("2 workers are wanted now")
        wait_until(lambda: len(site.answering()) == 2)
        reload(site)
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0


MISTAKES = {
    "workers = 'many'": "workers must be a whole number from 1 to 512, auto or none",
    "worker = 1": "unknown key 'worker' in 'site.toml'",
    "workers = ": "'site.toml'",
    "bind = ['192.0.2.1:1']": "cannot listen on 192.0.2.1:1",
    "bind = ['fd://0']": "bind fd://0: a running server takes over no other descriptors; restart it",
    "access_log = '/nowhere/log'": "cannot open /nowhere/log",
    "app_dir = 'nowhere'": "app_dir must be",
    "": "cannot read 'site.toml'",
}


def test_mistake_in_the_configuration_changes_nothing(site: Site) -> None:
    with configured(site, "workers = 1") as command:
        descriptors = len(os.listdir(f"/proc/{command.process.pid}/fd"))
        for text, why in MISTAKES.items():
            write(site, text)
            if not text:
                (site.folder / "site.toml").unlink()
            line = failing_reload(site)
            assert why in line
            assert line.endswith("the former workers go on")
            assert len(os.listdir(f"/proc/{command.process.pid}/fd")) == descriptors
        # A worker that ends now is restarted with the former options.
        os.kill(site.answering()[0], signal.SIGKILL)
        command.stderr.wait_for("serves (")
        assert site.ask()[0] == "one"
        write(site, "workers = 1")
        site.reload("two")
        assert command.stop() == 0


def test_worker_is_restarted_with_the_former_options_after_a_reload_that_failed(site: Site) -> None:
    with configured(site, "workers = 1\nmax_request_line = 8190") as command:
        write(site, "workers = 1\nmax_request_line = 100\nbind = ['127.0.0.1:0', '127.0.0.1:0']")
        site.at_import("raise LookupError('no settings')")
        failing_reload(site)
        site.at_import("")
        os.kill(site.answering()[0], signal.SIGKILL)
        command.stderr.wait_for("serves (")
        assert site.ask(b"/" + b"x" * 200)[0] == "one"
        (worker,) = site.answering()
        assert listening_inodes(worker) == listening_inodes(command.process.pid)
        assert len(listening_inodes(worker)) == 1
        assert command.stop() == 0


def test_worker_is_restarted_with_the_former_options_during_a_reload(site: Site) -> None:
    with configured(site, "workers = 1\nmax_request_line = 8190") as command:
        (old,) = site.answering()
        write(site, "workers = 1\nmax_request_line = 100")
        site.at_import("(HERE / 'begun').touch()\nwhile not (HERE / 'go').exists(): time.sleep(0.01)")
        site.signal(signal.SIGHUP)
        wait_until((site.folder / "begun").exists)
        site.at_import("")
        os.kill(old, signal.SIGKILL)
        command.stderr.wait_for("serves (")
        assert site.ask(b"/" + b"x" * 200)[0] == "one"
        site.let_go()
        command.stderr.wait_for("generation 2 serves")
        with RawClient(command.address) as client:
            client.send(LAST % (b"/" + b"x" * 200))
            assert client.receive().status == 414
        assert command.stop() == 0


def test_hook_of_the_new_configuration_may_prevent_the_reload(site: Site) -> None:
    hooks = site.folder / "site_hooks.py"
    with configured(site, "workers = 1") as command:
        hooks.write_text("def reload(server):\n    raise LookupError('not now')\n")
        text = "workers = 1\nport = 0\nbind = []\n[hooks]\nreload = 'site_hooks:reload'"
        write(site, text)
        assert "the hook reload raised" in failing_reload(site)
        assert any("LookupError: not now" in line for line in command.stderr.seen)
        hooks.write_text("def reload(server):\n    pass\n")
        site.reload("two")
        write(site, text.replace("site_hooks", "no_hooks"))
        site.signal(signal.SIGHUP)
        assert "no_hooks" in command.stderr.wait_for("reload failed: ")
        assert command.stop() == 0


def test_listener_that_is_kept_is_the_same_socket(site: Site) -> None:
    with configured(site, "workers = 1\nbind = ['127.0.0.1:0', 'localhost:0']") as command:
        before = listening_inodes(command.process.pid)
        first, *_ = command.addresses
        port = first.rpartition(":")[2]
        # By the number of the port that the kernel chose, too.
        write(site, f"workers = 1\nbind = ['localhost:0', '127.0.0.1:{port}']")
        site.reload("two")
        assert listening_inodes(command.process.pid) == before
        assert [version_at(address) for address in command.addresses] == ["two"] * len(command.addresses)
        assert command.stop() == 0


def test_listener_is_added_and_another_is_removed(site: Site) -> None:
    old, new = site.folder / "old.socket", site.folder / "new.socket"
    with configured(site, f"workers = 2\nbind = ['127.0.0.1:0', 'unix:{old}']") as command:
        write(site, f"workers = 2\nbind = ['127.0.0.1:0', 'unix:{new}', '127.0.0.1:0']")
        site.reload("two")
        added = command.stderr.wait_for("listening on ").split(", ")
        command.stderr.wait_for(f"no longer listening on unix:{old}")
        assert version_at(f"unix:{new}") == version_at(added[-1]) == version_at(command.address) == "two"
        assert not old.exists()
        assert is_refused(f"unix:{old}")
        workers = site.answering()
        assert [len(listening_inodes(worker)) for worker in workers] == [2, 2]
        # And back.
        write(site, f"workers = 2\nbind = ['127.0.0.1:0', 'unix:{old}']")
        site.reload("three")
        assert version_at(f"unix:{old}") == "three"
        assert is_refused(added[-1])
        assert not new.exists()
        assert command.stop() == 0
    assert not old.exists()


def test_reload_that_fails_closes_what_it_has_opened(site: Site) -> None:
    new = site.folder / "new.socket"
    with configured(site, "workers = 1\nbind = '127.0.0.1:0'") as command:
        before = sockets_of(command.process.pid)
        write(site, f"workers = 1\nbind = ['127.0.0.1:0', 'unix:{new}']")
        site.at_import("raise LookupError('no settings')")
        failing_reload(site)
        assert not new.exists()
        wait_until(lambda: sockets_of(command.process.pid) == before)
        assert command.stop() == 0


def test_reload_during_a_reload_keeps_what_the_first_has_opened(site: Site) -> None:
    new = site.folder / "new.socket"
    with configured(site, "workers = 1\nbind = '127.0.0.1:0'") as command:
        write(site, f"workers = 1\nbind = ['127.0.0.1:0', 'unix:{new}']")
        site.at_import("time.sleep(60)")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(site.answering()) == 2)
        identity = new.stat().st_ino
        site.at_import("")
        site.reload("two")
        assert new.stat().st_ino == identity
        assert version_at(f"unix:{new}") == "two"
        assert command.stop() == 0


def test_clients_that_wait_at_a_removed_listener_are_answered(site: Site) -> None:
    old = f"unix:{site.folder}/old.socket"
    with configured(site, f"workers = 1\nthreads = 1\nbind = ['127.0.0.1:0', '{old}']") as command:
        (worker,) = site.answering()
        os.kill(worker, signal.SIGSTOP)
        waiting = RawClient(old)
        waiting.send(LAST % b"/")
        write(site, "workers = 1\nbind = '127.0.0.1:0'")
        site.version("two")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("no longer listening on unix:")
        os.kill(worker, signal.SIGCONT)
        with waiting:
            assert waiting.receive().body.startswith(b"one ")
        wait_until(lambda: worker not in site.answering())
        assert command.stop() == 0


def test_socket_file_that_was_deleted_is_made_again(site: Site) -> None:
    path = site.folder / "socket"
    with configured(site, f"workers = 1\nbind = ['127.0.0.1:0', 'unix:{path}']") as command:
        path.unlink()
        site.reload("two")
        assert version_at(f"unix:{path}") == "two"
        assert command.stop() == 0
    assert not path.exists()


def test_descriptor_that_was_passed_at_the_start_is_kept(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        write(site, f"workers = 1\nbind = 'fd://{number}'")
        with Command("site_app:app", "--config", "site.toml", cwd=site.folder, pass_fds=[number]) as command:
            site.command = command
            server.close()
            site.reload("two")
            assert command.stop() == 0


def test_supervisor_is_not_turned_off_by_a_reload(site: Site) -> None:
    with configured(site, "workers = 1") as command:
        write(site, "workers = 'none'\nbacklog = 7")
        site.reload("two")
        command.stderr.wait_for("a reload does not change workers: send SIGUSR2 or restart the server for that")
        command.stderr.wait_for("backlog: changed for sockets that are opened from now on")
        assert command.stop() == 0


def test_variable_turns_the_supervisor_of_the_file_off(site: Site) -> None:
    write(site, "workers = 2")
    with Command("site_app:app", "--config", "site.toml", cwd=site.folder, env={"WSGI_WORKERS": "none"}) as command:
        assert "worker" not in command.banner
        assert children(command.process.pid) == []
        assert command.stop() == 0
