"""What wrk says is read as it is meant."""

from __future__ import annotations

import pytest

from benchmarks import wrk

REPORT = """\
Running 3s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   838.06ms   98.45ms   1.00s    57.58%
    Req/Sec    76.75     48.50   101.00     75.00%
  Latency Distribution
     50%  250.00us
     75%  919.49ms
     90%  970.39ms
     99%    1.50s 
  33 requests in 1.01s, 4.48KB read
Requests/sec:     32.68
Transfer/sec:      4.44KB
"""  # noqa: W291 - wrk pads its units


def test_report_is_read_with_its_units() -> None:
    assert wrk.parsed(REPORT) == wrk.Result(requests=33, per_second=32.68, p50_ms=0.25, p99_ms=1500, errors=0)


def test_socket_errors_and_refusals_are_errors() -> None:
    failing = REPORT + "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 100\n"
    assert wrk.parsed(failing).errors == 110


@pytest.mark.parametrize(
    "line", ["     99%    1.50s \n", "  33 requests in 1.01s, 4.48KB read\n", "Requests/sec:     32.68\n"]
)
def test_report_without_one_of_the_figures_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="wrk said"):
        wrk.parsed(REPORT.replace(line, ""))


def test_command_has_the_fields_of_a_browser_and_the_script() -> None:
    command = wrk.command("http://127.0.0.1:1/", 3, 64, ["A: 1", "B: 2"], "post.lua")
    assert command[:4] == ["wrk", "--latency", "-t1", "-c64"]
    assert command[command.index("-H") :] == ["-H", "A: 1", "-H", "B: 2", "-s", "post.lua", "http://127.0.0.1:1/"]
