"""Workers that are forked from a template: what they share, and that a template's failures cost no worker."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supervisor.test_processes import ASGI_APP, Site, children, is_running, site, wait_until
from tests.support import PATIENCE, Command, run
from wsgi.errors import StartupError
from wsgi.server import WSGIServer
from wsgi.settings import Settings
from wsgi.supervisor.configuration import Configuration, Configurations
from wsgi.supervisor.supervisor import make_supervisor

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preload needs Linux")

HANDLERS = """
for name in ("before", "after_in_parent", "after_in_child"):
    def handler(name=name):
        with open(HERE / name, "a") as file:
            print(os.getpid(), file=file)
    os.register_at_fork(**{name: handler})
"""


@contextlib.contextmanager
def preloaded(site: Site, workers: int = 2, *options: str) -> Iterator[Command]:
    """Serves with workers of a template."""
    with site.served("--preload", "--workers", str(workers), *options) as command:
        yield command


def imports(site: Site) -> list[int]:
    """The processes that have imported the application, in order."""
    return [int(line) for line in (site.folder / "imports").read_text().split()]


def workers(site: Site) -> list[int]:
    """The children of the supervisor that are no templates."""
    return [pid for pid in site.answering() if pid not in imports(site)]


def templates(site: Site) -> list[int]:
    return [pid for pid in site.answering() if pid in imports(site)]


def session(leader: int) -> list[int]:
    """The running processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            state, _, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == leader and state != "Z":
                found.append(int(entry.name))
    return found


def test_template_alone_imports_the_application_and_its_workers_are_the_supervisors(site: Site) -> None:
    with preloaded(site) as command:
        (template,) = imports(site)
        assert len(workers(site)) == 2
        # Its helpers have ended, and it has waited for them.
        assert children(template) == []
        assert site.ask()[1] in workers(site)
        for pid in site.answering():
            environment = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            assert int(environment[1]) == command.process.pid
        assert command.stop() == 0
    assert not is_running(template)


def test_handlers_of_forks_run_once_for_each_worker_and_not_in_the_template(site: Site) -> None:
    site.at_import(HANDLERS)
    with preloaded(site):
        (template,) = imports(site)
        wait_until((site.folder / "after_in_parent").exists)
        wait_until(lambda: len((site.folder / "after_in_parent").read_text().split()) == 2)
        children_in = [int(pid) for pid in (site.folder / "after_in_child").read_text().split()]
        assert sorted(children_in) == workers(site)
        for name in ("before", "after_in_parent"):
            pids = {int(pid) for pid in (site.folder / name).read_text().split()}
            assert len(pids) == 2
            assert not pids & {template, *children_in}


HOOKS = """
from pathlib import Path
def note(name, worker):
    with open(Path(__file__).parent / "seen", "a") as file:
        print(name, worker.pid, worker.age, file=file)
def before_fork(server, worker): note("before_fork", worker)
def after_fork(server, worker): note("after_fork", worker)
def loaded(worker): note("loaded", worker)
def worker_exit(server, worker): note("worker_exit", worker)
def child_exit(server, worker): note("child_exit", worker)
"""


def test_hooks_are_called_for_each_worker_and_not_for_the_template(site: Site) -> None:
    (site.folder / "site_hooks.py").write_text(HOOKS)
    names = ("before_fork", "after_fork", "loaded", "worker_exit", "child_exit")
    table = "\n".join(f'{name} = "site_hooks:{name}"' for name in names)
    (site.folder / "site.toml").write_text(f"[hooks]\n{table}\n")
    with preloaded(site, 2, "--config", "site.toml") as command:
        expected = dict(zip(sorted(workers(site)), (1, 2), strict=True))
        assert command.stop() == 0
    seen: dict[str, set[tuple[str, str]]] = {}
    for line in (site.folder / "seen").read_text().splitlines():
        name, pid, age = line.split()
        seen.setdefault(name, set()).add((pid, age))
    assert seen.pop("before_fork") == {("None", "1"), ("None", "2")}
    each = {(str(pid), str(age)) for pid, age in expected.items()}
    assert seen == dict.fromkeys(("after_fork", "loaded", "worker_exit", "child_exit"), each)


