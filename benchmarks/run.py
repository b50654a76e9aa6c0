# ruff: noqa: E501
"""Measures this server beside others: CPU time per request, requests per second, tail latency.

    python benchmarks/run.py [--rounds 5] [--seconds 4] [--servers wsgi,fastwsgi] [--workloads hello] [--json FILE]

Every round runs every server once, so that whatever else the machine does hits all of them alike. The server has one
processor, the load generator (wrk) another. CPU time is that of all the server's processes, user and system.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

# {app} is a function of apps.py, {port} the port, {threads} the threads that a workload asks for.
SERVERS = {
    "wsgi": ["{bin}/wsgi", "--app-dir", "{here}", "benchmarks.apps.plain:{app}", "--port", "{port}", "--threads", "{threads}"],
    "fastwsgi": [
        "{python}",
        "-c",
        "import sys; sys.path.insert(0, {here!r}); from benchmarks.apps import plain as apps; import fastwsgi;"
        " fastwsgi.run(wsgi_app=apps.{app}, host='127.0.0.1', port={port})",
    ],
    "granian": [
        "{bin}/granian", "--interface", "wsgi", "--port", "{port}", "--blocking-threads", "{threads}",
        "--backpressure", "1024", "--no-access-log", "--log-level", "error", "--working-dir", "{here}", "benchmarks.apps.plain:{app}",
    ],
    "gunicorn": [
        "{bin}/gunicorn", "-k", "gthread", "--threads", "{threads}", "-b", "127.0.0.1:{port}", "--keep-alive", "75",
        "--no-control-socket", "--chdir", "{here}", "benchmarks.apps.plain:{app}",
    ],
    "waitress": [
        "{python}", "-c",
        "import sys; sys.path.insert(0, {here!r}); from benchmarks.apps import plain as apps; import waitress;"
        " waitress.serve(apps.{app}, host='127.0.0.1', port={port}, threads={threads}, connection_limit=1000)",
    ],
}  # fmt: skip

HEADERS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests: 1",
]


@dataclass(frozen=True)
class Workload:
    """What is asked, by how many connections, and with how many threads at most."""

    app: str
    connections: int = 64
    threads: int = 16


WORKLOADS = {"hello": Workload("hello"), "10 KiB": Workload("ten_kib"), "sleep 10 ms": Workload("sleeping", threads=64)}


@dataclass(frozen=True)
class Sample:
    """One server in one round of one workload."""

    server: str
    workload: str
    requests: int
    errors: int
    cpu_us: float
    per_second: float
    p99_ms: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_serving(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"benchmarks: {process.args!r} ended with code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"benchmarks: {process.args!r} does not listen")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for member in family(pid):
        # The name may hold spaces; the fields behind it do not.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pinned(processor: int, command: Sequence[str]) -> list[str]:
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "-c", str(processor), *command]
    return list(command)


def load(port: int, workload: Workload, seconds: int) -> tuple[int, int, float, float]:
    """Runs wrk; gives requests, errors, requests per second and the 99th percentile in milliseconds."""
    command = ["wrk", "--latency", "-t1", f"-c{workload.connections}", f"-d{seconds}s"]
    for header in HEADERS:
        command += ["-H", header]
    command.append(f"http://127.0.0.1:{port}/")
    output = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout
    number = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if number is None or rate is None or tail is None:
        raise SystemExit(f"benchmarks: wrk said\n{output}")
    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", output))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    errors += int(failed[1]) if failed else 0
    return int(number[1]), errors, float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1, "s": 1000}[tail[2]]


def measure(server: str, name: str, seconds: int) -> Sample:
    workload = WORKLOADS[name]
    port = free_port()
    names = {"bin": BIN, "python": sys.executable, "here": str(HERE), "port": port, "app": workload.app}
    command = [part.format(**names, threads=workload.threads) for part in SERVERS[server]]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(pinned(0, command), stdout=log, stderr=log)
        try:
            wait_until_serving(port, process)
            load(port, workload, 1)
            before = cpu_seconds(process.pid)
            requests, errors, per_second, p99 = load(port, workload, seconds)
            used = cpu_seconds(process.pid) - before
        finally:
            process.terminate()
            process.wait(timeout=60)
    return Sample(server, name, requests, errors, used / max(requests, 1) * 1e6, per_second, p99)


def table(samples: Sequence[Sample]) -> str:
    """Medians, and CPU time as the median of the ratios to ours in the same round."""
    lines = [
        "| workload | server | CPU µs per request | to ours | requests/s | p99 ms | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload in dict.fromkeys(sample.workload for sample in samples):
        ours = [sample.cpu_us for sample in samples if (sample.workload, sample.server) == (workload, "wsgi")]
        for server in dict.fromkeys(sample.server for sample in samples):
            rows = [sample for sample in samples if (sample.workload, sample.server) == (workload, server)]
            cpu = statistics.median(row.cpu_us for row in rows)
            ratio = (
                f"{statistics.median(row.cpu_us / own for row, own in zip(rows, ours, strict=True)):.2f}"
                if ours
                else "-"
            )
            rate = statistics.median(row.per_second for row in rows)
            p99 = statistics.median(row.p99_ms for row in rows)
            errors = sum(row.errors for row in rows)
            lines.append(f"| {workload} | {server} | {cpu:.1f} | {ratio} | {rate:,.0f} | {p99:.1f} | {errors} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        raise SystemExit("benchmarks: wrk is missing: install the package wrk")
    samples = []
    for round_number in range(options.rounds):
        for workload in options.workloads.split(","):
            for server in options.servers.split(","):
                samples.append(measure(server, workload, options.seconds))
                print(f"round {round_number + 1}: {samples[-1]}", file=sys.stderr, flush=True)
    print(table(samples))
    if options.json:
        options.json.write_text(json.dumps([asdict(sample) for sample in samples], indent=1))


if __name__ == "__main__":
    main()
