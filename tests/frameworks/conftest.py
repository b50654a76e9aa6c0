"""Each framework's application, served by the command in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import Command

ROOT = Path(__file__).parents[2]

FRAMEWORKS = {
    "Flask": "flask_site",
    "Django": "django_site",
    "Bottle": "bottle_site",
    "Falcon": "falcon_site",
    "Pyramid": "pyramid_site",
}


@dataclass
class Site:
    """A framework's running application."""

    name: str
    command: Command
    download: bytes
    """What `/download` gives."""

    @property
    def address(self) -> str:
        """Where it listens, without a slash at the end."""
        return self.command.address


def _serve(name: str, folder: Path) -> Iterator[Site]:
    download = random.Random(name).randbytes(3_000_001)
    file = folder / "download.bin"
    file.write_bytes(download)
    target = f"tests.frameworks.apps.{FRAMEWORKS[name]}:app"
    with Command(target, cwd=ROOT, env={"DOWNLOAD": str(file)}) as command:
        yield Site(name, command, download)
        assert command.stop() == 0
    # Whatever the applications did, nothing of it is the server's own fault.
    assert "defect of the server" not in "\n".join(command.stderr.seen)


@pytest.fixture(scope="session", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Every framework in turn."""
    yield from _serve(request.param, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def flask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Flask alone, for what is about the size of the content and not about the framework."""
    yield from _serve("Flask", tmp_path_factory.mktemp("flask"))
