"""Every probe is made on both event loops."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import serve

if TYPE_CHECKING:
    from wsgi.server import WSGIServer

Serve = Callable[..., AbstractContextManager["WSGIServer"]]

needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def served(request: pytest.FixtureRequest) -> Serve:
    """What serves an ASGI application in the background, without a lifespan unless it is asked for."""

    def serving(app: Any, **options: Any) -> AbstractContextManager[WSGIServer]:
        return serve(app, **{"loop": request.param, "lifespan": "off", **options})

    return serving
