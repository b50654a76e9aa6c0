"""Everybody runs in every round, under the same load, and whoever answers wrongly is not measured."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import browser, client, floor, measurement
from benchmarks.loads.idle import IdleConnections
from benchmarks.loads.load import Load, Target
from benchmarks.loads.pieces import SlowPieces
from benchmarks.loads.readers import SlowReaders
from benchmarks.measurement import Plan
from benchmarks.placement import Placement
from benchmarks.processes import free_port, running
from benchmarks.results import Results
from benchmarks.servers import ASGI, GROUPS, OURS, WSGI, Server, servers
from benchmarks.summary import Sample
from benchmarks.workloads import WORKLOADS, Workload, workloads

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler"
)
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="needs the load generator wrk")


def measured(workload: Workload, server: Server) -> list[Sample]:
    return list(measurement.samples(Plan([workload], [server], rounds=1, seconds=1, placement=Placement())))


def test_rounds_begin_with_another_server_each() -> None:
    runners = measurement.contestants(workloads(WSGI, ["10k"])[0], servers(WSGI, [OURS, "bjoern", "granian"]))
    orders = [measurement.rotated(runners, number) for number in range(4)]
    assert [order[0].name for order in orders] == [OURS, "bjoern", "granian", floor.KERNEL]
    assert all(sorted(order, key=runners.index) == runners for order in orders)


def test_floors_run_where_there_are_any() -> None:
    def names(workload: str) -> list[str]:
        found = measurement.contestants(workloads(WSGI, [workload])[0], servers(WSGI, [OURS, "fastwsgi", "granian"]))
        return [contestant.name for contestant in found]

    assert names("hello") == [OURS, "fastwsgi", "granian", floor.KERNEL]
    assert names("flask") == [OURS, "fastwsgi", "granian", floor.IN_PROCESS]
    assert names("sleeping") == [OURS, "fastwsgi", "granian"]
    # Without a log of its own, fastwsgi is not in that race; we run it without, too.
    assert names("access-log") == [OURS, "granian", f"{OURS}, log off"]


def test_server_that_keeps_connections_is_no_measure_of_new_ones() -> None:
    (workload,) = workloads(WSGI, ["new-connections"])
    script = (
        "import socket, sys\n"
        "door = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "kept = []\n"
        "while True:\n"
        "    kept.append(door.accept()[0])\n"
        "    kept[-1].recv(4096)\n"
        "    kept[-1].sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\n\\r\\nHello, world!')\n"
    )
    (sample,) = measured(workload, Server("keeps", WSGI, "sys", ("{python}", "-c", script, "{port}")))[:1]
    assert "stays open" in sample.error


def test_names_are_unique_within_a_group() -> None:
    for group in GROUPS:
        for names in ([one.name for one in servers(group)], [one.name for one in workloads(group)]):
            assert names
            assert len(set(names)) == len(names)
    assert {workload.group for workload in WORKLOADS} == {WSGI, ASGI}


def test_commands_are_filled_in_wholly() -> None:
    for group in GROUPS:
        for server in servers(group):
            filled = server.start("module:app", 1234, threads=7, access_log=True)
            assert "module:app" in filled
            assert any("1234" in word for word in filled)
            assert not any("{" in word for word in filled)


@needs_compiler
@pytest.mark.parametrize("workload", [one for one in WORKLOADS if one.content], ids=lambda workload: workload.name)
def test_kernel_floor_answers_with_the_content_of_the_workload(workload: Workload, tmp_path: Path) -> None:
    port = free_port()
    request = browser.request(body=workload.body)
    with (
        running(floor.kernel_command(workload, port, tmp_path), port),
        client.connect(port) as connection,
        connection.makefile("rb") as stream,
    ):
        for _ in range(1 if workload.closes else 3):
            connection.sendall(request)
            assert client.read_response(stream).body == workload.content
        assert not workload.closes or stream.read() == b""


@pytest.mark.parametrize("target", [one.target for one in WORKLOADS if one.framework])
def test_frameworks_are_called_without_a_server(target: str) -> None:
    assert 1 < floor.in_process(target, "/", 0.05) < 100_000


@pytest.mark.parametrize(
    ("load", "app", "names"),
    [
        (SlowPieces(), "slow_generator", {"pieces", "delay_p50_ms", "delay_max_ms"}),
        (IdleConnections(40), "hello", {"held", "bytes_each", "served_ms"}),
        (SlowReaders(count=5), "file", {"served_ms", "growth_mib", "read_mib"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_special_loads_give_their_figures_for_this_server(load: Load, app: str, names: set[str]) -> None:
    (sample,) = measured(Workload("special", "special", f"benchmarks.apps.plain:{app}", load), servers(WSGI, [OURS])[0])
    assert sample.error == ""
    assert set(sample.figures) == names
    assert sample.figures.get("pieces", 20) == 20
    assert sample.figures.get("held", 40) == 40
    assert sample.figures.get("read_mib", 1) > 0
    # A piece cannot arrive before it was made.
    assert sample.figures.get("delay_p50_ms", 0) >= 0


def test_wrong_content_is_an_error_and_no_figure() -> None:
    workload = Workload("hello", "hello", "benchmarks.apps.plain:ten_kib", SlowPieces(), content=b"Hello, world!")
    own = [sample for sample in measured(workload, servers(WSGI, [OURS])[0]) if sample.server == OURS]
    assert [sample.figures for sample in own] == [{}]
    assert "the content is b'xxx" in own[0].error


def test_server_that_does_not_start_is_an_error_and_no_figure() -> None:
    broken = Server("broken", WSGI, "wsgi", ("{python}", "-c", "raise SystemExit('nothing here')"))
    (sample,) = measured(workloads(WSGI, ["slow-generator"])[0], broken)
    assert sample.figures == {}
    assert "nothing here" in sample.error


def test_connections_that_a_server_closed_do_not_count_as_held() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            for number in range(4):
                connection, _ = door.accept()
                connection.recv(65_536)
                connection.sendall(response)
                if number < 3:
                    connection.close()
                else:
                    kept.append(connection)
            door.close()

        kept: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        target = Target(os.getpid(), door.getsockname()[1], 1)
        assert IdleConnections(20, patience=1).run(target)["held"] == 1
        thread.join()
        kept[0].close()


@needs_wrk
@needs_compiler
def test_quick_run_measures_this_server_and_writes_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / kind for kind in ("json", "markdown", "svg")}
    arguments = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    command.main(["--quick", "--unpinned", "--servers", OURS, *arguments])
    results = Results.read([files["json"]])
    assert {sample.workload for sample in results.samples} == set(command.QUICK)
    assert not [sample for sample in results.samples if sample.error or not all(sample.figures.values())]
    assert results.versions.keys() >= {"wsgi-server", "flask", "django"}
    printed = capsys.readouterr().out
    assert printed == files["markdown"].read_text()
    assert f"| {floor.KERNEL} | " in printed
    assert files["svg"].read_text().startswith("<svg ")
    command.main(["--from", str(files["json"])])
    assert capsys.readouterr().out == printed


def test_own_failure_is_the_run_s_failure(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results({}, {}, {}, [Sample("hello", OURS, 0, error="3 of 5 requests failed")]).write(path)
    with pytest.raises(SystemExit, match="failed at hello: 3 of 5"):
        command.main(["--from", str(path)])


@pytest.mark.parametrize("arguments", [["--servers", "nobody"], ["--workloads", "nothing"], ["--rounds", "0"]])
def test_unknown_names_and_senseless_numbers_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
