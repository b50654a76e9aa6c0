from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from examples.notes.database import Database, User
from tests.examples.notes.site import PASSWORD, Visitor, start
from tests.support import Command

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of what lasts."""
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Command]:
    """The example, whose log has nothing to say at the end."""
    with start(data) as command:
        yield command
        assert command.stop() == 0
    assert command.stderr.seen == [command.banner]


@pytest.fixture
def new_name() -> Callable[[], str]:
    """Names that nobody has yet."""
    return lambda: f"user-{next(_numbers)}"


@pytest.fixture
def visitor(server: Command) -> Iterator[Callable[[], Visitor]]:
    """New visitors, each with cookies of their own."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Visitor(server.address))


@pytest.fixture(scope="module")
def database(data: Path, server: Command) -> Iterator[Database]:
    """What the server has stored."""
    opened = Database(data)
    yield opened
    opened.close()


@pytest.fixture
def add_user(database: Database, new_name: Callable[[], str]) -> Callable[[], User]:
    """Adds users whose password takes next to no time to check."""
    salt = bytes(16)
    quick = f"scrypt$2$1$1${salt.hex()}${hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2, r=1, p=1, dklen=32).hex()}"
    return lambda: database.add_user(new_name(), quick)


@pytest.fixture
def member(visitor: Callable[[], Visitor], add_user: Callable[[], User]) -> Callable[[], Visitor]:
    """New members, logged in."""

    def new_member() -> Visitor:
        somebody = visitor()
        assert somebody.log_in(add_user().name).status_code == 303
        return somebody

    return new_member
