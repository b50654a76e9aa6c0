"""Hooks: which function is called when, in which process, and what an exception of it does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.test_processes import wait_until
from tests.support import PATIENCE, Command, RawClient, run
from wsgi.errors import ConfigError, HookError
from wsgi.hooks import MOMENTS, Hook, Hooks, modules_dropped, timed_out
from wsgi.loading import explained
from wsgi.settings import Settings

APP = """
import os
def app(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""

# Each hook notes its moment and the process that it runs in.
HOOKS = """
import os, sys
HERE = os.path.dirname(os.path.abspath(__file__))

def note(name, *processes):
    pids = [(process.pid, process.age) for process in processes]
    with open(os.path.join(HERE, "seen"), "a") as seen:
        print(name, os.getpid(), "app" in sys.modules, pids, file=seen)
""" + "".join(
    f"""
def {name}({", ".join(moment.arguments)}):
    note({name!r}, {", ".join(moment.arguments)})
"""
    for name, moment in MOMENTS.items()
)


class Site:
    """A directory with an application, hooks for every moment, and the file that names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APP)
        (folder / "site_hooks.py").write_text(HOOKS)
        self.name(**{name: f"site_hooks:{name}" for name in MOMENTS})

    def name(self, **hooks: str) -> None:
        lines = [f"{name} = {value!r}" for name, value in hooks.items()]
        (self.folder / "site.toml").write_text("\n".join(["threads = 2", "[hooks]", *lines, ""]))

    def change(self, name: str, body: str) -> None:
        """Gives a hook another body."""
        with (self.folder / "site_hooks.py").open("a") as file:
            print(f"\ndef {name}(*processes):\n    {body}", file=file)

    @contextlib.contextmanager
    def serve(self, *arguments: str) -> Iterator[Command]:
        with Command("app:app", "--config", "site.toml", "--port", "0", *arguments, cwd=self.folder) as command:
            yield command

    def wait_for(self, name: str) -> None:
        """Waits until a hook was called."""
        wait_until(lambda: name in [row[0] for row in self.seen()])

    def seen(self) -> list[tuple[str, int, bool, list[tuple[int | None, int]]]]:
        """What was noted: moment, process, whether that had the application, the processes that the hook got."""
        rows = []
        for line in (self.folder / "seen").read_text().splitlines():
            name, pid, has_app, processes = line.split(" ", 3)
            rows.append((name, int(pid), has_app == "True", eval(processes)))
        return rows


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def ask(command: Command) -> int:
    with RawClient(command.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return int(client.receive().body)


# -- With real processes -----------------------------------------------------------------------------------------------


def test_hooks_of_a_supervisor_and_its_workers_run_in_their_processes_in_order(site: Site) -> None:
    with site.serve("--workers", "1") as command:
        first = ask(command)
        supervisor = command.process.pid
        command.process.send_signal(signal.SIGHUP)
        command.stderr.wait_for("serves; its predecessors are drained")
        site.wait_for("child_exit")
        second = ask(command)
        assert command.stop() == 0
    assert [row for row in site.seen() if row[1] == supervisor] == [
        ("starting", supervisor, False, [(supervisor, 0)]),
        ("before_fork", supervisor, False, [(supervisor, 0), (None, 1)]),
        ("ready", supervisor, False, [(supervisor, 0)]),
        ("reload", supervisor, False, [(supervisor, 0)]),
        ("before_fork", supervisor, False, [(supervisor, 0), (None, 2)]),
        ("child_exit", supervisor, False, [(supervisor, 0), (first, 1)]),
        ("child_exit", supervisor, False, [(supervisor, 0), (second, 2)]),
        ("exit", supervisor, False, [(supervisor, 0)]),
    ]
    for worker, age in ((first, 1), (second, 2)):
        assert [row for row in site.seen() if row[1] == worker] == [
            ("after_fork", worker, False, [(supervisor, 0), (worker, age)]),
            ("loaded", worker, True, [(worker, age)]),
            ("worker_exit", worker, True, [(supervisor, 0), (worker, age)]),
        ]


def test_hooks_of_a_single_process_are_those_that_concern_it(site: Site) -> None:
    with site.serve() as command:
        pid = ask(command)
        assert command.stop() == 0
    assert [(name, at) for name, at, _, _ in site.seen()] == [
        (name, pid) for name in ("starting", "loaded", "ready", "exit")
    ]


def test_hook_interrupted_is_called_when_a_second_signal_ends_the_requests(site: Site) -> None:
    (site.folder / "app.py").write_text("""
import os, threading
def app(environ, start_response):
    start_response("200 OK", [])
    yield b"x"
    threading.Event().wait(60)
""")
    with site.serve("--workers", "1") as command, RawClient(command.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.receive_head()
        command.process.send_signal(signal.SIGTERM)
        command.stderr.wait_for("WSGIServer: ")
        command.stop()
    assert "interrupted" in [row[0] for row in site.seen()]


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(("--workers", "1"), "site_hooks"), ((), "site_hooks"), (("--workers", "1"), "late_hooks")],
)
def test_hook_starting_that_raises_prevents_the_start(arguments: tuple[str, ...], module: str, site: Site) -> None:
    site.change("starting", "raise ValueError('no database')")
    (site.folder / "site_hooks.py").rename(site.folder / f"{module}.py")
    site.name(starting=f"{module}:starting")
    ended = run("app:app", "--config", "site.toml", "--port", "0", *arguments, cwd=site.folder)
    assert ended.returncode == 1
    *traceback, line = ended.stderr.splitlines()
    assert line == f"wsgi: the hook starting ({module}:starting) raised ValueError, which prevents the start"
    assert traceback[-1] == "ValueError: no database"
    assert traceback[1].endswith("in starting")
    assert not (site.folder / "seen").exists()


@pytest.mark.parametrize("name", ["before_fork", "after_fork", "loaded"])
def test_hook_that_precedes_a_worker_and_raises_prevents_it(name: str, site: Site) -> None:
    site.change(name, "raise ValueError('no database')")
    ended = run("app:app", "--config", "site.toml", "--port", "0", "--workers", "1", cwd=site.folder)
    assert ended.returncode == 1
    assert f"the hook {name} (site_hooks:{name}) raised ValueError, which prevents the " in ended.stderr
    assert ended.stderr.count("ValueError: no database") == 1
    assert "ready" not in [row[0] for row in site.seen()]


def test_hooks_that_follow_something_and_raise_are_logged_only(site: Site) -> None:
    for name in ("ready", "worker_exit", "child_exit", "exit"):
        site.change(name, "raise SystemExit(9)")
    with site.serve("--workers", "1") as command:
        assert ask(command) != command.process.pid
        assert command.stop() == 0
    logged = "\n".join(command.stderr.seen)
    for name in ("worker_exit", "child_exit", "exit"):
        assert f"the hook {name} (site_hooks:{name}) raised SystemExit" in logged


def test_hook_reload_that_raises_leaves_the_workers_as_they_are(site: Site) -> None:
    site.change("reload", "raise ValueError('not now')")
    with site.serve("--workers", "1") as command:
        first = ask(command)
        command.process.send_signal(signal.SIGHUP)
        command.stderr.wait_for("ValueError: not now")
        assert ask(command) == first
        assert command.stop() == 0
    assert [row[0] for row in site.seen()].count("after_fork") == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("app:app", "the hook ready: its module imports the application, which a supervisor must not"),
        ("over_hooks:ready", "the hooks ready: one of their modules imports the application"),
        ("site_hooks:reddy", "the hook ready: cannot import 'reddy' from 'site_hooks.py': did you mean 'ready'?"),
        ("site_hook:ready", "the hook ready: cannot find the module 'site_hook'"),
        ("site_hooks:child_exit", "the hook ready must be a function of (server) (from site_hooks:child_exit)"),
    ],
)
def test_hook_of_the_supervisor_that_is_wrong_ends_the_start_with_one_line(value: str, said: str, site: Site) -> None:
    (site.folder / "over_hooks.py").write_text("import app\ndef ready(server): pass\n")
    site.name(ready=value)
    ended = run("app:app", "--config", "site.toml", "--port", "0", "--workers", "1", cwd=site.folder)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(f"wsgi: {said}")


def test_hook_of_a_worker_that_is_missing_ends_the_start_with_one_line(site: Site) -> None:
    site.name(loaded="site_hooks:loadet")
    for arguments in (("--workers", "1"), (), ("--check-config", "--workers", "1")):
        ended = run("app:app", "--config", "site.toml", "--port", "0", *arguments, cwd=site.folder)
        assert ended.returncode == 1
        assert "the hook loaded: cannot import 'loadet' from 'site_hooks.py': did you mean 'loaded'?" in ended.stderr


def test_hook_of_a_worker_may_be_in_the_package_of_the_application(site: Site) -> None:
    package = site.folder / "shop"
    package.mkdir()
    (package / "__init__.py").write_text(APP)
    (package / "hooks.py").write_text(HOOKS)
    site.name(loaded="shop.hooks:loaded")
    with Command("shop:app", "--config", "site.toml", "--port", "0", "--workers", "1", cwd=site.folder) as command:
        ask(command)
    assert (package / "seen").read_text().startswith("loaded ")
    site.name(ready="shop.hooks:ready")
    ended = run("shop:app", "--config", "site.toml", "--workers", "1", cwd=site.folder)
    assert "its module imports the application" in ended.stderr


def test_module_of_a_hook_of_the_supervisor_is_imported_anew_by_the_workers_of_a_reload(site: Site) -> None:
    (site.folder / "app.py").write_text("import site_hooks\n" + APP.replace("str(os.getpid())", "site_hooks.VERSION"))
    (site.folder / "site_hooks.py").write_text(HOOKS + "\nVERSION = 'one'\n")

    def version(command: Command) -> bytes:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.receive().body

    with site.serve("--workers", "1") as command:
        assert version(command) == b"one"
        (site.folder / "site_hooks.py").write_text(HOOKS + "\nVERSION = 'number two'\n")
        command.process.send_signal(signal.SIGHUP)
        site.wait_for("child_exit")
        assert version(command) == b"number two"


def test_start_without_hooks_imports_nothing_large_for_them(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    program = "import sys; from wsgi.cli import main; main(['app:app', '--check-config']); print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert {"dataclasses", "inspect", "wsgi.gunicorn_config"}.isdisjoint(ended.stdout.split())


def test_server_of_a_program_imports_nothing_for_hooks(tmp_path: Path) -> None:
    program = """
import socket, sys
from wsgi.server import WSGIServer

def app(environ, start_response):
    server.shutdown()
    start_response("200 OK", [])
    return []

server = WSGIServer("127.0.0.1", 0, app)
client = socket.create_connection(server.server_address)
client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
server.serve_forever()
print(*sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert {"wsgi.hooks", "wsgi.loading"}.isdisjoint(ended.stdout.split())


# -- Without processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("redy = 'a:b'", "unknown hook 'redy' in .*: did you mean 'ready'?"),
        (
            "on_starting = 'a:b'",
            "unknown hook 'on_starting' in .*: (did you mean 'starting'|known are starting, ready)",
        ),
        ("ready = 'a'", "the hook ready must be 'module:function', not 'a' "),
        ("ready = 'a:b()'", "the hook ready must be 'module:function', not 'a:b\\(\\)'"),
        ("ready = ['a:b']", r"the hook ready must be 'module:function', not \['a:b'\]"),
    ],
)
def test_table_that_is_wrong_is_refused(table: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"[hooks]\n{table}\n")
    with pytest.raises(ConfigError, match=f"^{said}"):
        Settings.from_command({"config": str(tmp_path / "a.toml")}, {})