def test_objects_of_the_import_are_frozen_in_workers(site: Site) -> None:
    (site.folder / "site_app.py").write_text(
        "import gc, os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [f'{gc.get_freeze_count() > 1000} {os.getpid()} True'.encode()]\n"
    )
    (site.folder / "imports").write_text("")
    with preloaded(site, 1):
        assert site.ask()[0] == "True"


@pytest.mark.parametrize("how", ["worker", "template"])
def test_worker_and_template_that_are_killed_are_replaced(site: Site, how: str) -> None:
    with preloaded(site) as command:
        before = site.answering()
        (template,) = templates(site)
        if how == "template":
            os.kill(template, signal.SIGKILL)
            command.stderr.wait_for(f"template {template} was killed by SIGKILL; the next start of a worker begins")
            assert site.ask()[1] in before
        victim = workers(site)[0]
        os.kill(victim, signal.SIGKILL)
        command.stderr.wait_for(f"worker {victim} was killed by SIGKILL")
        command.stderr.wait_for("serves (")
        assert len(imports(site)) == (2 if how == "template" else 1)
        assert len(workers(site)) == 2
        assert command.stop() == 0


def test_template_that_is_stopped_is_killed_and_replaced(site: Site) -> None:
    with preloaded(site, 2, "--boot-timeout", "1.5") as command:
        (template,) = templates(site)
        os.kill(template, signal.SIGSTOP)
        victim, other = workers(site)
        os.kill(victim, signal.SIGKILL)
        command.stderr.wait_for(
            f"template {template} did not start a worker within boot_timeout (1.5 s) and was killed"
        )
        assert site.ask()[1] == other
        command.stderr.wait_for("serves (")
        assert len(imports(site)) == 2
        assert command.stop() == 0


# -- reloads ----------------------------------------------------------------------------------------------------------


def test_reload_begins_a_template_and_ends_the_former_one(site: Site) -> None:
    with preloaded(site) as command:
        site.reload("two")
        assert len(imports(site)) == 2
        assert templates(site) == imports(site)[1:]
        assert command.stop() == 0


def test_reload_that_fails_keeps_the_former_template(site: Site) -> None:
    with preloaded(site) as command:
        before = site.answering()
        site.at_import("raise LookupError('no settings')")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("reload failed: template ")
        wait_until(lambda: site.answering() == before)
        # A worker that ends now is replaced by one with the code of its generation.
        os.kill(workers(site)[0], signal.SIGKILL)
        command.stderr.wait_for("was killed by SIGKILL")
        command.stderr.wait_for("serves (")
        assert site.ask()[0] == "one"
        assert len(workers(site)) == 2
        site.at_import("")
        site.reload("two")
        assert command.stop() == 0
    assert command.stderr.seen.count("LookupError: no settings") == 1


def test_reload_that_hangs_keeps_the_former_template(site: Site) -> None:
    with preloaded(site, 2, "--boot-timeout", "1") as command:
        before = site.answering()
        site.at_import("time.sleep(60)")
        site.signal(signal.SIGHUP)
        command.stderr.wait_for("did not import the application within boot_timeout (1 s) and was killed")
        wait_until(lambda: site.answering() == before)
        assert site.ask()[0] == "one"
        assert command.stop() == 0


def test_reload_during_a_reload_serves_the_last_version(site: Site) -> None:
    with preloaded(site) as command:
        before = site.answering()
        site.version("two")
        site.at_import("time.sleep(60)")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(imports(site)) == 2)
        site.at_import("")
        site.version("three")
        site.signal(signal.SIGHUP)
        wait_until(lambda: not set(before) & set(site.answering()) and len(site.answering()) == 3)
        assert site.ask()[0] == "three"
        assert command.stop() == 0


def test_many_reloads_leave_no_process_and_no_descriptor(site: Site) -> None:
    with preloaded(site) as command:
        site.reload("warm")
        supervisor = command.process.pid

        def is_settled() -> bool:
            return len(children(supervisor)) == 3

        def descriptors(pid: int) -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        wait_until(is_settled)
        before = descriptors(supervisor)
        of_template = descriptors(templates(site)[0])
        for number in range(2, 22):
            site.signal(signal.SIGHUP)
            command.stderr.wait_for(f"generation {number + 1} serves")
        wait_until(is_settled)
        wait_until(lambda: descriptors(supervisor) == before)
        assert descriptors(templates(site)[0]) == of_template
        # Workers of one template leave nothing in it either.
        for _ in range(5):
            victim = workers(site)[0]
            os.kill(victim, signal.SIGKILL)
            command.stderr.wait_for(f"worker {victim} was killed by SIGKILL")
            wait_until(is_settled)
        wait_until(lambda: descriptors(supervisor) == before)
        assert descriptors(templates(site)[0]) == of_template
        assert command.stop() == 0


