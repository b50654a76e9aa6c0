"""Autobahn's fuzzing client against an echo of ours: every case of its test suite, but those that measure speed.

    python tests/autobahn/run.py PYTHON2 FOLDER [--url ws://127.0.0.1:PORT]

PYTHON2 is a CPython 2.7, for which the suite is written; FOLDER is where it is installed, and where its reports go.
With `--url`, a server that runs already is tested, which may be another one with the same application:

    uvicorn --app-dir tests/autobahn --ws-max-size 67108864 run:echo
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

SUITE = "autobahntestsuite==25.10.1"
# Cases 9.* measure speed and are not rules; the rest is all of RFC 6455 and RFC 7692.
EXCLUDED = ["9.*"]
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Says again what it hears."""
    if scope["type"] != "websocket":
        raise ValueError("only WebSockets are answered here")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def installed(python: str, folder: Path) -> Path:
    """The suite, installed for `python` if it was not."""
    place = folder / "suite"
    if not (place / "autobahntestsuite").is_dir():
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(place)]
        subprocess.run([*command, SUITE], check=True)
    return place


def report(python: str, folder: Path, url: str) -> dict[str, dict[str, Any]]:
    """What became of each case."""
    reports = folder / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    place = installed(python, folder)
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": "server", "url": url}],
        "cases": ["*"],
        "exclude-cases": EXCLUDED,
        "exclude-agent-cases": {},
    }
    file = folder / "spec.json"
    file.write_text(json.dumps(spec), "utf-8")
    # A folder of packages, not only a place to import from: some of them share a name.
    start = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"
    subprocess.run([python, "-c", start, str(place), "-m", "fuzzingclient", "-s", str(file)], check=True)
    found: dict[str, dict[str, Any]] = json.loads((reports / "index.json").read_text("utf-8"))["server"]
    return found


def main(arguments: list[str]) -> int:
    """Runs the suite, and gives 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="tests/autobahn/run.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", help="a CPython 2.7")
    parser.add_argument("folder", type=Path, help="where the suite and its reports go")
    parser.add_argument("--url", help="a server that runs already, instead of one of ours")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.url:
        cases = report(options.python, folder, options.url)
    else:
        # Here, so that other servers' environments need not have ours.
        from wsgi.server import WSGIServer

        with WSGIServer(port=0, app=echo, websocket_max_message=64 << 20) as server:
            cases = report(options.python, folder, server.addresses[0].replace("http:", "ws:"))
    bad = {
        number: case
        for number, case in cases.items()
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD
    }
    for number, case in sorted(bad.items()):
        print(f"{number}: {case['behavior']}, closing {case['behaviorClose']} ({folder}/reports/{case['reportfile']})")
    print(f"{len(cases) - len(bad)} of {len(cases)} cases passed")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
