"""Servers are started, accounted for with their children, and ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import processes
from tests.server.recording import eventually

SPINNING = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
FORKING = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPINNING!r}])"
SERVING = """
import http.server, os, sys
assert "WSGI_THREADS" not in os.environ and os.environ["OWN"] == "1"
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def test_ticks_are_found_behind_a_name_with_spaces_and_parentheses() -> None:
    stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 40 9 9 20 0 1 0 100 1000 10"
    assert processes.cpu_ticks(stat) == 290


def test_proportional_memory_is_read_in_bytes() -> None:
    assert processes.proportional_bytes("0-1 ---p 0\nRss:     900 kB\nPss:     512 kB\nPss_Dirty: 1 kB\n") == 512 * 1024
    # Of a process that ends just now, nothing is left to read.
    assert processes.proportional_bytes("") == 0


def test_processor_time_of_children_counts() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert len(processes.family(parent.pid)) == 2
        # A tick may be missing from each process.
        assert processes.cpu_seconds(parent.pid) >= 0.17
        assert processes.resident_bytes(parent.pid) > processes.resident_bytes(processes.family(parent.pid)[1]) > 0
        parent.communicate("\n")


def test_vanished_process_costs_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert processes.cpu_seconds(process.pid) == 0
    assert processes.resident_bytes(process.pid) == 0


def test_server_has_our_variables_and_none_that_a_shell_sets_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGI_THREADS", "3")
    port = processes.free_port()
    with processes.running([sys.executable, "-c", SERVING, str(port)], port, {"OWN": "1"}) as process:
        assert process.poll() is None
    assert process.poll() is not None
    assert not Path(f"/proc/{process.pid}").exists()


def test_children_end_with_their_server_whatever_they_think_of_it() -> None:
    port = processes.free_port()
    forking = (
        "import http.server, os, signal, sys\n"
        "if not os.fork():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "http.server.HTTPServer.allow_reuse_port = True\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()"
    )
    with processes.running([sys.executable, "-c", forking, str(port)], port) as process:
        child = processes.family(process.pid)[1]

    def is_over() -> bool:
        with contextlib.suppress(OSError):
            # A zombie at most, until whoever inherited it looks.
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        return True

    eventually(is_over, "the child ends")


def test_server_that_ends_is_an_error_with_what_it_said() -> None:
    command = [sys.executable, "-c", "raise SystemExit('out of order')"]
    with pytest.raises(processes.ServerError, match="out of order"), processes.running(command, processes.free_port()):
        pass