@pytest.mark.parametrize("text", ["hooks = 1\n", "[[hooks]]\nready = 'a:b'\n"])
def test_table_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match="hooks"):
        Settings.from_command({"config": str(tmp_path / "a.toml")}, {})


def test_hooks_get_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("threads = 3\n")
    settings = Settings.from_command({"config": str(tmp_path / "a.toml")}, {})
    seen: list[object] = []
    hooks = Hooks({"ready": Hook("ready", lambda server: seen.append(server.cfg.threads))}, settings)
    hooks.load(None)
    hooks.call("ready")
    hooks.call("exit")
    assert seen == [3]
    settings.hooks.load(None)
    settings.hooks.call("ready")


def test_hook_timed_out_is_called_by_the_core_in_a_worker_only() -> None:
    seen: list[int | None] = []
    hooks = Hooks({"timed_out": Hook("timed_out", lambda worker: seen.append(worker.pid))})
    hooks.load(None)
    timed_out()
    assert seen == []
    with hooks.in_worker(1):
        timed_out()
    assert seen == [os.getpid()]


def test_hook_that_raises_is_shown_from_its_first_frame_on() -> None:
    hooks = Hooks({"starting": Hook("starting (a:b)", lambda server: 1 // 0)})
    hooks.load(None)
    with pytest.raises(HookError) as caught:
        hooks.call("starting")
    assert explained(caught.value).count("File ") == 1


def test_modules_of_the_directory_are_dropped_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_to_drop.py").write_text("import other_to_keep\n")
    other = tmp_path.parent / f"{tmp_path.name}_other"
    other.mkdir()
    (other / "other_to_keep.py").write_text("")
    monkeypatch.syspath_prepend(str(other))
    monkeypatch.syspath_prepend(str(tmp_path))
    with modules_dropped(tmp_path):
        __import__("mine_to_drop")
    assert "mine_to_drop" not in sys.modules
    assert sys.modules.pop("other_to_keep")


def test_worker_that_has_no_hook_costs_nothing_of_its_process(tmp_path: Path) -> None:
    hooks = Hooks()
    hooks.load("app:app")
    assert hooks.begin_worker() == ""
    hooks.forked(os.getpid(), hooks.age)
    hooks.child_exit(os.getpid())
    assert hooks._workers == {}


def test_reload_reads_the_hooks_and_settings_again(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(APP.replace("str(os.getpid())", "os.environ['COLOUR']"))
    (tmp_path / "two.py").write_text(APP.replace("str(os.getpid())", "('two ' + os.environ['COLOUR'])"))
    text = """
wsgi_app = "one:app"
raw_env = ["COLOUR=red"]
def note(name):
    with open("seen", "a") as file:
        print(name, file=file)
def post_fork(server, worker): note(f"post_fork red {worker.age}")
def on_reload(server): note("reload red")
def child_exit(server, worker): note(f"child_exit red {worker.age}")
"""
    (tmp_path / "g.conf.py").write_text(text)

    def body(command: Command) -> bytes:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.receive().body

    def seen() -> list[str]:
        return (tmp_path / "seen").read_text().splitlines()

    with Command("-c", "g.conf.py", "--port", "0", cwd=tmp_path) as command:
        assert body(command) == b"red"
        (tmp_path / "g.conf.py").write_text("import not_there")
        command.process.send_signal(signal.SIGHUP)
        command.stderr.wait_for("No module named 'not_there' (line 1); the former workers go on")
        (tmp_path / "g.conf.py").write_text(text.replace("one:app", "two:app").replace("red", "blue"))
        command.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(seen()) == 4)
        assert body(command) == b"two blue"
    assert seen() == ["post_fork red 1", "reload blue", "post_fork blue 2", "child_exit red 1", "child_exit blue 2"]
