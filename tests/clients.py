"""Real clients, kept away from the proxies and habits of the machine they run on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from tests.support import PATIENCE

CURL = shutil.which("curl")

needs_curl = pytest.mark.skipif(CURL is None, reason="the program curl is not installed")


@dataclass
class Answer:
    """What curl received."""

    exit_code: int
    """0 for a whole response; 18 for one that was cut off."""
    heads: list[tuple[str, list[tuple[str, str]]]]
    """Status line and fields of every response, the interim and the followed ones before the last."""
    body: bytes
    """The content of the last."""

    @property
    def status(self) -> int:
        return int(self.heads[-1][0].split(" ")[1])

    def values(self, name: str) -> list[str]:
        """All values of a field of the last response."""
        return [value for other, value in self.heads[-1][1] if other.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.values(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))


def curl(*arguments: str, stdin: bytes = b"") -> Answer:
    """Runs curl to its end.

    Parameters:
        arguments: its command line, without those that say where the response goes.
        stdin: what it reads for the file `-`.
    """
    assert CURL is not None
    with tempfile.TemporaryDirectory() as folder:
        head, body = Path(folder, "head"), Path(folder, "body")
        command = [CURL, "--disable", "--silent", "--noproxy", "*", "--max-time", str(PATIENCE)]
        done = subprocess.run(
            [*command, "--dump-header", str(head), "--output", str(body), *arguments],
            input=stdin,
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        heads = []
        for block in head.read_text("latin-1").split("\n\n") if head.exists() else []:
            if block:
                status_line, *lines = block.split("\n")
                fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
                heads.append((status_line, fields))
        return Answer(done.returncode, heads, body.read_bytes() if body.exists() else b"")


def session() -> requests.Session:
    """A session of requests."""
    made = requests.Session()
    made.trust_env = False
    return made


def opened_connections(of: requests.Session, url: str) -> int:
    """How many connections a session has opened to the server of `url`."""
    adapter = of.get_adapter(url)
    assert isinstance(adapter, requests.adapters.HTTPAdapter)
    pool: Any = adapter.get_connection_with_tls_context(requests.Request("GET", url).prepare(), of.verify)
    return int(pool.num_connections)


def client(address: str) -> httpx.Client:
    """A client of httpx."""
    # Nothing here is encrypted, and loading certificates would take longer than most tests.
    return httpx.Client(base_url=address, trust_env=False, verify=False, timeout=PATIENCE)


def async_client(address: str) -> httpx.AsyncClient:
    """An asynchronous client of httpx."""
    return httpx.AsyncClient(base_url=address, trust_env=False, verify=False, timeout=PATIENCE)
