"""Examples in a real browser. EXAMPLES_SCREENSHOTS=DIRECTORY keeps pictures of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE, Command

EXAMPLES = Path(__file__).parents[2] / "examples"
SCREENSHOTS = os.environ.get("EXAMPLES_SCREENSHOTS")


def keep(page: Any, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png")


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 640, "height": 480})
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


def test_chat_tells_every_window_what_is_said_in_one(context: Any) -> None:
    with Command("chat:app", cwd=EXAMPLES) as command:
        first, second = context.new_page(), context.new_page()
        problems: list[str] = []
        for page in (first, second):
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(command.address)
            # In this order, so that everybody hears of the second.
            page.get_by_text("* a guest joined").first.wait_for()
        first.get_by_placeholder("Say something").fill("Hello, <b>second</b> window! 👋")
        first.keyboard.press("Enter")
        for page in (first, second):
            page.get_by_text("Hello, <b>second</b> window! 👋").wait_for()
        keep(second, "chat")
        second.close()
        first.get_by_text("* a guest left (1 here)").wait_for()
        # A server that stops says so: going away (RFC 6455 §7.4.1).
        command.stop()
        first.get_by_text("(closed: 1001").wait_for()
        keep(first, "chat-closed")
        assert problems == []


def test_documentation_page_of_fastapi_reads_its_description(context: Any) -> None:
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    # The page takes its scripts from elsewhere, which is not to be asked here: a script that asks for the description
    # as they do stands in for them.
    script = "window.SwaggerUIBundle = o => fetch(o.url).then(r => r.json()).then(d => document.title = d.info.title);"
    script += "SwaggerUIBundle.presets = {}; SwaggerUIBundle.SwaggerUIStandalonePreset = {}"

    def elsewhere(route: Any) -> None:
        if route.request.url.startswith(command.address):
            route.continue_()
        elif route.request.resource_type == "script":
            route.fulfill(content_type="text/javascript", body=script)
        else:
            route.fulfill(body="")

    with Command("fastapi_app:app", cwd=EXAMPLES) as command:
        page = context.new_page()
        page.route("**/*", elsewhere)
        page.goto(f"{command.address}/docs")
        page.wait_for_function("document.title === 'Greetings'")