def test_logs_are_reopened_for_later_workers_too(site: Site) -> None:
    log = site.folder / "access.log"
    with preloaded(site, 1, "--access-log", str(log)) as command:
        log.rename(site.folder / "access.log.1")
        site.signal(signal.SIGUSR1)
        wait_until(log.exists)
        os.kill(workers(site)[0], signal.SIGKILL)
        command.stderr.wait_for("serves (")
        site.ask()
        wait_until(lambda: "GET / " in log.read_text())
        assert (site.folder / "access.log.1").read_text() == ""


# -- starts and stops -------------------------------------------------------------------------------------------------


def test_first_start_that_fails_shows_the_error_once_and_ends_with_1(site: Site) -> None:
    site.at_import("raise LookupError('no settings')")
    done = run("site_app:app", "--preload", "--workers", "4", "--port", "0", cwd=site.folder)
    assert done.returncode == 1
    assert done.stderr.splitlines().count("LookupError: no settings") == 1
    assert len(imports(site)) == 1
    assert done.stderr.splitlines()[-1].endswith("no worker could start: the server ends")


def test_application_that_has_started_threads_is_refused_by_their_names(site: Site) -> None:
    site.at_import(
        "import threading\nthreading.Thread(target=time.sleep, args=[60], name='poller', daemon=True).start()"
    )
    done = run("site_app:app", "--preload", "--workers", "2", "--port", "0", cwd=site.folder)
    assert done.returncode == 1
    assert "not safe while other threads run (poller): start them in the application's first request" in done.stderr


def test_thread_that_a_handler_of_forks_starts_runs_in_each_worker(site: Site) -> None:
    site.at_import(
        "import threading\n"
        "def start():\n"
        "    def note(): (HERE / f'note{os.getpid()}').write_text('')\n"
        "    threading.Thread(target=note).start()\n"
        "os.register_at_fork(after_in_child=start)"
    )
    with preloaded(site):
        wait_until(lambda: sorted(int(path.name[4:]) for path in site.folder.glob("note*")) == workers(site))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("os._exit(9)", "a handler of os.register_at_fork ended the process (status 9)"),
        ("time.sleep(60)", "did not start a worker within boot_timeout (1 s) and was killed"),
    ],
)
def test_handler_of_forks_that_does_not_return_is_named_and_leaves_no_process(
    site: Site, body: str, problem: str
) -> None:
    site.at_import(f"def handler(): {body}\nos.register_at_fork(before=handler)")
    command = [sys.executable, "-m", "wsgi_server", "site_app:app", "--preload", "--workers", "1", "--port", "0"]
    # The session of its own has no other process.
    process = subprocess.Popen(
        [*command, "--boot-timeout", "1"], cwd=site.folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert problem in errors
    wait_until(lambda: not session(process.pid))


def test_stop_that_reaches_every_process_lets_requests_finish(site: Site) -> None:
    with preloaded(site) as command:
        client, _ = site.hold()
        for pid in [*site.answering(), command.process.pid]:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: len(site.answering()) == 1)
        site.let_go()
        with client:
            assert client.receive().status == 200
        assert command.process.wait(PATIENCE) == 0
    assert not any("template" in line for line in command.stderr.seen)


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_application_that_gevent_patches_is_served_reloaded_and_recycled(site: Site) -> None:
    site.at_import("from gevent import monkey; monkey.patch_all(thread=False, queue=False)")
    with preloaded(site, 2, "--max-requests", "5") as command:
        before = workers(site)
        for _ in range(20):
            site.ask()
        command.stderr.wait_for("is recycled: it has answered 5 requests")
        site.reload("two")
        assert not set(before) & set(workers(site))
        assert command.stop() == 0
    assert not any("supervisor has gone" in line for line in command.stderr.seen)


