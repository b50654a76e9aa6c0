"""deploy/systemd: what systemd says of the units, and a stand-in for systemd that follows them."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command.manager import Manager
from tests.support import PATIENCE, RawClient

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
COMMAND = "/srv/site/.venv/bin/wsgi"

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"""


def version() -> int:
    """That of systemd; 0 without it."""
    if shutil.which("systemd-analyze") is None:
        return 0
    told = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False).stdout
    return int(found[1]) if (found := re.match(r"systemd (\d+)", told)) else 0


VERSION = version()
needs_systemd = pytest.mark.skipif(VERSION < 250, reason="needs systemd-analyze of systemd 250 or newer")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are installed, with a command that exists here."""
    for name in ("site.service", "site.socket"):
        content = (UNITS / name).read_text()
        assert (COMMAND in content) is (name == "site.service")
        (tmp_path / name).write_text(content.replace(COMMAND, shutil.which("true") or "/bin/true"))
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE
    )


@needs_systemd
def test_units_systemd_finds_no_fault(units: Path) -> None:
    done = analyze("verify", str(units / "site.service"), str(units / "site.socket"))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    # It does find faults.
    with (units / "site.service").open("a") as unit:
        unit.write("\n[Service]\nProtectSystm=yes\n")
    assert "ProtectSystm" in analyze("verify", str(units / "site.service")).stderr


@pytest.mark.skipif(VERSION < 253, reason="Type=notify-reload needs systemd 253")
def test_drop_in_systemd_finds_no_fault(units: Path) -> None:
    (units / "site.service.d").mkdir()
    shutil.copy(UNITS / "notify-reload.conf", units / "site.service.d")
    done = analyze("verify", str(units / "site.service"), str(units / "site.socket"))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@needs_systemd
def test_service_leaves_little_open(units: Path) -> None:
    # Tenths of the scale from 0 to 10; a service without any of it has 9.6.
    done = analyze("security", "--offline=yes", "--threshold=15", str(units / "site.service"))
    assert done.returncode == 0, done.stdout
    assert analyze("security", "--offline=yes", "--threshold=5", str(units / "site.service")).returncode != 0


def settings(name: str, section: str) -> list[tuple[str, str]]:
    """The assignments of one section, in order."""
    found, inside = [], False
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        elif inside and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((key, value))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="systemd exists on Linux only")
def test_site_is_started_watched_reloaded_and_stopped_as_the_units_say(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    service = dict(settings("site.service", "Service"))
    assert service["Type"] == "notify"
    words = shlex.split(service["ExecStart"])
    assert words[0] == COMMAND
    listeners = [value for key, value in settings("site.socket", "Socket") if key == "ListenStream"]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in listeners]
    variables = {
        "LISTEN_FDNAMES": ":".join([dict(settings("site.socket", "Socket"))["FileDescriptorName"]] * len(sockets)),
        "WATCHDOG_USEC": str(int(service["WatchdogSec"]) * 1_000_000),
    }
    with Manager() as manager:
        # The client comes before the service.
        with RawClient(f"http://127.0.0.1:{sockets[0].getsockname()[1]}") as early:
            early.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with manager.command(*words[1:], cwd=tmp_path, sockets=sockets, **variables) as command:
                assert early.receive().status == 200
                assert len(command.addresses) == len(listeners)
                manager.wait_for("READY")
                manager.wait_for("WATCHDOG")
                assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
                command.process.send_signal(signal.SIGHUP)
                manager.wait_for("RELOADING")
                assert manager.wait_for("READY")["STATUS"] == "4 of 4 workers serving, generation 2"
                assert command.stop() == 0
        manager.wait_for("STOPPING")
    for listener in sockets:
        listener.close()


def test_drop_in_changes_the_type_and_the_reload_alone() -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / "notify-reload.conf")
    assert {name: dict(parser[name]) for name in parser.sections()} == {
        "Service": {"Type": "notify-reload", "ExecReload": ""}
    }
