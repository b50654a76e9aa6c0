"""What docs/deployment.md says of a fork after the import (Preload), each statement with the library it names."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

import pytest

from tests.supervisor.test_processes import Site, site, wait_until
from tests.support import Command, RawClient

__all__ = ["site"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preload needs Linux")

HEAD = """
import json, os
from pathlib import Path
HERE = Path(__file__).parent
"""

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({"pid": os.getpid(), "value": value()}).encode()]
"""


def needs(package: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


class Workers:
    """Asks workers of an application that answers with `value()`."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def ask(self) -> tuple[int, Any]:
        with RawClient(self.command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            found = json.loads(client.receive().body)
        return found["pid"], found["value"]

    def first_values(self) -> list[Any]:
        """The first value of each of two workers."""
        values: dict[int, Any] = {}

        def ask() -> bool:
            pid, value = self.ask()
            values.setdefault(pid, value)
            return len(values) == 2

        wait_until(ask)
        return list(values.values())


def first_values(site: Site, code: str, *options: str) -> list[Any]:
    """The first value of each of two workers of an application with this code."""
    (site.folder / "site_app.py").write_text(HEAD + code + APP)
    with site.served("--preload", "--workers", "2", *options) as command:
        values = Workers(command).first_values()
        assert command.stop() == 0
    return values


# -- random numbers ---------------------------------------------------------------------------------------------------


def test_functions_of_random_differ_in_each_worker(site: Site) -> None:
    one, other = first_values(site, "import random\nvalue = lambda: random.getrandbits(64)")
    assert one != other


def test_random_generator_of_the_import_is_the_same_in_each_worker(site: Site) -> None:
    one, other = first_values(site, "import random\nRANDOM = random.Random()\nvalue = lambda: RANDOM.getrandbits(64)")
    assert one == other


@pytest.mark.parametrize("expression", ["secrets.token_hex()", "uuid.uuid4().hex", "os.urandom(8).hex()"])
def test_random_numbers_of_the_system_differ_in_each_worker(site: Site, expression: str) -> None:
    one, other = first_values(site, f"import secrets, uuid\nvalue = lambda: {expression}")
    assert one != other


@needs("numpy")
@pytest.mark.parametrize("code", ["numpy.random", "numpy.random.default_rng()"])
def test_random_numbers_of_numpy_are_the_same_in_each_worker(site: Site, code: str) -> None:
    one, other = first_values(site, f"import numpy\nRANDOM = {code}\nvalue = lambda: float(RANDOM.normal())")
    assert one == other


@needs("numpy")
@pytest.mark.parametrize(
    "code",
    [
        "os.register_at_fork(after_in_child=numpy.random.seed)\nvalue = lambda: float(numpy.random.normal())",
        "RANDOM = []\nos.register_at_fork(after_in_child=lambda: RANDOM.append(numpy.random.default_rng()))\n"
        "value = lambda: float(RANDOM[0].normal())",
    ],
)
def test_random_numbers_of_numpy_differ_with_a_seed_after_the_fork(site: Site, code: str) -> None:
    one, other = first_values(site, f"import numpy\n{code}")
    assert one != other


# -- connections ------------------------------------------------------------------------------------------------------


def test_socket_of_the_import_is_the_same_in_each_worker(site: Site) -> None:
    code = "import socket\nSOCKET, _ = socket.socketpair()\nvalue = lambda: os.fstat(SOCKET.fileno()).st_ino"
    one, other = first_values(site, code)
    assert one == other


POOL = """
import sqlalchemy
from sqlalchemy.pool import QueuePool
engine = sqlalchemy.create_engine(f"sqlite:///{HERE}/db", poolclass=QueuePool)
@sqlalchemy.event.listens_for(engine, "connect")
def connected(connection, record):
    record.info["pid"] = os.getpid()
with engine.connect() as connection:
    connection.execute(sqlalchemy.text("select 1"))
TEMPLATE = os.getpid()
def value():
    with engine.connect() as connection:
        return {"of template": connection.info["pid"] == TEMPLATE, "own": connection.info["pid"] == os.getpid()}
"""


@needs("sqlalchemy")
def test_pool_of_sqlalchemy_gives_each_worker_the_connection_of_the_template(site: Site) -> None:
    values = first_values(site, POOL)
    assert values == [{"of template": True, "own": False}] * 2


@needs("sqlalchemy")
def test_pool_of_sqlalchemy_that_is_replaced_after_the_fork_connects_in_each_worker(site: Site) -> None:
    after = "os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))\n"
    values = first_values(site, POOL + after)
    assert values == [{"of template": False, "own": True}] * 2


# -- metrics ----------------------------------------------------------------------------------------------------------


@needs("prometheus_client")
def test_multiprocess_mode_of_prometheus_sums_the_workers_of_a_template(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site.folder / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    (site.folder / "site_app.py").write_text(
        HEAD
        + "import prometheus_client, prometheus_client.multiprocess\n"
        + "REQUESTS = prometheus_client.Counter('requests', 'Requests')\n"
        + "def value():\n"
        + "    REQUESTS.inc()\n"
        + "    registry = prometheus_client.CollectorRegistry()\n"
        + "    prometheus_client.multiprocess.MultiProcessCollector(registry)\n"
        + "    return registry.get_sample_value('requests_total')\n"
        + APP
    )
    with site.served("--preload", "--workers", "2") as command:
        workers = Workers(command)
        seen: dict[int, float] = {}
        for number in range(1, 200):
            pid, value = workers.ask()
            seen[pid] = value
            # Whichever worker answers, it tells of the requests of all.
            assert value == number
            if len(seen) == 2 and number > 20:
                break
        assert len(seen) == 2
        assert len(list(folder.glob("counter_*.db"))) >= 2
        assert command.stop() == 0


# -- threads ----------------------------------------------------------------------------------------------------------


def test_executor_of_the_import_starts_its_threads_in_each_worker(site: Site) -> None:
    code = (
        "import concurrent.futures\n"
        "POOL = concurrent.futures.ThreadPoolExecutor(1)\n"
        "value = lambda: POOL.submit(os.getpid).result(10)"
    )
    (site.folder / "site_app.py").write_text(HEAD + code + APP)
    with site.served("--preload", "--workers", "2") as command:
        pid, value = Workers(command).ask()
        assert pid == value


def test_lock_of_the_import_that_is_free_is_free_in_each_worker(site: Site) -> None:
    code = "import threading\nLOCK = threading.Lock()\nvalue = lambda: LOCK.acquire(timeout=5)"
    assert first_values(site, code) == [True, True]