def test_quit_ends_the_template_too(site: Site) -> None:
    with preloaded(site) as command:
        processes = site.answering()
        site.signal(signal.SIGQUIT)
        assert command.process.wait(PATIENCE) == 0
    assert not any(is_running(pid) for pid in processes)


def test_supervisor_that_is_killed_leaves_nothing(site: Site) -> None:
    with preloaded(site) as command:
        client, _ = site.hold()
        processes = site.answering()
        command.process.kill()
        command.stderr.wait_for("stops: its supervisor has gone")
        site.let_go()
        with client:
            assert client.receive().status == 200
        wait_until(lambda: not any(is_running(pid) for pid in processes))


def test_lifespan_runs_in_each_worker_and_not_in_the_template(tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    site.at_import("with open(HERE / 'modules', 'a') as file: print(os.getpid(), file=file)")
    with preloaded(site) as command:
        wait_until(lambda: (site.folder / "imports").exists() and len(imports(site)) == 2)
        template = int((site.folder / "modules").read_text())
        # Here `imports` has those that began their lifespan.
        assert sorted([*imports(site), template]) == site.answering()
        assert command.stop() == 0


def test_lifespan_that_fails_at_the_first_start_ends_with_1(tmp_path: Path) -> None:
    site = Site(tmp_path, ASGI_APP)
    (site.folder / "fail").write_text("")
    done = run("site_app:app", "--preload", "--workers", "2", "--port", "0", cwd=site.folder)
    assert done.returncode == 1
    assert done.stderr.count("no database") == 1


def test_idle_template_does_not_wake(site: Site) -> None:
    with preloaded(site, 1):
        status = Path(f"/proc/{templates(site)[0]}/status")

        def switches() -> list[str]:
            return [line for line in status.read_text().splitlines() if "ctxt_switches" in line]

        before = switches()
        threading.Event().wait(1)
        assert switches() == before


def test_preload_without_workers_is_refused_in_one_line(site: Site) -> None:
    done = run("site_app:app", "--preload", cwd=site.folder)
    assert (done.returncode, done.stderr) == (1, "wsgi: preload needs workers (from --preload)\n")


@pytest.mark.parametrize(
    ("name", "result", "option", "problem"),
    [
        ("adopt_orphans", False, ("preload", True), "preload needs Linux"),
        ("private_memory", 0, ("max_memory", 1 << 30), "max_memory needs /proc/self/statm"),
    ],
)
def test_option_that_the_system_cannot_carry_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, result: object, option: tuple[str, object], problem: str
) -> None:
    monkeypatch.setattr(f"wsgi.supervisor.supervisor.{name}", lambda: result)
    settings = Settings.from_command({"workers": "1", option[0]: option[1]}, {})
    configuration = Configuration(settings, (), lambda: None, lambda: None, list, lambda *_: 0)
    with pytest.raises(StartupError, match=problem):
        make_supervisor(Configurations(configuration), shards=1)


def test_preload_in_a_program_is_refused() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'preload' \(only the wsgi command has it\)"):
        WSGIServer(port=0, workers=2, preload=True)


CLAIM = """
import os, socket, struct
from wsgi.supervisor.channel import Report

def claim():
    # The helper, in which every socket of the template is open.
    text = open(os.path.join(HERE, "claimed"), "rb").read()
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(number)) as channel:
                if channel.family == socket.AF_UNIX and channel.type == socket.SOCK_STREAM:
                    channel.send(struct.pack("!cI", Report.FORKED.value, len(text)) + text, socket.MSG_DONTWAIT)
        except OSError:
            pass
    os._exit(0)
os.register_at_fork(before=claim)
"""


@pytest.mark.parametrize("claimed", ["another", "0", "99999999999"])
def test_process_that_a_template_has_not_forked_is_not_taken_for_its_worker(site: Site, claimed: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (site.folder / "claimed").write_text(str(other.pid) if claimed == "another" else claimed)
        site.at_import(f"HERE = {str(site.folder)!r}\n" + CLAIM)
        done = run("site_app:app", "--port", "0", "--workers", "1", "--preload", "--boot-timeout", "2", cwd=site.folder)
        assert done.returncode == 1
        assert "it named a process that it has not forked" in done.stderr
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        assert other.stdin is not None
        other.stdin.close()
