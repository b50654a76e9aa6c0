"""Templates when the configuration or the program changes: each generation is forked from its own."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.supervisor.test_preload import imports, templates, workers
from tests.supervisor.test_processes import Site, is_running, site, wait_until
from tests.support import RawClient

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preload needs Linux")

# Holds the import of every version but the first until there is a file `go`.
HOLD = """
if VERSION != "one":
    while not (HERE / "go").exists():
        time.sleep(0.01)
"""
HOOKS = """
from pathlib import Path
def note(name, worker):
    with open(Path(__file__).parent / "seen", "a") as file:
        print(name, worker.age, file=file)
def before_fork(server, worker): note("before_fork", worker)
def after_fork(server, worker): note("after_fork", worker)
def child_exit(server, worker): note("child_exit", worker)
"""


def configure(site: Site, text: str) -> tuple[str, ...]:
    """Changes the configuration file; gives the options of a start with it."""
    (site.folder / "site.toml").write_text(f'preload = true\nbind = "127.0.0.1:0"\n{text}\n')
    return ("--config", "site.toml")


def refuses_long_lines(site: Site) -> bool:
    with RawClient(site.command.address) as client:
        client.send(b"GET /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"x" * 200))
        return client.receive().status == 414


def test_worker_that_ends_during_a_reload_comes_from_the_former_template_with_the_former_options(site: Site) -> None:
    with site.served(*configure(site, "workers = 1")) as command:
        (former,), (worker,) = templates(site), workers(site)
        site.at_import(HOLD)
        site.version("two")
        configure(site, "workers = 1\nmax_request_line = 100")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(imports(site)) == 2)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: workers(site) not in ([], [worker]))
        # It has imported nothing.
        assert len(imports(site)) == 2
        assert site.ask()[0] == "one"
        assert not refuses_long_lines(site)
        site.let_go()
        command.stderr.wait_for("generation 2 serves")
        wait_until(lambda: not is_running(former) and len(workers(site)) == 1)
        assert site.ask()[0] == "two"
        assert refuses_long_lines(site)
        assert command.stop() == 0


def test_preload_itself_is_changed_by_an_upgrade_and_not_by_a_reload(site: Site) -> None:
    with site.served(*configure(site, "workers = 1")) as command:
        (site.folder / "site.toml").write_text('preload = false\nworkers = 1\nbind = "127.0.0.1:0"\n')
        site.reload("two")
        command.stderr.wait_for("a reload does not change preload: send SIGUSR2 or restart the server for that")
        assert len(templates(site)) == 1
        before = set(site.answering())
        site.signal(signal.SIGUSR2)
        wait_until(lambda: len(site.answering()) == 1 and not before & set(site.answering()))
        assert site.answering() == templates(site)
        assert command.stop() == 0


def test_upgrade_begins_with_a_new_template_and_ends_the_former_one(site: Site) -> None:
    (site.folder / "site_hooks.py").write_text(HOOKS)
    names = ("before_fork", "after_fork", "child_exit")
    table = "\n".join(f'{name} = "site_hooks:{name}"' for name in names)
    with site.served(*configure(site, f"workers = 2\n[hooks]\n{table}")) as command:
        (former,), first = templates(site), set(workers(site))
        site.at_import(HOLD)
        site.version("two")
        site.signal(signal.SIGUSR2)
        wait_until(lambda: len(imports(site)) == 2)
        wait_until(lambda: not is_running(former))
        # A worker of the former program that ends now is replaced before the reload has succeeded.
        os.kill(min(first), signal.SIGKILL)
        wait_until(lambda: len(imports(site)) == 3)
        assert site.ask()[0] == "one"
        site.let_go()
        command.stderr.wait_for("serves; its predecessors are drained")
        wait_until(lambda: len(workers(site)) == 2 and not first & set(workers(site)))
        wait_until(lambda: len(templates(site)) == 1)
        assert site.ask()[0] == "two"
        site.version("three")
        site.signal(signal.SIGHUP)
        wait_until(lambda: site.ask()[0] == "three")
        assert command.stop() == 0
    seen = [line.split() for line in (site.folder / "seen").read_text().splitlines()]
    ages = {name: [int(age) for hook, age in seen if hook == name] for name in names}
    # Each worker has an age of its own over both programs, and each that was forked is seen to end.
    assert ages["before_fork"] == list(range(1, len(ages["before_fork"]) + 1))
    assert set(ages["after_fork"]) <= set(ages["before_fork"])
    assert sorted(ages["child_exit"]) == ages["before_fork"]


def test_template_that_imports_ends_at_an_upgrade(site: Site) -> None:
    with site.served(*configure(site, "workers = 1")) as command:
        site.at_import(HOLD)
        site.version("two")
        site.signal(signal.SIGHUP)
        wait_until(lambda: len(imports(site)) == 2)
        _, importing = imports(site)
        site.version("one")
        site.at_import("VERSION = 'three'")
        site.signal(signal.SIGUSR2)
        wait_until(lambda: not is_running(importing))
        wait_until(lambda: site.ask()[0] == "three")
        wait_until(lambda: len(site.answering()) == 2)
        assert command.stop() == 0
