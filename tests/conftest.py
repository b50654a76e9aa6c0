"""Fixtures of all tests."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgi_server import user_module


def pytest_configure() -> None:
    """Hears SIGINT, and lets children hear it, also where the shell that started this in the background does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Fails a test that leaves a logger at another level: the tests behind it would see more messages, or fewer."""
    loggers = [logging.getLogger(name) for name in (None, "wsgi.server")]
    levels = [logger.level for logger in loggers]
    yield
    assert [logger.level for logger in loggers] == levels


@pytest.fixture
def clean_imports(tmp_path: Path) -> Iterator[None]:
    """Forgets, after the test, the modules it imported from `tmp_path` and what it put on `sys.path`."""
    path = list(sys.path)
    yield
    # The name `wsgi` may be a user's module's.
    user_module.remove()
    sys.path[:] = path
    imported = []
    for name, module in list(sys.modules.items()):
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", [])]
        if any(str(place).startswith(str(tmp_path)) for place in places):
            imported.append(name)
    # Only now: the places of a module in a directory without code are asked of the module above it.
    for name in imported:
        del sys.modules[name]
